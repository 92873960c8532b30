//! Verdicts: two look-ups, and from the same look-ups the reasons.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_model::ObjectRef;

use super::func::{BY_DEFAULT, ISOLATED};
use super::*;
use crate::decision::{Decision, Endpoint, Flow, Missing, Reason, RuleReason, Side, Verdict};
use crate::options::{OwnNode, SelfTraffic};
use crate::policy::{Direction, PortEntry, Term};
use crate::traffic::Traffic;

/// One end of a flow, found.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) kind: Option<&'a Kind>,
    pub(crate) peer: PeerId,
    pod: Option<(&'a ObjectRef, &'a PodEntry)>,
    pub(crate) address: Option<IpAddr>,
    /// Whether no address is known, so that blocks may or may not find it.
    unaddressed: bool,
}

impl<'a> End<'a> {
    /// Its named ports; an address outside has none.
    pub(crate) fn names(&self) -> &'a [NamedPort] {
        self.kind.filter(|kind| !kind.is_host()).map_or(&[], |kind| &kind.key.ports)
    }
}

/// What one side of a flow comes to, before anything is put into words.
enum Found<'a> {
    NotSubject,
    SelfTraffic,
    OwnNode,
    Code(&'a Row, Code),
}

impl Found<'_> {
    #[inline]
    fn verdict(&self) -> Verdict {
        match self {
            Self::NotSubject | Self::SelfTraffic | Self::OwnNode => Verdict::Allow,
            Self::Code(_, code) => verdict_of(*code),
        }
    }
}

#[inline]
pub(crate) fn verdict_of(code: Code) -> Verdict {
    match code.verdict() {
        ALLOW => Verdict::Allow,
        DENY => Verdict::Deny,
        _ => Verdict::Unknown,
    }
}

#[inline]
fn both(egress: Verdict, ingress: Verdict) -> Verdict {
    match (egress, ingress) {
        (Verdict::Deny, _) | (_, Verdict::Deny) => Verdict::Deny,
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
        (Verdict::Allow, Verdict::Allow) => Verdict::Allow,
    }
}

/// Verdicts.
impl Engine {
    /// Whether a connection comes about.
    ///
    /// The same look-up as [`decide`](Self::decide), without putting the reason into words.
    pub fn verdict(&self, flow: &Flow<'_>) -> Verdict {
        match self.ends(flow) {
            Ok((from, to)) => both(
                self.egress(&from, &to, flow.traffic).verdict(),
                self.ingress(&from, &to, flow.traffic).verdict(),
            ),
            Err(_) => Verdict::Unknown,
        }
    }

    /// Whether a connection comes about, and what decided each side.
    pub fn decide(&self, flow: &Flow<'_>) -> Decision {
        let (from, to) = match self.ends(flow) {
            Ok(ends) => ends,
            Err(missing) => {
                let side = Side { verdict: Verdict::Unknown, reason: Reason::NoEndpoint(missing) };
                return Decision { verdict: Verdict::Unknown, egress: side.clone(), ingress: side };
            }
        };
        let egress = self.egress(&from, &to, flow.traffic);
        let ingress = self.ingress(&from, &to, flow.traffic);
        let verdict = both(egress.verdict(), ingress.verdict());
        let egress = self.side(egress, &from, &to, flow.traffic);
        let ingress = self.side(ingress, &to, &from, flow.traffic);
        Decision { verdict, egress, ingress }
    }

    pub(crate) fn ends(&self, flow: &Flow<'_>) -> Result<(End<'_>, End<'_>), Missing> {
        let (from, to) = (self.pod_of(flow.from)?, self.pod_of(flow.to)?);
        let address = |endpoint: Endpoint<'_>| match endpoint {
            Endpoint::Address(ip) => Some(ip),
            Endpoint::Pod { .. } => None,
        };
        let (from_ip, to_ip) = (address(flow.from), address(flow.to));
        let given = flow.family.map(Family::from).or_else(|| to_ip.or(from_ip).map(Family::of));
        let has = |pod: Option<(&ObjectRef, &PodEntry)>, ip: Option<IpAddr>, family: Family| match (ip, pod) {
            (Some(ip), _) => Family::of(ip) == family,
            (None, Some((_, pod))) => {
                pod.addresses.is_empty() || pod.addresses.iter().any(|ip| Family::of(*ip) == family)
            }
            (None, None) => false,
        };
        let family = given.unwrap_or_else(|| {
            let theirs = to.into_iter().flat_map(|(_, pod)| &pod.addresses).map(|ip| Family::of(*ip));
            let ours = from.into_iter().flat_map(|(_, pod)| &pod.addresses).map(|ip| Family::of(*ip));
            theirs
                .clone()
                .find(|family| has(from, None, *family))
                .or(theirs.chain(ours).next())
                .unwrap_or(Family::V4)
        });
        Ok((self.end(from, from_ip, family)?, self.end(to, to_ip, family)?))
    }

    #[inline]
    fn pod_of(&self, endpoint: Endpoint<'_>) -> Result<Option<(&ObjectRef, &PodEntry)>, Missing> {
        match endpoint {
            Endpoint::Pod { namespace, name } => match self.pods.get_key_value(&PodRef(namespace, name)) {
                Some(found) => Ok(Some(found)),
                None => Err(Missing::Pod(ObjectRef::new(namespace, name))),
            },
            Endpoint::Address(ip) => {
                let holder = self.by_address.get(&ip).and_then(|pods| pods.first());
                Ok(holder.and_then(|pod| self.pods.get_key_value(pod)))
            }
        }
    }

    #[inline]
    fn end<'a>(
        &'a self,
        pod: Option<(&'a ObjectRef, &'a PodEntry)>,
        ip: Option<IpAddr>,
        family: Family,
    ) -> Result<End<'a>, Missing> {
        if ip.is_some_and(|ip| Family::of(ip) != family) {
            return Err(Missing::CommonFamily);
        }
        let Some((reference, entry)) = pod else {
            let ip = ip.ok_or(Missing::CommonFamily)?;
            let peer = self.outside_peer(ip).unwrap_or(PeerId::MAX);
            return Ok(End { kind: None, peer, pod: None, address: Some(ip), unaddressed: false });
        };
        let ident = entry.idents.get(family as usize).copied().flatten();
        let Some(peer) = ident.and_then(|id| self.idents.get(id)).and_then(|ident| ident.peer) else {
            return Err(Missing::Address(reference.clone()));
        };
        let address = ip.or_else(|| entry.addresses.iter().find(|ip| Family::of(**ip) == family).copied());
        let unaddressed = entry.addresses.is_empty();
        Ok(End { kind: self.kinds.get(entry.kind), peer, pod, address, unaddressed })
    }

    #[inline]
    fn egress(&self, from: &End<'_>, to: &End<'_>, traffic: Traffic) -> Found<'_> {
        self.found(from, to, traffic, |rows| rows.egress)
    }

    #[inline]
    fn ingress(&self, from: &End<'_>, to: &End<'_>, traffic: Traffic) -> Found<'_> {
        if self.options.own_node == OwnNode::Allowed && self.is_own_node(to, from) {
            return Found::OwnNode;
        }
        self.found(to, from, traffic, |rows| rows.ingress)
    }

    #[inline]
    fn found(
        &self,
        subject: &End<'_>,
        peer: &End<'_>,
        traffic: Traffic,
        row: impl Fn(Rows) -> RowId,
    ) -> Found<'_> {
        let Some(rows) = subject.kind.filter(|kind| !kind.key.host).and_then(|kind| kind.rows) else {
            return Found::NotSubject;
        };
        if let (Some((subject, _)), Some((peer, _))) = (subject.pod, peer.pod)
            && core::ptr::eq(subject, peer)
            && self.options.self_traffic == SelfTraffic::Allowed
        {
            return Found::SelfTraffic;
        }
        match self.rows.get(row(rows)) {
            Some(row) => Found::Code(row, row.code(peer.peer, traffic.key())),
            None => Found::NotSubject,
        }
    }

    /// "Traffic is allowed to a pod if [...] the traffic source is the pod's local node" (NetworkPolicySpec).
    #[inline]
    fn is_own_node(&self, pod: &End<'_>, source: &End<'_>) -> bool {
        let (Some((_, pod)), Some(ip)) = (pod.pod, source.address) else { return false };
        if source.kind.is_some_and(|kind| !kind.key.host) {
            return false;
        }
        pod.hosts.contains(&ip) || self.nodes.get(&pod.node).is_some_and(|node| node.addresses.contains(&ip))
    }
}

/// Reasons.
impl Engine {
    fn side(&self, found: Found<'_>, subject: &End<'_>, peer: &End<'_>, traffic: Traffic) -> Side {
        let verdict = found.verdict();
        let reason = match found {
            Found::NotSubject => Reason::NotSubject,
            Found::SelfTraffic => Reason::SelfTraffic,
            Found::OwnNode => Reason::OwnNode,
            Found::Code(row, code) => match row.branches(code).filter(|_| code.verdict() == UNKNOWN) {
                None => self.reason(row, code, peer.peer, traffic),
                Some((allow, deny)) => Reason::Undetermined {
                    allow: Box::new(self.reason(row, allow, peer.peer, traffic)),
                    deny: Box::new(self.reason(row, deny, peer.peer, traffic)),
                    missing: self.missing(row, subject, peer),
                },
            },
        };
        Side { verdict, reason }
    }

    pub(crate) fn reason(&self, row: &Row, code: Code, peer: PeerId, traffic: Traffic) -> Reason {
        match code.reason() {
            BY_DEFAULT => Reason::Default,
            ISOLATED => {
                let mut policies: Vec<PolicyRef> = row
                    .key
                    .policies
                    .iter()
                    .filter_map(|code| self.policies.get(code.id()))
                    .filter(|entry| entry.compiled.tier == Tier::NetworkPolicy)
                    .map(|entry| entry.reference.clone())
                    .collect();
                policies.sort_unstable();
                Reason::Isolated { policies }
            }
            number => match self.rule_reason(row, number - FIRST_RULE, peer, traffic) {
                Some(reason) => Reason::Rule(reason),
                None => Reason::Default,
            },
        }
    }

    fn rule_reason(&self, row: &Row, number: u32, peer: PeerId, traffic: Traffic) -> Option<RuleReason> {
        let at = row.rules.get(number as usize)?;
        let entry = self.policies.get(at.policy)?;
        let rule = entry.compiled.rules(row.key.direction)?.get(at.rule as usize)?;
        let peer = self.peers.get(peer);
        let names = match row.key.direction {
            Direction::Ingress => &*row.key.names,
            Direction::Egress => peer.map_or(&[][..], |peer| &peer.key.names),
        };
        let finds = |term: TermId| peer.and_then(|peer| peer.key.has(term));
        let peers = rule.peers.as_deref();
        let sure =
            peers.and_then(|p| p.iter().find(|(term, _)| finds(*term).is_some_and(|code| !code.is_maybe())));
        let any = || peers.and_then(|p| p.iter().find(|(term, _)| finds(*term).is_some()));
        let port_matches = |entry: &PortEntry| entry.traffic(names).contains(traffic);
        Some(RuleReason {
            tier: entry.compiled.tier,
            policy: entry.reference.clone(),
            direction: row.key.direction,
            rule: at.rule as usize,
            name: rule.name.clone(),
            action: rule.action,
            peer: sure.or_else(any).map(|(_, index)| *index),
            port: rule.ports.as_ref().and_then(|ports| ports.iter().position(port_matches)),
        })
    }

    /// What would have to be known: of the subject, of the peer, and of the names in the row's rules.
    fn missing(&self, row: &Row, subject: &End<'_>, peer: &End<'_>) -> Vec<Missing> {
        let mut missing: Vec<Missing> = Vec::new();
        let undeclared = |end: &End<'_>| {
            let namespace =
                &end.kind.filter(|kind| kind.terms.iter().any(|code| code.is_maybe()))?.key.namespace;
            matches!(self.labels_of(namespace), NamespaceLabels::Named(_)).then(|| namespace.clone())
        };
        missing.extend(undeclared(subject).map(Missing::Namespace));
        missing.extend(undeclared(peer).map(Missing::Namespace));
        if let Some((pod, _)) = peer.pod.filter(|_| peer.unaddressed) {
            missing.push(Missing::Address(pod.clone()));
        }
        if let Some(peer) = self.peers.get(peer.peer) {
            let maybe =
                peer.key.terms.iter().filter(|code| code.is_maybe() && row.terms.contains(&code.id()));
            missing.extend(maybe.filter_map(|code| match &self.terms.get(code.id())?.term {
                Term::Domain(name) => Some(Missing::Domain(name.clone())),
                Term::Pods(..) | Term::Block(_) | Term::Nodes(_) => None,
            }));
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }
}
