//! What an event changed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use svc_model::{EndpointSlice, ObjectRef};

use crate::slices::HintEvent;
use crate::view::{SliceCache, ViewChanges};

/// What an event changed: slices to write, and Service ports whose endpoints differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Changes {
    /// Slices to write, in the order of the API calls: creates, updates, deletes, each by namespace and name.
    pub slices: Vec<SliceChange>,
    /// Endpoints that differ, by Service port.
    pub views: ViewChanges,
    /// What there is to tell the owners of Services about topology hints.
    pub hints: Vec<(ObjectRef, HintEvent)>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.views.is_empty() && self.hints.is_empty()
    }
}

/// A slice to write. Its content is in the engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SliceChange {
    /// The slice is new.
    Create(ObjectRef),
    /// The slice has other content.
    Update(ObjectRef),
    /// The slice is gone.
    Delete(ObjectRef),
}

impl SliceChange {
    /// Namespace and name of the slice.
    #[must_use]
    pub fn key(&self) -> &ObjectRef {
        match self {
            Self::Create(key) | Self::Update(key) | Self::Delete(key) => key,
        }
    }
}

/// Collects what the handling of one event does to slices.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Slices that differ from before, and whether they are to be written.
    touched: BTreeMap<ObjectRef, Touch>,
    hints: Vec<(ObjectRef, HintEvent)>,
}

#[derive(Debug, Clone, Copy)]
struct Touch {
    existed: bool,
    write: Write,
}

/// Who changed a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// Somebody else, as the event tells.
    Theirs,
    /// This engine, so it is to be written.
    Ours,
}

impl Journal {
    /// Notes that a slice is about to change. `existed` says whether it is there now.
    pub(super) fn touch(&mut self, key: ObjectRef, existed: bool, write: Write) {
        self.touched
            .entry(key)
            .and_modify(|touch| {
                // What somebody else just did is the state that a write of ours starts from.
                if touch.write == Write::Theirs {
                    *touch = Touch { existed, write };
                }
            })
            .or_insert(Touch { existed, write });
    }

    pub(super) fn hint(&mut self, service: &ObjectRef, events: Vec<HintEvent>) {
        self.hints.extend(events.into_iter().map(|event| (service.clone(), event)));
    }

    /// `slice` looks up slices as they are after the event.
    pub(super) fn finish<'a>(
        self,
        slice: impl Fn(&ObjectRef) -> Option<&'a EndpointSlice>,
        view: &mut SliceCache,
    ) -> Changes {
        let now: Vec<(&ObjectRef, Option<&EndpointSlice>)> =
            self.touched.keys().map(|key| (key, slice(key))).collect();
        let views = view.update(now.iter().copied());
        let exists: Vec<bool> = now.iter().map(|(_, slice)| slice.is_some()).collect();
        drop(now);
        let (mut creates, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
        for ((key, touch), exists) in self.touched.into_iter().zip(exists) {
            match (touch.write, touch.existed, exists) {
                (Write::Theirs, ..) | (_, false, false) => {}
                (Write::Ours, false, true) => creates.push(SliceChange::Create(key)),
                (Write::Ours, true, true) => updates.push(SliceChange::Update(key)),
                (Write::Ours, true, false) => deletes.push(SliceChange::Delete(key)),
            }
        }
        creates.append(&mut updates);
        creates.append(&mut deletes);
        Changes { slices: creates, views, hints: self.hints }
    }
}
