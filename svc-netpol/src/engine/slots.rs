//! Hash tables of numbers in buckets of one cache line, whose eight entries are compared at once: a look-up touches one line
//! as a rule, and takes no branch that could be guessed wrong.

use alloc::vec;
use alloc::vec::Vec;

/// Numbers by tag. A tag that others have, too, needs something else to tell them apart; where tags are one's own,
/// the table is a map. Neither tags nor numbers may be `u32::MAX`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// A power of two of them, or none; at most five eighths of the places are in use, so that one is never full.
    buckets: Vec<Bucket>,
    used: u32,
}

const WIDTH: usize = 8;

/// Places that are filled from the first on. What doesn't fit into a full bucket is in the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Bucket {
    tags: [u32; WIDTH],
    /// 1 + the number; 0 where the place is free.
    numbers: [u32; WIDTH],
}

impl Bucket {
    /// 1 + the number with a tag, 0 if there is none; where several have it, something between.
    #[inline(always)]
    fn find(&self, tag: u32) -> u32 {
        let places = self.tags.iter().zip(&self.numbers);
        places.fold(0, |found, (known, number)| found | if *known == tag { *number } else { 0 })
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        let [.., last] = self.numbers;
        last != 0
    }

    /// The place of the number with a tag that is the right one.
    fn place(&self, tag: u32, is_it: &impl Fn(u32) -> bool) -> Option<usize> {
        let mut places = self.tags.iter().zip(&self.numbers);
        places.position(|(known, number)| *known == tag && number.checked_sub(1).is_some_and(is_it))
    }

    /// How many places are in use.
    fn len(&self) -> usize {
        self.numbers.iter().take_while(|number| **number != 0).count()
    }

    fn put(&mut self, at: usize, tag: u32, stored: u32) {
        if let (Some(known), Some(number)) = (self.tags.get_mut(at), self.numbers.get_mut(at)) {
            (*known, *number) = (tag, stored);
        }
    }

    /// Frees a place: the last entry moves there.
    fn take(&mut self, at: usize) {
        let last = self.len().saturating_sub(1);
        if let (Some(tag), Some(number)) = (self.tags.get(last).copied(), self.numbers.get(last).copied()) {
            self.put(at, tag, number);
            self.put(last, 0, 0);
        }
    }

    fn entries(self) -> impl Iterator<Item = (u32, u32)> {
        self.tags.into_iter().zip(self.numbers).take_while(|(_, number)| *number != 0)
    }
}

/// Where the search for a tag begins, before it is cut to the size of the table.
#[inline(always)]
const fn home(tag: u32) -> usize {
    ((tag as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// How many buckets so many entries need.
const fn buckets_for(entries: usize) -> usize {
    if entries < WIDTH { 1 } else { entries.div_ceil(5).next_power_of_two() }
}

impl Slots {
    #[inline(always)]
    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }

    /// The number with a tag, where tags are one's own; or else another.
    #[inline(always)]
    pub(crate) fn get_or(&self, tag: u32, other: u32) -> u32 {
        let mut at = home(tag) & self.mask();
        while let Some(bucket) = self.buckets.get(at) {
            let found = bucket.find(tag);
            // Not `&&`: whether it is found can't be guessed, that the bucket is full is rare.
            if (found == 0) & bucket.is_full() {
                at = (at + 1) & self.mask();
                continue;
            }
            return core::hint::select_unpredictable(found == 0, other, found.wrapping_sub(1));
        }
        other
    }

    /// The number with a tag that is the right one. `is_it` says so of none that isn't here: it may be asked about others.
    #[inline(always)]
    pub(crate) fn get_if(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let bucket = self.buckets.get(home(tag) & self.mask())?;
        let first = bucket.find(tag).checked_sub(1);
        first.filter(|number| is_it(*number)).or_else(|| self.search(tag, &is_it))
    }

    /// The same where the tag isn't that of one number in its first bucket.
    #[cold]
    fn search(&self, tag: u32, is_it: &impl Fn(u32) -> bool) -> Option<u32> {
        let (at, place) = self.place(tag, is_it)?;
        self.buckets.get(at)?.numbers.get(place)?.checked_sub(1)
    }

    /// Bucket and place of an entry.
    fn place(&self, tag: u32, is_it: &impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let mut at = home(tag) & self.mask();
        loop {
            let bucket = self.buckets.get(at)?;
            if let Some(place) = bucket.place(tag, is_it) {
                return Some((at, place));
            }
            if !bucket.is_full() {
                return None;
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Adds a number, or replaces the one with the same tag that is the right one.
    pub(crate) fn set_if(&mut self, tag: u32, number: u32, is_it: impl Fn(u32) -> bool) {
        if let Some((at, place)) = self.place(tag, &is_it) {
            if let Some(bucket) = self.buckets.get_mut(at) {
                bucket.put(place, tag, number + 1);
            }
            return;
        }
        self.reserve(1);
        self.used += 1;
        self.add(tag, number + 1);
    }

    /// Sets the number with a tag, where tags are one's own.
    pub(crate) fn set(&mut self, tag: u32, number: u32) {
        self.set_if(tag, number, |_| true);
    }

    /// Puts an entry that isn't here where it belongs.
    fn add(&mut self, tag: u32, stored: u32) {
        let mask = self.mask();
        let mut at = home(tag) & mask;
        while let Some(bucket) = self.buckets.get_mut(at) {
            if !bucket.is_full() {
                return bucket.put(bucket.len(), tag, stored);
            }
            at = (at + 1) & mask;
        }
    }

    /// Makes room for so many more entries.
    pub(crate) fn reserve(&mut self, more: usize) {
        let wanted = buckets_for(self.used as usize + more);
        if wanted <= self.buckets.len() || more == 0 {
            return;
        }
        let old = core::mem::replace(&mut self.buckets, vec![Bucket::default(); wanted]);
        for (tag, stored) in old.into_iter().flat_map(Bucket::entries) {
            self.add(tag, stored);
        }
    }

    /// Removes the number with a tag that is the right one.
    pub(crate) fn remove_if(&mut self, tag: u32, is_it: impl Fn(u32) -> bool) {
        let Some((mut at, place)) = self.place(tag, &is_it) else { return };
        let mask = self.mask();
        let Some(bucket) = self.buckets.get_mut(at) else { return };
        let mut was_full = bucket.is_full();
        bucket.take(place);
        self.used -= 1;
        // Whoever was kept from a full bucket is in those after it, up to one that isn't full.
        while was_full {
            at = (at + 1) & mask;
            let Some(bucket) = self.buckets.get_mut(at) else { return };
            was_full = bucket.is_full();
            for (tag, stored) in core::mem::take(bucket).entries() {
                self.add(tag, stored);
            }
        }
    }

    /// Removes the number with a tag, where tags are one's own.
    pub(crate) fn remove(&mut self, tag: u32) {
        self.remove_if(tag, |_| true);
    }

    /// Bytes held on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_are_a_map(steps in proptest::collection::vec((0u32..64, proptest::option::of(0u32..9)), 0..400)) {
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
                for tag in (0..64).map(|tag| tag * 0x0100_0000) {
                    prop_assert_eq!(slots.get_or(tag, 77), map.get(&tag).copied().unwrap_or(77));
                }
            }
            prop_assert_eq!(slots.get_or(u32::MAX, 77), 77);
        }

        #[test]
        fn numbers_with_one_tag_are_told_apart(steps in proptest::collection::vec((0u32..64, any::<bool>()), 0..400)) {
            let (mut slots, mut set) = (Slots::default(), BTreeSet::new());
            let tag = |number: u32| number % 3 * (u32::MAX / 4);
            for (number, comes) in steps {
                if comes {
                    slots.set_if(tag(number), number, |other| other == number);
                    set.insert(number);
                } else {
                    slots.remove_if(tag(number), |other| other == number);
                    set.remove(&number);
                }
                for number in 0..64 {
                    let found = slots.get_if(tag(number), |other| other == number && set.contains(&other));
                    prop_assert_eq!(found.is_some(), set.contains(&number));
                }
            }
        }
    }
}
