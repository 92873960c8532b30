//! The backend a full scan would choose, kept up to date in O(log n) per change and read in O(1).
//!
//! A winner tree over list positions. Leaves are handed out in the order of adding, and kernel order is
//! the reverse, so "the first in the list wins a tie" is "the right child wins a tie" at each node.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::hint::select_unpredictable;
use core::marker::PhantomData;

use crate::pool::{Pool, Slot};

/// A load per weight. The kernel compares by cross-multiplication, exactly.
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
        self.cost * (other.weight as i64) < other.cost * self.weight as i64
    }

    /// The ratio as a double's bits, which are ordered as integers are once those of negative ones are turned over.
    #[inline]
    fn double(self) -> i64 {
        let bits = (self.cost as f64 / f64::from(self.weight)).to_bits() as i64;
        bits ^ ((bits >> 63) as u64 >> 1) as i64
    }
}

/// The key of a ratio that is infinite: the bits of that double. No other key reaches it.
const NEVER: i64 = f64::INFINITY.to_bits() as i64;

/// What the keys of a tournament are, so that one number compares as the ratio does: a lesser ratio never has a greater
/// key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// Costs over the common multiple of all weights.
    Whole,
    /// Doubles. Different ratios have different keys: they differ by a part of 2^-52 at least, as cost times
    /// weight is below 2^52.
    Fine,
    /// Doubles, and some weight is so great that equal keys may stand for different ratios.
    Coarse,
}

/// The greatest common multiple for which a product with a cost stays below [`NEVER`].
const MAX_COMMON: u32 = 1 << 29;

/// The greatest weight whose ratios doubles can tell apart.
const MAX_FINE: u32 = 1 << 20;

/// A weight, and how often it is contained in the common multiple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    weight: u32,
    factor: u32,
}

impl Scale {
    const NONE: Self = Self { weight: 0, factor: 0 };
}

/// The greatest common divisor; zero only of zeros.
pub(crate) const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// What a tournament is about.
pub(crate) trait Rank: Clone {
    /// A backend's ratio; the least wins.
    fn ratio(pool: &Pool, slot: Slot) -> Ratio;
}

#[derive(Clone, Debug)]
pub(crate) struct Tournament<R> {
    /// By leaf.
    keys: Vec<i64>,
    /// By leaf; the newest that was not zero.
    scales: Vec<Scale>,
    /// The winning leaves below nodes `2 * i` and `2 * i + 1` at `i`; node 1 is the root, leaf `i` is node
    /// `keys.len() + i`.
    winners: Vec<[u32; 2]>,
    /// By leaf; `Slot::NONE` where no backend sits.
    slot_of: Vec<Slot>,
    /// By slot index.
    leaf_of: Vec<u32>,
    /// Leaves handed out so far.
    used: usize,
    grain: Grain,
    /// The common multiple.
    common: u32,
    rank: PhantomData<R>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "keys, scales, slot_of and winners have a power of two of places, nodes are below twice as many, and every \
              leaf in winners or leaf_of is below the first"
)]
impl<R: Rank> Tournament<R> {
    pub(crate) fn new(pool: &Pool) -> Self {
        let mut tree = Self {
            keys: Vec::new(),
            scales: Vec::new(),
            winners: Vec::new(),
            slot_of: Vec::new(),
            leaf_of: Vec::new(),
            used: 0,
            grain: Grain::Whole,
            common: 1,
            rank: PhantomData,
        };
        tree.rebuild(pool);
        tree
    }

    /// What a scan from the head of the list would choose; [`Slot::NONE`] if there is nothing.
    #[inline]
    pub(crate) fn winner(&self) -> Slot {
        let leaf = self.winners[0][1] as usize;
        if self.keys[leaf] == NEVER { Slot::NONE } else { self.slot_of[leaf] }
    }

    /// Whether any ratio is below zero.
    pub(crate) fn is_negative(&self) -> bool {
        self.keys[self.winners[0][1] as usize] < 0
    }

    /// The first after `slot` in kernel order (from the head if `Slot::NONE`) with at most this ratio, in a tournament where
    /// all weights are 1.
    pub(crate) fn next_up_to(&self, slot: Slot, bound: i64) -> Option<Slot> {
        let fits = |node: usize| self.keys[self.winners[node / 2][node % 2] as usize] <= bound;
        let mut node = if slot == Slot::NONE {
            if !fits(1) {
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
                if node % 2 == 1 && fits(node - 1) {
                    break node - 1;
                }
                node /= 2;
            }
        };
        while node < self.keys.len() {
            node = if fits(2 * node + 1) { 2 * node + 1 } else { 2 * node };
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
        self.set(pool, leaf, R::ratio(pool, slot));
    }

    /// The backend was just removed from the list.
    pub(crate) fn removed(&mut self, pool: &Pool, slot: Slot) {
        let leaf = self.leaf_of[slot.index()] as usize;
        self.slot_of[leaf] = Slot::NONE;
        self.set(pool, leaf, Ratio::NEVER);
    }

    /// Something the ratio depends on changed. Backends out of the list are ignored.
    pub(crate) fn update(&mut self, pool: &Pool, slot: Slot) {
        if let Some(&leaf) = self.leaf_of.get(slot.index())
            && self.slot_of[leaf as usize] == slot
        {
            self.set(pool, leaf as usize, R::ratio(pool, slot));
        }
    }

    /// Lays all leaves anew.
    pub(crate) fn rebuild(&mut self, pool: &Pool) {
        // Room for some more, so that rebuilding costs an addition 64 steps at most on average.
        let size = (pool.len() + pool.len() / 64 + 1).next_power_of_two().max(2);
        self.keys = vec![NEVER; size];
        self.slot_of = vec![Slot::NONE; size];
        self.leaf_of = vec![0; pool.slots()];
        self.used = 0;
        self.measure(pool);
        self.scales = vec![Scale::NONE; size];
        for slot in pool.iter_added() {
            let ratio = R::ratio(pool, slot);
            if ratio.weight > 0 {
                self.scales[self.used] = self.scale(ratio.weight).unwrap_or(Scale::NONE);
            }
            self.keys[self.used] = self.key(self.used, ratio);
            self.slot_of[self.used] = slot;
            self.leaf_of[slot.index()] = self.used as u32;
            self.used += 1;
        }
        self.winners = vec![[0; 2]; size];
        for leaf in 0..size {
            self.winners[(size + leaf) / 2][leaf % 2] = leaf as u32;
        }
        for node in (1..size).rev() {
            self.play(pool, node);
        }
    }

    /// Settles what the keys are. The common multiple stays one of those before if it can, so that weights that come and go
    /// do not change it each time.
    fn measure(&mut self, pool: &Pool) {
        let weights = || pool.iter().map(|slot| R::ratio(pool, slot).weight).filter(|weight| *weight > 0);
        let multiple = |known: u32, weight: u32| {
            let multiple = (known / gcd(known, weight)).checked_mul(weight)?;
            (multiple <= MAX_COMMON).then_some(multiple)
        };
        let common = weights().try_fold(self.common, multiple).or_else(|| weights().try_fold(1, multiple));
        self.common = common.unwrap_or(1);
        self.grain = match weights().max() {
            _ if common.is_some() => Grain::Whole,
            Some(greatest) if greatest > MAX_FINE => Grain::Coarse,
            _ => Grain::Fine,
        };
    }

    /// The scale of a weight; none if keys as they are cannot hold it.
    fn scale(&self, weight: u32) -> Option<Scale> {
        let fits = match self.grain {
            Grain::Whole => self.common.is_multiple_of(weight),
            Grain::Fine => weight <= MAX_FINE,
            Grain::Coarse => true,
        };
        fits.then_some(Scale { weight, factor: self.common / weight })
    }

    #[inline]
    fn key(&self, leaf: usize, ratio: Ratio) -> i64 {
        match self.grain {
            _ if ratio.weight == 0 => NEVER,
            Grain::Whole => ratio.cost * i64::from(self.scales[leaf].factor),
            Grain::Fine | Grain::Coarse => ratio.double(),
        }
    }

    /// The match of a node's two children, by their ratios where keys cannot tell.
    fn play(&mut self, pool: &Pool, node: usize) {
        let [left, right] = self.winners[node];
        let ratio = |leaf: u32| match self.slot_of[leaf as usize].some() {
            Some(slot) => R::ratio(pool, slot),
            None => Ratio::NEVER,
        };
        let left_wins = match self.keys[left as usize].cmp(&self.keys[right as usize]) {
            Ordering::Equal if self.grain == Grain::Coarse => ratio(left).beats(ratio(right)),
            order => order == Ordering::Less,
        };
        self.winners[node / 2][node % 2] = if left_wins { left } else { right };
    }

    #[inline]
    fn set(&mut self, pool: &Pool, leaf: usize, ratio: Ratio) {
        if ratio.weight > 0 && self.scales[leaf].weight != ratio.weight {
            match self.scale(ratio.weight) {
                Some(scale) => self.scales[leaf] = scale,
                None => return self.rebuild(pool),
            }
        }
        let key = self.key(leaf, ratio);
        if self.grain == Grain::Coarse {
            self.replay_exactly(pool, leaf, key);
        } else if self.keys[leaf] != key {
            self.replay(leaf, key);
        }
    }

    #[inline]
    fn replay(&mut self, leaf: usize, key: i64) {
        let (keys, winners) = (&mut self.keys[..], &mut self.winners[..]);
        keys[leaf] = key;
        let mut node = keys.len() + leaf;
        let mut pair = &mut winners[node / 2];
        let (mut champion, mut best) = (leaf as u32, key);
        while node > 1 {
            let rival = pair[(node & 1) ^ 1];
            let other = keys[rival as usize];
            // The right one of the two wins a tie. Who wins is anyone's guess, hence no branch on it.
            let wins = best < other + (node & 1) as i64;
            champion = select_unpredictable(wins, champion, rival);
            best = select_unpredictable(wins, best, other);
            node /= 2;
            pair = &mut winners[node / 2];
            let known = &mut pair[node & 1];
            // Neither before nor now our match: nothing above can have changed. One branch, since a new connection
            // goes up to the root, but from where on the champion is another cannot be foreseen.
            if (champion != leaf as u32) & (*known == champion) {
                return;
            }
            *known = champion;
        }
    }

    #[cold]
    fn replay_exactly(&mut self, pool: &Pool, leaf: usize, key: i64) {
        self.keys[leaf] = key;
        let mut node = (self.keys.len() + leaf) / 2;
        while node > 0 {
            self.play(pool, node);
            node /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::balancer::KernelRules;
    use core::net::SocketAddr;
    use core::time::Duration;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Upper threshold per weight, since both can be set to anything.
    #[derive(Clone)]
    struct Configured;

    impl Rank for Configured {
        fn ratio(pool: &Pool, slot: Slot) -> Ratio {
            let Backend { upper_threshold, weight, .. } = pool.details(slot).backend;
            if weight == 0 { Ratio::NEVER } else { Ratio { cost: upper_threshold.into(), weight } }
        }
    }

    /// Events on a dozen of backends, with weights up to some bound.
    fn events(greatest: u32) -> impl Strategy<Value = Vec<(u8, Option<(u32, u32)>)>> {
        let edge = |edge: u32| edge.saturating_sub(4)..=edge.saturating_add(4).min(crate::MAX_WEIGHT);
        let cost = prop_oneof![0..4_u32, u32::MAX - 40..=u32::MAX, any::<u32>()];
        let weight = prop_oneof![2 => Just(1), 3 => 0..13_u32, 2 => edge(greatest)];
        vec((0..12_u8, prop::option::weighted(0.9, (cost, weight))), 1..80)
    }

    proptest! {
        /// With ratios as near to one another as there are (at the edges some differ by 2^-63 of their value).
        #[test]
        fn wins_who_a_scan_would_find(
            events in prop_oneof![events(30), events(MAX_FINE), events(MAX_COMMON), events(crate::MAX_WEIGHT)],
        ) {
            let mut pool = Pool::new(KernelRules::Current, 0);
            let mut tree = Tournament::<Configured>::new(&pool);
            for (number, ratio) in events {
                let address = SocketAddr::from(([10, 2, 0, number], 80));
                let known = pool.find(address);
                if let Some((upper, weight)) = ratio {
                    let backend = Backend::new(address).with_weight(weight).with_thresholds(upper, 0);
                    match known {
                        Some(_) => {
                            let slot = pool.edit(backend).unwrap();
                            tree.update(&pool, slot);
                        },
                        None => {
                            let slot = pool.add(backend, Duration::ZERO).unwrap();
                            tree.added(&pool, slot);
                        }
                    }
                } else if let Some(slot) = known {
                    pool.remove(slot, Duration::ZERO);
                    tree.removed(&pool, slot);
                }
                let ratio = |slot: &Slot| Configured::ratio(&pool, *slot);
                let least = pool.iter().filter(|slot| ratio(slot).weight > 0);
                let least = least.reduce(|best, slot| if ratio(&slot).beats(ratio(&best)) { slot } else { best });
                prop_assert_eq!(tree.winner().some(), least);
            }
        }
    }
}
