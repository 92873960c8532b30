//! The four kinds of policy, brought into one form: a subject, and for each direction a list of rules.

use alloc::vec::Vec;
use core::fmt;

use ipnet::IpNet;
use svc_model::selector::Selector;
use svc_model::{
    AdminNetworkPolicy, AdminNetworkPolicyPort, AdminNetworkPolicySpec, BaselineAdminNetworkPolicy,
    ClusterNetworkPolicy, ClusterNetworkPolicyProtocol, ClusterNetworkPolicyTransport, LabelSelector,
    NamespacedPodSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, ObjectMeta, ObjectRef,
    PolicyAction, PolicySubject, PolicyTier, PolicyType, Port, Protocol, Sent, SmolStr,
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

    /// Every name of a port, with repetitions.
    pub(crate) fn port_names(&self) -> impl Iterator<Item = &SmolStr> {
        let rules = self.ingress.iter().chain(&self.egress).flatten();
        rules.flat_map(|rule| rule.port_names())
    }
}

impl<T> Rule<T> {
    pub(crate) fn port_names(&self) -> impl Iterator<Item = &SmolStr> {
        self.ports.iter().flatten().filter_map(|entry| match entry {
            PortEntry::Named(name, _) => Some(name),
            PortEntry::Fixed(_) => None,
        })
    }

    fn new(
        name: SmolStr,
        action: Action,
        peers: Option<Vec<(T, usize)>>,
        ports: Option<Vec<PortEntry>>,
    ) -> Self {
        let fixed = match &ports {
            None => PortSet::all(),
            Some(entries) => entries.iter().map(|entry| entry.traffic(&[])).collect(),
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

    pub(crate) fn compile(&self) -> Compiled<Term> {
        match self {
            Self::Network(policy) => compile_network(policy),
            Self::Cluster(policy) => compile_cluster(policy),
            Self::Admin(policy) => compile_admin(&policy.spec, Tier::Admin, policy.spec.priority),
            // "BaselineAdminNetworkPolicy has no priority": it comes after every ClusterNetworkPolicy.
            Self::BaselineAdmin(policy) => compile_admin(&policy.spec, Tier::Baseline, i32::MAX),
        }
    }
}

/// The namespace of an object, `default` where the manifest leaves it to the client.
pub(crate) fn namespace_of(metadata: &ObjectMeta) -> SmolStr {
    if metadata.namespace.is_empty() { SmolStr::new_static("default") } else { metadata.namespace.clone() }
}

fn selector(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector).ok()
}

fn compile_network(policy: &NetworkPolicy) -> Compiled<Term> {
    let spec = &policy.spec;
    let namespace = namespace_of(&policy.metadata);
    let rule = |peers: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort]| {
        // A peer that means nothing (invalid selector or block) matches no one: the rule can only allow.
        let terms =
            peers.iter().enumerate().filter_map(|(i, peer)| Some((network_peer(&namespace, peer)?, i)));
        let peers = (!peers.is_empty()).then(|| terms.collect());
        let ports = (!ports.is_empty()).then(|| ports.iter().map(network_port).collect());
        Rule::new(SmolStr::default(), Action::Accept, peers, ports)
    };
    Compiled {
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: selector(&spec.pod_selector)
            .map(|pods| Term::Pods(Namespaces::Named(namespace.clone()), pods)),
        ingress: spec
            .isolates(PolicyType::Ingress)
            .then(|| spec.ingress.iter().map(|r| rule(&r.from, &r.ports)).collect()),
        egress: spec
            .isolates(PolicyType::Egress)
            .then(|| spec.egress.iter().map(|r| rule(&r.to, &r.ports)).collect()),
    }
}

fn network_peer(namespace: &SmolStr, peer: &NetworkPolicyPeer) -> Option<Term> {
    if let Some(block) = &peer.ip_block {
        return Some(Term::Block(Block {
            cidr: block.cidr.get()?.trunc(),
            except: block.except.iter().filter_map(|net| Some(net.get()?.trunc())).collect(),
            source: BlockSource::IpBlock,
        }));
    }
    let namespaces = match &peer.namespace_selector {
        Some(namespaces) => Namespaces::Selected(selector(namespaces)?),
        None => Namespaces::Named(namespace.clone()),
    };
    // "nil selector" and "empty selector" differ: a peer without any field selects nothing.
    match (&peer.pod_selector, &peer.namespace_selector) {
        (None, None) => None,
        (None, Some(_)) => Some(Term::Pods(namespaces, Selector::EVERYTHING)),
        (Some(pods), _) => Some(Term::Pods(namespaces, selector(pods)?)),
    }
}

fn network_port(port: &NetworkPolicyPort) -> PortEntry {
    let nothing = PortEntry::Fixed(PortSet::empty());
    let Some(protocol) = port.protocol() else { return nothing };
    let Some(first) = &port.port else {
        // "endPort cannot be defined if port is not defined"; such an entry names no port.
        return if port.end_port.is_some() { nothing } else { PortEntry::Fixed(PortSet::protocol(protocol)) };
    };
    if let Some(name) = first.name() {
        return PortEntry::Named(SmolStr::new(name), Some(protocol));
    }
    let Some(first) = first.number() else { return nothing };
    match port.end_port {
        None => PortEntry::Fixed(PortSet::range(protocol, first.get()..=first.get())),
        Some(last) => PortEntry::Fixed(port_range(protocol, Port::from(first), last)),
    }
}

fn port_range(protocol: Protocol, first: Port, last: Port) -> PortSet {
    match (first.number(), last.number()) {
        (Some(first), Some(last)) => PortSet::range(protocol, first.get()..=last.get()),
        _ => PortSet::empty(),
    }
}

fn compile_cluster(policy: &ClusterNetworkPolicy) -> Compiled<Term> {
    let spec = &policy.spec;
    let tier = match spec.tier.get() {
        Some(PolicyTier::Baseline) => Tier::Baseline,
        // A tier of a later version of the API is taken for the one that nothing overrides.
        Some(PolicyTier::Admin) | None => Tier::Admin,
    };
    let ingress = spec.ingress.iter().map(|rule| {
        let peers = rule.from.iter().map(|peer| pod_peer(&peer.namespaces, &peer.pods));
        closed(&rule.name, &rule.action, peers, cluster_ports(&rule.protocols))
    });
    let egress = spec.egress.iter().map(|rule| {
        let peers = rule.to.iter().map(|peer| {
            egress_peer(&peer.namespaces, &peer.pods, &peer.nodes, &peer.networks, &peer.domain_names)
        });
        closed(&rule.name, &rule.action, peers, cluster_ports(&rule.protocols))
    });
    Compiled {
        tier,
        priority: spec.priority,
        subject: subject(&spec.subject),
        ingress: (!spec.ingress.is_empty()).then(|| ingress.collect()),
        egress: (!spec.egress.is_empty()).then(|| egress.collect()),
    }
}

fn compile_admin(spec: &AdminNetworkPolicySpec, tier: Tier, priority: i32) -> Compiled<Term> {
    let ingress = spec.ingress.iter().map(|rule| {
        let peers = rule.from.iter().map(|peer| pod_peer(&peer.namespaces, &peer.pods));
        closed(&rule.name, &rule.action, peers, admin_ports(rule.ports.as_deref()))
    });
    let egress = spec.egress.iter().map(|rule| {
        let peers = rule.to.iter().map(|peer| {
            egress_peer(&peer.namespaces, &peer.pods, &peer.nodes, &peer.networks, &peer.domain_names)
        });
        closed(&rule.name, &rule.action, peers, admin_ports(rule.ports.as_deref()))
    });
    Compiled {
        tier,
        priority,
        subject: subject(&spec.subject),
        ingress: (!spec.ingress.is_empty()).then(|| ingress.collect()),
        egress: (!spec.egress.is_empty()).then(|| egress.collect()),
    }
}

fn subject(subject: &PolicySubject) -> Option<Term> {
    let terms = pod_peer(&subject.namespaces, &subject.pods)?;
    terms.into_iter().next()
}

/// A member of a list that must be understood: `None` is a kind, or a value, that this version doesn't know.
type Understood<T> = Option<Vec<T>>;

fn pod_peer(namespaces: &Option<LabelSelector>, pods: &Option<NamespacedPodSelector>) -> Understood<Term> {
    let term = match (namespaces, pods) {
        (Some(namespaces), _) => {
            Term::Pods(Namespaces::Selected(selector(namespaces)?), Selector::EVERYTHING)
        }
        (None, Some(pods)) => Term::Pods(
            Namespaces::Selected(selector(&pods.namespace_selector)?),
            selector(&pods.pod_selector)?,
        ),
        (None, None) => return None,
    };
    Some([term].into())
}

fn egress_peer(
    namespaces: &Option<LabelSelector>,
    pods: &Option<NamespacedPodSelector>,
    nodes: &Option<LabelSelector>,
    networks: &[Sent<IpNet>],
    domain_names: &[SmolStr],
) -> Understood<Term> {
    if namespaces.is_some() || pods.is_some() {
        return pod_peer(namespaces, pods);
    }
    if let Some(nodes) = nodes {
        return Some([Term::Nodes(selector(nodes)?)].into());
    }
    if !networks.is_empty() {
        let block =
            |net: IpNet| Block { cidr: net.trunc(), except: Vec::new(), source: BlockSource::Networks };
        return networks.iter().map(|net| Some(Term::Block(block(net.get()?)))).collect();
    }
    let name = |name: &SmolStr| Term::Domain(SmolStr::new(name.trim_end_matches('.').to_ascii_lowercase()));
    (!domain_names.is_empty()).then(|| domain_names.iter().map(name).collect())
}

fn cluster_ports(protocols: &[ClusterNetworkPolicyProtocol]) -> Option<Understood<PortEntry>> {
    let entry = |entry: &ClusterNetworkPolicyProtocol| {
        let transport = |protocol: Protocol, transport: &ClusterNetworkPolicyTransport| {
            let Some(port) = &transport.destination_port else { return Some(PortSet::protocol(protocol)) };
            match &port.range {
                Some(range) => Some(port_range(protocol, range.start, range.end)),
                None => port.number.number().map(|port| PortSet::range(protocol, port.get()..=port.get())),
            }
        };
        match (&entry.tcp, &entry.udp, &entry.sctp) {
            (Some(tcp), ..) => transport(Protocol::Tcp, tcp).map(PortEntry::Fixed),
            (None, Some(udp), _) => transport(Protocol::Udp, udp).map(PortEntry::Fixed),
            (None, None, Some(sctp)) => transport(Protocol::Sctp, sctp).map(PortEntry::Fixed),
            (None, None, None) => {
                let name = &entry.destination_named_port;
                (!name.is_empty()).then(|| PortEntry::Named(name.clone(), None))
            }
        }
    };
    (!protocols.is_empty()).then(|| protocols.iter().map(entry).collect())
}

fn admin_ports(ports: Option<&[AdminNetworkPolicyPort]>) -> Option<Understood<PortEntry>> {
    let protocol = |sent: &Sent<Protocol>| if sent.is_empty() { Some(Protocol::Tcp) } else { sent.get() };
    let entry = |entry: &AdminNetworkPolicyPort| {
        if let Some(number) = &entry.port_number {
            let port = number.port.number()?.get();
            return Some(PortEntry::Fixed(PortSet::range(protocol(&number.protocol)?, port..=port)));
        }
        if let Some(range) = &entry.port_range {
            return Some(PortEntry::Fixed(port_range(protocol(&range.protocol)?, range.start, range.end)));
        }
        entry.named_port.clone().map(|name| PortEntry::Named(name, None))
    };
    ports.filter(|ports| !ports.is_empty()).map(|ports| ports.iter().map(entry).collect())
}

/// A rule of a cluster-scoped policy. Where a peer, a port or the action is of a kind that this version of the API
/// doesn't know, the rule fails closed as the v1alpha2 types ask: an Accept rule matches nothing, a Deny or Pass
/// rule denies everything.
fn closed(
    name: &SmolStr,
    action: &Sent<PolicyAction>,
    peers: impl Iterator<Item = Understood<Term>>,
    ports: Option<Understood<PortEntry>>,
) -> Rule<Term> {
    let name = name.clone();
    let action = match action.get() {
        Some(PolicyAction::Accept | PolicyAction::Allow) => Action::Accept,
        Some(PolicyAction::Pass) => Action::Pass,
        Some(PolicyAction::Deny) | None => Action::Deny,
    };
    let peers: Option<Vec<(Term, usize)>> = peers
        .enumerate()
        .map(|(i, terms)| terms.map(|terms| terms.into_iter().map(move |term| (term, i)).collect::<Vec<_>>()))
        .collect::<Option<Vec<_>>>()
        .map(|peers| peers.into_iter().flatten().collect());
    let understood = peers.is_some() && ports.as_ref().is_none_or(Option::is_some);
    match (understood, action) {
        (true, _) => Rule::new(name, action, peers, ports.flatten()),
        (false, Action::Accept) => Rule::new(name, action, Some(Vec::new()), None),
        (false, Action::Deny | Action::Pass) => Rule::new(name, Action::Deny, None, None),
    }
}
