//! Changes of Pods that need no reconciliation of their whole Service.

use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_model::{Endpoint, IpFamily, ObjectRef, Timestamp};

use super::changes::{Journal, Write};
use super::service::{Holder, Places, ServiceEntry};
use super::space::{Changed, Space};
use crate::slices::endpoint::Publishing;
use crate::slices::facts::{PodFacts, families_of};
use crate::slices::hints::hint;
use crate::slices::metadata::set_trigger_time;
use crate::slices::pack::{self, Room, Target};
use crate::slices::ports::PortsKey;
use crate::slices::{HintMode, Nodes, Reconciler};

/// What a changed Pod asks for in one family.
#[derive(Debug)]
enum Step {
    Nothing,
    /// Its endpoint stays in place, with other content.
    Rewrite {
        slice: SmolStr,
        position: usize,
        endpoint: Endpoint,
    },
    /// Its endpoint goes, and others stay in the slice.
    Remove {
        slice: SmolStr,
        position: usize,
    },
    /// Its endpoint goes, and the slice that held no other with it; the family has other slices.
    Drop {
        slice: SmolStr,
    },
    /// It gets an endpoint, in a slice of its port group or a new one.
    Append {
        slice: Option<SmolStr>,
        ports: PortsKey,
        endpoint: Endpoint,
    },
}

impl Space {
    /// Carries over changed Pods of a Service. False if only a reconciliation of the Service can tell what is to
    /// be done; nothing is changed then.
    ///
    /// Each step does what the reconciliation would do: an endpoint is rewritten in place, taken out, or put where
    /// [`pack::fill`] finds a place for it.
    pub(super) fn step(
        &mut self,
        service: &SmolStr,
        changed: &[Changed<'_>],
        trigger: Option<Timestamp>,
        nodes: &Nodes,
        reconciler: &Reconciler,
        journal: &mut Journal,
    ) -> bool {
        let Some(mut entry) = self.services.remove(service) else { return true };
        let mut steps: Vec<(IpFamily, &SmolStr, Step)> = Vec::new();
        let found = entry.settled
            && changed.iter().all(|pod| {
                let groups_changed = self.count_published(&mut entry, pod);
                families_of(&entry.service).iter().all(|family| {
                    match self.find_step(&entry, pod.name, family, groups_changed, nodes, reconciler) {
                        None => false,
                        Some(Step::Nothing) => true,
                        Some(step) => {
                            steps.push((family, pod.name, step));
                            true
                        }
                    }
                })
            });
        let moves = |(_, _, step): &(IpFamily, &SmolStr, Step)| !matches!(step, Step::Rewrite { .. });
        // Several Pods that come or go at once are packed together, not one after the other.
        let found = found && (changed.len() == 1 || !steps.iter().any(moves));
        if found {
            // As in a plan: the names of slices that go are free for those that come.
            steps.sort_by_key(|(_, _, step)| !matches!(step, Step::Drop { .. }));
            for (family, pod, step) in steps {
                self.take_step(&mut entry, pod, family, step, trigger, journal);
            }
        } else {
            entry.settled = false;
        }
        self.services.insert(service.clone(), entry);
        found
    }

    fn pod_of<'a>(&'a self, entry: &ServiceEntry, pod: &SmolStr) -> Option<PodFacts<'a>> {
        self.pods.get(pod).filter(|_| entry.pods.contains(pod)).map(|pod| pod.record.facts())
    }

    /// Keeps count of the published Pods; says whether a port group has come or gone.
    fn count_published(&self, entry: &mut ServiceEntry, pod: &Changed<'_>) -> bool {
        let before = pod.before.and_then(|before| entry.ports_of(before));
        let now = self.pod_of(entry, pod.name).and_then(|now| entry.ports_of(now));
        if before == now {
            return false;
        }
        let mut changed = false;
        if let Some(ports) = now {
            let count = entry.published.entry(ports).or_default();
            changed |= *count == 0;
            *count += 1;
        }
        if let Some(ports) = before
            && let Some(count) = entry.published.get_mut(&ports)
        {
            *count -= 1;
            if *count == 0 {
                changed = true;
                entry.published.remove(&ports);
            }
        }
        changed
    }

    fn find_step(
        &self,
        entry: &ServiceEntry,
        name: &SmolStr,
        family: IpFamily,
        groups_changed: bool,
        nodes: &Nodes,
        reconciler: &Reconciler,
    ) -> Option<Step> {
        let places = entry.places(family);
        let publishing = Publishing { service: &entry.service, nodes };
        let pod = self.pod_of(entry, name);
        let ports = pod.and_then(|pod| entry.ports_of(pod));
        let desired = match (pod, &ports) {
            (Some(pod), Some(_)) => publishing.endpoint(pod, family).ok(),
            _ => None,
        };
        let home = places.homes.get(name);
        if home.is_none() && desired.is_none() {
            // A port group without endpoints keeps its empty slice, and only that.
            return (!groups_changed || places.empty == 0).then_some(Step::Nothing);
        }
        if places.empty > 0 {
            return None;
        }
        let found = match home {
            None => None,
            Some(home) => {
                let slice = self.slices.get(home)?;
                let is_it = |endpoint: &Endpoint| {
                    endpoint.target_ref.as_ref().is_some_and(|target| target.name == *name)
                };
                let position = slice.endpoints.iter().position(is_it)?;
                Some((home, slice, position, slice.endpoints.get(position)?))
            }
        };
        match (found, desired) {
            (None, None) => Some(Step::Nothing),
            (Some((home, slice, position, endpoint)), Some(desired)) => {
                if !desired.is(endpoint) || Some(PortsKey::of(&slice.ports)) != ports {
                    return None;
                }
                let new = hinted(desired.write(), entry.mode);
                Some(if new == *endpoint {
                    Step::Nothing
                } else {
                    Step::Rewrite { slice: home.clone(), position, endpoint: new }
                })
            }
            (Some((home, slice, position, _)), None) => {
                if slice.endpoints.len() > 1 {
                    return Some(Step::Remove { slice: home.clone(), position });
                }
                let slices: usize = places.groups.values().map(Vec::len).sum();
                (slices > 1).then(|| Step::Drop { slice: home.clone() })
            }
            (None, Some(desired)) => {
                let ports = ports?;
                let holders = places.groups.get(&ports).map(Vec::as_slice).unwrap_or_default();
                let rooms: Vec<Room> =
                    holders.iter().map(|holder| Room { len: holder.len, written: false }).collect();
                let fills = pack::fill(&rooms, 1, reconciler.config().max_endpoints_per_slice);
                let slice = match fills.first()?.target {
                    Target::Slice(index) => Some(holders.get(index)?.slice.clone()),
                    Target::New => None,
                };
                Some(Step::Append { slice, ports, endpoint: hinted(desired.write(), entry.mode) })
            }
        }
    }

    fn take_step(
        &mut self,
        entry: &mut ServiceEntry,
        pod: &SmolStr,
        family: IpFamily,
        step: Step,
        trigger: Option<Timestamp>,
        journal: &mut Journal,
    ) {
        let namespace = entry.service.metadata.namespace.clone();
        let mut touch = |slice: &SmolStr| {
            journal.touch(ObjectRef::new(namespace.clone(), slice.clone()), true, Write::Ours);
        };
        match step {
            Step::Nothing => {}
            Step::Rewrite { slice: name, position, endpoint } => {
                touch(&name);
                if let Some(slice) = self.slices.get_mut(&name) {
                    set_trigger_time(&mut slice.metadata.annotations, trigger);
                    slice.metadata.labels = entry.template.labels().clone();
                    if let Some(old) = slice.endpoints.get_mut(position) {
                        *old = endpoint;
                    }
                }
            }
            Step::Remove { slice: name, position } => {
                touch(&name);
                if let Some(slice) = self.slices.get_mut(&name) {
                    set_trigger_time(&mut slice.metadata.annotations, trigger);
                    slice.metadata.labels = entry.template.labels().clone();
                    if position < slice.endpoints.len() {
                        slice.endpoints.remove(position);
                    }
                    let ports = PortsKey::of(&slice.ports);
                    let places = entry.places_mut(family);
                    places.homes.remove(pod);
                    places.resize(&ports, &name, slice.endpoints.len());
                }
            }
            Step::Drop { slice: name } => {
                touch(&name);
                entry.slices.remove(&name);
                if let Some(slice) = self.slices.remove(&name) {
                    let ports = PortsKey::of(&slice.ports);
                    let places = entry.places_mut(family);
                    places.homes.remove(pod);
                    if let Some(holders) = places.groups.get_mut(&ports) {
                        holders.retain(|holder| holder.slice != name);
                        if holders.is_empty() {
                            places.groups.remove(&ports);
                        }
                    }
                }
            }
            Step::Append { slice: Some(name), ports, endpoint } => {
                touch(&name);
                if let Some(slice) = self.slices.get_mut(&name) {
                    set_trigger_time(&mut slice.metadata.annotations, trigger);
                    slice.endpoints.push(endpoint);
                    let places = entry.places_mut(family);
                    places.homes.insert(pod.clone(), name.clone());
                    places.resize(&ports, &name, slice.endpoints.len());
                }
            }
            Step::Append { slice: None, ports, endpoint } => {
                let facts = self.pods.get(pod).map(|pod| entry.slice_ports(pod.record.facts().ports));
                let mut slice = entry.template.slice(family, facts.unwrap_or_default());
                set_trigger_time(&mut slice.metadata.annotations, trigger);
                slice.endpoints.push(endpoint);
                let name = self.create(entry, slice, journal);
                let places = entry.places_mut(family);
                places.homes.insert(pod.clone(), name.clone());
                let holders = places.groups.entry(ports).or_default();
                let place = holders.partition_point(|holder| holder.slice < name);
                holders.insert(place, Holder { slice: name, len: 1 });
            }
        }
    }
}

impl Places {
    fn resize(&mut self, ports: &PortsKey, slice: &SmolStr, len: usize) {
        let holders = self.groups.get_mut(ports).map(Vec::as_mut_slice).unwrap_or_default();
        if let Ok(index) = holders.binary_search_by(|holder| holder.slice.cmp(slice))
            && let Some(holder) = holders.get_mut(index)
        {
            holder.len = len;
        }
    }
}

fn hinted(mut endpoint: Endpoint, mode: HintMode) -> Endpoint {
    if let HintMode::Distribution(distribution) = mode {
        hint(&mut endpoint, distribution);
    }
    endpoint
}
