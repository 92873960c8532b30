//! One namespace: its Pods, Services and slices.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use smol_str::{SmolStr, format_smolstr};
use svc_model::cluster::SelectorIndex;
use svc_model::{EndpointSlice, Labels, ObjectMeta, ObjectRef, Selector, Service, Timestamp};

use super::changes::{Journal, Write};
use super::service::ServiceEntry;
use crate::slices::facts::{PodFacts, PodRecord};
use crate::slices::metadata::is_owned_by;
use crate::slices::{Nodes, Reconciler, Scene, is_managed, selector_of};

/// A Pod and the Services that select it, by name.
#[derive(Debug, Clone)]
pub(super) struct PodEntry {
    pub(super) record: PodRecord,
    pub(super) services: Box<[SmolStr]>,
}

/// A Pod that may have changed, as it was. Without a record it was not selected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed<'a> {
    pub(super) name: &'a SmolStr,
    pub(super) before: Option<PodFacts<'a>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Space {
    pub(super) pods: BTreeMap<SmolStr, PodEntry>,
    pub(super) services: BTreeMap<SmolStr, ServiceEntry>,
    pub(super) slices: BTreeMap<SmolStr, EndpointSlice>,
    selectors: SelectorIndex<SmolStr>,
}

impl Space {
    pub(super) fn slices_of(&self, service: &str) -> impl Iterator<Item = &EndpointSlice> {
        let entry = self.services.get(service);
        entry.into_iter().flat_map(|entry| &entry.slices).filter_map(|name| self.slices.get(name))
    }

    pub(super) fn put_pod(
        &mut self,
        record: PodRecord,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        let name = record.key.name.clone();
        let old = self.pods.get_mut(&name);
        if old.as_ref().is_some_and(|old| old.record == record) {
            return;
        }
        let ready_since = record.ready_since;
        let (before, services_before) = match old {
            Some(old) if old.record.labels == record.labels => {
                (Some(mem::replace(&mut old.record, record)), old.services.clone())
            }
            _ => {
                let mut services: Vec<SmolStr> = self.selectors.matching(&record.labels).cloned().collect();
                services.sort_unstable();
                let services = services.into();
                let old = self.pods.insert(name.clone(), PodEntry { record, services });
                old.map_or_else(Default::default, |old| (Some(old.record), old.services))
            }
        };
        let services = self.pods.get(&name).map(|entry| entry.services.clone()).unwrap_or_default();
        for service in services.iter() {
            let was_selected = services_before.contains(service);
            if !was_selected && let Some(entry) = self.services.get_mut(service) {
                entry.pods.insert(name.clone());
            }
            let before = before.as_ref().filter(|_| was_selected);
            let seen = before.and_then(|before| before.ready_since);
            let trigger = ready_since.filter(|time| Some(*time) > seen);
            let changed = Changed { name: &name, before: before.map(PodRecord::facts) };
            self.refresh(service, &[changed], trigger, nodes, reconciler, journal);
        }
        for service in services_before.iter().filter(|service| !services.contains(service)) {
            self.deselect(service, &name, before.as_ref(), nodes, reconciler, journal);
        }
    }

    pub(super) fn take_pod(
        &mut self,
        name: &SmolStr,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) -> Option<PodRecord> {
        let PodEntry { record, services } = self.pods.remove(name)?;
        for service in &services {
            self.deselect(service, name, Some(&record), nodes, reconciler, journal);
        }
        Some(record)
    }

    fn deselect(
        &mut self,
        service: &SmolStr,
        pod: &SmolStr,
        before: Option<&PodRecord>,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        if let Some(entry) = self.services.get_mut(service) {
            entry.pods.remove(pod);
        }
        let changed = Changed { name: pod, before: before.map(PodRecord::facts) };
        self.refresh(service, &[changed], None, nodes, reconciler, journal);
    }

    /// Pods of which something outside of them changed: their node.
    pub(super) fn refresh_pods(
        &mut self,
        pods: &[SmolStr],
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        let mut by_service: BTreeMap<SmolStr, Vec<&SmolStr>> = BTreeMap::new();
        for name in pods {
            for service in self.pods.get(name).into_iter().flat_map(|entry| &entry.services) {
                by_service.entry(service.clone()).or_default().push(name);
            }
        }
        for (service, pods) in by_service {
            let records: Vec<(&SmolStr, PodRecord)> = pods
                .into_iter()
                .filter_map(|name| Some((name, self.pods.get(name)?.record.clone())))
                .collect();
            let changed: Vec<Changed<'_>> =
                records.iter().map(|(name, record)| Changed { name, before: Some(record.facts()) }).collect();
            self.refresh(&service, &changed, None, nodes, reconciler, journal);
        }
    }

    /// The zones' shares of CPU changed.
    pub(super) fn refresh_topology(&mut self, nodes: &Nodes, reconciler: &Reconciler, journal: &mut Journal) {
        let is_auto = |entry: &ServiceEntry| entry.mode == crate::slices::HintMode::Auto;
        let names: Vec<SmolStr> =
            self.services.iter().filter(|(_, entry)| is_auto(entry)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.reconcile(&name, None, nodes, reconciler, journal);
        }
    }

    fn refresh(
        &mut self,
        service: &SmolStr,
        changed: &[Changed<'_>],
        trigger: Option<Timestamp>,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        if !self.step(service, changed, trigger, nodes, reconciler, journal) {
            self.reconcile(service, trigger, nodes, reconciler, journal);
        }
    }

    pub(super) fn put_service(
        &mut self,
        service: &Service,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        let name = &service.metadata.name;
        let config = reconciler.config();
        let old = self.services.get(name).map(|entry| &entry.service);
        if old == Some(service) {
            return;
        }
        let created = service.metadata.creation_timestamp;
        let created_before = old.and_then(|old| old.metadata.creation_timestamp);
        let selector_before = old.and_then(|old| selector_of(old).ok()).cloned();
        let is_new = old.is_none();
        let selector = selector_of(service).ok();
        match self.services.get_mut(name) {
            Some(entry) => entry.replace(service.clone(), config),
            None => {
                let mut entry = ServiceEntry::new(service.clone(), config);
                let key = service.metadata.object_ref();
                let managed =
                    self.slices.values().filter(|slice| is_managed(slice, &key, &config.managed_by));
                entry.slices = managed.map(|slice| slice.metadata.name.clone()).collect();
                self.services.insert(name.clone(), entry);
            }
        }
        let newest =
            if is_new || selector_before.as_ref() != selector { self.select(name, selector) } else { None };
        if selector.is_none() {
            return;
        }
        let is_seen = self.services.get(name).is_some_and(|entry| entry.seen);
        let trigger = if is_seen {
            newest.into_iter().chain(created.filter(|_| created > created_before)).min()
        } else {
            created
        };
        self.reconcile(name, trigger, nodes, reconciler, journal);
    }

    /// Gives a Service other Pods. Returns the earliest time at which one of those that it did not have before
    /// became ready or stopped being so.
    fn select(&mut self, service: &SmolStr, selector: Option<&Labels>) -> Option<Timestamp> {
        let entry = self.services.get_mut(service)?;
        if let Some(before) = entry.filed.take() {
            self.selectors.remove(service, &before);
        }
        if let Some(selector) = selector.map(Selector::from_labels) {
            self.selectors.insert(service.clone(), selector.clone());
            entry.filed = Some(selector);
        }
        let seen_before = mem::take(&mut entry.unselected);
        let mut earliest = None;
        for (name, pod) in &mut self.pods {
            let is_selected = selector.is_some_and(|selector| pod.record.labels.contains_all(selector));
            let was_selected = pod.services.contains(service);
            if is_selected == was_selected {
                continue;
            }
            let mut services = mem::take(&mut pod.services).into_vec();
            if is_selected {
                services.push(service.clone());
                services.sort_unstable();
                entry.pods.insert(name.clone());
                let seen = seen_before.get(name).copied();
                let newer = pod.record.ready_since.filter(|time| Some(*time) > seen);
                earliest = earliest.into_iter().chain(newer).min();
            } else {
                services.retain(|other| other != service);
                entry.pods.remove(name);
                if let (None, Some(time)) = (selector, pod.record.ready_since) {
                    entry.unselected.insert(name.clone(), time);
                }
            }
            pod.services = services.into();
        }
        earliest
    }

    pub(super) fn take_service(&mut self, name: &SmolStr, journal: &mut Journal) {
        self.select(name, None);
        let Some(entry) = self.services.remove(name) else { return };
        for slice in entry.slices {
            if self.slices.get(&slice).is_some_and(|slice| is_owned_by(slice, &entry.service)) {
                journal.touch(
                    ObjectRef::new(entry.service.metadata.namespace.clone(), slice.clone()),
                    true,
                    Write::Ours,
                );
                self.slices.remove(&slice);
            }
        }
    }

    pub(super) fn put_slice(
        &mut self,
        slice: &EndpointSlice,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        let name = &slice.metadata.name;
        let old = self.slices.insert(name.clone(), slice.clone());
        if old.as_ref().is_some_and(|old| says_the_same(old, slice)) {
            return;
        }
        journal.touch(slice.metadata.object_ref(), old.is_some(), Write::Theirs);
        let services = [old.as_ref().and_then(service_of), service_of(slice)];
        self.slice_changed(name, Some(slice), services, nodes, reconciler, journal);
    }

    pub(super) fn take_slice(
        &mut self,
        name: &SmolStr,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        let Some(old) = self.slices.remove(name) else { return };
        journal.touch(old.metadata.object_ref(), true, Write::Theirs);
        self.slice_changed(name, None, [service_of(&old), None], nodes, reconciler, journal);
    }

    /// Somebody else changed a slice: those Services that it is or was managed for are reconciled.
    fn slice_changed(
        &mut self,
        name: &SmolStr,
        slice: Option<&EndpointSlice>,
        services: [Option<SmolStr>; 2],
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        let [first, second] = services;
        for service in first.clone().into_iter().chain(second.filter(|second| first.as_ref() != Some(second)))
        {
            let Some(entry) = self.services.get_mut(&service) else { continue };
            let key = entry.service.metadata.object_ref();
            let was_managed = entry.slices.remove(name);
            let is_managed =
                slice.is_some_and(|slice| is_managed(slice, &key, &reconciler.config().managed_by));
            if is_managed {
                entry.slices.insert(name.clone());
            }
            if was_managed || is_managed {
                self.reconcile(&service, None, nodes, reconciler, journal);
            }
        }
    }

    /// Reconciles a Service as a whole, and carries out the plan.
    pub(super) fn reconcile(
        &mut self,
        name: &SmolStr,
        trigger_time: Option<Timestamp>,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) {
        let Some(mut entry) = self.services.remove(name) else { return };
        if selector_of(&entry.service).is_ok() {
            entry.seen = true;
            let pods = entry.pods.iter().filter_map(|pod| self.pods.get(pod)).map(|pod| pod.record.facts());
            let scene = Scene {
                pods: pods.collect(),
                service: &entry.service,
                nodes,
                cpu_shares: reconciler.cpu_shares(&entry.service, nodes),
                trigger_time,
            };
            let existing: Vec<&EndpointSlice> =
                entry.slices.iter().filter_map(|slice| self.slices.get(slice)).collect();
            let mut plan = reconciler.plan(&scene, &existing, &mut entry.history);
            journal.hint(&entry.service.metadata.object_ref(), mem::take(&mut plan.events));
            for key in plan.deletes {
                entry.slices.remove(&key.name);
                self.slices.remove(&key.name);
                journal.touch(key, true, Write::Ours);
            }
            for slice in plan.updates {
                journal.touch(slice.metadata.object_ref(), true, Write::Ours);
                self.slices.insert(slice.metadata.name.clone(), slice);
            }
            for slice in plan.creates {
                self.create(&mut entry, slice, journal);
            }
            entry.settle_in(self, reconciler);
        }
        self.services.insert(name.clone(), entry);
    }

    /// Adds a slice under a name of its own.
    pub(super) fn create(
        &mut self,
        entry: &mut ServiceEntry,
        mut slice: EndpointSlice,
        journal: &mut Journal,
    ) -> SmolStr {
        let name = self.free_name(&slice.metadata.generate_name);
        slice.metadata.name = name.clone();
        journal.touch(slice.metadata.object_ref(), false, Write::Ours);
        entry.slices.insert(name.clone());
        self.slices.insert(name.clone(), slice);
        name
    }

    /// The prefix and the least number that makes a name nobody has.
    fn free_name(&self, prefix: &str) -> SmolStr {
        let mut number = 1u64;
        loop {
            let name = format_smolstr!("{prefix}{number}");
            if !self.slices.contains_key(&name) {
                return name;
            }
            number += 1;
        }
    }
}

impl ServiceEntry {
    fn settle_in(&mut self, space: &Space, reconciler: &Reconciler) {
        let slices = mem::take(&mut self.slices);
        let pods = mem::take(&mut self.pods);
        self.settle(
            slices.iter().filter_map(|slice| space.slices.get(slice)),
            pods.iter().filter_map(|pod| space.pods.get(pod)).map(|pod| pod.record.facts()),
            reconciler.config(),
        );
        self.slices = slices;
        self.pods = pods;
    }
}

fn service_of(slice: &EndpointSlice) -> Option<SmolStr> {
    slice.service_name().map(SmolStr::new)
}

/// Whether two versions of a slice differ in nothing but what the server keeps for itself.
fn says_the_same(left: &EndpointSlice, right: &EndpointSlice) -> bool {
    let own = |metadata: &ObjectMeta| {
        (
            metadata.labels.clone(),
            metadata.annotations.clone(),
            metadata.owner_references.clone(),
            metadata.is_terminating(),
        )
    };
    left.address_type == right.address_type
        && left.endpoints == right.endpoints
        && left.ports == right.ports
        && own(&left.metadata) == own(&right.metadata)
}
