//! Questions to the cluster. Answers come in order of namespace and name.

use core::net::IpAddr;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::objects::Id;
use super::{Cluster, Objects, ServiceAddress};
use crate::object::*;
use crate::{Labels, ObjectRef, Selector};

/// Whose address it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AddressOwner<'a> {
    /// A Service accepts traffic at it.
    Service(&'a Arc<Service>, ServiceAddress),
    /// A node has it.
    Node(&'a Arc<Node>),
    /// A Pod has it. Pods with `hostNetwork` have their node's.
    Pod(&'a Arc<Pod>),
}

impl Cluster {
    /// The Services of a namespace whose selector selects these labels. Services without selector select nothing.
    pub fn services_selecting(&self, namespace: &str, labels: &Labels) -> Vec<&Arc<Service>> {
        in_order(self.services(), self.services.selecting(namespace, labels))
    }

    /// The Pods of a namespace that a selector matches.
    pub fn pods_matching(&self, namespace: &str, selector: &Selector) -> Vec<&Arc<Pod>> {
        let classes = self.pods.select(namespace, selector);
        in_order(self.pods(), classes.into_iter().flat_map(|class| self.pods.members(class)))
    }

    /// The Pods that a Service selects, in whatever state; none if it has no selector.
    pub fn pods_selected_by(&self, service: &Service) -> Vec<&Arc<Pod>> {
        let selector = Selector::from_service(service.spec.selector.as_ref());
        self.pods_matching(&service.metadata.namespace, &selector)
    }

    /// The Pods bound to a node, whether the Node is there or not.
    pub fn pods_on(&self, node: &str) -> Vec<&Arc<Pod>> {
        in_order(self.pods(), self.pods.on_node(node))
    }

    /// The EndpointSlices that name a Service as theirs, by slice name.
    pub fn slices_of(&self, service: &ObjectRef) -> Vec<&Arc<EndpointSlice>> {
        in_order(self.endpoint_slices(), self.services.slices(&service.namespace, &service.name))
    }

    /// Who has an address: Services first, then nodes, then Pods. Pods that have ended are among them, as their status
    /// still says so.
    pub fn owners_of(&self, ip: IpAddr) -> Vec<AddressOwner<'_>> {
        let services = self.services.at_address(ip);
        let mut services: Vec<_> =
            services.filter_map(|(id, role)| Some((self.services().by_id(id)?, role))).collect();
        services.sort_by(|(a, a_role), (b, b_role)| by_name(a, b).then(a_role.cmp(b_role)));
        let nodes = self.node_addresses.range(|(stored, _)| stored.cmp(&ip)).map(|((_, id), ())| *id);
        let nodes = in_order(self.nodes(), nodes);
        let pods = in_order(self.pods(), self.pods.at_address(ip));
        let services = services.into_iter().map(|(service, role)| AddressOwner::Service(service, role));
        let nodes = nodes.into_iter().map(AddressOwner::Node);
        services.chain(nodes).chain(pods.into_iter().map(AddressOwner::Pod)).collect()
    }

    /// The labels of a namespace as the API server would have them: with its own name, also where the Namespace is not
    /// there or was written without.
    pub fn namespace_labels(&self, namespace: &str) -> Labels {
        effective_labels(namespace, self.namespaces().get("", namespace).map(Arc::as_ref))
    }
}

pub(super) fn effective_labels(name: &str, namespace: Option<&Namespace>) -> Labels {
    let mut labels = namespace.map(|namespace| namespace.metadata.labels.clone()).unwrap_or_default();
    if labels.get(NAMESPACE_NAME_LABEL) != Some(name) {
        labels.insert(NAMESPACE_NAME_LABEL, name);
    }
    labels
}

fn by_name<T: Kind>(a: &Arc<T>, b: &Arc<T>) -> core::cmp::Ordering {
    let (a, b) = (a.metadata(), b.metadata());
    a.namespace.cmp(&b.namespace).then_with(|| a.name.cmp(&b.name))
}

fn in_order<T: Kind>(table: &Objects<T>, ids: impl Iterator<Item = Id>) -> Vec<&Arc<T>> {
    let mut found: Vec<&Arc<T>> = ids.filter_map(|id| table.by_id(id)).collect();
    found.sort_unstable_by(|a, b| by_name(a, b));
    found
}
