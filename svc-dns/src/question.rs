//! A question, prepared for looking up: its name as asked, in lower case, and where each label starts.

use crate::name::{MAX_NAME, Name};
use crate::record::Type;
use crate::sink::Tail;

/// The most labels that a name can have: 127 of one byte each.
const MAX_LABELS: usize = 127;

/// How many bytes are looked at, or lowered, at a time.
const CHUNK: usize = 16;

/// What is asked: a name and a type, class IN.
///
/// The name is kept as asked, since answers spell it the same way, and once more in lower case for comparing.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    name: &'a [u8],
    /// Where the name is in the message that is answered; 0 if it is not there.
    place: u16,
    /// In lower case, if that is another spelling.
    lowered: Option<[u8; (MAX_NAME + 1).next_multiple_of(CHUNK)]>,
    starts: [u8; MAX_LABELS],
    count: u8,
    qtype: Type,
}

impl<'a> Question<'a> {
    /// Asks for the records of a type at a name.
    #[must_use]
    pub fn new(name: &'a Name, qtype: Type) -> Self {
        let mut question = Self::root(qtype);
        // A `Name` is valid wire form, so it is never refused here.
        question.read(name.wire(), 0);
        question
    }

    /// Asks for the records of a type at the root.
    pub(crate) fn root(qtype: Type) -> Self {
        Self { name: b"\0", place: 0, lowered: None, starts: [0; MAX_LABELS], count: 0, qtype }
    }

    /// Reads the uncompressed name at the start of `bytes`, which is at a place of the message; [`Question::name`] tells how long it
    /// is. In place, since a question is too large to be moved about.
    pub(crate) fn read(&mut self, bytes: &'a [u8], place: u16) -> Option<()> {
        let mut count = 0u8;
        let mut at = 0usize;
        loop {
            let len = usize::from(*bytes.get(at)?);
            if len == 0 {
                break;
            }
            if len > 63 {
                return None;
            }
            *self.starts.get_mut(usize::from(count))? = u8::try_from(at).ok()?;
            count += 1;
            at += len + 1;
        }
        let name = bytes.get(..=at).filter(|name| name.len() <= MAX_NAME)?;
        self.lowered = None;
        if has_upper(name) {
            let lowered = self.lowered.insert([0; _]);
            lowered.get_mut(..name.len())?.copy_from_slice(name);
            // A length byte is at most 63, below the letters, so the whole can be lowered at once.
            lowered.as_chunks_mut::<CHUNK>().0.iter_mut().for_each(|chunk| chunk.make_ascii_lowercase());
        }
        (self.name, self.place, self.count) = (name, place, count);
        Some(())
    }

    /// The name as asked, in wire form.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// The labels from `index` on as asked, with their place in the message.
    pub(crate) fn tail(&self, index: usize) -> Tail<'a> {
        let start = self.start(index);
        let place = if self.place == 0 { 0 } else { self.place + u16::try_from(start).unwrap_or_default() };
        Tail { labels: self.name.get(start..).unwrap_or_default(), place }
    }

    /// The type asked for.
    #[must_use]
    pub fn qtype(&self) -> Type {
        self.qtype
    }

    /// The same name with another type.
    pub(crate) fn set_type(&mut self, qtype: Type) {
        self.qtype = qtype;
    }

    /// The name in lower case, in wire form.
    pub(crate) fn lower(&self) -> &[u8] {
        match &self.lowered {
            Some(lowered) => lowered.get(..self.name.len()).unwrap_or_default(),
            None => self.name,
        }
    }

    /// How many labels the name has, the root not counted.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Where label `index` (from the left) starts, its length byte included; the root's place for the label past the last.
    pub(crate) fn start(&self, index: usize) -> usize {
        match self.starts.get(..self.count()).and_then(|starts| starts.get(index)) {
            Some(start) => usize::from(*start),
            None => self.name.len().saturating_sub(1),
        }
    }

    /// Label `index` in lower case, without its length byte.
    pub(crate) fn label(&self, index: usize) -> &[u8] {
        self.lower().get(self.start(index) + 1..self.start(index + 1)).unwrap_or_default()
    }

    /// Labels `from..to` in lower case, in wire form without a root.
    pub(crate) fn labels(&self, from: usize, to: usize) -> &[u8] {
        self.lower().get(self.start(from)..self.start(to)).unwrap_or_default()
    }

    /// How many labels stand left of a zone (lower case, wire form, `labels` labels), if the name is within it.
    pub(crate) fn left_of(&self, zone: &[u8], labels: usize) -> Option<usize> {
        let left = self.count().checked_sub(labels)?;
        (self.lower().get(self.start(left)..) == Some(zone)).then_some(left)
    }
}

/// Whether there is a capital letter among the labels. A length byte is at most 63, below the letters.
fn has_upper(name: &[u8]) -> bool {
    let among = |bytes: &[u8]| bytes.iter().fold(false, |found, byte| found | byte.is_ascii_uppercase());
    match name.last_chunk::<CHUNK>() {
        // Whole chunks, and the last one over again in part.
        Some(last) => name.as_chunks::<CHUNK>().0.iter().chain([last]).any(|chunk| among(chunk)),
        None => among(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_zone() {
        let name: Name = "Web.Shop.svc.CLUSTER.local".parse().unwrap();
        let question = Question::new(&name, Type::A);
        assert_eq!(question.count(), 5);
        assert_eq!(question.label(0), b"web");
        assert_eq!(question.label(4), b"local");
        assert_eq!(question.label(5), b"");
        assert_eq!(question.labels(0, 2), b"\x03web\x04shop");
        assert_eq!(question.left_of(b"\x07cluster\x05local\0", 2), Some(3));
        assert_eq!(question.left_of(b"\x05local\0", 1), Some(4));
        assert_eq!(question.left_of(b"\0", 0), Some(5));
        assert_eq!(question.left_of(b"\x05other\0", 1), None);
        assert_eq!(question.name(), name.wire());
        assert_eq!(Question::new(&Name::root(), Type::A).count(), 0);
    }

    #[test]
    fn a_capital_anywhere_is_found() {
        for len in [1, 15, 16, 17, 40, 63] {
            for at in 0..len {
                let mut label = alloc::vec![b'@'; len];
                let name: Name = Name::from_wire(&[&[len as u8], &label[..], &[0]].concat()).unwrap();
                assert_eq!(Question::new(&name, Type::A).lower(), name.wire());
                label[at] = b'Z';
                let name: Name = Name::from_wire(&[&[len as u8], &label[..], &[0]].concat()).unwrap();
                let lower: alloc::vec::Vec<u8> = name.wire().to_ascii_lowercase();
                assert_eq!(Question::new(&name, Type::A).lower(), lower);
            }
        }
    }

    #[test]
    fn bad_wire_is_refused() {
        for bad in [&b""[..], b"\x03ab", b"\xc0\x0c", b"\x01a", &[1; 300]] {
            assert!(Question::root(Type::A).read(bad, 0).is_none(), "{bad:?}");
        }
    }
}
