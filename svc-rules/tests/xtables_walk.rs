//! Packets walked through a small ruleset of kube-proxy's shape, and the corners of the kernel's path.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

use core::time::Duration;
use std::net::SocketAddr;

use svc_rules::host::Host;
use svc_rules::outcome::{Effect, RejectWith, SourceNat, Unknown, Verdict};
use svc_rules::packet::{ConnState, Family, Packet};
use svc_rules::xtables::Ruleset;

const KUBE: &str = include_str!("fixtures/kube.v4.txt");

fn rules() -> Ruleset {
    Ruleset::parse(KUBE, Family::V4).unwrap_or_else(|error| panic!("{error}"))
}

/// A node with two pods (10.180.0.1 behind veth1, 10.180.0.2 elsewhere).
fn node() -> Host {
    let mut host = Host::new()
        .with_interface("eth0", ["192.0.2.2/26".parse().unwrap()])
        .with_route("10.180.0.1/32".parse().unwrap(), "veth1")
        .with_route("0.0.0.0/0".parse().unwrap(), "eth0");
    host.now = Duration::from_secs(100_000);
    host
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(source: &str, destination: &str) -> Packet {
    Packet::tcp(address(source), address(destination))
}

const MASQUERADED: Option<SourceNat> = Some(SourceNat::Masquerade { fully_random: true });

#[test]
fn a_cluster_ip_leads_to_each_endpoint_with_its_share() {
    let walk = rules().walk(&node(), &tcp("10.180.0.1:4000", "172.30.0.1:80").from_interface("veth1"));
    let places = walk.destinations();
    assert_eq!(places.len(), 2);
    for (place, (address, probability)) in places.iter().enumerate() {
        assert_eq!(address.to_string(), format!("10.180.0.{}:8080", place + 1));
        assert!(probability.is_one_in(2));
    }
    // To itself the packet needs another source, to the other pod not.
    for outcome in &walk.outcomes {
        let own = outcome.destination.ip().to_string() == "10.180.0.1";
        assert_eq!(outcome.source_nat, if own { MASQUERADED } else { None });
        assert!(outcome.dnat);
        assert_eq!(outcome.mark, 0, "the mark is taken off again");
        let interface = if own { "veth1" } else { "eth0" };
        assert_eq!(outcome.verdict, Verdict::Forward(Some(interface.into())));
    }
    let own = walk.outcomes.iter().find(|o| o.source_nat.is_some()).unwrap();
    assert_eq!(
        own.explain(),
        "prerouting: nat PREROUTING rule 1 jumped to KUBE-SERVICES (kubernetes service portals)\n\
         prerouting: nat KUBE-SERVICES rule 1 jumped to KUBE-SVC-WEB (ns/web cluster IP)\n\
         prerouting: nat KUBE-SVC-WEB rule 2 jumped to KUBE-SEP-WEB1 (ns/web -> 10.180.0.1:8080)\n\
         prerouting: nat KUBE-SEP-WEB1 rule 1 jumped to KUBE-MARK-MASQ (ns/web)\n\
         prerouting: nat KUBE-MARK-MASQ rule 1 set mark 0x4000\n\
         prerouting: nat KUBE-SEP-WEB1 rule 2 rewrote the destination to 10.180.0.1:8080 (ns/web)\n\
         forward: filter FORWARD rule 1 jumped to KUBE-PROXY-FIREWALL (kubernetes load balancer firewall)\n\
         forward: filter FORWARD rule 2 jumped to KUBE-FORWARD (kubernetes forwarding rules)\n\
         forward: filter KUBE-FORWARD rule 2 accepted (kubernetes forwarding rules)\n\
         postrouting: nat POSTROUTING rule 1 jumped to KUBE-POSTROUTING (kubernetes postrouting rules)\n\
         postrouting: nat KUBE-POSTROUTING rule 2 set mark 0x0\n\
         postrouting: nat KUBE-POSTROUTING rule 3 masqueraded (kubernetes service traffic requiring SNAT)\n"
    );
}

#[test]
fn the_node_itself_reaches_services_through_output() {
    let walk = rules().walk(&node(), &tcp("192.0.2.2:4000", "172.30.0.1:80"));
    assert!(walk.outcomes.iter().all(|o| o.source_nat == MASQUERADED && o.verdict.is_accept()));
    assert_eq!(walk.destinations().len(), 2);
    let walk = rules().walk(&node(), &tcp("127.0.0.1:4000", "127.0.0.1:30080"));
    assert!(walk.outcomes.iter().all(|o| o.verdict == Verdict::Martian), "loopback may not leave by itself");
    let mut host = node();
    host.route_localnet = true;
    let walk = rules().walk(&host, &tcp("127.0.0.1:4000", "127.0.0.1:30080"));
    assert!(walk.outcomes.iter().all(|o| o.source_nat == MASQUERADED && o.verdict.is_accept()));
}

#[test]
fn loopback_addresses_do_not_come_in_from_outside() {
    let packet = tcp("192.0.2.3:4000", "127.0.0.1:22").from_interface("eth0");
    assert_eq!(rules().walk(&node(), &packet).certain().unwrap().verdict, Verdict::Martian);
    let mut host = node();
    host.route_localnet = true;
    let walk = rules().walk(&host, &packet);
    let outcome = walk.certain().unwrap();
    assert_eq!(outcome.verdict, Verdict::Drop);
    assert_eq!(outcome.hits.last().unwrap().chain, "KUBE-FIREWALL");
}

#[test]
fn services_without_endpoints_refuse_or_drop() {
    let from_outside = |to: &str| {
        rules()
            .walk(&node(), &tcp("192.0.2.3:4000", to).from_interface("eth0"))
            .certain()
            .unwrap()
            .verdict
            .clone()
    };
    let refused = Verdict::Reject(RejectWith::PortUnreachable);
    assert_eq!(from_outside("172.30.0.99:80"), refused);
    assert_eq!(from_outside("192.0.2.2:30099"), refused);
    assert_eq!(from_outside("203.0.113.90:80"), Verdict::Drop);
    // Nothing takes this port: it stays on its way to wherever the address is, or to a socket of the node.
    assert_eq!(from_outside("192.0.2.2:22"), Verdict::Deliver);
    let policy = rules().walk(&node(), &tcp("192.0.2.3:4000", "172.30.0.1:81").from_interface("eth0"));
    assert_eq!(policy.certain().unwrap().verdict, Verdict::Drop);
    assert_eq!(policy.certain().unwrap().hits.last().unwrap().rule, None, "the policy of FORWARD");
}

#[test]
fn source_ranges_let_in_only_their_own() {
    let to_lb = |source: &str| rules().walk(&node(), &tcp(source, "203.0.113.20:80").from_interface("eth0"));
    assert_eq!(to_lb("192.0.2.65:4000").destinations().len(), 2);
    let dropped = to_lb("192.0.2.3:4000");
    assert_eq!(dropped.certain().unwrap().verdict, Verdict::Drop);
    assert_eq!(dropped.certain().unwrap().hits.last().unwrap().chain, "KUBE-PROXY-FIREWALL");
}

#[test]
fn local_policy_short_circuits_pods_and_the_node() {
    let to_lb = |packet: Packet| rules().walk(&node(), &packet);
    let pod = to_lb(tcp("10.180.0.1:4000", "203.0.113.90:80").from_interface("veth1"));
    assert_eq!(pod.destinations().len(), 2);
    let node = to_lb(tcp("192.0.2.2:4000", "203.0.113.90:80"));
    assert!(node.outcomes.iter().all(|o| o.source_nat == MASQUERADED));
}

#[test]
fn a_remembered_client_goes_back() {
    let mut host = node();
    let packet = tcp("10.180.0.9:4000", "172.30.0.2:80").from_interface("veth9");
    let first = rules().walk(&host, &packet);
    assert_eq!(first.outcomes.len(), 2);
    let chosen = first.outcomes[1].clone();
    assert_eq!(chosen.affinity.len(), 1);
    host.remember(&chosen.affinity);
    host.now += Duration::from_secs(10_800);
    let again = rules().walk(&host, &packet);
    assert_eq!(again.certain().unwrap().destination, chosen.destination);
    host.now += Duration::from_secs(1);
    assert_eq!(rules().walk(&host, &packet).outcomes.len(), 2, "forgotten after the timeout");
    let other = tcp("10.180.0.8:4000", "172.30.0.2:80").from_interface("veth9");
    assert_eq!(rules().walk(&host, &other).outcomes.len(), 2);
}

#[test]
fn nat_is_asked_for_new_connections_only() {
    let packet = tcp("10.180.0.1:4000", "172.30.0.1:80").from_interface("veth1");
    let established = rules().walk(&node(), &packet.clone().with_state(ConnState::Established));
    let outcome = established.certain().unwrap();
    assert!(!outcome.dnat && outcome.verdict.is_accept());
    assert!(outcome.hits.iter().all(|hit| hit.table != "nat"));
    let invalid = rules().walk(&node(), &packet.with_state(ConnState::Invalid));
    assert_eq!(invalid.certain().unwrap().verdict, Verdict::Drop);
}

#[test]
fn udp_and_tcp_are_told_apart() {
    let udp = Packet::udp(address("10.180.0.1:4000"), address("172.30.0.53:53")).from_interface("veth1");
    let walk = rules().walk(&node(), &udp);
    assert_eq!(walk.certain().unwrap().destination, address("10.180.0.2:5353"));
    let tcp = tcp("10.180.0.1:4000", "172.30.0.53:53").from_interface("veth1");
    assert!(!rules().walk(&node(), &tcp).certain().unwrap().dnat);
}

fn filter(rules: &str) -> Ruleset {
    let text = format!("*filter\n:A - [0:0]\n:B - [0:0]\n{rules}\nCOMMIT\n");
    Ruleset::parse(&text, Family::V4).unwrap_or_else(|error| panic!("{error}"))
}

fn input(rules: &str) -> Verdict {
    let packet = tcp("192.0.2.3:4000", "192.0.2.2:80").from_interface("eth0");
    filter(rules).walk(&node(), &packet).certain().unwrap().verdict.clone()
}

#[test]
fn what_is_not_understood_is_named_and_never_guessed() {
    let unknown = |text: &str| Verdict::Unknown(Unknown::Match(text.into()));
    assert_eq!(input("-A INPUT -m bpf --bytecode x -j DROP"), unknown("bpf --bytecode x"));
    assert_eq!(
        input("-A INPUT -m bpf --bytecode x -p udp -j DROP"),
        Verdict::Deliver,
        "another test settles it"
    );
    assert_eq!(input("-A INPUT -m limit --limit 5/min -j LOG"), Verdict::Deliver, "a log changes nothing");
    assert_eq!(
        input("-A INPUT -j NFQUEUE --queue-num 1"),
        Verdict::Unknown(Unknown::Target("NFQUEUE --queue-num 1".into()))
    );
    assert_eq!(
        input("-A INPUT -m set --match-set NONE src -j DROP"),
        Verdict::Unknown(Unknown::Set("NONE".into()))
    );
    assert_eq!(input("-A INPUT -j A\n-A A -j B\n-A B -j A"), Verdict::Unknown(Unknown::Loop));
}

#[test]
fn chains_return_as_in_the_kernel() {
    assert_eq!(input("-A INPUT -j A\n-A INPUT -j DROP\n-A A -j RETURN\n-A A -j ACCEPT"), Verdict::Drop);
    assert_eq!(
        input("-A INPUT -j A\n-A INPUT -j DROP\n-A A -g B\n-A A -j ACCEPT"),
        Verdict::Drop,
        "past the goto"
    );
    assert_eq!(
        input("-A INPUT -g A\n-A INPUT -j DROP"),
        Verdict::Deliver,
        "goto from a builtin chain: its policy"
    );
    assert_eq!(input(":INPUT DROP [0:0]\n-A INPUT -j RETURN\n-A INPUT -j ACCEPT"), Verdict::Drop);
}

#[test]
fn draws_multiply() {
    let rules = filter(
        "-A INPUT -m statistic --mode random --probability 0.25 -j A\n-A INPUT -j DROP\n\
         -A A -m statistic --mode random ! --probability 0.5 -j REJECT\n-A A -j ACCEPT",
    );
    let walk = rules.walk(&node(), &tcp("192.0.2.3:4000", "192.0.2.2:80").from_interface("eth0"));
    let share = |verdict: &Verdict| -> f64 {
        walk.outcomes.iter().filter(|o| o.verdict == *verdict).map(|o| o.probability.value()).sum()
    };
    assert_eq!(share(&Verdict::Drop), 0.75);
    assert_eq!(share(&Verdict::Deliver), 0.125);
    assert_eq!(share(&Verdict::Reject(RejectWith::PortUnreachable)), 0.125);
    assert_eq!(walk.accepted().value(), 0.125);
    let accepted = walk.outcomes.iter().find(|o| o.verdict == Verdict::Deliver).unwrap();
    assert_eq!(accepted.hits.last().unwrap().effect, Effect::Accept);
}

#[test]
fn shares_stay_even_over_many_endpoints() {
    let n = 1000;
    let mut text = String::from("*nat\n");
    for i in 0..n {
        let port = 1 + i;
        let left = f64::from(n - i);
        let chance = format!("-m statistic --mode random --probability {:.10} ", 1.0 / left);
        let chance = if i == n - 1 { "" } else { chance.as_str() };
        text.push_str(&format!("-A PREROUTING -p tcp {chance}-j DNAT --to-destination 10.180.0.1:{port}\n"));
    }
    text.push_str("COMMIT\n");
    let rules = Ruleset::parse(&text, Family::V4).unwrap();
    let walk = rules.walk(&node(), &tcp("192.0.2.3:4000", "192.0.2.2:80").from_interface("eth0"));
    let places = walk.destinations();
    assert_eq!(places.len(), 1000);
    assert!(places.iter().all(|(_, share)| share.is_one_in(1000)));
    assert!((walk.accepted().value() - 1.0).abs() < 1e-12);
}
