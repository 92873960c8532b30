//! `svc policy`: who may talk to whom, why, and what a change would change.

mod reading;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use svc_examples::output::{BAD, BOLD, DIM, Format, GOOD, Table, WARN, styled, write_data};
use svc_examples::policy_page;
use svc_examples::world::World;
use svc_model::{IpFamily, Kind, ObjectRef, Protocol};
use svc_netpol::{Connection, Endpoint, Engine, Flow, Group, Matrix, Options, Reach, Traffic, Verdict};

use reading::Reading;

use crate::common::{InputArgs, OutputArgs, write_notes};

/// Options of `svc policy`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    reading: Reading,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whether one end may connect to another; exit code 1 if not.
    Check(FlowArgs),
    /// The same with the rules that decide, and for a denial those that came nearest to allowing it.
    Explain(FlowArgs),
    /// Who reaches one Pod, from outside too, and what it reaches; a Pod that isn't there yet is one more manifest.
    Reach(ReachArgs),
    /// Who reaches whom on which ports.
    Matrix(MatrixArgs),
    /// Connections that a change of the manifests gains and loses; exit code 1 if there are any.
    Diff(DiffArgs),
    /// What is probably not meant; exit code 1 if anything is found.
    Lint(LintArgs),
}

/// A connection.
#[derive(clap::Args)]
struct FlowArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Who connects: a Pod or workload as NAME or NAMESPACE/NAME, or an address.
    from: String,
    /// Who is connected to.
    to: String,
    /// Protocol and port: 80, tcp/80, udp/53, sctp/9; or `other` for any other protocol.
    #[arg(value_parser = parse_traffic)]
    traffic: Traffic,
}

/// One Pod.
#[derive(clap::Args)]
struct ReachArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// A Pod or workload as NAME or NAMESPACE/NAME.
    pod: String,
    /// Address family; IPv6 if all Pods have only that.
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,
}

/// The whole picture.
#[derive(clap::Args)]
struct MatrixArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: MatrixFormat,
    /// Address family; IPv6 if all Pods have only that.
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum MatrixFormat {
    /// An aligned table.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// YAML.
    Yaml,
    /// A picture.
    Svg,
    /// A page of its own that can be filtered.
    Html,
}

#[derive(Clone, Copy, ValueEnum)]
enum FamilyArg {
    Ipv4,
    Ipv6,
}

/// Two states.
#[derive(clap::Args)]
struct DiffArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Manifests of the state after: a file, a folder, or - for standard input. May be repeated.
    #[arg(short, long, value_name = "FILE|DIR|-", required = true)]
    to: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to look through.
#[derive(clap::Args)]
struct LintArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let options = args.reading.options();
    match &args.command {
        Command::Check(args) => check(args, options, out),
        Command::Explain(args) => explain(args, options, out),
        Command::Reach(args) => reach(args, options, out),
        Command::Matrix(args) => matrix(args, options, out),
        Command::Diff(args) => diff(args, options, out),
        Command::Lint(args) => lint(args, options, out),
    }
}

fn parse_traffic(text: &str) -> Result<Traffic, String> {
    if text.eq_ignore_ascii_case("other") {
        return Ok(Traffic::Other);
    }
    let (protocol, port) = text.split_once('/').unwrap_or(("tcp", text));
    let protocol =
        Protocol::ALL.iter().find(|known| known.as_str().eq_ignore_ascii_case(protocol)).ok_or_else(
            || format!("`{protocol}` is none of tcp, udp and sctp; `other` stands for all the rest"),
        )?;
    let port = port.parse().map_err(|_| format!("`{port}` is no port (0 to 65535)"))?;
    Ok(Traffic::new(*protocol, port))
}

/// An end of a connection as the user names it.
enum End {
    Pod(ObjectRef),
    Address(IpAddr),
}

impl End {
    fn parse(world: &World, text: &str, namespace: &str) -> Result<Self> {
        match text.parse() {
            Ok(ip) => Ok(Self::Address(ip)),
            Err(_) => Ok(Self::Pod(world.pod(text, namespace)?.object_ref())),
        }
    }

    fn endpoint(&self) -> Endpoint<'_> {
        match self {
            Self::Pod(pod) => Endpoint::from(pod),
            Self::Address(ip) => Endpoint::Address(*ip),
        }
    }
}

fn colored(verdict: Verdict) -> String {
    let style = match verdict {
        Verdict::Allow => GOOD,
        Verdict::Deny => BAD,
        Verdict::Unknown => WARN,
    };
    styled(style, verdict)
}

fn exit_code(verdict: Verdict) -> ExitCode {
    if verdict == Verdict::Allow { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    from: String,
    to: String,
    traffic: String,
    verdict: String,
    egress: String,
    ingress: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nearest: Vec<String>,
}

fn answer(args: &FlowArgs, options: Options, nearest: usize) -> Result<(World, Verdict, Answer)> {
    let world = args.input.world()?;
    let engine = world.policies_with(options);
    let from = End::parse(&world, &args.from, &args.input.namespace)?;
    let to = End::parse(&world, &args.to, &args.input.namespace)?;
    let flow = Flow::new(from.endpoint(), to.endpoint(), args.traffic);
    let decision = engine.decide(&flow);
    let answer = Answer {
        from: flow.from.to_string(),
        to: flow.to.to_string(),
        traffic: flow.traffic.to_string(),
        verdict: decision.verdict.to_string(),
        egress: decision.egress.to_string(),
        ingress: decision.ingress.to_string(),
        nearest: engine.nearest(&flow, nearest).iter().map(ToString::to_string).collect(),
    };
    Ok((world, decision.verdict, answer))
}

fn check(args: &FlowArgs, options: Options, out: &mut dyn Write) -> Result<ExitCode> {
    let (_, verdict, answer) = answer(args, options, 0)?;
    match args.output.output {
        Format::Table => {
            writeln!(out, "{} -> {} {}: {}", answer.from, answer.to, answer.traffic, colored(verdict))?;
        }
        format => write_data(out, format, &answer)?,
    }
    Ok(exit_code(verdict))
}

fn explain(args: &FlowArgs, options: Options, out: &mut dyn Write) -> Result<ExitCode> {
    let (world, verdict, answer) = answer(args, options, 3)?;
    match args.output.output {
        Format::Table => {
            writeln!(out, "{} -> {} {}: {}", answer.from, answer.to, answer.traffic, colored(verdict))?;
            writeln!(out, "  from the source:      {}", answer.egress)?;
            writeln!(out, "  at the destination:   {}", answer.ingress)?;
            if !answer.nearest.is_empty() {
                writeln!(out, "{}", styled(BOLD, "nearest rules that would allow it:"))?;
            }
            for near in &answer.nearest {
                writeln!(out, "  - {near}")?;
            }
            write_notes(out, &world.notes)?;
        }
        format => write_data(out, format, &answer)?,
    }
    Ok(exit_code(verdict))
}

fn family(world: &World, asked: Option<FamilyArg>) -> IpFamily {
    match asked {
        Some(FamilyArg::Ipv4) => IpFamily::Ipv4,
        Some(FamilyArg::Ipv6) => IpFamily::Ipv6,
        None => world.families().first().copied().unwrap_or(IpFamily::Ipv4),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReachAnswer {
    pod: String,
    reachable_from_outside: bool,
    reached_by: Vec<ReachRow>,
    reaches: Vec<ReachRow>,
}

#[derive(Serialize)]
struct ReachRow {
    who: String,
    what: String,
}

fn reach(args: &ReachArgs, options: Options, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let family = family(&world, args.family);
    let pod = world.pod(&args.pod, &args.input.namespace)?.object_ref();
    let exposure = world.policies_with(options).exposure(&pod, family);
    let exposure = exposure.with_context(|| format!("Pod {pod} has no {family} address"))?;
    let rows = |list: &[Reach]| -> Vec<ReachRow> {
        let row =
            |reach: &Reach| ReachRow { who: reach.group.to_string(), what: reach.connection.to_string() };
        list.iter().map(row).collect()
    };
    let answer = ReachAnswer {
        pod: pod.to_string(),
        reachable_from_outside: exposure.from_outside().next().is_some(),
        reached_by: rows(&exposure.ingress),
        reaches: rows(&exposure.egress),
    };
    match args.output.output {
        Format::Table => {
            let outside = if answer.reachable_from_outside {
                styled(WARN, "reachable from outside")
            } else {
                styled(GOOD, "not reachable from outside")
            };
            writeln!(out, "{}: {outside}", answer.pod)?;
            let mut table = Table::new(["", "WHO", "WHAT"]);
            for (direction, rows) in [("reached by", &answer.reached_by), ("reaches", &answer.reaches)] {
                for row in rows {
                    table.row([direction.to_owned(), row.who.clone(), row.what.clone()]);
                }
            }
            if !table.is_empty() {
                table.write(out)?;
            }
            write_notes(out, &world.notes)?;
        }
        format => write_data(out, format, &answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn matrix(args: &MatrixArgs, options: Options, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let engine = world.policies_with(options);
    let family = family(&world, args.family);
    let matrix = engine.matrix(family);
    match args.output {
        MatrixFormat::Table => {
            write_matrix(&matrix, out)?;
            write_notes(out, &world.notes)?;
        }
        MatrixFormat::Json => write_data(out, Format::Json, &policy_page::data(&engine, &matrix, family))?,
        MatrixFormat::Yaml => write_data(out, Format::Yaml, &policy_page::data(&engine, &matrix, family))?,
        MatrixFormat::Svg => policy_page::write_svg(out, &matrix)?,
        MatrixFormat::Html => policy_page::write_html(out, &engine, &matrix, family)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A grid: a row for each group that connects, a numbered column for each that is connected to.
fn write_matrix(matrix: &Matrix, out: &mut dyn Write) -> Result<()> {
    let groups = matrix.groups();
    if groups.iter().all(Group::is_outside) {
        bail!("there is no Pod with an address of this family");
    }
    let mut table = Table::new(["", "FROM \\ TO"]);
    table.extend_header((1..=groups.len()).map(|number| number.to_string()));
    for (from, group) in groups.iter().enumerate() {
        let mut row = vec![styled(BOLD, from + 1), group.to_string()];
        row.extend((0..groups.len()).map(|to| cell(groups, from, to, matrix.connection(from, to))));
        table.row_of(row);
    }
    table.write(out)?;
    writeln!(
        out,
        "{}",
        styled(DIM, "* all traffic, - none, ? unknown, . outside the cluster or the Pod itself")
    )?;
    Ok(())
}

fn cell(groups: &[Group], from: usize, to: usize, connection: &Connection) -> String {
    let nobody = match (groups.get(from), groups.get(to)) {
        (Some(a), Some(b)) if a.is_outside() && b.is_outside() => true,
        (Some(Group::Pods(pods)), _) => from == to && pods.len() == 1,
        _ => false,
    };
    if nobody {
        styled(DIM, ".")
    } else if connection.is_none() {
        styled(BAD, "-")
    } else if connection.allowed.is_all() {
        styled(GOOD, "*")
    } else if connection.unknown.is_empty() {
        connection.to_string()
    } else {
        styled(WARN, connection)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeRow {
    family: String,
    from: String,
    to: String,
    gained: String,
    lost: String,
    before: String,
    after: String,
    because: String,
}

fn diff(args: &DiffArgs, options: Options, out: &mut dyn Write) -> Result<ExitCode> {
    let before = args.input.world().context("before")?;
    let after = InputArgs { filename: args.to.clone(), ..args.input.clone() }.world().context("after")?;
    let (old, new) = (before.policies_with(options.clone()), after.policies_with(options));
    let mut families = before.families();
    families.extend(after.families());
    families.sort();
    families.dedup();
    let rows: Vec<ChangeRow> = families.into_iter().flat_map(|family| changes(&old, &new, family)).collect();
    match args.output.output {
        Format::Table if rows.is_empty() => writeln!(out, "{}", styled(GOOD, "no connection changes"))?,
        Format::Table => {
            let mut table = Table::new(["FROM", "TO", "GAINED", "LOST", "BECAUSE"]);
            for row in &rows {
                let or_dash =
                    |style, text: &str| if text == "none" { "-".to_owned() } else { styled(style, text) };
                table.row([
                    row.from.clone(),
                    row.to.clone(),
                    or_dash(GOOD, &row.gained),
                    or_dash(BAD, &row.lost),
                    row.because.clone(),
                ]);
            }
            table.write(out)?;
        }
        format => write_data(out, format, &rows)?,
    }
    Ok(if rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn changes(old: &Engine, new: &Engine, family: IpFamily) -> Vec<ChangeRow> {
    let row = |change: svc_netpol::Change| {
        let because = &change.because;
        // What decides now and didn't before, or, where nothing new does, what no longer does.
        let sides = [
            (&because.before.egress, &because.after.egress),
            (&because.before.ingress, &because.after.ingress),
        ];
        let changed = sides.iter().filter(|(before, after)| before != after);
        let because: Vec<String> =
            changed.map(|(before, after)| format!("{} (before: {})", after.reason, before.reason)).collect();
        ChangeRow {
            family: family.to_string(),
            from: change.from.to_string(),
            to: change.to.to_string(),
            gained: change.gained().to_string(),
            lost: change.lost().to_string(),
            before: change.before.to_string(),
            after: change.after.to_string(),
            because: because.join("; "),
        }
    };
    old.difference(new, family).into_iter().map(row).collect()
}

#[derive(Serialize)]
struct FindingRow {
    policy: String,
    field: String,
    finding: String,
}

fn lint(args: &LintArgs, options: Options, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let findings = world.policies_with(options).lint();
    let rows: Vec<FindingRow> = findings
        .iter()
        .map(|finding| FindingRow {
            policy: finding.policy.to_string(),
            field: finding.field.clone(),
            finding: finding.lint.to_string(),
        })
        .collect();
    match args.output.output {
        Format::Table if rows.is_empty() => writeln!(out, "{}", styled(GOOD, "nothing found"))?,
        Format::Table => {
            let mut table = Table::new(["POLICY", "FIELD", "FINDING"]);
            for row in &rows {
                table.row([row.policy.clone(), row.field.clone(), styled(WARN, &row.finding)]);
            }
            table.write(out)?;
        }
        format => write_data(out, format, &rows)?,
    }
    Ok(if rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_leniently_and_refused_clearly() {
        assert_eq!(parse_traffic("80"), Ok(Traffic::Tcp(80)));
        assert_eq!(parse_traffic("UDP/53"), Ok(Traffic::Udp(53)));
        assert_eq!(parse_traffic("other"), Ok(Traffic::Other));
        assert!(parse_traffic("icmp/1").unwrap_err().contains("none of tcp"));
        assert!(parse_traffic("tcp/web").unwrap_err().contains("no port"));
    }
}
