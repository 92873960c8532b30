//! The recorded behaviour of kube-proxy, over a selection that covers each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

#[allow(unreachable_pub, reason = "the conformance runner includes the adapters too")]
#[path = "conformance/iptables.rs"]
mod iptables;
#[allow(unreachable_pub, reason = "the conformance runner includes the adapters too")]
#[path = "conformance/ipvs.rs"]
mod ipvs;
#[allow(unreachable_pub, reason = "the conformance runner includes the adapters too")]
#[path = "conformance/nftables.rs"]
mod nftables;

use std::fs;
use std::path::Path;

type Adapter = fn(&str) -> Result<Vec<(String, Result<(), String>)>, String>;

/// Runs every file of an area, and returns the number of cases.
fn run(area: &str, adapter: Adapter) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(area);
    let mut failures = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let results = adapter(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (case, result) in results {
            cases += 1;
            if let Err(error) = result {
                failures.push(format!("{} {case}: {error}", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases} cases fail:\n{}", failures.len(), failures.join("\n"));
    cases
}

#[test]
fn iptables() {
    assert!(run("iptables", iptables::run) >= 150);
}

#[test]
fn nftables_mode() {
    assert!(run("nftables", nftables::run) >= 100);
}

#[test]
fn ipvs_mode() {
    assert!(run("ipvs", ipvs::run) >= 80);
}
