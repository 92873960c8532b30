//! EndpointSlices (discovery.k8s.io/v1).

use core::net::IpAddr;

use super::path::Path;
use super::problems::{IMMUTABLE, Problems};
use super::{ValidationError, address, meta};
use crate::name::NameRule;
use crate::object::Scope;
use crate::{AddressType, Compat, Endpoint, EndpointHints, EndpointPort, EndpointSlice, Protocol, Sent};

const ENDPOINTS_MAX: usize = 1_000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

impl EndpointSlice {
    /// Checks a slice that is being created, defaults already applied.
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_create(&self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        validate(&mut problems, self, None, compat);
        problems.into_result(self)
    }

    /// Checks a slice that takes the place of `old`. Endpoints are not judged again if none of them changed.
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_update(&self, old: &Self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        validate(&mut problems, self, Some(old), compat);
        if self.address_type != old.address_type {
            problems.invalid(&Path::root("addressType"), &self.address_type, IMMUTABLE);
        }
        problems.into_result(self)
    }
}

fn validate(problems: &mut Problems, slice: &EndpointSlice, old: Option<&EndpointSlice>, compat: Compat) {
    meta::create(problems, &slice.metadata, Scope::Namespaced, NameRule::DnsSubdomain);
    problems.known(&Path::root("addressType"), &slice.address_type, AddressType::ALL);
    ports(problems, &Path::root("ports"), &slice.ports);
    if old.is_some_and(|old| old.endpoints == slice.endpoints) {
        return;
    }
    let path = Path::root("endpoints");
    let count = slice.endpoints.len();
    if count > ENDPOINTS_MAX {
        return problems.too_many(&path, count, ENDPOINTS_MAX);
    }
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        self::endpoint(problems, &path.index(i), endpoint, slice.address_type.get(), compat);
    }
}

fn ports(problems: &mut Problems, path: &Path<'_>, ports: &[EndpointPort]) {
    if ports.len() > PORTS_MAX {
        return problems.too_many(path, ports.len(), PORTS_MAX);
    }
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty()) {
            problems.name(&path.child("name"), NameRule::DnsLabel, name);
        }
        let protocol = path.child("protocol");
        match &port.protocol {
            None => problems.required(&protocol, ""),
            Some(sent) if sent.get().is_none() => problems.unsupported(&protocol, sent, Protocol::ALL),
            Some(_) => {}
        }
        if let Some(protocol) = &port.app_protocol {
            problems.name(&path.child("appProtocol"), NameRule::LabelKey, protocol);
        }
    }
    // No name counts as the empty one.
    let names = ports.iter().map(|port| Some(port.name.as_deref().unwrap_or_default()));
    problems.duplicates(names, |problems, i| {
        let name = ports.get(i).and_then(|port| port.name.as_deref()).unwrap_or_default();
        let path = path.index(i);
        problems.duplicate(&path.child("name"), name);
    });
}

fn endpoint(
    problems: &mut Problems,
    path: &Path<'_>,
    endpoint: &Endpoint,
    kind: Option<AddressType>,
    compat: Compat,
) {
    let addresses = path.child("addresses");
    match endpoint.addresses.len() {
        0 => problems.required(&addresses, "there must be at least one"),
        1..=ADDRESSES_MAX => {}
        count => problems.too_many(&addresses, count, ADDRESSES_MAX),
    }
    for (i, sent) in endpoint.addresses.iter().enumerate() {
        let path = addresses.index(i);
        match kind {
            Some(AddressType::Ipv4) => ipv4(problems, &path, sent, compat),
            Some(AddressType::Ipv6) => ipv6(problems, &path, sent),
            Some(AddressType::Fqdn) => domain_name(problems, &path, &sent.to_text()),
            None => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        problems.name(&path.child("nodeName"), NameRule::DnsSubdomain, node);
    }
    if let Some(hostname) = &endpoint.hostname {
        problems.name(&path.child("hostname"), NameRule::DnsLabel, hostname);
    }
    if let Some(hints) = &endpoint.hints {
        self::hints(problems, &path.child("hints"), hints);
    }
}

fn ipv4(problems: &mut Problems, path: &Path<'_>, sent: &Sent<IpAddr>, compat: Compat) {
    if !address::ip(problems, path, sent, &[], compat) {
        return;
    }
    if sent.get().is_some_and(|ip| ip.is_ipv4()) {
        address::not_special(problems, path, sent);
    } else {
        problems.invalid(path, sent, "must be an IPv4 address");
    }
}

/// These are younger than strict parsing: never in another form than the canonical one.
fn ipv6(problems: &mut Problems, path: &Path<'_>, sent: &Sent<IpAddr>) {
    match sent {
        Sent::Value(IpAddr::V6(_)) => address::not_special(problems, path, sent),
        _ => problems.invalid(path, sent, "must be an IPv6 address in canonical form"),
    }
}

fn domain_name(problems: &mut Problems, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        return problems.required(path, "");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Err(error) = NameRule::DnsSubdomain.check(name) {
        return problems.invalid(path, name, alloc::format!("{error}"));
    }
    if !name.contains('.') {
        return problems.invalid(path, name, "must have at least two labels");
    }
    for label in name.split('.') {
        problems.name(path, NameRule::DnsLabel, label);
    }
}

fn hints(problems: &mut Problems, path: &Path<'_>, hints: &EndpointHints) {
    let zones = hints.for_zones.iter().map(|zone| zone.name.as_str());
    hint_list(problems, &path.child("forZones"), zones, NameRule::LabelValue);
    let nodes = hints.for_nodes.iter().map(|node| node.name.as_str());
    hint_list(problems, &path.child("forNodes"), nodes, NameRule::DnsSubdomain);
}

fn hint_list<'a>(
    problems: &mut Problems,
    path: &Path<'_>,
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
    rule: NameRule,
) {
    if names.len() > HINTS_MAX {
        return problems.too_many(path, names.len(), HINTS_MAX);
    }
    for (i, name) in names.clone().enumerate() {
        let path = path.index(i);
        problems.name(&path.child("name"), rule, name);
    }
    problems.duplicates(names.clone().map(Some), |problems, i| {
        let path = path.index(i);
        problems.duplicate(&path.child("name"), names.clone().nth(i).unwrap_or_default());
    });
}
