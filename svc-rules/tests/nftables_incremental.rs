//! Whatever happens and however it is synced, the table is that of a proxy which starts anew.
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
use svc_endpoints::view::ViewChanges;
use svc_rules::ProxyConfig;
use svc_rules::nft::Ruleset;
use svc_rules::nftables::{Proxy, Scope};

/// A node whose kernel is a model.
struct Node {
    proxy: Proxy,
    kernel: Ruleset,
}

impl Node {
    fn new(config: &ProxyConfig) -> Self {
        Self { proxy: Proxy::new(config.clone()), kernel: Ruleset::new() }
    }

    fn tell(&mut self, event: &Event, changes: &ViewChanges) {
        match event {
            Event::Apply(service) => _ = self.proxy.apply(service),
            Event::Remove(name) => self.proxy.remove(name),
            Event::Zone(zone) => self.proxy.set_zone(zone.clone()),
            Event::Slice(_) | Event::RemoveSlice(_) => self.proxy.touch(changes),
        }
    }

    /// Syncs, then deletes what was emptied.
    fn sync(&mut self, cluster: &Cluster, scope: Scope) {
        let mut text = String::new();
        let sync = self.proxy.sync(&cluster.slices, scope, &mut text);
        self.run(&text);
        self.proxy.succeeded();
        text.clear();
        self.proxy.delete_emptied(sync.emptied.iter().map(|name| name.as_str()), &mut text);
        self.run(&text);
    }

    fn run(&mut self, text: &str) {
        if let Err(error) = self.kernel.apply(text) {
            panic!("{error}\n{text}");
        }
    }
}

/// Elements keep the comment that they came with, whatever became of the port's name since.
fn without_comments(table: &str) -> Vec<String> {
    let lines = table.lines().map(|line| match line.split_once(" comment \"") {
        Some((head, tail)) => format!("{head}{}", tail.split_once('"').unwrap_or_default().1),
        None => line.to_owned(),
    });
    lines.collect()
}

fn cases() -> impl Strategy<Value = (ProxyConfig, Vec<(Vec<Event>, Scope, bool)>)> {
    families().prop_flat_map(|family| {
        let scope = prop_oneof![3 => Just(Scope::Changes), 1 => Just(Scope::Full)];
        let step = (vec(event(family), 0..6), scope, prop::bool::weighted(0.15));
        (config(family), vec(step, 1..10))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn incremental_equals_whole((config, steps) in cases()) {
        let mut cluster = Cluster::default();
        let mut node = Node::new(&config);
        for (events, scope, fails) in steps {
            for event in events {
                let changes = cluster.apply(&event);
                node.tell(&event, &changes);
            }
            if fails {
                let _ = node.proxy.sync(&cluster.slices, scope, &mut String::new());
                node.proxy.failed();
            }
            node.sync(&cluster, scope);
            let table = node.proxy.table();
            prop_assert_eq!(node.kernel.commands(), Ruleset::parse(&table).unwrap().commands());

            let mut config = config.clone();
            config.zone.clone_from(&cluster.zone);
            let mut fresh = Node::new(&config);
            for service in cluster.services.values() {
                let _ = fresh.proxy.apply(service);
            }
            fresh.sync(&cluster, Scope::Full);
            prop_assert_eq!(without_comments(&table), without_comments(&fresh.proxy.table()));
        }
    }
}

/// Rules refer to the affinity set of an endpoint, so the kernel would refuse to delete it first.
#[test]
fn another_affinity_timeout_updates_the_set() {
    let service = |seconds: u32| -> Event {
        let object = serde_json::json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIP": "172.30.0.2", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}},
        });
        Event::Apply(Box::new(serde_json::from_value(object).unwrap()))
    };
    let slice = serde_json::json!({
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.1"]}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    });
    let mut cluster = Cluster::default();
    let mut node = Node::new(&ProxyConfig::new(svc_model::IpFamily::Ipv4, "node-a"));
    for event in [service(60), Event::Slice(Box::new(serde_json::from_value(slice).unwrap()))] {
        let changes = cluster.apply(&event);
        node.tell(&event, &changes);
    }
    node.sync(&cluster, Scope::Full);
    let event = service(5);
    let changes = cluster.apply(&event);
    node.tell(&event, &changes);
    let mut text = String::new();
    let _ = node.proxy.sync(&cluster.slices, Scope::Changes, &mut text);
    assert!(text.contains("timeout 5s") && !text.contains("delete set"), "{text}");
    node.run(&text);
    let table = node.proxy.table();
    assert_eq!(node.kernel.commands(), Ruleset::parse(&table).unwrap().commands());
}
