//! Everything that a node is asked for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use svc_endpoints::view::SliceCache;
use svc_model::Service;

use super::{PortPlan, ServicePort, service_ports};
use crate::config::ProxyConfig;

/// The plans of a Service's ports, sorted by name and protocol, as the node of `config` sees them.
///
/// For a cluster as a whole and after changes, the proxies keep plans up to date more cheaply.
#[must_use]
pub fn port_plans(config: &ProxyConfig, service: &Service, slices: &SliceCache) -> Vec<PortPlan> {
    let viewpoint = config.viewpoint();
    let (ports, _) = service_ports(service, config.family);
    let plan = |port: ServicePort| {
        let listed = slices.port(&port.key(config.family));
        PortPlan::new(Arc::new(port), listed, &viewpoint)
    };
    ports.into_iter().map(plan).collect()
}
