//! Policies by what their selectors select: subjects, namespaces, nodes.

use alloc::vec::Vec;
use smol_str::SmolStr;

use super::SelectorIndex;
use super::objects::Id;
use super::tree::Tree;
use crate::object::ObjectKind;
use crate::{
    AdminNetworkPolicySpec, ClusterNetworkPolicySpec, LabelSelector, Labels, NamespacedPodSelector,
    NetworkPolicy, PolicySubject, Selector,
};

/// Indexes over policies of every kind.
///
/// Pods are followed as subjects only. As peers they are many policies' at once (every policy that admits a
/// namespace admits each Pod in it), and a verdict looks peers up by their labels anyway.
#[derive(Clone, Default)]
pub(super) struct PolicyIndex {
    /// Subjects of NetworkPolicies, by namespace and Pod labels.
    local: Tree<SmolStr, SelectorIndex<TermId>>,
    /// Subjects in every namespace, by Pod labels.
    everywhere: SelectorIndex<TermId>,
    /// Subjects in some namespaces, by the labels of those, and the Pod selectors that go with them.
    across: SelectorIndex<TermId>,
    across_pods: Tree<TermId, Selector>,
    /// Namespaces of subjects and peers.
    namespaces: SelectorIndex<TermId>,
    /// Nodes that are peers.
    nodes: SelectorIndex<TermId>,
}

/// A policy by kind and id.
pub(super) type PolicyId = (ObjectKind, Id);

/// A policy and the position of the term among its terms.
pub(super) type TermId = (PolicyId, u32);

/// One selection in a policy.
pub(super) enum Term {
    /// Pods of the policy's own namespace, as subjects.
    Local(SmolStr, Selector),
    /// Pods of namespaces, as subjects.
    Across { namespaces: Selector, pods: Selector },
    /// Namespaces, whose Pods are peers.
    Namespaces(Selector),
    /// Nodes, as peers.
    Nodes(Selector),
}

/// A Pod as policies see it.
#[derive(Clone, Copy)]
pub(super) struct PodView<'a> {
    pub(super) namespace: &'a str,
    pub(super) namespace_labels: &'a Labels,
    pub(super) labels: &'a Labels,
}

impl PolicyIndex {
    /// Moves a policy from its old terms to its new ones.
    pub(super) fn reindex(&mut self, id: PolicyId, old: Vec<Term>, new: Vec<Term>) {
        for (at, term) in (0..).zip(old) {
            self.remove((id, at), term);
        }
        for (at, term) in (0..).zip(new) {
            self.insert((id, at), term);
        }
    }

    fn insert(&mut self, id: TermId, term: Term) {
        match term {
            Term::Local(namespace, pods) => self.local.update(&namespace, |index| index.insert(id, pods)),
            Term::Across { namespaces, pods } if namespaces.is_everything() => {
                self.everywhere.insert(id, pods)
            }
            Term::Across { namespaces, pods } => {
                self.across.insert(id, namespaces.clone());
                self.across_pods.insert(id, pods);
                self.namespaces.insert(id, namespaces);
            }
            Term::Namespaces(namespaces) => self.namespaces.insert(id, namespaces),
            Term::Nodes(nodes) => self.nodes.insert(id, nodes),
        }
    }

    fn remove(&mut self, id: TermId, term: Term) {
        match term {
            Term::Local(namespace, pods) => {
                let Some(index) = self.local.get_mut(|stored| stored.cmp(&namespace)) else { return };
                index.remove(&id, &pods);
                if index.is_empty() {
                    self.local.remove(|stored| stored.cmp(&namespace));
                }
            }
            Term::Across { namespaces, pods } if namespaces.is_everything() => {
                self.everywhere.remove(&id, &pods)
            }
            Term::Across { namespaces, .. } => {
                self.across.remove(&id, &namespaces);
                self.across_pods.remove(|stored| stored.cmp(&id));
                self.namespaces.remove(&id, &namespaces);
            }
            Term::Namespaces(namespaces) => self.namespaces.remove(&id, &namespaces),
            Term::Nodes(nodes) => self.nodes.remove(&id, &nodes),
        }
    }

    /// The policies that apply to a Pod, in no order, some more than once.
    pub(super) fn applying_to(&self, pod: PodView<'_>) -> Vec<PolicyId> {
        let local = self.local.get(|stored| stored.as_str().cmp(pod.namespace));
        let local = local.into_iter().flat_map(|index| index.matching(pod.labels));
        let everywhere = self.everywhere.matching(pod.labels);
        let across = self.across.matching(pod.namespace_labels).filter(|id| {
            let pods = self.across_pods.get(|stored| stored.cmp(id));
            pods.is_some_and(|pods| pods.matches(pod.labels))
        });
        local.chain(everywhere).chain(across).map(|(policy, _)| *policy).collect()
    }

    /// The policies with a term that selects one of two sets of namespace labels, but not the other.
    pub(super) fn telling_namespaces_apart(&self, a: &Labels, b: &Labels) -> Vec<PolicyId> {
        difference(self.namespaces.matching(a), self.namespaces.matching(b))
    }

    /// The policies that select a node.
    pub(super) fn selecting_node<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = PolicyId> + 'a {
        self.nodes.matching(labels).map(|(policy, _)| *policy)
    }

    /// The policies with a term that selects one of two sets of node labels, but not the other.
    pub(super) fn telling_nodes_apart(&self, a: &Labels, b: &Labels) -> Vec<PolicyId> {
        difference(self.nodes.matching(a), self.nodes.matching(b))
    }
}

fn difference<'a>(a: impl Iterator<Item = &'a TermId>, b: impl Iterator<Item = &'a TermId>) -> Vec<PolicyId> {
    let (mut a, mut b): (Vec<&TermId>, Vec<&TermId>) = (a.collect(), b.collect());
    a.sort_unstable();
    b.sort_unstable();
    let only_a = a.iter().filter(|id| b.binary_search(id).is_err());
    let only_b = b.iter().filter(|id| a.binary_search(id).is_err());
    only_a.chain(only_b).map(|(policy, _)| *policy).collect()
}

/// A selector that is not valid selects nothing.
fn compile(selector: &LabelSelector) -> Selector {
    Selector::try_from(selector).unwrap_or(Selector::NOTHING)
}

/// The selections of a NetworkPolicy.
pub(super) fn network_policy_terms(policy: &NetworkPolicy) -> Vec<Term> {
    let spec = &policy.spec;
    let subject = Term::Local(policy.metadata.namespace.clone(), compile(&spec.pod_selector));
    let from = spec.ingress.iter().flat_map(|rule| &rule.from);
    let peers = from.chain(spec.egress.iter().flat_map(|rule| &rule.to));
    let namespaces = peers.filter_map(|peer| peer.namespace_selector.as_ref());
    core::iter::once(subject).chain(namespaces.map(|n| Term::Namespaces(compile(n)))).collect()
}

/// The selections of a subject.
fn subject(subject: &PolicySubject) -> impl Iterator<Item = Term> {
    let namespaces = subject.namespaces.as_ref();
    let namespaces = namespaces.map(|n| Term::Across { namespaces: compile(n), pods: Selector::EVERYTHING });
    let pods = subject
        .pods
        .as_ref()
        .map(|p| Term::Across { namespaces: compile(&p.namespace_selector), pods: compile(&p.pod_selector) });
    namespaces.into_iter().chain(pods)
}

/// The namespaces of a peer.
fn peer(
    namespaces: Option<&LabelSelector>,
    pods: Option<&NamespacedPodSelector>,
) -> impl Iterator<Item = Term> {
    let namespaces = namespaces.into_iter().chain(pods.map(|p| &p.namespace_selector));
    namespaces.map(|n| Term::Namespaces(compile(n))).collect::<Vec<_>>().into_iter()
}

macro_rules! cluster_terms {
    ($(#[$doc:meta])* $name:ident($spec:ty)) => {
        $(#[$doc])*
        pub(super) fn $name(spec: &$spec) -> Vec<Term> {
            let from = spec.ingress.iter().flat_map(|rule| &rule.from);
            let from = from.flat_map(|from| peer(from.namespaces.as_ref(), from.pods.as_ref()));
            let to = spec.egress.iter().flat_map(|rule| &rule.to).flat_map(|to| {
                let nodes = to.nodes.as_ref().map(|nodes| Term::Nodes(compile(nodes)));
                peer(to.namespaces.as_ref(), to.pods.as_ref()).chain(nodes)
            });
            subject(&spec.subject).chain(from).chain(to).collect()
        }
    };
}

cluster_terms! {
    /// The selections of a ClusterNetworkPolicy.
    cluster_network_policy_terms(ClusterNetworkPolicySpec)
}

cluster_terms! {
    /// The selections of an AdminNetworkPolicy or BaselineAdminNetworkPolicy.
    admin_network_policy_terms(AdminNetworkPolicySpec)
}
