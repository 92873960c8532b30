//! What one port of a Service asks of a node, and the endpoints that the node may use for it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::IpAddr;
use core::num::NonZeroU16;

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_endpoints::view::{NoEndpoints, Policy, PortEndpoints, PortKey, PortPolicy, Viewpoint};
use svc_model::{IpFamily, ObjectRef, Protocol};

use super::ServicePortName;

/// One port of a Service with one address family's addresses: the part of the Service that rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name of the port.
    pub name: ServicePortName,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The cluster address.
    pub cluster_ip: IpAddr,
    /// The port at the cluster, external and load balancer addresses.
    pub port: u16,
    /// The port at the node's addresses.
    pub node_port: Option<NonZeroU16>,
    /// External addresses, in the order of the Service.
    pub external_ips: Box<[IpAddr]>,
    /// Load balancer addresses that the node handles (ingress points of mode `Proxy` are left out).
    pub load_balancer_ips: Box<[IpAddr]>,
    /// Source ranges that may use the load balancer addresses; empty: everyone.
    pub source_ranges: Box<[IpNet]>,
    /// Which endpoints serve internal and external traffic.
    pub policy: PortPolicy,
    /// Session affinity by client address: for how many seconds.
    pub affinity: Option<u32>,
    /// Port at which load balancers ask for the health of the Service on this node.
    pub health_check_node_port: Option<NonZeroU16>,
}

impl ServicePort {
    /// Whether anything but the cluster address leads to the port.
    #[must_use]
    pub fn has_external_frontends(&self) -> bool {
        self.policy.is_external()
    }

    /// What the port's endpoints are found by.
    pub(crate) fn key(&self, family: IpFamily) -> PortKey {
        PortKey {
            service: ObjectRef::new(self.name.namespace(), self.name.name()),
            family,
            port: SmolStr::new(self.name.port()),
            protocol: self.protocol,
        }
    }

    /// Whether load balancer traffic has to pass a list of source ranges.
    #[must_use]
    pub fn has_firewall(&self) -> bool {
        !self.load_balancer_ips.is_empty() && !self.source_ranges.is_empty()
    }
}

/// An endpoint that traffic may be sent to from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of the Pod (or of whatever serves).
    pub ip: IpAddr,
    /// Port at that address.
    pub port: u16,
    /// Serves traffic under policy `Cluster`.
    pub in_cluster: bool,
    /// Serves traffic under policy `Local`.
    pub in_local: bool,
    /// Runs on this node.
    pub on_node: bool,
}

/// A Service port together with the endpoints that this node may use for it: everything that a backend needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// The port and its frontends.
    pub service: Arc<ServicePort>,
    /// The endpoints that any traffic of the node may reach, sorted by their text `ip:port`.
    pub endpoints: Box<[Endpoint]>,
    /// Whether any endpoint could serve, here or on another node.
    pub has_endpoints: bool,
    /// Where traffic to the cluster address goes, or why nowhere.
    pub internal: Result<Policy, NoEndpoints>,
    /// Where traffic from outside to the other addresses goes, or why nowhere.
    pub external: Result<Policy, NoEndpoints>,
    /// Number of endpoints that slices list for the port, whatever their state: decides on large-cluster mode.
    pub listed: u32,
}

impl PortPlan {
    /// Picks from `endpoints` (absent: no slice offers any) what the node at `viewpoint` may use.
    #[must_use]
    pub fn new(service: Arc<ServicePort>, endpoints: Option<&PortEndpoints>, viewpoint: &Viewpoint) -> Self {
        const NONE: &PortEndpoints = &PortEndpoints::new();
        let all = endpoints.unwrap_or(NONE);
        let selection = all.select(service.policy, viewpoint);
        let endpoints = selection.reachable().map(|endpoint| Endpoint {
            ip: endpoint.ip(),
            port: endpoint.port(),
            in_cluster: selection.cluster_placement(endpoint).is_used(),
            in_local: selection.local_placement(endpoint).is_used(),
            on_node: selection.is_local(endpoint),
        });
        Self {
            endpoints: endpoints.collect(),
            has_endpoints: selection.any_in_cluster(),
            internal: selection.internal(),
            external: selection.external().unwrap_or(Ok(Policy::Cluster)),
            listed: u32::try_from(all.len()).unwrap_or(u32::MAX),
            service,
        }
    }

    /// The endpoints that serve under `policy`, in order.
    pub fn under(&self, policy: Policy) -> impl Iterator<Item = &Endpoint> + Clone {
        self.endpoints.iter().filter(move |endpoint| endpoint.serves(policy))
    }

    /// Whether any traffic of the port goes by `policy` and finds endpoints.
    #[must_use]
    pub fn uses(&self, policy: Policy) -> bool {
        self.under(policy).next().is_some()
    }
}

impl Endpoint {
    /// Whether it serves traffic under `policy`.
    #[must_use]
    pub const fn serves(&self, policy: Policy) -> bool {
        match policy {
            Policy::Cluster => self.in_cluster,
            Policy::Local => self.in_local,
        }
    }
}
