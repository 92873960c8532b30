//! Virtual servers: who wants them, what the kernel has of them, and the commands between the two.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::net::SocketAddr;
use core::time::Duration;

use ipnet::IpNet;
use svc_model::IpFamily;

use super::part::Claim;
use crate::config::ProxyConfig;
use crate::iptables::text::Text;
use crate::ipvsadm::{Method, Persistence, RealServer, VirtualAddress, VirtualServer, VirtualServers};
use crate::packet::{Family, Transport};

/// How long to wait until a server that still had connections is looked at again (`rsCheckDeleteInterval`).
const RECHECK: Duration = Duration::from_secs(60);

/// What a virtual server is, apart from its real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settings {
    /// As this proxy writes it, with that persistence.
    Own(Option<u32>),
    /// Anything else that was found in the kernel.
    Other,
}

/// A real server of the kernel that takes no part in its virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It was found with another weight or another method than a proxy gives.
    Odd,
    /// Its weight is 0, and it is looked after until its connections have ended.
    Draining {
        /// When it last had some.
        checked: Option<Duration>,
    },
}

/// A virtual server as the kernel has it.
#[derive(Clone, Debug)]
struct Loaded {
    settings: Settings,
    /// Those of weight 1, in order.
    servers: Arc<[SocketAddr]>,
    leaving: Vec<(SocketAddr, Leaving)>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// By the order of their owners; the first one is followed.
    claims: Vec<Claim>,
    loaded: Option<Loaded>,
}

/// All virtual servers of one family.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    family: IpFamily,
    /// ` -s SCHEDULER`.
    scheduler: Vec<u8>,
    /// ` -b FLAGS`, or nothing.
    flags: &'static str,
    excluded: Vec<IpNet>,
    entries: BTreeMap<VirtualAddress, Entry>,
    touched: Vec<VirtualAddress>,
    /// Those with servers that drain.
    draining: BTreeSet<VirtualAddress>,
    /// Those that nobody wants but that are not to be deleted, as they were found.
    kept: BTreeMap<VirtualAddress, VirtualServer>,
    /// Those that the kernel may have besides, after commands whose outcome is not known.
    doubtful: BTreeSet<VirtualAddress>,
}

impl Servers {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let mut scheduler = Vec::new();
        scheduler.text(" -s ").text(&config.ipvs.scheduler);
        Self {
            family: config.family,
            scheduler,
            // `IP_VS_SVC_F_SCHED_MH_PORT`; without it clients behind one address would all get one server.
            flags: if config.ipvs.scheduler == "mh" { " -b mh-port" } else { "" },
            excluded: config.ipvs.exclude_cidrs.clone(),
            entries: BTreeMap::new(),
            touched: Vec::new(),
            draining: BTreeSet::new(),
            kept: BTreeMap::new(),
            doubtful: BTreeSet::new(),
        }
    }

    pub(super) fn claim(&mut self, address: VirtualAddress, claim: &Claim) {
        let claims = &mut self.entries.entry(address).or_default().claims;
        let place = claims.partition_point(|known| order(known) < order(claim));
        claims.insert(place, claim.clone());
        self.touched.push(address);
    }

    pub(super) fn release(&mut self, address: VirtualAddress, claim: &Claim) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if let Some(place) = entry.claims.iter().position(|known| known == claim) {
            entry.claims.remove(place);
            self.touched.push(address);
        }
    }

    /// Takes it that the kernel has `found`. What is of another family is not looked at.
    pub(super) fn adopt(&mut self, found: &VirtualServers) {
        self.entries.values_mut().for_each(|entry| entry.loaded = None);
        self.draining.clear();
        self.kept.clear();
        self.doubtful.clear();
        for (address, service) in found.iter() {
            if !self.is_own(address) {
                continue;
            }
            if self.is_excluded(address) {
                self.kept.insert(*address, service.clone());
            }
            let loaded = self.read(service);
            if loaded.leaving.iter().any(|(_, state)| *state != Leaving::Odd) {
                self.draining.insert(*address);
            }
            self.entries.entry(*address).or_default().loaded = Some(loaded);
        }
        self.touched = self.entries.keys().copied().collect();
    }

    /// A virtual server of the kernel, told by what is to be done about it.
    fn read(&self, service: &VirtualServer) -> Loaded {
        let full = |persistence: &Persistence| persistence.prefix == Family::from(self.family).bits();
        let plain = self.scheduler.strip_prefix(b" -s ") == Some(service.scheduler.as_bytes())
            && service.flags.as_deref() == self.flags.strip_prefix(" -b ")
            && service.engine.is_none()
            && !service.one_packet
            && service.persistence.as_ref().is_none_or(full);
        let persistence = service.persistence.map(|persistence| persistence.seconds);
        let settings = if plain { Settings::Own(persistence) } else { Settings::Other };
        let (mut servers, mut leaving) = (Vec::new(), Vec::new());
        for (at, server) in service.servers() {
            let usual = *server == real_server(server.weight);
            match server.weight {
                1 if usual => servers.push(at),
                0 if usual => leaving.push((at, Leaving::Draining { checked: None })),
                _ => leaving.push((at, Leaving::Odd)),
            }
        }
        Loaded { settings, servers: servers.into(), leaving }
    }

    fn is_own(&self, address: &VirtualAddress) -> bool {
        matches!(address, VirtualAddress::Socket { address, .. } if IpFamily::of(*address) == self.family)
    }

    fn is_excluded(&self, address: &VirtualAddress) -> bool {
        let ip = match address {
            VirtualAddress::Socket { address, .. } => *address,
            VirtualAddress::Mark { .. } => return true,
        };
        self.excluded.iter().any(|range| range.contains(&ip))
    }

    /// Takes it that the commands of the last change, or of the last whole, may or may not have been carried out.
    pub(super) fn doubt(&mut self, deleted: impl IntoIterator<Item = VirtualAddress>) {
        self.doubtful.extend(deleted);
    }

    /// Writes what brings the kernel up to date, and returns what that deletes.
    pub(super) fn change(&mut self, out: &mut Vec<u8>) -> Vec<VirtualAddress> {
        let mut touched = mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let mut deleted = Vec::new();
        for address in touched {
            let Some(mut entry) = self.entries.remove(&address) else { continue };
            match (entry.claims.first(), entry.loaded.take()) {
                (Some(claim), loaded) => {
                    let loaded = self.bring(&address, claim, loaded, out);
                    self.note_draining(address, &loaded);
                    self.kept.remove(&address);
                    entry.loaded = Some(loaded);
                }
                // Only deletion is barred.
                (None, Some(loaded)) if self.is_excluded(&address) => entry.loaded = Some(loaded),
                (None, Some(_)) => {
                    command("-D", &address, out).text("\n");
                    self.draining.remove(&address);
                    deleted.push(address);
                    continue;
                }
                (None, None) => continue,
            }
            self.entries.insert(address, entry);
        }
        deleted
    }

    /// Writes everything, after the deletion of all that may be there.
    pub(super) fn whole(&mut self, out: &mut Vec<u8>) -> Vec<VirtualAddress> {
        self.touched.clear();
        self.draining.clear();
        let mut there = mem::take(&mut self.doubtful);
        there.extend(self.entries.iter().filter(|(_, entry)| entry.loaded.is_some()).map(|(at, _)| *at));
        let wanted = |at: &VirtualAddress| self.entries.get(at).is_some_and(|entry| !entry.claims.is_empty());
        for address in there.iter().filter(|address| wanted(address) || !self.is_excluded(address)) {
            command("-D", address, out).text("\n");
        }
        let mut entries = mem::take(&mut self.entries);
        let mut kept = mem::take(&mut self.kept);
        entries.retain(|address, entry| match entry.claims.first() {
            Some(claim) => {
                kept.remove(address);
                entry.loaded = Some(self.bring(address, claim, None, out));
                true
            }
            None => entry.loaded.is_some() && self.is_excluded(address),
        });
        self.entries = entries;
        self.kept = kept;
        there.into_iter().collect()
    }

    /// Makes a virtual server what `claim` wants, from what the kernel has.
    fn bring(
        &self,
        address: &VirtualAddress,
        claim: &Claim,
        old: Option<Loaded>,
        out: &mut Vec<u8>,
    ) -> Loaded {
        let settings = Settings::Own(claim.affinity);
        let verb = match &old {
            None => Some("-A"),
            Some(old) => (old.settings != settings).then_some("-E"),
        };
        if let Some(verb) = verb {
            command(verb, address, out).bytes(&self.scheduler);
            if let Some(seconds) = claim.affinity {
                out.text(" -p ").number(seconds);
            }
            out.text(self.flags).text("\n");
        }
        let old = old.unwrap_or(Loaded { settings, servers: Arc::default(), leaving: Vec::new() });
        let mut leaving = Vec::new();
        let gone = old.servers.iter().filter(|server| claim.servers.binary_search(server).is_err());
        let gone = gone.map(|server| (*server, Leaving::Odd));
        for (server, state) in gone.chain(old.leaving.iter().copied()) {
            if claim.servers.binary_search(&server).is_ok() {
                continue;
            }
            match state {
                // Connections of other protocols are not waited for.
                _ if !drains(address) => _ = real("-d", address, server, out).text("\n"),
                Leaving::Odd => {
                    real("-e", address, server, out).text(" -m -w 0\n");
                    leaving.push((server, Leaving::Draining { checked: None }));
                }
                Leaving::Draining { .. } => leaving.push((server, state)),
            }
        }
        for server in claim.servers.iter().filter(|server| old.servers.binary_search(server).is_err()) {
            let back = old.leaving.iter().any(|(leaving, _)| leaving == server);
            real(if back { "-e" } else { "-a" }, address, *server, out).text(" -m -w 1\n");
        }
        leaving.sort_unstable_by_key(|(server, _)| *server);
        Loaded { settings, servers: Arc::clone(&claim.servers), leaving }
    }

    fn note_draining(&mut self, address: VirtualAddress, loaded: &Loaded) {
        if loaded.leaving.is_empty() {
            self.draining.remove(&address);
        } else {
            self.draining.insert(address);
        }
    }

    /// The servers that drain.
    pub(super) fn draining(&self) -> impl Iterator<Item = (VirtualAddress, SocketAddr)> {
        self.draining.iter().flat_map(|address| {
            let loaded = self.entries.get(address).and_then(|entry| entry.loaded.as_ref());
            let leaving = loaded.into_iter().flat_map(|loaded| &loaded.leaving);
            leaving.filter(|(_, state)| *state != Leaving::Odd).map(|(server, _)| (*address, *server))
        })
    }

    /// When the next look at a server that drains is due.
    pub(super) fn drain_due(&self) -> Option<Duration> {
        let loaded = self.draining.iter().filter_map(|address| self.entries.get(address)?.loaded.as_ref());
        loaded.flat_map(|loaded| &loaded.leaving).filter_map(|(_, state)| due(*state)).min()
    }

    /// Deletes those that have no connections any more.
    pub(super) fn drain(
        &mut self,
        now: Duration,
        mut connections: impl FnMut(&VirtualAddress, SocketAddr) -> u32,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut deleted = 0;
        let (entries, kept) = (&mut self.entries, &mut self.kept);
        self.draining.retain(|address| {
            let Some(loaded) = entries.get_mut(address).and_then(|entry| entry.loaded.as_mut()) else {
                return false;
            };
            loaded.leaving.retain_mut(|(server, state)| {
                if due(*state).is_none_or(|due| due > now) {
                    return true;
                }
                if drains(address) && connections(address, *server) > 0 {
                    *state = Leaving::Draining { checked: Some(now) };
                    return true;
                }
                real("-d", address, *server, out).text("\n");
                if let Some(found) = kept.get_mut(address) {
                    found.remove(server);
                }
                deleted += 1;
                false
            });
            !loaded.leaving.is_empty()
        });
        deleted
    }

    /// What the kernel has, as data.
    pub(super) fn model(&self) -> VirtualServers {
        let mut model = VirtualServers::new();
        let scheduler = self.scheduler.strip_prefix(b" -s ").unwrap_or_default();
        let scheduler = core::str::from_utf8(scheduler).unwrap_or_default();
        for (address, entry) in &self.entries {
            let Some(loaded) = &entry.loaded else { continue };
            if let Some(found) = self.kept.get(address) {
                model.insert(*address, found.clone());
                continue;
            }
            let seconds = match loaded.settings {
                Settings::Own(seconds) => seconds,
                Settings::Other => None,
            };
            let prefix = Family::from(self.family).bits();
            let mut server = VirtualServer::default();
            server.scheduler = scheduler.into();
            server.persistence = seconds.map(|seconds| Persistence { seconds, prefix });
            server.flags = self.flags.strip_prefix(" -b ").map(Into::into);
            let active = loaded.servers.iter().map(|at| (*at, 1));
            let leaving = loaded.leaving.iter().map(|(at, _)| (*at, 0));
            for (at, weight) in active.chain(leaving) {
                server.insert(at, real_server(weight));
            }
            model.insert(*address, server);
        }
        model
    }
}

/// Claims follow the order of Services and ports.
fn order(claim: &Claim) -> (&crate::plan::ServicePortName, svc_model::Protocol) {
    (&claim.owner.name, claim.owner.protocol)
}

/// The reference waits for connections of TCP only.
const fn drains(address: &VirtualAddress) -> bool {
    matches!(address, VirtualAddress::Socket { transport: Transport::TCP, .. })
}

fn due(state: Leaving) -> Option<Duration> {
    match state {
        Leaving::Odd => None,
        Leaving::Draining { checked } => Some(checked.map_or(Duration::ZERO, |at| at + RECHECK)),
    }
}

fn real_server(weight: u32) -> RealServer {
    RealServer { method: Method::Masquerade, weight, ..RealServer::default() }
}

fn command<'w>(verb: &str, address: &VirtualAddress, out: &'w mut Vec<u8>) -> &'w mut Vec<u8> {
    out.text(verb);
    match *address {
        VirtualAddress::Socket { transport, address, port } => {
            let option = match transport {
                Transport::TCP => " -t ",
                Transport::UDP => " -u ",
                _ => " --sctp-service ",
            };
            out.text(option).socket(address, port)
        }
        VirtualAddress::Mark { mark, family } => {
            out.text(" -f ").number(mark).text(if family == Family::V6 { " -6" } else { "" })
        }
    }
}

fn real<'w>(
    verb: &str,
    address: &VirtualAddress,
    server: SocketAddr,
    out: &'w mut Vec<u8>,
) -> &'w mut Vec<u8> {
    command(verb, address, out).text(" -r ").socket(server.ip(), server.port())
}
