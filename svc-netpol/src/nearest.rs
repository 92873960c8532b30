//! For a connection that is denied: the rules that came nearest to allowing it, and what they lack.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use svc_model::SmolStr;
use svc_model::selector::{Explanation, Selector};

use crate::decision::{Flow, Reason, RuleReason, Verdict};
use crate::engine::{End, Engine, NamespaceLabels, PolicyEntry};
use crate::policy::{Action, Direction, Namespaces, PolicyRef, PortEntry, Rule, Term, Tier};
use crate::traffic::{PortSet, Traffic};

/// A rule that would allow a denied connection, if it weren't for a few things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The policy.
    pub policy: PolicyRef,
    /// Its tier.
    pub tier: Tier,
    /// Which of its lists.
    pub direction: Direction,
    /// Index of the rule in that list.
    pub rule: usize,
    /// What doesn't match, at least one thing.
    pub misses: Vec<Miss>,
}

/// Something about a rule that doesn't match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// The policy doesn't select the Pod whose side denies: how its labels fare, and those of its namespace.
    Subject(PodMiss),
    /// No peer matches; this is the nearest one.
    Peer {
        /// Index of the peer in the rule.
        peer: usize,
        /// What it lacks.
        miss: PeerMiss,
    },
    /// The traffic is not what the rule names.
    Port {
        /// What it names.
        wanted: PortSet,
        /// Names of ports that the destination doesn't have.
        undefined: Vec<SmolStr>,
    },
    /// The rule matches, but something before it has decided.
    Overruled(Reason),
}

/// How a Pod fares against two selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodMiss {
    /// The namespace that the policy is about, if it is another one.
    pub other_namespace: Option<SmolStr>,
    /// How the labels of its namespace fare; `None` if they match, or don't matter.
    pub namespace: Option<Explanation>,
    /// How its own labels fare; `None` if they match.
    pub pod: Option<Explanation>,
}

/// Why a peer isn't the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMiss {
    /// It selects Pods, and this one doesn't match.
    Pod(PodMiss),
    /// It selects Pods, and the other end is none.
    NoPod,
    /// The address is not in the block.
    OutsideBlock(IpNet),
    /// The address is in the block, but also in this exception.
    Excepted(IpNet),
    /// The address is not that of a matching node.
    NoNode,
    /// The domain name has no such address.
    OtherDomain(SmolStr),
    /// The other end has no address.
    NoAddress,
}

impl PodMiss {
    /// What it lacks, the less the nearer.
    fn cost(&self) -> usize {
        let failures = |e: &Option<Explanation>| e.as_ref().map_or(0, |e| e.failures().len().max(1));
        usize::from(self.other_namespace.is_some()) + failures(&self.namespace) + failures(&self.pod)
    }
}

impl PeerMiss {
    fn cost(&self) -> usize {
        match self {
            Self::Pod(miss) => miss.cost(),
            Self::NoPod | Self::NoNode | Self::OtherDomain(_) | Self::NoAddress => 3,
            Self::OutsideBlock(_) => 2,
            Self::Excepted(_) => 1,
        }
    }
}

impl Miss {
    fn cost(&self) -> usize {
        match self {
            Self::Subject(miss) => 4 + miss.cost(),
            Self::Peer { miss, .. } => miss.cost(),
            Self::Port { .. } => 1,
            Self::Overruled(_) => 2,
        }
    }
}

impl Engine {
    /// The rules that come nearest to allowing a connection that is denied, nearest first, at most `most`.
    /// Empty if it isn't denied.
    ///
    /// Looks at every policy of the tiers that could have allowed it, so it costs more than a verdict.
    pub fn nearest(&self, flow: &Flow<'_>, most: usize) -> Vec<NearMiss> {
        let decision = self.decide(flow);
        let Some((from, to)) = self.ends(flow) else { return Vec::new() };
        let mut found: Vec<NearMiss> = Vec::new();
        for (direction, side) in
            [(Direction::Egress, &decision.egress), (Direction::Ingress, &decision.ingress)]
        {
            if side.verdict != Verdict::Deny {
                continue;
            }
            let (subject, peer) = if direction == Direction::Egress { (&from, &to) } else { (&to, &from) };
            for entry in self.entries() {
                // What is denied in a tier can't be allowed by a later one.
                if entry.compiled.tier > tier_of(&side.reason) {
                    continue;
                }
                let subject_miss = self.subject_miss(entry, subject);
                for (index, rule) in entry.compiled.rules(direction).unwrap_or_default().iter().enumerate() {
                    if rule.action != Action::Accept {
                        continue;
                    }
                    let mut misses: Vec<Miss> = subject_miss.clone().map(Miss::Subject).into_iter().collect();
                    misses.extend(self.peer_miss(rule, peer));
                    misses.extend(self.port_miss(rule, &to, flow.traffic));
                    if misses.is_empty() {
                        misses.push(Miss::Overruled(side.reason.clone()));
                    }
                    found.push(NearMiss {
                        policy: entry.reference.clone(),
                        tier: entry.compiled.tier,
                        direction,
                        rule: index,
                        misses,
                    });
                }
            }
        }
        found.sort_by_cached_key(|near| {
            let cost: usize = near.misses.iter().map(Miss::cost).sum();
            (cost, near.policy.clone(), near.direction, near.rule)
        });
        found.truncate(most);
        found
    }

    fn subject_miss(&self, entry: &PolicyEntry, subject: &End<'_>) -> Option<PodMiss> {
        let term = entry.compiled.subject.and_then(|id| self.term(id));
        match term {
            Some(Term::Pods(namespaces, pods)) => self.pod_miss(namespaces, pods, subject),
            _ => Some(PodMiss {
                other_namespace: None,
                namespace: None,
                pod: Some(Selector::NOTHING.explain(&svc_model::Labels::default())),
            }),
        }
    }

    /// What a Pod lacks to be selected; `None` if it is.
    fn pod_miss(&self, namespaces: &Namespaces, pods: &Selector, end: &End<'_>) -> Option<PodMiss> {
        let kind = self.kind_of(end)?;
        let own = &kind.key.namespace;
        let miss = |selector: &Selector, labels: &svc_model::Labels| {
            Some(selector.explain(labels)).filter(|explanation| !explanation.matches())
        };
        let (other_namespace, namespace) = match namespaces {
            Namespaces::Named(name) => (Some(name.clone()).filter(|name| name != own), None),
            Namespaces::Selected(selector) => match self.labels_of(own) {
                NamespaceLabels::Known(labels) => (None, miss(selector, labels)),
                NamespaceLabels::Named(name) => {
                    let named = [(svc_model::NAMESPACE_NAME_LABEL, name)].into_iter().collect();
                    (None, miss(selector, &named))
                }
            },
        };
        let found = PodMiss { other_namespace, namespace, pod: miss(pods, &kind.key.labels) };
        (found.cost() > 0).then_some(found)
    }

    fn peer_miss(&self, rule: &Rule<u32>, peer: &End<'_>) -> Option<Miss> {
        let peers = rule.peers.as_ref()?;
        let mut nearest: Option<(usize, PeerMiss)> = None;
        for (id, index) in peers {
            let miss = self.term_miss(*id, peer)?;
            if nearest.as_ref().is_none_or(|(_, known)| miss.cost() < known.cost()) {
                nearest = Some((*index, miss));
            }
        }
        let (peer, miss) = nearest.unwrap_or((0, PeerMiss::NoPod));
        Some(Miss::Peer { peer, miss })
    }

    /// What the other end lacks to be found by a term; `None` if it is.
    fn term_miss(&self, id: u32, peer: &End<'_>) -> Option<PeerMiss> {
        if self.finds(id, peer) {
            return None;
        }
        let address: Option<IpAddr> = self.address_of(peer);
        let miss = match (self.term(id)?, address) {
            (Term::Pods(namespaces, pods), _) => match self.kind_of(peer).filter(|kind| !kind.is_host()) {
                Some(_) => PeerMiss::Pod(self.pod_miss(namespaces, pods, peer)?),
                None => PeerMiss::NoPod,
            },
            (_, None) => PeerMiss::NoAddress,
            (Term::Block(block), Some(ip)) => {
                let hole = block.except.iter().find(|net| net.contains(&ip));
                match hole.filter(|_| block.cidr.contains(&ip)) {
                    Some(hole) => PeerMiss::Excepted(*hole),
                    None => PeerMiss::OutsideBlock(block.cidr),
                }
            }
            (Term::Nodes(_), Some(_)) => PeerMiss::NoNode,
            (Term::Domain(name), Some(_)) => PeerMiss::OtherDomain(name.clone()),
        };
        Some(miss)
    }

    fn port_miss(&self, rule: &Rule<u32>, to: &End<'_>, traffic: Traffic) -> Option<Miss> {
        let names = self.names_of(to);
        let wanted = rule.traffic(names);
        if wanted.contains(traffic) {
            return None;
        }
        let undefined = rule.ports.iter().flatten().filter_map(|entry| match entry {
            PortEntry::Named(name, _) if entry.traffic(names).is_empty() => Some(name.clone()),
            PortEntry::Named(..) | PortEntry::Fixed(_) => None,
        });
        Some(Miss::Port { wanted, undefined: undefined.collect() })
    }
}

fn tier_of(reason: &Reason) -> Tier {
    match reason {
        Reason::Rule(RuleReason { tier, .. }) => *tier,
        _ => Tier::NetworkPolicy,
    }
}

impl fmt::Display for PodMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(namespace) = &self.other_namespace {
            write!(f, "it is about namespace {namespace}")?;
            separator = "; ";
        }
        if let Some(namespace) = &self.namespace {
            write!(f, "{separator}of the namespace's labels {namespace}")?;
            separator = "; ";
        }
        if let Some(pod) = &self.pod {
            write!(f, "{separator}of the Pod's labels {pod}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(miss) => write!(f, "the policy doesn't select this Pod: {miss}"),
            Self::Peer { peer, miss } => {
                write!(f, "peer {peer} is another: ")?;
                match miss {
                    PeerMiss::Pod(miss) => miss.fmt(f),
                    PeerMiss::NoPod => f.write_str("it selects Pods, and this is none"),
                    PeerMiss::OutsideBlock(net) => write!(f, "the address is not in {net}"),
                    PeerMiss::Excepted(net) => write!(f, "the address is in its exception {net}"),
                    PeerMiss::NoNode => f.write_str("the address is not that of a matching node"),
                    PeerMiss::OtherDomain(name) => write!(f, "the address is not one of {name}"),
                    PeerMiss::NoAddress => f.write_str("it is about addresses, and none is known"),
                }
            }
            Self::Port { wanted, undefined } => {
                write!(f, "the rule is for {wanted}")?;
                for name in undefined {
                    write!(f, ", and the destination has no port named `{}`", name.escape_debug())?;
                }
                Ok(())
            }
            Self::Overruled(reason) => write!(f, "it matches, but comes too late: {reason}"),
        }
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]: ", self.policy, self.direction, self.rule)?;
        for (i, miss) in self.misses.iter().enumerate() {
            write!(f, "{}{miss}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}
