//! nftables mode: what the proxy writes, in the kernel and in the interpreter.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use svc_rules::audit::{self, Audit};
#[cfg(feature = "json")]
use svc_rules::nft::to_json;
use svc_rules::nft::{Element, Ruleset};
use svc_rules::nftables::{Layout, Proxy, Scope};
use svc_rules::packet::{Family, Transport};

use crate::Scenario;
use crate::cluster::{cache, cluster_ip, config, objects, probes, slice};
use crate::lab::{Lab, Place};
use crate::probe::{Expect, Probe, check, check_affinity};

pub(crate) const SCENARIOS: [Scenario; 12] = [
    ("nft_ipv4_updates", || updates(Family::V4, Layout::Reference)),
    ("nft_ipv6_updates", || updates(Family::V6, Layout::Reference)),
    ("nft_ipv4_connections", || connections(Family::V4, Layout::Reference)),
    ("nft_ipv6_connections", || connections(Family::V6, Layout::Reference)),
    ("nft_flat_ipv4_updates", || updates(Family::V4, Layout::Flat)),
    ("nft_flat_ipv6_updates", || updates(Family::V6, Layout::Flat)),
    ("nft_flat_ipv4_connections", || connections(Family::V4, Layout::Flat)),
    ("nft_flat_ipv6_connections", || connections(Family::V6, Layout::Flat)),
    ("nft_ipv4_audit", || audit(Family::V4, Layout::Reference)),
    ("nft_ipv6_audit", || audit(Family::V6, Layout::Reference)),
    ("nft_flat_ipv4_audit", || audit(Family::V4, Layout::Flat)),
    ("nft_flat_ipv6_audit", || audit(Family::V6, Layout::Flat)),
];

fn connections(family: Family, layout: Layout) {
    let lab = Lab::new();
    let text = table(family, layout);
    lab.run(Place::Node, "nft", &["-f", "-"], &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let sent = Ruleset::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let listed = lab.run(Place::Node, "nft", &["list", "ruleset"], "").unwrap();
    let rules = Ruleset::parse(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}"));
    assert_eq!(rules.commands(), sent.commands());
    assert_eq!(rules, sent);
    let mut host = lab.host();
    host.now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    #[cfg(feature = "json")]
    {
        check_json(&lab, &rules, family);
        send_json(&lab, &rules, &text);
    }
    let mut all = probes(family);
    // What iptables lets pass: a port of a cluster IP that no Service has.
    let wrong = SocketAddr::new(cluster_ip("web", family).ip(), 81);
    all.push(Probe { from: Place::Pod1, transport: Transport::TCP, to: wrong, expect: Expect::Refused });
    for probe in all {
        check(&lab, &host, |host, packet| rules.walk(host, packet), probe);
    }
    for (from, transport) in
        [(Place::Pod1, Transport::TCP), (Place::Outside, Transport::TCP), (Place::Pod2, Transport::UDP)]
    {
        let to = cluster_ip("sticky", family);
        check_affinity(&lab, &mut host, |host, packet| rules.walk(host, packet), from, transport, to);
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

/// The same rules sent as JSON are listed as the same, but for what nft 1.0.6 cannot read from JSON: declarations of
/// maps with values, and some comments and flags.
#[cfg(feature = "json")]
fn send_json(lab: &Lab, rules: &Ruleset, text: &str) {
    let declared = |line: &&str| line.starts_with("add map") && !line.contains(" : verdict ");
    let table = text.lines().find(|line| line.starts_with("add table")).unwrap();
    let words = [table, "flush ruleset", table].into_iter().chain(text.lines().filter(declared));
    lab.run(Place::Node, "nft", &["-f", "-"], &words.collect::<Vec<_>>().join("\n")).unwrap();
    let rest = text.lines().filter(|line| !declared(line) && !line.starts_with("delete table"));
    let json = to_json(&rest.collect::<Vec<_>>().join("\n")).unwrap();
    lab.run(Place::Node, "nft", &["-j", "-f", "-"], &json).unwrap_or_else(|error| panic!("{error}\n{json}"));
    let listed = lab.run(Place::Node, "nft", &["list", "ruleset"], "").unwrap();
    let read = Ruleset::parse(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}"));
    let plain = |rules: &Ruleset| -> Vec<String> {
        let text =
            rules.commands().replace("flags dynamic,timeout", "flags timeout").replace(" size 65535 ;", "");
        let without_comment = |line: &str| match line.split_once(" comment ") {
            Some((head, _)) if !line.starts_with("add rule") && !line.starts_with("add element") => {
                head.trim_end_matches(" {").trim_end_matches(" ;").to_owned()
            }
            _ => line.trim_end_matches(" ; }").to_owned(),
        };
        text.lines().map(without_comment).collect()
    };
    assert_eq!(plain(&read), plain(rules));
}

/// What the proxy writes for the lab's Services.
fn table(family: Family, layout: Layout) -> String {
    let (services, slices) = objects(family);
    let mut proxy = Proxy::with_layout(config(family), layout);
    for service in &services {
        assert_eq!(proxy.apply(service), []);
    }
    let mut out = String::new();
    let _ = proxy.sync(&cache(&slices), Scope::Full, &mut out);
    out
}

/// Transactions of changes alone leave in the kernel what the interpreter makes of them, and that is what a proxy that
/// starts anew writes, but for chains that wait empty for their deletion.
fn updates(family: Family, layout: Layout) {
    let lab = Lab::bare();
    let (services, slices) = objects(family);
    let mut slices = cache(&slices);
    let mut proxy = Proxy::with_layout(config(family), layout);
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

        let mut fresh = Proxy::with_layout(config(family), layout);
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
fn audit(family: Family, layout: Layout) {
    let lab = Lab::bare();
    let (services, slices) = objects(family);
    let (config, slices) = (config(family), cache(&slices));
    let nft = |text: &str| {
        lab.run(Place::Node, "nft", &["-f", "-"], text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    let run = |rules: &Ruleset| audit::nftables(&config, layout, &services, &slices, rules);
    let check = || {
        let listed = lab.run(Place::Node, "nft", &["list", "ruleset"], "").unwrap();
        let audit = run(&Ruleset::parse(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}")));
        #[cfg(feature = "json")]
        {
            let listed = lab.run(Place::Node, "nft", &["-j", "list", "ruleset"], "").unwrap();
            let read = Ruleset::from_json(&listed).unwrap_or_else(|error| panic!("{error}\n{listed}"));
            let (ours, theirs) = (run(&read), &audit);
            assert_eq!(ours.repair, theirs.repair);
            assert_eq!(ours.findings.len(), theirs.findings.len());
        }
        audit
    };
    let repaired = |damage: &str| {
        nft(damage);
        let found = check();
        assert!(!found.findings.is_empty(), "{damage}");
        found.repair.iter().for_each(|step| _ = nft(&step.input));
        assert_eq!(check(), Audit::default(), "{damage}");
    };
    nft(&table(family, layout));
    assert_eq!(check(), Audit::default());

    let whole = Ruleset::parse(&table(family, layout)).unwrap();
    let ours = whole.tables()[0];
    let at = format!("{} {}", ours.family.name(), ours.name);
    let web = cluster_ip("web", family).ip();
    let none = format!("no-endpoint-services {{ {} . tcp . 80", cluster_ip("none", family).ip());
    let old = "service-OLDOLDOL-lab/old/tcp/tcp";
    let mut damage = vec![
        format!("delete element {at} {none} }}\nadd element {at} {none} : drop }}"),
        format!(
            "add chain {at} {old}\nadd rule {at} {old} drop\nadd element {at} service-ips {{ {web} . tcp . 99 : goto {old} }}"
        ),
        format!(
            "flush chain {at} nat-postrouting\ndelete chain {at} nat-postrouting\n\
             add chain {at} nat-postrouting {{ type nat hook postrouting priority 90 ; }}"
        ),
        format!("insert rule {at} services tcp dport 80 drop"),
    ];
    let own = ours.chains().into_iter().filter(|(name, chain)| name.contains('/') && !chain.rules.is_empty());
    damage.extend(own.step_by(5).map(|(name, _)| format!("flush chain {at} {name}")));
    for (name, set) in ours.sets() {
        if let Some((key, _)) = set.elements().into_iter().next_back() {
            let key = set.element_text(key, &Element::default());
            damage.push(format!("delete element {at} {name} {{ {key} }}"));
        }
    }
    for text in &damage {
        repaired(text);
    }
    repaired(&damage.join("\n"));
    repaired(&format!("delete table {at}"));
}
