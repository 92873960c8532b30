//! Rules of the API's text that few recorded verdicts touch, each with the smallest policies that show it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::manual_try_fold,
    clippy::panic,
    clippy::print_stdout,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "helpers of tests, outside of test functions"
)]

use serde_json::{Value, json};
use svc_netpol::model::Object;
use svc_netpol::{Endpoint, Engine, Flow, Options, Traffic, Verdict};

fn object(kind: &str, value: Value) -> Object {
    Object::from_kind(kind, value).unwrap().unwrap()
}

/// Namespace `x` with Pods `a`, `b` and `host`, namespace `y` with `a`, one node; the policies are added to them.
fn cluster(policies: &[(&str, Value)]) -> Engine {
    let mut engine = Engine::new(Options::default());
    for name in ["x", "y"] {
        engine.apply(&object("Namespace", json!({"metadata": {"name": name, "labels": {"ns": name}}})));
    }
    engine.apply(&object(
        "Node",
        json!({
            "metadata": {"name": "node", "labels": {"zone": "1"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.20.0.1"}]},
        }),
    ));
    let pods =
        [("x", "a", "10.0.0.1"), ("x", "b", "10.0.0.2"), ("x", "host", "172.20.0.1"), ("y", "a", "10.0.1.1")];
    for (namespace, name, ip) in pods {
        let containers = json!([{"name": "c", "ports": [
            {"name": "web", "containerPort": 8080},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns", "containerPort": 5353},
        ]}]);
        engine.apply(&object(
            "Pod",
            json!({
                "metadata": {"namespace": namespace, "name": name, "labels": {"pod": name}},
                "spec": {"nodeName": "elsewhere", "hostNetwork": name == "host", "containers": containers},
                "status": {"podIPs": [{"ip": ip}]},
            }),
        ));
    }
    for (kind, policy) in policies {
        engine.apply(&object(kind, policy.clone()));
    }
    engine
}

fn end(text: &str) -> Endpoint<'_> {
    match text.split_once('/') {
        Some((namespace, name)) => Endpoint::pod(namespace, name),
        None => Endpoint::Address(text.parse().unwrap()),
    }
}

/// Says of each flow whether it is allowed.
fn check(policies: &[(&str, Value)], expected: &[(&str, &str, Traffic, bool)]) {
    let engine = cluster(policies);
    for (from, to, traffic, allowed) in expected {
        let decision = engine.decide(&Flow::new(end(from), end(to), *traffic));
        let verdict = if *allowed { Verdict::Allow } else { Verdict::Deny };
        assert_eq!(decision.verdict, verdict, "{from} -> {to} {traffic}: {decision}");
    }
}

fn network(spec: Value) -> (&'static str, Value) {
    ("NetworkPolicy", json!({"metadata": {"namespace": "x", "name": "p"}, "spec": spec}))
}

fn cluster_policy(name: &str, tier: &str, priority: i32, spec: Value) -> (&'static str, Value) {
    let mut policy = json!({"metadata": {"name": name}, "spec": spec});
    policy["spec"]["tier"] = json!(tier);
    policy["spec"]["priority"] = json!(priority);
    policy["spec"]["subject"] = json!({"pods": {
        "namespaceSelector": {"matchLabels": {"ns": "x"}}, "podSelector": {"matchLabels": {"pod": "a"}},
    }});
    ("ClusterNetworkPolicy", policy)
}

const WEB: Traffic = Traffic::Tcp(8080);

#[test]
fn a_named_port_is_one_of_its_protocol() {
    let ports = |port: Value| [network(json!({"podSelector": {}, "ingress": [{"ports": [port]}]}))];
    // Without a protocol the name is one of TCP, though UDP has it too.
    let flows = [
        ("y/a", "x/a", Traffic::Tcp(5353), true),
        ("y/a", "x/a", Traffic::Udp(53), false),
        ("y/a", "x/a", Traffic::Tcp(53), false),
    ];
    check(&ports(json!({"port": "dns"})), &flows);
    let flows = [("y/a", "x/a", Traffic::Tcp(5353), false), ("y/a", "x/a", Traffic::Udp(53), true)];
    check(&ports(json!({"port": "dns", "protocol": "UDP"})), &flows);
    // In cluster-scoped policies a name has no protocol: both are meant.
    let spec = json!({"ingress": [
        {"action": "Accept", "from": [{"namespaces": {}}], "protocols": [{"destinationNamedPort": "dns"}]},
        {"action": "Deny", "from": [{"namespaces": {}}]},
    ]});
    let flows = [
        ("y/a", "x/a", Traffic::Tcp(5353), true),
        ("y/a", "x/a", Traffic::Udp(53), true),
        ("y/a", "x/a", Traffic::Tcp(53), false),
    ];
    check(&[cluster_policy("p", "Admin", 1, spec)], &flows);
}

#[test]
fn a_range_of_ports_has_both_its_ends() {
    let port = json!({"port": 80, "endPort": 82});
    let policy = network(json!({"podSelector": {}, "ingress": [{"ports": [port]}]}));
    let flow = |port, allowed| ("y/a", "x/a", Traffic::Tcp(port), allowed);
    check(&[policy], &[flow(79, false), flow(80, true), flow(82, true), flow(83, false)]);
}

#[test]
fn a_block_finds_pods_and_its_exception_binds_no_other() {
    let block = |cidr: &str, except: &[&str]| json!({"ipBlock": {"cidr": cidr, "except": except}});
    let policy = |peers: Value| network(json!({"podSelector": {}, "ingress": [{"from": peers}]}));
    let flows = [("x/b", "x/a", WEB, true), ("y/a", "x/a", WEB, false), ("10.0.0.9", "x/a", WEB, true)];
    check(&[policy(json!([block("10.0.0.0/16", &["10.0.1.0/24"])]))], &flows);
    let peers = json!([block("10.0.0.0/16", &["10.0.1.0/24"]), block("10.0.1.1/32", &[])]);
    check(&[policy(peers)], &[("y/a", "x/a", WEB, true), ("10.0.1.2", "x/a", WEB, false)]);
    // A block of one family finds no address of the other.
    check(&[policy(json!([block("::/0", &[])]))], &[("8.8.8.8", "x/a", WEB, false)]);
}

#[test]
fn a_pod_on_the_host_network_is_its_node() {
    let from = json!([{"podSelector": {}}, {"namespaceSelector": {}}]);
    let policy = network(json!({"podSelector": {}, "ingress": [{"from": from}], "policyTypes": ["Ingress"]}));
    let flows = [
        ("x/b", "x/a", WEB, true),
        // No selector finds it, and no policy is about it.
        ("x/host", "x/a", WEB, false),
        ("172.20.0.1", "x/a", WEB, false),
        ("8.8.8.8", "x/host", WEB, true),
    ];
    check(&[policy], &flows);
    let nodes = json!({"egress": [
        {"action": "Deny", "to": [{"nodes": {"matchLabels": {"zone": "1"}}}]},
    ]});
    let flows =
        [("x/a", "x/host", WEB, false), ("x/a", "172.20.0.1", WEB, false), ("x/b", "x/host", WEB, true)];
    check(&[cluster_policy("p", "Admin", 1, nodes)], &flows);
}

#[test]
fn passing_leaves_the_tier_and_not_the_policy() {
    let rule = |action: &str| json!({"action": action, "from": [{"namespaces": {}}]});
    let pass = || cluster_policy("pass", "Admin", 1, json!({"ingress": [rule("Pass")]}));
    let deny = || cluster_policy("deny", "Admin", 2, json!({"ingress": [rule("Deny")]}));
    let baseline = || cluster_policy("base", "Baseline", 0, json!({"ingress": [rule("Deny")]}));
    let to_a = |allowed| [("y/a", "x/a", WEB, allowed)];
    check(&[pass(), deny()], &to_a(true));
    check(&[pass(), deny(), baseline()], &to_a(false));
    // The NetworkPolicies' word comes before the Baseline tier's.
    let allow = network(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8080}]}]}));
    let flows = [("y/a", "x/a", WEB, true), ("y/a", "x/a", Traffic::Tcp(81), false)];
    check(&[pass(), deny(), baseline(), allow], &flows);
    // Nothing comes after the Baseline tier: passing there allows.
    let through = cluster_policy("a", "Baseline", 0, json!({"ingress": [rule("Pass"), rule("Deny")]}));
    check(&[through, baseline()], &to_a(true));
    // The older kind of Baseline policy comes last.
    let old = || {
        let subject = json!({"namespaces": {}});
        let spec = json!({"subject": subject, "ingress": [rule("Deny")]});
        ("BaselineAdminNetworkPolicy", json!({"metadata": {"name": "default"}, "spec": spec}))
    };
    let accept = cluster_policy("z", "Baseline", 1000, json!({"ingress": [rule("Accept")]}));
    check(&[old(), accept], &to_a(true));
    check(&[old()], &to_a(false));
}

#[test]
fn policies_of_one_priority_are_taken_by_name() {
    let rule = |action: &str| json!({"ingress": [{"action": action, "from": [{"namespaces": {}}]}]});
    let pair = |a: &str, b: &str| {
        [cluster_policy("b", "Admin", 5, rule(b)), cluster_policy("a", "Admin", 5, rule(a))]
    };
    check(&pair("Deny", "Accept"), &[("y/a", "x/a", WEB, false)]);
    check(&pair("Accept", "Deny"), &[("y/a", "x/a", WEB, true)]);
}

#[test]
fn networks_find_pods_and_namespaces_find_nobody_outside() {
    let deny = json!({"egress": [{"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]});
    check(
        &[cluster_policy("p", "Admin", 1, deny)],
        &[("x/a", "y/a", WEB, false), ("x/a", "8.8.8.8", WEB, false)],
    );
    let deny = json!({"egress": [{"action": "Deny", "to": [{"namespaces": {}}]}]});
    check(
        &[cluster_policy("p", "Admin", 1, deny)],
        &[("x/a", "y/a", WEB, false), ("x/a", "8.8.8.8", WEB, true)],
    );
}

#[test]
fn domain_names_are_what_was_observed() {
    let spec = json!({"egress": [
        {"action": "Accept", "to": [{"domainNames": ["*.example.com"]}]},
        {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]},
    ]});
    let mut engine = cluster(&[cluster_policy("p", "Admin", 1, spec)]);
    let verdict = |engine: &Engine, to| engine.verdict(&Flow::new(end("x/a"), end(to), WEB));
    assert_eq!(verdict(&engine, "8.8.8.8"), Verdict::Unknown);
    // One or more labels, and never none.
    engine.set_domain("example.com.", Some(&["8.8.4.4".parse().unwrap()]));
    assert_eq!(verdict(&engine, "8.8.4.4"), Verdict::Unknown);
    engine.set_domain("A.b.Example.com", Some(&["8.8.8.8".parse().unwrap()]));
    assert_eq!(verdict(&engine, "8.8.8.8"), Verdict::Allow);
    assert_eq!(verdict(&engine, "8.8.4.4"), Verdict::Deny);
    // Names are for what is outside.
    assert_eq!(verdict(&engine, "y/a"), Verdict::Deny);
}

#[test]
fn what_is_not_understood_fails_closed() {
    let deny = json!({"action": "Deny", "to": [{"namespaces": {}}]});
    let rules = |action: &str| json!({"egress": [{"action": action, "to": [{"futureKind": {}}]}, deny]});
    let flows = |allowed| [("x/a", "y/a", WEB, false), ("x/a", "8.8.8.8", WEB, allowed)];
    // An Accept rule matches nothing; any other denies everything.
    check(&[cluster_policy("p", "Admin", 1, rules("Accept"))], &flows(true));
    check(&[cluster_policy("p", "Admin", 1, rules("Pass"))], &flows(false));
}

#[test]
fn an_egress_rule_alone_isolates_both_ways_and_an_empty_list_one() {
    let flows = |out, into| [("x/a", "y/a", WEB, out), ("y/a", "x/a", WEB, into)];
    check(&[network(json!({"podSelector": {}, "egress": [{}]}))], &flows(true, false));
    check(&[network(json!({"podSelector": {}, "egress": []}))], &flows(true, false));
    let listed = json!({"podSelector": {}, "ingress": [], "policyTypes": ["Egress", "Egress"]});
    check(&[network(listed)], &flows(false, true));
}
