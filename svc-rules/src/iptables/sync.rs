//! Keeping a node's rules up to date.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::num::NonZeroUsize;

use smol_str::SmolStr;
use svc_endpoints::view::{SliceCache, ViewChanges, Viewpoint};
use svc_model::{ObjectRef, Protocol, Service};

use super::chain::{Chain, ChainKind, ServiceChain, SharedChain, Table};
use super::delta::Delta;
use super::index::Index;
use super::rules::{Comments, Lines, Port, Rules, sorted_chains};
use super::text::Text;
use crate::config::ProxyConfig;
use crate::plan::{ConntrackCleanup, Inbox, PortPlan, ServicePort, Skipped};

/// How much of the rules a sync writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Everything.
    Full,
    /// As the reference does after its first sync: all shared chains, and of the chains of single Services those of
    /// Services that changed. The size grows with the number of Services. What Services have in the shared chains is
    /// kept as text for the next one, about 150 bytes a Service.
    Partial,
    /// Only the rules that differ, edited in place. The size grows with the change alone; without a change nothing
    /// is written.
    Delta,
}

/// What to do about chains that no Service needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StaleChains {
    /// Delete them.
    Delete,
    /// Leave them for a later sync: nothing leads to them. In large clusters the reference deletes them once a sync
    /// period only.
    Keep,
}

/// How a full sync is divided.
///
/// A table takes effect at its `COMMIT`. The nft variant of `iptables-restore` needs a time that grows much faster
/// than the number of rules before one `COMMIT`, so a full text in sections is loaded many times faster.
/// The legacy variant copies the whole table at each `COMMIT`: there `Whole` is the faster one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sections {
    /// One section for each table, as the reference writes it.
    #[default]
    Whole,
    /// First the chains of single Services, at most this many Services in a section, then all that leads to them.
    /// Between two sections every Service works, by its old rules or by its new ones.
    OfServices(NonZeroUsize),
}

/// Why a sync had to be full although less was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FullCause {
    /// Nothing has been written yet.
    First,
    /// The sync before failed, or its outcome was never told.
    Failed,
    /// The node's zone changed.
    Topology,
    /// Chains were found in the kernel that the proxy did not write, or it was told to start over.
    Requested,
}

/// What a sync wrote, and what else is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Sync {
    /// How much was written.
    pub mode: Mode,
    /// Why it was full, if it had to be.
    pub cause: Option<FullCause>,
    /// Services that changed since the last successful sync, in order.
    pub changed: Vec<ObjectRef>,
    /// Number of stale chains deleted.
    pub deleted_chains: usize,
    /// UDP flows to forget once the rules are in place.
    pub conntrack: ConntrackCleanup,
}

/// One family's rules of one node, in iptables mode.
///
/// Tell it of every Service ([`apply`](Self::apply), [`remove`](Self::remove)) and of every change of endpoints
/// ([`touch`](Self::touch)), in any order. Then, as often as wanted: [`sync`](Self::sync) writes a restore input, to
/// be fed to `iptables-restore --noflush --counters`, and [`succeeded`](Self::succeeded) or
/// [`failed`](Self::failed) tells how that went.
///
/// Services are written in order of namespace, name, port name and protocol, so equal states give equal text
/// (the reference follows the order of a hash map).
#[derive(Clone, Debug)]
pub struct Proxy {
    config: ProxyConfig,
    viewpoint: Viewpoint,
    rules: Rules,
    /// Services as of the last sync.
    index: Index,
    /// What it was told since.
    inbox: Inbox,
    /// Of Services that changed since the last successful sync: what the kernel has.
    written: BTreeMap<ObjectRef, Box<[Port]>>,
    stale: BTreeSet<ServiceChain>,
    /// Stale chains whose names this version would not give.
    foreign: BTreeSet<SmolStr>,
    listed: u64,
    must_be_full: Option<FullCause>,
    sections: Sections,
    awaits_outcome: Option<StaleChains>,
    delta: Delta,
}

impl Proxy {
    /// A proxy that knows no Service, for a kernel without rules.
    #[must_use]
    pub fn new(config: ProxyConfig) -> Self {
        Self {
            viewpoint: config.viewpoint(),
            rules: Rules::new(&config),
            inbox: Inbox::new(config.family),
            config,
            index: Index::default(),
            written: BTreeMap::new(),
            stale: BTreeSet::new(),
            foreign: BTreeSet::new(),
            listed: 0,
            must_be_full: Some(FullCause::First),
            sections: Sections::Whole,
            awaits_outcome: None,
            delta: Delta::default(),
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
        self.inbox.replace_all(services, self.index.names());
    }

    /// Takes note of Services whose endpoints changed. Changes in the other family are ignored.
    pub fn touch(&mut self, changes: &ViewChanges) {
        self.inbox.touch(changes);
    }

    /// Has a partial sync rewrite a Service whether or not anything about it changed. The reference does that for a
    /// slice that changed only in what no rule depends on, such as a condition that states its default.
    pub fn touch_service(&mut self, service: &ObjectRef) {
        self.inbox.touch_services([service]);
    }

    /// Moves the node to another zone, which may change the endpoints of every Service; the next sync is full.
    pub fn set_zone(&mut self, zone: Option<SmolStr>) {
        self.config.zone = zone;
        self.viewpoint = self.config.viewpoint();
        self.inbox.touch_services(self.index.names());
        self.must_be_full = self.must_be_full.or(Some(FullCause::Topology));
    }

    /// Makes the next sync full: after someone else has changed the tables (see [`CANARY`](super::CANARY)).
    pub fn require_full(&mut self) {
        self.must_be_full = self.must_be_full.or(Some(FullCause::Requested));
    }

    /// Takes over chains of the nat table that an earlier proxy left behind, by name. Those that no Service needs are
    /// stale; names that no proxy gives are ignored. The next sync is full.
    pub fn adopt<'a>(&mut self, chains: impl IntoIterator<Item = &'a str>) {
        for chain in chains {
            if let Some(chain) = ServiceChain::parse(chain) {
                self.stale.insert(chain);
            } else if ChainKind::of(chain).is_some() {
                self.foreign.insert(SmolStr::new(chain));
            }
        }
        self.require_full();
    }

    /// Sets how full syncs are divided from now on.
    pub fn set_sections(&mut self, sections: Sections) {
        self.sections = sections;
    }

    /// Whether there are more endpoints than the threshold for large clusters.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.listed > u64::from(self.config.large_cluster_threshold)
    }

    /// What the proxy knows of each Service port, in order, as of the last sync.
    pub fn plans(&self) -> impl Iterator<Item = &PortPlan> {
        self.index.ports().map(|port| &port.plan)
    }

    /// Writes the restore input that brings the kernel's rules up to date, at the end of `out`. Nothing is written
    /// if there is nothing to do, which only a delta can find.
    ///
    /// `slices` is the cache whose changes were told to [`touch`](Self::touch). If the outcome of the sync before was
    /// never told, it counts as failed.
    pub fn sync(&mut self, slices: &SliceCache, mode: Mode, stale: StaleChains, out: &mut Vec<u8>) -> Sync {
        if self.awaits_outcome.is_some() {
            self.failed();
        }
        self.plan(slices);
        let (mode, cause) = match self.must_be_full {
            Some(cause) => (Mode::Full, Some(cause)),
            None => (mode, None),
        };
        self.comment(mode);
        self.find_stale(mode);
        if mode == Mode::Partial {
            self.index.keep_texts(&self.rules);
        }
        match mode {
            Mode::Full | Mode::Partial => self.write_tables(mode, stale, out),
            Mode::Delta => self.write_delta(stale, out),
        }
        self.awaits_outcome = Some(stale);
        Sync {
            mode,
            cause,
            changed: self.written.keys().cloned().collect(),
            deleted_chains: match stale {
                StaleChains::Delete => self.stale.len() + self.foreign.len(),
                StaleChains::Keep => 0,
            },
            conntrack: self.conntrack(slices, mode),
        }
    }

    /// The restore input of the last sync has taken effect.
    pub fn succeeded(&mut self) {
        if self.awaits_outcome.take() == Some(StaleChains::Delete) {
            self.stale.clear();
            self.foreign.clear();
        }
        self.written.clear();
        self.must_be_full = None;
    }

    /// The restore input of the last sync was refused, or may not have taken effect; the next sync is full.
    pub fn failed(&mut self) {
        self.awaits_outcome = None;
        self.must_be_full = self.must_be_full.or(Some(FullCause::Failed));
    }

    /// Brings the index up to date, keeping what the kernel has in `written`.
    fn plan(&mut self, slices: &SliceCache) {
        let known = |name: &ObjectRef| {
            self.index.get(name).iter().map(|port| Arc::clone(&port.plan.service)).collect()
        };
        for (name, services) in self.inbox.take(known) {
            let old = self.index.get(&name);
            let new: Box<[Port]> =
                services.into_iter().map(|service| self.plan_port(service, slices, old)).collect();
            self.listed = self.listed + listed(&new) - listed(old);
            let old = self.index.replace(&name, new, &self.rules);
            self.written.entry(name).or_insert(old);
        }
    }

    fn plan_port(&self, service: Arc<ServicePort>, slices: &SliceCache, old: &[Port]) -> Port {
        let known = old.iter().find(|port| {
            port.plan.service.name == service.name && port.plan.service.protocol == service.protocol
        });
        let key = service.key(self.config.family);
        Port::new(PortPlan::new(service, slices.port(&key), &self.viewpoint), Comments::All, known)
    }

    /// Decides on the comments of all ports that are about to be written. Others keep what they were written with:
    /// growing large, or small again, rewrites nothing.
    fn comment(&mut self, mode: Mode) {
        let comments = if self.is_large() { Comments::NotPerEndpoint } else { Comments::All };
        if mode == Mode::Full {
            self.index.ports_mut().for_each(|port| port.comments = comments);
        } else {
            for name in self.written.keys() {
                self.index.ports_of_mut(name).for_each(|port| port.comments = comments);
            }
        }
    }

    /// Finds the chains that Services had and no longer need.
    fn find_stale(&mut self, mode: Mode) {
        for (name, old) in &self.written {
            let now = sorted_chains(self.index.get(name));
            for port in old {
                port.for_each_chain(|chain| {
                    if now.binary_search(&chain).is_err() {
                        self.stale.insert(chain);
                    }
                });
            }
        }
        if self.stale.is_empty() {
            return;
        }
        let mut needed = |port: &Port| port.for_each_chain(|chain| _ = self.stale.remove(&chain));
        match mode {
            Mode::Full => self.index.ports().for_each(&mut needed),
            Mode::Partial | Mode::Delta => {
                self.written.keys().flat_map(|name| self.index.get(name)).for_each(&mut needed);
            }
        }
    }

    fn write_tables(&self, mode: Mode, stale: StaleChains, out: &mut Vec<u8>) {
        let rules = &self.rules;
        let mut lines = Lines(out);
        let sections = match self.sections {
            Sections::OfServices(most) if mode == Mode::Full => Some(most),
            _ => None,
        };
        if let Some(most) = sections {
            self.write_sections(most, &mut lines);
        }
        let own = || self.rewritten(mode).filter(|_| sections.is_none());
        lines.0.text("*filter\n");
        rules.filter_chains().for_each(|chain| lines.chain(Chain::Shared(chain)));
        rules.filter_head(&mut lines);
        self.index.write(Table::Filter, rules, lines.0);
        rules.filter_tail(&mut lines);
        lines.0.text("COMMIT\n*nat\n");
        rules.nat_chains().for_each(|chain| lines.chain(Chain::Shared(chain)));
        for port in own() {
            port.for_each_chain(|chain| lines.chain(Chain::Service(chain)));
        }
        if stale == StaleChains::Delete {
            self.empty_stale(lines.0);
        }
        rules.nat_head(&mut lines);
        self.index.write(Table::Nat, rules, lines.0);
        own().for_each(|port| rules.service(port, &mut lines));
        if stale == StaleChains::Delete {
            self.delete_stale(lines.0);
        }
        rules.nat_tail(&mut lines);
        lines.0.text("COMMIT\n");
    }

    /// The chains of single Services, in sections of the nat table. Only `KUBE-MARK-MASQ` must be there before.
    fn write_sections(&self, most: NonZeroUsize, lines: &mut Lines<'_>) {
        lines.0.text("*nat\n");
        lines.chain(Chain::Shared(SharedChain::MarkMasq));
        self.rules.mark_masq(lines);
        let services: Vec<_> = self.index.services().collect();
        for services in services.chunks(most.get()) {
            lines.0.text("COMMIT\n*nat\n");
            let ports = || services.iter().copied().flatten();
            ports().for_each(|port| port.for_each_chain(|chain| lines.chain(Chain::Service(chain))));
            // In this order the tool needs about half the time.
            ports().for_each(|port| self.rules.endpoints(port, |_| true, lines));
            ports().for_each(|port| self.rules.traffic(port, lines));
        }
        lines.0.text("COMMIT\n");
    }

    /// The ports whose own chains are written.
    fn rewritten(&self, mode: Mode) -> Box<dyn Iterator<Item = &Port> + '_> {
        match mode {
            Mode::Full => Box::new(self.index.ports()),
            Mode::Partial | Mode::Delta => {
                Box::new(self.written.keys().flat_map(|name| self.index.get(name)))
            }
        }
    }

    fn write_delta(&mut self, stale: StaleChains, out: &mut Vec<u8>) {
        let mut delta = mem::take(&mut self.delta);
        delta.clear();
        // Services before the one at hand already have their new rules by the time that its edits are made.
        for (name, old) in &self.written {
            delta.service(&self.rules, old, self.index.get(name), &self.index.before(name));
        }
        if stale == StaleChains::Delete {
            self.empty_stale(delta.nat());
            self.delete_stale(delta.nat());
        }
        for (table, edits) in delta.tables() {
            if !edits.is_empty() {
                out.text("*").text(table.as_str()).text("\n").bytes(edits).text("COMMIT\n");
            }
        }
        self.delta = delta;
    }

    /// Declares stale chains, which empties them: only then can they be deleted.
    fn empty_stale(&self, out: &mut Vec<u8>) {
        self.stale.iter().for_each(|chain| Lines(out).chain(Chain::Service(*chain)));
        for chain in &self.foreign {
            out.text(":").text(chain).text(" - [0:0]\n");
        }
    }

    fn delete_stale(&self, out: &mut Vec<u8>) {
        for chain in &self.stale {
            out.text("-X ");
            chain.write(out);
            out.text("\n");
        }
        for chain in &self.foreign {
            out.text("-X ").text(chain).text("\n");
        }
    }

    fn conntrack(&self, slices: &SliceCache, mode: Mode) -> ConntrackCleanup {
        let mut cleanup = ConntrackCleanup::default();
        let services = self.rewritten(mode).map(|port| &port.plan.service);
        for service in services.filter(|service| service.protocol == Protocol::Udp) {
            cleanup.add(service, slices.port(&service.key(self.config.family)));
        }
        cleanup
    }
}

fn listed(ports: &[Port]) -> u64 {
    ports.iter().map(|port| u64::from(port.plan.listed)).sum()
}
