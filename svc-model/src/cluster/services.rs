//! Services by selector and address, EndpointSlices by Service.

use core::net::IpAddr;

use smol_str::SmolStr;

use super::SelectorIndex;
use super::objects::Id;
use super::tree::Tree;
use crate::{EndpointSlice, Labels, Selector, Service};

/// Annotations that turn topology hints on; the first wins where both are there.
const HINT_ANNOTATIONS: [&str; 2] =
    ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];

/// Why a Service owns an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceAddress {
    /// One of `spec.clusterIPs`.
    ClusterIp,
    /// One of `spec.externalIPs`.
    ExternalIp,
    /// One of `status.loadBalancer.ingress`.
    LoadBalancerIp,
}

/// Indexes over Services and their EndpointSlices.
#[derive(Clone, Default)]
pub(super) struct ServiceIndex {
    selectors: Tree<SmolStr, SelectorIndex<Id>>,
    addresses: Tree<(IpAddr, ServiceAddress, Id)>,
    /// Services whose endpoints get hints by the CPUs of the zones' nodes, so that they depend on all nodes.
    hinted: Tree<Id>,
    /// By the slices' own words: namespace, Service name, slice. The Service need not be there.
    slices: Tree<(SmolStr, SmolStr, Id)>,
}

impl ServiceIndex {
    /// Moves the Service `id` from its old state to its new one.
    pub(super) fn reindex(&mut self, id: Id, old: Option<&Service>, new: Option<&Service>) {
        if let Some(service) = old {
            self.remove(id, service);
        }
        if let Some(service) = new {
            self.insert(id, service);
        }
    }

    fn insert(&mut self, id: Id, service: &Service) {
        if let Some(selector) = &service.spec.selector {
            let selector = Selector::from_labels(selector);
            self.selectors.update(&service.metadata.namespace, |index| index.insert(id, selector));
        }
        for (ip, role) in addresses(service) {
            self.addresses.insert((ip, role, id), ());
        }
        if has_hints(service) {
            self.hinted.insert(id, ());
        }
    }

    fn remove(&mut self, id: Id, service: &Service) {
        let namespace = &service.metadata.namespace;
        if let Some(selector) = &service.spec.selector
            && let Some(index) = self.selectors.get_mut(|stored| stored.cmp(namespace))
        {
            index.remove(&id, &Selector::from_labels(selector));
            if index.is_empty() {
                self.selectors.remove(|stored| stored.cmp(namespace));
            }
        }
        for address in addresses(service) {
            self.addresses
                .remove(|(ip, role, owner)| (*ip, *role).cmp(&address).then_with(|| owner.cmp(&id)));
        }
        self.hinted.remove(|stored| stored.cmp(&id));
    }

    /// Moves the slice `id` from its old state to its new one.
    pub(super) fn reindex_slice(&mut self, id: Id, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) {
        let key = |slice: &EndpointSlice| {
            let service = SmolStr::from(slice.service_name()?);
            Some((slice.metadata.namespace.clone(), service, id))
        };
        let (old, new) = (old.and_then(key), new.and_then(key));
        if old != new {
            if let Some(old) = old {
                self.slices.remove(|stored| stored.cmp(&old));
            }
            if let Some(new) = new {
                self.slices.insert(new, ());
            }
        }
    }

    /// The Services of a namespace that select these labels.
    pub(super) fn selecting<'a>(
        &'a self,
        namespace: &str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = Id> + 'a {
        let index = self.selectors.get(|stored| stored.as_str().cmp(namespace));
        index.into_iter().flat_map(|index| index.matching(labels)).copied()
    }

    /// The Services that own an address.
    pub(super) fn at_address(&self, ip: IpAddr) -> impl Iterator<Item = (Id, ServiceAddress)> {
        self.addresses.range(move |(stored, _, _)| stored.cmp(&ip)).map(|((_, role, id), ())| (*id, *role))
    }

    pub(super) fn hinted(&self) -> impl Iterator<Item = Id> {
        self.hinted.iter().map(|(id, ())| *id)
    }

    /// The slices that name a Service.
    pub(super) fn slices(&self, namespace: &str, service: &str) -> impl Iterator<Item = Id> {
        self.slices
            .range(move |(stored, name, _)| {
                stored.as_str().cmp(namespace).then_with(|| name.as_str().cmp(service))
            })
            .map(|((_, _, id), ())| *id)
    }
}

fn addresses(service: &Service) -> impl Iterator<Item = (IpAddr, ServiceAddress)> {
    let cluster = service.spec.cluster_addresses().map(|ip| (ip, ServiceAddress::ClusterIp));
    let external =
        service.spec.external_ips.iter().filter_map(|ip| Some((ip.get()?, ServiceAddress::ExternalIp)));
    let ingress = service.status.load_balancer.ingress.iter();
    let ingress = ingress.filter_map(|ingress| Some((ingress.ip.get()?, ServiceAddress::LoadBalancerIp)));
    cluster.chain(external).chain(ingress)
}

fn has_hints(service: &Service) -> bool {
    let annotations = &service.metadata.annotations;
    let value = HINT_ANNOTATIONS.iter().find_map(|key| annotations.get(key));
    matches!(value, Some("Auto" | "auto"))
}
