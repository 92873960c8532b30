//! Allocation of cluster addresses and node ports.
//!
//! A range has a *static band* at its start, which random picks leave alone as long as the *dynamic band*
//! has room, so that addresses chosen by hand seldom clash (KEP-3070, KEP-3668). A value asked for by hand may
//! lie in either band.
//!
//! Allocators draw no randomness of their own: the caller brings an [`Entropy`], which makes an allocation
//! repeatable. From where it points, the search goes forward to the first free value, and round.
//!
//! ```
//! use svc_model::IpFamily;
//! use svc_model::allocation::{ClusterIpAllocator, ClusterIpRange};
//!
//! let mut addresses = ClusterIpAllocator::new(IpFamily::Ipv4);
//! addresses.add_range(ClusterIpRange::new("10.96.0.0/24".parse()?)?)?;
//! addresses.allocate("10.96.0.10".parse()?)?;
//! // The first of the dynamic band, which begins after 16 static addresses.
//! assert_eq!(addresses.allocate_next(&mut |_| 0)?, "10.96.0.17".parse::<core::net::IpAddr>()?);
//! assert_eq!((addresses.used(), addresses.free()), (2, 252));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod bitmap;
mod cluster_ip;
mod node_port;

use core::ops::RangeInclusive;

use smol_str::SmolStr;

use bitmap::Bitmap;
pub use cluster_ip::{ClusterIpAllocator, ClusterIpRange, ClusterIpRangeError};
pub use node_port::{NodePortAllocator, NodePortRange, NodePortRangeError};

/// Where randomness comes from: given a bound, a number below it. A number that is not below wraps around.
pub type Entropy<'a> = dyn FnMut(u64) -> u64 + 'a;

/// The part of a range that a value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Band {
    /// The first values, meant for choices made by hand.
    Static,
    /// The others, from which random picks are taken first.
    Dynamic,
}

/// A value cannot be allocated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// The value is outside the range, or is an address that no Service can have.
    #[error("`{value}` is not in the valid range {range}")]
    NotInRange {
        /// The value that was asked for.
        value: SmolStr,
        /// The range, or ranges.
        range: SmolStr,
    },
    /// Somebody has the value.
    #[error("`{value}` is already allocated")]
    Allocated {
        /// The value that was asked for.
        value: SmolStr,
    },
    /// Nothing is left.
    #[error("the range {range} is full")]
    Full {
        /// The range, or ranges.
        range: SmolStr,
    },
}

/// The values of one range, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers {
    first: u128,
    /// May be 0.
    size: u64,
    static_band: u64,
}

/// The size of the static band: a part of the range between `min` and `max`, and none of a range that is no
/// larger than `min`.
fn static_band(size: u64, part: u64, min: u64, max: u64) -> u64 {
    if size <= min { 0 } else { (size / part).clamp(min, max) }
}

impl Numbers {
    fn offset_of(&self, number: u128) -> Option<u64> {
        let offset = u64::try_from(number.checked_sub(self.first)?).ok()?;
        (offset < self.size).then_some(offset)
    }

    fn contains(&self, number: u128) -> bool {
        self.offset_of(number).is_some()
    }

    fn band_of(&self, number: u128) -> Option<Band> {
        let offset = self.offset_of(number)?;
        Some(if offset < self.static_band { Band::Static } else { Band::Dynamic })
    }

    /// All of them; empty for a range without room.
    fn span(&self) -> RangeInclusive<u128> {
        self.part(0, self.size)
    }

    fn part(&self, from: u64, to: u64) -> RangeInclusive<u128> {
        match to.checked_sub(1) {
            Some(last) => self.first + u128::from(from)..=self.first + u128::from(last),
            None => RangeInclusive::new(1, 0),
        }
    }

    /// A free number: of the dynamic band while it has one, then of the static band.
    fn pick(&self, used: &Bitmap, entropy: &mut Entropy<'_>) -> Option<u128> {
        self.pick_between(self.static_band, self.size, used, entropy)
            .or_else(|| self.pick_between(0, self.static_band, used, entropy))
    }

    fn pick_between(&self, from: u64, to: u64, used: &Bitmap, entropy: &mut Entropy<'_>) -> Option<u128> {
        let room = to.saturating_sub(from);
        // Where there is no room there is nothing to draw.
        let start = from + entropy_below(entropy, room)?;
        used.first_gap(self.part(start, to)).or_else(|| used.first_gap(self.part(from, start)))
    }
}

fn entropy_below(entropy: &mut Entropy<'_>, bound: u64) -> Option<u64> {
    if bound == 0 { None } else { entropy(bound).checked_rem(bound) }
}
