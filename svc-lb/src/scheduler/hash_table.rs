//! Source and destination hashing over 256 buckets (`ip_vs_sh.c`, `ip_vs_dh.c`).

use alloc::boxed::Box;
use core::net::SocketAddr;
use core::time::Duration;

use super::{Choice, Engine, Fallback, HashFlags, HashKey, Missing, PickReason};
use crate::hash::{fold, hash_32};
use crate::pool::{Pool, Slot};
use crate::request::Request;

const BITS: u32 = 8;
const SIZE: usize = 1 << BITS;

#[derive(Clone, Debug)]
pub(crate) struct HashTable {
    buckets: Box<[Slot; SIZE]>,
    key: Key,
    /// Backends changed since the buckets were dealt; they are dealt anew at the next pick.
    stale: bool,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    Source(HashFlags),
    Destination,
}

/// Deals the buckets: each backend in turn gets as many in a row as its weight says, and at least one.
pub(crate) fn source_table<T: Copy>(
    members: impl Iterator<Item = (T, u32)> + Clone,
    empty: T,
) -> Box<[T; SIZE]> {
    let mut buckets = Box::new([empty; SIZE]);
    let dealt = members
        .clone()
        .cycle()
        .flat_map(|(member, weight)| core::iter::repeat_n(member, weight.max(1) as usize));
    if members.clone().next().is_some() {
        for (bucket, member) in buckets.iter_mut().zip(dealt) {
            *bucket = member;
        }
    }
    buckets
}

/// The bucket of a client, or that of a probe of the fallback. The port goes in before the multiplication
/// (`ip_vs_sh_hashkey`); the probes' offset starts at the hash itself, so that they start at twice the hash
/// (`ip_vs_sh_get_fallback`).
pub(crate) fn source_bucket(client: SocketAddr, key: HashKey, probe: Option<usize>) -> usize {
    let port = match key {
        HashKey::Address => 0,
        HashKey::AddressAndPort => u32::from(client.port()),
    };
    let hash = hash_32(fold(&client).wrapping_add(port), BITS) as usize;
    probe.map_or(hash, |offset| (hash + (offset + hash) % SIZE) % SIZE)
}

/// The bucket of a virtual address.
pub(crate) fn destination_bucket(destination: SocketAddr) -> usize {
    hash_32(fold(&destination), BITS) as usize
}

impl HashTable {
    pub(super) fn source(flags: HashFlags) -> Self {
        Self { buckets: Box::new([Slot::NONE; SIZE]), key: Key::Source(flags), stale: true }
    }

    pub(super) fn destination() -> Self {
        Self { buckets: Box::new([Slot::NONE; SIZE]), key: Key::Destination, stale: true }
    }

    #[cold]
    fn fill(&mut self, pool: &Pool) {
        self.stale = false;
        let by_weight = matches!(self.key, Key::Source(_));
        let weight = |slot: Slot| if by_weight { pool.details(slot).backend.weight } else { 1 };
        self.buckets = source_table(pool.iter().map(|slot| (slot, weight(slot))), Slot::NONE);
    }

    #[inline]
    fn bucket(&self, bucket: usize) -> Slot {
        self.buckets.get(bucket).copied().unwrap_or(Slot::NONE)
    }

    /// Where the hash leads.
    #[inline]
    fn lookup(&self, request: &Request) -> Slot {
        self.bucket(match self.key {
            Key::Source(flags) => source_bucket(request.client, flags.key, None),
            Key::Destination => destination_bucket(request.destination),
        })
    }
}

impl Engine for HashTable {
    fn added(&mut self, _pool: &Pool, _slot: Slot) {
        self.stale = true;
    }

    fn removed(&mut self, _pool: &Pool, _slot: Slot, _before: Slot) {
        self.stale = true;
    }

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {
        self.stale = true;
    }

    #[inline]
    fn first(&mut self, _pool: &Pool, request: &Request) -> Slot {
        if self.stale { Slot::NONE } else { self.lookup(request) }
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        if self.stale {
            self.fill(pool);
        }
        let Some(slot) = self.lookup(request).some() else { return Err(Missing::USABLE) };
        let flags = match self.key {
            Key::Source(flags) => flags,
            Key::Destination => HashFlags::NONE,
        };
        if pool[slot].usable {
            return Ok(Choice::scheduled(slot));
        }
        if flags.fallback == Fallback::Refuse {
            return Err(Missing::hashed(slot));
        }
        (0..SIZE)
            .map(|probe| self.bucket(source_bucket(request.client, flags.key, Some(probe))))
            .find(|slot| pool.is_usable(*slot))
            .map(|slot| Choice { slot, reason: PickReason::Fallback })
            .ok_or(Missing::USABLE)
    }
}
