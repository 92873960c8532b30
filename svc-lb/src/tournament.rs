//! The backend a full scan would choose, kept up to date in O(log n) per change and read in O(1).
//!
//! A winner tree over list positions. Leaves are handed out in the order of adding, and kernel order is
//! the reverse, so "the first in the list wins a tie" is "the right child wins a tie" at each node.

use alloc::vec;
use alloc::vec::Vec;
use core::hint::select_unpredictable;

use crate::pool::{Pool, Slot};

/// A load per weight, compared as the kernel compares: by cross-multiplication, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ratio {
    /// Within 32 bits and a sign, so that a product with a weight (31 bits) fits 64 bits.
    pub(crate) cost: i64,
    pub(crate) weight: u32,
}

impl Ratio {
    /// Never chosen: a weight of zero makes the ratio infinite.
    pub(crate) const NEVER: Self = Self { cost: 1, weight: 0 };

    /// Strictly less: `self.cost / self.weight < other.cost / other.weight`.
    pub(crate) const fn beats(self, other: Self) -> bool {
        let (mine, theirs) = self.products(other);
        mine < theirs
    }

    /// Both ratios over their common denominator.
    const fn products(self, other: Self) -> (i64, i64) {
        (self.cost * other.weight as i64, other.cost * self.weight as i64)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Tournament {
    /// Keys by leaf.
    keys: Vec<Ratio>,
    /// The winning leaf below each node; node 1 is the root, leaf `i` is node `keys.len() + i`.
    winners: Vec<u32>,
    /// By leaf; `Slot::NONE` where no backend sits.
    slot_of: Vec<Slot>,
    /// By slot index.
    leaf_of: Vec<u32>,
    /// Leaves handed out so far.
    used: usize,
    key: fn(&Pool, Slot) -> Ratio,
}

#[expect(
    clippy::indexing_slicing,
    reason = "keys and slot_of have a power of two of places, winners twice as many, and every leaf in \
              winners or leaf_of is below the first"
)]
impl Tournament {
    pub(crate) fn new(pool: &Pool, key: fn(&Pool, Slot) -> Ratio) -> Self {
        let mut tree = Self {
            keys: Vec::new(),
            winners: Vec::new(),
            slot_of: Vec::new(),
            leaf_of: Vec::new(),
            used: 0,
            key,
        };
        tree.rebuild(pool);
        tree
    }

    /// What a scan from the head of the list would choose.
    #[inline]
    pub(crate) fn winner(&self) -> Option<Slot> {
        let leaf = self.winners[1] as usize;
        if self.keys[leaf].weight == 0 { None } else { self.slot_of[leaf].some() }
    }

    /// The key that won.
    pub(crate) fn best(&self) -> Ratio {
        self.keys[self.winners[1] as usize]
    }

    /// The first after `slot` in kernel order (from the head if `Slot::NONE`) with a key of at least this
    /// weight.
    pub(crate) fn next_heavy(&self, slot: Slot, weight: u32) -> Option<Slot> {
        let heavy = |node: usize| self.keys[self.winners[node] as usize].weight >= weight;
        let mut node = if slot == Slot::NONE {
            if !heavy(1) {
                return None;
            }
            1
        } else {
            // Kernel order runs from right to left: climb until a left neighbour has one.
            let mut node = self.keys.len() + self.leaf_of[slot.index()] as usize;
            loop {
                if node == 1 {
                    return None;
                }
                if node % 2 == 1 && heavy(node - 1) {
                    break node - 1;
                }
                node /= 2;
            }
        };
        while node < self.keys.len() {
            node = if heavy(2 * node + 1) { 2 * node + 1 } else { 2 * node };
        }
        self.slot_of[node - self.keys.len()].some()
    }

    /// The backend was just added at the head of the list.
    pub(crate) fn added(&mut self, pool: &Pool, slot: Slot) {
        if self.used == self.keys.len() {
            self.rebuild(pool);
            return;
        }
        let leaf = self.used;
        self.used += 1;
        if self.leaf_of.len() < pool.slots() {
            self.leaf_of.resize(pool.slots(), 0);
        }
        self.slot_of[leaf] = slot;
        self.leaf_of[slot.index()] = leaf as u32;
        self.set(leaf, (self.key)(pool, slot));
    }

    /// The backend was just removed from the list.
    pub(crate) fn removed(&mut self, slot: Slot) {
        let leaf = self.leaf_of[slot.index()] as usize;
        self.slot_of[leaf] = Slot::NONE;
        self.set(leaf, Ratio::NEVER);
    }

    /// Something the key depends on changed. Backends out of the list are ignored.
    pub(crate) fn update(&mut self, pool: &Pool, slot: Slot) {
        if let Some(&leaf) = self.leaf_of.get(slot.index())
            && self.slot_of[leaf as usize] == slot
        {
            self.set(leaf as usize, (self.key)(pool, slot));
        }
    }

    /// Lays all leaves anew.
    pub(crate) fn rebuild(&mut self, pool: &Pool) {
        // Room for some more, so that rebuilding costs an addition 64 steps at most on average.
        let size = (pool.len() + pool.len() / 64 + 1).next_power_of_two().max(2);
        self.keys = vec![Ratio::NEVER; size];
        self.slot_of = vec![Slot::NONE; size];
        self.leaf_of = vec![0; pool.slots()];
        self.used = 0;
        for slot in pool.iter_added() {
            self.keys[self.used] = (self.key)(pool, slot);
            self.slot_of[self.used] = slot;
            self.leaf_of[slot.index()] = self.used as u32;
            self.used += 1;
        }
        self.winners = vec![0; size * 2];
        for leaf in 0..size {
            self.winners[size + leaf] = leaf as u32;
        }
        for node in (1..size).rev() {
            self.winners[node] = self.play(node);
        }
    }

    fn play(&self, node: usize) -> u32 {
        let (left, right) = (self.winners[2 * node], self.winners[2 * node + 1]);
        if self.keys[left as usize].beats(self.keys[right as usize]) { left } else { right }
    }

    fn set(&mut self, leaf: usize, key: Ratio) {
        if self.keys[leaf] == key {
            return;
        }
        self.keys[leaf] = key;
        let mut node = self.keys.len() + leaf;
        let (mut champion, mut best) = (leaf, key);
        while node > 1 {
            let rival = self.winners[node ^ 1] as usize;
            let other = self.keys[rival];
            let (mine, theirs) = best.products(other);
            // The right one of the two wins a tie. Who wins is anyone's guess, hence no branch on it.
            let wins = mine < theirs + (node & 1) as i64;
            champion = select_unpredictable(wins, champion, rival);
            best.cost = select_unpredictable(wins, best.cost, other.cost);
            best.weight = select_unpredictable(wins, best.weight, other.weight);
            node /= 2;
            // Neither before nor now our match: nothing above can have changed. One branch, since a new connection
            // goes up to the root, but from where on the champion is another cannot be foreseen.
            if (champion != leaf) & (self.winners[node] as usize == champion) {
                return;
            }
            self.winners[node] = champion as u32;
        }
    }
}
