//! The differences between modes that are known of the reference.

use core::fmt;

use super::Side;
use crate::config::NodePortAddresses;
use crate::loaded::Layout;
use crate::packet::is_loopback;
use crate::plan::PortPlan;
use crate::probe::{Aim, Answer, Client, Fate, Frontend, Probe};

/// A difference in behaviour between kube-proxy's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Known {
    /// Node ports at 127.0.0.1 (KEP-6032).
    LocalhostNodePorts,
    /// Node ports at addresses of the node other than its primary one.
    NodePortAddresses,
    /// The node port of a Service that has no endpoints to send to, at addresses where node ports are not open.
    ClosedNodePorts,
    /// A port of a cluster address that no Service has.
    OtherPortOfClusterIp,
    /// Echo requests to a cluster address.
    PingOfClusterIp,
    /// A load balancer address with source ranges of a Service without endpoints.
    FirewallWithoutEndpoints,
    /// An external or load balancer address of a Service without endpoints, asked by the node itself.
    NoEndpointsFromNode,
    /// An endpoint on another node that is sent back to itself by this one.
    HairpinOfOtherNodes,
    /// Packets that connection tracking cannot place.
    InvalidPackets,
    /// Addresses within the ranges of cluster addresses that no Service has.
    UnallocatedClusterIps,
    /// The health check port behind a firewall of the node that drops what nobody accepts.
    HealthCheckNodePorts,
}

impl Known {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::LocalhostNodePorts,
        Self::NodePortAddresses,
        Self::ClosedNodePorts,
        Self::OtherPortOfClusterIp,
        Self::PingOfClusterIp,
        Self::FirewallWithoutEndpoints,
        Self::NoEndpointsFromNode,
        Self::HairpinOfOtherNodes,
        Self::InvalidPackets,
        Self::UnallocatedClusterIps,
        Self::HealthCheckNodePorts,
    ];

    /// A word for it, such as `localhost-node-ports`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalhostNodePorts => "localhost-node-ports",
            Self::NodePortAddresses => "node-port-addresses",
            Self::ClosedNodePorts => "closed-node-ports",
            Self::OtherPortOfClusterIp => "other-port-of-cluster-ip",
            Self::PingOfClusterIp => "ping-of-cluster-ip",
            Self::FirewallWithoutEndpoints => "firewall-without-endpoints",
            Self::NoEndpointsFromNode => "no-endpoints-from-node",
            Self::HairpinOfOtherNodes => "hairpin-of-other-nodes",
            Self::InvalidPackets => "invalid-packets",
            Self::UnallocatedClusterIps => "unallocated-cluster-ips",
            Self::HealthCheckNodePorts => "health-check-node-ports",
        }
    }

    /// What differs, and why.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::LocalhostNodePorts => {
                "only iptables mode serves node ports at 127.0.0.1, and only if iptables.localhostNodePorts is not false"
            }
            Self::NodePortAddresses => {
                "where nodePortAddresses is not set, nftables mode opens node ports at the node's primary address only, the other modes at all of its addresses"
            }
            Self::ClosedNodePorts => {
                "while a Service has no endpoints to send to, iptables mode refuses or drops its node port at every address of the node, also where nodePortAddresses does not open it; nftables mode leaves closed addresses to the node"
            }
            Self::OtherPortOfClusterIp => {
                "nftables mode refuses ports of a cluster address that no Service has; iptables mode sends such packets on as if the address were no Service's"
            }
            Self::PingOfClusterIp => {
                "nftables mode refuses echo requests to a cluster address; iptables mode sends them on as if the address were no Service's"
            }
            Self::FirewallWithoutEndpoints => {
                "without endpoints, iptables mode refuses everyone at the load balancer address, while nftables mode drops who is outside of loadBalancerSourceRanges"
            }
            Self::NoEndpointsFromNode => {
                "connections of the node itself to an external or load balancer address without endpoints leave the node in iptables mode, which looks for them on their way in and through only; nftables mode refuses them at once"
            }
            Self::HairpinOfOtherNodes => {
                "an endpoint of another node that comes here and is sent back to itself is masqueraded in iptables mode; nftables mode does that for endpoints of this node only"
            }
            Self::InvalidPackets => {
                "iptables mode drops forwarded packets that connection tracking finds invalid, unless nf_conntrack_tcp_be_liberal is set; the other modes let them pass"
            }
            Self::UnallocatedClusterIps => {
                "nftables mode drops packets to addresses of the Service ranges that no Service has; the other modes send them on"
            }
            Self::HealthCheckNodePorts => {
                "iptables mode accepts connections to healthCheckNodePort before the node's own firewall; nftables mode has no such rule"
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::LocalhostNodePorts => {
                "connect to another address of the node, or to the cluster address; nftables mode never opens loopback addresses"
            }
            Self::NodePortAddresses => {
                "set nodePortAddresses to what clients use: 0.0.0.0/0 and ::/0 for all addresses, primary for one"
            }
            Self::ClosedNodePorts => {
                "nothing, unless a process of the node listens on a port of the node port range at such an address"
            }
            Self::OtherPortOfClusterIp => "nothing, unless something tells a closed port from a silent one",
            Self::PingOfClusterIp => "check Services by a connection to their port, not by ping",
            Self::FirewallWithoutEndpoints => {
                "nothing, unless clients outside of the ranges count on a quick refusal"
            }
            Self::NoEndpointsFromNode => {
                "nothing, unless another host is to answer at that address while the Service has no endpoints"
            }
            Self::HairpinOfOtherNodes => {
                "nothing, unless such a Pod connects through this node to a Service that it is an endpoint of: its own node masquerades it"
            }
            Self::InvalidPackets => {
                "if connections break with resets after the move, drop invalid packets in the node's own firewall"
            }
            Self::UnallocatedClusterIps => {
                "nothing, unless addresses of the Service ranges are used for something else"
            }
            Self::HealthCheckNodePorts => {
                "accept the port in the node's own firewall, or load balancers take the node for unhealthy"
            }
        }
    }

    /// The known difference that a probe with these two answers shows.
    pub(super) fn of(
        plan: &PortPlan,
        probe: &Probe,
        sides: [Side<'_>; 2],
        answers: [&Answer; 2],
    ) -> Option<Self> {
        let fates = answers.map(Answer::certain);
        let either = |fate: Fate| fates.contains(&Some(fate));
        match (probe.aim, probe.frontend) {
            (Aim::OtherPort, Frontend::ClusterIp) if either(Fate::Rejected) => {
                Some(Self::OtherPortOfClusterIp)
            }
            (Aim::Ping, Frontend::ClusterIp) if either(Fate::Rejected) => Some(Self::PingOfClusterIp),
            (Aim::Port, Frontend::NodePort(ip))
                if plan.external.is_err() && !sides.iter().any(|side| opens(*side, ip)) =>
            {
                either(Fate::Node).then_some(Self::ClosedNodePorts)
            }
            (Aim::Port, Frontend::NodePort(ip)) if is_loopback(ip) => {
                (either(Fate::Node)).then_some(Self::LocalhostNodePorts)
            }
            (Aim::Port, Frontend::NodePort(ip)) if opens(sides[0], ip) != opens(sides[1], ip) => {
                either(Fate::Node).then_some(Self::NodePortAddresses)
            }
            (Aim::Port, Frontend::ExternalIp(_) | Frontend::LoadBalancerIp(_))
                if probe.client == Client::Node && !plan.has_endpoints =>
            {
                either(Fate::Onward).then_some(Self::NoEndpointsFromNode)
            }
            (Aim::Port, Frontend::LoadBalancerIp(_))
                if plan.service.has_firewall()
                    && !plan.has_endpoints
                    && either(Fate::Rejected)
                    && either(Fate::Dropped) =>
            {
                Some(Self::FirewallWithoutEndpoints)
            }
            (Aim::Port, _)
                if probe.client == Client::OtherEndpoint && only_hairpin_differs(probe, answers) =>
            {
                Some(Self::HairpinOfOtherNodes)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether node ports are open at an address.
fn opens(side: Side<'_>, ip: core::net::IpAddr) -> bool {
    if is_loopback(ip) && !(side.layout == Layout::Iptables && side.config.opens_localhost()) {
        return false;
    }
    match &side.config.node_port_addresses {
        NodePortAddresses::All => true,
        NodePortAddresses::Within(ranges) => ranges.iter().any(|range| range.contains(&ip)),
    }
}

/// Whether the answers differ by nothing but the masquerading of the client that reaches itself.
fn only_hairpin_differs(probe: &Probe, answers: [&Answer; 2]) -> bool {
    let itself = |fate: Fate| fate.endpoint().is_some_and(|endpoint| endpoint.ip() == probe.source);
    let others = answers.map(|answer| Answer::new(answer.fates().filter(|(fate, _)| !itself(*fate))));
    let [a, b] = answers.map(|answer| answer.endpoints().collect::<alloc::vec::Vec<_>>());
    a == b && others[0].same(&others[1])
}
