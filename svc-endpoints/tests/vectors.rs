//! The recorded behaviour of Kubernetes 1.36, case by case.
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests run where std is")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "conformance/endpoints.rs"]
mod endpoints_vectors;
#[path = "conformance/endpointslice.rs"]
mod endpointslice_vectors;

type Run = fn(&str) -> Result<Vec<(String, Result<(), String>)>, String>;

/// Runs every file of an area; fails with the failures, and if fewer than `least` cases ran.
fn run_area(area: &str, run: Run, least: usize) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(area);
    let mut cases = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for (name, outcome) in run(&text).unwrap_or_else(|error| panic!("{file}: {error}")) {
            cases += 1;
            if let Err(message) = outcome {
                failures.push(format!("{file} {name}: {message}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(cases >= least, "only {cases} cases ran");
}

#[test]
fn endpointslice() {
    run_area("endpointslice", endpointslice_vectors::run, 200);
}

#[test]
fn endpoints() {
    run_area("endpoints", endpoints_vectors::run, 280);
}
