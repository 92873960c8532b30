//! Port groups: Pods whose Service ports resolve to the same numbers share slices.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_model::{EndpointPort, Port, Protocol, Sent, Service, ServicePort};

use super::facts::{Ports, TargetPort};

/// The ports of a slice, in a form in which equal sets compare equal whatever their order.
///
/// An absent name, protocol or number means what the API server fills in.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortsKey(Vec<PortFields>);

type PortFields = (SmolStr, Sent<Protocol>, Option<Port>, Option<SmolStr>);

impl PortsKey {
    pub(crate) fn of(ports: &[EndpointPort]) -> Self {
        let mut fields: Vec<PortFields> = ports
            .iter()
            .map(|port| {
                let protocol = match port.protocol() {
                    Some(known) => known.into(),
                    None => port.protocol.clone().unwrap_or_default(),
                };
                (port.name.clone().unwrap_or_default(), protocol, port.port, port.app_protocol.clone())
            })
            .collect();
        fields.sort_unstable();
        Self(fields)
    }
}

/// The Pod port behind each port of a Service, in order; `None` where a Pod has no container port of the
/// wanted name and protocol.
pub(crate) type Resolution = Vec<Option<Port>>;

/// Resolves the ports of a Service for its Pods.
#[derive(Debug)]
pub(crate) struct PortResolver<'a> {
    ports: &'a [ServicePort],
    by_name: bool,
}

impl<'a> PortResolver<'a> {
    pub(crate) fn of(service: &'a Service) -> Self {
        let ports = service.spec.ports.as_slice();
        Self { ports, by_name: ports.iter().any(|port| matches!(TargetPort::of(port), TargetPort::Name(_))) }
    }

    /// Whether the numbers depend on the Pod at all.
    pub(crate) fn depends_on_pod(&self) -> bool {
        self.by_name
    }

    pub(crate) fn resolve_into(&self, pod: Ports<'_>, resolution: &mut Resolution) {
        resolution.clear();
        resolution.extend(self.ports.iter().map(|port| match TargetPort::of(port) {
            TargetPort::Number(number) => Some(number),
            TargetPort::Name(name) => pod.find(name, port.protocol()),
        }));
    }

    /// The ports of a slice for Pods that resolve so: those that resolve at all. A Pod of which no port
    /// resolves is still published, in a slice without ports (kubernetes/ingress-nginx#9141).
    pub(crate) fn slice_ports(&self, resolution: &Resolution) -> Vec<EndpointPort> {
        let resolved = self.ports.iter().zip(resolution);
        resolved
            .filter_map(|(port, number)| {
                Some(EndpointPort {
                    name: Some(port.name.clone()),
                    protocol: Some(port.protocol().map_or_else(|| port.protocol.clone(), Into::into)),
                    port: Some((*number)?),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect()
    }

    /// The Service ports that do not resolve.
    pub(crate) fn unresolved(&self, resolution: &Resolution) -> impl Iterator<Item = &'a ServicePort> {
        self.ports.iter().zip(resolution).filter_map(|(port, number)| number.is_none().then_some(port))
    }
}

/// The port groups of a Service, in the order of their ports, with the Pods of each.
#[derive(Debug)]
pub(crate) struct Grouped {
    pub(crate) groups: BTreeMap<PortsKey, Group>,
}

/// Pods that share slices.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) ports: Vec<EndpointPort>,
    /// Indices into the list of Pods, ascending.
    pub(crate) pods: Vec<u32>,
}

/// Groups Pods (given as an iterator over the named ports of each that is to be published) by the numbers
/// that their ports resolve to.
pub(crate) fn group<'p>(service: &Service, pods: impl Iterator<Item = (u32, Ports<'p>)>) -> Grouped {
    let resolver = PortResolver::of(service);
    let mut by_resolution: BTreeMap<Resolution, Vec<u32>> = BTreeMap::new();
    let mut resolution = Resolution::new();
    if resolver.depends_on_pod() {
        for (index, ports) in pods {
            resolver.resolve_into(ports, &mut resolution);
            match by_resolution.get_mut(&resolution) {
                Some(members) => members.push(index),
                None => {
                    by_resolution.insert(resolution.clone(), alloc::vec![index]);
                }
            }
        }
    } else {
        resolver.resolve_into(Ports::Table(&[]), &mut resolution);
        let members: Vec<u32> = pods.map(|(index, _)| index).collect();
        if !members.is_empty() {
            by_resolution.insert(resolution, members);
        }
    }
    let mut groups: BTreeMap<PortsKey, Group> = BTreeMap::new();
    for (resolution, pods) in by_resolution {
        let ports = resolver.slice_ports(&resolution);
        match groups.entry(PortsKey::of(&ports)) {
            alloc::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Group { ports, pods });
            }
            alloc::collections::btree_map::Entry::Occupied(mut entry) => {
                let group = entry.get_mut();
                group.pods.extend(pods);
                group.pods.sort_unstable();
            }
        }
    }
    Grouped { groups }
}
