//! Chain names.

use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest, Sha256};

use svc_model::Protocol;

use crate::plan::{ServicePortName, protocol_word};

/// The sixteen characters that tell one Service's (or endpoint's) chains from another's: the first 80 bits of
/// a SHA-256 in upper-case base32 (RFC 4648).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainHash([u8; 16]);

impl ChainHash {
    /// Hash of a Service port: of its name followed by the protocol in lower case.
    #[must_use]
    pub fn of_port(name: &ServicePortName, protocol: Protocol) -> Self {
        Self::of(&[name.as_str().as_bytes(), protocol_word(protocol).as_bytes()])
    }

    /// Hash of an endpoint of a Service port: as for the port, followed by `ip:port` (`[ip]:port` for IPv6).
    pub(crate) fn of_endpoint(name: &ServicePortName, protocol: Protocol, endpoint: &[u8]) -> Self {
        Self::of(&[name.as_str().as_bytes(), protocol_word(protocol).as_bytes(), endpoint])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut sha = Sha256::new();
        for part in parts {
            sha.update(part);
        }
        let digest = sha.finalize();
        // Sixteen digits of five bits are exactly the first ten bytes.
        let bits = digest.iter().take(10).fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let mut text = [0; 16];
        for (digit, shift) in text.iter_mut().zip((0..16u32).rev()) {
            *digit = match (bits >> (5 * shift)) as u8 & 31 {
                letter @ 0..=25 => b'A' + letter,
                number => b'2' + (number - 26),
            };
        }
        Self(text)
    }

    /// The hash as ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A table that the rules live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `mangle`: only ever holds the canary.
    Mangle,
    /// `filter`: rejecting, dropping, accepting.
    Filter,
    /// `nat`: dispatch, load balancing, masquerading.
    Nat,
}

impl Table {
    /// Name of the table as the tools spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the chain of a Service port or of an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// `KUBE-SVC-`: spreads over the endpoints of a `Cluster` policy.
    Cluster,
    /// `KUBE-SVL-`: spreads over the endpoints of a `Local` policy.
    Local,
    /// `KUBE-EXT-`: entry of all traffic from outside the cluster.
    External,
    /// `KUBE-FW-`: the source ranges that may use a load balancer address.
    Firewall,
    /// `KUBE-SEP-`: one endpoint.
    Endpoint,
}

impl ChainKind {
    /// All kinds, in the order in which their chains are declared.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Local, Self::External, Self::Firewall, Self::Endpoint];

    /// The text before the hash.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Cluster => "KUBE-SVC-",
            Self::Local => "KUBE-SVL-",
            Self::External => "KUBE-EXT-",
            Self::Firewall => "KUBE-FW-",
            Self::Endpoint => "KUBE-SEP-",
        }
    }

    /// The kind that a chain name begins with: such chains of the nat table are owned by the proxy, and removed
    /// by it when no Service needs them.
    #[must_use]
    pub fn of(chain: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| chain.starts_with(kind.prefix()))
    }
}

/// A chain that belongs to one Service port or endpoint, such as `KUBE-SVC-XPGD46QRK7WJZT7O`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceChain {
    /// Hash of the Service port or endpoint.
    pub hash: ChainHash,
    /// What the chain is for.
    pub kind: ChainKind,
}

impl ServiceChain {
    /// Reads a chain name; `None` if no chain of a Service could be named so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let kind = ChainKind::of(name)?;
        let hash: [u8; 16] = name.strip_prefix(kind.prefix())?.as_bytes().try_into().ok()?;
        let is_digit = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
        hash.iter().all(is_digit).then_some(Self { hash: ChainHash(hash), kind })
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.kind.prefix().as_bytes());
        out.extend_from_slice(&self.hash.0);
    }
}

impl fmt::Display for ServiceChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.hash)
    }
}

/// A chain that all Services share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SharedChain {
    /// filter `KUBE-SERVICES`: cluster addresses without usable endpoints.
    FilterServices,
    /// filter `KUBE-EXTERNAL-SERVICES`: external addresses and node ports without usable endpoints.
    ExternalServices,
    /// filter `KUBE-FORWARD`: packets on their way through the node.
    Forward,
    /// filter `KUBE-NODEPORTS`: health-check node ports.
    FilterNodePorts,
    /// filter `KUBE-PROXY-FIREWALL`: load balancer traffic from outside the source ranges.
    ProxyFirewall,
    /// filter `KUBE-FIREWALL`, shared with kubelet: packets from elsewhere to loopback addresses.
    Firewall,
    /// nat `KUBE-SERVICES`: dispatch by destination address.
    Services,
    /// nat `KUBE-NODEPORTS`: dispatch by node port.
    NodePorts,
    /// nat `KUBE-POSTROUTING`: masquerading of marked packets.
    Postrouting,
    /// nat `KUBE-MARK-MASQ`: sets the mark.
    MarkMasq,
}

impl SharedChain {
    /// Name of the chain.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FilterServices | Self::Services => "KUBE-SERVICES",
            Self::ExternalServices => "KUBE-EXTERNAL-SERVICES",
            Self::Forward => "KUBE-FORWARD",
            Self::FilterNodePorts | Self::NodePorts => "KUBE-NODEPORTS",
            Self::ProxyFirewall => "KUBE-PROXY-FIREWALL",
            Self::Firewall => "KUBE-FIREWALL",
            Self::Postrouting => "KUBE-POSTROUTING",
            Self::MarkMasq => "KUBE-MARK-MASQ",
        }
    }

    /// The table that the chain lives in.
    #[must_use]
    pub const fn table(self) -> Table {
        match self {
            Self::Services | Self::NodePorts | Self::Postrouting | Self::MarkMasq => Table::Nat,
            _ => Table::Filter,
        }
    }
}

/// A chain that a rule is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// One that all Services share.
    Shared(SharedChain),
    /// One of a Service port or endpoint, always in the nat table.
    Service(ServiceChain),
}

impl Chain {
    /// The table that the chain lives in.
    #[must_use]
    pub const fn table(self) -> Table {
        match self {
            Self::Shared(chain) => chain.table(),
            Self::Service(_) => Table::Nat,
        }
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Shared(chain) => out.extend_from_slice(chain.as_str().as_bytes()),
            Self::Service(chain) => chain.write(out),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(chain) => f.write_str(chain.as_str()),
            Self::Service(chain) => fmt::Display::fmt(chain, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn hashes_are_those_of_the_reference() {
        let named = ServicePortName::new("ns1", "svc1", "p80");
        assert_eq!(ChainHash::of_port(&named, Protocol::Tcp).to_string(), "XPGD46QRK7WJZT7O");
        let endpoint = ChainHash::of_endpoint(&named, Protocol::Tcp, b"10.180.0.1:80");
        assert_eq!(endpoint.to_string(), "SXIVWICOYRO3J4NJ");
        let bare = ServicePortName::new("ns1", "svc1", "");
        assert_eq!(ChainHash::of_port(&bare, Protocol::Tcp).to_string(), "AQI2S6QIMU7PVVRP");
    }

    #[test]
    fn chain_names_fit_the_kernel() {
        // XT_EXTENSION_MAXNAMELEN is 29 with the closing zero.
        let hash = ChainHash::of_port(&ServicePortName::new("a", "b", "c"), Protocol::Udp);
        for kind in ChainKind::ALL {
            let name = ServiceChain { hash, kind }.to_string();
            assert!(name.len() <= 28);
            assert_eq!(ServiceChain::parse(&name), Some(ServiceChain { hash, kind }));
        }
        for other in ["KUBE-SERVICES", "KUBE-SVC-", "KUBE-SVC-xPGD46QRK7WJZT7O", "KUBE-SVC-XPGD46QRK7WJZT7OA"]
        {
            assert_eq!(ServiceChain::parse(other), None);
        }
    }
}
