//! `Pod` (core/v1): the parts that decide addresses, ports, readiness and DNS.

use core::net::IpAddr;

use alloc::vec::Vec;
use smol_str::SmolStr;

use super::Protocol;
use crate::scalar::string_enum;
use crate::serde_util::{api_kind, api_struct};
use crate::{IntOrString, Labels, ObjectMeta, Port, Sent, Timestamp};

api_kind! {
    /// A group of containers with one network identity (core/v1).
    pub struct Pod: "v1" "Pod" Namespaced {
        /// What should run.
        pub spec "spec": PodSpec;
        /// What runs.
        pub status "status": PodStatus;
    }
}

api_struct! {
    /// `PodSpec`.
    pub struct PodSpec {
        /// Containers.
        pub containers: Vec<Container>,
        /// Containers that run before; those with `restartPolicy: Always` keep running (sidecars).
        pub init_containers: Vec<Container>,
        /// Node that the Pod is bound to; empty before scheduling.
        pub node_name: SmolStr,
        /// Labels that the node must have.
        pub node_selector: Labels,
        /// Shares the node's network, so the node's addresses are the Pod's.
        pub host_network: bool,
        /// Host name; empty means the Pod's name.
        pub hostname: SmolStr,
        /// Name of the headless Service that publishes the host name.
        pub subdomain: SmolStr,
        /// When containers restart.
        pub restart_policy: SmolStr,
        /// Where resolv.conf comes from; empty means ClusterFirst.
        pub dns_policy: Sent<DnsPolicy>,
        /// Additions to resolv.conf.
        pub dns_config: Option<PodDnsConfig>,
        /// Whether the kernel host name is the full name.
        #[serde(rename = "setHostnameAsFQDN")]
        pub set_hostname_as_fqdn: Option<bool>,
        /// Whether environment variables of Services are set; `None` means yes.
        pub enable_service_links: Option<bool>,
    }

    /// `Container`.
    pub struct Container {
        /// Name, unique in the Pod.
        pub name: SmolStr,
        /// Declared ports.
        pub ports: Vec<ContainerPort>,
        /// `Always` makes an init container a sidecar.
        pub restart_policy: Option<SmolStr>,
        /// When the container counts as ready; only its presence and ports are kept.
        pub readiness_probe: Option<Probe>,
    }

    /// `Probe`, as far as it names a port.
    pub struct Probe {
        /// HTTP check.
        pub http_get: Option<ProbePort>,
        /// TCP check.
        pub tcp_socket: Option<ProbePort>,
        /// gRPC check.
        pub grpc: Option<ProbePort>,
    }

    /// The port of a probe.
    pub struct ProbePort {
        /// Port, by number or name.
        pub port: IntOrString,
    }

    /// `ContainerPort`.
    pub struct ContainerPort {
        /// Name that Services and policies may refer to.
        pub name: SmolStr,
        /// Port of the node, 0 for none.
        pub host_port: Port,
        /// Port of the Pod.
        pub container_port: Port,
        /// Protocol; empty means TCP.
        pub protocol: Sent<Protocol>,
    }

    /// `PodDNSConfig`.
    pub struct PodDnsConfig {
        /// Name servers, after those of the policy.
        pub nameservers: Vec<SmolStr>,
        /// Search domains, after those of the policy.
        pub searches: Vec<SmolStr>,
        /// Resolver options, merged by name.
        pub options: Vec<PodDnsConfigOption>,
    }

    /// `PodDNSConfigOption`.
    pub struct PodDnsConfigOption {
        /// Name, such as `ndots`.
        pub name: SmolStr,
        /// Value, if the option takes one.
        pub value: Option<SmolStr>,
    }

    /// `PodStatus`.
    pub struct PodStatus {
        /// Phase of the life cycle.
        pub phase: Sent<PodPhase>,
        /// Conditions, `Ready` among them.
        pub conditions: Vec<PodCondition>,
        /// First address of the node.
        #[serde(rename = "hostIP")]
        pub host_ip: Sent<IpAddr>,
        /// Primary address.
        #[serde(rename = "podIP")]
        pub pod_ip: Sent<IpAddr>,
        /// All addresses, primary first.
        #[serde(rename = "podIPs")]
        pub pod_ips: Vec<PodIp>,
    }

    /// `PodIP`.
    pub struct PodIp {
        /// Address.
        pub ip: Sent<IpAddr>,
    }

    /// `PodCondition`.
    pub struct PodCondition {
        /// Name of the condition.
        #[serde(rename = "type")]
        pub condition_type: SmolStr,
        /// `True`, `False` or `Unknown`.
        pub status: SmolStr,
        /// When the status last changed.
        pub last_transition_time: Option<Timestamp>,
        /// Short cause.
        pub reason: SmolStr,
        /// Cause in words.
        pub message: SmolStr,
    }

    /// A Pod to be made from a workload (`PodTemplateSpec`).
    pub struct PodTemplateSpec {
        /// Labels and annotations of the Pods.
        pub metadata: ObjectMeta,
        /// Spec of the Pods.
        pub spec: PodSpec,
    }
}

string_enum! {
    /// Phase of a Pod's life.
    pub enum PodPhase {
        /// Accepted, not all containers have started.
        Pending = "Pending",
        /// Bound, and something runs.
        Running = "Running",
        /// All containers ended well.
        Succeeded = "Succeeded",
        /// All containers ended, one badly.
        Failed = "Failed",
        /// The node can't be asked.
        Unknown = "Unknown",
    }

    /// Where a Pod's resolv.conf comes from.
    pub enum DnsPolicy {
        /// Cluster DNS, unless the Pod uses the host's network; the default.
        ClusterFirst = "ClusterFirst",
        /// Cluster DNS, also with the host's network.
        ClusterFirstWithHostNet = "ClusterFirstWithHostNet",
        /// The node's own.
        Default = "Default",
        /// Only what `dnsConfig` says.
        None = "None",
    }
}

impl Pod {
    /// All addresses that mean something, in order. `podIPs` decides; `podIP` only stands in where
    /// that list is empty.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let singular = self.status.pod_ips.is_empty().then_some(&self.status.pod_ip);
        self.status.pod_ips.iter().map(|p| &p.ip).chain(singular).filter_map(Sent::get)
    }

    /// True if the `Ready` condition is `True`.
    pub fn is_ready(&self) -> bool {
        self.ready_condition().is_some_and(|c| c.status == "True")
    }

    /// The `Ready` condition.
    pub fn ready_condition(&self) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|c| c.condition_type == "Ready")
    }

    /// True if the Pod has ended for good (Succeeded or Failed).
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase.get(), Some(PodPhase::Succeeded | PodPhase::Failed))
    }
}

impl PodSpec {
    /// Every container whose ports count: the containers, then the sidecars among the init
    /// containers (KEP-753).
    pub fn serving_containers(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        self.containers.iter().chain(sidecars)
    }
}

impl ContainerPort {
    /// The protocol; absent means TCP, `None` if the text is no protocol.
    pub fn protocol(&self) -> Option<Protocol> {
        if self.protocol.is_empty() { Some(Protocol::Tcp) } else { self.protocol.get() }
    }
}
