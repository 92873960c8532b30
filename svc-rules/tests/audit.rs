//! An audit finds every damage, blames nothing that is whole, and its repair repairs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

mod common;

use common::{Cluster, Event, config, event, families};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use svc_model::{IpFamily, ObjectRef};
use svc_rules::ProxyConfig;
use svc_rules::audit::{self, Audit, Problem};
use svc_rules::iptables::{Mode, Proxy, StaleChains, jumps};
use svc_rules::packet::Family;
use svc_rules::xtables::{RestoreMode, Ruleset, ShowCounters};

/// What `iptables-save` prints on a node in order.
fn healthy(config: &ProxyConfig, cluster: &Cluster) -> String {
    let mut proxy = Proxy::new(config.clone());
    proxy.replace_all(cluster.services.values());
    let mut out = Vec::new();
    let _ = proxy.sync(&cluster.slices, Mode::Full, StaleChains::Delete, &mut out);
    let mut kernel = Ruleset::new(if config.family == IpFamily::Ipv4 { Family::V4 } else { Family::V6 });
    kernel.restore(&String::from_utf8(out).unwrap(), RestoreMode::Keep).unwrap();
    for jump in jumps(config) {
        let line = format!("*{}\n-I {} {jump}\nCOMMIT\n", jump.table, jump.from);
        kernel.restore(&line, RestoreMode::Keep).unwrap();
    }
    kernel.save(ShowCounters::No)
}

fn family(config: &ProxyConfig) -> Family {
    if config.family == IpFamily::Ipv4 { Family::V4 } else { Family::V6 }
}

fn run(config: &ProxyConfig, cluster: &Cluster, found: &Ruleset) -> Audit {
    audit::iptables(config, cluster.services.values(), &cluster.slices, found)
}

fn clusters() -> impl Strategy<Value = (ProxyConfig, Vec<Event>)> {
    families().prop_flat_map(|family| (config(family), vec(event(family), 5..30)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damage_is_found_and_repaired((config, events) in clusters(), damage in vec(any::<Index>(), 1..4)) {
        let mut cluster = Cluster::default();
        for event in &events {
            let _ = cluster.apply(event);
        }
        let text = healthy(&config, &cluster);
        let whole = Ruleset::parse(&text, family(&config)).unwrap();
        prop_assert_eq!(run(&config, &cluster, &whole), Audit::default());

        // Rules disappear; chains stay, so that the text can be loaded.
        let mut lines: Vec<_> = text.lines().collect();
        let rules: Vec<_> = (0..lines.len()).filter(|at| lines[*at].starts_with("-A ")).collect();
        let mut gone: Vec<_> = damage.iter().map(|index| *index.get(&rules)).collect();
        gone.sort_unstable();
        gone.dedup();
        for at in gone.iter().rev() {
            lines.remove(*at);
        }
        let mut kernel = Ruleset::parse(&format!("{}\n", lines.join("\n")), family(&config)).unwrap();
        let found = run(&config, &cluster, &kernel);
        prop_assert!(found.findings.len() >= gone.len(), "{:?}", found.findings);
        found.repair.iter().for_each(|step| kernel.restore(&step.input, RestoreMode::Keep).unwrap());
        prop_assert_eq!(run(&config, &cluster, &kernel), Audit::default());
    }

    /// A node that has not heard of the latest changes.
    #[test]
    fn a_node_left_behind_is_repaired((config, events) in clusters(), cut in any::<Index>()) {
        let mut cluster = Cluster::default();
        let (early, late) = events.split_at(cut.index(events.len()));
        early.iter().for_each(|event| _ = cluster.apply(event));
        let mut kernel = Ruleset::parse(&healthy(&config, &cluster), family(&config)).unwrap();
        late.iter().for_each(|event| _ = cluster.apply(event));
        let found = run(&config, &cluster, &kernel);
        prop_assert_eq!(found.findings.is_empty(), found.repair.is_empty());
        found.repair.iter().for_each(|step| kernel.restore(&step.input, RestoreMode::Keep).unwrap());
        prop_assert_eq!(run(&config, &cluster, &kernel), Audit::default());
    }
}

const SERVICE: &str = r#"{"metadata": {"namespace": "shop", "name": "cart"}, "spec": {"clusterIP": "10.96.0.7",
    "ports": [{"name": "http", "port": 80}]}}"#;

fn slice(addresses: &[&str]) -> svc_model::EndpointSlice {
    let endpoints: Vec<_> = addresses.iter().map(|ip| serde_json::json!({"addresses": [ip]})).collect();
    serde_json::from_value(serde_json::json!({
        "metadata": {"namespace": "shop", "name": "cart-1", "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
    }))
    .unwrap()
}

#[test]
fn a_stale_endpoint_is_said_in_plain_words() {
    let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
    let mut cluster = Cluster::default();
    let service: svc_model::Service = serde_json::from_str(SERVICE).unwrap();
    let _ = cluster.apply(&Event::Apply(Box::new(service)));
    let _ = cluster.apply(&Event::Slice(Box::new(slice(&["10.0.0.1", "10.0.0.2"]))));
    let kernel = Ruleset::parse(&healthy(&config, &cluster), Family::V4).unwrap();
    let _ = cluster.apply(&Event::Slice(Box::new(slice(&["10.0.0.1", "10.0.0.3"]))));
    let found = run(&config, &cluster, &kernel);
    let says = |text: &str| found.findings.iter().any(|finding| finding.to_string() == text);
    assert!(says("shop/cart:http: endpoint 10.0.0.3:8080 gets no traffic"));
    assert!(says(
        "shop/cart:http: traffic still goes to 10.0.0.2:8080, which is no endpoint to be used from here"
    ));
    assert!(found.findings.iter().all(|finding| finding.service.as_deref() == Some("shop/cart:http")));
}

#[test]
fn a_service_that_is_gone_leaves_stale_chains() {
    let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
    let mut cluster = Cluster::default();
    let _ = cluster.apply(&Event::Apply(Box::new(serde_json::from_str(SERVICE).unwrap())));
    let _ = cluster.apply(&Event::Slice(Box::new(slice(&["10.0.0.1"]))));
    let kernel = Ruleset::parse(&healthy(&config, &cluster), Family::V4).unwrap();
    let _ = cluster.apply(&Event::Remove(ObjectRef::new("shop", "cart")));
    let found = run(&config, &cluster, &kernel);
    let stale = found.findings.iter().filter(|finding| finding.problem == Problem::StaleChain);
    assert_eq!(stale.count(), 2);
    assert!(found.findings.iter().all(|finding| finding.service.as_deref() == Some("shop/cart:http")));
}

/// An empty node lacks everything, and the repair is a full load.
#[test]
fn a_flushed_node_is_rebuilt() {
    let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
    let cluster = Cluster::default();
    let mut kernel = Ruleset::new(Family::V4);
    let found = run(&config, &cluster, &kernel);
    assert!(found.findings.iter().all(|finding| finding.service.is_none()));
    found.repair.iter().for_each(|step| kernel.restore(&step.input, RestoreMode::Keep).unwrap());
    assert_eq!(run(&config, &cluster, &kernel), Audit::default());
}
