//! The Endpoints controller: one Endpoints object for a Service.

use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_model::{
    EndpointAddress, EndpointSubset, Endpoints, IpFamily, Labels, ObjectMeta, ObjectReference, Pod, Sent,
    Service, SubsetPort, Timestamp,
};

use super::subsets::{is_up_to_date, repack_subsets};
use super::truncate::{MAX_ADDRESSES, Truncation, truncate_subsets};
use crate::slices::facts::{PodFacts, TargetPort, is_headless};
use crate::slices::metadata::{HEADLESS_LABEL, set_trigger_time};
use crate::slices::{NoSelection, select_pods};

const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY_ANNOTATION: &str = "endpoints.kubernetes.io/over-capacity";

/// What becomes of a Service's Endpoints object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum EndpointsPlan {
    /// It is not the controller's to write.
    NotManaged(NoSelection),
    /// It is as it should be.
    Unchanged,
    /// To be created.
    Create(Endpoints),
    /// To be written in the place of the current one.
    Update(Endpoints),
}

/// Plans the Endpoints object of a Service; `pods` may hold more than the Service selects. `current` is the
/// object as it is. A Service that is gone has its object deleted, which needs no plan.
///
/// Each Pod is one address, in the Service's first family. Terminating Pods are left out unless the Service
/// publishes addresses regardless of readiness. Whether a Pod's node exists does not matter here.
pub fn plan_endpoints<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    current: Option<&Endpoints>,
    trigger_time: Option<Timestamp>,
) -> EndpointsPlan {
    let subsets = match select_pods(service, pods.into_iter().collect::<Vec<&'a Pod>>()) {
        Err(reason) => return EndpointsPlan::NotManaged(reason),
        Ok(pods) => subsets_of(service, pods),
    };
    let mut labels = service.metadata.labels.clone();
    labels.insert(MANAGED_BY.0, MANAGED_BY.1);
    let stored = current.filter(|current| !current.metadata.resource_version.is_empty());
    if let Some(current) = stored
        && is_up_to_date(&current.subsets, &subsets)
        && without(&current.metadata.labels, HEADLESS_LABEL) == labels
        && capacity_annotation_is_right(current)
    {
        return EndpointsPlan::Unchanged;
    }
    let mut metadata = match current {
        Some(current) => current.metadata.clone(),
        None => ObjectMeta::new(service.metadata.namespace.clone(), service.metadata.name.clone()),
    };
    metadata.labels = if is_headless(service) {
        labels.insert(HEADLESS_LABEL, "");
        labels
    } else {
        without(&labels, HEADLESS_LABEL)
    };
    set_trigger_time(&mut metadata.annotations, trigger_time);
    let mut subsets = subsets;
    match truncate_subsets(&mut subsets) {
        Truncation::Truncated => metadata.annotations.insert(OVER_CAPACITY_ANNOTATION, "truncated"),
        Truncation::NotNeeded => metadata.annotations.remove(OVER_CAPACITY_ANNOTATION),
    }
    let endpoints = Endpoints { metadata, subsets };
    if stored.is_some() { EndpointsPlan::Update(endpoints) } else { EndpointsPlan::Create(endpoints) }
}

fn without(labels: &Labels, key: &str) -> Labels {
    let mut labels = labels.clone();
    labels.remove(key);
    labels
}

/// An object above capacity has yet to be truncated; any other should not say that it was.
fn capacity_annotation_is_right(endpoints: &Endpoints) -> bool {
    let addresses = |subset: &EndpointSubset| subset.addresses.len() + subset.not_ready_addresses.len();
    endpoints.subsets.iter().map(addresses).sum::<usize>() <= MAX_ADDRESSES
        && !endpoints.metadata.annotations.contains_key(OVER_CAPACITY_ANNOTATION)
}

fn subsets_of<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Vec<EndpointSubset> {
    let mut subsets = Vec::new();
    for pod in pods {
        let facts = PodFacts::of(pod);
        let publish = service.spec.publish_not_ready_addresses;
        if crate::slices::is_published(facts).is_err() || (facts.flags.terminating && !publish) {
            continue;
        }
        let Some(address) = address_of(service, pod) else { continue };
        let is_ready = facts.flags.ready || publish;
        let mut add = |ports: Vec<SubsetPort>| {
            let (mut addresses, mut not_ready_addresses) = (Vec::new(), Vec::new());
            if is_ready { &mut addresses } else { &mut not_ready_addresses }.push(address.clone());
            subsets.push(EndpointSubset { addresses, not_ready_addresses, ports });
        };
        if service.spec.ports.is_empty() {
            // Only a headless Service may go without ports.
            if service.spec.cluster_ip.is("None") {
                add(Vec::new());
            }
            continue;
        }
        for port in &service.spec.ports {
            let number = match TargetPort::of(port) {
                TargetPort::Number(number) => Some(number),
                TargetPort::Name(name) => facts.ports.find(name, port.protocol()),
            };
            if let Some(number) = number {
                add(alloc::vec![SubsetPort {
                    name: port.name.clone(),
                    port: number,
                    protocol: port.protocol().map_or_else(|| port.protocol.clone(), Into::into),
                    app_protocol: port.app_protocol.clone(),
                }]);
            }
        }
    }
    repack_subsets(&subsets)
}

fn address_of(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    // Text that is no address counts as IPv4, and is published as it stands.
    let family_of = |ip: &Sent<_>| ip.get().map_or(IpFamily::Ipv4, IpFamily::of);
    let spec = &service.spec;
    let family = match spec.ip_families.first() {
        Some(family) => family.get()?,
        None if is_headless(service) => family_of(&pod.status.pod_ip),
        None => family_of(&spec.cluster_ip),
    };
    let ip = pod.status.pod_ips.iter().map(|ip| &ip.ip).find(|ip| family_of(ip) == family)?;
    let metadata = &pod.metadata;
    let is_named = !pod.spec.hostname.is_empty()
        && pod.spec.subdomain == service.metadata.name
        && metadata.namespace == service.metadata.namespace;
    Some(EndpointAddress {
        ip: ip.clone(),
        hostname: if is_named { pod.spec.hostname.clone() } else { SmolStr::default() },
        node_name: Some(pod.spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: SmolStr::new_static("Pod"),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}
