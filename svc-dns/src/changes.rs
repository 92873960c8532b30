//! What a change of an object does to the records of the zones.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::name::Name;
use crate::record::Record;
use crate::scope::Scope;
use crate::store::service::Entry;
use crate::store::{Before, Side};
use crate::zones::Zones;

/// One record that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct RecordChange {
    /// The zone that the record is in.
    pub zone: Name,
    /// Whether it comes or goes.
    pub kind: ChangeKind,
    /// The record.
    pub record: Record,
}

/// Whether a record comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It goes.
    Remove,
    /// It comes.
    Add,
}

/// Zones whose serial number should grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SerialKind {
    /// [`Serials::internal`](crate::Serials::internal).
    Internal,
    /// [`Serials::multicluster`](crate::Serials::multicluster).
    Multicluster,
    /// [`Serials::external`](crate::Serials::external).
    External,
}

/// What a change of an object does. Nothing is worked out before it is asked for.
#[derive(Debug)]
pub struct Changes<'z> {
    zones: &'z Zones,
    befores: Vec<Before>,
}

impl<'z> Changes<'z> {
    /// Of several states of a Service before the change the first counts.
    pub(crate) fn new(zones: &'z Zones, mut befores: Vec<Before>) -> Self {
        befores.sort_by(|a, b| (a.side, &a.key).cmp(&(b.side, &b.key)));
        befores.dedup_by(|later, first| (later.side, &later.key) == (first.side, &first.key));
        Self { zones, befores }
    }

    fn after(&self, before: &Before) -> (Option<&'z Entry>, bool) {
        let entry = self.zones.store.table(before.side).find(&before.key).map(|(_, entry)| entry);
        (entry, entry.is_some_and(|entry| self.zones.store.exposes(entry)))
    }

    /// Whether names of a kind may have changed, so that its serial number should grow. A change that CoreDNS would not notice,
    /// such as an endpoint that was not ready and still is not, does not.
    #[must_use]
    pub fn touches(&self, kind: SerialKind) -> bool {
        self.befores.iter().any(|before| {
            let (entry, exposed) = self.after(before);
            let old = before.entry.as_ref().filter(|_| before.exposed);
            let new = entry.filter(|_| exposed);
            match kind {
                SerialKind::Internal | SerialKind::Multicluster => {
                    let side = if kind == SerialKind::Internal { Side::Internal } else { Side::Imported };
                    before.side == side && !same(old, new)
                }
                SerialKind::External => {
                    let outside = |entry: Option<&Entry>| {
                        entry.and_then(Entry::face).map(|face| (face.outside.clone(), face.ports.clone()))
                    };
                    before.side == Side::Internal && outside(old) != outside(new)
                }
            }
        })
    }

    /// Every record of a [`Zones::records`] listing that comes or goes, sorted: those of Services, their endpoints and addresses.
    /// SOA records are the caller's matter.
    ///
    /// Applying them to the listing from before gives exactly the listing from after.
    #[must_use]
    pub fn records(&self) -> Vec<RecordChange> {
        let mut changes = Vec::new();
        for before in &self.befores {
            let (entry, exposed) = self.after(before);
            let old = before.entry.as_ref().filter(|_| before.exposed);
            let new = entry.filter(|_| exposed);
            if same(old, new) {
                continue;
            }
            let scope = match (old, new) {
                (Some(old), Some(new)) => self.zones.scope(old, new),
                _ => Scope::All,
            };
            let listing = |entry: Option<&Entry>| {
                let mut records =
                    entry.map(|entry| self.zones.records_of(before.side, entry, &scope)).unwrap_or_default();
                records.sort();
                records.dedup();
                records
            };
            difference(listing(old), listing(new), &mut changes);
        }
        changes.sort();
        changes
    }
}

/// Whether two states of a Service give the same records.
fn same(old: Option<&Entry>, new: Option<&Entry>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => old.presence == new.presence && old.endpoints.same_records(&new.endpoints),
        _ => false,
    }
}

/// Walks two sorted listings.
fn difference(old: Vec<(Name, Record)>, new: Vec<(Name, Record)>, changes: &mut Vec<RecordChange>) {
    let mut change = |kind, (zone, record)| changes.push(RecordChange { zone, kind, record });
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        match order {
            Ordering::Less => old.next().into_iter().for_each(|record| change(ChangeKind::Remove, record)),
            Ordering::Greater => new.next().into_iter().for_each(|record| change(ChangeKind::Add, record)),
            Ordering::Equal => {
                old.next();
                new.next();
            }
        }
    }
}
