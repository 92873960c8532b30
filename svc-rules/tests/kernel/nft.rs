//! nftables mode: what the proxy writes, in the kernel and in the interpreter.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use svc_rules::audit::{self, Audit};
use svc_rules::nft::Ruleset;
use svc_rules::nftables::{Proxy, Scope};
use svc_rules::packet::{Family, Transport};

use crate::Scenario;
use crate::cluster::{cache, cluster_ip, config, objects, probes, slice};
use crate::lab::{Lab, Place};
use crate::probe::{Expect, Probe, check, check_affinity};

pub(crate) const SCENARIOS: [Scenario; 6] = [
    ("nft_ipv4_audit", || audit(Family::V4)),
    ("nft_ipv6_audit", || audit(Family::V6)),
    ("nft_ipv4_updates", || updates(Family::V4)),
    ("nft_ipv6_updates", || updates(Family::V6)),
    ("nft_ipv4_connections", || connections(Family::V4)),
    ("nft_ipv6_connections", || connections(Family::V6)),
];

fn connections(family: Family) {
    let lab = Lab::new();
    let text = table(family);
    lab.run(Place::Node, "nft", &["-f", "-"], &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let sent = Ruleset::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let listed = lab.run(Place::Node, "nft", &["list", "ruleset"], "").unwrap();
    let rules = Ruleset::parse(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}"));
    assert_eq!(rules.commands(), sent.commands());
    assert_eq!(rules, sent);
    let mut host = lab.host();
    host.now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    #[cfg(feature = "json")]
    check_json(&lab, &rules, family);
    let mut all = probes(family);
    // What iptables lets pass: a port of a cluster IP that no Service has.
    let wrong = SocketAddr::new(cluster_ip("web", family).ip(), 81);
    all.push(Probe { from: Place::Pod1, transport: Transport::TCP, to: wrong, expect: Expect::Refused });
    for probe in all {
        check(&lab, &host, |host, packet| rules.walk(host, packet), probe);
    }
    for from in [Place::Pod1, Place::Outside] {
        let to = cluster_ip("sticky", family);
        check_affinity(&lab, &mut host, |host, packet| rules.walk(host, packet), from, Transport::TCP, to);
    }
}

/// What nft says in JSON leads packets where its text does.
#[cfg(feature = "json")]
fn check_json(lab: &Lab, rules: &Ruleset, family: Family) {
    let listed = lab.run(Place::Node, "nft", &["-j", "list", "ruleset"], "").unwrap();
    let read = Ruleset::from_json(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}"));
    let host = lab.host();
    for probe in probes(family) {
        let packet = lab.packet(probe.from, probe.transport, probe.to);
        assert_eq!(read.walk(&host, &packet), rules.walk(&host, &packet), "{probe:?}");
    }
}

/// What the proxy writes for the lab's Services.
fn table(family: Family) -> String {
    let (services, slices) = objects(family);
    let mut proxy = Proxy::new(config(family));
    for service in &services {
        assert_eq!(proxy.apply(service), []);
    }
    let mut out = String::new();
    let _ = proxy.sync(&cache(&slices), Scope::Full, &mut out);
    out
}

/// Transactions of changes alone leave in the kernel what the interpreter makes of them, and that is what a proxy that
/// starts anew writes, but for chains that wait empty for their deletion.
fn updates(family: Family) {
    let lab = Lab::bare();
    let (services, slices) = objects(family);
    let mut slices = cache(&slices);
    let mut proxy = Proxy::new(config(family));
    for service in &services {
        let _ = proxy.apply(service);
    }
    let mut model = Ruleset::new();
    let steps: [&[(&str, &[Place])]; 4] = [
        &[],
        &[("web", &[Place::Pod1, Place::Remote])],
        &[("none", &[Place::Pod2]), ("alone", &[]), ("local", &[Place::Remote])],
        &[("none", &[]), ("sticky", &[Place::Pod2]), ("local", &[Place::Pod1, Place::Pod2])],
    ];
    for (number, changes) in steps.into_iter().enumerate() {
        for (service, endpoints) in changes {
            proxy.touch(&slices.apply(&slice(service, endpoints, family)));
        }
        let mut text = String::new();
        let scope = if number == 0 { Scope::Full } else { Scope::Changes };
        let _ = proxy.sync(&slices, scope, &mut text);
        proxy.succeeded();
        lab.run(Place::Node, "nft", &["-f", "-"], &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        model.apply(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let listed = lab.run(Place::Node, "nft", &["list", "ruleset"], "").unwrap();
        let kernel = Ruleset::parse(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}"));
        assert_eq!(kernel.commands(), model.commands(), "step {number}");

        let mut fresh = Proxy::new(config(family));
        for service in &services {
            let _ = fresh.apply(service);
        }
        let mut whole = String::new();
        let _ = fresh.sync(&slices, Scope::Full, &mut whole);
        let whole = Ruleset::parse(&whole).unwrap();
        let lines = |rules: &Ruleset| -> Vec<String> {
            rules
                .commands()
                .lines()
                .filter(|line| !line.starts_with("add chain"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(lines(&model), lines(&whole), "step {number}");
    }
}

/// A table that was tampered with is found out from what nft prints, as text and as JSON, and repaired.
fn audit(family: Family) {
    let lab = Lab::bare();
    let (services, slices) = objects(family);
    let (config, slices) = (config(family), cache(&slices));
    let nft = |text: &str| {
        lab.run(Place::Node, "nft", &["-f", "-"], text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    let run = |rules: &Ruleset| audit::nftables(&config, &services, &slices, rules);
    let check = || {
        let listed = lab.run(Place::Node, "nft", &["list", "ruleset"], "").unwrap();
        let audit = run(&Ruleset::parse(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}")));
        #[cfg(feature = "json")]
        {
            let listed = lab.run(Place::Node, "nft", &["-j", "list", "ruleset"], "").unwrap();
            let read = Ruleset::from_json(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}"));
            assert_eq!(run(&read), audit);
        }
        audit
    };
    nft(&table(family));
    assert_eq!(check(), Audit::default());

    let whole = Ruleset::parse(&table(family)).unwrap();
    let ours = whole.tables()[0];
    let at = format!("{} {}", ours.family.name(), ours.name);
    let chain = |service: &str| {
        let chains = ours.chains().into_iter().map(|(name, _)| name.as_str());
        chains.into_iter().find(|name| name.starts_with("service-") && name.contains(service)).unwrap()
    };
    let affinity = ours.sets().into_iter().find(|(name, _)| name.starts_with("affinity-")).unwrap().0;
    let web = cluster_ip("web", family).ip();
    let none = cluster_ip("none", family).ip();
    // Each by itself, and at last all of them.
    let damage = [
        format!("flush chain {at} {}", chain("lab/web/tcp")),
        format!("delete element {at} service-ips {{ {web} . tcp . 80 }}"),
        format!(
            "delete element {at} no-endpoint-services {{ {none} . tcp . 80 }}\nadd element {at} no-endpoint-services {{ {none} . tcp . 80 : drop }}"
        ),
        format!(
            "add chain {at} service-OLDOLDOL-lab/old/tcp/tcp\nadd rule {at} service-OLDOLDOL-lab/old/tcp/tcp drop"
        ),
        format!(
            "flush chain {at} nat-postrouting\ndelete chain {at} nat-postrouting\nadd chain {at} nat-postrouting {{ type nat hook postrouting priority 90 ; }}"
        ),
        format!(
            "insert rule {at} {} update @{affinity} {{ {} saddr timeout 5s }}",
            chain("lab/sticky/udp"),
            ours.family.name()
        ),
        format!("delete table {at}"),
    ];
    for (number, text) in damage.iter().enumerate() {
        nft(text);
        let found = check();
        assert!(!found.findings.is_empty(), "damage {number}: {text}");
        nft(&found.repair);
        assert_eq!(check(), Audit::default(), "damage {number}: {text}");
    }
    nft(&damage[..damage.len() - 1].join("\n"));
    nft(&check().repair);
    assert_eq!(check(), Audit::default());
}
