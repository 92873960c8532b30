//! `svc`: everything between "a Service was applied" and "this packet goes to that Pod".

mod audit;
mod common;
mod dns;
mod endpoints;
mod env;
mod inspect;
mod lb;
mod policy;
mod rules;
mod trace;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The Kubernetes service network, computed from manifests.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 fine, 1 the answer is no, 2 the input was refused.")]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Colour the output.
    #[arg(long, global = true, value_enum, default_value_t)]
    color: Color,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Color {
    /// On a terminal only.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Whether a node has the rules that it should have.
    Audit(audit::Args),
    /// Which names there are, what a Pod's resolver makes of one, and why one leads nowhere.
    Dns(dns::Args),
    /// The EndpointSlices of Services, what a node uses of them, and why.
    Endpoints(endpoints::Args),
    /// The environment variables of Services that a Pod's containers see.
    Env(env::Args),
    /// Which Services are there, what stands behind them, and why one has nothing.
    Inspect(inspect::Args),
    /// How schedulers spread requests over backends.
    Lb(lb::LbArgs),
    /// Who may talk to whom, why, and what a change would change.
    Policy(policy::Args),
    /// The rules that a node gets, whole or as a change.
    Rules(rules::Args),
    /// What happens to a connection: name, Service, endpoints, policy, rules, Pod.
    Trace(trace::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let mut out = std::io::BufWriter::new(anstream::stdout());
    let result = match args.command {
        Command::Audit(args) => audit::run(&args, &mut out),
        Command::Dns(args) => dns::run(&args, &mut out),
        Command::Endpoints(args) => endpoints::run(&args, &mut out),
        Command::Env(args) => env::run(&args, &mut out),
        Command::Inspect(args) => inspect::run(&args, &mut out),
        Command::Lb(args) => lb::run(args, &mut out),
        Command::Policy(args) => policy::run(&args, &mut out),
        Command::Rules(args) => rules::run(&args, &mut out),
        Command::Trace(args) => trace::run(&args, &mut out),
    };
    match result.and_then(|code| Ok(out.flush().map(|()| code)?)) {
        Ok(code) => code,
        // The reader of a pipe may leave early, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!(
                "{} {error:#}",
                svc_examples::output::styled(svc_examples::output::BAD, "svc:")
            );
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
