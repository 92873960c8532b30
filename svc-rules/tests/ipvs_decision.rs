//! A packet that meets the virtual servers, sets and rules ends where the selection of endpoints says, but for the
//! deviations of the mode.
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
use std::sync::Arc;

use common::ipvs::{Kernel, Node};
use common::{Cluster, config, event, families, node_addresses};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use svc_endpoints::view::{Policy, PortKey};
use svc_model::{IpFamily, ObjectRef, Protocol, SmolStr};
use svc_rules::host::Host;
use svc_rules::ipvs::DUMMY_DEVICE;
use svc_rules::outcome::{Verdict, Walk};
use svc_rules::packet::{Packet, Transport};
use svc_rules::plan::{PortPlan, service_ports};
use svc_rules::{NodePortAddresses, ProxyConfig};

fn ip(family: IpFamily, v4: &str, v6: &str) -> IpAddr {
    if family == IpFamily::Ipv4 { v4 } else { v6 }.parse().unwrap()
}

/// A node with an interface to the outside, one to Pods, and the dummy device.
fn host(family: IpFamily, kernel: &Kernel) -> Host {
    let addresses =
        node_addresses(family).into_iter().take(2).map(|ip| IpNet::from(ip.parse::<IpAddr>().unwrap()));
    let pods = IpNet::new(ip(family, "10.0.0.0", "fd00:10::"), if family == IpFamily::Ipv4 { 8 } else { 64 });
    let everywhere = IpNet::new(ip(family, "0.0.0.0", "::"), 0).unwrap();
    let mut host = Host::new()
        .with_interface("eth0", addresses)
        .with_interface(DUMMY_DEVICE, kernel.addresses.iter().copied().map(IpNet::from))
        .with_route(pods.unwrap(), "pod0")
        .with_route(everywhere, "eth0");
    host.sets.clone_from(&kernel.sets);
    host
}

fn plans(config: &ProxyConfig, cluster: &Cluster) -> Vec<PortPlan> {
    let ports = cluster.services.values().flat_map(|service| service_ports(service, config.family).0);
    ports
        .map(|service| {
            let key = PortKey {
                service: ObjectRef::new(service.name.namespace(), service.name.name()),
                family: config.family,
                port: SmolStr::new(service.name.port()),
                protocol: service.protocol,
            };
            PortPlan::new(Arc::new(service), cluster.slices.port(&key), &config.viewpoint())
        })
        .collect()
}

/// The endpoints of a policy; of `Cluster` where `Local` has none.
fn servers(plan: &PortPlan, policy: Policy) -> Vec<SocketAddr> {
    let policy = if plan.uses(policy) { policy } else { Policy::Cluster };
    let mut servers: Vec<_> = plan.under(policy).map(|to| SocketAddr::new(to.ip, to.port)).collect();
    servers.sort();
    servers
}

fn check(walk: &Walk, expected: &[SocketAddr], packet: &Packet) -> Result<(), TestCaseError> {
    if expected.is_empty() {
        prop_assert!(
            matches!(walk.certain().unwrap().verdict, Verdict::Reject(_)),
            "{:?} {:?}",
            packet,
            walk
        );
        return Ok(());
    }
    let mut got = walk.destinations();
    got.sort_by_key(|(to, _)| *to);
    prop_assert_eq!(got.iter().map(|(to, _)| *to).collect::<Vec<_>>(), expected, "{:?}", packet);
    prop_assert!(got.iter().all(|(_, share)| share.is_one_in(expected.len())));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn packets_go_where_the_selection_says(
        (config, events) in families().prop_flat_map(|family| (config(family), vec(event(family), 5..25)))
    ) {
        let mut cluster = Cluster::default();
        for event in &events {
            let _ = cluster.apply(event);
        }
        let node = Node::fresh(&config, &cluster);
        let mut config = config;
        config.zone.clone_from(&cluster.zone);
        let kernel = &node.kernel;
        let host = host(config.family, kernel);
        let walk = |packet: &Packet| {
            svc_rules::Kernel::new().with_iptables(&kernel.rules).with_ipvs(&kernel.servers).walk(&host, packet)
        };
        let client = ip(config.family, "198.51.100.9", "2001:db8:51::9");
        let allowed = ip(config.family, "203.0.113.9", "2001:db8:113::9");
        let pod = ip(config.family, "10.0.0.200", "fd00:10::c8");
        let plans = plans(&config, &cluster);
        let served: BTreeMap<_, Vec<u16>> = plans.iter().fold(BTreeMap::new(), |mut served, plan| {
            served.entry(plan.service.cluster_ip).or_insert_with(Vec::new).push(plan.service.port);
            served
        });
        for plan in &plans {
            let service = &plan.service;
            let transport = match service.protocol {
                Protocol::Tcp => Transport::TCP,
                Protocol::Udp => Transport::UDP,
                Protocol::Sctp => Transport::SCTP,
            };
            let packet = |from: IpAddr, interface: &str, to: IpAddr, port: u16| {
                let (from, to) = (SocketAddr::new(from, 40_000), SocketAddr::new(to, port));
                Packet::new(transport, from, to).from_interface(interface)
            };
            let internal = servers(plan, service.policy.internal);
            let external = servers(plan, service.policy.external);
            let inside = packet(pod, "pod0", service.cluster_ip, service.port);
            check(&walk(&inside), &internal, &inside)?;
            // No other port of the host is open at a cluster address.
            let wrong = (1..).find(|port| !served[&service.cluster_ip].contains(port)).unwrap();
            let wrong = packet(pod, "pod0", service.cluster_ip, wrong);
            check(&walk(&wrong), &[], &wrong)?;

            for ip in service.external_ips.iter() {
                let outside = packet(client, "eth0", *ip, service.port);
                check(&walk(&outside), &external, &outside)?;
            }
            for ip in service.load_balancer_ips.iter() {
                let outside = packet(client, "eth0", *ip, service.port);
                // With or without endpoints.
                if service.source_ranges.iter().any(|range| range.contains(&client)) || service.source_ranges.is_empty() {
                    check(&walk(&outside), &external, &outside)?;
                } else {
                    let walk = walk(&outside);
                    prop_assert_eq!(&walk.certain().unwrap().verdict, &Verdict::Drop);
                }
                if service.source_ranges.iter().any(|range| range.contains(&allowed)) {
                    let outside = packet(allowed, "eth0", *ip, service.port);
                    check(&walk(&outside), &external, &outside)?;
                }
            }
            if let Some(port) = service.node_port {
                for ip in node_addresses(config.family).into_iter().take(2) {
                    let ip: IpAddr = ip.parse().unwrap();
                    let open = match &config.node_port_addresses {
                        NodePortAddresses::All => true,
                        NodePortAddresses::Within(ranges) => ranges.iter().any(|range| range.contains(&ip)),
                    };
                    let outside = packet(client, "eth0", ip, port.get());
                    let walk = walk(&outside);
                    if open {
                        check(&walk, &external, &outside)?;
                    } else {
                        prop_assert_eq!(&walk.certain().unwrap().verdict, &Verdict::Deliver);
                    }
                }
            }
        }
    }
}
