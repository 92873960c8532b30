//! What a change of the cluster touches.

use alloc::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use alloc::vec::Vec;
use core::fmt;

use crate::ObjectRef;
use crate::object::ObjectKind;

/// An object of the cluster: kind, namespace, name. Ordered in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Kind.
    pub kind: ObjectKind,
    /// Namespace and name.
    pub object: ObjectRef,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.object)
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transition {
    /// It was not there before.
    Added,
    /// It was there, and differs now.
    Updated,
    /// It is there no more.
    Removed,
}

/// What a change of a [`Cluster`](super::Cluster) touches. Lists are sorted and hold each entry once.
///
/// What is derived from the cluster stays right if exactly this is derived anew: a Service that is in neither list
/// would come out as it was. The lists may name more than differs in the end, but only what the change bears on: a
/// Pod's heartbeat touches no Service at all.
#[must_use = "whatever is derived from the cluster is out of date where these changes point"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The objects that differ. Applying an equal object changes nothing.
    pub objects: Vec<(ObjectKey, Transition)>,
    /// Services whose EndpointSlices may have to be written anew: the Service itself, a Pod that it selects or
    /// selected, or such a Pod's node changed. A Service that is gone is named too.
    pub selected: Vec<ObjectRef>,
    /// Services whose published state may differ, that is, what proxies and DNS make of them: the Service itself, its
    /// EndpointSlices or its Endpoints changed. A Service that is gone, or not there yet, is named too.
    pub published: Vec<ObjectRef>,
    /// Policies that have to be looked at again: the policy itself, a Pod that it applies to or applied to, the labels
    /// of a namespace that make a difference to one of its selectors, or a node that is its peer changed. A Pod as a
    /// peer touches nothing: verdicts look peers up by their labels and addresses, which are in the state itself.
    pub policies: Vec<ObjectKey>,
}

impl Changes {
    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

/// Gathers [`Changes`] over several steps.
#[derive(Debug, Default)]
pub(super) struct Collector {
    objects: BTreeMap<ObjectKey, Transition>,
    pub(super) selected: BTreeSet<ObjectRef>,
    pub(super) published: BTreeSet<ObjectRef>,
    pub(super) policies: BTreeSet<ObjectKey>,
}

impl Collector {
    /// Notes a step of an object; with those before it makes one transition.
    pub(super) fn object(&mut self, kind: ObjectKind, object: ObjectRef, step: Transition) {
        match self.objects.entry(ObjectKey { kind, object }) {
            Entry::Vacant(entry) => {
                entry.insert(step);
            }
            Entry::Occupied(mut entry) => match (*entry.get(), step) {
                (Transition::Added, Transition::Removed) => {
                    entry.remove();
                }
                (Transition::Added, _) => {}
                (Transition::Removed, Transition::Added) => *entry.get_mut() = Transition::Updated,
                (_, step) => *entry.get_mut() = step,
            },
        }
    }

    pub(super) fn finish(self) -> Changes {
        Changes {
            objects: self.objects.into_iter().collect(),
            selected: self.selected.into_iter().collect(),
            published: self.published.into_iter().collect(),
            policies: self.policies.into_iter().collect(),
        }
    }
}
