//! `svc endpoints`: the slices of Services, what a node uses of them, and why.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use svc_endpoints::slices::{Config, Nodes};
use svc_endpoints::view::{NoEndpoints, Policy, PortKey, Selection};
use svc_endpoints::why::{Cause, Membership, PodReport, Situation, diagnose, why_no_hints};
use svc_endpoints::{PortPolicy, Viewpoint};
use svc_examples::output::{BAD, BOLD, DIM, Format, GOOD, Table, WARN, styled, write_data};
use svc_examples::world::World;
use svc_model::{EndpointSlice, Endpoints, IpFamily, Kind, ObjectRef, Pod, Sent, Service};

use crate::common::{InputArgs, OutputArgs, write_notes};

/// Options of `svc endpoints`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Services, as NAME or NAMESPACE/NAME; all if none is given.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// What this node uses of them.
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Every Pod that a selector matches, in or out, and the reason; why there are no hints.
    #[arg(long)]
    explain: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    service: ObjectRef,
    slices: Vec<SliceRow>,
    ports: Vec<PortRow>,
    /// Why it has no ready endpoints, and what else is odd.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<CauseRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pods: Vec<PodRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SliceRow {
    name: String,
    address_type: String,
    ports: Vec<String>,
    endpoints: usize,
    ready: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PortRow {
    port: String,
    protocol: String,
    family: String,
    /// What traffic to the cluster IP gets, from the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    internal: Option<String>,
    /// What traffic to external addresses gets, from the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<String>,
    endpoints: Vec<EndpointRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointRow {
    address: String,
    target: Option<String>,
    node: Option<String>,
    zone: Option<String>,
    state: String,
    /// Whether the node uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<bool>,
    /// Under which policy, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct CauseRow {
    cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

#[derive(Serialize)]
struct PodRow {
    pod: String,
    usable: bool,
    verdict: String,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let viewpoint = match &args.from {
        Some(node) => Some(world.viewpoint(&world.node(Some(node))?.metadata.name)),
        None => None,
    };
    let services: Vec<_> =
        world.cluster.services().iter().filter(|service| is_wanted(args, service)).collect();
    if services.is_empty() && !args.services.is_empty() {
        bail!("no Service `{}`", args.services.join("`, `"));
    }
    let reports: Vec<Report> =
        services.iter().map(|service| report(&world, service, viewpoint.as_ref(), args.explain)).collect();
    match args.output.output {
        Format::Table => {
            for (index, report) in reports.iter().enumerate() {
                if index > 0 {
                    writeln!(out)?;
                }
                write_report(out, report, viewpoint.as_ref())?;
            }
            write_notes(out, &world.notes)?;
        }
        format => write_data(out, format, &reports)?,
    }
    let lacks = |report: &Report| report.ports.iter().all(|port| port.endpoints.is_empty());
    Ok(if !args.services.is_empty() && reports.iter().any(lacks) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn is_wanted(args: &Args, service: &Service) -> bool {
    let metadata = &service.metadata;
    let is_it = |text: &String| {
        let (namespace, name) = text.split_once('/').unwrap_or((&args.input.namespace, text));
        metadata.namespace == namespace && metadata.name == name
    };
    args.services.is_empty() || args.services.iter().any(is_it)
}

fn report(world: &World, service: &Service, viewpoint: Option<&Viewpoint>, explain: bool) -> Report {
    let key = service.object_ref();
    let slices = world.cluster.slices_of(&key);
    let slices: Vec<&EndpointSlice> = slices.iter().map(|slice| &***slice).collect();
    let nodes: Nodes = world.cluster.nodes().iter().map(|node| &**node).collect();
    let pods: Vec<&Pod> = world.cluster.pods().iter().map(|pod| &**pod).collect();
    let endpoints: Vec<&Endpoints> = world.cluster.endpoints().iter().map(|object| &**object).collect();
    let config = Config::default();
    let situation = Situation { service, pods: &pods, nodes: &nodes, slices: &slices, endpoints: &endpoints };
    let diagnosis = diagnose(&situation, &config);
    let families: Vec<IpFamily> = service.spec.ip_families.iter().filter_map(Sent::get).collect();
    let hints = families.iter().filter(|_| explain).filter_map(|family| {
        let report = why_no_hints(service, *family, slices.iter().copied(), &nodes, &config);
        Some(format!("no hints ({family}): {}", report.reason?))
    });
    Report {
        slices: slices.iter().map(|slice| slice_row(slice)).collect(),
        ports: world
            .endpoints
            .ports_of(&key)
            .map(|(port, endpoints)| {
                let from = viewpoint.map(|viewpoint| endpoints.select(policy_of(service, port), viewpoint));
                port_row(port, endpoints.iter(), from)
            })
            .collect(),
        causes: diagnosis
            .causes
            .iter()
            .map(|cause| CauseRow { cause: cause.to_string(), advice: Cause::advice(cause) })
            .collect(),
        pods: diagnosis.pods.iter().filter(|_| explain).map(pod_row).collect(),
        hints: hints.collect(),
        service: key,
    }
}

/// The traffic policies of the Service port that endpoints belong to.
fn policy_of(service: &Service, key: &PortKey) -> PortPolicy {
    let port =
        service.spec.ports.iter().find(|port| port.name == key.port && port.protocol() == Some(key.protocol));
    port.map(|port| PortPolicy::of(service, port, key.family)).unwrap_or_default()
}

fn slice_row(slice: &EndpointSlice) -> SliceRow {
    let ports = slice.ports.iter().map(|port| {
        let name = port.name.as_deref().filter(|name| !name.is_empty()).map(|name| format!("{name}:"));
        let number = port.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
        format!("{}{number}", name.unwrap_or_default())
    });
    SliceRow {
        name: slice.metadata.name.to_string(),
        address_type: slice.address_type.to_string(),
        ports: ports.collect(),
        endpoints: slice.endpoints.len(),
        ready: slice.endpoints.iter().filter(|endpoint| endpoint.conditions.is_ready()).count(),
    }
}

fn port_row<'a>(
    key: &PortKey,
    endpoints: impl Iterator<Item = &'a svc_endpoints::Endpoint>,
    from: Option<Selection<'_>>,
) -> PortRow {
    let outcome = |result: Result<Policy, NoEndpoints>| match result {
        Ok(policy) => format!("policy {policy}"),
        Err(reason) => reason.to_string(),
    };
    PortRow {
        port: if key.port.is_empty() { "(unnamed)".to_owned() } else { key.port.to_string() },
        protocol: key.protocol.to_string(),
        family: key.family.to_string(),
        internal: from.map(|selection| outcome(selection.internal())),
        external: from.and_then(|selection| selection.external()).map(outcome),
        endpoints: endpoints
            .map(|endpoint| {
                let placed = from.map(|selection| placement(selection, endpoint));
                let info = endpoint.info();
                EndpointRow {
                    address: endpoint.to_string(),
                    target: info.target.as_ref().map(|target| target.name.to_string()),
                    node: info.node.as_ref().map(ToString::to_string),
                    zone: info.zone.as_ref().map(ToString::to_string),
                    state: info.state.to_string(),
                    used: placed.as_ref().map(|(used, _)| *used),
                    reason: placed.map(|(_, reason)| reason),
                }
            })
            .collect(),
    }
}

/// Whether an endpoint is used, and under which policies or why not.
fn placement(selection: Selection<'_>, endpoint: &svc_endpoints::Endpoint) -> (bool, String) {
    let cluster = selection.cluster_placement(endpoint);
    let local = selection.local_placement(endpoint);
    let names = [("Cluster", cluster), ("Local", local)];
    let used: Vec<&str> =
        names.iter().filter(|(_, placement)| placement.is_used()).map(|(name, _)| *name).collect();
    if used.is_empty() {
        let reason = if cluster == svc_endpoints::view::Placement::PolicyUnused { local } else { cluster };
        return (false, reason.to_string());
    }
    let reason = if cluster.is_used() { cluster } else { local };
    (true, format!("{}: {reason}", used.join(", ")))
}

fn pod_row(report: &PodReport) -> PodRow {
    let memberships: Vec<String> = report
        .families
        .iter()
        .map(|(family, membership)| match membership {
            Membership::Out(_) if report.families.len() > 1 => format!("{family} {membership}"),
            _ => membership.to_string(),
        })
        .collect();
    let mut verdict = memberships.join("; ");
    if !report.unresolved_ports.is_empty() {
        verdict.push_str(&format!("; no container port for {}", report.unresolved_ports.join(", ")));
    }
    PodRow { pod: report.pod.name.to_string(), usable: report.is_usable(), verdict }
}

fn write_report(out: &mut dyn Write, report: &Report, viewpoint: Option<&Viewpoint>) -> Result<()> {
    writeln!(out, "{}", styled(BOLD, &report.service))?;
    for cause in &report.causes {
        writeln!(out, "{} {}", styled(BAD, "✗"), cause.cause)?;
        if let Some(advice) = cause.advice {
            writeln!(out, "  {advice}")?;
        }
    }
    if !report.slices.is_empty() {
        let mut table = Table::new(["SLICE", "TYPE", "PORTS", "ENDPOINTS", "READY"]);
        for slice in &report.slices {
            let ports = slice.ports.join(",");
            table.row([
                slice.name.clone(),
                slice.address_type.clone(),
                if ports.is_empty() { styled(DIM, "-") } else { ports },
                slice.endpoints.to_string(),
                slice.ready.to_string(),
            ]);
        }
        table.write(out)?;
    }
    for port in &report.ports {
        write_port(out, port, viewpoint)?;
    }
    if !report.pods.is_empty() {
        let mut table = Table::new(["POD", "VERDICT"]);
        for pod in &report.pods {
            table.row([pod.pod.clone(), styled(if pod.usable { GOOD } else { WARN }, &pod.verdict)]);
        }
        table.write(out)?;
    }
    for hint in &report.hints {
        writeln!(out, "{}", styled(DIM, hint))?;
    }
    Ok(())
}

fn write_port(out: &mut dyn Write, port: &PortRow, viewpoint: Option<&Viewpoint>) -> Result<()> {
    write!(out, "port {}/{} {}", port.port, port.protocol, port.family)?;
    if let (Some(viewpoint), Some(internal)) = (viewpoint, &port.internal) {
        write!(out, ", from {}: inside {internal}", viewpoint.node_name())?;
        if let Some(external) = &port.external {
            write!(out, ", outside {external}")?;
        }
    }
    writeln!(out)?;
    let mut table = Table::new(["ENDPOINT", "TARGET", "NODE", "ZONE", "STATE", "USED"]);
    for endpoint in &port.endpoints {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| styled(DIM, "-"));
        let used = match (endpoint.used, &endpoint.reason) {
            (Some(true), Some(reason)) => styled(GOOD, reason),
            (Some(false), Some(reason)) => styled(DIM, format_args!("no: {reason}")),
            _ => String::new(),
        };
        table.row([
            endpoint.address.clone(),
            text(&endpoint.target),
            text(&endpoint.node),
            text(&endpoint.zone),
            endpoint.state.clone(),
            used,
        ]);
    }
    table.write(out)?;
    Ok(())
}
