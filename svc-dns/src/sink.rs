//! Where answers go: one code path decides them, and either collects them as records or writes them as a message.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::Name;
use crate::record::{Data, Rcode, Record, Soa};

/// The sections of a message that hold records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who answers: the SOA of a negative answer.
    Authority,
    /// What is likely asked next: addresses of targets.
    Additional,
}

/// The end of a name, down to the root, and where the question of the message spells it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail<'a> {
    pub(crate) labels: &'a [u8],
    /// 0 if it is not known to be in the question.
    pub(crate) place: u16,
}

impl<'a> From<&'a [u8]> for Tail<'a> {
    fn from(labels: &'a [u8]) -> Self {
        Self { labels, place: 0 }
    }
}

/// A name in pieces of wire labels: what is its own, what it shares with its siblings, and the zone with the root.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NameRef<'a> {
    pub(crate) leaf: [&'a [u8]; 2],
    pub(crate) base: [&'a [u8]; 2],
    pub(crate) tail: Tail<'a>,
}

impl<'a> NameRef<'a> {
    /// A name that is in one piece.
    pub(crate) fn whole(tail: impl Into<Tail<'a>>) -> Self {
        Self { tail: tail.into(), ..Self::default() }
    }

    /// A few labels below a zone.
    pub(crate) fn below(base: &'a [u8], tail: impl Into<Tail<'a>>) -> Self {
        Self { base: [base, b""], tail: tail.into(), ..Self::default() }
    }

    pub(crate) fn pieces(&self) -> [&'a [u8]; 5] {
        let [leaf, cluster] = self.leaf;
        let [base, branch] = self.base;
        [leaf, cluster, base, branch, self.tail.labels]
    }

    /// How many bytes the name has in wire form.
    pub(crate) fn len(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }

    pub(crate) fn to_name(self) -> Option<Name> {
        Name::from_wire(&self.pieces().concat()).ok()
    }
}

/// Data of a record, its names in pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DataRef<'a> {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(NameRef<'a>),
    Ns(NameRef<'a>),
    Ptr(NameRef<'a>),
    Srv { weight: u16, port: u16, target: NameRef<'a> },
    Txt(&'a [u8]),
    Soa { mname: NameRef<'a>, rname: NameRef<'a>, serial: u32, minimum: u32 },
}

/// SOA timers of CoreDNS: refresh, retry, expire.
pub(crate) const SOA_TIMERS: [u32; 3] = [7200, 1800, 86400];

impl From<IpAddr> for DataRef<'_> {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::A(addr),
            IpAddr::V6(addr) => Self::Aaaa(addr),
        }
    }
}

impl DataRef<'_> {
    fn to_data(self) -> Option<Data> {
        Some(match self {
            Self::A(addr) => Data::A(addr),
            Self::Aaaa(addr) => Data::Aaaa(addr),
            Self::Cname(name) => Data::Cname(name.to_name()?),
            Self::Ns(name) => Data::Ns(name.to_name()?),
            Self::Ptr(name) => Data::Ptr(name.to_name()?),
            Self::Srv { weight, port, target } => {
                Data::Srv { priority: 0, weight, port, target: target.to_name()? }
            }
            Self::Txt(text) => Data::Txt(text.to_vec()),
            Self::Soa { mname, rname, serial, minimum } => {
                let [refresh, retry, expire] = SOA_TIMERS;
                let (mname, rname) = (mname.to_name()?, rname.to_name()?);
                Data::Soa(Soa { mname, rname, serial, refresh, retry, expire, minimum })
            }
        })
    }
}

/// Takes an answer, record by record; the sections come in order.
pub(crate) trait Sink {
    /// One record.
    fn record(&mut self, section: Section, owner: NameRef<'_>, ttl: u32, data: DataRef<'_>);

    /// One record that came from elsewhere.
    fn foreign(&mut self, section: Section, record: &Record) {
        let owner = NameRef::whole(record.owner.wire());
        let data = match &record.data {
            Data::A(addr) => DataRef::A(*addr),
            Data::Aaaa(addr) => DataRef::Aaaa(*addr),
            Data::Cname(name) => DataRef::Cname(NameRef::whole(name.wire())),
            Data::Ns(name) => DataRef::Ns(NameRef::whole(name.wire())),
            Data::Ptr(name) => DataRef::Ptr(NameRef::whole(name.wire())),
            Data::Srv { weight, port, target, .. } => {
                DataRef::Srv { weight: *weight, port: *port, target: NameRef::whole(target.wire()) }
            }
            Data::Txt(text) => DataRef::Txt(text),
            // A SOA of another zone says nothing about this answer.
            Data::Soa(_) => return,
        };
        self.record(section, owner, record.ttl, data);
    }

    /// The answer is not complete: something that it was made from was cut.
    fn truncate(&mut self);
}

/// An answer: response code and sections.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The response code.
    pub rcode: Rcode,
    /// Whether records are missing because an answer from elsewhere was cut (the TC flag).
    pub truncated: bool,
    /// What was asked for, each CNAME before what it points to.
    pub answer: Vec<Record>,
    /// The SOA of a negative answer.
    pub authority: Vec<Record>,
    /// Addresses of targets in the answer.
    pub additional: Vec<Record>,
}

impl Answer {
    pub(crate) fn empty(rcode: Rcode) -> Self {
        Self { rcode, truncated: false, answer: Vec::new(), authority: Vec::new(), additional: Vec::new() }
    }
}

impl Sink for Answer {
    fn record(&mut self, section: Section, owner: NameRef<'_>, ttl: u32, data: DataRef<'_>) {
        // A name that is too long for the wire has no record: the wire writer leaves it out as well.
        if let (Some(owner), Some(data)) = (owner.to_name(), data.to_data()) {
            let record = Record { owner, ttl, data };
            match section {
                Section::Answer => self.answer.push(record),
                Section::Authority => self.authority.push(record),
                Section::Additional => self.additional.push(record),
            }
        }
    }

    fn truncate(&mut self) {
        self.truncated = true;
    }
}
