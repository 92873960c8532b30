//! The zones of addresses outside the cluster, as CoreDNS's `k8s_external` answers them.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::records::{endpoint_name, is_of, weight};
use super::{Asked, Looked, Outcome, Upstream};
use crate::lookup::Absence;
use crate::name::Name;
use crate::options::{External, Headless};
use crate::question::Question;
use crate::record::{Rcode, Record, Type};
use crate::reverse::{self, Extra};
use crate::sink::{DataRef, NameRef, Section, Sink};
use crate::store::endpoints::{Port, Ports};
use crate::store::service::{Entry, FaceKind, Outside};
use crate::zones::Zones;

/// One address or host name of a Service, with a port that it is reached at.
pub(crate) struct Reached<'z> {
    host: Host<'z>,
    port: &'z Port,
    /// The name that SRV records point to.
    target: NameRef<'z>,
}

enum Host<'z> {
    Addr(IpAddr),
    Name(&'z Name),
}

/// What a name in an external zone is.
pub(crate) enum FoundOutside<'z> {
    /// It exists without records.
    Node,
    /// A Service or an endpoint.
    Reached(Vec<Reached<'z>>),
}

impl Zones {
    pub(crate) fn resolve_external(
        &self,
        question: &Question<'_>,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> (Outcome, Option<Absence>) {
        let Some(external) = &self.options.external else { return (Outcome::Next, None) };
        let Some((index, left)) = self.zone_of(question, &self.external) else {
            return (Outcome::Next, None);
        };
        let Some(zone) = self.external.get(index) else { return (Outcome::Next, None) };
        // This plugin writes its own spelling of the zone, not the question's.
        let asked = Asked { tail: zone.name.wire().into(), ..self.asked(zone, question, left) };
        if matches!(question.qtype(), Type::AXFR | Type::IXFR) {
            return (Outcome::Done(Rcode::Refused), None);
        }
        let found = if left == 0 {
            Ok(self.external_apex(asked, external, sink))
        } else if question.label(left - 1).eq_ignore_ascii_case(external.apex.as_bytes()) {
            self.external_name_server(asked, external, sink)
        } else {
            self.external_records(asked, external, upstream, sink)
        };
        let rcode = match found {
            Ok(true) => return (Outcome::Done(Rcode::NoError), None),
            Ok(false) => Rcode::NoError,
            // Names below the apex label are never handed on.
            Err(_) if question.label(left - 1).eq_ignore_ascii_case(external.apex.as_bytes()) => {
                Rcode::NxDomain
            }
            Err(absence) if self.falls_through(question, &external.fallthrough) => {
                return (Outcome::Next, Some(absence));
            }
            Err(_) => Rcode::NxDomain,
        };
        self.external_soa(asked, external, Section::Authority, sink);
        (Outcome::Done(rcode), found.err())
    }

    pub(crate) fn external_soa(
        &self,
        asked: Asked<'_, '_>,
        external: &External,
        section: Section,
        sink: &mut dyn Sink,
    ) {
        let apex = apex_labels(external);
        let name = |label| NameRef { leaf: [label, b""], base: [&apex, b""], tail: asked.tail };
        let soa = DataRef::Soa {
            mname: name(b"\x03ns1"),
            rname: name(b"\x0ahostmaster"),
            serial: self.serials.external,
            minimum: external.ttl,
        };
        sink.record(section, NameRef::whole(asked.tail), external.ttl, soa);
    }

    pub(crate) fn external_apex(
        &self,
        asked: Asked<'_, '_>,
        external: &External,
        sink: &mut dyn Sink,
    ) -> bool {
        match asked.question.qtype() {
            Type::SOA => self.external_soa(asked, external, Section::Answer, sink),
            Type::NS => {
                let apex = apex_labels(external);
                let leaf = [&b"\x03ns1"[..], b""];
                let server = NameRef { leaf, base: [&apex, b""], tail: asked.tail };
                sink.record(Section::Answer, NameRef::whole(asked.tail), external.ttl, DataRef::Ns(server));
                for addr in self.external_server_addrs(external) {
                    let owner = NameRef { leaf, base: [&apex, b""], tail: asked.question.tail(0) };
                    sink.record(Section::Additional, owner, external.ttl, DataRef::from(addr));
                }
            }
            _ => return false,
        }
        true
    }

    /// `dns` exists, `ns1.dns` has addresses, nothing else is there.
    fn external_name_server(
        &self,
        asked: Asked<'_, '_>,
        external: &External,
        sink: &mut dyn Sink,
    ) -> Result<bool, Absence> {
        match asked.left {
            1 => Ok(false),
            2 if asked.question.label(0) == b"ns1" => {
                let mut any = false;
                let addrs = self.external_server_addrs(external);
                for addr in addrs.into_iter().filter(|addr| is_of(*addr, asked.question.qtype())) {
                    any = true;
                    sink.record(Section::Answer, asked.owner(), external.ttl, DataRef::from(addr));
                }
                Ok(any)
            }
            _ => Err(Absence::TooLong),
        }
    }

    /// The outside addresses of the Services that this server is an endpoint of, or else its own.
    pub(crate) fn external_server_addrs(&self, external: &External) -> Vec<IpAddr> {
        let mut addrs = Vec::new();
        let mut found = false;
        for entry in self.serving(&mut found) {
            let Some(face) = entry.face() else { continue };
            if external.headless == Headless::Served && face.kind == FaceKind::Headless {
                addrs.extend(self.serving_rows(entry).map(|row| row.addr));
            } else {
                addrs.extend(face.outside.iter().filter_map(|outside| match outside {
                    Outside::Addr(addr) => Some(*addr),
                    Outside::Host(_) => None,
                }));
            }
        }
        if !found {
            addrs.extend(&self.options.local_addresses);
        }
        let mut seen = Vec::new();
        addrs.retain(|addr| {
            let new = !seen.contains(addr);
            seen.push(*addr);
            new
        });
        addrs
    }

    fn external_records(
        &self,
        asked: Asked<'_, '_>,
        external: &External,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> Result<bool, Absence> {
        let qtype = asked.question.qtype();
        if let Some(addr) =
            reverse::address(asked.question.lower(), Extra::Ignored).filter(|_| qtype == Type::PTR)
        {
            return self.external_ptr(asked, addr, external, sink);
        }
        match self.locate_external(asked, external)? {
            FoundOutside::Reached(reached) => match qtype {
                Type::A | Type::AAAA => Ok(self.external_addrs(asked, &reached, external, upstream, sink)),
                Type::SRV => Ok(self.external_srv(asked, &reached, external, upstream, sink)),
                _ => Ok(false),
            },
            FoundOutside::Node => Ok(false),
        }
    }

    fn external_ptr(
        &self,
        asked: Asked<'_, '_>,
        addr: IpAddr,
        external: &External,
        sink: &mut dyn Sink,
    ) -> Result<bool, Absence> {
        let visible = |entry: &&Entry| self.options.namespaces.is_empty() || self.store.exposes(entry);
        let owners = self.store.outside_addrs.find(addr).filter_map(|id| self.store.internal.get(id));
        let mut owners: Vec<&Entry> = owners.filter(visible).collect();
        owners.sort_by(|a, b| a.cmp_name(b));
        owners.dedup_by_key(|entry| &entry.key);
        let Some(tail) = self.external.first().filter(|_| !owners.is_empty()) else {
            return Err(Absence::NoSuchAddress);
        };
        for entry in owners {
            let name = NameRef::below(&entry.key, tail.name.wire());
            sink.record(Section::Answer, asked.owner(), external.ttl, DataRef::Ptr(name));
        }
        Ok(true)
    }

    /// What a name leads to: `<namespace>`, `<service>.<namespace>`, and an endpoint or a port and a protocol left of that.
    pub(crate) fn locate_external<'z>(
        &'z self,
        asked: Asked<'z, '_>,
        external: &External,
    ) -> Result<FoundOutside<'z>, Absence> {
        let Asked { question, left, .. } = asked;
        let bare = |at| {
            let label = question.label(at);
            label.strip_prefix(b"_").unwrap_or(label)
        };
        self.lookup(asked.behavior).exposed(question.label(left - 1))?;
        let (endpoint, ports) = match left {
            1 => return Ok(FoundOutside::Node),
            2 => (&b""[..], Ports::default()),
            3 => (bare(0), Ports::default()),
            4 => (&b""[..], Ports { port: bare(0), protocol: bare(1) }),
            _ => return Err(Absence::TooLong),
        };
        let key = question.labels(left - 2, left);
        let (_, entry) = self.store.internal.find(key).ok_or(Absence::NoService)?;
        let reached = self.reach(entry, asked.zone.name.wire(), external, endpoint, ports);
        if reached.is_empty() { Err(Absence::NoOutsideAddress) } else { Ok(FoundOutside::Reached(reached)) }
    }

    /// Where a Service is reached from outside. A Service with outside addresses answers to any endpoint label, as in CoreDNS.
    pub(crate) fn reach<'z>(
        &'z self,
        entry: &'z Entry,
        tail: &'z [u8],
        external: &External,
        endpoint: &[u8],
        ports: Ports<'_>,
    ) -> Vec<Reached<'z>> {
        let Some(face) = entry.face() else { return Vec::new() };
        let by_endpoint = face.kind == FaceKind::Headless || !endpoint.is_empty();
        let service = NameRef::below(&entry.key, tail);
        let mut reached = Vec::new();
        if external.headless == Headless::Served && face.outside.is_empty() && by_endpoint {
            for row in entry.endpoints.rows() {
                let label = entry.endpoints.label(row).get(1..).unwrap_or_default();
                if !endpoint.is_empty() && !label.eq_ignore_ascii_case(endpoint) {
                    continue;
                }
                let target = endpoint_name(entry, row, service);
                let slice = entry.endpoints.slice_of(row).map_or(&[][..], |slice| &slice.ports);
                let row = ports.of(slice).map(|port| Reached { host: Host::Addr(row.addr), port, target });
                reached.extend(row);
            }
            return reached;
        }
        let target = service;
        for outside in &face.outside {
            let host = || match outside {
                Outside::Addr(addr) => Host::Addr(*addr),
                Outside::Host(name) => Host::Name(name),
            };
            reached.extend(ports.of(&face.ports).map(|port| Reached { host: host(), port, target }));
        }
        reached
    }

    pub(crate) fn external_addrs(
        &self,
        asked: Asked<'_, '_>,
        reached: &[Reached<'_>],
        external: &External,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> bool {
        let qtype = asked.question.qtype();
        let (mut addrs, mut names) = (Vec::new(), Vec::new());
        for one in reached {
            match one.host {
                Host::Addr(addr) if is_of(addr, qtype) && !addrs.contains(&addr) => {
                    addrs.push(addr);
                    sink.record(Section::Answer, asked.owner(), external.ttl, DataRef::from(addr));
                }
                Host::Name(name) if !names.contains(&name) => {
                    names.push(name);
                    let target = NameRef::whole(name.wire());
                    sink.record(Section::Answer, asked.owner(), self.options.ttl, DataRef::Cname(target));
                    looked(upstream, name, qtype, Section::Answer, sink);
                }
                _ => {}
            }
        }
        !addrs.is_empty() || !names.is_empty()
    }

    pub(crate) fn external_srv(
        &self,
        asked: Asked<'_, '_>,
        reached: &[Reached<'_>],
        external: &External,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> bool {
        let weight = weight(reached.len());
        let mut given: Vec<(&[u8], u16)> = Vec::new();
        let target_of = |one: &Reached<'_>| match one.host {
            Host::Addr(_) => one.target.to_name(),
            Host::Name(name) => Some(name.clone()),
        };
        let targets: Vec<Option<Name>> = reached.iter().map(target_of).collect();
        let pairs = || reached.iter().zip(&targets).filter_map(|(one, target)| Some((one, target.as_ref()?)));
        for (one, target) in pairs() {
            let Some(port) = one.port.number else { continue };
            if given.contains(&(target.wire(), port)) {
                continue;
            }
            given.push((target.wire(), port));
            let srv = DataRef::Srv { weight, port, target: NameRef::whole(target.wire()) };
            sink.record(Section::Answer, asked.owner(), self.options.ttl, srv);
        }
        let mut seen: Vec<(&[u8], Option<IpAddr>)> = Vec::new();
        for (one, target) in pairs().filter(|(one, _)| one.port.number.is_some()) {
            let addr = match one.host {
                Host::Addr(addr) => Some(addr),
                Host::Name(_) => None,
            };
            if seen.contains(&(target.wire(), addr)) {
                continue;
            }
            seen.push((target.wire(), addr));
            match addr {
                Some(addr) => {
                    let owner = NameRef::whole(target.wire());
                    sink.record(Section::Additional, owner, external.ttl, DataRef::from(addr));
                }
                None => {
                    looked(upstream, target, Type::A, Section::Additional, sink);
                    looked(upstream, target, Type::AAAA, Section::Additional, sink);
                }
            }
        }
        !given.is_empty()
    }
}

/// Puts what the upstream knows behind a record.
fn looked(upstream: &dyn Upstream, name: &Name, qtype: Type, section: Section, sink: &mut dyn Sink) {
    if let Looked::Answer { truncated, answer, .. } = upstream.lookup(name, qtype) {
        answer.iter().for_each(|record: &Record| sink.foreign(section, record));
        if truncated && section == Section::Answer {
            sink.truncate();
        }
    }
}

/// The label of the name servers, in wire form.
pub(crate) fn apex_labels(external: &External) -> Vec<u8> {
    let mut wire = Vec::with_capacity(external.apex.len() + 1);
    // A label that does not fit names nothing; the name servers are then right below the zone.
    let _ = crate::name::push_label(&mut wire, external.apex.to_ascii_lowercase().as_bytes());
    wire
}
