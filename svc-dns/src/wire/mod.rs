//! From message to message: RFC 1035 section 4, EDNS(0) of RFC 6891, zone transfers of RFC 5936.

mod query;
mod writer;

use alloc::vec::Vec;

pub use self::query::Transport;
use self::query::{Edns, HEADER, Query, Refusal};
use self::writer::Writer;
use crate::answer::{Outcome, Upstream};
use crate::name::Name;
use crate::options::Behavior;
use crate::record::{Rcode, Record, Type};
use crate::sink::{Section, Sink};
use crate::zones::Zones;

/// The smallest size of a UDP answer that every client takes.
const MIN_UDP: usize = 512;
/// The largest message.
const MAX_MESSAGE: usize = 65_535;
/// The length of an OPT record without options.
const OPT: usize = 11;
/// Class IN.
const IN: u16 = 1;

/// What to do about a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Response {
    /// Send the first so many bytes of the buffer.
    Answer(usize),
    /// Let the next server answer: the name is outside the zones, or is let through by `fallthrough`.
    Next,
    /// Send the messages of [`Zones::transfer_messages`].
    Transfer,
    /// Send nothing: the query is an answer itself, or no DNS message, or the buffer holds no answer.
    Nothing,
}

impl Zones {
    /// Answers a query message into a buffer, without allocation for addresses, SRV, PTR and negative answers.
    ///
    /// Malformed queries get FORMERR, other opcodes NOTIMP, other classes REFUSED, other EDNS versions BADVERS. An answer that is
    /// longer than the client or the buffer takes is cut after a whole record, with TC set. Transfers over UDP are refused.
    ///
    /// ```
    /// use svc_dns::{NoUpstream, Options, Response, Transport, Zones};
    ///
    /// let zones = Zones::new(Options::default())?;
    /// let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07cluster\x05local\0\0\x06\0\x01";
    /// let mut out = [0; 512];
    /// let Response::Answer(len) = zones.respond(query, Transport::Udp, &NoUpstream, &mut out) else { panic!() };
    /// assert_eq!(out[..4], [0x12, 0x34, 0x85, 0x00]); // an authoritative answer without error
    /// # let _ = len;
    /// # Ok::<(), svc_dns::OptionsError>(())
    /// ```
    pub fn respond(
        &self,
        query: &[u8],
        transport: Transport,
        upstream: &dyn Upstream,
        out: &mut [u8],
    ) -> Response {
        let mut parsed = Query::new();
        match parsed.read(query) {
            Ok(()) => {}
            Err(Refusal::Silent) => return Response::Nothing,
            Err(Refusal::Opcode) => return refuse(query, None, Rcode::NotImp, out),
            Err(Refusal::Malformed) => return refuse(query, None, Rcode::FormErr, out),
        }
        let qtype = parsed.question.qtype();
        if parsed.class != IN {
            return refuse(query, Some(&parsed), Rcode::Refused, out);
        }
        if parsed.edns.is_some_and(|edns| edns.version != 0) {
            return refuse(query, Some(&parsed), Rcode::BadVers, out);
        }
        if matches!(qtype, Type::AXFR | Type::IXFR) {
            return self.respond_transfer(query, &parsed, transport, out);
        }
        let question = HEADER + parsed.question.name().len() + 4;
        let limit = match (transport, parsed.edns) {
            (Transport::Tcp, _) => MAX_MESSAGE,
            (Transport::Udp, Some(edns)) => usize::from(edns.size).max(MIN_UDP),
            (Transport::Udp, None) => MIN_UDP,
        };
        let limit = limit.min(out.len());
        let reserved = if parsed.edns.is_some() { OPT } else { 0 };
        let (Some(head), Some(room)) = (query.get(..question), limit.checked_sub(reserved)) else {
            return Response::Nothing;
        };
        let Some(place) = out.get_mut(..question).filter(|_| question <= room) else {
            return Response::Nothing;
        };
        place.copy_from_slice(head);
        let mut writer = Writer::new(out, question, parsed.question.name().len(), room);
        let Outcome::Done(rcode) = self.resolve(&parsed.question, upstream, &mut writer) else {
            return Response::Next;
        };
        // CoreDNS sets TC for anything that is cut; RFC 2181 section 9 not where only additional records are missing.
        let cut = match writer.cut() {
            Some(Section::Additional) => self.options.behavior == Behavior::CoreDns,
            cut => cut.is_some(),
        };
        finish(writer, parsed.edns, rcode, cut, limit, true)
    }

    fn respond_transfer(
        &self,
        query: &[u8],
        parsed: &Query<'_>,
        transport: Transport,
        out: &mut [u8],
    ) -> Response {
        let ixfr = parsed.question.qtype() == Type::IXFR;
        if transport == Transport::Udp {
            return refuse(query, Some(parsed), Rcode::Refused, out);
        }
        if ixfr && parsed.serial.is_none() {
            return refuse(query, Some(parsed), Rcode::FormErr, out);
        }
        let served =
            Name::from_wire(parsed.question.name()).is_ok_and(|zone| self.transfer(&zone, None).is_ok());
        if served { Response::Transfer } else { refuse(query, Some(parsed), Rcode::NotAuth, out) }
    }

    /// The messages that answer a transfer query ([`Response::Transfer`]), each at most `size` bytes; sizes below 1024 count as 1024.
    #[must_use]
    pub fn transfer_messages(&self, query: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut parsed = Query::new();
        if parsed.read(query).is_err() {
            return Vec::new();
        }
        let size = size.clamp(1024, MAX_MESSAGE);
        let question = HEADER + parsed.question.name().len() + 4;
        let serial = parsed.serial.filter(|_| parsed.question.qtype() == Type::IXFR);
        let Ok(zone) = Name::from_wire(parsed.question.name()) else { return Vec::new() };
        let (Ok(records), Some(head)) = (self.transfer(&zone, serial), query.get(..question)) else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        let mut records = records.peekable();
        while records.peek().is_some() {
            let mut message = alloc::vec![0; size];
            if let Some(place) = message.get_mut(..question) {
                place.copy_from_slice(head);
            }
            // The OPT record goes into every message of the answer.
            let room = size - OPT;
            let mut writer = Writer::new(&mut message, question, parsed.question.name().len(), room);
            while let Some(record) = records.peek() {
                put(&mut writer, record);
                if writer.cut().is_some() {
                    break;
                }
                records.next();
            }
            let Response::Answer(len) = finish(writer, parsed.edns, Rcode::NoError, false, size, true) else {
                return Vec::new();
            };
            message.truncate(len);
            messages.push(message);
        }
        messages
    }
}

fn put(writer: &mut Writer<'_>, record: &Record) {
    if let crate::record::Data::Soa(soa) = &record.data {
        use crate::sink::{DataRef, NameRef};
        let data = DataRef::Soa {
            mname: NameRef::whole(soa.mname.wire()),
            rname: NameRef::whole(soa.rname.wire()),
            serial: soa.serial,
            minimum: soa.minimum,
        };
        writer.record(Section::Answer, NameRef::whole(record.owner.wire()), record.ttl, data);
    } else {
        writer.foreign(Section::Answer, record);
    }
}

/// Answers with a code alone: with the question if it could be read.
fn refuse(query: &[u8], parsed: Option<&Query<'_>>, rcode: Rcode, out: &mut [u8]) -> Response {
    let name = parsed.map(|parsed| parsed.question.name().len());
    let len = name.map_or(HEADER, |name| HEADER + name + 4);
    let (Some(head), Some(place)) = (query.get(..len), out.get_mut(..len)) else { return Response::Nothing };
    place.copy_from_slice(head);
    let limit = out.len();
    let mut writer = Writer::new(out, len, name.unwrap_or_default(), limit);
    let edns = parsed.and_then(|parsed| parsed.edns);
    writer.set_end(limit);
    let response = finish(writer, edns, rcode, false, limit, false);
    if let (None, Response::Answer(_), Some(count)) = (parsed, response, out.get_mut(4..6)) {
        count.copy_from_slice(&[0, 0]);
    }
    response
}

/// Adds the OPT record and writes the header.
fn finish(
    mut writer: Writer<'_>,
    edns: Option<Edns>,
    rcode: Rcode,
    cut: bool,
    limit: usize,
    authoritative: bool,
) -> Response {
    let [answers, authorities, mut additionals] = writer.counts();
    let truncated = cut || writer.is_truncated();
    if let Some(edns) = edns {
        writer.set_end(limit);
        let [size0, size1] = edns.size.to_be_bytes();
        let extended = u8::try_from(rcode.number() >> 4).unwrap_or_default();
        let flags = if edns.dnssec_ok { 0x80 } else { 0 };
        if writer.bytes(&[0, 0, 41, size0, size1, extended, 0, flags, 0, 0, 0]).is_none() {
            return Response::Nothing;
        }
        additionals = additionals.saturating_add(1);
    }
    let len = writer.len();
    if writer.header(rcode, truncated, authoritative, [answers, authorities, additionals]).is_none() {
        return Response::Nothing;
    }
    Response::Answer(len)
}
