//! The recorded kernel scenarios, replayed through the public API.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test may stop at the first surprise, and runs where std is"
)]

#[path = "conformance/scheduler.rs"]
mod scheduler;

use std::path::Path;

#[test]
fn picks_and_counts_as_the_kernel_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/scheduler");
    let mut cases = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (name, outcome) in scheduler::run(&text).unwrap() {
            cases += 1;
            if let Err(difference) = outcome {
                failures.push(format!("{} ({name}): {difference}", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(cases >= 100, "only {cases} cases were found");
}
