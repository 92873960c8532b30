//! `RESULTS.md`: machine, versions, workload, medians and spread, ratios, goals.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use super::{Timings, median};

/// A goal: the work, and what must hold of it.
enum Goal {
    /// So many times faster than the reference.
    Times(f64),
    /// At most so many nanoseconds.
    Below(f64),
}

/// What the project set out to reach. A name may end before the size: then every size counts.
const GOALS: &[(&str, Goal)] = &[
    ("iptables/full/10000", Goal::Times(30.0)),
    ("iptables/one endpoint, delta", Goal::Below(20_000.0)),
    ("endpoints/from scratch/10000", Goal::Times(30.0)),
    ("endpoints/one Pod", Goal::Below(20_000.0)),
    ("netpol/verdict", Goal::Below(100.0)),
];

/// The goals of benches that criterion runs, by the name of the folder that it makes.
const CRITERION_GOALS: &[(&str, f64)] = &[
    ("pick_rr/10", 5.0),
    ("pick_random/10", 5.0),
    ("pick_lc/1000", 40.0),
    ("pick_wlc/1000", 40.0),
    ("pick_sed/1000", 40.0),
    ("pick_mh/1000", 5.0),
    ("answer/a", 150.0),
    ("answer/srv-5+5", 1_000.0),
];

/// The whole text.
pub(crate) fn text(
    reference: &Timings,
    ours: &Timings,
    crates: &BTreeMap<String, [f64; 3]>,
    plots: &[String],
) -> String {
    let mut out = String::from(
        "# Results\n\nWritten by `cargo run --release -p svc-benches --bin record`; the benches before it by \
         `cargo bench -p svc-benches`.\nBoth sides take turns on the same machine with the same input files. Ratios are \
         the claim, absolute times are context.\n\n",
    );
    let _ = writeln!(out, "- machine: {}", machine());
    let _ = writeln!(out, "- reference: Kubernetes v1.36.2, cyclonus v0.5.6; {}", version("go", "version"));
    let _ = writeln!(out, "- this project: {}; {}", env!("CARGO_PKG_VERSION"), version("rustc", "--version"));
    out += WORKLOAD;
    out += "\n## Beside the reference\n\nMedian, and the least and the greatest of all rounds.\n\n\
            | work | reference | this project | times faster | goal |\n| --- | --- | --- | --- | --- |\n";
    let mut names: Vec<&String> = reference.keys().chain(ours.keys()).collect();
    names.sort_by_key(|name| (name.rsplit_once('/').map(|(work, _)| work), size(name)));
    names.dedup();
    for name in names {
        row(&mut out, name, reference.get(name), ours.get(name));
    }
    if !plots.is_empty() {
        out += "\n## Growth with size\n\n";
        for plot in plots {
            let _ = writeln!(out, "![{}](plots/{plot})", plot.trim_end_matches(".svg"));
        }
    }
    if !crates.is_empty() {
        out += "\n## Benches of the libraries, and of other crates\n\nMedian, and its 95 % interval, from criterion. \
                Names with `peer` are of other crates doing the same work.\n\n| bench | time | interval | goal |\n\
                | --- | --- | --- | --- |\n";
        for (name, [middle, low, high]) in crates {
            let goal = CRITERION_GOALS.iter().find(|(of, _)| of == name);
            let goal = goal.map_or_else(String::new, |(_, most)| {
                reached(*middle <= *most, &format!("≤ {}", time(*most)))
            });
            let _ =
                writeln!(out, "| {name} | {} | {} to {} | {goal} |", time(*middle), time(*low), time(*high));
        }
    }
    out
}

const WORKLOAD: &str = "
## Workload

- `iptables`, `nftables`, `ipvs`: N Services (ClusterIP, one TCP port) with ten endpoints each; a full sync, and the sync after one \
endpoint was replaced. Nothing is handed to a kernel on either side: the text is made and dropped. Kubernetes' proxier also walks what \
it keeps in memory; that is part of its cost. `delta` is a mode that Kubernetes does not have: only what differs is written.
- `endpoints`: one Service with N endpoints, at most 100 a slice. Kubernetes runs `Reconcile` over a client that costs nothing. From \
scratch both sides make all slices; for one changed Pod and for nothing changed the libraries' engine gets the Pod's event.
- `netpol`: N policies of a generated cluster with 1,000 to 10,000 Pods; building, and a verdict (mean of 4,096 connections).
- `env`: the environment variables of N Services. `selector`: text to selector, and a match against five labels.
";

fn size(name: &str) -> u64 {
    name.rsplit_once('/').and_then(|(_, size)| size.parse().ok()).unwrap_or(0)
}

fn row(out: &mut String, name: &str, reference: Option<&Vec<f64>>, ours: Option<&Vec<f64>>) {
    let cell = |values: Option<&Vec<f64>>| {
        values.map_or_else(
            || "-".to_owned(),
            |values| {
                let (low, high) = values
                    .iter()
                    .fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(*v), high.max(*v)));
                format!("{} ({} to {})", time(median(values)), time(low), time(high))
            },
        )
    };
    let ratio = reference.zip(ours).map(|(theirs, ours)| median(theirs) / median(ours));
    let goal = GOALS
        .iter()
        .find(|(of, _)| name == *of || name.rsplit_once('/').is_some_and(|(work, _)| work == *of));
    let goal = match (goal, ours) {
        (Some((_, Goal::Times(least))), Some(_)) => {
            reached(ratio.is_some_and(|ratio| ratio >= *least), &format!("{least} times"))
        }
        (Some((_, Goal::Below(most))), Some(ours)) => {
            reached(median(ours) <= *most, &format!("≤ {}", time(*most)))
        }
        _ => String::new(),
    };
    let ratio = ratio.map_or_else(
        || "-".to_owned(),
        |ratio| if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") },
    );
    let _ = writeln!(out, "| {name} | {} | {} | {ratio} | {goal} |", cell(reference), cell(ours));
}

fn reached(holds: bool, goal: &str) -> String {
    if holds { format!("{goal}: reached") } else { format!("{goal}: **not reached**") }
}

/// A time with three digits and a unit.
pub(crate) fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

fn version(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or_else(
        |_| format!("no {program}"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{}, {cores} cores, Linux {}", model.trim_start_matches(['\t', ' ', ':']), kernel.trim())
}
