//! Which UDP flows to forget after endpoints changed.
//!
//! The kernel rewrites a flow by the decision it took at the first packet. A UDP client that keeps sending from one
//! port never starts a new flow, so it would go on sending to an endpoint that is gone. TCP needs no such help: its
//! connections end.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;
use core::num::NonZeroU16;

use svc_endpoints::view::PortEndpoints;
use svc_model::Protocol;

use super::ServicePort;

/// Where a client sends its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// A cluster, external or load balancer address.
    Address(IpAddr, u16),
    /// A node port, at any address.
    NodePort(NonZeroU16),
}

/// A UDP flow as the kernel's connection tracking lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Destination of the packets as the client sent them.
    pub original_destination: IpAddr,
    /// Port of that destination.
    pub original_port: u16,
    /// Source of the answers: the endpoint that was chosen.
    pub reply_source: IpAddr,
}

/// The UDP frontends that are served, and by which addresses: every flow to one of them that another address
/// answers is to be forgotten.
///
/// As in the reference, any endpoint that serves counts, whether or not policies or topology let this node choose it,
/// and a frontend that nothing serves keeps its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConntrackCleanup {
    frontends: BTreeMap<Frontend, BTreeSet<IpAddr>>,
}

impl ConntrackCleanup {
    /// Whether no flow has to be forgotten, so that the kernel's list need not be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }

    /// The frontends with the addresses that may answer for them, in order.
    pub fn frontends(&self) -> impl Iterator<Item = (Frontend, &BTreeSet<IpAddr>)> {
        self.frontends.iter().map(|(frontend, serving)| (*frontend, serving))
    }

    /// Whether `flow` (of UDP) is to be forgotten. A frontend address is looked up before the node ports.
    #[must_use]
    pub fn forgets(&self, flow: &Flow) -> bool {
        let address = Frontend::Address(flow.original_destination, flow.original_port);
        let node_port = NonZeroU16::new(flow.original_port).map(Frontend::NodePort);
        let serving = self.frontends.get(&address).or_else(|| self.frontends.get(&node_port?));
        serving.is_some_and(|serving| !serving.contains(&flow.reply_source))
    }

    /// Adds the frontends of a port, if it is one of UDP and any of its endpoints serves.
    pub(crate) fn add(&mut self, service: &ServicePort, endpoints: Option<&PortEndpoints>) {
        if service.protocol != Protocol::Udp {
            return;
        }
        let endpoints = endpoints.into_iter().flat_map(PortEndpoints::iter);
        let serving: BTreeSet<_> =
            endpoints.filter(|endpoint| endpoint.state().serving).map(|endpoint| endpoint.ip()).collect();
        if serving.is_empty() {
            return;
        }
        let ips = service.external_ips.iter().chain(&service.load_balancer_ips).chain([&service.cluster_ip]);
        let addresses = ips.map(|ip| Frontend::Address(*ip, service.port));
        for frontend in addresses.chain(service.node_port.map(Frontend::NodePort)) {
            self.frontends.insert(frontend, serving.clone());
        }
    }
}
