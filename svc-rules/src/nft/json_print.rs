//! Writing the input of `nft -j -f`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use super::apply::{chain_option, options, set_options};
use super::error::{ErrorKind as Kind, NftError};
use super::model::{
    Base, Chain, ChainKind, Comparison, DataType, Datum, End, Expression, MapRef, Numgen, Operand, Policy,
    Rule, Ruleset, Set, Statement, TableFamily, Verdict,
};
use super::print::tuple_text;
use super::rule::{duration, name, next, reject_word, rule, unexpected, verdict};
use super::value;
use super::words::Words;
use crate::outcome::RejectWith;
use crate::packet::{Family, Transport};

type Result<T> = core::result::Result<T, Kind>;

/// Commands of `nft -f` in the form that `nft -j -f` takes, one object for each.
///
/// nft 1.0.6 takes JSON for all commands but the declarations of maps that give values of several parts or are declared
/// by expressions (`typeof`): those it reads in its own words only. It also passes over comments of all but rules and elements,
/// and does not know the flag `dynamic`, which is therefore left out beside `timeout`; it makes no difference there.
///
/// # Errors
/// The first command that cannot be read, or that this crate does not interpret.
///
/// ```
/// let json = svc_rules::nft::to_json("add element ip t ports { tcp . 80 : drop }\n")?;
/// assert_eq!(
///     json,
///     r#"{"nftables":[{"add":{"element":{"elem":[[{"concat":["tcp",80]},{"drop":null}]],"family":"ip","name":"ports","table":"t"}}}]}"#
/// );
/// # Ok::<(), svc_rules::nft::NftError>(())
/// ```
pub fn to_json(commands: &str) -> core::result::Result<String, NftError> {
    let mut words = Words::new(commands);
    let mut all = Vec::new();
    loop {
        while words.take_if("\n") || words.take_if(";") {}
        if words.peek().is_none() {
            return Ok(json!({ "nftables": all }).to_string());
        }
        all.push(command(&mut words).map_err(|kind| NftError::new(words.line(), kind))?);
    }
}

impl Ruleset {
    /// The input of `nft -j -f` that builds this ruleset where there is none; see [`to_json`].
    ///
    /// # Errors
    /// The first statement that this crate does not interpret.
    pub fn to_json(&self) -> core::result::Result<String, NftError> {
        to_json(&self.commands())
    }
}

fn command(words: &mut Words<'_>) -> Result<Value> {
    let verb = next(words, "command")?;
    if !["add", "create", "insert", "delete", "destroy", "flush"].contains(&verb.text) {
        return Err(unexpected(&verb));
    }
    let object = next(words, verb.text)?;
    if verb.is("flush") && object.is("ruleset") {
        return Ok(json!({ "flush": { "ruleset": null } }));
    }
    let family = next(words, object.text)?;
    let family = TableFamily::parse(family.text).ok_or_else(|| unexpected(&family))?;
    let table = name(words, family.name())?;
    let mut body = Map::new();
    body.insert("family".into(), family.name().into());
    if object.is("table") {
        body.insert("name".into(), table.into());
        options(words, &mut |option, words| match option {
            "comment" => {
                body.insert("comment".into(), next(words, option)?.text.into());
                Ok(true)
            }
            _ => Ok(false),
        })?;
        return Ok(json!({ (verb.text): { "table": body } }));
    }
    body.insert("table".into(), table.into());
    let named = name(words, object.text)?;
    let adds = !matches!(verb.text, "delete" | "destroy" | "flush");
    if object.is("rule") {
        body.insert("chain".into(), named.into());
        let rule = rule(words, family)?;
        body.insert("expr".into(), statements(&rule, family)?);
        comment(&mut body, rule.comment.as_deref());
        return Ok(json!({ (verb.text): { "rule": body } }));
    }
    body.insert("name".into(), named.into());
    match object.text {
        "chain" if adds => chain(words, &mut body)?,
        "set" | "map" if adds => set(&set_options(words)?, &mut body)?,
        "element" => drop(body.insert("elem".into(), elements(words)?)),
        "chain" | "set" | "map" => {}
        _ => return Err(unexpected(&object)),
    }
    Ok(json!({ (verb.text): { (object.text): body } }))
}

fn comment(body: &mut Map<String, Value>, comment: Option<&str>) {
    if let Some(comment) = comment {
        body.insert("comment".into(), comment.into());
    }
}

fn chain(words: &mut Words<'_>, body: &mut Map<String, Value>) -> Result<()> {
    let mut chain = Chain::default();
    options(words, &mut |option, words| chain_option(&mut chain, option, words))?;
    comment(body, chain.comment.as_deref());
    if let Some(Base { kind, hook, priority, policy }) = chain.base {
        let kind = match kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        };
        body.insert("type".into(), kind.into());
        body.insert("hook".into(), hook.name().into());
        body.insert("prio".into(), priority.into());
        let policy = if policy == Policy::Drop { "drop" } else { "accept" };
        body.insert("policy".into(), policy.into());
    }
    Ok(())
}

/// One, or a list of several.
fn one_or_all(mut all: Vec<Value>) -> Value {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            all.into()
        }
        None => Value::Null,
    }
}

fn set(set: &Set, body: &mut Map<String, Value>) -> Result<()> {
    let types = |types: &[DataType]| one_or_all(types.iter().map(|kind| kind.name().into()).collect());
    let (key, map) = match (&set.like, &set.value) {
        (Some((key, Some(data))), _) => {
            (json!({ "typeof": expression(key)? }), Some(json!({ "typeof": expression(data)? })))
        }
        (Some((key, None)), data) => {
            (json!({ "typeof": expression(key)? }), data.as_ref().map(|data| types(data)))
        }
        (None, data) => (types(&set.key), data.as_ref().map(|data| types(data))),
    };
    body.insert("type".into(), key);
    if let Some(map) = map {
        body.insert("map".into(), map);
    }
    // Rules can add to sets whose elements expire anyway, and older versions of nft do not know the word.
    let dynamic = set.flags.dynamic && !set.flags.timeout;
    let flags = [
        (set.flags.constant, "constant"),
        (set.flags.interval, "interval"),
        (dynamic, "dynamic"),
        (set.flags.timeout, "timeout"),
    ];
    let flags: Vec<Value> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).into()).collect();
    if !flags.is_empty() {
        body.insert("flags".into(), flags.into());
    }
    if let Some(timeout) = set.timeout {
        body.insert("timeout".into(), timeout.as_secs().into());
    }
    if let Some(size) = set.size {
        body.insert("size".into(), size.into());
    }
    comment(body, set.comment.as_deref());
    Ok(())
}

/// `{ KEY [timeout T] [comment C] [: DATA] , .. }`. What the types of the set are makes no difference.
fn elements(words: &mut Words<'_>) -> Result<Value> {
    let mut all = Vec::new();
    let open = next(words, "element")?;
    if !open.is("{") {
        return Err(unexpected(&open));
    }
    loop {
        words.skip_lines();
        if words.take_if("}") {
            return Ok(all.into());
        }
        let mut key = parts(words)?;
        let mut attributes = Map::new();
        loop {
            if words.take_if("timeout") {
                attributes.insert("timeout".into(), duration(words, "timeout")?.as_secs().into());
            } else if words.take_if("comment") {
                attributes.insert("comment".into(), next(words, "comment")?.text.into());
            } else {
                break;
            }
        }
        if !attributes.is_empty() {
            attributes.insert("val".into(), key);
            key = json!({ "elem": attributes });
        }
        all.push(if words.take_if(":") {
            let data = match verdict(words)? {
                Some(verdict) => to(&verdict),
                None => parts(words)?,
            };
            json!([key, data])
        } else {
            key
        });
        words.skip_lines();
        words.take_if(",");
    }
}

fn parts(words: &mut Words<'_>) -> Result<Value> {
    let mut all = Vec::new();
    loop {
        let word = next(words, "element")?;
        if word.ends() || word.is(",") {
            return Err(unexpected(&word));
        }
        all.push(match value::any_datum(word.text) {
            Some(read) if !word.quoted => datum(&read),
            _ => word.text.into(),
        });
        if !words.take_if(".") {
            return Ok(concat(all));
        }
    }
}

fn concat(mut all: Vec<Value>) -> Value {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            json!({ "concat": all })
        }
        None => Value::Null,
    }
}

fn datum(datum: &Datum) -> Value {
    match datum {
        Datum::Number(number) => (*number).into(),
        Datum::Numbers(first, last) => json!({ "range": [first, last] }),
        Datum::Address(address) => address.to_string().into(),
        Datum::Network(network) => {
            json!({ "prefix": { "addr": network.addr().to_string(), "len": network.prefix_len() } })
        }
        Datum::Addresses(first, last) => json!({ "range": [first.to_string(), last.to_string()] }),
        Datum::Text(text) => text.as_str().into(),
    }
}

/// A value beside the expression that it is compared with.
fn operand(value: &[Datum], left: &Expression) -> Value {
    let names = value::names(left);
    if let ([Datum::Number(number)], false) = (value, names.is_empty()) {
        let named = |(_, bit): &&(&str, u32)| match left {
            Expression::FibType(_) => bit == number,
            _ => number & bit != 0,
        };
        let named: Vec<Value> = names.iter().filter(named).map(|(name, _)| (*name).into()).collect();
        return if named.is_empty() { (*number).into() } else { one_or_all(named) };
    }
    let types = left.types();
    let parts = value.iter().enumerate().map(|(place, part)| match (part, types.get(place)) {
        (Datum::Number(_), Some(DataType::InetProto)) => {
            tuple_text(core::slice::from_ref(part), &[DataType::InetProto]).into()
        }
        _ => datum(part),
    });
    concat(parts.collect())
}

fn to(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accept => json!({ "accept": null }),
        Verdict::Drop => json!({ "drop": null }),
        Verdict::Return => json!({ "return": null }),
        Verdict::Continue => json!({ "continue": null }),
        Verdict::Jump(chain) => json!({ "jump": { "target": chain.as_str() } }),
        Verdict::Goto(chain) => json!({ "goto": { "target": chain.as_str() } }),
    }
}

fn statements(rule: &Rule, family: TableFamily) -> Result<Value> {
    let all: Result<Vec<Value>> = rule.statements.iter().map(|one| statement(one, family)).collect();
    Ok(all?.into())
}

fn statement(statement: &Statement, family: TableFamily) -> Result<Value> {
    Ok(match statement {
        Statement::Match { left, comparison, right } => {
            let flags = matches!(left, Expression::CtState | Expression::CtStatus);
            let op = match comparison {
                Comparison::NotEqual => "!=",
                Comparison::Equal if flags => "in",
                Comparison::Equal => "==",
            };
            let right = match right {
                Operand::Tuple(value) => operand(value, left),
                Operand::Set(name) => alloc::format!("@{name}").into(),
                Operand::Inline(items) => {
                    json!({ "set": items.iter().map(|item| operand(item, left)).collect::<Vec<_>>() })
                }
            };
            json!({ "match": { "op": op, "left": expression(left)?, "right": right } })
        }
        Statement::VerdictMap(key, map) => {
            json!({ "vmap": { "key": expression(key)?, "data": map_ref(map, key, to) } })
        }
        Statement::Verdict(verdict) => to(verdict),
        Statement::SetMark { mask, xor } => {
            let mark = json!({ "meta": { "key": "mark" } });
            let value = match (mask, xor) {
                (0, value) => json!(value),
                (&u32::MAX, bits) => json!({ "^": [mark, bits] }),
                (mask, 0) => json!({ "&": [mark, mask] }),
                (_, bits) => json!({ "|": [mark, bits] }),
            };
            json!({ "mangle": { "key": mark, "value": value } })
        }
        Statement::SetAddress(end, to) => {
            let of = if family == TableFamily::Ip6 { family } else { TableFamily::Ip };
            json!({ "mangle": { "key": expression(&Expression::Address(of, *end))?, "value": expression(to)? } })
        }
        Statement::Dnat(to) => json!({ "dnat": translation(to, family)? }),
        Statement::Snat(to) => json!({ "snat": translation(to, family)? }),
        Statement::Masquerade { fully_random: true } => json!({ "masquerade": { "flags": "fully-random" } }),
        Statement::Masquerade { fully_random: false } => json!({ "masquerade": null }),
        Statement::Reject(RejectWith::PortUnreachable) => json!({ "reject": null }),
        Statement::Reject(RejectWith::TcpReset) => json!({ "reject": { "type": "tcp reset" } }),
        Statement::Reject(with) => {
            let (of, kind) =
                if family == TableFamily::Ip6 { (Family::V6, "icmpv6") } else { (Family::V4, "icmp") };
            json!({ "reject": { "type": kind, "expr": reject_word(*with, of) } })
        }
        Statement::Remember { set, key, timeout, refresh } => {
            let mut key = expression(key)?;
            if let Some(timeout) = timeout {
                key = json!({ "elem": { "val": key, "timeout": timeout.as_secs() } });
            }
            let op = if *refresh { "update" } else { "add" };
            json!({ "set": { "op": op, "elem": key, "set": alloc::format!("@{set}") } })
        }
        Statement::Forget { set, key } => {
            json!({ "set": { "op": "delete", "elem": expression(key)?, "set": alloc::format!("@{set}") } })
        }
        Statement::Note(text) if text == "counter" => json!({ "counter": null }),
        Statement::Note(text) | Statement::Opaque(text) => return Err(Kind::Unexpected(text.clone())),
    })
}

fn map_ref<T>(map: &MapRef<T>, key: &Expression, data: impl Fn(&T) -> Value) -> Value {
    match map {
        MapRef::Named(name) => alloc::format!("@{name}").into(),
        MapRef::Inline(items) => {
            let items = items.iter().map(|(item, value)| json!([operand(item, key), data(value)]));
            json!({ "set": items.collect::<Vec<_>>() })
        }
    }
}

fn translation(to: &Expression, family: TableFamily) -> Result<Value> {
    let word = if family == TableFamily::Ip6 { "ip6" } else { "ip" };
    Ok(match to {
        Expression::Concat(parts) => match parts.as_slice() {
            [address, port] => json!({ "addr": expression(address)?, "port": expression(port)? }),
            _ => return Err(Kind::Unexpected(alloc::format!("{to}").into())),
        },
        Expression::Map(_, MapRef::Inline(_)) => {
            json!({ "family": word, "type_flags": "concat", "addr": expression(to)? })
        }
        Expression::Map(_, MapRef::Named(_)) => json!({ "family": word, "addr": expression(to)? }),
        other => json!({ "addr": expression(other)? }),
    })
}

fn expression(of: &Expression) -> Result<Value> {
    let end = |end: &End, source: &'static str, destination: &'static str| match end {
        End::Source => source,
        End::Destination => destination,
    };
    let family = |family: &TableFamily| if *family == TableFamily::Ip6 { "ip6" } else { "ip" };
    let payload =
        |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
    let meta = |key: &str| json!({ "meta": { "key": key } });
    Ok(match of {
        Expression::Address(of, side) => payload(family(of), end(side, "saddr", "daddr")),
        Expression::L4Proto => meta("l4proto"),
        Expression::Protocol(TableFamily::Ip6) => payload("ip6", "nexthdr"),
        Expression::Protocol(_) => payload("ip", "protocol"),
        Expression::Port(transport, side) => {
            payload(transport.and_then(Transport::name).unwrap_or("th"), end(side, "sport", "dport"))
        }
        Expression::Mark(u32::MAX) => meta("mark"),
        Expression::Mark(mask) => json!({ "&": [meta("mark"), mask] }),
        Expression::InputName => meta("iifname"),
        Expression::OutputName => meta("oifname"),
        Expression::CtState => json!({ "ct": { "key": "state" } }),
        Expression::CtStatus => json!({ "ct": { "key": "status" } }),
        Expression::Original(of, side) => {
            let key = alloc::format!("{} {}", family(of), end(side, "saddr", "daddr"));
            json!({ "ct": { "key": key, "dir": "original" } })
        }
        Expression::FibType(side) => {
            json!({ "fib": { "result": "type", "flags": end(side, "saddr", "daddr") } })
        }
        Expression::Numgen { mode, modulus, offset } => {
            let mode = if *mode == Numgen::Random { "random" } else { "inc" };
            json!({ "numgen": { "mode": mode, "mod": modulus, "offset": offset } })
        }
        Expression::Value(value) => datum(value),
        Expression::Concat(parts) => {
            let parts: Result<Vec<Value>> = parts.iter().map(expression).collect();
            concat(parts?)
        }
        Expression::Map(key, map) => {
            let data = map_ref(map, key, |tuple| concat(tuple.iter().map(datum).collect()));
            json!({ "map": { "key": expression(key)?, "data": data } })
        }
    })
}
