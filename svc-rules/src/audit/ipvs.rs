//! Audit of IPVS mode.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::IpAddr;

use smol_str::SmolStr;
use svc_endpoints::view::SliceCache;
use svc_model::Service;

use super::compare::{self, Difference, Order};
use super::iptables::{meaning, missing_jumps};
use super::owners::Owners;
use super::{Audit, Finding, Problem, Repair};
use crate::config::ProxyConfig;
use crate::ipset::{Entry, IpSet};
use crate::ipvs::{Input, Proxy, Scope, jumps};
use crate::ipvsadm::{VirtualAddress, VirtualServer, VirtualServers};
use crate::xtables::Ruleset;

/// What the tools print on a node in IPVS mode.
#[derive(Clone, Copy, Debug)]
pub struct IpvsDump<'a> {
    /// What `ipvsadm -Sn` printed.
    pub servers: &'a VirtualServers,
    /// What `ipset save` printed, by name.
    pub sets: &'a BTreeMap<SmolStr, IpSet>,
    /// What `iptables-save` (or `ip6tables-save`) printed.
    pub rules: &'a Ruleset,
}

/// Compares the virtual servers, sets and rules of a node in IPVS mode with what its Services ask for.
///
/// `config` is that of the proxy of this family on the node; what is of the other family is not looked at. A server of
/// weight 0 that is no endpoint any more drains, as it should. The addresses of the dummy device are not compared.
#[must_use]
pub fn ipvs<'a>(
    config: &ProxyConfig,
    services: impl IntoIterator<Item = &'a Service>,
    slices: &SliceCache,
    found: IpvsDump<'_>,
) -> Audit {
    let services: Vec<&Service> = services.into_iter().collect();
    let mut wanted = Proxy::new(config.clone());
    wanted.replace_all(services.iter().copied());
    let _ = wanted.sync(slices, Scope::Full, &mut Input::default());
    let addresses: Vec<IpAddr> = wanted.addresses().collect();

    let owners = Owners::new(config, &services, slices);
    let mut auditor = Auditor { owners: &owners, findings: Vec::new() };
    auditor.servers(config, &wanted.virtual_servers(), found.servers);
    auditor.sets(&wanted.sets(), found.sets);
    let rules = auditor.rules(&wanted.rules(), found.rules);
    let jumps = missing_jumps(jumps(), found.rules);
    for jump in &jumps {
        let problem = Problem::MissingRule { rule: SmolStr::from(alloc::format!("{jump}")) };
        auditor.note(None, jump.table.as_str(), jump.from.into(), problem);
    }
    if auditor.findings.is_empty() {
        return Audit::default();
    }

    // A proxy that takes over what is there writes what it lacks.
    let mut repairer = Proxy::new(config.clone());
    repairer.replace_all(services.iter().copied());
    repairer.adopt(found.servers, found.sets, addresses);
    let mut input = Input::default();
    let _ = repairer.sync(slices, Scope::Changes, &mut input);
    if !rules {
        input.rules.clear();
    }
    let mut put_in = String::new();
    for jump in jumps {
        // Writing to a string does not fail.
        let _ = write!(put_in, "*{}\n-I {} {jump}\nCOMMIT\n", jump.table, jump.from);
    }
    input.rules.extend_from_slice(put_in.as_bytes());
    let steps = input.texts().into_iter();
    let steps =
        steps.flat_map(|(command, text)| Repair::one(command, String::from_utf8_lossy(text).into_owned()));
    Audit::new(auditor.findings, steps.collect())
}

struct Auditor<'a> {
    owners: &'a Owners,
    findings: Vec<Finding>,
}

impl Auditor<'_> {
    fn note(&mut self, service: Option<SmolStr>, table: &'static str, place: SmolStr, problem: Problem) {
        self.findings.push(Finding { service, table, place, problem });
    }

    fn servers(&mut self, config: &ProxyConfig, wanted: &VirtualServers, found: &VirtualServers) {
        const TABLE: &str = "ipvs";
        let place = |address: &VirtualAddress| SmolStr::from(alloc::format!("{address}"));
        for (address, server) in wanted.iter() {
            let owner = self.owner(address);
            let Some(there) = found.get(address) else {
                self.note(owner, TABLE, place(address), Problem::MissingServer);
                continue;
            };
            let (has, should) = (there.declaration(address.family()), server.declaration(address.family()));
            if has != should {
                let problem = Problem::Redeclared { found: has.into(), wanted: should.into() };
                self.note(owner.clone(), TABLE, place(address), problem);
            }
            let active = |server: &VirtualServer| -> BTreeMap<_, _> {
                let servers = server.servers().filter(|(_, server)| server.weight > 0);
                servers.map(|(at, server)| (at, server.clone())).collect()
            };
            let (has, should) = (active(there), active(server));
            for (at, server) in &should {
                if has.get(at) != Some(server) {
                    self.note(
                        owner.clone(),
                        TABLE,
                        place(address),
                        Problem::MissingRealServer { server: *at },
                    );
                }
            }
            for at in has.keys().filter(|at| !should.contains_key(*at)) {
                self.note(owner.clone(), TABLE, place(address), Problem::StaleRealServer { server: *at });
            }
        }
        for (address, _) in found.iter() {
            let VirtualAddress::Socket { address: ip, .. } = address else { continue };
            let ours = svc_model::IpFamily::of(*ip) == config.family;
            let excluded = config.ipvs.exclude_cidrs.iter().any(|range| range.contains(ip));
            if ours && !excluded && wanted.get(address).is_none() {
                self.note(self.owner(address), TABLE, place(address), Problem::StaleServer);
            }
        }
    }

    fn owner(&self, address: &VirtualAddress) -> Option<SmolStr> {
        match *address {
            VirtualAddress::Socket { transport, address, port } => self
                .owners
                .of_socket(address, transport, port)
                .or_else(|| self.owners.of_node_port(transport, port)),
            VirtualAddress::Mark { .. } => None,
        }
    }

    fn sets(&mut self, wanted: &BTreeMap<SmolStr, IpSet>, found: &BTreeMap<SmolStr, IpSet>) {
        const TABLE: &str = "ipset";
        for (name, set) in wanted {
            let there = found.get(name);
            match there {
                None => self.note(None, TABLE, name.clone(), Problem::MissingSet),
                Some(there) if there.kind != set.kind => {
                    let problem = Problem::Redeclared {
                        found: there.kind.name().into(),
                        wanted: set.kind.name().into(),
                    };
                    self.note(None, TABLE, name.clone(), problem);
                }
                Some(_) => {}
            }
            let none = BTreeSet::new();
            let has = there.map_or(&none, |set| &set.entries);
            let text = |entry: &Entry| SmolStr::from(alloc::format!("{entry}"));
            for entry in set.entries.difference(has) {
                let problem = Problem::MissingElement { element: text(entry) };
                self.note(self.of_entry(entry), TABLE, name.clone(), problem);
            }
            for entry in has.difference(&set.entries) {
                let problem = Problem::UnexpectedElement { element: text(entry) };
                self.note(self.of_entry(entry), TABLE, name.clone(), problem);
            }
        }
    }

    fn of_entry(&self, entry: &Entry) -> Option<SmolStr> {
        let port = entry.port.and_then(|(transport, port)| Some((transport?, port)));
        match (entry.address, port) {
            (Some(address), Some((transport, port))) => {
                let ip = address.addr();
                self.owners
                    .of_socket(ip, transport, port)
                    .or_else(|| self.owners.of_endpoint(ip, transport, port))
                    .or_else(|| self.owners.of_node_port(transport, port))
            }
            (Some(address), None) => self.owners.of_address(address.addr()),
            (None, _) => {
                let (_, port) = entry.port?;
                self.owners.of_any_node_port(port)
            }
        }
    }

    /// Whether any chain of the proxy's differs.
    fn rules(&mut self, wanted: &Ruleset, found: &Ruleset) -> bool {
        let before = self.findings.len();
        let family = wanted.family();
        for table in ["nat", "filter"] {
            let chains = wanted.table(table).map(|table| table.chains()).unwrap_or_default();
            for (name, chain) in chains.into_iter().filter(|(_, chain)| chain.policy.is_none()) {
                let place = || SmolStr::new(name.as_str());
                let Some(there) = found.chain(table, name) else {
                    self.note(None, table, place(), Problem::MissingChain);
                    continue;
                };
                // Each rule of it is for one address.
                let order = match name.as_str() {
                    "KUBE-IPVS-OUT-FILTER" => Order::Last(&|_| false),
                    _ => Order::Fixed,
                };
                for difference in
                    compare::rules(&chain.rules, &there.rules, order, |rule| meaning(rule, family))
                {
                    let problem = match difference {
                        Difference::Missing(rule) => Problem::MissingRule { rule: rule.text(family).into() },
                        Difference::Unexpected(rule) => {
                            Problem::UnexpectedRule { rule: rule.text(family).into() }
                        }
                        Difference::Misplaced(rule) => {
                            Problem::MisplacedRule { rule: rule.text(family).into() }
                        }
                    };
                    self.note(None, table, place(), problem);
                }
            }
        }
        self.findings.len() > before
    }
}
