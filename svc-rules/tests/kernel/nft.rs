//! nftables: the interpreter against the kernel, over a table of the reference's shape written out here.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use svc_rules::nft::Ruleset;
use svc_rules::packet::{Family, Transport};

use crate::Scenario;
use crate::cluster::{PLANS, Plan, cluster_ip, external_ip, node_port, probes};
use crate::lab::{ALLOWED_NETWORK, Lab, POD_NETWORK, POD_PORT, Place, of};
use crate::probe::{Expect, Probe, check, check_affinity};

pub(crate) const SCENARIOS: [Scenario; 2] = [
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

/// The chain of a Service port.
fn chain(prefix: &str, plan: &Plan, protocol: &str) -> String {
    format!("{prefix}-{}/{protocol}", plan.name)
}

/// The lab's Services as a table of the reference's layout.
fn table(family: Family) -> String {
    let ip = of(["ip", "ip6"], family);
    let addr = of(["ipv4_addr", "ipv6_addr"], family);
    let pods = of(POD_NETWORK, family);
    let loopback = of(["127.0.0.0/8", "::1"], family);
    let mut out = format!(
        "add table {ip} kube-proxy {{ comment \"rules for kube-proxy\" ; }}\n\
         add chain {ip} kube-proxy filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110 ; }}\n\
         add chain {ip} kube-proxy filter-output-pre-dnat {{ type filter hook output priority -110 ; }}\n\
         add chain {ip} kube-proxy filter-input {{ type filter hook input priority 0 ; }}\n\
         add chain {ip} kube-proxy filter-forward {{ type filter hook forward priority 0 ; }}\n\
         add chain {ip} kube-proxy filter-output {{ type filter hook output priority 0 ; }}\n\
         add chain {ip} kube-proxy nat-prerouting {{ type nat hook prerouting priority -100 ; }}\n\
         add chain {ip} kube-proxy nat-output {{ type nat hook output priority -100 ; }}\n\
         add chain {ip} kube-proxy nat-postrouting {{ type nat hook postrouting priority 100 ; }}\n\
         add set {ip} kube-proxy cluster-ips {{ type {addr} ; comment \"Active ClusterIPs\" ; }}\n\
         add set {ip} kube-proxy hairpin-connections {{ type {addr} . {addr} . inet_proto . inet_service ; }}\n\
         add map {ip} kube-proxy service-ips {{ type {addr} . inet_proto . inet_service : verdict ; }}\n\
         add map {ip} kube-proxy service-nodeports {{ type inet_proto . inet_service : verdict ; }}\n\
         add map {ip} kube-proxy no-endpoint-services {{ type {addr} . inet_proto . inet_service : verdict ; }}\n\
         add map {ip} kube-proxy no-endpoint-nodeports {{ type inet_proto . inet_service : verdict ; }}\n\
         add map {ip} kube-proxy firewall-ips {{ type {addr} . inet_proto . inet_service : verdict ; }}\n"
    );
    for name in
        ["services", "masquerading", "firewall-check", "service-endpoints-check", "nodeport-endpoints-check"]
    {
        writeln!(out, "add chain {ip} kube-proxy {name}").unwrap();
    }
    for name in ["cluster-ips-check", "reject-chain"] {
        writeln!(out, "add chain {ip} kube-proxy {name}").unwrap();
    }
    let to = format!("{ip} daddr . meta l4proto . th dport");
    let local = format!("fib daddr type local {ip} daddr != {loopback} meta l4proto . th dport");
    for (chain, rule) in [
        ("filter-input", "ct state new jump nodeport-endpoints-check".to_owned()),
        ("filter-input", "ct state new jump service-endpoints-check".to_owned()),
        ("filter-forward", "ct state new jump service-endpoints-check".to_owned()),
        ("filter-forward", "ct state new jump cluster-ips-check".to_owned()),
        ("filter-output", "ct state new jump service-endpoints-check".to_owned()),
        ("filter-output", "ct state new jump cluster-ips-check".to_owned()),
        ("filter-output-pre-dnat", "ct state new jump firewall-check".to_owned()),
        ("filter-prerouting-pre-dnat", "ct state new jump firewall-check".to_owned()),
        ("nat-output", "jump services".to_owned()),
        ("nat-prerouting", "jump services".to_owned()),
        ("nat-postrouting", "jump masquerading".to_owned()),
        ("masquerading", "mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random".to_owned()),
        (
            "masquerading",
            format!(
                "ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections \
                 masquerade fully-random"
            ),
        ),
        ("reject-chain", "reject".to_owned()),
        ("cluster-ips-check", format!("{ip} daddr @cluster-ips reject comment \"no such port\"")),
        ("firewall-check", format!("{to} vmap @firewall-ips")),
        ("service-endpoints-check", format!("{to} vmap @no-endpoint-services")),
        (
            "nodeport-endpoints-check",
            format!("{ip} daddr != {loopback} meta l4proto . th dport vmap @no-endpoint-nodeports"),
        ),
        ("services", format!("{ip} daddr @cluster-ips {ip} saddr != {pods} mark set mark or 0x4000")),
        ("services", format!("{to} vmap @service-ips")),
        ("services", format!("{local} vmap @service-nodeports")),
    ] {
        writeln!(out, "add rule {ip} kube-proxy {chain} {rule}").unwrap();
    }
    for place in [Place::Pod1, Place::Pod2] {
        let address = place.address(family);
        for protocol in ["tcp", "udp"] {
            let key = format!("{address} . {address} . {protocol} . {POD_PORT}");
            writeln!(out, "add element {ip} kube-proxy hairpin-connections {{ {key} }}").unwrap();
        }
    }
    for plan in &PLANS {
        let address = cluster_ip(plan.name, family).ip();
        writeln!(out, "add element {ip} kube-proxy cluster-ips {{ {address} }}").unwrap();
        for protocol in ["tcp", "udp"] {
            service(&mut out, plan, protocol, family);
        }
    }
    out
}

/// The chains, rules and elements of one Service port.
fn service(out: &mut String, plan: &Plan, protocol: &str, family: Family) {
    let ip = of(["ip", "ip6"], family);
    let spec = (plan.spec)(family);
    let exposed = spec.get("type").is_some();
    let is_local = |policy: &str| spec.get(policy).is_some_and(|policy| policy == "Local");
    let here: Vec<Place> = plan.endpoints.iter().copied().filter(|place| *place != Place::Remote).collect();
    let cluster = (cluster_ip(plan.name, family), external_ip(plan.name, family));
    let node = node_port(plan.name, Place::Node.address(family)).port();
    let entry = |out: &mut String, map: &str, address: SocketAddr, verdict: &str| {
        let (address, port) = (address.ip(), address.port());
        writeln!(out, "add element {ip} kube-proxy {map} {{ {address} . {protocol} . {port} : {verdict} }}")
            .unwrap();
    };
    let port_entry = |out: &mut String, map: &str, verdict: &str| {
        writeln!(out, "add element {ip} kube-proxy {map} {{ {protocol} . {node} : {verdict} }}").unwrap();
    };
    let refuse = |all: bool| if all { "goto reject-chain" } else { "drop" };
    let service = chain("service", plan, protocol);
    let local = chain("local", plan, protocol);
    balance(out, plan, protocol, &service, plan.endpoints, family);
    if is_local("internalTrafficPolicy") || is_local("externalTrafficPolicy") {
        balance(out, plan, protocol, &local, &here, family);
    }
    let inside = if is_local("internalTrafficPolicy") {
        (&local, here.is_empty())
    } else {
        (&service, plan.endpoints.is_empty())
    };
    if inside.1 {
        entry(out, "no-endpoint-services", cluster.0, refuse(plan.endpoints.is_empty()));
    } else {
        entry(out, "service-ips", cluster.0, &format!("goto {}", inside.0));
    }
    if !exposed {
        return;
    }
    let external = chain("external", plan, protocol);
    writeln!(out, "add chain {ip} kube-proxy {external}").unwrap();
    let rule =
        |out: &mut String, rule: &str| writeln!(out, "add rule {ip} kube-proxy {external} {rule}").unwrap();
    let to_local = is_local("externalTrafficPolicy");
    if to_local {
        rule(out, &format!("{ip} saddr {} goto {service}", of(POD_NETWORK, family)));
        rule(out, "fib saddr type local mark set mark or 0x4000");
        rule(out, &format!("fib saddr type local goto {service}"));
    } else {
        rule(out, "mark set mark or 0x4000");
    }
    let (target, none) =
        if to_local { (&local, here.is_empty()) } else { (&service, plan.endpoints.is_empty()) };
    if none {
        entry(out, "no-endpoint-services", cluster.1, refuse(plan.endpoints.is_empty()));
        port_entry(out, "no-endpoint-nodeports", refuse(plan.endpoints.is_empty()));
    } else {
        rule(out, &format!("goto {target}"));
    }
    if !plan.endpoints.is_empty() {
        entry(out, "service-ips", cluster.1, &format!("goto {external}"));
        port_entry(out, "service-nodeports", &format!("goto {external}"));
    }
    if spec.get("loadBalancerSourceRanges").is_some() {
        let firewall = chain("firewall", plan, protocol);
        let allowed = of(ALLOWED_NETWORK, family);
        writeln!(out, "add chain {ip} kube-proxy {firewall}").unwrap();
        writeln!(out, "add rule {ip} kube-proxy {firewall} {ip} saddr != {{ {allowed} }} drop").unwrap();
        entry(out, "firewall-ips", cluster.1, &format!("goto {firewall}"));
    }
}

/// A chain that spreads over endpoints, with affinity if the Service has it.
fn balance(out: &mut String, plan: &Plan, protocol: &str, name: &str, endpoints: &[Place], family: Family) {
    let ip = of(["ip", "ip6"], family);
    writeln!(out, "add chain {ip} kube-proxy {name}").unwrap();
    if endpoints.is_empty() {
        return;
    }
    let count = endpoints.len();
    let sticky = (plan.spec)(family).get("sessionAffinity").is_some();
    if !sticky {
        let places: Vec<String> = endpoints
            .iter()
            .enumerate()
            .map(|(index, place)| format!("{index} : {} . {POD_PORT}", place.address(family)))
            .collect();
        let map = places.join(" , ");
        let to = format!(
            "meta l4proto {protocol} dnat {ip} addr . port to numgen random mod {count} map {{ {map} }}"
        );
        writeln!(out, "add rule {ip} kube-proxy {name} {to}").unwrap();
        return;
    }
    let addr = of(["ipv4_addr", "ipv6_addr"], family);
    let mut places = Vec::new();
    for (index, place) in endpoints.iter().enumerate() {
        let endpoint = format!("endpoint-{}/{protocol}__{}", plan.name, place.name());
        let set = format!("affinity-{}/{protocol}__{}", plan.name, place.name());
        let to = SocketAddr::new(place.address(family), POD_PORT);
        writeln!(
            out,
            "add set {ip} kube-proxy {set} {{ type {addr} ; flags dynamic,timeout ; timeout 10800s ; }}"
        )
        .unwrap();
        writeln!(out, "add chain {ip} kube-proxy {endpoint}").unwrap();
        writeln!(out, "add rule {ip} kube-proxy {endpoint} update @{set} {{ {ip} saddr }}").unwrap();
        writeln!(out, "add rule {ip} kube-proxy {endpoint} meta l4proto {protocol} dnat to {to}").unwrap();
        writeln!(out, "add rule {ip} kube-proxy {name} {ip} saddr @{set} goto {endpoint}").unwrap();
        places.push(format!("{index} : goto {endpoint}"));
    }
    let map = places.join(" , ");
    writeln!(out, "add rule {ip} kube-proxy {name} numgen random mod {count} vmap {{ {map} }}").unwrap();
}
