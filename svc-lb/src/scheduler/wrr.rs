//! Weighted round robin (`ip_vs_wrr.c`): rounds over the list with a falling bar, each taking those whose
//! weight reaches it.
//!
//! The kernel walks the list for every bar, which costs O(n * max/gcd) in the worst case. Here a
//! tree of the greatest weights finds the next one that reaches the bar, and bars that nobody reaches are
//! skipped at once; the picks and the state between them are the same.

use core::time::Duration;

use super::ranked::Fo;
use super::{Choice, Engine, Missing};
use crate::pool::{Pool, Slot};
use crate::request::Request;
use crate::tournament::{Tournament, gcd};

#[derive(Clone, Debug)]
pub(crate) struct Wrr {
    /// Where the last walk ended; [`Slot::NONE`] is the list head.
    cursor: Slot,
    /// The current bar.
    bar: i64,
    /// The highest bar: the greatest weight, less what lies within one step.
    top: i64,
    /// The greatest common divisor of the weights, 1 if there is none.
    step: i64,
    weights: Tournament<Fo>,
}

/// The highest bar and the step between bars (`ip_vs_wrr_max_weight`, `ip_vs_wrr_gcd_weight`).
fn bars(pool: &Pool) -> (i64, i64) {
    let (mut divisor, mut greatest) = (0, 0);
    for slot in pool.iter() {
        let weight = pool.details(slot).backend.weight;
        divisor = gcd(divisor, weight);
        greatest = greatest.max(weight);
    }
    let step = i64::from(divisor.max(1));
    (i64::from(greatest) - (step - 1), step)
}

impl Wrr {
    pub(super) fn new(pool: &Pool) -> Self {
        let (top, step) = bars(pool);
        Self { cursor: Slot::NONE, bar: top, top, step, weights: Tournament::new(pool) }
    }

    /// `ip_vs_wrr_dest_changed`: back to the head, on the same bar if it still exists.
    fn restart(&mut self, (top, step): (i64, i64)) {
        (self.top, self.step) = (top, step);
        self.cursor = Slot::NONE;
        if self.bar > self.top || self.bar == 0 {
            self.bar = self.top;
        } else if self.step > 1 {
            self.bar = (self.bar / self.step) * self.step + 1;
        }
    }
}

impl Engine for Wrr {
    fn added(&mut self, pool: &Pool, slot: Slot) {
        self.weights.added(pool, slot);
        // All weights need not be looked at again for a greatest and a common divisor that only grow and shrink.
        let weight = pool.details(slot).backend.weight;
        let greatest = (self.top + self.step - 1).max(i64::from(weight));
        let known = if greatest == i64::from(weight) && self.top <= 0 { 0 } else { self.step as u32 };
        let step = i64::from(gcd(known, weight).max(1));
        self.restart((greatest - (step - 1), step));
    }

    fn removed(&mut self, pool: &Pool, slot: Slot, _before: Slot) {
        self.weights.removed(pool, slot);
        self.restart(bars(pool));
    }

    fn edited(&mut self, pool: &Pool, slot: Slot) {
        self.weights.update(pool, slot);
        self.restart(bars(pool));
    }

    fn loaded(&mut self, pool: &Pool, slot: Slot) {
        self.weights.update(pool, slot);
    }

    fn reloaded(&mut self, pool: &Pool) {
        self.weights.rebuild(pool);
    }

    #[inline]
    fn first(&mut self, pool: &Pool, _request: &Request) -> Slot {
        // Not round the end: there the bar falls.
        let next = if self.cursor == Slot::NONE { pool.head() } else { pool.next(self.cursor) };
        if !pool.is_usable(next) || i64::from(pool[next].weight) < self.bar {
            return self.search(pool);
        }
        self.cursor = next;
        next
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        if let Some(slot) = self.first(pool, request).some() {
            return Ok(Choice::scheduled(slot));
        }
        if self.top == 0 {
            return Err(Missing::USABLE);
        }
        // The kernel walks down to the lowest bar and, where it began there in mid-list, once more.
        if self.cursor == Slot::NONE || self.bar > self.step {
            self.bar = self.top;
            self.cursor = Slot::NONE;
        } else {
            self.bar = (self.top - 1) % self.step + 1;
        }
        Err(Missing::USABLE)
    }
}

impl Wrr {
    /// The next one that reaches the bar, which falls with each time round; [`Slot::NONE`] if none can be used.
    #[inline(never)]
    fn search(&mut self, pool: &Pool) -> Slot {
        let Some(heaviest) = self.weights.winner().some() else { return Slot::NONE };
        let greatest = i64::from(pool[heaviest].weight);
        let mut from = self.cursor;
        loop {
            if self.bar <= greatest
                && let Some(slot) = self.weights.next_up_to(from, -self.bar)
            {
                self.cursor = slot;
                return slot;
            }
            from = Slot::NONE;
            self.bar -= self.step;
            if self.bar <= 0 {
                self.bar = self.top;
            }
            if self.bar > greatest {
                // Weights and bars leave the remainders 0 and 1 by the step: this bar is above 0.
                self.bar -= (self.bar - greatest + self.step - 1) / self.step * self.step;
            }
        }
    }
}
