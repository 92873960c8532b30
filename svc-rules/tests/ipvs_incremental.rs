//! Whatever happens and however it is synced, the kernel ends as that of a proxy which starts anew.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::ipvs::{Kernel, Node, Tools, saved};
use common::{Cluster, Event, config, event, families};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use svc_model::IpFamily;
use svc_rules::ipvs::{Input, Proxy, Scope};
use svc_rules::ipvsadm::{VirtualAddress, VirtualServers};
use svc_rules::{IpvsOptions, ProxyConfig};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Succeeds,
    /// Only so many lines of each text are carried out; then the proxy goes on blindly.
    Fails(usize),
    /// The same; then it is told what is there.
    FailsAndLooks(usize),
    /// Another process takes over before the sync.
    Restarts,
}

fn ipvs_config(family: IpFamily) -> impl Strategy<Value = ProxyConfig> {
    let excluded = if family == IpFamily::Ipv4 { "172.30.1.0/24" } else { "fd00:172:30:1::/64" };
    let excluded = prop_oneof![Just(Vec::new()), Just(vec![excluded.parse().unwrap()])];
    (config(family), select(vec!["rr", "mh", "wlc"]), excluded).prop_map(
        |(mut config, scheduler, excluded)| {
            config.ipvs = IpvsOptions::default();
            config.ipvs.scheduler = scheduler.into();
            config.ipvs.exclude_cidrs = excluded;
            config
        },
    )
}

/// Events, then a sync; the number decides which servers still have connections after it.
type Step = (Vec<Event>, Scope, Outcome, u32);

fn cases() -> impl Strategy<Value = (ProxyConfig, Vec<Step>)> {
    families().prop_flat_map(|family| {
        let scope = prop_oneof![4 => Just(Scope::Changes), 1 => Just(Scope::Full)];
        let outcome = prop_oneof![
            8 => Just(Outcome::Succeeds),
            1 => (0..40usize).prop_map(Outcome::Fails),
            1 => (0..40usize).prop_map(Outcome::FailsAndLooks),
            1 => Just(Outcome::Restarts),
        ];
        (ipvs_config(family), vec((vec(event(family), 0..6), scope, outcome, any::<u32>()), 1..12))
    })
}

/// The first lines of a text.
fn cut(text: &[u8], lines: usize) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n').take(lines).flatten().copied().collect()
}

fn fail(node: &mut Node, cluster: &Cluster, scope: Scope, lines: usize) {
    let mut input = Input::default();
    let _ = node.proxy.sync(&cluster.slices, scope, &mut input);
    for text in [&mut input.sets, &mut input.unbind, &mut input.servers, &mut input.bind] {
        *text = cut(text, lines);
    }
    // A table takes effect as a whole.
    if !lines.is_multiple_of(2) {
        input.rules.clear();
    }
    node.kernel.run(&input, Tools::Real);
    node.proxy.failed();
}

fn adopt(proxy: &mut Proxy, kernel: &Kernel) {
    proxy.adopt(&kernel.servers, &kernel.sets, kernel.addresses.iter().copied());
}

/// What a fresh proxy would make too: no servers that drain, and of excluded addresses only what `wanted` has.
fn lasting(servers: &VirtualServers, wanted: &VirtualServers) -> VirtualServers {
    let mut lasting = VirtualServers::new();
    for (address, service) in servers.iter().filter(|(address, _)| wanted.get(address).is_some()) {
        let mut kept = svc_rules::ipvsadm::VirtualServer::default();
        kept.scheduler.clone_from(&service.scheduler);
        kept.persistence = service.persistence;
        kept.flags.clone_from(&service.flags);
        service
            .servers()
            .filter(|(_, server)| server.weight > 0)
            .for_each(|(at, server)| kept.insert(at, server.clone()));
        lasting.insert(*address, kept);
    }
    lasting
}

fn same(node: &Node, config: &ProxyConfig, cluster: &Cluster) -> Result<(), TestCaseError> {
    let (kernel, proxy) = (&node.kernel, &node.proxy);
    prop_assert_eq!(saved(&kernel.servers), saved(&proxy.virtual_servers()));
    prop_assert_eq!(&kernel.sets, &proxy.sets());
    prop_assert!(kernel.addresses.iter().copied().eq(proxy.addresses()));
    prop_assert_eq!(Kernel::rules(&kernel.rules), Kernel::rules(&proxy.rules()));

    let fresh = Node::fresh(config, cluster).kernel;
    prop_assert_eq!(saved(&lasting(&kernel.servers, &fresh.servers)), saved(&fresh.servers));
    for (address, _) in kernel.servers.iter().filter(|(address, _)| fresh.servers.get(address).is_none()) {
        let VirtualAddress::Socket { address, .. } = address else { panic!("{address}") };
        prop_assert!(
            config.ipvs.exclude_cidrs.iter().any(|range| range.contains(address)),
            "{} stays",
            address
        );
    }
    prop_assert_eq!(&kernel.sets, &fresh.sets);
    prop_assert_eq!(&kernel.addresses, &fresh.addresses);
    prop_assert_eq!(Kernel::rules(&kernel.rules), Kernel::rules(&fresh.rules));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn incremental_equals_whole((config, steps) in cases()) {
        let mut cluster = Cluster::default();
        let mut node = Node::new(&config);
        let mut now = Duration::from_secs(1_000);
        for (events, scope, outcome, connections) in steps {
            for event in events {
                let changes = cluster.apply(&event);
                node.tell(&event, &changes);
            }
            let mut tools = Tools::Strict;
            match outcome {
                Outcome::Succeeds => {}
                Outcome::Fails(lines) => {
                    fail(&mut node, &cluster, scope, lines);
                    tools = Tools::Real;
                }
                Outcome::FailsAndLooks(lines) => {
                    fail(&mut node, &cluster, scope, lines);
                    adopt(&mut node.proxy, &node.kernel);
                }
                Outcome::Restarts => {
                    let mut config = config.clone();
                    config.zone.clone_from(&cluster.zone);
                    node.proxy = Proxy::new(config);
                    adopt(&mut node.proxy, &node.kernel);
                    node.proxy.replace_all(cluster.services.values());
                }
            }
            let _ = node.sync(&cluster, scope, tools);
            same(&node, &config, &cluster)?;

            // Nothing is left to do.
            let mut input = Input::default();
            let _ = node.proxy.sync(&cluster.slices, Scope::Changes, &mut input);
            prop_assert!(input.is_empty(), "{:?}", input);
            node.proxy.succeeded();

            now += Duration::from_secs(40);
            let has = |at: &VirtualAddress, server: std::net::SocketAddr| {
                connections.rotate_left(u32::from(server.port()) + at.to_string().len() as u32) & 1
            };
            let before: BTreeSet<_> = node.proxy.draining().collect();
            let mut text = Vec::new();
            let deleted = node.proxy.drain(now, has, &mut text);
            node.kernel.ipvsadm(&String::from_utf8(text).unwrap(), Tools::Strict);
            let after: BTreeSet<_> = node.proxy.draining().collect();
            prop_assert_eq!(before.len() - deleted, after.len());
            prop_assert!(node.proxy.drain_due().is_none_or(|due| due > now));
            prop_assert_eq!(node.proxy.drain_due().is_none(), after.is_empty());
            prop_assert_eq!(saved(&node.kernel.servers), saved(&node.proxy.virtual_servers()));
        }
    }
}
