//! What one Service adds: virtual servers, entries of sets, addresses of the dummy device.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use svc_endpoints::view::{Policy, PortEndpoints};
use svc_model::{IpFamily, Protocol};

use super::set::Set;
use crate::config::{NodePortAddresses, ProxyConfig};
use crate::ipset::Entry;
use crate::ipvsadm::VirtualAddress;
use crate::packet::Transport;
use crate::plan::{PortPlan, ServicePort};

/// The node's addresses, as far as IPVS mode looks at them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeAddresses {
    /// Those at which node ports are open.
    node_ports: Vec<IpAddr>,
    /// Those that must not be bound to the dummy device as well, sorted.
    taken: Vec<IpAddr>,
    /// The node's primary address.
    primary: Option<IpAddr>,
}

impl NodeAddresses {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let of_family = config.node_addresses.iter().copied().filter(|ip| IpFamily::of(*ip) == config.family);
        let mut all: Vec<IpAddr> = of_family.filter(|ip| !ip.is_loopback()).collect();
        all.sort_unstable();
        all.dedup();
        let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let taken: Vec<_> = all.iter().copied().filter(|ip| !link_local(ip)).collect();
        let node_ports = match &config.node_port_addresses {
            NodePortAddresses::All => taken.clone(),
            NodePortAddresses::Within(nets) => {
                all.into_iter().filter(|ip| nets.iter().any(|net| net.contains(ip))).collect()
            }
        };
        let primary = config.node_ip.filter(|ip| IpFamily::of(*ip) == config.family);
        Self { node_ports, taken, primary }
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.taken.binary_search(&ip).is_ok()
    }
}

/// A virtual server as one Service port wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) owner: Arc<ServicePort>,
    /// Seconds for which clients are held to a server.
    pub(super) affinity: Option<u32>,
    /// In order of address and port.
    pub(super) servers: Arc<[SocketAddr]>,
}

/// A frontend that the node itself may not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Closed {
    pub(super) ip: IpAddr,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// The contribution of one Service. The parts of different Services may overlap in everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// At most one for each address.
    pub(super) servers: Vec<(VirtualAddress, Claim)>,
    pub(super) entries: Vec<(Set, Entry)>,
    pub(super) bound: Vec<IpAddr>,
    pub(super) closed: Vec<Closed>,
}

impl Part {
    pub(super) fn add(
        &mut self,
        plan: &PortPlan,
        listed: Option<&PortEndpoints>,
        node: &NodeAddresses,
        name: &str,
    ) {
        let service = &*plan.service;
        for endpoint in listed.into_iter().flat_map(PortEndpoints::iter) {
            if endpoint.info().is_on(name) {
                let (ip, port) = (endpoint.ip(), endpoint.port());
                self.entry(Set::LoopBack, ip, service.protocol, port, Some(IpNet::from(ip)));
            }
        }
        let affinity = service.affinity.map(persistence);
        let claim =
            |policy| Claim { owner: Arc::clone(&plan.service), affinity, servers: servers(plan, policy) };

        let internal = claim(service.policy.internal);
        self.address(Set::ClusterIp, service, service.cluster_ip, &internal, Device::Bind);
        let external = claim(service.policy.external);
        let local = service.policy.external == Policy::Local;
        let device = |ip| if node.has(ip) { Device::Leave } else { Device::Bind };
        for ip in service.external_ips.iter().copied() {
            let set = if local { Set::ExternalIpLocal } else { Set::ExternalIp };
            self.address(set, service, ip, &external, device(ip));
        }
        for ip in service.load_balancer_ips.iter().copied() {
            self.address(Set::LoadBalancer, service, ip, &external, device(ip));
            if local {
                self.entry(Set::LoadBalancerLocal, ip, service.protocol, service.port, None);
            }
            self.firewall(service, ip, node);
        }
        // As in the reference, a node without an address for node ports does not open its health checks either.
        if service.node_port.is_some() && node.node_ports.is_empty() {
            return;
        }
        if let Some(port) = service.node_port {
            self.node_port(service, port.get(), &external, local, node);
        }
        if let Some(port) = service.health_check_node_port {
            self.entries.push((Set::HealthCheckNodePort, bare_port(port.get())));
        }
    }

    /// A frontend at an address of its own.
    fn address(&mut self, set: Set, service: &ServicePort, ip: IpAddr, claim: &Claim, device: Device) {
        // Neither a device nor a set takes it; no API server lets it through.
        if ip.is_unspecified() {
            return;
        }
        self.entry(set, ip, service.protocol, service.port, None);
        self.server(ip, service.protocol, service.port, claim);
        if device == Device::Bind && !self.bound.contains(&ip) {
            self.bound.push(ip);
            let entry = Entry { address: Some(IpNet::from(ip)), port: None, second: None };
            self.entries.push((Set::IpvsIps, entry));
        }
    }

    fn firewall(&mut self, service: &ServicePort, ip: IpAddr, node: &NodeAddresses) {
        if service.source_ranges.is_empty() || ip.is_unspecified() {
            return;
        }
        let (protocol, port) = (service.protocol, service.port);
        self.entry(Set::LoadBalancerFirewall, ip, protocol, port, None);
        for range in service.source_ranges.iter() {
            self.entry(Set::LoadBalancerSourceCidr, ip, protocol, port, Some(*range));
        }
        // What the node sends to an address of its dummy device comes from that same address.
        if node.primary.is_some_and(|ip| service.source_ranges.iter().any(|range| range.contains(&ip))) {
            self.entry(Set::LoadBalancerSourceIp, ip, protocol, port, Some(IpNet::from(ip)));
        } else {
            self.closed.push(Closed { ip, protocol, port });
        }
    }

    fn node_port(
        &mut self,
        service: &ServicePort,
        port: u16,
        claim: &Claim,
        local: bool,
        node: &NodeAddresses,
    ) {
        let (all, under_local) = Set::of_node_ports(service.protocol);
        for set in [Some(all), local.then_some(under_local)].into_iter().flatten() {
            if service.protocol == Protocol::Sctp {
                for ip in &node.node_ports {
                    self.entry(set, *ip, service.protocol, port, None);
                }
            } else {
                self.entries.push((set, bare_port(port)));
            }
        }
        for ip in &node.node_ports {
            self.server(*ip, service.protocol, port, claim);
        }
    }

    fn entry(&mut self, set: Set, ip: IpAddr, protocol: Protocol, port: u16, second: Option<IpNet>) {
        let port = Some((Some(transport(protocol)), port));
        self.entries.push((set, Entry { address: Some(IpNet::from(ip)), port, second }));
    }

    /// If two ports of the Service ask for the same virtual server, the first gets it.
    fn server(&mut self, ip: IpAddr, protocol: Protocol, port: u16, claim: &Claim) {
        let address = VirtualAddress::Socket { transport: transport(protocol), address: ip, port };
        if !self.servers.iter().any(|(known, _)| *known == address) {
            self.servers.push((address, claim.clone()));
        }
    }
}

/// Whether an address goes to the dummy device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Bind,
    Leave,
}

fn bare_port(port: u16) -> Entry {
    Entry { address: None, port: Some((None, port)), second: None }
}

pub(super) const fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::TCP,
        Protocol::Udp => Transport::UDP,
        Protocol::Sctp => Transport::SCTP,
    }
}

/// ipvsadm refuses 0 and more than a year (`MAX_TIMEOUT`); the API server lets only 1 to 86400 through.
fn persistence(seconds: u32) -> u32 {
    seconds.clamp(1, 31_536_000)
}

/// The endpoints of a policy. Unlike the other modes, `Local` falls back to those of `Cluster` where this node has none,
/// so that Pods of the node are served (kubernetes#97081).
fn servers(plan: &PortPlan, policy: Policy) -> Arc<[SocketAddr]> {
    let policy = if plan.uses(policy) { policy } else { Policy::Cluster };
    let mut servers: Vec<_> =
        plan.under(policy).map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port)).collect();
    servers.sort_unstable();
    servers.into()
}
