//! All schemes treat every packet alike, and as the selection of endpoints says, but for the differences that are known.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

mod common;

use std::net::{IpAddr, SocketAddr};

use common::{Cluster, Event, config, event, families};
use proptest::collection::vec;
use proptest::prelude::*;
use svc_endpoints::view::{NoEndpoints, Policy};
use svc_model::{IpFamily, Service};
use svc_rules::migrate::{self, Known, Side};
use svc_rules::plan::{PortPlan, port_plans};
use svc_rules::probe::{Aim, Answer, Client, Fate, Frontend, Probe, SourceAddress, Surroundings};
use svc_rules::{LocalDetector, NodePortAddresses, NodeRules, ProxyConfig, Scheme};

/// What the model says of a packet, without regard to any way of writing rules.
struct Model<'a> {
    config: &'a ProxyConfig,
    plan: &'a PortPlan,
    probe: &'a Probe,
}

impl Model<'_> {
    /// The node sends from the address that it sends to, if that is its own.
    fn source(&self) -> IpAddr {
        match self.probe.frontend {
            Frontend::NodePort(ip) if self.probe.client == Client::Node => ip,
            _ => self.probe.source,
        }
    }

    /// Whether the client counts as a Pod of the cluster.
    fn is_pod(&self) -> bool {
        match &self.config.local_detector {
            LocalDetector::Cidr(range) => range.contains(&self.source()),
            LocalDetector::Bridge(_) | LocalDetector::InterfacePrefix(_) => {
                matches!(self.probe.client, Client::Pod | Client::OwnEndpoint)
            }
            LocalDetector::None => false,
        }
    }

    fn spread(&self, decision: Result<Policy, NoEndpoints>, masquerade: bool) -> Answer {
        let policy = match decision {
            Ok(policy) => policy,
            Err(NoEndpoints::Anywhere) => return Answer::new([(Fate::Rejected, 1.0)]),
            Err(NoEndpoints::OnThisNode) => return Answer::new([(Fate::Dropped, 1.0)]),
        };
        let share = 1.0 / self.plan.under(policy).count() as f64;
        Answer::new(self.plan.under(policy).map(|to| {
            let source = if masquerade || to.ip == self.probe.source {
                SourceAddress::Masqueraded
            } else {
                SourceAddress::Kept
            };
            (Fate::Endpoint { address: SocketAddr::new(to.ip, to.port), source }, share)
        }))
    }

    fn external(&self) -> Answer {
        let from_node = self.probe.client == Client::Node;
        match self.plan.service.policy.external {
            Policy::Local if self.plan.has_endpoints && (from_node || self.is_pod()) => {
                self.spread(Ok(Policy::Cluster), from_node && !self.is_pod())
            }
            Policy::Local => self.spread(self.plan.external, false),
            Policy::Cluster => self.spread(self.plan.external, true),
        }
    }

    /// Whether the node port is open at an address of the node.
    fn is_open(&self, ip: IpAddr) -> bool {
        match &self.config.node_port_addresses {
            NodePortAddresses::All => !ip.is_loopback(),
            NodePortAddresses::Within(ranges) => ranges.iter().any(|range| range.contains(&ip)),
        }
    }

    fn answer(&self) -> Answer {
        let service = &self.plan.service;
        match self.probe.frontend {
            Frontend::ClusterIp => {
                let known = self.config.local_detector != LocalDetector::None;
                self.spread(self.plan.internal, self.config.masquerade_all || known && !self.is_pod())
            }
            Frontend::LoadBalancerIp(_) if service.has_firewall() => {
                let allowed = service.source_ranges.iter().any(|range| range.contains(&self.probe.source));
                if allowed { self.external() } else { Answer::new([(Fate::Dropped, 1.0)]) }
            }
            Frontend::NodePort(ip) if !self.is_open(ip) => Answer::new([(Fate::Node, 1.0)]),
            Frontend::ExternalIp(_) | Frontend::LoadBalancerIp(_) | Frontend::NodePort(_) => self.external(),
        }
    }
}

/// The differences that a scheme may have to the model.
const fn departures(scheme: Scheme) -> &'static [Known] {
    match scheme {
        Scheme::Iptables => &[
            Known::LocalhostNodePorts,
            Known::ClosedNodePorts,
            Known::NoEndpointsFromNode,
            Known::FirewallWithoutEndpoints,
        ],
        Scheme::Nftables | Scheme::NftablesFlat => &[Known::HairpinOfOtherNodes],
        Scheme::Ipvs => &[
            Known::FirewallWithoutEndpoints,
            Known::HairpinOfOtherNodes,
            Known::NoLocalEndpoints,
            Known::LocalShortCut,
            Known::NodeSourceAddress,
        ],
        _ => &[],
    }
}

fn check(
    config: &ProxyConfig,
    cluster: &Cluster,
    service: &Service,
    schemes: &[NodeRules],
) -> Result<usize, TestCaseError> {
    let surroundings = Surroundings::new(config, port_plans(config, service, &cluster.slices));
    let hosts: Vec<_> = schemes.iter().map(|rules| rules.host(surroundings.host().clone())).collect();
    let mut checked = 0;
    for probe in surroundings.probes().iter().filter(|probe| probe.aim == Aim::Port && probe.before.is_none())
    {
        let plan = surroundings.plan(probe).unwrap();
        let model = Model { config, plan, probe };
        let wanted = model.answer();
        for (rules, host) in schemes.iter().zip(&hosts) {
            let answer = surroundings.ask(rules.kernel(), host, probe);
            // The model opens node ports where nftables mode does.
            let sides = [Scheme::Nftables, rules.scheme()].map(|scheme| Side::new(scheme, config));
            let known = || Known::of(plan, probe, sides, [&wanted, &answer]);
            prop_assert!(
                answer.same(&wanted)
                    || known().is_some_and(|known| departures(rules.scheme()).contains(&known)),
                "{}: {probe}: {answer} instead of {wanted} ({:?})\n{config:?}\n{plan:?}",
                rules.scheme(),
                known()
            );
            checked += 1;
        }
    }
    Ok(checked)
}

fn clusters() -> impl Strategy<Value = (ProxyConfig, Vec<Event>)> {
    families().prop_flat_map(|family| (config(family), vec(event(family), 5..25)))
}

fn cluster(config: &mut ProxyConfig, events: &[Event]) -> Cluster {
    let mut cluster = Cluster::default();
    for event in events {
        let _ = cluster.apply(event);
    }
    config.zone.clone_from(&cluster.zone);
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_layout_does_what_the_selection_says((mut config, events) in clusters()) {
        let cluster = cluster(&mut config, &events);
        let services = || cluster.services.values();
        let schemes = Scheme::ALL.map(|scheme| NodeRules::new(scheme, &config, services(), &cluster.slices));
        for service in services() {
            check(&config, &cluster, service, &schemes)?;
        }
    }

    /// Also for ports that there are none of, pings, and second connections of clients that are held to an endpoint.
    #[test]
    fn layouts_differ_only_by_what_is_known((mut config, events) in clusters()) {
        let cluster = cluster(&mut config, &events);
        for from in Scheme::ALL {
            for to in Scheme::ALL {
                let sides = [from, to].map(|scheme| Side::new(scheme, &config));
                let differences = migrate::report(sides[0], sides[1], cluster.services.values(), &cluster.slices);
                prop_assert!(from != to || differences.is_empty(), "{differences:?}");
                for found in differences {
                    prop_assert!(
                        found.known.is_some(),
                        "{from} {to}: {} to {}: {} became {}\n{config:?}", found.client, found.target, found.from, found.to
                    );
                }
            }
        }
    }
}
