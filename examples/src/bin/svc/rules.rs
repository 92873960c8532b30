//! `svc rules`: the rules that a node gets, whole or as a change, and what changes between two sets of manifests.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use svc_examples::input::Input;
use svc_examples::output::{BAD, BOLD, DIM, GOOD, styled};
use svc_examples::world::World;
use svc_model::{IpFamily, Kind};
use svc_rules::iptables::{Mode, Proxy, Sections, StaleChains};
use svc_rules::packet::Family;
use svc_rules::policy::{self, Refusal};
use svc_rules::xtables::Ruleset;
use svc_rules::{ProxyConfig, ProxyMode, ipvs, nftables};

/// Options of `svc rules`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Manifests: a file, a folder, or - for standard input. May be repeated.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required_unless_present = "diff")]
    filename: Vec<PathBuf>,
    /// Namespace of objects that don't say.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Proxy mode; that of a KubeProxyConfiguration among the manifests, or iptables.
    #[arg(long)]
    mode: Option<String>,
    /// The node; the first by name if not given.
    #[arg(long)]
    node: Option<String>,
    /// Address family.
    #[arg(long, value_enum, default_value_t)]
    family: FamilyArg,
    /// All rules (the default).
    #[arg(long, group = "size")]
    full: bool,
    /// What kube-proxy would send after a change: all shared chains, and those of changed Services.
    #[arg(long, group = "size", requires = "since")]
    partial: bool,
    /// Only the rules that differ.
    #[arg(long, group = "size", requires = "since")]
    delta: bool,
    /// Manifests that the node's rules were last written from.
    #[arg(long, value_name = "FILE|DIR")]
    since: Option<PathBuf>,
    /// Cut a full load into sections of this many Services, which iptables-nft loads many times faster.
    #[arg(long, value_name = "SERVICES")]
    sections: Option<std::num::NonZeroUsize>,
    /// The rules that enforce the policies instead of those of the Services: one nft script, or restore inputs for
    /// ipset and iptables, isolation first.
    #[arg(long, conflicts_with_all = ["size", "sections", "diff"])]
    policies: bool,
    /// Which rules change between two sets of manifests.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["filename", "size", "since"])]
    diff: Option<Vec<PathBuf>>,
}

/// An address family.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum FamilyArg {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl FamilyArg {
    pub(crate) fn model(self) -> IpFamily {
        match self {
            Self::Ipv4 => IpFamily::Ipv4,
            Self::Ipv6 => IpFamily::Ipv6,
        }
    }

    pub(crate) fn packet(self) -> Family {
        match self {
            Self::Ipv4 => Family::V4,
            Self::Ipv6 => Family::V6,
        }
    }
}

/// Mode and configuration of a node's proxy; `mode` overrides that of the manifests.
pub(crate) fn configuration(
    world: &World,
    node: Option<&str>,
    family: IpFamily,
    mode: Option<&str>,
) -> Result<(ProxyMode, ProxyConfig)> {
    let node = world.node(node)?;
    let mode = match mode {
        None => world.proxy_mode()?,
        Some(text) => ProxyMode::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .with_context(|| format!("no proxy mode `{text}`: there are iptables, ipvs and nftables"))?,
    };
    Ok((mode, world.proxy_config(&node, family, mode)?))
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    if let Some([old, new]) = args.diff.as_deref() {
        return diff(args, old, new, out);
    }
    let world = World::new(Input::read(&args.filename, &args.namespace)?)?;
    let (mode, config) =
        configuration(&world, args.node.as_deref(), args.family.model(), args.mode.as_deref())?;
    for note in &world.notes {
        anstream::eprintln!("{}", styled(DIM, format_args!("assumed: {note}")));
    }
    if args.policies {
        return policies(args, &world, mode, &config.node_name, out);
    }
    match mode {
        ProxyMode::Iptables => iptables(args, &world, config, out),
        ProxyMode::Nftables => nftables(args, &world, config, out),
        ProxyMode::Ipvs => ipvs(args, &world, config, out),
    }
}

/// The input of `iptables-restore`.
fn iptables(args: &Args, world: &World, config: ProxyConfig, out: &mut dyn Write) -> Result<ExitCode> {
    let mut proxy = Proxy::new(config);
    if let Some(most) = args.sections {
        proxy.set_sections(Sections::OfServices(most));
    }
    let mut text = Vec::new();
    if let Some(since) = &args.since {
        let old = World::new(Input::read(&[since], &args.namespace)?)?;
        proxy.replace_all(old.cluster.services().iter().map(|service| &**service));
        let _ = proxy.sync(&old.endpoints, Mode::Full, StaleChains::Delete, &mut text);
        proxy.succeeded();
        text.clear();
        let mut slices = old.endpoints;
        proxy.touch(&slices.replace_all(world.cluster.endpoint_slices().iter().map(|slice| &**slice)));
    }
    proxy.replace_all(world.cluster.services().iter().map(|service| &**service));
    let mode = match (args.partial, args.delta) {
        (true, _) => Mode::Partial,
        (_, true) => Mode::Delta,
        _ => Mode::Full,
    };
    let _ = proxy.sync(&world.endpoints, mode, StaleChains::Delete, &mut text);
    out.write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What enforces the policies for the Pods of a node, or with `--since` what has to change.
fn policies(
    args: &Args,
    world: &World,
    mode: ProxyMode,
    node: &str,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let plan = world.policies().node_plan(node);
    let before = match &args.since {
        Some(since) => Some(World::new(Input::read(&[since], &args.namespace)?)?.policies().node_plan(node)),
        None => None,
    };
    if mode == ProxyMode::Nftables {
        let rules = policy::nftables::Ruleset::new(&plan, Refusal::Drop);
        let text = match before {
            Some(before) => rules.changes_from(&policy::nftables::Ruleset::new(&before, Refusal::Drop)),
            None => rules.script(),
        };
        out.write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rules = policy::iptables::Ruleset::new(&plan, Refusal::Drop);
    let scripts = match before {
        Some(before) => rules.changes_from(&policy::iptables::Ruleset::new(&before, Refusal::Drop)),
        None => rules.scripts(),
    };
    let parts = [
        ("ipset restore -exist", scripts.isolation),
        ("iptables-restore --noflush", scripts.rules_v4),
        ("ip6tables-restore --noflush", scripts.rules_v6),
        ("ipset restore -exist", scripts.allowances),
    ];
    for (command, text) in parts.iter().filter(|(_, text)| !text.is_empty()) {
        writeln!(out, "# {command}\n{text}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The input of each tool that IPVS mode needs, in order.
fn ipvs(args: &Args, world: &World, config: ProxyConfig, out: &mut dyn Write) -> Result<ExitCode> {
    if args.partial || args.sections.is_some() {
        bail!(
            "--partial and --sections are for mode iptables: in IPVS mode every change is as small as --delta"
        );
    }
    let mut proxy = ipvs::Proxy::new(config);
    let mut input = ipvs::Input::default();
    if let Some(since) = &args.since {
        let old = World::new(Input::read(&[since], &args.namespace)?)?;
        proxy.replace_all(old.cluster.services().iter().map(|service| &**service));
        let _ = proxy.sync(&old.endpoints, ipvs::Scope::Full, &mut input);
        proxy.succeeded();
        input.clear();
        let mut slices = old.endpoints;
        proxy.touch(&slices.replace_all(world.cluster.endpoint_slices().iter().map(|slice| &**slice)));
    }
    proxy.replace_all(world.cluster.services().iter().map(|service| &**service));
    let scope = if args.delta { ipvs::Scope::Changes } else { ipvs::Scope::Full };
    let _ = proxy.sync(&world.endpoints, scope, &mut input);
    for (tool, text) in input.texts().into_iter().filter(|(_, text)| !text.is_empty()) {
        let tool = match args.family {
            FamilyArg::Ipv6 => tool.replace("iptables", "ip6tables"),
            FamilyArg::Ipv4 => tool.to_owned(),
        };
        writeln!(out, "# {tool}")?;
        out.write_all(text)?;
        writeln!(out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The transaction for `nft -f -`.
fn nftables(args: &Args, world: &World, config: ProxyConfig, out: &mut dyn Write) -> Result<ExitCode> {
    if args.partial || args.sections.is_some() {
        bail!(
            "--partial and --sections are for mode iptables: in nftables mode every change is as small as --delta"
        );
    }
    let mut proxy = nftables::Proxy::new(config);
    let mut text = String::new();
    if let Some(since) = &args.since {
        let old = World::new(Input::read(&[since], &args.namespace)?)?;
        old.cluster.services().iter().for_each(|service| _ = proxy.apply(service));
        let _ = proxy.sync(&old.endpoints, nftables::Scope::Full, &mut text);
        proxy.succeeded();
        text.clear();
        let mut slices = old.endpoints;
        proxy.touch(&slices.replace_all(world.cluster.endpoint_slices().iter().map(|slice| &**slice)));
        for service in old.cluster.services().iter() {
            proxy.remove(&service.object_ref());
        }
    }
    world.cluster.services().iter().for_each(|service| _ = proxy.apply(service));
    let scope = if args.delta { nftables::Scope::Changes } else { nftables::Scope::Full };
    let _ = proxy.sync(&world.endpoints, scope, &mut text);
    out.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The rules of a node after a full sync, as a model.
fn ruleset(args: &Args, path: &PathBuf) -> Result<Ruleset> {
    let world = World::new(Input::read(&[path], &args.namespace)?)?;
    let (mode, config) =
        configuration(&world, args.node.as_deref(), args.family.model(), args.mode.as_deref())
            .with_context(|| path.display().to_string())?;
    if mode != ProxyMode::Iptables {
        bail!("--diff is for mode iptables; for nftables use --since A --delta");
    }
    let mut proxy = Proxy::new(config);
    proxy.replace_all(world.cluster.services().iter().map(|service| &**service));
    let mut text = Vec::new();
    let _ = proxy.sync(&world.endpoints, Mode::Full, StaleChains::Delete, &mut text);
    Ok(Ruleset::parse(&String::from_utf8(text)?, args.family.packet())?)
}

/// Prints the rules that come and go, chain by chain. Exit code 1 if there are any.
fn diff(args: &Args, old: &PathBuf, new: &PathBuf, out: &mut dyn Write) -> Result<ExitCode> {
    let (old, new) = (ruleset(args, old)?, ruleset(args, new)?);
    let mut same = true;
    for table in ["filter", "nat"] {
        let names: BTreeSet<_> = [&old, &new]
            .into_iter()
            .filter_map(|rules| rules.table(table))
            .flat_map(|table| table.chains().into_iter().map(|(name, _)| *name))
            .collect();
        for name in names {
            let rules = |of: &Ruleset| -> Vec<String> {
                let rules = of.chain(table, &name).into_iter().flat_map(|chain| &chain.rules);
                rules.map(|rule| rule.text(args.family.packet())).collect()
            };
            let (before, after) = (rules(&old), rules(&new));
            if before == after {
                continue;
            }
            same = false;
            writeln!(out, "{}", styled(BOLD, format_args!("{table} {name}")))?;
            for rule in before.iter().filter(|rule| !after.contains(rule)) {
                writeln!(out, "{}", styled(BAD, format_args!("- {rule}")))?;
            }
            for rule in after.iter().filter(|rule| !before.contains(rule)) {
                writeln!(out, "{}", styled(GOOD, format_args!("+ {rule}")))?;
            }
        }
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
