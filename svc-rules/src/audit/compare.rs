//! Comparing the rules of one chain.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::Hash;

use foldhash::fast::FixedState;
use indexmap::IndexMap;

/// How a chain differs from what it should be.
#[derive(Debug, PartialEq)]
pub(super) enum Difference<'a, R> {
    Missing(&'a R),
    Unexpected(&'a R),
    Misplaced(&'a R),
}

/// Which rules of a chain have a place.
#[derive(Clone, Copy)]
pub(super) enum Order<'f, R> {
    /// Each has.
    Fixed,
    /// Each rule is for one destination, so their order does not matter, except that these come last.
    Last(&'f dyn Fn(&R) -> bool),
}

/// How the rules found differ from those wanted; `key` is the same for rules that do the same. Takes time in
/// proportion to the number of rules.
pub(super) fn rules<'a, R, K: Hash + Eq>(
    wanted: &'a [R],
    found: &'a [R],
    order: Order<'_, R>,
    key: impl Fn(&'a R) -> K,
) -> Vec<Difference<'a, R>> {
    let keys: Vec<K> = found.iter().map(&key).collect();
    if wanted.len() == found.len() && wanted.iter().zip(&keys).all(|(wanted, found)| key(wanted) == *found) {
        return Vec::new();
    }
    let mut left: IndexMap<K, VecDeque<(usize, &R)>, FixedState> = IndexMap::default();
    for (key, found) in keys.into_iter().zip(found.iter().enumerate()) {
        left.entry(key).or_default().push_back(found);
    }
    // From where on only those stand that come last.
    let end = match order {
        Order::Fixed => 0,
        Order::Last(is_last) => found.iter().rposition(|rule| !is_last(rule)).map_or(0, |place| place + 1),
    };
    let mut differences = Vec::new();
    let mut last = 0;
    for rule in wanted {
        let Some((place, found)) = left.get_mut(&key(rule)).and_then(VecDeque::pop_front) else {
            differences.push(Difference::Missing(rule));
            continue;
        };
        let misplaced = match order {
            Order::Fixed => place < last,
            Order::Last(is_last) => is_last(rule) && place < end,
        };
        if misplaced {
            differences.push(Difference::Misplaced(found));
        }
        last = last.max(place);
    }
    let mut unexpected: Vec<_> = left.into_values().flatten().collect();
    unexpected.sort_by_key(|(place, _)| *place);
    differences.extend(unexpected.into_iter().map(|(_, rule)| Difference::Unexpected(rule)));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn differences(wanted: &str, found: &str, order: Order<'_, u8>) -> Vec<(char, char)> {
        let letter = |rule: &u8| char::from(*rule);
        rules(wanted.as_bytes(), found.as_bytes(), order, |rule| *rule)
            .into_iter()
            .map(|difference| match difference {
                Difference::Missing(rule) => ('-', letter(rule)),
                Difference::Unexpected(rule) => ('+', letter(rule)),
                Difference::Misplaced(rule) => ('~', letter(rule)),
            })
            .collect()
    }

    #[test]
    fn each_rule_is_matched_once() {
        assert_eq!(differences("abc", "abc", Order::Fixed), []);
        assert_eq!(differences("abb", "ab", Order::Fixed), [('-', 'b')]);
        assert_eq!(differences("ab", "xabb", Order::Fixed), [('+', 'x'), ('+', 'b')]);
        assert_eq!(differences("abc", "cab", Order::Fixed), [('~', 'c')]);
    }

    #[test]
    fn a_dispatch_chain_has_no_order_but_its_end() {
        let last: &dyn Fn(&u8) -> bool = &|rule| *rule == b'z';
        assert_eq!(differences("abz", "baz", Order::Last(last)), []);
        assert_eq!(differences("abz", "bza", Order::Last(last)), vec![('~', 'z')]);
        assert_eq!(differences("abz", "b", Order::Last(last)), [('-', 'a'), ('-', 'z')]);
    }
}
