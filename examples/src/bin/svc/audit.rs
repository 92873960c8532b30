//! `svc audit`: whether a node has the rules that it should have.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use svc_examples::output::{BAD, DIM, Format, GOOD, styled, write_data};
use svc_examples::world::World;
use svc_rules::audit::{self, Audit, Finding};
use svc_rules::{ProxyConfig, nft, xtables};

use crate::common::{InputArgs, OutputArgs, write_notes};
use crate::rules::{FamilyArg, configuration};

/// Options of `svc audit`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    found: Found,
    /// The node; the first by name if not given.
    #[arg(long)]
    node: Option<String>,
    /// Address family.
    #[arg(long, value_enum, default_value_t)]
    family: FamilyArg,
    /// Print only what repairs the node: input for `iptables-restore --noflush`, or for `nft -f`.
    #[arg(long)]
    repair: bool,
}

/// What the node's tools printed, which tells its mode as well.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Found {
    /// What `iptables-save` (or `ip6tables-save`) printed on the node.
    #[arg(long, value_name = "FILE|-")]
    iptables_save: Option<PathBuf>,
    /// What `nft list ruleset` or `nft -j list ruleset` printed on the node.
    #[arg(long, value_name = "FILE|-")]
    nft: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    findings: Vec<Row>,
    repair: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    table: &'static str,
    place: String,
    text: String,
}

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        Self {
            service: finding.service.as_ref().map(ToString::to_string),
            table: finding.table,
            place: finding.place.to_string(),
            text: finding.to_string(),
        }
    }
}

/// The text of a file, or of standard input.
fn read(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn iptables(args: &Args, world: &World, config: &ProxyConfig, path: &Path) -> Result<Audit> {
    let found = xtables::Ruleset::parse(&read(path)?, args.family.packet());
    let found = found.with_context(|| path.display().to_string())?;
    let services = world.cluster.services().iter().map(|service| &**service);
    Ok(audit::iptables(config, services, &world.endpoints, &found))
}

fn nftables(world: &World, config: &ProxyConfig, path: &Path) -> Result<Audit> {
    let text = read(path)?;
    let place = || path.display().to_string();
    let found = if text.trim_start().starts_with('{') {
        nft::Ruleset::from_json(&text).with_context(place)?
    } else {
        nft::Ruleset::parse(&text).with_context(place)?
    };
    let services = world.cluster.services().iter().map(|service| &**service);
    Ok(audit::nftables(config, services, &world.endpoints, &found))
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let config = |mode| configuration(&world, args.node.as_deref(), args.family.model(), Some(mode));
    let Found { iptables_save, nft } = &args.found;
    let (config, audit, tool) = match (iptables_save, nft) {
        (Some(path), _) => {
            let (_, config) = config("iptables")?;
            let audit = iptables(args, &world, &config, path)?;
            (config, audit, "iptables-restore --noflush")
        }
        (None, Some(path)) => {
            let (_, config) = config("nftables")?;
            let audit = nftables(&world, &config, path)?;
            (config, audit, "nft -f")
        }
        (None, None) => bail!("say --iptables-save FILE or --nft FILE"),
    };
    if args.repair {
        out.write_all(audit.repair.as_bytes())?;
    } else if args.output.output == Format::Table {
        for finding in &audit.findings {
            writeln!(out, "{}", styled(BAD, finding))?;
        }
        if audit.findings.is_empty() {
            writeln!(
                out,
                "{}",
                styled(GOOD, format_args!("node {} has the rules it should have", config.node_name))
            )?;
        } else {
            writeln!(out, "{}", styled(DIM, format_args!("--repair prints the input for {tool}")))?;
        }
        write_notes(out, &world.notes)?;
    } else {
        let findings = audit.findings.iter().map(Row::from).collect();
        write_data(out, args.output.output, &Report { findings, repair: audit.repair })?;
    }
    Ok(if audit.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
