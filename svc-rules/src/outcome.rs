//! What becomes of a packet: the one vocabulary in which every backend answers.
//!
//! Rules may draw random numbers, so one packet has several possible fates. [`Walk`] lists them all with their
//! probabilities; they sum to one.
//!
//! Probabilities are `f64`. A `statistic` rule compares 31 random bits with a threshold, and `numgen random mod N`
//! draws one of N numbers, so each single draw is exact in a double (or correctly rounded), and a chain of n
//! draws multiplies n such factors: the error stays below n times 2^-53, far under the 2^-31 grain of the kernel's
//! own draw. Exact fractions would need numerators of thousands of bits for a Service with many endpoints.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use smol_str::SmolStr;

use crate::packet::Family;

/// A point of the kernel's packet path where chains are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// After reception, before routing.
    Prerouting,
    /// Routed to a process of this host.
    Input,
    /// Routed through this host.
    Forward,
    /// Sent by a process of this host.
    Output,
    /// About to leave, or to loop back.
    Postrouting,
}

impl Hook {
    /// The builtin chain of iptables at this hook.
    pub const fn chain(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }

    /// The name nftables uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// How a refused packet is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectWith {
    /// ICMP port unreachable: the client sees "connection refused". The default of both families.
    PortUnreachable,
    /// ICMP net unreachable (IPv4) or no route (IPv6).
    NetUnreachable,
    /// ICMP host unreachable (IPv4) or address unreachable (IPv6).
    HostUnreachable,
    /// ICMP protocol unreachable (IPv4 only).
    ProtocolUnreachable,
    /// ICMP network prohibited (IPv4 only).
    NetProhibited,
    /// ICMP host prohibited (IPv4 only).
    HostProhibited,
    /// ICMP administratively prohibited.
    AdminProhibited,
    /// ICMPv6 policy failed (IPv6 only).
    PolicyFail,
    /// ICMPv6 reject route (IPv6 only).
    RejectRoute,
    /// A TCP reset.
    TcpReset,
}

impl RejectWith {
    const V4: [(Self, &'static str, &'static str); 8] = [
        (Self::PortUnreachable, "icmp-port-unreachable", "port-unreach"),
        (Self::NetUnreachable, "icmp-net-unreachable", "net-unreach"),
        (Self::HostUnreachable, "icmp-host-unreachable", "host-unreach"),
        (Self::ProtocolUnreachable, "icmp-proto-unreachable", "prot-unreach"),
        (Self::NetProhibited, "icmp-net-prohibited", "net-prohib"),
        (Self::HostProhibited, "icmp-host-prohibited", "host-prohib"),
        (Self::AdminProhibited, "icmp-admin-prohibited", "admin-prohib"),
        (Self::TcpReset, "tcp-reset", "tcp-rst"),
    ];
    const V6: [(Self, &'static str, &'static str); 7] = [
        (Self::PortUnreachable, "icmp6-port-unreachable", "port-unreach"),
        (Self::NetUnreachable, "icmp6-no-route", "no-route"),
        (Self::HostUnreachable, "icmp6-addr-unreachable", "addr-unreach"),
        (Self::AdminProhibited, "icmp6-adm-prohibited", "adm-prohibited"),
        (Self::PolicyFail, "icmp6-policy-fail", "policy-fail"),
        (Self::RejectRoute, "icmp6-reject-route", "reject-route"),
        (Self::TcpReset, "tcp-reset", "tcp-rst"),
    ];

    const fn names(family: Family) -> &'static [(Self, &'static str, &'static str)] {
        match family {
            Family::V4 => &Self::V4,
            Family::V6 => &Self::V6,
        }
    }

    /// The word that `iptables-save` (or `ip6tables-save`) prints; `None` if the family has no such answer.
    pub fn name(self, family: Family) -> Option<&'static str> {
        Self::names(family).iter().find(|(with, ..)| *with == self).map(|(_, name, _)| *name)
    }

    /// Reads the long or the short word of `--reject-with`.
    pub fn parse(text: &str, family: Family) -> Option<Self> {
        Self::names(family)
            .iter()
            .find(|(_, long, short)| *long == text || *short == text)
            .map(|(with, ..)| *with)
    }
}

/// Probability of an outcome, in 0..=1. See the module text for why a double is exact enough.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Probability(f64);

impl Probability {
    /// Certainty.
    pub const ONE: Self = Self(1.0);

    /// The value, in 0..=1.
    pub const fn value(self) -> f64 {
        self.0
    }

    /// Whether this is `1/n` up to the grain of the kernel's 31-bit draw, for `n` outcomes drawn one after another.
    pub fn is_one_in(self, n: usize) -> bool {
        let want = 1.0 / n.max(1) as f64;
        (self.0 - want).abs() < 1.0 / 2_147_483_648.0
    }

    /// This and then an event of probability `factor` (clamped to 0..=1).
    pub(crate) fn and(self, factor: f64) -> Self {
        Self(self.0 * factor.clamp(0.0, 1.0))
    }

    /// Either of two exclusive events.
    pub(crate) fn or(self, other: Self) -> Self {
        Self((self.0 + other.0).min(1.0))
    }

    /// None at all, the start of a sum.
    pub(crate) const ZERO: Self = Self(0.0);
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a walk could not be carried to its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// A match that this crate does not interpret decides whether the rule applies; its text.
    Match(SmolStr),
    /// A target that this crate does not interpret was reached; its text.
    Target(SmolStr),
    /// A set is consulted whose content was not given.
    Set(SmolStr),
    /// The outgoing interface decides, and the host's routes were not given.
    Route,
    /// A jump to a chain that does not exist.
    Chain(SmolStr),
    /// Jumps nested deeper than the kernel allows, so a loop.
    Loop,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(text) => write!(f, "match `{text}` is not understood"),
            Self::Target(text) => write!(f, "target `{text}` is not understood"),
            Self::Set(name) => write!(f, "content of set `{name}` is not known"),
            Self::Route => f.write_str("outgoing interface is not known"),
            Self::Chain(name) => write!(f, "chain `{name}` does not exist"),
            Self::Loop => f.write_str("chains jump in a circle"),
        }
    }
}

/// The end of one possible path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Delivered to a socket of this host.
    Deliver,
    /// Sent on, out of the named interface (where the host's routes tell it).
    Forward(Option<SmolStr>),
    /// Silently discarded by the last rule or policy in [`Outcome::hits`].
    Drop,
    /// Refused with an answer to the sender.
    Reject(RejectWith),
    /// Discarded by routing, not by a rule: a loopback address on the wire without `route_localnet`.
    Martian,
    /// Discarded by routing: no route leads to the destination.
    NoRoute,
    /// Not decided, and why. Never a guess.
    Unknown(Unknown),
}

impl Verdict {
    /// Whether the packet gets through, to this host or beyond.
    pub const fn is_accept(&self) -> bool {
        matches!(self, Self::Deliver | Self::Forward(_))
    }
}

/// Rewriting of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceNat {
    /// The address of the outgoing interface (`MASQUERADE`).
    Masquerade {
        /// Whether source ports are drawn at random (`--random-fully`, `fully-random`).
        fully_random: bool,
    },
    /// A fixed address (`SNAT`).
    To(IpAddr),
}

/// A change to a list of remembered clients (`recent` lists, dynamic sets of nftables).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AffinityUpdate {
    /// Name of the list or set.
    pub list: SmolStr,
    /// The client.
    pub address: IpAddr,
    /// What else is in the key, as nft writes it; empty where the client alone is remembered.
    pub rest: SmolStr,
    /// For how long; without it, as the list says.
    pub timeout: Option<Duration>,
    /// What is done with it.
    pub action: AffinityAction,
}

/// What a rule does to a remembered client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AffinityAction {
    /// Remembered from now on, or remembered anew.
    Remember,
    /// Forgotten.
    Forget,
}

/// What a rule that matched did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Counted, commented or logged only; the walk goes on.
    Continue,
    /// Jumped to a chain, to come back at its end.
    Jump(SmolStr),
    /// Went to a chain without coming back here.
    Goto(SmolStr),
    /// Left the chain.
    Return,
    /// Let it pass this base chain.
    Accept,
    /// Dropped it.
    Drop,
    /// Refused it.
    Reject(RejectWith),
    /// Set the mark to this value.
    Mark(u32),
    /// Wrote an address into the packet, without a translation.
    Write(IpAddr),
    /// Rewrote the destination.
    Dnat(SocketAddr),
    /// Rewrote the source.
    Snat(SourceNat),
    /// Could not be told.
    Unknown(Unknown),
}

/// One rule on the path of a packet (or a base chain's policy).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hit {
    /// Hook at which it happened.
    pub hook: Hook,
    /// Table of the rule.
    pub table: SmolStr,
    /// Chain of the rule.
    pub chain: SmolStr,
    /// Place in the chain, from 1 as `iptables -L --line-numbers` counts; `None` for the policy of a base chain.
    pub rule: Option<usize>,
    /// The rule's comment.
    pub comment: Option<SmolStr>,
    /// What it did.
    pub effect: Effect,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.hook.name(), self.table, self.chain)?;
        match self.rule {
            Some(number) => write!(f, " rule {number}")?,
            None => f.write_str(" policy")?,
        }
        match &self.effect {
            Effect::Continue => f.write_str(" matched")?,
            Effect::Jump(chain) => write!(f, " jumped to {chain}")?,
            Effect::Goto(chain) => write!(f, " went to {chain}")?,
            Effect::Return => f.write_str(" returned")?,
            Effect::Accept => f.write_str(" accepted")?,
            Effect::Drop => f.write_str(" dropped")?,
            Effect::Reject(_) => f.write_str(" rejected")?,
            Effect::Mark(mark) => write!(f, " set mark {mark:#x}")?,
            Effect::Write(address) => write!(f, " wrote the address {address}")?,
            Effect::Dnat(to) => write!(f, " rewrote the destination to {to}")?,
            Effect::Snat(SourceNat::Masquerade { .. }) => f.write_str(" masqueraded")?,
            Effect::Snat(SourceNat::To(to)) => write!(f, " rewrote the source to {to}")?,
            Effect::Unknown(why) => write!(f, " stopped: {why}")?,
        }
        match &self.comment {
            Some(comment) => write!(f, " ({comment})"),
            None => Ok(()),
        }
    }
}

/// One possible fate of a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How likely it is.
    pub probability: Probability,
    /// How it ends.
    pub verdict: Verdict,
    /// Destination at the end, rewritten or not.
    pub destination: SocketAddr,
    /// Whether the destination was rewritten by this walk.
    pub dnat: bool,
    /// How the source is rewritten.
    pub source_nat: Option<SourceNat>,
    /// The mark at the end.
    pub mark: u32,
    /// What is remembered of the client, in order.
    pub affinity: Vec<AffinityUpdate>,
    /// Every rule that matched, in order.
    pub hits: Vec<Hit>,
}

impl Outcome {
    /// The path in words, one rule a line.
    pub fn explain(&self) -> String {
        use fmt::Write;
        let mut text = String::new();
        for hit in &self.hits {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{hit}");
        }
        text
    }
}

/// All possible fates of one packet, most likely first, ties in order of their destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Walk {
    /// The fates; their probabilities sum to one. Never empty.
    pub outcomes: Vec<Outcome>,
}

impl Walk {
    /// The only outcome, if nothing is left to chance.
    pub fn certain(&self) -> Option<&Outcome> {
        match self.outcomes.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Where accepted packets end up, with the probability of each place, in order of address and port.
    pub fn destinations(&self) -> Vec<(SocketAddr, Probability)> {
        let mut all: Vec<(SocketAddr, Probability)> = Vec::new();
        let mut accepted: Vec<&Outcome> = self.outcomes.iter().filter(|o| o.verdict.is_accept()).collect();
        accepted.sort_by_key(|o| o.destination);
        for outcome in accepted {
            match all.last_mut() {
                Some((place, sum)) if *place == outcome.destination => *sum = sum.or(outcome.probability),
                _ => all.push((outcome.destination, Probability::ZERO.or(outcome.probability))),
            }
        }
        all
    }

    /// Probability that the packet gets through.
    pub fn accepted(&self) -> Probability {
        self.outcomes
            .iter()
            .filter(|o| o.verdict.is_accept())
            .fold(Probability::ZERO, |sum, o| sum.or(o.probability))
    }
}
