//! What both sides hold in memory of the input files.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Bytes by work and size.
pub(crate) type Bytes = BTreeMap<String, i64>;

/// Both sides.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) reference: Bytes,
    pub(crate) ours: Bytes,
}

/// Runs a program that prints bytes as JSON.
pub(crate) fn of(command: &mut Command) -> Result<Bytes, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{command:?}: {error}"))
}

/// The libraries' side, by the program `held`: counting allocations would slow this one down.
pub(crate) fn ours(inputs: &Path) -> Result<Bytes, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--release", "--package", "svc-benches", "--bin", "held", "--"])
        .arg(inputs);
    of(&mut command)
}
