//! The points on which policy engines disagree, as switches.

use clap::ValueEnum;
use svc_netpol::{Baseline, HostNetwork, IpBlocks, Options, OwnNode, SelfTraffic};

/// How to read what the API leaves open.
#[derive(clap::Args, Clone)]
pub(crate) struct Reading {
    /// Reads a point on which engines disagree the other way; may be repeated.
    #[arg(long = "read", value_enum, value_name = "POINT", global = true)]
    points: Vec<Point>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Point {
    /// An ipBlock never matches Pods, as in Cilium.
    IpBlocksExternalOnly,
    /// A Pod on its node's network is a Pod like any other.
    HostNetworkIsPod,
    /// A Pod's own node reaches it only if policies allow it.
    OwnNodeEvaluated,
    /// Policies apply to a Pod's connections to itself.
    SelfTrafficEvaluated,
    /// The Baseline tier is only for Pods that no NetworkPolicy selects, as in kube-network-policies.
    BaselineUnselectedPods,
}

impl Reading {
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::default();
        for point in &self.points {
            match point {
                Point::IpBlocksExternalOnly => options.ip_blocks = IpBlocks::ExternalOnly,
                Point::HostNetworkIsPod => options.host_network = HostNetwork::IsPod,
                Point::OwnNodeEvaluated => options.own_node = OwnNode::Evaluated,
                Point::SelfTrafficEvaluated => options.self_traffic = SelfTraffic::Evaluated,
                Point::BaselineUnselectedPods => options.baseline = Baseline::UnselectedPods,
            }
        }
        options
    }
}
