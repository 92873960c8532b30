//! The writer's side: from a Service, its Pods and the nodes to EndpointSlices.

pub(crate) mod endpoint;
pub(crate) mod facts;
pub(crate) mod hints;
pub(crate) mod metadata;
mod nodes;
pub(crate) mod pack;
mod plan;
pub(crate) mod ports;
mod quantity;
mod reconcile;
mod trigger;
mod work;

use svc_model::{AddressType, EndpointSlice, IpFamily, MANAGED_BY_LABEL, ObjectRef, Pod, Service};

pub use endpoint::Exclusion;
pub(crate) use endpoint::is_published;
pub use facts::{NoSelection, selector_of};
pub use hints::{HintEvent, HintEventKind, HintMode, HintRefusal, ZoneShare};
pub use nodes::{CpuShares, NodeChange, Nodes};
pub use pack::Packing;
pub use plan::{Efficiency, Plan, SkippedPod, efficiency};
pub(crate) use reconcile::Scene;
pub use reconcile::{Config, History, Reconciler};

/// The Pods among `pods` that a Service selects.
///
/// # Errors
/// If the Service selects none by design.
pub fn select_pods<'a>(
    service: &'a Service,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Result<impl Iterator<Item = &'a Pod>, NoSelection> {
    let selector = selector_of(service)?;
    let namespace = &service.metadata.namespace;
    Ok(pods.into_iter().filter(move |pod| {
        pod.metadata.namespace == *namespace && pod.metadata.labels.contains_all(selector)
    }))
}

/// Whether a slice is one that the controller of this name made for the Service, and may change: both labels
/// say so, and it is not being deleted.
#[must_use]
pub fn is_managed(slice: &EndpointSlice, service: &ObjectRef, managed_by: &str) -> bool {
    slice.metadata.namespace == service.namespace
        && slice.service_name() == Some(&service.name)
        && slice.metadata.labels.get(MANAGED_BY_LABEL) == Some(managed_by)
        && !slice.metadata.is_terminating()
}

pub(crate) fn family_of(address_type: AddressType) -> Option<IpFamily> {
    match address_type {
        AddressType::Ipv4 => Some(IpFamily::Ipv4),
        AddressType::Ipv6 => Some(IpFamily::Ipv6),
        AddressType::Fqdn => None,
    }
}
