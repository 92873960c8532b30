//! `svc audit`: whether a node has the rules that it should have.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;
use svc_examples::output::{BAD, DIM, Format, GOOD, styled, write_data};
use svc_rules::audit::{self, Finding};
use svc_rules::xtables::Ruleset;

use crate::common::{InputArgs, OutputArgs, write_notes};
use crate::rules::{FamilyArg, configuration};

/// Options of `svc audit`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// What `iptables-save` (or `ip6tables-save`) printed on the node.
    #[arg(long, value_name = "FILE|-")]
    iptables_save: PathBuf,
    /// The node; the first by name if not given.
    #[arg(long)]
    node: Option<String>,
    /// Address family.
    #[arg(long, value_enum, default_value_t)]
    family: FamilyArg,
    /// Print only the input for `iptables-restore --noflush` that repairs the node.
    #[arg(long)]
    repair: bool,
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
    chain: String,
    text: String,
}

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        Self {
            service: finding.service.as_ref().map(ToString::to_string),
            table: finding.table,
            chain: finding.chain.to_string(),
            text: finding.to_string(),
        }
    }
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let (_, config) = configuration(&world, args.node.as_deref(), args.family.model(), Some("iptables"))?;
    let place = args.iptables_save.display().to_string();
    let text = if place == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        fs::read_to_string(&args.iptables_save).with_context(|| place.clone())?
    };
    let found = Ruleset::parse(&text, args.family.packet()).with_context(|| place)?;
    let services = world.cluster.services().iter().map(|service| &**service);
    let audit = audit::iptables(&config, services, &world.endpoints, &found);
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
            writeln!(out, "{}", styled(DIM, "--repair prints the input for iptables-restore --noflush"))?;
        }
        write_notes(out, &world.notes)?;
    } else {
        let findings = audit.findings.iter().map(Row::from).collect();
        write_data(out, args.output.output, &Report { findings, repair: audit.repair })?;
    }
    Ok(if audit.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
