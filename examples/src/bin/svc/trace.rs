//! `svc trace`: what happens to a connection.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use svc_examples::output::{BAD, BOLD, DIM, Format, GOOD, Table, WARN, styled, write_data};
use svc_examples::trace::{
    NameStep, PolicyStep, Request, RulesStep, Source, Stage, Target, TargetKind, Trace,
};
use svc_model::{Protocol, Sent};
use svc_rules::Scheme;

use crate::common::{InputArgs, OutputArgs, scheme, write_notes};

/// Options of `svc trace`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Who connects: NAMESPACE/POD, a Pod or workload of the namespace given with -n, or an address outside.
    #[arg(long, value_name = "NAMESPACE/POD|IP")]
    from: String,
    /// What is connected to: a name as a Pod would write it, or an address; with a port where it isn't clear.
    #[arg(long, value_name = "NAME|IP[:PORT]")]
    to: String,
    /// Transport protocol.
    #[arg(long, default_value = "TCP", value_parser = protocol)]
    protocol: Protocol,
    /// Proxy mode whose rules are walked: iptables, ipvs, nftables or nftables-flat; by default that of the
    /// configuration.
    #[arg(long, value_parser = scheme)]
    mode: Option<Scheme>,
    /// Node that traffic from outside enters at.
    #[arg(long)]
    node: Option<String>,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    Sent::new(&text.to_ascii_uppercase()).get().ok_or_else(|| "TCP, UDP or SCTP".to_owned())
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let trace = Trace::run(
        &world,
        &Request {
            from: &args.from,
            to: &args.to,
            namespace: &args.input.namespace,
            protocol: args.protocol,
            mode: args.mode,
            node: args.node.as_deref(),
        },
    )?;
    match args.output.output {
        Format::Table => {
            write_trace(out, &trace, args.protocol)?;
            write_notes(out, &world.notes)?;
        }
        format => write_data(out, format, &trace)?,
    }
    Ok(ExitCode::from(u8::from(!trace.outcome.delivered)))
}

/// A heading in the margin, then lines.
fn section(out: &mut dyn Write, heading: &str, lines: &[String]) -> Result<()> {
    for (i, line) in lines.iter().enumerate() {
        let heading = if i == 0 { heading } else { "" };
        writeln!(out, "{}{line}", styled(BOLD, format_args!("{heading:<11}")))?;
    }
    writeln!(out)?;
    Ok(())
}

fn write_trace(out: &mut dyn Write, trace: &Trace, protocol: Protocol) -> Result<()> {
    section(out, "From", &[source_line(&trace.from)])?;
    section(out, "To", &[format!("{} {}", trace.to, styled(DIM, protocol))])?;
    if let Some(name) = &trace.name {
        section(out, "Name", &name_lines(name))?;
    }
    if let Some(target) = &trace.target {
        section(out, "Target", &[target_line(target)])?;
    }
    if !trace.candidates.is_empty() {
        section(out, "Endpoints", &candidate_lines(trace)?)?;
        section(out, "Policy", &policy_lines(trace))?;
    }
    if let Some(rules) = &trace.rules {
        section(out, "Rules", &rule_lines(rules))?;
    }
    let outcome = &trace.outcome;
    let mut lines = vec![if outcome.delivered {
        styled(GOOD, format_args!("✓ {}", outcome.summary))
    } else {
        styled(BAD, format_args!("✗ {}", outcome.summary))
    }];
    if let Some(stage) = outcome.failed_at {
        lines.push(format!("fails at: {}", stage_name(stage)));
    }
    lines.extend(outcome.advice.iter().map(|advice| format!("to do: {advice}")));
    section(out, "Outcome", &lines)
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Name => "name",
        Stage::Service => "target (no such port)",
        Stage::Endpoints => "endpoints",
        Stage::Policy => "policy",
        Stage::Rules => "rules",
    }
}

fn source_line(source: &Source) -> String {
    let mut line = match &source.pod {
        Some(pod) => format!("Pod {pod}"),
        None => "outside".to_owned(),
    };
    let place = [source.node.as_ref(), source.zone.as_ref()].into_iter().flatten();
    let addresses = source.addresses.iter().map(ToString::to_string);
    let facts: Vec<_> = addresses.chain(place.cloned()).collect();
    line += &format!(" {}", styled(DIM, facts.join(", ")));
    line
}

fn name_lines(step: &NameStep) -> Vec<String> {
    let mut lines: Vec<_> =
        step.resolv_conf.lines().map(|line| styled(DIM, format_args!("resolv.conf: {line}"))).collect();
    if let Some(policy) = &step.policy {
        let whom = if step.dns_assumed {
            "cluster DNS (assumed: k8s-app=kube-dns in kube-system)"
        } else {
            "cluster DNS"
        };
        lines.push(format!("queries to {whom}: {}", verdict(policy)));
        if !policy.allows() {
            lines.extend(sides(policy));
        }
    }
    for query in &step.queries {
        let found = query.a == "found" || query.aaaa == "found";
        let style = if found { GOOD } else { DIM };
        lines.push(format!(
            "ask {}  {}",
            query.name,
            styled(style, format_args!("A {}, AAAA {}", query.a, query.aaaa))
        ));
    }
    lines.extend(step.records.iter().map(|record| format!("→ {record}")));
    if let Some(problem) = &step.problem {
        lines.push(styled(BAD, problem));
    }
    lines
}

fn target_line(target: &Target) -> String {
    let kind = match target.kind {
        TargetKind::ClusterIp => "cluster address of Service",
        TargetKind::ExternalIp => "external address of Service",
        TargetKind::LoadBalancerIp => "load balancer address of Service",
        TargetKind::NodePort => "node port of Service",
        TargetKind::HeadlessService => "endpoint of headless Service",
        TargetKind::Node => "node",
        TargetKind::Pod => "Pod",
        TargetKind::Outside => "outside of the cluster",
    };
    let mut line = format!("{}: {kind}", target.address);
    if let Some(object) = &target.object {
        line += &format!(" {object}");
    }
    if let Some(port) = &target.port {
        line += &format!(", port {port}");
    }
    if let Some(seconds) = target.affinity_seconds {
        line += &format!(", a client stays at its endpoint for {seconds} s");
    }
    if let Some(topology) = &target.topology {
        line += &format!(", {topology}");
    }
    line
}

fn candidate_lines(trace: &Trace) -> Result<Vec<String>> {
    let mut table = Table::new(["SHARE", "ADDRESS", "POD", "NODE", "ZONE", "POLICY"]);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| styled(DIM, "-"));
    for candidate in &trace.candidates {
        let mut address = candidate.address.to_string();
        if let Some(ip) = candidate.masqueraded_as {
            address += &styled(DIM, format_args!(" from {ip}"));
        }
        table.row([
            format!("{:.1}%", candidate.share * 100.0),
            address,
            candidate.pod.as_ref().map_or_else(|| styled(DIM, "outside"), ToString::to_string),
            text(&candidate.node),
            text(&candidate.zone),
            verdict(&candidate.policy),
        ]);
    }
    let mut lines = Vec::new();
    table.write(&mut lines)?;
    let mut lines: Vec<_> = String::from_utf8(lines)?.lines().map(str::to_owned).collect();
    if trace.candidates.iter().any(|candidate| candidate.declares_port == Some(false)) {
        lines.push(styled(
            WARN,
            "no container declares this port; something listens there only if the image says so",
        ));
    }
    Ok(lines)
}

/// The two sides of the first candidate that is stopped, else of the first.
fn policy_lines(trace: &Trace) -> Vec<String> {
    let stopped = trace.candidates.iter().find(|candidate| !candidate.policy.allows());
    let Some(shown) = stopped.or(trace.candidates.first()) else { return Vec::new() };
    let mut lines = sides(&shown.policy);
    let other = trace.candidates.iter().filter(|c| c.policy.verdict != shown.policy.verdict).count();
    if other > 0 {
        lines.push(styled(DIM, format_args!("(for {}; {other} others differ)", shown.address)));
    }
    lines
}

fn sides(policy: &PolicyStep) -> Vec<String> {
    let paint = |side: &str| {
        let (word, reason) = side.split_once(": ").unwrap_or((side, ""));
        format!("{}  {reason}", colour(word))
    };
    vec![format!("egress   {}", paint(&policy.egress)), format!("ingress  {}", paint(&policy.ingress))]
}

fn verdict(policy: &PolicyStep) -> String {
    colour(&policy.verdict)
}

fn colour(word: &str) -> String {
    match word {
        "allow" => styled(GOOD, word),
        "deny" => styled(BAD, word),
        word => styled(WARN, word),
    }
}

fn rule_lines(rules: &RulesStep) -> Vec<String> {
    let mut lines = vec![format!("{} on {}", rules.mode, rules.node)];
    lines.extend(rules.hits.iter().map(|hit| {
        let place = match hit.number {
            Some(number) => format!("{} {} {number}", hit.table, hit.chain),
            None if hit.table == "ipvs" => format!("{} {}", hit.table, hit.chain),
            None => format!("{} {} policy", hit.table, hit.chain),
        };
        let comment =
            hit.comment.as_ref().map(|text| styled(DIM, format_args!("  {text}"))).unwrap_or_default();
        format!("{place:<38} {}{comment}", hit.effect)
    }));
    if rules.hits.is_empty() {
        lines.push(styled(DIM, "no rule is about this packet"));
    }
    lines
}
