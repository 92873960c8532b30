//! A sparse set of numbers: one word for each 64 neighbours that have a member.

use alloc::collections::BTreeMap;
use core::ops::RangeInclusive;

/// Members cost one bit where they are dense, and one word where they are not; so a range of 2^64 addresses
/// costs no more than what is taken of it. Look-ups take the logarithm of the number of words; a search for a
/// gap walks over full words only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bitmap {
    /// INVARIANT: no word is 0.
    words: BTreeMap<u128, u64>,
    len: usize,
}

const BITS: u128 = 64;

fn split(number: u128) -> (u128, u64) {
    (number / BITS, 1 << (number % BITS))
}

/// The bits of word `word` that are numbers of `range`.
fn mask(word: u128, range: &RangeInclusive<u128>) -> u64 {
    let start = word * BITS;
    let below = range.start().saturating_sub(start).min(BITS);
    let above = (start + (BITS - 1)).saturating_sub(*range.end()).min(BITS);
    let from = u64::MAX.checked_shl(below as u32).unwrap_or(0);
    let to = u64::MAX.checked_shr(above as u32).unwrap_or(0);
    from & to
}

impl Bitmap {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        let (word, bit) = split(number);
        self.words.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds a number. Returns whether it is new.
    pub(super) fn insert(&mut self, number: u128) -> bool {
        let (word, bit) = split(number);
        let bits = self.words.entry(word).or_default();
        let new = *bits & bit == 0;
        *bits |= bit;
        self.len += usize::from(new);
        new
    }

    /// Takes a number away. Returns whether it was there.
    pub(super) fn remove(&mut self, number: u128) -> bool {
        let (word, bit) = split(number);
        let Some(bits) = self.words.get_mut(&word).filter(|bits| **bits & bit != 0) else { return false };
        *bits &= !bit;
        if *bits == 0 {
            self.words.remove(&word);
        }
        self.len -= 1;
        true
    }

    /// How many numbers of `range` are in the set.
    pub(super) fn count(&self, range: &RangeInclusive<u128>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let words = *range.start() / BITS..=*range.end() / BITS;
        self.words.range(words).map(|(word, bits)| u64::from((bits & mask(*word, range)).count_ones())).sum()
    }

    /// The first number of `range` that is not in the set.
    pub(super) fn first_gap(&self, range: RangeInclusive<u128>) -> Option<u128> {
        if range.is_empty() {
            return None;
        }
        let last = *range.end() / BITS;
        let mut word = *range.start() / BITS;
        let mut taken = self.words.range(word..=last).peekable();
        while word <= last {
            let bits = match taken.peek() {
                Some((at, bits)) if **at == word => **bits,
                _ => 0,
            };
            let gaps = !bits & mask(word, &range);
            if gaps != 0 {
                return Some(word * BITS + u128::from(gaps.trailing_zeros()));
            }
            taken.next();
            word += 1;
        }
        None
    }

    /// All numbers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u128> + '_ {
        self.words.iter().flat_map(|(word, bits)| {
            (0..BITS).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| word * BITS + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(
            ops in prop::collection::vec((any::<bool>(), 0u128..400), 0..600),
            from in 0u128..400,
            len in 0u128..200,
        ) {
            let mut bitmap = Bitmap::default();
            let mut set = BTreeSet::new();
            for (insert, number) in ops {
                if insert {
                    prop_assert_eq!(bitmap.insert(number), set.insert(number));
                } else {
                    prop_assert_eq!(bitmap.remove(number), set.remove(&number));
                }
            }
            let range = from..=from + len;
            prop_assert_eq!(bitmap.len(), set.len());
            prop_assert_eq!(bitmap.count(&range), set.range(range.clone()).count() as u64);
            prop_assert_eq!(bitmap.first_gap(range.clone()), range.clone().find(|n| !set.contains(n)));
            prop_assert_eq!(bitmap.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
            for number in range {
                prop_assert_eq!(bitmap.contains(number), bitmap.iter().any(|n| n == number));
            }
        }
    }

    #[test]
    fn reaches_the_last_address() {
        let mut bitmap = Bitmap::default();
        assert!(bitmap.insert(u128::MAX));
        assert_eq!(bitmap.first_gap(u128::MAX..=u128::MAX), None);
        assert_eq!(bitmap.first_gap(u128::MAX - 1..=u128::MAX), Some(u128::MAX - 1));
        assert_eq!(bitmap.count(&(0..=u128::MAX)), 1);
    }
}
