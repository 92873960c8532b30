//! Comparing the rules of one chain.

use alloc::vec::Vec;

use smol_str::SmolStr;

use crate::xtables::{Match, Rule};

/// How a chain differs from what it should be.
pub(super) enum Difference<'a> {
    Missing(&'a Rule),
    Unexpected(&'a Rule),
    Misplaced(&'a Rule),
}

/// Whether both rules do the same, whatever their comments and counters.
pub(super) fn same(a: &Rule, b: &Rule) -> bool {
    let is_comment = |found: &&Match| !matches!(found, Match::Comment(_));
    a.source == b.source
        && a.destination == b.destination
        && a.in_interface == b.in_interface
        && a.out_interface == b.out_interface
        && a.transport == b.transport
        && a.fragment == b.fragment
        && a.target == b.target
        && a.matches.iter().filter(is_comment).eq(b.matches.iter().filter(is_comment))
}

/// Chains in which every rule is for one destination, so that their order does not matter. The rules that lead on from
/// nat `KUBE-SERVICES` to the node ports must come last, and are compared in order.
fn is_dispatch(chain: &str) -> bool {
    matches!(chain, "KUBE-SERVICES" | "KUBE-NODEPORTS" | "KUBE-EXTERNAL-SERVICES" | "KUBE-PROXY-FIREWALL")
}

fn leads_on(rule: &Rule) -> bool {
    rule.target.as_ref().and_then(|target| target.chain()).is_some_and(|chain| chain == "KUBE-NODEPORTS")
}

pub(super) fn chains<'a>(name: &str, wanted: &'a [Rule], found: &'a [Rule]) -> Vec<Difference<'a>> {
    if wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| same(wanted, found)) {
        return Vec::new();
    }
    let mut left: Vec<(usize, &Rule)> = found.iter().enumerate().collect();
    let mut differences = Vec::new();
    let mut last = 0;
    let end = found.iter().filter(|rule| !leads_on(rule)).count();
    for rule in wanted {
        match left.iter().position(|(_, found)| same(found, rule)) {
            None => differences.push(Difference::Missing(rule)),
            Some(at) => {
                let (place, found) = left.remove(at);
                let misplaced = if is_dispatch(name) { leads_on(rule) && place < end } else { place < last };
                if misplaced {
                    differences.push(Difference::Misplaced(found));
                }
                last = last.max(place);
            }
        }
    }
    differences.extend(left.into_iter().map(|(_, rule)| Difference::Unexpected(rule)));
    differences
}

/// The Service port that a comment of the proxy names: its only word with a slash.
pub(super) fn service_in_comment(rule: &Rule) -> Option<SmolStr> {
    let comment = rule.comment()?;
    comment.split(' ').find(|word| word.contains('/')).map(SmolStr::from)
}
