//! A packet that walks the rules ends where the selection of endpoints says; in IPVS mode, but for its deviations.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use common::ipvs::Node;
use common::{Cluster, Event, config, event, families, node_addresses};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use svc_endpoints::view::{NoEndpoints, Policy};
use svc_model::{IpFamily, Protocol};
use svc_rules::host::Host;
use svc_rules::iptables::{Mode, Proxy, StaleChains, jumps};
use svc_rules::ipvs::DUMMY_DEVICE;
use svc_rules::outcome::{Verdict, Walk};
use svc_rules::packet::{Family, Packet, Transport};
use svc_rules::plan::{PortPlan, ServicePort, port_plans};
use svc_rules::xtables::{RestoreMode, Ruleset};
use svc_rules::{NodePortAddresses, ProxyConfig};

fn ip(family: IpFamily, v4: &str, v6: &str) -> IpAddr {
    if family == IpFamily::Ipv4 { v4 } else { v6 }.parse().unwrap()
}

/// The node's addresses that packets come to.
fn addresses(family: IpFamily) -> impl Iterator<Item = IpAddr> {
    node_addresses(family).into_iter().take(2).map(|ip| ip.parse().unwrap())
}

/// A node with an interface to the outside, and one to Pods.
fn host(family: IpFamily) -> Host {
    let pods = IpNet::new(ip(family, "10.0.0.0", "fd00:10::"), if family == IpFamily::Ipv4 { 8 } else { 64 });
    let everywhere = IpNet::new(ip(family, "0.0.0.0", "::"), 0).unwrap();
    Host::new()
        .with_interface("eth0", addresses(family).map(IpNet::from))
        .with_route(pods.unwrap(), "pod0")
        .with_route(everywhere, "eth0")
}

/// Who sends.
#[derive(Clone, Copy)]
enum Client {
    Pod,
    Outside,
    /// Outside, in a range that some Services allow.
    Allowed,
}

impl Client {
    fn address(self, family: IpFamily) -> IpAddr {
        match self {
            Self::Pod => ip(family, "10.0.0.200", "fd00:10::c8"),
            Self::Outside => ip(family, "198.51.100.9", "2001:db8:51::9"),
            Self::Allowed => ip(family, "203.0.113.9", "2001:db8:113::9"),
        }
    }

    fn packet(self, service: &ServicePort, to: IpAddr, port: u16) -> Packet {
        let transport = match service.protocol {
            Protocol::Tcp => Transport::TCP,
            Protocol::Udp => Transport::UDP,
            Protocol::Sctp => Transport::SCTP,
        };
        let from = SocketAddr::new(self.address(IpFamily::of(to)), 40_000);
        let interface = if matches!(self, Self::Pod) { "pod0" } else { "eth0" };
        Packet::new(transport, from, SocketAddr::new(to, port)).from_interface(interface)
    }
}

fn servers(plan: &PortPlan, policy: Policy) -> Vec<SocketAddr> {
    let mut servers: Vec<_> = plan.under(policy).map(|to| SocketAddr::new(to.ip, to.port)).collect();
    servers.sort();
    servers
}

/// The packet goes to each of these alike.
fn spreads(walk: &Walk, expected: &[SocketAddr], packet: &Packet) -> Result<(), TestCaseError> {
    let mut got = walk.destinations();
    got.sort_by_key(|(to, _)| *to);
    prop_assert_eq!(got.iter().map(|(to, _)| *to).collect::<Vec<_>>(), expected, "{:?}", packet);
    prop_assert!(got.iter().all(|(_, share)| share.is_one_in(expected.len())));
    Ok(())
}

fn refused(walk: &Walk, packet: &Packet) -> Result<(), TestCaseError> {
    prop_assert!(matches!(walk.certain().unwrap().verdict, Verdict::Reject(_)), "{:?} {:?}", packet, walk);
    Ok(())
}

fn dropped(walk: &Walk, packet: &Packet) -> Result<(), TestCaseError> {
    prop_assert_eq!(&walk.certain().unwrap().verdict, &Verdict::Drop, "{:?}", packet);
    Ok(())
}

fn cases() -> impl Strategy<Value = (ProxyConfig, Vec<Event>)> {
    families().prop_flat_map(|family| (config(family), vec(event(family), 5..25)))
}

fn cluster(events: &[Event]) -> Cluster {
    let mut cluster = Cluster::default();
    events.iter().for_each(|event| _ = cluster.apply(event));
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn iptables_rules_do_what_the_selection_says((config, events) in cases()) {
        let cluster = cluster(&events);
        let mut proxy = Proxy::new(config.clone());
        proxy.replace_all(cluster.services.values());
        let mut out = Vec::new();
        let _ = proxy.sync(&cluster.slices, Mode::Full, StaleChains::Delete, &mut out);
        let mut rules = Ruleset::new(Family::from(config.family));
        rules.restore(&String::from_utf8(out).unwrap(), RestoreMode::Keep).unwrap();
        for jump in jumps(&config) {
            let line = format!("*{}\n-I {} {jump}\nCOMMIT\n", jump.table, jump.from);
            rules.restore(&line, RestoreMode::Keep).unwrap();
        }
        let host = host(config.family);
        let check = |packet: &Packet, plan: &PortPlan, decision: Result<Policy, NoEndpoints>| {
            let walk = rules.walk(&host, packet);
            match decision {
                Ok(policy) => spreads(&walk, &servers(plan, policy), packet),
                Err(NoEndpoints::Anywhere) => refused(&walk, packet),
                Err(NoEndpoints::OnThisNode) => dropped(&walk, packet),
            }
        };
        for plan in proxy.plans() {
            let service = &*plan.service;
            check(&Client::Pod.packet(service, service.cluster_ip, service.port), plan, plan.internal)?;
            let open = service.load_balancer_ips.iter().filter(|_| service.source_ranges.is_empty());
            for ip in service.external_ips.iter().chain(open) {
                check(&Client::Outside.packet(service, *ip, service.port), plan, plan.external)?;
            }
            if let Some(port) = service.node_port {
                let node = config.node_ip.unwrap();
                check(&Client::Outside.packet(service, node, port.get()), plan, plan.external)?;
            }
        }
    }

    #[test]
    fn virtual_servers_do_what_the_selection_says((mut config, events) in cases()) {
        let cluster = cluster(&events);
        let node = Node::fresh(&config, &cluster);
        config.zone.clone_from(&cluster.zone);
        let kernel = &node.kernel;
        let bound = kernel.addresses.iter().copied().map(IpNet::from);
        let mut host = host(config.family).with_interface(DUMMY_DEVICE, bound);
        host.sets.clone_from(&kernel.sets);
        let walk = |packet: &Packet| {
            svc_rules::Kernel::new().with_iptables(&kernel.rules).with_ipvs(&kernel.servers).walk(&host, packet)
        };
        let check = |packet: &Packet, expected: &[SocketAddr]| match expected {
            [] => refused(&walk(packet), packet),
            expected => spreads(&walk(packet), expected, packet),
        };
        let plans = cluster.services.values().flat_map(|service| port_plans(&config, service, &cluster.slices));
        let plans: Vec<_> = plans.collect();
        let served: BTreeMap<_, Vec<u16>> = plans.iter().fold(BTreeMap::new(), |mut served, plan| {
            served.entry(plan.service.cluster_ip).or_insert_with(Vec::new).push(plan.service.port);
            served
        });
        for plan in &plans {
            let service = &*plan.service;
            // Where `Local` has none, `Cluster` serves.
            let servers =
                |policy| servers(plan, if plan.uses(policy) { policy } else { Policy::Cluster });
            let (internal, external) = (servers(service.policy.internal), servers(service.policy.external));
            check(&Client::Pod.packet(service, service.cluster_ip, service.port), &internal)?;
            // No other port of the host is open at a cluster address.
            let wrong = (1..).find(|port| !served[&service.cluster_ip].contains(port)).unwrap();
            check(&Client::Pod.packet(service, service.cluster_ip, wrong), &[])?;

            for ip in service.external_ips.iter() {
                check(&Client::Outside.packet(service, *ip, service.port), &external)?;
            }
            // The ranges count with or without endpoints.
            let ranges = &service.source_ranges;
            let in_range = |client: Client| ranges.iter().any(|range| range.contains(&client.address(config.family)));
            for ip in service.load_balancer_ips.iter() {
                let packet = Client::Outside.packet(service, *ip, service.port);
                if ranges.is_empty() || in_range(Client::Outside) {
                    check(&packet, &external)?;
                } else {
                    dropped(&walk(&packet), &packet)?;
                }
                if in_range(Client::Allowed) {
                    check(&Client::Allowed.packet(service, *ip, service.port), &external)?;
                }
            }
            for (ip, port) in service.node_port.into_iter().flat_map(|port| addresses(config.family).map(move |ip| (ip, port))) {
                let packet = Client::Outside.packet(service, ip, port.get());
                let open = match &config.node_port_addresses {
                    NodePortAddresses::All => true,
                    NodePortAddresses::Within(ranges) => ranges.iter().any(|range| range.contains(&ip)),
                };
                if open {
                    check(&packet, &external)?;
                } else {
                    let walk = walk(&packet);
                    prop_assert_eq!(&walk.certain().unwrap().verdict, &Verdict::Deliver);
                }
            }
        }
    }
}
