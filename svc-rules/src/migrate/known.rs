//! The differences between modes that are known of the reference.

use alloc::collections::BTreeSet;
use core::fmt;
use core::net::IpAddr;

use svc_endpoints::view::{NoEndpoints, Policy};

use super::Side;
use crate::config::NodePortAddresses;
use crate::packet::is_loopback;
use crate::plan::PortPlan;
use crate::probe::{Aim, Answer, Client, Fate, Frontend, Probe};
use crate::scheme::Scheme;

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
    /// Ports of a Service's address that it does not have.
    OtherPorts,
    /// Echo requests to a Service's address.
    Pings,
    /// A load balancer address with source ranges of a Service without endpoints.
    FirewallWithoutEndpoints,
    /// An external or load balancer address of a Service without endpoints, asked by the node itself.
    NoEndpointsFromNode,
    /// An endpoint on another node that is sent back to itself by this one.
    HairpinOfOtherNodes,
    /// Policy `Local` without an endpoint on the node.
    NoLocalEndpoints,
    /// External addresses under policy `Local`, asked from within the cluster.
    LocalShortCut,
    /// Which of its addresses a connection of the node itself comes from.
    NodeSourceAddress,
    /// Clients that are held to an endpoint, and come by another address of the Service.
    AffinityOfAddresses,
    /// Packets that connection tracking cannot place.
    InvalidPackets,
    /// Addresses within the ranges of cluster addresses that no Service has.
    UnallocatedClusterIps,
    /// The health check port behind a firewall of the node that drops what nobody accepts.
    HealthCheckNodePorts,
}

impl Known {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::LocalhostNodePorts,
        Self::NodePortAddresses,
        Self::ClosedNodePorts,
        Self::OtherPorts,
        Self::Pings,
        Self::FirewallWithoutEndpoints,
        Self::NoEndpointsFromNode,
        Self::HairpinOfOtherNodes,
        Self::NoLocalEndpoints,
        Self::LocalShortCut,
        Self::NodeSourceAddress,
        Self::AffinityOfAddresses,
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
            Self::OtherPorts => "other-ports",
            Self::Pings => "pings",
            Self::FirewallWithoutEndpoints => "firewall-without-endpoints",
            Self::NoEndpointsFromNode => "no-endpoints-from-node",
            Self::HairpinOfOtherNodes => "hairpin-of-other-nodes",
            Self::NoLocalEndpoints => "no-local-endpoints",
            Self::LocalShortCut => "local-short-cut",
            Self::NodeSourceAddress => "node-source-address",
            Self::AffinityOfAddresses => "affinity-of-addresses",
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
                "while a Service has no endpoints to send to, iptables mode refuses or drops its node port at every address of the node, also where nodePortAddresses does not open it; the other modes leave closed addresses to the node"
            }
            Self::OtherPorts => {
                "ports that a Service does not have: iptables mode sends such packets on as if the address were no Service's, nftables mode refuses them at cluster addresses, IPVS mode at every address of a Service"
            }
            Self::Pings => {
                "iptables mode sends echo requests on as if the address were no Service's, nftables mode refuses them at cluster addresses, IPVS mode at every address of a Service"
            }
            Self::FirewallWithoutEndpoints => {
                "without endpoints, iptables mode refuses everyone at the load balancer address, while the other modes drop who is outside of loadBalancerSourceRanges"
            }
            Self::NoEndpointsFromNode => {
                "connections of the node itself to an external or load balancer address without endpoints leave the node in iptables mode, which looks for them on their way in and through only; the other modes refuse them at once"
            }
            Self::HairpinOfOtherNodes => {
                "an endpoint of another node that comes here and is sent back to itself is masqueraded in iptables mode; the other modes do that for endpoints of this node only"
            }
            Self::NoLocalEndpoints => {
                "under policy Local without an endpoint on the node, IPVS mode sends to endpoints of other nodes, or refuses if the port has no use for those; the other modes drop"
            }
            Self::LocalShortCut => {
                "what Pods and the node itself send to an external address under policy Local goes to all endpoints, except in IPVS mode, where it goes to those of the node"
            }
            Self::NodeSourceAddress => {
                "in IPVS mode the addresses of Services are the node's own, so that its connections come from the address that they go to, and are masqueraded by other rules than in the other modes"
            }
            Self::AffinityOfAddresses => {
                "under sessionAffinity ClientIP, IPVS mode holds a client to an endpoint for each address and node port by itself; the other modes for all of a Service port's together"
            }
            Self::InvalidPackets => {
                "iptables mode drops forwarded packets that connection tracking finds invalid, unless nf_conntrack_tcp_be_liberal is set; the other modes let them pass"
            }
            Self::UnallocatedClusterIps => {
                "nftables mode drops packets to addresses of the Service ranges that no Service has; the other modes send them on"
            }
            Self::HealthCheckNodePorts => {
                "iptables and IPVS modes accept connections to healthCheckNodePort before the node's own firewall; nftables mode has no such rule"
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::LocalhostNodePorts => {
                "connect to another address of the node, or to the cluster address; no other mode opens loopback addresses"
            }
            Self::NodePortAddresses => {
                "set nodePortAddresses to what clients use: 0.0.0.0/0 and ::/0 for all addresses, primary for one"
            }
            Self::ClosedNodePorts => {
                "nothing, unless a process of the node listens on a port of the node port range at such an address"
            }
            Self::OtherPorts => "nothing, unless something tells a closed port from a silent one",
            Self::Pings => "check Services by a connection to their port, not by ping",
            Self::FirewallWithoutEndpoints => {
                "nothing, unless clients outside of the ranges count on a quick refusal"
            }
            Self::NoEndpointsFromNode => {
                "nothing, unless another host is to answer at that address while the Service has no endpoints"
            }
            Self::HairpinOfOtherNodes => {
                "nothing, unless such a Pod connects through this node to a Service that it is an endpoint of: its own node masquerades it"
            }
            Self::NoLocalEndpoints => {
                "run an endpoint on each node that gets the traffic, or set the policy to Cluster if traffic may leave the node"
            }
            Self::LocalShortCut => "nothing, unless the load on the node's own endpoints matters: it changes",
            Self::NodeSourceAddress => {
                "check network policies and servers that go by the address of the node's own connections"
            }
            Self::AffinityOfAddresses => "let each client use one address of the Service",
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

    /// The difference that two answers to a probe show, which the rules of `sides` gave; `None` if it is not known.
    #[must_use]
    pub fn of(plan: &PortPlan, probe: &Probe, sides: [Side<'_>; 2], answers: [&Answer; 2]) -> Option<Self> {
        let fates = answers.map(Answer::certain);
        let either = |fate: Fate| fates.contains(&Some(fate));
        let no_endpoints = !plan.has_endpoints;
        let known = match (probe.aim, probe.frontend) {
            (Aim::OtherPort, _) if either(Fate::Rejected) => Self::OtherPorts,
            (Aim::Ping, _) if either(Fate::Rejected) => Self::Pings,
            (Aim::Port, Frontend::NodePort(ip)) if either(Fate::Node) => {
                let open = sides.map(|side| opens(side, ip));
                match open {
                    [false, false] if plan.external.is_err() => Self::ClosedNodePorts,
                    [false, false] => return None,
                    _ if is_loopback(ip) => Self::LocalhostNodePorts,
                    _ if open[0] != open[1] => Self::NodePortAddresses,
                    _ => return None,
                }
            }
            (Aim::Port, Frontend::ExternalIp(_) | Frontend::LoadBalancerIp(_))
                if probe.client == Client::Node && no_endpoints && either(Fate::Onward) =>
            {
                Self::NoEndpointsFromNode
            }
            (Aim::Port, Frontend::LoadBalancerIp(_))
                if plan.service.has_firewall()
                    && no_endpoints
                    && either(Fate::Rejected)
                    && either(Fate::Dropped) =>
            {
                Self::FirewallWithoutEndpoints
            }
            (Aim::Port, frontend) => match sides.map(|side| side.scheme == Scheme::Ipvs) {
                [true, false] => return of_ipvs(plan, probe, frontend, answers[0], answers[1]),
                [false, true] => return of_ipvs(plan, probe, frontend, answers[1], answers[0]),
                _ => return hairpin(probe, answers),
            },
            (Aim::OtherPort | Aim::Ping, _) => return None,
        };
        Some(known)
    }
}

/// How IPVS mode differs from the others where they serve a Service.
fn of_ipvs(
    plan: &PortPlan,
    probe: &Probe,
    frontend: Frontend,
    ipvs: &Answer,
    other: &Answer,
) -> Option<Known> {
    let (decision, local) = match frontend {
        Frontend::ClusterIp => (plan.internal, false),
        _ => (plan.external, plan.service.policy.external == Policy::Local),
    };
    if decision == Err(NoEndpoints::OnThisNode) && other.certain() == Some(Fate::Dropped) {
        return Some(Known::NoLocalEndpoints);
    }
    if !ipvs.is_served() || !other.is_served() {
        return None;
    }
    let reached = |answer: &Answer| answer.endpoints().collect::<BTreeSet<_>>();
    let (here, there) = (reached(ipvs), reached(other));
    let inside = !matches!(probe.client, Client::Outside | Client::InRange);
    if local && inside && !there.is_subset(&here) {
        return Some(Known::LocalShortCut);
    }
    if probe.before.is_some_and(|(before, _)| before != frontend) && there.is_subset(&here) && there != here {
        return Some(Known::AffinityOfAddresses);
    }
    if probe.client == Client::Node && ipvs.ignoring_source().same(&other.ignoring_source()) {
        return Some(Known::NodeSourceAddress);
    }
    hairpin(probe, [ipvs, other])
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether node ports are open at an address.
fn opens(side: Side<'_>, ip: IpAddr) -> bool {
    if is_loopback(ip) && !(side.scheme == Scheme::Iptables && side.config.opens_localhost()) {
        return false;
    }
    match &side.config.node_port_addresses {
        NodePortAddresses::All => true,
        NodePortAddresses::Within(ranges) => ranges.iter().any(|range| range.contains(&ip)),
    }
}

/// Whether the answers differ by nothing but the masquerading of a client that reaches itself.
fn hairpin(probe: &Probe, answers: [&Answer; 2]) -> Option<Known> {
    let itself = |fate: Fate| fate.endpoint().is_some_and(|endpoint| endpoint.ip() == probe.source);
    let [a, b] = answers.map(|answer| Answer::new(answer.fates().filter(|(fate, _)| !itself(*fate))));
    let [all_a, all_b] = answers.map(Answer::ignoring_source);
    let only = probe.client == Client::OtherEndpoint && a.same(&b) && all_a.same(&all_b);
    only.then_some(Known::HairpinOfOtherNodes)
}
