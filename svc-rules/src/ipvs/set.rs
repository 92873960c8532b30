//! The ipsets, which hold all addresses and ports that the rules of IPVS mode look at.

use svc_model::{IpFamily, Protocol};

use crate::ipset::SetType;

/// One of the ipsets. All of them exist at all times, whether or not anything is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// `KUBE-LOOP-BACK`: endpoints of this node in any state, each with its own address as the client.
    LoopBack,
    /// `KUBE-CLUSTER-IP`: cluster addresses.
    ClusterIp,
    /// `KUBE-EXTERNAL-IP`: external addresses under policy `Cluster`.
    ExternalIp,
    /// `KUBE-EXTERNAL-IP-LOCAL`: external addresses under policy `Local`.
    ExternalIpLocal,
    /// `KUBE-LOAD-BALANCER`: load balancer addresses.
    LoadBalancer,
    /// `KUBE-LOAD-BALANCER-FW`: those that only some source ranges may use.
    LoadBalancerFirewall,
    /// `KUBE-LOAD-BALANCER-LOCAL`: those under policy `Local`.
    LoadBalancerLocal,
    /// `KUBE-LOAD-BALANCER-SOURCE-IP`: those whose source ranges hold the node, with themselves as the client.
    LoadBalancerSourceIp,
    /// `KUBE-LOAD-BALANCER-SOURCE-CIDR`: load balancer addresses with each of their source ranges.
    LoadBalancerSourceCidr,
    /// `KUBE-NODE-PORT-TCP`: node ports of TCP.
    NodePortTcp,
    /// `KUBE-NODE-PORT-LOCAL-TCP`: those under policy `Local`.
    NodePortLocalTcp,
    /// `KUBE-NODE-PORT-UDP`: node ports of UDP.
    NodePortUdp,
    /// `KUBE-NODE-PORT-LOCAL-UDP`: those under policy `Local`.
    NodePortLocalUdp,
    /// `KUBE-NODE-PORT-SCTP-HASH`: node ports of SCTP, with each address of the node.
    NodePortSctp,
    /// `KUBE-NODE-PORT-LOCAL-SCTP-HASH`: those under policy `Local`.
    NodePortLocalSctp,
    /// `KUBE-HEALTH-CHECK-NODE-PORT`: ports at which load balancers ask for the health of a Service.
    HealthCheckNodePort,
    /// `KUBE-IPVS-IPS`: the addresses of the dummy device.
    IpvsIps,
}

impl Set {
    /// Number of sets.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// All sets, in the order in which they are created.
    pub const ALL: [Self; 17] = [
        Self::LoopBack,
        Self::ClusterIp,
        Self::ExternalIp,
        Self::ExternalIpLocal,
        Self::LoadBalancer,
        Self::LoadBalancerFirewall,
        Self::LoadBalancerLocal,
        Self::LoadBalancerSourceIp,
        Self::LoadBalancerSourceCidr,
        Self::NodePortTcp,
        Self::NodePortLocalTcp,
        Self::NodePortUdp,
        Self::NodePortLocalUdp,
        Self::NodePortSctp,
        Self::NodePortLocalSctp,
        Self::HealthCheckNodePort,
        Self::IpvsIps,
    ];

    /// The name of the set. Those of IPv6 are cut at the 31 bytes that the kernel takes.
    #[must_use]
    pub const fn name(self, family: IpFamily) -> &'static str {
        let (v4, v6) = match self {
            Self::LoopBack => ("KUBE-LOOP-BACK", "KUBE-6-LOOP-BACK"),
            Self::ClusterIp => ("KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"),
            Self::ExternalIp => ("KUBE-EXTERNAL-IP", "KUBE-6-EXTERNAL-IP"),
            Self::ExternalIpLocal => ("KUBE-EXTERNAL-IP-LOCAL", "KUBE-6-EXTERNAL-IP-LOCAL"),
            Self::LoadBalancer => ("KUBE-LOAD-BALANCER", "KUBE-6-LOAD-BALANCER"),
            Self::LoadBalancerFirewall => ("KUBE-LOAD-BALANCER-FW", "KUBE-6-LOAD-BALANCER-FW"),
            Self::LoadBalancerLocal => ("KUBE-LOAD-BALANCER-LOCAL", "KUBE-6-LOAD-BALANCER-LOCAL"),
            Self::LoadBalancerSourceIp => ("KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-6-LOAD-BALANCER-SOURCE-IP"),
            Self::LoadBalancerSourceCidr => {
                ("KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-6-LOAD-BALANCER-SOURCE-CID")
            }
            Self::NodePortTcp => ("KUBE-NODE-PORT-TCP", "KUBE-6-NODE-PORT-TCP"),
            Self::NodePortLocalTcp => ("KUBE-NODE-PORT-LOCAL-TCP", "KUBE-6-NODE-PORT-LOCAL-TCP"),
            Self::NodePortUdp => ("KUBE-NODE-PORT-UDP", "KUBE-6-NODE-PORT-UDP"),
            Self::NodePortLocalUdp => ("KUBE-NODE-PORT-LOCAL-UDP", "KUBE-6-NODE-PORT-LOCAL-UDP"),
            Self::NodePortSctp => ("KUBE-NODE-PORT-SCTP-HASH", "KUBE-6-NODE-PORT-SCTP-HASH"),
            Self::NodePortLocalSctp => ("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"),
            Self::HealthCheckNodePort => ("KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-6-HEALTH-CHECK-NODE-PORT"),
            Self::IpvsIps => ("KUBE-IPVS-IPS", "KUBE-6-IPVS-IPS"),
        };
        match family {
            IpFamily::Ipv4 => v4,
            IpFamily::Ipv6 => v6,
        }
    }

    /// The set of this name, in one of the families.
    #[must_use]
    pub fn named(name: &str, family: IpFamily) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name(family) == name)
    }

    /// What entries are made of.
    #[must_use]
    pub const fn kind(self) -> SetType {
        match self {
            Self::LoopBack | Self::LoadBalancerSourceIp => SetType::HashIpPortIp,
            Self::LoadBalancerSourceCidr => SetType::HashIpPortNet,
            Self::NodePortTcp
            | Self::NodePortLocalTcp
            | Self::NodePortUdp
            | Self::NodePortLocalUdp
            | Self::HealthCheckNodePort => SetType::BitmapPort,
            Self::IpvsIps => SetType::HashIp,
            Self::ClusterIp
            | Self::ExternalIp
            | Self::ExternalIpLocal
            | Self::LoadBalancer
            | Self::LoadBalancerFirewall
            | Self::LoadBalancerLocal
            | Self::NodePortSctp
            | Self::NodePortLocalSctp => SetType::HashIpPort,
        }
    }

    /// The comment on rules that look into the set.
    pub(super) const fn comment(self) -> &'static str {
        match self {
            Self::LoopBack => "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
            Self::ClusterIp => "Kubernetes service cluster ip + port for masquerade purpose",
            Self::ExternalIp => "Kubernetes service external ip + port for masquerade and filter purpose",
            Self::ExternalIpLocal => "Kubernetes service external ip + port with externalTrafficPolicy=local",
            Self::LoadBalancer => "Kubernetes service lb portal",
            Self::LoadBalancerFirewall => {
                "Kubernetes service load balancer ip + port for load balancer with sourceRange"
            }
            Self::LoadBalancerLocal => {
                "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"
            }
            Self::LoadBalancerSourceIp => {
                "Kubernetes service load balancer ip + port + source IP for packet filter purpose"
            }
            Self::LoadBalancerSourceCidr => {
                "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"
            }
            Self::NodePortTcp => "Kubernetes nodeport TCP port for masquerade purpose",
            Self::NodePortLocalTcp => "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
            Self::NodePortUdp => "Kubernetes nodeport UDP port for masquerade purpose",
            Self::NodePortLocalUdp => "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
            Self::NodePortSctp => {
                "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"
            }
            Self::NodePortLocalSctp => {
                "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"
            }
            Self::HealthCheckNodePort => "Kubernetes health check node port",
            Self::IpvsIps => "",
        }
    }

    /// The set of all node ports of a protocol, and that of those under policy `Local`.
    pub(super) const fn of_node_ports(protocol: Protocol) -> (Self, Self) {
        match protocol {
            Protocol::Tcp => (Self::NodePortTcp, Self::NodePortLocalTcp),
            Protocol::Udp => (Self::NodePortUdp, Self::NodePortLocalUdp),
            Protocol::Sctp => (Self::NodePortSctp, Self::NodePortLocalSctp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipset::MAX_NAME;

    #[test]
    fn names_are_cut_where_the_kernel_does() {
        for set in Set::ALL {
            let mut whole = alloc::format!("KUBE-6-{}", set.name(IpFamily::Ipv4).trim_start_matches("KUBE-"));
            whole.truncate(MAX_NAME);
            assert_eq!(set.name(IpFamily::Ipv6), whole);
            for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
                assert_eq!(Set::named(set.name(family), family), Some(set));
            }
        }
    }
}
