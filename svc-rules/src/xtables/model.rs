//! Tables, chains and rules as the kernel holds them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use smol_str::SmolStr;

use super::name::ChainName;
use crate::ipset::Side;
use crate::outcome::{Hook, RejectWith};
use crate::packet::{Family, Transport};

/// All tables of one family.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruleset {
    family: Family,
    pub(super) tables: Vec<Table>,
}

impl Ruleset {
    /// No tables at all.
    pub const fn new(family: Family) -> Self {
        Self { family, tables: Vec::new() }
    }

    /// Whether these are tables of iptables or of ip6tables.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The tables, in the order in which they were first named.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The table of that name, made with empty builtin chains if it is not there.
    pub fn table_or_new(&mut self, name: &str) -> &mut Table {
        let at = match self.tables.iter().position(|table| table.name == name) {
            Some(at) => at,
            None => {
                self.tables.push(Table::new(name));
                self.tables.len() - 1
            }
        };
        #[expect(
            clippy::indexing_slicing,
            reason = "`at` is either a found position or that of the element just pushed"
        )]
        &mut self.tables[at]
    }

    /// The chain of that name in that table.
    pub fn chain(&self, table: &str, chain: &str) -> Option<&Chain> {
        self.table(table)?.chain(chain)
    }

    /// Sets every counter to zero, of rules and of chains: two rulesets that differ in traffic only become equal.
    pub fn clear_counters(&mut self) {
        for chain in self.tables.iter_mut().flat_map(|table| table.chains.values_mut()) {
            chain.counters = Counters::default();
            for rule in &mut chain.rules {
                rule.counters = Counters::default();
            }
        }
    }
}

/// One table: `filter`, `nat`, `mangle`, `raw` or `security`.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub(super) name: SmolStr,
    pub(super) chains: IndexMap<ChainName, Chain, FixedState>,
}

impl Table {
    /// A table with its builtin chains, which accept.
    pub fn new(name: &str) -> Self {
        let mut chains = IndexMap::with_hasher(FixedState::default());
        for hook in builtin_hooks(name) {
            let chain = Chain { policy: Some(Policy::Accept), ..Chain::default() };
            // The name of every builtin chain is short enough.
            chains.extend(ChainName::new(hook.chain()).map(|name| (name, chain)));
        }
        Self { name: name.into(), chains }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.get(&ChainName::new(name)?)
    }

    /// Number of chains, builtin ones included.
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    /// Whether there is no chain at all, not even a builtin one.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Every chain with its name: the builtin ones in hook order, then the others by name, as `iptables-save` lists them.
    pub fn chains(&self) -> Vec<(&ChainName, &Chain)> {
        let rank = |name: &str| {
            const HOOKS: [Hook; 5] =
                [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
            HOOKS.iter().position(|hook| hook.chain() == name).unwrap_or(HOOKS.len())
        };
        let mut all: Vec<_> = self.chains.iter().collect();
        all.sort_unstable_by(|a, b| (rank(a.0), a.0).cmp(&(rank(b.0), b.0)));
        all
    }
}

/// The hooks at which a table has builtin chains; none for a table this crate does not know.
pub fn builtin_hooks(table: &str) -> &'static [Hook] {
    match table {
        "filter" | "security" => &[Hook::Input, Hook::Forward, Hook::Output],
        "nat" => &[Hook::Prerouting, Hook::Input, Hook::Output, Hook::Postrouting],
        "mangle" => &[Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting],
        "raw" => &[Hook::Prerouting, Hook::Output],
        _ => &[],
    }
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chain {
    /// What a builtin chain does at its end; `None` for the others, which return.
    pub policy: Option<Policy>,
    /// Counters of the policy.
    pub counters: Counters,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// What a builtin chain does at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// `ACCEPT`.
    Accept,
    /// `DROP`.
    Drop,
}

/// Packets and bytes that a rule or policy has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counters {
    /// Number of packets.
    pub packets: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Whether a test is taken as it stands or after `!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sense {
    /// As it stands.
    #[default]
    Is,
    /// Negated.
    Not,
}

impl Sense {
    /// The result of a test under this sense.
    pub const fn of(self, result: bool) -> bool {
        match self {
            Self::Is => result,
            Self::Not => !result,
        }
    }
}

/// A value to compare with, and the sense of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Test<T> {
    /// As it stands, or negated.
    pub sense: Sense,
    /// What to compare with.
    pub value: T,
}

/// An address under a mask; the address has no bits outside the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Net {
    address: IpAddr,
    mask: IpAddr,
}

impl Net {
    /// The network of that prefix length (longer ones are taken as full length).
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let mask = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(
                u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0),
            )),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(
                u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0),
            )),
        };
        Self { address: and(address, mask), mask }
    }

    /// The addresses that equal `address` under `mask`, which need not be contiguous; `None` across families.
    pub fn masked(address: IpAddr, mask: IpAddr) -> Option<Self> {
        (Family::of(address) == Family::of(mask)).then(|| Self { address: and(address, mask), mask })
    }

    /// The address part.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The mask.
    pub const fn mask(&self) -> IpAddr {
        self.mask
    }

    /// The prefix length, if the mask has one.
    pub fn prefix(&self) -> Option<u8> {
        let (ones, contiguous) = match self.mask {
            IpAddr::V4(mask) => {
                let bits = mask.to_bits();
                (bits.leading_ones(), bits.count_ones() == bits.leading_ones())
            }
            IpAddr::V6(mask) => {
                let bits = mask.to_bits();
                (bits.leading_ones(), bits.count_ones() == bits.leading_ones())
            }
        };
        if contiguous { u8::try_from(ones).ok() } else { None }
    }

    /// Whether the address is in the network; never across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.address) && and(address, self.mask) == self.address
    }
}

pub(super) fn and(address: IpAddr, mask: IpAddr) -> IpAddr {
    match (address, mask) {
        (IpAddr::V4(a), IpAddr::V4(m)) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & m.to_bits())),
        (IpAddr::V6(a), IpAddr::V6(m)) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & m.to_bits())),
        _ => address,
    }
}

/// One rule. All tests must hold for the target to be taken.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// `-s`.
    pub source: Option<Test<Net>>,
    /// `-d`.
    pub destination: Option<Test<Net>>,
    /// `-i`; a trailing `+` stands for any ending.
    pub in_interface: Option<Test<SmolStr>>,
    /// `-o`, likewise.
    pub out_interface: Option<Test<SmolStr>>,
    /// `-p`.
    pub transport: Option<Test<Transport>>,
    /// `-f`: second and further fragments (IPv4).
    pub fragment: Option<Sense>,
    /// Loaded matches, in order.
    pub matches: Vec<Match>,
    /// What to do; `None` for a rule that only counts.
    pub target: Option<Target>,
    /// What it has seen.
    pub counters: Counters,
}

impl Rule {
    /// The first comment.
    pub fn comment(&self) -> Option<&SmolStr> {
        self.matches.iter().find_map(|m| match m {
            Match::Comment(text) => Some(text),
            _ => None,
        })
    }

    /// Whether both do the same to every packet in the same words, whatever they have counted.
    pub fn same(&self, other: &Self) -> bool {
        self.source == other.source
            && self.destination == other.destination
            && self.in_interface == other.in_interface
            && self.out_interface == other.out_interface
            && self.transport == other.transport
            && self.fragment == other.fragment
            && self.target == other.target
            && self.matches == other.matches
    }
}

/// The module that tests ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PortModule {
    /// `-m tcp`.
    Tcp,
    /// `-m udp`.
    Udp,
    /// `-m sctp`.
    Sctp,
}

impl PortModule {
    /// Name of the module, which is that of the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol.
    pub const fn transport(self) -> Transport {
        match self {
            Self::Tcp => Transport::TCP,
            Self::Udp => Transport::UDP,
            Self::Sctp => Transport::SCTP,
        }
    }
}

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl PortRange {
    /// Whether the port is in the range.
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// A mark compared under a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MarkTest {
    /// What the masked mark must equal.
    pub value: u32,
    /// Bits that count.
    pub mask: u32,
}

/// Which module tests the connection state; they differ in name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateModule {
    /// `-m conntrack --ctstate`.
    Conntrack,
    /// `-m state --state`.
    State,
}

/// A set of connection states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CtStates(pub(super) u8);

impl CtStates {
    /// `INVALID`.
    pub const INVALID: Self = Self(1);
    /// `NEW`.
    pub const NEW: Self = Self(2);
    /// `RELATED`.
    pub const RELATED: Self = Self(4);
    /// `ESTABLISHED`.
    pub const ESTABLISHED: Self = Self(8);
    /// `UNTRACKED`.
    pub const UNTRACKED: Self = Self(16);
    /// `SNAT`: the connection's source is rewritten.
    pub const SNAT: Self = Self(32);
    /// `DNAT`: the connection's destination is rewritten.
    pub const DNAT: Self = Self(64);

    /// Names, in the order in which `iptables-save` writes them.
    pub(super) const NAMES: [(Self, &'static str); 7] = [
        (Self::INVALID, "INVALID"),
        (Self::NEW, "NEW"),
        (Self::RELATED, "RELATED"),
        (Self::ESTABLISHED, "ESTABLISHED"),
        (Self::UNTRACKED, "UNTRACKED"),
        (Self::SNAT, "SNAT"),
        (Self::DNAT, "DNAT"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two have a state in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A set of address classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AddressTypes(pub(super) u16);

impl AddressTypes {
    /// `UNICAST`.
    pub const UNICAST: Self = Self(1 << 1);
    /// `LOCAL`.
    pub const LOCAL: Self = Self(1 << 2);
    /// `BROADCAST`.
    pub const BROADCAST: Self = Self(1 << 3);
    /// `MULTICAST`.
    pub const MULTICAST: Self = Self(1 << 5);

    /// Names by bit number.
    pub(super) const NAMES: [&'static str; 12] = [
        "UNSPEC",
        "UNICAST",
        "LOCAL",
        "BROADCAST",
        "ANYCAST",
        "MULTICAST",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "THROW",
        "NAT",
        "XRESOLVE",
    ];

    /// Whether the two have a class in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a `recent` rule does with its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecentAction {
    /// `--set`: remembers the client; always matches.
    Set,
    /// `--rcheck`: matches if remembered.
    Check,
    /// `--update`: matches if remembered, and remembers anew.
    Update,
    /// `--remove`: matches if remembered, and forgets.
    Remove,
}

/// `-m recent`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recent {
    /// What is done, and the sense of the result.
    pub action: Test<RecentAction>,
    /// `--seconds`: only clients seen at most that long ago count; 0 without the option.
    pub seconds: u32,
    /// `--reap`: forgets clients not seen for `seconds`.
    pub reap: bool,
    /// `--hitcount`: number of times seen; 0 without the option.
    pub hitcount: u32,
    /// `--rttl`: the TTL must be the same as then.
    pub rttl: bool,
    /// Name of the list.
    pub list: SmolStr,
    /// Mask under which clients are told apart.
    pub mask: IpAddr,
    /// Which end of the packet is the client.
    pub side: Side,
}

/// `-m set --match-set`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetTest {
    /// Name of the set.
    pub name: SmolStr,
    /// Ends of the packet, one for each dimension of the set.
    pub sides: Vec<Side>,
}

/// `-m addrtype`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AddrTypeTest {
    /// `--src-type`.
    pub source: Option<Test<AddressTypes>>,
    /// `--dst-type`.
    pub destination: Option<Test<AddressTypes>>,
}

/// `-m ipvs`: tests of the IPVS connection that a packet belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct IpvsTest {
    /// `--vaddr`.
    pub address: Option<Test<Net>>,
    /// `--vproto`.
    pub transport: Option<Test<Transport>>,
    /// `--vport`.
    pub port: Option<Test<u16>>,
}

/// `-m tcp`, `-m udp`, `-m sctp`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortTest {
    /// The module.
    pub module: PortModule,
    /// `--sport`.
    pub source: Option<Test<PortRange>>,
    /// `--dport`.
    pub destination: Option<Test<PortRange>>,
}

/// A loaded match.
#[derive(Debug, Clone, PartialEq)]
pub enum Match {
    /// `-m comment`.
    Comment(SmolStr),
    /// Ports.
    Ports(PortTest),
    /// Connection state.
    State(StateModule, Test<CtStates>),
    /// `-m mark`.
    Mark(Test<MarkTest>),
    /// `-m addrtype`.
    AddrType(AddrTypeTest),
    /// `-m statistic --mode random`: holds if 31 random bits, read as a number, are below the value (at most 2^31).
    Random(Test<u32>),
    /// `-m recent`.
    Recent(Box<Recent>),
    /// `-m set`.
    Set(Box<Test<SetTest>>),
    /// `-m physdev --physdev-is-in`: the packet came through a bridge port.
    PhysdevIsIn(Sense),
    /// `-m nfacct`: counts in a named object; always holds.
    Nfacct(SmolStr),
    /// `-m ipvs`.
    Ipvs(Box<IpvsTest>),
    /// Anything else, in its words: `MODULE OPTIONS`.
    Opaque(SmolStr),
}

/// Draw of source ports for a masqueraded connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PortDraw {
    /// The client's port if it is free.
    #[default]
    Keep,
    /// `--random`.
    Random,
    /// `--random-fully`.
    FullyRandom,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// `-j CHAIN`.
    Jump(ChainName),
    /// `-g CHAIN`.
    Goto(ChainName),
    /// `-j ACCEPT`.
    Accept,
    /// `-j DROP`.
    Drop,
    /// `-j RETURN`.
    Return,
    /// `-j REJECT`.
    Reject(RejectWith),
    /// `-j MARK`: mark = (mark & !`mask`) ^ `value`, the form into which the kernel brings all options.
    Mark {
        /// Bits to flip after clearing.
        value: u32,
        /// Bits to clear.
        mask: u32,
    },
    /// `-j DNAT --to-destination`.
    Dnat {
        /// New address.
        address: IpAddr,
        /// New port; without it the port stays.
        port: Option<u16>,
    },
    /// `-j SNAT --to-source` with an address alone.
    Snat(IpAddr),
    /// `-j MASQUERADE`.
    Masquerade(PortDraw),
    /// Anything else, in its words: `TARGET OPTIONS`.
    Opaque(SmolStr),
}

impl Target {
    /// The chain it jumps or goes to.
    pub const fn chain(&self) -> Option<&ChainName> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// Targets of iptables' own, in alphabetical order: whatever else follows `-j` is a chain.
pub(super) const EXTENSIONS: [&str; 48] = [
    "ACCOUNT",
    "AUDIT",
    "CHAOS",
    "CHECKSUM",
    "CLASSIFY",
    "CLUSTERIP",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DELUDE",
    "DHCPMAC",
    "DNAT",
    "DNETMAP",
    "DNPT",
    "DSCP",
    "ECHO",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "IPMARK",
    "LED",
    "LOG",
    "MARK",
    "MASQUERADE",
    "NETMAP",
    "NFLOG",
    "NFQUEUE",
    "NOTRACK",
    "QUEUE",
    "RATEEST",
    "REDIRECT",
    "REJECT",
    "SECMARK",
    "SET",
    "SNAT",
    "SNPT",
    "STEAL",
    "SYNPROXY",
    "SYSRQ",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TPROXY",
    "TRACE",
    "TTL",
    "ULOG",
];
