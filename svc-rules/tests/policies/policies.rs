//! Policy sets in the manner of cyclonus: every kind of peer with every kind of port in both directions, and
//! cluster-scoped policies around them.

use serde_json::{Value, json};
use svc_model::Object;

fn object(kind: &str, value: Value) -> Object {
    Object::from_kind(kind, value).unwrap().unwrap()
}

fn policy(name: &str, spec: Value) -> Object {
    object("NetworkPolicy", json!({"metadata": {"namespace": "x", "name": name}, "spec": spec}))
}

fn cluster(name: &str, tier: &str, priority: i32, rules: (Value, Value)) -> Object {
    object(
        "ClusterNetworkPolicy",
        json!({"metadata": {"name": name}, "spec": {
            "tier": tier, "priority": priority, "subject": {"namespaces": {"matchLabels": {"ns": "x"}}},
            "ingress": rules.0, "egress": rules.1,
        }}),
    )
}

/// Named policy sets.
pub(crate) fn all() -> Vec<(String, Vec<Object>)> {
    let pods = json!({"matchLabels": {"pod": "b"}});
    let namespaces = json!({"matchExpressions": [{"key": "ns", "operator": "In", "values": ["y"]}]});
    let peers = [
        ("everyone", json!([])),
        ("pods", json!([{"podSelector": pods}])),
        ("own namespace", json!([{"podSelector": {}}])),
        ("namespaces", json!([{"namespaceSelector": namespaces}])),
        ("all pods", json!([{"namespaceSelector": {}}])),
        ("pods in namespaces", json!([{"podSelector": pods, "namespaceSelector": namespaces}])),
        (
            "blocks",
            json!([
                {"ipBlock": {"cidr": "10.180.0.0/16", "except": ["10.180.2.0/31"]}},
                {"ipBlock": {"cidr": "fd00:180::/32", "except": ["fd00:180::2:0/127"]}},
            ]),
        ),
        (
            "outside",
            json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, {"ipBlock": {"cidr": "2001:db8::/32"}}]),
        ),
    ];
    let ports = [
        ("all", json!([])),
        ("one", json!([{"port": 80}])),
        ("udp", json!([{"protocol": "UDP", "port": 81}, {"protocol": "TCP"}])),
        ("named", json!([{"port": "serve-81-tcp"}, {"protocol": "UDP", "port": "serve-80-udp"}])),
        ("range", json!([{"port": 80, "endPort": 90}])),
    ];
    let mut sets = vec![("nothing".to_owned(), vec![])];
    for (p, (peer_name, peer)) in peers.iter().enumerate() {
        for (q, (port_name, port)) in ports.iter().enumerate() {
            let subject = if (p + q) % 2 == 0 { json!({}) } else { json!({"matchLabels": {"pod": "a"}}) };
            let (direction, list) = if (p + q) % 3 == 0 { ("egress", "to") } else { ("ingress", "from") };
            let types = if direction == "egress" { json!(["Egress"]) } else { json!(["Ingress"]) };
            let spec = json!({"podSelector": subject, "policyTypes": types, direction: [{list: peer, "ports": port}]});
            sets.push((format!("{direction} {peer_name}, ports {port_name}"), vec![policy("p", spec)]));
        }
    }
    sets.push((
        "deny all of x".into(),
        vec![policy("p", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))],
    ));
    sets.push((
        "two policies, both directions".into(),
        vec![
            policy("p", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
            policy(
                "q",
                json!({
                    "podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 80}]}],
                    "egress": [{"to": [{"podSelector": {"matchLabels": {"pod": "c"}}}]}],
                }),
            ),
        ],
    ));
    let everyone = json!([{"namespaces": {}}]);
    let from_y = json!([{"pods": {"namespaceSelector": {"matchLabels": {"ns": "y"}}, "podSelector": {}}}]);
    sets.push(("Admin Deny over a NetworkPolicy".into(), vec![
        policy("p", json!({"podSelector": {}, "ingress": [{}]})),
        cluster("admin", "Admin", 10, (json!([{"action": "Deny", "from": from_y, "protocols": [{"tcp": {"destinationPort": {"number": 81}}}]}]), json!([]))),
    ]));
    sets.push((
        "Admin Pass, NetworkPolicy, Baseline Deny".into(),
        vec![
            policy(
                "p",
                json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"ports": [{"port": 80}]}]}),
            ),
            cluster(
                "pass",
                "Admin",
                10,
                (
                    json!([{"action": "Pass", "from": from_y}, {"action": "Deny", "from": everyone}]),
                    json!([]),
                ),
            ),
            cluster(
                "base",
                "Baseline",
                10,
                (json!([{"action": "Deny", "from": everyone, "protocols": [{"udp": {}}]}]), json!([])),
            ),
        ],
    ));
    sets.push(("Pods pass, networks are denied".into(), vec![cluster("egress", "Admin", 10, (json!([]), json!([
        {"action": "Pass", "to": [{"namespaces": {"matchLabels": {"ns": "z"}}}]},
        {"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}], "protocols": [{"tcp": {}}]},
    ])))]));
    sets
}
