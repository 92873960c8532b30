//! `svc inspect`: which Services are there, what stands behind them, and why one has nothing.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use svc_examples::output::{BAD, DIM, Format, GOOD, Table, styled, write_data};
use svc_examples::world::World;
use svc_model::{IntOrString, Kind, ObjectRef, Service, ServicePort, ServiceType};

use crate::common::{InputArgs, OutputArgs, write_notes};

/// Options of `svc inspect`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only Services of the namespace given with -n.
    #[arg(long)]
    only_namespace: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    service: ObjectRef,
    #[serde(rename = "type")]
    kind: String,
    addresses: Vec<String>,
    ports: Vec<String>,
    ready: usize,
    not_ready: usize,
    /// Why nothing can be reached through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let wanted =
        |service: &Service| !args.only_namespace || service.metadata.namespace == args.input.namespace;
    let rows: Vec<_> =
        world.cluster.services().iter().filter(|s| wanted(s)).map(|s| row(&world, s)).collect();
    match args.output.output {
        Format::Table => {
            write_rows(out, &rows)?;
            write_notes(out, &world.notes)?;
        }
        format => write_data(out, format, &rows)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn row(world: &World, service: &Service) -> Row {
    let spec = &service.spec;
    let kind = if spec.is_headless() { "headless".to_owned() } else { spec.service_type().to_string() };
    let mut addresses: Vec<_> = spec.cluster_addresses().map(|ip| ip.to_string()).collect();
    addresses.extend(spec.external_ips.iter().map(ToString::to_string));
    addresses.extend(service.status.load_balancer.ingress.iter().map(|ingress| {
        if ingress.ip.is_empty() { ingress.hostname.to_string() } else { ingress.ip.to_string() }
    }));
    if spec.service_type() == ServiceType::ExternalName {
        addresses.push(spec.external_name.to_string());
    }
    let slices = world.cluster.slices_of(&service.object_ref());
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let (ready, not_ready): (Vec<_>, Vec<_>) = endpoints.partition(|endpoint| endpoint.conditions.is_ready());
    let cause = world.why_no_endpoints(service);
    Row {
        service: service.object_ref(),
        kind,
        addresses,
        ports: spec.ports.iter().map(port_text).collect(),
        ready: ready.len(),
        not_ready: not_ready.len(),
        problem: cause.as_ref().map(|cause| cause.to_string()),
        advice: cause.and_then(|cause| cause.advice()).map(ToOwned::to_owned),
    }
}

/// `80→8080/TCP`, with the node port as `80:30080→8080/TCP`.
fn port_text(port: &ServicePort) -> String {
    let node = if port.node_port.is_zero() { String::new() } else { format!(":{}", port.node_port) };
    let target = match port.target_port() {
        IntOrString::Int(number) if number == port.port.value() => String::new(),
        target => format!("→{target}"),
    };
    let protocol = port.protocol().map_or_else(|| port.protocol.to_text(), |p| p.as_str().into());
    format!("{}{node}{target}/{protocol}", port.port)
}

fn write_rows(out: &mut dyn Write, rows: &[Row]) -> Result<()> {
    let mut table = Table::new(["NAMESPACE", "NAME", "TYPE", "ADDRESS", "PORTS", "READY", "NOT READY"]);
    for row in rows {
        let none = |text: String| if text.is_empty() { styled(DIM, "-") } else { text };
        let ready = match row.ready {
            0 if row.problem.is_some() => styled(BAD, 0),
            0 => styled(DIM, "-"),
            n => styled(GOOD, n),
        };
        table.row([
            row.service.namespace.to_string(),
            row.service.name.to_string(),
            row.kind.clone(),
            none(row.addresses.join(",")),
            none(row.ports.join(",")),
            ready,
            if row.not_ready == 0 { styled(DIM, "-") } else { row.not_ready.to_string() },
        ]);
    }
    if table.is_empty() {
        writeln!(out, "no Services")?;
        return Ok(());
    }
    table.write(out)?;
    for row in rows {
        if let Some(problem) = &row.problem {
            writeln!(out, "\n{} {}: {problem}", styled(BAD, "✗"), row.service)?;
            if let Some(advice) = &row.advice {
                writeln!(out, "  {advice}")?;
            }
        }
    }
    Ok(())
}
