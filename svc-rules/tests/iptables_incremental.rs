//! Whatever happens and however it is synced, the kernel ends with the rules of a full sync.
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
use svc_model::IpFamily;
use svc_rules::ProxyConfig;
use svc_rules::iptables::{Mode, Proxy, Sections, StaleChains};
use svc_rules::packet::Family;
use svc_rules::xtables::{RestoreMode, Ruleset, ShowCounters};

/// A node whose kernel is a model.
struct Node {
    proxy: Proxy,
    kernel: Ruleset,
}

fn family(config: &ProxyConfig) -> Family {
    match config.family {
        IpFamily::Ipv4 => Family::V4,
        IpFamily::Ipv6 => Family::V6,
    }
}

impl Node {
    fn new(config: &ProxyConfig) -> Self {
        Self { proxy: Proxy::new(config.clone()), kernel: Ruleset::new(family(config)) }
    }

    fn tell(&mut self, event: &Event, changes: &svc_endpoints::view::ViewChanges) {
        match event {
            Event::Apply(service) => _ = self.proxy.apply(service),
            Event::Remove(name) => self.proxy.remove(name),
            Event::Zone(zone) => self.proxy.set_zone(zone.clone()),
            Event::Slice(_) | Event::RemoveSlice(_) => self.proxy.touch(changes),
        }
    }

    fn sync(&mut self, cluster: &Cluster, mode: Mode, stale: StaleChains) -> String {
        let mut out = Vec::new();
        let _ = self.proxy.sync(&cluster.slices, mode, stale, &mut out);
        let text = String::from_utf8(out).unwrap();
        if let Err(error) = self.kernel.restore(&text, RestoreMode::Keep) {
            panic!("{error}\n{text}");
        }
        self.proxy.succeeded();
        text
    }
}

/// The rules of a proxy that sees the cluster for the first time.
fn from_scratch(config: &ProxyConfig, cluster: &Cluster) -> Ruleset {
    let mut config = config.clone();
    config.zone.clone_from(&cluster.zone);
    let mut node = Node::new(&config);
    node.proxy.replace_all(cluster.services.values());
    node.sync(cluster, Mode::Full, StaleChains::Delete);
    node.kernel
}

fn same(got: &Ruleset, expected: &Ruleset) -> Result<(), TestCaseError> {
    for table in ["filter", "nat"] {
        let text = |rules: &Ruleset| {
            let mut out = String::new();
            rules.table(table).unwrap().save(rules.family(), ShowCounters::No, &mut out);
            out
        };
        prop_assert_eq!(text(got), text(expected));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Succeeds,
    Fails,
    IsNeverTold,
}

fn cases() -> impl Strategy<Value = (ProxyConfig, Vec<(Vec<Event>, Mode, Outcome)>)> {
    families().prop_flat_map(|family| {
        let mode = prop_oneof![Just(Mode::Delta), Just(Mode::Delta), Just(Mode::Partial), Just(Mode::Full)];
        let outcome =
            prop_oneof![8 => Just(Outcome::Succeeds), 1 => Just(Outcome::Fails), 1 => Just(Outcome::IsNeverTold)];
        (config(family), vec((vec(event(family), 0..6), mode, outcome), 1..12))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn incremental_equals_whole((config, steps) in cases()) {
        let mut cluster = Cluster::default();
        let mut node = Node::new(&config);
        for (events, mode, outcome) in steps {
            for event in events {
                let changes = cluster.apply(&event);
                node.tell(&event, &changes);
            }
            if outcome != Outcome::Succeeds {
                let mut lost = Vec::new();
                let _ = node.proxy.sync(&cluster.slices, mode, StaleChains::Delete, &mut lost);
                if outcome == Outcome::Fails {
                    node.proxy.failed();
                }
            }
            node.sync(&cluster, mode, StaleChains::Delete);
            same(&node.kernel, &from_scratch(&config, &cluster))?;
        }
    }

    /// Only the order of events within a Service matters, and of that only the last.
    #[test]
    fn equal_states_give_equal_text((config, steps) in cases()) {
        let mut cluster = Cluster::default();
        let mut node = Node::new(&config);
        for event in steps.iter().flat_map(|(events, ..)| events) {
            let changes = cluster.apply(event);
            node.tell(event, &changes);
        }
        let mut config = config;
        config.zone.clone_from(&cluster.zone);
        let mut fresh = Node::new(&config);
        for service in cluster.services.values().rev() {
            fresh.proxy.apply(service);
        }
        prop_assert_eq!(
            node.sync(&cluster, Mode::Full, StaleChains::Delete),
            fresh.sync(&cluster, Mode::Full, StaleChains::Delete)
        );
    }

    /// A large cluster keeps stale chains for a while; nothing leads to them, and the next clean-up finds them all.
    #[test]
    fn stale_chains_wait_for_a_cleanup((config, steps) in cases()) {
        let mut cluster = Cluster::default();
        let mut node = Node::new(&config);
        for (events, mode, _) in steps {
            for event in events {
                let changes = cluster.apply(&event);
                node.tell(&event, &changes);
            }
            node.sync(&cluster, mode, StaleChains::Keep);
        }
        node.sync(&cluster, Mode::Delta, StaleChains::Delete);
        same(&node.kernel, &from_scratch(&config, &cluster))?;
    }
}

/// Cutting a full sync into sections changes when rules take effect, not which.
#[test]
fn sections_add_up_to_the_whole() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for most in 1..4 {
        let events = vec(event(IpFamily::Ipv4), 40).new_tree(&mut runner).unwrap().current();
        let config = config(IpFamily::Ipv4).new_tree(&mut runner).unwrap().current();
        let mut cluster = Cluster::default();
        let mut node = Node::new(&config);
        node.proxy.set_sections(Sections::OfServices(most.try_into().unwrap()));
        for event in &events {
            let changes = cluster.apply(event);
            node.tell(event, &changes);
        }
        let text = node.sync(&cluster, Mode::Full, StaleChains::Delete);
        assert!(text.matches("COMMIT").count() > 4);
        same(&node.kernel, &from_scratch(&config, &cluster)).unwrap();
    }
}

/// Without a change a delta is empty, and so costs nothing.
#[test]
fn nothing_changed_nothing_written() {
    let mut node = Node::new(&ProxyConfig::new(IpFamily::Ipv4, "node-a"));
    let cluster = Cluster::default();
    assert!(node.sync(&cluster, Mode::Delta, StaleChains::Delete).starts_with("*filter\n"));
    assert_eq!(node.sync(&cluster, Mode::Delta, StaleChains::Delete), "");
}

/// A proxy that starts where another one ran removes what that one left behind.
#[test]
fn adopted_chains_are_removed() {
    let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
    let mut node = Node::new(&config);
    let left = "*nat\n:KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]\n:KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]\n:KUBE-FW-of-old - [0:0]\n\
                :OTHER - [0:0]\n-A KUBE-SVC-XPGD46QRK7WJZT7O -j KUBE-SEP-SXIVWICOYRO3J4NJ\nCOMMIT\n";
    node.kernel.restore(left, RestoreMode::Keep).unwrap();
    let chains: Vec<_> =
        node.kernel.table("nat").unwrap().chains().iter().map(|(name, _)| name.to_string()).collect();
    node.proxy.adopt(chains.iter().map(String::as_str));
    node.sync(&Cluster::default(), Mode::Partial, StaleChains::Delete);
    let nat = node.kernel.table("nat").unwrap();
    assert!(nat.chain("OTHER").is_some());
    assert!(
        nat.chains().iter().all(|(name, _)| !name.starts_with("KUBE-SVC-") && !name.starts_with("KUBE-SEP-"))
    );
    assert!(nat.chain("KUBE-FW-of-old").is_none());
}
