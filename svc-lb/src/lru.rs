//! A bounded map that forgets what was not used for longest: the memory of affinity and of locality caches.
//!
//! The entries are dealt over lists (one for a whole map, or one for each backend), and the bound holds for
//! each list on its own.

use alloc::vec::Vec;
use core::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node<V> {
    /// High and low half; as one `u128` it would pad every node to 16 bytes.
    key: [u64; 2],
    value: V,
    list: u32,
    /// Towards the more recently used.
    newer: u32,
    /// Towards the less recently used.
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    len: u32,
}

/// Keys are widened addresses. All operations are O(1) but for growth.
#[derive(Clone, Debug)]
pub(crate) struct Lru<V> {
    table: HashTable<u32>,
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
    lists: Vec<List>,
    capacity: u32,
    hasher: FixedState,
}

const fn split(key: u128) -> [u64; 2] {
    [(key >> 64) as u64, key as u64]
}

#[expect(clippy::indexing_slicing, reason = "node numbers in the table and the links are below nodes.len()")]
impl<V: Default> Lru<V> {
    /// Holds at most `capacity` entries (at least one) in each list; `seed` keys the hash.
    pub(crate) fn new(capacity: u32, seed: u64) -> Self {
        Self {
            table: HashTable::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            lists: Vec::new(),
            capacity: capacity.max(1),
            hasher: FixedState::with_seed(seed),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the heap in use.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.table.allocation_size()
            + self.nodes.capacity() * size_of::<Node<V>>()
            + self.free.capacity() * size_of::<u32>()
            + self.lists.capacity() * size_of::<List>()
    }

    fn find(&self, key: u128) -> Option<u32> {
        let key = split(key);
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |&node| self.nodes[node as usize].key == key).copied()
    }

    /// The value at a place that [`insert`](Self::insert) or [`touch`](Self::touch) told, or what came there since.
    pub(crate) fn at_mut(&mut self, place: u32) -> Option<&mut V> {
        self.nodes.get_mut(place as usize).map(|node| &mut node.value)
    }

    /// The value and its place; it becomes the most recently used of its list.
    pub(crate) fn touch(&mut self, key: u128) -> Option<(u32, &mut V)> {
        let node = self.find(key)?;
        if self.nodes[node as usize].newer != NONE {
            self.unlink(node);
            self.link_newest(node);
        }
        Some((node, &mut self.nodes[node as usize].value))
    }

    /// Inserts a key that is absent; the caller has looked. Returns its place, and what had to leave for it.
    pub(crate) fn insert(&mut self, list: u32, key: u128, value: V) -> (u32, Option<V>) {
        let wanted = list as usize + 1;
        if self.lists.len() < wanted {
            self.lists.resize(wanted, List { newest: NONE, oldest: NONE, len: 0 });
        }
        let full = self.lists[list as usize].len >= self.capacity;
        let evicted = if full { self.pop_oldest(list) } else { None };
        let fresh = Node { key: split(key), value, list, newer: NONE, older: NONE };
        let node = match self.free.pop() {
            Some(node) => {
                self.nodes[node as usize] = fresh;
                node
            }
            None => {
                self.nodes.push(fresh);
                (self.nodes.len() - 1) as u32
            }
        };
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let hash = hasher.hash_one(split(key));
        self.table.insert_unique(hash, node, |&other| hasher.hash_one(nodes[other as usize].key));
        self.link_newest(node);
        (node, evicted)
    }

    /// The entry of this list that will be evicted next.
    pub(crate) fn oldest(&self, list: u32) -> Option<&V> {
        let node = self.lists.get(list as usize)?.oldest;
        self.nodes.get(node as usize).map(|node| &node.value)
    }

    pub(crate) fn pop_oldest(&mut self, list: u32) -> Option<V> {
        let node = self.lists.get(list as usize)?.oldest;
        let [high, low] = self.nodes.get(node as usize)?.key;
        self.remove(u128::from(high) << 64 | u128::from(low))
    }

    pub(crate) fn remove(&mut self, key: u128) -> Option<V> {
        let key = split(key);
        let hash = self.hasher.hash_one(key);
        let nodes = &self.nodes;
        let entry = self.table.find_entry(hash, |&node| nodes[node as usize].key == key).ok()?;
        let node = entry.remove().0;
        self.unlink(node);
        self.free.push(node);
        Some(core::mem::take(&mut self.nodes[node as usize].value))
    }

    /// Empties the map, handing out every value.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = V> + '_ {
        self.lists.clear();
        self.free.clear();
        let mut live: Vec<u32> = self.table.drain().collect();
        live.sort_unstable();
        let mut at = 0;
        self.nodes.drain(..).enumerate().filter_map(move |(index, node)| {
            let found = live.get(at).is_some_and(|&next| next as usize == index);
            at += usize::from(found);
            found.then_some(node.value)
        })
    }

    fn unlink(&mut self, node: u32) {
        let Node { newer, older, list, .. } = self.nodes[node as usize];
        let list = list as usize;
        self.lists[list].len -= 1;
        if newer == NONE {
            self.lists[list].newest = older;
        } else {
            self.nodes[newer as usize].older = older;
        }
        if older == NONE {
            self.lists[list].oldest = newer;
        } else {
            self.nodes[older as usize].newer = newer;
        }
    }

    fn link_newest(&mut self, node: u32) {
        let list = self.nodes[node as usize].list as usize;
        let old = self.lists[list].newest;
        self.nodes[node as usize].newer = NONE;
        self.nodes[node as usize].older = old;
        if old == NONE {
            self.lists[list].oldest = node;
        } else {
            self.nodes[old as usize].newer = node;
        }
        self.lists[list].newest = node;
        self.lists[list].len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_least_recently_used_of_the_same_list() {
        let mut lru = Lru::new(2, 7);
        assert_eq!(lru.insert(0, 1, 'a'), (0, None));
        assert_eq!(lru.insert(0, 2, 'b'), (1, None));
        assert_eq!(lru.insert(5, 9, 'z'), (2, None));
        assert_eq!(lru.touch(1), Some((0, &mut 'a')));
        assert_eq!(lru.insert(0, 3, 'c'), (1, Some('b')));
        assert_eq!(lru.touch(2), None);
        assert_eq!(lru.oldest(0), Some(&'a'));
        assert_eq!(lru.remove(3), Some('c'));
        assert_eq!(lru.oldest(5), Some(&'z'));
        assert_eq!(lru.len(), 2);
        assert_eq!(lru.drain().collect::<Vec<_>>(), ['a', 'z']);
        assert_eq!(lru.insert(0, 1, 'q'), (0, None));
    }
}
