//! Terms: every distinct thing that a subject or a peer of some policy selects, once, with who uses it.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};

use hashbrown::{Equivalent, HashTable};
use svc_model::selector::Selector;
use svc_model::{Labels, NAMESPACE_NAME_LABEL, SmolStr};

use super::{Map, PeerId, PolicyId, RowId, Slab};
use crate::policy::{Namespaces, Term};

pub(crate) type TermId = u32;

/// A number with a bit for "perhaps": a term that may find somebody, a policy that may apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tagged(u32);

pub(crate) type TermCode = Tagged;

impl Tagged {
    pub(crate) const fn new(id: u32, maybe: bool) -> Self {
        Self(id << 1 | maybe as u32)
    }

    #[inline]
    pub(crate) const fn id(self) -> u32 {
        self.0 >> 1
    }

    #[inline]
    pub(crate) const fn is_maybe(self) -> bool {
        self.0 & 1 == 1
    }
}

#[derive(Debug, Clone)]
pub(crate) struct TermEntry {
    pub(crate) term: Term,
    hash: u64,
    /// Whether it looks at no labels of Pods.
    wide: bool,
    /// How often policies name it.
    refs: u32,
    /// Peers that rows know by it, sorted.
    peers: Vec<Tagged>,
    /// Policies whose subject it is, sorted.
    subjects: Vec<PolicyId>,
    /// Rows with a rule that names it, sorted.
    pub(crate) rows: Vec<RowId>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    slab: Slab<TermEntry>,
    /// By the hash of the term.
    ids: HashTable<TermId>,
    /// Terms for Pods of one namespace, by that namespace.
    local: Map<SmolStr, Index>,
    /// Terms for Pods that select namespaces by labels.
    global: Index,
}

/// Pod terms by a label that they demand, so that a Pod is compared with few of them.
#[derive(Debug, Clone, Default)]
struct Index {
    by_label: Map<Label, Vec<TermId>>,
    rest: Vec<TermId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Label(SmolStr, SmolStr);

#[derive(Hash)]
struct LabelRef<'a>(&'a str, &'a str);

impl Equivalent<Label> for LabelRef<'_> {
    fn equivalent(&self, label: &Label) -> bool {
        self.0 == label.0 && self.1 == label.1
    }
}

/// What is known of the labels of a namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NamespaceLabels<'a> {
    Known(&'a Labels),
    /// The namespace isn't declared: all that is known is the label with its name.
    Named(&'a str),
}

impl NamespaceLabels<'_> {
    /// Whether a selector matches, `None` if that depends on labels that aren't known.
    fn matches(self, selector: &Selector) -> Option<bool> {
        match self {
            Self::Known(labels) => Some(selector.matches(labels)),
            Self::Named(_) if selector.is_nothing() => Some(false),
            Self::Named(name) => {
                let mut known = true;
                for requirement in selector.requirements() {
                    if requirement.key() != NAMESPACE_NAME_LABEL {
                        known = false;
                    } else if !requirement.matches(Some(name)) {
                        return Some(false);
                    }
                }
                known.then_some(true)
            }
        }
    }
}

/// Whether a term for Pods finds a Pod; `None` if it doesn't, `Some(true)` if that is unknown.
pub(crate) fn finds_pod(
    term: &Term,
    namespace: &str,
    of: NamespaceLabels<'_>,
    labels: &Labels,
) -> Option<bool> {
    let Term::Pods(namespaces, pods) = term else { return None };
    if !pods.matches(labels) {
        return None;
    }
    match namespaces {
        Namespaces::Named(name) => (name == namespace).then_some(false),
        Namespaces::Selected(selector) => match of.matches(selector) {
            Some(true) => Some(false),
            Some(false) => None,
            None => Some(true),
        },
    }
}

impl Index {
    /// Where a term stands: by the first label that it wants one value of.
    fn list(&mut self, pods: &Selector) -> &mut Vec<TermId> {
        let wanted =
            pods.requirements().iter().find_map(|r| Some(Label(r.key().into(), r.exact_value()?.into())));
        match wanted {
            Some(label) => self.by_label.entry(label).or_default(),
            None => &mut self.rest,
        }
    }

    fn candidates<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = TermId> + 'a {
        let by_label =
            labels.iter().filter_map(|(key, value)| self.by_label.get(&LabelRef(key, value))).flatten();
        by_label.chain(&self.rest).copied()
    }
}

impl Terms {
    pub(crate) fn get(&self, id: TermId) -> Option<&TermEntry> {
        self.slab.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TermId, &TermEntry)> {
        self.slab.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The number of a term, and whether it is new.
    pub(crate) fn acquire(&mut self, term: Term) -> (TermId, bool) {
        let hash = foldhash::fast::FixedState::default().hash_one(&term);
        let is_it = |id: &TermId| self.slab.get(*id).is_some_and(|entry| entry.term == term);
        if let Some(id) = self.ids.find(hash, is_it).copied() {
            if let Some(entry) = self.slab.get_mut(id) {
                entry.refs += 1;
            }
            return (id, false);
        }
        let id = self.slab.insert(TermEntry {
            wide: !matches!(&term, Term::Pods(_, pods) if !pods.is_everything()),
            term,
            hash,
            refs: 1,
            peers: Vec::new(),
            subjects: Vec::new(),
            rows: Vec::new(),
        });
        let slab = &self.slab;
        let hash_of = |id: TermId| slab.get(id).map_or(0, |entry| entry.hash);
        self.ids.insert_unique(hash, id, |id| hash_of(*id));
        match self.slab.get(id).map(|entry| &entry.term) {
            Some(Term::Pods(Namespaces::Named(name), pods)) => {
                insert(self.local.entry(name.clone()).or_default().list(pods), id);
            }
            Some(Term::Pods(Namespaces::Selected(_), pods)) => insert(self.global.list(pods), id),
            Some(Term::Block(_) | Term::Nodes(_) | Term::Domain(_)) | None => {}
        }
        (id, true)
    }

    /// Takes note that a policy no longer names a term; gives it back if no one does any more. It is then no
    /// longer found, but keeps its number until [`forget`](Self::forget).
    pub(crate) fn release(&mut self, id: TermId) -> Option<Term> {
        let entry = self.slab.get_mut(id)?;
        entry.refs = entry.refs.saturating_sub(1);
        if entry.refs > 0 {
            return None;
        }
        let (term, hash) = (entry.term.clone(), entry.hash);
        if let Ok(found) = self.ids.find_entry(hash, |known| *known == id) {
            found.remove();
        }
        match &term {
            Term::Pods(Namespaces::Named(name), pods) => {
                if let Some(index) = self.local.get_mut(name) {
                    remove(index.list(pods), id);
                }
            }
            Term::Pods(Namespaces::Selected(_), pods) => remove(self.global.list(pods), id),
            Term::Block(_) | Term::Nodes(_) | Term::Domain(_) => {}
        }
        Some(term)
    }

    /// Frees the number of a term that no peer has any more.
    pub(crate) fn forget(&mut self, id: TermId) {
        self.slab.remove(id);
    }

    /// The terms that find a Pod, sorted.
    pub(crate) fn of_pod(&self, namespace: &str, of: NamespaceLabels<'_>, labels: &Labels) -> Vec<TermCode> {
        let local = self.local.get(namespace).into_iter().flat_map(|index| index.candidates(labels));
        let mut found: Vec<TermCode> = local
            .chain(self.global.candidates(labels))
            .filter_map(|id| {
                let maybe = finds_pod(&self.slab.get(id)?.term, namespace, of, labels)?;
                Some(Tagged::new(id, maybe))
            })
            .collect();
        found.sort_unstable();
        found
    }

    pub(crate) fn add_subject(&mut self, id: TermId, policy: PolicyId) {
        if let Some(entry) = self.slab.get_mut(id) {
            insert(&mut entry.subjects, policy);
        }
    }

    pub(crate) fn remove_subject(&mut self, id: TermId, policy: PolicyId) {
        if let Some(entry) = self.slab.get_mut(id) {
            remove(&mut entry.subjects, policy);
        }
    }

    pub(crate) fn subjects(&self, id: TermId) -> &[PolicyId] {
        self.slab.get(id).map_or(&[], |entry| &entry.subjects)
    }

    pub(crate) fn add_row(&mut self, id: TermId, row: RowId) {
        if let Some(entry) = self.slab.get_mut(id) {
            insert(&mut entry.rows, row);
        }
    }

    pub(crate) fn remove_row(&mut self, id: TermId, row: RowId) {
        if let Some(entry) = self.slab.get_mut(id) {
            remove(&mut entry.rows, row);
        }
    }

    /// Whether a term finds everyone around a Pod that it finds, as it looks at no labels of Pods.
    pub(crate) fn is_wide(&self, id: TermId) -> bool {
        self.slab.get(id).is_some_and(|entry| entry.wide)
    }

    pub(crate) fn add_peer(&mut self, own: &[TermCode], peer: PeerId) {
        for code in own {
            if let Some(entry) = self.slab.get_mut(code.id()) {
                insert(&mut entry.peers, Tagged::new(peer, code.is_maybe()));
            }
        }
    }

    pub(crate) fn remove_peer(&mut self, own: &[TermCode], peer: PeerId) {
        for code in own {
            if let Some(entry) = self.slab.get_mut(code.id()) {
                remove(&mut entry.peers, Tagged::new(peer, code.is_maybe()));
            }
        }
    }

    /// Whether any peer is found by a term.
    pub(crate) fn finds_anyone(&self, id: TermId) -> bool {
        self.slab.get(id).is_some_and(|entry| !entry.peers.is_empty())
    }

    /// Peers that rows know by a term.
    pub(crate) fn peers(&self, id: TermId) -> impl Iterator<Item = PeerId> + '_ {
        self.slab.get(id).into_iter().flat_map(|entry| &entry.peers).map(|code| code.id())
    }
}

/// Inserts into a sorted list.
pub(super) fn insert<T: Ord>(list: &mut Vec<T>, value: T) {
    match list.last() {
        Some(last) if *last >= value => {
            if let Err(at) = list.binary_search(&value) {
                list.insert(at, value);
            }
        }
        _ => list.push(value),
    }
}

/// Removes from a sorted list.
pub(super) fn remove<T: Ord>(list: &mut Vec<T>, value: T) {
    if let Ok(at) = list.binary_search(&value) {
        list.remove(at);
    }
}
