//! Changes: every object that comes or goes marks what it touches, and [`Engine::flush`] brings that up to date.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_model::{
    Labels, NAMESPACE_NAME_LABEL, Namespace as NamespaceObject, Node, Object, ObjectRef, Pod, SmolStr,
};

use super::row::{Context, RowKey};
use super::term::finds_pod;
use super::*;
use crate::options::{Baseline, HostNetwork, IpBlocks};
use crate::policy::{Block, BlockSource, Direction, Namespaces, PolicyKind, Term, namespace_of};

/// What a change touched: the measure of its cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Touched {
    /// Pods, namespaces, nodes and policies that came, went or changed in a way that matters.
    pub objects: usize,
    /// Kinds of Pods that were compared with selectors.
    pub kinds: usize,
    /// Classes of peers that came, went or are found by other selectors now.
    pub peers: usize,
    /// Sets of policies whose decisions were computed anew.
    pub rows: usize,
    /// Single decisions that were computed anew, in other rows.
    pub cells: usize,
}

impl core::ops::AddAssign for Touched {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.kinds += other.kinds;
        self.peers += other.peers;
        self.rows += other.rows;
        self.cells += other.cells;
    }
}

/// What has to be brought up to date.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    zones: bool,
    kinds: BTreeSet<KindId>,
    idents: BTreeSet<IdentId>,
    rows: BTreeSet<RowId>,
    /// Peers with the terms in which they changed; `None`: new.
    peers: BTreeMap<PeerId, Option<BTreeSet<TermId>>>,
    /// Terms that no policy names any more.
    terms: Vec<TermId>,
    touched: Touched,
}

/// Objects in and out.
impl Engine {
    /// Adds or replaces an object. Kinds that policies don't look at change nothing.
    pub fn apply(&mut self, object: &Object) -> Touched {
        self.mark(object);
        self.flush()
    }

    /// Adds or replaces many objects at once, for less than one by one.
    pub fn apply_all<'a>(&mut self, objects: impl IntoIterator<Item = &'a Object>) -> Touched {
        for object in objects {
            self.mark(object);
        }
        self.flush()
    }

    /// Removes the object of this kind, namespace and name, if it is there.
    pub fn remove(&mut self, object: &Object) -> Touched {
        let name = &object.metadata().name;
        match object {
            Object::Pod(pod) => self.mark_pod_gone(&pod_ref(pod)),
            Object::Namespace(_) => self.mark_namespace(name, None),
            Object::Node(_) => self.mark_node(name, None),
            Object::NetworkPolicy(policy) => {
                self.mark_policy_gone(&Policy::from(policy.clone()).policy_ref())
            }
            Object::ClusterNetworkPolicy(_) => {
                self.mark_policy_gone(&cluster(PolicyKind::ClusterNetworkPolicy, name))
            }
            Object::AdminNetworkPolicy(_) => {
                self.mark_policy_gone(&cluster(PolicyKind::AdminNetworkPolicy, name))
            }
            Object::BaselineAdminNetworkPolicy(_) => {
                self.mark_policy_gone(&cluster(PolicyKind::BaselineAdminNetworkPolicy, name));
            }
            _ => {}
        }
        self.flush()
    }

    /// Forgets everything but the options and the domain names, and takes these objects instead.
    pub fn replace_all<'a>(&mut self, objects: impl IntoIterator<Item = &'a Object>) -> Touched {
        let mut fresh = Self::new(self.options.clone());
        fresh.domains = core::mem::take(&mut self.domains);
        let touched = fresh.apply_all(objects);
        *self = fresh;
        touched
    }

    /// Adds or replaces a Pod.
    pub fn apply_pod(&mut self, pod: &Pod) -> Touched {
        self.mark_pod(pod);
        self.flush()
    }

    /// Removes a Pod, if it is there.
    pub fn remove_pod(&mut self, pod: &ObjectRef) -> Touched {
        self.mark_pod_gone(pod);
        self.flush()
    }

    /// Adds or replaces a policy of any kind.
    pub fn apply_policy(&mut self, policy: impl Into<Policy>) -> Touched {
        self.mark_policy(policy.into());
        self.flush()
    }

    /// Removes a policy, if it is there.
    pub fn remove_policy(&mut self, policy: &PolicyRef) -> Touched {
        self.mark_policy_gone(policy);
        self.flush()
    }

    /// Says which addresses a domain name stands for, as observed in DNS answers; `None` if that isn't known.
    /// Only `domainNames` of cluster-scoped policies look at it. Names are compared without case.
    pub fn set_domain(&mut self, name: &str, addresses: Option<&[IpAddr]>) -> Touched {
        let name = SmolStr::new(name.trim_end_matches('.').to_ascii_lowercase());
        match addresses {
            Some(addresses) => self.domains.insert(name, addresses.to_vec()),
            None => self.domains.remove(&name),
        };
        self.pending.zones = true;
        self.flush()
    }

    fn mark(&mut self, object: &Object) {
        match object {
            Object::Pod(pod) => self.mark_pod(pod),
            Object::Namespace(namespace) => {
                self.mark_namespace(&namespace.metadata.name, Some(namespace_labels(namespace)));
            }
            Object::Node(node) => self.mark_node(&node.metadata.name, Some(node)),
            Object::NetworkPolicy(policy) => self.mark_policy(policy.clone().into()),
            Object::ClusterNetworkPolicy(policy) => self.mark_policy(policy.clone().into()),
            Object::AdminNetworkPolicy(policy) => self.mark_policy(policy.clone().into()),
            Object::BaselineAdminNetworkPolicy(policy) => self.mark_policy(policy.clone().into()),
            _ => {}
        }
    }
}

pub(crate) fn pod_ref(pod: &Pod) -> ObjectRef {
    ObjectRef { namespace: namespace_of(&pod.metadata), name: pod.metadata.name.clone() }
}

fn cluster(kind: PolicyKind, name: &SmolStr) -> PolicyRef {
    PolicyRef { kind, object: ObjectRef { namespace: SmolStr::default(), name: name.clone() } }
}

/// "The Kubernetes control plane sets an immutable label kubernetes.io/metadata.name on all namespaces."
fn namespace_labels(namespace: &NamespaceObject) -> Labels {
    let mut labels = namespace.metadata.labels.clone();
    if !labels.contains_key(NAMESPACE_NAME_LABEL) {
        labels.insert(NAMESPACE_NAME_LABEL, namespace.metadata.name.clone());
    }
    labels
}

/// Pods, namespaces and nodes.
impl Engine {
    fn mark_pod(&mut self, pod: &Pod) {
        let reference = pod_ref(pod);
        // Pods that have ended hold no address; somebody else may have it by now.
        if pod.is_terminal() {
            return self.mark_pod_gone(&reference);
        }
        let mut ports: Vec<NamedPort> = pod
            .spec
            .serving_containers()
            .flat_map(|container| &container.ports)
            .filter(|port| !port.name.is_empty())
            .filter_map(|port| {
                let (protocol, number) = (port.protocol()?, port.container_port.number()?);
                Some(NamedPort { name: port.name.clone(), protocol, port: number.get() })
            })
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let key = KindKey {
            namespace: reference.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            host: pod.spec.host_network && self.options.host_network == HostNetwork::IsNode,
            ports: ports.into(),
        };
        let addresses: Vec<IpAddr> = pod.addresses().collect();
        let known = self.pods.get(&reference);
        let same_kind = known.is_some_and(|known| {
            known.facts.addresses == addresses
                && self.kinds.get(known.kind).is_some_and(|kind| kind.key == key)
        });
        if same_kind {
            if let Some(known) = self.pods.get_mut(&reference) {
                known.facts.node = pod.spec.node_name.clone();
                known.facts.hosts = pod.status.host_ip.get().into_iter().collect();
            }
            return;
        }
        let host = key.host;
        let kind = self.acquire_kind(key);
        let idents = if addresses.is_empty() {
            let zone = self.zones.unaddressed();
            [0, 1].map(|_| Some(self.acquire_ident(Some(kind), zone)))
        } else {
            Family::ALL.map(|family| {
                let ip = addresses.iter().find(|ip| Family::of(**ip) == family)?;
                let zone = self.zones.of(*ip);
                Some(self.acquire_ident(Some(kind), zone))
            })
        };
        self.mark_pod_gone(&reference);
        for ip in addresses.iter().filter(|_| !host) {
            term::insert(self.by_address.entry(*ip).or_default(), reference.clone());
        }
        let entry = PodEntry {
            kind,
            idents,
            primary: addresses.first().map(|ip| Family::of(*ip)),
            facts: Box::new(PodFacts {
                addresses,
                hosts: pod.status.host_ip.get().into_iter().collect(),
                node: pod.spec.node_name.clone(),
            }),
        };
        self.pods.insert(reference, entry);
        self.pending.touched.objects += 1;
    }

    fn mark_pod_gone(&mut self, reference: &ObjectRef) {
        let Some(entry) = self.pods.remove(reference) else { return };
        self.pending.touched.objects += 1;
        for ip in &entry.facts.addresses {
            if let Some(pods) = self.by_address.get_mut(ip) {
                pods.retain(|pod| pod != reference);
                if pods.is_empty() {
                    self.by_address.remove(ip);
                }
            }
        }
        for ident in entry.idents.into_iter().flatten() {
            self.release_ident(ident);
        }
        self.release_kind(entry.kind);
    }

    fn mark_namespace(&mut self, name: &SmolStr, labels: Option<Labels>) {
        let namespace = self.namespaces.entry(name.clone()).or_default();
        if namespace.labels == labels {
            return;
        }
        namespace.labels = labels;
        self.pending.kinds.extend(&namespace.kinds);
        self.pending.touched.objects += 1;
        self.drop_namespace(name);
    }

    fn drop_namespace(&mut self, name: &SmolStr) {
        if self.namespaces.get(name).is_some_and(|n| n.labels.is_none() && n.kinds.is_empty()) {
            self.namespaces.remove(name);
        }
    }

    fn mark_node(&mut self, name: &SmolStr, node: Option<&Node>) {
        let entry =
            node.map(|n| NodeEntry { labels: n.metadata.labels.clone(), addresses: n.addresses().collect() });
        if self.nodes.get(name) == entry.as_ref() {
            return;
        }
        match entry {
            Some(entry) => self.nodes.insert(name.clone(), entry),
            None => self.nodes.remove(name),
        };
        self.pending.zones |= self.terms.iter().any(|(_, entry)| matches!(entry.term, Term::Nodes(_)));
        self.pending.touched.objects += 1;
    }
}

/// Policies.
impl Engine {
    fn mark_policy(&mut self, policy: Policy) {
        let reference = policy.policy_ref();
        let known = self.policy_ids.get(&reference).copied();
        if known.and_then(|id| self.policies.get(id)).is_some_and(|entry| entry.policy == policy) {
            return;
        }
        self.pending.touched.objects += 1;
        let compiled = policy.compile().map(&mut |term| self.acquire_term(term));
        let old = known.and_then(|id| self.policies.get_mut(id)).map(|entry| {
            entry.policy = policy.clone();
            core::mem::replace(&mut entry.compiled, compiled.clone())
        });
        let id = known.unwrap_or_else(|| {
            let entry = PolicyEntry {
                policy,
                reference: reference.clone(),
                compiled: compiled.clone(),
                rows: BTreeSet::new(),
            };
            self.policies.insert(entry)
        });
        self.policy_ids.insert(reference, id);
        self.mark_port_names(&compiled, old.as_ref());
        if let Some(old) = &old {
            self.mark_subject(old, id, false);
            self.release_terms(old);
        }
        self.mark_subject(&compiled, id, true);
        if let Some(entry) = self.policies.get(id) {
            self.pending.rows.extend(&entry.rows);
        }
    }

    fn mark_policy_gone(&mut self, reference: &PolicyRef) {
        let Some(id) = self.policy_ids.remove(reference) else { return };
        let Some(entry) = self.policies.remove(id) else { return };
        self.pending.touched.objects += 1;
        let nothing = Compiled { ingress: None, egress: None, ..entry.compiled.clone() };
        self.mark_port_names(&nothing, Some(&entry.compiled));
        self.mark_subject(&entry.compiled, id, false);
        self.release_terms(&entry.compiled);
    }

    /// The Pods of a policy's subject may have other rows now.
    fn mark_subject(&mut self, policy: &Compiled<TermId>, id: PolicyId, applies: bool) {
        let Some(subject) = policy.subject else { return };
        if applies {
            self.terms.add_subject(subject, id);
        } else {
            self.terms.remove_subject(subject, id);
        }
        if let Some(entry) = self.terms.get(subject) {
            let kinds = self.kinds_found_by(&entry.term);
            self.pending.kinds.extend(kinds);
        }
    }

    /// A name that came into use, or out of it, tells Pods apart, or no longer does.
    fn mark_port_names(&mut self, new: &Compiled<TermId>, old: Option<&Compiled<TermId>>) {
        let new: BTreeSet<&SmolStr> = new.port_names().collect();
        let old: BTreeSet<&SmolStr> = old.into_iter().flat_map(Compiled::port_names).collect();
        let mut changed: Vec<SmolStr> = Vec::new();
        for name in new.difference(&old) {
            let count = self.port_names.entry((*name).clone()).or_default();
            *count += 1;
            if *count == 1 {
                changed.push((*name).clone());
            }
        }
        for name in old.difference(&new) {
            let Some(count) = self.port_names.get_mut(*name) else { continue };
            *count -= 1;
            if *count == 0 {
                self.port_names.remove(*name);
                changed.push((*name).clone());
            }
        }
        if changed.is_empty() {
            return;
        }
        for (id, kind) in self.kinds.iter() {
            if kind.key.ports.iter().any(|port| changed.contains(&port.name)) {
                self.pending.kinds.insert(id);
            }
        }
    }

    fn acquire_term(&mut self, term: Term) -> TermId {
        let (id, is_new) = self.terms.acquire(term);
        if is_new {
            self.mark_term(id);
        }
        id
    }

    fn release_terms(&mut self, policy: &Compiled<TermId>) {
        for id in policy.terms() {
            if self.terms.release(*id).is_some() {
                self.mark_term(*id);
                self.pending.terms.push(*id);
            }
        }
    }

    /// A term came or went: whoever it finds is found by other terms now.
    fn mark_term(&mut self, id: TermId) {
        let Some(entry) = self.terms.get(id) else { return };
        match &entry.term {
            Term::Pods(..) => {
                let kinds = self.kinds_found_by(&entry.term);
                self.pending.kinds.extend(kinds);
            }
            Term::Block(_) | Term::Nodes(_) | Term::Domain(_) => self.pending.zones = true,
        }
    }

    fn kinds_found_by(&self, term: &Term) -> Vec<KindId> {
        let found = |id: &KindId| {
            self.kinds.get(*id).is_some_and(|kind| {
                let labels = self.labels_of(&kind.key.namespace);
                finds_pod(term, &kind.key.namespace, labels, &kind.key.labels).is_some()
            })
        };
        match term {
            Term::Pods(Namespaces::Named(name), _) => {
                let kinds = self.namespaces.get(name).into_iter().flat_map(|namespace| &namespace.kinds);
                kinds.copied().filter(found).collect()
            }
            Term::Pods(Namespaces::Selected(_), _) => self.kinds.ids().into_iter().filter(found).collect(),
            Term::Block(_) | Term::Nodes(_) | Term::Domain(_) => Vec::new(),
        }
    }

    pub(crate) fn labels_of<'a>(&'a self, namespace: &'a str) -> NamespaceLabels<'a> {
        match self.namespaces.get(namespace).and_then(|entry| entry.labels.as_ref()) {
            Some(labels) => NamespaceLabels::Known(labels),
            None => NamespaceLabels::Named(namespace),
        }
    }
}

/// Counted things.
impl Engine {
    fn acquire_kind(&mut self, key: KindKey) -> KindId {
        if let Some(id) = self.kind_ids.get(&key).copied() {
            if let Some(kind) = self.kinds.get_mut(id) {
                kind.pods += 1;
            }
            return id;
        }
        let kind = Kind { key: key.clone(), pods: 1, terms: Vec::new(), rows: None, idents: BTreeSet::new() };
        let id = self.kinds.insert(kind);
        self.namespaces.entry(key.namespace.clone()).or_default().kinds.insert(id);
        self.kind_ids.insert(key, id);
        self.pending.kinds.insert(id);
        id
    }

    fn release_kind(&mut self, id: KindId) {
        let Some(kind) = self.kinds.get_mut(id) else { return };
        kind.pods -= 1;
        if kind.pods > 0 {
            return;
        }
        let Some(kind) = self.kinds.remove(id) else { return };
        self.pending.kinds.remove(&id);
        self.kind_ids.remove(&kind.key);
        if let Some(namespace) = self.namespaces.get_mut(&kind.key.namespace) {
            namespace.kinds.remove(&id);
        }
        self.drop_namespace(&kind.key.namespace);
        self.release_rows(kind.rows);
    }

    pub(super) fn acquire_ident(&mut self, kind: Option<KindId>, zone: ZoneId) -> IdentId {
        if let Some(id) = self.ident_ids.get(&(kind, zone)).copied() {
            if let Some(ident) = self.idents.get_mut(id) {
                ident.refs += 1;
            }
            return id;
        }
        let id = self.idents.insert(Ident { kind, zone, refs: 1, peer: None });
        self.ident_ids.insert((kind, zone), id);
        if let Some(kind) = kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.idents.insert(id);
        }
        self.pending.idents.insert(id);
        id
    }

    fn release_ident(&mut self, id: IdentId) {
        let Some(ident) = self.idents.get_mut(id) else { return };
        ident.refs -= 1;
        if ident.refs > 0 {
            return;
        }
        let Some(ident) = self.idents.remove(id) else { return };
        self.pending.idents.remove(&id);
        self.ident_ids.remove(&(ident.kind, ident.zone));
        if let Some(kind) = ident.kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.idents.remove(&id);
        }
        if let Some(peer) = ident.peer {
            self.release_peer(peer);
        }
    }

    fn acquire_peer(&mut self, key: PeerKey) -> PeerId {
        if let Some(id) = self.peer_ids.get(&key).copied() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.refs += 1;
            }
            return id;
        }
        let id = self.peers.insert(Peer { key: key.clone(), refs: 1 });
        self.terms.add_peer(&key, id);
        self.peer_ids.insert(key, id);
        self.pending.peers.insert(id, None);
        id
    }

    fn release_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.refs -= 1;
        if peer.refs > 0 {
            return;
        }
        let Some(peer) = self.peers.remove(id) else { return };
        self.peer_ids.remove(&peer.key);
        self.terms.remove_peer(&peer.key, id);
        self.pending.peers.remove(&id);
        self.pending.touched.peers += 1;
        // The number will be somebody else's.
        for row in self.rows_of_peer(&peer.key, None) {
            if let Some(row) = self.rows.get_mut(row) {
                row.forget(id);
            }
        }
    }

    fn acquire_row(&mut self, key: RowKey) -> RowId {
        if let Some(id) = self.row_ids.get(&key).copied() {
            if let Some(row) = self.rows.get_mut(id) {
                row.refs += 1;
            }
            return id;
        }
        let id = self.rows.insert(Row::empty(key.clone()));
        for code in &key.policies {
            if let Some(policy) = self.policies.get_mut(code.id()) {
                policy.rows.insert(id);
            }
        }
        self.row_ids.insert(key, id);
        self.pending.rows.insert(id);
        id
    }

    fn release_rows(&mut self, rows: Option<Rows>) {
        for id in rows.into_iter().flat_map(|rows| [rows.ingress, rows.egress]) {
            let Some(row) = self.rows.get_mut(id) else { continue };
            row.refs -= 1;
            if row.refs > 0 {
                continue;
            }
            let Some(row) = self.rows.remove(id) else { continue };
            self.row_ids.remove(&row.key);
            self.pending.rows.remove(&id);
            self.named_rows.remove(&id);
            for code in &row.key.policies {
                if let Some(policy) = self.policies.get_mut(code.id()) {
                    policy.rows.remove(&id);
                }
            }
            for term in &row.terms {
                self.terms.remove_row(*term, id);
            }
        }
    }

    /// Rows that can tell a peer from nobody, or, given terms, those that look at these.
    fn rows_of_peer(&self, key: &PeerKey, terms: Option<&BTreeSet<TermId>>) -> BTreeSet<RowId> {
        let rows = |term: TermId| self.terms.get(term).into_iter().flat_map(|entry| &entry.rows).copied();
        let mut found: BTreeSet<RowId> = match terms {
            Some(terms) => terms.iter().flat_map(|term| rows(*term)).collect(),
            None => key.terms.iter().flat_map(|code| rows(code.id())).collect(),
        };
        if terms.is_none() && !key.names.is_empty() {
            found.extend(&self.named_rows);
        }
        found
    }
}

/// Bringing up to date.
impl Engine {
    pub(super) fn flush(&mut self) -> Touched {
        if core::mem::take(&mut self.pending.zones) {
            self.flush_zones();
        }
        for id in core::mem::take(&mut self.pending.kinds) {
            self.flush_kind(id);
        }
        self.flush_idents();
        self.flush_rows();
        for term in core::mem::take(&mut self.pending.terms) {
            self.terms.forget(term);
        }
        core::mem::take(&mut self.pending.touched)
    }

    fn flush_zones(&mut self) {
        let mut terms: Vec<(Tagged, Vec<Range>)> = Vec::new();
        let mut unaddressed = Vec::new();
        for (id, entry) in self.terms.iter() {
            if self.pending.terms.contains(&id) {
                continue;
            }
            match &entry.term {
                Term::Pods(..) => {}
                Term::Block(Block { cidr, except, .. }) => {
                    let holes = except.iter().map(|net| Range::of_net(*net));
                    terms.push((Tagged::new(id, false), Range::of_net(*cidr).without(holes)));
                    unaddressed.push(Tagged::new(id, true));
                }
                Term::Nodes(selector) => {
                    let nodes = self.nodes.values().filter(|node| selector.matches(&node.labels));
                    let addresses: BTreeSet<IpAddr> =
                        nodes.flat_map(|node| &node.addresses).copied().collect();
                    let ranges = addresses.into_iter().map(Range::of_address).collect();
                    terms.push((Tagged::new(id, false), ranges));
                }
                Term::Domain(pattern) => match self.resolve_domain(pattern) {
                    Some(addresses) => {
                        let ranges = addresses.into_iter().map(Range::of_address).collect();
                        terms.push((Tagged::new(id, false), ranges));
                    }
                    None => {
                        terms.push((Tagged::new(id, true), Family::ALL.map(Range::everything).into()));
                    }
                },
            }
        }
        let rebuilt = self.zones.rebuild(&terms, unaddressed);
        for zone in &rebuilt.changed {
            let idents = self.idents.iter().filter(|(_, ident)| ident.zone == *zone).map(|(id, _)| id);
            self.pending.idents.extend(idents);
        }
        for zone in rebuilt.added {
            self.acquire_ident(None, zone);
        }
        let mut moves: Vec<(ObjectRef, usize, KindId, ZoneId, IdentId)> = Vec::new();
        for (reference, pod) in &self.pods {
            for (at, family) in Family::ALL.into_iter().enumerate() {
                let Some(ip) = pod.facts.addresses.iter().find(|ip| Family::of(**ip) == family) else {
                    continue;
                };
                let Some(Some(ident)) = pod.idents.get(at) else { continue };
                let zone = self.zones.of(*ip);
                if self.idents.get(*ident).is_some_and(|ident| ident.zone != zone) {
                    moves.push((reference.clone(), at, pod.kind, zone, *ident));
                }
            }
        }
        moves.sort_unstable();
        for (reference, at, kind, zone, old) in moves {
            let ident = self.acquire_ident(Some(kind), zone);
            if let Some(slot) = self.pods.get_mut(&reference).and_then(|pod| pod.idents.get_mut(at)) {
                *slot = Some(ident);
            }
            self.release_ident(old);
        }
        for zone in rebuilt.removed {
            if let Some(ident) = self.ident_ids.get(&(None, zone)).copied() {
                self.release_ident(ident);
            }
            self.zones.free(zone);
        }
    }

    /// The addresses that a name, or a `*.suffix`, stands for; `None` if that isn't known.
    fn resolve_domain(&self, pattern: &str) -> Option<BTreeSet<IpAddr>> {
        let mut found = self
            .domains
            .iter()
            .filter(|(name, _)| match pattern.strip_prefix('*') {
                // "`*`, the wildcard specifier, matches one or more entire labels."
                Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
                None => *name == pattern,
            })
            .peekable();
        found.peek()?;
        Some(found.flat_map(|(_, addresses)| addresses).copied().collect())
    }

    /// Which terms find a kind, and which rows are its own.
    fn flush_kind(&mut self, id: KindId) {
        let Some(kind) = self.kinds.get(id) else { return };
        self.pending.touched.kinds += 1;
        let key = &kind.key;
        let labels = self.labels_of(&key.namespace);
        let terms =
            if key.host { Vec::new() } else { self.terms.of_pod(&key.namespace, labels, &key.labels) };
        let policies = |direction: Direction| -> Vec<(PolicyCode, &PolicyEntry)> {
            let mut found: Vec<(PolicyCode, &PolicyEntry)> = Vec::new();
            for code in &terms {
                for id in self.terms.subjects(code.id()) {
                    let Some(entry) = self.policies.get(*id) else { continue };
                    if entry.compiled.rules(direction).is_some() {
                        found.push((Tagged::new(*id, code.is_maybe()), entry));
                    }
                }
            }
            found.sort_unstable_by_key(|(code, _)| *code);
            found
        };
        let (ingress, egress) = (policies(Direction::Ingress), policies(Direction::Egress));
        let isolates = |found: &[(PolicyCode, &PolicyEntry)]| {
            found.iter().any(|(_, e)| e.compiled.tier == Tier::NetworkPolicy)
        };
        let baseline = match self.options.baseline {
            Baseline::PerDirection => true,
            Baseline::UnselectedPods => !isolates(&ingress) && !isolates(&egress),
        };
        let row_key = |direction: Direction, found: &[(PolicyCode, &PolicyEntry)]| {
            let names: Box<[NamedPort]> = match direction {
                Direction::Egress => Box::default(),
                Direction::Ingress if key.ports.is_empty() => Box::default(),
                Direction::Ingress => {
                    let rules = found.iter().flat_map(|(_, e)| e.compiled.ingress.iter().flatten());
                    let names: BTreeSet<&SmolStr> = rules.flat_map(|rule| rule.port_names()).collect();
                    key.ports.iter().filter(|port| names.contains(&port.name)).cloned().collect()
                }
            };
            RowKey { direction, policies: found.iter().map(|(code, _)| *code).collect(), names, baseline }
        };
        let keys = (row_key(Direction::Ingress, &ingress), row_key(Direction::Egress, &egress));
        let rows = Some(Rows { ingress: self.acquire_row(keys.0), egress: self.acquire_row(keys.1) });
        let Some(kind) = self.kinds.get_mut(id) else { return };
        kind.terms = terms;
        let old = core::mem::replace(&mut kind.rows, rows);
        let of_policies = rows.filter(|_| !kind.is_host()).unwrap_or(NO_ROWS);
        put(&mut self.kind_rows, id, of_policies, NO_ROWS);
        self.pending.idents.extend(&kind.idents);
        self.release_rows(old);
    }

    fn peer_key(&self, ident: &Ident) -> PeerKey {
        let zone = self.zones.get(ident.zone).map_or(&[][..], |zone| &zone.terms);
        let Some(kind) = ident.kind.and_then(|kind| self.kinds.get(kind)) else {
            return PeerKey { terms: zone.into(), names: Box::default() };
        };
        if kind.key.host {
            return PeerKey { terms: zone.into(), names: Box::default() };
        }
        let matches_pods = |code: &&Tagged| match self.terms.get(code.id()).map(|entry| &entry.term) {
            Some(Term::Block(block)) => {
                block.source == BlockSource::Networks || self.options.ip_blocks == IpBlocks::MatchPods
            }
            // Domain names are for what is outside.
            Some(Term::Domain(_)) | None => false,
            Some(Term::Nodes(_) | Term::Pods(..)) => true,
        };
        let mut terms: Vec<Tagged> = kind.terms.clone();
        terms.extend(zone.iter().filter(matches_pods));
        terms.sort_unstable();
        let names = kind.key.ports.iter().filter(|port| self.port_names.contains_key(&port.name));
        PeerKey { terms: terms.into(), names: names.cloned().collect() }
    }

    /// Which peer each ident is. A peer that changes as a whole keeps its number, so that only the rows which
    /// look at what changed are touched.
    fn flush_idents(&mut self) {
        let mut moves: BTreeMap<Option<PeerId>, Vec<(IdentId, PeerKey)>> = BTreeMap::new();
        for id in core::mem::take(&mut self.pending.idents) {
            let Some(ident) = self.idents.get(id) else { continue };
            let key = self.peer_key(ident);
            let known = ident.peer.and_then(|peer| self.peers.get(peer));
            if known.is_none_or(|peer| peer.key != key) {
                moves.entry(ident.peer).or_default().push((id, key));
            }
        }
        for (old, group) in moves {
            let Some((_, first)) = group.first() else { continue };
            let whole = group.iter().all(|(_, key)| key == first)
                && old.and_then(|old| self.peers.get(old)).is_some_and(|peer| peer.refs == group.len());
            if let Some(old) = old.filter(|_| whole && !self.peer_ids.contains_key(first)) {
                self.rename_peer(old, first.clone());
                continue;
            }
            for (id, key) in group {
                let peer = self.acquire_peer(key);
                self.pending.touched.peers += 1;
                if let Some(ident) = self.idents.get_mut(id) {
                    ident.peer = Some(peer);
                    put(&mut self.ident_peers, id, peer, PeerId::MAX);
                }
                if let Some(old) = old {
                    self.release_peer(old);
                }
            }
        }
    }

    fn rename_peer(&mut self, id: PeerId, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let old = core::mem::replace(&mut peer.key, key.clone());
        self.pending.touched.peers += 1;
        self.peer_ids.remove(&old);
        self.terms.remove_peer(&old, id);
        self.terms.add_peer(&key, id);
        if old.names != key.names {
            // Cells may be stale in every row that knew it, also in those that won't know it any more.
            for row in self.rows_of_peer(&old, None) {
                if let Some(row) = self.rows.get_mut(row) {
                    row.forget(id);
                }
            }
            self.pending.peers.insert(id, None);
        } else if let Some(changed) = self.pending.peers.entry(id).or_insert_with(|| Some(BTreeSet::new())) {
            let (before, after): (BTreeSet<Tagged>, BTreeSet<Tagged>) =
                (old.terms.iter().copied().collect(), key.terms.iter().copied().collect());
            changed.extend(before.symmetric_difference(&after).map(|code| code.id()));
        }
        self.peer_ids.insert(key, id);
    }

    fn flush_rows(&mut self) {
        let dirty = core::mem::take(&mut self.pending.rows);
        let mut scratch = core::mem::take(&mut self.scratch);
        for id in &dirty {
            let Some(row) = self.rows.get_mut(*id) else { continue };
            self.pending.touched.rows += 1;
            let (old, refs, key) = (core::mem::take(&mut row.terms), row.refs, row.key.clone());
            let ctx = Context { policies: &self.policies, peers: &self.peers, terms: &self.terms };
            let built = Row::build(key, refs, ctx, &mut scratch);
            if built.depends_on_names(&self.policies) {
                self.named_rows.insert(*id);
            } else {
                self.named_rows.remove(id);
            }
            for term in old {
                self.terms.remove_row(term, *id);
            }
            for term in &built.terms {
                self.terms.add_row(*term, *id);
            }
            if let Some(row) = self.rows.get_mut(*id) {
                *row = built;
            }
        }
        self.scratch = scratch;
        for (peer, changed) in core::mem::take(&mut self.pending.peers) {
            let Some(key) = self.peers.get(peer).map(|peer| &peer.key) else { continue };
            for id in self.rows_of_peer(key, changed.as_ref()) {
                if dirty.contains(&id) {
                    continue;
                }
                let ctx = Context { policies: &self.policies, peers: &self.peers, terms: &self.terms };
                if let Some(row) = self.rows.get_mut(id) {
                    row.recompute(peer, ctx);
                    self.pending.touched.cells += 1;
                }
            }
        }
    }
}

/// Sets an element of a list that grows as needed.
fn put<T: Clone>(list: &mut Vec<T>, at: u32, value: T, filler: T) {
    if list.len() <= at as usize {
        list.resize(at as usize + 1, filler);
    }
    if let Some(slot) = list.get_mut(at as usize) {
        *slot = value;
    }
}
