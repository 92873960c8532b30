//! Selectors by what they demand: from labels to the selectors that match them.

use core::cmp::Ordering;
use core::fmt;

use smol_str::SmolStr;

use super::tree::Tree;
use crate::selector::{Operator, Requirement};
use crate::{Labels, Selector};

/// How far the entries under a label are counted to find the rarest: beyond this, all are equally bad.
const ENOUGH: usize = 64;

/// Many selectors, found by the labels they match.
///
/// Each selector is filed under one of its requirements: the label that the fewest others are filed under. Labels are
/// then compared only with the selectors filed under one of them, and with those that demand no label at all. The
/// cost of a query is that of a look-up per label, plus a match per selector found there, however many there are.
///
/// `T` identifies a selector; one `T` has one selector at a time. Clones share everything (O(1)).
///
/// ```
/// use svc_model::{Labels, Selector, cluster::SelectorIndex};
///
/// let mut index = SelectorIndex::default();
/// index.insert("web", "app=web,tier in (front, edge)".parse::<Selector>()?);
/// index.insert("all", Selector::EVERYTHING);
/// let labels = Labels::from_iter([("app", "web"), ("tier", "edge")]);
/// assert!(index.matching(&labels).eq([&"all", &"web"]));
/// # Ok::<(), svc_model::selector::ParseSelectorError>(())
/// ```
#[derive(Clone)]
pub struct SelectorIndex<T> {
    filed: Tree<(Anchor, T), Selector>,
    /// How many are filed under a key alone, so that the usual case, none, costs no look-up.
    by_key: usize,
}

/// What a selector is filed under. Labels without it cannot match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Anchor {
    /// No requirement demands a label.
    Any,
    /// A label with this key.
    Key(SmolStr),
    /// This label.
    Label(SmolStr, SmolStr),
}

impl<T> Default for SelectorIndex<T> {
    fn default() -> Self {
        Self { filed: Tree::default(), by_key: 0 }
    }
}

impl<T> SelectorIndex<T> {
    /// True if no selector is filed. Those that match nothing never are.
    pub fn is_empty(&self) -> bool {
        self.filed.is_empty()
    }
}

impl<T: Ord + Clone> SelectorIndex<T> {
    /// Files a selector. The one that `id` had before must have been removed.
    pub fn insert(&mut self, id: T, selector: Selector) {
        if selector.is_nothing() {
            return;
        }
        let demands = selector.requirements().iter().filter(|requirement| demands_label(requirement));
        match demands.min_by_key(|requirement| self.crowd(requirement)) {
            None => {
                self.filed.insert((Anchor::Any, id), selector);
            }
            Some(requirement) => {
                for anchor in anchors(requirement) {
                    self.by_key += usize::from(matches!(anchor, Anchor::Key(_)));
                    self.filed.insert((anchor, id.clone()), selector.clone());
                }
            }
        }
    }

    /// Takes out the selector that `id` was filed with.
    pub fn remove(&mut self, id: &T, selector: &Selector) {
        let demands = selector.requirements().iter().filter(|requirement| demands_label(requirement));
        // Which of them was the rarest at that time is not remembered, so all are tried.
        for anchor in core::iter::once(Anchor::Any).chain(demands.flat_map(anchors)) {
            let removed =
                self.filed.remove(|(stored, owner)| stored.cmp(&anchor).then_with(|| owner.cmp(id)));
            self.by_key -= usize::from(removed.is_some() && matches!(anchor, Anchor::Key(_)));
        }
    }

    /// The owners of all selectors that match, each once, in an order that is fixed but has no meaning.
    pub fn matching<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a T> {
        let any = self.filed.range(|(anchor, _)| anchor.cmp(&Anchor::Any));
        let key = labels.iter().filter(|_| self.by_key > 0).flat_map(|(key, _)| self.under_key(key));
        let label = labels.iter().flat_map(|(key, value)| self.under_label(key, value));
        any.chain(key).chain(label).filter(|(_, selector)| selector.matches(labels)).map(|((_, id), _)| id)
    }

    fn under_key(&self, key: &str) -> impl Iterator<Item = (&(Anchor, T), &Selector)> {
        self.filed.range(move |(anchor, _)| match anchor {
            Anchor::Any => Ordering::Less,
            Anchor::Key(stored) => stored.as_str().cmp(key),
            Anchor::Label(..) => Ordering::Greater,
        })
    }

    fn under_label(&self, key: &str, value: &str) -> impl Iterator<Item = (&(Anchor, T), &Selector)> {
        self.filed.range(move |(anchor, _)| match anchor {
            Anchor::Any | Anchor::Key(_) => Ordering::Less,
            Anchor::Label(stored_key, stored_value) => {
                stored_key.as_str().cmp(key).then_with(|| stored_value.as_str().cmp(value))
            }
        })
    }

    /// How many selectors are filed where this requirement would file one, counted up to [`ENOUGH`].
    fn crowd(&self, requirement: &Requirement) -> usize {
        let under = |anchor| match anchor {
            Anchor::Any => 0,
            Anchor::Key(key) => self.under_key(&key).take(ENOUGH).count(),
            Anchor::Label(key, value) => self.under_label(&key, &value).take(ENOUGH).count(),
        };
        anchors(requirement).map(under).sum()
    }
}

impl<T: Ord + fmt::Debug> fmt::Debug for SelectorIndex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.filed.iter().map(|((_, id), selector)| (id, selector))).finish()
    }
}

/// Whether only labels that have the requirement's key can satisfy it.
pub(super) fn demands_label(requirement: &Requirement) -> bool {
    match requirement.operator() {
        Operator::Equals
        | Operator::DoubleEquals
        | Operator::In
        | Operator::Exists
        | Operator::GreaterThan
        | Operator::LessThan => true,
        Operator::NotEquals | Operator::NotIn | Operator::DoesNotExist => false,
    }
}

/// The anchors of a requirement that demands a label: labels that satisfy it have exactly one of them.
fn anchors(requirement: &Requirement) -> impl Iterator<Item = Anchor> {
    let key = SmolStr::from(requirement.key());
    let by_value = matches!(requirement.operator(), Operator::Equals | Operator::DoubleEquals | Operator::In);
    let values = if by_value { requirement.values() } else { &[] };
    let only_key = (!by_value).then(|| Anchor::Key(key.clone()));
    values.iter().map(move |value| Anchor::Label(key.clone(), value.clone())).chain(only_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn labels() -> impl Strategy<Value = Labels> {
        prop::collection::vec(("[abc]", "[xyz1]"), 0..4).prop_map(Labels::from_iter)
    }

    fn selector() -> impl Strategy<Value = Selector> {
        let requirement =
            ("[abc]", 0..9_u8, prop::collection::vec("[xyz]", 1..3)).prop_map(|(key, operator, values)| {
                let one = &values[..1];
                let (operator, values) = match operator {
                    0 | 1 => (Operator::Equals, one),
                    2 => (Operator::In, &values[..]),
                    3 => (Operator::NotIn, &values[..]),
                    4 => (Operator::Exists, &[][..]),
                    5 => (Operator::DoesNotExist, &[][..]),
                    6 => (Operator::NotEquals, one),
                    _ => return Requirement::new(key, Operator::LessThan, ["5"]).unwrap(),
                };
                Requirement::new(key, operator, values.to_vec()).unwrap()
            });
        prop_oneof![
            8 => prop::collection::vec(requirement, 0..4).prop_map(Selector::new),
            1 => Just(Selector::NOTHING),
        ]
    }

    proptest! {
        /// The index finds what a match against every selector finds, after any inserts and removals.
        #[test]
        fn finds_what_a_scan_finds(
            steps in prop::collection::vec((0..12_usize, prop::option::weighted(0.8, selector())), 0..40),
            labels in prop::collection::vec(labels(), 1..6),
        ) {
            let mut index = SelectorIndex::default();
            let mut twin: Vec<Option<Selector>> = alloc::vec![None; 12];
            for (id, selector) in steps {
                if let Some(old) = twin[id].take() {
                    index.remove(&id, &old);
                }
                if let Some(selector) = &selector {
                    index.insert(id, selector.clone());
                }
                twin[id] = selector;
            }
            for labels in &labels {
                let mut found: Vec<usize> = index.matching(labels).copied().collect();
                found.sort_unstable();
                let scan = twin.iter().enumerate();
                let scan = scan.filter(|(_, s)| s.as_ref().is_some_and(|s| s.matches(labels)));
                prop_assert_eq!(found, scan.map(|(id, _)| id).collect::<Vec<_>>());
            }
            for (id, selector) in twin.iter().enumerate() {
                if let Some(selector) = selector {
                    index.remove(&id, selector);
                }
            }
            prop_assert!(index.is_empty());
            prop_assert_eq!(index.by_key, 0);
        }
    }

    #[test]
    fn a_label_that_all_share_is_no_anchor() {
        let mut index = SelectorIndex::default();
        for id in 0..1000 {
            let text = alloc::format!("app=app-{id},part-of=shop");
            index.insert(id, text.parse::<Selector>().unwrap());
        }
        assert!(index.under_label("part-of", "shop").count() <= 1);
        let labels = Labels::from_iter([("app", "app-7"), ("part-of", "shop")]);
        assert!(index.matching(&labels).eq([&7]));
    }
}
