//! The table of Pods: found by namespace and name, then by number.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;

use hashbrown::HashTable;
use svc_model::{ObjectRef, SmolStr};

use super::{Family, IdentId, KindId, Slab};

pub(crate) type PodId = u32;

/// What a verdict looks at: one line of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct PodEntry {
    pub(crate) reference: ObjectRef,
    pub(super) kind: KindId,
    /// By family; both the same if no address is known, [`NO_IDENT`] if none of the family is.
    pub(super) idents: [IdentId; 2],
    /// Family of the first address; `None` if no address is known.
    pub(super) primary: Option<Family>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(super) addresses: Vec<IpAddr>,
    /// Addresses of the node that it runs on, as the Pod reports them.
    pub(super) hosts: Vec<IpAddr>,
    pub(super) node: SmolStr,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Pods {
    entries: Slab<PodEntry>,
    /// By the same number.
    facts: Vec<PodFacts>,
    index: HashTable<PodId>,
}

#[inline(always)]
fn hash(namespace: &str, name: &str) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(namespace.as_bytes());
    hasher.write(name.as_bytes());
    hasher.finish()
}

impl Pods {
    #[inline(always)]
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<(PodId, &PodEntry)> {
        let is_it = |id: &PodId| {
            self.get(*id)
                .is_some_and(|pod| pod.reference.name == name && pod.reference.namespace == namespace)
        };
        let id = *self.index.find(hash(namespace, name), is_it)?;
        Some((id, self.get(id)?))
    }

    pub(crate) fn of(&self, pod: &ObjectRef) -> Option<(PodId, &PodEntry)> {
        self.find(&pod.namespace, &pod.name)
    }

    #[inline]
    pub(crate) fn get(&self, id: PodId) -> Option<&PodEntry> {
        self.entries.get(id)
    }

    pub(super) fn get_mut(&mut self, id: PodId) -> Option<&mut PodEntry> {
        self.entries.get_mut(id)
    }

    pub(crate) fn facts(&self, id: PodId) -> Option<&PodFacts> {
        self.facts.get(id as usize)
    }

    pub(super) fn facts_mut(&mut self, id: PodId) -> Option<&mut PodFacts> {
        self.facts.get_mut(id as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PodId, &PodEntry)> {
        self.entries.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a Pod that isn't here.
    pub(super) fn insert(&mut self, entry: PodEntry, facts: PodFacts) -> PodId {
        let hash_of = hash(&entry.reference.namespace, &entry.reference.name);
        let id = self.entries.insert(entry);
        if self.facts.len() <= id as usize {
            self.facts.resize(id as usize + 1, PodFacts::default());
        }
        if let Some(slot) = self.facts.get_mut(id as usize) {
            *slot = facts;
        }
        let entries = &self.entries;
        let rehash = |id: &PodId| {
            entries.get(*id).map_or(0, |pod| hash(&pod.reference.namespace, &pod.reference.name))
        };
        self.index.insert_unique(hash_of, id, rehash);
        id
    }

    pub(super) fn remove(&mut self, reference: &ObjectRef) -> Option<(PodId, PodEntry, PodFacts)> {
        let (id, _) = self.of(reference)?;
        let hash = hash(&reference.namespace, &reference.name);
        if let Ok(entry) = self.index.find_entry(hash, |known| *known == id) {
            entry.remove();
        }
        let facts = self.facts.get_mut(id as usize).map(core::mem::take).unwrap_or_default();
        Some((id, self.entries.remove(id)?, facts))
    }

    /// Bytes held on the heap, about: names that are too long to be held in place are not counted.
    pub(crate) fn heap_size(&self) -> usize {
        let addresses: usize = self
            .facts
            .iter()
            .map(|facts| (facts.addresses.capacity() + facts.hosts.capacity()) * size_of::<IpAddr>())
            .sum();
        self.entries.bound() * size_of::<PodEntry>()
            + self.facts.capacity() * size_of::<PodFacts>()
            + self.index.allocation_size()
            + addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_cache_line() {
        assert_eq!((size_of::<Option<PodEntry>>(), align_of::<PodEntry>()), (64, 64));
    }
}
