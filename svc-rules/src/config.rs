//! What a node's proxy is told: the settled configuration that rules are generated from.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_endpoints::view::Viewpoint;
use svc_model::IpFamily;

/// How traffic from this node's own Pods is told from other traffic (`detectLocalMode`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalDetector {
    /// By source address (`ClusterCIDR` or `NodeCIDR`).
    Cidr(IpNet),
    /// By the bridge that Pods are attached to (`BridgeInterface`).
    Bridge(SmolStr),
    /// By the first characters of the interface's name (`InterfaceNamePrefix`).
    InterfacePrefix(SmolStr),
    /// Not at all: no traffic to a cluster address is masqueraded, and there is no short cut for Pods.
    #[default]
    None,
}

/// At which of the node's addresses node ports are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All of them.
    #[default]
    All,
    /// Those within a range.
    Within(Vec<IpNet>),
}

impl NodePortAddresses {
    /// The addresses of `family` within `ranges`. No range of the family, or one that covers it all, means all
    /// addresses.
    #[must_use]
    pub fn within(ranges: impl IntoIterator<Item = IpNet>, family: IpFamily) -> Self {
        let ranges: Vec<_> =
            ranges.into_iter().filter(|range| IpFamily::of(range.addr()) == family).collect();
        if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) {
            Self::All
        } else {
            Self::Within(ranges)
        }
    }
}

/// What only IPVS mode depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpvsOptions {
    /// Scheduler of all virtual servers, as ipvsadm names it (`ipvs.scheduler`).
    pub scheduler: SmolStr,
    /// Virtual servers at these addresses are never deleted (`ipvs.excludeCIDRs`).
    pub exclude_cidrs: Vec<IpNet>,
    /// Whether ARP is answered only for addresses of the interface that is asked (`ipvs.strictARP`).
    pub strict_arp: bool,
    /// How long idle TCP connections stay; zero leaves the kernel's setting.
    pub tcp_timeout: Duration,
    /// How long TCP connections stay after a FIN; zero leaves the kernel's setting.
    pub tcp_fin_timeout: Duration,
    /// How long idle UDP flows stay; zero leaves the kernel's setting.
    pub udp_timeout: Duration,
}

impl Default for IpvsOptions {
    fn default() -> Self {
        Self {
            scheduler: SmolStr::new_static("rr"),
            exclude_cidrs: Vec::new(),
            strict_arp: false,
            tcp_timeout: Duration::ZERO,
            tcp_fin_timeout: Duration::ZERO,
            udp_timeout: Duration::ZERO,
        }
    }
}

/// Everything outside the Services that one family's rules depend on.
///
/// Fields that a backend does not know are ignored by it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// The family that rules are generated for.
    pub family: IpFamily,
    /// Name of the node; endpoints that name it are local.
    pub node_name: SmolStr,
    /// The node's primary address of the family.
    pub node_ip: Option<IpAddr>,
    /// All addresses of the node, of any family, but for those of IPVS mode's dummy device.
    pub node_addresses: Vec<IpAddr>,
    /// The zone of the node (label `topology.kubernetes.io/zone`).
    pub zone: Option<SmolStr>,
    /// Masquerade all traffic to cluster addresses.
    pub masquerade_all: bool,
    /// The packet mark of traffic to be masqueraded; one bit.
    pub masquerade_mark: u32,
    /// How local Pods are recognised.
    pub local_detector: LocalDetector,
    /// Where node ports are open.
    pub node_port_addresses: NodePortAddresses,
    /// Whether node ports are open at loopback addresses (IPv4, iptables only).
    pub localhost_node_ports: bool,
    /// Whether the kernel and the tool know `--random-fully`.
    pub random_fully: bool,
    /// Whether connection tracking lets packets outside the window pass (`nf_conntrack_tcp_be_liberal`); then
    /// invalid packets are not dropped.
    pub conntrack_tcp_be_liberal: bool,
    /// Whether the accounting object `ct_state_invalid_dropped_pkts` exists.
    pub counts_invalid_drops: bool,
    /// Whether the accounting object `localhost_nps_accepted_pkts` exists.
    pub counts_localhost_node_ports: bool,
    /// Ranges that cluster addresses are allocated from, of any family (ServiceCIDR objects; nftables only).
    pub service_cidrs: Vec<IpNet>,
    /// Above how many endpoints rules lose their comments and stale chains are looked for less often.
    pub large_cluster_threshold: u32,
    /// What only IPVS mode depends on.
    pub ipvs: IpvsOptions,
}

impl ProxyConfig {
    /// Accounting object of the kernel that counts dropped invalid packets.
    pub const INVALID_DROPS: &'static str = "ct_state_invalid_dropped_pkts";
    /// Accounting object of the kernel that counts packets to node ports at loopback addresses.
    pub const LOCALHOST_NODE_PORTS: &'static str = "localhost_nps_accepted_pkts";

    /// The defaults of the reference for the node `node_name`, without any address.
    #[must_use]
    pub fn new(family: IpFamily, node_name: impl Into<SmolStr>) -> Self {
        Self {
            family,
            node_name: node_name.into(),
            node_ip: None,
            node_addresses: Vec::new(),
            zone: None,
            masquerade_all: false,
            masquerade_mark: 1 << 14,
            local_detector: LocalDetector::None,
            node_port_addresses: NodePortAddresses::All,
            localhost_node_ports: family == IpFamily::Ipv4,
            random_fully: true,
            conntrack_tcp_be_liberal: false,
            counts_invalid_drops: false,
            counts_localhost_node_ports: false,
            service_cidrs: Vec::new(),
            large_cluster_threshold: 1000,
            ipvs: IpvsOptions::default(),
        }
    }

    /// The place that endpoints are selected from.
    #[must_use]
    pub fn viewpoint(&self) -> Viewpoint {
        let node = Viewpoint::node(self.node_name.clone());
        match &self.zone {
            Some(zone) => node.in_zone(zone.clone()),
            None => node,
        }
    }

    /// Whether loopback addresses take node port traffic.
    #[must_use]
    pub fn opens_localhost(&self) -> bool {
        self.localhost_node_ports && self.family == IpFamily::Ipv4
    }
}
