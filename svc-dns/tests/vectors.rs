//! The recorded vectors of the areas that this crate answers for.
#![allow(
    clippy::type_complexity,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]
#![expect(unreachable_pub, reason = "the adapters are modules of the conformance runner as well")]

use std::path::Path;

#[path = "conformance/dns.rs"]
mod dns_vectors;
#[path = "conformance/env.rs"]
mod env_vectors;

type Adapter = fn(&str) -> Result<Vec<(String, Result<(), String>)>, String>;

/// Runs every file of a folder; gives the number of cases and the failures.
fn run(folder: &Path, adapter: Adapter) -> (usize, Vec<String>) {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let (mut count, mut failures) = (0, Vec::new());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let results = adapter(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        count += results.len();
        for (case, result) in results {
            if let Err(difference) = result {
                failures.push(format!("{name}: {case}\n{difference}"));
            }
        }
    }
    (count, failures)
}

fn check(area: &str, adapter: Adapter, at_least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(area);
    let (count, failures) = run(&folder, adapter);
    assert!(failures.is_empty(), "{} of {count} failed\n{}", failures.len(), failures.join("\n"));
    assert!(count >= at_least, "only {count} cases");
}

#[test]
fn dns() {
    check("dns", dns_vectors::run, 350);
}

#[test]
fn env() {
    check("env", env_vectors::run, 40);
}
