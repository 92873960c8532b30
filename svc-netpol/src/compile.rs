//! The four kinds of policy, brought into the common form.

use alloc::vec::Vec;

use ipnet::IpNet;
use svc_model::selector::Selector;
use svc_model::{
    AdminNetworkPolicyPort, AdminNetworkPolicySpec, ClusterNetworkPolicy, ClusterNetworkPolicyProtocol,
    ClusterNetworkPolicyTransport, LabelSelector, Labels, NamespacedPodSelector, NetworkPolicy,
    NetworkPolicyPeer, NetworkPolicyPort, PolicyAction, PolicySubject, PolicyTier, PolicyType, Port,
    Protocol, Sent, SmolStr,
};

use crate::engine::Map;
use crate::policy::{
    Action, Block, BlockSource, Compiled, Namespaces, Policy, PortEntry, Rule, Term, Tier, namespace_of,
};
use crate::traffic::PortSet;

/// Selectors that were met so far: policies made for one application repeat them, and share what is made of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selectors {
    /// Those without expressions; `None` if it isn't valid.
    known: Map<Labels, Option<Selector>>,
}

impl Selectors {
    /// What a selector means; `None` if it isn't valid.
    fn get(&mut self, selector: &LabelSelector) -> Option<Selector> {
        let of = |selector: &LabelSelector| Selector::try_from(selector).ok();
        if !selector.match_expressions.is_empty() {
            return of(selector);
        }
        if let Some(known) = self.known.get(&selector.match_labels) {
            return known.clone();
        }
        let made = of(selector);
        self.known.insert(selector.match_labels.clone(), made.clone());
        made
    }
}

impl Policy {
    /// The policy in the common form.
    pub(crate) fn compile(&self, selectors: &mut Selectors) -> Compiled<Term> {
        match self {
            Self::Network(policy) => compile_network(policy, selectors),
            Self::Cluster(policy) => compile_cluster(policy, selectors),
            Self::Admin(policy) => compile_admin(&policy.spec, Tier::Admin, policy.spec.priority, selectors),
            // "BaselineAdminNetworkPolicy has no priority": it comes after every ClusterNetworkPolicy.
            Self::BaselineAdmin(policy) => compile_admin(&policy.spec, Tier::Baseline, i32::MAX, selectors),
        }
    }
}

fn compile_network(policy: &NetworkPolicy, selectors: &mut Selectors) -> Compiled<Term> {
    let spec = &policy.spec;
    let namespace = namespace_of(&policy.metadata);
    let subject = selectors.get(&spec.pod_selector);
    let mut rule = |peers: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort]| {
        // A peer that means nothing (invalid selector or block) matches no one: the rule can only allow.
        let terms = peers
            .iter()
            .enumerate()
            .filter_map(|(i, peer)| Some((network_peer(&namespace, peer, selectors)?, i)));
        let peers = (!peers.is_empty()).then(|| terms.collect());
        let ports = (!ports.is_empty()).then(|| ports.iter().map(network_port).collect());
        Rule::new(SmolStr::default(), Action::Accept, peers, ports)
    };
    Compiled {
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: subject.map(|pods| Term::Pods(Namespaces::Named(namespace.clone()), pods)),
        ingress: spec
            .isolates(PolicyType::Ingress)
            .then(|| spec.ingress.iter().map(|r| rule(&r.from, &r.ports)).collect()),
        egress: spec
            .isolates(PolicyType::Egress)
            .then(|| spec.egress.iter().map(|r| rule(&r.to, &r.ports)).collect()),
    }
}

fn network_peer(namespace: &SmolStr, peer: &NetworkPolicyPeer, selectors: &mut Selectors) -> Option<Term> {
    if let Some(block) = &peer.ip_block {
        return Some(Term::Block(Block {
            cidr: block.cidr.get()?.trunc(),
            except: block.except.iter().filter_map(|net| Some(net.get()?.trunc())).collect(),
            source: BlockSource::IpBlock,
        }));
    }
    let namespaces = match &peer.namespace_selector {
        Some(namespaces) => Namespaces::Selected(selectors.get(namespaces)?),
        None => Namespaces::Named(namespace.clone()),
    };
    // "nil selector" and "empty selector" differ: a peer without any field selects nothing.
    match (&peer.pod_selector, &peer.namespace_selector) {
        (None, None) => None,
        (None, Some(_)) => Some(Term::Pods(namespaces, Selector::EVERYTHING)),
        (Some(pods), _) => Some(Term::Pods(namespaces, selectors.get(pods)?)),
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

fn compile_cluster(policy: &ClusterNetworkPolicy, selectors: &mut Selectors) -> Compiled<Term> {
    let spec = &policy.spec;
    let tier = match spec.tier.get() {
        Some(PolicyTier::Baseline) => Tier::Baseline,
        // A tier of a later version of the API is taken for the one that nothing overrides.
        Some(PolicyTier::Admin) | None => Tier::Admin,
    };
    let subject = subject(&spec.subject, selectors);
    let ingress = spec.ingress.iter().map(|rule| {
        let peers = rule.from.iter().map(|peer| pod_peer(&peer.namespaces, &peer.pods, selectors));
        closed(&rule.name, &rule.action, peers, cluster_ports(&rule.protocols))
    });
    let ingress = (!spec.ingress.is_empty()).then(|| ingress.collect());
    let egress = spec.egress.iter().map(|rule| {
        let peers = rule.to.iter().map(|peer| {
            egress_peer(
                &peer.namespaces,
                &peer.pods,
                &peer.nodes,
                &peer.networks,
                &peer.domain_names,
                selectors,
            )
        });
        closed(&rule.name, &rule.action, peers, cluster_ports(&rule.protocols))
    });
    Compiled {
        tier,
        priority: spec.priority,
        subject,
        ingress,
        egress: (!spec.egress.is_empty()).then(|| egress.collect()),
    }
}

fn compile_admin(
    spec: &AdminNetworkPolicySpec,
    tier: Tier,
    priority: i32,
    selectors: &mut Selectors,
) -> Compiled<Term> {
    let subject = subject(&spec.subject, selectors);
    let ingress = spec.ingress.iter().map(|rule| {
        let peers = rule.from.iter().map(|peer| pod_peer(&peer.namespaces, &peer.pods, selectors));
        closed(&rule.name, &rule.action, peers, admin_ports(rule.ports.as_deref()))
    });
    let ingress = (!spec.ingress.is_empty()).then(|| ingress.collect());
    let egress = spec.egress.iter().map(|rule| {
        let peers = rule.to.iter().map(|peer| {
            egress_peer(
                &peer.namespaces,
                &peer.pods,
                &peer.nodes,
                &peer.networks,
                &peer.domain_names,
                selectors,
            )
        });
        closed(&rule.name, &rule.action, peers, admin_ports(rule.ports.as_deref()))
    });
    Compiled { tier, priority, subject, ingress, egress: (!spec.egress.is_empty()).then(|| egress.collect()) }
}

fn subject(subject: &PolicySubject, selectors: &mut Selectors) -> Option<Term> {
    let terms = pod_peer(&subject.namespaces, &subject.pods, selectors)?;
    terms.into_iter().next()
}

/// A member of a list that must be understood: `None` is a kind, or a value, that this version doesn't know.
type Understood<T> = Option<Vec<T>>;

fn pod_peer(
    namespaces: &Option<LabelSelector>,
    pods: &Option<NamespacedPodSelector>,
    selectors: &mut Selectors,
) -> Understood<Term> {
    let term = match (namespaces, pods) {
        (Some(namespaces), _) => {
            Term::Pods(Namespaces::Selected(selectors.get(namespaces)?), Selector::EVERYTHING)
        }
        (None, Some(pods)) => Term::Pods(
            Namespaces::Selected(selectors.get(&pods.namespace_selector)?),
            selectors.get(&pods.pod_selector)?,
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
    selectors: &mut Selectors,
) -> Understood<Term> {
    if namespaces.is_some() || pods.is_some() {
        return pod_peer(namespaces, pods, selectors);
    }
    if let Some(nodes) = nodes {
        return Some([Term::Nodes(selectors.get(nodes)?)].into());
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
