//! Each lint on the smallest policy that deserves it, and none on a policy that doesn't.
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
use svc_netpol::{Endpoint, Engine, Flow, Lint, Options, Traffic};

fn object(kind: &str, value: Value) -> Object {
    Object::from_kind(kind, value).unwrap().unwrap()
}

fn cluster() -> Engine {
    let mut engine = Engine::new(Options::default());
    for name in ["shop", "ops"] {
        engine.apply(&object("Namespace", json!({"metadata": {"name": name, "labels": {"team": name}}})));
    }
    let pods = [
        ("shop", "web", false, "10.0.0.1"),
        ("shop", "db", false, "10.0.0.2"),
        ("ops", "agent", true, "172.20.0.1"),
    ];
    for (namespace, name, host, ip) in pods {
        engine.apply(&object("Pod", json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
            "spec": {"hostNetwork": host, "containers": [{"name": "c", "ports": [{"name": "sql", "containerPort": 5432}]}]},
            "status": {"podIPs": [{"ip": ip}]},
        })));
    }
    engine
}

fn lint(spec: Value) -> Vec<String> {
    let mut engine = cluster();
    engine.apply(&object(
        "NetworkPolicy",
        json!({"metadata": {"namespace": "shop", "name": "p"}, "spec": spec}),
    ));
    engine.lint().iter().map(|finding| format!("{} {:?}", finding.field, finding.lint)).collect()
}

#[test]
fn a_plain_policy_has_no_finding() {
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "db"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "sql"}]}],
        "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
    });
    assert_eq!(lint(spec), [""; 0]);
}

#[test]
fn each_trap_is_found() {
    let db = json!({"matchLabels": {"app": "db"}});
    let nobody = json!({"matchLabels": {"app": "nobody"}});
    let cases = [
        (json!({"podSelector": nobody}), vec![" SelectsNobody"]),
        (
            json!({"podSelector": db, "ingress": [{"from": [{"podSelector": nobody}]}]}),
            vec!["spec.ingress[0].from[0] PeerIsNobody"],
        ),
        (
            json!({"podSelector": db, "ingress": [{}, {"ports": [{"port": 80}]}]}),
            vec!["spec.ingress[1] NeverDecides"],
        ),
        (
            json!({"podSelector": db, "ingress": [{"ports": [{"port": "http"}]}]}),
            vec!["spec.ingress[0].ports UndefinedPortName(\"http\")"],
        ),
        (
            json!({"podSelector": db, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8", "except": ["11.0.0.0/8"]}}]}]}),
            vec![
                "spec.ingress[0].from[0].ipBlock.cidr HostBits(10.0.0.0/8)",
                "spec.ingress[0].from[0].ipBlock.except[0] ExceptOutsideBlock",
            ],
        ),
        (
            json!({"podSelector": db, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]}),
            vec!["spec.ingress[0].from[0].ipBlock ExceptIsEverything"],
        ),
        (
            json!({"podSelector": db, "ingress": [{"from": [{"namespaceSelector": {}}, {"podSelector": {}}]}]}),
            vec!["spec.ingress[0].from[1] PeersAreAlternatives"],
        ),
        (
            json!({"podSelector": db, "policyTypes": ["Ingress"], "egress": [{}]}),
            vec!["spec.egress RulesOfUnlistedDirection"],
        ),
        (
            json!({"podSelector": db, "ingress": [], "egress": [{"ports": [{"port": 443}]}]}),
            vec!["spec.egress NoDns"],
        ),
        (
            json!({"podSelector": db, "ingress": [{"ports": [{"port": 90, "endPort": 80}]}]}),
            vec!["spec.ingress[0] NeverDecides", "spec.ingress[0].ports[0] Invalid"],
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            vec!["spec Invalid"],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(lint(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn policies_of_one_priority_and_pods_on_the_host_are_found() {
    let mut engine = cluster();
    for name in ["a", "b"] {
        engine.apply(&object("ClusterNetworkPolicy", json!({
            "metadata": {"name": name},
            "spec": {
                "tier": "Admin", "priority": 5, "subject": {"namespaces": {"matchLabels": {"team": "shop"}}},
                "ingress": [{"action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "shop"}}}]}],
            },
        })));
    }
    engine.apply(&object(
        "NetworkPolicy",
        json!({"metadata": {"namespace": "ops", "name": "p"}, "spec": {"podSelector": {}}}),
    ));
    let lints: Vec<Lint> = engine.lint().into_iter().map(|finding| finding.lint).collect();
    assert!(
        matches!(&lints[..], [
        Lint::SelectsNobody, Lint::SelectsHostNetwork, Lint::SamePriority(other), Lint::NeverDecides,
    ] if other.object.name == "b"),
        "{lints:?}"
    );
}

#[test]
fn the_nearest_rule_comes_first_and_says_what_it_lacks() {
    let mut engine = cluster();
    engine.apply(&object(
        "NetworkPolicy",
        json!({
            "metadata": {"namespace": "shop", "name": "db"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [
                    {"from": [{"ipBlock": {"cidr": "192.168.0.0/16"}}], "ports": [{"port": 9}]},
                    {"from": [{"podSelector": {"matchLabels": {"app": "wep"}}}], "ports": [{"port": 5432}]},
                ],
            },
        }),
    ));
    let flow = Flow::new(Endpoint::pod("shop", "web"), Endpoint::pod("shop", "db"), Traffic::Tcp(5432));
    let nearest: Vec<String> = engine.nearest(&flow, 2).iter().map(ToString::to_string).collect();
    assert_eq!(
        nearest,
        [
            "NetworkPolicy shop/db ingress[1]: peer 0 is another: of the Pod's labels 0 of 1 requirements hold; \
         `app=wep` fails: the label is `web`, much like `wep`",
            "NetworkPolicy shop/db ingress[0]: peer 0 is another: the address is not in 192.168.0.0/16; \
         the rule is for TCP 9",
        ]
    );
}

#[test]
fn a_rule_that_decides_unless_an_unknown_policy_applies_has_no_finding() {
    let mut engine = cluster();
    // Nobody has said what labels this namespace has, so the Admin policy may or may not apply to its Pod.
    engine.apply(&object(
        "Pod",
        json!({
            "metadata": {"namespace": "undeclared", "name": "a"},
            "spec": {"containers": []}, "status": {"podIPs": [{"ip": "10.0.1.1"}]},
        }),
    ));
    engine.apply(&object(
        "ClusterNetworkPolicy",
        json!({
            "metadata": {"name": "open"},
            "spec": {
                "tier": "Admin", "priority": 5, "subject": {"namespaces": {"matchLabels": {"team": "ops"}}},
                "egress": [{"action": "Accept", "to": [{"namespaces": {}}]}],
            },
        }),
    ));
    engine.apply(&object(
        "NetworkPolicy",
        json!({
            "metadata": {"namespace": "undeclared", "name": "p"},
            "spec": {
                "podSelector": {}, "policyTypes": ["Egress"],
                "egress": [{"to": [{"namespaceSelector": {}}]}, {"ports": [{"protocol": "TCP"}]}],
            },
        }),
    ));
    let lints: Vec<Lint> = engine.lint().into_iter().map(|finding| finding.lint).collect();
    assert!(!lints.contains(&Lint::NeverDecides), "{lints:?}");
}
