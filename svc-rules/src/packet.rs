//! A packet as netfilter sees it, free of any backend.
//!
//! The same [`Packet`] is walked through an iptables ruleset ([`crate::xtables`]) and through an nftables
//! (`nft`); what happens to it is told in the words of [`crate::outcome`].

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use smol_str::SmolStr;
use svc_model::IpFamily;

/// The address family of a ruleset or a packet; iptables and ip6tables are two rulesets that never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: `iptables`, table family `ip` of nftables.
    V4,
    /// IPv6: `ip6tables`, table family `ip6` of nftables.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Length of an address in bits: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl From<IpFamily> for Family {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::V4,
            IpFamily::Ipv6 => Self::V6,
        }
    }
}

/// An IP protocol number, as in the IPv4 header or the last IPv6 next-header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transport(pub u8);

impl Transport {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);

    /// Names that iptables and nftables know without asking `/etc/protocols`, plus the commonest of that file.
    const NAMES: [(u8, &'static str); 14] = [
        (6, "tcp"),
        (17, "udp"),
        (132, "sctp"),
        (1, "icmp"),
        (58, "ipv6-icmp"),
        (58, "icmpv6"),
        (136, "udplite"),
        (50, "esp"),
        (51, "ah"),
        (33, "dccp"),
        (47, "gre"),
        (4, "ipencap"),
        (41, "ipv6"),
        (2, "igmp"),
    ];

    /// The name that `iptables-save` prints; `None` where only the number is certain.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }

    /// Reads a name (any letter case) or a decimal number.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(text))
            .map(|(number, _)| Self(*number))
            .or_else(|| text.parse().ok().map(Self))
    }

    /// Whether the protocol carries ports where TCP does.
    pub const fn has_ports(self) -> bool {
        matches!(self.0, 6 | 17 | 33 | 132 | 136)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What connection tracking says of a packet before any rule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConnState {
    /// First packet of a connection; the only state (with `Related`) in which nat chains are consulted.
    #[default]
    New,
    /// Belongs to a connection that has seen packets in both directions.
    Established,
    /// Starts a connection that another one announced, such as an ICMP error.
    Related,
    /// Tracked, but belonging to no connection and not able to start one.
    Invalid,
    /// Exempt from tracking.
    Untracked,
}

/// Where a packet enters this host's stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Sent by a process of the host itself: enters at OUTPUT.
    Local,
    /// Received on the named interface: enters at PREROUTING.
    Interface(SmolStr),
}

/// One packet, before any translation.
///
/// ```
/// use svc_rules::packet::Packet;
///
/// let packet = Packet::tcp("10.0.0.7:40000".parse()?, "10.96.0.1:443".parse()?).from_interface("veth1");
/// assert_eq!(packet.destination_port, 443);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, as the client wrote it.
    pub destination: IpAddr,
    /// IP protocol.
    pub transport: Transport,
    /// Source port; 0 for protocols without ports.
    pub source_port: u16,
    /// Destination port; 0 for protocols without ports.
    pub destination_port: u16,
    /// Where it enters.
    pub origin: Origin,
    /// The bridge port it came through, when bridged traffic passes netfilter (`br_netfilter`).
    pub bridge_port: Option<SmolStr>,
    /// State of its connection.
    pub state: ConnState,
    /// The connection has its destination rewritten already (conntrack status DNAT); for packets that are not new.
    pub dnat_status: bool,
    /// The connection has its source rewritten already (conntrack status SNAT).
    pub snat_status: bool,
    /// `skb->mark` on entry.
    pub mark: u32,
}

impl Packet {
    /// First packet of a connection of any protocol, sent by the host itself until an interface is named.
    pub fn new(transport: Transport, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source: source.ip(),
            destination: destination.ip(),
            transport,
            source_port: source.port(),
            destination_port: destination.port(),
            origin: Origin::Local,
            bridge_port: None,
            state: ConnState::New,
            dnat_status: false,
            snat_status: false,
            mark: 0,
        }
    }

    /// The first packet of a TCP connection.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(Transport::TCP, source, destination)
    }

    /// The first packet of a UDP flow.
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(Transport::UDP, source, destination)
    }

    /// The first packet of an SCTP association.
    pub fn sctp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(Transport::SCTP, source, destination)
    }

    /// The same packet, received on `interface`.
    #[must_use]
    pub fn from_interface(mut self, interface: impl Into<SmolStr>) -> Self {
        self.origin = Origin::Interface(interface.into());
        self
    }

    /// The same packet in another connection state.
    #[must_use]
    pub fn with_state(mut self, state: ConnState) -> Self {
        self.state = state;
        self
    }

    /// The same packet with a mark set on entry.
    #[must_use]
    pub fn with_mark(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }

    /// Family of the destination.
    pub const fn family(&self) -> Family {
        Family::of(self.destination)
    }
}

/// 127.0.0.0/8 or ::1: local on every host, whatever its interfaces are.
pub(crate) const fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_loopback(),
        IpAddr::V6(a) => a.is_loopback(),
    }
}

/// 255.255.255.255 and 0.0.0.0, which the kernel classes as broadcast before it looks at any table.
pub(crate) fn is_limited_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(Ipv4Addr::BROADCAST | Ipv4Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_by_name_and_number() {
        assert_eq!(Transport::parse("TCP"), Some(Transport::TCP));
        assert_eq!(Transport::parse("icmpv6"), Some(Transport::ICMPV6));
        assert_eq!(Transport::parse("132").unwrap().name(), Some("sctp"));
        assert_eq!(Transport(250).name(), None);
        assert_eq!(Transport::parse("300"), None);
        assert_eq!(Transport::parse("no-such"), None);
    }
}
