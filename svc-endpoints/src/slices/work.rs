//! The slices of one Service and family while a plan is being made.

use alloc::boxed::Box;
use alloc::vec::Vec;

use svc_model::{Endpoint, EndpointSlice};

/// An existing slice, and what is to become of it.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) old: &'a EndpointSlice,
    pub(crate) fate: Fate,
}

#[derive(Debug)]
pub(crate) enum Fate {
    Unchanged,
    Updated(Box<EndpointSlice>),
    Deleted,
}

impl Work<'_> {
    /// The slice as it will be, or `None` if it goes.
    pub(crate) fn current(&self) -> Option<&EndpointSlice> {
        match &self.fate {
            Fate::Unchanged => Some(self.old),
            Fate::Updated(slice) => Some(slice),
            Fate::Deleted => None,
        }
    }

    /// The slice to write; one that was to stay as it is becomes an update.
    pub(crate) fn update(&mut self) -> Option<&mut EndpointSlice> {
        if matches!(self.fate, Fate::Unchanged) {
            self.fate = Fate::Updated(Box::new(self.old.clone()));
        }
        match &mut self.fate {
            Fate::Updated(slice) => Some(slice),
            Fate::Unchanged | Fate::Deleted => None,
        }
    }

    pub(crate) fn is_unchanged(&self) -> bool {
        matches!(self.fate, Fate::Unchanged)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        matches!(self.fate, Fate::Deleted)
    }
}

/// All slices of one Service and family: those that exist, and those to create.
#[derive(Debug, Default)]
pub(crate) struct FamilySlices<'a> {
    pub(crate) works: Vec<Work<'a>>,
    pub(crate) creates: Vec<EndpointSlice>,
}

impl FamilySlices<'_> {
    /// The slices to write: creates, then updates.
    pub(crate) fn written_mut(&mut self) -> impl Iterator<Item = &mut EndpointSlice> {
        let updates = self.works.iter_mut().filter_map(|work| match &mut work.fate {
            Fate::Updated(slice) => Some(&mut **slice),
            Fate::Unchanged | Fate::Deleted => None,
        });
        self.creates.iter_mut().chain(updates)
    }

    /// Endpoints of the slices to write.
    pub(crate) fn written_endpoints_mut(&mut self) -> impl Iterator<Item = &mut Endpoint> {
        self.written_mut().flat_map(|slice| &mut slice.endpoints)
    }

    /// Endpoints of all slices as they will be.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let existing = self.works.iter().filter_map(Work::current);
        self.creates.iter().chain(existing).flat_map(|slice| &slice.endpoints)
    }

    /// Makes updates of the slices that were to stay as they are, where `needs_update` says so.
    pub(crate) fn update_where(&mut self, needs_update: impl Fn(&EndpointSlice) -> bool) {
        for work in &mut self.works {
            if work.is_unchanged() && needs_update(work.old) {
                work.update();
            }
        }
    }
}
