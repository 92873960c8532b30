//! Keeping a node's virtual servers, sets and rules up to date.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use smol_str::SmolStr;
use svc_endpoints::view::{SliceCache, ViewChanges, Viewpoint};
use svc_model::{IpFamily, ObjectRef, Service};

use super::counted::{Change, Counted};
use super::part::{Closed, NodeAddresses, Part};
use super::rules::{Filled, Rules, jumps};
use super::server::Servers;
use super::set::Set;
use super::{DUMMY_DEVICE, Input};
use crate::config::ProxyConfig;
use crate::ipset::{Entry, IpSet};
use crate::iptables::text::{Formatted, Text};
use crate::ipvsadm::{VirtualAddress, VirtualServers};
use crate::packet::Family;
use crate::plan::{ConntrackCleanup, Inbox, PortPlan, ServicePort, Skipped};
use crate::xtables::{RestoreMode, Ruleset};

/// How much a sync writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything, for a kernel of which nothing needs to be known. Virtual servers are deleted and made anew, which
    /// their connections survive, since the kernel finds deleted servers again; servers that drain are deleted.
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
    /// UDP flows to forget once all is in place.
    pub conntrack: ConntrackCleanup,
}

#[derive(Clone, Debug, Default)]
struct Known {
    ports: Vec<Arc<ServicePort>>,
    part: Part,
}

/// One family of a node, in IPVS mode.
///
/// Used like [`iptables::Proxy`](crate::iptables::Proxy): tell it of Services and endpoints, [`sync`](Self::sync), feed
/// the texts to their tools, and tell how that went.
///
/// A server that is no endpoint any more gets no new connections, but keeps those of TCP that it has. From time to time
/// ([`drain_due`](Self::drain_due)), [`drain`](Self::drain) is to be told how many are left, and deletes the servers
/// that have none.
///
/// If two Service ports ask for the same virtual server, the first in order of namespace, name and port name gets it
/// (the reference follows the order of a hash map).
#[derive(Clone, Debug)]
pub struct Proxy {
    config: ProxyConfig,
    viewpoint: Viewpoint,
    node: NodeAddresses,
    rules: Rules,
    services: BTreeMap<ObjectRef, Known>,
    inbox: Inbox,
    servers: Servers,
    entries: Counted<(Set, Entry)>,
    /// Number of different entries wanted in each set.
    filled: [u32; Set::COUNT],
    bound: Counted<IpAddr>,
    closed: Counted<Closed>,
    /// Which sets had entries when the rules were written.
    written: Option<Filled>,
    /// Sets that are known to exist.
    created: BTreeSet<Set>,
    /// Addresses that the dummy device may have besides, and virtual servers that may be there still.
    doubtful: BTreeSet<IpAddr>,
    pending: Pending,
    must_be_full: bool,
    awaits_outcome: bool,
}

/// What the last sync deleted: if that failed, it may still be there.
#[derive(Clone, Debug, Default)]
struct Pending {
    servers: Vec<VirtualAddress>,
    addresses: Vec<IpAddr>,
}

impl Proxy {
    /// A proxy that knows no Service, for a kernel without virtual servers.
    #[must_use]
    pub fn new(config: ProxyConfig) -> Self {
        Self {
            viewpoint: config.viewpoint(),
            node: NodeAddresses::new(&config),
            rules: Rules::new(&config),
            services: BTreeMap::new(),
            inbox: Inbox::new(config.family),
            servers: Servers::new(&config),
            entries: Counted::default(),
            filled: [0; Set::COUNT],
            bound: Counted::default(),
            closed: Counted::default(),
            written: None,
            created: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            pending: Pending::default(),
            must_be_full: true,
            awaits_outcome: false,
            config,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ProxyConfig {
        &self.config
    }

    /// Adds a Service, or puts it in the place of the one with the same namespace and name. Returns what of it leads
    /// to no virtual servers.
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

    /// Moves the node to another zone, which may change the endpoints of every Service.
    pub fn set_zone(&mut self, zone: Option<SmolStr>) {
        self.config.zone = zone;
        self.viewpoint = self.config.viewpoint();
        self.inbox.touch_services(self.services.keys());
    }

    /// Gives the node other addresses. Node ports have a virtual server at each, so the reference looks them up before
    /// every sync. Those of the dummy device do not belong here.
    pub fn set_node_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.config.node_addresses = addresses.into_iter().collect();
        let node = NodeAddresses::new(&self.config);
        if node != self.node {
            self.node = node;
            self.inbox.touch_services(self.services.keys());
        }
    }

    /// Makes the next sync full.
    pub fn require_full(&mut self) {
        self.must_be_full = true;
    }

    /// Takes over what is there, from an earlier proxy or after a failure: virtual servers (of `ipvsadm -Sn`), sets (of
    /// `ipset save`) and addresses of the dummy device. The next sync deletes what no Service needs, other virtual
    /// servers of the family included, and gives real servers their weight back.
    pub fn adopt(
        &mut self,
        servers: &VirtualServers,
        sets: &BTreeMap<SmolStr, IpSet>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        let family = self.config.family;
        self.servers.adopt(servers);
        self.bound.adopt(addresses.into_iter().filter(|ip| IpFamily::of(*ip) == family));
        self.created.clear();
        let known = Set::ALL.into_iter().filter_map(|set| Some((set, sets.get(set.name(family))?)));
        let mut found = Vec::new();
        for (set, content) in known.filter(|(set, content)| content.kind == set.kind()) {
            self.created.insert(set);
            found.extend(content.entries.iter().map(|entry| (set, entry.clone())));
        }
        self.entries.adopt(found);
        self.doubtful.clear();
        self.pending = Pending::default();
        self.written = None;
        self.must_be_full = false;
        self.awaits_outcome = false;
    }

    /// Writes what brings the kernel up to date, at the ends of the texts of `out`.
    ///
    /// `slices` is the cache whose changes were told to [`touch`](Self::touch). If the outcome of the sync before was
    /// never told, it counts as failed.
    pub fn sync(&mut self, slices: &SliceCache, scope: Scope, out: &mut Input) -> Sync {
        if self.awaits_outcome {
            self.failed();
        }
        let scope = if self.must_be_full { Scope::Full } else { scope };
        let conntrack = self.plan(slices, scope);
        match scope {
            Scope::Full => self.write_whole(out),
            Scope::Changes => self.write_changes(out),
        }
        self.awaits_outcome = true;
        Sync { scope, conntrack }
    }

    /// All texts of the last sync have taken effect.
    pub fn succeeded(&mut self) {
        self.awaits_outcome = false;
        self.must_be_full = false;
        self.pending = Pending::default();
        self.doubtful.clear();
    }

    /// The texts of the last sync have not all taken effect. The next sync is full, unless [`adopt`](Self::adopt) is
    /// told what is there.
    pub fn failed(&mut self) {
        let pending = mem::take(&mut self.pending);
        self.servers.doubt(pending.servers);
        self.doubtful.extend(pending.addresses);
        self.awaits_outcome = false;
        self.must_be_full = true;
    }

    /// The servers that get no new connections and wait for those they have to end.
    pub fn draining(&self) -> impl Iterator<Item = (VirtualAddress, SocketAddr)> {
        self.servers.draining()
    }

    /// When [`drain`](Self::drain) has something to do: at once (time zero) after a sync that took an endpoint away, a
    /// minute after a look at a server that still had connections, never if nothing drains.
    #[must_use]
    pub fn drain_due(&self) -> Option<Duration> {
        self.servers.drain_due()
    }

    /// Deletes servers that drain and have no connections, active or inactive, any more, as commands of
    /// `ipvsadm --restore` at the end of `out`. Returns their number. `connections` is asked for those that are due.
    pub fn drain(
        &mut self,
        now: Duration,
        connections: impl FnMut(&VirtualAddress, SocketAddr) -> u32,
        out: &mut Vec<u8>,
    ) -> usize {
        self.servers.drain(now, connections, out)
    }

    /// The virtual servers of the family after the last sync.
    #[must_use]
    pub fn virtual_servers(&self) -> VirtualServers {
        self.servers.model()
    }

    /// The sets after the last sync, by name.
    #[must_use]
    pub fn sets(&self) -> BTreeMap<SmolStr, IpSet> {
        let family = self.config.family;
        let empty = |set: Set| IpSet::new(set.kind(), set_family(set, family));
        let mut sets: BTreeMap<SmolStr, IpSet> =
            Set::ALL.into_iter().map(|set| (set.name(family).into(), empty(set))).collect();
        for (set, entry) in self.entries.wanted() {
            if let Some(content) = sets.get_mut(set.name(family)) {
                content.entries.insert(entry.clone());
            }
        }
        sets
    }

    /// The addresses of the dummy device after the last sync, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.bound.wanted().copied()
    }

    /// The iptables rules after the last sync, with the jumps to them, which are no part of a sync's text.
    #[must_use]
    pub fn rules(&self) -> Ruleset {
        let mut text = Vec::new();
        self.rules.write(self.filled(), self.closed.wanted(), &mut text);
        let mut text = String::from_utf8_lossy(&text).into_owned();
        for jump in jumps() {
            // Writing to a String cannot fail.
            let _ = core::fmt::write(
                &mut text,
                format_args!("*{}\n-I {} {jump}\nCOMMIT\n", jump.table, jump.from),
            );
        }
        let mut rules = Ruleset::new(Family::from(self.config.family));
        let read = rules.restore(&text, RestoreMode::Keep);
        debug_assert!(read.is_ok(), "what is written can be read");
        rules
    }

    fn filled(&self) -> Filled {
        Filled::of(
            Set::ALL.into_iter().zip(self.filled).filter(|(_, number)| *number > 0).map(|(set, _)| set),
        )
    }

    /// Brings what is wanted up to date, and tells which flows of the Services that are looked at are to be forgotten.
    fn plan(&mut self, slices: &SliceCache, scope: Scope) -> ConntrackCleanup {
        let mut cleanup = ConntrackCleanup::default();
        let family = self.config.family;
        let known =
            |name: &ObjectRef| self.services.get(name).map_or(Vec::new(), |known| known.ports.clone());
        for (name, ports) in self.inbox.take(known) {
            let mut part = Part::default();
            for service in &ports {
                let listed = slices.port(&service.key(family));
                let plan = PortPlan::new(Arc::clone(service), listed, &self.viewpoint);
                part.add(&plan, listed, &self.node, &self.config.node_name);
                if scope == Scope::Changes {
                    cleanup.add(service, listed);
                }
            }
            let new = (!ports.is_empty()).then_some(Known { ports, part });
            self.replace(name, new);
        }
        if scope == Scope::Full {
            for service in self.services.values().flat_map(|known| &known.ports) {
                cleanup.add(service, slices.port(&service.key(family)));
            }
        }
        cleanup
    }

    /// Puts a Service in the place of what it was. The new one comes first, so that what stays is never unwanted.
    fn replace(&mut self, name: ObjectRef, new: Option<Known>) {
        let old = match new {
            None => self.services.remove(&name),
            Some(new) => {
                self.want(&new.part);
                self.services.insert(name, new)
            }
        };
        let Some(Known { part, .. }) = old else { return };
        for (address, claim) in &part.servers {
            self.servers.release(*address, claim);
        }
        for entry in &part.entries {
            if self.entries.remove(entry)
                && let Some(number) = self.filled.get_mut(entry.0 as usize)
            {
                *number -= 1;
            }
        }
        part.bound.iter().for_each(|ip| _ = self.bound.remove(ip));
        part.closed.iter().for_each(|closed| _ = self.closed.remove(closed));
    }

    fn want(&mut self, part: &Part) {
        for (address, claim) in &part.servers {
            self.servers.claim(*address, claim);
        }
        for entry in &part.entries {
            if self.entries.add(entry)
                && let Some(number) = self.filled.get_mut(entry.0 as usize)
            {
                *number += 1;
            }
        }
        part.bound.iter().for_each(|ip| _ = self.bound.add(ip));
        part.closed.iter().for_each(|closed| _ = self.closed.add(closed));
    }

    fn write_whole(&mut self, out: &mut Input) {
        let family = self.config.family;
        for set in Set::ALL {
            create(set, family, &mut out.sets);
            out.sets.text("flush ").text(set.name(family)).text("\n");
        }
        self.entries.settle();
        for (set, entry) in self.entries.wanted() {
            write_entry("add ", *set, entry, family, &mut out.sets);
        }
        self.created = Set::ALL.into();
        self.closed.settle();
        let filled = self.filled();
        self.rules.write(filled, self.closed.wanted(), &mut out.rules);
        self.written = Some(filled);
        // What was bound and is not wanted is forgotten by `settle`, so it is asked for first.
        let stale = self.bound.changes().into_iter().filter(|(_, change)| *change == Change::Delete);
        let stale: BTreeSet<_> = stale.map(|(ip, _)| ip).chain(mem::take(&mut self.doubtful)).collect();
        self.bound.settle();
        let wanted: BTreeSet<_> = self.bound.wanted().collect();
        for ip in stale.iter().filter(|ip| !wanted.contains(ip)) {
            address("addr del ", *ip, &mut out.unbind);
        }
        for ip in wanted {
            address("addr replace ", *ip, &mut out.bind);
        }
        self.pending.addresses.extend(stale);
        self.pending.servers = self.servers.whole(&mut out.servers);
    }

    fn write_changes(&mut self, out: &mut Input) {
        let family = self.config.family;
        for set in Set::ALL {
            if self.created.insert(set) {
                create(set, family, &mut out.sets);
            }
        }
        for ((set, entry), change) in self.entries.changes() {
            let verb = if change == Change::Add { "add " } else { "del " };
            write_entry(verb, set, &entry, family, &mut out.sets);
        }
        let filled = self.filled();
        let closed = self.closed.changes();
        match self.written {
            Some(old) => self.rules.change(old, filled, &closed, &mut out.rules),
            None => self.rules.write(filled, self.closed.wanted(), &mut out.rules),
        }
        self.written = Some(filled);
        for (ip, change) in self.bound.changes() {
            match change {
                Change::Add => address("addr replace ", ip, &mut out.bind),
                Change::Delete => {
                    address("addr del ", ip, &mut out.unbind);
                    self.pending.addresses.push(ip);
                }
            }
        }
        self.pending.servers = self.servers.change(&mut out.servers);
    }
}

const fn set_family(set: Set, family: IpFamily) -> Family {
    match (set.kind(), family) {
        // Ports have no family.
        (crate::ipset::SetType::BitmapPort, _) | (_, IpFamily::Ipv4) => Family::V4,
        (_, IpFamily::Ipv6) => Family::V6,
    }
}

fn create(set: Set, family: IpFamily, out: &mut Vec<u8>) {
    let model = IpSet::new(set.kind(), set_family(set, family));
    out.text("create ").text(set.name(family)).text(" ").text(set.kind().name());
    if set.kind() != crate::ipset::SetType::BitmapPort {
        out.text(match family {
            IpFamily::Ipv4 => " family inet",
            IpFamily::Ipv6 => " family inet6",
        });
    }
    out.text(" ").text(&model.options).text("\n");
}

fn write_entry(verb: &str, set: Set, entry: &Entry, family: IpFamily, out: &mut Vec<u8>) {
    out.text(verb).text(set.name(family)).text(" ");
    // Writing to a vector cannot fail.
    let _ = core::fmt::write(&mut Formatted(out), format_args!("{entry}\n"));
}

fn address(verb: &str, ip: IpAddr, out: &mut Vec<u8>) {
    let prefix = Family::of(ip).bits();
    out.text(verb).ip(ip).text("/").number(prefix.into()).text(" dev ").text(DUMMY_DEVICE).text("\n");
}
