//! The points on which policy engines disagree, by name.

/// How to read what the API leaves open. The default is what the upstream end-to-end and conformance suites
/// require, and otherwise what most engines do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Whether an `ipBlock` of a NetworkPolicy matches Pods by their addresses.
    pub ip_blocks: IpBlocks,
    /// What a Pod on its node's network is.
    pub host_network: HostNetwork,
    /// Whether a Pod's own node reaches it whatever the policies say.
    pub own_node: OwnNode,
    /// Whether policies apply to a Pod's connections to itself.
    pub self_traffic: SelfTraffic,
    /// When the Baseline tier is consulted.
    pub baseline: Baseline,
}

/// Whether an `ipBlock` matches Pods. (`networks` of cluster-scoped policies always does, as its text says.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum IpBlocks {
    /// By their addresses, as for anyone else: three upstream end-to-end tests, Calico, kube-router.
    #[default]
    MatchPods,
    /// Never: Cilium, netpol-analyzer.
    ExternalOnly,
}

/// What a Pod on its node's network is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HostNetwork {
    /// The node: no policy applies to it and no selector finds it, only its address counts.
    #[default]
    IsNode,
    /// A Pod like any other.
    IsPod,
}

/// Whether a Pod's own node (kubelet probes, every process there) reaches it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OwnNode {
    /// Always: "traffic source is the pod's local node" in the API's text.
    #[default]
    Allowed,
    /// As any other address.
    Evaluated,
}

/// Whether policies apply to a Pod's connections to its own address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SelfTraffic {
    /// No: it never leaves the Pod.
    #[default]
    Allowed,
    /// Yes, as between two Pods alike; this is how a connection by way of a Service is seen.
    Evaluated,
}

/// When the Baseline tier is consulted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// In each direction that no NetworkPolicy isolates: most engines.
    #[default]
    PerDirection,
    /// Only for Pods that no NetworkPolicy selects in either direction: the API's sentence word by word,
    /// kube-network-policies.
    UnselectedPods,
}
