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
use svc_rules::nftables::{Layout, Proxy, Scope};

/// A node whose kernel is a model.
struct Node {
    proxy: Proxy,
    kernel: Ruleset,
}

impl Node {
    fn new(config: &ProxyConfig, layout: Layout) -> Self {
        Self { proxy: Proxy::with_layout(config.clone(), layout), kernel: Ruleset::new() }
    }

    fn tell(&mut self, event: &Event, changes: &ViewChanges) {
        match event {
            Event::Apply(service) => _ = self.proxy.apply(service),
            Event::Remove(name) => self.proxy.remove(name),
            Event::Zone(zone) => self.proxy.set_zone(zone.clone()),
            Event::Slice(_) | Event::RemoveSlice(_) => self.proxy.touch(changes),
        }
    }

    /// Syncs in parts of that many operations, then deletes what was emptied.
    fn sync(&mut self, cluster: &Cluster, scope: Scope, most: usize) {
        let mut text = String::new();
        let sync = self.proxy.sync(&cluster.slices, scope, &mut text);
        assert_eq!(sync.chunks(&text, most).collect::<String>(), text);
        for chunk in sync.chunks(&text, most) {
            self.run(chunk);
        }
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

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Reference), Just(Layout::Flat)]
}

fn cases() -> impl Strategy<Value = (ProxyConfig, Vec<(Vec<Event>, Scope, bool)>)> {
    families().prop_flat_map(|family| {
        let scope = prop_oneof![3 => Just(Scope::Changes), 1 => Just(Scope::Full)];
        let step = (vec(event(family), 0..6), scope, prop::bool::weighted(0.15));
        (config(family), vec(step, 1..10))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn incremental_equals_whole((config, steps) in cases(), layout in layouts(), most in 1..200usize) {
        let mut cluster = Cluster::default();
        let mut node = Node::new(&config, layout);
        for (events, scope, fails) in steps {
            for event in events {
                let changes = cluster.apply(&event);
                node.tell(&event, &changes);
            }
            if fails {
                let _ = node.proxy.sync(&cluster.slices, scope, &mut String::new());
                node.proxy.failed();
            }
            node.sync(&cluster, scope, most);
            let table = node.proxy.table();
            prop_assert_eq!(node.kernel.commands(), Ruleset::parse(&table).unwrap().commands());

            let mut config = config.clone();
            config.zone.clone_from(&cluster.zone);
            let mut fresh = Node::new(&config, layout);
            for service in cluster.services.values() {
                let _ = fresh.proxy.apply(service);
            }
            fresh.sync(&cluster, Scope::Full, usize::MAX);
            prop_assert_eq!(without_comments(&table), without_comments(&fresh.proxy.table()));
        }
    }
}
