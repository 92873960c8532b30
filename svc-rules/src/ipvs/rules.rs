//! The iptables part: a few rules, which look into the sets.
//!
//! Which rules there are depends only on which sets have entries, apart from `KUBE-IPVS-OUT-FILTER`, where each load
//! balancer address that the node may not use has one.

use alloc::string::String;
use alloc::vec::Vec;

use svc_model::IpFamily;

use super::counted::Change;
use super::part::Closed;
use super::set::Set;
use crate::config::ProxyConfig;
use crate::iptables::common::{Marked, local_traffic};
use crate::iptables::text::Text;
use crate::iptables::{Jump, Packets, Table};
use crate::plan::protocol_word;

const SERVICES: &str = "KUBE-SERVICES";
const POSTROUTING: &str = "KUBE-POSTROUTING";
const NODE_PORT: &str = "KUBE-NODE-PORT";
const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
const MARK_MASQ: &str = "KUBE-MARK-MASQ";
const FORWARD: &str = "KUBE-FORWARD";
const FIREWALL: &str = "KUBE-PROXY-FIREWALL";
const SOURCE_RANGES: &str = "KUBE-SOURCE-RANGES-FIREWALL";
const FILTER: &str = "KUBE-IPVS-FILTER";
const OUT_FILTER: &str = "KUBE-IPVS-OUT-FILTER";

/// The chains of each table, in the order in which they are declared. The nat table comes first.
const CHAINS: [(Table, &[&str]); 2] = [
    (Table::Nat, &[SERVICES, POSTROUTING, NODE_PORT, LOAD_BALANCER, MARK_MASQ]),
    (Table::Filter, &[FORWARD, NODE_PORT, FIREWALL, SOURCE_RANGES, FILTER, OUT_FILTER]),
];

/// The jumps from the kernel's own chains, in the order in which each is put at the head of its chain if it is missing.
pub fn jumps() -> impl Iterator<Item = Jump> {
    const PORTALS: &str = "kubernetes service portals";
    const LOAD_BALANCERS: &str = "kube-proxy firewall rules";
    const ACCESS: &str = "kubernetes ipvs access filter";
    const ALL: [(Table, &str, &str, &str); 9] = [
        (Table::Nat, "OUTPUT", SERVICES, PORTALS),
        (Table::Nat, "PREROUTING", SERVICES, PORTALS),
        (Table::Nat, "POSTROUTING", POSTROUTING, "kubernetes postrouting rules"),
        (Table::Filter, "FORWARD", FORWARD, "kubernetes forwarding rules"),
        (Table::Filter, "INPUT", NODE_PORT, "kubernetes health check rules"),
        (Table::Filter, "INPUT", FIREWALL, LOAD_BALANCERS),
        (Table::Filter, "FORWARD", FIREWALL, LOAD_BALANCERS),
        (Table::Filter, "INPUT", FILTER, ACCESS),
        (Table::Filter, "OUTPUT", OUT_FILTER, ACCESS),
    ];
    ALL.into_iter().map(|(table, from, to, comment)| Jump {
        table,
        from,
        to,
        packets: Packets::All,
        comment: Some(comment),
    })
}

/// Which sets have entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filled(u32);

impl Filled {
    pub(super) fn of(sets: impl IntoIterator<Item = Set>) -> Self {
        Self(sets.into_iter().fold(0, |bits, set| bits | 1 << set as u32))
    }

    const fn has(self, set: Set) -> bool {
        self.0 & 1 << set as u32 != 0
    }
}

/// A rule: its table and chain, and what stands behind `-A CHAIN `.
type Rule = (Table, &'static str, Vec<u8>);

/// The generator: the configuration, as far as rules repeat it, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    family: IpFamily,
    marked: Marked,
    masquerade_all: bool,
    /// The match for traffic that does not come from local Pods.
    elsewhere: Option<String>,
}

impl Rules {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        Self {
            family: config.family,
            marked: Marked::new(config),
            masquerade_all: config.masquerade_all,
            elsewhere: local_traffic(&config.local_detector).map(|(_, elsewhere)| elsewhere),
        }
    }

    /// All tables, whole.
    pub(super) fn write<'a>(
        &self,
        filled: Filled,
        closed: impl Iterator<Item = &'a Closed> + Clone,
        out: &mut Vec<u8>,
    ) {
        let rules = self.rules(filled);
        for (table, chains) in CHAINS {
            out.text("*").text(table.as_str()).text("\n");
            for chain in chains {
                declare(chain, out);
            }
            for (_, chain, body) in rules.iter().filter(|rule| rule.0 == table) {
                append(chain, body, out);
            }
            if table == Table::Filter {
                closed.clone().for_each(|closed| self.close("-A ", closed, out));
            }
            out.text("COMMIT\n");
        }
    }

    /// The edits that turn the rules for `old` into those for `new`: chains that differ are written anew.
    pub(super) fn change(&self, old: Filled, new: Filled, closed: &[(Closed, Change)], out: &mut Vec<u8>) {
        let (before, after) =
            if old == new { Default::default() } else { (self.rules(old), self.rules(new)) };
        for (table, chains) in CHAINS {
            let start = out.len();
            out.text("*").text(table.as_str()).text("\n");
            let head = out.len();
            for chain in chains {
                let of = |rules: &'_ [Rule]| -> Vec<Vec<u8>> {
                    let own = rules.iter().filter(|(of, name, _)| (*of, *name) == (table, *chain));
                    own.map(|(_, _, body)| body.clone()).collect()
                };
                let rules = of(&after);
                if of(&before) != rules {
                    declare(chain, out);
                    rules.iter().for_each(|body| append(chain, body, out));
                }
            }
            for (closed, change) in closed.iter().filter(|_| table == Table::Filter) {
                self.close(if *change == Change::Add { "-A " } else { "-D " }, closed, out);
            }
            if out.len() == head {
                out.truncate(start);
            } else {
                out.text("COMMIT\n");
            }
        }
    }

    /// The rule that keeps the node from a load balancer address: what it sends there through its dummy device comes
    /// from that address.
    fn close(&self, command: &str, closed: &Closed, out: &mut Vec<u8>) {
        out.text(command).text(OUT_FILTER).text(" -s ").ip(closed.ip);
        out.text(" -m ipvs --vaddr ").ip(closed.ip).text(" --vproto ").text(protocol_word(closed.protocol));
        out.text(" --vport ").number(closed.port.into()).text(" -j DROP\n");
    }

    /// All rules but those of single load balancer addresses, in order within each chain.
    fn rules(&self, filled: Filled) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::with_capacity(40);
        let mut rule = |table, chain, write: &dyn Fn(&mut Vec<u8>)| {
            let mut body = Vec::new();
            write(&mut body);
            rules.push((table, chain, body));
        };
        rule(Table::Nat, SERVICES, &|w| {
            let loopback = match self.family {
                IpFamily::Ipv4 => "127.0.0.0/8",
                IpFamily::Ipv6 => "::1/128",
            };
            w.text("-s ").text(loopback).text(" -j RETURN");
        });
        for (set, (table, chain), sides, protocol, target) in LOOKUPS {
            if filled.has(set) {
                rule(table, chain, &|w| {
                    if !protocol.is_empty() {
                        w.text("-p ").text(protocol).text(" ");
                    }
                    self.commented(set, sides, w).text(" -j ").text(target);
                });
            }
        }
        if filled.has(Set::ClusterIp) {
            rule(Table::Nat, SERVICES, &|w| {
                match &self.elsewhere {
                    _ if self.masquerade_all => _ = self.commented(Set::ClusterIp, "dst,dst", w),
                    Some(elsewhere) => {
                        self.commented(Set::ClusterIp, "dst,dst", w).text(" ").text(elsewhere);
                    }
                    // What the node sends to a cluster address may have such an address for its source, since all
                    // of them are on the dummy device.
                    None => _ = self.commented(Set::ClusterIp, "src,dst", w),
                }
                w.text(" -j KUBE-MARK-MASQ");
            });
        }
        for set in [Set::ExternalIp, Set::ExternalIpLocal] {
            if !filled.has(set) {
                continue;
            }
            let mut accept = |matching: &str, target: &str| {
                rule(Table::Nat, SERVICES, &|w| {
                    self.commented(set, "dst,dst", w).text(matching).text(" -j ").text(target);
                });
            };
            if set == Set::ExternalIp {
                accept("", MARK_MASQ);
            }
            // What comes neither from a bridge, and so from a Pod, nor from the node.
            accept(" -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL", "ACCEPT");
            accept(" -m addrtype --dst-type LOCAL", "ACCEPT");
        }
        rule(Table::Nat, SERVICES, &|w| {
            w.text("-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT");
        });
        rule(Table::Nat, LOAD_BALANCER, &|w| {
            w.text("-j KUBE-MARK-MASQ");
        });
        rule(Table::Filter, SOURCE_RANGES, &|w| {
            w.text("-j DROP");
        });
        for set in [Set::ClusterIp, Set::LoadBalancer] {
            if filled.has(set) {
                rule(Table::Nat, SERVICES, &|w| {
                    self.matching(set, "dst,dst", w).text(" -j ACCEPT");
                });
            }
        }
        self.marked.forward(|write| rule(Table::Filter, FORWARD, write));
        rule(Table::Filter, NODE_PORT, &|w| {
            self.commented(Set::HealthCheckNodePort, "dst", w).text(" -j ACCEPT");
        });
        // Ports of the host itself must not be open at the addresses of its dummy device (kubernetes#72236).
        for (set, sides) in [
            (Set::LoadBalancer, "dst,dst"),
            (Set::ClusterIp, "dst,dst"),
            (Set::ExternalIp, "dst,dst"),
            (Set::ExternalIpLocal, "dst,dst"),
            (Set::HealthCheckNodePort, "dst"),
        ] {
            rule(Table::Filter, FILTER, &|w| {
                self.matching(set, sides, w).text(" -j RETURN");
            });
        }
        rule(Table::Filter, FILTER, &|w| {
            w.text("-m conntrack --ctstate NEW ");
            self.matching(Set::IpvsIps, "dst", w).text(" -j REJECT");
        });
        self.marked.postrouting(|write| rule(Table::Nat, POSTROUTING, write));
        rule(Table::Nat, MARK_MASQ, &|w| self.marked.mark_masq(w));
        rules
    }

    fn commented<'w>(&self, set: Set, sides: &str, w: &'w mut Vec<u8>) -> &'w mut Vec<u8> {
        w.text("-m comment --comment \"").text(set.comment()).text("\" ");
        self.matching(set, sides, w)
    }

    fn matching<'w>(&self, set: Set, sides: &str, w: &'w mut Vec<u8>) -> &'w mut Vec<u8> {
        w.text("-m set --match-set ").text(set.name(self.family)).text(" ").text(sides)
    }
}

/// A rule that exists if its set has entries: the set, the chain, the ends of a packet that are looked up, the protocol
/// and the target.
type Lookup = (Set, (Table, &'static str), &'static str, &'static str, &'static str);

/// In this order; a set of policy `Local` comes before the one that holds all.
const LOOKUPS: [Lookup; 12] = [
    (Set::LoopBack, (Table::Nat, POSTROUTING), "dst,dst,src", "", "MASQUERADE"),
    (Set::LoadBalancer, (Table::Nat, SERVICES), "dst,dst", "", LOAD_BALANCER),
    (Set::LoadBalancerLocal, (Table::Nat, LOAD_BALANCER), "dst,dst", "", "RETURN"),
    (Set::NodePortLocalTcp, (Table::Nat, NODE_PORT), "dst", "tcp", "RETURN"),
    (Set::NodePortTcp, (Table::Nat, NODE_PORT), "dst", "tcp", MARK_MASQ),
    (Set::NodePortLocalUdp, (Table::Nat, NODE_PORT), "dst", "udp", "RETURN"),
    (Set::NodePortUdp, (Table::Nat, NODE_PORT), "dst", "udp", MARK_MASQ),
    (Set::NodePortLocalSctp, (Table::Nat, NODE_PORT), "dst,dst", "sctp", "RETURN"),
    (Set::NodePortSctp, (Table::Nat, NODE_PORT), "dst,dst", "sctp", MARK_MASQ),
    (Set::LoadBalancerFirewall, (Table::Filter, FIREWALL), "dst,dst", "", SOURCE_RANGES),
    (Set::LoadBalancerSourceCidr, (Table::Filter, SOURCE_RANGES), "dst,dst,src", "", "RETURN"),
    (Set::LoadBalancerSourceIp, (Table::Filter, SOURCE_RANGES), "dst,dst,src", "", "RETURN"),
];

/// Declares a chain, which empties it if it exists.
fn declare(chain: &str, out: &mut Vec<u8>) {
    out.text(":").text(chain).text(" - [0:0]\n");
}

fn append(chain: &str, body: &[u8], out: &mut Vec<u8>) {
    out.text("-A ").text(chain).text(" ").bytes(body).text("\n");
}
