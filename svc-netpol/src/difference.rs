//! What changes between two states, by meaning: connections, not text.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use svc_model::{IpFamily, ObjectRef};

use crate::decision::{Decision, Endpoint, Flow};
use crate::engine::{Engine, Family, Map, bits};
use crate::matrix::{Connection, Group, Matrix};
use crate::traffic::PortSet;

/// A change of the connections from some ends to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who connects.
    pub from: Group,
    /// Who is connected to.
    pub to: Group,
    /// What came about before.
    pub before: Connection,
    /// What comes about after.
    pub after: Connection,
    /// What decided before and after, for the first traffic that changed: the policies responsible.
    pub because: Because,
}

/// The decisions about one changed connection, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// Which traffic was asked about; `None` if one end is missing on one side altogether.
    pub traffic: Option<crate::Traffic>,
    /// The decision before.
    pub before: Decision,
    /// The decision after.
    pub after: Decision,
}

impl Change {
    /// Traffic that is allowed now and wasn't.
    pub fn gained(&self) -> PortSet {
        self.after.allowed.difference(&self.before.allowed)
    }

    /// Traffic that was allowed and isn't any more.
    pub fn lost(&self) -> PortSet {
        self.before.allowed.difference(&self.after.allowed)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}:", self.from, self.to)?;
        let (gained, lost) = (self.gained(), self.lost());
        if !gained.is_empty() {
            write!(f, " gained {gained}")?;
        }
        if !lost.is_empty() {
            write!(f, " lost {lost}")?;
        }
        if gained.is_empty() && lost.is_empty() {
            write!(f, " {} before, {} after", self.before, self.after)?;
        }
        Ok(())
    }
}

impl Engine {
    /// Every connection over a family that another state of the cluster has and this one hasn't, or has
    /// otherwise: `self` is before, `after` is after. Empty exactly if the two decide alike for every pair of
    /// ends and all traffic. A Pod that one of them doesn't have has no connections there.
    ///
    /// Costs about two look-ups for each pair of groups that both states together tell apart.
    pub fn difference(&self, after: &Self, family: IpFamily) -> Vec<Change> {
        let (old, new) = (self.matrix(family), after.matrix(family));
        let groups = common_groups(&old, &new, Family::from(family));
        let mut changes = Vec::new();
        for (from, from_at) in &groups {
            for (to, to_at) in &groups {
                let alone = core::ptr::eq(from, to) && matches!(from, Group::Pods(pods) if pods.len() == 1);
                let (before, after_connection) =
                    (cell(&old, from_at.0, to_at.0), cell(&new, from_at.1, to_at.1));
                if alone || before == after_connection {
                    continue;
                }
                changes.push(Change {
                    from: from.clone(),
                    to: to.clone(),
                    because: self.because(after, from, to, (before, after_connection), family),
                    before: before.clone(),
                    after: after_connection.clone(),
                });
            }
        }
        changes
    }

    fn because(
        &self,
        after: &Self,
        from: &Group,
        to: &Group,
        (old, new): (&Connection, &Connection),
        family: IpFamily,
    ) -> Because {
        let changed = [
            new.allowed.difference(&old.allowed),
            old.allowed.difference(&new.allowed),
            old.unknown.union(&new.unknown),
        ];
        let traffic = changed.iter().find_map(PortSet::first);
        let ask = |engine: &Self| {
            let (from, to) = (endpoint(from, to, false), endpoint(to, from, true));
            let flow =
                Flow { from, to, traffic: traffic.unwrap_or(crate::Traffic::Other), family: Some(family) };
            engine.decide(&flow)
        };
        Because { traffic, before: ask(self), after: ask(after) }
    }
}

fn cell(matrix: &Matrix, from: Option<usize>, to: Option<usize>) -> &Connection {
    matrix.connection(from.unwrap_or(usize::MAX), to.unwrap_or(usize::MAX))
}

/// One member of a group, another one than the first where both ends are the same group.
fn endpoint<'a>(group: &'a Group, other: &Group, last: bool) -> Endpoint<'a> {
    match group {
        Group::Pods(pods) => {
            let pod = if last && group == other { pods.last() } else { pods.first() };
            pod.map_or(Endpoint::pod("", ""), Endpoint::from)
        }
        Group::Outside(ranges) => {
            Endpoint::Address(ranges.first().map_or(IpAddr::from([0, 0, 0, 0]), |r| r.0))
        }
    }
}

/// In which group of each matrix some ends are.
type Places = (Option<usize>, Option<usize>);

/// Groups that both matrices together tell apart.
fn common_groups(old: &Matrix, new: &Matrix, family: Family) -> Vec<(Group, Places)> {
    let mut pods: BTreeMap<&ObjectRef, Places> = BTreeMap::new();
    let mut outside: [Vec<(u128, u128, usize)>; 2] = [Vec::new(), Vec::new()];
    for ((matrix, outside), is_old) in [old, new].into_iter().zip(&mut outside).zip([true, false]) {
        for (at, group) in matrix.groups().iter().enumerate() {
            match group {
                Group::Pods(list) => {
                    for pod in list {
                        let places = pods.entry(pod).or_default();
                        *(if is_old { &mut places.0 } else { &mut places.1 }) = Some(at);
                    }
                }
                Group::Outside(ranges) => {
                    outside.extend(ranges.iter().map(|(first, last)| (bits(*first), bits(*last), at)));
                }
            }
        }
        outside.sort_unstable();
    }
    let mut groups: Map<(bool, Places), Group> = Map::default();
    for (pod, places) in pods {
        if let Group::Pods(list) = groups.entry((true, places)).or_insert_with(|| Group::Pods(Vec::new())) {
            list.push(pod.clone());
        }
    }
    // Both lists of ranges cover the whole family, so each edge is one of either.
    let [old_ranges, new_ranges] = outside;
    let (mut olds, mut news) = (old_ranges.iter().peekable(), new_ranges.iter().peekable());
    while let (Some((a, a_last, a_at)), Some((b, b_last, b_at))) = (olds.peek(), news.peek()) {
        let (first, last) = (*a.max(b), *a_last.min(b_last));
        let range = (family.address(first), family.address(last));
        let key = (false, (Some(*a_at), Some(*b_at)));
        if let Group::Outside(list) = groups.entry(key).or_insert_with(|| Group::Outside(Vec::new())) {
            list.push(range);
        }
        if *a_last == last {
            olds.next();
        }
        if news.peek().is_some_and(|(_, b_last, _)| *b_last == last) {
            news.next();
        }
    }
    let mut groups: Vec<(Group, Places)> =
        groups.into_iter().map(|((_, places), group)| (group, places)).collect();
    groups.sort_unstable();
    groups
}
