//! Services of every kind with their slices, options of CoreDNS's `kubernetes` plugin, and questions about names that are there, that
//! nearly are, and that are not.

use serde_json::{Value, json};

use super::names::{maybe, metadata, one, percent, some};
use crate::generate::Random;

const NAMESPACES: [&str; 3] = ["shop", "ns-2", "svc"];
const SERVICES: [&str; 6] = ["web", "db", "svc", "a-b", "pod", "x0"];
const HOSTS: [&str; 4] = ["web-0", "web-1", "x", "10-0-0-1"];
const PORTS: [&str; 4] = ["http", "dns", "a-port", "tcp"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const TOPOLOGY: [&str; 4] = ["zone-a", "Zone-A", "eu.west", "b"];
const CLUSTERS: [&str; 2] = ["c1", "c2"];
const TYPES: [&str; 14] =
    ["A", "A", "A", "AAAA", "AAAA", "SRV", "SRV", "CNAME", "TXT", "PTR", "NS", "SOA", "MX", "HTTPS"];
const CLUSTER_ZONE: &str = "cluster.local.";
const CLUSTERSET: &str = "clusterset.local.";

/// What the outside world knows, for ExternalName Services.
const UPSTREAM: [(&str, &str, &[&str]); 4] = [
    ("www.example.com.", "A", &["www.example.com. 60 IN A 192.0.2.53"]),
    ("www.example.com.", "AAAA", &["www.example.com. 60 IN AAAA 2001:db8::53"]),
    (
        "alias.example.com.",
        "A",
        &["alias.example.com. 30 IN CNAME www.example.com.", "www.example.com. 60 IN A 192.0.2.53"],
    ),
    ("alias.example.com.", "AAAA", &[]),
];

/// A case of area `dns`.
pub(super) fn dns(random: &mut Random) -> Value {
    let r = random;
    let config = config(r);
    let objects = objects(r, !config["multicluster"].as_array().is_none_or(Vec::is_empty));
    if percent(r, 10) {
        let cases: Vec<Value> = config["zones"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|zone| zone.as_str().is_some_and(|zone| zone.ends_with('.')))
            .map(|zone| json!({"qname": zone}))
            .collect();
        return json!({"area": "dns", "kind": "transfer", "config": config, "objects": objects, "cases": cases,
            "notes": ["what CoreDNS itself emits"]});
    }
    let cases: Vec<Value> = (0..40).map(|_| question(r, &objects)).collect();
    json!({"area": "dns", "kind": "query", "config": config, "objects": objects, "cases": cases})
}

fn config(random: &mut Random) -> Value {
    let r = random;
    let multicluster = percent(r, 25);
    let mut zones = vec![CLUSTER_ZONE];
    if multicluster {
        zones.insert(r.below(2), CLUSTERSET);
    }
    zones.extend(some(
        r,
        &["10.0.0.0/8", "fd00::/16", "10.96.0.0/15", "k8s.test.", "west.cluster.local."],
        35,
    ));
    // A deeper zone may come first.
    if percent(r, 15) {
        zones.insert(0, "east.cluster.local.");
    }
    let noendpoints = percent(r, 8);
    let zonal = !noendpoints && percent(r, 25);
    let mut config = json!({
        "zones": zones, "namespaces": [], "namespace_labels": null, "labels": null,
        "pods": *r.pick(&["disabled", "insecure", "verified"]), "ttl": *r.pick(&[5, 5, 0, 30, 301, 3600]),
        "noendpoints": noendpoints, "endpoint_pod_names": percent(r, 30), "ignore_empty_service": percent(r, 20),
        "fallthrough": null, "multicluster": if multicluster { vec![CLUSTERSET] } else { vec![] },
        "zonal": zonal, "local_ips": some(r, &["10.0.0.1", "10.0.0.2", "192.0.2.1", "fd00::1"], 30),
        "serial": 1_800_000_000, "synced": true,
        "upstream": UPSTREAM.map(|(name, qtype, answer)| json!(
            {"qname": name, "qtype": qtype, "rcode": "NOERROR", "tc": name.starts_with('w'), "answer": answer})),
    });
    match r.below(8) {
        0 => config["namespaces"] = json!(some(r, &NAMESPACES, 60)),
        1 => config["namespace_labels"] = json!({"env": "prod"}),
        _ => {}
    }
    maybe(r, 10, &mut config, "labels", json!({"app": "web"}));
    let through =
        one(r, &[json!([]), json!(["cluster.local."]), json!(["in-addr.arpa.", "shop.svc.cluster.local."])]);
    maybe(r, 20, &mut config, "fallthrough", through);
    config
}

fn objects(random: &mut Random, multicluster: bool) -> Vec<Value> {
    let r = random;
    let mut objects = Vec::new();
    for name in some(r, &NAMESPACES, 85) {
        let mut metadata = metadata("", name);
        maybe(r, 70, &mut metadata, "labels", json!({"env": "prod"}));
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    let mut number = 0;
    for namespace in some(r, &NAMESPACES, 75) {
        for name in some(r, &SERVICES, 50) {
            number += 1;
            let service = service(r, namespace, name, number);
            let kind = service["spec"]["type"].as_str().unwrap_or_default();
            let addressless =
                kind == "ExternalName" || (kind == "ClusterIP" && service["spec"].get("clusterIP").is_none());
            // CoreDNS makes a name server without an address of a Service without one that has the server's own among its endpoints.
            let net = if addressless { "7" } else { "0" };
            objects.push(service);
            for at in 0..*r.pick(&[0, 1, 1, 1, 2, 3]) {
                objects.push(slice(r, namespace, name, at, net));
            }
            if multicluster && percent(r, 60) {
                objects.push(import(r, namespace, name, number));
                for at in 0..r.below(3) {
                    let mut slice = slice(r, namespace, name, at + 10, "8");
                    slice["metadata"]["labels"] = json!({
                        "multicluster.kubernetes.io/service-name": name,
                        "multicluster.kubernetes.io/source-cluster": *r.pick(&CLUSTERS),
                    });
                    // A slice of both kinds is one of the Service, too.
                    maybe(r, 10, &mut slice["metadata"]["labels"], "kubernetes.io/service-name", json!(name));
                    maybe(r, 60, &mut slice["metadata"]["labels"], "app", json!("web"));
                    objects.push(slice);
                }
            }
        }
    }
    if percent(r, 15) {
        chain(r, &mut objects);
    }
    if percent(r, 10) {
        // Endpoints of a Service that is not there.
        objects.push(slice(r, "shop", "gone", 0, "0"));
    }
    for number in 0..r.below(4) {
        objects.push(pod(r, number));
    }
    objects
}

/// ExternalName Services that point one to the next, longer than CoreDNS follows, or in a circle.
fn chain(random: &mut Random, objects: &mut Vec<Value>) {
    let r = random;
    let length = *r.pick(&[2, 3, 9, 10, 11, 12, 13]);
    for at in 0..length {
        let target = match r.below(3) {
            _ if at + 1 < length => format!("link-{}.shop.svc.cluster.local", at + 1),
            0 => "link-0.shop.svc.cluster.local".into(),
            1 => "web.shop.svc.cluster.local".into(),
            _ => "www.example.com".into(),
        };
        objects.push(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("shop", &format!("link-{at}")),
            "spec": {"type": "ExternalName", "externalName": target}}),
        );
    }
}

fn service(random: &mut Random, namespace: &str, name: &str, number: usize) -> Value {
    let r = random;
    let mut metadata = metadata(namespace, name);
    maybe(r, 70, &mut metadata, "labels", json!({"app": "web"}));
    let (four, six) = (format!("10.96.0.{number}"), format!("fd00:96::{number:x}"));
    let ips = match r.below(6) {
        0 => vec![six],
        1 => vec![four, six],
        2 => vec![six, four],
        _ => vec![four],
    };
    let mut spec = match r.below(10) {
        0..3 => json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}),
        3 => {
            let target = *r.pick(&[
                "www.example.com",
                "WWW.Example.com",
                "alias.example.com",
                "nobody.example.com",
                "web.shop.svc.cluster.local",
                "DB.shop.svc.Cluster.Local",
                "db.ns-2.svc.cluster.local.",
                "cluster.local",
                "web.svc.svc.clusterset.local",
                "svc.cluster.local",
                "192.0.2.7",
                "1-2-3-4.shop.pod.cluster.local",
            ]);
            json!({"type": "ExternalName", "externalName": target})
        }
        // Not allocated yet.
        4 if percent(r, 30) => json!({"type": "ClusterIP"}),
        5 => json!({"type": "ClusterIP", "clusterIP": ips[0]}),
        6 => {
            json!({"type": "LoadBalancer", "clusterIP": ips[0], "clusterIPs": ips, "externalIPs": ["192.0.2.9"]})
        }
        7 => json!({"type": "NodePort", "clusterIP": ips[0], "clusterIPs": ips}),
        _ => json!({"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips}),
    };
    let ports: Vec<Value> = (0..*r.pick(&[0, 1, 1, 2, 3]))
        .map(|at: usize| {
            let mut port = json!({"port": 80 + at, "protocol": *r.pick(&PROTOCOLS)});
            let name = *r.pick(&PORTS);
            maybe(r, 85, &mut port, "name", json!(name));
            port
        })
        .collect();
    maybe(r, 95, &mut spec, "ports", json!(ports));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

fn import(random: &mut Random, namespace: &str, name: &str, number: usize) -> Value {
    let r = random;
    let mut metadata = metadata(namespace, name);
    maybe(r, 70, &mut metadata, "labels", json!({"env": "prod"}));
    let spec = if percent(r, 40) {
        json!({"type": "Headless", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})
    } else {
        let ips = some(r, &[format!("10.97.0.{number}"), format!("fd00:97::{number:x}")], 80);
        json!({"type": "ClusterSetIP", "ips": ips, "ports": [
            {"name": *r.pick(&PORTS), "port": 80, "protocol": "TCP"}, {"port": 81, "protocol": *r.pick(&PROTOCOLS)}]})
    };
    json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceImport", "metadata": metadata, "spec": spec})
}

/// Slices of imports have addresses of their own, which nobody asks the names of: CoreDNS answers with a name that no message can carry.
fn slice(random: &mut Random, namespace: &str, service: &str, at: usize, net: &str) -> Value {
    let r = random;
    let v6 = percent(r, 30);
    // CoreDNS knows one topology zone of an address in a slice.
    let topology = [0; 6].map(|_| percent(r, 60).then(|| *r.pick(&TOPOLOGY)));
    let endpoints: Vec<Value> = (0..r.below(5))
        .map(|_| {
            let host = r.between(1, 5);
            let address = match (v6, net) {
                (true, "0") => {
                    ["fd00::1", "fd00::2", "fd00:1::", "fd00:0:0:1::5", "fd00::3"][host - 1].to_owned()
                }
                (true, _) => format!("fd00:{net}::{host}"),
                (false, _) => format!("10.{net}.0.{host}"),
            };
            let mut endpoint = json!({"addresses": [address]});
            let ready = *r.pick(&[true, true, false]);
            let mut conditions = json!({});
            maybe(r, 80, &mut conditions, "ready", json!(ready));
            maybe(r, 40, &mut conditions, "serving", json!(!ready));
            maybe(r, 40, &mut conditions, "terminating", json!(!ready));
            maybe(r, 85, &mut endpoint, "conditions", conditions);
            let hostname = *r.pick(&HOSTS);
            maybe(r, 35, &mut endpoint, "hostname", json!(hostname));
            if let Some(zone) = topology[host] {
                endpoint["zone"] = json!(zone);
            }
            let long = "p".repeat(*r.pick(&[63, 64]));
            let pod = *r.pick(&["web-7", "web-8", "Web-9", &long]);
            maybe(
                r,
                60,
                &mut endpoint,
                "targetRef",
                json!({"kind": "Pod", "namespace": namespace, "name": pod}),
            );
            endpoint
        })
        .collect();
    let ports: Vec<Value> = (0..*r.pick(&[0, 1, 1, 2]))
        .map(|at: usize| {
            let mut port = json!({});
            let (name, protocol) = (*r.pick(&PORTS), *r.pick(&PROTOCOLS));
            maybe(r, 85, &mut port, "name", json!(name));
            maybe(r, 95, &mut port, "port", json!(8080 + at));
            // The API server fills it in.
            port["protocol"] = json!(protocol);
            port
        })
        .collect();
    let mut labels = json!({"kubernetes.io/service-name": service});
    maybe(r, 70, &mut labels, "app", json!("web"));
    let mut metadata = metadata(namespace, &format!("{service}-{at}"));
    metadata["labels"] = labels;
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": if v6 { "IPv6" } else { "IPv4" }, "endpoints": endpoints, "ports": ports})
}

fn pod(random: &mut Random, number: usize) -> Value {
    let r = random;
    let namespace = *r.pick(&NAMESPACES);
    let mut metadata = metadata(namespace, &format!("pod-{number}"));
    maybe(r, 70, &mut metadata, "labels", json!({"app": "web"}));
    maybe(r, 10, &mut metadata, "deletionTimestamp", json!("2026-06-01T10:00:00Z"));
    let phase = *r.pick(&["Running", "Running", "Pending", "Succeeded", "Failed", "Unknown"]);
    let ip = (*r.pick(&["10.0.0.1", "10.0.0.2", "fd00::1", "fd00:0:0:1::5", ""])).to_owned();
    let mut status = json!({"phase": phase});
    maybe(r, 90, &mut status, "podIP", json!(ip));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})
}

/// A question: mostly about a name that some object may have.
fn question(random: &mut Random, objects: &[Value]) -> Value {
    let r = random;
    let qtype = *r.pick(&TYPES);
    if (qtype == "PTR" && percent(r, 85)) || percent(r, 4) {
        let name = reverse(r);
        return json!({"qname": name, "qtype": qtype});
    }
    let zone = (*r.pick(&[
        CLUSTER_ZONE,
        CLUSTER_ZONE,
        CLUSTER_ZONE,
        CLUSTERSET,
        "k8s.test.",
        "west.cluster.local.",
    ]))
    .to_owned();
    let (mut namespace, mut service) = ((*r.pick(&NAMESPACES)).to_owned(), (*r.pick(&SERVICES)).to_owned());
    let named: Vec<&Value> =
        objects.iter().filter(|o| o["kind"] == "Service").map(|o| &o["metadata"]).collect();
    if !named.is_empty() && percent(r, 85) {
        let metadata = *r.pick(&named);
        namespace = metadata["namespace"].as_str().unwrap_or_default().to_owned();
        service = metadata["name"].as_str().unwrap_or_default().to_owned();
    }
    let name = format!("{}{zone}", relative(r, &namespace, &service));
    let name = if percent(r, 15) { shuffled(r, &name) } else { name };
    json!({"qname": name, "qtype": qtype})
}

/// What stands left of the zone, its dot included.
fn relative(random: &mut Random, namespace: &str, service: &str) -> String {
    let r = random;
    let base = format!("{service}.{namespace}.svc.");
    let endpoint = *r.pick(&[
        "10-0-0-1",
        "10-0-0-2",
        "10-0-0-5",
        "web-0",
        "web-1",
        "web-7",
        "web-9",
        "x",
        "fd00--1",
        "fd00-1--0",
        "fd00-0-0-1--5",
        "fd00--1--5",
        "10-8-0-1",
        "10-8-0-3",
        "fd00-8--2",
        "nobody",
    ]);
    let pair = format!("{}.{}", r.pick(&PORTS), r.pick(&["tcp", "udp", "sctp", "TCP"]));
    let (port, protocol) = pair.split_once('.').unwrap_or_default();
    match r.below(30) {
        0..6 => base,
        6..11 => format!("_{port}._{protocol}.{base}"),
        11 => format!("{port}.{protocol}.{base}"),
        12 => format!("_.{}.{base}", r.pick(&["_tcp", "_udp", "_", "tcp"])),
        13..16 => format!("{endpoint}.{base}"),
        16 => format!("{endpoint}.{}.{base}", r.pick(&CLUSTERS)),
        17 => format!("a.b.{endpoint}.{base}"),
        18 | 19 => {
            let topology = *r.pick(&["zone-a", "eu.west", "b", "nowhere", "", "zone-a.extra"]);
            let directive = *r.pick(&["pin", "prefer", "PIN", "other"]);
            let dot = if topology.is_empty() { "" } else { "." };
            format!("{topology}{dot}{directive}._zone.{base}")
        }
        20 => format!("_{protocol}.{base}"),
        21 => format!("{namespace}.svc."),
        22 => format!("{namespace}.pod."),
        23 => (*r.pick(&["svc.", "pod.", "", "dns.", "x.", "nowhere.svc.", "nowhere.pod."])).to_owned(),
        24 => (*r.pick(&["dns-version.", "ns.dns.", "NS.dns.", "x.ns.dns.", "x.dns-version."])).to_owned(),
        25..28 => {
            let pod = *r.pick(&[
                "10-0-0-1",
                "10-0-0-2",
                "10-0-0-9",
                "010-0-0-1",
                "1-2-3",
                "fd00--1",
                "fd00-0-0-1--5",
                "fd00--1-",
                "x",
                "1--2-3",
            ]);
            let extra = if percent(r, 10) { "x." } else { "" };
            format!("{extra}{pod}.{namespace}.pod.")
        }
        28 => format!("*.{base}"),
        _ => format!("{service}.nowhere.svc."),
    }
}

fn reverse(random: &mut Random) -> String {
    let r = random;
    match r.below(10) {
        0..3 => format!("{}.0.96.10.in-addr.arpa.", r.between(1, 12)),
        3..6 => format!("{}.0.0.10.in-addr.arpa.", r.between(1, 6)),
        6 => (*r.pick(&[
            "0.0.10.in-addr.arpa.",
            "10.in-addr.arpa.",
            "x.0.0.10.in-addr.arpa.",
            "1.1.0.0.10.in-addr.arpa.",
            "001.0.0.10.in-addr.arpa.",
            "256.0.0.10.in-addr.arpa.",
            "web.shop.svc.10.in-addr.arpa.",
            "1.0.0.192.in-addr.arpa.",
        ]))
        .to_owned(),
        7 => (*r.pick(&["0.0.d.f.ip6.arpa.", "1.0.0.0.0.0.d.f.ip6.arpa.", "x.0.0.d.f.ip6.arpa."])).to_owned(),
        _ => {
            let words = *r.pick(&[
                [0xfd00, 0, 0, 0, 0, 0, 0, 1],
                [0xfd00, 1, 0, 0, 0, 0, 0, 0],
                [0xfd00, 0, 0, 1, 0, 0, 0, 5],
                [0xfd00, 0x96, 0, 0, 0, 0, 0, 2],
                [0xfd00, 0x96, 0, 0, 0, 0, 0, 3],
            ]);
            let digits: String = words.iter().map(|word: &u16| format!("{word:04x}")).collect();
            digits.chars().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa."
        }
    }
}

/// The same name with letters in either case.
fn shuffled(random: &mut Random, name: &str) -> String {
    name.chars().map(|c| if percent(random, 40) { c.to_ascii_uppercase() } else { c }).collect()
}
