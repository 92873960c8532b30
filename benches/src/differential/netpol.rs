//! NetworkPolicies over a few Pods, and connections between them and from outside.

use serde_json::{Value, json};

use super::names::{maybe, metadata, one, percent, some};
use crate::generate::Random;

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const PORT_NAMES: [&str; 4] = ["web", "dns", "metrics", "nowhere"];

/// A case of area `netpol`.
pub(super) fn netpol(random: &mut Random) -> Value {
    let r = random;
    let v6 = percent(r, 25);
    let namespaces: Vec<Value> = NAMESPACES
        .into_iter()
        .map(|name| {
            let mut metadata = metadata("", name);
            metadata["labels"] = json!({"kubernetes.io/metadata.name": name});
            let env = *r.pick(&["prod", "dev"]);
            maybe(r, 70, &mut metadata["labels"], "env", json!(env));
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        })
        .collect();
    let mut pods = Vec::new();
    for (at, namespace) in NAMESPACES.into_iter().enumerate() {
        for number in 0..r.between(1, 3) {
            pods.push(pod(r, namespace, at, number, v6));
        }
    }
    let policies: Vec<Value> = (0..r.between(1, 5)).map(|number| policy(r, number)).collect();
    let ends: Vec<String> = pods
        .iter()
        .map(|pod| &pod["metadata"])
        .map(|m| format!("{}/{}", m["namespace"].as_str().unwrap_or(""), m["name"].as_str().unwrap_or("")))
        .collect();
    let mut cases = Vec::new();
    while cases.len() < 24 {
        let end = |r: &mut Random| match r.below(5) {
            0 if v6 => json!({"ip": format!("2001:db8:{:x}::7", r.below(3))}),
            0 => json!({"ip": format!("172.16.{}.{}", r.below(2), r.below(256))}),
            _ => json!(r.pick(&ends).clone()),
        };
        let (from, to) = (end(r), end(r));
        // The simulator doesn't know that a Pod always reaches itself.
        if from == to || (from.is_object() && to.is_object()) {
            continue;
        }
        let port = *r.pick(&[80, 81, 53, 8080, 9090, 443, 1, 65_535]);
        cases.push(json!({"from": from, "to": to, "port": port, "protocol": *r.pick(&PROTOCOLS)}));
    }
    json!({"area": "netpol", "namespaces": namespaces, "pods": pods, "policies": policies, "cases": cases})
}

fn pod(random: &mut Random, namespace: &str, at: usize, number: usize, v6: bool) -> Value {
    let r = random;
    let name = ["a", "b", "c"][number];
    let mut metadata = metadata(namespace, name);
    metadata["labels"] = json!({"pod": name});
    let tier = *r.pick(&["front", "back"]);
    maybe(r, 70, &mut metadata["labels"], "tier", json!(tier));
    let mut ports: Vec<Value> = Vec::new();
    for (name, numbers) in PORT_NAMES.into_iter().zip([[80, 8080], [53, 53], [9090, 8080]]) {
        let protocol = *r.pick(&["TCP", "TCP", "UDP", "SCTP"]);
        let port = *r.pick(&numbers);
        let taken = ports.iter().any(|other| other["containerPort"] == port && other["protocol"] == protocol);
        if percent(r, 70) && !taken {
            ports.push(json!({"name": name, "containerPort": port, "protocol": protocol}));
        }
    }
    let ip = if v6 { format!("fd00:{at}::{number}") } else { format!("10.0.{at}.{}", number + 1) };
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}})
}

fn policy(random: &mut Random, number: usize) -> Value {
    let r = random;
    let namespace = *r.pick(&NAMESPACES);
    let mut spec = json!({"podSelector": selector(r, &POD_LABELS)});
    let types = one(r, &[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    // As the API server fills them in; the simulator refuses none.
    spec["policyTypes"] = types;
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        if percent(r, 65) {
            spec[direction] = (0..r.below(4)).map(|_| rule(r, peers)).collect();
        }
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": metadata(namespace, &format!("p{number}")), "spec": spec})
}

fn rule(random: &mut Random, peers: &str) -> Value {
    let r = random;
    let mut rule = json!({});
    if percent(r, 80) {
        rule[peers] = (0..r.below(4)).map(|_| peer(r)).collect();
    }
    if percent(r, 70) {
        rule["ports"] = (0..r.below(4)).map(|_| port(r)).collect();
    }
    rule
}

type LabelValues = [(&'static str, [&'static str; 3]); 2];
const POD_LABELS: LabelValues = [("pod", ["a", "b", "c"]), ("tier", ["front", "back", "none"])];
const NAMESPACE_LABELS: LabelValues =
    [("kubernetes.io/metadata.name", NAMESPACES), ("env", ["prod", "dev", "none"])];

fn selector(random: &mut Random, labels: &LabelValues) -> Value {
    let r = random;
    let mut selector = json!({});
    if percent(r, 40) {
        let (key, values) = r.pick(labels);
        selector["matchLabels"] = json!({*key: *r.pick(values)});
    }
    if percent(r, 30) {
        let operator = *r.pick(&["In", "NotIn", "Exists", "DoesNotExist"]);
        // Only keys that every object has: the simulator takes a missing one for no match, and Kubernetes for a match.
        let (key, values) = if operator == "NotIn" { &labels[0] } else { r.pick(labels) };
        let mut expression = json!({"key": key, "operator": operator});
        if operator.ends_with("In") {
            let mut chosen = some(r, values, 50);
            chosen.push(values[0]);
            expression["values"] = json!(chosen);
        }
        selector["matchExpressions"] = json!([expression]);
    }
    selector
}

fn peer(random: &mut Random) -> Value {
    let r = random;
    match r.below(6) {
        0 => {
            let (cidr, excepts) = *r.pick(&[
                ("10.0.0.0/16", ["10.0.1.0/24", "10.0.0.1/32"]),
                ("0.0.0.0/0", ["10.0.0.0/8", "172.16.0.0/17"]),
                ("172.16.0.0/12", ["172.16.0.0/25", "172.16.1.128/25"]),
                ("10.0.2.1/32", ["10.0.2.1/32", "10.0.2.1/32"]),
                ("fd00::/16", ["fd00:1::/32", "fd00::1/128"]),
                ("::/0", ["2001:db8:1::/48", "fd00:2::/32"]),
            ]);
            let mut block = json!({"cidr": cidr});
            let excepts = some(r, &excepts, 50);
            maybe(r, 60, &mut block, "except", json!(excepts));
            json!({"ipBlock": block})
        }
        1 | 2 => json!({"podSelector": selector(r, &POD_LABELS)}),
        3 => json!({"namespaceSelector": selector(r, &NAMESPACE_LABELS)}),
        _ => {
            json!({"namespaceSelector": selector(r, &NAMESPACE_LABELS), "podSelector": selector(r, &POD_LABELS)})
        }
    }
}

fn port(random: &mut Random) -> Value {
    let r = random;
    let mut port = json!({});
    let protocol = *r.pick(&PROTOCOLS);
    maybe(r, 75, &mut port, "protocol", json!(protocol));
    match r.below(5) {
        0 => {}
        1 => port["port"] = json!(*r.pick(&PORT_NAMES)),
        2 => {
            let first = *r.pick(&[1, 80, 443]);
            port["port"] = json!(first);
            port["endPort"] = json!(*r.pick(&[first, 8080, 65_535]));
        }
        _ => port["port"] = json!(*r.pick(&[80, 53, 8080, 9090])),
    }
    port
}
