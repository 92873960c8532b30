//! Recorded verdicts of the reference engines and of the published conformance tables.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::manual_try_fold,
    clippy::panic,
    clippy::print_stdout,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "helpers of tests, outside of test functions"
)]

#[path = "conformance/netpol.rs"]
mod netpol;

#[test]
fn every_recorded_verdict_is_ours() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/netpol");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut cases, mut failures) = (0, Vec::new());
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        for (name, result) in netpol::run(&text).unwrap() {
            cases += 1;
            if let Err(message) = result {
                failures.push(format!("{}: {name}: {message}", path.file_name().unwrap().display()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(files.len() >= 60 && cases >= 2000, "{} files, {cases} cases", files.len());
}
