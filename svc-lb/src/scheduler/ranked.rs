//! The schedulers that scan for a minimum: least connection and its kin, failover, overflow.
//!
//! Each is one key; the kernel's scan takes the first of the list with the least key, and so does
//! the [`Tournament`].

use core::time::Duration;

use super::{Choice, Engine, Missing};
use crate::balancer::KernelRules;
use crate::pool::{Entry, Pool, Slot};
use crate::request::Request;
use crate::tournament::{Rank, Ratio, Tournament};

/// A scheduler that takes the least by one rank.
#[derive(Clone, Debug)]
pub(crate) struct Ranked<R> {
    tree: Tournament<R>,
}

impl<R: Rank> Ranked<R> {
    pub(super) fn new(pool: &Pool) -> Self {
        Self { tree: Tournament::new(pool) }
    }
}

impl<R: Rank> Engine for Ranked<R> {
    fn added(&mut self, pool: &Pool, slot: Slot) {
        self.tree.added(pool, slot);
    }

    fn removed(&mut self, pool: &Pool, slot: Slot, _before: Slot) {
        self.tree.removed(pool, slot);
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
    fn first(&mut self, _pool: &Pool, _request: &Request) -> Slot {
        self.tree.winner()
    }

    #[inline]
    fn pick(&mut self, _pool: &mut Pool, _request: &Request, _now: Duration) -> Result<Choice, Missing> {
        self.tree.winner().some().map(Choice::scheduled).ok_or(Missing::USABLE)
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

fn usable(entry: &Entry, cost: i64, weight: u32) -> Ratio {
    if entry.usable { Ratio { cost, weight } } else { Ratio::NEVER }
}

macro_rules! ranks {
    ($($(#[$doc:meta])* $name:ident = |$pool:ident, $entry:ident| $ratio:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name;

        impl Rank for $name {
            #[inline]
            fn ratio($pool: &Pool, slot: Slot) -> Ratio {
                let $entry = &$pool[slot];
                $ratio
            }
        }
    )+};
}

ranks! {
    /// `ip_vs_lc.c` compares overheads as unsigned numbers.
    Lc = |pool, entry| usable(entry, i64::from(overhead(pool.rules(), entry) as u32), 1);
    /// `ip_vs_wlc.c`.
    Wlc = |pool, entry| usable(entry, i64::from(overhead(pool.rules(), entry)), entry.weight);
    /// `ip_vs_sed.c`.
    Sed = |_pool, entry| usable(entry, i64::from(entry.active.wrapping_add(1) as i32), entry.weight);
    /// An idle backend costs nothing, so that it wins at any weight, and the first idle one before all.
    Nq = |_pool, entry| {
        let cost = if entry.active == 0 { 0 } else { entry.active.wrapping_add(1) as i32 };
        usable(entry, i64::from(cost), entry.weight)
    };
    /// The greatest weight; `wrr` asks for it too.
    Fo = |_pool, entry| usable(entry, -i64::from(entry.weight), 1);
    /// Up to and including `weight` active connections, so one more than the weight fit.
    Ovf = |_pool, entry| {
        let fits = entry.active <= entry.weight;
        if fits { usable(entry, -i64::from(entry.weight), 1) } else { Ratio::NEVER }
    };
    /// Whether anyone is half idle, which `lblc` and `lblcr` ask: below zero, it is. Overloaded backends count too; the
    /// kernel looks at weights alone here.
    Spare = |_pool, entry| {
        let cost = 2 * i64::from(entry.active) - i64::from(entry.weight);
        if entry.weight == 0 { Ratio::NEVER } else { Ratio { cost, weight: 1 } }
    };
}
