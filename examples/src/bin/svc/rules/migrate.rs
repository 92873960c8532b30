//! `svc rules --migrate`: what changes for each Service between two modes of the node's proxy.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use svc_examples::input::Input;
use svc_examples::output::{BAD, BOLD, DIM, Format, GOOD, Table, styled, write_data};
use svc_examples::world::World;
use svc_rules::Scheme;
use svc_rules::migrate::{self, Difference, Known, Side};

use super::{Args, configuration};
use crate::common::write_notes;

/// Connections of one Service that change alike.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    clients: Vec<String>,
    targets: Vec<String>,
    from: String,
    to: String,
    /// Absent for a difference that is not known of the modes.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    node: String,
    from: &'static str,
    to: &'static str,
    changes: Vec<Row>,
    differences: Vec<Explained>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    name: &'static str,
    explanation: &'static str,
    advice: &'static str,
}

/// Compares the modes for every Service. Exit code 1 if anything changes.
pub(super) fn run(args: &Args, from: Scheme, to: Scheme, out: &mut dyn Write) -> Result<ExitCode> {
    let world = World::new(Input::read(&args.filename, &args.namespace)?)?;
    let config = |scheme| {
        configuration(&world, args.node.as_deref(), args.family.model(), Some(scheme))
            .map(|(_, config)| config)
    };
    let (old, new) = (config(from)?, config(to)?);
    let services = world.cluster.services().iter().map(|service| &**service);
    let sides = [Side::new(from, &old), Side::new(to, &new)];
    let found = migrate::report(sides[0], sides[1], services, &world.endpoints);
    let mut known: Vec<Known> = found.iter().filter_map(|difference| difference.known).collect();
    known.sort();
    known.dedup();
    let report = Report {
        node: old.node_name.to_string(),
        from: from.as_str(),
        to: to.as_str(),
        changes: rows(&found),
        differences: known.into_iter().map(explained).collect(),
    };
    let changes = !report.changes.is_empty();
    match args.output.output {
        Format::Table => {
            write_report(out, &report)?;
            write_notes(out, &world.notes)?;
        }
        format => write_data(out, format, &report)?,
    }
    Ok(ExitCode::from(u8::from(changes)))
}

fn explained(known: Known) -> Explained {
    Explained { name: known.as_str(), explanation: known.explanation(), advice: known.advice() }
}

/// One row for each Service, difference and pair of answers.
fn rows(found: &[Difference]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for difference in found {
        let service = difference.service.as_ref().map(ToString::to_string);
        let known = difference.known.map(Known::as_str);
        let (from, to) = (difference.from.to_string(), difference.to.to_string());
        let alike = rows.iter_mut().rev().take_while(|row| row.service == service);
        let mut alike =
            alike.filter(|row| row.difference == known && row.from == from && row.to == to).take(1);
        let client = difference.client.to_string();
        if let Some(row) = alike.next() {
            for (list, text) in [(&mut row.clients, client), (&mut row.targets, difference.target.clone())] {
                if !list.contains(&text) {
                    list.push(text);
                }
            }
        } else {
            rows.push(Row {
                service,
                clients: vec![client],
                targets: vec![difference.target.clone()],
                from,
                to,
                difference: known,
            });
        }
    }
    rows
}

fn write_report(out: &mut dyn Write, report: &Report) -> Result<()> {
    let Report { node, from, to, changes, differences } = report;
    if changes.is_empty() {
        let text = format!("on node {node} nothing changes from {from} to {to}");
        writeln!(out, "{}", styled(GOOD, text))?;
        return Ok(());
    }
    let (from, to) = (from.to_uppercase(), to.to_uppercase());
    let mut table = Table::new(["SERVICE", "WHO", "TO", from.as_str(), to.as_str(), "DIFFERENCE"]);
    for row in changes {
        table.row([
            row.service.clone().unwrap_or_else(|| styled(DIM, "any")),
            row.clients.join(", "),
            row.targets.join("; "),
            row.from.clone(),
            row.to.clone(),
            row.difference.map_or_else(|| styled(BAD, "unknown"), ToOwned::to_owned),
        ]);
    }
    table.write(out)?;
    for Explained { name, explanation, advice } in differences {
        writeln!(out, "\n{}: {explanation}", styled(BOLD, name))?;
        writeln!(out, "  to do: {advice}")?;
    }
    Ok(())
}
