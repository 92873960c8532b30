//! The whole cluster as one indexed state.
//!
//! A [`Cluster`] takes objects as they come, from manifests, a dump or watch events, and answers the questions between
//! them: which Services select this Pod, which Pods a selector selects, whose address this is. Every change says what
//! it touches, so that whatever is derived from the cluster follows at the cost of the change.
//!
//! ```
//! use svc_model::{Cluster, Labels, ObjectMeta, ObjectRef, Pod, Service};
//!
//! let mut cluster = Cluster::default();
//! let mut service = Service { metadata: ObjectMeta::new("shop", "cart"), ..Service::default() };
//! service.spec.selector = Some(Labels::from_iter([("app", "cart")]));
//! let _ = cluster.apply(service);
//!
//! let before = cluster.clone(); // a snapshot, O(1)
//! let mut pod = Pod { metadata: ObjectMeta::new("shop", "cart-1"), ..Pod::default() };
//! pod.metadata.labels = Labels::from_iter([("app", "cart"), ("track", "stable")]);
//! let changes = cluster.apply(pod);
//!
//! assert_eq!(changes.selected, [ObjectRef::new("shop", "cart")]);
//! assert_eq!((before.pods().len(), cluster.pods().len()), (0, 1));
//! ```
//!
//! # Costs
//!
//! | operation | cost |
//! |---|---|
//! | `clone` | O(1): everything is shared; later changes copy what they touch, O(log n) |
//! | one Pod change | O(log n), plus the selectors that share a label with the Pod; never a scan over Services |
//! | one Service change | the same, without its Pods |
//! | one Node change | nothing unless zone, readiness, CPU or labels change; then the label sets of its Pods |
//! | Pods by selector | the label sets that have the rarest label of the selector, and the result |
//!
//! Objects are held behind [`Arc`], once, however many snapshots there are. Pods with equal labels share them.
//!
//! # What it does not do
//!
//! Objects are taken as they are: nothing is defaulted, validated or refused here. Namespaced objects are expected to
//! carry their namespace. Nothing is derived: EndpointSlices, rules and records are for those who read the cluster.

mod changes;
mod objects;
mod pods;
mod policies;
mod query;
mod reindex;
mod selector_index;
mod services;
mod tree;

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::fmt;

pub use changes::{Changes, ObjectKey, Transition};
pub use objects::Objects;
pub use query::AddressOwner;
pub use selector_index::SelectorIndex;
pub use services::ServiceAddress;

use self::changes::Collector;
use self::objects::Id;
use self::pods::PodIndex;
use self::policies::PolicyIndex;
use self::services::ServiceIndex;
use self::tree::Tree;
use crate::object::*;
use crate::{ObjectRef, SmolStr};

/// All objects of a cluster, indexed; see the [module documentation](self).
///
/// Clusters are equal if they hold equal objects, however they came to hold them.
#[derive(Clone, Default)]
pub struct Cluster {
    objects: Stores,
    pods: PodIndex,
    services: ServiceIndex,
    policies: PolicyIndex,
    node_addresses: Tree<(core::net::IpAddr, Id)>,
}

/// One table per kind, and the ways in and out. Each kind names the method that keeps its
/// indexes.
macro_rules! stores {
    ($($(#[$doc:meta])* $table:ident: $kind:ident => $reindex:ident;)*) => {
        #[derive(Clone, Default, PartialEq, Eq)]
        struct Stores { $($table: Objects<$kind>,)* }

        impl Cluster {
            $($(#[$doc])* pub fn $table(&self) -> &Objects<$kind> { &self.objects.$table })*

            /// Puts an object in and returns its id.
            fn put(&mut self, object: Object, changes: &mut Collector) -> (ObjectKind, Id) {
                match object {$(
                    Object::$kind(mut object) => {
                        if ObjectKind::$kind.scope() == Scope::Cluster {
                            // Whatever a manifest says, such an object has none.
                            object.metadata.namespace = SmolStr::default();
                        }
                        if ObjectKind::$kind == ObjectKind::Pod {
                            self.share_labels(&mut object.metadata);
                        }
                        let (id, outcome) = put(&mut self.objects.$table, object);
                        if let Put::Changed { old, new } = outcome {
                            let transition = if old.is_some() { Transition::Updated } else { Transition::Added };
                            changes.object(ObjectKind::$kind, new.object_ref(), transition);
                            self.$reindex(id, old.as_deref(), Some(&new), changes);
                        }
                        (ObjectKind::$kind, id)
                    }
                )*}
            }

            fn take(&mut self, kind: ObjectKind, key: &ObjectRef, changes: &mut Collector) {
                match kind {$(
                    ObjectKind::$kind => {
                        if let Some((id, old)) = self.objects.$table.remove(&key.namespace, &key.name) {
                            changes.object(kind, key.clone(), Transition::Removed);
                            self.$reindex(id, Some(&old), None, changes);
                        }
                    }
                )*}
            }

            /// The namespaces that are there or that some object lives in, in order.
            pub fn namespace_names(&self) -> BTreeSet<SmolStr> {
                let given = self.objects.namespaces.iter().map(|namespace| &namespace.metadata.name);
                let used = core::iter::empty()$(.chain(self.objects.$table.namespaces()))*;
                given.chain(used.filter(|namespace| !namespace.is_empty())).cloned().collect()
            }

            /// The objects of a kind that are not among those kept.
            fn others(&self, kind: ObjectKind, kept: &BTreeSet<(ObjectKind, Id)>) -> alloc::vec::Vec<ObjectRef> {
                match kind {$(
                    ObjectKind::$kind => {
                        let others = self.objects.$table.with_ids().filter(|(id, _)| !kept.contains(&(kind, *id)));
                        others.map(|(_, object)| object.object_ref()).collect()
                    }
                )*}
            }
        }

        impl fmt::Debug for Cluster {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Cluster")$(.field(stringify!($table), &self.objects.$table))*.finish()
            }
        }
    };
}

stores! {
    /// Services.
    services: Service => reindex_service;
    /// Pods.
    pods: Pod => reindex_pod;
    /// Nodes.
    nodes: Node => reindex_node;
    /// Namespaces. One may be missing here though objects live in it: manifests seldom bring it along.
    namespaces: Namespace => reindex_namespace;
    /// EndpointSlices.
    endpoint_slices: EndpointSlice => reindex_slice;
    /// Endpoints.
    endpoints: Endpoints => reindex_endpoints;
    /// NetworkPolicies.
    network_policies: NetworkPolicy => reindex_network_policy;
    /// ClusterNetworkPolicies.
    cluster_network_policies: ClusterNetworkPolicy => reindex_cluster_network_policy;
    /// AdminNetworkPolicies.
    admin_network_policies: AdminNetworkPolicy => reindex_admin_network_policy;
    /// BaselineAdminNetworkPolicies.
    baseline_admin_network_policies: BaselineAdminNetworkPolicy => reindex_baseline_admin_network_policy;
    /// ServiceImports.
    service_imports: ServiceImport => no_index;
    /// ServiceCIDRs.
    service_cidrs: ServiceCidr => no_index;
    /// Configurations of kube-proxy.
    kube_proxy_configurations: KubeProxyConfiguration => no_index;
    /// Deployments.
    deployments: Deployment => no_index;
    /// ReplicaSets.
    replica_sets: ReplicaSet => no_index;
    /// StatefulSets.
    stateful_sets: StatefulSet => no_index;
    /// DaemonSets.
    daemon_sets: DaemonSet => no_index;
    /// Jobs.
    jobs: Job => no_index;
    /// CronJobs.
    cron_jobs: CronJob => no_index;
}

impl Cluster {
    /// Adds an object or replaces the one of the same kind, namespace and name.
    pub fn apply(&mut self, object: impl Into<Object>) -> Changes {
        let mut changes = Collector::default();
        self.put(object.into(), &mut changes);
        changes.finish()
    }

    /// Removes an object. Nothing changes if there is none.
    pub fn remove(&mut self, kind: ObjectKind, object: &ObjectRef) -> Changes {
        let mut changes = Collector::default();
        self.take(kind, object, &mut changes);
        changes.finish()
    }

    /// Makes these objects the only ones of every kind, as after reading a whole dump. Of several of one name the last
    /// counts.
    pub fn replace_all(&mut self, objects: impl IntoIterator<Item = impl Into<Object>>) -> Changes {
        self.replace(ObjectKind::ALL, objects)
    }

    /// Makes these objects the only ones of one kind, as after listing that kind. Objects of other kinds among them
    /// are applied, and none of those removed.
    pub fn replace_kind(
        &mut self,
        kind: ObjectKind,
        objects: impl IntoIterator<Item = impl Into<Object>>,
    ) -> Changes {
        self.replace(&[kind], objects)
    }

    fn replace(
        &mut self,
        kinds: &[ObjectKind],
        objects: impl IntoIterator<Item = impl Into<Object>>,
    ) -> Changes {
        let mut changes = Collector::default();
        let mut kept = BTreeSet::new();
        for object in objects {
            kept.insert(self.put(object.into(), &mut changes));
        }
        for kind in kinds {
            for object in self.others(*kind, &kept) {
                self.take(*kind, &object, &mut changes);
            }
        }
        changes.finish()
    }
}

/// What putting an object into its table came to.
enum Put<T> {
    /// An equal one is there.
    Same,
    Changed {
        old: Option<Arc<T>>,
        new: Arc<T>,
    },
}

fn put<T: Kind + PartialEq>(table: &mut Objects<T>, object: T) -> (Id, Put<T>) {
    let metadata = object.metadata();
    if let Some(id) = table.id(&metadata.namespace, &metadata.name)
        && table.by_id(id).is_some_and(|old| **old == object)
    {
        return (id, Put::Same);
    }
    let new = Arc::new(object);
    let (id, old) = table.insert(Arc::clone(&new));
    (id, Put::Changed { old, new })
}

impl PartialEq for Cluster {
    fn eq(&self, other: &Self) -> bool {
        self.objects == other.objects
    }
}

impl Eq for Cluster {}
