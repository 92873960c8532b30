//! `svc lb`: load balancing tried out, without a cluster.

mod chart;
mod simulation;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use svc_examples::output::{BOLD, DIM, Format, Table, styled, write_data};
use svc_lb::{AffinityOptions, Backend, BalancerOptions, Scheduler};

use simulation::{Plan, Report};

/// How schedulers spread requests over backends.
#[derive(Args)]
pub struct LbArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send made-up requests through a scheduler: who gets how many, how fair that is, and how many clients move
    /// when a backend goes.
    Simulate(SimulateArgs),
    /// The schedulers there are.
    Schedulers,
}

#[derive(Args)]
#[command(
    after_help = "Example: svc lb simulate --scheduler mh --backends 5 --weights 1,2 --requests 1000000"
)]
struct SimulateArgs {
    /// The scheduler, by its name in IPVS or of `svc lb schedulers`.
    #[arg(long, short, default_value = "rr")]
    scheduler: String,
    /// Flags of the scheduler, as with ipvsadm -b: sh-port, sh-fallback, mh-port, mh-fallback.
    #[arg(long = "flag", value_delimiter = ',')]
    flags: Vec<String>,
    /// How many backends (10.2.0.1:80 and on), or their addresses separated by commas.
    #[arg(long, short, default_value = "5")]
    backends: String,
    /// Weights of the backends in turn; repeated if there are fewer.
    #[arg(long, short, value_delimiter = ',', default_value = "1")]
    weights: Vec<u32>,
    /// How many requests are sent.
    #[arg(long, short = 'n', default_value_t = 100_000)]
    requests: u64,
    /// How many different clients send them, each as often as any other.
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// How many connections are open at a time on average; matters to rules that look at load.
    #[arg(long, default_value_t = 100)]
    open: u64,
    /// Keep clients with their backend, as sessionAffinity: ClientIP does.
    #[arg(long)]
    affinity: bool,
    /// The backend that goes, counted from 1, for the disruption figures.
    #[arg(long, default_value_t = 1)]
    remove: usize,
    /// Seeds the made-up requests; the same seed gives the same result.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the distribution into this file too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// How the result is written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Show every backend, however many there are.
    #[arg(long)]
    all: bool,
}

/// Carries out `svc lb`.
///
/// # Errors
/// If the arguments make no sense, or a stream or file cannot be written.
pub fn run(args: LbArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Simulate(args) => simulate(&args, out)?,
        Command::Schedulers => {
            for scheduler in Scheduler::ALL {
                writeln!(out, "{scheduler}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn simulate(args: &SimulateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let plan = args.plan()?;
    let mut progress = Progress::new(args.requests);
    let report = simulation::run(&plan, |done| progress.show(done))?;
    progress.clear();
    if let Some(path) = &args.svg {
        std::fs::write(path, chart::svg(&report))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.output {
        Format::Table => write_report(out, &report, args.all),
        format => write_data(out, format, &report),
    }
}

impl SimulateArgs {
    fn plan(&self) -> anyhow::Result<Plan> {
        let scheduler = Scheduler::parse(&self.scheduler, self.flags.iter().map(String::as_str))
            .map_err(|error| anyhow!("{error}; `svc lb schedulers` lists the schedulers"))?;
        let addresses = match self.backends.parse::<u32>() {
            Ok(count) => {
                ensure!((1..=65_534).contains(&count), "--backends takes 1 to 65534, not {count}");
                (1..=count)
                    .map(|number| SocketAddr::from(((0x0a02_0000 + number).to_be_bytes(), 80)))
                    .collect()
            }
            Err(_) => self
                .backends
                .split(',')
                .map(|text| {
                    text.trim().parse().with_context(|| format!("`{text}` is no address with a port"))
                })
                .collect::<anyhow::Result<Vec<SocketAddr>>>()?,
        };
        if self.weights.is_empty() || self.clients == 0 {
            bail!("there must be a weight and a client");
        }
        let backends: Vec<Backend> = addresses
            .iter()
            .zip(self.weights.iter().cycle())
            .map(|(address, weight)| Backend::new(*address).with_weight(*weight))
            .collect();
        ensure!(
            (1..=backends.len()).contains(&self.remove),
            "--remove {} is none of the {} backends",
            self.remove,
            backends.len()
        );
        let mut options = BalancerOptions::new(scheduler);
        if self.affinity {
            let timeout = Duration::from_secs(10_800);
            options = options.with_affinity(AffinityOptions::ipvs(timeout).with_capacity(self.clients));
        }
        Ok(Plan {
            options,
            backends,
            requests: self.requests,
            clients: self.clients,
            open: self.open,
            remove: self.remove - 1,
            seed: self.seed,
        })
    }
}

/// The rows that are shown unless all are asked for.
const ROWS: usize = 30;

fn write_report(out: &mut dyn Write, report: &Report, all: bool) -> anyhow::Result<()> {
    let shown = if all { report.backends.len() } else { ROWS };
    let widest = report.backends.iter().map(|row| row.share.max(row.ideal)).fold(0.0, f64::max);
    let mut table = Table::new(["BACKEND", "WEIGHT", "REQUESTS", "SHARE", "IDEAL", "MOST OPEN", ""]);
    for row in report.backends.iter().take(shown) {
        table.row([
            row.address.to_string(),
            row.weight.to_string(),
            row.requests.to_string(),
            percent(row.share),
            percent(row.ideal),
            row.most_open.to_string(),
            chart::bar(row.share, row.ideal, widest),
        ]);
    }
    table.write(out)?;
    if let Some(rest) = report.backends.len().checked_sub(shown).filter(|rest| *rest > 0) {
        writeln!(out, "{}", styled(DIM, format!("... and {rest} more; --all shows them")))?;
    }
    let fairness = &report.fairness;
    writeln!(out, "\n{}", styled(BOLD, "Fairness"))?;
    writeln!(out, "  Jain's index     {:.4}   1 is perfect, 1/n is all on one", fairness.jain)?;
    writeln!(out, "  busiest          {:.3} times its ideal share", fairness.busiest)?;
    writeln!(out, "  idlest           {:.3} times its ideal share", fairness.idlest)?;
    writeln!(out, "  variation        {:.2} %", fairness.variation * 100.0)?;
    writeln!(out, "  refused          {}", report.refused)?;
    let disruption = &report.disruption;
    writeln!(out, "\n{} when {} goes", styled(BOLD, "Disruption"), disruption.removed)?;
    writeln!(out, "  clients that must move      {:>8}   they were there", percent(disruption.own))?;
    writeln!(
        out,
        "  others that move            {:>8}   0 % is the best there is",
        percent(disruption.others)
    )?;
    writeln!(
        out,
        "  that move without a change  {:>8}   what the scheduler does anyway",
        percent(disruption.anyway)
    )?;
    Ok(())
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// How far a long run is, on standard error, if someone is there to see it.
struct Progress {
    total: u64,
    shown: Option<u64>,
    watched: bool,
}

impl Progress {
    fn new(total: u64) -> Self {
        Self { total, shown: None, watched: total > 1_000_000 && std::io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64) {
        let percent = done * 100 / self.total.max(1);
        if self.watched && self.shown != Some(percent) {
            self.shown = Some(percent);
            eprint!("\r{percent:3} % of {} requests", self.total);
        }
    }

    fn clear(&self) {
        if self.shown.is_some() {
            eprint!("\r{:40}\r", "");
        }
    }
}
