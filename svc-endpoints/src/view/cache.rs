//! All EndpointSlices of a cluster, merged into one view per Service port and kept up to date.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;

use smol_str::SmolStr;
use svc_model::{EndpointSlice, IpFamily, ObjectRef, Protocol};

use super::endpoint::{Endpoint, EndpointInfo};
use super::port::{Origin, PortEndpoints};
use super::read::{Ignored, SliceContent};

/// One port of one Service in one address family: what endpoints are merged under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// The Service.
    pub service: ObjectRef,
    /// The address family.
    pub family: IpFamily,
    /// Name of the port; empty for the only port of a Service that does not name it.
    pub port: SmolStr,
    /// Protocol of the port.
    pub protocol: Protocol,
}

impl fmt::Display for PortKey {
    /// The port as kube-proxy names it in rules and logs: `namespace/name:port`, without the colon if the
    /// port has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// How the endpoints of one Service port changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortChange {
    /// The Service port.
    pub key: PortKey,
    /// Endpoints that are new, or of which something changed, in the order of their text.
    pub upserted: Vec<Endpoint>,
    /// Endpoints that are gone, as they last were, in the order of their text.
    pub removed: Vec<Endpoint>,
}

/// What an event changed in a [`SliceCache`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct ViewChanges {
    /// The Service ports whose endpoints differ from before, and how, in order.
    pub ports: Vec<PortChange>,
    /// What the slices hold that no view can use.
    pub ignored: Vec<Ignored>,
}

impl ViewChanges {
    /// Whether no view differs from before.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The Services of which some view differs from before, each once, in order.
    pub fn services(&self) -> impl Iterator<Item = &ObjectRef> {
        let mut last = None;
        self.ports
            .iter()
            .map(|port| &port.key.service)
            .filter(move |service| last.replace(*service) != Some(*service))
    }
}

/// All EndpointSlices of a cluster (or of a part of it), merged into one view per Service port.
///
/// Fed with one slice at a time by [`apply`](Self::apply) and [`remove`](Self::remove), or with the whole
/// list by [`replace_all`](Self::replace_all). Who manages a slice makes no difference to a reader: the
/// label `kubernetes.io/service-name` alone ties it to its Service.
///
/// An event costs what its slice costs, whatever the size of the Service. With `n` endpoints in the slice
/// and `N` in the Service:
///
/// | operation | cost |
/// | --- | --- |
/// | `apply`, `remove` | O(n) to compare, then O(log N) for each endpoint that differs |
/// | `port`, `ports_of` | O(log of the number of Service ports) |
/// | [`PortEndpoints::select`] | O(log of the number of nodes) |
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceCache {
    slices: BTreeMap<ObjectRef, SliceContent>,
    ports: BTreeMap<PortKey, PortEndpoints>,
}

impl SliceCache {
    /// A cache without slices.
    #[must_use]
    pub const fn new() -> Self {
        Self { slices: BTreeMap::new(), ports: BTreeMap::new() }
    }

    /// Adds a slice, or puts it in the place of the one with the same namespace and name.
    pub fn apply(&mut self, slice: &EndpointSlice) -> ViewChanges {
        let mut journal = Journal::default();
        let ignored = self.put(slice, &mut journal);
        journal.finish(&self.ports, ignored)
    }

    /// Removes a slice. Removing one that is not there changes nothing.
    pub fn remove(&mut self, slice: &ObjectRef) -> ViewChanges {
        let mut journal = Journal::default();
        self.take(slice, &mut journal);
        journal.finish(&self.ports, Vec::new())
    }

    /// Makes `slices` the only ones: those not among them are removed. Of two with the same namespace and
    /// name the later one counts.
    pub fn replace_all<'a>(&mut self, slices: impl IntoIterator<Item = &'a EndpointSlice>) -> ViewChanges {
        let new: BTreeMap<ObjectRef, &EndpointSlice> =
            slices.into_iter().map(|slice| (slice.metadata.object_ref(), slice)).collect();
        let gone: Vec<ObjectRef> =
            self.slices.keys().filter(|key| !new.contains_key(*key)).cloned().collect();
        let mut journal = Journal::default();
        for key in &gone {
            self.take(key, &mut journal);
        }
        let ignored = new.into_values().flat_map(|slice| self.put(slice, &mut journal)).collect();
        journal.finish(&self.ports, ignored)
    }

    /// Brings several slices up to date at once: `None` is one that is gone.
    pub(crate) fn update<'a>(
        &mut self,
        slices: impl Iterator<Item = (&'a ObjectRef, Option<&'a EndpointSlice>)>,
    ) -> ViewChanges {
        let mut journal = Journal::default();
        let mut ignored = Vec::new();
        for (key, slice) in slices {
            match slice {
                Some(slice) => ignored.append(&mut self.put(slice, &mut journal)),
                None => self.take(key, &mut journal),
            }
        }
        journal.finish(&self.ports, ignored)
    }

    /// The endpoints of a Service port, or `None` if no slice offers any.
    #[must_use]
    pub fn port(&self, key: &PortKey) -> Option<&PortEndpoints> {
        self.ports.get(key)
    }

    /// Every port with endpoints of a Service, of both families, in order.
    pub fn ports_of(&self, service: &ObjectRef) -> impl Iterator<Item = (&PortKey, &PortEndpoints)> {
        let first = PortKey {
            service: service.clone(),
            family: IpFamily::Ipv4,
            port: SmolStr::default(),
            protocol: Protocol::Tcp,
        };
        let service = service.clone();
        self.ports
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(key, _)| key.service == service)
    }

    /// Every Service port with endpoints, in order.
    pub fn ports(&self) -> impl Iterator<Item = (&PortKey, &PortEndpoints)> {
        self.ports.iter()
    }

    fn put(&mut self, slice: &EndpointSlice, journal: &mut Journal) -> Vec<Ignored> {
        let key = slice.metadata.object_ref();
        let (new, ignored) = SliceContent::read(slice, self.slices.get(&key));
        let old = match new {
            Some(new) => self.slices.insert(key.clone(), new),
            None => self.slices.remove(&key),
        };
        let edit = Edit { slice: &key.name, ports: &mut self.ports, journal };
        edit.exchange(old.as_ref(), self.slices.get(&key));
        ignored
    }

    fn take(&mut self, key: &ObjectRef, journal: &mut Journal) {
        if let Some(old) = self.slices.remove(key) {
            let edit = Edit { slice: &key.name, ports: &mut self.ports, journal };
            edit.exchange(Some(&old), None);
        }
    }
}

/// Carries the content of one slice over into the views.
struct Edit<'a> {
    slice: &'a SmolStr,
    ports: &'a mut BTreeMap<PortKey, PortEndpoints>,
    journal: &'a mut Journal,
}

impl Edit<'_> {
    fn exchange(mut self, old: Option<&SliceContent>, new: Option<&SliceContent>) {
        match (old, new) {
            (Some(old), Some(new)) if old.has_ports_of(new) => {
                let length = old.endpoints.len().max(new.endpoints.len());
                let differing: Vec<_> = (0..)
                    .take(length)
                    .map(|position| (position, old.at(position), new.at(position)))
                    .filter(|(_, old, new)| old != new)
                    .collect();
                self.change(new, &differing);
            }
            _ => {
                if let Some(old) = old {
                    self.change(
                        old,
                        &old.positions().map(|(at, info)| (at, Some(info), None)).collect::<Vec<_>>(),
                    );
                }
                if let Some(new) = new {
                    self.change(
                        new,
                        &new.positions().map(|(at, info)| (at, None, Some(info))).collect::<Vec<_>>(),
                    );
                }
            }
        }
    }

    /// Exchanges endpoints (position, old, new) under every port of the slice.
    fn change(&mut self, content: &SliceContent, endpoints: &[Exchange<'_>]) {
        if endpoints.is_empty() {
            return;
        }
        for port in &content.ports {
            let key = PortKey {
                service: content.service.clone(),
                family: content.family,
                port: port.name.clone(),
                protocol: port.protocol,
            };
            let view = self.ports.entry(key.clone()).or_default();
            let notes = self.journal.0.entry(key.clone()).or_default();
            let number = port.number.get();
            for &(position, old, new) in endpoints {
                if let Some(old) = old {
                    let name = Endpoint::name_of(old.ip, number);
                    notes.push((name.clone(), view.get(&name).cloned()));
                    view.remove(self.slice, position, &name);
                }
                if let Some(new) = new {
                    let endpoint = Endpoint::new(Arc::clone(new), number);
                    notes.push((endpoint.name().clone(), view.get(endpoint.name()).cloned()));
                    view.insert(Origin { slice: self.slice.clone(), position }, endpoint);
                }
            }
            if view.is_empty() {
                self.ports.remove(&key);
            }
        }
    }
}

/// An endpoint of a slice: its position, what it was, what it is.
type Exchange<'a> = (u32, Option<&'a Arc<EndpointInfo>>, Option<&'a Arc<EndpointInfo>>);

/// What the views held before each edit, in the order of the edits.
#[derive(Default)]
struct Journal(BTreeMap<PortKey, Vec<(SmolStr, Option<Endpoint>)>>);

impl Journal {
    fn finish(self, ports: &BTreeMap<PortKey, PortEndpoints>, ignored: Vec<Ignored>) -> ViewChanges {
        let mut changes = ViewChanges { ports: Vec::new(), ignored };
        for (key, mut notes) in self.0 {
            // Stable, so that of several edits of one endpoint the note before the first one is kept.
            notes.sort_by(|a, b| a.0.cmp(&b.0));
            notes.dedup_by(|later, first| later.0 == first.0);
            let view = ports.get(&key);
            let mut change = PortChange { key, upserted: Vec::new(), removed: Vec::new() };
            for (name, before) in notes {
                match (before, view.and_then(|view| view.get(&name))) {
                    (Some(before), None) => change.removed.push(before),
                    (before, Some(now)) if before.as_ref() != Some(now) => change.upserted.push(now.clone()),
                    _ => {}
                }
            }
            if !(change.upserted.is_empty() && change.removed.is_empty()) {
                changes.ports.push(change);
            }
        }
        changes
    }
}
