//! A Service, its Pods and nodes, as the EndpointSlice controller sees them, change by change.

use serde_json::{Value, json};

use super::names::{NAMESPACES, NODES, ZONES, maybe, metadata, one, percent, some};
use crate::generate::Random;

const TIMES: [&str; 3] = ["2026-06-01T10:00:00Z", "2026-06-01T10:00:05Z", "2026-06-02T00:00:00Z"];
pub(super) const PORT_NAMES: [&str; 3] = ["http", "metrics", "dns"];

/// A case of area `endpointslice`.
pub(super) fn endpointslice(random: &mut Random) -> Value {
    let r = random;
    let topology = percent(r, 60);
    let mut config = json!({
        "controllerName": "endpointslice-controller.k8s.io",
        "maxEndpointsPerSlice": *r.pick(&[1, 2, 3, 5, 100, 100]),
        "preferSameTrafficDistribution": true,
        "topology": {"enabled": topology},
    });
    let time = *r.pick(&TIMES);
    maybe(r, 50, &mut config, "triggerTime", json!(time));
    let namespace = NAMESPACES[1];
    let mut service = service(r, namespace);
    let mut objects: Vec<Value> = Vec::new();
    for name in NODES {
        if percent(r, 90) {
            objects.push(node(r, name));
        }
    }
    let mut next = r.between(0, 9);
    objects.extend((0..next).map(|at| pod(r, namespace, at)));
    objects.push(service.clone());
    let mut cases = vec![json!({"service": "ns-1/web", "existing": existing(r)})];
    for _ in 0..r.between(0, 4) {
        let (mut apply, mut delete) = (Vec::new(), Vec::new());
        for _ in 0..r.between(1, 3) {
            let name = format!("web-{}", r.below(next.max(1)));
            match r.below(10) {
                0 => {
                    service = self::service(r, namespace);
                    apply.push(service.clone());
                }
                1 => {
                    let fresh = self::service(r, namespace);
                    let keys = ["ports", "trafficDistribution", "publishNotReadyAddresses"];
                    let key = *r.pick(&keys);
                    service["spec"][key] = fresh["spec"][key].clone();
                    if service["spec"][key].is_null() {
                        service["spec"].as_object_mut().map(|spec| spec.remove(key));
                    }
                    apply.push(service.clone());
                }
                2 => {
                    let name = *r.pick(&NODES);
                    apply.push(node(r, name));
                }
                3 => {
                    let name = *r.pick(&NODES);
                    delete.push(json!({"kind": "Node", "namespace": "", "name": name}));
                }
                4 | 5 => {
                    apply.push(pod(r, namespace, next));
                    next += 1;
                }
                6 => delete.push(json!({"kind": "Pod", "namespace": namespace, "name": name})),
                _ => {
                    let at = r.below(next.max(1));
                    apply.push(pod(r, namespace, at));
                }
            }
        }
        cases.push(json!({"service": "ns-1/web", "existing": [], "apply": apply, "delete": delete}));
    }
    json!({"area": "endpointslice", "level": "reconciler", "config": config, "objects": objects, "cases": cases})
}

/// The Service `web`.
pub(super) fn service(random: &mut Random, namespace: &str) -> Value {
    let r = random;
    let mut spec = json!({"selector": {"app": "web"}, "type": "ClusterIP", "clusterIP": "10.96.0.10"});
    match r.below(8) {
        0 => spec["ipFamilies"] = json!(["IPv6"]),
        1 => spec["ipFamilies"] = json!(["IPv4", "IPv6"]),
        2 => spec["ipFamilies"] = json!(["IPv6", "IPv4"]),
        3 => spec["clusterIP"] = json!("fd00:96::10"),
        4 => {
            spec["clusterIP"] = json!("None");
            let families = one(r, &[json!(["IPv4"]), json!(["IPv6"]), json!(["IPv4", "IPv6"])]);
            maybe(r, 80, &mut spec, "ipFamilies", families);
        }
        _ => spec["ipFamilies"] = json!(["IPv4"]),
    }
    let mut ports: Vec<Value> = Vec::new();
    for at in 0..*r.pick(&[0, 1, 1, 1, 2, 2, 3]) {
        let protocol = *r.pick(&["TCP", "TCP", "UDP", "SCTP"]);
        let mut port = json!({"name": format!("p{at}"), "protocol": protocol, "port": 80 + at});
        let target = match r.below(4) {
            0 => json!(8000 + at),
            1 => json!(8000),
            2 => json!(*r.pick(&PORT_NAMES)),
            // As the API server fills it in.
            _ => json!(80 + at),
        };
        port["targetPort"] = target;
        let protocol = *r.pick(&["https", "kubernetes.io/h2c"]);
        maybe(r, 20, &mut port, "appProtocol", json!(protocol));
        ports.push(port);
    }
    if ports.len() == 1 && percent(r, 50) {
        ports[0].as_object_mut().map(|port| port.remove("name"));
    }
    spec["ports"] = json!(ports);
    maybe(r, 25, &mut spec, "publishNotReadyAddresses", json!(true));
    let distribution =
        one(r, &["PreferClose", "PreferSameZone", "PreferSameNode", "AUTO", "Other"].map(Value::from));
    maybe(r, 35, &mut spec, "trafficDistribution", distribution);
    let mut metadata = metadata(namespace, "web");
    metadata["uid"] = json!("svc-uid-1");
    let created = *r.pick(&TIMES);
    maybe(r, 50, &mut metadata, "creationTimestamp", json!(created));
    let labels = one(
        r,
        &[
            json!({"team": "a"}),
            json!({"team": "b", "x": "y"}),
            json!({"service.kubernetes.io/headless": "own"}),
            json!({"kubernetes.io/service-name": "other", "endpointslice.kubernetes.io/managed-by": "me"}),
        ],
    );
    maybe(r, 40, &mut metadata, "labels", labels);
    let annotations = one(
        r,
        &[
            json!({"service.kubernetes.io/topology-mode": "Auto"}),
            json!({"service.kubernetes.io/topology-mode": "auto"}),
            json!({"service.kubernetes.io/topology-aware-hints": "Auto"}),
            json!({"service.kubernetes.io/topology-mode": "Disabled", "keep": "this"}),
            json!({"endpoints.kubernetes.io/last-change-trigger-time": "x", "keep": "this"}),
        ],
    );
    maybe(r, 50, &mut metadata, "annotations", annotations);
    maybe(r, 5, &mut metadata, "deletionTimestamp", json!(TIMES[2]));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

fn node(random: &mut Random, name: &str) -> Value {
    let r = random;
    let mut metadata = metadata("", name);
    let zone = *r.pick(&ZONES);
    maybe(r, 90, &mut metadata, "labels", json!({"topology.kubernetes.io/zone": zone}));
    if percent(r, 5) {
        metadata["labels"] = json!({"node-role.kubernetes.io/control-plane": "", "topology.kubernetes.io/zone": zone});
    }
    let cpu = one(r, &["1", "4", "1500m", "2", "0"].map(Value::from));
    let mut status = json!({});
    maybe(r, 95, &mut status, "allocatable", json!({"cpu": cpu}));
    let ready = one(r, &["True", "True", "True", "True", "False", "Unknown"].map(Value::from));
    maybe(r, 95, &mut status, "conditions", json!([{"type": "Ready", "status": ready}]));
    json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})
}

/// The Pod `web-N`.
pub(super) fn pod(random: &mut Random, namespace: &str, number: usize) -> Value {
    let r = random;
    let mut metadata = metadata(namespace, &format!("web-{number}"));
    metadata["uid"] = json!(format!("u{number}"));
    metadata["labels"] = json!({"app": "web"});
    maybe(r, 15, &mut metadata, "deletionTimestamp", json!(TIMES[2]));
    let mut ports: Vec<Value> = Vec::new();
    for (name, base) in PORT_NAMES.into_iter().zip([8000, 9000, 53]) {
        if percent(r, 50) {
            let moved = if percent(r, 20) { 1 } else { 0 };
            let protocol = *r.pick(&["TCP", "TCP", "UDP", "SCTP"]);
            ports.push(json!({"name": name, "containerPort": base + moved, "protocol": protocol}));
        }
    }
    let mut spec = json!({"containers": [{"name": "c", "ports": ports}]});
    if percent(r, 15) {
        spec["containers"] = json!([{"name": "a"}, {"name": "c", "ports": ports}]);
    }
    if percent(r, 10) {
        let sidecar = json!({"name": "init", "restartPolicy": "Always",
            "ports": [{"name": "http", "containerPort": 7000, "protocol": "TCP"}]});
        spec["initContainers"] = json!([sidecar]);
    }
    let node = *r.pick(&NODES);
    maybe(r, 90, &mut spec, "nodeName", json!(node));
    if percent(r, 20) {
        spec["hostname"] = json!(format!("h-{number}"));
        let subdomain = *r.pick(&["web", "web", "other"]);
        maybe(r, 80, &mut spec, "subdomain", json!(subdomain));
    }
    maybe(r, 5, &mut spec, "hostNetwork", json!(true));
    let policy = *r.pick(&["Always", "OnFailure", "Never"]);
    maybe(r, 30, &mut spec, "restartPolicy", json!(policy));
    let phase = *r.pick(&["Running", "Running", "Running", "Running", "Pending", "Succeeded", "Failed"]);
    let mut status = json!({"phase": phase});
    let addresses = match r.below(10) {
        0 => vec![],
        1..3 => vec![format!("10.0.0.{}", number + 1), format!("fd00:1::{:x}", number + 1)],
        3 => vec![format!("fd00:1::{:x}", number + 1)],
        4 => vec![format!("fd00:1::{:x}", number + 1), format!("10.0.0.{}", number + 1)],
        // The address of another Pod.
        5 if percent(r, 30) => vec!["10.0.0.1".into()],
        _ => vec![format!("10.0.0.{}", number + 1)],
    };
    if let Some(first) = addresses.first() {
        status["podIP"] = json!(first);
        status["podIPs"] = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    }
    let mut conditions = some(r, &[json!({"type": "Initialized", "status": "True"})], 30);
    let ready = one(r, &["True", "True", "True", "True", "False", "Unknown"].map(Value::from));
    if percent(r, 95) {
        let mut condition = json!({"type": "Ready", "status": ready});
        let time = *r.pick(&TIMES);
        maybe(r, 40, &mut condition, "lastTransitionTime", json!(time));
        conditions.push(condition);
    }
    status["conditions"] = json!(conditions);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
}

/// Slices left by somebody: a placeholder, stale endpoints, ports of old.
fn existing(random: &mut Random) -> Vec<Value> {
    let r = random;
    let count = *r.pick(&[0, 0, 0, 1, 2, 3]);
    (0..count)
        .map(|at| {
            let endpoints: Vec<Value> = (0..r.below(4))
                .map(|_| {
                    let pod = r.below(9);
                    let mut endpoint = json!({
                        "addresses": [format!("10.0.0.{}", pod + 1)],
                        "conditions": {"ready": true, "serving": true, "terminating": false},
                        "targetRef": {"kind": "Pod", "namespace": "ns-1", "name": format!("web-{pod}"), "uid": format!("u{pod}")},
                    });
                    let node = *r.pick(&NODES);
                    maybe(r, 80, &mut endpoint, "nodeName", json!(node));
                    let zone = *r.pick(&ZONES);
                    maybe(r, 60, &mut endpoint, "zone", json!(zone));
                    maybe(r, 20, &mut endpoint, "hints", json!({"forZones": [{"name": zone}]}));
                    endpoint
                })
                .collect();
            let ports = one(
                r,
                &[
                    json!([]),
                    json!([{"name": "p0", "port": 8000, "protocol": "TCP"}]),
                    json!([{"name": "", "port": 8000, "protocol": "TCP"}]),
                    json!([{"name": "p0", "port": 80, "protocol": "TCP"}, {"name": "p1", "port": 9000, "protocol": "UDP"}]),
                ],
            );
            let mut metadata = metadata("ns-1", &format!("web-old{at}"));
            metadata["generateName"] = json!("web-");
            metadata["uid"] = json!(format!("uid-old{at}"));
            metadata["labels"] = json!({
                "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            });
            let time = *r.pick(&TIMES);
            maybe(r, 20, &mut metadata, "annotations", json!({"endpoints.kubernetes.io/last-change-trigger-time": time, "own": "x"}));
            metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Service", "name": "web",
                "uid": "svc-uid-1", "controller": true, "blockOwnerDeletion": true}]);
            let family = *r.pick(&["IPv4", "IPv4", "IPv4", "IPv6"]);
            let endpoints = if family == "IPv6" { Vec::new() } else { endpoints };
            // Kind and version are not in what the controller compares.
            json!({"metadata": metadata, "addressType": family, "endpoints": endpoints, "ports": ports})
        })
        .collect()
}
