//! Things that several Services may ask for, and whether the kernel has them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Member {
    wanted: u32,
    loaded: bool,
}

/// What is to be done about a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Delete,
}

/// Keys with the number of times that each is wanted.
#[derive(Clone, Debug)]
pub(super) struct Counted<K> {
    members: BTreeMap<K, Member>,
    /// Keys whose state may differ from the kernel's.
    touched: Vec<K>,
}

impl<K> Default for Counted<K> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), touched: Vec::new() }
    }
}

impl<K: Clone + Ord> Counted<K> {
    /// Wants `key` once more; whether nothing wanted it before.
    pub(super) fn add(&mut self, key: &K) -> bool {
        let member = self.members.entry(key.clone()).or_default();
        member.wanted += 1;
        if member.wanted == 1 {
            self.touched.push(key.clone());
        }
        member.wanted == 1
    }

    /// Wants `key` once less; whether nothing wants it any more.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let Some(member) = self.members.get_mut(key).filter(|member| member.wanted > 0) else {
            return false;
        };
        member.wanted -= 1;
        if member.wanted == 0 {
            self.touched.push(key.clone());
        }
        member.wanted == 0
    }

    /// The keys that are wanted, in order.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &K> + Clone {
        self.members.iter().filter(|(_, member)| member.wanted > 0).map(|(key, _)| key)
    }

    /// What brings the kernel up to date, in order; taken as done.
    pub(super) fn changes(&mut self) -> Vec<(K, Change)> {
        let mut touched = mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let mut changes = Vec::new();
        for key in touched {
            let Some(member) = self.members.get_mut(&key) else { continue };
            let change = match (member.wanted > 0, member.loaded) {
                (true, false) => Change::Add,
                (false, true) => Change::Delete,
                _ => {
                    if member.wanted == 0 {
                        self.members.remove(&key);
                    }
                    continue;
                }
            };
            member.loaded = change == Change::Add;
            if change == Change::Delete {
                self.members.remove(&key);
            }
            changes.push((key, change));
        }
        changes
    }

    /// Takes it that the kernel has what is wanted, and nothing else.
    pub(super) fn settle(&mut self) {
        self.touched.clear();
        self.members.retain(|_, member| member.wanted > 0);
        self.members.values_mut().for_each(|member| member.loaded = true);
    }

    /// Takes it that the kernel has `found`, and nothing else.
    pub(super) fn adopt(&mut self, found: impl IntoIterator<Item = K>) {
        self.members.values_mut().for_each(|member| member.loaded = false);
        for key in found {
            self.members.entry(key).or_default().loaded = true;
        }
        self.touched = self.members.keys().cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_and_the_last_wish_reach_the_kernel() {
        let mut counted = Counted::default();
        assert!(counted.add(&1) && !counted.add(&1) && counted.add(&2));
        assert_eq!(counted.changes(), [(1, Change::Add), (2, Change::Add)]);
        assert!(!counted.remove(&1) && counted.remove(&2) && counted.add(&3) && counted.remove(&3));
        assert_eq!(counted.changes(), [(2, Change::Delete)]);
        assert!(!counted.remove(&9) && counted.changes().is_empty());
        counted.adopt([4]);
        assert_eq!(counted.changes(), [(1, Change::Add), (4, Change::Delete)]);
        assert!(counted.wanted().eq([&1]));
    }
}
