//! Packets fare the same in both layouts of nftables mode, and as the plan of their Service says.
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
use std::time::Duration;

use common::{Cluster, config, event, families};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use svc_endpoints::view::PortKey;
use svc_model::{IpFamily, Protocol};
use svc_rules::ProxyConfig;
use svc_rules::host::Host;
use svc_rules::nft::Ruleset;
use svc_rules::nftables::{Layout, Proxy, Scope};
use svc_rules::outcome::{Outcome, Walk};
use svc_rules::packet::{Packet, Transport};
use svc_rules::plan::{PortPlan, service_ports};

/// The table of a layout, and the host as it is with it.
struct World {
    rules: Ruleset,
    host: Host,
}

impl World {
    fn new(cluster: &Cluster, config: &ProxyConfig, layout: Layout) -> Self {
        let mut proxy = Proxy::with_layout(config.clone(), layout);
        for service in cluster.services.values() {
            let _ = proxy.apply(service);
        }
        let mut text = String::new();
        let _ = proxy.sync(&cluster.slices, Scope::Full, &mut text);
        let rules = Ruleset::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let [net, default] = match config.family {
            IpFamily::Ipv4 => ["192.168.7.10/24", "0.0.0.0/0"],
            IpFamily::Ipv6 => ["2001:db8:7::10/64", "::/0"],
        };
        let host = Host::new()
            .with_interface("eth0", [net.parse().unwrap()])
            .with_route(default.parse().unwrap(), "eth0");
        Self { rules, host }
    }

    fn walk(&self, packet: &Packet) -> Walk {
        self.rules.walk(&self.host, packet)
    }
}

/// What can become of a packet, each with its probability.
fn fates(walk: &Walk) -> Vec<(String, f64)> {
    let mut all: Vec<(String, f64)> = Vec::new();
    for outcome in &walk.outcomes {
        let Outcome { verdict, destination, dnat, source_nat, mark, .. } = outcome;
        let fate = format!("{verdict:?} {destination} {dnat} {source_nat:?} {mark:#x}");
        match all.iter_mut().find(|(known, _)| *known == fate) {
            Some((_, sum)) => *sum += outcome.probability.value(),
            None => all.push((fate, outcome.probability.value())),
        }
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

fn same(flat: &Walk, reference: &Walk) -> bool {
    let (flat, reference) = (fates(flat), fates(reference));
    flat.len() == reference.len()
        && flat.iter().zip(&reference).all(|((a, p), (b, q))| a == b && (p - q).abs() < 1e-9)
}

/// Packets from everywhere to everything that the cluster could have a rule for.
fn packet(family: IpFamily) -> impl Strategy<Value = Packet> {
    let v4 = family == IpFamily::Ipv4;
    let pick = |v4_options: &[&'static str], v6_options: &[&'static str]| {
        let options: Vec<IpAddr> =
            if v4 { v4_options } else { v6_options }.iter().map(|ip| ip.parse().unwrap()).collect();
        proptest::sample::select(options)
    };
    let source = pick(
        &["10.0.0.3", "203.0.113.5", "192.168.9.9", "8.8.8.8", "172.30.2.4", "192.168.7.10"],
        &["fd00:10::3", "2001:db8:113::5", "2001:db8:9::9", "2600::8", "fd00:172:30:2::4", "2001:db8:7::10"],
    );
    let node = pick(&["192.168.7.10", "10.0.0.5"], &["2001:db8:7::10", "fd00:10::5"]);
    let service = (0..3u8, 0..24u8).prop_map(move |(block, host)| -> IpAddr {
        if v4 {
            format!("172.30.{block}.{host}").parse().unwrap()
        } else {
            format!("fd00:172:30:{block}::{host:x}").parse().unwrap()
        }
    });
    let to_service = (service, 80..83u16).prop_map(|(ip, port)| SocketAddr::new(ip, port));
    let to_node = (node, 30_000..30_024u16).prop_map(|(ip, port)| SocketAddr::new(ip, port));
    let to = prop_oneof![3 => to_service, 1 => to_node];
    let interface = proptest::sample::select(vec!["eth0", "cali1", "cbr0"]);
    let transport = proptest::sample::select(vec![Transport::TCP, Transport::UDP]);
    (source, to, interface, transport).prop_map(move |(source, to, interface, transport)| {
        let packet = Packet::new(transport, SocketAddr::new(source, 40_000), to);
        let own = source.to_string() == if v4 { "192.168.7.10" } else { "2001:db8:7::10" };
        if own { packet } else { packet.from_interface(interface) }
    })
}

type Case = (ProxyConfig, Cluster, Vec<(Packet, Index, u64)>);

fn cases() -> impl Strategy<Value = Case> {
    families().prop_flat_map(|family| {
        let packets = vec((packet(family), any::<Index>(), 0..60u64), 24);
        (config(family), vec(event(family), 4..24), packets).prop_map(|(config, events, packets)| {
            let mut cluster = Cluster::default();
            for event in &events {
                let _ = cluster.apply(event);
            }
            (config, cluster, packets)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Time goes on from packet to packet, and clients are remembered.
    #[test]
    fn both_layouts_do_the_same((config, cluster, packets) in cases()) {
        let mut flat = World::new(&cluster, &config, Layout::Flat);
        let mut reference = World::new(&cluster, &config, Layout::Reference);
        for (packet, choice, seconds) in packets {
            let walks = [flat.walk(&packet), reference.walk(&packet)];
            prop_assert!(same(&walks[0], &walks[1]), "{packet:?}\n{:#?}\n{:#?}", fates(&walks[0]), fates(&walks[1]));
            let [of_flat, of_reference] = walks;
            let taken = choice.get(&of_reference.outcomes);
            let twin = of_flat.outcomes.iter().find(|outcome| {
                outcome.destination == taken.destination && outcome.verdict == taken.verdict
            });
            flat.host.remember(&twin.unwrap().affinity);
            reference.host.remember(&taken.affinity);
            for world in [&mut flat, &mut reference] {
                world.host.now += Duration::from_secs(seconds);
            }
        }
    }

    #[test]
    fn endpoints_are_drawn_as_planned((config, cluster, _) in cases()) {
        let flat = World::new(&cluster, &config, Layout::Flat);
        let viewpoint = config.viewpoint();
        for service in cluster.services.values() {
            for port in service_ports(service, config.family).0 {
                let key = PortKey {
                    service: service.metadata.object_ref(),
                    family: config.family,
                    port: port.name.port().into(),
                    protocol: port.protocol,
                };
                let plan = PortPlan::new(port.into(), cluster.slices.port(&key), &viewpoint);
                let transport = if plan.service.protocol == Protocol::Tcp { Transport::TCP } else { Transport::UDP };
                let to = SocketAddr::new(plan.service.cluster_ip, plan.service.port);
                let from: IpAddr =
                    if to.is_ipv4() { "10.0.0.200".parse().unwrap() } else { "fd00:10::200".parse().unwrap() };
                let packet =
                    Packet::new(transport, SocketAddr::new(from, 40_000), to).from_interface("cali1");
                let got = flat.walk(&packet).destinations();
                let mut wanted: Vec<_> = plan
                    .internal
                    .into_iter()
                    .flat_map(|policy| plan.under(policy))
                    .map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port))
                    .collect();
                wanted.sort();
                prop_assert_eq!(got.iter().map(|(place, _)| *place).collect::<Vec<_>>(), wanted.clone());
                prop_assert!(got.iter().all(|(_, share)| share.is_one_in(wanted.len())));
            }
        }
    }
}
