//! Runs recorded vectors of the real systems against the libraries.
//!
//! `conformance AREA PATH...` reads vector files or folders, prints each failing case, and closes
//! with the line `N passed, N failed`. Exit code 0 if none failed, 1 if some did, 2 if the input
//! can't be read.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

/// The adapters stand beside the tests of the crate that they exercise.
mod adapters;

use adapters::{AREAS, Adapter};

/// Run recorded vectors of the real systems against the libraries.
#[derive(Parser)]
#[command(version, after_help = areas_help())]
struct Args {
    /// Area of the vectors.
    area: String,
    /// Vector files, or folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Print every difference whole, not only its beginning.
    #[arg(long)]
    whole: bool,
}

fn areas_help() -> String {
    format!("Areas: {}", AREAS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args, &mut anstream::stdout()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(message) => {
            anstream::eprintln!("conformance: {message}");
            ExitCode::from(2)
        }
    }
}

/// Runs the vectors; returns how many cases failed.
fn run(args: &Args, out: &mut impl Write) -> Result<usize, String> {
    let Some((_, adapter)) = AREAS.iter().find(|(name, _)| *name == args.area) else {
        return Err(format!("no area `{}`. {}", args.area, areas_help()));
    };
    let mut files = Vec::new();
    for path in &args.paths {
        list(path, &mut files)?;
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        return Err("no .json file found".into());
    }
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let (p, f) = run_file(*adapter, &file, args.whole, out)?;
        passed += p;
        failed += f;
    }
    writeln!(out, "{passed} passed, {failed} failed").map_err(|e| e.to_string())?;
    Ok(failed)
}

fn run_file(
    adapter: Adapter,
    file: &Path,
    whole: bool,
    out: &mut impl Write,
) -> Result<(usize, usize), String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|e| format!("{name}: {e}"))?;
    let cases = adapter(&text).map_err(|e| format!("{name}: {e}"))?;
    let mut failed = 0;
    for (case, outcome) in &cases {
        if let Err(difference) = outcome {
            failed += 1;
            let shown = if whole { difference.as_str() } else { shorten(difference) };
            writeln!(out, "FAIL {name}: {case}\n  {}", shown.replace('\n', "\n  "))
                .map_err(|e| e.to_string())?;
        }
    }
    Ok((cases.len() - failed, failed))
}

/// The first 2,000 characters.
fn shorten(text: &str) -> &str {
    text.char_indices().nth(2_000).map_or(text, |(end, _)| &text[..end])
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let unreadable = |e: std::io::Error| format!("{}: {e}", path.display());
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() || path.extension().is_some_and(|e| e == "json") {
            list(&path, files)?;
        }
    }
    Ok(())
}
