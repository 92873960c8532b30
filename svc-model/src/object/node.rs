//! `Node` (core/v1): the parts that decide zones, addresses and readiness.

use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use smol_str::SmolStr;

use crate::serde_util::{api_kind, api_struct};
use crate::{Labels, Sent, Timestamp};

/// Label that names a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

api_kind! {
    /// A machine of the cluster (core/v1).
    pub struct Node: "v1" "Node" Cluster {
        /// What the cluster decided for it.
        pub spec "spec": NodeSpec;
        /// What it reported.
        pub status "status": NodeStatus;
    }
}

api_struct! {
    /// `NodeSpec`.
    pub struct NodeSpec {
        /// Primary range for the node's Pods.
        #[serde(rename = "podCIDR")]
        pub pod_cidr: Sent<IpNet>,
        /// Ranges for the node's Pods, at most one a family.
        #[serde(rename = "podCIDRs")]
        pub pod_cidrs: Vec<Sent<IpNet>>,
        /// Takes no new Pods.
        pub unschedulable: bool,
    }

    /// `NodeStatus`.
    pub struct NodeStatus {
        /// Addresses.
        pub addresses: Vec<NodeAddress>,
        /// What Pods may use; `cpu` decides topology hints.
        pub allocatable: Labels,
        /// Conditions, `Ready` among them.
        pub conditions: Vec<NodeCondition>,
    }

    /// `NodeAddress`.
    pub struct NodeAddress {
        /// `InternalIP`, `ExternalIP`, `Hostname`, ...
        #[serde(rename = "type")]
        pub address_type: SmolStr,
        /// An address or a name, as the type says.
        pub address: Sent<IpAddr>,
    }

    /// `NodeCondition`.
    pub struct NodeCondition {
        /// Name of the condition.
        #[serde(rename = "type")]
        pub condition_type: SmolStr,
        /// `True`, `False` or `Unknown`.
        pub status: SmolStr,
        /// When the status last changed.
        pub last_transition_time: Option<Timestamp>,
    }
}

impl Node {
    /// The zone, if the node has one.
    pub fn zone(&self) -> Option<&str> {
        self.metadata.labels.get(ZONE_LABEL).filter(|zone| !zone.is_empty())
    }

    /// True if the `Ready` condition is `True`.
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|c| c.condition_type == "Ready" && c.status == "True")
    }

    /// The node's addresses of any type that are addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.status.addresses.iter().filter_map(|a| a.address.get())
    }
}
