//! The evaluator as one would write it from the API's text: one connection, one rule after the other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use svc_netpol::model::*;
use svc_netpol::{
    Baseline, Direction, Endpoint, HostNetwork, IpBlocks, Missing, OwnNode, Policy, PolicyKind, PolicyRef,
    Reason, SelfTraffic, Traffic, Verdict,
};

use super::world::World;

/// What one side comes to: the reasons for which it may be allowed and denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) allow: Option<Why>,
    pub(crate) deny: Option<Why>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    NotSubject,
    SelfTraffic,
    OwnNode,
    Default,
    Isolated(Vec<PolicyRef>),
    Rule { policy: PolicyRef, rule: usize, peer: Option<usize>, port: Option<usize> },
}

impl Why {
    pub(crate) fn of(reason: &Reason) -> Self {
        match reason {
            Reason::NotSubject => Self::NotSubject,
            Reason::SelfTraffic => Self::SelfTraffic,
            Reason::OwnNode => Self::OwnNode,
            Reason::Default => Self::Default,
            Reason::Isolated { policies } => Self::Isolated(policies.clone()),
            Reason::Rule(r) => {
                Self::Rule { policy: r.policy.clone(), rule: r.rule, peer: r.peer, port: r.port }
            }
            Reason::Undetermined { .. } | Reason::NoEndpoint(_) => panic!("not a single reason: {reason}"),
        }
    }
}

impl Outcome {
    pub(crate) fn of(side: &svc_netpol::Side) -> Self {
        match (&side.reason, side.verdict) {
            (Reason::Undetermined { allow, deny, missing }, Verdict::Unknown) => {
                assert!(!missing.is_empty(), "unknown for no reason");
                Self { allow: Some(Why::of(allow)), deny: Some(Why::of(deny)) }
            }
            (reason, Verdict::Allow) => Self { allow: Some(Why::of(reason)), deny: None },
            (reason, _) => Self { allow: None, deny: Some(Why::of(reason)) },
        }
    }
}

/// `Some(true)` yes, `Some(false)` no, `None` unknown.
type Tri = Option<bool>;

fn and(a: Tri, b: impl FnOnce() -> Tri) -> Tri {
    match a {
        Some(false) => Some(false),
        Some(true) => b(),
        None => {
            if b() == Some(false) {
                Some(false)
            } else {
                None
            }
        }
    }
}

struct End<'a> {
    pod: Option<&'a Pod>,
    /// `None`: a Pod without any address.
    ip: Option<IpAddr>,
}

struct Rule<'a> {
    policy: PolicyRef,
    index: usize,
    action: PolicyAction,
    applies: Tri,
    /// For each peer, whether it matches; `None`: everyone.
    peers: Option<Vec<Tri>>,
    /// For each port, whether it matches; `None`: everything.
    ports: Option<Vec<bool>>,
    _of: std::marker::PhantomData<&'a ()>,
}

impl World {
    fn pods(&self) -> impl Iterator<Item = (&ObjectRef, &Pod)> {
        self.objects.iter().filter_map(|((_, reference), object)| match object {
            Object::Pod(pod) if !pod.is_terminal() => Some((reference, pod)),
            _ => None,
        })
    }

    fn policies(&self) -> Vec<Policy> {
        let policy = |object: &Object| match object.clone() {
            Object::NetworkPolicy(policy) => Some(policy.into()),
            Object::ClusterNetworkPolicy(policy) => Some(policy.into()),
            Object::AdminNetworkPolicy(policy) => Some(policy.into()),
            Object::BaselineAdminNetworkPolicy(policy) => Some(policy.into()),
            _ => None,
        };
        self.objects.values().filter_map(policy).collect()
    }

    fn is_host(&self, pod: &Pod) -> bool {
        pod.spec.host_network && self.options.host_network == HostNetwork::IsNode
    }

    /// Whether an end is given by an address that a Pod has.
    pub(crate) fn is_of_a_pod(&self, end: Endpoint<'_>) -> bool {
        let Endpoint::Address(ip) = end else { return false };
        self.pods().any(|(_, pod)| !self.is_host(pod) && pod.addresses().any(|a| a == ip))
    }

    /// Both sides of a connection, or who can't be told.
    pub(crate) fn decide(
        &self,
        from: Endpoint<'_>,
        to: Endpoint<'_>,
        traffic: Traffic,
    ) -> Result<(Outcome, Outcome), Missing> {
        let find = |endpoint: Endpoint<'_>| match endpoint {
            Endpoint::Pod { namespace, name } => {
                let reference = ObjectRef::new(namespace, name);
                let found = self.pods().find(|(r, _)| **r == reference);
                found.map(|(_, pod)| (Some(pod), None)).ok_or(Missing::Pod(reference))
            }
            Endpoint::Address(ip) => {
                let holder =
                    self.pods().find(|(_, pod)| !self.is_host(pod) && pod.addresses().any(|a| a == ip));
                Ok((holder.map(|(_, pod)| pod), Some(ip)))
            }
        };
        let ((from_pod, from_ip), (to_pod, to_ip)) = (find(from)?, find(to)?);
        let addresses = |pod: Option<&Pod>, ip: Option<IpAddr>| -> Vec<IpAddr> {
            ip.map_or_else(|| pod.unwrap().addresses().collect(), |ip| vec![ip])
        };
        let (ours, theirs) = (addresses(from_pod, from_ip), addresses(to_pod, to_ip));
        let families = |list: &[IpAddr]| list.iter().map(|ip| ip.is_ipv4()).collect::<Vec<_>>();
        let (our_families, their_families) = (families(&ours), families(&theirs));
        let fits = |family: bool, list: &[bool]| list.is_empty() || list.contains(&family);
        let family = to_ip.or(from_ip).map(|ip| ip.is_ipv4()).unwrap_or_else(|| {
            let common = their_families.iter().find(|f| fits(**f, &our_families));
            common.or(their_families.first()).or(our_families.first()).copied().unwrap_or(true)
        });
        if !fits(family, &our_families) || !fits(family, &their_families) {
            return Err(Missing::Address(ObjectRef::default()));
        }
        let ip_of = |list: &[IpAddr]| list.iter().find(|ip| ip.is_ipv4() == family).copied();
        let from = End { pod: from_pod, ip: ip_of(&ours) };
        let to = End { pod: to_pod, ip: ip_of(&theirs) };
        Ok((
            self.side(Direction::Egress, &from, &to, &to, traffic),
            self.side(Direction::Ingress, &to, &from, &to, traffic),
        ))
    }

    fn side(
        &self,
        direction: Direction,
        subject: &End<'_>,
        peer: &End<'_>,
        to: &End<'_>,
        traffic: Traffic,
    ) -> Outcome {
        let allowed = |why| Outcome { allow: Some(why), deny: None };
        if direction == Direction::Ingress
            && self.options.own_node == OwnNode::Allowed
            && self.own_node(subject, peer)
        {
            return allowed(Why::OwnNode);
        }
        let Some(pod) = subject.pod.filter(|pod| !self.is_host(pod)) else { return allowed(Why::NotSubject) };
        if self.options.self_traffic == SelfTraffic::Allowed && peer.pod.is_some_and(|p| std::ptr::eq(p, pod))
        {
            return allowed(Why::SelfTraffic);
        }
        let mut policies = self.policies();
        policies.sort_by_key(|policy| match policy {
            Policy::Cluster(p) => (p.spec.priority, policy.policy_ref()),
            Policy::Admin(p) => (p.spec.priority, policy.policy_ref()),
            Policy::BaselineAdmin(_) => (i32::MAX, policy.policy_ref()),
            Policy::Network(_) => (0, policy.policy_ref()),
        });
        let is_admin = |policy: &&Policy| match policy {
            Policy::Cluster(p) => p.spec.tier.is("Admin"),
            Policy::Admin(_) => true,
            Policy::BaselineAdmin(_) | Policy::Network(_) => false,
        };
        let is_network = |policy: &&Policy| matches!(policy, Policy::Network(_));
        let rules = |keep: &dyn Fn(&&Policy) -> bool| -> Vec<Rule<'_>> {
            policies
                .iter()
                .filter(keep)
                .flat_map(|p| self.rules(p, direction, pod, peer, to, traffic))
                .collect()
        };

        let (mut open, mut passed) = (true, false);
        let mut outcome = Outcome { allow: None, deny: None };
        let mut consult = |rules: Vec<Rule<'_>>, last_tier: bool, open: &mut bool| {
            for rule in rules {
                let Some(sure) = rule.matches().filter(|_| *open) else { continue };
                let slot = match rule.action {
                    PolicyAction::Pass if !last_tier => {
                        passed = true;
                        None
                    }
                    PolicyAction::Deny => Some(&mut outcome.deny),
                    _ => Some(&mut outcome.allow),
                };
                slot.map(|slot| slot.get_or_insert_with(|| rule.why()));
                *open = !sure;
            }
        };
        consult(rules(&is_admin), false, &mut open);
        open |= std::mem::take(&mut passed);
        let isolating = |direction: Direction| -> Vec<PolicyRef> {
            let of = policies.iter().filter(is_network).filter(|p| self.isolates(p, direction, pod));
            of.map(Policy::policy_ref).collect()
        };
        let isolated_by = isolating(direction);
        let anywhere = !isolating(Direction::Ingress).is_empty() || !isolating(Direction::Egress).is_empty();
        let mut consult = |rules: Vec<Rule<'_>>, open: &mut bool| {
            for rule in rules {
                let Some(sure) = rule.matches().filter(|_| *open) else { continue };
                let slot =
                    if rule.action == PolicyAction::Deny { &mut outcome.deny } else { &mut outcome.allow };
                slot.get_or_insert_with(|| rule.why());
                *open = !sure;
            }
        };
        if !isolated_by.is_empty() {
            consult(rules(&is_network), &mut open);
            if open {
                outcome.deny.get_or_insert(Why::Isolated(isolated_by));
                open = false;
            }
        } else if self.options.baseline == Baseline::PerDirection || !anywhere {
            consult(rules(&|p| !is_admin(p) && !is_network(p)), &mut open);
        }
        if open {
            outcome.allow.get_or_insert(Why::Default);
        }
        outcome
    }

    fn own_node(&self, to: &End<'_>, from: &End<'_>) -> bool {
        let (Some(pod), Some(ip)) = (to.pod, from.ip) else { return false };
        let is_pod = from.pod.is_some_and(|pod| !self.is_host(pod));
        let node = self.objects.get(&("Node".to_owned(), ObjectRef::new("", pod.spec.node_name.clone())));
        !is_pod && matches!(node, Some(Object::Node(node)) if node.addresses().any(|a| a == ip))
    }

    fn isolates(&self, policy: &Policy, direction: Direction, pod: &Pod) -> bool {
        let Policy::Network(policy) = policy else { return false };
        let listed = match direction {
            Direction::Ingress => policy.spec.isolates(PolicyType::Ingress),
            Direction::Egress => policy.spec.isolates(PolicyType::Egress),
        };
        listed
            && policy.metadata.namespace == pod.metadata.namespace
            && selects(&policy.spec.pod_selector, pod)
    }

    fn namespace(&self, selector: &LabelSelector, name: &str) -> Tri {
        let selector = Selector::try_from(selector).unwrap();
        match self.objects.get(&("Namespace".to_owned(), ObjectRef::new("", name))) {
            Some(Object::Namespace(namespace)) => {
                let mut labels = namespace.metadata.labels.clone();
                labels.insert("kubernetes.io/metadata.name", name);
                Some(selector.matches(&labels))
            }
            _ => selector.requirements().iter().fold(Some(true), |all, requirement| {
                and(all, || {
                    (requirement.key() == "kubernetes.io/metadata.name")
                        .then(|| requirement.matches(Some(name)))
                })
            }),
        }
    }

    /// Pods in namespaces; never an address outside, never a Pod on its node's network.
    fn pods_in(&self, namespaces: &LabelSelector, pods: &LabelSelector, end: &End<'_>) -> Tri {
        let Some(pod) = end.pod.filter(|pod| !self.is_host(pod)) else { return Some(false) };
        and(Some(selects(pods, pod)), || self.namespace(namespaces, &pod.metadata.namespace))
    }

    fn pod_peer(
        &self,
        namespaces: &Option<LabelSelector>,
        pods: &Option<NamespacedPodSelector>,
        end: &End<'_>,
    ) -> Option<Tri> {
        match (namespaces, pods) {
            (Some(namespaces), _) => Some(self.pods_in(namespaces, &LabelSelector::default(), end)),
            (None, Some(pods)) => Some(self.pods_in(&pods.namespace_selector, &pods.pod_selector, end)),
            (None, None) => None,
        }
    }

    fn network_peer(&self, peer: &NetworkPolicyPeer, policy: &NetworkPolicy, end: &End<'_>) -> Tri {
        if let Some(block) = &peer.ip_block {
            if end.pod.is_some_and(|pod| !self.is_host(pod))
                && self.options.ip_blocks == IpBlocks::ExternalOnly
            {
                return Some(false);
            }
            let ip = end.ip?;
            let inside = |net: &Sent<IpNet>| net.get().is_some_and(|net| net.contains(&ip));
            return Some(inside(&block.cidr) && !block.except.iter().any(inside));
        }
        let everything = LabelSelector::default();
        let pods = peer.pod_selector.as_ref().unwrap_or(&everything);
        match &peer.namespace_selector {
            Some(namespaces) => self.pods_in(namespaces, pods, end),
            None => Some(end.pod.is_some_and(|pod| {
                !self.is_host(pod)
                    && pod.metadata.namespace == policy.metadata.namespace
                    && selects(pods, pod)
            })),
        }
    }

    fn egress_peer(&self, peer: &ClusterNetworkPolicyEgressPeer, end: &End<'_>) -> Tri {
        if let Some(matches) = self.pod_peer(&peer.namespaces, &peer.pods, end) {
            return matches;
        }
        if let Some(nodes) = &peer.nodes {
            let nodes = self.objects.values().filter_map(|object| match object {
                Object::Node(node) if Selector::try_from(nodes).unwrap().matches(&node.metadata.labels) => {
                    Some(node)
                }
                _ => None,
            });
            let addresses: BTreeSet<IpAddr> = nodes.flat_map(Node::addresses).collect();
            return Some(end.ip.is_some_and(|ip| addresses.contains(&ip)));
        }
        if !peer.networks.is_empty() {
            let ip = end.ip?;
            return Some(peer.networks.iter().any(|net| net.get().unwrap().contains(&ip)));
        }
        // No domain name is known in these worlds, so any address outside may be meant.
        if end.pod.is_some_and(|pod| !self.is_host(pod)) || end.ip.is_none() { Some(false) } else { None }
    }

    fn rules<'a>(
        &self,
        policy: &Policy,
        direction: Direction,
        pod: &Pod,
        peer: &End<'_>,
        to: &End<'_>,
        traffic: Traffic,
    ) -> Vec<Rule<'a>> {
        let names: Vec<(SmolStr, Protocol, u16)> = to
            .pod
            .filter(|pod| !self.is_host(pod))
            .into_iter()
            .flat_map(|pod| pod.spec.serving_containers().flat_map(|c| &c.ports))
            .map(|p| (p.name.clone(), p.protocol().unwrap(), p.container_port.number().unwrap().get()))
            .collect();
        let named = |name: &str, protocol: Option<Protocol>| {
            let port = |(n, p, number): &(SmolStr, Protocol, u16)| {
                n == name
                    && protocol.is_none_or(|protocol| protocol == *p)
                    && Traffic::new(*p, *number) == traffic
            };
            names.iter().any(port)
        };
        let end = End { pod: Some(pod), ip: None };
        let rule = |index, action, applies, peers, ports| Rule {
            policy: policy.policy_ref(),
            index,
            action,
            applies,
            peers,
            ports,
            _of: std::marker::PhantomData,
        };
        match policy {
            Policy::Network(network) => {
                if !self.isolates(policy, direction, pod) {
                    return vec![];
                }
                let lists: Vec<(&[NetworkPolicyPeer], &[NetworkPolicyPort])> = match direction {
                    Direction::Ingress => {
                        network.spec.ingress.iter().map(|r| (&*r.from, &*r.ports)).collect()
                    }
                    Direction::Egress => network.spec.egress.iter().map(|r| (&*r.to, &*r.ports)).collect(),
                };
                let port = |port: &NetworkPolicyPort| match &port.port {
                    None => traffic.protocol() == port.protocol(),
                    Some(IntOrString::String(name)) => named(name, port.protocol()),
                    Some(first) => {
                        let first = first.number().unwrap().get();
                        let last = port.end_port.map_or(first, |last| last.number().unwrap().get());
                        traffic.protocol() == port.protocol()
                            && (first..=last).contains(&traffic.port().unwrap_or(0))
                    }
                };
                let lists = lists.into_iter().enumerate();
                lists
                    .map(|(i, (peers, ports))| {
                        let peers = (!peers.is_empty())
                            .then(|| peers.iter().map(|p| self.network_peer(p, network, peer)).collect());
                        let ports = (!ports.is_empty()).then(|| ports.iter().map(port).collect());
                        rule(i, PolicyAction::Accept, Some(true), peers, ports)
                    })
                    .collect()
            }
            Policy::Cluster(cluster) => {
                let applies =
                    self.pod_peer(&cluster.spec.subject.namespaces, &cluster.spec.subject.pods, &end);
                let transport = |of: Protocol, t: &ClusterNetworkPolicyTransport| {
                    traffic.protocol() == Some(of)
                        && t.destination_port.as_ref().is_none_or(|port| match &port.range {
                            Some(range) => (range.start.value()..=range.end.value())
                                .contains(&i32::from(traffic.port().unwrap())),
                            None => port.number.value() == i32::from(traffic.port().unwrap()),
                        })
                };
                let port = |p: &ClusterNetworkPolicyProtocol| {
                    p.tcp.as_ref().is_some_and(|t| transport(Protocol::Tcp, t))
                        || p.udp.as_ref().is_some_and(|t| transport(Protocol::Udp, t))
                        || p.sctp.as_ref().is_some_and(|t| transport(Protocol::Sctp, t))
                        || !p.destination_named_port.is_empty() && named(&p.destination_named_port, None)
                };
                let ports = |ports: &[ClusterNetworkPolicyProtocol]| {
                    (!ports.is_empty()).then(|| ports.iter().map(port).collect::<Vec<_>>())
                };
                let closed =
                    |i: usize, action: &Sent<PolicyAction>, peers: Option<Vec<Tri>>, ports| match peers {
                        Some(peers) => rule(i, action.get().unwrap(), applies.unwrap(), Some(peers), ports),
                        None if action.is("Accept") => rule(i, PolicyAction::Accept, Some(false), None, None),
                        None => rule(i, PolicyAction::Deny, applies.unwrap(), None, None),
                    };
                match direction {
                    Direction::Ingress => {
                        let rules = cluster.spec.ingress.iter().enumerate();
                        rules
                            .map(|(i, r)| {
                                let peers = r
                                    .from
                                    .iter()
                                    .map(|p| self.pod_peer(&p.namespaces, &p.pods, peer))
                                    .collect();
                                closed(i, &r.action, peers, ports(&r.protocols))
                            })
                            .collect()
                    }
                    Direction::Egress => {
                        let rules = cluster.spec.egress.iter().enumerate();
                        rules
                            .map(|(i, r)| {
                                let peers = Some(r.to.iter().map(|p| self.egress_peer(p, peer)).collect());
                                closed(i, &r.action, peers, ports(&r.protocols))
                            })
                            .collect()
                    }
                }
            }
            Policy::Admin(admin) => {
                self.admin_rules(&admin.spec, direction, &end, peer, traffic, &named, &rule)
            }
            Policy::BaselineAdmin(admin) => {
                self.admin_rules(&admin.spec, direction, &end, peer, traffic, &named, &rule)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one helper of one function")]
    fn admin_rules<'a>(
        &self,
        spec: &AdminNetworkPolicySpec,
        direction: Direction,
        subject: &End<'_>,
        peer: &End<'_>,
        traffic: Traffic,
        named: &dyn Fn(&str, Option<Protocol>) -> bool,
        rule: &dyn Fn(usize, PolicyAction, Tri, Option<Vec<Tri>>, Option<Vec<bool>>) -> Rule<'a>,
    ) -> Vec<Rule<'a>> {
        let applies = self.pod_peer(&spec.subject.namespaces, &spec.subject.pods, subject).unwrap();
        let protocol = |sent: &Sent<Protocol>| sent.get().unwrap_or(Protocol::Tcp);
        let port = |p: &AdminNetworkPolicyPort| {
            let number = i32::from(traffic.port().unwrap_or(0));
            p.port_number.as_ref().is_some_and(|n| {
                traffic.protocol() == Some(protocol(&n.protocol)) && n.port.value() == number
            }) || p.port_range.as_ref().is_some_and(|r| {
                traffic.protocol() == Some(protocol(&r.protocol))
                    && (r.start.value()..=r.end.value()).contains(&number)
            }) || p.named_port.as_ref().is_some_and(|name| named(name, None))
        };
        let ports = |ports: &Option<Vec<AdminNetworkPolicyPort>>| {
            ports.as_ref().filter(|p| !p.is_empty()).map(|ports| ports.iter().map(port).collect())
        };
        let closed = |i: usize, action: &Sent<PolicyAction>, peers: Option<Vec<Tri>>, ports| match peers {
            Some(peers) => rule(i, action.get().unwrap(), applies, Some(peers), ports),
            None if action.is("Accept") => rule(i, PolicyAction::Accept, Some(false), None, None),
            None => rule(i, PolicyAction::Deny, applies, None, None),
        };
        match direction {
            Direction::Ingress => {
                let rules = spec.ingress.iter().enumerate();
                rules
                    .map(|(i, r)| {
                        let peers =
                            r.from.iter().map(|p| self.pod_peer(&p.namespaces, &p.pods, peer)).collect();
                        closed(i, &r.action, peers, ports(&r.ports))
                    })
                    .collect()
            }
            Direction::Egress => {
                let same = |p: &AdminNetworkPolicyEgressPeer| ClusterNetworkPolicyEgressPeer {
                    namespaces: p.namespaces.clone(),
                    pods: p.pods.clone(),
                    nodes: p.nodes.clone(),
                    networks: p.networks.clone(),
                    domain_names: p.domain_names.clone(),
                };
                let rules = spec.egress.iter().enumerate();
                rules
                    .map(|(i, r)| {
                        let peers = Some(r.to.iter().map(|p| self.egress_peer(&same(p), peer)).collect());
                        closed(i, &r.action, peers, ports(&r.ports))
                    })
                    .collect()
            }
        }
    }
}

fn selects(selector: &LabelSelector, pod: &Pod) -> bool {
    Selector::try_from(selector).unwrap().matches(&pod.metadata.labels)
}

impl Rule<'_> {
    /// `Some(true)` it matches, `Some(false)` perhaps, `None` it doesn't.
    fn matches(&self) -> Option<bool> {
        let peers = self.peers.as_ref().map_or(Some(true), |peers| {
            if peers.contains(&Some(true)) {
                Some(true)
            } else if peers.contains(&None) {
                None
            } else {
                Some(false)
            }
        });
        let ports = self.ports.as_ref().is_none_or(|ports| ports.contains(&true));
        match and(self.applies, || and(peers, || Some(ports))) {
            Some(true) => Some(true),
            None => Some(false),
            Some(false) => None,
        }
    }

    fn why(&self) -> Why {
        let peer = self.peers.as_ref().and_then(|peers| {
            let sure = peers.iter().position(|tri| *tri == Some(true));
            sure.or_else(|| peers.iter().position(Option::is_none))
        });
        let port = self.ports.as_ref().and_then(|ports| ports.iter().position(|matches| *matches));
        Why::Rule { policy: self.policy.clone(), rule: self.index, peer, port }
    }
}

/// Which policies the twin knows by kind, so that a test can see that its worlds have all of them.
pub(crate) fn kinds(world: &World) -> BTreeSet<PolicyKind> {
    world.policies().iter().map(|policy| policy.policy_ref().kind).collect()
}
