//! The policy matrix as data, as a picture, and as a page of its own that a person can filter.

use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;
use svc_model::IpFamily;
use svc_netpol::{Connection, Endpoint, Engine, Flow, Group, Matrix, PortSet};

/// The matrix for machines.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    family: String,
    groups: Vec<GroupData>,
    connections: Vec<ConnectionData>,
    /// Reasons, to which the connections refer by number.
    reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupData {
    name: String,
    outside: bool,
    members: Vec<String>,
}

/// What comes about from one group to another, by index.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionData {
    from: usize,
    to: usize,
    allowed: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    unknown: String,
    /// One for each verdict that occurs.
    because: Vec<BecauseData>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BecauseData {
    verdict: String,
    /// The traffic that was asked about, as an example of its verdict.
    traffic: String,
    egress: usize,
    ingress: usize,
}

/// The matrix with the reasons of every cell.
pub fn data(engine: &Engine, matrix: &Matrix, family: IpFamily) -> Data {
    let mut reasons: Vec<String> = Vec::new();
    let mut known = std::collections::HashMap::new();
    let mut intern = |text: String| {
        *known.entry(text).or_insert_with_key(|text| {
            reasons.push(text.clone());
            reasons.len() - 1
        })
    };
    let groups = matrix.groups();
    let mut connections = Vec::new();
    for (from, source) in groups.iter().enumerate() {
        for (to, destination) in groups.iter().enumerate() {
            let Some((a, b)) = ends(source, destination) else { continue };
            let connection = matrix.connection(from, to);
            let because = examples(connection).into_iter().flat_map(|set| set.first()).map(|traffic| {
                let decision = engine.decide(&Flow { family: Some(family), ..Flow::new(a, b, traffic) });
                BecauseData {
                    verdict: decision.verdict.to_string(),
                    traffic: traffic.to_string(),
                    egress: intern(decision.egress.to_string()),
                    ingress: intern(decision.ingress.to_string()),
                }
            });
            connections.push(ConnectionData {
                from,
                to,
                because: because.collect(),
                allowed: connection.allowed.to_string(),
                unknown: if connection.unknown.is_empty() {
                    String::new()
                } else {
                    connection.unknown.to_string()
                },
            });
        }
    }
    let group = |group: &Group| GroupData {
        name: group.to_string(),
        outside: group.is_outside(),
        members: match group {
            Group::Pods(pods) => pods.iter().map(ToString::to_string).collect(),
            Group::Outside(ranges) => ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect(),
        },
    };
    let groups = groups.iter().map(group).collect();
    Data { family: family.to_string(), groups, connections, reasons }
}

/// The traffic of each verdict: allowed, denied, unknown.
fn examples(connection: &Connection) -> [PortSet; 3] {
    let rest = PortSet::all().difference(&connection.allowed).difference(&connection.unknown);
    [connection.allowed.clone(), rest, connection.unknown.clone()]
}

/// A member of each group; `None` where there is no pair.
fn ends<'a>(from: &'a Group, to: &'a Group) -> Option<(Endpoint<'a>, Endpoint<'a>)> {
    let first = |group: &'a Group| match group {
        Group::Pods(pods) => pods.first().map(Endpoint::from),
        Group::Outside(ranges) => ranges.first().map(|(ip, _): &(IpAddr, IpAddr)| Endpoint::Address(*ip)),
    };
    let last = match to {
        Group::Pods(pods) if from == to => pods.iter().skip(1).last().map(Endpoint::from),
        _ => first(to),
    };
    let pair = (first(from)?, last?);
    (!from.is_outside() || !to.is_outside()).then_some(pair)
}

/// Text that is text wherever HTML or XML stands.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in XML in any form.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Writes the matrix as a picture: green all, amber some, red none.
///
/// # Errors
///
/// If the stream can't be written.
pub fn write_svg(out: &mut dyn Write, matrix: &Matrix) -> io::Result<()> {
    const CELL: usize = 18;
    let groups = matrix.groups();
    let names: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let margin = longest * 7 + 16;
    let size = margin + groups.len() * CELL + 8;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\" viewBox=\"0 0 {size} {size}\" \
         font-family=\"monospace\" font-size=\"11\">\n<title>Who reaches whom</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    )?;
    for (i, name) in names.iter().enumerate() {
        let at = margin + i * CELL + CELL / 2;
        let (name, low) = (escape(name), margin - 8);
        writeln!(out, "<text x=\"{low}\" y=\"{}\" text-anchor=\"end\">{name}</text>", at + 4)?;
        writeln!(out, "<text transform=\"translate({},{low}) rotate(-90)\">{name}</text>", at + 4)?;
    }
    for (from, source) in groups.iter().enumerate() {
        for (to, destination) in groups.iter().enumerate() {
            let (x, y) = (margin + to * CELL, margin + from * CELL);
            let connection = matrix.connection(from, to);
            let (color, text) = match ends(source, destination) {
                None => ("#eee", "no pair".to_owned()),
                Some(_) if connection.allowed.is_all() => ("#2a9d58", "all".to_owned()),
                Some(_) if connection.is_none() => ("#c0392b", "none".to_owned()),
                Some(_) => ("#e9a820", connection.to_string()),
            };
            let (a, b) = (&names[from], &names[to]);
            writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{color}\"><title>{}</title></rect>",
                CELL - 2,
                CELL - 2,
                escape(&format!("{a} -> {b}: {text}")),
            )?;
        }
    }
    writeln!(out, "</svg>")
}

/// Writes the matrix as one HTML page that needs nothing else: it can be filtered by ends and port, and shows the
/// reasons of the cell that is clicked. What is shown is part of the address, so it can be linked to:
/// `#from=web&to=db&port=TCP+5432&cell=0,2`.
///
/// # Errors
///
/// If the stream can't be written.
pub fn write_html(out: &mut dyn Write, engine: &Engine, matrix: &Matrix, family: IpFamily) -> io::Result<()> {
    let data = serde_json::to_string(&data(engine, matrix, family)).map_err(io::Error::other)?;
    // Inside a script element only `<` could end it; the others are for readers that are less strict.
    let data: String = data
        .chars()
        .map(|c| match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", c as u32),
            c => c.to_string(),
        })
        .collect();
    let (head, tail) = PAGE.split_once("@DATA@").unwrap_or((PAGE, ""));
    write!(out, "{head}{data}{tail}")
}

const PAGE: &str = include_str!("policy_page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_its_place() {
        assert_eq!(escape("<a href='x'>&\"\u{1}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}");
        assert_eq!(PAGE.matches("@DATA@").count(), 1);
    }
}
