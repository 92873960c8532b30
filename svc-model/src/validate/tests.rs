//! Kinds that no recorded cases cover, and what the recorded cases leave out.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::*;
use crate::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy, Compat, EndpointSlice, Endpoints,
    Service,
};

/// `field kind`, sorted.
fn problems(result: Result<(), ValidationError>) -> Vec<String> {
    let mut all: Vec<String> = result
        .err()
        .iter()
        .flat_map(ValidationError::problems)
        .map(|p| format!("{} {}", p.field(), p.kind().as_str().trim_start_matches("FieldValue")))
        .collect();
    all.sort();
    all
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn slice(address_type: &str, endpoint: Value) -> EndpointSlice {
    let mut slice: EndpointSlice = read(json!({
        "metadata": {"name": "web-1", "namespace": "shop"},
        "addressType": address_type, "endpoints": [endpoint], "ports": [{"port": 80}],
    }));
    slice.set_defaults();
    slice
}

#[test]
fn slices_take_addresses_of_their_type() {
    for (address_type, address, expected) in [
        ("IPv4", "10.0.0.1", None),
        ("IPv4", "010.0.0.1", Some("endpoints[0].addresses[0] Invalid")),
        ("IPv4", "fd00::1", Some("endpoints[0].addresses[0] Invalid")),
        ("IPv4", "127.0.0.1", Some("endpoints[0].addresses[0] Invalid")),
        ("IPv6", "fd00::1", None),
        ("IPv6", "FD00::1", Some("endpoints[0].addresses[0] Invalid")),
        ("IPv6", "10.0.0.1", Some("endpoints[0].addresses[0] Invalid")),
        ("IPv6", "ff02::1", Some("endpoints[0].addresses[0] Invalid")),
        ("FQDN", "db.example.com.", None),
        ("FQDN", "db", Some("endpoints[0].addresses[0] Invalid")),
        ("FQDN", "", Some("endpoints[0].addresses[0] Required")),
        ("IPX", "anything", Some("addressType NotSupported")),
    ] {
        let got =
            problems(slice(address_type, json!({"addresses": [address]})).validate_create(Compat::V1_36));
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(got, expected, "{address_type} {address}");
    }
    let legacy = slice("IPv4", json!({"addresses": ["010.0.0.1"]}));
    assert_eq!(legacy.validate_create(Compat::V1_35), Ok(()));
    assert_eq!(legacy.validate_update(&legacy, Compat::V1_36), Ok(()));
}

#[test]
fn slices_keep_their_limits() {
    let zones: Vec<Value> = (0..9).map(|i| json!({"name": format!("z{i}")})).collect();
    let mut bad = slice(
        "IPv4",
        json!({"hostname": "a.b", "nodeName": "-", "hints": {"forZones": zones, "forNodes": [{"name": "n"}, {"name": "n"}]}}),
    );
    bad.ports = read(
        json!([{"name": "p", "protocol": "tcp"}, {"name": "p", "appProtocol": "a/b/c", "protocol": "UDP"}]),
    );
    assert_eq!(
        problems(bad.validate_create(Compat::V1_36)),
        [
            "endpoints[0].addresses Required",
            "endpoints[0].hints.forNodes[1].name Duplicate",
            "endpoints[0].hints.forZones TooMany",
            "endpoints[0].hostname Invalid",
            "endpoints[0].nodeName Invalid",
            "ports[0].protocol NotSupported",
            "ports[1].appProtocol Invalid",
            "ports[1].name Duplicate",
        ]
    );
    let old = slice("IPv4", json!({"addresses": ["10.0.0.1"]}));
    let new = slice("IPv6", json!({"addresses": ["fd00::1"]}));
    assert_eq!(problems(new.validate_update(&old, Compat::V1_36)), ["addressType Invalid"]);
}

#[test]
fn endpoints_are_checked_but_for_old_subsets() {
    let mut bad: Endpoints = read(json!({
        "metadata": {"name": "db", "namespace": "shop", "resourceVersion": "1"},
        "subsets": [
            {"ports": [{"port": 0}, {"name": "a.b", "port": 1, "protocol": "tcp"}]},
            {"notReadyAddresses": [{"ip": "169.254.0.1", "hostname": "A", "nodeName": "n"}]},
        ],
    }));
    bad.set_defaults();
    assert_eq!(
        problems(bad.validate_create(Compat::V1_36)),
        [
            "subsets[0] Required",
            "subsets[0].ports[0].name Required",
            "subsets[0].ports[0].port Invalid",
            "subsets[0].ports[1].name Invalid",
            "subsets[0].ports[1].protocol NotSupported",
            "subsets[1].notReadyAddresses[0].hostname Invalid",
            "subsets[1].notReadyAddresses[0].ip Invalid",
        ]
    );
    assert_eq!(bad.validate_update(&bad, Compat::V1_36), Ok(()));
}

#[test]
fn cluster_policies_keep_the_rules_of_their_crds() {
    let good: ClusterNetworkPolicy = read(json!({
        "metadata": {"name": "p"},
        "spec": {
            "tier": "Admin", "priority": 0, "subject": {"namespaces": {}},
            "ingress": [{"action": "Pass", "from": [{"namespaces": {"matchLabels": {"not judged": "!"}}}]}],
            "egress": [{
                "action": "Accept", "to": [{"networks": ["10.0.0.1/8"]}],
                "protocols": [{"tcp": {"destinationPort": {"range": {"start": 1, "end": 2}}}}],
            }],
        },
    }));
    assert_eq!(good.validate_create(), Ok(()));
    let bad: ClusterNetworkPolicy = read(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "tier": "Base", "priority": 1001, "subject": {},
            "ingress": [{"name": "x".repeat(101), "action": "Allow", "from": [{"namespaces": {}, "pods": {}}]}],
            "egress": [{
                "to": [
                    {"networks": ["010.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8"]},
                    {"domainNames": ["a"]},
                    {"nodes": {"matchExpressions": [{}]}},
                ],
                "protocols": [
                    {"destinationNamedPort": "http"},
                    {"udp": {}},
                    {"tcp": {"destinationPort": {"range": {"start": 2, "end": 2}}}},
                    {"sctp": {"destinationPort": {"number": 70000}}},
                ],
            }, {"action": "Deny"}],
        },
    }));
    assert_eq!(
        problems(bad.validate_create()),
        [
            "metadata.namespace Forbidden",
            "spec.egress[0] Invalid",
            "spec.egress[0].action Required",
            "spec.egress[0].protocols[1].udp Invalid",
            "spec.egress[0].protocols[2].tcp.destinationPort.range Invalid",
            "spec.egress[0].protocols[3].sctp.destinationPort.number Invalid",
            "spec.egress[0].to[0].networks[0] Invalid",
            "spec.egress[0].to[0].networks[2] Duplicate",
            "spec.egress[0].to[1].domainNames[0] Invalid",
            "spec.egress[0].to[2].nodes.matchExpressions[0].key Required",
            "spec.egress[0].to[2].nodes.matchExpressions[0].operator Required",
            "spec.egress[1].to Required",
            "spec.ingress[0].action NotSupported",
            "spec.ingress[0].from[0] TooMany",
            "spec.ingress[0].name TooLong",
            "spec.priority Invalid",
            "spec.subject Invalid",
            "spec.tier NotSupported",
        ]
    );
}

#[test]
fn older_cluster_policies_have_rules_of_their_own() {
    let spec = json!({
        "priority": -1, "subject": {"pods": {}},
        "ingress": [{"action": "Pass", "from": [{"pods": {}}], "ports": []}],
        "egress": [{
            "action": "Deny", "to": [{"nodes": {}}],
            "ports": [{"namedPort": "http"}, {}, {"portRange": {"start": 0, "end": 9}}],
        }],
    });
    let admin: AdminNetworkPolicy = read(json!({"metadata": {"name": "p"}, "spec": spec}));
    let expected = [
        "spec.egress[0] Invalid",
        "spec.egress[0].ports[1] Invalid",
        "spec.egress[0].ports[2].portRange.start Invalid",
        "spec.ingress[0].ports Invalid",
        "spec.priority Invalid",
    ];
    assert_eq!(problems(admin.validate_create()), expected);

    let baseline: BaselineAdminNetworkPolicy = read(json!({"metadata": {"name": "p"}, "spec": spec}));
    let got = problems(baseline.validate_create());
    for more in ["metadata.name Invalid", "spec.ingress[0].action NotSupported"] {
        assert!(got.iter().any(|problem| problem == more), "{got:?}");
    }
}

#[test]
fn metadata_is_checked_on_creation_and_update() {
    let long = "x".repeat(256 * 1024);
    let service: Service = read(json!({
        "metadata": {
            "generateName": "web.", "annotations": {"a": long, "K/a": "", "a/b/c": ""},
            "finalizers": ["orphan", "foregroundDeletion", "-"],
            "ownerReferences": [
                {"apiVersion": "a/b/c", "kind": "X", "name": "x", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "Event", "name": "e", "controller": true},
            ],
        },
    }));
    let got = problems(service.validate_create(Compat::V1_36));
    for expected in [
        "metadata.annotations Invalid",
        "metadata.annotations TooLong",
        "metadata.finalizers Invalid",
        "metadata.generateName Invalid",
        "metadata.name Required",
        "metadata.namespace Required",
        "metadata.ownerReferences Invalid",
        "metadata.ownerReferences[0].apiVersion Invalid",
        "metadata.ownerReferences[1] Invalid",
        "metadata.ownerReferences[1].uid Required",
    ] {
        assert!(got.iter().any(|problem| problem == expected), "{expected}: {got:?}");
    }
    let old: Service = read(json!({"metadata": {
        "name": "a", "uid": "1", "generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z",
    }}));
    let new: Service =
        read(json!({"metadata": {"name": "b", "uid": "2", "generation": 1, "finalizers": ["x"]}}));
    let got = problems(new.validate_status_update(&old, Compat::V1_36));
    assert_eq!(
        got,
        [
            "metadata.deletionTimestamp Invalid",
            "metadata.finalizers Forbidden",
            "metadata.generation Invalid",
            "metadata.name Invalid",
            "metadata.resourceVersion Invalid",
            "metadata.uid Invalid",
        ]
    );
}

#[test]
fn an_error_names_object_field_and_value() {
    let mut service: Service = read(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "Loadbalancer", "ports": [{"port": 80}]},
    }));
    service.set_defaults();
    assert_eq!(
        format!("{}", service.validate_create(Compat::V1_36).unwrap_err()),
        "Service `shop/web` is invalid: spec.type: not supported `Loadbalancer`: one of `ClusterIP`, `NodePort`, \
         `LoadBalancer`, `ExternalName`"
    );
}
