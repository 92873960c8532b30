//! Protocols and ports: one packet's worth ([`Traffic`]), and sets of them ([`PortSet`]).

use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

use svc_model::Protocol;

/// What a connection carries, as far as policies can tell: protocol and destination port.
///
/// The port is the one that the destination sees, after a Service's translation; source ports never matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// TCP to this port.
    Tcp(u16),
    /// UDP to this port.
    Udp(u16),
    /// SCTP to this port.
    Sctp(u16),
    /// Any other protocol, such as ICMP: only rules without ports match it.
    Other,
}

impl Traffic {
    /// Traffic of a protocol to a port.
    pub const fn new(protocol: Protocol, port: u16) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp(port),
            Protocol::Udp => Self::Udp(port),
            Protocol::Sctp => Self::Sctp(port),
        }
    }

    /// The protocol; `None` for [`Other`](Self::Other).
    pub const fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Tcp(_) => Some(Protocol::Tcp),
            Self::Udp(_) => Some(Protocol::Udp),
            Self::Sctp(_) => Some(Protocol::Sctp),
            Self::Other => None,
        }
    }

    /// The destination port; `None` for [`Other`](Self::Other).
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Tcp(port) | Self::Udp(port) | Self::Sctp(port) => Some(port),
            Self::Other => None,
        }
    }

    /// Position on the line of all traffic: 65536 ports of TCP, of UDP, of SCTP, and one place for the rest.
    pub(crate) const fn key(self) -> u32 {
        match self {
            Self::Tcp(port) => port as u32,
            Self::Udp(port) => 1 << 16 | port as u32,
            Self::Sctp(port) => 2 << 16 | port as u32,
            Self::Other => OTHER,
        }
    }

    /// The traffic at a position of that line.
    pub(crate) const fn of_key(key: u32) -> Self {
        let port = (key & 0xffff) as u16;
        match key >> 16 {
            0 => Self::Tcp(port),
            1 => Self::Udp(port),
            2 => Self::Sctp(port),
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol(), self.port()) {
            (Some(protocol), Some(port)) => write!(f, "{protocol} {port}"),
            _ => f.write_str("other protocols"),
        }
    }
}

/// Position of all traffic that is neither TCP, UDP nor SCTP.
const OTHER: u32 = 3 << 16;
/// One past the last position.
pub(crate) const END: u32 = OTHER + 1;

const PROTOCOLS: [(Protocol, u32); 3] =
    [(Protocol::Tcp, 0), (Protocol::Udp, 1 << 16), (Protocol::Sctp, 2 << 16)];

/// A set of traffic: which protocols, on which ports.
///
/// Held as sorted, disjoint, non-adjacent intervals, so that equal sets are equal values; every operation is
/// linear in the number of intervals.
///
/// ```
/// use svc_netpol::{PortSet, Traffic};
/// use svc_netpol::model::Protocol;
///
/// let web = PortSet::range(Protocol::Tcp, 80..=81).union(&PortSet::one(Traffic::Tcp(443)));
/// assert_eq!(web.to_string(), "TCP 80-81,443");
/// assert!(web.contains(Traffic::Tcp(443)) && !web.contains(Traffic::Udp(443)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(Vec<(u32, u32)>); // half-open

impl PortSet {
    /// No traffic at all.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// All traffic, other protocols included.
    pub fn all() -> Self {
        Self::interval(0, END)
    }

    /// One port of one protocol, or the other protocols.
    pub fn one(traffic: Traffic) -> Self {
        Self::interval(traffic.key(), traffic.key() + 1)
    }

    /// Every port of a protocol.
    pub fn protocol(protocol: Protocol) -> Self {
        Self::range(protocol, 0..=u16::MAX)
    }

    /// Some ports of a protocol; empty if the range is.
    pub fn range(protocol: Protocol, ports: RangeInclusive<u16>) -> Self {
        Self::interval(
            Traffic::new(protocol, *ports.start()).key(),
            Traffic::new(protocol, *ports.end()).key() + 1,
        )
    }

    pub(crate) fn interval(start: u32, end: u32) -> Self {
        if start < end { Self([(start, end)].into()) } else { Self::empty() }
    }

    pub(crate) fn intervals(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// True if there is nothing in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if all traffic is in the set.
    pub fn is_all(&self) -> bool {
        self.0 == [(0, END)]
    }

    /// True if the set has this traffic.
    pub fn contains(&self, traffic: Traffic) -> bool {
        let key = traffic.key();
        let after = self.0.partition_point(|(start, _)| *start <= key);
        after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|(_, end)| key < *end)
    }

    /// Some traffic of the set: the first of it.
    pub fn first(&self) -> Option<Traffic> {
        self.0.first().map(|(start, _)| Traffic::of_key(*start))
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a || b)
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a && b)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a && !b)
    }

    fn merge(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Self {
        let mut edges: Vec<u32> = Vec::with_capacity(2 * (self.0.len() + other.0.len()));
        edges.extend(self.0.iter().chain(&other.0).flat_map(|(start, end)| [*start, *end]));
        edges.sort_unstable();
        edges.dedup();
        let mut out = Self::empty();
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let inside = |set: &mut core::iter::Peekable<core::slice::Iter<'_, (u32, u32)>>, at: u32| {
            while set.next_if(|(_, end)| *end <= at).is_some() {}
            set.peek().is_some_and(|(start, _)| *start <= at)
        };
        for pair in edges.windows(2) {
            let [start, end] = pair else { continue };
            if keep(inside(&mut mine, *start), inside(&mut theirs, *start)) {
                out.push(*start, *end);
            }
        }
        out
    }

    /// Adds an interval that begins at or after the end of the last one.
    pub(crate) fn push(&mut self, start: u32, end: u32) {
        match self.0.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => self.0.push((start, end)),
        }
    }

    /// The ports of each protocol, in order; [`Traffic::Other`] is not among them, see
    /// [`contains`](Self::contains).
    pub fn ranges(&self) -> impl Iterator<Item = (Protocol, RangeInclusive<u16>)> + '_ {
        PROTOCOLS.into_iter().flat_map(move |(protocol, base)| {
            self.0.iter().filter_map(move |(start, end)| {
                let (start, end) = ((*start).max(base), (*end).min(base + (1 << 16)));
                (start < end).then(|| (protocol, (start & 0xffff) as u16..=((end - 1) & 0xffff) as u16))
            })
        })
    }
}

impl FromIterator<Self> for PortSet {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::empty(), |all, set| all.union(&set))
    }
}

/// `all`, `none`, or protocols with their ports such as `TCP 80,443,8000-8100; UDP; other protocols`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        if self.is_all() {
            return f.write_str("all");
        }
        let mut last = None;
        for (protocol, ports) in self.ranges() {
            let same = last == Some(protocol);
            if !same {
                f.write_str(if last.is_some() { "; " } else { "" })?;
                write!(f, "{protocol}")?;
            }
            last = Some(protocol);
            if ports == (0..=u16::MAX) {
                continue;
            }
            f.write_str(if same { "," } else { " " })?;
            if ports.start() == ports.end() {
                write!(f, "{}", ports.start())?;
            } else {
                write!(f, "{}-{}", ports.start(), ports.end())?;
            }
        }
        if self.contains(Traffic::Other) {
            f.write_str(if last.is_some() { "; other protocols" } else { "other protocols" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn sets() -> impl Strategy<Value = PortSet> {
        // Few distinct edges, so that intervals of two sets meet, overlap and nest.
        proptest::collection::vec((0u32..40, 1u32..9), 0..6).prop_map(|intervals| {
            intervals
                .into_iter()
                .map(|(at, len)| PortSet::interval(at * 5000, (at * 5000 + len * 5000).min(END)))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn operations_are_those_of_sets(a in sets(), b in sets(), key in 0..END) {
            let traffic = Traffic::of_key(key);
            let (in_a, in_b) = (a.contains(traffic), b.contains(traffic));
            prop_assert_eq!(a.union(&b).contains(traffic), in_a || in_b);
            prop_assert_eq!(a.intersection(&b).contains(traffic), in_a && in_b);
            prop_assert_eq!(a.difference(&b).contains(traffic), in_a && !in_b);
            prop_assert_eq!(traffic.key(), key);
        }

        #[test]
        fn equal_sets_are_equal_values(a in sets(), b in sets()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&a).is_empty());
        }
    }

    #[test]
    fn a_set_is_printed_by_protocol() {
        let set = PortSet::protocol(Protocol::Udp)
            .union(&PortSet::one(Traffic::Tcp(80)))
            .union(&PortSet::range(Protocol::Tcp, 8000..=8100))
            .union(&PortSet::one(Traffic::Other));
        assert_eq!(set.to_string(), "TCP 80,8000-8100; UDP; other protocols");
        assert_eq!(PortSet::all().difference(&set).to_string(), "TCP 0-79,81-7999,8101-65535; SCTP");
        assert_eq!(PortSet::range(Protocol::Tcp, RangeInclusive::new(9, 8)).to_string(), "none");
    }
}
