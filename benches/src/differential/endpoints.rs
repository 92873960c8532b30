//! Services and Pods for the Endpoints controller; Services for a Pod's environment.

use serde_json::{Value, json};

use super::names::{maybe, metadata, one, percent};
use super::slices::{pod, service};
use crate::generate::Random;

/// A case of area `endpoints`.
pub(super) fn endpoints(random: &mut Random) -> Value {
    let r = random;
    let mut objects = Vec::new();
    if percent(r, 97) {
        let mut service = service(r, "ns-1");
        if percent(r, 5) {
            service["spec"]["type"] = json!("ExternalName");
        }
        objects.push(service);
    }
    let pods = r.between(0, 8);
    for number in 0..pods {
        let mut pod = pod(r, "ns-1", number);
        if percent(r, 10) {
            pod["metadata"]["labels"] = json!({"app": "other"});
        }
        objects.push(pod);
    }
    let mut case = json!({"service": "ns-1/web", "objects": objects});
    if percent(r, 50) {
        case["current"] = current(r);
    }
    json!({"area": "endpoints", "cases": [case]})
}

fn current(random: &mut Random) -> Value {
    let r = random;
    let mut metadata = metadata("ns-1", "web");
    maybe(r, 95, &mut metadata, "resourceVersion", json!("5"));
    let labels = one(
        r,
        &[
            json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller"}),
            json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller", "team": "a"}),
            json!({"service.kubernetes.io/headless": "", "team": "b", "x": "y"}),
        ],
    );
    maybe(r, 80, &mut metadata, "labels", labels);
    let annotations = one(
        r,
        &[
            json!({"endpoints.kubernetes.io/over-capacity": "truncated"}),
            json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-06-01T10:00:00Z", "own": "x"}),
            json!({"endpoints.kubernetes.io/over-capacity": "warning", "own": "x"}),
        ],
    );
    maybe(r, 40, &mut metadata, "annotations", annotations);
    let mut endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata});
    if percent(r, 60) {
        let pod = r.below(4);
        let address = json!({"ip": format!("10.0.0.{}", pod + 1), "nodeName": "node-a",
            "targetRef": {"kind": "Pod", "namespace": "ns-1", "name": format!("web-{pod}"), "uid": format!("u{pod}")}});
        let key = *r.pick(&["addresses", "notReadyAddresses"]);
        endpoints["subsets"] = json!([{key: [address], "ports": [{"name": "p0", "port": 8000, "protocol": "TCP"}]}]);
    }
    endpoints
}

/// Cases of area `env`.
pub(super) fn env(random: &mut Random) -> Value {
    let r = random;
    let names = ["kubernetes", "web", "web-1", "a-b", "a--b", "x.y", "db", "web-port-80", "foo"];
    let mut services: Vec<Value> = Vec::new();
    for at in 0..r.between(0, 7) {
        let (namespace, name) = (*r.pick(&["default", "a", "b"]), *r.pick(&names));
        let known = services.iter().any(|service| service["metadata"] == metadata(namespace, name));
        if known {
            continue;
        }
        let mut ports: Vec<Value> = Vec::new();
        let count = *r.pick(&[1, 1, 1, 2, 3]);
        for number in 0..count {
            let port = *r.pick(&[80, 80, 443, 8080, 53]);
            let mut value = json!({"port": port});
            let protocol = *r.pick(&["TCP", "TCP", "UDP", "SCTP"]);
            maybe(r, 90, &mut value, "protocol", json!(protocol));
            let name = *r.pick(&["http", "grpc-web", "9", "p", "M-1", "https"]);
            if count > 1 || percent(r, 60) {
                value["name"] = json!(if number > 0 { format!("{name}{number}") } else { name.to_owned() });
            }
            maybe(r, 30, &mut value, "nodePort", json!(30_000 + at));
            ports.push(value);
        }
        let ip = one(
            r,
            &[
                json!(format!("10.96.0.{}", at + 2)),
                json!(format!("10.96.0.{}", at + 2)),
                json!(format!("10.96.0.{}", at + 2)),
                json!(format!("fd00::{at}:1")),
                json!("None"),
                json!(""),
            ],
        );
        let mut spec = json!({"clusterIP": ip, "ports": ports});
        let kind = one(r, &["ClusterIP", "NodePort", "ExternalName"].map(Value::from));
        maybe(r, 50, &mut spec, "type", kind);
        services.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(namespace, name), "spec": spec}));
    }
    let cases: Vec<Value> = ["a", "default", "c"]
        .into_iter()
        .map(|namespace| {
            json!({"name": namespace, "services": services, "namespace": namespace,
                "enableServiceLinks": percent(r, 70)})
        })
        .collect();
    json!({"area": "env", "cases": cases})
}
