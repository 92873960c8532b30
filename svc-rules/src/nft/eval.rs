//! What expressions give for a packet, and what sets and maps hold.

use alloc::vec;
use alloc::vec::Vec;

use super::model::{Data, Datum, End, Expression, MapRef, Operand, Set, Table, Tuple, Verdict, covers};
use super::print::tuple_text;
use super::value::CT_STATUS;
use crate::host::{AddressType, Egress, Host};
use crate::outcome::Unknown;
use crate::packet::{ConnState, Packet};
use crate::walk::Flow;

/// The most ways a draw is followed, which is more than a Service has endpoints.
const MAX_DRAW: u32 = 1 << 16;

/// A result, or why it cannot be known.
pub(super) type Evaluated<T> = Result<T, Unknown>;

/// What an expression gives, for each way its random parts can fall, with their probabilities. `None` where it gives
/// nothing for this packet, such as a port of a packet without ports.
pub(super) fn values(
    expression: &Expression,
    table: &Table,
    flow: &Flow,
    host: &Host,
) -> Evaluated<Vec<(f64, Option<Tuple>)>> {
    match expression {
        Expression::Numgen { modulus, .. } if *modulus > MAX_DRAW => {
            Err(Unknown::Match(alloc::format!("{expression}").into()))
        }
        Expression::Numgen { modulus, offset, .. } => {
            let share = 1.0 / f64::from(*modulus);
            let number = |drawn: u32| Some(vec![Datum::Number(offset.wrapping_add(drawn))]);
            Ok((0..*modulus).map(|drawn| (share, number(drawn))).collect())
        }
        Expression::Concat(parts) => {
            let mut all = vec![(1.0, Some(Vec::new()))];
            for part in parts {
                let part = values(part, table, flow, host)?;
                let mut longer = Vec::with_capacity(all.len() * part.len());
                for (probability, head) in &all {
                    for (share, tail) in &part {
                        let whole =
                            head.as_ref().zip(tail.as_ref()).map(|(head, tail)| [&head[..], tail].concat());
                        longer.push((probability * share, whole));
                    }
                }
                all = longer;
            }
            Ok(all)
        }
        Expression::Map(key, map) => {
            let mut all = Vec::new();
            for (probability, key) in values(key, table, flow, host)? {
                let found = match key {
                    Some(key) => tuple_for(table, map, &key)?,
                    None => None,
                };
                all.push((probability, found));
            }
            Ok(all)
        }
        other => Ok(vec![(1.0, single(other, flow, host)?.map(|datum| vec![datum]))]),
    }
}

/// What an expression without random parts gives.
fn single(expression: &Expression, flow: &Flow, host: &Host) -> Evaluated<Option<Datum>> {
    let packet = &flow.packet;
    let address = |end: &End| match end {
        End::Source => packet.source,
        End::Destination => packet.destination,
    };
    Ok(match expression {
        Expression::Address(family, end) => {
            Some(address(end)).filter(|a| family.sees(*a)).map(Datum::Address)
        }
        Expression::Original(family, end) => {
            Some(flow.original(*end)).filter(|a| family.sees(*a)).map(Datum::Address)
        }
        Expression::L4Proto => Some(Datum::Number(packet.transport.0.into())),
        Expression::Protocol(family) => {
            family.sees(packet.destination).then(|| Datum::Number(packet.transport.0.into()))
        }
        Expression::Port(transport, end) => {
            let has = packet.transport.has_ports() && transport.is_none_or(|only| only == packet.transport);
            let port = match end {
                End::Source => packet.source_port,
                End::Destination => packet.destination_port,
            };
            has.then(|| Datum::Number(port.into()))
        }
        Expression::Mark(mask) => Some(Datum::Number(packet.mark & mask)),
        // Without a device the name is empty, which is a name like any other.
        Expression::InputName => Some(Datum::Text(flow.input.clone().unwrap_or_default())),
        Expression::OutputName => match &flow.output {
            None => Some(Datum::Text("".into())),
            Some(Egress::Interface(name)) => Some(Datum::Text(name.clone())),
            Some(Egress::Unknown | Egress::NoRoute) => return Err(Unknown::Route),
        },
        Expression::CtState => Some(Datum::Number(state(packet.state))),
        Expression::CtStatus => Some(Datum::Number(status(packet))),
        Expression::FibType(end) => Some(Datum::Number(match host.address_type(address(end)) {
            AddressType::Unicast => 1,
            AddressType::Local => 2,
            AddressType::Broadcast => 3,
            AddressType::Multicast => 5,
        })),
        Expression::Value(datum) => Some(datum.clone()),
        // These have parts of their own and are not single.
        Expression::Numgen { .. } | Expression::Concat(_) | Expression::Map(..) => None,
    })
}

const fn state(state: ConnState) -> u32 {
    match state {
        ConnState::Invalid => 1,
        ConnState::Established => 2,
        ConnState::Related => 4,
        ConnState::New => 8,
        ConnState::Untracked => 64,
    }
}

const SNAT: u32 = 16;
const DNAT: u32 = 32;

fn status(packet: &Packet) -> u32 {
    (u32::from(packet.snat_status) * SNAT) | (u32::from(packet.dnat_status) * DNAT)
}

/// Whether a value is what a test compares with.
pub(super) fn is_member(
    left: &Expression,
    value: &[Datum],
    right: &Operand,
    table: &Table,
    flow: &Flow,
    host: &Host,
) -> Evaluated<bool> {
    match right {
        Operand::Tuple(wanted) => match (left, value, wanted.as_slice()) {
            // Flags: any in common.
            (Expression::CtState, [Datum::Number(has)], [Datum::Number(wanted)]) => Ok(has & wanted != 0),
            (Expression::CtStatus, [Datum::Number(has)], [Datum::Number(wanted)]) => {
                let known = SNAT | DNAT;
                if wanted & !known != 0 && has & wanted == 0 {
                    let name = CT_STATUS
                        .iter()
                        .find(|(_, bit)| wanted & !known & bit != 0)
                        .map_or("", |(name, _)| name);
                    return Err(Unknown::Match(alloc::format!("ct status {name}").into()));
                }
                Ok(has & wanted != 0)
            }
            _ => Ok(covers(wanted, value)),
        },
        Operand::Inline(items) => Ok(items.iter().any(|item| covers(item, value))),
        Operand::Set(name) => {
            let set = table.sets.get(name).ok_or_else(|| Unknown::Set(name.clone()))?;
            Ok(set.find(value).is_some() || is_remembered(name, set, value, flow, host))
        }
    }
}

/// Whether a rule has put the client into the set, and its time is not over.
fn is_remembered(name: &str, set: &Set, value: &[Datum], flow: &Flow, host: &Host) -> bool {
    let Some((Datum::Address(address), rest)) = value.split_first() else { return false };
    let rest = tuple_text(rest, set.key.get(1..).unwrap_or_default());
    flow.remembered(name, *address, &rest, host).is_some_and(|seen| {
        seen.timeout.or(set.timeout).is_none_or(|timeout| host.now.saturating_sub(seen.at) < timeout)
    })
}

fn find<'a>(table: &'a Table, name: &smol_str::SmolStr, key: &[Datum]) -> Evaluated<Option<&'a Data>> {
    let set = table.sets.get(name).ok_or_else(|| Unknown::Set(name.clone()))?;
    Ok(set.find(key).and_then(|element| element.data.as_ref()))
}

/// The verdict that a map has for a key.
pub(super) fn verdict_for(table: &Table, map: &MapRef<Verdict>, key: &[Datum]) -> Evaluated<Option<Verdict>> {
    Ok(match map {
        MapRef::Inline(items) => {
            items.iter().find(|(item, _)| covers(item, key)).map(|(_, verdict)| verdict.clone())
        }
        MapRef::Named(name) => match find(table, name, key)? {
            Some(Data::Verdict(verdict)) => Some(verdict.clone()),
            Some(Data::Tuple(_)) | None => None,
        },
    })
}

fn tuple_for(table: &Table, map: &MapRef<Tuple>, key: &[Datum]) -> Evaluated<Option<Tuple>> {
    Ok(match map {
        MapRef::Inline(items) => {
            items.iter().find(|(item, _)| covers(item, key)).map(|(_, tuple)| tuple.clone())
        }
        MapRef::Named(name) => match find(table, name, key)? {
            Some(Data::Tuple(tuple)) => Some(tuple.clone()),
            Some(Data::Verdict(_)) | None => None,
        },
    })
}
