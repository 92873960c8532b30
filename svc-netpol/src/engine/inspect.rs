//! Looking into the compiled state: what lints and near misses ask for.

use alloc::collections::BTreeSet;

use super::row::Context;
use super::term::finds_pod;
use super::*;
use crate::policy::{Direction, PortEntry, Rule, Term};

impl Engine {
    /// Policies in the order of kind, namespace and name.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.policy_ids.values().filter_map(|id| self.policies.get(*id))
    }

    pub(crate) fn policy_id(&self, policy: &PolicyRef) -> Option<PolicyId> {
        self.policy_ids.get(policy).copied()
    }

    pub(crate) fn term(&self, id: TermId) -> Option<&Term> {
        self.terms.get(id).map(|entry| &entry.term)
    }

    /// Whether a term finds an end of a connection for sure.
    pub(crate) fn finds(&self, id: TermId, end: &End<'_>) -> bool {
        let code = self.peers.get(end.peer()).and_then(|peer| peer.key.has(id));
        code.is_some_and(|code| !code.is_maybe())
    }

    /// Whether there is anybody that a term finds.
    pub(crate) fn finds_anyone(&self, id: TermId) -> bool {
        self.terms.finds_anyone(id)
    }

    /// Whether a term would find Pods that are on their node's network.
    pub(crate) fn selects_host(&self, id: TermId) -> bool {
        let Some(term) = self.term(id) else { return false };
        self.kinds.iter().filter(|(_, kind)| kind.is_host()).any(|(_, kind)| {
            let namespace = &kind.key.namespace;
            finds_pod(term, namespace, self.labels_of(namespace), &kind.key.labels).is_some()
        })
    }

    /// Whether there is a Pod that both terms find.
    pub(crate) fn have_common_pod(&self, a: TermId, b: TermId) -> bool {
        let finds = |kind: &Kind, id: TermId| kind.terms.binary_search_by_key(&id, |code| code.id()).is_ok();
        self.kinds.iter().any(|(_, kind)| finds(kind, a) && finds(kind, b))
    }

    /// Whether the name of a port means something for any destination of a rule.
    pub(crate) fn is_port_name_of(
        &self,
        direction: Direction,
        subject: TermId,
        rule: &Rule<TermId>,
        entry: &PortEntry,
    ) -> bool {
        let means = |names: &[NamedPort]| !entry.traffic(names).is_empty();
        match (direction, &rule.peers) {
            (Direction::Ingress, _) => {
                let selected = self
                    .kinds
                    .iter()
                    .filter(|(_, kind)| kind.terms.binary_search_by_key(&subject, |code| code.id()).is_ok());
                selected.into_iter().any(|(_, kind)| means(&kind.key.ports))
            }
            (Direction::Egress, None) => self.peers.iter().any(|(_, peer)| means(&peer.key.names)),
            (Direction::Egress, Some(peers)) => {
                let found = peers.iter().flat_map(|(term, _)| self.terms.peers(*term));
                found.filter_map(|peer| self.peers.get(peer)).any(|peer| means(&peer.key.names))
            }
        }
    }

    /// What anybody is, each once.
    pub(crate) fn all_peers(&self) -> BTreeSet<Peers> {
        self.idents.iter().filter_map(|(id, _)| self.peers_of(id)).collect()
    }

    fn peers_of(&self, ident: IdentId) -> Option<Peers> {
        Some(self.places.get(ident as usize)?.peers)
    }

    /// Every Pod that has a peer in a family: with an address of it, or without any.
    pub(crate) fn pod_peers(&self, family: Family) -> impl Iterator<Item = (&ObjectRef, &Kind, Peers)> {
        self.pods.iter().filter_map(move |(_, pod, facts)| {
            Some((&facts.reference, self.kinds.get(facts.kind)?, self.peers_of(pod.ident(family))?))
        })
    }

    /// Every range of addresses with the peer that it is, were it outside.
    pub(crate) fn outside_peers(&self, family: Family) -> impl Iterator<Item = (Range, Peers)> {
        self.zones.ranges(family).filter_map(|(range, zone)| {
            let ident = self.ident_ids.get(&(None, zone))?;
            Some((range, self.peers_of(*ident)?))
        })
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (RowId, &Row)> {
        self.rows.iter()
    }

    /// What rows are computed from.
    pub(crate) fn context(&self) -> Context<'_> {
        Context { policies: &self.policies, peers: &self.peers, terms: &self.terms }
    }

    pub(crate) fn row(&self, id: RowId) -> Option<&Row> {
        self.rows.get(id)
    }
}

/// What a node's plan is made of.
impl Engine {
    pub(crate) fn policy_ref(&self, id: PolicyId) -> Option<&PolicyRef> {
        self.policies.get(id).map(|entry| &entry.reference)
    }

    pub(crate) fn pods_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (&'a Kind, &'a [IpAddr])> {
        let pods = self.pods.iter().filter(move |(.., facts)| facts.node == node);
        pods.filter_map(|(.., facts)| Some((self.kinds.get(facts.kind)?, &*facts.addresses)))
    }

    /// The Pod that an address belongs to.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<&ObjectRef> {
        Some(&self.pods.facts(self.pods.at(ip)?)?.reference)
    }

    /// What an address is, were it outside.
    pub(crate) fn outside_peers_of(&self, ip: IpAddr) -> Option<Peers> {
        self.peers_of(*self.ident_ids.get(&(None, self.zones.of(ip)))?)
    }
}
