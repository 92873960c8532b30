//! The traffic policies of a Service port, as one address family sees them.

use core::fmt;

use svc_model::{IpFamily, LoadBalancerIpMode, Sent, Service, ServicePort};

/// Which endpoints traffic may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policy {
    /// Endpoints anywhere in the cluster.
    #[default]
    Cluster,
    /// Endpoints on the node that handles the traffic.
    Local,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        })
    }
}

/// Whether a Service port has an address that is reachable from outside the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exposure {
    /// The cluster IP only.
    #[default]
    Internal,
    /// Also a node port, an external IP or a load balancer IP.
    External,
}

/// What decides which endpoints a Service port needs, besides the endpoints themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PortPolicy {
    /// Policy for traffic to the cluster IP (`internalTrafficPolicy`).
    pub internal: Policy,
    /// Policy for traffic to external addresses (`externalTrafficPolicy`).
    pub external: Policy,
    /// Whether there are external addresses.
    pub exposure: Exposure,
}

impl PortPolicy {
    /// Reads the policies of a Service port for one address family: only external addresses of that
    /// family count, and of load balancer addresses only those in mode VIP.
    #[must_use]
    pub fn of(service: &Service, port: &ServicePort, family: IpFamily) -> Self {
        let spec = &service.spec;
        let of_family = |ip: &Sent<_>| ip.get().is_some_and(|ip| IpFamily::of(ip) == family);
        let has_external_address = !port.node_port.is_zero()
            || spec.external_ips.iter().any(of_family)
            || service.status.load_balancer.ingress.iter().any(|ingress| {
                let mode = ingress.ip_mode.as_ref().and_then(Sent::get);
                mode.unwrap_or(LoadBalancerIpMode::Vip) == LoadBalancerIpMode::Vip && of_family(&ingress.ip)
            });
        let policy = |local| if local { Policy::Local } else { Policy::Cluster };
        Self {
            internal: policy(spec.internal_policy_local()),
            external: policy(spec.is_externally_accessible() && spec.external_policy_local()),
            exposure: if has_external_address { Exposure::External } else { Exposure::Internal },
        }
    }

    /// Whether there are external addresses.
    #[must_use]
    pub const fn is_external(self) -> bool {
        matches!(self.exposure, Exposure::External)
    }

    /// Whether any traffic of the port is routed by policy `Cluster`. External addresses always need it,
    /// since traffic to them from inside the cluster is routed as if it came to the cluster IP.
    #[must_use]
    pub const fn uses_cluster(self) -> bool {
        matches!(self.internal, Policy::Cluster) || self.is_external()
    }

    /// Whether any traffic of the port is routed by policy `Local`.
    #[must_use]
    pub const fn uses_local(self) -> bool {
        matches!(self.internal, Policy::Local)
            || (matches!(self.external, Policy::Local) && self.is_external())
    }
}
