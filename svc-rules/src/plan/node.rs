//! Everything that a node is asked for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_endpoints::view::{PortKey, SliceCache};
use svc_model::Service;

use super::{PortPlan, service_ports};
use crate::config::ProxyConfig;

/// The plans of a Service's ports, sorted by name and protocol, as the node of `config` sees them.
///
/// For a cluster as a whole and after changes, the proxies keep plans up to date more cheaply.
#[must_use]
pub fn port_plans(config: &ProxyConfig, service: &Service, slices: &SliceCache) -> Vec<PortPlan> {
    let viewpoint = config.viewpoint();
    let (ports, _) = service_ports(service, config.family);
    let plan = |port: super::ServicePort| {
        let key = PortKey {
            service: service.metadata.object_ref(),
            family: config.family,
            port: SmolStr::new(port.name.port()),
            protocol: port.protocol,
        };
        PortPlan::new(Arc::new(port), slices.port(&key), &viewpoint)
    };
    ports.into_iter().map(plan).collect()
}
