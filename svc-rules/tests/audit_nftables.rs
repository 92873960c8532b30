//! An audit of nftables mode finds every damage, blames nothing that is whole, and its repair repairs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

mod common;

use common::{Cluster, Event, config, event, families};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use svc_model::{EndpointSlice, IpFamily, ObjectRef, Service};
use svc_rules::audit::{self, Audit, Problem};
use svc_rules::nft::Ruleset;
use svc_rules::nftables::Layout;
use svc_rules::{NodeRules, ProxyConfig, Scheme};

fn healthy(config: &ProxyConfig, layout: Layout, cluster: &Cluster) -> Ruleset {
    let scheme = if layout == Layout::Flat { Scheme::NftablesFlat } else { Scheme::Nftables };
    let rules = NodeRules::new(scheme, config, cluster.services.values(), &cluster.slices);
    rules.nftables().unwrap().clone()
}

fn run(config: &ProxyConfig, layout: Layout, cluster: &Cluster, found: &Ruleset) -> Audit {
    audit::nftables(config, layout, cluster.services.values(), &cluster.slices, found)
}

/// The commands that build the rules, without comments and without chains that wait for their deletion.
fn meaning(rules: &Ruleset) -> Vec<String> {
    let text = rules.commands();
    let empty = |line: &str| {
        let name = line.strip_prefix("add chain ").map(|rest| rest.split(' ').nth(2).unwrap());
        name.is_some_and(|name| text.lines().filter(|other| other.contains(name)).count() == 1)
    };
    let lines = text.lines().filter(|line| !empty(line)).map(|line| match line.split_once(" comment \"") {
        Some((head, tail)) => format!("{head}{}", tail.split_once('"').unwrap().1),
        None => line.to_owned(),
    });
    lines.collect()
}

fn repaired(
    config: &ProxyConfig,
    layout: Layout,
    cluster: &Cluster,
    mut kernel: Ruleset,
) -> Result<(), TestCaseError> {
    let found = run(config, layout, cluster, &kernel);
    for step in &found.repair {
        kernel.apply(&step.input).map_err(|error| TestCaseError::fail(format!("{error}\n{}", step.input)))?;
    }
    prop_assert_eq!(run(config, layout, cluster, &kernel), Audit::default());
    prop_assert_eq!(meaning(&kernel), meaning(&healthy(config, layout, cluster)));
    Ok(())
}

fn clusters() -> impl Strategy<Value = (ProxyConfig, Layout, Vec<Event>)> {
    let layout = prop_oneof![Just(Layout::Reference), Just(Layout::Flat)];
    (families(), layout)
        .prop_flat_map(|(family, layout)| (config(family), Just(layout), vec(event(family), 5..30)))
}

/// One line of the commands that build the rules, as someone left it; `None` if it is gone.
fn damaged(line: &str) -> Option<String> {
    let words: Vec<_> = line.split(' ').collect();
    match words[1] {
        // What stands for something else, is attached elsewhere, or remembers for another time.
        "element" if line.contains(": drop") => Some(line.replace(": drop", ": goto reject-chain")),
        "element" if line.contains(": goto reject-chain") => {
            Some(line.replace(": goto reject-chain", ": drop"))
        }
        "chain" if line.contains("priority 0") => Some(line.replace("priority 0", "priority 7")),
        "set" if line.contains("timeout ") => Some(line.replace("s ;", "1s ;")),
        "rule" | "element" => None,
        _ => Some(line.to_owned()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damage_is_found_and_repaired((config, layout, events) in clusters(), damage in vec(any::<Index>(), 1..4)) {
        let mut cluster = Cluster::default();
        for event in &events {
            let _ = cluster.apply(event);
        }
        let whole = healthy(&config, layout, &cluster);
        prop_assert_eq!(run(&config, layout, &cluster, &whole), Audit::default());

        let text = whole.commands();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let worth = |line: &String| damaged(line).as_ref() != Some(line);
        let places: Vec<_> = (0..lines.len()).filter(|at| worth(&lines[*at])).collect();
        let mut chosen: Vec<_> = damage.iter().map(|index| *index.get(&places)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        for at in chosen.iter().rev() {
            match damaged(&lines[*at]) {
                Some(line) => lines[*at] = line,
                None => _ = lines.remove(*at),
            }
        }
        let kernel = Ruleset::parse(&lines.join("\n")).unwrap();
        let found = run(&config, layout, &cluster, &kernel);
        prop_assert!(found.findings.len() >= chosen.len(), "{:?}", found.findings);
        repaired(&config, layout, &cluster, kernel)?;
    }

    /// A node that has not heard of the latest changes.
    #[test]
    fn a_node_left_behind_is_repaired((config, layout, events) in clusters(), cut in any::<Index>()) {
        let mut cluster = Cluster::default();
        let (early, late) = events.split_at(cut.index(events.len()));
        early.iter().for_each(|event| _ = cluster.apply(event));
        let kernel = healthy(&config, layout, &cluster);
        late.iter().for_each(|event| _ = cluster.apply(event));
        let found = run(&config, layout, &cluster, &kernel);
        prop_assert_eq!(found.findings.is_empty(), found.repair.is_empty());
        repaired(&config, layout, &cluster, kernel)?;
    }
}

fn cluster(endpoints: &[&str]) -> Cluster {
    let mut cluster = Cluster::default();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "cart"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]},
    }))
    .unwrap();
    let _ = cluster.apply(&Event::Apply(Box::new(service)));
    let _ = cluster.apply(&Event::Slice(Box::new(slice(endpoints))));
    cluster
}

fn slice(addresses: &[&str]) -> EndpointSlice {
    let endpoints: Vec<_> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "cart-1", "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
    }))
    .unwrap()
}

#[test]
fn a_stale_endpoint_is_said_in_plain_words() {
    let (config, layout) = (ProxyConfig::new(IpFamily::Ipv4, "node-a"), Layout::Reference);
    let mut cluster = cluster(&["10.0.0.1", "10.0.0.2"]);
    let kernel = healthy(&config, layout, &cluster);
    let _ = cluster.apply(&Event::Slice(Box::new(slice(&["10.0.0.1", "10.0.0.3"]))));
    let found = run(&config, layout, &cluster, &kernel);
    let says = |text: &str| found.findings.iter().any(|finding| finding.to_string() == text);
    assert!(says("shop/cart:http: endpoint 10.0.0.3:8080 gets no traffic"), "{:?}", found.findings);
    assert!(says(
        "shop/cart:http: traffic still goes to 10.0.0.2:8080, which is no endpoint to be used from here"
    ));
    assert!(found.findings.iter().all(|finding| finding.service.as_deref() == Some("shop/cart:http")));
}

#[test]
fn a_service_that_is_gone_leaves_stale_chains_and_elements() {
    let (config, layout) = (ProxyConfig::new(IpFamily::Ipv4, "node-a"), Layout::Reference);
    let mut cluster = cluster(&["10.0.0.1"]);
    let kernel = healthy(&config, layout, &cluster);
    let _ = cluster.apply(&Event::Remove(ObjectRef::new("shop", "cart")));
    let found = run(&config, layout, &cluster, &kernel);
    let stale = found.findings.iter().filter(|finding| finding.problem == Problem::StaleChain);
    assert_eq!(stale.count(), 1);
    let of_service = |finding: &&audit::Finding| finding.service.as_deref() == Some("shop/cart:http");
    // The chain and the element that leads to it; whose cluster address it was, nobody knows any more.
    assert_eq!(found.findings.iter().filter(of_service).count(), 2, "{:?}", found.findings);
    assert_eq!(found.findings.len(), 3, "{:?}", found.findings);
}

#[test]
fn a_node_without_the_table_is_rebuilt() {
    let (config, layout) = (ProxyConfig::new(IpFamily::Ipv4, "node-a"), Layout::Reference);
    let cluster = cluster(&["10.0.0.1"]);
    let foreign = "add table ip other\nadd chain ip other input\n";
    let mut kernel = Ruleset::parse(foreign).unwrap();
    let found = run(&config, layout, &cluster, &kernel);
    assert_eq!(found.findings.len(), 1);
    assert_eq!(found.findings[0].to_string(), "node: table kube-proxy is missing");
    found.repair.iter().for_each(|step| kernel.apply(&step.input).unwrap());
    assert_eq!(run(&config, layout, &cluster, &kernel), Audit::default());
    assert!(kernel.commands().contains(foreign.lines().next().unwrap()));
}

/// Counters, comments and clients that are remembered are no faults.
#[test]
fn what_use_leaves_behind_is_no_fault() {
    let (config, layout) = (ProxyConfig::new(IpFamily::Ipv4, "node-a"), Layout::Reference);
    let mut cluster = cluster(&["10.0.0.1"]);
    let mut service = cluster.services.values().next().unwrap().clone();
    service.spec = serde_json::from_value(json!({
        "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}], "sessionAffinity": "ClientIP",
    }))
    .unwrap();
    let _ = cluster.apply(&Event::Apply(Box::new(service)));
    let whole = healthy(&config, layout, &cluster).commands();
    let set = whole.lines().find(|line| line.starts_with("add set") && line.contains("affinity-")).unwrap();
    let set = set.split(' ').nth(4).unwrap();
    let used = whole
        .replace("meta l4proto tcp dnat", "counter packets 7 bytes 420 meta l4proto tcp dnat")
        .replace("comment \"Active ClusterIPs\"", "comment \"someone else's\"")
        + &format!("add element ip kube-proxy {set} {{ 10.0.0.9 timeout 3h expires 2h }}\n")
        + "add chain ip kube-proxy service-OLDOLDOL-shop/gone/tcp/http\n";
    assert_ne!(used, whole);
    assert_eq!(run(&config, layout, &cluster, &Ruleset::parse(&used).unwrap()), Audit::default());
}
