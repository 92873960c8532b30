//! The schedulers that scan for a minimum: least connection and its kin, failover, overflow.
//!
//! Each is one key; the kernel's scan takes the first of the list with the least key, and so does
//! the [`Tournament`].

use core::time::Duration;

use super::{Choice, Engine, Missing};
use crate::balancer::KernelRules;
use crate::pool::{Entry, Pool, Slot};
use crate::request::Request;
use crate::tournament::{Ratio, Tournament};

#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    tree: Tournament,
}

impl Ranked {
    pub(super) fn new(pool: &Pool, key: fn(&Pool, Slot) -> Ratio) -> Self {
        Self { tree: Tournament::new(pool, key) }
    }
}

impl Engine for Ranked {
    fn added(&mut self, pool: &Pool, slot: Slot) {
        self.tree.added(pool, slot);
    }

    fn removed(&mut self, _pool: &Pool, slot: Slot, _before: Slot) {
        self.tree.removed(slot);
    }

    fn edited(&mut self, pool: &Pool, slot: Slot) {
        self.tree.update(pool, slot);
    }

    #[inline]
    fn loaded(&mut self, pool: &Pool, slot: Slot) {
        self.tree.update(pool, slot);
    }

    fn reloaded(&mut self, pool: &Pool) {
        self.tree.rebuild(pool);
    }

    #[inline]
    fn pick(&mut self, _pool: &mut Pool, _request: &Request, _now: Duration) -> Result<Choice, Missing> {
        self.tree.winner().map(Choice::scheduled).ok_or(Missing::USABLE)
    }
}

/// `ip_vs_dest_conn_overhead`: an active connection weighs as much as 256 inactive ones, and in the current
/// rules is counted among all connections once more. The kernel's `int`, so it may wrap.
pub(crate) fn overhead(rules: KernelRules, entry: &Entry) -> i32 {
    let rest = match rules {
        KernelRules::Current => entry.total(),
        KernelRules::Classic => entry.inactive,
    };
    entry.active.wrapping_shl(8).wrapping_add(rest) as i32
}

fn rank(entry: &Entry, cost: i64, weight: u32) -> Ratio {
    if entry.usable { Ratio { cost, weight } } else { Ratio::NEVER }
}

/// `ip_vs_lc.c` compares overheads as unsigned numbers.
pub(super) fn lc(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    rank(entry, i64::from(overhead(pool.rules(), entry) as u32), 1)
}

pub(super) fn wlc(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    rank(entry, i64::from(overhead(pool.rules(), entry)), entry.weight)
}

pub(super) fn sed(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    rank(entry, i64::from(entry.active.wrapping_add(1) as i32), entry.weight)
}

/// An idle backend costs nothing, so that it wins at any weight, and the first idle one before all.
pub(super) fn nq(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    let cost = if entry.active == 0 { 0 } else { entry.active.wrapping_add(1) as i32 };
    rank(entry, i64::from(cost), entry.weight)
}

/// The least `1 / weight` is the greatest weight.
pub(super) fn fo(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    rank(entry, 1, entry.weight)
}

/// Up to and including `weight` active connections, so one more than the weight fit.
pub(super) fn ovf(pool: &Pool, slot: Slot) -> Ratio {
    let entry = &pool[slot];
    if entry.active > entry.weight { Ratio::NEVER } else { rank(entry, 1, entry.weight) }
}
