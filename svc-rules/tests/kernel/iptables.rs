//! iptables mode, with both variants of iptables.

use std::time::{Duration, SystemTime};

use svc_endpoints::view::SliceCache;
use svc_model::{EndpointSlice, ObjectRef, Service};
use svc_rules::iptables::{Mode, Proxy, StaleChains, Table, jumps};
use svc_rules::packet::{Family, Transport};
use svc_rules::xtables::{RestoreMode, Ruleset};

use crate::Scenario;
use crate::cluster::{cache, cluster_ip, config, node_port, objects, probes, slice};
use crate::lab::{Lab, Place};
use crate::probe::{Expect, Probe, check, check_affinity};

pub(crate) const SCENARIOS: [Scenario; 8] = [
    ("iptables_nft_ipv4_connections", || connections(Variant::Nft, Family::V4)),
    ("iptables_nft_ipv6_connections", || connections(Variant::Nft, Family::V6)),
    ("iptables_legacy_ipv4_connections", || connections(Variant::Legacy, Family::V4)),
    ("iptables_legacy_ipv6_connections", || connections(Variant::Legacy, Family::V6)),
    ("iptables_nft_ipv4_updates", || updates(Variant::Nft, Family::V4)),
    ("iptables_nft_ipv6_updates", || updates(Variant::Nft, Family::V6)),
    ("iptables_legacy_ipv4_updates", || updates(Variant::Legacy, Family::V4)),
    ("iptables_legacy_ipv6_updates", || updates(Variant::Legacy, Family::V6)),
];

#[derive(Debug, Clone, Copy)]
enum Variant {
    Nft,
    Legacy,
}

/// One variant of iptables for one family, in the node of a lab; and the same rules as the interpreter has them.
struct Kernel<'a> {
    lab: &'a Lab,
    variant: Variant,
    model: Ruleset,
}

impl<'a> Kernel<'a> {
    fn new(lab: &'a Lab, variant: Variant, family: Family) -> Self {
        Self { lab, variant, model: Ruleset::new(family) }
    }

    fn tool(&self, what: &str) -> String {
        let family = if self.model.family() == Family::V4 { "iptables" } else { "ip6tables" };
        let variant = match self.variant {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
        };
        format!("{family}-{variant}-{what}")
    }

    fn restore(&mut self, text: &str) {
        let loaded =
            self.lab.run(Place::Node, &self.tool("restore"), &["--noflush", "--counters", "--wait=30"], text);
        loaded.unwrap_or_else(|error| panic!("{error}\n{text}"));
        self.model.restore(text, RestoreMode::Keep).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }

    fn read_back(&self) -> Ruleset {
        let text = self.lab.run(Place::Node, &self.tool("save"), &[], "").unwrap();
        let mut rules =
            Ruleset::parse(&text, self.model.family()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        rules.clear_counters();
        rules
    }

    /// What the kernel has is what the model has, rule for rule.
    fn check_state(&self) {
        let kernel = self.read_back();
        for table in self.model.tables() {
            assert_eq!(kernel.table(table.name()), Some(table), "table {}", table.name());
        }
    }

    /// Puts the jumps of the builtin chains in place.
    fn jump(&mut self) {
        let config = config(self.model.family());
        for table in [Table::Filter, Table::Nat] {
            let lines: String = jumps(&config)
                .filter(|jump| jump.table == table)
                .map(|jump| format!("-I {} {}\n", jump.from, jump.rule()))
                .collect();
            self.restore(&format!(
                "*{}\n{lines}COMMIT\n",
                if table == Table::Nat { "nat" } else { "filter" }
            ));
        }
    }
}

/// A proxy with what it is told.
struct Told {
    proxy: Proxy,
    slices: SliceCache,
}

impl Told {
    fn new(family: Family, services: &[Service], slices: &[EndpointSlice]) -> Self {
        let mut proxy = Proxy::new(config(family));
        proxy.replace_all(services);
        Self { proxy, slices: cache(slices) }
    }

    fn sync(&mut self, mode: Mode) -> String {
        let mut out = Vec::new();
        let sync = self.proxy.sync(&self.slices, mode, StaleChains::Delete, &mut out);
        assert_eq!(sync.mode, mode, "{:?}", sync.cause);
        self.proxy.succeeded();
        String::from_utf8(out).unwrap()
    }

    fn endpoints(&mut self, service: &str, endpoints: &[Place], family: Family) {
        self.proxy.touch(&self.slices.apply(&slice(service, endpoints, family)));
    }
}

fn connections(variant: Variant, family: Family) {
    let lab = Lab::new();
    let mut kernel = Kernel::new(&lab, variant, family);
    let (services, slices) = objects(family);
    kernel.restore(&Told::new(family, &services, &slices).sync(Mode::Full));
    kernel.jump();
    kernel.check_state();
    let rules = kernel.read_back();
    let mut host = lab.host();
    host.now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    for probe in probes(family) {
        check(&lab, &host, |host, packet| rules.walk(host, packet), probe);
    }
    // Node ports on the loopback address, which IPv6 does not have; and this mode has no answer for a wrong port.
    let loopback = node_port("web", "127.0.0.1".parse().unwrap());
    let wrong = std::net::SocketAddr::new(cluster_ip("web", family).ip(), 81);
    let mut own =
        vec![Probe { from: Place::Pod1, transport: Transport::TCP, to: wrong, expect: Expect::Silent }];
    if family == Family::V4 {
        let expect = Expect::Masqueraded(&[Place::Pod1, Place::Pod2, Place::Remote]);
        own.push(Probe { from: Place::Node, transport: Transport::TCP, to: loopback, expect });
    }
    for probe in own {
        check(&lab, &host, |host, packet| rules.walk(host, packet), probe);
    }
    for from in [Place::Pod1, Place::Outside] {
        let to = cluster_ip("sticky", family);
        check_affinity(&lab, &mut host, |host, packet| rules.walk(host, packet), from, Transport::TCP, to);
    }
    check_counters(&kernel, family);
}

/// The rules that the kernel counted for one connection are those that the interpreter names.
fn check_counters(kernel: &Kernel<'_>, family: Family) {
    let lab = kernel.lab;
    for (from, to) in [
        (Place::Pod1, cluster_ip("alone", family)),
        (Place::Outside, cluster_ip("web", family)),
        (Place::Outside, node_port("web", Place::Node.address(family))),
        (Place::Node, cluster_ip("web", family)),
        (Place::Outside, node_port("none", Place::Node.address(family))),
    ] {
        let tool = kernel.tool("").trim_end_matches('-').to_owned();
        lab.run(Place::Node, &tool, &["-w", "30", "-t", "nat", "-Z"], "").unwrap();
        lab.connect(from, Transport::TCP, to, 1);
        let text = lab.run(Place::Node, &kernel.tool("save"), &["-c", "-t", "nat"], "").unwrap();
        let counted = Ruleset::parse(&text, family).unwrap();
        let mut rules: Vec<(String, usize)> = Vec::new();
        for (name, chain) in counted.table("nat").unwrap().chains() {
            let hits = chain.rules.iter().enumerate().filter(|(_, rule)| rule.counters.packets > 0);
            rules.extend(hits.map(|(index, _)| (name.to_string(), index + 1)));
        }
        let walk = kernel.model.walk(&lab.host(), &lab.packet(from, Transport::TCP, to));
        let possible: Vec<Vec<(String, usize)>> = walk
            .outcomes
            .iter()
            .map(|outcome| {
                let nat = outcome.hits.iter().filter(|hit| hit.table == "nat");
                let mut rules: Vec<_> =
                    nat.filter_map(|hit| Some((hit.chain.to_string(), hit.rule?))).collect();
                rules.sort();
                rules.dedup();
                rules
            })
            .collect();
        rules.sort();
        assert!(
            possible.contains(&rules),
            "{from:?} to {to}: the kernel counted {rules:?}, none of {possible:?}"
        );
    }
}

/// Partial and delta syncs leave exactly the state of a full one.
fn updates(variant: Variant, family: Family) {
    let (services, slices) = objects(family);
    let labs = [Lab::bare(), Lab::bare()];
    let mut kernels = [Mode::Partial, Mode::Delta].map(|mode| {
        let lab = if mode == Mode::Partial { &labs[0] } else { &labs[1] };
        (mode, Kernel::new(lab, variant, family), Told::new(family, &services, &slices))
    });
    for (_, kernel, told) in &mut kernels {
        kernel.restore(&told.sync(Mode::Full));
        kernel.jump();
    }
    let steps: [fn(&mut Told, Family); 5] = [
        |told, family| told.endpoints("web", &[Place::Pod1, Place::Remote], family),
        |told, family| {
            told.endpoints("none", &[Place::Pod2], family);
            told.endpoints("alone", &[], family);
        },
        |told, _| told.proxy.remove(&ObjectRef::new("lab", "ranges")),
        |told, family| {
            let (services, _) = objects(family);
            for service in services.iter().filter(|service| service.metadata.name == "ranges") {
                told.proxy.apply(service);
            }
            told.endpoints("sticky", &[Place::Remote], family);
        },
        |told, family| told.endpoints("sticky", &[Place::Pod1, Place::Pod2, Place::Remote], family),
    ];
    for (number, step) in steps.into_iter().enumerate() {
        for (mode, kernel, told) in &mut kernels {
            step(told, family);
            let text = told.sync(*mode);
            assert!(!text.is_empty(), "step {number}, {mode:?}");
            kernel.restore(&text);
            kernel.check_state();
            // The model of the kernel against what a full sync makes of nothing.
            let mut whole = Ruleset::new(family);
            let mut fresh = Proxy::new(config(family));
            let mut all: Vec<Service> = objects(family).0;
            all.retain(|service| !(number == 2 && service.metadata.name == "ranges"));
            fresh.replace_all(&all);
            let mut out = Vec::new();
            let _ = fresh.sync(&told.slices, Mode::Full, StaleChains::Delete, &mut out);
            whole.restore(&String::from_utf8(out).unwrap(), RestoreMode::Keep).unwrap();
            for table in whole.tables() {
                let kernel = kernel.model.table(table.name()).unwrap();
                for (name, chain) in table.chains().into_iter().filter(|(_, chain)| chain.policy.is_none()) {
                    assert_eq!(kernel.chain(name), Some(chain), "step {number}, {mode:?}, chain {name}");
                }
                assert_eq!(kernel.len(), table.len(), "step {number}, {mode:?}: chains of {}", table.name());
            }
        }
        let [(_, partial, _), (_, delta, _)] = &kernels;
        assert_eq!(partial.read_back(), delta.read_back(), "step {number}");
    }
}
