//! The text of enforced policies: what a change of a Pod touches, and that names stay out of it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use serde_json::{Value, json};
use svc_model::Object;
use svc_netpol::Engine;
use svc_rules::policy::{Refusal, iptables, nftables};

fn object(kind: &str, value: Value) -> Object {
    Object::from_kind(kind, value).unwrap().unwrap()
}

fn pod(name: &str, app: &str, node: &str, ips: [&str; 2]) -> Object {
    object(
        "Pod",
        json!({
            "metadata": {"namespace": "shop", "name": name, "labels": {"app": app}},
            "spec": {"nodeName": node},
            "status": {"podIPs": [{"ip": ips[0]}, {"ip": ips[1]}]},
        }),
    )
}

fn engine() -> Engine {
    let mut engine = Engine::default();
    engine.apply_all(&[
        pod("db-1", "db", "here", ["10.0.0.1", "fd00::1"]),
        pod("db-2", "db", "there", ["10.0.0.2", "fd00::2"]),
        pod("web-1", "web", "there", ["10.0.0.3", "fd00::3"]),
        pod("job-1", "job", "there", ["10.0.0.4", "fd00::4"]),
        object("NetworkPolicy", json!({
            "metadata": {"namespace": "shop", "name": "db; drop table \"x\"\nadd"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]},
                    {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]},
                ],
            },
        })),
    ]);
    engine
}

#[test]
fn the_table_isolates_the_nodes_own_pods_only() {
    let script = nftables::Ruleset::new(&engine().node_plan("here"), Refusal::Drop).script();
    assert!(script.contains("add element inet svc-policy ingress-v4 { 10.0.0.1 : jump in-"), "{script}");
    assert!(script.contains("add element inet svc-policy ingress-v6 { fd00::1 : jump in-"));
    assert!(!script.contains("10.0.0.2 : jump"));
    assert!(script.contains("meta l4proto . th dport { tcp . 5432 } return"));
    assert!(script.contains("0.0.0.0-9.255.255.255, 11.0.0.0-255.255.255.255"));
    assert!(!script.contains("drop table"), "a name reached a rule");
    let elsewhere = nftables::Ruleset::new(&engine().node_plan("nowhere"), Refusal::Drop).script();
    assert!(!elsewhere.contains("add element"));
}

#[test]
fn a_pod_is_an_element() {
    let mut engine = engine();
    let before = engine.node_plan("here");
    // A client that moves to another address, one that turns into another application, one more that is like others,
    // and one more on the node itself.
    let changes = [
        pod("web-1", "web", "there", ["10.0.0.30", "fd00::30"]),
        pod("job-1", "web", "there", ["10.0.0.4", "fd00::4"]),
        pod("web-2", "web", "there", ["10.0.0.5", "fd00::5"]),
        pod("db-3", "db", "here", ["10.0.0.6", "fd00::6"]),
    ];
    for change in &changes {
        engine.apply(change);
    }
    let after = engine.node_plan("here");
    let (old, new) = [&before, &after].map(|plan| nftables::Ruleset::new(plan, Refusal::Drop)).into();
    let script = new.changes_from(&old);
    assert!(!script.is_empty());
    assert!(script.lines().all(|line| line.contains(" element ")), "{script}");
    assert!(script.contains("10.0.0.30") && script.contains("10.0.0.6 : jump in-"));
    assert_eq!(new.changes_from(&new), "");
    assert_eq!(old.size().0, new.size().0);

    let (old, new) = [&before, &after].map(|plan| iptables::Ruleset::new(plan, Refusal::Drop)).into();
    let scripts = new.changes_from(&old);
    assert!(scripts.isolation.contains("10.0.0.6\n") && scripts.allowances.contains("10.0.0.30\n"));
    // The new subject may reach itself, which is the one rule that a Pod brings.
    for rules in [&scripts.rules_v4, &scripts.rules_v6] {
        let touched: Vec<&str> = rules.lines().filter(|line| line.starts_with(':')).collect();
        assert_eq!(touched, [":SVC-P-SELF - [0:0]"], "{rules}");
    }
    assert_eq!(new.changes_from(&new), iptables::Scripts::default());
}

#[test]
fn names_are_short_enough_for_the_tools() {
    let scripts = iptables::Ruleset::new(&engine().node_plan("here"), Refusal::Reject).scripts();
    let sets = scripts.isolation.lines().chain(scripts.allowances.lines());
    let sets: Vec<&str> = sets.map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert!(sets.len() > 5 && sets.iter().all(|name| name.len() <= 31), "{sets:?}");
    let chains: Vec<&str> =
        scripts.rules_v4.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next()).collect();
    assert!(chains.len() > 5 && chains.iter().all(|name| name.len() <= 28), "{chains:?}");
}
