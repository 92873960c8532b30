//! Round robin (`ip_vs_rr.c`).

use core::time::Duration;

use super::{Choice, Engine, Missing};
use crate::pool::{Pool, Slot};
use crate::request::Request;

/// A cursor into the list; [`Slot::NONE`] is the list head itself, before the first backend.
#[derive(Clone, Debug)]
pub(crate) struct Rr {
    cursor: Slot,
}

impl Rr {
    pub(super) const fn new() -> Self {
        Self { cursor: Slot::NONE }
    }
}

impl Engine for Rr {
    fn added(&mut self, _pool: &Pool, _slot: Slot) {}

    /// `ip_vs_rr_del_dest`: a cursor that stood here steps back, so that the next one is not skipped.
    fn removed(&mut self, _pool: &Pool, slot: Slot, before: Slot) {
        if self.cursor == slot {
            self.cursor = before;
        }
    }

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {}

    #[inline]
    fn first(&mut self, pool: &Pool, _request: &Request) -> Slot {
        let slot = pool.following(self.cursor);
        if pool.is_usable(slot) {
            self.cursor = slot;
        }
        slot
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, _request: &Request, _now: Duration) -> Result<Choice, Missing> {
        let start = self.cursor;
        let mut slot = start;
        let mut wrapped = start == Slot::NONE;
        loop {
            slot = if slot == Slot::NONE { pool.head() } else { pool.next(slot) };
            if slot == Slot::NONE {
                if wrapped {
                    return Err(Missing::USABLE);
                }
                // Past the end, on to the head.
                wrapped = true;
                continue;
            }
            if pool[slot].usable {
                self.cursor = slot;
                return Ok(Choice::scheduled(slot));
            }
            if slot == start {
                return Err(Missing::USABLE);
            }
        }
    }
}
