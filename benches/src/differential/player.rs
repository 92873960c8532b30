//! The programs that know the reference systems.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// One of the Go modules in `peers/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Kubernetes itself: kube-proxy, controllers, kubelet, apimachinery.
    Kubernetes,
    /// The policy simulator of cyclonus.
    Cyclonus,
    /// CoreDNS's kubernetes plugin.
    CoreDns,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kubernetes, Self::Cyclonus, Self::CoreDns];

    /// The folder of the module.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Cyclonus => "cyclonus",
            Self::CoreDns => "coredns",
        }
    }

    fn module(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(self.name())
    }

    /// Builds the program with the `go` command; the first time takes minutes.
    ///
    /// # Errors
    ///
    /// If there is no `go`, if it is too old, or if it fails.
    pub fn build(self) -> Result<PathBuf, String> {
        check_go()?;
        let program = std::env::temp_dir().join(format!("svc-peer-{}", self.name()));
        let status = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(self.module())
            .status()
            .map_err(|error| format!("go: {error}"))?;
        if status.success() { Ok(program) } else { Err(format!("go build of {}: {status}", self.name())) }
    }
}

/// The oldest Go that builds the modules.
const GO: (u32, u32) = (1, 26);

/// The error says what to do: the modules' own is about toolchains.
fn check_go() -> Result<(), String> {
    let (major, minor) = GO;
    let need = format!("the reference systems need Go {major}.{minor} or newer (https://go.dev/dl)");
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .output()
        .map_err(|error| format!("{need}, and there is no `go` command: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(text.trim()) {
        Some(found) if found >= GO => Ok(()),
        _ => Err(format!("{need}, and `go` is {}", text.trim())),
    }
}

/// Major and minor number of `go1.26.8`, `go1.27rc1` or `go1.27-custom`.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.strip_prefix("go")?.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

/// A running program that answers each case with the same case played.
#[derive(Debug)]
pub struct Player {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Player {
    /// Builds and starts the program.
    ///
    /// # Errors
    ///
    /// If it can't be built or started.
    pub fn start(peer: Peer) -> Result<Self, String> {
        let program = peer.build()?;
        let mut child = Command::new(&program)
            .arg("play")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let (input, output) = child.stdin.take().zip(child.stdout.take()).ok_or("no pipes")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Plays a case: the vector file, or why the reference refuses it.
    ///
    /// # Errors
    ///
    /// If the program has ended or answers nonsense.
    pub fn play(&mut self, case: &Value) -> Result<Result<String, String>, String> {
        writeln!(self.input, "{case}").map_err(|error| error.to_string())?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|error| error.to_string())?;
        if line.is_empty() {
            return Err("the peer has ended".into());
        }
        match line.strip_prefix("{\"failed\":") {
            Some(why) => Ok(Err(why.trim_end().trim_end_matches('}').to_owned())),
            None => Ok(Ok(line)),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It ends by itself when its input does; this is for the case that it hangs.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("go1.9"), Some((1, 9)));
        assert!(version("go1.9") < Some(GO) && version("go2.0") >= Some(GO));
        for bad in ["", "devel", "go", "go1", "go1.x"] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }
}
