//! The text form of rules, as `iptables-save` writes it.

use alloc::string::String;
use core::fmt::{self, Write};
use core::net::IpAddr;

use super::model::{
    AddressTypes, Chain, Counters, CtStates, Match, Net, Policy, PortDraw, PortRange, Recent, RecentAction,
    Rule, Ruleset, Sense, StateModule, Table, Target, Test,
};
use crate::ipset::Side;
use crate::packet::Family;

/// Whether the text shows packet and byte counters (`iptables-save -c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShowCounters {
    /// Rules without counters.
    #[default]
    No,
    /// Every rule with its counters in front.
    Yes,
}

impl Ruleset {
    /// The text of `iptables-save`, without its two comment lines per table.
    pub fn save(&self, counters: ShowCounters) -> String {
        let mut text = String::new();
        for table in &self.tables {
            table.save(self.family(), counters, &mut text);
        }
        text
    }
}

impl Table {
    /// Appends the table's part of the text of `iptables-save`.
    pub fn save(&self, family: Family, counters: ShowCounters, out: &mut String) {
        let chains = self.chains();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "*{}", self.name);
        for (name, chain) in &chains {
            chain_line(name, chain, out);
        }
        for (name, chain) in &chains {
            for rule in &chain.rules {
                if counters == ShowCounters::Yes {
                    let Counters { packets, bytes } = rule.counters;
                    let _ = write!(out, "[{packets}:{bytes}] ");
                }
                out.push_str("-A ");
                out.push_str(name);
                rule.write(family, out);
                out.push('\n');
            }
        }
        out.push_str("COMMIT\n");
    }
}

fn chain_line(name: &str, chain: &Chain, out: &mut String) {
    let policy = match chain.policy {
        None => "-",
        Some(Policy::Accept) => "ACCEPT",
        Some(Policy::Drop) => "DROP",
    };
    let _ = writeln!(out, ":{name} {policy} [{}:{}]", chain.counters.packets, chain.counters.bytes);
}

impl Rule {
    /// The rule's words after `-A CHAIN`, in the order of `iptables-save`.
    pub fn text(&self, family: Family) -> String {
        let mut text = String::new();
        self.write(family, &mut text);
        if text.starts_with(' ') {
            text.remove(0);
        }
        text
    }

    /// Appends the rule's words, each with a space before it.
    pub(super) fn write(&self, family: Family, out: &mut String) {
        net_test("-s", self.source.as_ref(), out);
        net_test("-d", self.destination.as_ref(), out);
        if let Some(test) = &self.in_interface {
            option(test.sense, "-i", &test.value, out);
        }
        if let Some(test) = &self.out_interface {
            option(test.sense, "-o", &test.value, out);
        }
        if let Some(test) = &self.transport {
            option(test.sense, "-p", test.value, out);
        }
        if let Some(sense) = self.fragment {
            not(sense, out);
            out.push_str(" -f");
        }
        for m in &self.matches {
            out.push_str(" -m ");
            m.write(out);
        }
        if let Some(target) = &self.target {
            target.write(family, out);
        }
    }
}

fn not(sense: Sense, out: &mut String) {
    if sense == Sense::Not {
        out.push_str(" !");
    }
}

fn option(sense: Sense, name: &str, value: impl fmt::Display, out: &mut String) {
    not(sense, out);
    let _ = write!(out, " {name} {value}");
}

fn net_test(name: &str, test: Option<&Test<Net>>, out: &mut String) {
    if let Some(test) = test {
        option(test.sense, name, test.value, out);
    }
}

impl fmt::Display for Net {
    /// As `iptables-save`: always with the prefix length, or with the mask where it has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix() {
            Some(prefix) => write!(f, "{}/{prefix}", self.address()),
            None => write!(f, "{}/{}", self.address(), self.mask()),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl fmt::Display for CtStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(state, _)| self.intersects(*state)).map(|(_, name)| *name);
        list(f, names)
    }
}

impl fmt::Display for AddressTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(
            f,
            Self::NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name),
        )
    }
}

fn list<'a>(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'a str>) -> fmt::Result {
    for (index, name) in names.enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        f.write_str(name)?;
    }
    Ok(())
}

/// Appends a word the way iptables does: in double quotes unless it is made of letters, digits, `_` and `-` alone,
/// with `"`, `\` and `'` escaped.
pub(super) fn quote(word: &str, out: &mut String) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !word.is_empty() && word.bytes().all(plain) {
        out.push_str(word);
        return;
    }
    out.push('"');
    quote_inner(word, out);
    out.push('"');
}

/// Appends what stands between the quotes.
pub(super) fn quote_inner(word: &str, out: &mut String) {
    for c in word.chars() {
        if matches!(c, '"' | '\\' | '\'') {
            out.push('\\');
        }
        out.push(c);
    }
}

impl Match {
    /// Appends the module's name and its options.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Comment(text) => {
                out.push_str("comment --comment ");
                quote(text, out);
            }
            Self::Ports(ports) => {
                out.push_str(ports.module.name());
                if let Some(test) = &ports.source {
                    option(test.sense, "--sport", test.value, out);
                }
                if let Some(test) = &ports.destination {
                    option(test.sense, "--dport", test.value, out);
                }
            }
            Self::State(module, test) => {
                let (module, name) = match module {
                    StateModule::Conntrack => ("conntrack", "--ctstate"),
                    StateModule::State => ("state", "--state"),
                };
                out.push_str(module);
                if test.value != CtStates::default() {
                    option(test.sense, name, test.value, out);
                }
            }
            Self::Mark(test) => {
                out.push_str("mark");
                not(test.sense, out);
                let _ = write!(out, " --mark {:#x}", test.value.value);
                if test.value.mask != u32::MAX {
                    let _ = write!(out, "/{:#x}", test.value.mask);
                }
            }
            Self::AddrType(test) => {
                out.push_str("addrtype");
                if let Some(test) = &test.source {
                    option(test.sense, "--src-type", test.value, out);
                }
                if let Some(test) = &test.destination {
                    option(test.sense, "--dst-type", test.value, out);
                }
            }
            Self::Random(test) => {
                out.push_str("statistic --mode random");
                not(test.sense, out);
                let _ = write!(out, " --probability {:.11}", f64::from(test.value) / 2_147_483_648.0);
            }
            Self::Recent(recent) => recent.write(out),
            Self::Set(test) => {
                out.push_str("set");
                not(test.sense, out);
                let _ = write!(out, " --match-set {} ", test.value.name);
                for (index, side) in test.value.sides.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(match side {
                        Side::Source => "src",
                        Side::Destination => "dst",
                    });
                }
            }
            Self::PhysdevIsIn(sense) => {
                out.push_str("physdev");
                not(*sense, out);
                out.push_str(" --physdev-is-in");
            }
            Self::Nfacct(name) => {
                out.push_str("nfacct --nfacct-name ");
                out.push_str(name);
            }
            Self::Ipvs(test) => {
                out.push_str("ipvs");
                if let Some(test) = &test.transport {
                    option(test.sense, "--vproto", test.value.0, out);
                }
                net_test("--vaddr", test.address.as_ref(), out);
                if let Some(test) = &test.port {
                    option(test.sense, "--vport", test.value, out);
                }
            }
            Self::Opaque(text) => out.push_str(text),
        }
    }
}

impl Recent {
    fn write(&self, out: &mut String) {
        out.push_str("recent");
        not(self.action.sense, out);
        out.push_str(match self.action.value {
            RecentAction::Set => " --set",
            RecentAction::Check => " --rcheck",
            RecentAction::Update => " --update",
            RecentAction::Remove => " --remove",
        });
        if self.seconds > 0 {
            let _ = write!(out, " --seconds {}", self.seconds);
        }
        if self.reap {
            out.push_str(" --reap");
        }
        if self.hitcount > 0 {
            let _ = write!(out, " --hitcount {}", self.hitcount);
        }
        if self.rttl {
            out.push_str(" --rttl");
        }
        let _ = write!(out, " --name {} --mask {}", self.list, self.mask);
        out.push_str(match self.side {
            Side::Source => " --rsource",
            Side::Destination => " --rdest",
        });
    }
}

impl Target {
    /// Appends ` -j` or ` -g` and what follows.
    pub(super) fn write(&self, family: Family, out: &mut String) {
        out.push_str(if matches!(self, Self::Goto(_)) { " -g " } else { " -j " });
        match self {
            Self::Jump(chain) | Self::Goto(chain) => out.push_str(chain),
            Self::Accept => out.push_str("ACCEPT"),
            Self::Drop => out.push_str("DROP"),
            Self::Return => out.push_str("RETURN"),
            Self::Reject(with) => {
                out.push_str("REJECT");
                if let Some(name) = with.name(family) {
                    out.push_str(" --reject-with ");
                    out.push_str(name);
                }
            }
            Self::Mark { value, mask } => {
                let _ = write!(out, "MARK --set-xmark {value:#x}/{mask:#x}");
            }
            Self::Dnat { address, port } => {
                let _ = match (address, port) {
                    (IpAddr::V6(_), Some(port)) => write!(out, "DNAT --to-destination [{address}]:{port}"),
                    (_, Some(port)) => write!(out, "DNAT --to-destination {address}:{port}"),
                    (_, None) => write!(out, "DNAT --to-destination {address}"),
                };
            }
            Self::Snat(address) => {
                let _ = write!(out, "SNAT --to-source {address}");
            }
            Self::Masquerade(draw) => out.push_str(match draw {
                PortDraw::Keep => "MASQUERADE",
                PortDraw::Random => "MASQUERADE --random",
                PortDraw::FullyRandom => "MASQUERADE --random-fully",
            }),
            Self::Opaque(text) => out.push_str(text),
        }
    }
}
