//! Weighted random choice in constant time: Walker's alias method, built as by Vose (1991).

use alloc::vec::Vec;
use core::hint::select_unpredictable;
use core::time::Duration;

use super::{Choice, Engine, Missing};
use crate::pool::{Pool, Slot};
use crate::request::{Request, SplitMix64};

/// One column: itself up to the threshold (of 2^32), else the other one.
#[derive(Clone, Copy, Debug)]
struct Column<T> {
    own: T,
    other: T,
    threshold: u32,
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
                columns.push(Column { own: other, other, threshold: u32::MAX });
                continue;
            };
            let threshold = part.checked_shl(32).unwrap_or(0).checked_div(total).unwrap_or(0) as u32;
            columns.push(Column { own, other, threshold });
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
        let inside = (product >> 32) as u32;
        Some(select_unpredictable(inside < column.threshold, column.own, column.other))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WeightedRandom {
    table: AliasTable<Slot>,
    /// Weights changed since the table was built; it is built anew at the next pick.
    stale: bool,
}

impl WeightedRandom {
    pub(super) const fn new() -> Self {
        Self { table: AliasTable { columns: Vec::new() }, stale: true }
    }

    #[cold]
    fn build(&mut self, pool: &Pool) {
        self.table = AliasTable::new(pool.iter().map(|slot| (slot, pool.details(slot).backend.weight)));
        self.stale = false;
    }
}

impl Engine for WeightedRandom {
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
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        if self.stale {
            self.build(pool);
        }
        match self.table.draw(request.entropy) {
            Some(slot) if pool.is_usable(slot) => Ok(Choice::scheduled(slot)),
            _ => self.draw_again(pool, request),
        }
    }
}

impl WeightedRandom {
    #[cold]
    fn draw_again(&self, pool: &Pool, request: &Request) -> Result<Choice, Missing> {
        let usable = |slot: &Slot| pool[*slot].usable;
        // Unusable ones are drawn again, up to 32 times; then the first usable one in the list is taken.
        let mut again = SplitMix64::new(request.entropy);
        (0..32)
            .filter_map(|_| self.table.draw(again.next()))
            .find(usable)
            .or_else(|| pool.iter().find(usable))
            .map(Choice::scheduled)
            .ok_or(Missing::USABLE)
    }
}
