//! What a client notices of the fate of its packet.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use crate::outcome::{Outcome, Verdict, Walk};

/// What becomes of a packet, as far as the two ends of a connection can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It reaches an endpoint.
    Endpoint {
        /// The endpoint.
        address: SocketAddr,
        /// Whether the endpoint sees the client's address.
        source: SourceAddress,
    },
    /// It reaches the node itself, at the address that it was sent to.
    Node,
    /// It is sent on as it is, as if there were no Service.
    Onward,
    /// It is refused at once.
    Rejected,
    /// Nothing comes back.
    Dropped,
    /// The kernel's routing discards it.
    Unroutable,
    /// The rules say something that is not understood.
    Unknown,
}

/// The source address at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceAddress {
    /// As the client sent it.
    Kept,
    /// The node's.
    Masqueraded,
}

impl Fate {
    /// The fate that an outcome is.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let source =
            if outcome.source_nat.is_some() { SourceAddress::Masqueraded } else { SourceAddress::Kept };
        match &outcome.verdict {
            Verdict::Deliver | Verdict::Forward(_) if outcome.dnat => {
                Self::Endpoint { address: outcome.destination, source }
            }
            Verdict::Deliver => Self::Node,
            Verdict::Forward(_) => Self::Onward,
            Verdict::Reject(_) => Self::Rejected,
            Verdict::Drop => Self::Dropped,
            Verdict::Martian | Verdict::NoRoute => Self::Unroutable,
            Verdict::Unknown(_) => Self::Unknown,
        }
    }

    /// The endpoint that is reached.
    #[must_use]
    pub const fn endpoint(self) -> Option<SocketAddr> {
        match self {
            Self::Endpoint { address, .. } => Some(address),
            _ => None,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { address, source: SourceAddress::Kept } => write!(f, "{address}"),
            Self::Endpoint { address, source: SourceAddress::Masqueraded } => {
                write!(f, "{address} (masqueraded)")
            }
            Self::Node => f.write_str("the node itself"),
            Self::Onward => f.write_str("sent on as it is"),
            Self::Rejected => f.write_str("refused"),
            Self::Dropped => f.write_str("dropped"),
            Self::Unroutable => f.write_str("not routed"),
            Self::Unknown => f.write_str("not known"),
        }
    }
}

/// All fates that a packet may have, each with its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    fates: Vec<(Fate, f64)>,
}

impl Answer {
    /// What a walk answers.
    #[must_use]
    pub fn of(walk: &Walk) -> Self {
        Self::new(walk.outcomes.iter().map(|outcome| (Fate::of(outcome), outcome.probability.value())))
    }

    /// An answer of these fates with their probabilities; equal fates are put together.
    #[must_use]
    pub fn new(fates: impl IntoIterator<Item = (Fate, f64)>) -> Self {
        let mut fates: Vec<_> = fates.into_iter().collect();
        fates.sort_by_key(|(fate, _)| *fate);
        fates.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        Self { fates }
    }

    /// The fates in order, with their probabilities.
    pub fn fates(&self) -> impl ExactSizeIterator<Item = (Fate, f64)> {
        self.fates.iter().copied()
    }

    /// The only fate, if nothing is left to chance.
    #[must_use]
    pub fn certain(&self) -> Option<Fate> {
        match self.fates.as_slice() {
            [(fate, _)] => Some(*fate),
            _ => None,
        }
    }

    /// Endpoints that are reached, in order; twice if with and without masquerading.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.fates.iter().filter_map(|(fate, _)| fate.endpoint())
    }

    /// Whether only endpoints are reached.
    #[must_use]
    pub fn is_served(&self) -> bool {
        !self.fates.is_empty() && self.fates.iter().all(|(fate, _)| fate.endpoint().is_some())
    }

    /// The same without regard to what the endpoints see of the client's address.
    #[must_use]
    pub fn ignoring_source(&self) -> Self {
        Self::new(self.fates().map(|(fate, share)| match fate {
            Fate::Endpoint { address, .. } => {
                (Fate::Endpoint { address, source: SourceAddress::Kept }, share)
            }
            other => (other, share),
        }))
    }

    /// Whether both are the same fates, with the same probabilities up to the grain of the kernel's draws.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        // iptables writes ten digits of each draw, so n draws are off by less than n of the last digit.
        const GRAIN: f64 = 1e-6;
        self.fates.len() == other.fates.len()
            && self.fates.iter().zip(&other.fates).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < GRAIN)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (index, (fate, share)) in self.fates.iter().enumerate() {
            if index == SHOWN {
                return write!(f, " and {} more", self.fates.len() - SHOWN);
            }
            f.write_str(if index > 0 { ", " } else { "" })?;
            if *share < 1.0 - 1e-6 {
                write!(f, "{:.0}% ", share * 100.0)?;
            }
            write!(f, "{fate}")?;
        }
        Ok(())
    }
}
