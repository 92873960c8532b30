//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1).

use alloc::vec::Vec;
use smol_str::SmolStr;

use crate::serde_util::{api_kind, api_struct};

api_kind! {
    /// Configuration of kube-proxy, as its file or ConfigMap holds it. Values are as sent;
    /// svc-rules checks them.
    pub struct KubeProxyConfiguration: "kubeproxy.config.k8s.io/v1alpha1" "KubeProxyConfiguration" Cluster {
        /// `iptables`, `ipvs`, `nftables` or empty.
        pub mode "mode": SmolStr;
        /// Ranges of the cluster's Pods, separated by a comma.
        pub cluster_cidr "clusterCIDR": SmolStr;
        /// Name that replaces the node's own.
        pub hostname_override "hostnameOverride": SmolStr;
        /// Address to listen at.
        pub bind_address "bindAddress": SmolStr;
        /// Address of the health check.
        pub healthz_bind_address "healthzBindAddress": SmolStr;
        /// Node addresses that take nodePort traffic: ranges, or `primary`.
        pub node_port_addresses "nodePortAddresses": Vec<SmolStr>;
        /// How traffic from local Pods is recognised.
        pub detect_local_mode "detectLocalMode": SmolStr;
        /// Parameters of that.
        pub detect_local "detectLocal": DetectLocalConfiguration;
        /// Section for the iptables mode.
        pub iptables "iptables": KubeProxyIptablesConfiguration;
        /// Section for the ipvs mode.
        pub ipvs "ipvs": KubeProxyIpvsConfiguration;
        /// Section for the nftables mode.
        pub nftables "nftables": KubeProxyNftablesConfiguration;
        /// Section on connection tracking.
        pub conntrack "conntrack": KubeProxyConntrackConfiguration;
        /// Names of gates and whether they are on.
        pub feature_gates "featureGates": alloc::collections::BTreeMap<SmolStr, bool>;
    }
}

api_struct! {
    /// `DetectLocalConfiguration`.
    pub struct DetectLocalConfiguration {
        /// Bridge that local Pods are attached to.
        pub bridge_interface: SmolStr,
        /// Prefix of local Pods' interface names.
        pub interface_name_prefix: SmolStr,
        /// Ranges of the cluster's Pods.
        #[serde(rename = "clusterCIDRs")]
        pub cluster_cidrs: Vec<SmolStr>,
    }

    /// `KubeProxyIPTablesConfiguration`.
    pub struct KubeProxyIptablesConfiguration {
        /// Bit of the packet mark that asks for masquerading, 0 to 31; absent means 14.
        pub masquerade_bit: Option<i32>,
        /// Masquerade all Service traffic.
        pub masquerade_all: bool,
        /// Let nodePorts be used at loopback addresses; absent means yes.
        pub localhost_node_ports: Option<bool>,
        /// Time between full syncs.
        pub sync_period: SmolStr,
        /// Least time between syncs.
        pub min_sync_period: SmolStr,
    }

    /// `KubeProxyIPVSConfiguration`.
    pub struct KubeProxyIpvsConfiguration {
        /// Scheduler; empty means rr.
        pub scheduler: SmolStr,
        /// Ranges whose virtual servers are not kube-proxy's.
        #[serde(rename = "excludeCIDRs")]
        pub exclude_cidrs: Vec<SmolStr>,
        /// Answer ARP only for addresses of the interface asked at.
        #[serde(rename = "strictARP")]
        pub strict_arp: bool,
        /// Bit of the packet mark that asks for masquerading, 0 to 31; absent means 14.
        pub masquerade_bit: Option<i32>,
        /// Masquerade all Service traffic.
        pub masquerade_all: bool,
        /// Time between full syncs.
        pub sync_period: SmolStr,
        /// Least time between syncs.
        pub min_sync_period: SmolStr,
        /// How long idle TCP connections stay.
        pub tcp_timeout: SmolStr,
        /// How long TCP connections stay after a FIN.
        pub tcp_fin_timeout: SmolStr,
        /// How long idle UDP flows stay.
        pub udp_timeout: SmolStr,
    }

    /// `KubeProxyNFTablesConfiguration`.
    pub struct KubeProxyNftablesConfiguration {
        /// Bit of the packet mark that asks for masquerading, 0 to 31; absent means 14.
        pub masquerade_bit: Option<i32>,
        /// Masquerade all Service traffic.
        pub masquerade_all: bool,
        /// Time between full syncs.
        pub sync_period: SmolStr,
        /// Least time between syncs.
        pub min_sync_period: SmolStr,
    }

    /// `KubeProxyConntrackConfiguration`.
    pub struct KubeProxyConntrackConfiguration {
        /// Largest table, per core.
        pub max_per_core: Option<i32>,
        /// Least table size.
        pub min: Option<i32>,
        /// Accept packets outside the TCP window; drops no INVALID packets then.
        pub tcp_be_liberal: bool,
        /// Idle time of established TCP connections.
        pub tcp_established_timeout: Option<SmolStr>,
        /// Time that a closed TCP connection is remembered.
        pub tcp_close_wait_timeout: Option<SmolStr>,
        /// Idle time of unreplied UDP flows.
        pub udp_timeout: SmolStr,
        /// Idle time of replied UDP flows.
        pub udp_stream_timeout: SmolStr,
    }
}
