//! What the commands share: where input comes from and how output is written.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use svc_examples::input::Input;
use svc_examples::output::{DIM, Format, styled};
use svc_examples::world::World;
use svc_rules::Scheme;

/// Where input comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InputArgs {
    /// Manifests: a file, a folder, or - for standard input. May be repeated.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    pub(crate) filename: Vec<PathBuf>,
    /// Namespace of objects and names that don't say.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

impl InputArgs {
    /// Reads the manifests and makes a cluster of them.
    pub(crate) fn world(&self) -> Result<World> {
        let input = Input::read(&self.filename, &self.namespace)?;
        if let Some(note) = input.skipped_note() {
            anstream::eprintln!("{}", styled(DIM, note));
        }
        World::new(input)
    }
}

/// How output is written.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Writes what was assumed, for people.
pub(crate) fn write_notes(out: &mut dyn Write, notes: &[String]) -> Result<()> {
    for note in notes {
        writeln!(out, "{}", styled(DIM, format_args!("assumed: {note}")))?;
    }
    Ok(())
}

/// Reads the name of a proxy mode, or of the flat layout of one.
pub(crate) fn scheme(text: &str) -> Result<Scheme, String> {
    let [first @ .., last] = Scheme::ALL.map(Scheme::as_str);
    Scheme::parse(text).ok_or_else(|| format!("{} or {last}", first.join(", ")))
}
