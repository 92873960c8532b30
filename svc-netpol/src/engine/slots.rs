//! Hash tables with open addressing and one word an entry, so that a look-up touches one line of a cache as a rule.

use alloc::vec;
use alloc::vec::Vec;

/// Numbers by tag. A tag that others have, too, needs something else to tell them apart; where tags are one's own,
/// the table is a map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// 1 + the tag in the upper half, the number in the lower; 0 where free. A power of two of them, at most five
    /// eighths of which are in use.
    slots: Vec<u64>,
    used: u32,
}

const FEWEST: usize = 4;

/// Greatest tag.
pub(crate) const MAX_TAG: u32 = u32::MAX - 1;

/// Where the search for a tag begins, before it is cut to the size of the table.
#[inline]
const fn home(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// What a slot has in its upper half; beyond [`MAX_TAG`], what none has.
#[inline]
const fn key_of(tag: u32) -> u64 {
    tag as u64 + 1
}

/// How many slots so many entries need.
const fn slots_for(entries: usize) -> usize {
    let slots = (entries * 8).div_ceil(5).next_power_of_two();
    if slots < FEWEST { FEWEST } else { slots }
}

impl Slots {
    /// The slot of an entry, or the free one where it would be; `None` if there are no slots at all.
    #[inline(always)]
    fn find(&self, key: u64, is_it: impl Fn(u32) -> bool) -> Option<(usize, u64)> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = home(key) & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 || slot >> 32 == key && is_it(slot as u32) {
                return Some((at, slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// The number with a tag that is the right one.
    #[inline]
    pub(crate) fn get_if(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (_, slot) = self.find(key_of(tag), is_it)?;
        (slot != 0).then_some(slot as u32)
    }

    /// The number with a tag, where tags are one's own.
    #[inline]
    pub(crate) fn get(&self, tag: u32) -> Option<u32> {
        self.get_if(tag, |_| true)
    }

    /// Adds a number, or replaces the one with the same tag that is the right one.
    pub(crate) fn set_if(&mut self, tag: u32, number: u32, is_it: impl Fn(u32) -> bool) {
        self.reserve(1);
        let Some((at, slot)) = self.find(key_of(tag), is_it) else { return };
        self.used += u32::from(slot == 0);
        self.put(at, key_of(tag) << 32 | u64::from(number));
    }

    /// Sets the number with a tag, where tags are one's own.
    pub(crate) fn set(&mut self, tag: u32, number: u32) {
        self.set_if(tag, number, |_| true);
    }

    /// Makes room for so many more entries.
    pub(crate) fn reserve(&mut self, more: usize) {
        let wanted = slots_for(self.used as usize + more);
        if wanted <= self.slots.len() || more == 0 {
            return;
        }
        let old = core::mem::replace(&mut self.slots, vec![0; wanted]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            if let Some((at, _)) = self.find(slot >> 32, |_| false) {
                self.put(at, slot);
            }
        }
    }

    /// Removes the number with a tag that is the right one.
    pub(crate) fn remove_if(&mut self, tag: u32, is_it: impl Fn(u32) -> bool) {
        let Some((mut hole, found)) = self.find(key_of(tag), is_it) else { return };
        if found == 0 {
            return;
        }
        self.used -= 1;
        let mask = self.slots.len() - 1;
        let mut at = hole;
        // Whoever was kept from the hole, or from a slot before it, moves up.
        loop {
            at = (at + 1) & mask;
            let slot = self.slots.get(at).copied().unwrap_or(0);
            if slot == 0 {
                break;
            }
            let way = at.wrapping_sub(home(slot >> 32)) & mask;
            if way >= at.wrapping_sub(hole) & mask {
                self.put(hole, slot);
                hole = at;
            }
        }
        self.put(hole, 0);
    }

    /// Removes the number with a tag, where tags are one's own.
    pub(crate) fn remove(&mut self, tag: u32) {
        self.remove_if(tag, |_| true);
    }

    fn put(&mut self, at: usize, value: u64) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = value;
        }
    }

    /// Bytes held on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_are_a_map(steps in proptest::collection::vec((0u32..24, proptest::option::of(0u32..9)), 0..200)) {
            let (mut slots, mut map) = (Slots::default(), BTreeMap::new());
            for (tag, number) in steps {
                // Tags that meet in few slots.
                let tag = tag * 0x0100_0000;
                match number {
                    Some(number) => {
                        slots.set(tag, number);
                        map.insert(tag, number);
                    }
                    None => {
                        slots.remove(tag);
                        map.remove(&tag);
                    }
                }
                for tag in (0..24).map(|tag| tag * 0x0100_0000) {
                    prop_assert_eq!(slots.get(tag), map.get(&tag).copied());
                }
            }
            prop_assert_eq!(slots.get(u32::MAX), None);
            prop_assert_eq!(slots.get(MAX_TAG), None);
        }

        #[test]
        fn numbers_with_one_tag_are_told_apart(steps in proptest::collection::vec((0u32..24, any::<bool>()), 0..200)) {
            let (mut slots, mut set) = (Slots::default(), BTreeSet::new());
            let tag = |number: u32| number % 3 * (MAX_TAG / 2);
            for (number, comes) in steps {
                if comes {
                    slots.set_if(tag(number), number, |other| other == number);
                    set.insert(number);
                } else {
                    slots.remove_if(tag(number), |other| other == number);
                    set.remove(&number);
                }
                for number in 0..24 {
                    let found = slots.get_if(tag(number), |other| other == number);
                    prop_assert_eq!(found.is_some(), set.contains(&number));
                }
            }
        }
    }
}
