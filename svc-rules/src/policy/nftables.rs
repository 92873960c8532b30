//! Policies as one nftables table, `inet svc-policy`.
//!
//! The base chains look a packet's source up in the egress maps and its destination in the ingress maps; an element
//! jumps to the row's chain, which returns if it has nothing against the connection.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_netpol::{Direction, NodePlan, OwnNode, PortSet, RowPlan, SelfTraffic, Traffic};

use super::{Family, Refusal, Target, port_sets, ports_name, row_name};

/// The table, which is nobody else's.
pub const TABLE: &str = "inet svc-policy";

/// The table's content: sets, maps and chains.
///
/// ```
/// use svc_netpol::Engine;
/// use svc_rules::policy::{Refusal, nftables::Ruleset};
///
/// let engine = Engine::default();
/// let before = Ruleset::new(&engine.node_plan("node-1"), Refusal::Drop);
/// let script = before.script(); // for `nft -f -`
/// assert!(script.starts_with("add table inet svc-policy\n"));
/// // ... objects change ...
/// let after = Ruleset::new(&engine.node_plan("node-1"), Refusal::Drop);
/// assert_eq!(after.changes_from(&before), "");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    sets: BTreeMap<String, Set>,
    chains: BTreeMap<String, Chain>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set {
    /// `set` or `map`.
    kind: &'static str,
    declaration: &'static str,
    /// Keys, and the verdicts of a map.
    elements: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    /// Hook and policy of a base chain.
    base: &'static str,
    rules: Vec<String>,
}

impl Family {
    const fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "type ipv4_addr;",
            Self::V6 => "type ipv6_addr;",
        }
    }

    const fn interval_type(self) -> &'static str {
        match self {
            Self::V4 => "type ipv4_addr; flags interval;",
            Self::V6 => "type ipv6_addr; flags interval;",
        }
    }

    const fn map_type(self) -> &'static str {
        match self {
            Self::V4 => "type ipv4_addr : verdict;",
            Self::V6 => "type ipv6_addr : verdict;",
        }
    }

    const fn pair_type(self) -> &'static str {
        match self {
            Self::V4 => "type ipv4_addr . ipv4_addr;",
            Self::V6 => "type ipv6_addr . ipv6_addr;",
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

const FORWARD: &str = "type filter hook forward priority 0; policy accept;";
const INPUT: &str = "type filter hook input priority 0; policy accept;";
const OUTPUT: &str = "type filter hook output priority 0; policy accept;";

impl Ruleset {
    /// The rules for a plan.
    pub fn new(plan: &NodePlan, refusal: Refusal) -> Self {
        let mut rules = Self::default();
        for family in Family::ALL {
            for direction in ["ingress", "egress"] {
                rules.declare(format!("{direction}-v{}", family.digit()), "map", family.map_type());
            }
            rules.declare(format!("self-v{}", family.digit()), "set", family.pair_type());
        }
        let refuse = match refusal {
            Refusal::Drop => Vec::from(["drop".to_string()]),
            Refusal::Reject => ["meta l4proto tcp reject with tcp reset", "reject"].map(String::from).into(),
        };
        rules.chains.insert("refuse".into(), Chain { base: "", rules: refuse });
        for ports in port_sets(&plan.rows) {
            rules.chains.insert(chain_of_ports(ports), Chain { base: "", rules: port_rules(ports) });
        }
        for row in &plan.rows {
            rules.add_row(row, plan.self_traffic);
        }
        rules.add_base_chains(plan.own_node);
        rules
    }

    fn declare(&mut self, name: String, kind: &'static str, declaration: &'static str) -> &mut Set {
        let set = self.sets.entry(name).or_default();
        (set.kind, set.declaration) = (kind, declaration);
        set
    }

    fn add_row(&mut self, row: &RowPlan, self_traffic: SelfTraffic) {
        let name = row_name(row);
        let peer = if row.direction == Direction::Ingress { "saddr" } else { "daddr" };
        let mut rules = Vec::new();
        for family in Family::ALL {
            let of_family = |ip: &&IpAddr| family.has(ip);
            for subject in row.subjects.iter().filter(of_family) {
                let subjects =
                    self.declare(format!("{}-v{}", row.direction, family.digit()), "map", family.map_type());
                subjects.elements.insert(subject.to_string(), format!("jump {name}"));
                if self_traffic == SelfTraffic::Allowed {
                    let pairs = self.declare(format!("self-v{}", family.digit()), "set", family.pair_type());
                    pairs.elements.insert(format!("{subject} . {subject}"), String::new());
                }
            }
            let header = family.header();
            for (ports, pods) in &row.pods {
                let set = format!("{name}-{}-p{}", ports_name(ports), family.digit());
                rules.push(format!("{header} {peer} @{set} {}", statement(ports)));
                let elements =
                    pods.iter().filter(of_family).map(|ip| (ip.to_string(), String::new())).collect();
                self.declare(set, "set", family.address_type()).elements = elements;
            }
            for (ports, ranges) in &row.blocks {
                let ranges = ranges.iter().filter(|(first, _)| family.has(first));
                let elements: BTreeMap<String, String> =
                    ranges.map(|range| (interval(*range), String::new())).collect();
                if !elements.is_empty() {
                    let set = format!("{name}-{}-b{}", ports_name(ports), family.digit());
                    rules.push(format!("{header} {peer} @{set} {}", statement(ports)));
                    self.declare(set, "set", family.interval_type()).elements = elements;
                }
            }
        }
        rules.push(statement(&row.default));
        self.chains.insert(name, Chain { base: "", rules });
    }

    fn add_base_chains(&mut self, own_node: OwnNode) {
        let established = "ct state established,related accept".to_string();
        let lookup = |direction: &str| {
            let field = if direction == "egress" { "saddr" } else { "daddr" };
            Family::ALL.map(|f| format!("{} {field} vmap @{direction}-v{}", f.header(), f.digit()))
        };
        let own = Family::ALL.map(|f| {
            let header = f.header();
            format!("{header} saddr . {header} daddr @self-v{} accept", f.digit())
        });
        let forward = [established.clone()]
            .into_iter()
            .chain(own)
            .chain(lookup("egress"))
            .chain(lookup("ingress"))
            .collect();
        self.chains.insert("filter-forward".into(), Chain { base: FORWARD, rules: forward });
        // Neighbour discovery is how a Pod finds its gateway at all.
        let neighbours = "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept";
        let input =
            [established.clone(), neighbours.to_string()].into_iter().chain(lookup("egress")).collect();
        self.chains.insert("filter-input".into(), Chain { base: INPUT, rules: input });
        if own_node == OwnNode::Evaluated {
            let output = [established, neighbours.to_string()].into_iter().chain(lookup("ingress")).collect();
            self.chains.insert("filter-output".into(), Chain { base: OUTPUT, rules: output });
        }
    }

    /// The whole table as input of `nft -f -`, in place of whatever was there, in one transaction.
    pub fn script(&self) -> String {
        let mut script = format!("add table {TABLE}\ndelete table {TABLE}\n");
        script += &format!("add table {TABLE}\n");
        self.write_changes(&Self::default(), &mut script);
        script
    }

    /// The transaction that makes this table of `before`, as input of `nft -f -`; empty if they are equal. Its length
    /// follows what changed.
    pub fn changes_from(&self, before: &Self) -> String {
        let mut script = String::new();
        self.write_changes(before, &mut script);
        script
    }

    fn write_changes(&self, before: &Self, out: &mut String) {
        let none = (Set::default(), Chain::default());
        let same_kind = |name: &String, set: &Set| {
            before.sets.get(name).is_some_and(|old| old.declaration == set.declaration)
        };
        // Names first, so that everything can refer to everything.
        for (name, chain) in &self.chains {
            if !before.chains.contains_key(name) {
                let base =
                    if chain.base.is_empty() { String::new() } else { format!(" {{ {} }}", chain.base) };
                *out += &format!("add chain {TABLE} {name}{base}\n");
            }
        }
        for (name, set) in &self.sets {
            if !same_kind(name, set) {
                *out += &format!("add {} {TABLE} {name} {{ {} }}\n", set.kind, set.declaration);
            }
        }
        for (name, set) in &self.sets {
            let old = before.sets.get(name).unwrap_or(&none.0);
            let gone = old.elements.iter().filter(|(key, value)| set.elements.get(*key) != Some(*value));
            write_elements(out, "delete", name, gone.map(|(key, _)| key.clone()));
            let new = set.elements.iter().filter(|(key, value)| old.elements.get(*key) != Some(*value));
            let text = |(key, value): (&String, &String)| match value.as_str() {
                "" => key.clone(),
                value => format!("{key} : {value}"),
            };
            write_elements(out, "add", name, new.map(text));
        }
        for (name, chain) in &self.chains {
            let old = before.chains.get(name).unwrap_or(&none.1);
            if old.rules != chain.rules {
                if before.chains.contains_key(name) {
                    *out += &format!("flush chain {TABLE} {name}\n");
                }
                for rule in &chain.rules {
                    *out += &format!("add rule {TABLE} {name} {rule}\n");
                }
            }
        }
        let gone: BTreeSet<&String> =
            before.chains.keys().filter(|name| !self.chains.contains_key(*name)).collect();
        for name in &gone {
            *out += &format!("flush chain {TABLE} {name}\n");
        }
        for name in gone {
            *out += &format!("delete chain {TABLE} {name}\n");
        }
        for (name, set) in before.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            *out += &format!("delete {} {TABLE} {name}\n", set.kind);
        }
    }

    /// How many rules and how many elements there are.
    pub fn size(&self) -> (usize, usize) {
        let rules = self.chains.values().map(|chain| chain.rules.len()).sum();
        (rules, self.sets.values().map(|set| set.elements.len()).sum())
    }
}

fn write_elements(out: &mut String, verb: &str, set: &str, elements: impl Iterator<Item = String>) {
    // Short lines, so that errors of nft name a place.
    const AT_ONCE: usize = 64;
    let elements: Vec<String> = elements.collect();
    for some in elements.chunks(AT_ONCE) {
        *out += &format!("{verb} element {TABLE} {set} {{ {} }}\n", some.join(", "));
    }
}

fn interval((first, last): (IpAddr, IpAddr)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn chain_of_ports(ports: &PortSet) -> String {
    format!("ports-{}", ports_name(ports))
}

/// The end of a rule that settles an allowance.
fn statement(ports: &PortSet) -> String {
    match Target::of(ports) {
        Target::Return => "return".into(),
        Target::Refuse => "goto refuse".into(),
        Target::Ports(ports) => format!("goto {}", chain_of_ports(ports)),
    }
}

/// Rules that let the named traffic return and refuse the rest.
fn port_rules(ports: &PortSet) -> Vec<String> {
    let mut rules = Vec::new();
    let mut some = Vec::new();
    for (protocol, range) in ports.ranges() {
        let protocol = protocol.as_str().to_ascii_lowercase();
        match (*range.start(), *range.end()) {
            (0, u16::MAX) => rules.push(format!("meta l4proto {protocol} return")),
            (first, last) if first == last => some.push(format!("{protocol} . {first}")),
            (first, last) => some.push(format!("{protocol} . {first}-{last}")),
        }
    }
    if !some.is_empty() {
        rules.push(format!("meta l4proto . th dport {{ {} }} return", some.join(", ")));
    }
    if ports.contains(Traffic::Other) {
        rules.push("meta l4proto != { tcp, udp, sctp } return".into());
    }
    rules.push("goto refuse".into());
    rules
}
