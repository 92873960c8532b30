//! A systematic set of packets for a Service: from everyone who may connect, to everything that leads to it.
//!
//! Two sets of rules that treat all of them alike treat the Service alike. [`Surroundings`] makes up a node's network
//! from its proxy's configuration: an interface to the outside with the node's addresses, one to its Pods, and clients
//! inside and outside.
//!
//! ```
//! use svc_endpoints::view::SliceCache;
//! use svc_model::{IpFamily, Service};
//! use svc_rules::plan::port_plans;
//! use svc_rules::probe::{Fate, Surroundings};
//! use svc_rules::{Scheme, NodeRules, ProxyConfig};
//!
//! let service: Service = serde_json::from_value(serde_json::json!({
//!     "metadata": {"namespace": "shop", "name": "cart"},
//!     "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}
//! }))?;
//! let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
//! let slices = SliceCache::new();
//! let surroundings = Surroundings::new(&config, port_plans(&config, &service, &slices));
//! let rules = NodeRules::new(Scheme::Nftables, &config, [&service], &slices);
//! let host = rules.host(surroundings.host().clone());
//! for probe in surroundings.probes() {
//!     let answer = surroundings.ask(rules.kernel(), &host, &probe);
//!     assert_eq!(answer.certain(), Some(Fate::Rejected), "{probe}");
//! }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod answer;

pub use answer::{Answer, Fate, SourceAddress};

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_model::{IpFamily, Protocol};

use crate::config::{LocalDetector, ProxyConfig};
use crate::host::Host;
use crate::packet::{Packet, Transport, is_loopback};
use crate::plan::PortPlan;
use crate::walk::Kernel;

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// A Pod of the node that serves nothing.
    Pod,
    /// The first endpoint of the port on this node.
    OwnEndpoint,
    /// The first endpoint of the port on another node.
    OtherEndpoint,
    /// A process of the node.
    Node,
    /// Someone outside of the cluster, outside of every source range.
    Outside,
    /// Someone outside of the cluster, in the Service's first source range.
    InRange,
}

impl Client {
    /// Every kind of client.
    pub const ALL: [Self; 6] =
        [Self::Pod, Self::OwnEndpoint, Self::OtherEndpoint, Self::Node, Self::Outside, Self::InRange];
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pod => "Pod",
            Self::OwnEndpoint => "endpoint here",
            Self::OtherEndpoint => "endpoint elsewhere",
            Self::Node => "node",
            Self::Outside => "outside",
            Self::InRange => "source range",
        })
    }
}

/// An address that leads to a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// The cluster address.
    ClusterIp,
    /// An external address.
    ExternalIp(IpAddr),
    /// A load balancer address.
    LoadBalancerIp(IpAddr),
    /// The node port at an address of the node.
    NodePort(IpAddr),
}

impl Frontend {
    const fn what(self) -> &'static str {
        match self {
            Self::ClusterIp => "cluster address",
            Self::ExternalIp(_) => "external address",
            Self::LoadBalancerIp(_) => "load balancer address",
            Self::NodePort(_) => "node port",
        }
    }
}

/// What is asked of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aim {
    /// The Service's port.
    Port,
    /// A port that the Service does not have.
    OtherPort,
    /// An echo request.
    Ping,
}

/// One packet of the set: the first of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Probe {
    /// Place of the port in [`Surroundings::plans`].
    pub plan: usize,
    /// Who connects.
    pub client: Client,
    /// The client's address; of the node when it connects to an address of its own, that address.
    pub source: IpAddr,
    /// The address that is connected to.
    pub frontend: Frontend,
    /// What is asked of it.
    pub aim: Aim,
    /// The full address: port 0 for a ping.
    pub to: SocketAddr,
    /// Protocol of the packet.
    pub transport: Transport,
    /// The frontend at which the client connected before, for Services that hold clients to their endpoint.
    pub before: Option<(Frontend, SocketAddr)>,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.client, self.target())
    }
}

impl Probe {
    /// What is connected to, in words: `cluster address 10.96.0.7:80/tcp`.
    #[must_use]
    pub fn target(&self) -> impl fmt::Display {
        Target(self)
    }
}

struct Target<'a>(&'a Probe);

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Probe { frontend, aim, to, transport, before, .. } = self.0;
        let what = frontend.what();
        match aim {
            Aim::Port => write!(f, "{what} {to}/{transport}")?,
            Aim::OtherPort => write!(f, "{what} {to}/{transport}, no port of it")?,
            Aim::Ping => write!(f, "{what} {} by ping", to.ip())?,
        }
        match before {
            Some((frontend, to)) => write!(f, ", after {} {to}", frontend.what()),
            None => Ok(()),
        }
    }
}

/// A node's network around the ports of one Service.
#[derive(Clone, Debug)]
pub struct Surroundings {
    plans: Vec<PortPlan>,
    host: Host,
    pods: SmolStr,
    pod: IpAddr,
    node: Option<IpAddr>,
    node_addresses: Vec<IpAddr>,
    outside: Option<IpAddr>,
    family: IpFamily,
}

/// The interface to the outside.
const OUTSIDE: &str = "eth0";
/// A port of clients.
const CLIENT_PORT: u16 = 40_000;

impl Surroundings {
    /// The surroundings of a Service with these ports, on the node of `config`.
    #[must_use]
    pub fn new(config: &ProxyConfig, plans: Vec<PortPlan>) -> Self {
        let family = config.family;
        let of_family = |ip: &IpAddr| IpFamily::of(*ip) == family && !is_loopback(*ip);
        let mut node_addresses: Vec<_> =
            config.node_ip.iter().chain(&config.node_addresses).copied().filter(of_family).collect();
        let mut seen = Vec::new();
        node_addresses.retain(|ip| {
            !seen.contains(ip) && {
                seen.push(*ip);
                true
            }
        });
        let pods = match &config.local_detector {
            LocalDetector::Bridge(name) => name.clone(),
            LocalDetector::InterfacePrefix(prefix) => alloc::format!("{prefix}0").into(),
            LocalDetector::Cidr(_) | LocalDetector::None => SmolStr::new_static("pod0"),
        };
        let pod = pod_address(config, &plans);
        let mut host = Host::new()
            .with_interface(OUTSIDE, node_addresses.iter().copied().map(IpNet::from))
            .with_route(IpNet::from(pod), pods.clone());
        for endpoint in plans.iter().flat_map(|plan| plan.endpoints.iter()).filter(|to| to.on_node) {
            host = host.with_route(IpNet::from(endpoint.ip), pods.clone());
        }
        if let Ok(everywhere) = IpNet::new(unspecified(family), 0) {
            host = host.with_route(everywhere, OUTSIDE);
        }
        let outside = outside_address(config, &plans);
        let node = node_addresses.first().copied();
        Self { plans, host, pods, pod, node, node_addresses, outside, family }
    }

    /// The host, before any proxy has set it up.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The Service's ports.
    #[must_use]
    pub fn plans(&self) -> &[PortPlan] {
        &self.plans
    }

    /// The port that a probe is about.
    #[must_use]
    pub fn plan(&self, probe: &Probe) -> Option<&PortPlan> {
        self.plans.get(probe.plan)
    }

    /// Someone outside of the cluster and of every source range, if there is such an address.
    #[must_use]
    pub const fn outside(&self) -> Option<IpAddr> {
        self.outside
    }

    /// The first packet of a TCP connection from a Pod of the node.
    #[must_use]
    pub fn from_pod(&self, to: SocketAddr) -> Packet {
        Packet::tcp(SocketAddr::new(self.pod, CLIENT_PORT), to).from_interface(self.pods.clone())
    }

    /// The first packet of a TCP connection from outside.
    #[must_use]
    pub fn from_outside(&self, client: IpAddr, to: SocketAddr) -> Packet {
        Packet::tcp(SocketAddr::new(client, CLIENT_PORT), to).from_interface(OUTSIDE)
    }

    /// The packets. For Services that hold clients to their endpoint, the second connection of a client at each
    /// frontend comes on top, after a first one at the same or another.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for (place, plan) in self.plans.iter().enumerate() {
            let frontends = self.frontends(plan);
            for client in Client::ALL {
                let Some(source) = self.address(client, plan) else { continue };
                for (frontend, to) in &frontends {
                    let probe = Probe {
                        plan: place,
                        client,
                        source,
                        frontend: *frontend,
                        aim: Aim::Port,
                        to: *to,
                        transport: transport(plan.service.protocol),
                        before: None,
                    };
                    // Nobody else can send to the node's loopback addresses.
                    if is_loopback(to.ip()) && client != Client::Node {
                        continue;
                    }
                    if place == 0 && !matches!(frontend, Frontend::NodePort(_)) {
                        probes.extend(self.beside(&probe));
                    }
                    if plan.service.affinity.is_some() {
                        let first = frontends.iter().filter(|(_, to)| !is_loopback(to.ip()));
                        probes.extend(first.map(|before| Probe { before: Some(*before), ..probe.clone() }));
                    }
                    probes.push(probe);
                }
            }
        }
        probes
    }

    /// What becomes of a probe on `host`, which [`NodeRules::host`](crate::NodeRules::host) made of [`Self::host`].
    #[must_use]
    pub fn ask(&self, rules: Kernel<'_>, host: &Host, probe: &Probe) -> Answer {
        let Some((_, to)) = probe.before else {
            return Answer::of(&rules.walk(host, &self.packet(host, probe, probe.to)));
        };
        let first = rules.walk(host, &self.packet(host, probe, to));
        // Any choice will do, if it is the same under all rules.
        let chosen = first.outcomes.iter().filter(|outcome| outcome.verdict.is_accept());
        let Some(chosen) = chosen.max_by_key(|outcome| outcome.destination) else {
            return Answer::of(&rules.walk(host, &self.packet(host, probe, probe.to)));
        };
        let mut host = host.clone();
        host.remember(&chosen.affinity);
        Answer::of(&rules.walk(&host, &self.packet(&host, probe, probe.to)))
    }

    /// The probe as a packet that enters `host`.
    fn packet(&self, host: &Host, probe: &Probe, to: SocketAddr) -> Packet {
        // A process that names no address sends from the one that it sends to, if that is the host's own.
        let own = probe.client == Client::Node && host.is_local(to.ip());
        let source = if own { to.ip() } else { probe.source };
        let port = if probe.aim == Aim::Ping { 0 } else { CLIENT_PORT };
        let packet = Packet::new(probe.transport, SocketAddr::new(source, port), to);
        match probe.client {
            Client::Node => packet,
            Client::Pod | Client::OwnEndpoint => packet.from_interface(self.pods.clone()),
            Client::OtherEndpoint | Client::Outside | Client::InRange => packet.from_interface(OUTSIDE),
        }
    }

    fn frontends(&self, plan: &PortPlan) -> Vec<(Frontend, SocketAddr)> {
        let service = &plan.service;
        let mut all = Vec::from([Frontend::ClusterIp]);
        all.extend(service.external_ips.iter().copied().map(Frontend::ExternalIp));
        all.extend(service.load_balancer_ips.iter().copied().map(Frontend::LoadBalancerIp));
        let mut all: Vec<_> = all
            .into_iter()
            .map(|frontend| {
                let ip = match frontend {
                    Frontend::ExternalIp(ip) | Frontend::LoadBalancerIp(ip) => ip,
                    Frontend::ClusterIp | Frontend::NodePort(_) => service.cluster_ip,
                };
                (frontend, SocketAddr::new(ip, service.port))
            })
            .collect();
        if let Some(port) = service.node_port {
            let ips = self.node_addresses.iter().copied().chain([loopback(self.family)]);
            all.extend(ips.map(|ip| (Frontend::NodePort(ip), SocketAddr::new(ip, port.get()))));
        }
        all
    }

    /// The same address, asked for what the Service does not offer.
    fn beside(&self, probe: &Probe) -> Vec<Probe> {
        let taken = |port: u16| {
            let of_service =
                self.plans.iter().filter(|plan| transport(plan.service.protocol) == probe.transport);
            of_service.map(|plan| plan.service.port).any(|own| own == port)
        };
        let ping = match self.family {
            IpFamily::Ipv4 => Transport::ICMP,
            IpFamily::Ipv6 => Transport::ICMPV6,
        };
        let ping =
            Probe { aim: Aim::Ping, to: SocketAddr::new(probe.to.ip(), 0), transport: ping, ..probe.clone() };
        let other = (1..=u16::MAX).find(|port| !taken(*port)).map(|port| Probe {
            aim: Aim::OtherPort,
            to: SocketAddr::new(probe.to.ip(), port),
            ..probe.clone()
        });
        [ping].into_iter().chain(other).collect()
    }

    fn address(&self, client: Client, plan: &PortPlan) -> Option<IpAddr> {
        let endpoint = |here: bool| {
            let mut all = plan.endpoints.iter().filter(move |to| to.on_node == here).map(|to| to.ip);
            all.find(|ip| !self.host.is_local(*ip))
        };
        match client {
            Client::Pod => Some(self.pod),
            Client::OwnEndpoint => endpoint(true),
            Client::OtherEndpoint => endpoint(false),
            Client::Node => self.node,
            Client::Outside => self.outside,
            Client::InRange if plan.service.has_firewall() => {
                plan.service.source_ranges.first().map(|range| next(range.network()))
            }
            Client::InRange => None,
        }
    }
}

/// The protocol number of a Service's protocol.
#[must_use]
pub const fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::TCP,
        Protocol::Udp => Transport::UDP,
        Protocol::Sctp => Transport::SCTP,
    }
}

const fn unspecified(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpFamily::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

const fn loopback(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::Ipv4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpFamily::Ipv6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

fn next(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
    }
}

fn previous(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_sub(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_sub(1)).into(),
    }
}

/// An address of a Pod that is no endpoint: near the end of the local range, if there is one.
fn pod_address(config: &ProxyConfig, plans: &[PortPlan]) -> IpAddr {
    let last = match &config.local_detector {
        LocalDetector::Cidr(range) if IpFamily::of(range.addr()) == config.family => range.broadcast(),
        _ => match config.family {
            // Shared address space and a unique local address, which no Service is likely to use.
            IpFamily::Ipv4 => IpAddr::V4(Ipv4Addr::new(100, 127, 255, 255)),
            IpFamily::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, 0xffff)),
        },
    };
    let mut ip = previous(last);
    while plans.iter().flat_map(|plan| plan.endpoints.iter()).any(|endpoint| endpoint.ip == ip) {
        ip = previous(ip);
    }
    ip
}

/// An address outside of the cluster, and of every source range; absent if the ranges leave none of those tried.
fn outside_address(config: &ProxyConfig, plans: &[PortPlan]) -> Option<IpAddr> {
    // Documentation ranges.
    let tried: [IpAddr; 4] = match config.family {
        IpFamily::Ipv4 => {
            [[198, 51, 100, 254], [203, 0, 113, 254], [192, 0, 2, 254], [198, 19, 255, 254]].map(IpAddr::from)
        }
        IpFamily::Ipv6 => [0xffff_u16, 0xfffe, 0xfffd, 0xfffc]
            .map(|net| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 0xfffe).into()),
    };
    let local = match &config.local_detector {
        LocalDetector::Cidr(range) => Some(*range),
        _ => None,
    };
    tried.into_iter().find(|ip| {
        let mut ranges = plans.iter().flat_map(|plan| plan.service.source_ranges.iter()).chain(&local);
        let known = |own: &IpAddr| own == ip;
        ranges.all(|range| !range.contains(ip))
            && !config.node_addresses.iter().any(known)
            && !plans.iter().any(|plan| {
                let service = &plan.service;
                service.external_ips.iter().chain(&service.load_balancer_ips).any(known)
            })
    })
}
