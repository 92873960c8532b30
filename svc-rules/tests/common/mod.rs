//! Random clusters.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod ipvs;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use svc_endpoints::view::{SliceCache, ViewChanges};
use svc_model::{EndpointSlice, IpFamily, ObjectRef, Service, SmolStr};
use svc_rules::{LocalDetector, NodePortAddresses, ProxyConfig};

/// One event of a cluster.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Apply(Box<Service>),
    Remove(ObjectRef),
    Slice(Box<EndpointSlice>),
    RemoveSlice(ObjectRef),
    Zone(Option<SmolStr>),
}

/// The objects of a cluster, as sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) services: BTreeMap<ObjectRef, Service>,
    pub(crate) slices: SliceCache,
    pub(crate) zone: Option<SmolStr>,
}

impl Cluster {
    pub(crate) fn apply(&mut self, event: &Event) -> ViewChanges {
        match event {
            Event::Apply(service) => {
                _ = self.services.insert(service.metadata.object_ref(), (**service).clone())
            }
            Event::Remove(name) => _ = self.services.remove(name),
            Event::Slice(slice) => return self.slices.apply(slice),
            Event::RemoveSlice(name) => return self.slices.remove(name),
            Event::Zone(zone) => self.zone.clone_from(zone),
        }
        ViewChanges::default()
    }
}

pub(crate) const NODE: &str = "node-a";

fn pick<T: Clone + std::fmt::Debug + 'static>(options: &[T]) -> impl Strategy<Value = T> + use<T> {
    proptest::sample::select(options.to_vec())
}

const NAMES: [(&str, &str); 6] = [("a", "x"), ("a", "y"), ("a-b", "x"), ("b", "x"), ("b", "x-1"), ("c", "z")];

fn names() -> impl Strategy<Value = (&'static str, &'static str)> {
    pick(&NAMES)
}

fn reference((namespace, name): (&str, &str)) -> ObjectRef {
    ObjectRef::new(namespace, name)
}

/// Each Service has addresses and node ports of its own, as the API server sees to it.
pub(crate) fn service(family: IpFamily) -> impl Strategy<Value = Service> {
    let spec = (
        pick(&["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]),
        vec(pick(&["TCP", "UDP"]), 1..3),
        (weighted(0.3, pick(&["Local"])), weighted(0.3, pick(&["Local"]))),
        weighted(0.3, 1..100u32),
        (0..3u8, 0..3u8, any::<bool>()),
        vec(pick(&[0u8, 1, 2, 3]), 0..3),
        any::<bool>(),
    );
    (names(), spec).prop_map(move |(name, (kind, protocols, policies, affinity, counts, ranges, health))| {
        let place = NAMES.iter().position(|known| *known == name).unwrap();
        let address = |block: u8, index: usize| match family {
            IpFamily::Ipv4 => format!("172.30.{block}.{}", place * 4 + index),
            IpFamily::Ipv6 => format!("fd00:172:30:{block}::{:x}", place * 4 + index),
        };
        let exposed = kind != "ClusterIP";
        let ports: Vec<Value> = protocols
            .iter()
            .enumerate()
            .map(|(index, protocol)| {
                let node_port = if exposed && counts.2 { 30_000 + place * 4 + index } else { 0 };
                let name = if protocols.len() == 1 { String::new() } else { format!("p{index}") };
                json!({"name": name, "protocol": protocol, "port": 80 + index, "nodePort": node_port})
            })
            .collect();
        let external_ips: Vec<_> = (0..counts.0).map(|index| address(1, index.into())).collect();
        let ingress: Vec<_> = (0..counts.1)
            .filter(|_| kind == "LoadBalancer")
            .map(|index| json!({"ip": address(2, index.into())}))
            .collect();
        let ranges: Vec<_> = ranges
            .iter()
            .map(|range| match (range, family) {
                (0, IpFamily::Ipv4) => "0.0.0.0/0",
                (1, IpFamily::Ipv4) => "192.168.0.0/16",
                (_, IpFamily::Ipv4) => "203.0.113.0/24",
                (0, IpFamily::Ipv6) => "::/0",
                (1, IpFamily::Ipv6) => "2001:db8::/32",
                (_, IpFamily::Ipv6) => "2001:db8:113::/48",
            })
            .collect();
        let mut object = json!({
            "metadata": {"namespace": name.0, "name": name.1},
            "spec": {
                "type": kind, "clusterIP": address(0, 0), "ports": ports, "externalIPs": external_ips,
                "loadBalancerSourceRanges": ranges,
                "internalTrafficPolicy": policies.0, "externalTrafficPolicy": policies.1.unwrap_or(""),
                "healthCheckNodePort": if health { 32_000 + place } else { 0 },
            },
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        if let Some(seconds) = affinity {
            object["spec"]["sessionAffinity"] = json!("ClientIP");
            object["spec"]["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
        }
        Service::deserialize(object).unwrap()
    })
}

fn slice(family: IpFamily) -> impl Strategy<Value = EndpointSlice> {
    let endpoint = (
        0..12u8,
        pick(&[(true, true, false), (true, true, false), (false, true, true), (false, false, false)]),
        weighted(0.8, pick(&[NODE, "node-b"])),
        weighted(0.5, pick(&["zone-1", "zone-2"])),
        weighted(0.5, pick(&[NODE, "node-b"])),
    );
    (names(), 0..2u8, vec(endpoint, 0..6)).prop_map(move |(name, number, endpoints)| {
        let endpoints: Vec<Value> = endpoints
            .into_iter()
            .map(|(last, (ready, serving, terminating), node, zone_hint, node_hint)| {
                let address = match family {
                    IpFamily::Ipv4 => format!("10.0.0.{last}"),
                    IpFamily::Ipv6 => format!("fd00:10::{last:x}"),
                };
                let hint = |hint: Option<&str>| hint.map(|name| json!({"name": name})).into_iter().collect::<Vec<_>>();
                json!({
                    "addresses": [address], "nodeName": node,
                    "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                    "hints": {"forZones": hint(zone_hint), "forNodes": hint(node_hint)},
                })
            })
            .collect();
        let ports: Vec<Value> = ["", "p0", "p1"]
            .iter()
            .flat_map(|port| ["TCP", "UDP"].map(|protocol| (port, protocol)))
            .enumerate()
            .map(|(index, (port, protocol))| json!({"name": port, "protocol": protocol, "port": 8080 + index / 4}))
            .collect();
        let object = json!({
            "metadata": {
                "namespace": name.0, "name": format!("{}-{number}", name.1),
                "labels": {"kubernetes.io/service-name": name.1},
            },
            "addressType": family.as_str(), "endpoints": endpoints, "ports": ports,
        });
        EndpointSlice::deserialize(object).unwrap()
    })
}

pub(crate) fn event(family: IpFamily) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => service(family).prop_map(|service| Event::Apply(Box::new(service))),
        1 => names().prop_map(|name| Event::Remove(reference(name))),
        5 => slice(family).prop_map(|slice| Event::Slice(Box::new(slice))),
        1 => (names(), 0..2u8).prop_map(|((namespace, name), number)| {
            Event::RemoveSlice(ObjectRef::new(namespace, format!("{name}-{number}")))
        }),
        1 => weighted(0.7, pick(&["zone-1", "zone-2"])).prop_map(|zone| Event::Zone(zone.map(SmolStr::from))),
    ]
}

pub(crate) fn families() -> impl Strategy<Value = IpFamily> {
    pick(&[IpFamily::Ipv4, IpFamily::Ipv6])
}

/// Addresses of the node.
pub(crate) fn node_addresses(family: IpFamily) -> Vec<&'static str> {
    match family {
        IpFamily::Ipv4 => vec!["192.168.7.10", "10.99.0.5", "127.0.0.1"],
        IpFamily::Ipv6 => vec!["2001:db8:7::10", "2001:db8:99::5", "::1"],
    }
}

pub(crate) fn config(family: IpFamily) -> impl Strategy<Value = ProxyConfig> {
    let v4 = family == IpFamily::Ipv4;
    let detector = pick(&[
        LocalDetector::None,
        LocalDetector::Cidr(if v4 { "10.0.0.0/8" } else { "fd00:10::/64" }.parse().unwrap()),
        LocalDetector::Bridge("cbr0".into()),
        LocalDetector::InterfacePrefix("cali".into()),
    ]);
    let within = if v4 { "192.168.0.0/16" } else { "2001:db8:7::/48" };
    let node_ports =
        pick(&[NodePortAddresses::All, NodePortAddresses::within([within.parse().unwrap()], family)]);
    (detector, node_ports, any::<[bool; 6]>()).prop_map(move |(detector, node_ports, flags)| {
        let mut config = ProxyConfig::new(family, NODE);
        config.node_addresses = node_addresses(family).iter().map(|ip| ip.parse().unwrap()).collect();
        config.node_ip = config.node_addresses.first().copied();
        config.local_detector = detector;
        config.node_port_addresses = node_ports;
        config.masquerade_all = flags[0];
        config.random_fully = flags[1];
        config.conntrack_tcp_be_liberal = flags[2];
        config.counts_invalid_drops = flags[3];
        config.counts_localhost_node_ports = flags[4];
        config.localhost_node_ports = flags[5];
        config
    })
}
