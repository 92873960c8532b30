//! Endpoints (core/v1).

use super::path::Path;
use super::problems::Problems;
use super::{ValidationError, address, meta};
use crate::name::NameRule;
use crate::object::Scope;
use crate::{Compat, EndpointAddress, EndpointSubset, Endpoints, Protocol};

impl Endpoints {
    /// Checks Endpoints that are being created, defaults already applied.
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_create(&self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::create(&mut problems, &self.metadata, Scope::Namespaced, NameRule::DnsSubdomain);
        subsets(&mut problems, &self.subsets, &[], compat);
        problems.into_result(self)
    }

    /// Checks Endpoints that take the place of `old`. Subsets that `old` has are not judged again.
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_update(&self, old: &Self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::resource_version(&mut problems, &self.metadata);
        meta::update(&mut problems, &self.metadata, &old.metadata);
        subsets(&mut problems, &self.subsets, &old.subsets, compat);
        problems.into_result(self)
    }
}

fn subsets(problems: &mut Problems, subsets: &[EndpointSubset], old: &[EndpointSubset], compat: Compat) {
    let root = Path::root("subsets");
    for (i, subset) in subsets.iter().enumerate().filter(|(_, subset)| !old.contains(subset)) {
        let path = root.index(i);
        if subset.addresses.is_empty() && subset.not_ready_addresses.is_empty() {
            problems.required(&path, "there must be an address, ready or not");
        }
        for (field, addresses) in
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
        {
            let path = path.child(field);
            for (i, address) in addresses.iter().enumerate() {
                self::address(problems, &path.index(i), address, compat);
            }
        }
        ports(problems, &path.child("ports"), subset);
    }
}

fn address(problems: &mut Problems, path: &Path<'_>, address: &EndpointAddress, compat: Compat) {
    let ip = path.child("ip");
    if address::ip(problems, &ip, &address.ip, &[], compat) {
        address::not_special(problems, &ip, &address.ip);
    }
    if !address.hostname.is_empty() {
        problems.name(&path.child("hostname"), NameRule::DnsLabel, &address.hostname);
    }
    if let Some(node) = &address.node_name {
        problems.name(&path.child("nodeName"), NameRule::DnsSubdomain, node);
    }
}

/// Names are wanted where there are several ports, but nobody checks that they differ.
fn ports(problems: &mut Problems, path: &Path<'_>, subset: &EndpointSubset) {
    for (i, port) in subset.ports.iter().enumerate() {
        let path = path.index(i);
        if !port.name.is_empty() {
            problems.name(&path.child("name"), NameRule::DnsLabel, &port.name);
        } else if subset.ports.len() > 1 {
            problems.required(&path.child("name"), "");
        }
        problems.port_number(&path.child("port"), port.port);
        problems.known(&path.child("protocol"), &port.protocol, Protocol::ALL);
        if let Some(protocol) = &port.app_protocol {
            problems.name(&path.child("appProtocol"), NameRule::LabelKey, protocol);
        }
    }
}
