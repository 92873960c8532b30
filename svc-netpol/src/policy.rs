//! The four kinds of policy, brought into one form: a subject, and for each direction a list of rules.

use alloc::vec::Vec;
use core::fmt;

use ipnet::IpNet;
use svc_model::selector::Selector;
use svc_model::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy, NetworkPolicy, ObjectMeta,
    ObjectRef, Protocol, SmolStr,
};

use crate::traffic::PortSet;

/// A kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// networking.k8s.io/v1.
    NetworkPolicy,
    /// policy.networking.k8s.io/v1alpha2.
    ClusterNetworkPolicy,
    /// policy.networking.k8s.io/v1alpha1.
    AdminNetworkPolicy,
    /// policy.networking.k8s.io/v1alpha1.
    BaselineAdminNetworkPolicy,
}

impl PolicyKind {
    /// The `kind` of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::AdminNetworkPolicy => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A policy by kind, namespace (empty for cluster-scoped kinds) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyRef {
    /// Its kind.
    pub kind: PolicyKind,
    /// Namespace and name.
    pub object: ObjectRef,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.object)
    }
}

/// When a policy is consulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Before NetworkPolicies: ClusterNetworkPolicy of tier Admin, AdminNetworkPolicy.
    Admin,
    /// NetworkPolicies.
    NetworkPolicy,
    /// For what no NetworkPolicy isolates: ClusterNetworkPolicy of tier Baseline, BaselineAdminNetworkPolicy.
    Baseline,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Admin => "Admin",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Baseline => "Baseline",
        })
    }
}

/// What a matching rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The connection is allowed in this direction (Allow, in v1alpha1 and NetworkPolicies).
    Accept,
    /// The connection is dropped.
    Deny,
    /// The rest of the tier is skipped.
    Pass,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accept => "Accept",
            Self::Deny => "Deny",
            Self::Pass => "Pass",
        })
    }
}

/// Which side of a connection is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Connections to the subject.
    Ingress,
    /// Connections from the subject.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Any policy, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// A NetworkPolicy.
    Network(NetworkPolicy),
    /// A ClusterNetworkPolicy.
    Cluster(ClusterNetworkPolicy),
    /// An AdminNetworkPolicy.
    Admin(AdminNetworkPolicy),
    /// The BaselineAdminNetworkPolicy.
    BaselineAdmin(BaselineAdminNetworkPolicy),
}

macro_rules! from_kind {
    ($($variant:ident $kind:ident),*) => {$(
        impl From<$kind> for Policy {
            fn from(policy: $kind) -> Self {
                Self::$variant(policy)
            }
        }
    )*};
}

from_kind!(Network NetworkPolicy, Cluster ClusterNetworkPolicy, Admin AdminNetworkPolicy, BaselineAdmin BaselineAdminNetworkPolicy);

/// What one entry of a subject or a peer selects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// Pods, by namespace and labels.
    Pods(Namespaces, Selector),
    /// Addresses.
    Block(Block),
    /// The addresses of nodes.
    Nodes(Selector),
    /// The addresses of a domain name, exact or `*.suffix`.
    Domain(SmolStr),
}

/// Namespaces that a [`Term`] looks in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Namespaces {
    Named(SmolStr),
    Selected(Selector),
}

/// A range of addresses without some ranges.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) cidr: IpNet,
    pub(crate) except: Vec<IpNet>,
    pub(crate) source: BlockSource,
}

/// Where a block comes from: an option decides whether those of NetworkPolicies match Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BlockSource {
    IpBlock,
    Networks,
}

/// A policy in the common form; `T` is a [`Term`], or its number once the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiled<T> {
    pub(crate) tier: Tier,
    pub(crate) priority: i32,
    pub(crate) subject: Option<T>,
    /// `None`: the policy says nothing about the direction. For a NetworkPolicy, `Some` isolates.
    pub(crate) ingress: Option<Vec<Rule<T>>>,
    pub(crate) egress: Option<Vec<Rule<T>>>,
}

/// A rule; its place in the list is its index in the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule<T> {
    pub(crate) name: SmolStr,
    pub(crate) action: Action,
    /// `None`: everyone. Each term with the index of its peer in the policy.
    pub(crate) peers: Option<Vec<(T, usize)>>,
    /// `None`: all traffic.
    pub(crate) ports: Option<Vec<PortEntry>>,
    /// The traffic of all ports but named ones.
    pub(crate) fixed: PortSet,
}

/// One entry of a rule's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortEntry {
    Fixed(PortSet),
    /// A container port of the destination, of this protocol or of any.
    Named(SmolStr, Option<Protocol>),
}

impl<T> Compiled<T> {
    /// A policy about nobody.
    pub(crate) const fn nothing() -> Self {
        Self { tier: Tier::NetworkPolicy, priority: 0, subject: None, ingress: None, egress: None }
    }

    pub(crate) fn rules(&self, direction: Direction) -> Option<&[Rule<T>]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// The same policy with every term replaced.
    pub(crate) fn map<U>(self, f: &mut impl FnMut(T) -> U) -> Compiled<U> {
        let mut rules = |list: Vec<Rule<T>>| -> Vec<Rule<U>> {
            list.into_iter()
                .map(|rule| Rule {
                    name: rule.name,
                    action: rule.action,
                    peers: rule.peers.map(|peers| peers.into_iter().map(|(term, i)| (f(term), i)).collect()),
                    ports: rule.ports,
                    fixed: rule.fixed,
                })
                .collect()
        };
        let (ingress, egress) = (self.ingress.map(&mut rules), self.egress.map(&mut rules));
        Compiled { tier: self.tier, priority: self.priority, subject: self.subject.map(f), ingress, egress }
    }

    /// Every term of subject and peers, with repetitions.
    pub(crate) fn terms(&self) -> impl Iterator<Item = &T> {
        let rules = self.ingress.iter().chain(&self.egress).flatten();
        self.subject.iter().chain(rules.flat_map(|rule| rule.peers.iter().flatten().map(|(term, _)| term)))
    }

    /// Every name of a port, sorted, each once.
    pub(crate) fn distinct_port_names(&self) -> Vec<SmolStr> {
        let rules = self.ingress.iter().chain(&self.egress).flatten();
        let mut names: Vec<SmolStr> = rules.flat_map(|rule| rule.port_names()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl<T> Rule<T> {
    pub(crate) fn port_names(&self) -> impl Iterator<Item = &SmolStr> {
        self.ports.iter().flatten().filter_map(|entry| match entry {
            PortEntry::Named(name, _) => Some(name),
            PortEntry::Fixed(_) => None,
        })
    }

    pub(crate) fn new(
        name: SmolStr,
        action: Action,
        peers: Option<Vec<(T, usize)>>,
        ports: Option<Vec<PortEntry>>,
    ) -> Self {
        let fixed = match &ports {
            None => PortSet::all(),
            Some(entries) => match entries.as_slice() {
                [PortEntry::Fixed(set)] => set.clone(),
                entries => entries.iter().map(|entry| entry.traffic(&[])).collect(),
            },
        };
        Self { name, action, peers, ports, fixed }
    }

    /// The traffic that the rule names, for a destination with these named ports.
    pub(crate) fn traffic(&self, names: &[NamedPort]) -> PortSet {
        let named = self.ports.iter().flatten().filter(|entry| matches!(entry, PortEntry::Named(..)));
        named.fold(self.fixed.clone(), |all, entry| all.union(&entry.traffic(names)))
    }
}

/// A named container port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamedPort {
    pub(crate) name: SmolStr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl PortEntry {
    /// The traffic that the entry names, for a destination with these named ports.
    pub(crate) fn traffic(&self, names: &[NamedPort]) -> PortSet {
        match self {
            Self::Fixed(set) => set.clone(),
            Self::Named(name, protocol) => names
                .iter()
                .filter(|port| port.name == *name && protocol.is_none_or(|p| p == port.protocol))
                .map(|port| PortSet::range(port.protocol, port.port..=port.port))
                .collect(),
        }
    }
}

impl Policy {
    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Network(policy) => &policy.metadata,
            Self::Cluster(policy) => &policy.metadata,
            Self::Admin(policy) => &policy.metadata,
            Self::BaselineAdmin(policy) => &policy.metadata,
        }
    }

    /// Kind, namespace and name. A NetworkPolicy without a namespace is of `default`, as the API server stores
    /// it; the others have none.
    pub fn policy_ref(&self) -> PolicyRef {
        let (kind, namespace) = match self {
            Self::Network(policy) => (PolicyKind::NetworkPolicy, namespace_of(&policy.metadata)),
            Self::Cluster(_) => (PolicyKind::ClusterNetworkPolicy, SmolStr::default()),
            Self::Admin(_) => (PolicyKind::AdminNetworkPolicy, SmolStr::default()),
            Self::BaselineAdmin(_) => (PolicyKind::BaselineAdminNetworkPolicy, SmolStr::default()),
        };
        PolicyRef { kind, object: ObjectRef { namespace, name: self.metadata().name.clone() } }
    }
}

/// The namespace of an object, `default` where the manifest leaves it to the client.
pub(crate) fn namespace_of(metadata: &ObjectMeta) -> SmolStr {
    if metadata.namespace.is_empty() { SmolStr::new_static("default") } else { metadata.namespace.clone() }
}
