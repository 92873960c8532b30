//! From manifests to the cluster they would make: the Pods of the workloads, placed and addressed, on nodes that are
//! made up where none are given, and Services with their addresses and node ports.
//!
//! ```
//! use svc_model::workload::{PlanOptions, plan};
//! use svc_model::{Cluster, Deployment, ObjectMeta};
//!
//! let mut web = Deployment { metadata: ObjectMeta::new("shop", "web"), ..Deployment::default() };
//! web.spec.replicas = Some(2);
//! let mut cluster = Cluster::default();
//! let _ = cluster.apply(web);
//!
//! let plan = plan(&cluster, &PlanOptions::default());
//! for object in plan.objects {
//!     let _ = cluster.apply(object);
//! }
//! let addresses: Vec<_> = cluster.pods().iter().flat_map(|pod| pod.addresses()).collect();
//! assert_eq!(addresses.len(), 2);
//! assert!(cluster.pods().iter().all(|pod| pod.is_ready()));
//! ```
//!
//! A plan only adds what is missing: a cluster dump, with its own Pods and addresses, needs nothing, and planning a
//! second time adds nothing. It is a function of its input: the same manifests give the same plan, names and
//! ClusterIPs depend on the object's own name alone, and so stay when others come and go.
//!
//! What is made up is plausible, not prophetic. Pods count as running and ready. The scheduler's work is reduced to
//! what manifests of a service network show: `nodeName`, `nodeSelector`, `unschedulable` and host ports are obeyed;
//! taints, affinity and resources are not looked at. CronJobs run nothing until their time has come. EndpointSlices
//! are for the one who reads the cluster.

mod draft;
mod name;
mod nodes;
mod owner;
mod place;
mod services;

use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;

pub use owner::{Workload, workload_of};

use crate::allocation::NodePortRange;
use crate::cluster::ObjectKey;
use crate::object::*;
use crate::registry::RegistryError;
use crate::{Cluster, Compat, IpNet, Labels, ObjectMeta, ObjectRef};

/// What a plan makes up where the cluster does not say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanOptions {
    /// The least number of nodes that are made, if the cluster has none and its Pods name none. Default 3; for many
    /// Pods it is one node per hundred.
    pub nodes: usize,
    /// Zones of the nodes that are made, in turn. Default none.
    pub zones: Vec<SmolStr>,
    /// Ranges for Pods, one a family; nodes without a range get the next /24 or /64. Default `10.244.0.0/16`.
    pub pod_ranges: Vec<IpNet>,
    /// Ranges for nodes, one a family. Default `172.18.0.0/16`.
    pub node_ranges: Vec<IpNet>,
    /// Ranges for ClusterIPs, the primary family first, if the cluster has no ServiceCIDR. Default `10.96.0.0/16`.
    pub service_ranges: Vec<IpNet>,
    /// Node ports. Default 30000 to 32767.
    pub node_ports: NodePortRange,
    /// The rules by which Services are admitted.
    pub compat: Compat,
    /// The most Pods that are planned, a guard against a slip in `replicas`. Default 200,000.
    pub max_pods: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        let range = |address: [u8; 4]| IpNet::new(address.into(), 16).ok();
        Self {
            nodes: 3,
            zones: Vec::new(),
            pod_ranges: range([10, 244, 0, 0]).into_iter().collect(),
            node_ranges: range([172, 18, 0, 0]).into_iter().collect(),
            service_ranges: range([10, 96, 0, 0]).into_iter().collect(),
            node_ports: NodePortRange::kubernetes_default(),
            compat: Compat::default(),
            max_pods: 200_000,
        }
    }
}

/// What is missing for the cluster to be the one that its manifests describe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Objects to apply: new ones, and given ones completed. Namespaces, nodes, Pods, then Services.
    pub objects: Vec<Object>,
    /// What could not be done, and why, in the same order. A Pod that cannot run is among the objects all the same, as
    /// Pending; a Service that is refused stays as it is.
    pub shortfalls: Vec<(ObjectKey, Shortfall)>,
}

/// Why an object is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Shortfall {
    /// No node takes the Pod.
    #[error("no node takes the Pod: {0}")]
    NoNode(Refusals),
    /// The Pod is bound to a node that is not there.
    #[error("the Pod is bound to node `{0}`, which does not exist")]
    NodeMissing(SmolStr),
    /// The node has no address left, or none at all, to give to the Pod.
    #[error("node `{0}` has no free Pod address")]
    NoAddress(SmolStr),
    /// The ranges for Pods have no part left for the node.
    #[error("the Pod ranges have no part left for the node")]
    NoRange,
    /// Another Pod has the name that a workload has for one of its own.
    #[error("another Pod has this name")]
    NameTaken,
    /// The workload asks for more Pods than a plan may hold.
    #[error("the plan is full: {wanted} Pods are asked for, {planned} planned")]
    TooManyPods {
        /// How many Pods the workload asks for.
        wanted: usize,
        /// How many of them are planned.
        planned: usize,
    },
    /// The Service is refused.
    #[error(transparent)]
    Service(#[from] RegistryError),
}

/// How many nodes refuse a Pod, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// Nodes that lack a label of the Pod's `nodeSelector`.
    pub selector: usize,
    /// Nodes that take no Pods (`unschedulable`).
    pub unschedulable: usize,
    /// Nodes on which a host port of the Pod is taken.
    pub host_port: usize,
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { selector, unschedulable, host_port } = self;
        let all = selector + unschedulable + host_port;
        write!(f, "of {all} nodes {selector} lack labels of its nodeSelector, ")?;
        write!(f, "{unschedulable} are unschedulable, {host_port} have a host port of it in use")
    }
}

/// Plans what is missing; see the [module documentation](self).
pub fn plan(cluster: &Cluster, options: &PlanOptions) -> Plan {
    let mut plan = Plan::default();
    plan.namespaces(cluster);
    let drafts = draft::drafts(cluster, options, &mut plan);
    let mut nodes = nodes::Nodes::new(cluster, options, drafts.len(), &mut plan);
    for draft in drafts.into_iter().chain(draft::daemons(cluster, &nodes)) {
        let pod = nodes.place(draft, &mut plan);
        plan.objects.push(pod.into());
    }
    services::plan_services(cluster, options, &mut plan);
    plan
}

impl Plan {
    fn shortfall(&mut self, kind: ObjectKind, object: ObjectRef, shortfall: Shortfall) {
        self.shortfalls.push((ObjectKey { kind, object }, shortfall));
    }

    /// Namespaces that are used, with the label that the API server gives them.
    fn namespaces(&mut self, cluster: &Cluster) {
        for name in cluster.namespace_names() {
            let given = cluster.namespaces().get("", &name);
            if given.is_some_and(|given| given.metadata.labels.get(NAMESPACE_NAME_LABEL) == Some(&name)) {
                continue;
            }
            let mut namespace = given.map_or_else(
                || Namespace {
                    metadata: ObjectMeta::new("", name.clone()),
                    status: NamespaceStatus { phase: "Active".into() },
                },
                |given| (**given).clone(),
            );
            namespace.metadata.labels = cluster.namespace_labels(&name);
            self.objects.push(namespace.into());
        }
    }
}

/// A condition that holds, or does not.
fn condition(name: &str, holds: bool) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    PodCondition { condition_type: name.into(), status: status.into(), ..PodCondition::default() }
}

/// Labels with more labels.
fn with_labels<'a>(labels: &'a Labels, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    labels.iter().chain(more).collect()
}
