//! `Service` (core/v1).

use core::net::IpAddr;

use alloc::vec::Vec;
use ipnet::IpNet;
use smol_str::SmolStr;

use super::{IpFamily, Protocol};
use crate::scalar::string_enum;
use crate::serde_util::{api_kind, api_struct};
use crate::{IntOrString, Labels, Port, Sent};

api_kind! {
    /// A named set of Pods behind stable addresses (core/v1).
    pub struct Service: "v1" "Service" Namespaced {
        /// What the user asks for, and what the server allocated.
        pub spec "spec": ServiceSpec;
        /// What a load-balancer controller reported.
        pub status "status": ServiceStatus;
    }
}

api_struct! {
    /// `ServiceSpec`.
    pub struct ServiceSpec {
        /// Ports, in order; the first has meaning for environment variables.
        pub ports: Vec<ServicePort>,
        /// Labels that Pods must have. `None`: no selector, the endpoints are the user's own.
        pub selector: Option<Labels>,
        /// Primary address, `None` (the text) for headless, empty before allocation.
        #[serde(rename = "clusterIP")]
        pub cluster_ip: Sent<IpAddr>,
        /// All addresses, primary first, at most one a family.
        #[serde(rename = "clusterIPs")]
        pub cluster_ips: Vec<Sent<IpAddr>>,
        /// How the Service is exposed; empty means ClusterIP.
        #[serde(rename = "type")]
        pub service_type: Sent<ServiceType>,
        /// Further addresses that nodes accept traffic for.
        #[serde(rename = "externalIPs")]
        pub external_ips: Vec<Sent<IpAddr>>,
        /// Whether connections of one client stay at one endpoint; empty means None.
        pub session_affinity: Sent<SessionAffinity>,
        /// Deprecated wish for a load-balancer address.
        #[serde(rename = "loadBalancerIP")]
        pub load_balancer_ip: SmolStr,
        /// Clients that a load balancer admits; empty admits all.
        pub load_balancer_source_ranges: Vec<Sent<IpNet>>,
        /// Target name of an ExternalName Service.
        pub external_name: SmolStr,
        /// Which endpoints external traffic may reach; empty means Cluster.
        pub external_traffic_policy: Sent<TrafficPolicy>,
        /// Port of the load balancer's health check, for `externalTrafficPolicy: Local`.
        pub health_check_node_port: Port,
        /// Publish endpoints as ready whether they are or not.
        pub publish_not_ready_addresses: bool,
        /// Parameters of the session affinity.
        pub session_affinity_config: Option<SessionAffinityConfig>,
        /// Address families, primary first.
        pub ip_families: Vec<Sent<IpFamily>>,
        /// How many families are wanted.
        pub ip_family_policy: Option<Sent<IpFamilyPolicy>>,
        /// Whether a LoadBalancer Service gets node ports; `None` means yes.
        pub allocate_load_balancer_node_ports: Option<bool>,
        /// Who implements the load balancer.
        pub load_balancer_class: Option<SmolStr>,
        /// Which endpoints traffic from inside may reach; `None` means Cluster.
        pub internal_traffic_policy: Option<Sent<TrafficPolicy>>,
        /// Preference for near endpoints.
        pub traffic_distribution: Option<Sent<TrafficDistribution>>,
    }

    /// `ServicePort`.
    pub struct ServicePort {
        /// Name, unique in the Service; may be empty if it is the only port.
        pub name: SmolStr,
        /// Protocol; empty means TCP.
        pub protocol: Sent<Protocol>,
        /// Application protocol, a hint for implementations.
        pub app_protocol: Option<SmolStr>,
        /// Port of the Service.
        pub port: Port,
        /// Port of the Pods, by number or name; absent means the same as `port`.
        pub target_port: Option<IntOrString>,
        /// Port on every node, 0 for none.
        pub node_port: Port,
    }

    /// `SessionAffinityConfig`.
    pub struct SessionAffinityConfig {
        /// Parameters of ClientIP affinity.
        #[serde(rename = "clientIP")]
        pub client_ip: Option<ClientIpConfig>,
    }

    /// `ClientIPConfig`.
    pub struct ClientIpConfig {
        /// How long a client stays, in seconds, 1 to 86400; `None` means 10800.
        pub timeout_seconds: Option<i32>,
    }

    /// `ServiceStatus`.
    pub struct ServiceStatus {
        /// Addresses of the load balancer.
        pub load_balancer: LoadBalancerStatus,
    }

    /// `LoadBalancerStatus`.
    pub struct LoadBalancerStatus {
        /// Where the load balancer takes traffic.
        pub ingress: Vec<LoadBalancerIngress>,
    }

    /// `LoadBalancerIngress`.
    pub struct LoadBalancerIngress {
        /// Address.
        pub ip: Sent<IpAddr>,
        /// Host name, for load balancers known by name.
        pub hostname: SmolStr,
        /// Whether packets arrive with the load balancer's address (VIP) or the node's (Proxy).
        pub ip_mode: Option<Sent<LoadBalancerIpMode>>,
    }
}

string_enum! {
    /// How a Service is exposed.
    pub enum ServiceType {
        /// Inside the cluster only.
        ClusterIp = "ClusterIP",
        /// Also at a port of every node.
        NodePort = "NodePort",
        /// Also at an external load balancer.
        LoadBalancer = "LoadBalancer",
        /// A DNS alias, without addresses of its own.
        ExternalName = "ExternalName",
    }

    /// Whether connections of one client stay at one endpoint.
    pub enum SessionAffinity {
        /// Each connection is placed afresh.
        None = "None",
        /// By client address.
        ClientIp = "ClientIP",
    }

    /// Which endpoints traffic may reach.
    pub enum TrafficPolicy {
        /// All of the cluster.
        Cluster = "Cluster",
        /// Those on the node that handles the packet.
        Local = "Local",
    }

    /// How many address families a Service wants.
    pub enum IpFamilyPolicy {
        /// One.
        SingleStack = "SingleStack",
        /// Two where the cluster has two.
        PreferDualStack = "PreferDualStack",
        /// Two.
        RequireDualStack = "RequireDualStack",
    }

    /// Preference for near endpoints (KEP-4444, KEP-3015).
    pub enum TrafficDistribution {
        /// Deprecated name of PreferSameZone.
        PreferClose = "PreferClose",
        /// Endpoints in the client's zone, if there are any.
        PreferSameZone = "PreferSameZone",
        /// Endpoints on the client's node, then in its zone.
        PreferSameNode = "PreferSameNode",
    }

    /// How a load balancer delivers (KEP-1860).
    pub enum LoadBalancerIpMode {
        /// Packets keep the load balancer's address; nodes may short-cut it.
        Vip = "VIP",
        /// Packets arrive for the node; traffic must pass through the load balancer.
        Proxy = "Proxy",
    }
}

impl ServiceSpec {
    /// The type; absent or unknown counts as ClusterIP, as in kube-proxy's eyes.
    pub fn service_type(&self) -> ServiceType {
        self.service_type.get().unwrap_or(ServiceType::ClusterIp)
    }

    /// True for a Service that wants no address (`clusterIP: None`).
    pub fn is_headless(&self) -> bool {
        self.cluster_ip.is("None") || self.cluster_ips.first().is_some_and(|ip| ip.is("None"))
    }

    /// The cluster addresses that mean something, primary first, each once.
    pub fn cluster_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let singular = self.cluster_ips.is_empty().then_some(&self.cluster_ip);
        self.cluster_ips.iter().chain(singular).filter_map(Sent::get)
    }

    /// The cluster address of a family.
    pub fn cluster_address(&self, family: IpFamily) -> Option<IpAddr> {
        self.cluster_addresses().find(|ip| IpFamily::of(*ip) == family)
    }

    /// Session affinity by client address, with its timeout in seconds (default 10800).
    pub fn client_ip_affinity(&self) -> Option<i32> {
        (self.session_affinity.get() == Some(SessionAffinity::ClientIp)).then(|| {
            let config = self.session_affinity_config.as_ref();
            config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds).unwrap_or(10_800)
        })
    }

    /// True if external traffic may only reach endpoints on the receiving node. Has meaning for
    /// Services reachable from outside.
    pub fn external_policy_local(&self) -> bool {
        self.external_traffic_policy.get() == Some(TrafficPolicy::Local)
    }

    /// True if internal traffic may only reach endpoints on the sending node.
    pub fn internal_policy_local(&self) -> bool {
        let policy = self.internal_traffic_policy.as_ref().and_then(Sent::get);
        policy == Some(TrafficPolicy::Local)
    }

    /// True if traffic from outside the cluster can reach it: LoadBalancer, NodePort, or ClusterIP
    /// with external addresses.
    pub fn is_externally_accessible(&self) -> bool {
        match self.service_type() {
            ServiceType::LoadBalancer | ServiceType::NodePort => true,
            ServiceType::ClusterIp => !self.external_ips.is_empty(),
            ServiceType::ExternalName => false,
        }
    }
}

impl ServicePort {
    /// The protocol; absent means TCP, `None` if the text is no protocol.
    pub fn protocol(&self) -> Option<Protocol> {
        if self.protocol.is_empty() { Some(Protocol::Tcp) } else { self.protocol.get() }
    }

    /// The Pods' port; absent, 0 and "" mean the Service's own port.
    pub fn target_port(&self) -> IntOrString {
        match &self.target_port {
            None | Some(IntOrString::Int(0)) => IntOrString::Int(self.port.value()),
            Some(IntOrString::String(name)) if name.is_empty() => IntOrString::Int(self.port.value()),
            Some(target) => target.clone(),
        }
    }
}
