//! Audit of iptables mode.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::SocketAddr;

use smol_str::SmolStr;
use svc_endpoints::view::SliceCache;
use svc_model::{IpFamily, Service};

use super::compare::{self, Difference, Order};
use super::{Audit, Finding, Problem, Repair};
use crate::config::ProxyConfig;
use crate::iptables::{Jump, Mode, Proxy, ServiceChain, StaleChains, jumps};
use crate::packet::Family;
use crate::plan::PortPlan;
use crate::xtables::{Chain, Match, RestoreMode, Rule, Ruleset, Target};

/// Compares the rules of a node in iptables mode with what its Services ask for.
///
/// `found` is what `iptables-save` (or `ip6tables-save`) printed, read by [`Ruleset::parse`]; `config` is that of the
/// proxy of this family on the node.
#[must_use]
pub fn iptables<'a>(
    config: &ProxyConfig,
    services: impl IntoIterator<Item = &'a Service>,
    slices: &SliceCache,
    found: &Ruleset,
) -> Audit {
    let mut proxy = Proxy::new(config.clone());
    for service in services {
        let _ = proxy.apply(service);
    }
    let mut text = Vec::new();
    let _ = proxy.sync(slices, Mode::Full, StaleChains::Delete, &mut text);
    let mut wanted = Ruleset::new(match config.family {
        IpFamily::Ipv4 => Family::V4,
        IpFamily::Ipv6 => Family::V6,
    });
    // What the generator writes can be read; a chain that could not be would be reported as unexpected.
    let _ = wanted.restore(&String::from_utf8_lossy(&text), RestoreMode::Keep);
    Auditor::new(config, &proxy, &wanted, found).run()
}

struct Auditor<'a> {
    config: &'a ProxyConfig,
    wanted: &'a Ruleset,
    found: &'a Ruleset,
    /// The ports by the hash in their chains' names.
    ports: BTreeMap<SmolStr, &'a PortPlan>,
    /// The names of ports by that of the endpoint chains they use.
    endpoint_chains: BTreeMap<SmolStr, SmolStr>,
    findings: Vec<Finding>,
    /// Chains to be rewritten, by table.
    rewrite: BTreeSet<(&'static str, SmolStr)>,
    /// Chains to be deleted from the nat table.
    delete: BTreeSet<SmolStr>,
    insert: Vec<Jump>,
}

/// The tables that the proxy has rules in.
const TABLES: [&str; 2] = ["filter", "nat"];

impl<'a> Auditor<'a> {
    fn new(config: &'a ProxyConfig, proxy: &'a Proxy, wanted: &'a Ruleset, found: &'a Ruleset) -> Self {
        let mut ports = BTreeMap::new();
        let mut endpoint_chains = BTreeMap::new();
        for plan in proxy.plans() {
            let service = &plan.service;
            let hash = crate::iptables::ChainHash::of_port(&service.name, service.protocol);
            ports.insert(SmolStr::from(hash.to_string()), plan);
        }
        for (name, chain) in wanted.table("nat").into_iter().flat_map(|table| table.chains()) {
            let Some(plan) = owner(&ports, name) else { continue };
            for target in chain.rules.iter().filter_map(|rule| rule.target.as_ref()?.chain()) {
                endpoint_chains
                    .insert(SmolStr::new(target.as_str()), SmolStr::from(plan.service.name.as_str()));
            }
        }
        Self {
            config,
            wanted,
            found,
            ports,
            endpoint_chains,
            findings: Vec::new(),
            rewrite: BTreeSet::new(),
            delete: BTreeSet::new(),
            insert: Vec::new(),
        }
    }

    fn run(mut self) -> Audit {
        self.jumps();
        for table in TABLES {
            let wanted = self.wanted.table(table).map(|table| table.chains()).unwrap_or_default();
            for (name, chain) in wanted.into_iter().filter(|(_, chain)| chain.policy.is_none()) {
                self.chain(table, &SmolStr::new(name.as_str()), chain);
            }
        }
        self.stale_chains();
        self.endpoints();
        let repair = self.repair();
        let command = match self.config.family {
            IpFamily::Ipv4 => "iptables-restore --noflush",
            IpFamily::Ipv6 => "ip6tables-restore --noflush",
        };
        Audit::new(self.findings, Repair::one(command, repair))
    }

    /// The jumps from the kernel's chains.
    fn jumps(&mut self) {
        for jump in missing_jumps(jumps(self.config), self.found) {
            let rule = jump.to_string().into();
            self.note(None, jump.table.as_str(), jump.from, Problem::MissingRule { rule });
            self.insert.push(jump);
        }
    }

    fn chain(&mut self, table: &'static str, name: &SmolStr, wanted: &Chain) {
        let Some(found) = self.found.chain(table, name) else {
            let service = self.service_of_chain(name);
            self.note(service, table, name, Problem::MissingChain);
            self.rewrite.insert((table, name.clone()));
            return;
        };
        let family = self.found.family();
        let order = if is_dispatch(name) { Order::Last(&leads_on) } else { Order::Fixed };
        let differences = compare::rules(&wanted.rules, &found.rules, order, |rule| meaning(rule, family));
        if differences.is_empty() {
            return;
        }
        self.rewrite.insert((table, name.clone()));
        for difference in differences {
            let (rule, problem): (_, fn(SmolStr) -> Problem) = match difference {
                Difference::Missing(rule) => (rule, |rule| Problem::MissingRule { rule }),
                Difference::Unexpected(rule) => (rule, |rule| Problem::UnexpectedRule { rule }),
                Difference::Misplaced(rule) => (rule, |rule| Problem::MisplacedRule { rule }),
            };
            let service = self.service_of_chain(name).or_else(|| service_in_comment(rule));
            self.note(service, table, name, problem(rule.text(family).into()));
        }
    }

    /// Chains of Services in the kernel that no Service needs.
    fn stale_chains(&mut self) {
        let chains = self.found.table("nat").map(|table| table.chains()).unwrap_or_default();
        for (name, chain) in chains {
            let owned = crate::iptables::ChainKind::of(name).is_some();
            if owned && self.wanted.chain("nat", name).is_none() {
                let service = chain.rules.iter().find_map(service_in_comment);
                self.note(service, "nat", name, Problem::StaleChain);
                self.delete.insert(SmolStr::new(name.as_str()));
            }
        }
    }

    /// Where the rules found send the traffic of each port, against where it should go.
    fn endpoints(&mut self) {
        let mut notes = Vec::new();
        for (hash, plan) in &self.ports {
            let mut found = BTreeSet::new();
            for prefix in ["KUBE-SVC-", "KUBE-SVL-"] {
                let chain = self.found.chain("nat", &alloc::format!("{prefix}{hash}"));
                let jumps = chain.into_iter().flat_map(|chain| &chain.rules);
                for target in jumps.filter_map(|rule| rule.target.as_ref()?.chain()) {
                    found.extend(self.destinations(target));
                }
            }
            let wanted: BTreeSet<_> =
                plan.endpoints.iter().map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port)).collect();
            let service = || Some(SmolStr::from(plan.service.name.as_str()));
            let chain = SmolStr::from(alloc::format!("KUBE-SVC-{hash}"));
            let stale = found.difference(&wanted).map(|&endpoint| Problem::StaleEndpoint { endpoint });
            let missing = wanted.difference(&found).map(|&endpoint| Problem::MissingEndpoint { endpoint });
            notes.extend(stale.chain(missing).map(|problem| (service(), chain.clone(), problem)));
        }
        for (service, chain, problem) in notes {
            self.note(service, "nat", &chain, problem);
        }
    }

    fn destinations(&self, chain: &str) -> impl Iterator<Item = SocketAddr> {
        let rules = self.found.chain("nat", chain).into_iter().flat_map(|chain| &chain.rules);
        rules.filter_map(|rule| match rule.target {
            Some(Target::Dnat { address, port }) => Some(SocketAddr::new(address, port.unwrap_or(0))),
            _ => None,
        })
    }

    fn service_of_chain(&self, chain: &str) -> Option<SmolStr> {
        owner(&self.ports, chain)
            .map(|plan| SmolStr::from(plan.service.name.as_str()))
            .or_else(|| self.endpoint_chains.get(chain).cloned())
    }

    fn note(&mut self, service: Option<SmolStr>, table: &'static str, chain: &str, problem: Problem) {
        self.findings.push(Finding { service, table, place: chain.into(), problem });
    }

    /// Chains with a problem are written afresh; the rest is left alone.
    fn repair(&self) -> String {
        let mut out = String::new();
        for table in TABLES {
            let chains: Vec<_> =
                self.rewrite.iter().filter(|(of, _)| *of == table).map(|(_, name)| name).collect();
            let inserted: Vec<_> = self.insert.iter().filter(|jump| jump.table.as_str() == table).collect();
            let deleted: Vec<_> = self.delete.iter().filter(|_| table == "nat").collect();
            if chains.is_empty() && inserted.is_empty() && deleted.is_empty() {
                continue;
            }
            // Writing to a string does not fail.
            let _ = writeln!(out, "*{table}");
            for name in chains.iter().chain(&deleted) {
                let _ = writeln!(out, ":{name} - [0:0]");
            }
            for name in &chains {
                for rule in self.wanted.chain(table, name).into_iter().flat_map(|chain| &chain.rules) {
                    let _ = writeln!(out, "-A {name} {}", rule.text(self.wanted.family()));
                }
            }
            for jump in inserted {
                let _ = writeln!(out, "-I {} {jump}", jump.from);
            }
            for name in deleted {
                let _ = writeln!(out, "-X {name}");
            }
            out.push_str("COMMIT\n");
        }
        out
    }
}

/// The port whose chain this is; not for chains of endpoints.
fn owner<'a>(ports: &BTreeMap<SmolStr, &'a PortPlan>, chain: &str) -> Option<&'a PortPlan> {
    let chain = ServiceChain::parse(chain)?;
    ports.get(chain.hash.to_string().as_str()).copied()
}

/// The jumps from the kernel's chains that are not there.
pub(super) fn missing_jumps(jumps: impl Iterator<Item = Jump>, found: &Ruleset) -> Vec<Jump> {
    let family = found.family();
    let is_missing = |jump: &Jump| {
        let mut text = Ruleset::new(family);
        let table = jump.table.as_str();
        let line = alloc::format!("*{table}\n:{} - [0:0]\n-A {} {jump}\nCOMMIT\n", jump.to, jump.from);
        let _ = text.restore(&line, RestoreMode::Keep);
        let wanted = text.chain(table, jump.from).and_then(|chain| chain.rules.first());
        let Some(wanted) = wanted.map(|rule| meaning(rule, family)) else { return false };
        let there = found.chain(table, jump.from).into_iter().flat_map(|chain| &chain.rules);
        !there.into_iter().any(|rule| meaning(rule, family) == wanted)
    };
    jumps.filter(is_missing).collect()
}

/// A text that is the same for rules that do the same: without comments; counters are no part of it.
pub(super) fn meaning(rule: &Rule, family: Family) -> String {
    if rule.comment().is_none() {
        return rule.text(family);
    }
    let mut rule = rule.clone();
    rule.matches.retain(|found| !matches!(found, Match::Comment(_)));
    rule.text(family)
}

/// Chains in which every rule is for one destination, so that their order does not matter. The rules that lead on from
/// nat `KUBE-SERVICES` to the node ports must come last.
fn is_dispatch(chain: &str) -> bool {
    matches!(chain, "KUBE-SERVICES" | "KUBE-NODEPORTS" | "KUBE-EXTERNAL-SERVICES" | "KUBE-PROXY-FIREWALL")
}

fn leads_on(rule: &Rule) -> bool {
    rule.target.as_ref().and_then(|target| target.chain()).is_some_and(|chain| chain == "KUBE-NODEPORTS")
}

/// The Service port that a comment of the proxy names: its only word with a slash.
fn service_in_comment(rule: &Rule) -> Option<SmolStr> {
    let comment = rule.comment()?;
    comment.split(' ').find(|word| word.contains('/')).map(SmolStr::from)
}
