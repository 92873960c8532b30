//! A packet that walks the rules ends where the selection of endpoints says.
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

use common::{Cluster, config, event, families, node_addresses};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use svc_endpoints::view::{NoEndpoints, Policy};
use svc_model::{IpFamily, Protocol};
use svc_rules::host::Host;
use svc_rules::iptables::{Mode, Proxy, StaleChains, jumps};
use svc_rules::outcome::Verdict;
use svc_rules::packet::{Family, Packet, Transport};
use svc_rules::plan::PortPlan;
use svc_rules::xtables::{RestoreMode, Ruleset};

fn ip(family: IpFamily, v4: &str, v6: &str) -> IpAddr {
    if family == IpFamily::Ipv4 { v4 } else { v6 }.parse().unwrap()
}

/// A node with an interface to the outside, and one to Pods.
fn host(family: IpFamily) -> Host {
    let addresses =
        node_addresses(family).into_iter().take(2).map(|ip| IpNet::from(ip.parse::<IpAddr>().unwrap()));
    let pods = IpNet::new(ip(family, "10.0.0.0", "fd00:10::"), if family == IpFamily::Ipv4 { 8 } else { 64 });
    let everywhere = IpNet::new(ip(family, "0.0.0.0", "::"), 0).unwrap();
    Host::new()
        .with_interface("eth0", addresses)
        .with_route(pods.unwrap(), "pod0")
        .with_route(everywhere, "eth0")
}

fn check(
    rules: &Ruleset,
    host: &Host,
    packet: &Packet,
    plan: &PortPlan,
    decision: Result<Policy, NoEndpoints>,
) -> Result<(), TestCaseError> {
    let walk = rules.walk(host, packet);
    match decision {
        Ok(policy) => {
            let expected: Vec<_> = plan.under(policy).map(|to| SocketAddr::new(to.ip, to.port)).collect();
            let mut got = walk.destinations();
            got.sort_by_key(|(to, _)| *to);
            let mut sorted = expected.clone();
            sorted.sort();
            prop_assert_eq!(got.iter().map(|(to, _)| *to).collect::<Vec<_>>(), sorted, "{:?}", packet);
            prop_assert!(got.iter().all(|(_, share)| share.is_one_in(expected.len())));
        }
        Err(NoEndpoints::Anywhere) => {
            prop_assert!(matches!(walk.certain().unwrap().verdict, Verdict::Reject(_)), "{:?}", packet);
        }
        Err(NoEndpoints::OnThisNode) => {
            prop_assert_eq!(&walk.certain().unwrap().verdict, &Verdict::Drop, "{:?}", packet);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rules_do_what_the_selection_says(
        (config, events) in families().prop_flat_map(|family| (config(family), vec(event(family), 5..25)))
    ) {
        let mut cluster = Cluster::default();
        let mut proxy = Proxy::new(config.clone());
        for event in &events {
            let _ = cluster.apply(event);
        }
        proxy.replace_all(cluster.services.values());
        let mut out = Vec::new();
        let _ = proxy.sync(&cluster.slices, Mode::Full, StaleChains::Delete, &mut out);
        let family = if config.family == IpFamily::Ipv4 { Family::V4 } else { Family::V6 };
        let mut rules = Ruleset::new(family);
        rules.restore(&String::from_utf8(out).unwrap(), RestoreMode::Keep).unwrap();
        for jump in jumps(&config) {
            let line = format!("*{}\n-I {} {jump}\nCOMMIT\n", jump.table, jump.from);
            rules.restore(&line, RestoreMode::Keep).unwrap();
        }

        let host = host(config.family);
        let client = ip(config.family, "198.51.100.9", "2001:db8:51::9");
        let pod = ip(config.family, "10.0.0.200", "fd00:10::c8");
        for plan in proxy.plans() {
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
            let inside = packet(pod, "pod0", service.cluster_ip, service.port);
            check(&rules, &host, &inside, plan, plan.internal)?;
            for ip in service.external_ips.iter() {
                check(&rules, &host, &packet(client, "eth0", *ip, service.port), plan, plan.external)?;
            }
            for ip in service.load_balancer_ips.iter().filter(|_| service.source_ranges.is_empty()) {
                check(&rules, &host, &packet(client, "eth0", *ip, service.port), plan, plan.external)?;
            }
            if let Some(port) = service.node_port {
                let node = config.node_ip.unwrap();
                check(&rules, &host, &packet(client, "eth0", node, port.get()), plan, plan.external)?;
            }
        }
    }
}
