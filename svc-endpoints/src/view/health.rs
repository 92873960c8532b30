//! What a node answers to a load balancer's health check.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use svc_model::{IpFamily, ObjectRef};

use super::cache::SliceCache;
use super::select::Viewpoint;

/// Whether the proxy of a node is itself in order: its rules are up to date, and the node is not being
/// deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyHealth {
    /// The proxy keeps up.
    Healthy,
    /// The proxy lags behind, or its node is going away.
    Unhealthy,
}

/// The answer of a node at a Service's `healthCheckNodePort`.
///
/// kube-proxy opens that port for a LoadBalancer Service with external policy `Local`, so that the load
/// balancer sends traffic only to nodes that have endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// The Service.
    pub service: ObjectRef,
    /// Distinct IP addresses of ready endpoints on the node, over all ports of the Service. Endpoints that
    /// are terminating never count, even while traffic still falls back to them.
    pub local_endpoints: usize,
    /// Whether the proxy itself is in order.
    pub proxy: ProxyHealth,
}

impl HealthCheck {
    /// Name of the response header that carries [`weight`](Self::weight).
    pub const WEIGHT_HEADER: &'static str = "X-Load-Balancing-Endpoint-Weight";

    /// HTTP status: 200 if the node should get traffic, else 503.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.local_endpoints > 0 && self.proxy == ProxyHealth::Healthy { 200 } else { 503 }
    }

    /// The weight that load balancers may use: the number of local endpoints.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.local_endpoints
    }

    /// The body of the response, a JSON object laid out as kube-proxy does.
    #[must_use]
    pub fn body(&self) -> String {
        format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\"localEndpoints\": {},\n\t\"serviceProxyHealthy\": {}\n}}",
            self.service.namespace,
            self.service.name,
            self.local_endpoints,
            self.proxy == ProxyHealth::Healthy,
        )
    }
}

impl SliceCache {
    /// What the node of `viewpoint` answers to health checks of a Service. Each address family counts by
    /// itself, as each has a proxy of its own.
    #[must_use]
    pub fn health_check(
        &self,
        service: &ObjectRef,
        family: IpFamily,
        viewpoint: &Viewpoint,
        proxy: ProxyHealth,
    ) -> HealthCheck {
        let node = viewpoint.node_name();
        let addresses: BTreeSet<_> = self
            .ports_of(service)
            .filter(|(key, endpoints)| key.family == family && endpoints.tally().on_node(node).ready > 0)
            .flat_map(|(_, endpoints)| endpoints.iter())
            .filter(|endpoint| endpoint.state().ready && endpoint.info().is_on(node))
            .map(|endpoint| endpoint.ip())
            .collect();
        HealthCheck { service: service.clone(), local_endpoints: addresses.len(), proxy }
    }
}
