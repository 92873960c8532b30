//! Zones: the address space cut at every edge of a block that some policy names.
//!
//! All addresses of a zone are found by the same terms. A zone may consist of several ranges.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use svc_model::IpFamily;

use super::term::TermCode;
use super::{Map, Slab};

pub(crate) type ZoneId = u32;

/// An inclusive range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Range {
    pub(crate) family: Family,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    pub(crate) const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    pub(crate) fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from(bits as u32)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
        }
    }
}

impl From<IpFamily> for Family {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::V4,
            IpFamily::Ipv6 => Self::V6,
        }
    }
}

#[inline]
pub(crate) fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl Range {
    pub(crate) fn of_net(net: IpNet) -> Self {
        Self { family: Family::of(net.network()), first: bits(net.network()), last: bits(net.broadcast()) }
    }

    pub(crate) fn of_address(ip: IpAddr) -> Self {
        Self { family: Family::of(ip), first: bits(ip), last: bits(ip) }
    }

    pub(crate) fn everything(family: Family) -> Self {
        Self { family, first: 0, last: family.last() }
    }

    /// The range without some others, in order.
    pub(crate) fn without(self, others: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut holes: Vec<Self> = others.into_iter().filter(|hole| hole.family == self.family).collect();
        holes.sort_unstable();
        let (mut parts, mut at) = (Vec::new(), Some(self.first));
        for hole in holes {
            let Some(start) = at else { break };
            if hole.last < start || hole.first > self.last {
                continue;
            }
            if hole.first > start {
                parts.push(Self { first: start, last: hole.first - 1, ..self });
            }
            at = hole.last.checked_add(1).filter(|next| *next <= self.last);
        }
        if let Some(first) = at {
            parts.push(Self { first, ..self });
        }
        parts
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Zone {
    /// Terms that find its addresses, sorted.
    pub(crate) terms: Box<[TermCode]>,
}

#[derive(Debug, Clone)]
pub(crate) struct Zones {
    v4: Table,
    v6: Table,
    slab: Slab<Zone>,
    ids: Map<Box<[TermCode]>, ZoneId>,
    /// The zone of Pods whose address isn't known yet.
    unaddressed: ZoneId,
}

#[derive(Debug, Clone, Default)]
struct Table {
    /// First address of each range; the first is 0.
    starts: Vec<u128>,
    zones: Vec<ZoneId>,
}

/// What a rebuild changed.
#[derive(Debug, Default)]
pub(crate) struct Rebuilt {
    /// Zones that are the same addresses as before, found by other terms.
    pub(crate) changed: Vec<ZoneId>,
    pub(crate) added: Vec<ZoneId>,
    /// Zones that are no more; their numbers are free once [`Zones::free`] was called.
    pub(crate) removed: Vec<ZoneId>,
}

impl Default for Zones {
    fn default() -> Self {
        let mut slab = Slab::default();
        let nothing: Box<[TermCode]> = Box::default();
        let unaddressed = slab.insert(Zone { terms: nothing.clone() });
        let rest = slab.insert(Zone { terms: nothing.clone() });
        let table = Table { starts: [0].into(), zones: [rest].into() };
        Self { v4: table.clone(), v6: table, slab, ids: [(nothing, rest)].into_iter().collect(), unaddressed }
    }
}

impl Zones {
    fn table(&self, family: Family) -> &Table {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    #[inline]
    pub(crate) fn of(&self, ip: IpAddr) -> ZoneId {
        let table = self.table(Family::of(ip));
        let at = match table.starts.as_slice() {
            [_] => 0,
            starts => {
                let bits = bits(ip);
                starts.partition_point(|start| *start <= bits).saturating_sub(1)
            }
        };
        table.zones.get(at).copied().unwrap_or(self.unaddressed)
    }

    pub(crate) fn get(&self, id: ZoneId) -> Option<&Zone> {
        self.slab.get(id)
    }

    pub(crate) fn unaddressed(&self) -> ZoneId {
        self.unaddressed
    }

    /// Every range of a family in order, with its zone.
    pub(crate) fn ranges(&self, family: Family) -> impl Iterator<Item = (Range, ZoneId)> + '_ {
        let table = self.table(family);
        let lasts = table.starts.iter().skip(1).map(|start| start - 1).chain([family.last()]);
        table
            .starts
            .iter()
            .zip(lasts)
            .zip(&table.zones)
            .map(move |((first, last), zone)| (Range { family, first: *first, last }, *zone))
    }

    /// Zones of addresses, each once.
    pub(crate) fn ids(&self) -> Vec<ZoneId> {
        self.slab.ids().into_iter().filter(|id| *id != self.unaddressed).collect()
    }

    /// Cuts the address space anew. `terms`: each term with its ranges, which don't overlap each other;
    /// `unaddressed`: what may find an address that isn't known.
    pub(crate) fn rebuild(
        &mut self,
        terms: &[(TermCode, Vec<Range>)],
        unaddressed: Vec<TermCode>,
    ) -> Rebuilt {
        let mut out = Rebuilt::default();
        if let Some(zone) = self.slab.get_mut(self.unaddressed)
            && *zone.terms != *unaddressed
        {
            zone.terms = unaddressed.into();
            out.changed.push(self.unaddressed);
        }
        let cut = Family::ALL.map(|family| cut(terms, family));
        // An old zone keeps its number if all of its addresses are found by the same terms now, and what found
        // them before finds no address any more.
        let mut heirs: BTreeMap<ZoneId, Option<&Box<[TermCode]>>> = BTreeMap::new();
        for (family, new) in Family::ALL.into_iter().zip(&cut) {
            let mut new = new.iter().peekable();
            let mut current = None;
            for (range, zone) in self.ranges(family) {
                while let Some((_, terms)) = new.next_if(|(start, _)| *start <= range.first) {
                    current = Some(terms);
                }
                let heir = heirs.entry(zone).or_insert(current);
                loop {
                    if *heir != current {
                        *heir = None;
                    }
                    let Some((_, terms)) = new.next_if(|(start, _)| *start <= range.last) else { break };
                    current = Some(terms);
                }
            }
        }
        let present: BTreeSet<&Box<[TermCode]>> = cut.iter().flatten().map(|(_, terms)| terms).collect();
        let mut ids: Map<Box<[TermCode]>, ZoneId> = Map::default();
        for (zone, heir) in heirs {
            let stays = self.slab.get(zone).is_none_or(|zone| present.contains(&zone.terms));
            let Some(terms) = heir.filter(|_| !stays) else { continue };
            if let Some(known) = self.ids.get(terms) {
                ids.insert(terms.clone(), *known);
            } else if !ids.contains_key(terms) {
                ids.insert(terms.clone(), zone);
                if let Some(zone) = self.slab.get_mut(zone) {
                    zone.terms = terms.clone();
                }
                out.changed.push(zone);
            }
        }
        let mut used: BTreeSet<ZoneId> = BTreeSet::new();
        let tables = cut.map(|ranges| {
            let mut table = Table::default();
            for (start, terms) in ranges {
                let id = match ids.get(&terms).or_else(|| self.ids.get(&terms)).copied() {
                    Some(id) => id,
                    None => {
                        let id = self.slab.insert(Zone { terms: terms.clone() });
                        out.added.push(id);
                        id
                    }
                };
                ids.insert(terms, id);
                used.insert(id);
                table.starts.push(start);
                table.zones.push(id);
            }
            table
        });
        [self.v4, self.v6] = tables;
        out.removed = self.ids().into_iter().filter(|id| !used.contains(id)).collect();
        self.ids = ids;
        out
    }

    pub(crate) fn free(&mut self, zone: ZoneId) {
        self.slab.remove(zone);
    }

    /// Bytes held on the heap, about.
    pub(crate) fn heap_size(&self) -> usize {
        let zones: usize = self.slab.iter().map(|(_, zone)| 2 * size_of_val(&*zone.terms)).sum();
        zones + (self.v4.starts.len() + self.v6.starts.len()) * (size_of::<u128>() + size_of::<ZoneId>())
    }
}

/// The first address of each range of a family, with the terms that find it; neighbours differ.
fn cut(terms: &[(TermCode, Vec<Range>)], family: Family) -> Vec<(u128, Box<[TermCode]>)> {
    let mut edges: Vec<(u128, bool, TermCode)> = Vec::new();
    for (code, ranges) in terms {
        for range in ranges.iter().filter(|range| range.family == family) {
            edges.push((range.first, true, *code));
            if range.last < family.last() {
                edges.push((range.last + 1, false, *code));
            }
        }
    }
    edges.sort_unstable();
    let mut out: Vec<(u128, Box<[TermCode]>)> = Vec::new();
    let mut active: BTreeMap<TermCode, u32> = BTreeMap::new();
    let mut edges = edges.into_iter().peekable();
    let mut at = 0;
    loop {
        while let Some((_, begins, code)) = edges.next_if(|(edge, ..)| *edge <= at) {
            let count = active.entry(code).or_default();
            *count = if begins { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                active.remove(&code);
            }
        }
        let found: Box<[TermCode]> = active.keys().copied().collect();
        if out.last().is_none_or(|(_, last)| *last != found) {
            out.push((at, found));
        }
        match edges.peek() {
            Some((next, ..)) => at = *next,
            None => return out,
        }
    }
}
