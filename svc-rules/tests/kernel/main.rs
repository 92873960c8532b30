//! Rules in a real kernel: network namespaces, the real tools, real connections, compared with the interpreters.
//!
//! Needs root, `ip`, both variants of iptables, and `nft`. Where they are missing the tests say so and pass, except
//! where the environment variable `CI` is `true`: there they fail. Give words to run only scenarios whose names contain
//! one of them.
//!
//! IPVS mode needs a kernel with IPVS, `ipvsadm` and `ipset` besides. Where this kernel has none, the environment variable
//! `SVC_IPVS_RUNNER` may name a command that runs the program in its first argument, with the others as arguments, as
//! root in a kernel that has it; this program is then run there. Else those scenarios are skipped, with `CI` or without.
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

mod cluster;
mod iptables;
mod ipvs;
mod lab;
mod nft;
mod probe;
mod sctp;
mod traffic;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

type Scenario = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(status) = traffic::helper(&arguments) {
        return status;
    }
    let ipvs = ipvs::scenarios();
    let scenarios = iptables::SCENARIOS.into_iter().chain(nft::SCENARIOS);
    let scenarios: Vec<Scenario> = scenarios.chain(ipvs.iter().copied().flatten().copied()).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in scenarios {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Err(missing) = lab::available() {
        let required = std::env::var("CI").is_ok_and(|value| value == "true");
        eprintln!("kernel tests {}: {missing}", if required { "CANNOT RUN" } else { "SKIPPED" });
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    if let Err(missing) = ipvs {
        eprintln!("kernel tests of IPVS mode SKIPPED: {missing}");
    }
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let waiting: Vec<Scenario> = scenarios.into_iter().filter(|(name, _)| chosen(name)).collect();
    if run(&waiting) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs scenarios side by side, since each spends most of its time waiting for silence. False if one failed.
fn run(scenarios: &[Scenario]) -> bool {
    const AT_ONCE: usize = 4;
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(scenarios.len()) {
            scope.spawn(|| {
                while let Some((name, run)) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let result = catch_unwind(AssertUnwindSafe(run));
                    let outcome = if result.is_ok() { "ok" } else { "FAILED" };
                    println!("test {name} ... {outcome} ({:.1} s)", start.elapsed().as_secs_f64());
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                }
            });
        }
    });
    !failed.into_inner()
}
