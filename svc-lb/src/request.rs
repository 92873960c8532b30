//! All that a pick may depend on besides the backends: who asks, for what, when, and one random number.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

/// A new connection (or request) that needs a backend.
///
/// Nothing is read from the system: the caller passes the time and the entropy. Schedulers use what
/// they need and ignore the rest, so a plain [`Request::new`] is enough for all that are neither
/// random nor timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Request {
    /// Source address and port.
    pub client: SocketAddr,
    /// The virtual address and port that was asked for. Read by `dh`, `lblc` and `lblcr` alone.
    pub destination: SocketAddr,
    /// Time since an epoch of the caller's choice; must not go backwards for one balancer (a smaller value
    /// counts as the greatest one seen). Read by affinity, `lblc` and `lblcr`.
    pub now: Duration,
    /// 64 uniformly random bits, new for each request. Read by the random schedulers.
    pub entropy: u64,
}

impl Request {
    /// A request from `client` to an unspecified destination at time zero.
    pub const fn new(client: SocketAddr) -> Self {
        let unspecified = SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0);
        Self { client, destination: unspecified, now: Duration::ZERO, entropy: 0 }
    }

    /// The same to this virtual address.
    #[must_use]
    pub const fn to(mut self, destination: SocketAddr) -> Self {
        self.destination = destination;
        self
    }

    /// The same at this time.
    #[must_use]
    pub const fn at(mut self, now: Duration) -> Self {
        self.now = now;
        self
    }

    /// The same with these random bits.
    #[must_use]
    pub const fn with_entropy(mut self, entropy: u64) -> Self {
        self.entropy = entropy;
        self
    }
}

/// Stretches one 64-bit random number into as many as a scheduler needs (SplitMix64, Steele et al. 2014).
///
/// Good for spreading load, not for secrets. Callers who have no generator at hand can keep one of these,
/// seeded once, and give each [`Request`] its [`next`](Self::next).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that starts from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, by multiply and shift: each value's probability is off by less than
    /// `bound / 2^64`. Zero if `bound` is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        scale(self.next(), bound)
    }
}

/// Maps 64 random bits onto `0..bound`.
#[inline]
pub(crate) const fn scale(random: u64, bound: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}
