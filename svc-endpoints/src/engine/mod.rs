//! The incremental engine: events in, changed slices and changed views out.

mod changes;
mod fast;
mod service;
mod space;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_model::{EndpointSlice, Node, ObjectRef, Pod, Service};

pub use changes::{Changes, SliceChange};

use crate::slices::facts::PodRecord;
use crate::slices::{Config, Nodes, Reconciler};
use crate::view::SliceCache;
use changes::Journal;
use space::Space;

/// The endpoints of a whole cluster, kept up to date.
///
/// Pods, nodes, Services and EndpointSlices go in, one event at a time; out come the slices to write and the
/// Service ports whose endpoints changed. The engine takes its own writes for done: it names new slices itself
/// (give them to the API server under those names), and an [`apply_slice`](Self::apply_slice) of what it already
/// holds changes nothing. Slices that others manage take part in the views.
///
/// After every event the slices are what [`Reconciler::reconcile`] plans for each Service from the slices before.
/// The common events do not run it: a Pod that becomes ready or stops being so, comes or goes costs about the same
/// at any size of the Service. Events that a whole reconciliation answers are: changes of the Service itself, the
/// first endpoint and the last of an address family, several Pods of one Service coming or going with their node, any
/// change to slices by others, and every Pod event of a Service with topology mode `Auto` or under
/// [`Packing::Repack`](crate::Packing::Repack), where one endpoint decides about others.
///
/// ```
/// use svc_endpoints::engine::Engine;
/// use svc_model::{Pod, Service};
///
/// # fn service() -> Service { Service::default() }
/// # fn pod() -> Pod { Pod::default() }
/// let mut engine = Engine::default();
/// let _ = engine.apply_service(&service());
/// let changes = engine.apply_pod(&pod());
/// for change in &changes.slices {
///     let _to_write = engine.slice(change.key());
/// }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Engine {
    reconciler: Reconciler,
    nodes: Nodes,
    spaces: BTreeMap<SmolStr, Space>,
    /// Pods by the node that they are bound to.
    pods_on: BTreeMap<SmolStr, BTreeSet<ObjectRef>>,
    view: SliceCache,
}

impl Engine {
    /// An engine without objects.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { reconciler: Reconciler::new(config), ..Self::default() }
    }

    /// Adds a Pod, or puts it in the place of the one with the same namespace and name.
    pub fn apply_pod(&mut self, pod: &Pod) -> Changes {
        let record = PodRecord::of(pod);
        let mut journal = Journal::default();
        let key = record.key.clone();
        let space = self.spaces.entry(key.namespace.clone()).or_default();
        let old_node = space.pods.get(&key.name).map(|old| old.record.node.clone());
        if old_node.as_ref() != Some(&record.node) {
            if let Some(old_node) = old_node {
                self.unbind(&old_node, &key);
            }
            self.pods_on.entry(record.node.clone()).or_default().insert(key.clone());
        }
        if let Some(space) = self.spaces.get_mut(&key.namespace) {
            space.put_pod(record, &self.nodes, &self.reconciler, &mut journal);
        }
        self.finish(journal)
    }

    /// Removes a Pod. Removing one that is not there changes nothing.
    pub fn remove_pod(&mut self, pod: &ObjectRef) -> Changes {
        let mut journal = Journal::default();
        let Some(space) = self.spaces.get_mut(&pod.namespace) else { return Changes::default() };
        if let Some(record) = space.take_pod(&pod.name, &self.nodes, &self.reconciler, &mut journal) {
            self.unbind(&record.node, pod);
        }
        self.finish(journal)
    }

    /// Adds a node, or puts it in the place of the one with the same name.
    ///
    /// Endpoints of the node's Pods follow at once. The reference lets them be until the next change of their
    /// Service, but for Services with topology mode `Auto`.
    pub fn apply_node(&mut self, node: &Node) -> Changes {
        let before = self.nodes.cpu_shares();
        let change = self.nodes.apply(node);
        self.node_changed(&node.metadata.name, change.endpoints, before != self.nodes.cpu_shares())
    }

    /// Removes a node. Removing one that is not there changes nothing.
    pub fn remove_node(&mut self, name: &str) -> Changes {
        let before = self.nodes.cpu_shares();
        let change = self.nodes.remove(name);
        self.node_changed(&SmolStr::new(name), change.endpoints, before != self.nodes.cpu_shares())
    }

    /// Adds a Service, or puts it in the place of the one with the same namespace and name.
    pub fn apply_service(&mut self, service: &Service) -> Changes {
        let mut journal = Journal::default();
        let space = self.spaces.entry(service.metadata.namespace.clone()).or_default();
        space.put_service(service, &self.nodes, &self.reconciler, &mut journal);
        self.finish(journal)
    }

    /// Removes a Service. The slices that it owns go with it, as the garbage collector sees to in a cluster.
    pub fn remove_service(&mut self, service: &ObjectRef) -> Changes {
        let mut journal = Journal::default();
        if let Some(space) = self.spaces.get_mut(&service.namespace) {
            space.take_service(&service.name, &mut journal);
        }
        self.finish(journal)
    }

    /// Adds a slice, or puts it in the place of the one with the same namespace and name. A slice that this engine
    /// manages is corrected where it differs from what it should be.
    pub fn apply_slice(&mut self, slice: &EndpointSlice) -> Changes {
        let mut journal = Journal::default();
        let space = self.spaces.entry(slice.metadata.namespace.clone()).or_default();
        space.put_slice(slice, &self.nodes, &self.reconciler, &mut journal);
        self.finish(journal)
    }

    /// Removes a slice. One that this engine manages and still needs comes back.
    pub fn remove_slice(&mut self, slice: &ObjectRef) -> Changes {
        let mut journal = Journal::default();
        if let Some(space) = self.spaces.get_mut(&slice.namespace) {
            space.take_slice(&slice.name, &self.nodes, &self.reconciler, &mut journal);
        }
        self.finish(journal)
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.reconciler.config()
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// A slice, whoever manages it.
    #[must_use]
    pub fn slice(&self, key: &ObjectRef) -> Option<&EndpointSlice> {
        self.spaces.get(&key.namespace)?.slices.get(&key.name)
    }

    /// All slices, whoever manages them, by namespace and name.
    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.spaces.values().flat_map(|space| space.slices.values())
    }

    /// The slices that this engine manages for a Service, by name.
    pub fn slices_of(&self, service: &ObjectRef) -> impl Iterator<Item = &EndpointSlice> {
        let space = self.spaces.get(&service.namespace);
        space.into_iter().flat_map(|space| space.slices_of(&service.name))
    }

    /// All slices merged into one view per Service port.
    #[must_use]
    pub fn view(&self) -> &SliceCache {
        &self.view
    }

    fn unbind(&mut self, node: &SmolStr, pod: &ObjectRef) {
        if let Some(pods) = self.pods_on.get_mut(node) {
            pods.remove(pod);
            if pods.is_empty() {
                self.pods_on.remove(node);
            }
        }
    }

    fn node_changed(&mut self, name: &SmolStr, endpoints: bool, cpu_shares: bool) -> Changes {
        let mut journal = Journal::default();
        if endpoints && let Some(pods) = self.pods_on.get(name) {
            let mut by_space: BTreeMap<&SmolStr, Vec<SmolStr>> = BTreeMap::new();
            for pod in pods {
                by_space.entry(&pod.namespace).or_default().push(pod.name.clone());
            }
            for (namespace, pods) in by_space {
                if let Some(space) = self.spaces.get_mut(namespace) {
                    space.refresh_pods(&pods, &self.nodes, &self.reconciler, &mut journal);
                }
            }
        }
        if cpu_shares {
            for space in self.spaces.values_mut() {
                space.refresh_topology(&self.nodes, &self.reconciler, &mut journal);
            }
        }
        self.finish(journal)
    }

    fn finish(&mut self, journal: Journal) -> Changes {
        let spaces = &self.spaces;
        let slice = |key: &ObjectRef| spaces.get(&key.namespace)?.slices.get(&key.name);
        journal.finish(slice, &mut self.view)
    }
}
