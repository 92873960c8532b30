//! Packets walked through virtual servers, ipsets and iptables rules together, as kube-proxy's IPVS mode has them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

use std::net::SocketAddr;
use std::time::Duration;

use svc_rules::Kernel;
use svc_rules::host::Host;
use svc_rules::ipset::{OnDuplicate, restore};
use svc_rules::ipvsadm::VirtualServers;
use svc_rules::outcome::{RejectWith, SourceNat, Verdict, Walk};
use svc_rules::packet::{Family, Packet};
use svc_rules::xtables::Ruleset;

const SERVERS: &str = "-A -t 10.96.0.1:80 -s rr\n\
    -a -t 10.96.0.1:80 -r 10.244.0.5:8080 -m -w 1\n\
    -a -t 10.96.0.1:80 -r 10.244.1.6:8080 -m -w 1\n\
    -a -t 10.96.0.1:80 -r 10.244.1.7:8080 -m -w 0\n\
    -A -t 10.96.0.2:80 -s rr -p 10800\n\
    -a -t 10.96.0.2:80 -r 10.244.0.5:8080 -m -w 1\n\
    -a -t 10.96.0.2:80 -r 10.244.1.6:8080 -m -w 1\n\
    -A -t 10.96.0.3:80 -s rr\n\
    -A -t 192.0.2.2:30080 -s rr\n\
    -a -t 192.0.2.2:30080 -r 10.244.1.6:8080 -m -w 1\n\
    -A -t 203.0.113.1:80 -s rr\n\
    -a -t 203.0.113.1:80 -r 10.244.1.6:8080 -m -w 1\n";

const SETS: &str = "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536\n\
    add KUBE-CLUSTER-IP 10.96.0.1,tcp:80\nadd KUBE-CLUSTER-IP 10.96.0.2,tcp:80\n\
    create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536\n\
    add KUBE-LOOP-BACK 10.244.0.5,tcp:8080,10.244.0.5\n\
    create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-NODE-PORT-TCP 30080\n\
    create KUBE-LOAD-BALANCER hash:ip,port family inet\nadd KUBE-LOAD-BALANCER 203.0.113.1,tcp:80\n\
    create KUBE-LOAD-BALANCER-FW hash:ip,port family inet\nadd KUBE-LOAD-BALANCER-FW 203.0.113.1,tcp:80\n\
    create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net family inet\n\
    add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.1,tcp:80,192.0.2.64/26\n\
    create KUBE-IPVS-IPS hash:ip family inet\n\
    add KUBE-IPVS-IPS 10.96.0.1\nadd KUBE-IPVS-IPS 10.96.0.2\nadd KUBE-IPVS-IPS 10.96.0.3\nadd KUBE-IPVS-IPS 203.0.113.1\n";

const RULES: &str = "*nat\n\
    :KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-NODE-PORT - [0:0]\n:KUBE-LOAD-BALANCER - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n\
    -A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n\
    -A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN\n\
    -A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE\n\
    -A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER\n\
    -A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ\n\
    -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ\n\
    -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT\n\
    -A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ\n\
    -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\n\
    -A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT\n\
    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
    -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n-A KUBE-POSTROUTING -j MASQUERADE --random-fully\n\
    -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\nCOMMIT\n\
    *filter\n\
    :KUBE-PROXY-FIREWALL - [0:0]\n:KUBE-SOURCE-RANGES-FIREWALL - [0:0]\n:KUBE-IPVS-FILTER - [0:0]\n:KUBE-IPVS-OUT-FILTER - [0:0]\n\
    -A INPUT -j KUBE-IPVS-FILTER\n-A INPUT -j KUBE-PROXY-FIREWALL\n-A OUTPUT -j KUBE-IPVS-OUT-FILTER\n\
    -A KUBE-PROXY-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL\n\
    -A KUBE-SOURCE-RANGES-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN\n\
    -A KUBE-SOURCE-RANGES-FIREWALL -j DROP\n\
    -A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN\n\
    -A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN\n\
    -A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT\n\
    -A KUBE-IPVS-OUT-FILTER -s 192.0.2.2 -m ipvs --vaddr 203.0.113.1 --vproto tcp --vport 80 -j DROP\nCOMMIT\n";

struct Node {
    host: Host,
    rules: Ruleset,
    servers: VirtualServers,
}

impl Node {
    fn new() -> Self {
        let bound = ["10.96.0.1/32", "10.96.0.2/32", "10.96.0.3/32", "203.0.113.1/32"];
        let mut host = Host::new()
            .with_interface("eth0", ["192.0.2.2/26".parse().unwrap()])
            .with_interface("kube-ipvs0", bound.map(|net| net.parse().unwrap()))
            .with_route("10.244.0.5/32".parse().unwrap(), "veth5")
            .with_route("0.0.0.0/0".parse().unwrap(), "eth0");
        host.now = Duration::from_secs(100_000);
        restore(SETS, &mut host.sets, OnDuplicate::Refuse).unwrap();
        let mut servers = VirtualServers::new();
        servers.restore(SERVERS).unwrap();
        Self { host, rules: Ruleset::parse(RULES, Family::V4).unwrap(), servers }
    }

    fn walk(&self, packet: &Packet) -> Walk {
        Kernel::new().with_iptables(&self.rules).with_ipvs(&self.servers).walk(&self.host, packet)
    }

    fn tcp(&self, source: &str, destination: &str, interface: Option<&str>) -> Walk {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let packet = Packet::tcp(parse(source), parse(destination));
        self.walk(&interface.map_or(packet.clone(), |name| packet.from_interface(name)))
    }
}

const MASQUERADED: Option<SourceNat> = Some(SourceNat::Masquerade { fully_random: true });

#[test]
fn a_cluster_ip_is_shared_among_servers_with_weight() {
    let node = Node::new();
    let walk = node.tcp("10.244.0.5:4000", "10.96.0.1:80", Some("veth5"));
    let places: Vec<String> = walk.destinations().iter().map(|(place, _)| place.to_string()).collect();
    assert_eq!(places, ["10.244.0.5:8080", "10.244.1.6:8080"]);
    assert!(walk.destinations().iter().all(|(_, share)| share.is_one_in(2)));
    for outcome in &walk.outcomes {
        // Only the way back to itself needs another source.
        let own = outcome.destination.ip().to_string() == "10.244.0.5";
        assert_eq!(outcome.source_nat.is_some(), own, "{}", outcome.explain());
    }
    let outside = node.tcp("192.0.2.3:4000", "10.96.0.1:80", Some("eth0"));
    assert!(outside.outcomes.iter().all(|o| o.source_nat == MASQUERADED && o.verdict.is_accept()));
}

#[test]
fn node_ports_and_the_node_itself_are_served() {
    let node = Node::new();
    for walk in [
        node.tcp("192.0.2.3:4000", "192.0.2.2:30080", Some("eth0")),
        node.tcp("192.0.2.2:4000", "192.0.2.2:30080", None),
    ] {
        let outcome = walk.certain().unwrap();
        assert_eq!(outcome.destination.to_string(), "10.244.1.6:8080");
        assert_eq!(outcome.source_nat, MASQUERADED, "{}", outcome.explain());
    }
}

#[test]
fn no_server_and_no_service_refuse() {
    let node = Node::new();
    let refused = Verdict::Reject(RejectWith::PortUnreachable);
    // Without a rule for it in a set, the filter is first; from the node itself it is IPVS that has no server.
    let walk = node.tcp("10.244.0.5:4000", "10.96.0.3:80", Some("veth5"));
    assert_eq!(walk.certain().unwrap().hits.last().unwrap().chain, "KUBE-IPVS-FILTER");
    let walk = node.tcp("192.0.2.2:4000", "10.96.0.3:80", None);
    assert_eq!(walk.certain().unwrap().verdict, refused);
    assert_eq!(walk.certain().unwrap().hits.last().unwrap().table, "ipvs");
    let wrong_port = node.tcp("10.244.0.5:4000", "10.96.0.1:81", Some("veth5"));
    assert_eq!(wrong_port.certain().unwrap().verdict, refused);
}

#[test]
fn source_ranges_hold_where_packets_come_in() {
    let node = Node::new();
    let allowed = node.tcp("192.0.2.65:4000", "203.0.113.1:80", Some("eth0"));
    assert_eq!(allowed.certain().unwrap().source_nat, MASQUERADED);
    let other = node.tcp("192.0.2.3:4000", "203.0.113.1:80", Some("eth0"));
    assert_eq!(other.certain().unwrap().verdict, Verdict::Drop);
    // The node's own packets are caught when they are sent on.
    let own = node.tcp("192.0.2.2:4000", "203.0.113.1:80", None);
    assert_eq!(own.certain().unwrap().verdict, Verdict::Drop);
    assert_eq!(own.certain().unwrap().hits.last().unwrap().chain, "KUBE-IPVS-OUT-FILTER");
}

#[test]
fn persistence_brings_a_client_back_even_to_a_draining_server() {
    let mut node = Node::new();
    let to = |node: &Node| node.tcp("10.244.0.9:4000", "10.96.0.2:80", Some("veth5"));
    let first = to(&node);
    assert_eq!(first.outcomes.len(), 2);
    let taken = first.outcomes[0].clone();
    node.host.remember(&taken.affinity);
    node.host.now += Duration::from_secs(10_000);
    assert_eq!(to(&node).certain().unwrap().destination, taken.destination);
    let drain = format!("-e -t 10.96.0.2:80 -r {} -m -w 0\n", taken.destination);
    node.servers.restore(&drain).unwrap();
    assert_eq!(to(&node).certain().unwrap().destination, taken.destination);
    node.host.now += Duration::from_secs(800);
    assert_ne!(to(&node).certain().unwrap().destination, taken.destination);
}
