//! The Pods that workloads ask for, not yet placed.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::name::{generated, revision};
use super::nodes::Nodes;
use super::owner::{Workload, controller_of, workload_of};
use super::{Plan, PlanOptions, Shortfall, with_labels};
use crate::object::*;
use crate::{Cluster, LabelSelector, Labels, ObjectMeta, ObjectRef, OwnerReference, Selector};

/// A Pod to be placed: complete but for node and status.
pub(super) struct Draft {
    pub(super) pod: Pod,
    pub(super) target: Target,
}

/// Where a Pod may go.
pub(super) enum Target {
    /// To any node that takes it.
    Any,
    /// To the node of this name, whatever the node says: it is named in the spec, or a DaemonSet has chosen it.
    Node(SmolStr),
}

/// One workload, as far as all kinds are alike.
struct Source<'a> {
    kind: ObjectKind,
    metadata: &'a ObjectMeta,
    selector: Option<&'a LabelSelector>,
    template: &'a PodTemplateSpec,
}

/// The Pods of all workloads but DaemonSets, and Pods that are there but do not run yet, by kind of workload,
/// namespace, name and number.
pub(super) fn drafts(cluster: &Cluster, options: &PlanOptions, plan: &mut Plan) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut names = BTreeSet::new();
    let unplaced = cluster.pods().iter().filter(|pod| pod.status == PodStatus::default());
    drafts.extend(unplaced.map(|pod| Draft::of((**pod).clone())));
    let mut take = |source: &Source<'_>, wanted: usize, pod: &dyn Fn(usize) -> Pod| {
        if source.runs(cluster) {
            return;
        }
        let planned = wanted.min(options.max_pods.saturating_sub(drafts.len()));
        if planned < wanted {
            let shortfall = Shortfall::TooManyPods { wanted, planned };
            plan.shortfall(source.kind, source.metadata.object_ref(), shortfall);
        }
        for pod in (0..planned).map(pod) {
            let name = pod.object_ref();
            if cluster.pods().get(&name.namespace, &name.name).is_none() && names.insert(name.clone()) {
                drafts.push(Draft::of(pod));
            } else {
                plan.shortfall(ObjectKind::Pod, name, Shortfall::NameTaken);
            }
        }
    };
    for deployment in cluster.deployments().iter() {
        let source = Source::new(&**deployment, ObjectKind::Deployment, &deployment.spec);
        take(&source, count(deployment.spec.replicas), &|number| source.of_deployment(number));
    }
    for set in cluster.replica_sets().iter().filter(|set| !has_deployment(cluster, &set.metadata)) {
        let source = Source::new(&**set, ObjectKind::ReplicaSet, &set.spec);
        take(&source, count(set.spec.replicas), &|number| source.of_set(number));
    }
    for set in cluster.stateful_sets().iter() {
        let StatefulSetSpec { replicas, selector, template, service_name, ordinals } = &set.spec;
        let metadata = &set.metadata;
        let source =
            Source { kind: ObjectKind::StatefulSet, metadata, selector: selector.as_ref(), template };
        let start = ordinals.as_ref().map_or(0, |ordinals| i64::from(ordinals.start));
        take(&source, count(*replicas), &|number| source.of_stateful_set(service_name, start, number));
    }
    for job in cluster.jobs().iter().filter(|job| job.spec.suspend != Some(true)) {
        let source = Source {
            kind: ObjectKind::Job,
            metadata: &job.metadata,
            selector: None,
            template: &job.spec.template,
        };
        // Without completions any number of Pods work until one of them is done.
        let at_once = count(job.spec.parallelism);
        let wanted =
            job.spec.completions.map_or(at_once, |completions| at_once.min(count(Some(completions))));
        let indexed = job.spec.completion_mode.as_deref() == Some("Indexed");
        take(&source, wanted, &|number| source.of_job(indexed, number));
    }
    drafts
}

/// The Pods of DaemonSets: one on every node that has the labels.
pub(super) fn daemons(cluster: &Cluster, nodes: &Nodes<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for set in cluster.daemon_sets().iter() {
        let source = Source {
            kind: ObjectKind::DaemonSet,
            metadata: &set.metadata,
            selector: set.spec.selector.as_ref(),
            template: &set.spec.template,
        };
        if source.runs(cluster) {
            continue;
        }
        let wanted = &set.spec.template.spec.node_selector;
        for (number, node) in
            nodes.iter().filter(|node| node.metadata.labels.contains_all(wanted)).enumerate()
        {
            let target = Target::Node(node.metadata.name.clone());
            drafts.push(Draft { pod: source.of_daemon_set(number), target });
        }
    }
    drafts
}

impl Draft {
    fn of(pod: Pod) -> Self {
        let node = pod.spec.node_name.clone();
        Self { pod, target: if node.is_empty() { Target::Any } else { Target::Node(node) } }
    }
}

/// Absent means one.
fn count(replicas: Option<i32>) -> usize {
    usize::try_from(replicas.unwrap_or(1)).unwrap_or_default()
}

/// True for a ReplicaSet that a Deployment of the cluster makes, and plans for.
fn has_deployment(cluster: &Cluster, set: &ObjectMeta) -> bool {
    controller_of(set).is_some_and(|owner| {
        owner.kind == "Deployment" && cluster.deployments().get(&set.namespace, &owner.name).is_some()
    })
}

impl<'a> Source<'a> {
    fn new<T: Kind>(workload: &'a T, kind: ObjectKind, spec: &'a ReplicatedSpec) -> Self {
        let selector = spec.selector.as_ref();
        Self { kind, metadata: workload.metadata(), selector, template: &spec.template }
    }

    /// True if the workload has Pods already, so that none have to be made up.
    fn runs(&self, cluster: &Cluster) -> bool {
        let this = Workload { kind: self.kind.as_str().into(), name: self.metadata.name.clone() };
        let labels = match self.selector {
            Some(selector) => Selector::try_from(selector).unwrap_or(Selector::NOTHING),
            None => Selector::from_labels(&self.template.metadata.labels),
        };
        let pods = cluster.pods_matching(&self.metadata.namespace, &labels);
        let ours = |pod: &Arc<Pod>| {
            let controller = controller_of(&pod.metadata);
            workload_of(pod).is_some_and(|workload| workload == this)
                || controller.is_some_and(|owner| owner.kind == this.kind && owner.name == this.name)
        };
        pods.into_iter().any(ours)
    }

    /// A Pod of the template under a name, owned by the workload.
    fn pod(&self, name: SmolStr, owner: OwnerReference, labels: Labels) -> Pod {
        let template = &self.template.metadata;
        let mut metadata = ObjectMeta::new(self.metadata.namespace.clone(), name);
        metadata.labels = labels;
        metadata.annotations = template.annotations.clone();
        metadata.finalizers.clone_from(&template.finalizers);
        metadata.owner_references = alloc::vec![owner];
        Pod { metadata, spec: self.template.spec.clone(), ..Pod::default() }
    }

    fn owner(&self) -> OwnerReference {
        self.owned_by(self.kind, self.metadata.name.clone(), self.metadata.uid.clone())
    }

    fn owned_by(&self, kind: ObjectKind, name: SmolStr, uid: SmolStr) -> OwnerReference {
        OwnerReference {
            api_version: kind.api_version().into(),
            kind: kind.as_str().into(),
            name,
            uid,
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn labels<'b>(&'b self, more: impl IntoIterator<Item = (&'b str, &'b str)>) -> Labels {
        with_labels(&self.template.metadata.labels, more)
    }

    fn revision(&self) -> SmolStr {
        revision(self.kind.as_str(), &self.metadata.namespace, &self.metadata.name)
    }

    /// A Deployment's Pods belong to a ReplicaSet that is named for the template.
    fn of_deployment(&self, number: usize) -> Pod {
        let hash = self.revision();
        let set = format_smolstr!("{}-{hash}", self.metadata.name);
        let name = generated(self.kind.as_str(), &format_smolstr!("{set}-"), number);
        let owner = self.owned_by(ObjectKind::ReplicaSet, set, SmolStr::default());
        self.pod(name, owner, self.labels([("pod-template-hash", hash.as_str())]))
    }

    fn of_set(&self, number: usize) -> Pod {
        let name = generated(self.kind.as_str(), &format_smolstr!("{}-", self.metadata.name), number);
        self.pod(name, self.owner(), self.labels([]))
    }

    /// A StatefulSet's Pods are numbered, know their number, and are hosts under the governing Service.
    fn of_stateful_set(&self, service: &SmolStr, start: i64, number: usize) -> Pod {
        let ordinal = start.saturating_add(i64::try_from(number).unwrap_or(i64::MAX)).to_smolstr();
        let name = format_smolstr!("{}-{ordinal}", self.metadata.name);
        let revision = format_smolstr!("{}-{}", self.metadata.name, self.revision());
        let labels = self.labels([
            ("controller-revision-hash", revision.as_str()),
            ("statefulset.kubernetes.io/pod-name", name.as_str()),
            ("apps.kubernetes.io/pod-index", ordinal.as_str()),
        ]);
        let mut pod = self.pod(name.clone(), self.owner(), labels);
        pod.spec.hostname = name;
        pod.spec.subdomain = service.clone();
        pod
    }

    fn of_daemon_set(&self, number: usize) -> Pod {
        let name = generated(self.kind.as_str(), &format_smolstr!("{}-", self.metadata.name), number);
        let revision = self.revision();
        let labels =
            self.labels([("controller-revision-hash", revision.as_str()), ("pod-template-generation", "1")]);
        self.pod(name, self.owner(), labels)
    }

    /// A Job's Pods carry its name; in an indexed one each also has a number and a host name of its own.
    fn of_job(&self, indexed: bool, number: usize) -> Pod {
        let job = &self.metadata.name;
        let index = number.to_smolstr();
        let base = if indexed { format_smolstr!("{job}-{index}") } else { job.clone() };
        let name =
            generated(self.kind.as_str(), &format_smolstr!("{base}-"), if indexed { 0 } else { number });
        let names = [("batch.kubernetes.io/job-name", job.as_str()), ("job-name", job.as_str())];
        let index = indexed.then_some(("batch.kubernetes.io/job-completion-index", index.as_str()));
        let mut pod = self.pod(name, self.owner(), self.labels(names.into_iter().chain(index)));
        if indexed {
            pod.spec.hostname = base;
        }
        pod
    }
}

impl Draft {
    /// Name of the Pod.
    pub(super) fn object_ref(&self) -> ObjectRef {
        self.pod.object_ref()
    }
}
