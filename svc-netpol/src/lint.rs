//! What is probably not meant: policies without effect, and the traps that users report.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use alloc::format;
use svc_model::{
    IpNet, LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, PolicyType, Protocol, Selector,
};

use crate::engine::{Engine, PolicyEntry, TermId};
use crate::policy::{Direction, Policy, PolicyRef, PortEntry, Rule, Term, Tier};
use crate::traffic::{PortSet, Traffic};

/// Something about a policy that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The policy.
    pub policy: PolicyRef,
    /// Where in it, as a field path; empty for the policy as a whole.
    pub field: String,
    /// What it is.
    pub lint: Lint,
}

/// Kinds of [`Finding`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lint {
    /// The policy selects no Pod that there is.
    SelectsNobody,
    /// The peer is nobody that there is.
    PeerIsNobody,
    /// The rule never decides anything: others come before it, or allow all that it allows.
    NeverDecides,
    /// No Pod concerned has a port of this name, so the entry matches nothing.
    UndefinedPortName(String),
    /// The exception lies outside its block and takes nothing away.
    ExceptOutsideBlock,
    /// The exceptions take the whole block away.
    ExceptIsEverything,
    /// The block has bits beyond its prefix length; its network is meant.
    HostBits(IpNet),
    /// A selector, block or port means nothing, so the entry matches nobody, or the policy no Pod.
    Invalid,
    /// Two peers where one with both selectors may be meant: either matches.
    PeersAreAlternatives,
    /// `policyTypes` leaves the direction out, so these rules have no effect.
    RulesOfUnlistedDirection,
    /// Egress is isolated, and no rule allows DNS (port 53), so names can't be looked up.
    NoDns,
    /// Another policy of the tier has the same priority and a common subject: which comes first is open.
    SamePriority(PolicyRef),
    /// The selected Pod is on its node's network, where policies have no effect.
    SelectsHostNetwork,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelectsNobody => f.write_str("selects no Pod that there is"),
            Self::PeerIsNobody => f.write_str("this peer is nobody that there is"),
            Self::NeverDecides => f.write_str("this rule never decides anything; others cover all of it"),
            Self::UndefinedPortName(name) => {
                write!(f, "no Pod concerned has a port named `{}`", name.escape_debug())
            }
            Self::ExceptOutsideBlock => {
                f.write_str("the exception is outside its block and takes nothing away")
            }
            Self::ExceptIsEverything => f.write_str("the exceptions take the whole block away"),
            Self::HostBits(net) => write!(f, "has bits beyond its prefix length; {net} is meant"),
            Self::Invalid => f.write_str("means nothing and matches nothing"),
            Self::PeersAreAlternatives => {
                f.write_str("two peers, of which either matches; both selectors in one peer may be meant")
            }
            Self::RulesOfUnlistedDirection => f.write_str("policyTypes leaves this direction out: no effect"),
            Self::NoDns => {
                f.write_str("egress is isolated and no rule allows port 53: names can't be looked up")
            }
            Self::SamePriority(other) => {
                write!(f, "{other} has the same priority and a common subject: which comes first is open")
            }
            Self::SelectsHostNetwork => {
                f.write_str("selects Pods on their node's network, where policies have no effect")
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{}: {}", self.policy, self.lint)
        } else {
            write!(f, "{} {}: {}", self.policy, self.field, self.lint)
        }
    }
}

/// Findings about one policy.
struct Report<'a> {
    policy: &'a PolicyRef,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, field: impl Into<String>, lint: Lint) {
        self.findings.push(Finding { policy: self.policy.clone(), field: field.into(), lint });
    }
}

impl Engine {
    /// What is probably not meant about the policies, given the Pods that there are. Sorted by policy and field.
    pub fn lint(&self) -> Vec<Finding> {
        let deciding = self.deciding_rules();
        let mut findings = Vec::new();
        for entry in self.entries() {
            let mut report = Report { policy: &entry.reference, findings: Vec::new() };
            self.lint_effect(entry, &deciding, &mut report);
            self.lint_priority(entry, &mut report);
            if let Policy::Network(policy) = &*entry.policy {
                lint_network_policy(policy, &mut report);
                if let Some(rules) = &entry.compiled.egress {
                    lint_dns(rules, &mut report);
                }
            }
            findings.append(&mut report.findings);
        }
        findings.sort_unstable();
        findings.dedup();
        findings
    }

    /// Every rule that decides something for somebody, for sure or perhaps: policy, direction, index.
    fn deciding_rules(&self) -> BTreeSet<(u32, Direction, u32)> {
        let ends = self.all_peers();
        let rows = self.rows().map(|(_, row)| (row.key.direction, row.deciding(&ends, self.context())));
        rows.flat_map(|(direction, rules)| rules.into_iter().map(move |(id, rule)| (id, direction, rule)))
            .collect()
    }

    fn lint_effect(
        &self,
        entry: &PolicyEntry,
        deciding: &BTreeSet<(u32, Direction, u32)>,
        report: &mut Report<'_>,
    ) {
        let Some(subject) = entry.compiled.subject else {
            return report.add("spec", Lint::Invalid);
        };
        if self.selects_host(subject) {
            report.add("", Lint::SelectsHostNetwork);
        }
        let selects = self.finds_anyone(subject);
        if !selects {
            report.add("", Lint::SelectsNobody);
        }
        let Some(id) = self.policy_id(&entry.reference) else { return };
        for direction in [Direction::Ingress, Direction::Egress] {
            for (i, rule) in entry.compiled.rules(direction).unwrap_or_default().iter().enumerate() {
                let field = format!("spec.{direction}[{i}]");
                let mut peers = true;
                for (term, peer) in rule.peers.iter().flatten() {
                    // A block is about whoever may be outside.
                    let found = self.finds_anyone(*term);
                    if !found && matches!(self.term(*term), Some(Term::Pods(..) | Term::Nodes(_))) {
                        let list = if direction == Direction::Ingress { "from" } else { "to" };
                        report.add(format!("{field}.{list}[{peer}]"), Lint::PeerIsNobody);
                    }
                    peers &= found;
                }
                let mut ports = true;
                for entry in rule.ports.iter().flatten() {
                    if let PortEntry::Named(name, _) = entry
                        && !self.is_port_name_of(direction, subject, rule, entry)
                    {
                        report.add(format!("{field}.ports"), Lint::UndefinedPortName(name.as_str().into()));
                        ports = false;
                    }
                }
                if selects && peers && ports && !deciding.contains(&(id, direction, i as u32)) {
                    report.add(field, Lint::NeverDecides);
                }
            }
        }
    }

    fn lint_priority(&self, entry: &PolicyEntry, report: &mut Report<'_>) {
        let (tier, priority, _) = entry.order();
        if tier == Tier::NetworkPolicy {
            return;
        }
        let Some(subject) = entry.compiled.subject else { return };
        for other in self.entries() {
            let (other_tier, other_priority, _) = other.order();
            if (other_tier, other_priority) != (tier, priority) || other.reference <= entry.reference {
                continue;
            }
            if other.compiled.subject.is_some_and(|theirs| self.have_common_pod(subject, theirs)) {
                report.add("spec.priority", Lint::SamePriority(other.reference.clone()));
            }
        }
    }
}

fn lint_network_policy(policy: &NetworkPolicy, report: &mut Report<'_>) {
    let spec = &policy.spec;
    if !spec.isolates(PolicyType::Ingress) && !spec.ingress.is_empty() {
        report.add("spec.ingress", Lint::RulesOfUnlistedDirection);
    }
    if !spec.isolates(PolicyType::Egress) && !spec.egress.is_empty() {
        report.add("spec.egress", Lint::RulesOfUnlistedDirection);
    }
    for (i, rule) in spec.ingress.iter().enumerate() {
        lint_peers(&rule.from, &format!("spec.ingress[{i}].from"), report);
        lint_ports(&rule.ports, &format!("spec.ingress[{i}].ports"), report);
    }
    for (i, rule) in spec.egress.iter().enumerate() {
        lint_peers(&rule.to, &format!("spec.egress[{i}].to"), report);
        lint_ports(&rule.ports, &format!("spec.egress[{i}].ports"), report);
    }
}

fn lint_peers(peers: &[NetworkPolicyPeer], field: &str, report: &mut Report<'_>) {
    for (i, peer) in peers.iter().enumerate() {
        let field = format!("{field}[{i}]");
        if let Some(block) = &peer.ip_block {
            lint_block(block, &format!("{field}.ipBlock"), report);
            continue;
        }
        let invalid = |selector: &Option<LabelSelector>| {
            selector.as_ref().is_some_and(|selector| Selector::try_from(selector).is_err())
        };
        if invalid(&peer.pod_selector)
            || invalid(&peer.namespace_selector)
            || peer.pod_selector.is_none() && peer.namespace_selector.is_none()
        {
            report.add(field, Lint::Invalid);
        }
    }
    // The classic slip: a dash too many before podSelector.
    for (i, pair) in peers.windows(2).enumerate() {
        let [a, b] = pair else { continue };
        let only_namespaces = a.namespace_selector.is_some() && a.pod_selector.is_none();
        let only_pods = b.pod_selector.is_some() && b.namespace_selector.is_none();
        if only_namespaces && only_pods {
            report.add(format!("{field}[{}]", i + 1), Lint::PeersAreAlternatives);
        }
    }
}

fn lint_block(block: &svc_model::IpBlock, field: &str, report: &mut Report<'_>) {
    let Some(cidr) = block.cidr.get() else {
        return report.add(format!("{field}.cidr"), Lint::Invalid);
    };
    if cidr != cidr.trunc() {
        report.add(format!("{field}.cidr"), Lint::HostBits(cidr.trunc()));
    }
    let mut rest = true;
    for (i, except) in block.except.iter().enumerate() {
        let field = format!("{field}.except[{i}]");
        match except.get() {
            None => report.add(field, Lint::Invalid),
            Some(net) if net.contains(&cidr.trunc()) => rest = false,
            Some(net) if !cidr.trunc().contains(&net) => report.add(field, Lint::ExceptOutsideBlock),
            Some(_) => {}
        }
    }
    if !rest {
        report.add(field, Lint::ExceptIsEverything);
    }
}

fn lint_ports(ports: &[NetworkPolicyPort], field: &str, report: &mut Report<'_>) {
    for (i, port) in ports.iter().enumerate() {
        let numbers = port.port.as_ref().is_none_or(|p| p.name().is_some() || p.number().is_some());
        let range = port.end_port.is_none_or(|last| {
            let first = port.port.as_ref().and_then(svc_model::IntOrString::number);
            first.zip(last.number()).is_some_and(|(first, last)| first <= last)
        });
        if port.protocol().is_none() || !numbers || !range {
            report.add(format!("{field}[{i}]"), Lint::Invalid);
        }
    }
}

fn lint_dns(rules: &[Rule<TermId>], report: &mut Report<'_>) {
    // Without any rule, nothing is meant to go out.
    let dns = PortSet::one(Traffic::Udp(53)).union(&PortSet::range(Protocol::Tcp, 53..=53));
    let by_name = |rule: &Rule<TermId>| rule.port_names().next().is_some();
    let allows = |rule: &Rule<TermId>| by_name(rule) || !rule.traffic(&[]).intersection(&dns).is_empty();
    if !rules.is_empty() && !rules.iter().any(allows) {
        report.add("spec.egress", Lint::NoDns);
    }
}
