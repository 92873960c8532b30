//! A sparse set of numbers: one word for each 64 neighbours that have a member.

use alloc::collections::BTreeMap;
use core::ops::RangeInclusive;

/// Members cost one bit where they are dense, and one word where they are not; so a range of 2^64 addresses
/// costs no more than what is taken of it. Look-ups take the logarithm of the number of words; a search for a
/// gap skips 64 full words at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bitmap {
    /// INVARIANT: no word is 0.
    words: BTreeMap<u128, u64>,
    /// Which words are full, as words of the same kind.
    full: BTreeMap<u128, u64>,
    len: usize,
}

const BITS: u128 = 64;

fn split(number: u128) -> (u128, u64) {
    (number / BITS, 1 << (number % BITS))
}

fn set(words: &mut BTreeMap<u128, u64>, number: u128) -> u64 {
    let (word, bit) = split(number);
    let bits = words.entry(word).or_default();
    *bits |= bit;
    *bits
}

/// Clears a bit that is set. Returns the word as it was.
fn clear(words: &mut BTreeMap<u128, u64>, number: u128) -> Option<u64> {
    let (word, bit) = split(number);
    let bits = words.get_mut(&word).filter(|bits| **bits & bit != 0)?;
    let before = *bits;
    *bits &= !bit;
    if *bits == 0 {
        words.remove(&word);
    }
    Some(before)
}

/// The first number of `range` that is not set, word by word.
fn first_unset(words: &BTreeMap<u128, u64>, range: &RangeInclusive<u128>) -> Option<u128> {
    let (mut word, last) = (*range.start() / BITS, *range.end() / BITS);
    let mut taken = words.range(word..=last).peekable();
    while word <= last {
        let bits = taken.next_if(|(at, _)| **at == word).map_or(0, |(_, bits)| *bits);
        let gaps = !bits & mask(word, range);
        if gaps != 0 {
            return Some(word * BITS + u128::from(gaps.trailing_zeros()));
        }
        word += 1;
    }
    None
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
        if self.contains(number) {
            return false;
        }
        if set(&mut self.words, number) == u64::MAX {
            set(&mut self.full, number / BITS);
        }
        self.len += 1;
        true
    }

    /// Takes a number away. Returns whether it was there.
    pub(super) fn remove(&mut self, number: u128) -> bool {
        let Some(before) = clear(&mut self.words, number) else { return false };
        if before == u64::MAX {
            clear(&mut self.full, number / BITS);
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
        let (first, last) = (*range.start() / BITS, *range.end() / BITS);
        let gap_in = |word: u128| {
            let gaps = !self.words.get(&word).copied().unwrap_or_default() & mask(word, &range);
            (gaps != 0).then(|| word * BITS + u128::from(gaps.trailing_zeros()))
        };
        if let Some(gap) = gap_in(first) {
            return Some(gap);
        }
        // A word that is not full has a gap, unless it is the last one and has it beyond the range.
        if first < last { gap_in(first_unset(&self.full, &(first + 1..=last))?) } else { None }
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
            ops in prop::collection::vec((prop::bool::weighted(0.8), 0u128..400), 0..2_000),
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
