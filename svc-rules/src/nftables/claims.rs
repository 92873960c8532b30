//! Objects of the table that Services ask for, one or several of them the same.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::hash::Hash;
use core::mem;

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use indexmap::map::Entry;

/// Objects by key, each for as long as something claims it, and what they were before the last [`settle`](Self::settle).
///
/// Claims of one key with different values come from clusters that no API server would allow, such as two Services
/// with one address and port. Then the key is [contested](Self::contested), and whoever knows all claims has to
/// [decide](Self::decide).
#[derive(Clone, Debug)]
pub(super) struct Claims<K, V> {
    /// While all is [fresh](Self::fresh), in the order of the first claims.
    held: IndexMap<K, Claim<V>, FixedState>,
    before: BTreeMap<K, Option<V>>,
    contested: BTreeSet<K>,
    /// Nothing was there before, so nothing of it is kept.
    fresh: bool,
}

#[derive(Clone, Debug)]
struct Claim<V> {
    value: V,
    uses: u32,
    /// Whether claims have ever differed.
    mixed: bool,
}

impl<K: Ord + Hash + Clone, V: Clone + PartialEq> Claims<K, V> {
    pub(super) fn new() -> Self {
        let held = IndexMap::with_hasher(FixedState::default());
        Self { held, before: BTreeMap::new(), contested: BTreeSet::new(), fresh: true }
    }

    /// Forgets all claims; all have to be made again, about so many. `before` is what is there.
    pub(super) fn restart(&mut self, before: BTreeMap<K, V>, claims: usize) {
        *self = Self::new();
        self.held.reserve(claims);
        self.fresh = before.is_empty();
        self.before = before.into_iter().map(|(key, value)| (key, Some(value))).collect();
    }

    pub(super) fn release(&mut self, key: &K) {
        self.keep(key);
        let Some(claim) = self.held.get_mut(key) else { return };
        claim.uses = claim.uses.saturating_sub(1);
        if claim.uses == 0 {
            self.held.swap_remove(key);
        } else if claim.mixed {
            self.contested.insert(key.clone());
        }
    }

    pub(super) fn claim(&mut self, key: &K, value: &V) {
        self.keep(key);
        let value = self.as_before(key, value);
        match self.held.entry(key.clone()) {
            Entry::Vacant(vacant) => _ = vacant.insert(Claim { value, uses: 1, mixed: false }),
            Entry::Occupied(mut occupied) => {
                let claim = occupied.get_mut();
                claim.uses = claim.uses.saturating_add(1);
                if claim.value != value {
                    claim.mixed = true;
                    claim.value = value;
                    self.contested.insert(key.clone());
                }
            }
        }
    }

    /// Keys of which it is not known which claim counts.
    pub(super) fn contested(&mut self) -> BTreeSet<K> {
        mem::take(&mut self.contested)
    }

    /// Says which value counts.
    pub(super) fn decide(&mut self, key: &K, value: &V) {
        let value = self.as_before(key, value);
        if let Some(claim) = self.held.get_mut(key) {
            claim.value = value;
        }
    }

    /// What differs from before: key, old value, new value. In order of keys, but of the first claims where nothing was
    /// before.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&K, Option<&V>, Option<&V>)> {
        let all = self.held.iter().take(if self.fresh { usize::MAX } else { 0 });
        let known = self.before.iter().map(|(key, before)| (key, before.as_ref(), self.get(key)));
        all.map(|(key, claim)| (key, None, Some(&claim.value)))
            .chain(known)
            .filter(|(_, before, now)| before != now)
    }

    /// From now on, this is what was before.
    pub(super) fn settle(&mut self) {
        self.before.clear();
        self.fresh = false;
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.held.get(key).map(|claim| &claim.value)
    }

    /// All there is, in order of keys.
    pub(super) fn sorted(&self) -> Vec<(&K, &V)> {
        let mut all: Vec<_> = self.held.iter().map(|(key, claim)| (key, &claim.value)).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    fn keep(&mut self, key: &K) {
        if !self.fresh && !self.before.contains_key(key) {
            self.before.insert(key.clone(), self.get(key).cloned());
        }
    }

    /// The value as it was, where the two are equal: some values have parts that do not count.
    fn as_before(&self, key: &K, value: &V) -> V {
        match self.before.get(key) {
            Some(Some(before)) if before == value => before.clone(),
            _ => value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(claims: &mut Claims<u8, char>) -> Vec<(u8, Option<char>, Option<char>)> {
        let all = claims.changes().map(|(key, old, new)| (*key, old.copied(), new.copied())).collect();
        claims.settle();
        all
    }

    #[test]
    fn only_what_differs_at_the_end_is_a_change() {
        let mut claims = Claims::new();
        claims.claim(&1, &'a');
        claims.claim(&1, &'a');
        claims.claim(&2, &'b');
        assert_eq!(changes(&mut claims), [(1, None, Some('a')), (2, None, Some('b'))]);
        claims.release(&1);
        claims.release(&2);
        claims.claim(&2, &'b');
        assert_eq!(changes(&mut claims), []);
        claims.release(&1);
        claims.release(&2);
        claims.claim(&2, &'c');
        assert_eq!(changes(&mut claims), [(1, Some('a'), None), (2, Some('b'), Some('c'))]);
        claims.restart(BTreeMap::from([(2, 'c'), (3, 'd')]), 1);
        claims.claim(&2, &'c');
        assert_eq!(changes(&mut claims), [(3, Some('d'), None)]);
    }

    #[test]
    fn differing_claims_are_contested_until_one_is_left() {
        let mut claims = Claims::new();
        claims.claim(&1, &'a');
        claims.claim(&1, &'b');
        assert_eq!(claims.contested(), BTreeSet::from([1]));
        claims.decide(&1, &'b');
        assert_eq!(claims.get(&1), Some(&'b'));
        claims.release(&1);
        assert_eq!(claims.contested(), BTreeSet::from([1]));
    }
}
