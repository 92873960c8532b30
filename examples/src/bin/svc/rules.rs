//! `svc rules`: the rules that a node gets, whole or as a change, and what changes between two sets of manifests.

mod diff;
mod migrate;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use svc_examples::input::Input;
use svc_examples::output::{DIM, Format, styled};
use svc_examples::world::World;
use svc_model::{IpFamily, Sent};
use svc_rules::iptables::{Mode, Proxy, Sections, StaleChains};
use svc_rules::packet::Family;
use svc_rules::policy::{self, Refusal};
use svc_rules::{ProxyConfig, ProxyMode, Scheme, ipvs, nftables};

use crate::common::{OutputArgs, scheme};

const TEXT_ONLY: &str = "rules are text for the tools: only those of Services in mode nftables have another form, \
                         `-o json` for nft -j -f -";

/// Options of `svc rules`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Manifests: a file, a folder, or - for standard input. May be repeated.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required_unless_present = "diff")]
    filename: Vec<PathBuf>,
    /// Namespace of objects that don't say.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Proxy mode: iptables, ipvs, nftables or nftables-flat; that of a KubeProxyConfiguration among the manifests, or
    /// iptables.
    #[arg(long, value_parser = scheme)]
    mode: Option<Scheme>,
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
    /// What changes for each Service when the node's proxy moves from one mode to another. Exit code 1 if anything
    /// does.
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], value_parser = scheme,
        conflicts_with_all = ["mode", "size", "since", "sections", "policies", "diff"])]
    migrate: Option<Vec<Scheme>>,
    #[command(flatten)]
    output: OutputArgs,
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

/// How the rules of a node are written, and its proxy's configuration; `mode` overrides that of the manifests. Ranges of
/// cluster addresses are those of the ServiceCIDR objects, all of them, as kube-proxy takes them.
pub(crate) fn configuration(
    world: &World,
    node: Option<&str>,
    family: IpFamily,
    mode: Option<Scheme>,
) -> Result<(Scheme, ProxyConfig)> {
    let node = world.node(node)?;
    let scheme = match mode {
        Some(scheme) => scheme,
        None => Scheme::of(world.proxy_mode()?),
    };
    let mut config = world.proxy_config(&node, family, scheme.mode())?;
    let objects = world.cluster.service_cidrs().iter();
    config.service_cidrs = objects
        .flat_map(|object| &object.spec.cidrs)
        .filter_map(Sent::get)
        .filter(|range| IpFamily::of(range.addr()) == family)
        .collect();
    Ok((scheme, config))
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    if let Some([old, new]) = args.diff.as_deref() {
        if args.output.output != Format::Table {
            bail!(TEXT_ONLY);
        }
        return diff::run(args, old, new, out);
    }
    if let Some([from, to]) = args.migrate.as_deref() {
        return migrate::run(args, *from, *to, out);
    }
    let world = World::new(Input::read(&args.filename, &args.namespace)?)?;
    let (scheme, config) = configuration(&world, args.node.as_deref(), args.family.model(), args.mode)?;
    for note in &world.notes {
        anstream::eprintln!("{}", styled(DIM, format_args!("assumed: {note}")));
    }
    let nft = matches!(scheme, Scheme::Nftables | Scheme::NftablesFlat);
    match args.output.output {
        Format::Table => {}
        Format::Json if nft && !args.policies => {}
        _ => bail!(TEXT_ONLY),
    }
    if args.policies {
        return policies(args, &world, scheme.mode(), &config.node_name, out);
    }
    match scheme {
        Scheme::Nftables => return nftables(args, &world, config, nftables::Layout::Reference, out),
        Scheme::NftablesFlat => return nftables(args, &world, config, nftables::Layout::Flat, out),
        Scheme::Ipvs => return ipvs(args, &world, config, out),
        _ => {}
    }
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

/// The transaction for `nft -f -`.
fn nftables(
    args: &Args,
    world: &World,
    config: ProxyConfig,
    layout: nftables::Layout,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    if args.partial || args.sections.is_some() {
        bail!(
            "--partial and --sections are for mode iptables: in nftables mode every change is as small as --delta"
        );
    }
    let mut proxy = nftables::Proxy::with_layout(config, layout);
    let mut text = String::new();
    if let Some(since) = &args.since {
        let old = World::new(Input::read(&[since], &args.namespace)?)?;
        proxy.replace_all(old.cluster.services().iter().map(|service| &**service));
        let _ = proxy.sync(&old.endpoints, nftables::Scope::Full, &mut text);
        proxy.succeeded();
        text.clear();
        let mut slices = old.endpoints;
        proxy.touch(&slices.replace_all(world.cluster.endpoint_slices().iter().map(|slice| &**slice)));
    }
    proxy.replace_all(world.cluster.services().iter().map(|service| &**service));
    let scope = if args.delta { nftables::Scope::Changes } else { nftables::Scope::Full };
    let _ = proxy.sync(&world.endpoints, scope, &mut text);
    match args.output.output {
        Format::Json => writeln!(out, "{}", svc_rules::nft::to_json(&text)?)?,
        _ => out.write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Input for the tools of IPVS mode, in the order in which it is to be loaded.
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
    for (command, text) in input.texts().into_iter().filter(|(_, text)| !text.is_empty()) {
        writeln!(out, "# {command}")?;
        out.write_all(text)?;
        writeln!(out)?;
    }
    Ok(ExitCode::SUCCESS)
}
