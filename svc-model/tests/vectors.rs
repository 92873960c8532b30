//! The recorded behaviour of Kubernetes 1.36, over copies of its conformance vectors.

use std::fs;
use std::path::Path;

#[path = "conformance/alloc.rs"]
pub mod alloc;
#[path = "conformance/policy_validation.rs"]
pub mod policy_validation;
#[path = "conformance/selector.rs"]
pub mod selector;
#[path = "conformance/service.rs"]
pub mod service;

type Run = fn(&str) -> Result<Vec<(String, Result<(), String>)>, String>;

/// Runs every file of one area, and returns how many cases there were.
fn run_area(area: &str, run: Run) -> Result<usize, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(area);
    let mut cases = 0;
    let mut failures = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
        for (name, outcome) in run(&text)? {
            cases += 1;
            if let Err(why) = outcome {
                failures.push(format!("{}: {name}: {why}", path.display()));
            }
        }
    }
    if failures.is_empty() { Ok(cases) } else { Err(failures.join("\n")) }
}

#[test]
fn selectors() {
    let cases = run_area("selector", selector::run).unwrap();
    assert!(cases > 1_500, "{cases} cases");
}

#[test]
fn services() {
    let cases = run_area("service", service::run).unwrap();
    assert!(cases > 1_050, "{cases} cases");
}

#[test]
fn policies() {
    let cases = run_area("policy-validation", policy_validation::run).unwrap();
    assert!(cases > 150, "{cases} cases");
}

#[test]
fn allocators() {
    let cases = run_area("alloc", alloc::run).unwrap();
    assert!(cases > 150, "{cases} cases");
}
