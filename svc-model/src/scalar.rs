//! Scalars of API objects: parsed where the text is canonical, kept as sent where it is not.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU16;
use core::str::FromStr;

use alloc::string::{String, ToString};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::{SmolStr, ToSmolStr};

/// A type that a string field of the API can hold.
pub trait Scalar: Copy + fmt::Display {
    /// Parses text as leniently as Kubernetes reads it from stored objects; `None` if it means
    /// nothing. For addresses this takes leading zeros and IPv4-mapped IPv6.
    fn read(text: &str) -> Option<Self>;
}

/// A string field of an API object, exactly as it was sent.
///
/// Text in the canonical form of `T` is held parsed; anything else (legacy spellings such as
/// `010.0.0.1`, unknown enum values, garbage that validation will report) is kept as text, so that
/// reading never fails and writing gives back what was read. The empty text means "absent".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sent<T> {
    /// Canonical text of a known value.
    Value(T),
    /// Any other text; empty for an absent field.
    Text(SmolStr),
}

impl<T: Scalar> Sent<T> {
    /// Takes text as sent.
    pub fn new(text: &str) -> Self {
        match T::read(text) {
            Some(value) if displays_as(&value, text) => Self::Value(value),
            _ => Self::Text(SmolStr::new(text)),
        }
    }

    /// The meaning of the field: `None` if it is absent or means nothing to Kubernetes.
    pub fn get(&self) -> Option<T> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Text(text) if text.is_empty() => None,
            Self::Text(text) => T::read(text),
        }
    }

    /// True if the field is absent.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    /// True if the field holds exactly this text.
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Value(value) => displays_as(value, text),
            Self::Text(sent) => sent == text,
        }
    }

    /// The text as sent.
    pub fn to_text(&self) -> SmolStr {
        match self {
            Self::Value(value) => value.to_smolstr(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// Compares a value's display form with text without allocating.
fn displays_as<T: fmt::Display>(value: &T, text: &str) -> bool {
    struct Rest<'a>(&'a str);
    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut rest = Rest(text);
    fmt::write(&mut rest, format_args!("{value}")).is_ok() && rest.0.is_empty()
}

impl<T> Default for Sent<T> {
    fn default() -> Self {
        Self::Text(SmolStr::default())
    }
}

impl<T: Scalar> From<T> for Sent<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T: Scalar> From<&str> for Sent<T> {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl<T: fmt::Display> fmt::Display for Sent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Text(text) => f.pad(text),
        }
    }
}

impl<T: fmt::Display> fmt::Debug for Sent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl<T: fmt::Display> Serialize for Sent<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => serializer.collect_str(value),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Sent<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(core::marker::PhantomData<T>);
        impl<T: Scalar> de::Visitor<'_> for Visitor<T> {
            type Value = Sent<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Sent::new(text))
            }
        }
        deserializer.deserialize_str(Visitor(core::marker::PhantomData))
    }
}

impl Scalar for IpAddr {
    fn read(text: &str) -> Option<Self> {
        read_ip(text).map(|ip| ip.to_canonical())
    }
}

impl Scalar for IpNet {
    fn read(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let length = read_decimal(length, 128)?;
        let address = read_ip(address)?;
        Self::new(address, u8::try_from(length).ok()?).ok()
    }
}

/// Reads an address as Go's pre-1.17 parser did, which Kubernetes keeps for stored objects
/// (`k8s.io/utils/net.ParseIPSloppy`): decimal octets and hex groups may carry leading zeros.
fn read_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip);
    }
    if !text.contains(':') {
        return read_ipv4(text).map(IpAddr::V4);
    }
    let mut strict = String::with_capacity(text.len());
    for (i, group) in text.split(':').enumerate() {
        if i > 0 {
            strict.push(':');
        }
        if group.contains('.') {
            strict.push_str(&read_ipv4(group)?.to_string());
        } else {
            let digits = group.trim_start_matches('0');
            strict.push_str(if digits.is_empty() && !group.is_empty() { "0" } else { digits });
        }
    }
    strict.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn read_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = u8::try_from(read_decimal(parts.next()?, 255)?).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

fn read_decimal(text: &str, max: u32) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.bytes()
        .try_fold(0u32, |n, b| n.checked_mul(10)?.checked_add(u32::from(b - b'0')))
        .filter(|n| *n <= max)
}

/// A port number as sent: any 32-bit integer; 0 means "absent".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(i32);

impl Port {
    /// A port number as sent, of any value.
    pub const fn new(value: i32) -> Self {
        Self(value)
    }

    /// The number, if it is a real port (1 to 65535).
    pub fn number(self) -> Option<NonZeroU16> {
        u16::try_from(self.0).ok().and_then(NonZeroU16::new)
    }

    /// The integer as sent.
    pub const fn value(self) -> i32 {
        self.0
    }

    /// True if the field is absent (0).
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<u16> for Port {
    fn from(number: u16) -> Self {
        Self(i32::from(number))
    }
}

impl From<NonZeroU16> for Port {
    fn from(number: NonZeroU16) -> Self {
        Self::from(number.get())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An integer or a string, such as `targetPort: 8080` or `targetPort: http`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrString {
    /// A JSON number.
    Int(i32),
    /// A JSON string.
    String(SmolStr),
}

impl IntOrString {
    /// The port number, if this is an integer from 1 to 65535.
    pub fn number(&self) -> Option<NonZeroU16> {
        match self {
            Self::Int(value) => Port::new(*value).number(),
            Self::String(_) => None,
        }
    }

    /// The port name, if this is a string.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Int(_) => None,
            Self::String(name) => Some(name),
        }
    }
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl From<u16> for IntOrString {
    fn from(number: u16) -> Self {
        Self::Int(i32::from(number))
    }
}

impl From<&str> for IntOrString {
    fn from(name: &str) -> Self {
        Self::String(SmolStr::new(name))
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::String(name) => f.pad(name),
        }
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(value) => serializer.serialize_i32(*value),
            Self::String(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = IntOrString;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 32-bit integer or a string")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                i32::try_from(value)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                i32::try_from(value)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(IntOrString::String(SmolStr::new(name)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// An instant of the API (RFC 3339, UTC), to the nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The instant this many nanoseconds after 1970-01-01T00:00:00Z; `None` outside the years
    /// -9999 to 9999.
    pub fn from_unix_nanoseconds(nanoseconds: i128) -> Option<Self> {
        jiff::Timestamp::from_nanosecond(nanoseconds).ok().map(Self)
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub fn unix_nanoseconds(self) -> i128 {
        self.0.as_nanosecond()
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| TimestampError(SmolStr::new(text)))
    }
}

/// Text that is no RFC 3339 instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no RFC 3339 time such as 2026-01-31T12:00:00Z")]
pub struct TimestampError(SmolStr);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SmolStr::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Declares the values of a string field that Kubernetes knows: a closed `Copy` enum that fields
/// hold as [`Sent`].
macro_rules! string_enum {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The text of the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl crate::scalar::Scalar for $name {
            fn read(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    )*};
}

pub(crate) use string_enum;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_held_parsed_and_the_rest_is_kept() {
        let ip = Sent::<IpAddr>::new("10.0.0.1");
        assert_eq!(ip, Sent::Value(IpAddr::from([10, 0, 0, 1])));
        for legacy in ["010.000.0.01", "::ffff:10.0.0.1", "::FFFF:10.0.0.1", "0:0::ffff:010.0.0.1"] {
            let sent = Sent::<IpAddr>::new(legacy);
            assert_eq!(sent.to_text(), legacy);
            assert_eq!(sent.get(), Some(IpAddr::from([10, 0, 0, 1])), "{legacy}");
        }
        for garbage in ["", "None", "10.0.0", "10.0.0.256", "1.2.3.4.5", "::1%eth0", "1:2", "10.0.0.-1"] {
            let sent = Sent::<IpAddr>::new(garbage);
            assert_eq!((sent.get(), sent.to_text().as_str()), (None, garbage));
        }
    }

    #[test]
    fn networks_keep_host_bits_and_read_legacy_lengths() {
        assert_eq!(Sent::<IpNet>::new("10.0.0.7/24").get(), "10.0.0.7/24".parse().ok());
        assert_eq!(Sent::<IpNet>::new("10.0.00.7/024").get(), "10.0.0.7/24".parse().ok());
        for garbage in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "/8"] {
            assert_eq!(Sent::<IpNet>::new(garbage).get(), None, "{garbage}");
        }
    }

    #[test]
    fn instants_print_as_they_were_read() {
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000001Z"] {
            assert_eq!(text.parse::<Timestamp>().map(|t| t.to_string()), Ok(text.into()));
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
