//! A Service or ServiceImport as names see it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use smol_str::SmolStr;
use svc_model::{Sent, Service, ServiceImport, ServiceImportType, ServiceType};

use super::endpoints::{Endpoints, Port, Proto};
use crate::name::Name;

/// What the object says; none while only slices are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    pub(crate) kind: FaceKind,
    /// The addresses of a Service that has its own.
    pub(crate) addrs: Box<[IpAddr]>,
    /// The first cluster IP, or the external name, where it is text and no address.
    pub(crate) text: Option<Alias>,
    pub(crate) ports: Box<[Port]>,
    /// Addresses outside the cluster, `externalIPs` before those of the load balancer.
    pub(crate) outside: Box<[Outside]>,
}

/// How a Service is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaceKind {
    /// By its own addresses.
    Address,
    /// By its endpoints.
    Headless,
    /// By another name.
    Alias,
}

/// A text that stands where an address could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Alias {
    /// It is a domain name.
    Name(Name),
    /// It looks like an address, so CoreDNS makes no record of it.
    Address,
    /// It is no name that the wire can carry.
    Invalid,
}

/// Where a Service is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outside {
    Addr(IpAddr),
    Host(Name),
}

impl Alias {
    fn new(text: &str) -> Self {
        if text.parse::<IpAddr>().is_ok() {
            return Self::Address;
        }
        text.parse().map_or(Self::Invalid, Self::Name)
    }
}

impl Face {
    pub(crate) fn of_service(service: &Service) -> Self {
        let spec = &service.spec;
        let singular = core::slice::from_ref(&spec.cluster_ip);
        let ips = if spec.cluster_ips.is_empty() { singular } else { &spec.cluster_ips };
        let first = ips.first();
        let ports: Box<[Port]> = if spec.ports.is_empty() {
            Box::new([Port::PORTLESS])
        } else {
            let port = |port: &svc_model::ServicePort| Port {
                name: port.name.clone(),
                protocol: Proto::of(&port.protocol),
                number: u16::try_from(port.port.value()).ok(),
            };
            spec.ports.iter().map(port).collect()
        };
        let kind = if spec.service_type() == ServiceType::ExternalName {
            FaceKind::Alias
        } else if first.is_some_and(|ip| matches!(ip, Sent::Text(text) if text == "None")) {
            FaceKind::Headless
        } else {
            FaceKind::Address
        };
        let text = match kind {
            FaceKind::Alias => Some(Alias::new(&spec.external_name)),
            FaceKind::Headless => None,
            FaceKind::Address => first.filter(|ip| ip.get().is_none()).map(|ip| Alias::new(&ip.to_text())),
        };
        let addrs = if kind == FaceKind::Address { addresses(ips) } else { Box::default() };
        let ingress =
            service.status.load_balancer.ingress.iter().filter_map(|ingress| match ingress.ip.get() {
                Some(addr) => Some(Outside::Addr(addr)),
                None => ingress.hostname.parse().ok().map(Outside::Host),
            });
        let outside =
            spec.external_ips.iter().filter_map(Sent::get).map(Outside::Addr).chain(ingress).collect();
        Self { kind, addrs, text, ports, outside }
    }

    pub(crate) fn of_import(import: &ServiceImport) -> Self {
        let spec = &import.spec;
        let port = |port: &svc_model::ServiceImportPort| Port {
            name: port.name.clone(),
            protocol: Proto::of(&port.protocol),
            number: u16::try_from(port.port.value()).ok(),
        };
        let headless = spec.import_type.get() == Some(ServiceImportType::Headless);
        Self {
            kind: if headless { FaceKind::Headless } else { FaceKind::Address },
            addrs: addresses(&spec.ips),
            text: None,
            // Unlike a Service, an import without ports has no row that stands in for them: CoreDNS does not find it.
            ports: spec.ports.iter().map(port).collect(),
            outside: Box::default(),
        }
    }
}

fn addresses(sent: &[Sent<IpAddr>]) -> Box<[IpAddr]> {
    let mut addrs: Vec<IpAddr> = Vec::with_capacity(sent.len());
    for addr in sent.iter().filter_map(Sent::get) {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    addrs.into()
}

/// Whether an object is there and looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// There is no object; slices may be.
    None,
    /// The object's labels are not selected.
    Unselected,
    /// The object.
    Some(Box<Face>),
}

/// All that is known under one Service name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The Service's and the namespace's labels in wire form, as sent.
    pub(crate) key: Box<[u8]>,
    pub(crate) namespace: u32,
    pub(crate) presence: Presence,
    pub(crate) endpoints: Endpoints,
    /// Slices of this Service whose labels are not selected.
    pub(crate) unselected: Vec<SmolStr>,
}

impl Entry {
    pub(crate) fn face(&self) -> Option<&Face> {
        match &self.presence {
            Presence::Some(face) => Some(face),
            _ => None,
        }
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.presence == Presence::None && self.endpoints.is_empty() && self.unselected.is_empty()
    }

    /// Orders by namespace, then name.
    pub(crate) fn cmp_name(&self, other: &Self) -> core::cmp::Ordering {
        (self.namespace_name(), self.name()).cmp(&(other.namespace_name(), other.name()))
    }

    /// The Service's name.
    pub(crate) fn name(&self) -> &str {
        let label = crate::name::Labels(&self.key).next().unwrap_or_default();
        core::str::from_utf8(label).unwrap_or_default()
    }

    /// The namespace's name.
    pub(crate) fn namespace_name(&self) -> &str {
        let label = crate::name::Labels(&self.key).nth(1).unwrap_or_default();
        core::str::from_utf8(label).unwrap_or_default()
    }
}
