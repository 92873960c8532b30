//! Domain names, held in wire form.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::str::FromStr;

/// The longest name that the wire format can carry, the root's zero byte included (RFC 1035 section 3.1).
pub(crate) const MAX_NAME: usize = 255;

/// The longest label (RFC 1035 section 3.1).
pub(crate) const MAX_LABEL: usize = 63;

/// An absolute domain name.
///
/// Held as the wire carries it: each label behind its length byte, a zero byte at the end. At most 255 bytes, labels of 1 to 63.
/// `==`, ordering and hashing look at the exact bytes, so the spelling that a resolver chose (its 0x20 bits) is part of the
/// value; [`Name::is`] compares as the DNS does (RFC 4343).
///
/// ```
/// use svc_dns::Name;
///
/// let name: Name = "web.shop.svc.cluster.local".parse()?;
/// assert_eq!(name.to_string(), "web.shop.svc.cluster.local.");
/// assert!(name.is(&"WEB.shop.svc.Cluster.Local.".parse()?));
/// # Ok::<(), svc_dns::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why a text or a sequence of labels is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Two dots in a row, or a dot at the start.
    #[error("empty label in a domain name")]
    EmptyLabel,
    /// A label of more than 63 bytes.
    #[error("label of more than 63 bytes in a domain name")]
    LabelTooLong,
    /// More than 255 bytes in wire form.
    #[error("domain name of more than 255 bytes")]
    TooLong,
    /// A backslash that is followed by neither a character nor three digits up to 255.
    #[error("bad escape in a domain name")]
    Escape,
    /// Bytes that are not the wire form of one whole name.
    #[error("not the wire form of a domain name")]
    Wire,
}

impl Name {
    /// The root, `.`.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads the uncompressed wire form; `wire` must be exactly one name.
    ///
    /// # Errors
    /// [`NameError::Wire`] if it is anything else, or the error of the limit that it breaks.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        if wire.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let mut rest = wire;
        loop {
            match rest.split_first() {
                Some((0, [])) => return Ok(Self(wire.into())),
                Some((&len, tail)) if len != 0 => {
                    if usize::from(len) > MAX_LABEL {
                        return Err(NameError::LabelTooLong);
                    }
                    rest = tail.get(usize::from(len)..).ok_or(NameError::Wire)?;
                }
                _ => return Err(NameError::Wire),
            }
        }
    }

    /// Joins labels, from left to right.
    ///
    /// # Errors
    /// A label is empty or too long, or all of them together are.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            push_label(&mut wire, label)?;
        }
        Self::finish(wire)
    }

    /// Ends wire labels with the root.
    pub(crate) fn finish(mut wire: Vec<u8>) -> Result<Self, NameError> {
        wire.push(0);
        if wire.len() > MAX_NAME { Err(NameError::TooLong) } else { Ok(Self(wire.into())) }
    }

    /// The wire form, the root's zero byte included.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, from left to right, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        Labels(&self.0)
    }

    /// Whether it is the same name, upper and lower case being equal.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// Whether the name is `zone` or below it, upper and lower case being equal.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        below(&self.0, &zone.0).is_some()
    }

    /// The name in lower case.
    #[must_use]
    pub fn to_lowercase(&self) -> Self {
        Self(self.0.to_ascii_lowercase().into())
    }
}

/// Appends one label in wire form.
pub(crate) fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    match u8::try_from(label.len()) {
        Ok(0) => Err(NameError::EmptyLabel),
        Ok(len) if label.len() <= MAX_LABEL => {
            wire.push(len);
            wire.extend_from_slice(label);
            Ok(())
        }
        _ => Err(NameError::LabelTooLong),
    }
}

/// How many bytes of `name` stand left of `zone`, if it is within it. Both in wire form.
pub(crate) fn below(name: &[u8], zone: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = name.get(at..)?;
        if rest.len() < zone.len() {
            return None;
        }
        if rest.len() == zone.len() && rest.eq_ignore_ascii_case(zone) {
            return Some(at);
        }
        at += usize::from(*rest.first()?) + 1;
    }
}

/// Walks wire labels up to the root or to the end of the bytes.
#[derive(Clone)]
pub(crate) struct Labels<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        if len == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(label)
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads the usual text form: a dot at the end is optional, `\.` and `\DDD` are escapes, `.` is the root.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        if text.is_empty() || text == "." {
            return Ok(Self::root());
        }
        let mut label: Vec<u8> = Vec::with_capacity(MAX_LABEL);
        let mut bytes = text.bytes();
        let mut open = false;
        while let Some(byte) = bytes.next() {
            open = true;
            match byte {
                b'.' => {
                    push_label(&mut wire, &label)?;
                    label.clear();
                    open = false;
                }
                b'\\' => {
                    let first = bytes.next().ok_or(NameError::Escape)?;
                    if first.is_ascii_digit() {
                        let mut value = u32::from(first - b'0');
                        for _ in 0..2 {
                            let digit = bytes.next().filter(u8::is_ascii_digit).ok_or(NameError::Escape)?;
                            value = value * 10 + u32::from(digit - b'0');
                        }
                        label.push(u8::try_from(value).map_err(|_| NameError::Escape)?);
                    } else {
                        label.push(first);
                    }
                }
                _ => label.push(byte),
            }
        }
        if open {
            push_label(&mut wire, &label)?;
        }
        Self::finish(wire)
    }
}

impl fmt::Display for Name {
    /// The text form with the dot at the end; bytes that could be read as something else are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= 1 {
            return f.write_char('.');
        }
        for label in self.labels() {
            write_label(f, label)?;
            f.write_char('.')?;
        }
        Ok(())
    }
}

/// Writes one label in text form.
pub(crate) fn write_label(f: &mut impl fmt::Write, label: &[u8]) -> fmt::Result {
    for &byte in label {
        match byte {
            b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                f.write_char('\\')?;
                f.write_char(char::from(byte))?;
            }
            0x21..=0x7e => f.write_char(char::from(byte))?,
            _ => write!(f, "\\{byte:03}")?,
        }
    }
    Ok(())
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl From<&Name> for String {
    fn from(name: &Name) -> Self {
        alloc::format!("{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn text_and_wire_agree() {
        for (text, wire) in [
            (".", &b"\0"[..]),
            ("a.", b"\x01a\0"),
            ("Web.Shop", b"\x03Web\x04Shop\0"),
            (r"a\.b.c", b"\x03a.b\x01c\0"),
            (r"\000\255.c", b"\x02\x00\xff\x01c\0"),
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!(name.wire(), wire, "{text}");
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
            assert_eq!(Name::from_wire(wire).unwrap(), name);
        }
    }

    #[test]
    fn limits() {
        let label = "a".repeat(63);
        assert!(label.parse::<Name>().is_ok());
        assert_eq!("a".repeat(64).parse::<Name>(), Err(NameError::LabelTooLong));
        // 3 x 64 + 62 + 1 = 255 bytes is the longest name.
        let longest = alloc::format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.parse::<Name>().unwrap().wire().len(), 255);
        assert_eq!(alloc::format!("{longest}a").parse::<Name>(), Err(NameError::TooLong));
        assert_eq!("a..b".parse::<Name>(), Err(NameError::EmptyLabel));
        assert_eq!(".a".parse::<Name>(), Err(NameError::EmptyLabel));
        for bad in [r"a\", r"\2", r"\25x", r"\256"] {
            assert_eq!(bad.parse::<Name>(), Err(NameError::Escape), "{bad}");
        }
        for bad in [&b""[..], b"\x01a", b"\x01a\0\0", b"\x02a\0", b"\xc0\x0c"] {
            assert!(Name::from_wire(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn zones() {
        let name: Name = "x.Cluster.local".parse().unwrap();
        assert!(name.is_within(&"cluster.LOCAL".parse().unwrap()));
        assert!(name.is_within(&Name::root()));
        assert!(!name.is_within(&"uster.local".parse().unwrap()));
        assert!(!"local".parse::<Name>().unwrap().is_within(&name));
        assert_eq!(below(name.wire(), b"\x07cluster\x05local\0"), Some(2));
    }
}
