//! Reading a query message.

use crate::question::Question;
use crate::record::Type;

/// The length of a message's header (RFC 1035 section 4.1.1).
pub(crate) const HEADER: usize = 12;

/// How the query came, which decides how long the answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// 512 bytes, or what the query's OPT record allows (RFC 6891); never more than the caller's buffer.
    Udp,
    /// 65535 bytes, or the caller's buffer. Transfers are answered over this one only.
    Tcp,
}

/// What a query says, with its name still in the caller's buffer.
#[derive(Debug, Clone)]
pub(crate) struct Query<'m> {
    /// Name and type.
    pub(crate) question: Question<'m>,
    /// The class; 1 is IN.
    pub(crate) class: u16,
    /// The OPT record.
    pub(crate) edns: Option<Edns>,
    /// The serial in the authority section of an IXFR query (RFC 1995).
    pub(crate) serial: Option<u32>,
}

/// What the OPT record says (RFC 6891 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) size: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
}

/// Why there is nothing to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too short for a header, or an answer itself: sending anything back could start a loop.
    Silent,
    /// An opcode other than QUERY.
    Opcode,
    /// Malformed, or not exactly one question.
    Malformed,
}

/// Reads 16 bits at a place.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'m> Query<'m> {
    /// Nothing read yet.
    pub(crate) fn new() -> Self {
        Self { question: Question::root(Type(0)), class: 0, edns: None, serial: None }
    }

    /// Reads a whole message. In place: the question is too large to be moved about.
    pub(crate) fn read(&mut self, message: &'m [u8]) -> Result<(), Refusal> {
        let header: &[u8; HEADER] = message.first_chunk().ok_or(Refusal::Silent)?;
        let &[_, _, flags, _, qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] = header;
        if flags & 0x80 != 0 {
            return Err(Refusal::Silent);
        }
        if flags & 0x78 != 0 {
            return Err(Refusal::Opcode);
        }
        if (qd0, qd1) != (0, 1) {
            return Err(Refusal::Malformed);
        }
        let rest = message.get(HEADER..).unwrap_or_default();
        let question = &mut self.question;
        question.read(rest, HEADER as u16).ok_or(Refusal::Malformed)?;
        let after = rest.get(question.name().len()..).unwrap_or_default();
        let &[t0, t1, c0, c1] = after.first_chunk().ok_or(Refusal::Malformed)?;
        question.set_type(Type(u16::from_be_bytes([t0, t1])));
        self.class = u16::from_be_bytes([c0, c1]);
        let records =
            [u16::from_be_bytes([an0, an1]), u16::from_be_bytes([ns0, ns1]), u16::from_be_bytes([ar0, ar1])];
        if records != [0, 0, 0] {
            self.records(message, HEADER + self.question.name().len() + 4, records)?;
        }
        Ok(())
    }

    /// Walks the records behind the question: an OPT in the additional section, a SOA in the authority section.
    fn records(&mut self, message: &[u8], mut at: usize, counts: [u16; 3]) -> Result<(), Refusal> {
        for (section, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let name = at;
                at = skip_name(message, at).ok_or(Refusal::Malformed)?;
                let fixed: &[u8; 10] =
                    message.get(at..).and_then(<[u8]>::first_chunk).ok_or(Refusal::Malformed)?;
                let &[t0, t1, c0, c1, _, version, f0, _, l0, l1] = fixed;
                let data = at + 10;
                at = data + usize::from(u16::from_be_bytes([l0, l1]));
                if at > message.len() {
                    return Err(Refusal::Malformed);
                }
                match (section, Type(u16::from_be_bytes([t0, t1]))) {
                    (2, Type::OPT) => {
                        // RFC 6891 section 6.1.1: more than one, or one that is not at the root, is an error.
                        if self.edns.is_some() || message.get(name) != Some(&0) {
                            return Err(Refusal::Malformed);
                        }
                        let size = u16::from_be_bytes([c0, c1]);
                        self.edns = Some(Edns { size, version, dnssec_ok: f0 & 0x80 != 0 });
                    }
                    (1, Type::SOA) => {
                        let serial = skip_name(message, data)
                            .and_then(|rname| skip_name(message, rname))
                            .and_then(|serial| message.get(serial..at)?.first_chunk());
                        self.serial = Some(u32::from_be_bytes(*serial.ok_or(Refusal::Malformed)?));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The place behind a name, compressed or not. A pointer ends a name, so it is not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += usize::from(len) + 1,
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}
