//! Locality-based least connection: a virtual address keeps its server (`ip_vs_lblc.c`), or its set of servers, which
//! grows when they are overloaded and shrinks when it has not changed for long (`ip_vs_lblcr.c`).

use alloc::vec::Vec;
use core::time::Duration;

use super::ranked::{Spare, Wlc, overhead};
use super::{CacheOptions, Choice, Engine, Missing, PickReason};
use crate::hash::widen;
use crate::lru::Lru;
use crate::pool::{Pool, Slot};
use crate::request::Request;
use crate::tournament::{Ratio, Tournament};

/// Every 30th run of the one-minute timer drops what expired (`COUNT_FOR_FULL_EXPIRATION`).
const SWEEP: Duration = Duration::from_secs(30 * 60);

/// What is remembered of a virtual address. All slots in it are held.
pub(crate) trait Servers: Clone + Default {
    /// The server to stay with, if one can be used. What was settled for `expiration` may shrink.
    fn find(&mut self, pool: &mut Pool, expiration: Duration, now: Duration) -> Option<Slot>;

    /// The server that is chosen instead.
    fn adopt(&mut self, pool: &mut Pool, slot: Slot, now: Duration);

    /// Lets go of all.
    fn forget(&mut self, pool: &mut Pool, now: Duration);
}

/// The one server of `lblc`; [`Slot::NONE`] at first.
#[derive(Clone, Debug)]
pub(crate) struct One(Slot);

impl Default for One {
    fn default() -> Self {
        Self(Slot::NONE)
    }
}

impl Servers for One {
    /// An overloaded one (by its thresholds) too; the kernel looks at the weight alone here.
    fn find(&mut self, pool: &mut Pool, _expiration: Duration, _now: Duration) -> Option<Slot> {
        self.0.some().filter(|slot| pool[*slot].configured && pool[*slot].weight > 0)
    }

    fn adopt(&mut self, pool: &mut Pool, slot: Slot, now: Duration) {
        pool.hold(slot);
        self.forget(pool, now);
        self.0 = slot;
    }

    fn forget(&mut self, pool: &mut Pool, now: Duration) {
        if let Some(slot) = core::mem::take(self).0.some() {
            pool.release(slot, now);
        }
    }
}

/// The servers of `lblcr`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    /// The newest last; the kernel's list runs the other way.
    servers: Vec<Slot>,
    modified: Duration,
}

fn load(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    Ratio { cost: i64::from(overhead(pool.rules(), entry)), weight: entry.weight }
}

impl Set {
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
}

impl Servers for Set {
    fn find(&mut self, pool: &mut Pool, expiration: Duration, now: Duration) -> Option<Slot> {
        let least = self.least(pool);
        // The pick is made already: a member can take one more connection as it leaves.
        if self.servers.len() > 1
            && now > self.modified.saturating_add(expiration)
            && let Some(most) = self.most(pool)
        {
            self.servers.retain(|other| *other != most);
            self.modified = now;
            pool.release(most, now);
        }
        least
    }

    fn adopt(&mut self, pool: &mut Pool, slot: Slot, now: Duration) {
        if !self.servers.contains(&slot) {
            self.servers.push(slot);
            self.modified = now;
            pool.hold(slot);
        }
    }

    fn forget(&mut self, pool: &mut Pool, now: Duration) {
        for slot in core::mem::take(self).servers {
            pool.release(slot, now);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Cached<S> {
    servers: S,
    used: Duration,
}

/// The backends by their load.
#[derive(Clone, Debug)]
struct Loads {
    least: Tournament<Wlc>,
    spare: Tournament<Spare>,
}

impl Loads {
    fn least(&self) -> Result<Slot, Missing> {
        self.least.winner().some().ok_or(Missing::USABLE)
    }

    /// More active connections than its weight, while another has less than half of its own.
    fn overloaded(&self, pool: &Pool, slot: Slot) -> bool {
        let entry = &pool[slot];
        entry.active > entry.weight && self.spare.is_negative()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Locality<S> {
    loads: Loads,
    options: CacheOptions,
    created: Duration,
    cache: Lru<Cached<S>>,
}

impl<S: Servers> Locality<S> {
    pub(super) fn new(pool: &Pool, options: CacheOptions, created: Duration) -> Self {
        let loads = Loads { least: Tournament::new(pool), spare: Tournament::new(pool) };
        Self { loads, options, created, cache: Lru::new(options.capacity, 0) }
    }

    fn update(&mut self, pool: &Pool, slot: Slot) {
        self.loads.least.update(pool, slot);
        self.loads.spare.update(pool, slot);
    }
}

/// Whether a full sweep has dropped an entry last used then.
fn expired(created: Duration, expiration: Duration, used: Duration, now: Duration) -> bool {
    let sweeps = now.saturating_sub(created).as_secs() / SWEEP.as_secs();
    let last = created.saturating_add(Duration::from_secs(sweeps * SWEEP.as_secs()));
    sweeps > 0 && last >= used.saturating_add(expiration)
}

impl<S: Servers> Engine for Locality<S> {
    fn added(&mut self, pool: &Pool, slot: Slot) {
        self.loads.least.added(pool, slot);
        self.loads.spare.added(pool, slot);
    }

    fn removed(&mut self, pool: &Pool, slot: Slot, _before: Slot) {
        self.loads.least.removed(pool, slot);
        self.loads.spare.removed(pool, slot);
    }

    fn edited(&mut self, pool: &Pool, slot: Slot) {
        self.update(pool, slot);
    }

    fn loaded(&mut self, pool: &Pool, slot: Slot) {
        self.update(pool, slot);
    }

    fn reloaded(&mut self, pool: &Pool) {
        self.loads.least.rebuild(pool);
        self.loads.spare.rebuild(pool);
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, now: Duration) -> Result<Choice, Missing> {
        let key = widen(request.destination.ip());
        let Self { loads, options, created, cache } = self;
        if let Some((_, Cached { servers, used })) = cache.touch(key) {
            if expired(*created, options.expiration, *used, now) {
                servers.forget(pool, now);
            }
            *used = now;
            if let Some(slot) = servers.find(pool, options.expiration, now)
                && !loads.overloaded(pool, slot)
            {
                return Ok(Choice { slot, reason: PickReason::Cached });
            }
            let slot = loads.least()?;
            servers.adopt(pool, slot, now);
            return Ok(Choice::scheduled(slot));
        }
        let slot = loads.least()?;
        let mut servers = S::default();
        servers.adopt(pool, slot, now);
        if let Some(mut evicted) = cache.insert(0, key, Cached { servers, used: now }).1 {
            evicted.servers.forget(pool, now);
        }
        Ok(Choice::scheduled(slot))
    }

    fn clear(&mut self, pool: &mut Pool, now: Duration) {
        for mut cached in self.cache.drain() {
            cached.servers.forget(pool, now);
        }
    }
}
