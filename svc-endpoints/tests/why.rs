//! The check list of causes, one Service for each.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use svc_endpoints::why::{Cause, Diagnosis, NoHints, Situation, diagnose, why_no_hints};
use svc_endpoints::{Config, Nodes};
use svc_model::{EndpointSlice, IpFamily, Node, Pod, Service};

fn service(spec: &Value) -> Service {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn pod(name: &str, change: impl Fn(&mut Value)) -> Pod {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.1.0.1"}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn nodes() -> Nodes {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}})).unwrap();
    [&node].into_iter().collect()
}

fn ask(service: &Service, pods: &[Pod], slices: &[EndpointSlice]) -> Diagnosis {
    let nodes = nodes();
    let pods: Vec<&Pod> = pods.iter().collect();
    let slices: Vec<&EndpointSlice> = slices.iter().collect();
    let situation = Situation { service, pods: &pods, nodes: &nodes, slices: &slices, endpoints: &[] };
    diagnose(&situation, &Config::default())
}

/// The first cause, as a person reads it.
fn first(spec: &Value, pods: &[Pod]) -> String {
    ask(&service(spec), pods, &[]).causes.first().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn causes_come_in_the_order_of_the_check_list() {
    let plain = json!({});
    let cases: Vec<(&str, Value, Vec<Pod>)> = vec![
        ("", plain.clone(), vec![pod("a", |_| {})]),
        (
            "type ExternalName: an alias in DNS, without endpoints",
            json!({"type": "ExternalName"}),
            vec![pod("a", |_| {})],
        ),
        (
            "no selector, and there are no Endpoints of its name",
            json!({"selector": null}),
            vec![pod("a", |_| {})],
        ),
        ("the empty selector selects every Pod, and there is none", json!({"selector": {}}), vec![]),
        (
            "no Pod matches the selector; nearest is a: 0 of 1 requirements hold; `app=web` fails: the label is `wep`, \
             much like `web`; Pods match in namespace other",
            plain.clone(),
            vec![
                pod("a", |pod| pod["metadata"]["labels"]["app"] = json!("wep")),
                pod("b", |pod| pod["metadata"]["namespace"] = json!("other")),
            ],
        ),
        (
            "all its Pods have ended",
            plain.clone(),
            vec![pod("a", |pod| pod["status"]["phase"] = json!("Succeeded"))],
        ),
        (
            "none of its Pods has an IP address yet",
            plain.clone(),
            vec![
                pod("a", |pod| pod["status"]["podIPs"] = json!([])),
                pod("b", |pod| pod["status"]["phase"] = json!("Failed")),
            ],
        ),
        (
            "none of its Pods has an address of the Service's family",
            json!({"ipFamilies": ["IPv6"]}),
            vec![pod("a", |_| {})],
        ),
        (
            "the nodes of its Pods do not exist: n7",
            plain.clone(),
            vec![pod("a", |pod| pod["spec"]["nodeName"] = json!("n7"))],
        ),
        (
            "no Pod declares the named container port that it asks for, at port http",
            plain.clone(),
            vec![pod("a", |pod| pod["spec"]["containers"][0]["ports"][0]["name"] = json!("web"))],
        ),
        (
            "all its Pods are being deleted",
            plain.clone(),
            vec![pod("a", |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))],
        ),
        (
            "no Pod is ready; a: not ready: ContainersNotReady: containers with unready status: [c]",
            plain,
            vec![pod("a", |pod| {
                pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "ContainersNotReady",
                    "message": "containers with unready status: [c]"}]);
            })],
        ),
    ];
    for (expected, spec, pods) in cases {
        assert_eq!(first(&spec, &pods), expected);
    }
}

#[test]
fn slices_of_others_are_named() {
    let slice = |name: &str, manager: &str, uid: &str| -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name,
                "labels": {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": manager},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": uid}]},
            "addressType": "IPv4", "endpoints": [],
        }))
        .unwrap()
    };
    let manager = "endpointslice-controller.k8s.io";
    let slices = [slice("a", manager, "u"), slice("b", manager, "before"), slice("c", "me", "u")];
    let diagnosis = ask(&service(&json!({})), &[pod("a", |_| {})], &slices);
    assert_eq!(diagnosis.funnel.ready, 1);
    let causes: Vec<String> = diagnosis.causes.iter().map(ToString::to_string).collect();
    assert_eq!(
        causes,
        ["slices belong to an earlier Service of this name: b", "slices are managed by somebody else: c"]
    );
    assert!(matches!(
        diagnosis.causes.as_slice(),
        [Cause::SlicesOfNamesake(_), Cause::SlicesManagedElsewhere(_)]
    ));
}

#[test]
fn hints_say_what_would_earn_them() {
    let zoned = |name: &str, zone: &str| -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    };
    let nodes: Vec<Node> = vec![zoned("n1", "a"), zoned("n2", "b"), zoned("n3", "c")];
    let nodes: Nodes = nodes.iter().collect();
    let mut service = service(&json!({}));
    service.metadata.annotations.insert("service.kubernetes.io/topology-mode", "Auto");
    let slice = |zones: &[&str]| -> EndpointSlice {
        let endpoints: Vec<Value> = zones
            .iter()
            .map(|zone| json!({"addresses": ["10.1.0.1"], "conditions": {"ready": true}, "zone": zone}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "s", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap()
    };
    let ask = |zones: &[&str]| {
        why_no_hints(&service, IpFamily::Ipv4, &[slice(zones)], &nodes, &Config::default()).reason
    };
    // kubernetes/kubernetes#122437: 4, 4 and 3 endpoints in three equal zones.
    let spread = ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c", "c"];
    assert_eq!(
        ask(&spread).map(|reason| reason.to_string()).unwrap_or_default(),
        "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (11 endpoints, \
         3 zones); 12 ready endpoints would do, spread as a: 4 b: 4 c: 4"
    );
    assert_eq!(ask(&["a", "b", "c"]), None);
    assert!(
        matches!(ask(&["a", "b", ""]), Some(NoHints::EndpointsWithoutZone(targets)) if targets.len() == 1)
    );
}
