//! Whose an address, port or endpoint is.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use smol_str::SmolStr;
use svc_endpoints::view::SliceCache;
use svc_model::Service;

use crate::config::ProxyConfig;
use crate::packet::Transport;
use crate::plan::{PortPlan, port_plans};
use crate::probe::transport;

/// An address, protocol and port number.
type Socket = (IpAddr, u8, u16);

/// The names of Service ports by what leads to them.
#[derive(Default)]
pub(super) struct Owners {
    sockets: BTreeMap<Socket, SmolStr>,
    node_ports: BTreeMap<(u16, u8), SmolStr>,
    addresses: BTreeMap<IpAddr, SmolStr>,
    endpoints: BTreeMap<Socket, SmolStr>,
}

impl Owners {
    pub(super) fn new(config: &ProxyConfig, services: &[&Service], slices: &SliceCache) -> Self {
        let mut owners = Self::default();
        for plan in services.iter().flat_map(|service| port_plans(config, service, slices)) {
            owners.add(&plan);
        }
        owners
    }

    fn add(&mut self, plan: &PortPlan) {
        let service = &plan.service;
        let name = || SmolStr::from(service.name.as_str());
        let protocol = transport(service.protocol).0;
        let external = service.external_ips.iter().chain(&service.load_balancer_ips);
        for ip in external.chain([&service.cluster_ip]).copied() {
            self.sockets.entry((ip, protocol, service.port)).or_insert_with(name);
            self.addresses.entry(ip).or_insert_with(name);
        }
        if let Some(port) = service.node_port {
            self.node_ports.entry((port.get(), protocol)).or_insert_with(name);
        }
        for endpoint in &plan.endpoints {
            self.endpoints.entry((endpoint.ip, protocol, endpoint.port)).or_insert_with(name);
        }
    }

    /// The port at an address.
    pub(super) fn of_socket(&self, ip: IpAddr, transport: Transport, port: u16) -> Option<SmolStr> {
        self.sockets.get(&(ip, transport.0, port)).cloned()
    }

    /// The port at the node's addresses.
    pub(super) fn of_node_port(&self, transport: Transport, port: u16) -> Option<SmolStr> {
        self.node_ports.get(&(port, transport.0)).cloned()
    }

    /// A port at the node's addresses, of any protocol.
    pub(super) fn of_any_node_port(&self, port: u16) -> Option<SmolStr> {
        self.node_ports.range((port, 0)..=(port, u8::MAX)).next().map(|(_, name)| name.clone())
    }

    /// A port at an address.
    pub(super) fn of_address(&self, ip: IpAddr) -> Option<SmolStr> {
        self.addresses.get(&ip).cloned()
    }

    /// A port with this endpoint.
    pub(super) fn of_endpoint(&self, ip: IpAddr, transport: Transport, port: u16) -> Option<SmolStr> {
        self.endpoints.get(&(ip, transport.0, port)).cloned()
    }
}
