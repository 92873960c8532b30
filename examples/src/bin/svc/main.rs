//! `svc`: everything between "a Service was applied" and "this packet goes to that Pod".

use std::process::ExitCode;

use clap::Parser;
use svc_examples::input::Input;

/// The Kubernetes service network, computed from manifests.
#[derive(Parser)]
#[command(version)]
struct Args {}

fn main() -> ExitCode {
    let _ = Args::parse();
    let input = Input::read::<&str>(&[], "default");
    ExitCode::from(u8::from(input.is_err()))
}
