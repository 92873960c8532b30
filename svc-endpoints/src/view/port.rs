//! The merged endpoints of one Service port, and the counts that make selection cheap.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use smol_str::SmolStr;

use super::endpoint::{Endpoint, EndpointInfo, State};

/// Every endpoint of one Service port in one address family, merged over all EndpointSlices.
///
/// Endpoints come in the order of their text (`10.0.0.10:80` before `10.0.0.9:80`), as kube-proxy sorts
/// them. An address and port that several slices name counts once: one that does not terminate wins over
/// one that does, then the readier one, then the first by slice name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortEndpoints {
    slots: BTreeMap<SmolStr, Slot>,
    tally: Tally,
}

impl PortEndpoints {
    /// No endpoints.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: BTreeMap::new(), tally: Tally::new() }
    }

    /// Number of endpoints, usable or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no endpoints at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All endpoints, usable or not, in the order of their text.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Endpoint> + Clone {
        self.slots.values().map(|slot| &slot.endpoint)
    }

    /// The endpoint with this text (`10.0.0.1:80`).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Endpoint> {
        self.slots.get(name).map(|slot| &slot.endpoint)
    }

    /// The names of the EndpointSlices that hold the endpoint with this text, the one that is used first.
    pub fn slices_of(&self, name: &str) -> impl Iterator<Item = &SmolStr> {
        self.slots
            .get(name)
            .into_iter()
            .flat_map(|slot| {
                core::iter::once(&slot.origin).chain(slot.others.iter().map(|other| &other.origin))
            })
            .map(|origin| &origin.slice)
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn insert(&mut self, origin: Origin, endpoint: Endpoint) {
        match self.slots.get_mut(endpoint.name()) {
            None => {
                self.tally.add(endpoint.info());
                self.slots.insert(endpoint.name().clone(), Slot { endpoint, origin, others: Vec::new() });
            }
            Some(slot) => {
                let mut claim = Claim { origin, endpoint };
                if claim.rank() < slot.rank() {
                    self.tally.remove(slot.endpoint.info());
                    self.tally.add(claim.endpoint.info());
                    mem::swap(&mut slot.endpoint, &mut claim.endpoint);
                    mem::swap(&mut slot.origin, &mut claim.origin);
                }
                let place = slot.others.partition_point(|other| other.rank() < claim.rank());
                slot.others.insert(place, claim);
            }
        }
    }

    pub(crate) fn remove(&mut self, slice: &str, position: u32, name: &str) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        if slot.origin.is(slice, position) {
            self.tally.remove(slot.endpoint.info());
            if slot.others.is_empty() {
                self.slots.remove(name);
            } else {
                let next = slot.others.remove(0);
                self.tally.add(next.endpoint.info());
                slot.endpoint = next.endpoint;
                slot.origin = next.origin;
            }
        } else {
            slot.others.retain(|other| !other.origin.is(slice, position));
        }
    }
}

/// Where an endpoint was read: the slice and the position in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) slice: SmolStr,
    pub(crate) position: u32,
}

impl Origin {
    fn is(&self, slice: &str, position: u32) -> bool {
        self.position == position && self.slice == slice
    }
}

/// The endpoint that counts for one address and port, and those that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    endpoint: Endpoint,
    origin: Origin,
    /// Sorted by rank.
    others: Vec<Claim>,
}

impl Slot {
    fn rank(&self) -> ((bool, bool, bool), &Origin) {
        (self.endpoint.state().rank(), &self.origin)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    origin: Origin,
    endpoint: Endpoint,
}

impl Claim {
    fn rank(&self) -> ((bool, bool, bool), &Origin) {
        (self.endpoint.state().rank(), &self.origin)
    }
}

/// Counts over the endpoints of one Service port. They answer which rule a viewpoint selects by without a
/// pass over the endpoints, so that the cost of a change does not grow with the Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ready: u32,
    pub(crate) fallback: u32,
    pub(crate) ready_with_node_hints: u32,
    pub(crate) ready_with_zone_hints: u32,
    /// Ready endpoints hinted for a node.
    for_node: BTreeMap<SmolStr, u32>,
    /// Ready endpoints hinted for a zone.
    for_zone: BTreeMap<SmolStr, u32>,
    /// Ready and fallback endpoints on a node.
    on_node: BTreeMap<SmolStr, OnNode>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OnNode {
    pub(crate) ready: u32,
    pub(crate) fallback: u32,
}

impl Tally {
    const fn new() -> Self {
        Self {
            ready: 0,
            fallback: 0,
            ready_with_node_hints: 0,
            ready_with_zone_hints: 0,
            for_node: BTreeMap::new(),
            for_zone: BTreeMap::new(),
            on_node: BTreeMap::new(),
        }
    }

    pub(crate) fn for_node(&self, node: &str) -> u32 {
        self.for_node.get(node).copied().unwrap_or_default()
    }

    pub(crate) fn for_zone(&self, zone: &str) -> u32 {
        self.for_zone.get(zone).copied().unwrap_or_default()
    }

    pub(crate) fn on_node(&self, node: &str) -> OnNode {
        if node.is_empty() { OnNode::default() } else { self.on_node.get(node).copied().unwrap_or_default() }
    }

    fn add(&mut self, info: &Arc<EndpointInfo>) {
        let State { ready, .. } = info.state;
        if ready {
            self.ready += 1;
            if !info.node_hints.is_empty() {
                self.ready_with_node_hints += 1;
            }
            if !info.zone_hints.is_empty() {
                self.ready_with_zone_hints += 1;
            }
            for node in &info.node_hints {
                *self.for_node.entry(node.clone()).or_default() += 1;
            }
            for zone in &info.zone_hints {
                *self.for_zone.entry(zone.clone()).or_default() += 1;
            }
        } else if info.state.is_fallback() {
            self.fallback += 1;
        } else {
            return;
        }
        if let Some(node) = &info.node {
            let count = match self.on_node.get_mut(node) {
                Some(count) => count,
                None => self.on_node.entry(node.clone()).or_default(),
            };
            if ready { count.ready += 1 } else { count.fallback += 1 }
        }
    }

    fn remove(&mut self, info: &Arc<EndpointInfo>) {
        let State { ready, .. } = info.state;
        if ready {
            self.ready -= 1;
            if !info.node_hints.is_empty() {
                self.ready_with_node_hints -= 1;
            }
            if !info.zone_hints.is_empty() {
                self.ready_with_zone_hints -= 1;
            }
            for node in &info.node_hints {
                decrement(&mut self.for_node, node);
            }
            for zone in &info.zone_hints {
                decrement(&mut self.for_zone, zone);
            }
        } else if info.state.is_fallback() {
            self.fallback -= 1;
        } else {
            return;
        }
        if let Some(node) = &info.node
            && let Some(count) = self.on_node.get_mut(node)
        {
            if ready {
                count.ready -= 1
            } else {
                count.fallback -= 1
            }
            if *count == OnNode::default() {
                self.on_node.remove(node);
            }
        }
    }
}

fn decrement(counts: &mut BTreeMap<SmolStr, u32>, key: &SmolStr) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
