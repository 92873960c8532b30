//! From a question to an answer.

mod chain;
mod external;
pub(crate) mod records;

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::lookup::{Absence, Found, Lookup};
use crate::name::Name;
use crate::options::{Behavior, PtrNames};
use crate::question::Question;
use crate::record::{Rcode, Record, Type};
use crate::reverse::{self, Extra};
use crate::sink::{Answer, DataRef, NameRef, Section, Sink, Tail};
use crate::store::Side;
use crate::store::service::{Entry, FaceKind};
use crate::zones::{Served, Sync, Zones};

/// The version of the specification that is served, and the seconds that it may be kept (section 2.2).
const VERSION: &[u8] = b"1.1.0";
const VERSION_TTL: u32 = 28_800;
/// The version of the multicluster specification (KEP-1645).
const MULTICLUSTER_VERSION: &[u8] = b"1.0.0";

/// The longest TTL of a SOA.
const SOA_TTL: u32 = 300;

/// Knows names outside the zones: where CNAME chains of ExternalName Services go on.
///
/// Answering never waits. A caller that has to ask over the network first finds out what is needed with [`Zones::outside`], asks,
/// and then answers with what it got.
pub trait Upstream {
    /// The records of a type at a name, CNAMEs on the way included.
    fn lookup(&self, name: &Name, qtype: Type) -> Looked;
}

/// What came back from [`Upstream::lookup`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Looked {
    /// Nobody is there to ask.
    #[default]
    Nobody,
    /// The lookup could not be made. That a server was asked and answered SERVFAIL or REFUSED is an answer.
    Failed,
    /// An answer, perhaps a negative one.
    Answer {
        /// The response code.
        rcode: Rcode,
        /// Whether the answer was cut.
        truncated: bool,
        /// The answer section.
        answer: Vec<Record>,
    },
}

/// Nobody to ask: chains end at the border of the zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoUpstream;

impl Upstream for NoUpstream {
    fn lookup(&self, _: &Name, _: Type) -> Looked {
        Looked::Nobody
    }
}

impl<F: Fn(&Name, Type) -> Looked> Upstream for F {
    fn lookup(&self, name: &Name, qtype: Type) -> Looked {
        self(name, qtype)
    }
}

/// How a question ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done(Rcode),
    /// Not ours: the next server in the chain may know.
    Next,
}

/// A question in a zone.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'z, 'q> {
    pub(crate) zone: &'z Served,
    pub(crate) question: &'q Question<'q>,
    /// How many labels stand left of the zone.
    pub(crate) left: usize,
    /// The zone as the question spells it.
    pub(crate) tail: Tail<'q>,
    pub(crate) behavior: Behavior,
}

impl<'z, 'q> Asked<'z, 'q> {
    /// The name as asked.
    pub(crate) fn owner(&self) -> NameRef<'q> {
        NameRef::whole(self.question.tail(0))
    }

    /// Whether the question spells the zone in lower case, which some of CoreDNS's comparisons need.
    fn is_lower(&self) -> bool {
        self.tail.labels == self.zone.name.wire()
    }
}

/// What a question found: whether there is a record, a code if it is not the usual one, or why the name does not exist.
pub(crate) type Resolved = Result<Answered, Absence>;

/// What was put into the answer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Records that answer the question.
    Records,
    /// No record of the type.
    Nothing,
    /// A chain of CNAMEs whose end is this code; a negative one takes a SOA.
    Chain(Rcode),
    /// A chain whose end exists without a record of the type.
    ChainToNothing,
}

impl Answered {
    fn some(any: bool) -> Self {
        if any { Self::Records } else { Self::Nothing }
    }
}

impl Zones {
    /// Answers a question; `None` means that it is not ours: outside the zones, or let through by `fallthrough`.
    ///
    /// ```
    /// use svc_dns::{NoUpstream, Options, Question, Rcode, Type, Zones};
    ///
    /// let zones = Zones::new(Options::default())?;
    /// let name = "web.shop.svc.cluster.local".parse()?;
    /// let answer = zones.answer(&Question::new(&name, Type::A), &NoUpstream).unwrap();
    /// assert_eq!(answer.rcode, Rcode::NxDomain);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn answer(&self, question: &Question<'_>, upstream: &dyn Upstream) -> Option<Answer> {
        let mut answer = Answer::empty(Rcode::NoError);
        match self.resolve(question, upstream, &mut answer) {
            Outcome::Done(rcode) => {
                answer.rcode = rcode;
                Some(answer)
            }
            Outcome::Next => None,
        }
    }

    /// The names outside the zones that the answer to a question depends on, for callers that have to ask for them first.
    #[must_use]
    pub fn outside(&self, question: &Question<'_>) -> Vec<(Name, Type)> {
        let needed = core::cell::RefCell::new(Vec::new());
        let upstream = |name: &Name, qtype: Type| {
            let mut needed = needed.borrow_mut();
            if !needed.iter().any(|(other, asked): &(Name, Type)| other.is(name) && *asked == qtype) {
                needed.push((name.clone(), qtype));
            }
            Looked::Nobody
        };
        self.resolve(question, &upstream, &mut Nowhere);
        needed.into_inner()
    }

    pub(crate) fn lookup(&self, behavior: Behavior) -> Lookup<'_> {
        Lookup { store: &self.store, options: &self.options, behavior }
    }

    /// A question with `left` labels left of a zone.
    pub(crate) fn asked<'z, 'q>(
        &self,
        zone: &'z Served,
        question: &'q Question<'q>,
        left: usize,
    ) -> Asked<'z, 'q> {
        let tail = question.tail(left);
        Asked { zone, question, left, tail, behavior: self.options.behavior }
    }

    /// Answers into a sink.
    pub(crate) fn resolve(
        &self,
        question: &Question<'_>,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> Outcome {
        self.judge(question, upstream, self.options.behavior, sink).0
    }

    /// Answers into a sink, and tells why where a name does not exist.
    pub(crate) fn judge(
        &self,
        question: &Question<'_>,
        upstream: &dyn Upstream,
        behavior: Behavior,
        sink: &mut dyn Sink,
    ) -> (Outcome, Option<Absence>) {
        if !self.external.is_empty() {
            match self.resolve_external(question, upstream, sink) {
                (Outcome::Next, _) => {}
                done => return done,
            }
        }
        let Some((index, left)) = self.zone_of(question, &self.served) else { return (Outcome::Next, None) };
        let Some(zone) = self.served.get(index) else { return (Outcome::Next, None) };
        let asked = Asked { behavior, ..self.asked(zone, question, left) };
        if matches!(question.qtype(), Type::AXFR | Type::IXFR) {
            return (Outcome::Done(Rcode::Refused), None);
        }
        let resolved = match behavior {
            Behavior::CoreDns => self.resolve_coredns(asked, upstream, sink),
            Behavior::Standards => self.resolve_standards(asked, upstream, sink),
        };
        let rcode = match resolved {
            Ok(Answered::Records) => return (Outcome::Done(Rcode::NoError), None),
            Ok(Answered::Chain(rcode)) if rcode != Rcode::NxDomain => return (Outcome::Done(rcode), None),
            Ok(Answered::Chain(rcode)) => rcode,
            Ok(Answered::Nothing | Answered::ChainToNothing) => Rcode::NoError,
            Err(absence) => {
                if self.falls_through(question, &self.options.fallthrough) {
                    return (Outcome::Next, Some(absence));
                }
                if self.sync == Sync::Pending { Rcode::ServFail } else { Rcode::NxDomain }
            }
        };
        self.soa(asked, Section::Authority, sink);
        (Outcome::Done(rcode), resolved.err())
    }

    /// Whether a name lies below any of these zones.
    pub(crate) fn falls_through(&self, question: &Question<'_>, zones: &[Name]) -> bool {
        zones.iter().any(|zone| crate::name::below(question.lower(), zone.wire()).is_some())
    }

    /// CoreDNS's order of looking: what exists depends on the type that is asked for.
    fn resolve_coredns(
        &self,
        asked: Asked<'_, '_>,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> Resolved {
        let Asked { zone, question, left, .. } = asked;
        let lookup = self.lookup(asked.behavior);
        let qtype = question.qtype();
        match qtype {
            Type::SOA => {
                // Off the apex CoreDNS looks no further.
                if left == 0 {
                    self.soa(asked, Section::Answer, sink);
                }
                Ok(Answered::some(left == 0))
            }
            Type::NS if left == 0 && asked.is_lower() => Ok(Answered::some(self.name_servers(asked, sink))),
            Type::TXT => {
                if self.version(asked, sink) {
                    return Ok(Answered::Records);
                }
                match lookup.locate(zone, question, left)? {
                    Found::Node => Err(Absence::WrongType),
                    Found::Addresses(_, face, _) if face.addrs.is_empty() && face.text.is_none() => {
                        Err(Absence::WrongType)
                    }
                    _ => Ok(Answered::Nothing),
                }
            }
            Type::PTR => match reverse::address(question.lower(), Extra::Ignored) {
                Some(addr) => self.ptr(asked, addr, sink),
                None => lookup.locate(zone, question, left).map(|_| Answered::Nothing),
            },
            _ if is_default_name_server(asked) => Ok(Answered::some(self.name_server_addrs(asked, sink))),
            Type::A | Type::AAAA => {
                let found = lookup.locate(zone, question, left)?;
                if let Found::Alias(alias) = found {
                    return Ok(self.chain_coredns(asked, alias, upstream, sink));
                }
                Ok(Answered::some(self.put_records(asked, found, sink)))
            }
            _ => {
                let found = lookup.locate(zone, question, left)?;
                Ok(Answered::some(self.put_records(asked, found, sink)))
            }
        }
    }

    /// The standards' order: a name exists or it does not, and then its types are looked at.
    fn resolve_standards(
        &self,
        asked: Asked<'_, '_>,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> Resolved {
        let Asked { question, left, .. } = asked;
        let qtype = question.qtype();
        if left == 0 {
            match qtype {
                Type::SOA => {
                    self.soa(asked, Section::Answer, sink);
                    return Ok(Answered::Records);
                }
                Type::NS => return Ok(Answered::some(self.name_servers(asked, sink))),
                _ => {}
            }
        }
        if let Some(addr) = reverse::address(question.lower(), Extra::Refused).filter(|_| asked.zone.reverse)
        {
            // The name exists for every type if it does for PTR.
            return if qtype == Type::PTR {
                self.ptr(asked, addr, sink)
            } else {
                self.ptr(asked, addr, &mut Nowhere).map(|_| Answered::Nothing)
            };
        }
        match self.lookup(asked.behavior).locate(asked.zone, question, left) {
            Ok(Found::Alias(alias)) if qtype != Type::CNAME => {
                Ok(self.chain_standards(asked, alias, upstream, sink))
            }
            Ok(found) => Ok(Answered::some(self.put_records(asked, found, sink))),
            Err(absence) => {
                let other = match left {
                    1 if question.label(0) == b"dns-version" => {
                        qtype == Type::TXT && self.version(asked, sink)
                    }
                    2 if question.labels(0, 2) == b"\x02ns\x03dns" => self.name_server_addrs(asked, sink),
                    _ if self.has_below(asked) => false,
                    _ => return Err(absence),
                };
                Ok(Answered::some(other))
            }
        }
    }

    /// The `dns-version` record, if that is the name.
    fn version(&self, asked: Asked<'_, '_>, sink: &mut dyn Sink) -> bool {
        if asked.left != 1 || asked.question.label(0) != b"dns-version" {
            return false;
        }
        let multicluster = asked.zone.side == Side::Imported && asked.behavior == Behavior::Standards;
        let version = if multicluster { MULTICLUSTER_VERSION } else { VERSION };
        sink.record(Section::Answer, asked.owner(), VERSION_TTL, DataRef::Txt(version));
        true
    }

    pub(crate) fn serial(&self, side: Side) -> u32 {
        match side {
            Side::Internal => self.serials.internal,
            Side::Imported => self.serials.multicluster,
        }
    }

    /// The SOA of the zone.
    pub(crate) fn soa(&self, asked: Asked<'_, '_>, section: Section, sink: &mut dyn Sink) {
        let ttl = self.options.ttl;
        let soa = DataRef::Soa {
            mname: NameRef::below(b"\x02ns\x03dns", asked.tail),
            rname: NameRef::below(b"\x0ahostmaster", asked.tail),
            serial: self.serial(asked.zone.side),
            minimum: ttl,
        };
        sink.record(section, NameRef::whole(asked.tail), ttl.min(SOA_TTL), soa);
    }

    /// NS records of the apex with the name servers' addresses.
    pub(crate) fn name_servers(&self, asked: Asked<'_, '_>, sink: &mut dyn Sink) -> bool {
        let servers = self.server_addrs(asked.tail);
        let ttl = self.options.ttl;
        let mut seen: Vec<[&[u8]; 5]> = Vec::new();
        for (name, _) in &servers {
            if !seen.contains(&name.pieces()) {
                seen.push(name.pieces());
                sink.record(Section::Answer, asked.owner(), ttl, DataRef::Ns(*name));
            }
        }
        for (name, addr) in &servers {
            sink.record(Section::Additional, *name, ttl, DataRef::from(*addr));
        }
        !servers.is_empty()
    }

    /// The addresses of `ns.dns`, those of the type that is asked for.
    fn name_server_addrs(&self, asked: Asked<'_, '_>, sink: &mut dyn Sink) -> bool {
        let mut any = false;
        let mut seen = Vec::new();
        for (_, addr) in self.server_addrs(asked.tail) {
            if records::is_of(addr, asked.question.qtype()) && !seen.contains(&addr) {
                seen.push(addr);
                any = true;
                sink.record(Section::Answer, asked.owner(), self.options.ttl, DataRef::from(addr));
            }
        }
        any
    }

    /// The zone's name servers: the Services that have an address of this server among their endpoints, by their cluster addresses
    /// or, headless, by the endpoints of the slice; the server's own addresses if no endpoint is known.
    pub(crate) fn server_addrs<'a>(&'a self, tail: Tail<'a>) -> Vec<(NameRef<'a>, IpAddr)> {
        let mut servers = Vec::new();
        let mut found = false;
        for entry in self.serving(&mut found) {
            let Some(face) = entry.face() else { continue };
            let base = [&*entry.key, b"\x03svc"];
            if face.kind == FaceKind::Headless {
                for row in self.serving_rows(entry) {
                    let leaf = [entry.endpoints.label(row), b""];
                    servers.push((NameRef { leaf, base, tail }, row.addr));
                }
            } else {
                servers.extend(
                    face.addrs.iter().map(|addr| (NameRef { base, tail, ..NameRef::default() }, *addr)),
                );
            }
        }
        if !found {
            let own = self.options.local_addresses.iter();
            servers.extend(own.map(|addr| (NameRef::below(b"\x02ns\x03dns", tail), *addr)));
        }
        let mut seen = Vec::new();
        servers.retain(|(name, addr)| {
            let key = (name.pieces(), *addr);
            let new = !seen.contains(&key);
            if new {
                seen.push(key);
            }
            new
        });
        servers
    }

    /// The Services that have one of the server's addresses as an endpoint, by namespace and name.
    fn serving(&self, found: &mut bool) -> Vec<&Entry> {
        let addrs = &self.options.local_addresses;
        let mut ids: Vec<u32> = addrs.iter().flat_map(|addr| self.store.endpoint_addrs.find(*addr)).collect();
        *found = !ids.is_empty();
        ids.sort_unstable();
        ids.dedup();
        let mut entries: Vec<&Entry> = ids.into_iter().filter_map(|id| self.store.internal.get(id)).collect();
        entries.sort_by(|a, b| a.cmp_name(b));
        entries
    }

    /// The rows of the slices that hold one of the server's addresses.
    fn serving_rows<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> impl Iterator<Item = &'a crate::store::endpoints::Row> {
        let endpoints = &entry.endpoints;
        let holds = |index: &usize| {
            endpoints.slice_rows(*index).iter().any(|row| self.options.local_addresses.contains(&row.addr))
        };
        (0..endpoints.slices().len()).filter(holds).flat_map(|index| endpoints.slice_rows(index))
    }

    /// The PTR records of an address: the Service that has it, or else every endpoint that does.
    fn ptr(&self, asked: Asked<'_, '_>, addr: IpAddr, sink: &mut dyn Sink) -> Resolved {
        let tail = Tail::from(self.primary.wire());
        let ttl = self.options.ttl;
        let standards = asked.behavior == Behavior::Standards;
        // CoreDNS looks at the namespace only where `namespaces` is set, so names that `namespace_labels` hides leak here.
        let open = !standards && self.options.namespaces.is_empty();
        let visible =
            |entry: &&Entry| (open || self.store.exposes(entry)) && (!standards || entry.face().is_some());
        let before = |a: &&Entry, b: &&Entry| a.cmp_name(b);
        let services = self.store.cluster_addrs.find(addr).filter_map(|id| self.store.internal.get(id));
        if let Some(entry) = services.filter(visible).min_by(before) {
            let name = NameRef { base: [&entry.key, b"\x03svc"], tail, ..NameRef::default() };
            sink.record(Section::Answer, asked.owner(), ttl, DataRef::Ptr(name));
            return Ok(Answered::Records);
        }
        let mut any = false;
        let mut last: Option<&Entry> = None;
        loop {
            let owners = self.store.endpoint_addrs.find(addr).filter_map(|id| self.store.internal.get(id));
            let after =
                owners.filter(visible).filter(|entry| last.is_none_or(|last| last.cmp_name(entry).is_lt()));
            let Some(entry) = after.min_by(before) else { break };
            last = Some(entry);
            let endpoints = &entry.endpoints;
            for row in endpoints.with_addr(addr) {
                let repeated = endpoints.before_with_label(row).any(|before| before.addr == addr);
                let wanted = self.options.ptr != PtrNames::Hostnames || row.named;
                if repeated || !wanted || (any && self.options.ptr == PtrNames::One) {
                    continue;
                }
                any = true;
                let name =
                    NameRef { leaf: [endpoints.label(row), b""], base: [&entry.key, b"\x03svc"], tail };
                sink.record(Section::Answer, asked.owner(), ttl, DataRef::Ptr(name));
            }
        }
        if any { Ok(Answered::Records) } else { Err(Absence::NoSuchAddress) }
    }
}

/// Whether CoreDNS takes a name for `ns.dns.<zone>`: it compares with the zone as asked, so another spelling is not found, and it
/// looks at the start of the name only.
fn is_default_name_server(asked: Asked<'_, '_>) -> bool {
    let zone = asked.zone.name.wire().split_last().map(|(_, labels)| labels).unwrap_or_default();
    asked.zone.labels > 0
        && asked.question.lower().strip_prefix(b"\x02ns\x03dns").is_some_and(|rest| rest.starts_with(zone))
        && asked.is_lower()
}

/// Takes nothing: for questions about the question.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn record(&mut self, _: Section, _: NameRef<'_>, _: u32, _: DataRef<'_>) {}
    fn truncate(&mut self) {}
}
