//! Keeping a node's table up to date.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::mem;

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_endpoints::view::{PortKey, SliceCache, ViewChanges, Viewpoint};
use svc_model::{IpFamily, ObjectRef, Service};

use super::base::Words;
use super::part::{Container, Part, Value};
use crate::config::ProxyConfig;
use crate::plan::{PortPlan, ServicePort, Skipped, service_ports};

/// How much a sync writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All chains; of sets and maps only the elements that differ.
    Full,
    /// What differs from before.
    Changes,
}

/// What a sync wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Sync {
    /// How much was written.
    pub scope: Scope,
    /// Number of operations of the transaction, one a line.
    pub operations: usize,
    /// Chains that were emptied because no Service needs them, to be deleted later.
    pub emptied: Vec<SmolStr>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    ports: Vec<Arc<ServicePort>>,
    part: Part,
}

#[derive(Clone, Debug)]
struct Element {
    value: Value,
    /// Services that add it: several may share an endpoint.
    uses: usize,
}

/// One family's table of one node, in nftables mode.
///
/// Used like [`iptables::Proxy`](crate::iptables::Proxy): tell it of Services and endpoints, [`sync`](Self::sync), feed
/// the text to `nft -f -`, and tell how that went. A transaction takes effect wholly or not at all.
///
/// The first sync, and one after a failure, deletes the table and makes it anew in the same transaction, unless
/// [`adopt`](Self::adopt) was told what is there.
#[derive(Clone, Debug)]
pub struct Proxy {
    config: ProxyConfig,
    viewpoint: Viewpoint,
    words: Words,
    /// Ranges of cluster addresses as of the last full sync.
    service_cidrs: Vec<IpNet>,
    services: BTreeMap<ObjectRef, Entry>,
    applied: BTreeMap<ObjectRef, Vec<Arc<ServicePort>>>,
    touched: BTreeSet<ObjectRef>,
    elements: BTreeMap<(Container, String), Element>,
    /// Chains that were emptied, and wait to be deleted.
    emptied: BTreeSet<String>,
    /// What an earlier proxy left in the table.
    left: Left,
    must_be_full: bool,
    from_nothing: bool,
    awaits_outcome: bool,
}

#[derive(Clone, Debug, Default)]
struct Left {
    chains: BTreeSet<String>,
    sets: BTreeSet<String>,
    elements: BTreeMap<(Container, String), Value>,
}

impl Proxy {
    /// A proxy that knows no Service.
    #[must_use]
    pub fn new(config: ProxyConfig) -> Self {
        Self {
            viewpoint: config.viewpoint(),
            words: Words::new(&config),
            config,
            service_cidrs: Vec::new(),
            services: BTreeMap::new(),
            applied: BTreeMap::new(),
            touched: BTreeSet::new(),
            elements: BTreeMap::new(),
            emptied: BTreeSet::new(),
            left: Left::default(),
            must_be_full: true,
            from_nothing: true,
            awaits_outcome: false,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ProxyConfig {
        &self.config
    }

    /// Adds a Service, or puts it in the place of the one with the same namespace and name. Returns what of it leads
    /// to no rules.
    pub fn apply(&mut self, service: &Service) -> Vec<Skipped> {
        let (ports, skipped) = service_ports(service, self.config.family);
        self.applied.insert(service.metadata.object_ref(), ports.into_iter().map(Arc::new).collect());
        skipped
    }

    /// Removes a Service. Removing one that is not there changes nothing.
    pub fn remove(&mut self, service: &ObjectRef) {
        self.applied.insert(service.clone(), Vec::new());
    }

    /// Takes note of Services whose endpoints changed. Changes in the other family are ignored.
    pub fn touch(&mut self, changes: &ViewChanges) {
        let ours = changes.ports.iter().filter(|change| change.key.family == self.config.family);
        self.touched.extend(ours.map(|change| change.key.service.clone()));
    }

    /// Moves the node to another zone, which may change the endpoints of every Service; the next sync is full.
    pub fn set_zone(&mut self, zone: Option<SmolStr>) {
        self.config.zone = zone;
        self.viewpoint = self.config.viewpoint();
        self.touched.extend(self.services.keys().cloned());
        self.must_be_full = true;
    }

    /// Sets the ranges of cluster addresses (of any family), within which unallocated addresses are dropped. As in the
    /// reference this takes effect at the next full sync.
    pub fn set_service_cidrs(&mut self, ranges: impl IntoIterator<Item = IpNet>) {
        self.config.service_cidrs = ranges.into_iter().collect();
    }

    /// Makes the next sync full.
    pub fn require_full(&mut self) {
        self.must_be_full = true;
    }

    /// Takes over the table of an earlier proxy instead of deleting it, so that connections keep their affinity. `dump`
    /// holds `add chain`, `add set` and `add element` lines; others are ignored.
    pub fn adopt(&mut self, dump: &str) {
        for line in dump.lines() {
            let mut words = line.splitn(6, ' ');
            let (Some("add"), Some(what), _, _, Some(name)) =
                (words.next(), words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let rest = words.next().unwrap_or_default();
            match what {
                "chain" if name.contains('/') => _ = self.left.chains.insert(name.into()),
                "set" if name.starts_with("affinity-") => _ = self.left.sets.insert(name.into()),
                "element" => {
                    if let Some((container, key, value)) = read_element(name, rest) {
                        self.left.elements.insert((container, key), value);
                    }
                }
                _ => {}
            }
        }
        self.from_nothing = false;
        self.must_be_full = true;
    }

    /// Writes the transaction that brings the table up to date, at the end of `out`.
    pub fn sync(&mut self, slices: &SliceCache, scope: Scope, out: &mut String) -> Sync {
        if self.awaits_outcome {
            self.failed();
        }
        let scope = if self.must_be_full { Scope::Full } else { scope };
        let from_nothing = mem::take(&mut self.from_nothing);
        let mut text = Transaction { family: self.words.family, out, operations: 0 };
        if from_nothing {
            text.table("add table");
            text.table("delete table");
            self.elements.clear();
            self.emptied.clear();
            self.left = Left::default();
        }
        let before = mem::take(&mut self.elements);
        let before = if before.is_empty() && !from_nothing {
            let left = mem::take(&mut self.left.elements);
            left.into_iter().map(|(key, value)| (key, Element { value, uses: 0 })).collect()
        } else {
            before
        };
        let changed = self.plan(slices);
        self.elements = self.wanted_elements(&before);
        if scope == Scope::Full {
            let family = self.config.family;
            let ranges = self.config.service_cidrs.iter().copied();
            self.service_cidrs = ranges.filter(|range| IpFamily::of(range.addr()) == family).collect();
            self.write_base(&mut text);
        }
        let all =
            self.services.keys().filter(|_| scope == Scope::Full || from_nothing).map(|name| (name, None));
        let some = changed.iter().filter(|_| scope == Scope::Changes && !from_nothing);
        for (name, old) in all.chain(some.map(|(name, old)| (name, Some(old)))) {
            let new = self.services.get(name).map(|entry| &entry.part);
            write_part(old, new.unwrap_or(&Part::default()), &self.words, &mut text);
        }
        self.write_elements(&before, &mut text);
        let emptied = self.retire(&changed, scope, from_nothing, &mut text);
        self.awaits_outcome = true;
        let operations = text.operations;
        Sync { scope, operations, emptied }
    }

    /// The transaction of the last sync has taken effect.
    pub fn succeeded(&mut self) {
        self.awaits_outcome = false;
        self.must_be_full = false;
    }

    /// The transaction of the last sync was refused; the next one makes the table anew.
    pub fn failed(&mut self) {
        self.awaits_outcome = false;
        self.must_be_full = true;
        self.from_nothing = true;
    }

    /// Deletes emptied chains, in a transaction of its own: those of `chains` that still wait for it.
    ///
    /// Kernels before 6.2 take a chain for used for a moment after the last element that led to it is gone, so the
    /// reference waits for at least a second.
    pub fn delete_emptied<'a>(&mut self, chains: impl IntoIterator<Item = &'a str>, out: &mut String) {
        let mut text = Transaction { family: self.words.family, out, operations: 0 };
        for chain in chains {
            if self.emptied.remove(chain) {
                text.line("delete chain", format_args!("{chain}"));
            }
        }
    }

    /// The whole table as `nft -f` would make it, sorted: declarations, rules, elements.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut text = Transaction { family: self.words.family, out: &mut out, operations: 0 };
        text.line("add table", format_args!("{}", Words::TABLE));
        let parts = || self.services.values().map(|entry| &entry.part);
        let own = parts().flat_map(|part| &part.chains).map(|(name, _)| (name.as_str(), ""));
        let emptied = self.emptied.iter().map(|name| (name.as_str(), ""));
        let chains: BTreeMap<_, _> = Words::CHAINS.into_iter().chain(own).chain(emptied).collect();
        for (name, options) in chains {
            text.line("add chain", format_args!("{name}{options}"));
        }
        let affinity = parts().flat_map(|part| &part.sets);
        let affinity =
            affinity.map(|(name, seconds)| (("set", name.clone()), self.words.affinity_set(*seconds)));
        let shared =
            self.words.containers().map(|(kind, container, what)| ((kind, container.name().into()), what));
        let mut containers: Vec<_> = affinity.chain(shared).collect();
        // Sets before maps.
        containers.sort_by(|((a_kind, a), _), ((b_kind, b), _)| b_kind.cmp(a_kind).then(a.cmp(b)));
        for ((kind, name), what) in containers {
            text.line(&alloc::format!("add {kind}"), format_args!("{name} {what}"));
        }
        let own = parts().flat_map(|part| &part.chains);
        let own = own.flat_map(|(name, rules)| rules.iter().map(move |rule| (name.as_str(), rule.clone())));
        let mut rules: Vec<_> = self.words.rules(&self.service_cidrs).into_iter().chain(own).collect();
        rules.sort_by_key(|(chain, _)| *chain);
        for (chain, rule) in rules {
            text.line("add rule", format_args!("{chain} {rule}"));
        }
        for ((container, key), element) in &self.elements {
            text.element(*container, key, &element.value);
        }
        out
    }

    /// Brings the parts up to date, and returns those that changed as they were.
    fn plan(&mut self, slices: &SliceCache) -> BTreeMap<ObjectRef, Part> {
        let mut changed = BTreeMap::new();
        let touched = mem::take(&mut self.touched);
        let mut applied = mem::take(&mut self.applied);
        for name in touched {
            if let Some(entry) = self.services.get(&name) {
                applied.entry(name).or_insert_with(|| entry.ports.clone());
            }
        }
        for (name, ports) in applied {
            let mut part = Part::default();
            for service in &ports {
                let key = PortKey {
                    service: name.clone(),
                    family: self.config.family,
                    port: SmolStr::new(service.name.port()),
                    protocol: service.protocol,
                };
                part.add(
                    &PortPlan::new(Arc::clone(service), slices.port(&key), &self.viewpoint),
                    &self.words,
                );
            }
            let old = if ports.is_empty() {
                self.services.remove(&name)
            } else {
                self.services.insert(name.clone(), Entry { ports, part })
            };
            changed.insert(name, old.unwrap_or_default().part);
        }
        changed
    }

    /// All elements of the shared sets and maps; those that were there keep their comments.
    fn wanted_elements(
        &self,
        before: &BTreeMap<(Container, String), Element>,
    ) -> BTreeMap<(Container, String), Element> {
        let mut wanted = BTreeMap::new();
        let node_ips = self.words.node_port_ips.iter().flatten();
        let node_ips = node_ips.map(|ip| (Container::NodeportIps, alloc::format!("{ip}"), Value::default()));
        let of_services = self.services.values().flat_map(|entry| entry.part.elements.iter().cloned());
        for (container, key, mut value) in node_ips.chain(of_services) {
            let key = (container, key);
            if let Some(old) = before.get(&key).filter(|old| old.value.verdict == value.verdict) {
                value.comment.clone_from(&old.value.comment);
            }
            let element = wanted.entry(key).or_insert_with(|| Element { value: value.clone(), uses: 0 });
            element.value = value;
            element.uses += 1;
        }
        wanted
    }

    fn write_base(&self, text: &mut Transaction<'_>) {
        text.line("add table", format_args!("{}", Words::TABLE));
        for (kind, container, what) in self.words.containers() {
            text.line(&alloc::format!("add {kind}"), format_args!("{} {what}", container.name()));
        }
        for (name, options) in Words::CHAINS {
            text.line("add chain", format_args!("{name}{options}"));
            text.line("flush chain", format_args!("{name}"));
        }
        for (chain, rule) in self.words.rules(&self.service_cidrs) {
            text.line("add rule", format_args!("{chain} {rule}"));
        }
    }

    fn write_elements(&self, before: &BTreeMap<(Container, String), Element>, text: &mut Transaction<'_>) {
        let same = |key, element: &Element| {
            before.get(key).is_some_and(|old: &Element| old.value.verdict == element.value.verdict)
        };
        for (key, _) in before.iter().filter(|(key, old)| {
            self.elements.get(*key).is_none_or(|new| new.value.verdict != old.value.verdict)
        }) {
            text.line("delete element", format_args!("{} {{ {} }}", key.0.name(), key.1));
        }
        for (key, element) in self.elements.iter().filter(|(key, element)| !same(*key, element)) {
            text.element(key.0, &key.1, &element.value);
        }
    }

    /// Empties chains that nothing needs any more, and deletes such sets.
    fn retire(
        &mut self,
        changed: &BTreeMap<ObjectRef, Part>,
        scope: Scope,
        from_nothing: bool,
        text: &mut Transaction<'_>,
    ) -> Vec<SmolStr> {
        let needed: Vec<&Part> = match scope {
            Scope::Full => self.services.values().map(|entry| &entry.part).collect(),
            Scope::Changes => {
                changed.keys().filter_map(|name| self.services.get(name)).map(|entry| &entry.part).collect()
            }
        };
        let chains: BTreeSet<_> = needed.iter().flat_map(|part| &part.chains).map(|(name, _)| name).collect();
        let sets: BTreeSet<_> = needed.iter().flat_map(|part| &part.sets).map(|(name, _)| name).collect();
        let left = mem::take(&mut self.left);
        let old = || changed.values().filter(|_| !from_nothing);
        let mut emptied = Vec::new();
        let old_chains = old().flat_map(|part| &part.chains).map(|(name, _)| name);
        for name in old_chains.chain(&left.chains).filter(|name| !chains.contains(name)) {
            text.line("flush chain", format_args!("{name}"));
            emptied.push(SmolStr::from(name.as_str()));
        }
        for name in old().flat_map(|part| &part.sets).map(|(name, _)| name).chain(&left.sets) {
            if !sets.contains(name) {
                text.line("delete set", format_args!("{name}"));
            }
        }
        for name in chains {
            self.emptied.remove(name);
        }
        self.emptied.extend(emptied.iter().map(|name| String::from(name.as_str())));
        emptied
    }
}

/// Writes the sets and chains of a Service: all of them (`old` absent), or those that differ.
fn write_part(old: Option<&Part>, new: &Part, words: &Words, text: &mut Transaction<'_>) {
    let nothing = Part::default();
    let known = old.unwrap_or(&nothing);
    for set in new.sets.iter().filter(|set| !known.sets.contains(set)) {
        let (name, seconds) = set;
        // A set that exists takes the new timeout; to delete it first would be refused, as rules refer to it.
        text.line("add set", format_args!("{name} {}", words.affinity_set(*seconds)));
    }
    let differing = || new.chains.iter().filter(|chain| !known.chains.contains(chain));
    for (name, _) in differing() {
        // All chains first, since their rules lead from one to another.
        text.line("add chain", format_args!("{name}"));
        if old.is_none() || known.chains.iter().any(|(known, _)| known == name) {
            text.line("flush chain", format_args!("{name}"));
        }
    }
    for (name, rules) in differing() {
        for rule in rules {
            text.line("add rule", format_args!("{name} {rule}"));
        }
    }
}

/// Reads `{ KEY [comment "..."] [: VERDICT] }`.
fn read_element(name: &str, text: &str) -> Option<(Container, String, Value)> {
    const ALL: [Container; 8] = [
        Container::ClusterIps,
        Container::FirewallIps,
        Container::HairpinConnections,
        Container::NoEndpointNodeports,
        Container::NoEndpointServices,
        Container::NodeportIps,
        Container::ServiceIps,
        Container::ServiceNodeports,
    ];
    let container = ALL.into_iter().find(|container| container.name() == name)?;
    let inner = text.strip_prefix("{ ")?.strip_suffix(" }")?;
    let (key, verdict) = inner.split_once(" : ").unwrap_or((inner, ""));
    let (key, comment) = key.split_once(" comment ").unwrap_or((key, ""));
    let comment = comment.trim_matches('"').into();
    Some((container, key.into(), Value { verdict: verdict.into(), comment }))
}

/// Lines of `nft -f`.
struct Transaction<'a> {
    family: &'static str,
    out: &'a mut String,
    operations: usize,
}

impl Transaction<'_> {
    fn table(&mut self, what: &str) {
        let _ = writeln!(self.out, "{what} {} kube-proxy", self.family);
        self.operations += 1;
    }

    fn line(&mut self, what: &str, rest: core::fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{what} {} kube-proxy {rest}", self.family);
        self.operations += 1;
    }

    fn element(&mut self, container: Container, key: &str, value: &Value) {
        let comment = match value.comment.as_str() {
            "" => String::new(),
            comment => alloc::format!(" comment \"{comment}\""),
        };
        let verdict = match value.verdict.as_str() {
            "" => String::new(),
            verdict => alloc::format!(" : {verdict}"),
        };
        let name = container.name();
        self.line("add element", format_args!("{name} {{ {key}{comment}{verdict} }}"));
    }
}
