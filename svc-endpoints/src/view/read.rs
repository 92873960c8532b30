//! What a reader takes from one EndpointSlice, and what it must ignore.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::num::NonZeroU16;

use smol_str::SmolStr;
use svc_model::{AddressType, EndpointSlice, IpFamily, ObjectRef, Port, Protocol};

use super::endpoint::{EndpointInfo, State};

/// The useful content of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceContent {
    pub(crate) service: ObjectRef,
    pub(crate) family: IpFamily,
    pub(crate) ports: Vec<PortContent>,
    /// One entry for each endpoint of the slice, in order; `None` if it is ignored.
    pub(crate) endpoints: Vec<Option<Arc<EndpointInfo>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortContent {
    pub(crate) name: SmolStr,
    pub(crate) protocol: Protocol,
    pub(crate) number: NonZeroU16,
}

/// Something in an EndpointSlice that no view can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The slice.
    pub slice: ObjectRef,
    /// What it holds.
    pub what: IgnoredPart,
}

/// The part of an EndpointSlice that is ignored, and why. kube-proxy ignores each of these, and only logs it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IgnoredPart {
    /// The whole slice: no label `kubernetes.io/service-name` ties it to a Service.
    NoService,
    /// The whole slice: its addresses are not IPv4 or IPv6 ones.
    AddressType(SmolStr),
    /// The port at this index: it has no name (an empty one would do).
    UnnamedPort(usize),
    /// The port at this index: it has no number from 1 to 65535. The API means "all ports" by none.
    PortNumber(usize),
    /// The port at this index: its protocol is unknown.
    PortProtocol(usize),
    /// The endpoint at this index: it has no address.
    NoAddress(usize),
    /// The endpoint at this index: its first address does not parse.
    Address(usize, SmolStr),
    /// The endpoint at this index: its first address is not of the slice's family.
    Family(usize, IpAddr),
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointSlice {}: ", self.slice)?;
        match &self.what {
            IgnoredPart::NoService => f.write_str("no label kubernetes.io/service-name"),
            IgnoredPart::AddressType(kind) => write!(f, "addressType `{kind}`"),
            IgnoredPart::UnnamedPort(index) => write!(f, "ports[{index}] has no name"),
            IgnoredPart::PortNumber(index) => write!(f, "ports[{index}] has no number from 1 to 65535"),
            IgnoredPart::PortProtocol(index) => write!(f, "ports[{index}] has an unknown protocol"),
            IgnoredPart::NoAddress(index) => write!(f, "endpoints[{index}] has no address"),
            IgnoredPart::Address(index, text) => write!(f, "endpoints[{index}]: `{text}` is no IP address"),
            IgnoredPart::Family(index, ip) => write!(f, "endpoints[{index}]: {ip} is of the other family"),
        }
    }
}

impl SliceContent {
    /// Reads a slice. Endpoints that are as in `old` (the content that the slice had before) are taken from
    /// it, so that what did not change stays the same allocation.
    pub(crate) fn read(slice: &EndpointSlice, old: Option<&Self>) -> (Option<Self>, Vec<Ignored>) {
        let mut ignored = Vec::new();
        let mut ignore = |what| ignored.push(Ignored { slice: slice.metadata.object_ref(), what });
        let Some(service) = slice.service_name() else {
            ignore(IgnoredPart::NoService);
            return (None, ignored);
        };
        let family = match slice.address_type.get() {
            Some(AddressType::Ipv4) => IpFamily::Ipv4,
            Some(AddressType::Ipv6) => IpFamily::Ipv6,
            Some(AddressType::Fqdn) | None => {
                ignore(IgnoredPart::AddressType(slice.address_type.to_text()));
                return (None, ignored);
            }
        };
        let mut ports: Vec<PortContent> = Vec::with_capacity(slice.ports.len());
        for (index, port) in slice.ports.iter().enumerate() {
            let content = match (&port.name, port.port.and_then(Port::number), port.protocol()) {
                (None, ..) => Err(IgnoredPart::UnnamedPort(index)),
                (_, None, _) => Err(IgnoredPart::PortNumber(index)),
                (.., None) => Err(IgnoredPart::PortProtocol(index)),
                (Some(name), Some(number), Some(protocol)) => {
                    Ok(PortContent { name: name.clone(), protocol, number })
                }
            };
            match content {
                Ok(port) if ports.contains(&port) => {}
                Ok(port) => ports.push(port),
                Err(what) => ignore(what),
            }
        }
        let mut endpoints = Vec::with_capacity(slice.endpoints.len());
        for (index, endpoint) in slice.endpoints.iter().enumerate() {
            let ip = match endpoint.addresses.first() {
                None => Err(IgnoredPart::NoAddress(index)),
                Some(sent) => match sent.get() {
                    None => Err(IgnoredPart::Address(index, sent.to_text())),
                    Some(ip) if IpFamily::of(ip) != family => Err(IgnoredPart::Family(index, ip)),
                    Some(ip) => Ok(ip),
                },
            };
            let same = old.and_then(|old| old.endpoints.get(index)?.as_ref());
            endpoints.push(match (ip, same) {
                (Err(what), _) => {
                    ignore(what);
                    None
                }
                (Ok(ip), Some(same)) if same.reads(ip, endpoint) => Some(Arc::clone(same)),
                (Ok(ip), _) => Some(Arc::new(EndpointInfo::read(ip, endpoint))),
            });
        }
        let service = ObjectRef::new(slice.metadata.namespace.clone(), service);
        (Some(Self { service, family, ports, endpoints }), ignored)
    }

    /// Whether both contents fall under the same ports of the same Service.
    pub(crate) fn has_ports_of(&self, other: &Self) -> bool {
        self.service == other.service && self.family == other.family && self.ports == other.ports
    }

    /// The endpoint at a position of the slice, unless it is ignored.
    pub(crate) fn at(&self, position: u32) -> Option<&Arc<EndpointInfo>> {
        self.endpoints.get(usize::try_from(position).ok()?)?.as_ref()
    }

    /// The endpoints with their positions in the slice.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (u32, &Arc<EndpointInfo>)> {
        (0..).zip(&self.endpoints).filter_map(|(position, info)| Some((position, info.as_ref()?)))
    }
}

impl EndpointInfo {
    fn read(ip: IpAddr, endpoint: &svc_model::Endpoint) -> Self {
        let hints = endpoint.hints.as_ref();
        Self {
            ip,
            state: State::read(endpoint),
            hostname: endpoint.hostname.clone(),
            node: endpoint.node_name.clone(),
            zone: endpoint.zone.clone(),
            target: endpoint
                .target_ref
                .as_ref()
                .map(|target| ObjectRef { namespace: target.namespace.clone(), name: target.name.clone() }),
            zone_hints: hints.map_or_else(Box::default, |hints| {
                hints.for_zones.iter().map(|zone| zone.name.clone()).collect()
            }),
            node_hints: hints.map_or_else(Box::default, |hints| {
                hints.for_nodes.iter().map(|node| node.name.clone()).collect()
            }),
        }
    }

    /// Whether reading `endpoint` would give this again; without building anything.
    fn reads(&self, ip: IpAddr, endpoint: &svc_model::Endpoint) -> bool {
        let (zones, nodes) = match &endpoint.hints {
            Some(hints) => (hints.for_zones.as_slice(), hints.for_nodes.as_slice()),
            None => Default::default(),
        };
        self.ip == ip
            && self.state == State::read(endpoint)
            && self.hostname == endpoint.hostname
            && self.node == endpoint.node_name
            && self.zone == endpoint.zone
            && match (&self.target, &endpoint.target_ref) {
                (None, None) => true,
                (Some(known), Some(target)) => {
                    known.name == target.name && known.namespace == target.namespace
                }
                _ => false,
            }
            && self.zone_hints.iter().eq(zones.iter().map(|zone| &zone.name))
            && self.node_hints.iter().eq(nodes.iter().map(|node| &node.name))
    }
}

impl State {
    /// kube-proxy takes a missing `serving` for true, whatever `ready` says.
    fn read(endpoint: &svc_model::Endpoint) -> Self {
        let conditions = &endpoint.conditions;
        Self {
            ready: conditions.is_ready(),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.is_terminating(),
        }
    }
}
