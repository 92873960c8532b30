//! Verdicts: two look-ups, and from the same look-ups the reasons.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_model::ObjectRef;

use super::func::{BY_DEFAULT, FIRST_RULE, ISOLATED};
use super::*;
use crate::decision::{Decision, Endpoint, Flow, Missing, Reason, RuleReason, Side, Verdict};
use crate::options::{OwnNode, SelfTraffic};
use crate::policy::{Direction, PortEntry, Term};
use crate::traffic::Traffic;

/// One end of a flow, found.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    /// How the flow names it.
    endpoint: &'a Endpoint<'a>,
    place: Place,
    /// `None` for an address outside.
    pod: Option<PodId>,
    family: Family,
}

impl End<'_> {
    pub(crate) fn peer(&self) -> PeerId {
        self.place.peers.own
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

/// The family of a connection between two Pods: that of the first address of the destination for which the source
/// has one.
#[inline]
fn common_family(from: Option<&PodEntry>, to: Option<&PodEntry>) -> Family {
    let has = |pod: Option<&PodEntry>, family: Family| pod.is_some_and(|pod| pod.has(family));
    let Some(first) = to.and_then(|pod| pod.primary) else {
        return from.and_then(|pod| pod.primary).unwrap_or(Family::V4);
    };
    let second = first.other();
    if !has(from, first) && has(to, second) && has(from, second) { second } else { first }
}

/// The family of a flow's addresses.
#[inline]
fn family_of(flow: &Flow<'_>, from: Option<&PodEntry>, to: Option<&PodEntry>) -> Family {
    match (flow.family, flow.to, flow.from) {
        (Some(family), ..) => family.into(),
        (None, Endpoint::Address(ip), _) | (None, _, Endpoint::Address(ip)) => Family::of(ip),
        (None, Endpoint::Pod { .. }, Endpoint::Pod { .. }) => common_family(from, to),
    }
}

/// Verdicts.
impl Engine {
    /// Whether a connection comes about.
    ///
    /// The same look-up as [`decide`](Self::decide), without putting the reason into words.
    pub fn verdict(&self, flow: &Flow<'_>) -> Verdict {
        match self.ends(flow) {
            Some((from, to)) => both(
                self.egress(&from, &to, flow.traffic).verdict(),
                self.ingress(&from, &to, flow.traffic).verdict(),
            ),
            None => Verdict::Unknown,
        }
    }

    /// Whether a connection comes about, and what decided each side.
    pub fn decide(&self, flow: &Flow<'_>) -> Decision {
        let Some((from, to)) = self.ends(flow) else {
            let reason = Reason::NoEndpoint(self.missing_end(flow));
            let side = Side { verdict: Verdict::Unknown, reason };
            return Decision { verdict: Verdict::Unknown, egress: side.clone(), ingress: side };
        };
        let egress = self.egress(&from, &to, flow.traffic);
        let ingress = self.ingress(&from, &to, flow.traffic);
        let verdict = both(egress.verdict(), ingress.verdict());
        let egress = self.side(egress, &from, &to, flow.traffic);
        let ingress = self.side(ingress, &to, &from, flow.traffic);
        Decision { verdict, egress, ingress }
    }

    /// Both ends and the family between them; `None` if one can't be told.
    #[inline(always)]
    pub(crate) fn ends<'a>(&self, flow: &'a Flow<'a>) -> Option<(End<'a>, End<'a>)> {
        let (from, to) = (self.pod_of(&flow.from)?, self.pod_of(&flow.to)?);
        let family = family_of(flow, from.map(|(_, pod)| pod), to.map(|(_, pod)| pod));
        Some((self.end(&flow.from, from, family)?, self.end(&flow.to, to, family)?))
    }

    /// Why an end can't be told.
    #[cold]
    fn missing_end(&self, flow: &Flow<'_>) -> Missing {
        let mut pods = [None; 2];
        for (endpoint, found) in [flow.from, flow.to].iter().zip(&mut pods) {
            match (self.pod_of(endpoint), endpoint) {
                (Some(pod), _) => *found = pod,
                (None, Endpoint::Pod { namespace, name }) => {
                    return Missing::Pod(ObjectRef::new(*namespace, *name));
                }
                (None, Endpoint::Address(_)) => {}
            }
        }
        let [from, to] = pods;
        let family = family_of(flow, from.map(|(_, pod)| pod), to.map(|(_, pod)| pod));
        for (endpoint, pod) in [(flow.from, from), (flow.to, to)] {
            match (endpoint, pod) {
                (Endpoint::Address(ip), _) if Family::of(ip) != family => return Missing::CommonFamily,
                (_, Some((id, pod))) if !pod.has(family) => {
                    if let Some(facts) = self.pods.facts(id) {
                        return Missing::Address(facts.reference.clone());
                    }
                }
                _ => {}
            }
        }
        Missing::CommonFamily
    }

    /// The Pod that an end is, or `Some(None)` if it is outside; `None` if there is no such Pod.
    #[inline(always)]
    fn pod_of(&self, endpoint: &Endpoint<'_>) -> Option<Option<(PodId, &PodEntry)>> {
        match endpoint {
            Endpoint::Pod { namespace, name } => self.pods.find(namespace, name).map(Some),
            Endpoint::Address(ip) => Some(self.pods.at(*ip).and_then(|id| Some((id, self.pods.get(id)?)))),
        }
    }

    #[inline(always)]
    fn end<'a>(
        &self,
        endpoint: &'a Endpoint<'a>,
        pod: Option<(PodId, &PodEntry)>,
        family: Family,
    ) -> Option<End<'a>> {
        if let Endpoint::Address(ip) = endpoint
            && Family::of(*ip) != family
        {
            return None;
        }
        let place = match (pod, endpoint) {
            (Some((_, pod)), _) => self.places.get(pod.ident(family) as usize)?,
            (None, Endpoint::Address(ip)) => self.outside(*ip).unwrap_or(&NO_PLACE),
            (None, Endpoint::Pod { .. }) => return None,
        };
        Some(End { endpoint, place: *place, pod: pod.map(|(id, _)| id), family })
    }

    fn outside(&self, ip: IpAddr) -> Option<&Place> {
        self.places.get(*self.ident_ids.get(&(None, self.zones.of(ip)))? as usize)
    }

    /// The kind of an end, if it is a Pod.
    pub(crate) fn kind_of(&self, end: &End<'_>) -> Option<&Kind> {
        self.kinds.get(self.pods.facts(end.pod?)?.kind)
    }

    /// The address of an end in the flow's family.
    pub(crate) fn address_of(&self, end: &End<'_>) -> Option<IpAddr> {
        if let Endpoint::Address(ip) = end.endpoint {
            return Some(*ip);
        }
        let addresses = &self.pods.facts(end.pod?)?.addresses;
        addresses.iter().find(|ip| Family::of(**ip) == end.family).copied()
    }

    /// The named ports of an end; an address outside has none.
    pub(crate) fn names_of(&self, end: &End<'_>) -> &[NamedPort] {
        self.kind_of(end).filter(|kind| !kind.is_host()).map_or(&[], |kind| &kind.key.ports)
    }

    #[inline(always)]
    fn egress(&self, from: &End<'_>, to: &End<'_>, traffic: Traffic) -> Found<'_> {
        self.found(from, to, traffic, |rows| rows.egress)
    }

    #[inline(always)]
    fn ingress(&self, from: &End<'_>, to: &End<'_>, traffic: Traffic) -> Found<'_> {
        if from.place.rows == NO_ROWS
            && self.options.own_node == OwnNode::Allowed
            && self.is_own_node(to, from)
        {
            return Found::OwnNode;
        }
        self.found(to, from, traffic, |rows| rows.ingress)
    }

    #[inline(always)]
    fn found(
        &self,
        subject: &End<'_>,
        peer: &End<'_>,
        traffic: Traffic,
        row: impl Fn(Rows) -> RowId,
    ) -> Found<'_> {
        if subject.place.rows == NO_ROWS {
            return Found::NotSubject;
        }
        if subject.pod == peer.pod
            && subject.pod.is_some()
            && self.options.self_traffic == SelfTraffic::Allowed
        {
            return Found::SelfTraffic;
        }
        match self.rows.get(row(subject.place.rows)) {
            Some(row) => Found::Code(row, row.table.code(peer.place.peers, traffic.key())),
            None => Found::NotSubject,
        }
    }

    /// "Traffic is allowed to a pod if [...] the traffic source is the pod's local node" (NetworkPolicySpec). The source
    /// must be no Pod to policies.
    fn is_own_node(&self, pod: &End<'_>, source: &End<'_>) -> bool {
        let facts = pod.pod.and_then(|id| self.pods.facts(id));
        let (Some(facts), Some(ip)) = (facts, self.address_of(source)) else { return false };
        facts.host == Some(ip) || self.nodes.get(&facts.node).is_some_and(|node| node.addresses.contains(&ip))
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
                None => self.reason(row, code, peer.peer(), traffic),
                Some((allow, deny)) => Reason::Undetermined {
                    allow: Box::new(self.reason(row, allow, peer.peer(), traffic)),
                    deny: Box::new(self.reason(row, deny, peer.peer(), traffic)),
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
            let kind = self.kind_of(end).filter(|kind| kind.terms.iter().any(|code| code.is_maybe()))?;
            let namespace = &kind.key.namespace;
            matches!(self.labels_of(namespace), NamespaceLabels::Named(_)).then(|| namespace.clone())
        };
        missing.extend(undeclared(subject).map(Missing::Namespace));
        missing.extend(undeclared(peer).map(Missing::Namespace));
        let pod = peer.pod.and_then(|id| self.pods.facts(id));
        if let Some(pod) = pod.filter(|pod| pod.addresses.is_empty()) {
            missing.push(Missing::Address(pod.reference.clone()));
        }
        if let Some(peer) = self.peers.get(peer.peer()) {
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
