//! The records of a name that was found.

use core::net::IpAddr;

use super::Asked;
use crate::lookup::{Filter, Found};
use crate::options::Behavior;
use crate::record::Type;
use crate::sink::{DataRef, NameRef, Section, Sink, Tail};
use crate::store::endpoints::{Port, Ports, Row};
use crate::store::service::{Alias, Entry, Face, FaceKind};
use crate::zones::Zones;

/// Whether an address is for a record of a type.
pub(super) fn is_of(addr: IpAddr, qtype: Type) -> bool {
    match addr {
        IpAddr::V4(_) => qtype == Type::A,
        IpAddr::V6(_) => qtype == Type::AAAA,
    }
}

/// The weight of each of `count` records: an equal share of 100, at least 1.
pub(crate) fn weight(count: usize) -> u16 {
    u16::try_from(100 / count.max(1)).unwrap_or(u16::MAX).max(1)
}

/// The name of an endpoint.
pub(crate) fn endpoint_name<'a>(entry: &'a Entry, row: &Row, service: NameRef<'a>) -> NameRef<'a> {
    let cluster = entry.endpoints.slice_of(row).map_or(&b""[..], |slice| &slice.cluster);
    NameRef { leaf: [entry.endpoints.label(row), cluster], ..service }
}

/// The name of a Service.
pub(crate) fn service_name<'a>(entry: &'a Entry, tail: impl Into<Tail<'a>>) -> NameRef<'a> {
    NameRef { base: [&entry.key, b"\x03svc"], tail: tail.into(), ..NameRef::default() }
}

/// The name of a Service, by its place in the question where that spells it the same.
fn asked_name<'a>(asked: Asked<'_, 'a>, entry: &'a Entry) -> NameRef<'a> {
    if let Some(service) = asked.left.checked_sub(3) {
        let named = asked.question.tail(service);
        let rest = named.labels.strip_prefix(&*entry.key).and_then(|rest| rest.strip_prefix(b"\x03svc"));
        if rest.is_some_and(|rest| rest.len() == asked.tail.labels.len()) {
            return NameRef::whole(named);
        }
    }
    service_name(entry, asked.tail)
}

impl Zones {
    /// Puts the records of the asked type into the sink; tells whether there is one.
    pub(super) fn put_records(
        &self,
        asked: Asked<'_, '_>,
        found: Found<'_, '_>,
        sink: &mut dyn Sink,
    ) -> bool {
        let ttl = self.options.ttl;
        let owner = asked.owner();
        let qtype = asked.question.qtype();
        let standards = asked.behavior == Behavior::Standards;
        let mut any = false;
        match (qtype, found) {
            (Type::A | Type::AAAA, Found::Addresses(_, face, ports)) => {
                // RFC 2782 names hold SRV records alone; CoreDNS answers the addresses there as well.
                let named = standards && !ports.port.is_empty();
                for addr in face.addrs.iter().filter(|addr| is_of(**addr, qtype) && !named) {
                    any = true;
                    sink.record(Section::Answer, owner, ttl, DataRef::from(*addr));
                }
            }
            (Type::A | Type::AAAA, Found::Endpoints(entry, filter)) => {
                let named = standards && !filter.ports.port.is_empty();
                for row in filter.rows(entry).filter(|row| is_of(row.addr, qtype) && !named) {
                    let mut before = entry.endpoints.before_with_addr(row);
                    if before.any(|before| filter.ports_of(entry, before).next().is_some()) {
                        continue;
                    }
                    any = true;
                    sink.record(Section::Answer, owner, ttl, DataRef::from(row.addr));
                }
            }
            (Type::A | Type::AAAA, Found::Pod(addr)) if is_of(addr, qtype) => {
                any = true;
                sink.record(Section::Answer, owner, ttl, DataRef::from(addr));
            }
            (Type::SRV, Found::Addresses(entry, face, ports)) => {
                any = self.service_srv(asked, entry, face, ports, sink);
            }
            (Type::SRV, Found::Endpoints(entry, filter)) => {
                any = self.endpoint_srv(asked, entry, filter, sink)
            }
            (Type::SRV, Found::Pod(addr)) if !standards => {
                any = true;
                let base = asked.question.labels(asked.left.saturating_sub(3), asked.left);
                let target = NameRef::below(base, asked.tail);
                sink.record(Section::Answer, owner, ttl, DataRef::Srv { weight: 100, port: 0, target });
                sink.record(Section::Additional, target, ttl, DataRef::from(addr));
            }
            (Type::CNAME, Found::Alias(Alias::Name(name))) => {
                any = true;
                sink.record(Section::Answer, owner, ttl, DataRef::Cname(NameRef::whole(name.wire())));
            }
            // A cluster IP that is not there yet is a name to CoreDNS: the empty one.
            (Type::CNAME, Found::Addresses(_, Face { text: Some(Alias::Name(name)), .. }, _))
                if !standards =>
            {
                any = true;
                sink.record(Section::Answer, owner, ttl, DataRef::Cname(NameRef::whole(name.wire())));
            }
            _ => {}
        }
        any
    }

    /// SRV records of a Service with addresses: one a port, to the Service itself.
    fn service_srv(
        &self,
        asked: Asked<'_, '_>,
        entry: &Entry,
        face: &Face,
        ports: Ports<'_>,
        sink: &mut dyn Sink,
    ) -> bool {
        let ttl = self.options.ttl;
        let target = asked_name(asked, entry);
        if face.addrs.is_empty() {
            return false;
        }
        let mut count = ports.of(&face.ports).count() * face.addrs.len();
        // The specification gives an unnamed port no SRV record, and the weight is a share among records, not addresses.
        let standards = asked.behavior == Behavior::Standards;
        let listed = |port: &&Port| !standards || !port.name.is_empty();
        if standards {
            count = ports.of(&face.ports).filter(listed).count();
        }
        let mut any = false;
        for (index, port) in ports.of(&face.ports).filter(listed).enumerate() {
            let Some(number) = port.number else { continue };
            let mut before = ports.of(&face.ports).filter(listed).take(index);
            if before.any(|before| before.number == Some(number)) {
                continue;
            }
            any = true;
            let srv = DataRef::Srv { weight: weight(count), port: number, target };
            sink.record(Section::Answer, asked.owner(), ttl, srv);
        }
        if any {
            for addr in &face.addrs {
                sink.record(Section::Additional, target, ttl, DataRef::from(*addr));
            }
        }
        any
    }

    /// SRV records of endpoints: one for each pair of a name and a port, and the addresses of the names.
    fn endpoint_srv(
        &self,
        asked: Asked<'_, '_>,
        entry: &Entry,
        filter: Filter<'_>,
        sink: &mut dyn Sink,
    ) -> bool {
        let ttl = self.options.ttl;
        let endpoints = &entry.endpoints;
        let standards = asked.behavior == Behavior::Standards;
        let listed = |port: &&Port| !standards || !port.name.is_empty();
        let count = if standards { distinct(entry, filter) } else { filter.count(entry) };
        let weight = weight(count);
        let service = asked_name(asked, entry);
        let mut any = false;
        for row in filter.rows(entry) {
            for (index, port) in filter.ports_of_taken(entry, row).filter(listed).enumerate() {
                let Some(number) = port.number else { continue };
                if is_repeated(entry, filter, row, index, number, standards) {
                    continue;
                }
                any = true;
                let target = endpoint_name(entry, row, service);
                sink.record(
                    Section::Answer,
                    asked.owner(),
                    ttl,
                    DataRef::Srv { weight, port: number, target },
                );
            }
        }
        if any {
            for row in filter.rows(entry) {
                let valid = |port: &Port| port.number.is_some();
                let same = |before: &Row| {
                    before.addr == row.addr && filter.ports_of(entry, before).filter(listed).any(valid)
                };
                let serves = filter.ports_of_taken(entry, row).filter(listed).any(valid);
                if !serves || endpoints.before_with_label(row).any(same) {
                    continue;
                }
                let target = endpoint_name(entry, row, service);
                sink.record(Section::Additional, target, ttl, DataRef::from(row.addr));
            }
        }
        any
    }

    /// Whether names exist below a name that has no records: `dns` above the name servers, `_tcp` above ports, a cluster above its
    /// endpoints, and the labels before topology zones (RFC 8020).
    pub(super) fn has_below(&self, asked: Asked<'_, '_>) -> bool {
        let Asked { zone, question, left, .. } = asked;
        if zone.reverse {
            // Whether an address is in use below is not looked for: denying it could cut off those that are.
            let digit = |index| match question.label(index) {
                [first, rest @ ..] => {
                    rest.len() < 3 && first.is_ascii_hexdigit() && rest.iter().all(u8::is_ascii_digit)
                }
                [] => false,
            };
            return question.count() < 34 && (0..left).all(digit);
        }
        if left == 1 {
            return matches!(question.label(0), b"dns" | b"dns-version");
        }
        if !(4..=5).contains(&left) || question.label(left - 1) != b"svc" {
            return false;
        }
        let key = question.labels(left - 3, left - 1);
        let Some((_, entry)) =
            self.store.table(zone.side).find(key).filter(|(_, entry)| self.store.exposes(entry))
        else {
            return false;
        };
        let Some(face) = entry.face() else { return false };
        if zone.grammar.zonal == crate::Zonal::On && face.kind == FaceKind::Headless {
            let labels = question.labels(0, left - 3);
            if matches!(labels, b"\x05_zone" | b"\x03pin\x05_zone" | b"\x06prefer\x05_zone") {
                return true;
            }
        }
        if left == 5 {
            return false;
        }
        let label = question.labels(0, 1);
        let has = |port: &Port| {
            !port.name.is_empty() && port.number.is_some() && port.protocol.label() == Some(label)
        };
        match face.kind {
            FaceKind::Alias => false,
            FaceKind::Address if face.ports.iter().any(has) => true,
            _ => (0..).zip(entry.endpoints.slices()).any(|(index, slice)| {
                let ready = !entry.endpoints.slice_rows(index).is_empty();
                let cluster = !slice.cluster.is_empty() && *slice.cluster == *label;
                ready && (cluster || (face.kind == FaceKind::Headless && slice.ports.iter().any(has)))
            }),
        }
    }
}

/// Whether the record of a row's name and a port number has been given already: by an earlier port of the row, or by a row before
/// with the same name. By the standards unnamed ports have none.
fn is_repeated(
    entry: &Entry,
    filter: Filter<'_>,
    row: &Row,
    index: usize,
    number: u16,
    standards: bool,
) -> bool {
    let listed = |port: &&Port| !standards || !port.name.is_empty();
    let same = |port: &Port| port.number == Some(number);
    (index > 0 && filter.ports_of_taken(entry, row).filter(listed).take(index).any(same))
        || entry
            .endpoints
            .before_with_label(row)
            .any(|before| filter.ports_of(entry, before).filter(listed).any(same))
}

/// How many SRV records a question has by the standards, repetitions left out.
fn distinct(entry: &Entry, filter: Filter<'_>) -> usize {
    let count = |row| {
        let ports = filter.ports_of_taken(entry, row).filter(|port| !port.name.is_empty()).enumerate();
        ports
            .filter_map(|(index, port)| Some((index, port.number?)))
            .filter(|(index, number)| !is_repeated(entry, filter, row, *index, *number, true))
            .count()
    };
    filter.rows(entry).map(count).sum()
}
