//! A consistent-hash ring with points by weight (ketama).

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::{Choice, Engine, HashKey, Missing, PickReason};
use crate::hash::address_hash;
use crate::pool::{Pool, Slot};
use crate::request::Request;

/// Tells the hashes of clients from those of points.
const CLIENT_SALT: u64 = u64::MAX;

/// Points that are compared at once: a cache line of them.
const BLOCK: usize = 8;

/// How a hash ring is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RingOptions {
    /// What of the client is hashed.
    pub key: HashKey,
    /// Points for each unit of weight. With p points a backend's share varies by about 1 / sqrt(p).
    pub points_per_weight: u32,
    /// No backend has more points than this, however great its weight.
    pub max_points: u32,
}

impl RingOptions {
    /// 128 points for each unit of weight, at most 4096; clients by address.
    pub const DEFAULT: Self = Self { key: HashKey::Address, points_per_weight: 128, max_points: 4096 };

    /// The same with another number of points for each unit of weight.
    #[must_use]
    pub const fn with_points_per_weight(mut self, points: u32) -> Self {
        self.points_per_weight = points;
        self
    }

    /// The same with another bound on the points of one backend.
    #[must_use]
    pub const fn with_max_points(mut self, points: u32) -> Self {
        self.max_points = points;
        self
    }

    /// The same with another key.
    #[must_use]
    pub const fn with_key(mut self, key: HashKey) -> Self {
        self.key = key;
        self
    }

    fn points(&self, weight: u32) -> u32 {
        weight.saturating_mul(self.points_per_weight).clamp(u32::from(weight > 0), self.max_points.max(1))
    }
}

impl Default for RingOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The points in order of their hashes, and where to enter them.
#[derive(Clone, Debug)]
pub(crate) struct Ring<T> {
    points: Vec<(u32, T)>,
    /// By the top bits of a hash: the first point not below them. One entry for two to four points, so that a
    /// lookup reads one cache line of each.
    entries: Vec<u32>,
    shift: u32,
    options: RingOptions,
}

impl<T: Copy> Ring<T> {
    pub(crate) fn new(members: impl Iterator<Item = (T, SocketAddr, u32)>, options: RingOptions) -> Self {
        let mut points: Vec<(u32, T)> = members
            .flat_map(|(member, address, weight)| {
                let count = if weight == 0 { 0 } else { options.points(weight) };
                (0..count).map(move |point| ((address_hash(address, u64::from(point)) >> 32) as u32, member))
            })
            .collect();
        // Stable: should two points collide, the first in the list is met first.
        points.sort_by_key(|(hash, _)| *hash);
        let bits = (points.len() / 4).next_power_of_two().trailing_zeros().clamp(1, 31);
        let shift = u32::BITS - bits;
        let mut entries = Vec::with_capacity(1 << bits);
        let mut at = 0;
        for bucket in 0..1_u32 << bits {
            while points.get(at).is_some_and(|(hash, _)| hash >> shift < bucket) {
                at += 1;
            }
            entries.push(at as u32);
        }
        Self { points, entries, shift, options }
    }

    /// The position of the first point from the client's place on; beyond the last, the first is meant.
    #[inline]
    fn place(&self, client: SocketAddr) -> usize {
        let client = match self.options.key {
            HashKey::Address => SocketAddr::new(client.ip(), 0),
            HashKey::AddressAndPort => client,
        };
        let hash = (address_hash(client, CLIENT_SALT) >> 32) as u32;
        let mut place = self.entries.get((hash >> self.shift) as usize).copied().unwrap_or(0) as usize;
        // How many points are to be skipped is anyone's guess, so they are counted in blocks without a branch on each;
        // a second block is rarely needed.
        while let Some(block) = self.points.get(place..).and_then(|tail| tail.first_chunk::<BLOCK>()) {
            let skipped: usize = block.iter().map(|(point, _)| usize::from(*point < hash)).sum();
            place += skipped;
            if skipped < BLOCK {
                return place;
            }
        }
        let tail = self.points.get(place..).unwrap_or(&[]);
        place + tail.iter().take_while(|(point, _)| *point < hash).count()
    }

    /// The member whose point is the first from the client's place on.
    #[inline]
    pub(crate) fn first(&self, client: SocketAddr) -> Option<T> {
        let place = self.place(client);
        self.points.get(place).or(self.points.first()).map(|(_, member)| *member)
    }

    /// The members of all points from the client's place on, once around.
    pub(crate) fn walk(&self, client: SocketAddr) -> impl Iterator<Item = T> + '_ {
        let (before, after) = self.points.split_at_checked(self.place(client)).unwrap_or((&self.points, &[]));
        after.iter().chain(before).map(|(_, member)| *member)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RingHash {
    ring: Ring<Slot>,
    /// Backends changed since the ring was laid; it is laid anew at the next pick.
    stale: bool,
}

impl RingHash {
    pub(super) fn new(options: RingOptions) -> Self {
        Self { ring: Ring::new(core::iter::empty(), options), stale: true }
    }

    /// As with Maglev, a draining backend keeps its points, so that the others' clients stay.
    #[cold]
    fn lay(&mut self, pool: &Pool) {
        let member = |slot| {
            let details = pool.details(slot);
            (slot, details.backend.address, details.last_weight)
        };
        self.ring = Ring::new(pool.iter().map(member), self.ring.options);
        self.stale = false;
    }
}

impl Engine for RingHash {
    fn added(&mut self, _pool: &Pool, _slot: Slot) {
        self.stale = true;
    }

    fn removed(&mut self, _pool: &Pool, _slot: Slot, _before: Slot) {
        self.stale = true;
    }

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {
        self.stale = true;
    }

    #[inline(never)]
    fn first(&mut self, _pool: &Pool, request: &Request) -> Slot {
        if self.stale { Slot::NONE } else { self.ring.first(request.client).unwrap_or(Slot::NONE) }
    }

    /// Unusable backends are passed over, so only their own clients move.
    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        if self.stale {
            self.lay(pool);
        }
        let mut walk = self.ring.walk(request.client);
        let first = walk.next().filter(|slot| pool[*slot].usable).map(Choice::scheduled);
        first
            .or_else(|| {
                let next = walk.find(|slot| pool[*slot].usable);
                next.map(|slot| Choice { slot, reason: PickReason::Fallback })
            })
            .ok_or(Missing::USABLE)
    }
}
