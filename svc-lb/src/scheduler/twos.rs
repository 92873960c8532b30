//! The kernel's weighted power of two choices (`ip_vs_twos.c`).

use core::time::Duration;

use super::ranked::overhead;
use super::{Choice, Engine, Missing};
use crate::pool::{Pool, Slot};
use crate::request::{Request, SplitMix64};

#[derive(Clone, Debug)]
pub(crate) struct Twos;

/// The first whose running sum of weights reaches the draw. The kernel draws from 0 to the total inclusive, so the
/// first in the list has one unit more than its weight.
fn draw(pool: &Pool, drawn: u64) -> Option<Slot> {
    let mut sum = 0;
    pool.iter().filter(|slot| pool[*slot].usable).find(|slot| {
        sum += u64::from(pool[*slot].weight);
        sum >= drawn
    })
}

impl Engine for Twos {
    fn added(&mut self, _pool: &Pool, _slot: Slot) {}

    fn removed(&mut self, _pool: &Pool, _slot: Slot, _before: Slot) {}

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {}

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        let total: u64 = pool
            .iter()
            .map(|slot| &pool[slot])
            .filter(|entry| entry.usable)
            .map(|entry| u64::from(entry.weight))
            .sum();
        let mut random = SplitMix64::new(request.entropy);
        let first = draw(pool, random.below(total + 1));
        let second = draw(pool, random.below(total + 1));
        let (Some(first), Some(second)) = (first, second) else { return Err(Missing::USABLE) };
        // The kernel multiplies in 32-bit `int` here, where the other schedulers use 64 bits.
        let product = |weight: Slot, load: Slot| {
            (pool[weight].weight as i32).wrapping_mul(overhead(pool.rules(), &pool[load]))
        };
        let slot = if product(second, first) > product(first, second) { second } else { first };
        Ok(Choice::scheduled(slot))
    }
}
