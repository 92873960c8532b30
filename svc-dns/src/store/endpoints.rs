//! The endpoints of one Service, flattened out of its EndpointSlices.
//!
//! One row an endpoint address, 36 bytes, in the order of the slices' names and of the endpoints in them; labels lie in one arena
//! in wire form. Two sorted lists of row numbers find rows by label and by address, and each row links to the row before it that
//! has the same label or the same address, so that an answer leaves out repetitions without a set.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::net::{IpAddr, Ipv4Addr};

use smol_str::SmolStr;
use svc_model::{EndpointSlice, Protocol, Sent};

use crate::name::{MAX_LABEL, push_label};
use crate::options::EndpointNames;

/// No row.
const NONE: u32 = u32::MAX;

/// The length of most labels, for reserving room.
const LABEL: usize = 12;

/// A transport protocol, as far as names tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proto {
    Known(Protocol),
    /// Text that no protocol label can match.
    Other,
}

impl Proto {
    pub(crate) fn of(sent: &Sent<Protocol>) -> Self {
        if sent.is_empty() {
            return Self::Known(Protocol::Tcp);
        }
        let text = sent.to_text();
        let known = Protocol::ALL.iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(&text));
        known.map_or(Self::Other, |protocol| Self::Known(*protocol))
    }

    /// The label with its underscore, in wire form.
    pub(crate) fn label(self) -> Option<&'static [u8]> {
        match self {
            Self::Known(Protocol::Tcp) => Some(b"\x04_tcp"),
            Self::Known(Protocol::Udp) => Some(b"\x04_udp"),
            Self::Known(Protocol::Sctp) => Some(b"\x05_sctp"),
            Self::Other => None,
        }
    }

    /// Whether it is called so, in lower case.
    fn is(self, text: &[u8]) -> bool {
        self.label().and_then(|label| label.get(2..)) == Some(text)
    }
}

/// A port of a Service or of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: SmolStr,
    pub(crate) protocol: Proto,
    /// None where a slice leaves the number out, and for the row that stands in for no ports at all.
    pub(crate) number: Option<u16>,
}

impl Port {
    /// What stands in for the ports of a Service or slice that has none, so that its addresses are found.
    pub(crate) const PORTLESS: Self =
        Self { name: SmolStr::new_static(""), protocol: Proto::Other, number: None };

    /// The port's label with its underscore in wire form, if it has a name that fits in one.
    pub(crate) fn label(&self) -> Option<Vec<u8>> {
        let mut wire = Vec::with_capacity(self.name.len() + 2);
        if self.name.is_empty() {
            return None;
        }
        let mut label = Vec::with_capacity(self.name.len() + 1);
        label.push(b'_');
        label.extend(self.name.bytes().map(|byte| byte.to_ascii_lowercase()));
        push_label(&mut wire, &label).ok().map(|()| wire)
    }
}

/// Which ports a name asks for, in lower case; empty text asks for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ports<'q> {
    pub(crate) port: &'q [u8],
    pub(crate) protocol: &'q [u8],
}

impl Ports<'_> {
    pub(crate) fn take(&self, port: &Port) -> bool {
        let name = port.name.as_bytes();
        (self.port.is_empty() || name == self.port || name.eq_ignore_ascii_case(self.port))
            && (self.protocol.is_empty() || port.protocol.is(self.protocol))
    }

    /// Those of some ports that it asks for.
    pub(crate) fn of<'p>(&self, ports: &'p [Port]) -> impl Iterator<Item = &'p Port> + Clone {
        ports.iter().filter(move |port| self.take(port))
    }
}

/// One ready address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) addr: IpAddr,
    /// Whether the label is a hostname that someone chose.
    pub(crate) named: bool,
    /// The topology zone, as an index into `Endpoints::topologies`, 0 for none.
    topology: u16,
    /// Where the label is in the arena.
    label: u32,
    pub(crate) slice: u32,
    /// The row before with the same address.
    same_addr: u32,
    /// The row before with the same label (and cluster).
    same_label: u32,
}

/// An address that no name leads to, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) addr: SmolStr,
    pub(crate) hostname: Option<SmolStr>,
    pub(crate) target: Option<SmolStr>,
    pub(crate) slice: SmolStr,
    pub(crate) why: LeftOut,
}

/// Why an endpoint has no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// Its condition `ready` is false.
    NotReady,
    /// It is not ready but still serves while it ends.
    Terminating,
    /// Its address is no IP address.
    NoAddress,
    /// Its hostname is no DNS label.
    BadHostname,
}

/// What is kept of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) name: SmolStr,
    pub(crate) ports: Box<[Port]>,
    /// The cluster that the slice was mirrored from, in wire form; empty if none.
    pub(crate) cluster: Box<[u8]>,
    /// The row after its last.
    end: u32,
}

/// All endpoints of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Endpoints {
    slices: Vec<Slice>,
    rows: Vec<Row>,
    arena: Vec<u8>,
    by_label: Vec<u32>,
    by_addr: Vec<u32>,
    topologies: Vec<SmolStr>,
    left: Vec<Left>,
}

/// How slices are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) names: EndpointNames,
    pub(crate) topology: bool,
}

impl Endpoints {
    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Whether the records made from both are the same.
    pub(crate) fn same_records(&self, other: &Self) -> bool {
        self.rows == other.rows
            && self.arena == other.arena
            && self.topologies == other.topologies
            && self.slices == other.slices
    }

    /// How many ready addresses there are, repetitions included.
    pub(crate) fn ready(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn slices(&self) -> &[Slice] {
        &self.slices
    }

    pub(crate) fn left(&self) -> &[Left] {
        &self.left
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows of slice number `index`.
    fn range(&self, index: usize) -> core::ops::Range<usize> {
        let before = index.checked_sub(1).and_then(|before| self.slices.get(before));
        let start = before.map_or(0, |slice| slice.end as usize);
        start..self.slices.get(index).map_or(start, |slice| slice.end as usize)
    }

    /// The rows of a slice, by its name.
    pub(crate) fn rows_of(&self, name: &str) -> &[Row] {
        let index = self.slices.binary_search_by(|slice| slice.name.as_str().cmp(name));
        index.map_or(&[], |index| self.slice_rows(index))
    }

    pub(crate) fn slice_rows(&self, index: usize) -> &[Row] {
        self.rows.get(self.range(index)).unwrap_or_default()
    }

    pub(crate) fn slice_of(&self, row: &Row) -> Option<&Slice> {
        self.slices.get(row.slice as usize)
    }

    /// The label of a row, in wire form.
    pub(crate) fn label(&self, row: &Row) -> &[u8] {
        wire_label(&self.arena, row.label)
    }

    /// The topology zone of a row, in lower case.
    pub(crate) fn topology(&self, row: &Row) -> &str {
        let index = usize::from(row.topology).checked_sub(1);
        index.and_then(|index| self.topologies.get(index)).map_or("", SmolStr::as_str)
    }

    /// The rows before this one with the same address, nearest first.
    pub(crate) fn before_with_addr(&self, row: &Row) -> impl Iterator<Item = &Row> {
        self.chain(row.same_addr, |row| row.same_addr)
    }

    /// The rows before this one with the same label and cluster, nearest first.
    pub(crate) fn before_with_label(&self, row: &Row) -> impl Iterator<Item = &Row> {
        self.chain(row.same_label, |row| row.same_label)
    }

    fn chain(&self, first: u32, next: impl Fn(&Row) -> u32) -> impl Iterator<Item = &Row> {
        let mut at = first;
        core::iter::from_fn(move || {
            let row = self.rows.get(at as usize)?;
            at = next(row);
            Some(row)
        })
    }

    /// The rows with a label (without its length byte, any case), in order.
    pub(crate) fn with_label(&self, label: &[u8]) -> impl Iterator<Item = &Row> {
        let order = |index: &u32| {
            let found = self.rows.get(*index as usize).map(|row| self.label(row)).unwrap_or_default();
            caseless(found.get(1..).unwrap_or_default(), label)
        };
        let start = self.by_label.partition_point(|index| order(index) == Ordering::Less);
        self.by_label
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(move |index| order(index) == Ordering::Equal)
            .filter_map(|index| self.rows.get(*index as usize))
    }

    /// The rows with an address, in order.
    pub(crate) fn with_addr(&self, addr: IpAddr) -> impl Iterator<Item = &Row> {
        let found = |index: &u32| self.rows.get(*index as usize).map(|row| row.addr);
        let start = self.by_addr.partition_point(|index| found(index) < Some(addr));
        self.by_addr
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(move |index| found(index) == Some(addr))
            .filter_map(|index| self.rows.get(*index as usize))
    }

    /// Puts a slice in, in place of the one with its name if there is one.
    pub(crate) fn put(&mut self, slice: &EndpointSlice, cluster: Box<[u8]>, reading: Reading) {
        self.rebuild(&slice.metadata.name, Some((slice, cluster, reading)));
    }

    /// Takes a slice out.
    pub(crate) fn take(&mut self, name: &str) {
        self.rebuild(name, None);
    }

    /// Copies every slice but `name`, reads `new` in its place, and sorts anew.
    fn rebuild(&mut self, name: &str, new: Option<(&EndpointSlice, Box<[u8]>, Reading)>) {
        let old = core::mem::take(self);
        let mut new = new;
        self.left.extend(old.left.iter().filter(|left| left.slice != name).cloned());
        for (index, slice) in old.slices.iter().enumerate() {
            if slice.name.as_str() >= name
                && let Some((object, cluster, reading)) = new.take()
            {
                self.read(object, cluster, reading);
            }
            if slice.name != name {
                self.copy(&old, index, slice);
            }
        }
        if let Some((object, cluster, reading)) = new {
            self.read(object, cluster, reading);
        }
        self.left.sort_by(|a, b| a.slice.cmp(&b.slice));
        self.link();
    }

    fn copy(&mut self, old: &Self, index: usize, slice: &Slice) {
        let number = self.count();
        let rows = old.slice_rows(index);
        self.rows.reserve(rows.len());
        for row in rows {
            let label = self.put_label(|arena| arena.extend_from_slice(old.label(row)));
            let topology = self.topology_index(old.topology(row));
            self.rows.push(Row { label, topology, slice: number, ..row.clone() });
        }
        self.close(slice.clone());
    }

    fn read(&mut self, object: &EndpointSlice, cluster: Box<[u8]>, reading: Reading) {
        let number = self.count();
        let slice_name = &object.metadata.name;
        self.rows.reserve(object.endpoints.len());
        self.arena.reserve(object.endpoints.len() * LABEL);
        for endpoint in &object.endpoints {
            for sent in &endpoint.addresses {
                let leave = |why| Left {
                    addr: sent.to_text(),
                    hostname: endpoint.hostname.clone(),
                    target: endpoint.target_ref.as_ref().map(|target| target.name.clone()),
                    slice: slice_name.clone(),
                    why,
                };
                if !endpoint.conditions.is_ready() {
                    let ending = endpoint.conditions.is_terminating() && endpoint.conditions.is_serving();
                    self.left.push(leave(if ending { LeftOut::Terminating } else { LeftOut::NotReady }));
                    continue;
                }
                let Some(addr) = sent.get() else {
                    self.left.push(leave(LeftOut::NoAddress));
                    continue;
                };
                let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
                let pod = endpoint.target_ref.as_ref().map(|target| target.name.as_str());
                let pod = pod.filter(|name| {
                    reading.names == EndpointNames::Pod && (1..=MAX_LABEL).contains(&name.len())
                });
                let label = match hostname.or(pod) {
                    Some(name) if name.len() > MAX_LABEL => {
                        self.left.push(leave(LeftOut::BadHostname));
                        continue;
                    }
                    Some(name) => self.put_label(|arena| {
                        arena.push(u8::try_from(name.len()).unwrap_or_default());
                        arena.extend_from_slice(name.as_bytes());
                    }),
                    None => self.put_label(|arena| match sent {
                        Sent::Value(IpAddr::V4(addr)) => dashed_v4(arena, *addr),
                        // The text as sent, as CoreDNS takes it; canonical in any object that the API server made.
                        sent => dashed(arena, &sent.to_text()),
                    }),
                };
                let zone = endpoint.zone.as_deref().filter(|_| reading.topology).unwrap_or_default();
                let topology = self.topology_index(&zone.to_ascii_lowercase());
                self.rows.push(Row {
                    addr,
                    named: hostname.is_some(),
                    topology,
                    label,
                    slice: number,
                    same_addr: NONE,
                    same_label: NONE,
                });
            }
        }
        let ports: Box<[Port]> = if object.ports.is_empty() {
            Box::new([Port::PORTLESS])
        } else {
            let port = |port: &svc_model::EndpointPort| Port {
                name: port.name.clone().unwrap_or_default(),
                protocol: Proto::of(port.protocol.as_ref().unwrap_or(&Sent::default())),
                number: port.port.and_then(|port| u16::try_from(port.value()).ok()),
            };
            object.ports.iter().map(port).collect()
        };
        self.close(Slice { name: slice_name.clone(), ports, cluster, end: 0 });
    }

    fn count(&self) -> u32 {
        u32::try_from(self.slices.len()).unwrap_or(NONE)
    }

    fn close(&mut self, slice: Slice) {
        let end = u32::try_from(self.rows.len()).unwrap_or(NONE);
        self.slices.push(Slice { end, ..slice });
    }

    fn put_label(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let at = u32::try_from(self.arena.len()).unwrap_or(NONE);
        write(&mut self.arena);
        at
    }

    fn topology_index(&mut self, zone: &str) -> u16 {
        if zone.is_empty() {
            return 0;
        }
        let index = self.topologies.iter().position(|known| known == zone).unwrap_or_else(|| {
            self.topologies.push(SmolStr::new(zone));
            self.topologies.len() - 1
        });
        u16::try_from(index + 1).unwrap_or_default()
    }

    /// Sorts the row numbers and links the rows.
    fn link(&mut self) {
        let count = u32::try_from(self.rows.len()).unwrap_or(NONE);
        let Self { slices, rows, arena, by_label, by_addr, .. } = self;
        by_label.reserve_exact(rows.len());
        by_addr.reserve_exact(rows.len());
        by_addr.extend(0..count);
        let target = |rows: &[Row], index: u32| {
            let row = rows.get(index as usize);
            let cluster = row.and_then(|row| slices.get(row.slice as usize)).map(|slice| &*slice.cluster);
            (row.map(|row| wire_label(arena, row.label)).unwrap_or_default(), cluster.unwrap_or_default())
        };
        // Most labels differ in their first bytes, which are compared at once.
        let mut order: Vec<(u128, u32)> = (0..count)
            .map(|index| (first_bytes(target(rows, index).0.get(1..).unwrap_or_default()), index))
            .collect();
        order.sort_unstable_by(|(a_first, a), (b_first, b)| {
            a_first.cmp(b_first).then_with(|| {
                let ((a_label, a_cluster), (b_label, b_cluster)) = (target(rows, *a), target(rows, *b));
                caseless(a_label.get(1..).unwrap_or_default(), b_label.get(1..).unwrap_or_default())
                    .then_with(|| a_cluster.cmp(b_cluster))
                    .then(a.cmp(b))
            })
        });
        by_label.extend(order.iter().map(|(_, index)| *index));
        by_addr.sort_by_key(|index| (rows.get(*index as usize).map(|row| row.addr), *index));
        let mut same = Vec::new();
        for (before, index) in by_label.iter().zip(by_label.iter().skip(1)) {
            if target(rows, *before) == target(rows, *index) {
                same.push((*before, *index));
            }
        }
        for row in rows.iter_mut() {
            row.same_label = NONE;
            row.same_addr = NONE;
        }
        for (before, index) in same {
            if let Some(row) = rows.get_mut(index as usize) {
                row.same_label = before;
            }
        }
        for (before, index) in by_addr.iter().zip(by_addr.iter().skip(1)) {
            let addr = rows.get(*before as usize).map(|row| row.addr);
            if let Some(row) = rows.get_mut(*index as usize).filter(|row| Some(row.addr) == addr) {
                row.same_addr = *before;
            }
        }
        self.rows.shrink_to_fit();
        self.arena.shrink_to_fit();
    }
}

fn wire_label(arena: &[u8], at: u32) -> &[u8] {
    let rest = arena.get(at as usize..).unwrap_or_default();
    let len = rest.first().map_or(0, |len| usize::from(*len) + 1);
    rest.get(..len).unwrap_or_default()
}

/// The first bytes of a label in lower case, as a number that orders as they do; zeros stand where it is shorter.
fn first_bytes(label: &[u8]) -> u128 {
    let mut bytes = [0; size_of::<u128>()];
    bytes.iter_mut().zip(label).for_each(|(place, byte)| *place = byte.to_ascii_lowercase());
    u128::from_be_bytes(bytes)
}

/// Orders labels as the DNS does, upper and lower case being equal.
fn caseless(a: &[u8], b: &[u8]) -> Ordering {
    let lower = |byte: &u8| byte.to_ascii_lowercase();
    a.iter().map(lower).cmp(b.iter().map(lower))
}

/// Writes the dashed form of an IPv4 address as a wire label.
fn dashed_v4(arena: &mut Vec<u8>, addr: Ipv4Addr) {
    let at = arena.len();
    let mut digits = itoa::Buffer::new();
    for octet in addr.octets() {
        // In place of the first dash comes the length.
        arena.push(b'-');
        arena.extend_from_slice(digits.format(octet).as_bytes());
    }
    let len = arena.len() - at - 1;
    if let Some(first) = arena.get_mut(at) {
        *first = u8::try_from(len).unwrap_or_default();
    }
}

/// Writes the dashed form of an address as a wire label: dots and colons become dashes, and a `0` follows a dash at the end.
pub(crate) fn dashed(arena: &mut Vec<u8>, text: &str) {
    let at = arena.len();
    arena.push(0);
    let separator = if text.contains('.') { b'.' } else { b':' };
    arena.extend(text.bytes().map(|byte| if byte == separator { b'-' } else { byte }));
    if separator == b':' && text.ends_with(':') {
        arena.push(b'0');
    }
    let len = arena.len() - at - 1;
    if let Some(first) = arena.get_mut(at) {
        *first = u8::try_from(len).unwrap_or_default();
    }
}

/// The label of an endpoint below its Service: the hostname, or the Pod's name where that is wanted and at most 63 bytes long, or
/// the address with dashes.
///
/// ```
/// use svc_dns::{EndpointNames, endpoint_label};
///
/// assert_eq!(endpoint_label("10.1.0.7", "", "web-0", EndpointNames::Address), "10-1-0-7");
/// assert_eq!(endpoint_label("10.1.0.7", "", "web-0", EndpointNames::Pod), "web-0");
/// assert_eq!(endpoint_label("fd00::", "", "", EndpointNames::Address), "fd00--0");
/// ```
#[must_use]
pub fn endpoint_label(address: &str, hostname: &str, pod: &str, names: EndpointNames) -> SmolStr {
    if !hostname.is_empty() {
        return SmolStr::new(hostname);
    }
    if names == EndpointNames::Pod && (1..=MAX_LABEL).contains(&pod.len()) {
        return SmolStr::new(pod);
    }
    let mut wire = Vec::new();
    dashed(&mut wire, address);
    SmolStr::new(core::str::from_utf8(wire.get(1..).unwrap_or_default()).unwrap_or_default())
}
