//! Policies in a real kernel: nine Pods in three namespaces and somebody outside, as network namespaces around a node's;
//! the generated nftables, and iptables with ipset, must enforce exactly the computed verdicts.
//!
//! Needs root, `ip`, `nft`, `ipset` and iptables. Where they are missing the test says so and passes, except where the
//! environment variable `CI` is `true`: there it fails.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test program"
)]

mod agent;
mod grid;
mod policies;

use std::process::ExitCode;

use grid::Grid;
use svc_netpol::{Engine, Flow, Options, Traffic, Verdict};
use svc_rules::policy::{Refusal, iptables, nftables};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "agent") {
        agent::run();
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("policies_in_the_kernel: test");
        return ExitCode::SUCCESS;
    }
    if let Err(missing) = grid::available() {
        let required = std::env::var("CI").is_ok_and(|value| value == "true");
        eprintln!(
            "policy tests in the kernel {}: {missing}",
            if required { "CANNOT RUN" } else { "SKIPPED" }
        );
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut grid = Grid::new();
    let mut nft = nftables::Ruleset::default();
    let mut ipt = iptables::Ruleset::default();
    let mut failures = 0;
    let sets = policies::all();
    assert!(sets.len() >= 40, "{} policy sets", sets.len());

    grid.load("nft", &["-f", "-"], &nft.script());
    for (name, policies) in &sets {
        let engine = engine(&grid, policies);
        // Each set is reached by a change from the one before, as on a node.
        let next = nftables::Ruleset::new(&engine.node_plan(grid::NODE), Refusal::Reject);
        grid.load("nft", &["-f", "-"], &next.changes_from(&nft));
        nft = next;
        failures += check(&mut grid, &engine, &format!("nftables, {name}"));
    }
    // The same from scratch, and with silence instead of refusal.
    let engine_of_last = engine(&grid, &sets[sets.len() - 1].1);
    let silent = nftables::Ruleset::new(&engine_of_last.node_plan(grid::NODE), Refusal::Drop);
    grid.load("nft", &["-f", "-"], &silent.script());
    failures += check(&mut grid, &engine_of_last, "nftables, from scratch, silent");
    grid.load("nft", &["-f", "-"], "delete table inet svc-policy\n");

    for program in ["iptables", "ip6tables"] {
        let jumps = iptables::JUMPS
            .map(|(chain, rule)| format!(":{} - [0:0]\n-A {chain} {rule}\n", rule.trim_start_matches("-j ")));
        grid.load(
            &format!("{program}-restore"),
            &["--noflush"],
            &format!("*filter\n{}COMMIT\n", jumps.concat()),
        );
    }
    for (name, policies) in &sets {
        let engine = engine(&grid, policies);
        let next = iptables::Ruleset::new(&engine.node_plan(grid::NODE), Refusal::Reject);
        let scripts = next.changes_from(&ipt);
        grid.load("ipset", &["restore", "-exist"], &scripts.isolation);
        grid.load("iptables-restore", &["--noflush"], &scripts.rules_v4);
        grid.load("ip6tables-restore", &["--noflush"], &scripts.rules_v6);
        grid.load("ipset", &["restore", "-exist"], &scripts.allowances);
        ipt = next;
        failures += check(&mut grid, &engine, &format!("iptables, {name}"));
    }
    println!("test policies_in_the_kernel ... {} policy sets, {} connections tried", sets.len(), grid.tried);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn engine(grid: &Grid, policies: &[svc_model::Object]) -> Engine {
    let mut engine = Engine::new(Options::default());
    engine.apply_all(grid.objects.iter().chain(policies));
    engine
}

/// Tries every pair of ends, TCP and UDP, two ports, both families; the number of surprises.
fn check(grid: &mut Grid, engine: &Engine, name: &str) -> usize {
    let probes = grid.probes();
    let expected: Vec<bool> = probes
        .iter()
        .map(|probe| {
            let traffic =
                if probe.udp { Traffic::Udp(probe.to.port()) } else { Traffic::Tcp(probe.to.port()) };
            let flow = Flow::new(
                svc_netpol::Endpoint::Address(probe.source),
                svc_netpol::Endpoint::Address(probe.to.ip()),
                traffic,
            );
            engine.verdict(&flow) == Verdict::Allow
        })
        .collect();
    let seen = grid.try_all(&probes, &expected);
    let mut failures = 0;
    for ((probe, expected), seen) in probes.iter().zip(&expected).zip(&seen) {
        if expected != seen {
            failures += 1;
            println!("{name}: {probe:?} is {}, must be {}", open(*seen), open(*expected));
        }
    }
    let allowed = expected.iter().filter(|e| **e).count();
    println!("{name}: {allowed} of {} allowed, {failures} surprises", probes.len());
    failures
}

fn open(yes: bool) -> &'static str {
    if yes { "open" } else { "closed" }
}
