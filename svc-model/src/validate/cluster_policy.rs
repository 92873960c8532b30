//! Cluster-scoped policies (policy.networking.k8s.io): the rules of their CRDs, v1alpha2 for
//! ClusterNetworkPolicy, v1alpha1 for AdminNetworkPolicy and BaselineAdminNetworkPolicy.
//!
//! A CRD knows no more than its schema. So a selector is not judged, but for keys and operators that are
//! missing; and an empty list, where one is required, counts as absent.

use alloc::vec::Vec;

use ipnet::IpNet;
use smol_str::SmolStr;

use super::path::Path;
use super::problems::Problems;
use super::{ValidationError, address, meta};
use crate::name::NameRule;
use crate::object::Scope;
use crate::{
    AdminNetworkPolicy, AdminNetworkPolicyPort, AdminNetworkPolicySpec, BaselineAdminNetworkPolicy,
    ClusterNetworkPolicy, ClusterNetworkPolicyPort, ClusterNetworkPolicyProtocol, LabelSelector,
    NamespacedPodSelector, ObjectMeta, PolicyAction, PolicySubject, PolicyTier, Sent,
};

const PRIORITY_MAX: i32 = 1_000;
const RULE_NAME_MAX: usize = 100;
const RANGE_TEXT_MAX: usize = 43;
const NETWORKS_MAX: usize = 25;
/// Rules in a direction, peers in a rule, protocols in a rule.
const CLUSTER_LIST_MAX: usize = 25;
/// Rules in a direction, peers in a rule, ports in a rule.
const ADMIN_LIST_MAX: usize = 100;

const CLUSTER_ACTIONS: &[PolicyAction] = &[PolicyAction::Accept, PolicyAction::Deny, PolicyAction::Pass];
const ADMIN_ACTIONS: &[PolicyAction] = &[PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Pass];
const BASELINE_ACTIONS: &[PolicyAction] = &[PolicyAction::Allow, PolicyAction::Deny];

/// Checks the rules of both directions, of either version: their types differ in names and ports only.
macro_rules! check_rules {
    ($problems:ident, $root:ident, $spec:expr, $limits:expr, |$rule:ident| $ports:expr) => {
        let ingress = $spec.ingress.iter().map(|$rule| Rule {
            name: &$rule.name,
            action: &$rule.action,
            peers: $rule
                .from
                .iter()
                .map(|peer| Peer { namespaces: &peer.namespaces, pods: &peer.pods, ..Peer::NONE })
                .collect(),
            ports: $ports,
        });
        rules($problems, &$root.child("ingress"), "from", ingress, $limits);
        let egress = $spec.egress.iter().map(|$rule| Rule {
            name: &$rule.name,
            action: &$rule.action,
            peers: $rule
                .to
                .iter()
                .map(|peer| Peer {
                    namespaces: &peer.namespaces,
                    pods: &peer.pods,
                    nodes: &peer.nodes,
                    networks: &peer.networks,
                    domain_names: &peer.domain_names,
                })
                .collect(),
            ports: $ports,
        });
        rules($problems, &$root.child("egress"), "to", egress, $limits);
    };
}

impl ClusterNetworkPolicy {
    /// Checks a policy that is being created.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn validate_create(&self) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::create(&mut problems, &self.metadata, Scope::Cluster, NameRule::DnsSubdomain);
        self.validate(&mut problems);
        problems.into_result(self)
    }

    /// Checks a policy that takes the place of `old`.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn validate_update(&self, old: &Self) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::resource_version(&mut problems, &self.metadata);
        meta::update(&mut problems, &self.metadata, &old.metadata);
        self.validate(&mut problems);
        problems.into_result(self)
    }

    fn validate(&self, problems: &mut Problems) {
        let root = Path::root("spec");
        problems.known(&root.child("tier"), &self.spec.tier, PolicyTier::ALL);
        priority(problems, &root, self.spec.priority);
        subject(problems, &root.child("subject"), &self.spec.subject);

        let limits = Limits { list: CLUSTER_LIST_MAX, actions: CLUSTER_ACTIONS };
        check_rules!(problems, root, self.spec, limits, |rule| Ports::Cluster(&rule.protocols));
    }
}

impl AdminNetworkPolicy {
    /// Checks a policy that is being created.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn validate_create(&self) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::create(&mut problems, &self.metadata, Scope::Cluster, NameRule::DnsSubdomain);
        admin_spec(&mut problems, &self.spec, ADMIN_ACTIONS);
        problems.into_result(self)
    }

    /// Checks a policy that takes the place of `old`.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn validate_update(&self, old: &Self) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::resource_version(&mut problems, &self.metadata);
        meta::update(&mut problems, &self.metadata, &old.metadata);
        admin_spec(&mut problems, &self.spec, ADMIN_ACTIONS);
        problems.into_result(self)
    }
}

impl BaselineAdminNetworkPolicy {
    /// Checks a policy that is being created. It must be named `default`.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn validate_create(&self) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::create(&mut problems, &self.metadata, Scope::Cluster, NameRule::DnsSubdomain);
        baseline_name(&mut problems, &self.metadata);
        admin_spec(&mut problems, &self.spec, BASELINE_ACTIONS);
        problems.into_result(self)
    }

    /// Checks a policy that takes the place of `old`.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn validate_update(&self, old: &Self) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::resource_version(&mut problems, &self.metadata);
        meta::update(&mut problems, &self.metadata, &old.metadata);
        baseline_name(&mut problems, &self.metadata);
        admin_spec(&mut problems, &self.spec, BASELINE_ACTIONS);
        problems.into_result(self)
    }
}

fn baseline_name(problems: &mut Problems, meta: &ObjectMeta) {
    if !meta.name.is_empty() && meta.name != "default" {
        let path = Path::root("metadata");
        problems.invalid(&path.child("name"), &meta.name, "must be `default`: there is one in a cluster");
    }
}

fn admin_spec(problems: &mut Problems, spec: &AdminNetworkPolicySpec, actions: &'static [PolicyAction]) {
    let root = Path::root("spec");
    priority(problems, &root, spec.priority);
    subject(problems, &root.child("subject"), &spec.subject);
    let limits = Limits { list: ADMIN_LIST_MAX, actions };
    check_rules!(problems, root, spec, limits, |rule| Ports::Admin(rule.ports.as_deref()));
}

/// What differs between the two versions of the API.
#[derive(Clone, Copy)]
struct Limits {
    /// How long any list may be.
    list: usize,
    actions: &'static [PolicyAction],
}

/// A rule of either direction and version.
struct Rule<'a> {
    name: &'a SmolStr,
    action: &'a Sent<PolicyAction>,
    peers: Vec<Peer<'a>>,
    ports: Ports<'a>,
}

enum Ports<'a> {
    Cluster(&'a [ClusterNetworkPolicyProtocol]),
    Admin(Option<&'a [AdminNetworkPolicyPort]>),
}

impl Ports<'_> {
    fn has_names(&self) -> bool {
        match self {
            Self::Cluster(protocols) => protocols.iter().any(|p| !p.destination_named_port.is_empty()),
            Self::Admin(ports) => ports.iter().copied().flatten().any(|port| port.named_port.is_some()),
        }
    }

    fn validate(&self, problems: &mut Problems, path: &Path<'_>) {
        match self {
            Self::Cluster(protocols) => self::protocols(problems, path, protocols),
            Self::Admin(ports) => admin_ports(problems, path, *ports),
        }
    }
}

/// The rules of one direction; `peers` is the name of the list of each rule's peers.
fn rules<'a>(
    problems: &mut Problems,
    path: &Path<'_>,
    peers: &'static str,
    rules: impl ExactSizeIterator<Item = Rule<'a>>,
    limits: Limits,
) {
    at_most(problems, path, rules.len(), limits.list);
    for (i, rule) in rules.enumerate() {
        let path = path.index(i);
        rule_head(problems, &path, rule.name, rule.action, limits.actions);
        let list = path.child(peers);
        some_peers(problems, &list, rule.peers.len(), limits.list);
        for (i, peer) in rule.peers.iter().enumerate() {
            peer.validate(problems, &list.index(i));
        }
        rule.ports.validate(problems, &path);
        if rule.ports.has_names() && rule.peers.iter().any(Peer::has_no_named_ports) {
            named_ports_clash(problems, &path);
        }
    }
}

fn priority(problems: &mut Problems, root: &Path<'_>, priority: i32) {
    if !(0..=PRIORITY_MAX).contains(&priority) {
        problems.invalid(&root.child("priority"), &priority, "must be from 0 to 1000");
    }
}

fn subject(problems: &mut Problems, path: &Path<'_>, subject: &PolicySubject) {
    let peer = Peer { namespaces: &subject.namespaces, pods: &subject.pods, ..Peer::NONE };
    peer.validate(problems, path);
}

fn rule_head(
    problems: &mut Problems,
    path: &Path<'_>,
    name: &SmolStr,
    action: &Sent<PolicyAction>,
    actions: &[PolicyAction],
) {
    if name.chars().count() > RULE_NAME_MAX {
        problems.too_long(&path.child("name"), RULE_NAME_MAX);
    }
    let path = path.child("action");
    if action.is_empty() {
        problems.required(&path, "");
    } else if action.get().is_none_or(|action| !actions.contains(&action)) {
        problems.unsupported(&path, action, actions);
    }
}

fn at_most(problems: &mut Problems, path: &Path<'_>, count: usize, max: usize) {
    if count > max {
        problems.too_many(path, count, max);
    }
}

fn some_peers(problems: &mut Problems, path: &Path<'_>, count: usize, max: usize) {
    if count == 0 {
        problems.required(path, "a rule has at least one peer");
    }
    at_most(problems, path, count, max);
}

fn named_ports_clash(problems: &mut Problems, path: &Path<'_>) {
    let detail = "has ports by name, which networks, nodes and domain names do not have";
    problems.invalid(path, "", detail);
}

/// One of several members, of which one must be set.
fn exactly_one(problems: &mut Problems, path: &Path<'_>, set: usize) {
    match set {
        0 => problems.invalid(path, "", "must have one member"),
        1 => {}
        _ => problems.too_many(path, set, 1),
    }
}

/// A peer of either direction, or a subject.
#[derive(Clone, Copy)]
struct Peer<'a> {
    namespaces: &'a Option<LabelSelector>,
    pods: &'a Option<NamespacedPodSelector>,
    nodes: &'a Option<LabelSelector>,
    networks: &'a [Sent<IpNet>],
    domain_names: &'a [SmolStr],
}

impl Peer<'static> {
    const NONE: Self =
        Peer { namespaces: &None, pods: &None, nodes: &None, networks: &[], domain_names: &[] };
}

impl Peer<'_> {
    fn has_no_named_ports(&self) -> bool {
        self.nodes.is_some() || !self.networks.is_empty() || !self.domain_names.is_empty()
    }

    fn validate(&self, problems: &mut Problems, path: &Path<'_>) {
        let set = [
            self.namespaces.is_some(),
            self.pods.is_some(),
            self.nodes.is_some(),
            !self.networks.is_empty(),
            !self.domain_names.is_empty(),
        ];
        exactly_one(problems, path, set.into_iter().filter(|set| *set).count());
        for (field, selector) in [("namespaces", self.namespaces), ("nodes", self.nodes)] {
            if let Some(selector) = selector {
                structural_selector(problems, &path.child(field), selector);
            }
        }
        if let Some(pods) = self.pods {
            let path = path.child("pods");
            structural_selector(problems, &path.child("namespaceSelector"), &pods.namespace_selector);
            structural_selector(problems, &path.child("podSelector"), &pods.pod_selector);
        }
        let networks = path.child("networks");
        at_most(problems, &networks, self.networks.len(), NETWORKS_MAX);
        for (i, sent) in self.networks.iter().enumerate() {
            let path = networks.index(i);
            if sent.to_text().len() > RANGE_TEXT_MAX {
                problems.too_long(&path, RANGE_TEXT_MAX);
            }
            address::strict_range_with_host_bits(problems, &path, sent);
        }
        let report = |problems: &mut Problems, i: usize| {
            let sent = self.networks.get(i).cloned().unwrap_or_default();
            problems.duplicate(&networks.index(i), &sent);
        };
        problems.duplicates(self.networks.iter().map(Some), report);

        let names = path.child("domainNames");
        at_most(problems, &names, self.domain_names.len(), NETWORKS_MAX);
        for (i, name) in self.domain_names.iter().enumerate().filter(|(_, name)| !is_domain_name(name)) {
            problems.invalid(&names.index(i), name, "must be a domain name, or one with a leading `*.`");
        }
        let report = |problems: &mut Problems, i: usize| {
            let name = self.domain_names.get(i).cloned().unwrap_or_default();
            problems.duplicate(&names.index(i), &name);
        };
        problems.duplicates(self.domain_names.iter().map(Some), report);
    }
}

/// What a CRD demands of a selector: keys and operators are given.
fn structural_selector(problems: &mut Problems, path: &Path<'_>, selector: &LabelSelector) {
    let path = path.child("matchExpressions");
    for (i, expression) in selector.match_expressions.iter().enumerate() {
        let path = path.index(i);
        if expression.key.is_empty() {
            problems.required(&path.child("key"), "");
        }
        if expression.operator.is_empty() {
            problems.required(&path.child("operator"), "");
        }
    }
}

/// The pattern of the CRD; its `A-z` lets a label start with one of ``[\]^_` `` too.
fn is_domain_name(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| match label.as_bytes() {
        [] => false,
        [first, rest @ ..] => {
            (matches!(first, b'A'..=b'z') || first.is_ascii_digit())
                && rest.last().is_none_or(u8::is_ascii_alphanumeric)
                && rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        }
    };
    name.contains('.') && name.split('.').all(is_label)
}

fn protocols(problems: &mut Problems, path: &Path<'_>, protocols: &[ClusterNetworkPolicyProtocol]) {
    let path = path.child("protocols");
    at_most(problems, &path, protocols.len(), CLUSTER_LIST_MAX);
    for (i, protocol) in protocols.iter().enumerate() {
        let path = path.index(i);
        let transports = [("tcp", &protocol.tcp), ("udp", &protocol.udp), ("sctp", &protocol.sctp)];
        let named = usize::from(!protocol.destination_named_port.is_empty());
        let set = transports.iter().filter(|(_, transport)| transport.is_some()).count();
        exactly_one(problems, &path, set + named);
        for (field, transport) in transports {
            let Some(transport) = transport else { continue };
            let path = path.child(field);
            match &transport.destination_port {
                Some(port) => destination_port(problems, &path.child("destinationPort"), port),
                None => problems.invalid(&path, "", "must have a port; list no protocols for all of them"),
            }
        }
    }
}

fn destination_port(problems: &mut Problems, path: &Path<'_>, port: &ClusterNetworkPolicyPort) {
    exactly_one(problems, path, usize::from(!port.number.is_zero()) + usize::from(port.range.is_some()));
    if !port.number.is_zero() {
        problems.port_number(&path.child("number"), port.number);
    }
    if let Some(range) = &port.range {
        let path = path.child("range");
        problems.port_number(&path.child("start"), range.start);
        problems.port_number(&path.child("end"), range.end);
        if range.start >= range.end {
            problems.invalid(&path, &range.start, "must start before it ends");
        }
    }
}

fn admin_ports(problems: &mut Problems, path: &Path<'_>, ports: Option<&[AdminNetworkPolicyPort]>) {
    let Some(ports) = ports else { return };
    let path = path.child("ports");
    if ports.is_empty() {
        problems.invalid(&path, "", "must have at least one port, or be left out for all ports");
    }
    at_most(problems, &path, ports.len(), ADMIN_LIST_MAX);
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let set = [port.port_number.is_some(), port.named_port.is_some(), port.port_range.is_some()];
        exactly_one(problems, &path, set.into_iter().filter(|set| *set).count());
        if let Some(number) = &port.port_number {
            let path = path.child("portNumber");
            problems.port_number(&path.child("port"), number.port);
        }
        if let Some(range) = &port.port_range {
            let path = path.child("portRange");
            problems.port_number(&path.child("start"), range.start);
            problems.port_number(&path.child("end"), range.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_names_follow_the_pattern() {
        for name in ["a.b", "*.a.b", "A-1_x.example.com.", "[a.b", "1.2"] {
            assert!(is_domain_name(name), "{name}");
        }
        for name in ["", ".", "a", "*.a", "a..b", "-a.b", "a-.b", "a.*.b", "*", "a.b..", "é.b"] {
            assert!(!is_domain_name(name), "{name}");
        }
    }
}
