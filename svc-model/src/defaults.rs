//! Static defaults: what the API server fills in before it looks at an object, whatever the cluster.
//!
//! Defaults that depend on the cluster (addresses, node ports, families) belong to the
//! [registry](crate::registry).

use crate::{
    ClientIpConfig, EndpointSlice, Endpoints, LoadBalancerIpMode, NetworkPolicy, PolicyType, Protocol,
    Service, ServiceType, SessionAffinity, SessionAffinityConfig, TrafficPolicy,
};

/// How long a client stays at its endpoint, in seconds, unless the Service says otherwise: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

impl Service {
    /// Fills in what was not sent: type, affinity, protocols, target ports, traffic policies.
    pub fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        if spec.session_affinity.is_empty() {
            spec.session_affinity = SessionAffinity::None.into();
        }
        match spec.session_affinity.get() {
            Some(SessionAffinity::None) => spec.session_affinity_config = None,
            Some(SessionAffinity::ClientIp) => {
                let config = spec.session_affinity_config.as_ref();
                if config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds).is_none() {
                    let client_ip = Some(ClientIpConfig { timeout_seconds: Some(AFFINITY_SECONDS) });
                    spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
                }
            }
            None => {}
        }
        if spec.service_type.is_empty() {
            spec.service_type = ServiceType::ClusterIp.into();
        }
        for port in &mut spec.ports {
            if port.protocol.is_empty() {
                port.protocol = Protocol::Tcp.into();
            }
            port.target_port = Some(port.target_port());
        }
        let kind = spec.service_type.get();
        let external = match kind {
            Some(ServiceType::NodePort | ServiceType::LoadBalancer) => true,
            Some(ServiceType::ClusterIp) => !spec.external_ips.is_empty(),
            _ => false,
        };
        if external && spec.external_traffic_policy.is_empty() {
            spec.external_traffic_policy = TrafficPolicy::Cluster.into();
        }
        if !matches!(kind, None | Some(ServiceType::ExternalName)) && spec.internal_traffic_policy.is_none() {
            spec.internal_traffic_policy = Some(TrafficPolicy::Cluster.into());
        }
        if kind == Some(ServiceType::LoadBalancer) {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
            for ingress in &mut self.status.load_balancer.ingress {
                if !ingress.ip.is_empty() {
                    ingress.ip_mode.get_or_insert(LoadBalancerIpMode::Vip.into());
                }
            }
        }
    }
}

impl NetworkPolicy {
    /// Fills in what was not sent: protocols, and the directions that the policy isolates.
    pub fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        let ingress = spec.ingress.iter_mut().flat_map(|rule| &mut rule.ports);
        let egress = spec.egress.iter_mut().flat_map(|rule| &mut rule.ports);
        for port in ingress.chain(egress) {
            port.protocol.get_or_insert(Protocol::Tcp.into());
        }
        if spec.policy_types.is_empty() {
            spec.policy_types.push(PolicyType::Ingress.into());
            if !spec.egress.is_empty() {
                spec.policy_types.push(PolicyType::Egress.into());
            }
        }
    }
}

impl EndpointSlice {
    /// Fills in what was not sent: names (empty) and protocols of ports.
    pub fn set_defaults(&mut self) {
        for port in &mut self.ports {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert(Protocol::Tcp.into());
        }
    }
}

impl Endpoints {
    /// Fills in what was not sent: protocols of ports.
    pub fn set_defaults(&mut self) {
        for port in self.subsets.iter_mut().flat_map(|subset| &mut subset.ports) {
            if port.protocol.is_empty() {
                port.protocol = Protocol::Tcp.into();
            }
        }
    }
}
