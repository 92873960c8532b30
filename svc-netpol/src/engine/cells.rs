//! Cells of a row: the peers that have a function of their own, and which it is.

use alloc::vec;
use alloc::vec::Vec;

use super::PeerId;

/// A hash table with open addressing, so that a look-up touches one line of a cache as a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cells {
    /// 1 + the peer in the upper half, the offset in the lower; 0 where free. A power of two of them, at most
    /// half of which are in use.
    slots: Vec<u64>,
    used: usize,
}

const FEWEST: usize = 4;

/// Where the search for a peer begins, before it is cut to the size of the table.
#[inline]
const fn home(tag: u64) -> usize {
    (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

#[inline]
const fn tag_of(peer: PeerId) -> u64 {
    peer as u64 + 1
}

impl Cells {
    /// The slot of a peer, or the free one where it would be; `None` if there are no slots at all.
    #[inline]
    fn find(&self, tag: u64) -> Option<(usize, u64)> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = home(tag) & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot >> 32 == tag || slot == 0 {
                return Some((at, slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// The offset that a peer has.
    #[inline]
    pub(crate) fn get(&self, peer: PeerId) -> Option<u32> {
        let (_, slot) = self.find(tag_of(peer))?;
        (slot != 0).then_some(slot as u32)
    }

    pub(crate) fn set(&mut self, peer: PeerId, offset: u32) {
        if 2 * (self.used + 1) > self.slots.len() {
            self.resize(FEWEST.max(2 * self.slots.len()));
        }
        let tag = tag_of(peer);
        let Some((at, slot)) = self.find(tag) else { return };
        self.used += usize::from(slot == 0);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = tag << 32 | u64::from(offset);
        }
    }

    /// Makes room for as many peers as will be there.
    pub(crate) fn reserve(&mut self, peers: usize) {
        let wanted = (2 * (self.used + peers)).next_power_of_two();
        if peers > 0 && wanted > self.slots.len() {
            self.resize(wanted.max(FEWEST));
        }
    }

    fn resize(&mut self, slots: usize) {
        let old = core::mem::replace(&mut self.slots, vec![0; slots]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            if let Some((at, _)) = self.find(slot >> 32)
                && let Some(free) = self.slots.get_mut(at)
            {
                *free = slot;
            }
        }
    }

    pub(crate) fn remove(&mut self, peer: PeerId) {
        let Some((mut hole, found)) = self.find(tag_of(peer)) else { return };
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

    fn put(&mut self, at: usize, value: u64) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = value;
        }
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cells_are_a_map(steps in proptest::collection::vec((0u32..24, proptest::option::of(0u32..9)), 0..200)) {
            let (mut cells, mut map) = (Cells::default(), BTreeMap::new());
            for (peer, offset) in steps {
                // Numbers that meet in few slots.
                let peer = peer * 0x0100_0000;
                match offset {
                    Some(offset) => {
                        cells.set(peer, offset);
                        map.insert(peer, offset);
                    }
                    None => {
                        cells.remove(peer);
                        map.remove(&peer);
                    }
                }
                for peer in (0..24).map(|peer| peer * 0x0100_0000) {
                    prop_assert_eq!(cells.get(peer), map.get(&peer).copied());
                }
            }
            prop_assert_eq!(cells.get(PeerId::MAX), None);
        }
    }
}
