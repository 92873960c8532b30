//! What a proxy has been told since its last sync.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use svc_endpoints::view::ViewChanges;
use svc_model::{IpFamily, ObjectRef, Service};

use super::{ServicePort, Skipped, service_ports};

/// Changes that wait for a sync. In whatever order they came, what counts is the last of each Service.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    family: IpFamily,
    /// Services that were applied, or removed: then without ports.
    applied: BTreeMap<ObjectRef, Vec<Arc<ServicePort>>>,
    /// Services to be looked at even if nothing of themselves changed.
    touched: BTreeSet<ObjectRef>,
}

impl Inbox {
    pub(crate) const fn new(family: IpFamily) -> Self {
        Self { family, applied: BTreeMap::new(), touched: BTreeSet::new() }
    }

    pub(crate) fn apply(&mut self, service: &Service) -> Vec<Skipped> {
        let (ports, skipped) = service_ports(service, self.family);
        self.applied.insert(service.metadata.object_ref(), ports.into_iter().map(Arc::new).collect());
        skipped
    }

    pub(crate) fn remove(&mut self, service: &ObjectRef) {
        self.applied.insert(service.clone(), Vec::new());
    }

    /// Applies `services`, and removes all others: those that are `known` to the proxy and those that wait here.
    pub(crate) fn replace_all<'a, 'k>(
        &mut self,
        services: impl IntoIterator<Item = &'a Service>,
        known: impl IntoIterator<Item = &'k ObjectRef>,
    ) {
        self.applied.values_mut().for_each(Vec::clear);
        self.applied.extend(known.into_iter().map(|name| (name.clone(), Vec::new())));
        for service in services {
            self.apply(service);
        }
    }

    /// Takes note of Services whose endpoints changed, unless in the other family.
    pub(crate) fn touch(&mut self, changes: &ViewChanges) {
        for change in changes.ports.iter().filter(|change| change.key.family == self.family) {
            if !self.touched.contains(&change.key.service) {
                self.touched.insert(change.key.service.clone());
            }
        }
    }

    pub(crate) fn touch_services<'k>(&mut self, services: impl IntoIterator<Item = &'k ObjectRef>) {
        self.touched.extend(services.into_iter().cloned());
    }

    /// Empties itself into the Services that may have changed, in order, with their ports; one without ports is gone.
    /// `known` tells those of a Service as of the last sync.
    pub(crate) fn take(
        &mut self,
        known: impl Fn(&ObjectRef) -> Vec<Arc<ServicePort>>,
    ) -> BTreeMap<ObjectRef, Vec<Arc<ServicePort>>> {
        let touched = mem::take(&mut self.touched);
        let mut news = mem::take(&mut self.applied);
        news.retain(|name, ports| touched.contains(name) || known(name) != *ports);
        for name in touched {
            if let Entry::Vacant(vacant) = news.entry(name) {
                let ports = known(vacant.key());
                vacant.insert(ports);
            }
        }
        news.retain(|name, ports| !ports.is_empty() || !known(name).is_empty());
        news
    }
}
