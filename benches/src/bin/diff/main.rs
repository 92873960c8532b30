//! Plays random clusters through a reference system and through the libraries, and compares.
//!
//! `diff AREA --clusters N --seed S` needs the `go` command (see `benches/peers`). Each mismatch is made as small as it gets and written
//! as a vector file, which `conformance AREA FILE` replays. Exit code 0 if nothing differed, 1 if something did, 2 on errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;
use svc_benches::differential::{AREAS, Area, Player, isolate, shrink};
use svc_benches::generate::Random;

#[path = "../../../../examples/src/bin/conformance/adapters.rs"]
mod adapters;

/// Play random clusters through a reference system and through the libraries, and compare.
#[derive(Parser)]
struct Args {
    /// What to compare; "all" for everything.
    area: String,
    /// How many clusters.
    #[arg(long, default_value_t = 2_000)]
    clusters: u64,
    /// The first cluster's seed; the others count on from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where mismatches are written.
    #[arg(long, default_value = "target/differential")]
    out: PathBuf,
    /// Stop after this many mismatches of one area.
    #[arg(long, default_value_t = 5)]
    stop: usize,
}

/// How often a mismatch is played again before it counts: where the reference answers otherwise each time, any of its
/// answers is right.
const REPLAYS: usize = 64;

#[derive(Default)]
struct Counts {
    clusters: u64,
    cases: usize,
    open: usize,
    refused: BTreeMap<String, usize>,
    mismatches: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let areas: Vec<&Area> =
        AREAS.iter().filter(|area| args.area == "all" || area.name == args.area).collect();
    if areas.is_empty() {
        let names: Vec<_> = AREAS.iter().map(|area| area.name).collect();
        eprintln!("diff: no area `{}`; areas: {}", args.area, names.join(", "));
        return ExitCode::from(2);
    }
    let mut differs = false;
    for area in areas {
        match run(area, &args) {
            Ok(counts) => {
                differs |= counts.mismatches > 0;
                print!(
                    "{}: {} clusters, {} cases, {} mismatches; {} undecided in the reference",
                    area.name, counts.clusters, counts.cases, counts.mismatches, counts.open
                );
                for (why, count) in &counts.refused {
                    print!("; {count} refused: {why}");
                }
                println!();
            }
            Err(error) => {
                eprintln!("diff: {}: {error}", area.name);
                return ExitCode::from(2);
            }
        }
    }
    if differs { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

/// The first case of a file that differs.
struct Difference {
    case: usize,
    text: String,
}

/// The library's side: how many cases there are, and the first that differs.
fn judge(adapter: adapters::Adapter, text: &str) -> Result<(usize, Option<Difference>), String> {
    let outcomes = adapter(text)?;
    let first = outcomes.iter().enumerate().find_map(|(case, (name, outcome))| {
        let difference = outcome.as_ref().err()?;
        Some(Difference { case, text: format!("{name}: {difference}") })
    });
    Ok((outcomes.len(), first))
}

fn run(area: &Area, args: &Args) -> Result<Counts, String> {
    let (_, adapter) = adapters::AREAS
        .iter()
        .find(|(name, _)| *name == area.name)
        .ok_or("the libraries have no adapter for it")?;
    let mut player = Player::start(area.peer)?;
    let mut counts = Counts::default();
    for seed in args.seed..args.seed.saturating_add(args.clusters) {
        let case = (area.make)(&mut Random::new(seed));
        counts.clusters += 1;
        let text = match player.play(&case)? {
            Ok(text) => text,
            Err(why) => {
                *counts.refused.entry(why).or_default() += 1;
                continue;
            }
        };
        let (cases, difference) = judge(*adapter, &text).map_err(|error| format!("seed {seed}: {error}"))?;
        counts.cases += cases;
        let Some(difference) = difference else { continue };
        let played: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let case = isolate(played, difference.case).unwrap_or(case);
        if !differs(*adapter, &mut player, &case, REPLAYS)? {
            counts.open += 1;
            continue;
        }
        counts.mismatches += 1;
        let small = shrink(case, |smaller| differs(*adapter, &mut player, smaller, 24).unwrap_or(false));
        report(*adapter, &mut player, &small, &args.out, area.name, seed)?;
        if counts.mismatches >= args.stop {
            break;
        }
    }
    Ok(counts)
}

/// Whether every one of many plays differs from the library.
fn differs(
    adapter: adapters::Adapter,
    player: &mut Player,
    case: &Value,
    times: usize,
) -> Result<bool, String> {
    for _ in 0..times {
        let Ok(text) = player.play(case)? else { return Ok(false) };
        match judge(adapter, &text) {
            Ok((_, Some(_))) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn report(
    adapter: adapters::Adapter,
    player: &mut Player,
    case: &Value,
    out: &Path,
    area: &str,
    seed: u64,
) -> Result<(), String> {
    let text = player.play(case)??;
    let (_, difference) = judge(adapter, &text)?;
    let vector: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let folder = out.join(area);
    let path = folder.join(format!("seed-{seed}.json"));
    let text = serde_json::to_string_pretty(&vector).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, text + "\n"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{area}: seed {seed} differs, {}", path.display());
    println!("  {}", difference.map(|difference| difference.text).unwrap_or_default());
    Ok(())
}
