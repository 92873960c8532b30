//! Locality-based least connection (`ip_vs_lblc.c`): a virtual address keeps its server.

use core::time::Duration;

use super::ranked::{Spare, Wlc};
use super::{CacheOptions, Choice, Engine, Missing, PickReason};
use crate::hash::widen;
use crate::lru::Lru;
use crate::pool::{Pool, Slot};
use crate::request::Request;
use crate::tournament::Tournament;

/// Every 30th run of the one-minute timer drops what expired (`COUNT_FOR_FULL_EXPIRATION`).
const SWEEP: Duration = Duration::from_secs(30 * 60);

/// What `lblc` and `lblcr` share: the least loaded backend overall, and whether a cached one has too much to do.
#[derive(Clone, Debug)]
pub(super) struct Locality {
    least: Tournament<Wlc>,
    spare: Tournament<Spare>,
    pub(super) options: CacheOptions,
    created: Duration,
}

impl Locality {
    pub(super) fn new(pool: &Pool, options: CacheOptions, now: Duration) -> Self {
        Self { least: Tournament::new(pool), spare: Tournament::new(pool), options, created: now }
    }

    pub(super) fn least(&self) -> Result<Slot, Missing> {
        self.least.winner().some().ok_or(Missing::USABLE)
    }

    /// More active connections than its weight, while another has less than half of its own.
    pub(super) fn overloaded(&self, pool: &Pool, slot: Slot) -> bool {
        let entry = &pool[slot];
        entry.active > entry.weight && self.spare.is_negative()
    }

    /// Whether a full sweep has dropped an entry last used then.
    pub(super) fn expired(&self, used: Duration, now: Duration) -> bool {
        let sweeps = now.saturating_sub(self.created).as_secs() / SWEEP.as_secs();
        let last = self.created.saturating_add(Duration::from_secs(sweeps * SWEEP.as_secs()));
        sweeps > 0 && last >= used.saturating_add(self.options.expiration)
    }

    pub(super) fn added(&mut self, pool: &Pool, slot: Slot) {
        self.least.added(pool, slot);
        self.spare.added(pool, slot);
    }

    pub(super) fn removed(&mut self, pool: &Pool, slot: Slot) {
        self.least.removed(pool, slot);
        self.spare.removed(pool, slot);
    }

    pub(super) fn update(&mut self, pool: &Pool, slot: Slot) {
        self.least.update(pool, slot);
        self.spare.update(pool, slot);
    }

    pub(super) fn rebuild(&mut self, pool: &Pool) {
        self.least.rebuild(pool);
        self.spare.rebuild(pool);
    }
}

#[derive(Clone, Copy, Debug)]
struct Cached {
    slot: Slot,
    used: Duration,
}

impl Default for Cached {
    fn default() -> Self {
        Self { slot: Slot::NONE, used: Duration::ZERO }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Lblc {
    locality: Locality,
    cache: Lru<Cached>,
}

impl Lblc {
    pub(super) fn new(pool: &Pool, options: CacheOptions, now: Duration) -> Self {
        Self { locality: Locality::new(pool, options, now), cache: Lru::new(options.capacity, 0) }
    }
}

impl Engine for Lblc {
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
        let mut known = None;
        if let Some((_, cached)) = self.cache.touch(key) {
            let entry = &pool[cached.slot];
            let alive = !self.locality.expired(cached.used, now);
            cached.used = now;
            if alive && entry.configured && entry.weight > 0 && !self.locality.overloaded(pool, cached.slot) {
                return Ok(Choice { slot: cached.slot, reason: PickReason::Cached });
            }
            known = Some(cached.slot);
        }
        let slot = self.locality.least()?;
        pool.hold(slot);
        let replaced = match (known, self.cache.peek_mut(key)) {
            (Some(old), Some(cached)) => {
                cached.slot = slot;
                Some(old)
            }
            _ => self.cache.insert(0, key, Cached { slot, used: now }).1.map(|evicted| evicted.slot),
        };
        if let Some(slot) = replaced {
            pool.release(slot, now);
        }
        Ok(Choice::scheduled(slot))
    }

    fn clear(&mut self, pool: &mut Pool, now: Duration) {
        for cached in self.cache.drain() {
            pool.release(cached.slot, now);
        }
    }
}
