//! Keeping a node's table up to date.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_endpoints::view::{SliceCache, ViewChanges, Viewpoint};
use svc_model::{IpFamily, ObjectRef, Service};

use super::base::Words;
use super::claims::Claims;
use super::part::{Container, Part, Rules, Value};
use super::transaction::{Cut, Transaction};
use crate::config::ProxyConfig;
use crate::plan::{Inbox, PortPlan, ServicePort, Skipped};

/// How the table is laid out. What becomes of packets is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// As kube-proxy 1.36 does it: a chain for each port of a Service.
    #[default]
    Reference,
    /// A chain for each number of endpoints, and all endpoints in a few maps.
    Flat,
}

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
    /// Number of operations of the transaction: lines, but each element counts.
    pub operations: usize,
    /// Chains that were emptied because no Service needs them, to be deleted later.
    pub emptied: Vec<SmolStr>,
    cuts: Vec<Cut>,
}

impl Sync {
    /// Cuts `text`, which is what this sync wrote, into parts of about `operations` operations each, to be loaded one
    /// after another, so that the kernel's lock is held for a shorter time.
    ///
    /// Each part is a transaction that loads after those before it; after the last, the table is as after the whole.
    /// In between, no chain is empty that packets are led to, and no frontend is led to endpoints that are not there yet;
    /// but where the table is made anew, most frontends are still missing. If a part is refused, report the sync as
    /// [failed](Proxy::failed) and leave out the rest.
    pub fn chunks<'t>(&self, text: &'t str, operations: usize) -> impl Iterator<Item = &'t str> {
        let mut ends = Vec::new();
        let mut start = 0;
        for (place, cut) in self.cuts.iter().enumerate() {
            let next = self.cuts.get(place + 1).map_or(self.operations, |cut| cut.operations);
            if next - start > operations {
                ends.push(cut.bytes);
                start = cut.operations;
            }
        }
        ends.push(text.len());
        let mut start = 0;
        ends.into_iter().filter_map(move |end| {
            let chunk = text.get(mem::replace(&mut start, end)..end)?;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Entry {
    ports: Vec<Arc<ServicePort>>,
    part: Part,
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
    inbox: Inbox,
    chains: Claims<SmolStr, Rules>,
    /// Affinity sets with their timeout in seconds.
    sets: Claims<SmolStr, u32>,
    elements: Claims<(Container, SmolStr), Value>,
    /// Chains that were emptied, and wait to be deleted.
    emptied: BTreeSet<SmolStr>,
    /// What an earlier proxy left in the table.
    left: Option<Left>,
    must_be_full: bool,
    from_nothing: bool,
    awaits_outcome: bool,
}

#[derive(Clone, Debug, Default)]
struct Left {
    chains: BTreeSet<SmolStr>,
    sets: BTreeSet<SmolStr>,
    elements: BTreeMap<(Container, SmolStr), Value>,
}

/// How many elements a line of the flat layout has at most. The reference's layout has one, as the reference does.
const ELEMENTS_OF_LINE: usize = 64;

impl Proxy {
    /// A proxy that knows no Service, with the reference's layout.
    #[must_use]
    pub fn new(config: ProxyConfig) -> Self {
        Self::with_layout(config, Layout::Reference)
    }

    /// A proxy that knows no Service.
    #[must_use]
    pub fn with_layout(config: ProxyConfig, layout: Layout) -> Self {
        Self {
            viewpoint: config.viewpoint(),
            words: Words::new(&config, layout),
            inbox: Inbox::new(config.family),
            config,
            service_cidrs: Vec::new(),
            services: BTreeMap::new(),
            chains: Claims::new(),
            sets: Claims::new(),
            elements: Claims::new(),
            emptied: BTreeSet::new(),
            left: None,
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
        self.inbox.apply(service)
    }

    /// Removes a Service. Removing one that is not there changes nothing.
    pub fn remove(&mut self, service: &ObjectRef) {
        self.inbox.remove(service);
    }

    /// Makes `services` the only ones.
    pub fn replace_all<'a>(&mut self, services: impl IntoIterator<Item = &'a Service>) {
        self.inbox.replace_all(services, self.services.keys());
    }

    /// Takes note of Services whose endpoints changed. Changes in the other family are ignored.
    pub fn touch(&mut self, changes: &ViewChanges) {
        self.inbox.touch(changes);
    }

    /// Moves the node to another zone, which may change the endpoints of every Service; the next sync is full.
    pub fn set_zone(&mut self, zone: Option<SmolStr>) {
        self.config.zone = zone;
        self.viewpoint = self.config.viewpoint();
        self.inbox.touch_services(self.services.keys());
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
        let left = self.left.get_or_insert_default();
        for line in dump.lines() {
            let mut words = line.splitn(6, ' ');
            let (Some("add"), Some(what), _, _, Some(name)) =
                (words.next(), words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let rest = words.next().unwrap_or_default();
            match what {
                "chain" if name.contains('/') => _ = left.chains.insert(name.into()),
                "set" if name.starts_with("affinity-") => _ = left.sets.insert(name.into()),
                "element" => {
                    if let Some((key, value)) = read_element(name, rest) {
                        left.elements.insert(key, value);
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
        let mut text = Transaction::new(self.words.family, out);
        if from_nothing {
            text.table("add table");
            text.table("delete table");
            self.emptied.clear();
            self.left = Some(Left::default());
        }
        let old = self.plan(slices);
        let left = self.left.take();
        self.claim(&old, left.as_ref());
        if scope == Scope::Full {
            let family = self.config.family;
            let ranges = self.config.service_cidrs.iter().copied();
            self.service_cidrs = ranges.filter(|range| IpFamily::of(range.addr()) == family).collect();
            self.write_base(&mut text);
        }
        self.write_chains(scope, &old, &mut text);
        self.write_elements(&mut text);
        let emptied = self.retire(left.unwrap_or_default(), &mut text);
        self.chains.settle();
        self.sets.settle();
        self.elements.settle();
        self.awaits_outcome = true;
        let (operations, cuts) = (text.operations, text.cuts);
        Sync { scope, operations, emptied, cuts }
    }

    /// The transaction of the last sync has taken effect.
    pub fn succeeded(&mut self) {
        self.awaits_outcome = false;
        self.must_be_full = false;
    }

    /// The transaction of the last sync was refused; the next one makes the table anew.
    pub fn failed(&mut self) {
        self.left = None;
        self.awaits_outcome = false;
        self.must_be_full = true;
        self.from_nothing = true;
    }

    /// Deletes emptied chains, in a transaction of its own: those of `chains` that still wait for it.
    ///
    /// Kernels before 6.2 take a chain for used for a moment after the last element that led to it is gone, so the
    /// reference waits for at least a second.
    pub fn delete_emptied<'a>(&mut self, chains: impl IntoIterator<Item = &'a str>, out: &mut String) {
        let mut text = Transaction::new(self.words.family, out);
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
        let mut text = Transaction::new(self.words.family, &mut out);
        text.line("add table", format_args!("{}", Words::TABLE));
        let own = self.chains.sorted().into_iter().map(|(name, _)| (name.as_str(), ""));
        let emptied = self.emptied.iter().map(|name| (name.as_str(), ""));
        let chains = self.words.chains().map(|(name, options)| -> (&str, &str) { (name, options) });
        let chains: BTreeMap<_, _> = chains.chain(own).chain(emptied).collect();
        for (name, options) in chains {
            text.line("add chain", format_args!("{name}{options}"));
        }
        let affinity = self.sets.sorted();
        let affinity =
            affinity.iter().map(|(name, seconds)| ("set", name.as_str(), self.words.affinity_set(**seconds)));
        let shared = self.words.containers().map(|(kind, name, what)| -> (_, &str, _) { (kind, name, what) });
        let mut containers: Vec<_> = affinity.chain(shared).collect();
        // Sets before maps.
        containers.sort_by(|(a_kind, a, _), (b_kind, b, _)| b_kind.cmp(a_kind).then(a.cmp(b)));
        for (kind, name, what) in containers {
            text.line(&alloc::format!("add {kind}"), format_args!("{name} {what}"));
        }
        let own = self.chains.sorted().into_iter();
        let own = own.flat_map(|(name, rules)| rules.iter().map(move |rule| (name.as_str(), rule.clone())));
        let mut rules: Vec<_> = self.words.rules(&self.service_cidrs).into_iter().chain(own).collect();
        rules.sort_by_key(|(chain, _)| *chain);
        for (chain, rule) in rules {
            text.line("add rule", format_args!("{chain} {rule}"));
        }
        let elements: Vec<_> =
            self.elements.sorted().into_iter().map(|(key, value)| (key, None, Some(value))).collect();
        text.elements(&elements, 1);
        out
    }

    /// Brings the parts up to date, and returns those that changed as they were.
    fn plan(&mut self, slices: &SliceCache) -> BTreeMap<ObjectRef, Part> {
        let mut changed = BTreeMap::new();
        let known =
            |name: &ObjectRef| self.services.get(name).map_or(Vec::new(), |entry| entry.ports.clone());
        for (name, ports) in self.inbox.take(known) {
            let mut part = Part::default();
            for service in &ports {
                let listed = slices.port(&service.key(self.config.family));
                let plan = PortPlan::new(Arc::clone(service), listed, &self.viewpoint);
                match self.words.layout {
                    Layout::Reference => part.add(&plan, &self.words),
                    Layout::Flat => part.add_flat(&plan, &self.words),
                }
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

    /// Brings the claims up to date with the parts: all of them where `left` says what was there before, else those of
    /// Services that changed.
    fn claim(&mut self, old: &BTreeMap<ObjectRef, Part>, left: Option<&Left>) {
        if let Some(left) = left {
            let parts = self.services.values().map(|entry| &entry.part);
            self.chains.restart(BTreeMap::new(), 0);
            self.sets.restart(BTreeMap::new(), 0);
            self.elements.restart(left.elements.clone(), parts.map(|part| part.elements.len()).sum());
            for ip in self.words.node_port_ips.iter().flatten() {
                let key = (Container::NodeportIps, smol_str::format_smolstr!("{ip}"));
                self.elements.claim(&key, &Value::default());
            }
        } else {
            for part in old.values() {
                part.chains.iter().for_each(|(name, _)| self.chains.release(name));
                part.sets.iter().for_each(|(name, _)| self.sets.release(name));
                part.elements.iter().for_each(|(key, _)| self.elements.release(key));
            }
        }
        let all = self.services.iter().take(if left.is_some() { usize::MAX } else { 0 });
        let some = old.keys().filter(|_| left.is_none());
        let some = some.filter_map(|name| self.services.get_key_value(name));
        for (_, Entry { part, .. }) in all.chain(some) {
            part.chains.iter().for_each(|(name, rules)| self.chains.claim(name, rules));
            part.sets.iter().for_each(|(name, seconds)| self.sets.claim(name, seconds));
            part.elements.iter().for_each(|(key, value)| self.elements.claim(key, value));
        }
        // As in the reference, of Services with the same frontend the last one counts.
        let contested = self.elements.contested();
        if !contested.is_empty() {
            for part in self.services.values().map(|entry| &entry.part) {
                for (key, value) in part.elements.iter().filter(|(key, _)| contested.contains(key)) {
                    self.elements.decide(key, value);
                }
            }
        }
    }

    fn write_base(&self, text: &mut Transaction<'_>) {
        text.line("add table", format_args!("{}", Words::TABLE));
        for (kind, name, what) in self.words.containers() {
            text.line(&alloc::format!("add {kind}"), format_args!("{name} {what}"));
        }
        for (name, options) in self.words.chains() {
            text.line("add chain", format_args!("{name}{options}"));
            text.chain("flush chain", name);
        }
        for (chain, rule) in self.words.rules(&self.service_cidrs) {
            text.line("add rule", format_args!("{chain} {rule}"));
        }
        text.cut();
    }

    /// Writes sets and chains: all of them, or those that differ.
    fn write_chains(&self, scope: Scope, old: &BTreeMap<ObjectRef, Part>, text: &mut Transaction<'_>) {
        self.write_sets(scope, old, text);
        // All chains first, since their rules lead from one to another.
        let differing = || self.chains.changes().filter_map(|(name, old, new)| Some((name, old, new?)));
        let all = if scope == Scope::Full { self.chains.sorted() } else { Vec::new() };
        let some = || differing().filter(|_| scope == Scope::Changes);
        let new = some().filter(|(_, old, _)| old.is_none()).map(|(name, ..)| name);
        for name in all.iter().map(|(name, _)| *name).chain(new) {
            text.chain("add chain", name);
            text.cut();
        }
        for (name, rules) in all {
            text.chain("flush chain", name);
            text.rules(name, rules.iter());
            text.cut();
        }
        for (name, old, rules) in some() {
            if old.is_some() {
                text.chain("flush chain", name);
            }
            text.rules(name, rules.iter());
            text.cut();
        }
    }

    fn write_sets(&self, scope: Scope, old: &BTreeMap<ObjectRef, Part>, text: &mut Transaction<'_>) {
        let renewed: Vec<_> =
            self.sets.changes().filter_map(|(name, old, new)| Some((name, old?, new?))).collect();
        if !renewed.is_empty() {
            // The timeout of a set cannot be changed, and no rule may use a set that is deleted.
            let used = |rules: &Rules| {
                let uses =
                    |rule: &String, (name, ..): &(&SmolStr, _, _)| rule.contains(&alloc::format!("@{name} "));
                rules.iter().any(|rule| renewed.iter().any(|set| uses(rule, set)))
            };
            let chains = old.values().flat_map(|part| &part.chains);
            let chains: BTreeMap<_, _> =
                chains.filter(|(_, rules)| used(rules)).map(|(name, rules)| (name, rules)).collect();
            for name in chains.keys() {
                text.chain("flush chain", name);
            }
            for (name, _, seconds) in renewed {
                text.line("delete set", format_args!("{name}"));
                text.line("add set", format_args!("{name} {}", self.words.affinity_set(*seconds)));
            }
            for (name, rules) in
                chains.into_iter().filter(|(name, rules)| self.chains.get(name) == Some(rules))
            {
                text.rules(name, rules.iter());
            }
            text.cut();
        }
        let all = if scope == Scope::Full { self.sets.sorted() } else { Vec::new() };
        let new = self.sets.changes().filter(|(_, old, _)| scope == Scope::Changes && old.is_none());
        for (name, seconds) in all.into_iter().chain(new.filter_map(|(name, _, new)| Some((name, new?)))) {
            text.line("add set", format_args!("{name} {}", self.words.affinity_set(*seconds)));
            text.cut();
        }
    }

    /// First what is new, from the endpoints to what leads to them, then the other way round what is to go.
    fn write_elements(&self, text: &mut Transaction<'_>) {
        let at_once = match self.words.layout {
            Layout::Reference => 1,
            Layout::Flat => ELEMENTS_OF_LINE,
        };
        let (mut new, mut old): (Vec<_>, Vec<_>) =
            self.elements.changes().partition(|(.., new)| new.is_some());
        new.sort_by_key(|((container, _), ..)| *container);
        text.elements(&new, at_once);
        old.reverse();
        text.elements(&old, at_once);
    }

    /// Empties chains that nothing needs any more, and deletes such sets.
    fn retire(&mut self, left: Left, text: &mut Transaction<'_>) -> Vec<SmolStr> {
        let mut emptied = Vec::new();
        let gone = self.chains.changes().filter(|(.., new)| new.is_none()).map(|(name, ..)| name);
        let foreign = left.chains.iter().filter(|name| self.chains.get(name).is_none());
        for name in gone.chain(foreign) {
            text.chain("flush chain", name);
            text.cut();
            emptied.push(name.clone());
        }
        let gone = self.sets.changes().filter(|(.., new)| new.is_none()).map(|(name, ..)| name);
        let foreign = left.sets.iter().filter(|name| self.sets.get(name).is_none());
        for name in gone.chain(foreign) {
            text.line("delete set", format_args!("{name}"));
        }
        self.emptied.retain(|name| self.chains.get(name).is_none());
        self.emptied.extend(emptied.iter().cloned());
        emptied
    }
}

/// Reads `{ KEY [comment "..."] [: VERDICT] }`.
fn read_element(name: &str, text: &str) -> Option<((Container, SmolStr), Value)> {
    let container = Container::ALL.into_iter().find(|container| container.name() == name)?;
    let inner = text.strip_prefix("{ ")?.strip_suffix(" }")?;
    let (key, verdict) = inner.split_once(" : ").unwrap_or((inner, ""));
    let (key, comment) = key.split_once(" comment ").unwrap_or((key, ""));
    let comment = comment.trim_matches('"').into();
    Some(((container, key.into()), Value { verdict: verdict.into(), comment }))
}
