//! What a name leads to, or why it leads nowhere.

use core::net::IpAddr;

use crate::grammar::{Branch, Directive, Leaf, Outside, Place};
use crate::options::{Behavior, EmptyServices, Endpoints, Options, Pods};
use crate::question::Question;
use crate::store::endpoints::{Port, Ports, Row};
use crate::store::service::{Alias, Entry, Face, FaceKind, Presence};
use crate::store::{NamespaceState, Side, Store};
use crate::zones::Served;

/// Why a name does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Absence {
    /// The label next to the zone is neither `svc` nor `pod`.
    NoSuchBranch,
    /// More labels than any name has.
    TooLong,
    /// The name is in a reverse zone, where only addresses have names.
    NotAnAddress,
    /// No such namespace.
    NoNamespace,
    /// The namespace is not in the `namespaces` option.
    NamespaceUnlisted,
    /// The namespace's labels are not selected by `namespace_labels`.
    NamespaceUnselected,
    /// Names of Pods are not served.
    PodsDisabled,
    /// The label is no dashed address.
    PodNoAddress,
    /// No Pod of the namespace has the address.
    NoPod,
    /// There is no Service (or ServiceImport) of that name in the namespace.
    NoService,
    /// The Service's labels are not selected by the `labels` option.
    ServiceUnselected,
    /// The Service has no ready endpoint, and such Services are not served (`ignore empty_service`).
    ServiceIgnored,
    /// Endpoints are not served (`noendpoints`).
    EndpointsOff,
    /// A headless Service without any EndpointSlice.
    NoSlices,
    /// A Service with slices, but without a ready endpoint.
    NoReadyEndpoints,
    /// No ready endpoint has that hostname or address.
    NoSuchEndpoint,
    /// No port of that name and protocol.
    NoSuchPort,
    /// An ExternalName Service has no names below it.
    BelowAlias,
    /// The external name looks like an address, which no DNS name is.
    AliasIsAddress,
    /// The external name cannot be carried by the DNS.
    AliasInvalid,
    /// Topology zones are in names of headless Services only.
    TopologyOfAddress,
    /// Nothing has that address.
    NoSuchAddress,
    /// The Service has no address outside the cluster.
    NoOutsideAddress,
    /// `dns-version` and `ns.dns` have no such type of record.
    WrongType,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'z, 'q> {
    /// It exists, without records of its own.
    Node,
    /// A name with a topology zone that has no endpoint.
    Topology,
    /// A Service with addresses.
    Addresses(&'z Entry, &'z Face, Ports<'q>),
    /// Endpoints of a Service.
    Endpoints(&'z Entry, Filter<'q>),
    /// An ExternalName Service.
    Alias(&'z Alias),
    /// A Pod.
    Pod(IpAddr),
}

/// Which endpoints of a Service a name asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter<'q> {
    pub(crate) ports: Ports<'q>,
    /// The label; empty asks for all.
    endpoint: &'q [u8],
    /// The cluster in wire form, if one is asked for; empty for slices that name none.
    cluster: Option<&'q [u8]>,
    /// The topology zone in wire labels; empty asks for all.
    topology: &'q [u8],
}

impl<'q> Filter<'q> {
    /// All endpoints that have some ports.
    pub(crate) fn by_ports(ports: Ports<'q>) -> Self {
        Self { ports, ..Self::default() }
    }

    fn takes_row(&self, entry: &Entry, row: &Row) -> bool {
        (self.endpoint.is_empty()
            || entry
                .endpoints
                .label(row)
                .get(1..)
                .is_some_and(|label| label.eq_ignore_ascii_case(self.endpoint)))
            && self.cluster.is_none_or(|cluster| {
                entry.endpoints.slice_of(row).is_some_and(|slice| slice.cluster.eq_ignore_ascii_case(cluster))
            })
            && (self.topology.is_empty() || is_topology(self.topology, entry.endpoints.topology(row)))
    }

    /// Whether a row is asked for, and by which ports.
    pub(crate) fn ports_of<'z>(
        &self,
        entry: &'z Entry,
        row: &Row,
    ) -> impl Iterator<Item = &'z Port> + Clone + use<'z, 'q> {
        let taken = self.takes_row(entry, row);
        taken.then(|| self.ports_of_taken(entry, row)).into_iter().flatten()
    }

    /// The ports asked for of a row that is asked for.
    pub(crate) fn ports_of_taken<'z>(
        &self,
        entry: &'z Entry,
        row: &Row,
    ) -> impl Iterator<Item = &'z Port> + Clone + use<'z, 'q> {
        let ports = entry.endpoints.slice_of(row).map_or(&[][..], |slice| &slice.ports);
        let asked = self.ports;
        ports.iter().filter(move |port| asked.take(port))
    }

    /// The rows asked for that have at least one port asked for, in order.
    pub(crate) fn rows<'z>(self, entry: &'z Entry) -> impl Iterator<Item = &'z Row> + use<'z, 'q> {
        let rows = if self.endpoint.is_empty() {
            Rows::All(entry.endpoints.rows().iter())
        } else {
            Rows::Some(entry.endpoints.with_label(self.endpoint))
        };
        // Every row of a slice has the same ports, and rows come by slices.
        let mut last = None;
        rows.filter(move |row| {
            let asked = match last {
                Some((slice, asked)) if slice == row.slice => asked,
                _ => {
                    let slice = entry.endpoints.slice_of(row);
                    slice.is_some_and(|slice| self.ports.of(&slice.ports).next().is_some())
                }
            };
            last = Some((row.slice, asked));
            asked && self.takes_row(entry, row)
        })
    }

    /// How many pairs of an address and a port are asked for: what the weights of SRV records share.
    pub(crate) fn count(&self, entry: &Entry) -> usize {
        if self.endpoint.is_empty() && self.topology.is_empty() {
            let slices = entry.endpoints.slices().iter().enumerate();
            return slices
                .map(|(index, slice)| {
                    entry.endpoints.slice_rows(index).len() * self.ports.of(&slice.ports).count()
                })
                .sum();
        }
        self.rows(entry).map(|row| self.ports_of_taken(entry, row).count()).sum()
    }
}

/// All rows of a Service, or some.
enum Rows<A, S> {
    All(A),
    Some(S),
}

impl<T, A: Iterator<Item = T>, S: Iterator<Item = T>> Iterator for Rows<A, S> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            Self::All(rows) => rows.next(),
            Self::Some(rows) => rows.next(),
        }
    }
}

/// Whether wire labels spell a topology zone.
fn is_topology(mut labels: &[u8], zone: &str) -> bool {
    let mut zone = zone.as_bytes();
    loop {
        let Some((len, rest)) = labels.split_first() else { return zone.is_empty() };
        let Some((label, rest)) = rest.split_at_checked(usize::from(*len)) else { return false };
        let Some(after) = zone.strip_prefix(label) else { return false };
        labels = rest;
        zone = match (rest.is_empty(), after.split_first()) {
            (true, _) => after,
            (false, Some((b'.', after))) => after,
            (false, _) => return false,
        };
    }
}

/// Looks names up by the grammar of cluster names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup<'z> {
    pub(crate) store: &'z Store,
    pub(crate) options: &'z Options,
    pub(crate) behavior: Behavior,
}

impl<'z> Lookup<'z> {
    /// What a name with `left` labels left of a zone leads to.
    pub(crate) fn locate<'q>(
        &self,
        zone: &Served,
        question: &'q Question<'_>,
        left: usize,
    ) -> Result<Found<'z, 'q>, Absence> {
        let place = Place::of(question, left, zone.grammar);
        let (branch, namespace) = match place {
            Place::Top => return Ok(Found::Node),
            Place::Outside(Outside::Branch) => return Err(Absence::NoSuchBranch),
            Place::Outside(Outside::TooLong) => return Err(Absence::TooLong),
            Place::Namespace(branch, namespace) => (branch, namespace),
            Place::Object(branch, service, _) => (branch, service + 1),
        };
        if zone.reverse {
            return Err(Absence::NotAnAddress);
        }
        let (service, leaf) = match place {
            Place::Object(branch, service, leaf) => {
                // The Service is looked up first: one that is found knows its namespace.
                if branch == Branch::Service
                    && let Some((_, entry)) =
                        self.store.table(zone.side).find(question.labels(service, service + 2))
                    && self.store.exposes(entry)
                {
                    return self.service(entry, zone, question, leaf);
                }
                (Some(service), leaf)
            }
            _ => (None, Leaf::None),
        };
        self.exposed(question.label(namespace))?;
        match (branch, service) {
            (Branch::Service, None) => Ok(Found::Node),
            (Branch::Service, Some(_)) => Err(Absence::NoService),
            (Branch::Pod, _) if self.options.pods == Pods::Disabled => Err(Absence::PodsDisabled),
            (Branch::Pod, None) => Ok(Found::Node),
            (Branch::Pod, Some(_)) if leaf != Leaf::None && self.behavior == Behavior::Standards => {
                Err(Absence::TooLong)
            }
            (Branch::Pod, Some(pod)) => {
                self.pod(question.label(pod), question.label(namespace)).map(Found::Pod)
            }
        }
    }

    /// Whether names in a namespace are served.
    pub(crate) fn exposed(&self, namespace: &[u8]) -> Result<(), Absence> {
        match self.store.namespace(namespace).map(|namespace| namespace.state) {
            Some(NamespaceState::Exposed) => Ok(()),
            Some(NamespaceState::Unlisted) => Err(Absence::NamespaceUnlisted),
            Some(NamespaceState::Unselected) => Err(Absence::NamespaceUnselected),
            Some(NamespaceState::Absent) => Err(Absence::NoNamespace),
            // Unknown here; the list may still be what keeps it out.
            None => {
                let listed = &self.options.namespaces;
                let unlisted = !listed.is_empty() && !listed.iter().any(|name| name.as_bytes() == namespace);
                Err(if unlisted { Absence::NamespaceUnlisted } else { Absence::NoNamespace })
            }
        }
    }

    fn service<'q>(
        &self,
        entry: &'z Entry,
        zone: &Served,
        question: &'q Question<'_>,
        leaf: Leaf,
    ) -> Result<Found<'z, 'q>, Absence> {
        let face = match &entry.presence {
            Presence::Some(face) => face,
            Presence::None => return Err(Absence::NoService),
            Presence::Unselected => return Err(Absence::ServiceUnselected),
        };
        if self.options.empty_services == EmptyServices::Absent
            && face.kind == FaceKind::Address
            && entry.endpoints.ready() == 0
        {
            return Err(Absence::ServiceIgnored);
        }
        let mut filter = Filter::default();
        let mut prefer = false;
        match leaf {
            Leaf::None => {}
            Leaf::Endpoint => {
                filter.endpoint = question.label(0);
                // In a clusterset zone the cluster is part of an endpoint's name (KEP-1645).
                filter.cluster = (zone.side == Side::Imported).then_some(b"");
            }
            Leaf::Port => filter.ports = self.ports(question)?,
            Leaf::Cluster => {
                filter.endpoint = question.label(0);
                filter.cluster = Some(question.labels(1, 2));
            }
            Leaf::Topology(end, directive) => {
                filter.topology = question.labels(0, end);
                prefer = directive == Directive::Prefer;
            }
        }
        if !filter.topology.is_empty() && face.kind != FaceKind::Headless {
            return Err(Absence::TopologyOfAddress);
        }
        // `_._` asks for no port; only CoreDNS takes it.
        let bare = match leaf {
            Leaf::None => true,
            Leaf::Port => filter.ports == Ports::default(),
            _ => false,
        };
        match face.kind {
            FaceKind::Alias if !bare => Err(Absence::BelowAlias),
            FaceKind::Alias => match &face.text {
                Some(Alias::Address) => Err(Absence::AliasIsAddress),
                Some(Alias::Invalid) | None => Err(Absence::AliasInvalid),
                Some(alias) => Ok(Found::Alias(alias)),
            },
            FaceKind::Address if filter.endpoint.is_empty() => {
                if filter.ports.of(&face.ports).next().is_none() {
                    return Err(Absence::NoSuchPort);
                }
                Ok(Found::Addresses(entry, face, filter.ports))
            }
            _ => {
                if filter.rows(entry).next().is_some() {
                    return Ok(Found::Endpoints(entry, filter));
                }
                if !filter.topology.is_empty() {
                    // The name exists whatever zones the endpoints are in.
                    let all = Filter { topology: b"", ..filter };
                    let some = prefer && all.rows(entry).next().is_some();
                    return Ok(if some { Found::Endpoints(entry, all) } else { Found::Topology });
                }
                Err(self.no_endpoints(zone.side, entry, &filter))
            }
        }
    }

    fn no_endpoints(&self, side: Side, entry: &Entry, filter: &Filter<'_>) -> Absence {
        if side == Side::Internal && self.options.endpoints == Endpoints::Off {
            Absence::EndpointsOff
        } else if !filter.endpoint.is_empty() {
            Absence::NoSuchEndpoint
        } else if entry.endpoints.ready() > 0 {
            Absence::NoSuchPort
        } else if entry.endpoints.is_empty() {
            Absence::NoSlices
        } else {
            Absence::NoReadyEndpoints
        }
    }

    /// The port and the protocol that labels 0 and 1 ask for.
    fn ports<'q>(&self, question: &'q Question<'_>) -> Result<Ports<'q>, Absence> {
        let (port, protocol) = (question.label(0), question.label(1));
        let bare = |label: &'q [u8]| label.strip_prefix(b"_");
        if self.behavior == Behavior::Standards {
            // RFC 2782: both labels have an underscore, and there is something behind it.
            return match (bare(port), bare(protocol)) {
                (Some(port @ [_, ..]), Some(protocol @ [_, ..])) => Ok(Ports { port, protocol }),
                _ => Err(Absence::NoSuchPort),
            };
        }
        Ok(Ports { port: bare(port).unwrap_or(port), protocol: bare(protocol).unwrap_or(protocol) })
    }

    /// The address that a Pod's label stands for, if it is served in the namespace.
    fn pod(&self, label: &[u8], namespace: &[u8]) -> Result<IpAddr, Absence> {
        let mut text = [0u8; 64];
        let text = text.get_mut(..label.len()).ok_or(Absence::PodNoAddress)?;
        text.copy_from_slice(label);
        let dashes = label.iter().filter(|byte| **byte == b'-').count();
        let double = label.windows(2).any(|pair| pair == b"--");
        let separator = if dashes == 3 && !double { b'.' } else { b':' };
        text.iter_mut().filter(|byte| **byte == b'-').for_each(|byte| *byte = separator);
        let text = core::str::from_utf8(text).map_err(|_| Absence::PodNoAddress)?;
        let addr: IpAddr = text.parse().map_err(|_| Absence::PodNoAddress)?;
        let addr = addr.to_canonical();
        if self.options.pods == Pods::Insecure {
            return Ok(addr);
        }
        // CoreDNS compares text, so that only the spelling of the Pod's status is found.
        let spelled = self.behavior == Behavior::Standards || svc_model::Sent::from(addr).is(text);
        if spelled && self.store.has_pod(namespace, addr) { Ok(addr) } else { Err(Absence::NoPod) }
    }
}
