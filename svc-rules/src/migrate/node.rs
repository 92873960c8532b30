//! What changes beside the Services' own ports.

use alloc::vec::Vec;
use core::net::SocketAddr;

use svc_model::IpFamily;

use super::{Difference, Known, Side};
use crate::host::Host;
use crate::outcome::Walk;
use crate::packet::{ConnState, Packet};
use crate::probe::{Answer, Client, Surroundings};
use crate::scheme::NodeRules;
use crate::walk::Kernel;
use crate::xtables::{RestoreMode, Ruleset};
use svc_endpoints::view::SliceCache;

/// Differences that no Service is needed for.
pub(super) fn differences(from: Side<'_>, to: Side<'_>) -> Vec<Difference> {
    let surroundings = Surroundings::new(from.config, Vec::new());
    let none = SliceCache::new();
    let rules = [from, to].map(|side| NodeRules::new(side.scheme, side.config, [], &none));
    let hosts = [&rules[0], &rules[1]].map(|rules| rules.host(surroundings.host().clone()));
    let ask = |packet: &Packet| {
        [(&rules[0], &hosts[0]), (&rules[1], &hosts[1])]
            .map(|(rules, host)| Answer::of(&rules.walk(host, packet)))
    };
    let mut differences = Vec::new();
    let mut compare = |target: alloc::string::String, packet: Packet, known| {
        let [a, b] = ask(&packet);
        if !a.same(&b) {
            differences.push(Difference {
                service: None,
                client: Client::Pod,
                target,
                from: a,
                to: b,
                known: Some(known),
            });
        }
    };
    if let Some(outside) = surroundings.outside() {
        let packet = surroundings.from_pod(SocketAddr::new(outside, 80)).with_state(ConnState::Invalid);
        compare("any address, by an invalid packet".into(), packet, Known::InvalidPackets);
    }
    let ranges = from.config.service_cidrs.iter().chain(&to.config.service_cidrs);
    if let Some(range) = ranges.into_iter().find(|range| IpFamily::of(range.addr()) == from.config.family) {
        let free = range.hosts().last().unwrap_or(range.addr());
        let packet = surroundings.from_pod(SocketAddr::new(free, 80));
        compare(alloc::format!("{free}, no Service's address"), packet, Known::UnallocatedClusterIps);
    }
    differences
}

/// The health check port as a load balancer sees it, where the node's own firewall drops what nobody accepts.
pub(super) fn health_checks(
    sides: [Side<'_>; 2],
    surroundings: &Surroundings,
    rules: [&NodeRules; 2],
    out: &mut Vec<Difference>,
) {
    let mut ports: Vec<_> = surroundings
        .plans()
        .iter()
        .filter_map(|plan| Some((plan.service.health_check_node_port?, plan.service.name.clone())))
        .collect();
    ports.dedup_by_key(|(port, _)| *port);
    for (port, name) in ports {
        let (Some(node), Some(outside)) = (sides[0].config.node_ip, surroundings.outside()) else { continue };
        let to = SocketAddr::new(node, port.get());
        let packet = surroundings.from_outside(outside, to);
        let [a, b] = rules.map(|rules| {
            let host = rules.host(surroundings.host().clone());
            Answer::of(&behind_firewall(rules, &host, &packet))
        });
        if !a.same(&b) {
            out.push(Difference {
                service: Some(name),
                client: Client::Outside,
                target: alloc::format!("health check node port {to}, behind a firewall"),
                from: a,
                to: b,
                known: Some(Known::HealthCheckNodePorts),
            });
        }
    }
}

/// A walk on a node whose chain INPUT drops what no rule of it accepts.
fn behind_firewall(rules: &NodeRules, host: &Host, packet: &Packet) -> Walk {
    const DROP: &str = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
    let family = crate::packet::Family::of(packet.destination);
    let mut firewall = rules.iptables().cloned().unwrap_or_else(|| Ruleset::new(family));
    // The policy of a chain of the kernel can always be set.
    let _ = firewall.restore(DROP, RestoreMode::Keep);
    let mut kernel = Kernel::new().with_iptables(&firewall);
    if let Some(rules) = rules.nftables() {
        kernel = kernel.with_nftables(rules);
    }
    if let Some(servers) = rules.servers() {
        kernel = kernel.with_ipvs(servers);
    }
    kernel.walk(host, packet)
}
