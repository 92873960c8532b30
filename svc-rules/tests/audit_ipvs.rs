//! An audit of IPVS mode finds every damage, blames nothing that is whole, and its repair repairs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

mod common;

use std::collections::BTreeMap;

use common::{Cluster, Event, config, event, families};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use svc_model::{EndpointSlice, IpFamily, Service, SmolStr};
use svc_rules::audit::{self, Audit, IpvsDump};
use svc_rules::ipset::{self, IpSet, OnDuplicate};
use svc_rules::ipvsadm::VirtualServers;
use svc_rules::packet::Family;
use svc_rules::xtables::{RestoreMode, Ruleset, ShowCounters};
use svc_rules::{NodeRules, ProxyConfig, Scheme};

/// What the tools would print.
#[derive(Clone)]
struct Node {
    servers: VirtualServers,
    sets: BTreeMap<SmolStr, IpSet>,
    rules: Ruleset,
}

impl Node {
    fn healthy(config: &ProxyConfig, cluster: &Cluster) -> Self {
        let rules = NodeRules::new(Scheme::Ipvs, config, cluster.services.values(), &cluster.slices);
        Self {
            servers: rules.servers().unwrap().clone(),
            sets: rules.sets().clone(),
            rules: rules.iptables().unwrap().clone(),
        }
    }

    fn texts(&self) -> [String; 3] {
        [self.servers.save(), ipset::save(&self.sets), self.rules.save(ShowCounters::No)]
    }

    fn parse(texts: &[String; 3], family: Family) -> Self {
        let mut node = Self {
            servers: VirtualServers::new(),
            sets: BTreeMap::new(),
            rules: Ruleset::parse(&texts[2], family).unwrap(),
        };
        node.servers.restore(&texts[0]).unwrap();
        ipset::restore(&texts[1], &mut node.sets, OnDuplicate::Refuse).unwrap();
        node
    }

    fn audit(&self, config: &ProxyConfig, cluster: &Cluster) -> Audit {
        let found = IpvsDump { servers: &self.servers, sets: &self.sets, rules: &self.rules };
        audit::ipvs(config, cluster.services.values(), &cluster.slices, found)
    }

    /// Does what the audit says, tool by tool.
    fn repair(&mut self, audit: &Audit) {
        for step in &audit.repair {
            let text = &step.input;
            match step.command.split(' ').next().unwrap() {
                "ipset" => ipset::restore(text, &mut self.sets, OnDuplicate::Ignore).unwrap(),
                "iptables-restore" => self.rules.restore(text, RestoreMode::Keep).unwrap(),
                "ipvsadm" => self.servers.restore(text).unwrap_or_else(|error| panic!("{error}\n{text}")),
                other => panic!("{other}"),
            }
        }
    }
}

fn clusters() -> impl Strategy<Value = (ProxyConfig, Vec<Event>)> {
    families().prop_flat_map(|family| (config(family), vec(event(family), 5..30)))
}

fn cluster(config: &mut ProxyConfig, events: &[Event]) -> Cluster {
    let mut cluster = Cluster::default();
    events.iter().for_each(|event| _ = cluster.apply(event));
    config.zone.clone_from(&cluster.zone);
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damage_is_found_and_repaired((mut config, events) in clusters(), damage in vec(any::<Index>(), 1..4)) {
        let cluster = cluster(&mut config, &events);
        let whole = Node::healthy(&config, &cluster);
        prop_assert_eq!(whole.audit(&config, &cluster), Audit::default());

        // Lines disappear from one of the three texts; what they name stays, so that the rest can be read.
        for (place, index) in damage.iter().enumerate() {
            let mut texts = whole.texts();
            let text = &mut texts[place % 3];
            let lines: Vec<_> = text.lines().collect();
            let worth = |line: &&str| ["-a ", "add ", "-A KUBE"].iter().any(|start| line.starts_with(start));
            let places: Vec<_> = (0..lines.len()).filter(|at| worth(&lines[*at])).collect();
            if places.is_empty() {
                continue;
            }
            let gone = *index.get(&places);
            *text = lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| format!("{line}\n")).collect();
            let mut node = Node::parse(&texts, config.family.into());
            let found = node.audit(&config, &cluster);
            prop_assert!(!found.findings.is_empty(), "{}", lines[gone]);
            node.repair(&found);
            prop_assert_eq!(node.audit(&config, &cluster), Audit::default());
        }
    }

    /// A node that has not heard of the latest changes.
    #[test]
    fn a_node_left_behind_is_repaired((mut config, events) in clusters(), cut in any::<Index>()) {
        let early = cluster(&mut config, &events[..cut.index(events.len())]);
        let mut node = Node::healthy(&config, &early);
        let late = cluster(&mut config, &events);
        let found = node.audit(&config, &late);
        prop_assert_eq!(found.findings.is_empty(), found.repair.is_empty());
        node.repair(&found);
        prop_assert_eq!(node.audit(&config, &late), Audit::default());
    }
}

fn shop(addresses: &[&str]) -> Cluster {
    let mut cluster = Cluster::default();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "cart"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]},
    }))
    .unwrap();
    let endpoints: Vec<_> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "cart-1", "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
    }))
    .unwrap();
    let _ = cluster.apply(&Event::Apply(Box::new(service)));
    let _ = cluster.apply(&Event::Slice(Box::new(slice)));
    cluster
}

#[test]
fn a_stale_endpoint_is_said_in_plain_words_and_drains() {
    let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
    let mut node = Node::healthy(&config, &shop(&["10.0.0.1", "10.0.0.2"]));
    let cluster = shop(&["10.0.0.1", "10.0.0.3"]);
    let found = node.audit(&config, &cluster);
    let said: Vec<_> = found.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "shop/cart:http: virtual server -t 10.96.0.7:80 sends nothing to endpoint 10.0.0.3:8080",
            "shop/cart:http: virtual server -t 10.96.0.7:80 still sends to 10.0.0.2:8080, which is no endpoint to be used \
             from here",
        ]
    );
    node.repair(&found);
    assert_eq!(node.audit(&config, &cluster), Audit::default());
    assert!(node.servers.save().contains("-r 10.0.0.2:8080 -m -w 0"), "its connections may end");
}

#[test]
fn an_empty_node_is_set_up() {
    let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
    let cluster = shop(&["10.0.0.1"]);
    let empty = [String::new(), String::new(), String::new()];
    let mut node = Node::parse(&empty, Family::V4);
    let found = node.audit(&config, &cluster);
    assert!(found.findings.iter().any(|finding| {
        finding.to_string() == "shop/cart:http: virtual server -t 10.96.0.7:80 is missing"
    }));
    node.repair(&found);
    assert_eq!(node.audit(&config, &cluster), Audit::default());
}
