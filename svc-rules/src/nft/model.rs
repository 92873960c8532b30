//! Tables, sets, maps, chains and rules of nftables.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use ipnet::IpNet;
use smol_str::SmolStr;

use crate::outcome::{Hook, RejectWith};

/// Objects by name or key, in the order in which they were added. Two are equal whatever that order is.
pub(crate) type Map<K, V> = IndexMap<K, V, FixedState>;

/// All tables.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ruleset {
    pub(super) tables: Map<TableKey, Table>,
}

pub(super) type TableKey = (TableFamily, SmolStr);

impl Ruleset {
    /// No tables at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tables, by family and name.
    pub fn tables(&self) -> Vec<&Table> {
        let mut all: Vec<_> = self.tables.values().collect();
        all.sort_unstable_by_key(|table| (table.family, &table.name));
        all
    }

    /// The table of that family and name.
    pub fn table(&self, family: TableFamily, name: &str) -> Option<&Table> {
        self.tables.get(&(family, name.into()))
    }

    /// The same with only those tables.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Table) -> bool) -> Self {
        let kept = self.tables.iter().filter(|(_, table)| keep(table));
        Self { tables: kept.map(|(key, table)| (key.clone(), table.clone())).collect() }
    }
}

/// Family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableFamily {
    /// `ip`: IPv4 packets.
    Ip,
    /// `ip6`: IPv6 packets.
    Ip6,
    /// `inet`: both.
    Inet,
}

impl TableFamily {
    /// The word nft uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        }
    }

    /// Reads the word nft uses.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ip, Self::Ip6, Self::Inet].into_iter().find(|family| family.name() == text)
    }

    /// Whether packets to this address are seen.
    pub const fn sees(self, address: IpAddr) -> bool {
        match self {
            Self::Ip => address.is_ipv4(),
            Self::Ip6 => address.is_ipv6(),
            Self::Inet => true,
        }
    }
}

/// One table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: SmolStr,
    /// Its comment.
    pub comment: Option<SmolStr>,
    pub(super) sets: Map<SmolStr, Set>,
    pub(super) chains: Map<SmolStr, Chain>,
    /// Names of the chains that are attached to a hook: few, where chains can be very many.
    pub(super) bases: BTreeSet<SmolStr>,
}

impl Table {
    pub(super) fn new(family: TableFamily, name: &str) -> Self {
        Self {
            family,
            name: name.into(),
            comment: None,
            sets: Map::default(),
            chains: Map::default(),
            bases: BTreeSet::new(),
        }
    }

    pub(super) fn insert_chain(&mut self, name: &str, chain: Chain) {
        if chain.base.is_some() {
            self.bases.insert(name.into());
        }
        self.chains.insert(name.into(), chain);
    }

    /// Removes a chain; `None` if there was none.
    pub(super) fn remove_chain(&mut self, name: &str) -> Option<Chain> {
        self.bases.remove(name);
        self.chains.swap_remove(name)
    }

    /// The set or map of that name; the two share one name space.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.get(name)
    }

    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.get(name)
    }

    /// Sets and maps by name.
    pub fn sets(&self) -> Vec<(&SmolStr, &Set)> {
        sorted(&self.sets)
    }

    /// Chains by name.
    pub fn chains(&self) -> Vec<(&SmolStr, &Chain)> {
        sorted(&self.chains)
    }
}

fn sorted<V>(map: &Map<SmolStr, V>) -> Vec<(&SmolStr, &V)> {
    let mut all: Vec<_> = map.iter().collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    all
}

/// Type of one part of a key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `ipv4_addr`.
    Ipv4Addr,
    /// `ipv6_addr`.
    Ipv6Addr,
    /// `inet_proto`.
    InetProto,
    /// `inet_service`.
    InetService,
    /// `mark`.
    Mark,
    /// `ifname`.
    IfName,
    /// `integer`, as of a drawn number.
    Integer,
    /// `verdict`, as the value of a map.
    Verdict,
}

impl DataType {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Ipv4Addr, "ipv4_addr"),
        (Self::Ipv6Addr, "ipv6_addr"),
        (Self::InetProto, "inet_proto"),
        (Self::InetService, "inet_service"),
        (Self::Mark, "mark"),
        (Self::IfName, "ifname"),
        (Self::Integer, "integer"),
        (Self::Verdict, "verdict"),
    ];

    /// The word nft uses.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Reads the word nft uses.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }
}

/// A value, or a range of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// A number: protocol, port, mark, drawn number.
    Number(u32),
    /// Numbers from the first to the last.
    Numbers(u32, u32),
    /// An address.
    Address(IpAddr),
    /// A network; never of full length, which is an address.
    Network(IpNet),
    /// Addresses from the first to the last.
    Addresses(IpAddr, IpAddr),
    /// An interface's name; a trailing `*` stands for any ending.
    Text(SmolStr),
}

impl Datum {
    /// Whether it stands for one value only.
    pub(super) fn is_exact(&self) -> bool {
        match self {
            Self::Number(_) | Self::Address(_) => true,
            Self::Text(text) => !text.ends_with('*'),
            Self::Numbers(..) | Self::Network(_) | Self::Addresses(..) => false,
        }
    }

    /// Whether the exact value `value` is (within) this.
    pub(super) fn covers(&self, value: &Self) -> bool {
        match (self, value) {
            (Self::Numbers(first, last), Self::Number(number)) => first <= number && number <= last,
            (Self::Network(network), Self::Address(address)) => network.contains(address),
            (Self::Addresses(first, last), Self::Address(address)) => {
                first.is_ipv4() == address.is_ipv4() && first <= address && address <= last
            }
            (Self::Text(pattern), Self::Text(name)) => match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => pattern == name,
            },
            _ => self == value,
        }
    }
}

/// A key or value: one datum for each part.
pub type Tuple = Vec<Datum>;

/// Whether a tuple of ranges covers a tuple of values.
pub(super) fn covers(outer: &[Datum], inner: &[Datum]) -> bool {
    outer.len() == inner.len() && outer.iter().zip(inner).all(|(outer, inner)| outer.covers(inner))
}

/// What a verdict statement or an element of a verdict map says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// `accept`.
    Accept,
    /// `drop`.
    Drop,
    /// `return`.
    Return,
    /// `continue`.
    Continue,
    /// `jump CHAIN`.
    Jump(SmolStr),
    /// `goto CHAIN`.
    Goto(SmolStr),
}

impl Verdict {
    /// The chain it leads to.
    pub const fn chain(&self) -> Option<&SmolStr> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// What a map gives for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Data {
    /// Values.
    Tuple(Tuple),
    /// A verdict.
    Verdict(Verdict),
}

/// One element of a named set or map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Its comment.
    pub comment: Option<SmolStr>,
    /// What the map gives; `None` in sets.
    pub data: Option<Data>,
    /// How long it lives from each update; without it, as the set says.
    pub timeout: Option<Duration>,
}

/// Flags of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SetFlags {
    /// `constant`.
    pub constant: bool,
    /// `interval`: elements may be ranges.
    pub interval: bool,
    /// `dynamic`: rules may add elements.
    pub dynamic: bool,
    /// `timeout`: elements may expire.
    pub timeout: bool,
}

/// A named set or map.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// Types of the key's parts.
    pub key: Vec<DataType>,
    /// Types of the value's parts, in a map.
    pub value: Option<Vec<DataType>>,
    /// Its flags.
    pub flags: SetFlags,
    /// How long elements live.
    pub timeout: Option<Duration>,
    /// The expressions that its types were taken from (`typeof`): of the key, and of the value in a map that gives
    /// values. Types of no fixed length, such as that of a drawn number, can be declared in this way only.
    pub like: Option<(Expression, Option<Expression>)>,
    /// Greatest number of elements; a dynamic set always has one.
    pub size: Option<u32>,
    /// Its comment.
    pub comment: Option<SmolStr>,
    pub(super) elements: Map<Tuple, Element>,
    /// Number of elements that are ranges.
    pub(super) ranges: usize,
}

impl Set {
    /// Size of a dynamic set for which none is given.
    pub const DEFAULT_DYNAMIC_SIZE: u32 = 65535;

    /// The elements, in order of their keys.
    pub fn elements(&self) -> Vec<(&Tuple, &Element)> {
        let mut all: Vec<_> = self.elements.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The element with this very key.
    pub fn get(&self, key: &[Datum]) -> Option<&Element> {
        self.elements.get(key)
    }

    /// The element that a key of exact values is (within).
    pub fn find(&self, key: &[Datum]) -> Option<&Element> {
        match self.elements.get(key) {
            None if self.ranges > 0 => {
                self.elements.iter().find(|(outer, _)| covers(outer, key)).map(|(_, element)| element)
            }
            found => found,
        }
    }
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Base {
    /// `type`.
    pub kind: ChainKind,
    /// `hook`.
    pub hook: Hook,
    /// `priority`.
    pub priority: i32,
    /// `policy`.
    pub policy: Policy,
}

/// Type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// `filter`.
    Filter,
    /// `nat`: asked for the first packet of a connection.
    Nat,
    /// `route`: as `filter`, and the host's own packets are routed anew.
    Route,
}

/// What a base chain does at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// `accept`.
    #[default]
    Accept,
    /// `drop`.
    Drop,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chain {
    /// Where it is attached; `None` for a chain that is only jumped to.
    pub base: Option<Base>,
    /// Its comment.
    pub comment: Option<SmolStr>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// One rule: statements carried out in order until one does not match.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
    /// Its comment.
    pub comment: Option<SmolStr>,
}

/// One end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Source.
    Source,
    /// Destination.
    Destination,
}

/// Order of numbers from `numgen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numgen {
    /// `random`: drawn anew each time.
    Random,
    /// `inc`: one after another.
    Increment,
}

/// Something read from a packet or drawn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expression {
    /// `ip saddr`, `ip6 daddr`, ..; fails for packets of the other family.
    Address(TableFamily, End),
    /// `meta l4proto`.
    L4Proto,
    /// `ip protocol` or `ip6 nexthdr`.
    Protocol(TableFamily),
    /// `tcp dport`, `th sport`, ..; the protocol is `None` for `th`.
    Port(Option<crate::packet::Transport>, End),
    /// `meta mark`, of which the bits of the mask count.
    Mark(u32),
    /// `iifname`.
    InputName,
    /// `oifname`.
    OutputName,
    /// `ct state`.
    CtState,
    /// `ct status`.
    CtStatus,
    /// `ct original ip daddr`, ..: an address as the connection's first packet had it when it came in.
    Original(TableFamily, End),
    /// `fib saddr type`, `fib daddr type`.
    FibType(End),
    /// `numgen MODE mod N offset O`.
    Numgen {
        /// Order of the numbers.
        mode: Numgen,
        /// How many there are.
        modulus: u32,
        /// The first of them.
        offset: u32,
    },
    /// A value as it stands.
    Value(Datum),
    /// Several, one after another: `ip daddr . th dport`.
    Concat(Vec<Self>),
    /// What a map gives for a key; fails if the key is not in it.
    Map(Box<Self>, MapRef<Tuple>),
}

/// A map by name, or written out in place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MapRef<T> {
    /// `@NAME`.
    Named(SmolStr),
    /// `{ KEY : VALUE , .. }`, in order of keys.
    Inline(Vec<(Tuple, T)>),
}

/// How a test compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`, or no operator: equal, within, or a common flag.
    Equal,
    /// `!=`.
    NotEqual,
}

/// What a test compares with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operand {
    /// One value or range, or several flags.
    Tuple(Tuple),
    /// `@NAME`.
    Set(SmolStr),
    /// `{ .. }`, in order. One of a single element is that element alone, as nft itself makes it.
    Inline(Vec<Tuple>),
}

/// One statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// A test; the rule ends here for packets that fail it.
    Match {
        /// What is looked at.
        left: Expression,
        /// How it is compared.
        comparison: Comparison,
        /// With what.
        right: Operand,
    },
    /// `KEY vmap MAP`: does what the map says; the rule ends here for keys that are not in it.
    VerdictMap(Expression, MapRef<Verdict>),
    /// `accept`, `jump CHAIN`, ..
    Verdict(Verdict),
    /// `meta mark set`: mark = (mark & `mask`) ^ `xor`.
    SetMark {
        /// Bits to keep.
        mask: u32,
        /// Bits to flip after that.
        xor: u32,
    },
    /// `dnat to`: an address, or an address and a port.
    Dnat(Expression),
    /// `snat to`.
    Snat(Expression),
    /// `masquerade`.
    Masquerade {
        /// `fully-random`.
        fully_random: bool,
    },
    /// `reject`.
    Reject(RejectWith),
    /// `ip daddr set`: writes an address into the packet. What connection tracking knows of it stays.
    SetAddress(End, Expression),
    /// `update @SET { KEY timeout T }` or `add @SET { KEY }`.
    Remember {
        /// The set.
        set: SmolStr,
        /// The key.
        key: Expression,
        /// How long the element lives; without it, as the set says.
        timeout: Option<Duration>,
        /// Whether an element that is there is given its full life again.
        refresh: bool,
    },
    /// `delete @SET { KEY }`.
    Forget {
        /// The set.
        set: SmolStr,
        /// The key.
        key: Expression,
    },
    /// `counter`, `log`, ..: without effect on the packet; its words.
    Note(SmolStr),
    /// Anything else, to the end of the rule; its words.
    Opaque(SmolStr),
}

impl Statement {
    /// Chains that it can lead to.
    pub fn chains(&self) -> Vec<&SmolStr> {
        match self {
            Self::Verdict(verdict) => verdict.chain().into_iter().collect(),
            Self::VerdictMap(_, MapRef::Inline(map)) => {
                map.iter().filter_map(|(_, verdict)| verdict.chain()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Sets and maps that it consults.
    pub fn sets(&self) -> Vec<&SmolStr> {
        let mut all = Vec::new();
        match self {
            Self::Match { left, right, .. } => {
                left.sets(&mut all);
                if let Operand::Set(name) = right {
                    all.push(name);
                }
            }
            Self::VerdictMap(key, map) => {
                key.sets(&mut all);
                if let MapRef::Named(name) = map {
                    all.push(name);
                }
            }
            Self::Dnat(to) | Self::Snat(to) | Self::SetAddress(_, to) => to.sets(&mut all),
            Self::Remember { set, key, .. } | Self::Forget { set, key } => {
                all.push(set);
                key.sets(&mut all);
            }
            _ => {}
        }
        all
    }
}

impl Expression {
    fn sets<'a>(&'a self, all: &mut Vec<&'a SmolStr>) {
        match self {
            Self::Concat(parts) => parts.iter().for_each(|part| part.sets(all)),
            Self::Map(key, map) => {
                key.sets(all);
                if let MapRef::Named(name) = map {
                    all.push(name);
                }
            }
            _ => {}
        }
    }

    /// The types of its parts, as far as they matter for reading what it is compared with.
    pub(super) fn types(&self) -> Vec<DataType> {
        match self {
            Self::Address(TableFamily::Ip6, _) | Self::Original(TableFamily::Ip6, _) => {
                [DataType::Ipv6Addr].into()
            }
            Self::Address(..) | Self::Original(..) => [DataType::Ipv4Addr].into(),
            Self::L4Proto | Self::Protocol(_) => [DataType::InetProto].into(),
            Self::Port(..) => [DataType::InetService].into(),
            Self::Mark(_) => [DataType::Mark].into(),
            Self::InputName | Self::OutputName => [DataType::IfName].into(),
            Self::Concat(parts) => parts.iter().flat_map(Self::types).collect(),
            Self::CtState
            | Self::CtStatus
            | Self::FibType(_)
            | Self::Numgen { .. }
            | Self::Value(_)
            | Self::Map(..) => [DataType::Integer].into(),
        }
    }
}
