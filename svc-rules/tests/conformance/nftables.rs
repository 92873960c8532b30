//! Recorded syncs of kube-proxy in nftables mode: configuration and steps of object changes in, the table after each
//! sync out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use svc_endpoints::view::SliceCache;
use svc_model::Object;
use svc_rules::ProxyConfig;
use svc_rules::nftables::{Proxy, Scope};

#[path = "node.rs"]
#[allow(clippy::duplicate_mod, reason = "each adapter stands alone")]
mod node;

use node::{Changes, NodeConfig, number};

/// Name of a case, and how it went.
type Case = (String, Result<(), String>);

/// Runs all steps of one file; each is a case.
pub fn run(text: &str) -> Result<Vec<Case>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut node = Node { proxy: Proxy::new(file.config.settle()?), slices: SliceCache::new() };
    if let Some(initial) = &file.initial {
        node.proxy.adopt(&initial.table);
    }
    let mut results = Vec::new();
    for (number, step) in file.steps.iter().enumerate() {
        let result = node.step(step);
        results.push((format!("step {number}"), result));
    }
    Ok(results)
}

#[derive(Deserialize)]
struct File {
    config: Config,
    initial: Option<Table>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Table {
    table: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    node: NodeConfig,
    #[serde(default, rename = "serviceCIDRs")]
    service_cidrs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(flatten)]
    changes: Changes,
    full: bool,
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    stale_deleted: Vec<String>,
    #[serde(rename = "serviceCIDRs")]
    service_cidrs: Option<Vec<String>>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    table: String,
    operations: Option<usize>,
}

impl Config {
    fn settle(&self) -> Result<ProxyConfig, String> {
        let mut config = self.node.settle()?;
        config.service_cidrs = self.service_cidrs.iter().filter_map(|range| range.parse().ok()).collect();
        Ok(config)
    }
}

struct Node {
    proxy: Proxy,
    slices: SliceCache,
}

impl Node {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let changes = &step.changes;
        if changes.config.is_some() {
            return Err("the configuration changes in the middle of a case".into());
        }
        for object in &changes.apply {
            self.apply(object)?;
        }
        for deleted in &changes.delete {
            let name = deleted.name();
            match deleted.kind.as_str() {
                "Service" => self.proxy.remove(&name),
                "EndpointSlice" => self.proxy.touch(&self.slices.remove(&name)),
                _ => {}
            }
        }
        if let Some(zone) = changes.zone() {
            self.proxy.set_zone(zone.map(Into::into));
        }
        if let Some(ranges) = &step.service_cidrs {
            self.proxy.set_service_cidrs(ranges.iter().filter_map(|range| range.parse().ok()));
        }
        let mut out = String::new();
        self.proxy.delete_emptied(step.stale_deleted.iter().map(String::as_str), &mut out);
        let asked = if step.full { Scope::Full } else { Scope::Changes };
        let sync = self.proxy.sync(&self.slices, asked, &mut out);
        if step.failed {
            self.proxy.failed();
        } else {
            self.proxy.succeeded();
        }
        if sync.scope != asked {
            return Err(format!("expected a sync of scope {asked:?}, got {:?}", sync.scope));
        }
        if let Some(most) = step.expect.operations.filter(|most| !step.full && sync.operations > *most) {
            return Err(format!("expected at most {most} operations, got {}", sync.operations));
        }
        compare(&lines(&step.expect.table), &lines(&self.proxy.table()))
    }

    fn apply(&mut self, object: &Value) -> Result<(), String> {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        match Object::from_kind(kind, object) {
            Some(Ok(Object::Service(service))) => _ = self.proxy.apply(&service),
            Some(Ok(Object::EndpointSlice(slice))) => self.proxy.touch(&self.slices.apply(&slice)),
            Some(Err(error)) => return Err(error.to_string()),
            _ => {}
        }
        Ok(())
    }
}

/// The lines of a dump by what must keep its order: the rules of a chain; all other lines may stand in any order.
fn lines(dump: &str) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in dump.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ').skip(1);
        let kind = words.next().unwrap_or_default();
        let group = if kind == "rule" { words.nth(2).unwrap_or_default() } else { kind };
        groups.entry(format!("{kind} {group}")).or_default().push(canonical(line));
    }
    for (group, lines) in &mut groups {
        if !group.starts_with("rule ") {
            lines.sort();
        }
    }
    groups
}

/// Marks compare as numbers. Comments of more than 128 bytes, which nft refuses, compare by their beginning.
fn canonical(line: &str) -> String {
    let words =
        line.split(' ').map(|word| number(word).map_or_else(|| word.to_owned(), |mark| format!("{mark:#x}")));
    let line = words.collect::<Vec<_>>().join(" ");
    let Some((head, rest)) = line.split_once(" comment \"") else { return line };
    let Some((comment, tail)) = rest.split_once('"') else { return line };
    match comment.get(..125) {
        Some(beginning) if comment.len() > 128 => format!("{head} comment \"{beginning}...\"{tail}"),
        _ => line,
    }
}

fn compare(
    expected: &BTreeMap<String, Vec<String>>,
    got: &BTreeMap<String, Vec<String>>,
) -> Result<(), String> {
    let nothing = Vec::new();
    let groups: BTreeSet<_> = expected.keys().chain(got.keys()).collect();
    for group in groups {
        let (expected, got) = (expected.get(group).unwrap_or(&nothing), got.get(group).unwrap_or(&nothing));
        if let Some(line) = expected.iter().find(|line| !got.contains(line)) {
            return Err(format!("expected `{line}`, got no such line"));
        }
        if let Some(line) = got.iter().find(|line| !expected.contains(line)) {
            return Err(format!("expected no such line, got `{line}`"));
        }
        if expected != got {
            return Err(format!("{group}: expected the order {expected:?}, got {got:?}"));
        }
    }
    Ok(())
}
