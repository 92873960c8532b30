//! Where IPVS mode, as the reference has it, treats packets otherwise than iptables mode.

use core::fmt;

/// A difference in behaviour between kube-proxy's IPVS mode and its iptables mode. This crate keeps all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Deviation {
    /// Under policy `Local`, a node without endpoints of its own sends traffic to those of other nodes; iptables drops
    /// it. With policy `Local` inside and no frontend to the outside, there are no such endpoints, and traffic is refused.
    LocalFallsBack,
    /// Under external policy `Local`, Pods and the node are sent to endpoints of the node alone, like everyone; iptables
    /// sends them to all endpoints.
    NoShortCircuit,
    /// Under external policy `Local`, the node keeps its source address; iptables masquerades it.
    NodeNotMasqueraded,
    /// Any local endpoint that reaches itself is masqueraded, however it came to; iptables does so only for packets that
    /// the proxy sent there.
    HairpinByAddress,
    /// Without a way to tell local Pods, traffic to a cluster address that comes from such an address is masqueraded: that of
    /// the node itself.
    ClusterSourceMasqueraded,
    /// A port that no Service has is refused at an address of a Service; iptables lets the packet go its way.
    OtherPortsRefused,
    /// Addresses of Services answer to ping, since the node has them.
    AnswersPing,
    /// Node ports are not open at loopback addresses.
    NoLoopbackNodePorts,
    /// Health checks are not let in on a node where no address is open for node ports.
    HealthCheckNeedsNodePort,
    /// Source ranges are enforced whether or not there are endpoints; iptables only rejects where there are none.
    RangesWithoutEndpoints,
    /// Packets that connection tracking takes for invalid are let pass; iptables drops them.
    InvalidPasses,
    /// Session affinity lasts at least as long as a client has connections; in iptables mode it ends the given time after
    /// the last new one.
    AffinityOfConnections,
}

impl Deviation {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::LocalFallsBack,
        Self::NoShortCircuit,
        Self::NodeNotMasqueraded,
        Self::HairpinByAddress,
        Self::ClusterSourceMasqueraded,
        Self::OtherPortsRefused,
        Self::AnswersPing,
        Self::NoLoopbackNodePorts,
        Self::HealthCheckNeedsNodePort,
        Self::RangesWithoutEndpoints,
        Self::InvalidPasses,
        Self::AffinityOfConnections,
    ];

    /// What IPVS mode does, in a few words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalFallsBack => "policy Local falls back to endpoints of other nodes",
            Self::NoShortCircuit => "external policy Local binds Pods and the node too",
            Self::NodeNotMasqueraded => "external policy Local keeps the node's own source address",
            Self::HairpinByAddress => "any local endpoint that reaches itself is masqueraded",
            Self::ClusterSourceMasqueraded => "traffic between cluster addresses is masqueraded",
            Self::OtherPortsRefused => "ports that no Service has are refused",
            Self::AnswersPing => "addresses of Services answer to ping",
            Self::NoLoopbackNodePorts => "node ports are closed at loopback addresses",
            Self::HealthCheckNeedsNodePort => "health checks need an address that is open for node ports",
            Self::RangesWithoutEndpoints => "source ranges are enforced without endpoints",
            Self::InvalidPasses => "invalid packets are forwarded",
            Self::AffinityOfConnections => "session affinity lasts as long as connections do",
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
