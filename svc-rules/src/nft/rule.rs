//! Words into rules.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use smol_str::SmolStr;

use super::error::ErrorKind;
use super::model::{
    Comparison, DataType, Datum, End, Expression, MapRef, Numgen, Operand, Rule, Statement, TableFamily,
    Tuple, Verdict,
};
use super::value::{any_datum, datum, names, number};
use super::words::{Word, Words};
use crate::outcome::RejectWith;
use crate::packet::{Family, Transport};

type Result<T> = core::result::Result<T, ErrorKind>;

/// Reads a rule to the end of its line.
pub(super) fn rule(words: &mut Words<'_>, family: TableFamily) -> Result<Rule> {
    let mut rule = Rule::default();
    loop {
        match words.peek() {
            None => return Ok(rule),
            Some(word) if word.ends() => return Ok(rule),
            Some(word) if word.is("comment") => {
                words.next();
                rule.comment = Some(next(words, "comment")?.text.into());
                // Nothing comes after it.
                return match words.peek() {
                    Some(word) if !word.ends() => Err(unexpected(&word)),
                    _ => Ok(rule),
                };
            }
            Some(_) => {
                let before = *words;
                let statement = match statement(words, family) {
                    Ok(Some(statement)) => statement,
                    // Not understood: the rest of the rule stands in its words, read from where it began.
                    Ok(None) | Err(ErrorKind::Unexpected(_)) => {
                        *words = before;
                        Statement::Opaque(rest(words))
                    }
                    Err(error) => return Err(error),
                };
                rule.statements.push(statement);
            }
        }
    }
}

pub(super) fn next<'a>(words: &mut Words<'a>, after: &str) -> Result<Word<'a>> {
    words.next().ok_or_else(|| ErrorKind::Missing(after.into()))
}

/// A name, which is never quoted nor a sign.
pub(super) fn name<'a>(words: &mut Words<'a>, after: &str) -> Result<&'a str> {
    let word = next(words, after)?;
    let sign = word.ends() || word.is("{") || word.is(",");
    if word.quoted || sign { Err(unexpected(&word)) } else { Ok(word.text) }
}

pub(super) fn duration(words: &mut Words<'_>, after: &str) -> Result<Duration> {
    let word = next(words, after)?;
    super::value::duration(word.text)
        .ok_or_else(|| ErrorKind::Value { what: "duration".into(), value: word.text.into() })
}

pub(super) fn unexpected(word: &Word<'_>) -> ErrorKind {
    ErrorKind::Unexpected(word.text.into())
}

/// The words up to the end of the rule or to its comment, braces in balance.
fn rest(words: &mut Words<'_>) -> SmolStr {
    let mut text = String::new();
    let mut depth = 0_usize;
    while let Some(word) = words.peek() {
        if depth == 0 && (word.ends() || word.is("comment")) || word.is("\n") {
            break;
        }
        words.next();
        match word.text {
            "{" if !word.quoted => depth += 1,
            "}" if !word.quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !text.is_empty() && !word.is(",") {
            text.push(' ');
        }
        text.push_str(&word.written());
    }
    text.into()
}

/// Reads one statement; `None` if its first word is not known.
fn statement(words: &mut Words<'_>, family: TableFamily) -> Result<Option<Statement>> {
    if let Some(verdict) = verdict(words)? {
        return Ok(Some(Statement::Verdict(verdict)));
    }
    let ahead = *words;
    let word = next(words, "rule")?;
    let made = match word.text {
        "dnat" => Statement::Dnat(translation(words)?),
        "snat" => Statement::Snat(translation(words)?),
        "masquerade" => masquerade(words),
        "reject" => Statement::Reject(reject(words, family)?),
        "update" | "add" | "delete" if words.peek().is_some_and(|word| word.text.starts_with('@')) => {
            let set = set_name(words)?;
            expect(words, "{")?;
            let key = expression(words)?;
            let timeout = if words.take_if("timeout") { Some(duration(words, "timeout")?) } else { None };
            expect(words, "}")?;
            match word.text {
                "delete" => Statement::Forget { set, key },
                verb => Statement::Remember { set, key, timeout, refresh: verb == "update" },
            }
        }
        "counter" => {
            let mut text = String::from("counter");
            // Either `packets N bytes N` or nothing; the numbers are not part of the rule.
            if words.take_if("packets") {
                next(words, "packets")?;
                expect(words, "bytes")?;
                next(words, "bytes")?;
            } else if words.take_if("name") {
                text.push_str(" name ");
                text.push_str(&next(words, "name")?.written());
            }
            Statement::Note(text.into())
        }
        _ => {
            *words = ahead;
            return test_or_mark(words);
        }
    };
    Ok(Some(made))
}

/// A verdict, if the next words are one.
pub(super) fn verdict(words: &mut Words<'_>) -> Result<Option<Verdict>> {
    let Some(word) = words.peek().filter(|word| !word.quoted) else { return Ok(None) };
    let simple = match word.text {
        "accept" => Some(Verdict::Accept),
        "drop" => Some(Verdict::Drop),
        "return" => Some(Verdict::Return),
        "continue" => Some(Verdict::Continue),
        "jump" | "goto" => None,
        _ => return Ok(None),
    };
    words.next();
    Ok(Some(match simple {
        Some(verdict) => verdict,
        None => {
            let chain = name(words, word.text)?.into();
            if word.text == "jump" { Verdict::Jump(chain) } else { Verdict::Goto(chain) }
        }
    }))
}

fn expect(words: &mut Words<'_>, text: &str) -> Result<()> {
    let word = next(words, text)?;
    if word.is(text) { Ok(()) } else { Err(unexpected(&word)) }
}

fn set_name(words: &mut Words<'_>) -> Result<SmolStr> {
    let word = next(words, "@")?;
    let name = word.text.strip_prefix('@').filter(|name| !word.quoted && !name.is_empty());
    name.map(SmolStr::from).ok_or_else(|| unexpected(&word))
}

/// What begins with an expression: a test, a verdict map, or setting the mark.
fn test_or_mark(words: &mut Words<'_>) -> Result<Option<Statement>> {
    let left = match expression(words) {
        Ok(left) => left,
        Err(ErrorKind::Unexpected(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if words.take_if("vmap") {
        let map = map_ref(words, &left, &mut |words| {
            verdict(words)?
                .ok_or_else(|| words.peek().map_or(ErrorKind::Missing("vmap".into()), |w| unexpected(&w)))
        })?;
        return Ok(Some(Statement::VerdictMap(left, map)));
    }
    if left == Expression::Mark(u32::MAX) && words.take_if("set") {
        return mark(words).map(Some);
    }
    if let Expression::Address(_, end) = left
        && words.take_if("set")
    {
        let key = expression(words)?;
        let to = if words.take_if("map") { map_of(key, words)? } else { key };
        return Ok(Some(Statement::SetAddress(end, to)));
    }
    let comparison = if words.take_if("!=") {
        Comparison::NotEqual
    } else {
        words.take_if("==");
        Comparison::Equal
    };
    let right = operand(words, &left)?;
    Ok(Some(Statement::Match { left, comparison, right }))
}

/// `meta mark set ..`: a number, or the mark under `and`, `or`, `xor`.
fn mark(words: &mut Words<'_>) -> Result<Statement> {
    let first = next(words, "set")?;
    if let Some(value) = number(first.text) {
        return Ok(Statement::SetMark { mask: 0, xor: value });
    }
    let named = first.is("mark") || first.is("meta") && words.take_if("mark");
    if !named {
        return Err(unexpected(&first));
    }
    let operator = next(words, "mark")?;
    let operand = next(words, operator.text)?;
    let bits = number(operand.text).ok_or_else(|| unexpected(&operand))?;
    Ok(match operator.text {
        "or" | "|" => Statement::SetMark { mask: !bits, xor: bits },
        "xor" | "^" => Statement::SetMark { mask: u32::MAX, xor: bits },
        "and" | "&" => Statement::SetMark { mask: bits, xor: 0 },
        _ => return Err(unexpected(&operator)),
    })
}

/// An expression, or several put together with dots.
pub(super) fn expression(words: &mut Words<'_>) -> Result<Expression> {
    let first = primary(words)?;
    if !words.take_if(".") {
        return Ok(first);
    }
    let mut parts = Vec::from([first, primary(words)?]);
    while words.take_if(".") {
        parts.push(primary(words)?);
    }
    Ok(Expression::Concat(parts))
}

fn primary<'a>(words: &mut Words<'a>) -> Result<Expression> {
    let word = next(words, "expression")?;
    if word.quoted {
        return Err(unexpected(&word));
    }
    let field = |words: &mut Words<'a>| next(words, word.text);
    let made = match word.text {
        "ip" | "ip6" => {
            let family = if word.text == "ip" { TableFamily::Ip } else { TableFamily::Ip6 };
            let field = field(words)?;
            match field.text {
                "saddr" => Expression::Address(family, End::Source),
                "daddr" => Expression::Address(family, End::Destination),
                "protocol" | "nexthdr" => Expression::Protocol(family),
                _ => return Err(unexpected(&field)),
            }
        }
        "tcp" | "udp" | "sctp" | "th" => {
            let transport = Transport::parse(word.text);
            let field = field(words)?;
            match field.text {
                "sport" => Expression::Port(transport, End::Source),
                "dport" => Expression::Port(transport, End::Destination),
                _ => return Err(unexpected(&field)),
            }
        }
        "meta" => {
            let field = field(words)?;
            meta(field.text, words).ok_or_else(|| unexpected(&field))?
        }
        "ct" => {
            let field = field(words)?;
            match field.text {
                "state" => Expression::CtState,
                "status" => Expression::CtStatus,
                "original" => match primary(words)? {
                    Expression::Address(family, end) => Expression::Original(family, end),
                    _ => return Err(unexpected(&field)),
                },
                _ => return Err(unexpected(&field)),
            }
        }
        "fib" => {
            let end = field(words)?;
            let end = match end.text {
                "saddr" => End::Source,
                "daddr" => End::Destination,
                _ => return Err(unexpected(&end)),
            };
            expect(words, "type")?;
            Expression::FibType(end)
        }
        "numgen" => numgen(words)?,
        other => meta(other, words).ok_or_else(|| unexpected(&word))?,
    };
    Ok(made)
}

fn meta(key: &str, words: &mut Words<'_>) -> Option<Expression> {
    Some(match key {
        "l4proto" => Expression::L4Proto,
        "iifname" => Expression::InputName,
        "oifname" => Expression::OutputName,
        "mark" => {
            let mut ahead = *words;
            let masked = ahead.next().is_some_and(|word| word.is("and") || word.is("&"));
            match ahead.next().filter(|_| masked).and_then(|word| number(word.text)) {
                Some(mask) => {
                    *words = ahead;
                    Expression::Mark(mask)
                }
                None => Expression::Mark(u32::MAX),
            }
        }
        _ => return None,
    })
}

fn numgen(words: &mut Words<'_>) -> Result<Expression> {
    let mode = next(words, "numgen")?;
    let mode = match mode.text {
        "random" => Numgen::Random,
        "inc" => Numgen::Increment,
        _ => return Err(unexpected(&mode)),
    };
    expect(words, "mod")?;
    let modulus = a_number(words, "mod")?;
    if modulus == 0 {
        return Err(ErrorKind::Value { what: "mod".into(), value: "0".into() });
    }
    let offset = if words.take_if("offset") { a_number(words, "offset")? } else { 0 };
    Ok(Expression::Numgen { mode, modulus, offset })
}

fn a_number(words: &mut Words<'_>, what: &str) -> Result<u32> {
    let word = next(words, what)?;
    number(word.text).ok_or_else(|| ErrorKind::Value { what: what.into(), value: word.text.into() })
}

/// One value of the given types; parts beyond them are read as what they look like.
pub(super) fn tuple(words: &mut Words<'_>, types: &[DataType]) -> Result<Tuple> {
    let mut parts = Vec::new();
    let mut types = types.iter();
    loop {
        let word = next(words, "value")?;
        let read = match types.next() {
            Some(kind) => datum(word.text, *kind),
            None => any_datum(word.text),
        };
        parts.push(read.ok_or_else(|| ErrorKind::Value { what: "element".into(), value: word.text.into() })?);
        if !words.take_if(".") {
            return Ok(parts);
        }
    }
}

/// The right side of a test.
fn operand(words: &mut Words<'_>, left: &Expression) -> Result<Operand> {
    let Some(word) = words.peek() else { return Err(ErrorKind::Missing("value".into())) };
    if word.ends() {
        return Err(unexpected(&word));
    }
    if !word.quoted && word.text.starts_with('@') {
        return set_name(words).map(Operand::Set);
    }
    if !words.take_if("{") {
        return value(words, left).map(Operand::Tuple);
    }
    let mut items = Vec::new();
    loop {
        words.skip_lines();
        if words.take_if("}") {
            break;
        }
        items.push(value(words, left)?);
        words.skip_lines();
        words.take_if(",");
    }
    items.sort();
    items.dedup();
    Ok(match <[Tuple; 1]>::try_from(items) {
        Ok([only]) => Operand::Tuple(only),
        Err(items) => Operand::Inline(items),
    })
}

/// One value to compare with: by the names that the left side gives its numbers, or by its types.
fn value(words: &mut Words<'_>, left: &Expression) -> Result<Tuple> {
    let names = names(left);
    if names.is_empty() {
        return tuple(words, &left.types());
    }
    let mut flags = 0;
    loop {
        let word = next(words, "value")?;
        let named = names.iter().find(|(name, _)| *name == word.text).map(|(_, bits)| *bits);
        let bits = named.or_else(|| number(word.text));
        flags |= bits.ok_or_else(|| ErrorKind::Value { what: "flag".into(), value: word.text.into() })?;
        let mut ahead = *words;
        let more = !matches!(left, Expression::FibType(_))
            && ahead.next().is_some_and(|word| word.is(","))
            && ahead.next().is_some_and(|word| names.iter().any(|(name, _)| *name == word.text));
        // Inside braces a comma parts elements, and `ct state { new, established }` tests for either, as flags do.
        if !more {
            return Ok(Vec::from([Datum::Number(flags)]));
        }
        words.next();
    }
}

/// A map by name or in braces.
fn map_ref<T: Clone>(
    words: &mut Words<'_>,
    key: &Expression,
    data: &mut dyn FnMut(&mut Words<'_>) -> Result<T>,
) -> Result<MapRef<T>> {
    if words.peek().is_some_and(|word| !word.quoted && word.text.starts_with('@')) {
        return set_name(words).map(MapRef::Named);
    }
    expect(words, "{")?;
    let mut items = Vec::new();
    loop {
        words.skip_lines();
        if words.take_if("}") {
            break;
        }
        let key = value(words, key)?;
        expect(words, ":")?;
        items.push((key, data(words)?));
        words.skip_lines();
        words.take_if(",");
    }
    items.sort_by(|(a, _): &(Tuple, T), (b, _)| a.cmp(b));
    Ok(MapRef::Inline(items))
}

/// What follows `dnat` or `snat`: an address with or without a port, or a map.
///
/// `dnat to`, `dnat ip to` and `dnat ip addr . port to` differ in how they are written only.
fn translation(words: &mut Words<'_>) -> Result<Expression> {
    let _ = words.take_if("ip") || words.take_if("ip6");
    if words.take_if("addr") {
        expect(words, ".")?;
        expect(words, "port")?;
    }
    expect(words, "to")?;
    let Some(word) = words.peek() else { return Err(ErrorKind::Missing("to".into())) };
    if let Some(place) = socket(word.text) {
        words.next();
        return Ok(place);
    }
    mapped(words)
}

/// `KEY map MAP`.
fn mapped(words: &mut Words<'_>) -> Result<Expression> {
    let key = expression(words)?;
    expect(words, "map")?;
    map_of(key, words)
}

fn map_of(key: Expression, words: &mut Words<'_>) -> Result<Expression> {
    let map = map_ref(words, &key, &mut |words| tuple(words, &[]))?;
    Ok(Expression::Map(Box::new(key), map))
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn socket(text: &str) -> Option<Expression> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Expression::Value(Datum::Address(address)));
    }
    let socket: SocketAddr = text.parse().ok()?;
    let parts = [Datum::Address(socket.ip()), Datum::Number(socket.port().into())];
    Some(Expression::Concat(parts.map(Expression::Value).into()))
}

fn masquerade(words: &mut Words<'_>) -> Statement {
    let mut fully_random = false;
    while let Some(word) = words.peek() {
        match word.text {
            "fully-random" => fully_random = true,
            "random" | "persistent" => {}
            _ => break,
        }
        words.next();
        words.take_if(",");
    }
    Statement::Masquerade { fully_random }
}

fn reject(words: &mut Words<'_>, family: TableFamily) -> Result<RejectWith> {
    if !words.take_if("with") {
        return Ok(RejectWith::PortUnreachable);
    }
    let kind = next(words, "with")?;
    if kind.is("tcp") {
        expect(words, "reset")?;
        return Ok(RejectWith::TcpReset);
    }
    // Older versions write `icmp type port-unreachable`, newer ones leave out `type`.
    words.take_if("type");
    let word = next(words, kind.text)?;
    let ip = if kind.is("icmpv6") || family == TableFamily::Ip6 { Family::V6 } else { Family::V4 };
    reject_with(word.text, ip).ok_or_else(|| unexpected(&word))
}

/// nft's words for the answers, and in which family each is one.
const REJECTS: [(&str, Family, RejectWith); 12] = [
    ("port-unreachable", Family::V4, RejectWith::PortUnreachable),
    ("net-unreachable", Family::V4, RejectWith::NetUnreachable),
    ("host-unreachable", Family::V4, RejectWith::HostUnreachable),
    ("prot-unreachable", Family::V4, RejectWith::ProtocolUnreachable),
    ("net-prohibited", Family::V4, RejectWith::NetProhibited),
    ("host-prohibited", Family::V4, RejectWith::HostProhibited),
    ("admin-prohibited", Family::V4, RejectWith::AdminProhibited),
    ("port-unreachable", Family::V6, RejectWith::PortUnreachable),
    ("no-route", Family::V6, RejectWith::NetUnreachable),
    ("addr-unreachable", Family::V6, RejectWith::HostUnreachable),
    ("admin-prohibited", Family::V6, RejectWith::AdminProhibited),
    ("policy-fail", Family::V6, RejectWith::PolicyFail),
];

fn reject_with(text: &str, family: Family) -> Option<RejectWith> {
    REJECTS.iter().find(|(word, of, _)| *word == text && *of == family).map(|(.., with)| *with)
}

/// The word for an answer; the default one for those that the family does not have.
pub(super) fn reject_word(with: RejectWith, family: Family) -> &'static str {
    REJECTS
        .iter()
        .find(|(_, of, known)| *known == with && *of == family)
        .map_or("port-unreachable", |(word, ..)| word)
}
