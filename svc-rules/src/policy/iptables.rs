//! Policies as iptables chains with ipset sets, for both families.
//!
//! Everything is named `SVC-P...` (chains) and `svcp-...` (sets), and is nobody else's. The jumps of [`JUMPS`] lead
//! there from the kernel's own chains; put them in where they are missing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;
use svc_netpol::{Direction, NodePlan, OwnNode, PortSet, RowPlan, SelfTraffic, Traffic};

use super::{Family, Refusal, Target, port_sets, ports_name, row_name};

/// Jumps from the kernel's chains of table `filter`: chain, and the rule to be there, in both families.
pub const JUMPS: [(&str, &str); 3] =
    [("FORWARD", "-j SVC-POLICY"), ("INPUT", "-j SVC-POLICY-IN"), ("OUTPUT", "-j SVC-POLICY-OUT")];

/// Sets and chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    sets: BTreeMap<String, Set>,
    v4: BTreeMap<String, Vec<String>>,
    v6: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    declaration: &'static str,
    purpose: Purpose,
    elements: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Its elements make policies apply.
    Isolation,
    /// Its elements may more than others, or less.
    Allowance,
}

/// What to run, in this order; an empty text needs no run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scripts {
    /// For `ipset restore -exist`: sets, and the Pods that policies apply to.
    pub isolation: String,
    /// For `iptables-restore --noflush`.
    pub rules_v4: String,
    /// For `ip6tables-restore --noflush`.
    pub rules_v6: String,
    /// For `ipset restore -exist`: who may reach whom; and sets that are no longer used go.
    pub allowances: String,
}

impl Family {
    const fn set_type(self) -> &'static str {
        match self {
            Self::V4 => "hash:net family inet maxelem 1048576",
            Self::V6 => "hash:net family inet6 maxelem 1048576",
        }
    }
}

impl Ruleset {
    /// Sets and chains for a plan.
    pub fn new(plan: &NodePlan, refusal: Refusal) -> Self {
        let mut rules = Self::default();
        for family in Family::ALL {
            let chains = rules.chains(family);
            let refuse = match refusal {
                Refusal::Drop => Vec::from(["-j DROP".to_string()]),
                Refusal::Reject => {
                    ["-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT"].map(String::from).into()
                }
            };
            chains.insert("SVC-P-REFUSE".into(), refuse);
            let established = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN".to_string();
            let mut input = Vec::from([established.clone()]);
            if family == Family::V6 {
                // Neighbour discovery is how a Pod finds its gateway at all.
                input.extend((133..=136).map(|kind| format!("-p icmpv6 --icmpv6-type {kind} -j RETURN")));
            }
            chains.insert("SVC-POLICY".into(), Vec::from([established, "-j SVC-P-SELF".to_string()]));
            chains.insert("SVC-P-SELF".into(), self_rules(plan, family));
            chains.insert("SVC-POLICY-OUT".into(), input.clone());
            chains.insert("SVC-POLICY-IN".into(), input);
            for ports in port_sets(&plan.rows) {
                chains.insert(chain_of_ports(ports), port_rules(ports));
            }
        }
        // A row returns if it has nothing against a connection, so egress and ingress are both asked.
        for direction in [Direction::Egress, Direction::Ingress] {
            for row in plan.rows.iter().filter(|row| row.direction == direction) {
                rules.add_row(row, plan);
            }
        }
        rules
    }

    fn chains(&mut self, family: Family) -> &mut BTreeMap<String, Vec<String>> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn declare(
        &mut self,
        name: String,
        declaration: &'static str,
        purpose: Purpose,
    ) -> &mut BTreeSet<String> {
        let set = Set { declaration, purpose, elements: BTreeSet::new() };
        &mut self.sets.entry(name).or_insert(set).elements
    }

    fn add_row(&mut self, row: &RowPlan, plan: &NodePlan) {
        let name = row_name(row);
        let chain = format!("SVC-P-{name}");
        let (subject, peer) =
            if row.direction == Direction::Ingress { ("dst", "src") } else { ("src", "dst") };
        for family in Family::ALL {
            let of_family = |ip: &&IpAddr| family.has(ip);
            let subjects = format!("svcp-{name}-s{}", family.digit());
            let addresses = row.subjects.iter().filter(of_family).map(ToString::to_string);
            self.declare(subjects.clone(), family.set_type(), Purpose::Isolation).extend(addresses);
            let mut rules = Vec::new();
            for (ports, pods) in &row.pods {
                let set = format!("svcp-{}-{}p{}", name, short(ports), family.digit());
                rules.push(format!("-m set --match-set {set} {peer} {}", target(ports)));
                let addresses = pods.iter().filter(of_family).map(ToString::to_string);
                self.declare(set, family.set_type(), Purpose::Allowance).extend(addresses);
            }
            for (ports, ranges) in &row.blocks {
                let ranges: Vec<_> = ranges.iter().filter(|(first, _)| family.has(first)).collect();
                if !ranges.is_empty() {
                    let set = format!("svcp-{}-{}b{}", name, short(ports), family.digit());
                    rules.push(format!("-m set --match-set {set} {peer} {}", target(ports)));
                    let nets = ranges.into_iter().flat_map(|(first, last)| networks(*first, *last));
                    self.declare(set, family.set_type(), Purpose::Allowance).extend(nets);
                }
            }
            rules.push(target(&row.default));
            let jump = format!("-m set --match-set {subjects} {subject} -j {chain}");
            let bases: &[&str] = match row.direction {
                Direction::Egress => &["SVC-POLICY", "SVC-POLICY-IN"],
                Direction::Ingress if plan.own_node == OwnNode::Evaluated => {
                    &["SVC-POLICY", "SVC-POLICY-OUT"]
                }
                Direction::Ingress => &["SVC-POLICY"],
            };
            let chains = self.chains(family);
            chains.insert(chain.clone(), rules);
            for base in bases {
                if let Some(rules) = chains.get_mut(*base) {
                    rules.push(jump.clone());
                }
            }
        }
    }

    /// All of it, in place of whatever of ours was there before; what was there and isn't any more stays, unused, as
    /// only [`changes_from`](Self::changes_from) knows of it.
    pub fn scripts(&self) -> Scripts {
        self.changes_from(&Self::default())
    }

    /// What makes this of `before`. Where only peers changed there are no rules in it.
    pub fn changes_from(&self, before: &Self) -> Scripts {
        let mut scripts = Scripts::default();
        for (name, set) in &self.sets {
            let old = before.sets.get(name);
            if old.is_none() {
                scripts.isolation += &format!("create {name} {}\n", set.declaration);
            }
            let none = BTreeSet::new();
            let old = old.map_or(&none, |old| &old.elements);
            let script = match set.purpose {
                Purpose::Isolation => &mut scripts.isolation,
                Purpose::Allowance => &mut scripts.allowances,
            };
            for element in set.elements.difference(old) {
                *script += &format!("add {name} {element}\n");
            }
            for element in old.difference(&set.elements) {
                *script += &format!("del {name} {element}\n");
            }
        }
        scripts.rules_v4 = restore(&self.v4, &before.v4);
        scripts.rules_v6 = restore(&self.v6, &before.v6);
        for name in before.sets.keys().filter(|name| !self.sets.contains_key(*name)) {
            scripts.allowances += &format!("destroy {name}\n");
        }
        scripts
    }
}

/// What lets a Pod reach itself by way of a Service. Few kernels have sets of pairs of addresses, so these are rules,
/// the only ones that a Pod change touches. They accept within this hook: no policy is about such a connection.
fn self_rules(plan: &NodePlan, family: Family) -> Vec<String> {
    if plan.self_traffic == SelfTraffic::Evaluated {
        return Vec::new();
    }
    let subjects: BTreeSet<&IpAddr> = plan.rows.iter().flat_map(|row| &row.subjects).collect();
    subjects.into_iter().filter(|ip| family.has(ip)).map(|ip| format!("-s {ip} -d {ip} -j ACCEPT")).collect()
}

/// Input of a restore with `--noflush` that makes one set of chains of another.
fn restore(chains: &BTreeMap<String, Vec<String>>, before: &BTreeMap<String, Vec<String>>) -> String {
    let changed: BTreeMap<_, _> =
        chains.iter().filter(|(name, rules)| before.get(*name) != Some(*rules)).collect();
    let gone: Vec<&String> = before.keys().filter(|name| !chains.contains_key(*name)).collect();
    if changed.is_empty() && gone.is_empty() {
        return String::new();
    }
    let mut text = String::from("*filter\n");
    for name in changed.keys().copied().chain(gone.iter().copied()) {
        text += &format!(":{name} - [0:0]\n");
    }
    for (name, rules) in changed {
        for rule in rules {
            text += &format!("-A {name} {rule}\n");
        }
    }
    for name in gone {
        text += &format!("-X {name}\n");
    }
    text + "COMMIT\n"
}

/// Names of sets have at most 31 characters.
fn short(ports: &PortSet) -> String {
    ports_name(ports).chars().take(8).collect()
}

fn chain_of_ports(ports: &PortSet) -> String {
    format!("SVC-P-PORTS-{}", ports_name(ports))
}

fn target(ports: &PortSet) -> String {
    match Target::of(ports) {
        Target::Return => "-j RETURN".into(),
        Target::Refuse => "-g SVC-P-REFUSE".into(),
        Target::Ports(ports) => format!("-g {}", chain_of_ports(ports)),
    }
}

/// Rules that let the named traffic return and refuse the rest.
fn port_rules(ports: &PortSet) -> Vec<String> {
    // The multiport match takes 15 ports, of which a range counts as two.
    const MOST: usize = 15;
    let mut rules = Vec::new();
    let mut by_protocol: BTreeMap<String, Vec<(u16, u16)>> = BTreeMap::new();
    for (protocol, range) in ports.ranges() {
        let protocol = protocol.as_str().to_ascii_lowercase();
        by_protocol.entry(protocol).or_default().push((*range.start(), *range.end()));
    }
    for (protocol, ranges) in by_protocol {
        if ranges.contains(&(0, u16::MAX)) {
            rules.push(format!("-p {protocol} -j RETURN"));
            continue;
        }
        let (mut list, mut used): (Vec<String>, usize) = (Vec::new(), 0);
        let mut flush = |list: &mut Vec<String>| {
            if !list.is_empty() {
                rules.push(format!("-p {protocol} -m multiport --dports {} -j RETURN", list.join(",")));
                list.clear();
            }
        };
        for (first, last) in ranges {
            let cost = if first == last { 1 } else { 2 };
            if used + cost > MOST {
                flush(&mut list);
                used = 0;
            }
            used += cost;
            list.push(if first == last { first.to_string() } else { format!("{first}:{last}") });
        }
        flush(&mut list);
    }
    if ports.contains(Traffic::Other) {
        rules.extend(["tcp", "udp", "sctp"].map(|protocol| format!("-p {protocol} -g SVC-P-REFUSE")));
        rules.push("-j RETURN".into());
    } else {
        rules.push("-g SVC-P-REFUSE".into());
    }
    rules
}

/// The networks that make up a range. A set can't hold a network of length 0, so that is two halves.
fn networks(first: IpAddr, last: IpAddr) -> Vec<String> {
    let nets: Vec<IpNet> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            ipnet::Ipv4Subnets::new(first, last, 1).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            ipnet::Ipv6Subnets::new(first, last, 1).map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    };
    nets.iter().map(ToString::to_string).collect()
}
