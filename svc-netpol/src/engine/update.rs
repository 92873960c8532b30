//! Changes: every object that comes or goes marks what it touches; `flush` brings that up to date.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_model::{
    Labels, NAMESPACE_NAME_LABEL, Namespace as NamespaceObject, Node, Object, ObjectRef, Pod, SmolStr,
};

use super::pods::{NO_IDENT, PodFacts};
use super::term::finds_pod;
use super::*;
use crate::compile::Selectors;
use crate::options::HostNetwork;
use crate::policy::{Namespaces, PolicyKind, Term, namespace_of};

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
    pub(super) zones: bool,
    pub(super) kinds: BTreeSet<KindId>,
    pub(super) idents: BTreeSet<IdentId>,
    pub(super) rows: BTreeSet<RowId>,
    /// Peers with the terms in which they changed; `None`: new.
    pub(super) peers: BTreeMap<PeerId, Option<BTreeSet<TermId>>>,
    /// Terms that no policy names any more.
    pub(super) terms: Vec<TermId>,
    /// Selectors of the policies that have come since.
    pub(super) selectors: Selectors,
    pub(super) touched: Touched,
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
        let objects: Vec<&Object> = objects.into_iter().collect();
        // As many as are new if those that are known are among them.
        let count = |is_it: fn(&Object) -> bool| objects.iter().filter(|object| is_it(object)).count();
        let pods = count(|object| matches!(object, Object::Pod(_)));
        self.pods.reserve(pods.saturating_sub(self.pods.len()));
        let policies = count(|object| matches!(object, Object::NetworkPolicy(_)));
        self.policies.reserve(policies.saturating_sub(self.policies.len()));
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
        let addresses: Box<[IpAddr]> = pod.addresses().collect();
        let (host_address, node) = (pod.status.host_ip.get(), pod.spec.node_name.clone());
        let known = self.pods.of(&reference).map(|(id, _)| id);
        if let Some(known) = known.and_then(|id| self.pods.facts_mut(id))
            && known.addresses == addresses
            && self.kinds.get(known.kind).is_some_and(|kind| kind.key == key)
        {
            (known.host, known.node) = (host_address, node);
            return;
        }
        let is_host = key.host;
        let kind = self.acquire_kind(key);
        let facts = PodFacts { reference, kind, addresses, host: host_address, node };
        let idents = if facts.addresses.is_empty() {
            let zone = self.zones.unaddressed();
            [0, 1].map(|_| self.acquire_ident(Some(kind), zone))
        } else {
            Family::ALL.map(|family| match facts.addresses.iter().find(|ip| Family::of(**ip) == family) {
                Some(ip) => {
                    let zone = self.zones.of(*ip);
                    self.acquire_ident(Some(kind), zone)
                }
                None => NO_IDENT,
            })
        };
        self.mark_pod_gone(&facts.reference);
        self.pods.insert(idents, facts, !is_host);
        self.pending.touched.objects += 1;
    }

    fn mark_pod_gone(&mut self, reference: &ObjectRef) {
        let Some((entry, facts)) = self.pods.remove(reference) else { return };
        self.pending.touched.objects += 1;
        for ident in entry.idents.into_iter().filter(|ident| *ident != NO_IDENT) {
            self.release_ident(ident);
        }
        self.release_kind(facts.kind);
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

    pub(super) fn drop_namespace(&mut self, name: &SmolStr) {
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
        let policy = Arc::new(policy);
        let id = match self.policy_ids.entry(policy.policy_ref()) {
            Entry::Occupied(known) => {
                let id = *known.get();
                let Some(entry) = self.policies.get_mut(id).filter(|entry| entry.policy != policy) else {
                    return;
                };
                entry.policy = policy.clone();
                id
            }
            Entry::Vacant(free) => {
                let reference = free.key().clone();
                let (policy, compiled, rows) = (policy.clone(), Compiled::nothing(), BTreeSet::new());
                *free.insert(self.policies.insert(PolicyEntry { policy, reference, compiled, rows }))
            }
        };
        self.pending.touched.objects += 1;
        let compiled = policy.compile(&mut self.pending.selectors);
        let compiled = compiled.map(&mut |term| self.acquire_term(term));
        let (subject, names) = (compiled.subject, compiled.distinct_port_names());
        let Some(entry) = self.policies.get_mut(id) else { return };
        let old = core::mem::replace(&mut entry.compiled, compiled);
        self.pending.rows.extend(&entry.rows);
        self.mark_port_names(&names, &old.distinct_port_names());
        self.mark_subject(old.subject, id, false);
        self.release_terms(&old);
        self.mark_subject(subject, id, true);
    }

    fn mark_policy_gone(&mut self, reference: &PolicyRef) {
        let Some(id) = self.policy_ids.remove(reference) else { return };
        let Some(entry) = self.policies.remove(id) else { return };
        self.pending.touched.objects += 1;
        self.mark_port_names(&[], &entry.compiled.distinct_port_names());
        self.mark_subject(entry.compiled.subject, id, false);
        self.release_terms(&entry.compiled);
    }

    /// The Pods of a policy's subject may have other rows now.
    fn mark_subject(&mut self, subject: Option<TermId>, id: PolicyId, applies: bool) {
        let Some(subject) = subject else { return };
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

    /// A name that came into use, or out of it, tells Pods apart, or no longer does. Both lists are sorted.
    fn mark_port_names(&mut self, new: &[SmolStr], old: &[SmolStr]) {
        let mut changed: Vec<SmolStr> = Vec::new();
        for name in new.iter().filter(|name| old.binary_search(name).is_err()) {
            let count = self.port_names.entry(name.clone()).or_default();
            *count += 1;
            if *count == 1 {
                changed.push(name.clone());
            }
        }
        for name in old.iter().filter(|name| new.binary_search(name).is_err()) {
            let Some(count) = self.port_names.get_mut(name) else { continue };
            *count -= 1;
            if *count == 0 {
                self.port_names.remove(name);
                changed.push(name.clone());
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

    /// Kinds that a term finds; none if all are to be looked at anyhow, as in the first build.
    fn kinds_found_by(&self, term: &Term) -> Vec<KindId> {
        if self.pending.kinds.len() == self.kinds.len() {
            return Vec::new();
        }
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
