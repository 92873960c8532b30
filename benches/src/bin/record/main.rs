//! Times the reference systems and the libraries on the same input files, in turn, and writes `RESULTS.md` and the plots.
//!
//! `record` needs the `go` command (see `benches/peers`); `--quick` takes small inputs, to try it. Figures of other Rust crates come
//! from the criterion benches, where those have been run before (`cargo bench -p svc-benches`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use svc_benches::differential::Peer;
use svc_benches::inputs::{self, Sizes};

mod criterion;
mod memory;
mod ours;
mod plot;
mod report;
mod rivals;

/// Nanoseconds of each operation, a value a round.
type Timings = BTreeMap<String, Vec<f64>>;

/// Time the reference systems and the libraries in turn, and write RESULTS.md and plots.
#[derive(Parser)]
struct Args {
    /// Small inputs and few rounds.
    #[arg(long)]
    quick: bool,
    /// How often both sides take turns.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Where RESULTS.md and plots/ are written.
    #[arg(long, default_value = "benches")]
    out: PathBuf,
    /// Where the input files are written.
    #[arg(long, default_value = "target/peers-inputs")]
    inputs: PathBuf,
    /// Where criterion has left its estimates.
    #[arg(long, default_value = "target/criterion")]
    criterion: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let (sizes, turns) = if args.quick { (Sizes::quick(), 1) } else { (Sizes::record(), args.turns) };
    // Files of an earlier run with other sizes would be timed on one side alone.
    if args.inputs.exists() {
        std::fs::remove_dir_all(&args.inputs).map_err(|error| error.to_string())?;
    }
    inputs::write(&args.inputs, &sizes)?;
    let mut peers = Vec::new();
    for peer in Peer::ALL {
        peers.push((peer, peer.build()?));
    }
    let mut held = memory::Held::default();
    for (peer, program) in &peers {
        eprintln!("memory: {}", peer.name());
        held.reference.extend(memory::of(Command::new(program).arg("held").arg(&args.inputs))?);
    }
    eprintln!("memory: the libraries");
    held.ours = memory::ours(&args.inputs)?;
    let (mut reference, mut libraries) = (Timings::new(), Timings::new());
    for turn in 1..=turns {
        for (peer, program) in &peers {
            eprintln!("turn {turn} of {turns}: {}", peer.name());
            merge(&mut reference, time_peer(program, &args.inputs)?);
        }
        eprintln!("turn {turn} of {turns}: the libraries");
        merge(&mut libraries, ours::time(&args.inputs, &sizes)?);
    }
    let crates = criterion::read(&args.criterion);
    let plots = plot::all(&args.out.join("plots"), &reference, &libraries)?;
    let text = report::text(&reference, &libraries, &held, &crates, &plots);
    let path = args.out.join("RESULTS.md");
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn merge(into: &mut Timings, more: Timings) {
    for (name, values) in more {
        into.entry(name).or_default().extend(values);
    }
}

fn time_peer(program: &Path, inputs: &Path) -> Result<Timings, String> {
    let output = Command::new(program)
        .args(["-rounds", "3", "time"])
        .arg(inputs)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// The value in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
