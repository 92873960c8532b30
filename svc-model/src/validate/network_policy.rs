//! NetworkPolicies (networking.k8s.io/v1).

use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use super::path::Path;
use super::problems::Problems;
use super::{ValidationError, address, meta};
use crate::name::NameRule;
use crate::object::Scope;
use crate::{
    Compat, IntOrString, IpBlock, LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec, PolicyType, Port, Protocol, SelectorValues, Sent,
};

impl NetworkPolicy {
    /// Checks a NetworkPolicy that is being created, defaults already applied.
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_create(&self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::create(&mut problems, &self.metadata, Scope::Namespaced, NameRule::DnsSubdomain);
        validate(&mut problems, &self.spec, &Before::nothing(compat));
        problems.into_result(self)
    }

    /// Checks a NetworkPolicy that takes the place of `old`. Ranges that `old` has may stay, valid or not; and
    /// if selectors of `old` have invalid values, values of selectors are not judged at all (see
    /// [`SelectorValues`]).
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_update(&self, old: &Self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::resource_version(&mut problems, &self.metadata);
        meta::update(&mut problems, &self.metadata, &old.metadata);
        validate(&mut problems, &self.spec, &Before::of(&old.spec, compat));
        problems.into_result(self)
    }
}

/// What is tolerated because it was there before.
struct Before {
    ranges: Vec<Sent<IpNet>>,
    values: SelectorValues,
    compat: Compat,
}

impl Before {
    fn nothing(compat: Compat) -> Self {
        Self { ranges: Vec::new(), values: compat.selector_values, compat }
    }

    fn of(old: &NetworkPolicySpec, compat: Compat) -> Self {
        let mut before = Self::nothing(compat);
        let mut look_at = |selector: &LabelSelector| {
            let mut values = selector.match_expressions.iter().flat_map(|expression| &expression.values);
            if before.values == SelectorValues::CheckedUnlessStored
                && values.any(|value| !NameRule::LabelValue.accepts(value))
            {
                before.values = SelectorValues::Unchecked;
            }
        };
        look_at(&old.pod_selector);
        let peers = old.ingress.iter().flat_map(|rule| &rule.from);
        for peer in peers.chain(old.egress.iter().flat_map(|rule| &rule.to)) {
            peer.pod_selector.iter().chain(&peer.namespace_selector).for_each(&mut look_at);
            if let Some(block) = &peer.ip_block {
                before.ranges.push(block.cidr.clone());
                before.ranges.extend(block.except.iter().cloned());
            }
        }
        before
    }
}

fn validate(problems: &mut Problems, spec: &NetworkPolicySpec, before: &Before) {
    let root = Path::root("spec");
    problems.label_selector(&root.child("podSelector"), &spec.pod_selector, before.values);

    let ingress = root.child("ingress");
    for (i, rule) in spec.ingress.iter().enumerate() {
        let path = ingress.index(i);
        ports(problems, &path.child("ports"), &rule.ports);
        peers(problems, &path.child("from"), &rule.from, before);
    }
    let egress = root.child("egress");
    for (i, rule) in spec.egress.iter().enumerate() {
        let path = egress.index(i);
        ports(problems, &path.child("ports"), &rule.ports);
        peers(problems, &path.child("to"), &rule.to, before);
    }

    let path = root.child("policyTypes");
    let (types, max) = (&spec.policy_types, PolicyType::ALL.len());
    if types.len() > max {
        problems.invalid(&path, &types.len(), "must have at most two values");
        return;
    }
    for (i, sent) in types.iter().enumerate().filter(|(_, sent)| sent.get().is_none()) {
        problems.unsupported(&path.index(i), sent, PolicyType::ALL);
    }
}

fn ports(problems: &mut Problems, path: &Path<'_>, ports: &[NetworkPolicyPort]) {
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        if let Some(sent) = port.protocol.as_ref().filter(|sent| sent.get().is_none()) {
            problems.unsupported(&path.child("protocol"), sent, Protocol::ALL);
        }
        if let Some(port) = &port.port {
            problems.port_number_or_name(&path.child("port"), port);
        }
        let Some(end) = port.end_port else { continue };
        let path = path.child("endPort");
        match &port.port {
            Some(IntOrString::Int(start)) => {
                if end < Port::new(*start) {
                    problems.invalid(&path, &end, "must not be less than `port`");
                }
                problems.port_number(&path, end);
            }
            Some(IntOrString::String(_)) => problems.invalid(&path, &end, "needs a `port` that is a number"),
            None => problems.invalid(&path, &end, "needs a `port`"),
        }
    }
}

fn peers(problems: &mut Problems, path: &Path<'_>, peers: &[NetworkPolicyPeer], before: &Before) {
    for (i, peer) in peers.iter().enumerate() {
        let path = path.index(i);
        for (selector, field) in
            [(&peer.pod_selector, "podSelector"), (&peer.namespace_selector, "namespaceSelector")]
        {
            if let Some(selector) = selector {
                problems.label_selector(&path.child(field), selector, before.values);
            }
        }
        if let Some(block) = &peer.ip_block {
            ip_block(problems, &path.child("ipBlock"), block, before);
        }
        match (peer.pod_selector.is_some() || peer.namespace_selector.is_some(), peer.ip_block.is_some()) {
            (false, false) => problems.required(&path, "a peer has a selector or an address block"),
            (true, true) => problems.forbidden(&path, "an address block cannot be combined with selectors"),
            _ => {}
        }
    }
}

fn ip_block(problems: &mut Problems, path: &Path<'_>, block: &IpBlock, before: &Before) {
    let cidr = path.child("cidr");
    if block.cidr.is_empty() {
        return problems.required(&cidr, "");
    }
    address::range(problems, &cidr, &block.cidr, &before.ranges, before.compat);
    let Some(whole) = block.cidr.get() else { return };
    let path = path.child("except");
    for (i, sent) in block.except.iter().enumerate() {
        let path = path.index(i);
        address::range(problems, &path, sent, &before.ranges, before.compat);
        if let Some(part) = sent.get()
            && !(contains(whole, part.network()) && whole.prefix_len() < part.prefix_len())
        {
            problems.invalid(&path, sent, "must be a strict subset of `cidr`");
        }
    }
}

/// Whether a range has an address. A range of IPv4-mapped addresses counts as one of IPv4 addresses.
fn contains(range: IpNet, address: IpAddr) -> bool {
    let range = match (range.network().to_canonical(), range) {
        (IpAddr::V4(network), IpNet::V6(mapped)) => {
            let length = mapped.prefix_len().saturating_sub(96);
            IpNet::new(network.into(), length).unwrap_or(range)
        }
        _ => range,
    };
    range.contains(&address.to_canonical())
}
