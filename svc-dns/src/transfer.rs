//! Whole zones: listings and transfers.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::answer::Asked;
use crate::answer::records::{endpoint_name, service_name, weight};
use crate::lookup::Filter;
use crate::name::Name;
use crate::options::{Behavior, External, Headless, PtrNames, TransferStyle};
use crate::question::Question;
use crate::record::{Rcode, Record, Type};
use crate::reverse::reverse_name;
use crate::scope::Scope;
use crate::sink::{Answer, DataRef, NameRef, Section, Sink};
use crate::store::Side;
use crate::store::endpoints::{Port, Ports};
use crate::store::service::{Alias, Entry, Face, FaceKind};
use crate::zones::{Served, Zones};

impl Zones {
    /// Every record of the cluster's objects with its zone: of Services, their endpoints, their addresses in reverse zones, and their
    /// addresses outside. By Service name and namespace, Services before imports.
    ///
    /// What is not in it: the zones' own records (SOA, NS, `dns-version`), names of Pods and topology zones (CoreDNS does not list
    /// them either), and endpoint names below Services with a cluster IP.
    pub fn records(&self) -> impl Iterator<Item = (Name, Record)> {
        self.listed().into_iter().flat_map(|(side, entry)| self.records_of(side, entry, &Scope::All))
    }

    /// The entries whose names are served, by name and namespace.
    fn listed(&self) -> Vec<(Side, &Entry)> {
        let of = |side| self.store.table(side).iter().map(move |(_, entry)| (side, entry));
        let all = of(Side::Internal).chain(of(Side::Imported));
        let mut entries: Vec<_> = all.filter(|(_, entry)| self.store.exposes(entry)).collect();
        entries.sort_by_key(|(side, entry)| (*side, entry.name(), entry.namespace_name()));
        entries
    }

    /// The records of one zone as an AXFR gives them: the SOA, the name servers with their addresses, every record, the SOA again.
    ///
    /// With the serial of an IXFR that is the zone's own it is the SOA alone; any other serial gives the whole zone (RFC 1995
    /// section 4).
    ///
    /// # Errors
    /// [`Rcode::NotAuth`] if this is none of the zones.
    pub fn transfer(&self, zone: &Name, since: Option<u32>) -> Result<impl Iterator<Item = Record>, Rcode> {
        let question = Question::new(zone, Type::AXFR);
        let is = |served: &&Served| served.name.is(zone);
        let (served, external) = match (self.served.iter().find(is), self.external.iter().find(is)) {
            (Some(served), _) => (served, None),
            (None, Some(served)) => (served, self.options.external.as_ref()),
            (None, None) => return Err(Rcode::NotAuth),
        };
        let asked = self.asked(served, &question, 0);
        let mut soa = Answer::empty(Rcode::NoError);
        let serial = match external {
            Some(external) => {
                self.external_soa(asked, external, Section::Answer, &mut soa);
                self.serials.external
            }
            None => {
                self.soa(asked, Section::Answer, &mut soa);
                self.serial(served.side)
            }
        };
        let current = since == Some(serial) && serial != 0;
        let mut apex = Answer::empty(Rcode::NoError);
        if !current {
            self.apex(asked, external, &mut apex);
        }
        let entries = if current { Vec::new() } else { self.listed() };
        let records = entries.into_iter().flat_map(move |(side, entry)| {
            let mut records = Answer::empty(Rcode::NoError);
            self.zone_records(served, external, side, entry, &Scope::All, &mut records);
            unique(records.answer)
        });
        let end = if current { Vec::new() } else { soa.answer.clone() };
        Ok(soa.answer.into_iter().chain(apex.answer).chain(apex.additional).chain(records).chain(end))
    }

    fn apex(&self, asked: Asked<'_, '_>, external: Option<&External>, apex: &mut Answer) {
        if let Some(external) = external {
            let question = Question::new(&asked.zone.name, Type::NS);
            let asked = self.asked(asked.zone, &question, 0);
            self.external_apex(asked, external, apex);
            return;
        }
        self.name_servers(asked, apex);
        if self.options.transfer == TransferStyle::PerSlice {
            apex.additional.iter_mut().for_each(|record| record.ttl = 0);
        }
    }

    /// The records that a Service has in every zone, those of its endpoints as far as the scope takes them.
    pub(crate) fn records_of(&self, side: Side, entry: &Entry, scope: &Scope<'_>) -> Vec<(Name, Record)> {
        let mut all = Vec::new();
        let external = self.external.iter().map(|zone| (zone, self.options.external.as_ref()));
        for (zone, external) in self.served.iter().map(|zone| (zone, None)).chain(external) {
            let mut records = Answer::empty(Rcode::NoError);
            self.zone_records(zone, external, side, entry, scope, &mut records);
            all.extend(unique(records.answer).into_iter().map(|record| (zone.name.clone(), record)));
        }
        all
    }

    /// The SRV records that each endpoint of a slice has: labels, port number and weight.
    pub(crate) fn slice_ports(&self, entry: &Entry, index: usize) -> Vec<PortRecord> {
        let per_slice = self.options.transfer == TransferStyle::PerSlice;
        let ports = entry.endpoints.slices().get(index).map_or(&[][..], |slice| &slice.ports);
        let record = |port: &Port| {
            let labels = port.label().zip(port.protocol.label())?;
            let ports = Ports { port: labels.0.get(2..)?, protocol: bare(labels.1) };
            let count = if per_slice {
                entry.endpoints.slice_rows(index).len()
            } else {
                Filter::by_ports(ports).count(entry)
            };
            Some((labels, self.transferred(port)?, weight(count)))
        };
        ports.iter().filter_map(record).collect()
    }

    /// The number of a port in SRV records. CoreDNS transfers a port that has none as -1, which is 65535 there.
    fn transferred(&self, port: &Port) -> Option<u16> {
        let per_slice = self.options.transfer == TransferStyle::PerSlice;
        port.number.or_else(|| per_slice.then_some(u16::MAX))
    }

    /// The records that a Service has in one zone.
    fn zone_records(
        &self,
        zone: &Served,
        external: Option<&External>,
        side: Side,
        entry: &Entry,
        scope: &Scope<'_>,
        sink: &mut dyn Sink,
    ) {
        match (external, entry.face()) {
            (Some(external), Some(_)) if side == Side::Internal => {
                self.external_zone_records(zone, external, entry, sink);
            }
            (Some(_), _) => {}
            (None, _) if zone.reverse => {
                if side == Side::Internal {
                    self.reverse_records(zone, entry, scope, sink);
                }
            }
            (None, Some(face)) if zone.side == side => {
                let lister = Lister { zones: self, entry, tail: zone.name.wire() };
                match face.kind {
                    FaceKind::Address => lister.addresses(face, scope, sink),
                    FaceKind::Headless => lister.endpoints(scope, sink),
                    FaceKind::Alias => lister.alias(face, sink),
                }
            }
            (None, _) => {}
        }
    }

    /// PTR records of a Service's addresses in a reverse zone. Where several Services share an address, each has its record here;
    /// a query gives that of a cluster IP alone.
    fn reverse_records(&self, zone: &Served, entry: &Entry, scope: &Scope<'_>, sink: &mut dyn Sink) {
        let mut put = |addr: IpAddr, leaf| {
            let owner = reverse_name(addr);
            let question = Question::new(&owner, Type::PTR);
            let best = self.zone_of(&question, &self.served).and_then(|(index, _)| self.served.get(index));
            if best.is_some_and(|best| best.name == zone.name) {
                let name = NameRef { leaf: [leaf, b""], ..service_name(entry, self.primary.wire()) };
                sink.record(
                    Section::Answer,
                    NameRef::whole(owner.wire()),
                    self.options.ttl,
                    DataRef::Ptr(name),
                );
            }
        };
        entry.face().into_iter().flat_map(|face| &face.addrs).for_each(|addr| put(*addr, b""));
        for row in entry.endpoints.rows().iter().filter(|row| scope.takes(&entry.endpoints, row)) {
            if self.options.ptr != PtrNames::Hostnames || row.named {
                put(row.addr, entry.endpoints.label(row));
            }
        }
    }

    fn external_zone_records(&self, zone: &Served, external: &External, entry: &Entry, sink: &mut dyn Sink) {
        let Some(face) = entry.face() else { return };
        let by_endpoint = external.headless == Headless::Served && face.outside.is_empty();
        if by_endpoint && face.kind != FaceKind::Headless {
            return;
        }
        let tail = zone.name.wire();
        let mut names = alloc::vec![NameRef::below(&entry.key, tail)];
        if by_endpoint {
            let rows = entry.endpoints.rows().iter();
            names.extend(rows.map(|row| endpoint_name(entry, row, NameRef::below(&entry.key, tail))));
        }
        let upstream = crate::answer::NoUpstream;
        for (index, name) in names.iter().enumerate() {
            let Some(owner) = name.to_name() else { continue };
            let [leaf, _] = name.leaf;
            let endpoint = leaf.get(1..).filter(|_| index > 0).unwrap_or_default();
            let reached = self.reach(entry, tail, external, endpoint, Ports::default());
            for qtype in [Type::A, Type::AAAA, Type::SRV] {
                let question = Question::new(&owner, qtype);
                let asked = Asked {
                    tail: tail.into(),
                    ..self.asked(zone, &question, question.count() - zone.labels)
                };
                if qtype == Type::SRV {
                    self.external_srv(asked, &reached, external, &upstream, sink);
                } else {
                    self.external_addrs(asked, &reached, external, &upstream, sink);
                }
            }
        }
        let ports = |port: &Port| Some((port.label()?, port.protocol.label()?, port.clone()));
        let slices = entry.endpoints.slices().iter().flat_map(|slice| &slice.ports);
        let all: Vec<_> = if by_endpoint {
            slices.filter_map(ports).collect()
        } else {
            face.ports.iter().filter_map(ports).collect()
        };
        for (label, protocol, _) in &all {
            let name = NameRef { leaf: [label, protocol], ..NameRef::below(&entry.key, tail) };
            let Some(owner) = name.to_name() else { continue };
            let question = Question::new(&owner, Type::SRV);
            let asked =
                Asked { tail: tail.into(), ..self.asked(zone, &question, question.count() - zone.labels) };
            let asked_ports = Ports { port: label.get(2..).unwrap_or_default(), protocol: bare(protocol) };
            let reached = self.reach(entry, tail, external, b"", asked_ports);
            self.external_srv(asked, &reached, external, &upstream, sink);
        }
    }
}

fn bare(label: &[u8]) -> &[u8] {
    label.get(2..).unwrap_or_default()
}

/// The labels of a port in wire form, its number, and the weight of its records.
pub(crate) type PortRecord = ((Vec<u8>, &'static [u8]), u16, u16);

/// Leaves repetitions out, keeping the order.
fn unique(records: Vec<Record>) -> Vec<Record> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|index| (records.get(*index), *index));
    order.dedup_by_key(|index| records.get(*index));
    order.sort_unstable();
    order.into_iter().filter_map(|index| records.get(index).cloned()).collect()
}

/// Lists the records of one Service in one zone.
struct Lister<'a> {
    zones: &'a Zones,
    entry: &'a Entry,
    tail: &'a [u8],
}

impl<'a> Lister<'a> {
    fn base(&self) -> NameRef<'a> {
        service_name(self.entry, self.tail)
    }

    fn put(&self, owner: NameRef<'_>, data: DataRef<'_>, sink: &mut dyn Sink) {
        sink.record(Section::Answer, owner, self.zones.options.ttl, data);
    }

    fn alias(&self, face: &Face, sink: &mut dyn Sink) {
        if let Some(Alias::Name(name)) = &face.text {
            self.put(self.base(), DataRef::Cname(NameRef::whole(name.wire())), sink);
        }
    }

    /// The name of a port below the Service, if it has one.
    fn port_name<'p>(&self, port: &'p (Vec<u8>, &'static [u8])) -> NameRef<'p>
    where
        'a: 'p,
    {
        NameRef { leaf: [&port.0, port.1], ..self.base() }
    }

    fn addresses(&self, face: &Face, scope: &Scope<'_>, sink: &mut dyn Sink) {
        let base = self.base();
        face.addrs.iter().for_each(|addr| self.put(base, DataRef::from(*addr), sink));
        if face.addrs.is_empty() {
            // CoreDNS transfers a Service that waits for its address as if it were headless.
            if self.zones.options.transfer == TransferStyle::PerSlice {
                self.endpoints(scope, sink);
            }
            return;
        }
        let named = |port: &&Port| !port.name.is_empty();
        let standards = self.zones.options.behavior == Behavior::Standards;
        let number = |port: &Port| self.zones.transferred(port);
        let listed = face.ports.iter().filter(|port| number(port).is_some() && (!standards || named(port)));
        // CoreDNS transfers the records of a Service with the full weight, whatever a query gives.
        let weight_of = |count: usize| if standards { weight(count) } else { 100 };
        let all = listed.clone().count();
        for port in listed {
            let Some(number) = number(port) else { continue };
            let srv = DataRef::Srv { weight: weight_of(all), port: number, target: base };
            self.put(base, srv, sink);
            if let Some(label) = port.label().zip(port.protocol.label()) {
                let srv = DataRef::Srv { weight: 100, port: number, target: base };
                self.put(self.port_name(&label), srv, sink);
            }
        }
    }

    fn endpoints(&self, scope: &Scope<'_>, sink: &mut dyn Sink) {
        let endpoints = &self.entry.endpoints;
        let per_slice = self.zones.options.transfer == TransferStyle::PerSlice;
        for index in 0..endpoints.slices().len() {
            let ports = self.zones.slice_ports(self.entry, index);
            for row in endpoints.slice_rows(index).iter().filter(|row| scope.takes(endpoints, row)) {
                let mut name = endpoint_name(self.entry, row, self.base());
                if per_slice {
                    name.leaf = [endpoints.label(row), b""];
                }
                self.put(self.base(), DataRef::from(row.addr), sink);
                self.put(name, DataRef::from(row.addr), sink);
                for (labels, number, weight) in &ports {
                    let srv = DataRef::Srv { weight: *weight, port: *number, target: name };
                    self.put(self.port_name(labels), srv, sink);
                }
            }
        }
    }
}
