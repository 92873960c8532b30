//! A copy-on-write B+ tree: the ordered map under every table and index of the cluster.
//!
//! A clone shares all nodes (one reference count), and a write copies only the nodes on its path that are still
//! shared, so a snapshot costs nothing and the first change after it costs a few nodes, whatever the size of the
//! map. `BTreeMap` copies everything on clone; the persistent maps at hand are either not `no_std` or spend two
//! allocations an entry, where this spends one allocation per [`WIDTH`] entries.
//!
//! Lookups take a *probe*, a function that orders a stored key relative to what is sought (`Less`: the key comes
//! before it). Thus a composite key is found by borrowed parts, and a probe that answers `Equal` for a whole run of
//! keys scans by prefix ([`Tree::range`]).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::mem;
use core::slice;

/// The most entries of a node. Wide enough that a node's overhead vanishes beside its entries, narrow enough that
/// copying one stays well below a microsecond.
const WIDTH: usize = 64;

/// A node below this many entries joins a neighbour that has room.
const SPARSE: usize = WIDTH / 4;

/// An ordered map with O(1) clones; see the module documentation.
#[derive(Clone)]
pub(crate) struct Tree<K, V = ()> {
    root: Option<Node<K, V>>,
    len: usize,
}

/// Every leaf lies at the same depth. In a branch each child carries a lower bound of its keys; the first child's
/// bound is never read, so that smaller keys can be added to it without touching its parents.
#[derive(Clone)]
enum Node<K, V> {
    Leaf(Arc<Vec<(K, V)>>),
    Branch(Arc<Vec<(K, Self)>>),
}

/// What an insertion leaves for the parent: the value replaced, and a new right neighbour with its lower bound.
struct Inserted<K, V> {
    replaced: Option<V>,
    split: Option<(K, Node<K, V>)>,
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K, V> Tree<K, V> {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value under the key for which `probe` answers `Equal`.
    pub(crate) fn get(&self, probe: impl Fn(&K) -> Ordering) -> Option<&V> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(key, _)| probe(key)).ok()?;
                    return entries.get(at).map(|(_, value)| value);
                }
                Node::Branch(children) => node = &children.get(child_of(children, &probe))?.1,
            }
        }
    }

    /// The first key and its value.
    pub(crate) fn first(&self) -> Option<(&K, &V)> {
        let (key, value) = self.seek(|_| false).next()?;
        Some((key, value))
    }

    /// The entries of one leaf from the first key on that is not `before`; nothing if there is none such.
    fn seek(&self, before: impl Fn(&K) -> bool) -> slice::Iter<'_, (K, V)> {
        let Some(mut node) = self.root.as_ref() else { return [].iter() };
        // Where to go on if the leaf below holds only earlier keys: the nearest subtree to the right.
        let mut right = None;
        loop {
            match node {
                Node::Branch(children) => {
                    let bounds = children.get(1..).unwrap_or_default();
                    let at = bounds.partition_point(|(bound, _)| before(bound));
                    right = children.get(at + 1).map(|(_, child)| child).or(right);
                    let Some((_, child)) = children.get(at) else { return [].iter() };
                    node = child;
                }
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|(key, _)| before(key));
                    match (entries.get(at..), right.take()) {
                        (Some(entries @ [_, ..]), _) => return entries.iter(),
                        (_, Some(next)) => node = next,
                        (_, None) => return [].iter(),
                    }
                }
            }
        }
    }
}

impl<K: Ord, V> Tree<K, V> {
    /// All entries in key order.
    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        Iter { tree: self, leaf: self.seek(|_| false), last: None }
    }

    /// The run of entries whose keys `probe` calls `Equal`, in key order.
    pub(crate) fn range<'a, P>(&'a self, probe: P) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V, P>
    where
        P: Fn(&K) -> Ordering,
    {
        let leaf = self.seek(|key| probe(key).is_lt());
        Iter { tree: self, leaf, last: None }.take_while(move |(key, _)| probe(key).is_eq())
    }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// Puts `value` under `key` and returns the value that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(root) = &mut self.root else {
            self.root = Some(Node::Leaf(Arc::new(alloc::vec![(key, value)])));
            self.len = 1;
            return None;
        };
        let Inserted { replaced, split } = root.insert(key, value);
        if let Some((bound, right)) = split {
            let left = mem::replace(root, Node::Leaf(Arc::default()));
            *root = Node::Branch(Arc::new(alloc::vec![(bound.clone(), left), (bound, right)]));
        }
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// The value under a key, to be changed in place. Copies nothing when there is no such key.
    pub(crate) fn get_mut(&mut self, probe: impl Fn(&K) -> Ordering) -> Option<&mut V> {
        self.get(&probe)?;
        let mut node = self.root.as_mut()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(key, _)| probe(key)).ok()?;
                    return Arc::make_mut(entries).get_mut(at).map(|(_, value)| value);
                }
                Node::Branch(children) => {
                    let at = child_of(children, &probe);
                    node = &mut Arc::make_mut(children).get_mut(at)?.1;
                }
            }
        }
    }

    /// Changes the value under a key in place; a new key starts from the default.
    pub(crate) fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        if let Some(value) = self.get_mut(|stored| stored.cmp(key)) {
            return change(value);
        }
        let mut value = V::default();
        let result = change(&mut value);
        self.insert(key.clone(), value);
        result
    }

    /// Takes a key out. Copies nothing when there is no such key.
    pub(crate) fn remove(&mut self, probe: impl Fn(&K) -> Ordering) -> Option<(K, V)> {
        self.get(&probe)?;
        let root = self.root.as_mut()?;
        let removed = root.remove(&probe)?;
        self.len -= 1;
        if root.len() == 0 {
            self.root = None;
        } else if let Node::Branch(children) = root
            && let [(_, only)] = children.as_slice()
        {
            *root = only.clone();
        }
        Some(removed)
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(children) => children.len(),
        }
    }

    fn insert(&mut self, key: K, value: V) -> Inserted<K, V> {
        match self {
            Self::Leaf(entries) => match entries.binary_search_by(|(stored, _)| stored.cmp(&key)) {
                Ok(at) => {
                    let slot = Arc::make_mut(entries).get_mut(at);
                    Inserted { replaced: slot.map(|(_, slot)| mem::replace(slot, value)), split: None }
                }
                Err(at) => {
                    let split = insert_at(Arc::make_mut(entries), at, (key, value));
                    let split = split.map(|(bound, right)| (bound, Self::Leaf(Arc::new(right))));
                    Inserted { replaced: None, split }
                }
            },
            Self::Branch(children) => {
                let at = child_of(children, &|stored: &K| stored.cmp(&key));
                let children = Arc::make_mut(children);
                let Some((_, child)) = children.get_mut(at) else {
                    return Inserted { replaced: None, split: None };
                };
                let Inserted { replaced, split } = child.insert(key, value);
                let split = split
                    .and_then(|new| insert_at(children, at + 1, new))
                    .map(|(bound, right)| (bound, Self::Branch(Arc::new(right))));
                Inserted { replaced, split }
            }
        }
    }

    fn remove(&mut self, probe: &impl Fn(&K) -> Ordering) -> Option<(K, V)> {
        match self {
            Self::Leaf(entries) => {
                let at = entries.binary_search_by(|(key, _)| probe(key)).ok()?;
                Some(Arc::make_mut(entries).remove(at))
            }
            Self::Branch(children) => {
                let at = child_of(children, probe);
                let children = Arc::make_mut(children);
                let child = &mut children.get_mut(at)?.1;
                let removed = child.remove(probe)?;
                if child.len() < SPARSE {
                    join(children, at);
                }
                Some(removed)
            }
        }
    }

    /// Appends `right`, the next node of the same depth, whose keys are not below `bound`.
    fn append(&mut self, bound: K, right: Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                Arc::make_mut(left).extend(Arc::unwrap_or_clone(right));
            }
            (Self::Branch(left), Self::Branch(right)) => {
                let mut right = Arc::unwrap_or_clone(right);
                // The first bound of a branch may be too high (see `Node`); from here on it will be read.
                if let Some((first, _)) = right.first_mut() {
                    *first = bound;
                }
                Arc::make_mut(left).extend(right);
            }
            // Nodes of one parent have one depth.
            (Self::Leaf(_), Self::Branch(_)) | (Self::Branch(_), Self::Leaf(_)) => {}
        }
    }
}

/// The position of the child in which the key sought by `probe` lies, if anywhere.
fn child_of<K, N>(children: &[(K, N)], probe: &impl Fn(&K) -> Ordering) -> usize {
    children.get(1..).unwrap_or_default().partition_point(|(bound, _)| probe(bound).is_le())
}

/// Inserts into the sorted entries of a node. A full node gives up its upper half, or, when the entry goes to its
/// end as in a load of sorted keys, nothing, so that such a load leaves full nodes behind.
fn insert_at<K: Clone, T>(entries: &mut Vec<(K, T)>, at: usize, new: (K, T)) -> Option<(K, Vec<(K, T)>)> {
    if entries.len() < WIDTH {
        entries.insert(at, new);
        return None;
    }
    let half = if at == entries.len() { at } else { entries.len() / 2 };
    let mut right = entries.split_off(half);
    match at.checked_sub(half) {
        Some(at) => right.insert(at, new),
        None => entries.insert(at, new),
    }
    let bound = right.first()?.0.clone();
    Some((bound, right))
}

/// Joins the sparse child at `at` with a neighbour if both fit in three quarters of a node; an empty one goes.
fn join<K: Ord + Clone, V: Clone>(children: &mut Vec<(K, Node<K, V>)>, at: usize) {
    let len_at = |at: usize| children.get(at).map(|(_, child)| child.len());
    let Some(len) = len_at(at) else { return };
    let fits = |other: Option<usize>| other.is_some_and(|other| len + other <= WIDTH * 3 / 4);
    let left = if at.checked_sub(1).is_some_and(|before| fits(len_at(before))) {
        at - 1
    } else if fits(len_at(at + 1)) {
        at
    } else {
        if len == 0 {
            children.remove(at);
        }
        return;
    };
    let (bound, right) = children.remove(left + 1);
    if let Some((_, left)) = children.get_mut(left) {
        left.append(bound, right);
    }
}

/// Entries in key order; see [`Tree::iter`]. At the end of a leaf the next one is sought from the root, which for
/// the many short runs is cheaper than to carry the path along.
pub(crate) struct Iter<'a, K, V> {
    tree: &'a Tree<K, V>,
    leaf: slice::Iter<'a, (K, V)>,
    last: Option<&'a K>,
}

impl<'a, K: Ord, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = match self.leaf.next() {
            Some(entry) => entry,
            None => {
                let last = self.last.take()?;
                self.leaf = self.tree.seek(|key| key <= last);
                self.leaf.next()?
            }
        };
        self.last = Some(key);
        Some((key, value))
    }
}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Equal contents; the shape, which depends on the history, does not count.
impl<K: Ord, V: PartialEq> PartialEq for Tree<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord, V: Eq> Eq for Tree<K, V> {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8),
        Remove(u16),
        Change(u16),
        Snapshot,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Few keys for many replacements and removals, many for depth.
        prop_oneof![Just(40_u16), Just(600), Just(20_000)].prop_flat_map(|keys| {
            let step = prop_oneof![
                6 => (0..keys, any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
                5 => (0..keys).prop_map(Step::Remove),
                1 => (0..keys).prop_map(Step::Change),
                1 => Just(Step::Snapshot),
            ];
            prop::collection::vec(step, 0..1500)
        })
    }

    /// Depth of every leaf, to see that all are equal; node sizes on the way.
    fn check<K: Ord + Clone, V: Clone>(node: &Node<K, V>) -> usize {
        assert!(node.len() > 0 && node.len() <= WIDTH);
        match node {
            Node::Leaf(_) => 0,
            Node::Branch(children) => {
                let depths: Vec<usize> = children.iter().map(|(_, child)| check(child)).collect();
                assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
                depths[0] + 1
            }
        }
    }

    fn agree(tree: &Tree<u16, u8>, twin: &BTreeMap<u16, u8>) {
        assert_eq!(tree.len(), twin.len());
        assert!(tree.iter().eq(twin.iter()), "{tree:?} is not {twin:?}");
        if let Some(root) = &tree.root {
            check(root);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any history gives what `BTreeMap` gives, and no snapshot sees what comes after it.
        #[test]
        fn equals_btree_map(steps in steps()) {
            let (mut tree, mut twin) = (Tree::default(), BTreeMap::new());
            let mut snapshots = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        assert_eq!(tree.insert(key, value), twin.insert(key, value));
                    }
                    Step::Remove(key) => {
                        assert_eq!(tree.remove(|k| k.cmp(&key)).map(|(_, v)| v), twin.remove(&key));
                    }
                    Step::Change(key) => {
                        let (here, there) = (tree.get_mut(|k| k.cmp(&key)), twin.get_mut(&key));
                        assert_eq!(here, there);
                        if let (Some(here), Some(there)) = (here, there) {
                            *here ^= 1;
                            *there ^= 1;
                        }
                    }
                    Step::Snapshot => snapshots.push((tree.clone(), twin.clone())),
                }
            }
            for (tree, twin) in snapshots.iter().chain([&(tree, twin)]) {
                agree(tree, twin);
                assert_eq!(tree.first(), twin.first_key_value());
                for key in [0, 1, 63, 64, 300, 5000] {
                    assert_eq!(tree.get(|k| k.cmp(&key)), twin.get(&key));
                    // A run of 16 keys is a prefix.
                    let run = tree.range(|k| (k / 16).cmp(&(key / 16)));
                    let first = key / 16 * 16;
                    assert!(run.eq(twin.range(first..first + 16)));
                }
            }
        }
    }

    #[test]
    fn drains_to_nothing_in_any_order() {
        // Forwards, backwards, and scattered by a step that shares no factor with the number of keys.
        for order in [|step| step, |step| 9_999 - step, |step| step * 7_919 % 10_000] {
            let mut tree = Tree::default();
            for key in 0..10_000 {
                tree.insert(key, ());
            }
            for step in 0..10_000 {
                let key: u32 = order(step);
                assert!(tree.remove(|k| k.cmp(&key)).is_some());
                if let Some(root) = &tree.root {
                    check(root);
                }
            }
            assert!(tree.is_empty() && tree.root.is_none());
        }
    }
}
