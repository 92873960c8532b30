//! `RESULTS.md`: machine, versions, workload, medians and spread, ratios, goals.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use super::memory::Held;
use super::{Timings, median, rivals};

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
    ("dns/A", Goal::Below(150.0)),
    ("dns/SRV 5+5", Goal::Below(1_000.0)),
];

/// At most so many bytes, of memory or text. A name may end before the size: then every size counts.
const HELD_GOALS: &[(&str, i64)] = &[
    ("iptables/10000", 15 << 20),
    // 250 bytes an endpoint.
    ("dns/10000", 250 * 101_009),
    ("text of iptables, one endpoint, delta", 2_000),
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
    ("netpol_matrix/1000", 1e9),
    ("netpol_matrix/10000", 1e9),
    ("netpol_change/pod address/10000", 20_000.0),
    ("netpol_change/pod relabelled/10000", 20_000.0),
    ("netpol_change/pod with labels like no other/10000", 20_000.0),
];

/// The whole text.
pub(crate) fn text(
    reference: &Timings,
    ours: &Timings,
    held: &Held,
    crates: &BTreeMap<String, [f64; 3]>,
    plots: &[String],
) -> String {
    let mut out = String::from(
        "# Results\n\nWritten by `cargo run --release -p svc-benches --bin record`; the benches before it by \
         `cargo bench -p svc-benches`.\nBoth sides take turns on the same machine with the same input files. Ratios are \
         the claim, absolute times are context.\n\n",
    );
    let _ = writeln!(out, "- machine: {}", machine());
    let _ = writeln!(
        out,
        "- reference: Kubernetes v1.36.2, cyclonus v0.5.6, CoreDNS v1.14.7; {}",
        version("go", "version")
    );
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
    memory(&mut out, held);
    out += &counts();
    out += ELSEWHERE;
    if !plots.is_empty() {
        out += "\n## Growth with size\n\n";
        for plot in plots {
            let _ = writeln!(out, "![{}](plots/{plot})", plot.trim_end_matches(".svg"));
        }
    }
    out += &rivals::table(crates);
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
- `netpol`: N policies of a generated cluster with 1,000 to 10,000 Pods. `build, policies alone` reads the policies and nothing else on both \
sides. `build` adds the Pods and namespaces: cyclonus puts their labels into a table to look them up when asked, the libraries sort \
the Pods into classes, which is what makes a verdict short. A verdict is the mean of 4,096 connections.
- `dns`: a cluster of N Services with ten endpoints each (and 1,009 endpoints more). From the message with the question to the message with the \
answer, as the server behind a TCP connection makes it: CoreDNS's plugin with the message library and the scrubbing of its server, without \
sockets, metrics or a cache in front. `read in`: CoreDNS from its first request to an API server on loopback (JSON) until it is synced; the \
libraries from JSON text to zones.
- Go runs as in production: garbage collection on, all cores.
- `env`: the environment variables of N Services. `selector`: text to selector, and a match against five labels.
";

/// The table of the differential runs, from the README of the peers.
fn counts() -> String {
    let readme = include_str!("../../../peers/README.md");
    let counts = readme.split_once("## Counts\n").map_or("", |(_, counts)| counts);
    format!("\n## Do both give the same?\n{counts}")
}

fn memory(out: &mut String, held: &Held) {
    let mut names: Vec<&String> = held.reference.keys().chain(held.ours.keys()).collect();
    names.sort_by_key(|name| (name.rsplit_once('/').map(|(work, _)| work), size(name)));
    names.dedup();
    let (texts, held_by): (Vec<&String>, Vec<&String>) =
        names.into_iter().partition(|name| name.starts_with("text of"));
    for (head, names) in [(HELD, held_by), (TEXTS, texts)] {
        *out += head;
        *out +=
            "\n\n| what | reference | this project | times less | goal |\n| --- | --- | --- | --- | --- |\n";
        for name in names {
            bytes_row(out, name, held);
        }
    }
}

fn bytes_row(out: &mut String, name: &str, held: &Held) {
    let (theirs, ours) = (held.reference.get(name), held.ours.get(name));
    let ratio = theirs.zip(ours).map(|(theirs, ours)| *theirs as f64 / *ours as f64);
    let goal = HELD_GOALS
        .iter()
        .find(|(of, _)| name == *of || name.rsplit_once('/').is_some_and(|(work, _)| work == *of))
        .zip(ours);
    let goal = goal
        .map_or_else(String::new, |((_, most), ours)| reached(ours <= most, &format!("≤ {}", bytes(*most))));
    let cell = |held: Option<&i64>| held.map_or_else(|| "-".to_owned(), |held| bytes(*held));
    let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}"));
    let _ = writeln!(out, "| {name} | {} | {} | {ratio} | {goal} |", cell(theirs), cell(ours));
}

fn bytes(count: i64) -> String {
    let count = count as f64;
    let (value, unit) = match count {
        count if count < 1024.0 => (count, "B"),
        count if count < 1_048_576.0 => (count / 1024.0, "KiB"),
        count => (count / 1_048_576.0, "MiB"),
    };
    format!("{value:.1} {unit}")
}

const HELD: &str = "
## Memory held

After everything was read in and, for rules, synced. The reference: growth of Go's heap over a garbage collection, its text buffers
included; strings that point into the objects that were read are not in it. The libraries: bytes allocated and not freed, strings
copied, the text left to the caller. The objects that were read are counted on neither side.

- `iptables`, `nftables`, `ipvs`: N Services with ten endpoints each. `slices` is what the three share of it: the slices as kept.
- `dns`: N Services with ten endpoints each, and 1,009 endpoints more.
- `endpoints`: one Service with N Pods. The EndpointSlice controller's own memory can't be told apart: it keeps everything in the caches of its
  client.
- `netpol`: N policies with their 1,000 to 10,000 Pods; cyclonus keeps no Pods, so it is compared by the policies alone.";

const TEXTS: &str = "
## Text written

What a sync hands to iptables-restore, nft, or (`ipvs`, where kube-proxy talks to the kernel itself) ipvsadm, ipset and ip.";

/// Figures that the project set out to show and that this command can't measure.
const ELSEWHERE: &str = "
## Not measured here

- What the kernel's tools take for the texts (iptables-nft-restore, iptables-legacy-restore, `nft -f` of both layouts up to 45,000 Services) \
needs root and a network namespace: `cargo run --release -p svc-benches --bin nft-scale` measures nft; its figures and those of \
iptables-restore are in the README of svc-rules.
- Queries per second over UDP beside a bare echo: `cargo bench -p svc-benches --bench dns_udp` prints them.
- Schedulers have no reference to time beside: it is the kernel. CoreDNS is not timed over one changed endpoint, since that comes \
through its watch of the API server.
- The full matrix of 10,000 Pods is timed for the libraries alone (`netpol_matrix` below); cyclonus takes a verdict for each pair and port.
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

pub(crate) fn reached(holds: bool, goal: &str) -> String {
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
