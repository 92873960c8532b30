//! Small random clusters, dense with near misses: few labels, few addresses, few ports.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use svc_netpol::model::{Object, ObjectRef};
use svc_netpol::{Baseline, Endpoint, HostNetwork, IpBlocks, Options, OwnNode, SelfTraffic, Traffic};

/// Objects by kind and name: what a cluster is, whatever happened before.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) objects: BTreeMap<(String, ObjectRef), Object>,
}

/// Something that happens to a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Apply(Box<Object>),
    Remove(Box<Object>),
}

impl World {
    pub(crate) fn happen(&mut self, event: &Event) {
        match event {
            Event::Apply(object) => self.objects.insert(key(object), (**object).clone()),
            Event::Remove(object) => self.objects.remove(&key(object)),
        };
    }
}

fn key(object: &Object) -> (String, ObjectRef) {
    (object.kind().to_owned(), object.object_ref())
}

fn object(kind: &str, value: Value) -> Object {
    Object::from_kind(kind, value).unwrap().unwrap()
}

fn pick<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + Clone + use<T> {
    proptest::sample::select(values.to_vec())
}

const NAMESPACES: [&str; 3] = ["x", "y", "z"];

fn labels() -> impl Strategy<Value = Value> + Clone {
    (option::of(pick(&["a", "b", ""])), option::of(pick(&["f", "b"]))).prop_map(|(app, tier)| {
        let mut labels = serde_json::Map::new();
        labels.extend(app.map(|app| ("app".to_owned(), json!(app))));
        labels.extend(tier.map(|tier| ("tier".to_owned(), json!(tier))));
        Value::Object(labels)
    })
}

fn selector() -> impl Strategy<Value = Value> + Clone {
    let values = vec(pick(&["a", "b", "f", ""]), 1..3);
    let expression =
        (pick(&["app", "tier"]), 0..4u8, values).prop_map(|(key, operator, values)| match operator {
            0 => json!({"key": key, "operator": "In", "values": values}),
            1 => json!({"key": key, "operator": "NotIn", "values": values}),
            2 => json!({"key": key, "operator": "Exists"}),
            _ => json!({"key": key, "operator": "DoesNotExist"}),
        });
    prop_oneof![
        2 => Just(json!({})),
        3 => labels().prop_map(|labels| json!({"matchLabels": labels})),
        2 => expression.prop_map(|expression| json!({"matchExpressions": [expression]})),
        1 => Just(json!({"matchLabels": {"kubernetes.io/metadata.name": "x"}})),
    ]
}

fn address() -> impl Strategy<Value = String> + Clone {
    (0..8u8).prop_map(|last| format!("10.0.0.{last}"))
}

fn network() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        (0..8u8, 28..33u8).prop_map(|(last, length)| format!("10.0.0.{last}/{length}")),
        (0..8u8, 124..129u8).prop_map(|(last, length)| format!("fd00::{last}/{length}")),
        pick(&["0.0.0.0/0", "::/0", "172.20.0.1/32"]).prop_map(str::to_owned),
    ]
}

fn namespace() -> impl Strategy<Value = Object> {
    (pick(&NAMESPACES), labels())
        .prop_map(|(name, labels)| object("Namespace", json!({"metadata": {"name": name, "labels": labels}})))
}

fn node() -> impl Strategy<Value = Object> {
    (1..3u8, labels()).prop_map(|(n, labels)| {
        object(
            "Node",
            json!({
                "metadata": {"name": format!("node-{n}"), "labels": labels},
                "status": {"addresses": [
                    {"type": "InternalIP", "address": format!("172.20.0.{n}")},
                    {"type": "Hostname", "address": format!("node-{n}")},
                ]},
            }),
        )
    })
}

fn pod() -> impl Strategy<Value = Object> {
    let ports = vec((pick(&["web", "dns"]), pick(&["TCP", "UDP"]), pick(&[53, 80, 81])), 0..3);
    let ports = ports.prop_map(|ports| {
        let port =
            |(name, protocol, port)| json!({"name": name, "protocol": protocol, "containerPort": port});
        ports.into_iter().map(port).collect::<Vec<_>>()
    });
    let addresses = prop_oneof![
        1 => Just(vec![]),
        5 => address().prop_map(|ip| vec![ip]),
        2 => (address(), 0..8u8).prop_map(|(ip, last)| vec![ip, format!("fd00::{last}")]),
    ];
    let phase = prop_oneof![8 => Just("Running"), 1 => Just("Succeeded")];
    let host = prop_oneof![6 => Just(false), 1 => Just(true)];
    (pick(&NAMESPACES), pick(&["p", "q", "r"]), labels(), ports, addresses, phase, host, 0..3u8).prop_map(
        |(namespace, name, labels, ports, addresses, phase, host, node)| {
            let addresses = if host { vec![format!("172.20.0.{node}")] } else { addresses };
            let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
            object(
                "Pod",
                json!({
                    "metadata": {"namespace": namespace, "name": name, "labels": labels},
                    "spec": {
                        "nodeName": format!("node-{node}"),
                        "hostNetwork": host,
                        "containers": [{"name": "c", "ports": ports}],
                    },
                    "status": {"phase": phase, "podIPs": ips},
                }),
            )
        },
    )
}

fn network_policy() -> impl Strategy<Value = Object> {
    let block = (network(), vec(network(), 0..2))
        .prop_map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": except}}));
    let peer = prop_oneof![
        2 => selector().prop_map(|pods| json!({"podSelector": pods})),
        2 => selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        2 => (selector(), selector()).prop_map(|(n, p)| json!({"namespaceSelector": n, "podSelector": p})),
        2 => block,
    ];
    let port = prop_oneof![
        1 => Just(json!({})),
        1 => pick(&["TCP", "UDP", "SCTP"]).prop_map(|protocol| json!({"protocol": protocol})),
        3 => pick(&[53, 80, 81]).prop_map(|port| json!({"port": port})),
        2 => (pick(&["web", "dns"]), pick(&["TCP", "UDP"])).prop_map(|(n, p)| json!({"port": n, "protocol": p})),
        1 => Just(json!({"port": 80, "endPort": 8080})),
    ];
    let rule = |peers: &'static str| {
        (option::of(vec(peer.clone(), 0..3)), option::of(vec(port.clone(), 0..3)))
            .prop_map(move |(p, ports)| json!({peers: p, "ports": ports}))
    };
    let rules = (vec(rule("from"), 0..3), vec(rule("to"), 0..3));
    let types = option::of(vec(pick(&["Ingress", "Egress"]), 1..3));
    (pick(&NAMESPACES), pick(&["k", "l", "m"]), selector(), rules, types).prop_map(
        |(namespace, name, pods, (ingress, egress), types)| {
            object(
                "NetworkPolicy",
                json!({
                    "metadata": {"namespace": namespace, "name": name},
                    "spec": {"podSelector": pods, "ingress": ingress, "egress": egress, "policyTypes": types},
                }),
            )
        },
    )
}

fn cluster_policy() -> impl Strategy<Value = Object> {
    let pods = (selector(), selector())
        .prop_map(|(n, p)| json!({"pods": {"namespaceSelector": n, "podSelector": p}}));
    let namespaces = selector().prop_map(|namespaces| json!({"namespaces": namespaces}));
    let subject = prop_oneof![namespaces.clone(), pods.clone()];
    let from = prop_oneof![6 => namespaces.clone(), 6 => pods.clone(), 1 => Just(json!({}))];
    let to = prop_oneof![
        4 => namespaces,
        4 => pods,
        2 => vec(network(), 1..3).prop_map(|networks| json!({"networks": networks})),
        2 => selector().prop_map(|nodes| json!({"nodes": nodes})),
        1 => pick(&["a.test", "*.b.test", "c.test"]).prop_map(|name| json!({"domainNames": [name]})),
    ];
    let protocol = prop_oneof![
        2 => pick(&["tcp", "udp", "sctp"]).prop_map(|protocol| json!({protocol: {}})),
        4 => (pick(&["tcp", "udp"]), pick(&[53, 80, 81]))
            .prop_map(|(protocol, port)| json!({protocol: {"destinationPort": {"number": port}}})),
        1 => Just(json!({"tcp": {"destinationPort": {"range": {"start": 80, "end": 90}}}})),
        2 => pick(&["web", "dns"]).prop_map(|name| json!({"destinationNamedPort": name})),
    ];
    let port = prop_oneof![
        4 => (pick(&["TCP", "UDP"]), pick(&[53, 80, 81]))
            .prop_map(|(protocol, port)| json!({"portNumber": {"protocol": protocol, "port": port}})),
        1 => Just(json!({"portRange": {"start": 80, "end": 90}})),
        2 => pick(&["web", "dns"]).prop_map(|name| json!({"namedPort": name})),
    ];
    let rules = (
        vec(
            (
                pick(&["Accept", "Deny", "Pass"]),
                vec(from, 1..3),
                vec(protocol.clone(), 0..3),
                vec(port.clone(), 0..3),
            ),
            0..3,
        ),
        vec((pick(&["Accept", "Deny", "Pass"]), vec(to, 1..3), vec(protocol, 0..3), vec(port, 0..3)), 0..3),
    );
    let kind = pick(&["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"]);
    (kind, pick(&["k", "l"]), pick(&["Admin", "Baseline"]), 0..3, subject, rules).prop_map(
        |(kind, name, tier, priority, subject, (ingress, egress))| {
            let rules = |peers: &str, rules: Vec<(&str, Vec<Value>, Vec<Value>, Vec<Value>)>| -> Vec<Value> {
                let rule = |(action, list, protocols, ports)| {
                    json!({"name": action, "action": action, peers: list, "protocols": protocols, "ports": ports})
                };
                rules.into_iter().map(rule).collect()
            };
            object(kind, json!({
                "metadata": {"name": name},
                "spec": {
                    "tier": tier, "priority": priority, "subject": subject,
                    "ingress": rules("from", ingress), "egress": rules("to", egress),
                },
            }))
        },
    )
}

fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![2 => namespace(), 1 => node(), 6 => pod(), 5 => network_policy(), 3 => cluster_policy()]
}

/// Objects that come, change and go.
pub(crate) fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = (any_object(), 0..5u8).prop_map(|(object, kind)| match kind {
        0 => Event::Remove(Box::new(object)),
        _ => Event::Apply(Box::new(object)),
    });
    vec(event, 0..most)
}

pub(crate) fn options() -> impl Strategy<Value = Options> {
    vec(prop_oneof![3 => Just(false), 1 => Just(true)], 5).prop_map(|bits| {
        let mut options = Options::default();
        options.ip_blocks = if bits[0] { IpBlocks::ExternalOnly } else { IpBlocks::MatchPods };
        options.host_network = if bits[1] { HostNetwork::IsPod } else { HostNetwork::IsNode };
        options.own_node = if bits[2] { OwnNode::Evaluated } else { OwnNode::Allowed };
        options.self_traffic = if bits[3] { SelfTraffic::Evaluated } else { SelfTraffic::Allowed };
        options.baseline = if bits[4] { Baseline::UnselectedPods } else { Baseline::PerDirection };
        options
    })
}

pub(crate) const TRAFFIC: [Traffic; 6] = [
    Traffic::Tcp(80),
    Traffic::Tcp(81),
    Traffic::Udp(53),
    Traffic::Udp(80),
    Traffic::Sctp(80),
    Traffic::Other,
];

/// Ends of connections worth asking for: every Pod that could be, and addresses inside and outside.
pub(crate) fn endpoints() -> Vec<Endpoint<'static>> {
    let pods =
        NAMESPACES.iter().flat_map(|namespace| ["p", "q", "r"].map(|name| Endpoint::pod(namespace, name)));
    let addresses = ["10.0.0.1", "10.0.0.6", "172.20.0.1", "172.20.0.2", "8.8.8.8", "fd00::1", "2001:db8::1"];
    let addresses = addresses.iter().map(|ip| Endpoint::Address(ip.parse::<IpAddr>().unwrap()));
    pods.chain(addresses).collect()
}
