//! `svc audit`: whether a node has the rules that it should have.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use svc_examples::output::{BAD, DIM, Format, GOOD, styled, write_data};
use svc_examples::world::World;
use svc_model::SmolStr;
use svc_rules::audit::{self, Audit, Finding, IpvsDump, Repair};
use svc_rules::ipset::{self, IpSet, OnDuplicate};
use svc_rules::ipvsadm::{self, VirtualServers};
use svc_rules::nftables::Layout;
use svc_rules::{Scheme, nft, xtables};

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
    /// Print only what repairs the node: input for `iptables-restore --noflush`, or for `nft -f`; in IPVS mode for
    /// several tools, each named in a comment.
    #[arg(long)]
    repair: bool,
}

/// What the node's tools printed, which tells its mode as well.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Found {
    /// What `iptables-save` (or `ip6tables-save`) printed on the node.
    #[arg(long, value_name = "FILE|-")]
    iptables_save: Option<PathBuf>,
    /// What `nft list ruleset` or `nft -j list ruleset` printed on the node.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["iptables_save", "ipvs", "ipset"])]
    nft: Option<PathBuf>,
    /// What `ipvsadm -Sn` printed on a node in IPVS mode.
    #[arg(long, value_name = "FILE|-", requires_all = ["ipset", "iptables_save"])]
    ipvs: Option<PathBuf>,
    /// What `ipset save` printed on a node in IPVS mode.
    #[arg(long, value_name = "FILE|-", requires_all = ["ipvs", "iptables_save"])]
    ipset: Option<PathBuf>,
    /// The node's table is laid out flat (`svc rules --mode nftables-flat`).
    #[arg(long, requires = "nft")]
    flat: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    findings: Vec<Row>,
    repair: Vec<Step>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    command: &'static str,
    input: String,
}

impl From<&Repair> for Step {
    fn from(step: &Repair) -> Self {
        Self { command: step.command, input: step.input.clone() }
    }
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

/// The error names the file.
fn parsed<T, E: Error + Send + Sync + 'static>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T> {
    parse(&read(path)?).with_context(|| path.display().to_string())
}

/// The sets of kube-proxy; others may be of kinds that it does not use.
fn sets(text: &str) -> Result<BTreeMap<SmolStr, IpSet>, ipset::RestoreError> {
    let ours = |line: &&str| line.split(' ').nth(1).is_some_and(|name| name.starts_with("KUBE-"));
    let text: String = text.lines().filter(ours).flat_map(|line| [line, "\n"]).collect();
    let mut sets = BTreeMap::new();
    ipset::restore(&text, &mut sets, OnDuplicate::Ignore)?;
    Ok(sets)
}

fn servers(text: &str) -> Result<VirtualServers, ipvsadm::RestoreError> {
    let mut servers = VirtualServers::new();
    servers.restore(text)?;
    Ok(servers)
}

/// Compares what was found with what the manifests ask for; the node's name as well.
fn audit(args: &Args, world: &World) -> Result<(SmolStr, Audit)> {
    let services = || world.cluster.services().iter().map(|service| &**service);
    let slices = &world.endpoints;
    let config = |scheme| {
        let config = configuration(world, args.node.as_deref(), args.family.model(), Some(scheme));
        config.map(|(_, config)| config)
    };
    let rules = |path: &Path| parsed(path, |text| xtables::Ruleset::parse(text, args.family.packet()));
    let Found { iptables_save, nft, ipvs, ipset, flat } = &args.found;
    if let Some(path) = nft {
        let (scheme, layout) = match flat {
            true => (Scheme::NftablesFlat, Layout::Flat),
            false => (Scheme::Nftables, Layout::Reference),
        };
        let config = config(scheme)?;
        let text = read(path)?;
        let place = || path.display().to_string();
        let found = if text.trim_start().starts_with('{') {
            nft::Ruleset::from_json(&text).with_context(place)?
        } else {
            nft::Ruleset::parse(&text).with_context(place)?
        };
        let audit = audit::nftables(&config, layout, services(), slices, &found);
        return Ok((config.node_name, audit));
    }
    match (ipvs, ipset, iptables_save) {
        (Some(ipvs), Some(ipset), Some(iptables_save)) => {
            let config = config(Scheme::Ipvs)?;
            let (servers, sets) = (parsed(ipvs, servers)?, parsed(ipset, sets)?);
            let rules = rules(iptables_save)?;
            let found = IpvsDump { servers: &servers, sets: &sets, rules: &rules };
            let audit = audit::ipvs(&config, services(), slices, found);
            Ok((config.node_name, audit))
        }
        (_, _, Some(iptables_save)) => {
            let config = config(Scheme::Iptables)?;
            let audit = audit::iptables(&config, services(), slices, &rules(iptables_save)?);
            Ok((config.node_name, audit))
        }
        _ => bail!("say --iptables-save FILE, --nft FILE, or --ipvs FILE --ipset FILE --iptables-save FILE"),
    }
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let (node, audit) = audit(args, &world)?;
    if args.repair {
        write_repair(&audit.repair, out)?;
    } else if args.output.output == Format::Table {
        for finding in &audit.findings {
            writeln!(out, "{}", styled(BAD, finding))?;
        }
        if audit.findings.is_empty() {
            writeln!(out, "{}", styled(GOOD, format_args!("node {node} has the rules it should have")))?;
        } else {
            let tools: Vec<_> = audit.repair.iter().map(|step| step.command).collect();
            let tools = tools.join(", ");
            writeln!(out, "{}", styled(DIM, format_args!("--repair prints the input for {tools}")))?;
        }
        write_notes(out, &world.notes)?;
    } else {
        let findings = audit.findings.iter().map(Row::from).collect();
        let repair = audit.repair.iter().map(Step::from).collect();
        write_data(out, args.output.output, &Report { findings, repair })?;
    }
    Ok(if audit.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The input of the only tool as it is; of several, each after its command as a comment.
fn write_repair(repair: &[Repair], out: &mut dyn Write) -> Result<()> {
    for step in repair {
        if repair.len() > 1 {
            writeln!(out, "# {}", step.command)?;
        }
        out.write_all(step.input.as_bytes())?;
    }
    Ok(())
}
