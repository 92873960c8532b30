//! The text form: commands that build a ruleset from nothing, and single rules in nft's words.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};
use core::time::Duration;

use super::model::{
    Base, Chain, ChainKind, Comparison, Data, DataType, Datum, Element, End, Expression, MapRef, Numgen,
    Operand, Policy, Rule, Ruleset, Set, Statement, Table, TableFamily, Verdict,
};
use super::value;
use crate::outcome::RejectWith;
use crate::packet::{Family, Transport};

impl Ruleset {
    /// Commands for `nft -f` that build this ruleset where there is none: tables in order, and in each chains, sets,
    /// rules and elements, each kind in order of name and key.
    pub fn commands(&self) -> String {
        let mut out = String::new();
        for table in self.tables() {
            // Writing to a String cannot fail.
            let _ = table.write(&mut out);
        }
        out
    }
}

impl Table {
    fn write(&self, out: &mut String) -> fmt::Result {
        let at = alloc::format!("{} {}", self.family.name(), self.name);
        write!(out, "add table {at}")?;
        if let Some(comment) = &self.comment {
            write!(out, " {{ comment \"{comment}\" ; }}")?;
        }
        out.push('\n');
        for (name, chain) in self.chains() {
            write!(out, "add chain {at} {name}")?;
            chain.write_head(out)?;
            out.push('\n');
        }
        for (name, set) in self.sets() {
            let kind = if set.value.is_some() { "map" } else { "set" };
            write!(out, "add {kind} {at} {name} ")?;
            set.write_head(out)?;
            out.push('\n');
        }
        for (name, chain) in self.chains() {
            for rule in &chain.rules {
                writeln!(out, "add rule {at} {name} {}", rule.text(self.family))?;
            }
        }
        for (name, set) in self.sets() {
            for (key, element) in set.elements() {
                writeln!(out, "add element {at} {name} {{ {} }}", set.element_text(key, element))?;
            }
        }
        Ok(())
    }
}

impl Chain {
    /// What follows its name where it is declared: nothing, or options in braces.
    pub fn declaration(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_head(&mut out);
        out.trim_start().into()
    }

    fn write_head(&self, out: &mut String) -> fmt::Result {
        if self.base.is_none() && self.comment.is_none() {
            return Ok(());
        }
        out.push_str(" {");
        if let Some(Base { kind, hook, priority, policy }) = &self.base {
            let kind = match kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
                ChainKind::Route => "route",
            };
            write!(out, " type {kind} hook {} priority {priority} ;", hook.name())?;
            if *policy == Policy::Drop {
                out.push_str(" policy drop ;");
            }
        }
        if let Some(comment) = &self.comment {
            write!(out, " comment \"{comment}\" ;")?;
        }
        out.push_str(" }");
        Ok(())
    }
}

impl Set {
    /// What follows its name where it is declared: its type and options in braces.
    pub fn declaration(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_head(&mut out);
        out
    }

    /// An element as it is written: its key, and in a map what it stands for.
    pub fn element_text(&self, key: &[Datum], element: &Element) -> String {
        let mut out = tuple_text(key, &self.key);
        // Writing to a String cannot fail.
        let _ = element.write(self, &mut out);
        out
    }

    fn write_head(&self, out: &mut String) -> fmt::Result {
        match (&self.like, &self.value) {
            (Some((key, Some(value))), _) => write!(out, "{{ typeof {key} : {value}")?,
            (Some((key, None)), Some(_)) => write!(out, "{{ typeof {key} : verdict")?,
            (Some((key, None)), None) => write!(out, "{{ typeof {key}")?,
            (None, value) => {
                out.push_str("{ type ");
                types(&self.key, out);
                if let Some(value) = value {
                    out.push_str(" : ");
                    types(value, out);
                }
            }
        }
        out.push_str(" ;");
        let flags = [
            (self.flags.constant, "constant"),
            (self.flags.interval, "interval"),
            (self.flags.dynamic, "dynamic"),
            (self.flags.timeout, "timeout"),
        ];
        let mut separator = " flags ";
        for (_, name) in flags.iter().filter(|(set, _)| *set) {
            write!(out, "{separator}{name}")?;
            separator = ",";
        }
        if separator == "," {
            out.push_str(" ;");
        }
        if let Some(timeout) = self.timeout {
            out.push_str(" timeout ");
            duration(timeout, out)?;
            out.push_str(" ;");
        }
        if let Some(size) =
            self.size.filter(|size| !self.flags.dynamic || *size != Self::DEFAULT_DYNAMIC_SIZE)
        {
            write!(out, " size {size} ;")?;
        }
        if let Some(comment) = &self.comment {
            write!(out, " comment \"{comment}\" ;")?;
        }
        out.push_str(" }");
        Ok(())
    }
}

impl Element {
    fn write(&self, set: &Set, out: &mut String) -> fmt::Result {
        if let Some(timeout) = self.timeout {
            out.push_str(" timeout ");
            duration(timeout, out)?;
        }
        if let Some(comment) = &self.comment {
            write!(out, " comment \"{comment}\"")?;
        }
        match &self.data {
            None => {}
            Some(Data::Verdict(verdict)) => write!(out, " : {verdict}")?,
            Some(Data::Tuple(data)) => {
                write!(out, " : {}", tuple_text(data, set.value.as_deref().unwrap_or_default()))?;
            }
        }
        Ok(())
    }
}

fn types(types: &[DataType], out: &mut String) {
    for (index, kind) in types.iter().enumerate() {
        if index > 0 {
            out.push_str(" . ");
        }
        out.push_str(kind.name());
    }
}

/// In seconds where it is whole seconds, so that it reads as it was written.
fn duration(duration: Duration, out: &mut String) -> fmt::Result {
    let millis = duration.subsec_millis();
    if millis == 0 {
        write!(out, "{}s", duration.as_secs())
    } else {
        write!(out, "{}s{millis}ms", duration.as_secs())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Continue => f.write_str("continue"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Numbers(first, last) => write!(f, "{first}-{last}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Network(network) => write!(f, "{network}"),
            Self::Addresses(first, last) => write!(f, "{first}-{last}"),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

/// A key or value in nft's words: parts with dots between them.
pub(super) fn tuple_text(tuple: &[Datum], types: &[DataType]) -> String {
    let mut text = String::new();
    for (index, datum) in tuple.iter().enumerate() {
        if index > 0 {
            text.push_str(" . ");
        }
        let protocol = match (datum, types.get(index)) {
            (Datum::Number(number), Some(DataType::InetProto)) => {
                u8::try_from(*number).ok().and_then(|number| Transport(number).name())
            }
            _ => None,
        };
        // Writing to a String cannot fail.
        let _ = match (protocol, datum, types.get(index)) {
            (Some(name), ..) => write!(text, "{name}"),
            (None, Datum::Number(mark), Some(DataType::Mark)) => write!(text, "{mark:#010x}"),
            (None, datum, _) => write!(text, "{datum}"),
        };
    }
    text
}

impl Rule {
    /// The rule in nft's words.
    pub fn text(&self, family: TableFamily) -> String {
        let mut out = String::new();
        for statement in &self.statements {
            if !out.is_empty() {
                out.push(' ');
            }
            // Writing to a String cannot fail.
            let _ = statement.write(family, &mut out);
        }
        if let Some(comment) = &self.comment {
            let _ = write!(out, " comment \"{comment}\"");
        }
        out
    }
}

impl Statement {
    fn write(&self, family: TableFamily, out: &mut String) -> fmt::Result {
        match self {
            Self::Match { left, comparison, right } => {
                write!(out, "{left} ")?;
                if *comparison == Comparison::NotEqual {
                    out.push_str("!= ");
                } else if matches!(left, Expression::Mark(_)) {
                    out.push_str("== ");
                }
                match right {
                    Operand::Tuple(value) => out.push_str(&operand(value, left)),
                    Operand::Set(name) => write!(out, "@{name}")?,
                    Operand::Inline(items) => list(items.iter().map(|item| operand(item, left)), out),
                }
                Ok(())
            }
            Self::VerdictMap(key, map) => {
                write!(out, "{key} vmap ")?;
                map_ref(map, key, |verdict, _| verdict.to_string(), out)
            }
            Self::Verdict(verdict) => write!(out, "{verdict}"),
            Self::SetMark { mask: 0, xor } => write!(out, "meta mark set {xor:#010x}"),
            Self::SetMark { mask: u32::MAX, xor } => write!(out, "meta mark set meta mark ^ {xor:#010x}"),
            Self::SetMark { mask, xor: 0 } => write!(out, "meta mark set meta mark & {mask:#010x}"),
            Self::SetMark { xor, .. } => write!(out, "meta mark set meta mark | {xor:#010x}"),
            Self::Dnat(to) => translation("dnat", to, family, out),
            Self::Snat(to) => translation("snat", to, family, out),
            Self::Masquerade { fully_random } => {
                out.push_str(if *fully_random { "masquerade fully-random" } else { "masquerade" });
                Ok(())
            }
            Self::Reject(RejectWith::PortUnreachable) => out.write_str("reject"),
            Self::Reject(RejectWith::TcpReset) => out.write_str("reject with tcp reset"),
            Self::Reject(with) => {
                let (family, protocol) =
                    if family == TableFamily::Ip6 { (Family::V6, "icmpv6") } else { (Family::V4, "icmp") };
                write!(out, "reject with {protocol} {}", super::rule::reject_word(*with, family))
            }
            Self::SetAddress(end, to) => {
                let family = if family == TableFamily::Ip6 { family } else { TableFamily::Ip };
                write!(out, "{} set {to}", Expression::Address(family, *end))
            }
            Self::Remember { set, key, timeout, refresh } => {
                write!(out, "{} @{set} {{ {key}", if *refresh { "update" } else { "add" })?;
                if let Some(timeout) = timeout {
                    out.push_str(" timeout ");
                    duration(*timeout, out)?;
                }
                out.write_str(" }")
            }
            Self::Forget { set, key } => write!(out, "delete @{set} {{ {key} }}"),
            Self::Note(text) | Self::Opaque(text) => out.write_str(text),
        }
    }
}

fn list(items: impl Iterator<Item = String>, out: &mut String) {
    out.push_str("{ ");
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(&item);
    }
    out.push_str(" }");
}

/// A value as it is written beside this expression.
fn operand(value: &[Datum], left: &Expression) -> String {
    let names = value::names(left);
    let [Datum::Number(number)] = value else { return tuple_text(value, &left.types()) };
    if names.is_empty() {
        return tuple_text(value, &left.types());
    }
    if let Some((name, _)) = names.iter().find(|(_, bits)| bits == number) {
        return (*name).to_string();
    }
    let known = names.iter().fold(0, |all, (_, bit)| all | bit);
    if matches!(left, Expression::FibType(_)) || *number == 0 || number & !known != 0 {
        return number.to_string();
    }
    let mut text = String::new();
    for (name, _) in names.iter().filter(|(_, bit)| number & bit != 0) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
    }
    text
}

fn map_ref<T>(
    map: &MapRef<T>,
    key: &Expression,
    data: impl Fn(&T, &Expression) -> String,
    out: &mut String,
) -> fmt::Result {
    match map {
        MapRef::Named(name) => write!(out, "@{name}"),
        MapRef::Inline(items) => {
            let items = items.iter().map(|(item, value)| {
                let mut text = operand(item, key);
                text.push_str(" : ");
                text.push_str(&data(value, key));
                text
            });
            list(items, out);
            Ok(())
        }
    }
}

fn translation(verb: &str, to: &Expression, family: TableFamily, out: &mut String) -> fmt::Result {
    match to {
        Expression::Map(key, map) => {
            let family = if family == TableFamily::Ip6 { "ip6" } else { "ip" };
            // A map by name says itself that it gives ports; nft takes one with random parts in this way only.
            let parts = if matches!(map, MapRef::Named(_)) { "" } else { " addr . port" };
            write!(out, "{verb} {family}{parts} to {key} map ")?;
            map_ref(map, key, |value, _| tuple_text(value, &[]), out)
        }
        Expression::Concat(parts) => match parts.as_slice() {
            [Expression::Value(Datum::Address(address)), Expression::Value(Datum::Number(port))] => {
                let port = u16::try_from(*port).unwrap_or_default();
                write!(out, "{verb} to {}", core::net::SocketAddr::new(*address, port))
            }
            _ => write!(out, "{verb} to {to}"),
        },
        other => write!(out, "{verb} to {other}"),
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |family: &TableFamily| if *family == TableFamily::Ip6 { "ip6" } else { "ip" };
        match self {
            Self::Address(of, End::Source) => write!(f, "{} saddr", family(of)),
            Self::Address(of, End::Destination) => write!(f, "{} daddr", family(of)),
            Self::L4Proto => f.write_str("meta l4proto"),
            Self::Protocol(TableFamily::Ip6) => f.write_str("ip6 nexthdr"),
            Self::Protocol(_) => f.write_str("ip protocol"),
            Self::Port(transport, end) => {
                let of = transport.and_then(Transport::name).unwrap_or("th");
                let end = if *end == End::Source { "sport" } else { "dport" };
                write!(f, "{of} {end}")
            }
            Self::Mark(u32::MAX) => f.write_str("meta mark"),
            Self::Mark(mask) => write!(f, "meta mark & {mask:#010x}"),
            Self::InputName => f.write_str("iifname"),
            Self::OutputName => f.write_str("oifname"),
            Self::CtState => f.write_str("ct state"),
            Self::CtStatus => f.write_str("ct status"),
            Self::Original(of, end) => write!(f, "ct original {}", Self::Address(*of, *end)),
            Self::FibType(End::Source) => f.write_str("fib saddr type"),
            Self::FibType(End::Destination) => f.write_str("fib daddr type"),
            Self::Numgen { mode, modulus, offset } => {
                let mode = if *mode == Numgen::Random { "random" } else { "inc" };
                write!(f, "numgen {mode} mod {modulus}")?;
                if *offset > 0 { write!(f, " offset {offset}") } else { Ok(()) }
            }
            Self::Value(datum) => write!(f, "{datum}"),
            Self::Concat(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" . ")?;
                    }
                    write!(f, "{part}")?;
                }
                Ok(())
            }
            Self::Map(key, map) => {
                let mut text = String::new();
                map_ref(map, key, |value, _| tuple_text(value, &[]), &mut text)?;
                write!(f, "{key} map {text}")
            }
        }
    }
}
