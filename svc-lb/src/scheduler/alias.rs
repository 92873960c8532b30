//! Weighted random choice in constant time: Walker's alias method, built as by Vose (1991).

use alloc::vec::Vec;
use core::hint::select_unpredictable;
use core::time::Duration;

use super::{Choice, Engine, Missing};
use crate::pool::{Pool, Slot};
use crate::request::{Request, SplitMix64};

/// One column: its own up to the threshold (of 2^64), else the other one.
#[derive(Clone, Copy, Debug)]
struct Column<T> {
    threshold: u64,
    own: T,
    other: T,
}

#[derive(Clone, Debug)]
pub(crate) struct AliasTable<T> {
    columns: Vec<Column<T>>,
}

impl<T: Copy> AliasTable<T> {
    /// Members without weight are left out.
    pub(crate) fn new(members: impl Iterator<Item = (T, u32)>) -> Self {
        let members: Vec<(T, u32)> = members.filter(|(_, weight)| *weight > 0).collect();
        let count = members.len() as u128;
        let total: u128 = members.iter().map(|(_, weight)| u128::from(*weight)).sum();
        // Shares of one column, in units of 1 / total: exactly `total` is a full column.
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (member, weight) in members {
            let share = u128::from(weight) * count;
            if share < total { small.push((member, share)) } else { large.push((member, share)) }
        }
        let mut columns = Vec::with_capacity(small.len() + large.len());
        while let Some((other, share)) = large.pop() {
            let Some((own, part)) = small.pop() else {
                columns.push(Column { threshold: u64::MAX, own: other, other });
                continue;
            };
            // A part is less than the total, and that is less than 2^63.
            let threshold = (part << 64).checked_div(total).unwrap_or(0) as u64;
            columns.push(Column { threshold, own, other });
            let rest = share - (total - part);
            if rest < total { small.push((other, rest)) } else { large.push((other, rest)) }
        }
        Self { columns }
    }

    /// One random number decides both: its product with the number of columns has the column above the point,
    /// and below it the position inside.
    #[inline]
    pub(crate) fn draw(&self, random: u64) -> Option<T> {
        let product = u128::from(random) * self.columns.len() as u128;
        let column = self.columns.get((product >> 64) as usize)?;
        Some(select_unpredictable((product as u64) < column.threshold, column.own, column.other))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WeightedRandom {
    /// Without columns once a weight changed; it is built anew at the next pick.
    table: AliasTable<Slot>,
}

impl WeightedRandom {
    pub(super) const fn new() -> Self {
        Self { table: AliasTable { columns: Vec::new() } }
    }
}

impl Engine for WeightedRandom {
    fn added(&mut self, _pool: &Pool, _slot: Slot) {
        self.table.columns.clear();
    }

    fn removed(&mut self, _pool: &Pool, _slot: Slot, _before: Slot) {
        self.table.columns.clear();
    }

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {
        self.table.columns.clear();
    }

    #[inline]
    fn first(&mut self, _pool: &Pool, request: &Request) -> Slot {
        self.table.draw(request.entropy).unwrap_or(Slot::NONE)
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        if self.table.columns.is_empty() {
            self.table = AliasTable::new(pool.iter().map(|slot| (slot, pool.details(slot).backend.weight)));
        }
        let usable = |slot: &Slot| pool[*slot].usable;
        // Unusable ones are drawn again, up to 32 times; then the first usable one in the list is taken.
        let mut again = SplitMix64::new(request.entropy);
        let draws = core::iter::once(request.entropy).chain((0..32).map(|_| again.next()));
        draws
            .filter_map(|random| self.table.draw(random))
            .find(usable)
            .or_else(|| pool.iter().find(usable))
            .map(Choice::scheduled)
            .ok_or(Missing::USABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        /// A member's parts of all columns add up to its weight, but for what the thresholds round off.
        #[test]
        fn shares_are_the_weights(
            weights in vec(prop_oneof![0..5_u32, Just(crate::MAX_WEIGHT), 0..=crate::MAX_WEIGHT], 1..40),
        ) {
            let table = AliasTable::new((0..).zip(weights.iter().copied()));
            let mut shares = vec![0.0; weights.len()];
            for &Column { threshold, own, other } in &table.columns {
                let part = threshold as f64 / 2_f64.powi(64);
                shares[own] += part / table.columns.len() as f64;
                shares[other] += (1.0 - part) / table.columns.len() as f64;
            }
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (share, weight) in shares.iter().zip(&weights) {
                prop_assert!((share - f64::from(*weight) / total.max(1.0)).abs() < 1e-13, "{share} for {weight}");
            }
        }
    }
}
