//! Writing an answer message into the caller's buffer.

use super::query::{HEADER, u16_at};
use crate::record::{Rcode, Type};
use crate::sink::{DataRef, NameRef, SOA_TIMERS, Section, Sink};

/// Offsets that a compression pointer can hold.
const POINTABLE: usize = 0x3fff;

/// Writes records behind a header and a question that are there already.
///
/// Names are compressed against the question and against the siblings written last, exactly as spelled: an answer keeps the spelling
/// that was asked with. SRV targets stay whole (RFC 2782), but names after them may point into them.
pub(crate) struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
    /// Where the message must end.
    end: usize,
    /// The length of the question's name.
    name: usize,
    /// Where a shared base and its zone were written last.
    base: Option<usize>,
    counts: [u16; 3],
    /// Something did not fit.
    cut: Option<Section>,
    truncated: bool,
}

impl<'o> Writer<'o> {
    /// `at` is the end of the question, `name` the length of its name.
    pub(crate) fn new(out: &'o mut [u8], at: usize, name: usize, end: usize) -> Self {
        Self { out, at, end, name, base: None, counts: [0; 3], cut: None, truncated: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.at
    }

    pub(crate) fn counts(&self) -> [u16; 3] {
        self.counts
    }

    /// The section in which the first record did not fit.
    pub(crate) fn cut(&self) -> Option<Section> {
        self.cut
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Lets the next record use the whole of the buffer up to `end`.
    pub(crate) fn set_end(&mut self, end: usize) {
        self.end = end;
    }

    /// Turns the query's header into the answer's: the opcode and the RD and CD bits stay, the Z and AD bits go.
    pub(crate) fn header(
        &mut self,
        rcode: Rcode,
        truncated: bool,
        authoritative: bool,
        counts: [u16; 3],
    ) -> Option<()> {
        let header: &mut [u8; HEADER] = self.out.first_chunk_mut()?;
        let [_, _, high, low, _, _, rest @ ..] = header;
        *high =
            (*high & 0x79) | 0x80 | if authoritative { 0x04 } else { 0 } | if truncated { 0x02 } else { 0 };
        *low = (*low & 0x10) | u8::try_from(rcode.number() & 0xf).unwrap_or_default();
        for (place, count) in rest.chunks_exact_mut(2).zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        Some(())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let end = self.at + bytes.len();
        if end > self.end {
            return None;
        }
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    /// A few bytes, whose number is known to the compiler.
    #[inline]
    fn fixed<const N: usize>(&mut self, bytes: [u8; N]) -> Option<()> {
        let end = self.at + N;
        if end > self.end {
            return None;
        }
        *self.out.get_mut(self.at..end)?.first_chunk_mut()? = bytes;
        self.at = end;
        Some(())
    }

    #[inline]
    fn pointer(&mut self, to: usize) -> Option<()> {
        let to = u16::try_from(to).ok()?;
        self.fixed((0xc000 | to).to_be_bytes())
    }

    /// The question's name, as it stands in the message.
    fn question(&self) -> &[u8] {
        self.out.get(HEADER..HEADER + self.name).unwrap_or_default()
    }

    /// Where `pieces` followed by `tail` are the end of the question's name.
    fn in_question(&self, pieces: [&[u8]; 2], tail: &[u8]) -> Option<usize> {
        let [first, second] = pieces;
        let len = first.len() + second.len() + tail.len();
        let question = self.question();
        let start = question.len().checked_sub(len)?;
        let rest = question.get(start..)?.strip_prefix(first)?.strip_prefix(second)?;
        (rest == tail).then_some(HEADER + start)
    }

    /// Whether the base written last is this one.
    fn is_last(&self, at: usize, pieces: [&[u8]; 2], tail: &[u8]) -> bool {
        let [first, second] = pieces;
        let written = self.out.get(at..self.at).unwrap_or_default();
        let Some(rest) = written.strip_prefix(first).and_then(|rest| rest.strip_prefix(second)) else {
            return false;
        };
        if rest.starts_with(tail) {
            return true;
        }
        let pointer = u16_at(rest, 0).filter(|pointer| pointer & 0xc000 == 0xc000);
        pointer.is_some_and(|pointer| {
            let to = usize::from(pointer & 0x3fff);
            self.out.get(to..self.at).is_some_and(|rest| rest.starts_with(tail))
        })
    }

    /// Writes a name, by pointers where something written before spells the same.
    #[inline]
    fn compressed(&mut self, name: NameRef<'_>) -> Option<()> {
        let NameRef { leaf: [first, second], base: [own, branch], tail } = name;
        let known = match tail.place {
            place @ 1.. if own.is_empty() => Some(usize::from(place)),
            _ if tail.labels.len() > 1 => self.in_question([own, branch], tail.labels),
            _ => None,
        };
        let Some(at) = known else { return self.beside(name) };
        let leaf = first.len() + second.len();
        if leaf == 0 {
            return self.pointer(at);
        }
        // The whole of the question, leaf and all.
        if at == HEADER + leaf
            && self.question().strip_prefix(first).is_some_and(|rest| rest.starts_with(second))
        {
            return self.pointer(HEADER);
        }
        self.bytes(first)?;
        self.bytes(second)?;
        self.pointer(at)
    }

    /// Writes a name that is not below a name of the question but for its tail.
    fn beside(&mut self, name: NameRef<'_>) -> Option<()> {
        let NameRef { leaf: [first, second], base, tail } = name;
        self.bytes(first)?;
        self.bytes(second)?;
        let [own, branch] = base;
        if !own.is_empty() {
            if let Some(at) = self.base.filter(|at| *at <= POINTABLE && self.is_last(*at, base, tail.labels))
            {
                return self.pointer(at);
            }
            self.base = Some(self.at);
            self.bytes(own)?;
            self.bytes(branch)?;
        }
        let at = match tail.place {
            0 if tail.labels.len() > 1 => self.in_question([b"", b""], tail.labels),
            0 => None,
            place => Some(usize::from(place)),
        };
        match at {
            Some(at) => self.pointer(at),
            None => self.bytes(tail.labels),
        }
    }

    fn whole(&mut self, name: NameRef<'_>) -> Option<()> {
        let NameRef { leaf: [first, second], base: [own, branch], tail } = name;
        self.bytes(first)?;
        self.bytes(second)?;
        if !own.is_empty() {
            self.base = Some(self.at);
            self.bytes(own)?;
            self.bytes(branch)?;
        }
        self.bytes(tail.labels)
    }

    #[inline]
    fn write(&mut self, owner: NameRef<'_>, ttl: u32, data: DataRef<'_>) -> Option<()> {
        self.compressed(owner)?;
        let [t0, t1, t2, t3] = ttl.to_be_bytes();
        let head = |qtype: Type, len: u16| {
            let ([q0, q1], [l0, l1]) = (qtype.0.to_be_bytes(), len.to_be_bytes());
            [q0, q1, 0, 1, t0, t1, t2, t3, l0, l1]
        };
        match data {
            DataRef::A(addr) => {
                self.fixed(head(Type::A, 4))?;
                self.fixed(addr.octets())
            }
            DataRef::Aaaa(addr) => {
                self.fixed(head(Type::AAAA, 16))?;
                self.fixed(addr.octets())
            }
            DataRef::Cname(name) => {
                self.fixed(head(Type::CNAME, 0))?;
                self.sized(|writer| writer.compressed(name))
            }
            DataRef::Ns(name) => {
                self.fixed(head(Type::NS, 0))?;
                self.sized(|writer| writer.compressed(name))
            }
            DataRef::Ptr(name) => {
                self.fixed(head(Type::PTR, 0))?;
                self.sized(|writer| writer.compressed(name))
            }
            DataRef::Srv { weight, port, target } => {
                self.fixed(head(Type::SRV, u16::try_from(6 + target.len()).ok()?))?;
                let ([w0, w1], [p0, p1]) = (weight.to_be_bytes(), port.to_be_bytes());
                self.fixed([0, 0, w0, w1, p0, p1])?;
                self.whole(target)
            }
            DataRef::Txt(text) => {
                let len = u8::try_from(text.len()).ok()?;
                self.fixed(head(Type::TXT, u16::from(len) + 1))?;
                self.fixed([len])?;
                self.bytes(text)
            }
            DataRef::Soa { mname, rname, serial, minimum } => {
                self.fixed(head(Type::SOA, 0))?;
                self.sized(|writer| {
                    writer.compressed(mname)?;
                    writer.compressed(rname)?;
                    let [refresh, retry, expire] = SOA_TIMERS;
                    [serial, refresh, retry, expire, minimum]
                        .iter()
                        .try_for_each(|number| writer.fixed(number.to_be_bytes()))
                })
            }
        }
    }

    /// Writes data and then its length into the two bytes before it.
    #[inline]
    fn sized(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.at;
        write(self)?;
        let len = u16::try_from(self.at - start).ok()?;
        self.out.get_mut(start - 2..start)?.copy_from_slice(&len.to_be_bytes());
        Some(())
    }
}

impl Sink for Writer<'_> {
    fn record(&mut self, section: Section, owner: NameRef<'_>, ttl: u32, data: DataRef<'_>) {
        // After the first record that does not fit none is given, so that what is missing is an end and no hole.
        if self.cut.is_some() {
            return;
        }
        let (at, base) = (self.at, self.base);
        let fits = is_name(owner) && names_fit(data);
        if !fits {
            return;
        }
        if self.write(owner, ttl, data).is_none() {
            self.at = at;
            self.base = base;
            self.cut = Some(section);
            return;
        }
        let count = match section {
            Section::Answer => 0,
            Section::Authority => 1,
            Section::Additional => 2,
        };
        if let Some(count) = self.counts.get_mut(count) {
            *count = count.saturating_add(1);
        }
    }

    fn truncate(&mut self) {
        self.truncated = true;
    }
}

/// Whether pieces make a name that the wire can carry.
fn is_name(name: NameRef<'_>) -> bool {
    name.len() <= crate::name::MAX_NAME
}

fn names_fit(data: DataRef<'_>) -> bool {
    match data {
        DataRef::A(_) | DataRef::Aaaa(_) | DataRef::Txt(_) => true,
        DataRef::Cname(name) | DataRef::Ns(name) | DataRef::Ptr(name) | DataRef::Srv { target: name, .. } => {
            is_name(name)
        }
        DataRef::Soa { mname, rname, .. } => is_name(mname) && is_name(rname),
    }
}
