//! The canonical form of an Endpoints object's subsets.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_model::{EndpointAddress, EndpointSubset, Port, Protocol, Sent, SubsetPort};

/// What tells two addresses of an Endpoints object apart: the same IP address may be listed for several objects.
type AddressKey = (SmolStr, SmolStr);

/// A port in an order of its own (the reference orders ports by a hash), with the index of its subset where that
/// matters.
type PortKey = (SmolStr, Port, Sent<Protocol>, Option<SmolStr>, Option<usize>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    Ready,
    NotReady,
}

/// Brings subsets into their canonical form: every port with the set of addresses that serve it, and ports
/// with the same set together. An address that is listed as ready and as not ready for a port is not ready.
/// Ports, addresses and subsets come out sorted; the reference sorts the latter by a hash, so that only the
/// sets are comparable with it.
///
/// A subset without ports stands for every port, and comes out as one subset without ports. A port without a
/// number (0 or less) is dropped.
#[must_use]
pub fn repack_subsets(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    repack(subsets, AppProtocols::ByText)
}

/// When two ports that name an application protocol are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppProtocols {
    /// If all of their text is.
    ByText,
    /// Only within one subset. The reference compares pointers: those of ports that it has read from the API
    /// differ from subset to subset.
    BySubset,
}

fn repack(subsets: &[EndpointSubset], app_protocols: AppProtocols) -> Vec<EndpointSubset> {
    let mut addresses: BTreeMap<AddressKey, &EndpointAddress> = BTreeMap::new();
    // `None` is the absence of ports.
    let mut by_port: BTreeMap<Option<PortKey>, BTreeMap<AddressKey, Readiness>> = BTreeMap::new();
    for (index, subset) in subsets.iter().enumerate() {
        let key_of = |port: &SubsetPort| {
            let by_subset = app_protocols == AppProtocols::BySubset && port.app_protocol.is_some();
            let key = (
                port.name.clone(),
                port.port,
                port.protocol.clone(),
                port.app_protocol.clone(),
                by_subset.then_some(index),
            );
            (port.port.value() > 0).then_some(key)
        };
        let ready = subset.addresses.iter().map(|address| (address, Readiness::Ready));
        let not_ready = subset.not_ready_addresses.iter().map(|address| (address, Readiness::NotReady));
        let ports: Vec<Option<PortKey>> = match subset.ports.as_slice() {
            [] => alloc::vec![None],
            ports => ports.iter().map(key_of).collect(),
        };
        for (address, readiness) in ready.chain(not_ready) {
            let key = address_key(address);
            addresses.entry(key.clone()).or_insert(address);
            for port in &ports {
                let of_port = match by_port.get_mut(port) {
                    Some(of_port) => of_port,
                    None => by_port.entry(port.clone()).or_default(),
                };
                of_port
                    .entry(key.clone())
                    .and_modify(|known| *known = readiness.max(*known))
                    .or_insert(readiness);
            }
        }
    }
    let mut by_addresses: BTreeMap<Vec<(AddressKey, Readiness)>, Vec<Option<PortKey>>> = BTreeMap::new();
    for (port, of_port) in by_port {
        by_addresses.entry(of_port.into_iter().collect()).or_default().push(port);
    }
    let by_ports: BTreeMap<_, _> =
        by_addresses.into_iter().map(|(addresses, ports)| (ports, addresses)).collect();
    by_ports
        .into_iter()
        .map(|(ports, keys)| {
            let pick = |wanted: Readiness| -> Vec<EndpointAddress> {
                keys.iter()
                    .filter(|(_, readiness)| *readiness == wanted)
                    .filter_map(|(key, _)| addresses.get(key).copied().cloned())
                    .collect()
            };
            EndpointSubset {
                addresses: pick(Readiness::Ready),
                not_ready_addresses: pick(Readiness::NotReady),
                ports: ports.into_iter().flatten().map(port_of_key).collect(),
            }
        })
        .collect()
}

fn address_key(address: &EndpointAddress) -> AddressKey {
    let uid = address.target_ref.as_ref().map(|target| target.uid.clone()).unwrap_or_default();
    (address.ip.to_text(), uid)
}

fn port_of_key((name, port, protocol, app_protocol, _): PortKey) -> SubsetPort {
    SubsetPort { name, port, protocol, app_protocol }
}

/// Whether the subsets of an object need no update to be `wanted`, which is in canonical form: they are the same,
/// or become so by repacking.
///
/// Resource versions of targets don't count. Only where repacking merges subsets do they, as they shift the
/// reference's order by hash.
pub(crate) fn is_up_to_date(current: &[EndpointSubset], wanted: &[EndpointSubset]) -> bool {
    let as_it_stands: Vec<EndpointSubset> = current.iter().map(sorted).collect();
    if without_versions(as_it_stands) == without_versions(wanted.to_vec()) {
        return true;
    }
    let repacked = repack(current, AppProtocols::BySubset);
    let repacked = if repacked.len() == 1 { without_versions(repacked) } else { in_order(repacked) };
    repacked == in_order(wanted.to_vec())
}

fn sorted(subset: &EndpointSubset) -> EndpointSubset {
    let mut subset = subset.clone();
    subset.addresses.sort_by_cached_key(address_key);
    subset.not_ready_addresses.sort_by_cached_key(address_key);
    subset.ports.sort_by_cached_key(|port| {
        (port.name.clone(), port.port, port.protocol.clone(), port.app_protocol.clone())
    });
    subset
}

fn without_versions(mut subsets: Vec<EndpointSubset>) -> Vec<EndpointSubset> {
    for subset in &mut subsets {
        for address in subset.addresses.iter_mut().chain(&mut subset.not_ready_addresses) {
            if let Some(target) = &mut address.target_ref {
                target.resource_version = SmolStr::default();
            }
        }
    }
    in_order(subsets)
}

/// Sorted by ports, and by addresses where ports are the same.
fn in_order(mut subsets: Vec<EndpointSubset>) -> Vec<EndpointSubset> {
    subsets.sort_by_cached_key(|subset| {
        let ports: Vec<_> = subset
            .ports
            .iter()
            .map(|port| (port.name.clone(), port.port, port.protocol.clone(), port.app_protocol.clone()))
            .collect();
        let addresses: Vec<_> = subset.addresses.iter().map(address_key).collect();
        let not_ready: Vec<_> = subset.not_ready_addresses.iter().map(address_key).collect();
        (ports, addresses, not_ready)
    });
    subsets
}
