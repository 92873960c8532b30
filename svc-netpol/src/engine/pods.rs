//! The table of Pods: found by namespace and name or by address, then by number.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;

use svc_model::{ObjectRef, SmolStr};

use super::slots::Slots;
use super::{Family, IdentId, KindId, Map, Slab};

pub(crate) type PodId = u32;

/// Names up to this length are held in place; nearly all are.
const IN_PLACE: usize = 50;

/// What a verdict looks at: one line of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct PodEntry {
    /// Number of the namespace's name.
    namespace: u32,
    /// By family; both the same if no address is known, [`NO_IDENT`] if none of the family is.
    pub(super) idents: [IdentId; 2],
    /// Family of the first address; `None` if no address is known.
    pub(super) primary: Option<Family>,
    /// Length of the name, or the greatest that fits here.
    length: u8,
    /// The name, if it is no longer than this.
    name: [u8; IN_PLACE],
}

pub(super) const NO_IDENT: IdentId = IdentId::MAX;

impl PodEntry {
    /// What the Pod is in a family, or [`NO_IDENT`].
    #[inline]
    pub(super) fn ident(&self, family: Family) -> IdentId {
        let [v4, v6] = self.idents;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Whether it has an address of the family, or may have.
    #[inline]
    pub(super) fn has(&self, family: Family) -> bool {
        self.ident(family) != NO_IDENT
    }
}

/// What few verdicts look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) reference: ObjectRef,
    pub(super) kind: KindId,
    pub(super) addresses: Box<[IpAddr]>,
    /// Address of the node that it runs on, as the Pod reports it.
    pub(super) host: Option<IpAddr>,
    pub(super) node: SmolStr,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Pods {
    entries: Slab<PodEntry>,
    /// By the same numbers.
    facts: Slab<PodFacts>,
    /// Numbers by the hash of namespace and name.
    index: Slots,
    /// Names of the Pods' namespaces, and how many Pods are in each.
    namespaces: Slab<(SmolStr, usize)>,
    namespace_ids: Map<SmolStr, u32>,
    /// Who has an address: of several the first in the order of namespace and name.
    by_address: Map<IpAddr, PodId>,
    /// All who have an address that several have, in that order.
    shared: BTreeMap<IpAddr, Vec<PodId>>,
}

#[inline(always)]
fn tag_of(namespace: &str, name: &str) -> u32 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(namespace.as_bytes());
    hasher.write(name.as_bytes());
    // Folded: the two halves of the hash are not equally good.
    let hash = hasher.finish();
    ((hash ^ hash >> 32) as u32).min(u32::MAX - 1)
}

impl Pods {
    #[inline(always)]
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<(PodId, &PodEntry)> {
        let id = self.index.get_if(tag_of(namespace, name), |id| self.is_named(id, namespace, name))?;
        Some((id, self.entries.get(id)?))
    }

    #[inline(always)]
    fn is_named(&self, id: PodId, namespace: &str, name: &str) -> bool {
        let Some(entry) = self.entries.get(id) else { return false };
        let same_name = if name.len() <= IN_PLACE {
            usize::from(entry.length) == name.len() && entry.name.get(..name.len()) == Some(name.as_bytes())
        } else {
            usize::from(entry.length) > IN_PLACE
                && self.facts.get(id).is_some_and(|facts| facts.reference.name == name)
        };
        same_name && self.namespaces.get(entry.namespace).is_some_and(|(known, _)| known == namespace)
    }

    pub(crate) fn of(&self, pod: &ObjectRef) -> Option<(PodId, &PodEntry)> {
        self.find(&pod.namespace, &pod.name)
    }

    /// The Pod that an address belongs to.
    #[inline]
    pub(crate) fn at(&self, ip: IpAddr) -> Option<PodId> {
        self.by_address.get(&ip).copied()
    }

    #[inline]
    pub(crate) fn get(&self, id: PodId) -> Option<&PodEntry> {
        self.entries.get(id)
    }

    pub(super) fn get_mut(&mut self, id: PodId) -> Option<&mut PodEntry> {
        self.entries.get_mut(id)
    }

    pub(crate) fn facts(&self, id: PodId) -> Option<&PodFacts> {
        self.facts.get(id)
    }

    pub(super) fn facts_mut(&mut self, id: PodId) -> Option<&mut PodFacts> {
        self.facts.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PodId, &PodEntry, &PodFacts)> {
        self.entries.iter().filter_map(|(id, entry)| Some((id, entry, self.facts.get(id)?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Makes room for so many more Pods.
    pub(super) fn reserve(&mut self, more: usize) {
        self.entries.reserve(more);
        self.facts.reserve(more);
        self.index.reserve(more);
        self.by_address.reserve(more);
    }

    /// Takes a Pod that isn't here; `holds`: whether its addresses are its own.
    pub(super) fn insert(&mut self, idents: [IdentId; 2], facts: PodFacts, holds: bool) {
        let ObjectRef { namespace, name } = &facts.reference;
        let tag = tag_of(namespace, name);
        let mut in_place = [0; IN_PLACE];
        for (place, byte) in in_place.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        let id = self.entries.insert(PodEntry {
            namespace: acquire_name(&mut self.namespaces, &mut self.namespace_ids, namespace),
            idents,
            primary: facts.addresses.first().map(|ip| Family::of(*ip)),
            length: u8::try_from(name.len()).unwrap_or(u8::MAX),
            name: in_place,
        });
        self.index.set_if(tag, id, |other| other == id);
        let addresses = if holds { facts.addresses.clone() } else { Box::default() };
        // The same number, as both are always filled and emptied together.
        self.facts.insert(facts);
        for ip in addresses {
            self.hold(ip, id);
        }
    }

    pub(super) fn remove(&mut self, reference: &ObjectRef) -> Option<(PodEntry, PodFacts)> {
        let (id, entry) = self.of(reference)?;
        let namespace = entry.namespace;
        self.index.remove_if(tag_of(&reference.namespace, &reference.name), |other| other == id);
        if let Some((_, pods)) = self.namespaces.get_mut(namespace) {
            *pods -= 1;
            if *pods == 0 {
                self.namespaces.remove(namespace);
                self.namespace_ids.remove(&reference.namespace);
            }
        }
        let entry = self.entries.remove(id)?;
        let facts = self.facts.remove(id)?;
        for ip in &facts.addresses {
            self.let_go(*ip, id);
        }
        Some((entry, facts))
    }

    fn hold(&mut self, ip: IpAddr, id: PodId) {
        let first = *self.by_address.entry(ip).or_insert(id);
        if first == id {
            return;
        }
        let facts = &self.facts;
        let reference = |id: PodId| facts.get(id).map(|facts| &facts.reference);
        let holders = self.shared.entry(ip).or_insert_with(|| [first].into());
        let at = holders.partition_point(|other| reference(*other) < reference(id));
        if holders.get(at) != Some(&id) {
            holders.insert(at, id);
        }
        if at == 0 {
            self.by_address.insert(ip, id);
        }
    }

    fn let_go(&mut self, ip: IpAddr, id: PodId) {
        let Some(holders) = self.shared.get_mut(&ip) else {
            if self.at(ip) == Some(id) {
                self.by_address.remove(&ip);
            }
            return;
        };
        holders.retain(|holder| *holder != id);
        if let Some(first) = holders.first() {
            self.by_address.insert(ip, *first);
        }
        if holders.len() == 1 {
            self.shared.remove(&ip);
        }
    }

    /// Bytes held on the heap, about: names that are too long to be held in place are not counted.
    pub(crate) fn heap_size(&self) -> usize {
        let addresses: usize = self.facts.iter().map(|(_, facts)| size_of_val(&*facts.addresses)).sum();
        let shared = self.shared.values().map(|holders| holders.capacity() * size_of::<PodId>());
        self.entries.bound() * size_of::<PodEntry>()
            + self.facts.bound() * size_of::<PodFacts>()
            + self.index.heap_size()
            + self.by_address.allocation_size()
            + shared.sum::<usize>()
            + addresses
    }
}

/// The number of a namespace's name, for one more Pod.
fn acquire_name(names: &mut Slab<(SmolStr, usize)>, ids: &mut Map<SmolStr, u32>, name: &SmolStr) -> u32 {
    if let Some(id) = ids.get(name) {
        if let Some((_, pods)) = names.get_mut(*id) {
            *pods += 1;
        }
        return *id;
    }
    let id = names.insert((name.clone(), 1));
    ids.insert(name.clone(), id);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_cache_line() {
        assert_eq!((size_of::<Option<PodEntry>>(), align_of::<PodEntry>()), (64, 64));
    }

    #[test]
    fn names_of_any_length_are_told_apart() {
        let names = [1, 49, 50, 51, 254, 255, 256, 300]
            .into_iter()
            .flat_map(|length| ["a", "b"].map(|last| "x".repeat(length - 1) + last));
        let all: Vec<ObjectRef> = names
            .flat_map(|name| ["one", "two"].map(|namespace| ObjectRef::new(namespace, &*name)))
            .collect();
        let mut pods = Pods::default();
        for (reference, kind) in all.iter().zip(0..) {
            let addresses = Box::default();
            let facts = PodFacts {
                reference: reference.clone(),
                kind,
                addresses,
                host: None,
                node: SmolStr::default(),
            };
            pods.insert([NO_IDENT; 2], facts, true);
        }
        let found = |pods: &Pods, reference: &ObjectRef| Some(pods.facts(pods.of(reference)?.0)?.kind);
        for (reference, kind) in all.iter().zip(0..) {
            assert_eq!(found(&pods, reference), Some(kind), "{reference}");
        }
        for reference in all.iter().step_by(2) {
            assert!(pods.remove(reference).is_some());
        }
        for (reference, kind) in all.iter().zip(0..) {
            assert_eq!(found(&pods, reference), (kind % 2 == 1).then_some(kind), "{reference}");
        }
        for reference in all.iter().skip(1).step_by(2) {
            assert!(pods.remove(reference).is_some());
        }
        assert_eq!((pods.len(), pods.namespaces.len(), pods.namespace_ids.len()), (0, 0, 0));
    }
}
