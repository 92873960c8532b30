//! Locality-based least connection with replication (`ip_vs_lblcr.c`): a virtual address has a set of servers,
//! which grows when they are overloaded and shrinks when it has not changed for long.

use alloc::vec::Vec;
use core::time::Duration;

use super::lblc::Locality;
use super::{CacheOptions, Choice, Engine, Missing, PickReason};
use crate::hash::widen;
use crate::lru::Lru;
use crate::pool::{Pool, Slot};
use crate::request::Request;
use crate::scheduler::ranked::overhead;
use crate::tournament::Ratio;

/// The servers of one virtual address.
#[derive(Clone, Debug, Default)]
struct ServerSet {
    /// The newest last; the kernel's list runs the other way.
    servers: Vec<Slot>,
    modified: Duration,
    used: Duration,
}

fn load(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    Ratio { cost: i64::from(overhead(pool.rules(), entry)), weight: entry.weight }
}

impl ServerSet {
    /// The first of the least loaded that can be used (`ip_vs_dest_set_min`).
    fn least(&self, pool: &Pool) -> Option<Slot> {
        let usable = self.servers.iter().rev().copied().filter(|slot| pool[*slot].usable);
        usable.reduce(|best, slot| if load(pool, slot).beats(load(pool, best)) { slot } else { best })
    }

    /// The first of the most loaded that have a weight (`ip_vs_dest_set_max`).
    fn most(&self, pool: &Pool) -> Option<Slot> {
        let weighted = self.servers.iter().rev().copied().filter(|slot| pool[*slot].weight > 0);
        weighted.reduce(|worst, slot| if load(pool, worst).beats(load(pool, slot)) { slot } else { worst })
    }

    fn insert(&mut self, pool: &mut Pool, slot: Slot, now: Duration) {
        if !self.servers.contains(&slot) {
            self.servers.push(slot);
            self.modified = now;
            pool.hold(slot);
        }
    }

    fn remove(&mut self, pool: &mut Pool, slot: Slot, now: Duration) {
        self.servers.retain(|other| *other != slot);
        self.modified = now;
        pool.release(slot, now);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Lblcr {
    locality: Locality,
    cache: Lru<ServerSet>,
}

impl Lblcr {
    pub(super) fn new(pool: &Pool, options: CacheOptions, now: Duration) -> Self {
        Self { locality: Locality::new(pool, options, now), cache: Lru::new(options.capacity, 0) }
    }
}

fn release_all(set: ServerSet, pool: &mut Pool, now: Duration) {
    for slot in set.servers {
        pool.release(slot, now);
    }
}

impl Engine for Lblcr {
    fn added(&mut self, pool: &Pool, slot: Slot) {
        self.locality.added(pool, slot);
    }

    fn removed(&mut self, pool: &Pool, slot: Slot, _before: Slot) {
        self.locality.removed(pool, slot);
    }

    fn edited(&mut self, pool: &Pool, slot: Slot) {
        self.locality.update(pool, slot);
    }

    fn loaded(&mut self, pool: &Pool, slot: Slot) {
        self.locality.update(pool, slot);
    }

    fn reloaded(&mut self, pool: &Pool) {
        self.locality.rebuild(pool);
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, now: Duration) -> Result<Choice, Missing> {
        let key = widen(request.destination.ip());
        if let Some((_, set)) = self.cache.touch(key) {
            if self.locality.expired(set.used, now) {
                release_all(core::mem::take(set), pool, now);
            }
            set.used = now;
            let least = set.least(pool);
            // The pick is made already: a member can take one more connection as it leaves.
            let settled = set.modified.saturating_add(self.locality.options.expiration);
            if set.servers.len() > 1
                && now > settled
                && let Some(most) = set.most(pool)
            {
                set.remove(pool, most, now);
            }
            if let Some(slot) = least
                && !self.locality.overloaded(pool, slot)
            {
                return Ok(Choice { slot, reason: PickReason::Cached });
            }
            let slot = self.locality.least()?;
            set.insert(pool, slot, now);
            return Ok(Choice::scheduled(slot));
        }
        let slot = self.locality.least()?;
        let mut set = ServerSet { used: now, ..ServerSet::default() };
        set.insert(pool, slot, now);
        if let Some(evicted) = self.cache.insert(0, key, set).1 {
            release_all(evicted, pool, now);
        }
        Ok(Choice::scheduled(slot))
    }

    fn clear(&mut self, pool: &mut Pool, now: Duration) {
        for set in self.cache.drain() {
            release_all(set, pool, now);
        }
    }
}
