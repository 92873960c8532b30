//! Resource records and their text form.

use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::name::Name;

/// A record or query type, as its number in the IANA registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type(pub u16);

macro_rules! types {
    ($($name:ident = $number:literal,)*) => {
        impl Type {
            $(#[doc = concat!("`", stringify!($name), "`, ", stringify!($number), ".")]
            pub const $name: Self = Self($number);)*

            const NAMES: &'static [(u16, &'static str)] = &[$(($number, stringify!($name)),)*];
        }
    };
}

types! {
    A = 1, NS = 2, CNAME = 5, SOA = 6, PTR = 12, HINFO = 13, MX = 15, TXT = 16, AAAA = 28, LOC = 29, SRV = 33, NAPTR = 35,
    DNAME = 39, OPT = 41, DS = 43, SSHFP = 44, RRSIG = 46, NSEC = 47, DNSKEY = 48, TLSA = 52, SVCB = 64, HTTPS = 65, SPF = 99,
    IXFR = 251, AXFR = 252, ANY = 255, URI = 256, CAA = 257,
}

impl fmt::Display for Type {
    /// The mnemonic, or `TYPE123` (RFC 3597).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.pad(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown record type")]
pub struct UnknownType;

impl FromStr for Type {
    type Err = UnknownType;

    /// Reads the mnemonic in any case, or `TYPE123`.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        if let Some((number, _)) = Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Ok(Self(*number));
        }
        match text.split_at_checked(4) {
            Some((word, number)) if word.eq_ignore_ascii_case("TYPE") => {
                number.parse().map(Self).map_err(|_| UnknownType)
            }
            _ => Err(UnknownType),
        }
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name that this name is an alias of.
    Cname(Name),
    /// A name server of the zone.
    Ns(Name),
    /// The name of an address.
    Ptr(Name),
    /// Where a service is found (RFC 2782).
    Srv {
        /// Lower is tried first; always 0 here.
        priority: u16,
        /// Share among records of one priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host.
        target: Name,
    },
    /// One text string of at most 255 bytes.
    Txt(Vec<u8>),
    /// The start of authority.
    Soa(Soa),
}

impl Data {
    /// The record type of this data.
    #[must_use]
    pub fn record_type(&self) -> Type {
        match self {
            Self::A(_) => Type::A,
            Self::Aaaa(_) => Type::AAAA,
            Self::Cname(_) => Type::CNAME,
            Self::Ns(_) => Type::NS,
            Self::Ptr(_) => Type::PTR,
            Self::Srv { .. } => Type::SRV,
            Self::Txt(_) => Type::TXT,
            Self::Soa(_) => Type::SOA,
        }
    }
}

/// Start of authority (RFC 1035 section 3.3.13); times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Soa {
    /// The primary name server.
    pub mname: Name,
    /// The mailbox of the person responsible, `@` written as a dot.
    pub rname: Name,
    /// Grows with every change of the zone (RFC 1982 arithmetic).
    pub serial: u32,
    /// How often a secondary looks for a change.
    pub refresh: u32,
    /// How long it waits after a failure.
    pub retry: u32,
    /// How long it answers without reaching the primary.
    pub expire: u32,
    /// How long a negative answer may be kept (RFC 2308).
    pub minimum: u32,
}

/// A resource record of class IN.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The name that it belongs to.
    pub owner: Name,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// Type and value.
    pub data: Data,
}

impl fmt::Display for Record {
    /// One line of a zone file: `owner ttl IN TYPE data`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} {}", self.owner, self.ttl, self.data.record_type(), self.data)
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(addr) => write!(f, "{addr}"),
            Self::Aaaa(addr) => write!(f, "{addr}"),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => write!(f, "{name}"),
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}"),
            Self::Txt(text) => {
                f.write_str("\"")?;
                quoted(f, text)?;
                f.write_str("\"")
            }
            Self::Soa(soa) => write!(
                f,
                "{} {} {} {} {} {} {}",
                soa.mname, soa.rname, soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum
            ),
        }
    }
}

/// Writes bytes of a quoted string: only the quote, the backslash and what is not printable need an escape.
fn quoted(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    use fmt::Write as _;
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
            0x20..=0x7e => f.write_char(char::from(byte))?,
            _ => write!(f, "\\{byte:03}")?,
        }
    }
    Ok(())
}

/// Response codes that appear in answers (RFC 1035, RFC 2136, RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rcode {
    /// No error; with an empty answer section it is "NODATA".
    NoError,
    /// The query is malformed.
    FormErr,
    /// The server cannot say.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// NOTIMP: the server knows no such operation (RFC 1035, section 4.1.1).
    NotImp,
    /// The server will not do it.
    Refused,
    /// The server does not serve that zone.
    NotAuth,
    /// The EDNS version is unknown.
    BadVers,
}

impl Rcode {
    /// The number; [`Rcode::BadVers`] is 16, of which the upper bits travel in the OPT record.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::NotAuth => 9,
            Self::BadVers => 16,
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::NotAuth => "NOTAUTH",
            Self::BadVers => "BADVERS",
        })
    }
}
