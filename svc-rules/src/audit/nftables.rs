//! Audit of nftables mode.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use smol_str::SmolStr;
use svc_endpoints::view::SliceCache;
use svc_model::Service;

use super::compare::{self, Difference, Order};
use super::owners::Owners;
use super::{Audit, Finding, Problem, Repair};
use crate::config::ProxyConfig;
use crate::nft::{Chain, Data, Datum, Element, Ruleset, Set, Statement, Table};
use crate::nftables::Layout;
use crate::packet::Transport;
use crate::plan::port_plans;
use crate::probe::Surroundings;
use crate::scheme::{NodeRules, Scheme};
use crate::walk::Kernel;

/// Compares the table of a node in nftables mode with what its Services ask for.
///
/// `found` is what `nft list ruleset` printed, read by [`Ruleset::parse`] (or, as JSON, by `Ruleset::from_json`);
/// `config` is that of the proxy of this family on the node. Other tables are not looked at.
///
/// Clients that are remembered for session affinity are left alone. A chain that is empty and that nothing leads to
/// waits for its deletion, as the reference leaves it, and is not found fault with. For the same reason (kernels before
/// 6.2 refuse to delete a chain in the transaction that takes the last element leading to it) the repair empties stale
/// chains, and deletes those that nothing leads to.
#[must_use]
pub fn nftables<'a>(
    config: &ProxyConfig,
    layout: Layout,
    services: impl IntoIterator<Item = &'a Service>,
    slices: &SliceCache,
    found: &Ruleset,
) -> Audit {
    let services: Vec<&Service> = services.into_iter().collect();
    let scheme = match layout {
        Layout::Reference => Scheme::Nftables,
        Layout::Flat => Scheme::NftablesFlat,
    };
    let wanted = NodeRules::new(scheme, config, services.iter().copied(), slices);
    let Some(rules) = wanted.nftables() else { return Audit::default() };
    let (mut findings, mut repair) = (Vec::new(), String::new());
    let owners = Owners::new(config, &services, slices);
    for table in rules.tables() {
        match found.table(table.family, &table.name) {
            Some(there) => {
                let mut auditor = Auditor::new(table, there, &owners);
                auditor.run();
                auditor.repair(&mut repair);
                findings.append(&mut auditor.findings);
            }
            None => {
                findings.push(Finding {
                    service: None,
                    table: TABLE,
                    place: table.name.clone(),
                    problem: Problem::MissingTable,
                });
            }
        }
    }
    if findings.iter().any(|finding| finding.problem == Problem::MissingTable) {
        repair = rules.commands();
    }
    endpoints(config, &services, slices, [rules, found], &mut findings);
    Audit::new(findings, Repair::one("nft -f -", repair))
}

const TABLE: &str = "kube-proxy";

/// Whose element it is, by the addresses and ports in its key.
fn of_key(owners: &Owners, key: &[Datum]) -> Option<SmolStr> {
    let port = |number: &u32| u16::try_from(*number).ok();
    let protocol = |number: &u32| u8::try_from(*number).ok().map(Transport);
    match key {
        [Datum::Address(ip)] => owners.of_address(*ip),
        [Datum::Address(from), Datum::Address(to), Datum::Number(transport), Datum::Number(number)] => {
            let (transport, number) = (protocol(transport)?, port(number)?);
            let hairpin = (from == to).then(|| owners.of_endpoint(*to, transport, number)).flatten();
            hairpin.or_else(|| owners.of_socket(*to, transport, number))
        }
        [Datum::Address(ip), Datum::Number(first), Datum::Number(second), ..] => {
            let whole = protocol(first).zip(port(second));
            let whole = whole.and_then(|(transport, number)| owners.of_socket(*ip, transport, number));
            // In the flat layout a map of endpoints is for one protocol, and its key has none.
            whole
                .or_else(|| SERVED.into_iter().find_map(|served| owners.of_socket(*ip, served, port(first)?)))
        }
        [Datum::Number(first), Datum::Number(second), ..] => {
            let whole = protocol(first).zip(port(second));
            let whole = whole.and_then(|(transport, number)| owners.of_node_port(transport, number));
            whole.or_else(|| owners.of_any_node_port(port(first)?))
        }
        _ => None,
    }
}

/// The protocols that Services have.
const SERVED: [Transport; 3] = [Transport::TCP, Transport::UDP, Transport::SCTP];

/// The port that the name of a chain or set tells: `KIND-HASH-namespace/name/protocol/port[__ip/port]`.
fn of_name(name: &str) -> Option<SmolStr> {
    let (_, rest) = name.split_once('-')?;
    let (_, port) = rest.split_once('-')?;
    let port = port.split_once("__").map_or(port, |(port, _)| port);
    let mut parts = port.splitn(4, '/');
    let (namespace, service) = (parts.next()?, parts.next()?);
    let _protocol = parts.next()?;
    Some(match parts.next() {
        None | Some("") => alloc::format!("{namespace}/{service}").into(),
        Some(port) => alloc::format!("{namespace}/{service}:{port}").into(),
    })
}

struct Auditor<'a> {
    wanted: &'a Table,
    found: &'a Table,
    owners: &'a Owners,
    findings: Vec<Finding>,
    /// Chains whose rules are written afresh.
    rewrite: BTreeSet<&'a SmolStr>,
    /// Base chains that are attached wrongly.
    reattach: BTreeSet<&'a SmolStr>,
    /// Chains that nothing needs.
    stale: BTreeSet<&'a SmolStr>,
    /// Sets to be deleted.
    drop: BTreeSet<&'a SmolStr>,
    /// Sets to be declared, with all of their elements.
    declare: BTreeSet<&'a SmolStr>,
    /// Elements to be deleted and added, each with its set and as it is written.
    delete: Vec<(&'a SmolStr, String)>,
    add: Vec<(&'a SmolStr, String)>,
}

impl<'a> Auditor<'a> {
    fn new(wanted: &'a Table, found: &'a Table, owners: &'a Owners) -> Self {
        Self {
            wanted,
            found,
            owners,
            findings: Vec::new(),
            rewrite: BTreeSet::new(),
            reattach: BTreeSet::new(),
            stale: BTreeSet::new(),
            drop: BTreeSet::new(),
            declare: BTreeSet::new(),
            delete: Vec::new(),
            add: Vec::new(),
        }
    }

    fn run(&mut self) {
        for (name, set) in self.wanted.sets() {
            self.set(name, set);
        }
        for (name, _) in self.found.sets() {
            if self.wanted.set(name).is_none() {
                self.note(of_name(name), name, Problem::StaleSet);
                self.drop.insert(name);
            }
        }
        for (name, chain) in self.wanted.chains() {
            self.chain(name, chain);
        }
        let led_to = led_to(self.found);
        for (name, chain) in self.found.chains() {
            let waits = chain.rules.is_empty() && chain.base.is_none() && !led_to.contains(name);
            if self.wanted.chain(name).is_none() && !waits {
                self.note(of_name(name), name, Problem::StaleChain);
                self.stale.insert(name);
            }
        }
        // A set can only be replaced when no rule consults it.
        for (name, chain) in self.wanted.chains() {
            let mut sets =
                chain.rules.iter().flat_map(|rule| rule.statements.iter().flat_map(Statement::sets));
            if sets.any(|set| self.drop.contains(set)) {
                self.rewrite.insert(name);
            }
        }
    }

    fn note(&mut self, service: Option<SmolStr>, place: &SmolStr, problem: Problem) {
        self.findings.push(Finding { service, table: TABLE, place: place.clone(), problem });
    }

    fn set(&mut self, name: &'a SmolStr, wanted: &'a Set) {
        let Some(found) = self.found.set(name) else {
            self.note(of_name(name), name, Problem::MissingSet);
            self.declare.insert(name);
            return;
        };
        if !same_set(wanted, found) {
            let problem = Problem::Redeclared {
                found: found.declaration().into(),
                wanted: wanted.declaration().into(),
            };
            self.note(of_name(name), name, problem);
            self.drop.insert(name);
            self.declare.insert(name);
            return;
        }
        // What is in a set that rules fill is no matter of the proxy's.
        if wanted.flags.dynamic {
            return;
        }
        for (key, element) in wanted.elements() {
            let there = found.get(key);
            if there.is_some_and(|there| there.data == element.data) {
                continue;
            }
            let text = || SmolStr::from(wanted.element_text(key, &plain(element)));
            let problem = match there {
                None => Problem::MissingElement { element: text() },
                Some(there) => {
                    self.delete.push((name, found.element_text(key, &Element::default())));
                    Problem::ChangedElement {
                        found: found.element_text(key, &plain(there)).into(),
                        wanted: text(),
                    }
                }
            };
            self.note(of_key(self.owners, key).or_else(|| leads_to(element)), name, problem);
            self.add.push((name, wanted.element_text(key, element)));
        }
        for (key, element) in found.elements() {
            if wanted.get(key).is_none() {
                let text = found.element_text(key, &plain(element)).into();
                let service =
                    of_key(self.owners, key).or_else(|| in_comment(element)).or_else(|| leads_to(element));
                self.note(service, name, Problem::UnexpectedElement { element: text });
                self.delete.push((name, found.element_text(key, &Element::default())));
            }
        }
    }

    fn chain(&mut self, name: &'a SmolStr, wanted: &'a Chain) {
        let Some(found) = self.found.chain(name) else {
            self.note(of_name(name), name, Problem::MissingChain);
            self.rewrite.insert(name);
            return;
        };
        if wanted.base != found.base {
            let declared = |chain: &Chain| Chain { comment: None, ..chain.clone() }.declaration().into();
            let problem = Problem::Redeclared { found: declared(found), wanted: declared(wanted) };
            self.note(of_name(name), name, problem);
            self.rewrite.insert(name);
            self.reattach.insert(name);
        }
        let family = self.wanted.family;
        let differences = compare::rules(&wanted.rules, &found.rules, Order::Fixed, |rule| {
            let acts = |statement: &&Statement| !matches!(statement, Statement::Note(_));
            rule.statements.iter().filter(acts).collect::<Vec<_>>()
        });
        for difference in differences {
            let problem = match difference {
                Difference::Missing(rule) => Problem::MissingRule { rule: rule.text(family).into() },
                Difference::Unexpected(rule) => Problem::UnexpectedRule { rule: rule.text(family).into() },
                Difference::Misplaced(rule) => Problem::MisplacedRule { rule: rule.text(family).into() },
            };
            self.note(of_name(name), name, problem);
            self.rewrite.insert(name);
        }
    }

    /// One transaction. What is taken away comes first, from what refers to what is referred to; then what is put in
    /// its place, in the opposite order.
    fn repair(&self, out: &mut String) {
        let at = alloc::format!("{} {}", self.wanted.family.name(), self.wanted.name);
        let mut line = |verb: &str, rest: core::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{verb} {at} {rest}");
        };
        for name in self.rewrite.iter().chain(&self.stale) {
            if self.found.chain(name).is_some() {
                line("flush chain", format_args!("{name}"));
            }
        }
        for (name, element) in self.delete.iter().filter(|(name, _)| !self.drop.contains(name)) {
            line("delete element", format_args!("{name} {{ {element} }}"));
        }
        let led_to = led_to(self.found);
        let unused = self.stale.iter().filter(|name| !led_to.contains(*name));
        for name in self.reattach.iter().chain(unused) {
            line("delete chain", format_args!("{name}"));
        }
        for name in &self.drop {
            let is_map = self.found.set(name).is_some_and(|set| set.value.is_some());
            line(if is_map { "delete map" } else { "delete set" }, format_args!("{name}"));
        }
        for name in &self.declare {
            if let Some(set) = self.wanted.set(name) {
                let kind = if set.value.is_some() { "map" } else { "set" };
                line(&alloc::format!("add {kind}"), format_args!("{name} {}", set.declaration()));
            }
        }
        for name in &self.rewrite {
            if let Some(chain) = self.wanted.chain(name) {
                let declaration = chain.declaration();
                let space = if declaration.is_empty() { "" } else { " " };
                line("add chain", format_args!("{name}{space}{declaration}"));
            }
        }
        for name in &self.declare {
            let Some(set) = self.wanted.set(name) else { continue };
            for (key, element) in set.elements() {
                line("add element", format_args!("{name} {{ {} }}", set.element_text(key, element)));
            }
        }
        for (name, element) in &self.add {
            line("add element", format_args!("{name} {{ {element} }}"));
        }
        for name in &self.rewrite {
            for rule in self.wanted.chain(name).into_iter().flat_map(|chain| &chain.rules) {
                line("add rule", format_args!("{name} {}", rule.text(self.wanted.family)));
            }
        }
    }
}

/// Without what is not compared.
fn plain(element: &Element) -> Element {
    Element { data: element.data.clone(), ..Element::default() }
}

/// Whether both sets hold the same kind of things. Older versions of nft do not say of a set with a timeout that it is
/// dynamic, and the kernel gives each such set a size.
fn same_set(a: &Set, b: &Set) -> bool {
    a.key == b.key
        && a.value == b.value
        && a.timeout == b.timeout
        && a.flags.interval == b.flags.interval
        && a.flags.timeout == b.flags.timeout
}

/// Chains that elements and rules of a table lead to.
fn led_to(table: &Table) -> BTreeSet<&SmolStr> {
    let elements = table.sets().into_iter().flat_map(|(_, set)| set.elements());
    let by_elements = elements.filter_map(|(_, element)| match &element.data {
        Some(Data::Verdict(verdict)) => verdict.chain(),
        _ => None,
    });
    let rules = table.chains().into_iter().flat_map(|(_, chain)| &chain.rules);
    let by_rules = rules.flat_map(|rule| rule.statements.iter().flat_map(Statement::chains));
    by_elements.chain(by_rules).collect()
}

/// The port whose chain an element leads to.
fn leads_to(element: &Element) -> Option<SmolStr> {
    match &element.data {
        Some(Data::Verdict(verdict)) => of_name(verdict.chain()?),
        _ => None,
    }
}

/// The port that the proxy's comment names.
fn in_comment(element: &Element) -> Option<SmolStr> {
    element.comment.clone().filter(|comment| comment.contains('/'))
}

/// Says of each port with a fault which of its endpoints get no traffic, and what gets some without being one.
fn endpoints(
    config: &ProxyConfig,
    services: &[&Service],
    slices: &SliceCache,
    [wanted, found]: [&Ruleset; 2],
    findings: &mut Vec<Finding>,
) {
    let faulty: BTreeSet<SmolStr> = findings.iter().filter_map(|finding| finding.service.clone()).collect();
    let ours = wanted.tables();
    let found = found
        .filtered(|table| ours.iter().any(|ours| (ours.family, &ours.name) == (table.family, &table.name)));
    for service in services {
        let plans = port_plans(config, service, slices);
        if !plans.iter().any(|plan| faulty.contains(plan.service.name.as_str())) {
            continue;
        }
        let surroundings = Surroundings::new(config, plans);
        let reached = |rules: &Ruleset| {
            let kernel = Kernel::new().with_nftables(rules);
            let mut reached = BTreeSet::new();
            for probe in surroundings.probes().iter().filter(|probe| probe.before.is_none()) {
                let answer = surroundings.ask(kernel, surroundings.host(), probe);
                reached.extend(answer.endpoints().map(|endpoint| (probe.plan, endpoint)));
            }
            reached
        };
        let (wanted, found) = (reached(wanted), reached(&found));
        let missing = wanted.difference(&found).map(|at| (at, true));
        for ((plan, endpoint), missing) in missing.chain(found.difference(&wanted).map(|at| (at, false))) {
            let Some(plan) = surroundings.plans().get(*plan) else { continue };
            let endpoint = *endpoint;
            findings.push(Finding {
                service: Some(plan.service.name.as_str().into()),
                table: TABLE,
                place: SmolStr::new_static(TABLE),
                problem: if missing {
                    Problem::MissingEndpoint { endpoint }
                } else {
                    Problem::StaleEndpoint { endpoint }
                },
            });
        }
    }
}
