//! Recorded syncs of kube-proxy in iptables mode: configuration and steps of object changes in, the restore input
//! of each sync out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use svc_endpoints::view::SliceCache;
use svc_model::{AddressType, EndpointSlice, IpFamily, Object, ObjectRef};
use svc_rules::ProxyConfig;
use svc_rules::iptables::{Mode, Proxy, StaleChains};

#[path = "node.rs"]
#[allow(clippy::duplicate_mod, reason = "each adapter stands alone")]
mod node;

use node::{Changes, NodeConfig, number};

/// Name of a case, and how it went.
type Case = (String, Result<(), String>);

/// Runs all steps of one file; each is a case.
pub fn run(text: &str) -> Result<Vec<Case>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut node =
        Node { proxy: Proxy::new(file.config.settle()?), slices: SliceCache::new(), sent: BTreeMap::new() };
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
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(flatten)]
    node: NodeConfig,
    #[serde(default)]
    localhost_node_ports: bool,
    #[serde(default, rename = "conntrackTCPLiberal")]
    conntrack_tcp_liberal: bool,
    #[serde(default)]
    nfacct: Vec<String>,
    large_cluster_threshold: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(flatten)]
    changes: Changes,
    full: bool,
    cleanup: Option<bool>,
    #[serde(default)]
    failed: bool,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    restore: String,
}

impl Config {
    fn settle(&self) -> Result<ProxyConfig, String> {
        let mut config = self.node.settle()?;
        let counts = |counter: &str| self.nfacct.iter().any(|name| name == counter);
        config.localhost_node_ports = self.localhost_node_ports;
        config.conntrack_tcp_be_liberal = self.conntrack_tcp_liberal;
        config.counts_invalid_drops = counts(ProxyConfig::INVALID_DROPS);
        config.counts_localhost_node_ports = counts(ProxyConfig::LOCALHOST_NODE_PORTS);
        config.large_cluster_threshold = self.large_cluster_threshold.unwrap_or(1000);
        Ok(config)
    }
}

struct Node {
    proxy: Proxy,
    slices: SliceCache,
    /// The slices as last sent: the reference takes any difference for a change.
    sent: BTreeMap<ObjectRef, EndpointSlice>,
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
                "EndpointSlice" => {
                    if let Some(slice) = self.sent.remove(&name) {
                        self.touch(&slice);
                    }
                    self.proxy.touch(&self.slices.remove(&name));
                }
                _ => {}
            }
        }
        if let Some(zone) = changes.zone() {
            self.proxy.set_zone(zone.map(Into::into));
        }
        let asked = if step.full { Mode::Full } else { Mode::Partial };
        let stale = if step.cleanup == Some(false) { StaleChains::Keep } else { StaleChains::Delete };
        let mut out = Vec::new();
        let sync = self.proxy.sync(&self.slices, asked, stale, &mut out);
        if step.failed {
            self.proxy.failed();
        } else {
            self.proxy.succeeded();
        }
        if sync.mode != asked {
            return Err(format!("expected a {asked:?} sync, got {:?} because {:?}", sync.mode, sync.cause));
        }
        let got = String::from_utf8(out).map_err(|error| error.to_string())?;
        compare(&Restore::read(&step.expect.restore), &Restore::read(&got))
    }

    fn touch(&mut self, slice: &EndpointSlice) {
        let family = match slice.address_type.get() {
            Some(AddressType::Ipv4) => IpFamily::Ipv4,
            Some(AddressType::Ipv6) => IpFamily::Ipv6,
            _ => return,
        };
        if let Some(service) = slice.service_name().filter(|_| family == self.proxy.config().family) {
            self.proxy.touch_service(&ObjectRef::new(slice.metadata.namespace.as_str(), service));
        }
    }

    fn apply(&mut self, object: &Value) -> Result<(), String> {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "EndpointSlice" => {
                let slice = EndpointSlice::deserialize(object).map_err(|error| error.to_string())?;
                self.proxy.touch(&self.slices.apply(&slice));
                let old = self.sent.insert(slice.metadata.object_ref(), slice.clone());
                if old.as_ref() != Some(&slice) {
                    self.touch(&slice);
                }
            }
            _ => match Object::from_kind(kind, object) {
                Some(Ok(Object::Service(service))) => _ = self.proxy.apply(&service),
                Some(Err(error)) => return Err(error.to_string()),
                _ => {}
            },
        }
        Ok(())
    }
}

/// A restore input, per table.
#[derive(Default)]
struct Restore {
    tables: BTreeMap<String, Table>,
}

#[derive(Default)]
struct Table {
    declared: BTreeSet<String>,
    /// Rules and deletions of each chain, in order.
    chains: BTreeMap<String, Vec<String>>,
    committed: bool,
}

impl Restore {
    fn read(text: &str) -> Self {
        let mut restore = Self::default();
        let mut name = String::new();
        for line in text.lines() {
            if let Some(table) = line.strip_prefix('*') {
                name = table.into();
            }
            let table = restore.tables.entry(name.clone()).or_default();
            let mut words = line.split(' ');
            match words.next() {
                Some("COMMIT") => table.committed = true,
                Some("-A" | "-X") => {
                    let chain = words.next().unwrap_or_default().to_owned();
                    table.chains.entry(chain).or_default().push(canonical_marks(line));
                }
                Some(word) if word.starts_with(':') => _ = table.declared.insert(line.into()),
                _ => {}
            }
        }
        restore
    }
}

/// Marks compare as numbers: `0x4000` and `0x00004000` are the same rule.
fn canonical_marks(line: &str) -> String {
    let canonical = |word: &str| number(word).map(|number| format!("{number:#x}"));
    let mut after_mark = false;
    let words = line.split(' ').map(|word| {
        let marks = word.split('/').map(canonical).collect::<Option<Vec<_>>>();
        let canonical = marks.filter(|_| after_mark).map_or_else(|| word.to_owned(), |marks| marks.join("/"));
        after_mark = word.ends_with("-mark");
        canonical
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Chains in which the rules of different Services stand in no fixed order.
const INTERLEAVED: [&str; 4] =
    ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"];

fn compare(expected: &Restore, got: &Restore) -> Result<(), String> {
    let names: BTreeSet<_> = expected.tables.keys().chain(got.tables.keys()).collect();
    let empty = Table::default();
    for name in names {
        let of = |restore: &'_ Restore| restore.tables.contains_key(name);
        if !of(expected) || !of(got) {
            return Err(format!("table {name}: expected {}, got {}", of(expected), of(got)));
        }
        let expected = expected.tables.get(name).unwrap_or(&empty);
        let got = got.tables.get(name).unwrap_or(&empty);
        if expected.committed != got.committed {
            return Err(format!("table {name}: COMMIT is missing"));
        }
        if let Some(line) = expected.declared.symmetric_difference(&got.declared).next() {
            let side = if got.declared.contains(line) { "got unexpected" } else { "expected" };
            return Err(format!("table {name}: {side} chain line `{line}`"));
        }
        let chains: BTreeSet<_> = expected.chains.keys().chain(got.chains.keys()).collect();
        for chain in chains {
            let rules = |table: &Table| table.chains.get(chain).cloned().unwrap_or_default();
            let (mut expected, mut got) = (rules(expected), rules(got));
            if INTERLEAVED.contains(&chain.as_str()) {
                expected.sort_by_cached_key(|rule| place(rule));
                got.sort_by_cached_key(|rule| place(rule));
            }
            let pairs = expected.iter().map(Some).chain(std::iter::repeat(None));
            let pairs = pairs.zip(got.iter().map(Some).chain(std::iter::repeat(None)));
            let differs = pairs.take(expected.len().max(got.len())).find(|(expected, got)| expected != got);
            if let Some((expected, got)) = differs {
                return Err(format!("table {name}, chain {chain}: expected {expected:?}, got {got:?}"));
            }
        }
    }
    Ok(())
}

/// Where a rule is put for the comparison: rules by Service, keeping their order; then the closing rules, which
/// come in any order among themselves.
fn place(rule: &str) -> (bool, String) {
    if rule.contains("NOTE: this must be the last rule in this chain") {
        return (true, rule.to_owned());
    }
    let comment = rule.split("--comment ").nth(1).unwrap_or_default();
    let service = comment.trim_start_matches('"').split([' ', '"']).next().unwrap_or_default();
    (false, service.to_owned())
}
