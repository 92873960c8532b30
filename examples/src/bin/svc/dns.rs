//! `svc dns`: which names there are, what a Pod's resolver makes of one, and why one leads nowhere.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use svc_dns::{
    Behavior, COMMON_TLDS, Name, NoUpstream, Options, PodDns, Question, Record, Resolver, Search, SearchEnd,
    Type, Verdict, Zones, zones_from_text,
};
use svc_examples::output::{BAD, DIM, Format, GOOD, Table, WARN, styled, write_data};
use svc_examples::world::World;

use crate::common::{InputArgs, OutputArgs, write_notes};

/// Options of `svc dns`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every record of the Services, their endpoints and addresses.
    Records(Records),
    /// What a Pod's resolver asks for a name, and what comes back.
    Resolve(Resolve),
    /// Why a question is answered as it is.
    Explain(Explain),
    /// A whole zone as a transfer gives it, as a zone file.
    Zone(Zone),
    /// Names that mean something else than they seem to.
    Collisions(Collisions),
}

/// How the zones are served.
#[derive(clap::Args)]
struct Serving {
    /// Corefile whose `kubernetes` and `k8s_external` blocks give the options.
    #[arg(long, value_name = "FILE", conflicts_with = "zone")]
    corefile: Option<PathBuf>,
    /// Zones, or networks for their reverse zones.
    #[arg(long, default_values = ["cluster.local", "0.0.0.0/0", "::/0"])]
    zone: Vec<String>,
    /// Answer as the standards ask where CoreDNS does not.
    #[arg(long)]
    standards: bool,
}

impl Serving {
    fn zones(&self, world: &World) -> Result<Zones> {
        let mut options = match &self.corefile {
            Some(path) => {
                let place = || path.display().to_string();
                Options::from_corefile(&std::fs::read_to_string(path).with_context(place)?)
                    .with_context(place)?
            }
            None => {
                let mut options = Options::default();
                options.zones.clear();
                for zone in &self.zone {
                    options.zones.extend(zones_from_text(zone).with_context(|| format!("--zone {zone}"))?);
                }
                options
            }
        };
        if self.standards {
            options.behavior = Behavior::Standards;
        }
        options.local_addresses = vec![world.dns_address().0];
        Ok(world.zones_with(options)?)
    }
}

#[derive(clap::Args)]
struct Records {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    serving: Serving,
    /// Only names that hold this text.
    name: Option<String>,
}

#[derive(clap::Args)]
struct Resolve {
    /// The name, as a program would give it.
    name: String,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    serving: Serving,
    /// Pod or workload that asks, `NAME` or `NAMESPACE/NAME`; without it a default Pod of the namespace given with -n.
    #[arg(long)]
    pod: Option<String>,
    /// Its resolver.
    #[arg(long, value_enum, default_value_t)]
    resolver: Library,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Library {
    /// The usual C library.
    #[default]
    Glibc,
    /// The C library of Alpine.
    Musl,
    /// Go's own.
    Go,
}

impl From<Library> for Resolver {
    fn from(library: Library) -> Self {
        match library {
            Library::Glibc => Self::Glibc,
            Library::Musl => Self::Musl,
            Library::Go => Self::Go,
        }
    }
}

#[derive(clap::Args)]
struct Explain {
    /// The whole name, or one below the first zone such as `web.shop` or `web.shop.svc`.
    name: String,
    /// The type of record.
    #[arg(default_value = "A")]
    qtype: String,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    serving: Serving,
}

#[derive(clap::Args)]
struct Zone {
    /// The zone; the first one if none is given.
    name: Option<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    serving: Serving,
}

#[derive(clap::Args)]
struct Collisions {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    serving: Serving,
    /// Top-level domains that Pods really use; without it the common ones.
    #[arg(long)]
    domain: Vec<String>,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    match &args.command {
        Command::Records(args) => records(args, out),
        Command::Resolve(args) => resolve(args, out),
        Command::Explain(args) => explain(args, out),
        Command::Zone(args) => zone(args, out),
        Command::Collisions(args) => collisions(args, out),
    }
}

#[derive(Serialize)]
struct Row {
    zone: String,
    name: String,
    ttl: u32,
    #[serde(rename = "type")]
    record_type: String,
    data: String,
}

fn row(zone: &Name, record: &Record) -> Row {
    Row {
        zone: zone.to_string(),
        name: record.owner.to_string(),
        ttl: record.ttl,
        record_type: record.data.record_type().to_string(),
        data: record.data.to_string(),
    }
}

fn records(args: &Records, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let zones = args.serving.zones(&world)?;
    let wanted = |row: &Row| args.name.as_ref().is_none_or(|text| row.name.contains(text.as_str()));
    let rows: Vec<Row> = zones.records().map(|(zone, record)| row(&zone, &record)).filter(wanted).collect();
    match args.output.output {
        Format::Table => {
            let mut table = Table::new(["NAME", "TTL", "TYPE", "DATA"]);
            for row in &rows {
                table.row([row.name.clone(), row.ttl.to_string(), row.record_type.clone(), row.data.clone()]);
            }
            if table.is_empty() {
                writeln!(out, "no records")?
            } else {
                table.write(out)?
            }
            write_notes(out, &world.notes)?;
        }
        format => write_data(out, format, &rows)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resolved {
    resolv_conf: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<String>,
    candidates: Vec<CandidateRow>,
    found: Option<String>,
    addresses: Vec<String>,
    queries: usize,
    wasted: usize,
    advice: Option<String>,
}

#[derive(Serialize)]
struct CandidateRow {
    name: String,
    a: String,
    aaaa: String,
}

fn resolve(args: &Resolve, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let zones = args.serving.zones(&world)?;
    let PodDns { conf, events, .. } = match &args.pod {
        Some(pod) => world.kubelet().pod_dns(&*world.pod(pod, &args.input.namespace)?),
        None => {
            let metadata = svc_model::ObjectMeta::new(args.input.namespace.as_str(), "any");
            world.kubelet().pod_dns(&svc_model::Pod { metadata, ..svc_model::Pod::default() })
        }
    };
    let search = zones.search(&args.name, &conf, args.resolver.into(), &NoUpstream);
    let found = match search.end {
        SearchEnd::Found(step) => search.steps.get(step),
        _ => None,
    };
    let elsewhere = found.is_some_and(|step| step.a == Verdict::Elsewhere);
    let addresses = found.map(|step| addresses(&zones, &step.candidate.name)).unwrap_or_default();
    let resolved = Resolved {
        resolv_conf: conf.to_string(),
        events: events.iter().map(ToString::to_string).collect(),
        candidates: search
            .steps
            .iter()
            .map(|step| CandidateRow {
                name: step.candidate.name.to_string(),
                a: step.a.to_string(),
                aaaa: step.aaaa.to_string(),
            })
            .collect(),
        found: found.map(|step| step.candidate.name.to_string()),
        addresses,
        queries: search.queries(),
        wasted: search.wasted(),
        advice: advice(&search),
    };
    if args.output.output != Format::Table {
        write_data(out, args.output.output, &resolved)?;
    } else {
        write_resolved(&resolved, elsewhere, out)?;
        write_notes(out, &world.notes)?;
    }
    Ok(if resolved.found.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The addresses of a name, of both families.
fn addresses(zones: &Zones, name: &Name) -> Vec<String> {
    let answers = [Type::A, Type::AAAA].map(|qtype| zones.answer(&Question::new(name, qtype), &NoUpstream));
    let records = answers.into_iter().flatten().flat_map(|answer| answer.answer);
    records
        .filter(|record| record.data.record_type() != Type::CNAME)
        .map(|record| record.data.to_string())
        .collect()
}

/// How the queries that lead nowhere are saved.
fn advice(search: &Search) -> Option<String> {
    let SearchEnd::Found(step) = search.end else { return None };
    let name = &search.steps.get(step)?.candidate.name;
    (search.wasted() > 0).then(|| format!("ask for `{name}`, dot and all, and it takes 2 queries"))
}

fn write_resolved(resolved: &Resolved, elsewhere: bool, out: &mut dyn Write) -> Result<()> {
    write!(out, "{}", styled(DIM, &resolved.resolv_conf))?;
    for event in &resolved.events {
        writeln!(out, "{}", styled(WARN, event))?;
    }
    let mut table = Table::new(["CANDIDATE", "A", "AAAA"]);
    for row in &resolved.candidates {
        let verdict = |text: &String| match text.as_str() {
            "found" => styled(GOOD, text),
            "NXDOMAIN" | "NODATA" => styled(DIM, text),
            _ => text.clone(),
        };
        table.row([row.name.clone(), verdict(&row.a), verdict(&row.aaaa)]);
    }
    table.write(out)?;
    let Resolved { queries, wasted, .. } = resolved;
    match &resolved.found {
        Some(name) if elsewhere => {
            writeln!(out, "{name} is not a name of the cluster: it is asked for elsewhere")?
        }
        Some(name) => writeln!(out, "{} {name}: {}", styled(GOOD, "✓"), resolved.addresses.join(", "))?,
        None => writeln!(out, "{} no candidate has an address", styled(BAD, "✗"))?,
    }
    writeln!(out, "{queries} queries, {wasted} of them for names without an address")?;
    if let Some(advice) = &resolved.advice {
        writeln!(out, "  {advice}")?;
    }
    Ok(())
}

fn explain(args: &Explain, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let zones = args.serving.zones(&world)?;
    let Ok(qtype) = args.qtype.parse::<Type>() else { bail!("`{}` is no type of record", args.qtype) };
    let name = whole(&args.name, &zones)?;
    let explanation = zones.explain(&Question::new(&name, qtype), &NoUpstream);
    write!(out, "{explanation}")?;
    write_notes(out, &world.notes)?;
    let found = explanation.answer.is_some_and(|answer| !answer.answer.is_empty());
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Completes `web.shop` and `web.shop.svc` to names in the first zone.
fn whole(text: &str, zones: &Zones) -> Result<Name> {
    let name: Name = text.parse().with_context(|| text.to_owned())?;
    let all = &zones.options().zones;
    let external = zones.options().external.iter().flat_map(|external| &external.zones);
    if text.ends_with('.') || all.iter().chain(external).any(|zone| name.is_within(zone)) {
        return Ok(name);
    }
    let Some(zone) = all.first() else { return Ok(name) };
    let branch = name.labels().last().is_some_and(|label| label == b"svc" || label == b"pod");
    let below = if branch { format!("{text}.{zone}") } else { format!("{text}.svc.{zone}") };
    below.parse().with_context(|| below.clone())
}

fn zone(args: &Zone, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let zones = args.serving.zones(&world)?;
    let name = match &args.name {
        Some(name) => name.parse().with_context(|| name.clone())?,
        None => zones.options().zones.first().cloned().unwrap_or_else(Name::root),
    };
    let Ok(records) = zones.transfer(&name, None) else { bail!("{name} is none of the zones") };
    for record in records {
        writeln!(out, "{record}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn collisions(args: &Collisions, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let zones = args.serving.zones(&world)?;
    let own: Vec<&str> = args.domain.iter().map(String::as_str).collect();
    let found = zones.collisions(if own.is_empty() { COMMON_TLDS } else { &own });
    for collision in &found {
        writeln!(out, "{} {collision}", styled(WARN, "!"))?;
    }
    if found.is_empty() {
        writeln!(out, "no collisions")?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
