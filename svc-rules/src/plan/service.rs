//! Reading the ports off a Service.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_endpoints::view::PortPolicy;
use svc_model::{IpFamily, LoadBalancerIpMode, Scalar, Sent, Service, ServiceType};

use super::{ServicePort, ServicePortName};

/// Why a Service, or a part of it, leads to no rules in a family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skipped {
    /// The Service is a DNS alias.
    ExternalName,
    /// The Service wants no cluster address (`clusterIP: None`), or has none yet.
    NoClusterIp,
    /// The Service has a cluster address, but none of this family.
    OtherFamily,
    /// The port at this index has no number from 1 to 65535.
    PortNumber(usize),
    /// The port at this index has a protocol other than TCP, UDP and SCTP.
    Protocol(usize, SmolStr),
    /// A later port with the same name and protocol takes the place of the port at this index.
    Duplicate(usize),
    /// This external address does not parse.
    ExternalIp(SmolStr),
    /// This source range does not parse.
    SourceRange(SmolStr),
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExternalName => f.write_str("spec.type: an ExternalName Service has no address"),
            Self::NoClusterIp => f.write_str("spec.clusterIP: no address"),
            Self::OtherFamily => f.write_str("spec.clusterIPs: no address of this family"),
            Self::PortNumber(index) => write!(f, "spec.ports[{index}].port: no number from 1 to 65535"),
            Self::Protocol(index, text) => write!(f, "spec.ports[{index}].protocol: unknown `{text}`"),
            Self::Duplicate(index) => {
                write!(f, "spec.ports[{index}]: a later port has the same name and protocol")
            }
            Self::ExternalIp(text) => write!(f, "spec.externalIPs: `{text}` is no IP address"),
            Self::SourceRange(text) => write!(f, "spec.loadBalancerSourceRanges: `{text}` is no range"),
        }
    }
}

/// The ports of a Service in one family, sorted by name and protocol, and what was left out.
///
/// Addresses are read as leniently as Kubernetes reads them from stored objects (leading zeros count as decimal) and
/// kept in canonical form; those of the other family are left out silently.
#[must_use]
pub fn service_ports(service: &Service, family: IpFamily) -> (Vec<ServicePort>, Vec<Skipped>) {
    let spec = &service.spec;
    let none = |why| (Vec::new(), Vec::from([why]));
    if spec.service_type() == ServiceType::ExternalName {
        return none(Skipped::ExternalName);
    }
    if spec.is_headless() || spec.cluster_addresses().next().is_none() {
        return none(Skipped::NoClusterIp);
    }
    let Some(cluster_ip) = spec.cluster_address(family) else {
        return none(Skipped::OtherFamily);
    };
    let mut skipped = Vec::new();
    let external_ips: Box<[_]> = spec
        .external_ips
        .iter()
        .filter_map(|sent| match sent.get() {
            Some(ip) => (IpFamily::of(ip) == family).then_some(ip),
            None => {
                skipped.push(Skipped::ExternalIp(sent.to_text()));
                None
            }
        })
        .collect();
    let load_balancer_ips = load_balancer_ips(service, family);
    let source_ranges = source_ranges(&spec.load_balancer_source_ranges, family, &mut skipped);
    let affinity = spec.client_ip_affinity().map(|seconds| u32::try_from(seconds).unwrap_or(0));
    let local_outside = spec.external_policy_local() && spec.is_externally_accessible();
    let health_check = (spec.service_type() == ServiceType::LoadBalancer && local_outside)
        .then(|| spec.health_check_node_port.number())
        .flatten();

    let mut ports: Vec<(usize, ServicePort)> = Vec::with_capacity(spec.ports.len());
    for (index, port) in spec.ports.iter().enumerate() {
        let Some(number) = port.port.number() else {
            skipped.push(Skipped::PortNumber(index));
            continue;
        };
        let Some(protocol) = port.protocol() else {
            skipped.push(Skipped::Protocol(index, port.protocol.to_text()));
            continue;
        };
        let plan = ServicePort {
            name: ServicePortName::new(&service.metadata.namespace, &service.metadata.name, &port.name),
            protocol,
            cluster_ip,
            port: number.get(),
            node_port: port.node_port.number(),
            external_ips: external_ips.clone(),
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: source_ranges.clone(),
            policy: PortPolicy::of(service, port, family),
            affinity,
            health_check_node_port: health_check,
        };
        match ports.iter_mut().find(|(_, known)| known.name == plan.name && known.protocol == protocol) {
            Some(known) => {
                skipped.push(Skipped::Duplicate(known.0));
                *known = (index, plan);
            }
            None => ports.push((index, plan)),
        }
    }
    ports.sort_by(|(_, a), (_, b)| (&a.name, a.protocol).cmp(&(&b.name, b.protocol)));
    (ports.into_iter().map(|(_, port)| port).collect(), skipped)
}

fn load_balancer_ips(service: &Service, family: IpFamily) -> Box<[IpAddr]> {
    let ingress = service.status.load_balancer.ingress.iter();
    let handled = ingress.filter(|ingress| {
        ingress.ip_mode.as_ref().and_then(Sent::get).is_none_or(|mode| mode == LoadBalancerIpMode::Vip)
    });
    handled.filter_map(|ingress| ingress.ip.get()).filter(|ip| IpFamily::of(*ip) == family).collect()
}

/// A range that covers the whole family lifts every restriction, so it leaves none.
fn source_ranges(sent: &[Sent<IpNet>], family: IpFamily, skipped: &mut Vec<Skipped>) -> Box<[IpNet]> {
    let mut ranges = Vec::with_capacity(sent.len());
    for sent in sent {
        let text = sent.to_text();
        match IpNet::read(text.trim()) {
            Some(range) if IpFamily::of(range.addr()) != family => {}
            Some(range) if range.prefix_len() == 0 => return Box::default(),
            Some(range) => ranges.push(range.trunc()),
            None => skipped.push(Skipped::SourceRange(text)),
        }
    }
    ranges.into_boxed_slice()
}
