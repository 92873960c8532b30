//! How the indexes follow a change of one object, and what it touches.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Cluster;
use super::changes::{Collector, ObjectKey};
use super::objects::Id;
use super::policies::{
    PodView, PolicyId, Term, admin_network_policy_terms, cluster_network_policy_terms, network_policy_terms,
};
use super::query::effective_labels;
use crate::object::*;
use crate::{Labels, ObjectMeta, ObjectRef};

impl Cluster {
    /// Gives a Pod the labels of its former state, or of another Pod of its namespace, if they are equal.
    pub(super) fn share_labels(&self, pod: &mut ObjectMeta) {
        let former = self.pods().get(&pod.namespace, &pod.name).map(|former| &former.metadata.labels);
        let shared = former.filter(|former| **former == pod.labels);
        if let Some(labels) = shared.or_else(|| self.pods.shared_labels(&pod.namespace, &pod.labels)) {
            pod.labels = labels.clone();
        }
    }

    pub(super) fn reindex_pod(
        &mut self,
        id: Id,
        old: Option<&Pod>,
        new: Option<&Pod>,
        changes: &mut Collector,
    ) {
        self.pods.reindex(id, old, new);
        let Some(namespace) = old.or(new).map(|pod| &pod.metadata.namespace) else { return };
        let labels = |pod: &'_ Pod| pod.metadata.labels.clone();
        let (before, after) = (old.map(labels), new.map(labels));

        let selecting = |labels: &Labels| self.services.selecting(namespace, labels).collect::<Vec<_>>();
        let all = !same(old, new, endpoint_facets);
        for service in touched(before.as_ref(), after.as_ref(), all, selecting) {
            self.touch_selected(service, changes);
        }

        let all = !same(old, new, policy_facets);
        if all || before != after {
            let namespace_labels = self.namespace_labels(namespace);
            let applying = |labels: &Labels| {
                let namespace_labels = &namespace_labels;
                self.policies.applying_to(PodView { namespace, namespace_labels, labels })
            };
            self.touch_policies(touched(before.as_ref(), after.as_ref(), all, applying), changes);
        }
    }

    pub(super) fn no_index<T>(&mut self, _: Id, _: Option<&T>, _: Option<&T>, _: &mut Collector) {}

    pub(super) fn reindex_service(
        &mut self,
        id: Id,
        old: Option<&Service>,
        new: Option<&Service>,
        changes: &mut Collector,
    ) {
        self.services.reindex(id, old, new);
        if let Some(service) = old.or(new) {
            changes.selected.insert(service.object_ref());
            changes.published.insert(service.object_ref());
        }
    }

    pub(super) fn reindex_node(
        &mut self,
        id: Id,
        old: Option<&Node>,
        new: Option<&Node>,
        changes: &mut Collector,
    ) {
        for ip in old.into_iter().flat_map(Node::addresses) {
            self.node_addresses.remove(|stored| stored.cmp(&(ip, id)));
        }
        for ip in new.into_iter().flat_map(Node::addresses) {
            self.node_addresses.insert((ip, id), ());
        }
        // An endpoint carries its node's zone, and a Pod whose node is not there is left out.
        if !same(old, new, Node::zone) {
            self.touch_pods_on(old.or(new), changes);
        }
        if !same(old, new, hint_facets) {
            for service in self.services.hinted() {
                self.touch_selected(service, changes);
            }
        }
        let labels = |node: &'_ Node| node.metadata.labels.clone();
        let (before, after) = (old.map(labels), new.map(labels));
        let policies = match (&before, &after) {
            (Some(before), Some(after)) if same(old, new, node_addresses) => {
                self.policies.telling_nodes_apart(before, after)
            }
            _ => [&before, &after]
                .into_iter()
                .flatten()
                .flat_map(|l| self.policies.selecting_node(l))
                .collect(),
        };
        self.touch_policies(policies, changes);
    }

    pub(super) fn reindex_namespace(
        &mut self,
        _: Id,
        old: Option<&Namespace>,
        new: Option<&Namespace>,
        changes: &mut Collector,
    ) {
        let Some(name) = old.or(new).map(|namespace| &namespace.metadata.name) else { return };
        let (before, after) = (effective_labels(name, old), effective_labels(name, new));
        if before != after {
            let policies = self.policies.telling_namespaces_apart(&before, &after);
            self.touch_policies(policies, changes);
        }
    }

    pub(super) fn reindex_slice(
        &mut self,
        id: Id,
        old: Option<&EndpointSlice>,
        new: Option<&EndpointSlice>,
        changes: &mut Collector,
    ) {
        self.services.reindex_slice(id, old, new);
        for slice in [old, new].into_iter().flatten() {
            if let Some(service) = slice.service_name() {
                changes.published.insert(ObjectRef::new(slice.metadata.namespace.clone(), service));
            }
        }
    }

    pub(super) fn reindex_endpoints(
        &mut self,
        _: Id,
        old: Option<&Endpoints>,
        new: Option<&Endpoints>,
        changes: &mut Collector,
    ) {
        changes.published.extend(old.or(new).map(Kind::object_ref));
    }

    pub(super) fn reindex_network_policy(
        &mut self,
        id: Id,
        old: Option<&NetworkPolicy>,
        new: Option<&NetworkPolicy>,
        changes: &mut Collector,
    ) {
        let (kind, terms) = (ObjectKind::NetworkPolicy, network_policy_terms);
        self.reindex_policy((kind, id), old.or(new), old.map(terms), new.map(terms), changes);
    }

    pub(super) fn reindex_cluster_network_policy(
        &mut self,
        id: Id,
        old: Option<&ClusterNetworkPolicy>,
        new: Option<&ClusterNetworkPolicy>,
        changes: &mut Collector,
    ) {
        let terms = |policy: &ClusterNetworkPolicy| cluster_network_policy_terms(&policy.spec);
        let id = (ObjectKind::ClusterNetworkPolicy, id);
        self.reindex_policy(id, old.or(new), old.map(terms), new.map(terms), changes);
    }

    pub(super) fn reindex_admin_network_policy(
        &mut self,
        id: Id,
        old: Option<&AdminNetworkPolicy>,
        new: Option<&AdminNetworkPolicy>,
        changes: &mut Collector,
    ) {
        let terms = |policy: &AdminNetworkPolicy| admin_network_policy_terms(&policy.spec);
        let id = (ObjectKind::AdminNetworkPolicy, id);
        self.reindex_policy(id, old.or(new), old.map(terms), new.map(terms), changes);
    }

    pub(super) fn reindex_baseline_admin_network_policy(
        &mut self,
        id: Id,
        old: Option<&BaselineAdminNetworkPolicy>,
        new: Option<&BaselineAdminNetworkPolicy>,
        changes: &mut Collector,
    ) {
        let terms = |policy: &BaselineAdminNetworkPolicy| admin_network_policy_terms(&policy.spec);
        let id = (ObjectKind::BaselineAdminNetworkPolicy, id);
        self.reindex_policy(id, old.or(new), old.map(terms), new.map(terms), changes);
    }

    fn reindex_policy<T: Kind>(
        &mut self,
        id: PolicyId,
        policy: Option<&T>,
        old: Option<Vec<Term>>,
        new: Option<Vec<Term>>,
        changes: &mut Collector,
    ) {
        self.policies.reindex(id, old.unwrap_or_default(), new.unwrap_or_default());
        changes.policies.extend(policy.map(|policy| ObjectKey { kind: id.0, object: policy.object_ref() }));
    }

    /// Touches the Services that select the Pods on a node, once per label set.
    fn touch_pods_on(&self, node: Option<&Node>, changes: &mut Collector) {
        let Some(node) = node else { return };
        let mut classes: Vec<_> =
            self.pods.on_node(&node.metadata.name).filter_map(|pod| self.pods.class_of(pod)).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes.into_iter().filter_map(|class| self.pods.class(class)) {
            for service in self.services.selecting(&class.namespace, &class.labels) {
                self.touch_selected(service, changes);
            }
        }
    }

    fn touch_selected(&self, service: Id, changes: &mut Collector) {
        changes.selected.extend(self.services().by_id(service).map(|service| service.object_ref()));
    }

    fn touch_policies(&self, policies: impl IntoIterator<Item = PolicyId>, changes: &mut Collector) {
        for (kind, id) in policies {
            let object = match kind {
                ObjectKind::NetworkPolicy => name_of(self.network_policies().by_id(id)),
                ObjectKind::ClusterNetworkPolicy => name_of(self.cluster_network_policies().by_id(id)),
                ObjectKind::AdminNetworkPolicy => name_of(self.admin_network_policies().by_id(id)),
                _ => name_of(self.baseline_admin_network_policies().by_id(id)),
            };
            changes.policies.extend(object.map(|object| ObjectKey { kind, object }));
        }
    }
}

fn name_of<T: Kind>(object: Option<&Arc<T>>) -> Option<ObjectRef> {
    object.map(|object| object.object_ref())
}

/// What a change touches by labels: what selects the labels before or after, or, unless `all`, only what selects one
/// and not the other.
fn touched<S: Ord + Copy>(
    before: Option<&Labels>,
    after: Option<&Labels>,
    all: bool,
    selecting: impl Fn(&Labels) -> Vec<S>,
) -> Vec<S> {
    if before == after {
        return after.filter(|_| all).map(selecting).unwrap_or_default();
    }
    let mut before = before.map(&selecting).unwrap_or_default();
    let mut after = after.map(&selecting).unwrap_or_default();
    if !all {
        before.sort_unstable();
        after.sort_unstable();
        let kept = |of: &[S], id: &S| of.binary_search(id).is_ok();
        let (left, come) = (before.clone(), after.clone());
        before.retain(|id| !kept(&come, id));
        after.retain(|id| !kept(&left, id));
    }
    before.append(&mut after);
    before
}

/// True if there are both an old and a new state, and they are alike in these facets.
fn same<'a, T, F: PartialEq>(old: Option<&'a T>, new: Option<&'a T>, facets: impl Fn(&'a T) -> F) -> bool {
    old.zip(new).is_some_and(|(old, new)| facets(old) == facets(new))
}

/// Everything of a Pod but its labels that its endpoint depends on (the EndpointSlice controller compares the same,
/// save for ports and node, which it takes to be immutable).
fn endpoint_facets(pod: &Pod) -> impl PartialEq + use<'_> {
    let (metadata, spec, status) = (&pod.metadata, &pod.spec, &pod.status);
    (
        (&metadata.uid, metadata.is_terminating()),
        (&spec.node_name, &spec.hostname, &spec.subdomain, &spec.containers, &spec.init_containers),
        (&status.pod_ips, &status.pod_ip, pod.is_terminal(), pod.ready_condition()),
    )
}

/// Everything of a Pod but its labels that a verdict depends on.
fn policy_facets(pod: &Pod) -> impl PartialEq + use<'_> {
    let (spec, status) = (&pod.spec, &pod.status);
    (
        (&spec.node_name, spec.host_network, &spec.containers, &spec.init_containers),
        (&status.pod_ips, &status.pod_ip, pod.is_terminal()),
    )
}

/// Everything of a node that the shares of the zones depend on (KEP-2433).
fn hint_facets(node: &Node) -> impl PartialEq + use<'_> {
    let labels = &node.metadata.labels;
    let excluded = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
    (
        node.zone(),
        node.is_ready(),
        node.status.allocatable.get("cpu"),
        excluded.map(|key| labels.contains_key(key)),
    )
}

fn node_addresses(node: &Node) -> &[NodeAddress] {
    &node.status.addresses
}
