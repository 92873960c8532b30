//! The files that both sides of the record are timed with: the same objects, in their official JSON.
//!
//! All of it follows from sizes and seeds, so that anyone gets the same files.

use std::io::BufWriter;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::generate::{Random, Shape};

/// How large the files are.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Services, with ten endpoints each, for the rules of a node.
    pub rules: Vec<usize>,
    /// Endpoints of one Service.
    pub endpoints: Vec<usize>,
    /// Policies, over at least 1,000 Pods.
    pub policies: Vec<usize>,
    /// Services for a Pod's environment.
    pub env: Vec<usize>,
    /// Services with ten endpoints each, to be asked for.
    pub dns: Vec<usize>,
}

impl Sizes {
    /// Those of the record.
    pub fn record() -> Self {
        Self {
            rules: vec![10, 100, 1_000, 5_000, 10_000, 50_000],
            endpoints: vec![100, 1_000, 10_000],
            policies: vec![100, 1_000, 10_000],
            env: vec![100, 1_000],
            dns: vec![100, 1_000, 10_000],
        }
    }

    /// Small ones, to try the command.
    pub fn quick() -> Self {
        Self {
            rules: vec![10, 100, 1_000],
            endpoints: vec![100, 1_000],
            policies: vec![100],
            env: vec![100],
            dns: vec![10, 100],
        }
    }
}

/// Writes all files into the folder.
///
/// # Errors
///
/// If a file can't be written.
pub fn write(folder: &Path, sizes: &Sizes) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let put = |name: String, value: Value| {
        let path = folder.join(name);
        let file = std::fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::to_writer(BufWriter::new(file), &value)
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    for &size in &sizes.rules {
        put(format!("rules-{size}.json"), rules(size))?;
    }
    for &size in &sizes.endpoints {
        put(format!("endpoints-{size}.json"), endpoints(size))?;
    }
    for &size in &sizes.policies {
        put(format!("netpol-{size}.json"), policies(size))?;
    }
    for &size in &sizes.env {
        put(format!("env-{size}.json"), environment(size))?;
    }
    for &size in &sizes.dns {
        put(format!("dns-{size}.json"), names(size))?;
    }
    put("selectors.json".into(), selectors())
}

/// Services with one TCP port, a cluster address and one slice of ten endpoints: what kube-proxy's own scale tests use.
fn rules(size: usize) -> Value {
    let services: Vec<Value> = (0..size).map(service).collect();
    let slices: Vec<Value> = (0..size).map(|at| slice(at, 0)).collect();
    json!({"services": services, "slices": slices, "change": [slice(size / 2, 0), slice(size / 2, 1)]})
}

fn service(at: usize) -> Value {
    let [_, _, high, low] = (at as u32).to_be_bytes();
    let ip = IpAddr::from([172, 30, high, low]).to_string();
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": format!("ns-{}", at % 50), "name": format!("svc-{at}")},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]}})
}

/// In round 1 the last endpoint has another address.
fn slice(at: usize, round: usize) -> Value {
    let endpoint = |number: usize| {
        let moved = if number == 9 { round } else { 0 };
        let [_, a, b, c] = ((at * 10 + number) as u32 * 2 + moved as u32).to_be_bytes();
        json!({"addresses": [IpAddr::from([10, a, b, c]).to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", number * 7 % 100)})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": format!("ns-{}", at % 50), "name": format!("svc-{at}-abcde"),
            "labels": {"kubernetes.io/service-name": format!("svc-{at}")}},
        "endpoints": (0..10).map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]})
}

/// One Service whose port names a container port, over 100 nodes in three zones.
fn endpoints(size: usize) -> Value {
    let nodes: Vec<Value> = (0..100)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": format!("node-{number}"),
                    "labels": {"topology.kubernetes.io/zone": format!("zone-{}", number % 3)}},
                "status": {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]}})
        })
        .collect();
    let pods: Vec<Value> = (0..size)
        .map(|number| {
            let [_, a, b, c] = (number as u32).to_be_bytes();
            let ip = IpAddr::from([10, a, b, c]).to_string();
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": "shop", "name": format!("web-{number:06}"),
                    "uid": format!("00000000-0000-4000-8000-{number:012}"),
                    "labels": {"app": "web", "pod-template-hash": "6d4cf56db6"}},
                "spec": {"nodeName": format!("node-{}", number % 100), "containers": [{"name": "web",
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": "True"}]}})
        })
        .collect();
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web", "uid": "11111111-0000-4000-8000-000000000000"},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"],
            "selector": {"app": "web"},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"}]}});
    json!({"service": service, "pods": pods, "nodes": nodes})
}

/// The policies of a generated cluster, and 4,096 connections between its Pods.
fn policies(size: usize) -> Value {
    let pods = size.clamp(1_000, 10_000);
    let shape = Shape { policies: size, pods, ..Shape::of_services((pods / 15).max(10)) };
    let mut made = shape.generate();
    made.pods.retain(|pod| !pod.status.pod_ips.is_empty() && !pod.spec.host_network);
    for pod in &mut made.pods {
        // The form that older readers look at.
        pod.status.pod_ip = pod.status.pod_ips[0].ip.clone();
    }
    let mut random = Random::new(size as u64);
    let mut name = || {
        let metadata = &made.pods[random.below(made.pods.len())].metadata;
        format!("{}/{}", metadata.namespace, metadata.name)
    };
    let cases: Vec<Value> = (0..4_096)
        .map(|at| json!({"from": name(), "to": name(), "port": 8080 + at % 16, "protocol": "TCP"}))
        .collect();
    json!({"namespaces": made.namespaces, "pods": made.pods, "policies": made.policies, "cases": cases})
}

/// The Services of a generated cluster, all in one namespace.
fn environment(size: usize) -> Value {
    let mut services = Shape::of_services(size).generate().services;
    services.iter_mut().for_each(|service| service.metadata.namespace = "shop".into());
    json!({"services": services})
}

/// The Services of [`rules`], and a namespace with those that are asked for: `web` with addresses of both families, and headless ones with
/// 4, 5 and 1,000 endpoints.
fn names(size: usize) -> Value {
    let mut namespaces: Vec<Value> = (0..50).map(|number| format!("ns-{number}")).map(namespace).collect();
    namespaces.push(namespace("shop".into()));
    let mut services: Vec<Value> = (0..size).map(service).collect();
    let mut slices: Vec<Value> = (0..size).map(|at| slice(at, 0)).collect();
    let mut web = service(0);
    web["metadata"] = json!({"namespace": "shop", "name": "web"});
    web["spec"]["clusterIP"] = json!("10.96.0.7");
    web["spec"]["clusterIPs"] = json!(["10.96.0.7", "fd00::7"]);
    services.push(web);
    for (third, name, endpoints) in [(2, "db", 4), (4, "five", 5), (5, "many", 1_000)] {
        let mut headless = service(0);
        headless["metadata"] = json!({"namespace": "shop", "name": name});
        headless["spec"]["clusterIP"] = json!("None");
        headless["spec"]["clusterIPs"] = json!(["None"]);
        services.push(headless);
        let numbers: Vec<usize> = (0..endpoints).collect();
        for (at, numbers) in numbers.chunks(100).enumerate() {
            let endpoints: Vec<Value> = numbers
                .iter()
                .map(|number| {
                    json!({"addresses": [format!("10.250.{}.{}", third * 10 + at, number % 100)],
                    "conditions": {"ready": true}})
                })
                .collect();
            slices.push(
                json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"namespace": "shop", "name": format!("{name}-{at}"),
                    "labels": {"kubernetes.io/service-name": name}},
                "endpoints": endpoints, "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]}),
            );
        }
    }
    let question =
        |name: &str, qtype: &str, times: u32| json!({"qname": name, "qtype": qtype, "times": times});
    json!({
        "zones": ["cluster.local.", "10.0.0.0/8"], "namespaces": namespaces, "services": services, "slices": slices,
        "questions": {
            "A": question("web.shop.svc.cluster.local.", "A", 2_000),
            "AAAA": question("web.shop.svc.cluster.local.", "AAAA", 2_000),
            "NXDOMAIN": question("web.shop.svc.cluster.local.shop.svc.cluster.local.", "A", 2_000),
            "headless 4": question("db.shop.svc.cluster.local.", "A", 2_000),
            "headless 1000": question("many.shop.svc.cluster.local.", "A", 20),
            "SRV 5+5": question("_http._tcp.five.shop.svc.cluster.local.", "SRV", 1_000),
            "PTR": question("7.0.96.10.in-addr.arpa.", "PTR", 2_000),
            "PTR of an endpoint": question("7.55.250.10.in-addr.arpa.", "PTR", 2_000),
        },
    })
}

fn namespace(name: String) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn selectors() -> Value {
    json!({
        "selectors": {"1": "app=web", "4": "app=web,environment in (production,qa),tier notin (backend),!canary"},
        "labels": {"app": "web", "environment": "qa", "pod-template-hash": "6d4cf56db6", "tier": "frontend",
            "version": "v1"},
    })
}
