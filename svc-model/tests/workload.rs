//! What manifests become in a cluster.

extern crate alloc;

use alloc::collections::BTreeSet;
use core::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use svc_model::workload::{Plan, PlanOptions, Shortfall, plan, workload_of};
use svc_model::*;

fn cluster(manifests: &Value) -> Cluster {
    let mut cluster = Cluster::default();
    for manifest in manifests.as_array().into_iter().flatten() {
        let kind = manifest.get("kind").and_then(Value::as_str).unwrap_or_default();
        match Object::from_kind(kind, manifest) {
            Some(Ok(object)) => drop(cluster.apply(object)),
            other => assert!(matches!(other, Some(Ok(_))), "{manifest}: {other:?}"),
        }
    }
    cluster
}

fn planned(cluster: &Cluster, options: &PlanOptions) -> (Cluster, Plan) {
    let plan = plan(cluster, options);
    let mut planned = cluster.clone();
    for object in plan.objects.clone() {
        let _ = planned.apply(object);
    }
    (planned, plan)
}

fn run(manifests: &Value) -> (Cluster, Plan) {
    planned(&cluster(manifests), &PlanOptions::default())
}

fn workload(kind: &str, name: &str, spec: &Value, template: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("template".into(), template.clone());
        spec.insert("selector".into(), json!({"matchLabels": {"app": name}}));
    }
    json!({"kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn template(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"labels": {"app": name}}, "spec": spec})
}

fn pod_names(cluster: &Cluster) -> Vec<&str> {
    cluster.pods().iter().map(|pod| pod.metadata.name.as_str()).collect()
}

#[test]
fn a_deployment_runs_its_replicas_on_made_up_nodes() {
    let (cluster, plan) =
        run(&json!([workload("Deployment", "web", &json!({"replicas": 4}), &template("web", &json!({})))]));
    assert_eq!(plan.shortfalls, []);
    assert_eq!((cluster.nodes().len(), cluster.pods().len()), (3, 4));
    assert_eq!(cluster.namespace_labels("shop").get("kubernetes.io/metadata.name"), Some("shop"));
    let nodes: BTreeSet<_> = cluster.pods().iter().map(|pod| pod.spec.node_name.clone()).collect();
    assert_eq!(nodes.len(), 3);
    for pod in cluster.pods().iter() {
        assert!(pod.is_ready() && pod.metadata.name.starts_with("web-") && pod.metadata.name.len() == 20);
        assert_eq!(pod.metadata.labels.get("app"), Some("web"));
        assert_eq!(workload_of(pod).map(|workload| workload.to_string()).as_deref(), Some("Deployment/web"));
        let node = cluster.nodes().get("", &pod.spec.node_name);
        let range = node.and_then(|node| node.spec.pod_cidr.get());
        assert!(range.is_some_and(|range| pod.addresses().all(|ip| range.contains(&ip))));
        assert!(node.is_some_and(|node| node.addresses().next() == pod.status.host_ip.get()));
    }
}

#[test]
fn a_stateful_set_numbers_its_pods_and_gives_them_host_names() {
    let spec = json!({"replicas": 3, "serviceName": "db", "ordinals": {"start": 5}});
    let (cluster, _) = run(&json!([workload("StatefulSet", "mysql", &spec, &template("mysql", &json!({})))]));
    assert_eq!(pod_names(&cluster), ["mysql-5", "mysql-6", "mysql-7"]);
    let pod = cluster.pods().get("shop", "mysql-6").map(|pod| (**pod).clone()).unwrap_or_default();
    assert_eq!((pod.spec.hostname.as_str(), pod.spec.subdomain.as_str()), ("mysql-6", "db"));
    assert_eq!(pod.metadata.labels.get("apps.kubernetes.io/pod-index"), Some("6"));
    assert_eq!(pod.metadata.labels.get("statefulset.kubernetes.io/pod-name"), Some("mysql-6"));
}

#[test]
fn a_daemon_set_runs_once_on_every_node_with_its_labels() {
    let node = |name: &str, disk: &str| json!({"kind": "Node", "metadata": {"name": name, "labels": {"disk": disk}}});
    let spec = json!({"nodeSelector": {"disk": "ssd"}, "hostNetwork": true});
    let busy = json!({"kind": "Node", "metadata": {"name": "d", "labels": {"disk": "ssd"}}, "spec": {"unschedulable": true}});
    let (cluster, plan) = run(&json!([
        node("a", "ssd"),
        node("b", "hdd"),
        node("c", "ssd"),
        busy,
        workload("DaemonSet", "agent", &json!({}), &template("agent", &spec)),
    ]));
    assert_eq!(plan.shortfalls, []);
    let nodes: BTreeSet<_> = cluster.pods().iter().map(|pod| pod.spec.node_name.as_str()).collect();
    assert_eq!(nodes, BTreeSet::from(["a", "c", "d"]));
    // With the node's network a Pod has the node's address.
    for pod in cluster.pods().iter() {
        let node = cluster.nodes().get("", &pod.spec.node_name);
        assert!(node.is_some_and(|node| node.addresses().eq(pod.addresses())));
    }
}

#[test]
fn a_job_runs_as_many_pods_as_work_at_once() {
    let job = |name: &str, spec: Value| json!({"kind": "Job", "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let template = template("batch", &json!({}));
    let (cluster, _) = run(&json!([
        job("one", json!({"template": template})),
        job("some", json!({"parallelism": 5, "completions": 2, "template": template})),
        job("many", json!({"parallelism": 3, "completionMode": "Indexed", "completions": 9, "template": template})),
        job("later", json!({"suspend": true, "template": template})),
        {"kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop"}, "spec": {"jobTemplate": {"spec": {"template": template}}}},
    ]));
    let of = |name: &str| {
        cluster.pods().iter().filter(|pod| pod.metadata.labels.get("job-name") == Some(name)).count()
    };
    assert_eq!((of("one"), of("some"), of("many"), of("later"), cluster.pods().len()), (1, 2, 3, 0, 6));
    let hosts: Vec<_> =
        cluster.pods().iter().map(|pod| pod.spec.hostname.as_str()).filter(|h| !h.is_empty()).collect();
    assert_eq!(hosts, ["many-0", "many-1", "many-2"]);
}

#[test]
fn what_runs_already_is_left_alone() {
    let owner = |kind: &str, name: &str| json!([{"kind": kind, "name": name, "controller": true}]);
    let (cluster, plan) = run(&json!([
        workload("Deployment", "web", &json!({"replicas": 3}), &template("web", &json!({}))),
        {"kind": "ReplicaSet", "metadata": {"name": "web-5f", "namespace": "shop", "ownerReferences": owner("Deployment", "web")},
         "spec": {"replicas": 3, "template": template("web", &json!({}))}},
        {"kind": "Pod",
         "metadata": {"name": "web-5f-abcde", "namespace": "shop", "labels": {"app": "web", "pod-template-hash": "5f"},
                      "ownerReferences": owner("ReplicaSet", "web-5f")},
         "spec": {"nodeName": "worker-7"},
         "status": {"phase": "Running", "hostIP": "192.0.2.7", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}]}},
    ]));
    assert_eq!(pod_names(&cluster), ["web-5f-abcde"]);
    assert_eq!(plan.shortfalls, []);
    // The node that the Pod names is made up, with the address that the Pod tells.
    let node = cluster.nodes().get("", "worker-7");
    assert!(node.is_some_and(|node| node.addresses().eq([IpAddr::from([192, 0, 2, 7])])));
}

#[test]
fn a_bare_pod_is_placed_and_one_that_fits_nowhere_is_pending() {
    let pod = |name: &str, spec: Value| json!({"kind": "Pod", "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let port = json!([{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080}]}]);
    let (cluster, plan) = run(&json!([
        {"kind": "Node", "metadata": {"name": "only"}},
        pod("a", json!({"containers": port})),
        pod("b", json!({"containers": port})),
        pod("c", json!({"nodeSelector": {"gpu": "yes"}})),
        pod("d", json!({"nodeName": "gone"})),
        pod("e", json!({"nodeName": "only"})),
    ]));
    let phases: Vec<_> = cluster.pods().iter().map(|pod| pod.status.phase.to_text()).collect();
    assert_eq!(phases, ["Running", "Pending", "Pending", "Pending", "Running"]);
    let reasons: Vec<_> = plan.shortfalls.iter().map(|(key, reason)| format!("{key}: {reason}")).collect();
    assert_eq!(
        reasons,
        [
            "Pod shop/b: no node takes the Pod: of 1 nodes 0 lack labels of its nodeSelector, 0 are unschedulable, 1 have a host port of it in use",
            "Pod shop/c: no node takes the Pod: of 1 nodes 1 lack labels of its nodeSelector, 0 are unschedulable, 0 have a host port of it in use",
            "Pod shop/d: the Pod is bound to node `gone`, which does not exist",
        ]
    );
}

fn service(name: &str, spec: &Value) -> Value {
    json!({"kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

#[test]
fn services_get_addresses_and_node_ports_that_nobody_has() {
    let ports = json!([{"port": 80}]);
    let manifests = json!([
        service("web", &json!({"ports": ports})),
        service("out", &json!({"type": "NodePort", "ports": ports})),
        service("headless", &json!({"clusterIP": "None", "ports": ports})),
        service("alias", &json!({"type": "ExternalName", "externalName": "example.com"})),
        service("wrong", &json!({"ports": [{"port": 0}]})),
    ]);
    let (mut cluster, plan) = run(&manifests);
    assert!(
        matches!(plan.shortfalls.as_slice(), [(key, Shortfall::Service(_))] if key.object.name == "wrong")
    );
    let address = |cluster: &Cluster, name: &str| {
        cluster.services().get("shop", name).and_then(|service| service.spec.cluster_address(IpFamily::Ipv4))
    };
    let range = PlanOptions::default().service_ranges;
    let web = address(&cluster, "web");
    assert!(web.is_some_and(|ip| range.iter().any(|range| range.contains(&ip))));
    assert_eq!(address(&cluster, "alias"), None);
    assert!(cluster.services().get("shop", "headless").is_some_and(|service| service.spec.is_headless()));
    let port = |cluster: &Cluster| {
        let service = cluster.services().get("shop", "out");
        service.and_then(|service| service.spec.ports.first()?.node_port.number())
    };
    assert!(port(&cluster).is_some_and(|port| (30_086..=32_767).contains(&port.get())));

    // In another company each keeps what it had; what is asked for by number is never given to another.
    let wish = json!({"clusterIP": web.map(|ip| ip.to_string()), "ports": [{"port": 80}]});
    let (with_more, _) =
        run(&json!([service("aaa", &json!({"ports": ports})), service("web", &json!({"ports": ports}))]));
    assert_eq!(address(&with_more, "web"), web);
    let (with_wish, _) = run(&json!([service("web", &json!({"ports": ports})), service("wish", &wish)]));
    assert_eq!(address(&with_wish, "wish"), web);
    assert_ne!(address(&with_wish, "web"), web);

    // A stored Service holds its address against one that comes later.
    let _ = cluster.remove(ObjectKind::Service, &ObjectRef::new("shop", "wrong"));
    let late = serde_json::from_value::<Service>(service("late", &wish));
    let _ = late.map(|late| drop(cluster.apply(late)));
    let (_, plan) = planned(&cluster, &PlanOptions::default());
    assert!(
        matches!(plan.shortfalls.as_slice(), [(key, Shortfall::Service(_))] if key.object.name == "late")
    );
}

#[test]
fn two_families_give_everyone_two_addresses() {
    let range = |text: &str| text.parse::<IpNet>().ok();
    let mut options = PlanOptions::default();
    options.pod_ranges.extend(range("fd00:10:244::/56"));
    options.node_ranges.extend(range("fd00:172:18::/64"));
    options.service_ranges.extend(range("fd00:10:96::/112"));
    options.zones = vec!["east".into(), "west".into()];
    let manifests = json!([
        workload("Deployment", "web", &json!({}), &template("web", &json!({}))),
        service("web", &json!({"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]})),
    ]);
    let (cluster, plan) = planned(&cluster(&manifests), &options);
    assert_eq!(plan.shortfalls, []);
    assert!(cluster.pods().iter().all(|pod| pod.addresses().count() == 2));
    assert!(cluster.nodes().iter().all(|node| node.addresses().count() == 2));
    assert!(cluster.services().iter().all(|service| service.spec.cluster_addresses().count() == 2));
    let zones: Vec<_> = cluster.nodes().iter().filter_map(|node| node.zone()).collect();
    assert_eq!(zones, ["east", "west", "east"]);
}

#[test]
fn a_slip_in_replicas_is_cut_and_told() {
    let mut options = PlanOptions::default();
    options.max_pods = 250;
    let manifests = json!([
        workload("Deployment", "web", &json!({"replicas": 2_000_000_000}), &template("web", &json!({}))),
        workload("StatefulSet", "db", &json!({"replicas": -1}), &template("db", &json!({}))),
    ]);
    let (cluster, plan) = planned(&cluster(&manifests), &options);
    assert_eq!((cluster.pods().len(), cluster.nodes().len()), (250, 3));
    let cut = Shortfall::TooManyPods { wanted: 2_000_000_000, planned: 250 };
    assert!(matches!(plan.shortfalls.as_slice(), [(_, shortfall)] if *shortfall == cut));
}

fn manifest() -> impl Strategy<Value = Value> {
    let name = || prop::sample::select(&["a", "b", "c"][..]);
    let spec = prop::sample::select(vec![
        json!({}),
        json!({"nodeSelector": {"kubernetes.io/os": "linux"}}),
        json!({"nodeSelector": {"gpu": "yes"}}),
        json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]}),
        json!({"nodeName": "n1"}),
    ]);
    let kind =
        prop::sample::select(&["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod"][..]);
    let made = (kind, name(), 0..5, spec).prop_map(|(kind, name, replicas, spec)| match kind {
        "Pod" => json!({"kind": "Pod", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}),
        kind => workload(kind, name, &json!({"replicas": replicas}), &template(name, &spec)),
    });
    let node =
        name().prop_map(|name| json!({"kind": "Node", "metadata": {"name": name, "labels": {"gpu": "yes"}}}));
    let kind = prop::sample::select(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"][..]);
    let service = (
        name(),
        kind,
        prop::option::of(prop::sample::select(&["None", "10.96.0.7", "nonsense"][..])),
    )
        .prop_map(|(name, kind, ip)| {
            service(
                name,
                &json!({"type": kind, "clusterIP": ip, "externalName": "x.example", "ports": [{"port": 80}]}),
            )
        });
    prop_oneof![6 => made, 1 => node, 3 => service]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Once carried out, a plan leaves nothing to plan; it does not depend on the order of the manifests; and nobody
    /// shares an address but with the node whose network it uses.
    #[test]
    fn a_plan_is_complete_and_a_function_of_its_input(manifests in prop::collection::vec(manifest(), 0..12)) {
        let forward = cluster(&Value::from(manifests.clone()));
        let (once, first) = planned(&forward, &PlanOptions::default());
        let again = plan(&once, &PlanOptions::default());
        prop_assert_eq!(again.objects, []);

        // Of manifests of one name the last counts, so only the first of each is kept for the other order.
        let mut seen = BTreeSet::new();
        let distinct: Vec<_> = manifests.into_iter().filter(|manifest| {
            let part = |pointer| manifest.pointer(pointer).map(Value::to_string);
            seen.insert((part("/kind"), part("/metadata/name")))
        }).collect();
        let backward: Vec<_> = distinct.iter().rev().cloned().collect();
        let plans = [distinct, backward].map(|m| plan(&cluster(&Value::from(m)), &PlanOptions::default()));
        let [forward, backward] = plans;
        prop_assert_eq!(forward, backward);

        let mut addresses = BTreeSet::new();
        for pod in once.pods().iter().filter(|pod| !pod.spec.host_network) {
            for ip in pod.addresses() {
                prop_assert!(addresses.insert(ip), "{} has an address of another Pod", pod.metadata.name);
            }
        }
        let pending = once.pods().iter().filter(|pod| !pod.is_ready()).count();
        let told = first.shortfalls.iter().filter(|(key, _)| key.kind == ObjectKind::Pod).count();
        prop_assert_eq!(pending, told);
    }
}
