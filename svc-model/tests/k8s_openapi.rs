//! The way to the types of `k8s-openapi` and back, for every kind that it has.
//!
//! Run with the oldest and the newest version of Kubernetes that it offers:
//!
//! ```text
//! K8S_OPENAPI_ENABLED_VERSION=1.33 cargo test -p svc-model --features k8s-openapi --test k8s_openapi
//! K8S_OPENAPI_ENABLED_VERSION=1.37 cargo test -p svc-model --features k8s-openapi --test k8s_openapi
//! ```

use core::fmt::Debug;

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core_v1};
use k8s_openapi::api::{discovery::v1 as discovery, networking::v1 as networking};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use svc_model::*;

/// Reads an object with our types and with theirs, and compares all ways between text, ours and theirs. The text must
/// hold every field that ours have, none that is empty, and no other.
fn same_by_all_ways<O, T>(object: &Value)
where
    O: Serialize + DeserializeOwned + PartialEq + Debug + for<'a> From<&'a T>,
    T: Serialize + DeserializeOwned + PartialEq + Debug + for<'a> From<&'a O>,
{
    let ours: Option<O> = serde_json::from_value(object.clone()).ok();
    let theirs: Option<T> = serde_json::from_value(object.clone()).ok();
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        assert_eq!(object, &Value::Null, "one side cannot read it");
        return;
    };
    assert_eq!(O::from(&theirs), ours);
    assert_eq!(T::from(&ours), theirs);
    assert_eq!(serde_json::to_value(T::from(&ours)).ok().as_ref(), Some(object));
    assert_eq!(serde_json::to_value(O::from(&theirs)).ok().as_ref(), Some(object));
}

fn metadata(namespace: &str) -> Value {
    let mut metadata = json!({
        "name": "web", "generateName": "web-", "uid": "0b1c", "resourceVersion": "7", "generation": 3,
        "creationTimestamp": "2026-01-31T12:00:00Z", "deletionTimestamp": "2026-02-01T00:00:00Z",
        "labels": {"app": "web"}, "annotations": {"note": "any text"}, "finalizers": ["example.com/wait"],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "9a",
                             "controller": true, "blockOwnerDeletion": false}],
    });
    if let Some(fields) = metadata.as_object_mut().filter(|_| !namespace.is_empty()) {
        fields.insert("namespace".into(), namespace.into());
    }
    metadata
}

fn pod_spec() -> Value {
    json!({
        "containers": [{
            "name": "main",
            "ports": [{"name": "http", "hostPort": 8080, "containerPort": 80, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"port": "http"}, "tcpSocket": {"port": 80}, "grpc": {"port": 9000}},
        }],
        "initContainers": [{"name": "proxy", "restartPolicy": "Always"}],
        "nodeName": "n1", "nodeSelector": {"disk": "ssd"}, "hostNetwork": true, "hostname": "web-0",
        "subdomain": "web", "restartPolicy": "Always", "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.1"], "searches": ["example.com"],
                      "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]},
        "setHostnameAsFQDN": true, "enableServiceLinks": false,
    })
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()})
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "web"},
           "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "Exists"}]})
}

#[test]
fn service() {
    same_by_all_ways::<Service, core_v1::Service>(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata("shop"),
        "spec": {
            "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "h2c", "port": 80, "targetPort": "web", "nodePort": 30080},
                      {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353}],
            "selector": {"app": "web"}, "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::a"],
            "type": "LoadBalancer", "externalIPs": ["192.0.2.5"], "sessionAffinity": "ClientIP",
            "loadBalancerIP": "192.0.2.9", "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalName": "example.com",
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 30123, "publishNotReadyAddresses": true,
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack", "allocateLoadBalancerNodePorts": false,
            "loadBalancerClass": "example.com/lb", "internalTrafficPolicy": "Cluster",
            "trafficDistribution": "PreferClose",
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]}},
    }));
}

#[test]
fn pod() {
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z",
                           "reason": "Good", "message": "as it should be"});
    same_by_all_ways::<Pod, core_v1::Pod>(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata("shop"), "spec": pod_spec(),
        "status": {"phase": "Running", "conditions": [condition], "hostIP": "192.0.2.1", "podIP": "10.0.0.1",
                   "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    }));
}

#[test]
fn node_and_namespace() {
    same_by_all_ways::<Node, core_v1::Node>(&json!({
        "apiVersion": "v1", "kind": "Node", "metadata": metadata(""),
        "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"], "unschedulable": true},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}],
                   "allocatable": {"cpu": "3500m", "memory": "8Gi"},
                   "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z"}]},
    }));
    same_by_all_ways::<Namespace, core_v1::Namespace>(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": metadata(""), "status": {"phase": "Active"},
    }));
}

#[test]
fn endpoint_slice_and_endpoints() {
    let target = json!({"kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "1f", "apiVersion": "v1",
                        "resourceVersion": "5", "fieldPath": "spec"});
    same_by_all_ways::<EndpointSlice, discovery::EndpointSlice>(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata("shop"),
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
                       "hostname": "web-0", "targetRef": target, "nodeName": "n1", "zone": "a",
                       "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}}],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "appProtocol": "http"}],
    }));
    same_by_all_ways::<Endpoints, core_v1::Endpoints>(&json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata("shop"),
        "subsets": [{"addresses": [{"ip": "10.0.0.1", "hostname": "web-0", "nodeName": "n1", "targetRef": target}],
                     "notReadyAddresses": [{"ip": "10.0.0.2"}],
                     "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}]}],
    }));
}

#[test]
fn network_policy() {
    let peers = json!([{"podSelector": selector()}, {"namespaceSelector": selector(), "podSelector": selector()},
                       {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]);
    let ports = json!([{"protocol": "TCP", "port": "http"}, {"protocol": "UDP", "port": 53, "endPort": 60}]);
    same_by_all_ways::<NetworkPolicy, networking::NetworkPolicy>(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata("shop"),
        "spec": {"podSelector": selector(), "ingress": [{"from": peers, "ports": ports}],
                 "egress": [{"to": peers, "ports": ports}], "policyTypes": ["Ingress", "Egress"]},
    }));
}

#[test]
fn service_cidr() {
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z",
                           "reason": "", "message": ""});
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": metadata(""),
        "spec": {"cidrs": ["10.96.0.0/16", "fd00::/112"]}, "status": {"conditions": [condition]},
    });
    // They always write reason and message.
    let (ours, theirs) = (
        serde_json::from_value::<ServiceCidr>(object.clone()).ok(),
        serde_json::from_value::<networking::ServiceCIDR>(object).ok(),
    );
    assert_eq!(ours, theirs.as_ref().map(ServiceCidr::from));
    assert_eq!(ours.as_ref().map(networking::ServiceCIDR::from), theirs);
    assert!(ours.is_some_and(|ours| ours.spec.cidrs.len() == 2 && ours.status.conditions.len() == 1));
}

#[test]
fn workloads() {
    let workload = |api: &str, kind: &str, spec: Value| json!({"apiVersion": api, "kind": kind, "metadata": metadata("shop"), "spec": spec});
    let replicated = json!({"replicas": 3, "selector": selector(), "template": template()});
    same_by_all_ways::<ReplicaSet, apps::ReplicaSet>(&workload("apps/v1", "ReplicaSet", replicated.clone()));
    same_by_all_ways::<Deployment, apps::Deployment>(&workload("apps/v1", "Deployment", replicated));
    let stateful = json!({"replicas": 3, "selector": selector(), "template": template(), "serviceName": "web",
                          "ordinals": {"start": 2}});
    same_by_all_ways::<StatefulSet, apps::StatefulSet>(&workload("apps/v1", "StatefulSet", stateful));
    let daemon = json!({"selector": selector(), "template": template()});
    same_by_all_ways::<DaemonSet, apps::DaemonSet>(&workload("apps/v1", "DaemonSet", daemon));
    let job = json!({"parallelism": 2, "completions": 4, "completionMode": "Indexed", "suspend": true, "template": template()});
    same_by_all_ways::<Job, batch::Job>(&workload("batch/v1", "Job", job.clone()));
    // They always write a schedule.
    let cron = workload("batch/v1", "CronJob", json!({"schedule": "@daily", "jobTemplate": {"spec": job}}));
    let theirs = serde_json::from_value::<batch::CronJob>(cron.clone()).ok();
    let ours = theirs.as_ref().map(CronJob::from);
    assert_eq!(ours, serde_json::from_value::<CronJob>(cron.clone()).ok());
    let back = ours.as_ref().map(batch::CronJob::from).and_then(|cron| serde_json::to_value(cron).ok());
    let template = |cron: &Value| cron.pointer("/spec/jobTemplate").cloned();
    assert!(template(&cron).is_some());
    assert_eq!(back.as_ref().and_then(template), template(&cron));
}

/// What nobody should send is carried over all the same.
#[test]
fn odd_values_survive() {
    let theirs = core_v1::Service {
        spec: Some(core_v1::ServiceSpec {
            cluster_ip: Some("010.96.0.10".into()),
            type_: Some("Imaginary".into()),
            ports: Some(vec![core_v1::ServicePort { port: -1, ..Default::default() }]),
            selector: Some(Default::default()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let ours = Service::from(&theirs);
    assert_eq!(ours.spec.cluster_ip.get(), Some([10, 96, 0, 10].into()));
    assert_eq!(ours.spec.selector, Some(Labels::default()));
    assert_eq!(core_v1::Service::from(&ours), theirs);

    let probe = Probe { grpc: Some(ProbePort { port: "name".into() }), ..Probe::default() };
    assert_eq!(core_v1::Probe::from(&probe).grpc.map(|grpc| grpc.port), Some(0));
}
