//! The EndpointSlice controller's decision: from a Service, its Pods and its slices to a plan.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::num::NonZeroUsize;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smol_str::SmolStr;
use svc_model::{Endpoint, EndpointSlice, IpFamily, Pod, Service, Timestamp};

use super::endpoint::{Desired, Publishing, is_published};
use super::facts::{PodFacts, families_of};
use super::hints::{self, HintEvent, HintEventKind, HintMode};
use super::metadata::{SliceTemplate, is_owned_by};
use super::nodes::{CpuShares, Nodes};
use super::pack::{self, Packing, Room, Target};
use super::plan::{Plan, SkippedPod};
use super::ports::{Group, PortsKey, group};
use super::trigger::SeenTimes;
use super::work::{FamilySlices, Fate, Work};

/// How slices are made. The defaults are those of Kubernetes 1.36.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Most endpoints in one slice, 1 to 1000 (`--max-endpoints-per-slice`, default 100).
    pub max_endpoints_per_slice: NonZeroUsize,
    /// What the slices' label `endpointslice.kubernetes.io/managed-by` says.
    pub managed_by: SmolStr,
    /// Whether topology mode `Auto` is supported at all.
    pub topology: bool,
    /// Whether `trafficDistribution` knows `PreferSameZone` and `PreferSameNode` besides `PreferClose` (feature
    /// gate PreferSameTrafficDistribution, locked on since 1.35).
    pub prefer_same_traffic_distribution: bool,
    /// How endpoints are packed into slices.
    pub packing: Packing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_endpoints_per_slice: const { NonZeroUsize::new(100).unwrap() },
            managed_by: SmolStr::new_static("endpointslice-controller.k8s.io"),
            topology: true,
            prefer_same_traffic_distribution: true,
            packing: Packing::KeepPlaces,
        }
    }
}

/// What is remembered of a Service between reconciliations. A new Service starts with the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Hints of topology mode `Auto` were given last time.
    pub(crate) hinted: bool,
    /// Times of changes; `None` until the first reconciliation.
    pub(crate) seen: Option<SeenTimes>,
}

/// Makes the EndpointSlices of Services.
///
/// A pure function with options: the same input gives the same plan. Where the reference leaves something to
/// the order of a Go map (which endpoint lands in which slice, which slice is recycled), Pods count in the
/// order of their names, port groups in the order of their ports, and slices in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciler {
    config: Config,
}

impl Reconciler {
    /// A reconciler with these options.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config }
    }

    /// The options.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Plans the slices of a Service for the Pods that it selects.
    ///
    /// `existing` are the slices that this controller may change: see
    /// [`is_managed`](super::is_managed). `trigger_time` is when the change happened that led here; it goes
    /// into an annotation of every slice written. Cost: O(endpoints); unchanged slices are only compared.
    pub fn reconcile<'a>(
        &self,
        service: &Service,
        pods: impl IntoIterator<Item = &'a Pod>,
        nodes: &Nodes,
        existing: &[EndpointSlice],
        trigger_time: Option<Timestamp>,
        history: &mut History,
    ) -> Plan {
        let pods: Vec<PodFacts<'_>> = pods.into_iter().map(PodFacts::of).collect();
        let cpu_shares = self.cpu_shares(service, nodes);
        let existing: Vec<&EndpointSlice> = existing.iter().collect();
        self.plan(&Scene { service, pods, nodes, cpu_shares, trigger_time }, &existing, history)
    }

    /// The zones' shares of CPU, where the Service's hints depend on them.
    pub(crate) fn cpu_shares(&self, service: &Service, nodes: &Nodes) -> Option<CpuShares> {
        (HintMode::of(service, &self.config) == HintMode::Auto).then(|| nodes.cpu_shares()).flatten()
    }

    pub(crate) fn plan(&self, scene: &Scene<'_>, existing: &[&EndpointSlice], history: &mut History) -> Plan {
        let pods = sorted(&scene.pods);
        let pods = &*pods;
        let published = (0..).zip(pods).filter(|(_, pod)| is_published(**pod).is_ok());
        let groups = group(scene.service, published.map(|(index, pod)| (index, pod.ports)));
        let families = families_of(scene.service);
        let template = SliceTemplate::of(scene.service, &self.config);
        let mut plan = Plan::default();
        for family in families.iter() {
            let of_family: Vec<&EndpointSlice> = existing
                .iter()
                .copied()
                .filter(|slice| slice.address_type.get() == Some(family.into()))
                .collect();
            let run = Run { config: &self.config, scene, pods, template: &template, family };
            run.run(&of_family, &groups.groups, history, &mut plan);
        }
        for slice in existing {
            let family = slice.address_type.get().and_then(super::family_of);
            if !family.is_some_and(|family| families.contains(family)) {
                plan.deletes.push(slice.metadata.object_ref());
                plan.endpoints_removed += slice.endpoints.len();
            }
        }
        plan.skipped.sort();
        plan.skipped.dedup();
        plan
    }
}

/// Everything that a plan is made from, besides the existing slices.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) service: &'a Service,
    pub(crate) pods: Vec<PodFacts<'a>>,
    pub(crate) nodes: &'a Nodes,
    pub(crate) cpu_shares: Option<CpuShares>,
    pub(crate) trigger_time: Option<Timestamp>,
}

/// Pods in the order of namespace and name, without copying where they are so already.
fn sorted<'s, 'a>(pods: &'s [PodFacts<'a>]) -> alloc::borrow::Cow<'s, [PodFacts<'a>]> {
    let key = |pod: &PodFacts<'a>| (pod.namespace, pod.name);
    if pods.is_sorted_by_key(key) {
        return pods.into();
    }
    let mut pods = pods.to_vec();
    pods.sort_by_key(key);
    pods.into()
}

/// One family of one Service.
struct Run<'r> {
    config: &'r Config,
    scene: &'r Scene<'r>,
    pods: &'r [PodFacts<'r>],
    template: &'r SliceTemplate,
    family: IpFamily,
}

impl<'r> Run<'r> {
    fn run(
        &self,
        existing: &[&'r EndpointSlice],
        groups: &BTreeMap<PortsKey, Group>,
        history: &mut History,
        plan: &mut Plan,
    ) {
        let service = self.scene.service;
        let mut by_ports: BTreeMap<PortsKey, Vec<Work<'r>>> = BTreeMap::new();
        let mut slices = FamilySlices::default();
        for &old in existing {
            if is_owned_by(old, service) {
                let group = by_ports.entry(PortsKey::of(&old.ports)).or_default();
                group.push(Work { old, fate: Fate::Unchanged });
            } else {
                // A leftover of a deleted namesake; its garbage collection may be under way.
                slices.works.push(Work { old, fate: Fate::Deleted });
            }
        }
        for (key, group) in groups {
            let works = by_ports.remove(key).unwrap_or_default();
            self.run_group(group, works, &mut slices, plan);
        }
        for (_, works) in by_ports {
            for mut work in works {
                plan.endpoints_removed += work.old.endpoints.len();
                work.fate = Fate::Deleted;
                slices.works.push(work);
            }
        }
        self.keep_a_placeholder(&mut slices);
        self.write_hints(&mut slices, history, plan);
        self.finish(slices, plan);
    }

    /// Brings the slices of one port group up to date.
    fn run_group(
        &self,
        group: &Group,
        mut works: Vec<Work<'r>>,
        slices: &mut FamilySlices<'r>,
        plan: &mut Plan,
    ) {
        let publishing = Publishing { service: self.scene.service, nodes: self.scene.nodes };
        let mut desired: Vec<Desired<'r>> = Vec::with_capacity(group.pods.len());
        for &index in &group.pods {
            let Some(&pod) = usize::try_from(index).ok().and_then(|index| self.pods.get(index)) else {
                continue;
            };
            match publishing.endpoint(pod, self.family) {
                Ok(endpoint) => desired.push(endpoint),
                Err(super::Exclusion::NodeMissing(node)) => plan.skipped.push(SkippedPod {
                    service: self.scene.service.metadata.object_ref(),
                    pod: pod.name.clone(),
                    node,
                }),
                Err(_) => {}
            }
        }
        let mut pending = Pending::new(&desired, works.iter().any(|work| !work.old.endpoints.is_empty()));
        for work in &mut works {
            plan.endpoints_removed += self.keep_desired(work, &mut pending);
        }
        let mut left = pending.into_left().peekable();
        let count = left.size_hint().0;
        plan.endpoints_added += count;
        let rooms: Vec<Room> = works.iter().map(room).collect();
        let mut creates = Vec::new();
        for fill in pack::fill(&rooms, count, self.config.max_endpoints_per_slice) {
            let endpoints = left.by_ref().take(fill.count).map(Desired::write);
            match fill.target {
                Target::Slice(index) => {
                    if let Some(slice) = works.get_mut(index).and_then(Work::update) {
                        slice.endpoints.extend(endpoints);
                    }
                }
                Target::New => {
                    let mut slice = self.template.slice(self.family, group.ports.clone());
                    slice.endpoints = Vec::with_capacity(fill.count);
                    slice.endpoints.extend(endpoints);
                    creates.push(slice);
                }
            }
        }
        if let Packing::Repack { budget } = self.config.packing {
            repack(&mut works, &mut creates, self.config.max_endpoints_per_slice, budget);
        }
        slices.works.append(&mut works);
        slices.creates.append(&mut creates);
    }

    /// Keeps of a slice what is still desired, up to date and in the old order. Returns how many endpoints go.
    fn keep_desired(&self, work: &mut Work<'r>, pending: &mut Pending<'_, 'r>) -> usize {
        let old = work.old;
        let matches: Vec<Option<&Desired<'r>>> =
            old.endpoints.iter().map(|endpoint| pending.take(endpoint)).collect();
        let kept = matches.iter().flatten().count();
        let up_to_date = old
            .endpoints
            .iter()
            .zip(&matches)
            .all(|(endpoint, desired)| desired.is_some_and(|desired| desired.is_up_to_date(endpoint)));
        if !up_to_date {
            work.fate = if kept == 0 {
                Fate::Deleted
            } else {
                let endpoints = matches.into_iter().flatten().map(Desired::write).collect();
                Fate::Updated(Box::new(self.template.rewrite(old, endpoints)))
            };
        } else if self.template.labels_differ(old) {
            work.fate = Fate::Updated(Box::new(self.template.rewrite(old, old.endpoints.clone())));
        }
        old.endpoints.len() - kept
    }

    /// Where all slices would go and none be made, an empty one shows that the Service has no endpoints.
    fn keep_a_placeholder(&self, slices: &mut FamilySlices<'r>) {
        if !slices.creates.is_empty() || !slices.works.iter().all(Work::is_deleted) {
            return;
        }
        let placeholder = self.template.slice(self.family, Vec::new());
        match slices.works.as_mut_slice() {
            [only] if self.template.is_placeholder(only.old, &placeholder) => only.fate = Fate::Unchanged,
            _ => slices.creates.push(placeholder),
        }
    }

    fn write_hints(&self, slices: &mut FamilySlices<'r>, history: &mut History, plan: &mut Plan) {
        let mut tell = |kind| plan.events.push(HintEvent { family: self.family, kind });
        let mode = HintMode::of(self.scene.service, self.config);
        if mode == HintMode::Auto {
            match hints::assign(slices, self.scene.cpu_shares.as_ref()) {
                Ok(()) => {
                    if !history.hinted {
                        tell(HintEventKind::Enabled);
                    }
                    history.hinted = true;
                }
                Err(refusal) => {
                    tell(HintEventKind::Refused(refusal));
                    history.hinted = false;
                    hints::remove(slices);
                }
            }
            return;
        }
        if self.config.topology && history.hinted {
            tell(HintEventKind::Disabled);
            history.hinted = false;
        }
        match mode {
            HintMode::Distribution(distribution) => hints::distribute(slices, distribution),
            HintMode::None | HintMode::Auto | HintMode::AutoSwitchedOff => hints::remove(slices),
        }
    }

    /// Recycles: a slice that would go takes the content of one that would be created. Then the plan is written.
    fn finish(&self, slices: FamilySlices<'r>, plan: &mut Plan) {
        let service = self.scene.service;
        let FamilySlices { works, mut creates } = slices;
        for work in works {
            match work.fate {
                Fate::Unchanged => plan.unchanged.push(work.old.metadata.object_ref()),
                Fate::Updated(slice) => plan.updates.push(*slice),
                Fate::Deleted => {
                    let recycled = if is_owned_by(work.old, service) { creates.pop() } else { None };
                    match recycled {
                        Some(mut slice) => {
                            slice.metadata.name = work.old.metadata.name.clone();
                            plan.updates.push(slice);
                        }
                        None => plan.deletes.push(work.old.metadata.object_ref()),
                    }
                }
            }
        }
        // While the Service is being deleted, the garbage collector takes its slices; new ones would race it.
        if !service.metadata.is_terminating() {
            plan.creates.append(&mut creates);
        }
        let written = plan.creates.iter_mut().chain(&mut plan.updates);
        for slice in written.filter(|slice| slice.address_type.get() == Some(self.family.into())) {
            super::metadata::set_trigger_time(&mut slice.metadata.annotations, self.scene.trigger_time);
        }
    }
}

fn room(work: &Work<'_>) -> Room {
    match &work.fate {
        Fate::Unchanged => Room { len: work.old.endpoints.len(), written: false },
        Fate::Updated(slice) => Room { len: slice.endpoints.len(), written: true },
        // Full: nothing is to be put into a slice that goes.
        Fate::Deleted => Room { len: usize::MAX, written: false },
    }
}

/// Dissolves near-empty slices into fuller ones.
fn repack(works: &mut [Work<'_>], creates: &mut [EndpointSlice], limit: NonZeroUsize, budget: NonZeroUsize) {
    let of_create = |slice: &EndpointSlice| Room { len: slice.endpoints.len(), written: true };
    let rooms: Vec<Room> = works.iter().map(room).chain(creates.iter().map(of_create)).collect();
    for step in pack::dissolve(&rooms, limit, budget) {
        let Some(work) = works.get_mut(step.from) else { continue };
        let Some(mut moving) = work.current().map(|slice| slice.endpoints.clone()) else { continue };
        work.fate = Fate::Deleted;
        for (index, count) in step.to {
            let rest = moving.split_off(count.min(moving.len()));
            let receiver = match index.checked_sub(works.len()) {
                None => works.get_mut(index).and_then(Work::update),
                Some(index) => creates.get_mut(index),
            };
            if let Some(slice) = receiver {
                slice.endpoints.append(&mut moving);
            }
            moving = rest;
        }
    }
}

/// The desired endpoints of a group that no slice holds yet, found by the name of their Pod.
struct Pending<'d, 'a> {
    desired: &'d [Desired<'a>],
    taken: Vec<bool>,
    by_name: HashTable<u32>,
}

impl<'d, 'a> Pending<'d, 'a> {
    /// `searchable` says whether [`take`](Self::take) will be called; the index costs time to build.
    fn new(desired: &'d [Desired<'a>], searchable: bool) -> Self {
        let mut by_name = HashTable::new();
        if searchable {
            by_name.reserve(desired.len(), |_| 0);
            for (index, endpoint) in (0..).zip(desired) {
                by_name.insert_unique(hash(endpoint.pod.name), index, |&index: &u32| {
                    at(desired, index).map_or(0, |endpoint| hash(endpoint.pod.name))
                });
            }
        }
        Self { desired, taken: alloc::vec![false; desired.len()], by_name }
    }

    /// The desired endpoint that `endpoint` is, if no slice before held it.
    fn take(&mut self, endpoint: &Endpoint) -> Option<&'d Desired<'a>> {
        let target = endpoint.target_ref.as_ref()?;
        let desired = self.desired;
        let index = *self.by_name.find(hash(&target.name), |&index| {
            at(desired, index).is_some_and(|candidate| candidate.is(endpoint))
        })?;
        let taken = self.taken.get_mut(usize::try_from(index).ok()?)?;
        if *taken {
            return None;
        }
        *taken = true;
        at(desired, index)
    }

    fn into_left(self) -> impl Iterator<Item = &'d Desired<'a>> {
        let left: Vec<&Desired<'_>> = self
            .desired
            .iter()
            .zip(self.taken)
            .filter_map(|(endpoint, taken)| (!taken).then_some(endpoint))
            .collect();
        left.into_iter()
    }
}

fn at<T>(list: &[T], index: u32) -> Option<&T> {
    list.get(usize::try_from(index).ok()?)
}

fn hash(name: &SmolStr) -> u64 {
    FixedState::default().hash_one(name.as_str())
}
