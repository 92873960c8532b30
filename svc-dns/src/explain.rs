//! Why a question is answered as it is.

use alloc::vec::Vec;
use core::fmt;

use smol_str::{SmolStr, ToSmolStr as _};
use svc_model::ObjectRef;

use crate::answer::{Asked, Outcome, Upstream};
use crate::grammar::{Branch, Leaf, Place};
use crate::lookup::{Absence, Found};
use crate::name::Name;
use crate::options::Behavior;
use crate::question::Question;
use crate::record::{Rcode, Type};
use crate::sink::Answer;
use crate::store::NamespaceState;
use crate::store::endpoints::{LeftOut, Port};
use crate::store::service::{Entry, FaceKind, Presence};
use crate::zones::{Sync, Zones};

/// How many names of a kind an explanation lists.
const LISTED: usize = 8;

/// A question, its answer, and the objects and conditions behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub qtype: Type,
    /// The answer; none if the question is handed on.
    pub answer: Option<Answer>,
    /// Why the name does not exist.
    pub absence: Option<Absence>,
    /// What there is, and what is missing.
    pub facts: Vec<Fact>,
}

/// One thing that an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// The name is in none of the zones.
    OutsideZones,
    /// The name is in this zone.
    Zone(Name),
    /// Not every object is known yet.
    NotSynced,
    /// The question is handed on instead of being denied.
    FallsThrough,
    /// The name is only there because there are names below it.
    OnlyBelow,
    /// The Service that the name is about.
    Service {
        /// Its namespace and name.
        service: ObjectRef,
        /// How it is answered.
        kind: ServiceAnswers,
        /// How many ready endpoint addresses it has.
        ready: usize,
        /// How many EndpointSlices it has.
        slices: usize,
    },
    /// Services of the same name in other namespaces, or of the same namespace.
    Instead(Vec<ObjectRef>),
    /// An endpoint that has no records.
    LeftOut {
        /// Its address.
        address: SmolStr,
        /// The slice that it is in.
        slice: SmolStr,
        /// The Pod or other object behind it.
        target: Option<SmolStr>,
        /// Why.
        why: LeftOut,
    },
    /// A slice whose labels are not selected by the `labels` option.
    SliceUnselected(SmolStr),
    /// The labels of the endpoints that there are.
    EndpointLabels(Vec<SmolStr>),
    /// The ports that there are, `name/PROTOCOL:number`.
    Ports(Vec<SmolStr>),
    /// The Service has addresses of the other family only.
    OtherFamily,
    /// The name that an ExternalName Service stands for.
    Target(Name),
    /// The target is outside the zones, and nobody could tell its addresses.
    TargetUnknown(Name),
    /// By the standards the answer would be another one; its code.
    StandardsDiffer {
        /// The code by the standards.
        rcode: Rcode,
        /// How many records would be in the answer section.
        answers: usize,
    },
}

/// How a Service is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceAnswers {
    /// By its cluster IPs.
    ClusterIp,
    /// It has no cluster IP yet.
    Pending,
    /// By its endpoints.
    Headless,
    /// By another name.
    ExternalName,
    /// There are slices but no Service.
    SlicesOnly,
    /// Its labels are not selected.
    Unselected,
}

impl Zones {
    /// Answers a question and tells why: for a name that does not exist which object or condition keeps it away, for an empty answer
    /// what there is instead.
    #[must_use]
    pub fn explain(&self, question: &Question<'_>, upstream: &dyn Upstream) -> Explanation {
        let mut answer = Answer::empty(Rcode::NoError);
        let (outcome, absence) = self.judge(question, upstream, self.options.behavior, &mut answer);
        let name = Name::from_wire(question.name()).unwrap_or_else(|_| Name::root());
        let mut facts = Vec::new();
        let external = self.zone_of(question, &self.external).map(|found| (found, &self.external));
        let found =
            external.or_else(|| self.zone_of(question, &self.served).map(|found| (found, &self.served)));
        match found.and_then(|((index, left), zones)| Some((zones.get(index)?, left))) {
            None => facts.push(Fact::OutsideZones),
            Some((zone, left)) => {
                facts.push(Fact::Zone(zone.name.clone()));
                if external.is_none() {
                    self.describe(self.asked(zone, question, left), &answer, absence, &mut facts);
                } else if left >= 2
                    && let Some((_, entry)) = self.store.internal.find(question.labels(left - 2, left))
                {
                    self.describe_service(entry, &mut facts);
                }
            }
        }
        let answer = match outcome {
            Outcome::Done(rcode) => {
                answer.rcode = rcode;
                if rcode == Rcode::ServFail && self.sync == Sync::Pending {
                    facts.push(Fact::NotSynced);
                }
                Some(answer)
            }
            Outcome::Next => {
                if absence.is_some() {
                    facts.push(Fact::FallsThrough);
                }
                None
            }
        };
        self.compare(question, upstream, answer.as_ref(), &mut facts);
        Explanation { name, qtype: question.qtype(), answer, absence, facts }
    }

    /// Tells where the standards would answer otherwise.
    fn compare(
        &self,
        question: &Question<'_>,
        upstream: &dyn Upstream,
        answer: Option<&Answer>,
        facts: &mut Vec<Fact>,
    ) {
        let (Behavior::CoreDns, Some(answer)) = (self.options.behavior, answer) else { return };
        let mut other = Answer::empty(Rcode::NoError);
        let (outcome, _) = self.judge(question, upstream, Behavior::Standards, &mut other);
        let answers = other.answer.len();
        if let Outcome::Done(rcode) = outcome
            && (rcode, answers) != (answer.rcode, answer.answer.len())
        {
            facts.push(Fact::StandardsDiffer { rcode, answers });
        }
    }

    fn describe(
        &self,
        asked: Asked<'_, '_>,
        answer: &Answer,
        absence: Option<Absence>,
        facts: &mut Vec<Fact>,
    ) {
        let question = asked.question;
        match Place::of(question, asked.left, asked.zone.grammar) {
            Place::Object(Branch::Service, service, leaf) => {
                let key = question.labels(service, service + 2);
                let found = self.store.table(asked.zone.side).find(key);
                let Some((_, entry)) = found else {
                    facts.extend(self.instead(asked, service));
                    return;
                };
                self.describe_service(entry, facts);
                if absence.is_some() {
                    describe_missing(entry, leaf, facts);
                } else {
                    if answer.answer.is_empty() {
                        self.describe_empty(asked, facts);
                    }
                    // The name leads to an address that leads nowhere.
                    if entry.endpoints.ready() == 0 {
                        facts.extend(left_out(entry));
                    }
                }
            }
            Place::Top | Place::Namespace(..) if absence.is_none() && answer.answer.is_empty() => {
                facts.push(Fact::OnlyBelow);
            }
            _ => {}
        }
    }

    fn describe_service(&self, entry: &Entry, facts: &mut Vec<Fact>) {
        let kind = match &entry.presence {
            Presence::None => ServiceAnswers::SlicesOnly,
            Presence::Unselected => ServiceAnswers::Unselected,
            Presence::Some(face) => match face.kind {
                FaceKind::Address if face.addrs.is_empty() => ServiceAnswers::Pending,
                FaceKind::Address => ServiceAnswers::ClusterIp,
                FaceKind::Headless => ServiceAnswers::Headless,
                FaceKind::Alias => ServiceAnswers::ExternalName,
            },
        };
        facts.push(Fact::Service {
            service: reference(entry),
            kind,
            ready: entry.endpoints.ready(),
            slices: entry.endpoints.slices().len(),
        });
        if let Some(crate::store::service::Alias::Name(target)) =
            entry.face().and_then(|face| face.text.as_ref())
            && kind == ServiceAnswers::ExternalName
        {
            facts.push(Fact::Target(target.clone()));
            if !self.served.iter().any(|zone| target.is_within(&zone.name)) {
                facts.push(Fact::TargetUnknown(target.clone()));
            }
        }
    }

    /// What there is where a question found nothing of its type.
    fn describe_empty(&self, asked: Asked<'_, '_>, facts: &mut Vec<Fact>) {
        match self.lookup(asked.behavior).locate(asked.zone, asked.question, asked.left) {
            Ok(Found::Addresses(_, face, _)) if !face.addrs.is_empty() => facts.push(Fact::OtherFamily),
            Ok(Found::Endpoints(..)) => facts.push(Fact::OtherFamily),
            Ok(Found::Node | Found::Topology) => facts.push(Fact::OnlyBelow),
            _ => {}
        }
    }

    /// Where a Service of that name is, or which ones are in the namespace.
    fn instead(&self, asked: Asked<'_, '_>, service: usize) -> Option<Fact> {
        let (name, namespace) = (asked.question.label(service), asked.question.label(service + 1));
        let table = self.store.table(asked.zone.side);
        let seen = |entry: &&Entry| entry.face().is_some() && self.store.exposes(entry);
        let entries = || table.iter().map(|(_, entry)| entry).filter(seen);
        let mut found: Vec<&Entry> = entries().filter(|entry| entry.name().as_bytes() == name).collect();
        if found.is_empty() {
            found = entries().filter(|entry| entry.namespace_name().as_bytes() == namespace).collect();
        }
        found.sort_by(|a, b| a.cmp_name(b));
        found.truncate(LISTED);
        (!found.is_empty()).then(|| Fact::Instead(found.into_iter().map(reference).collect()))
    }

    /// The namespaces that are known but not served, with the reason: for listings of what is hidden.
    pub fn hidden_namespaces(&self) -> impl Iterator<Item = (&str, Absence)> {
        self.store.namespaces().filter_map(|namespace| {
            let why = match namespace.state {
                NamespaceState::Exposed => return None,
                NamespaceState::Absent => Absence::NoNamespace,
                NamespaceState::Unlisted => Absence::NamespaceUnlisted,
                NamespaceState::Unselected => Absence::NamespaceUnselected,
            };
            Some((namespace.name.as_str(), why))
        })
    }
}

fn reference(entry: &Entry) -> ObjectRef {
    ObjectRef::new(entry.namespace_name(), entry.name())
}

/// Why a name below a Service that exists leads nowhere.
fn describe_missing(entry: &Entry, leaf: Leaf, facts: &mut Vec<Fact>) {
    facts.extend(entry.unselected.iter().cloned().map(Fact::SliceUnselected));
    if leaf == Leaf::Port {
        let service = entry.face().filter(|face| face.kind == FaceKind::Address).map(|face| &face.ports);
        let slices = || entry.endpoints.slices().iter().flat_map(|slice| &slice.ports);
        let mut ports: Vec<SmolStr> = match service {
            Some(ports) => ports.iter().filter_map(port_text).collect(),
            None => slices().filter_map(port_text).collect(),
        };
        ports.sort();
        ports.dedup();
        ports.truncate(LISTED);
        facts.push(Fact::Ports(ports));
        return;
    }
    if matches!(leaf, Leaf::Endpoint | Leaf::Cluster) {
        let text = |label: &[u8]| core::str::from_utf8(label.get(1..).unwrap_or_default()).map(SmolStr::new);
        let labels = entry.endpoints.rows().iter().filter_map(|row| text(entry.endpoints.label(row)).ok());
        let mut labels: Vec<SmolStr> = labels.collect();
        labels.sort();
        labels.dedup();
        labels.truncate(LISTED);
        facts.push(Fact::EndpointLabels(labels));
    }
    facts.extend(left_out(entry));
}

/// The endpoints that have no records.
fn left_out(entry: &Entry) -> impl Iterator<Item = Fact> {
    entry.endpoints.left().iter().map(|left| Fact::LeftOut {
        address: left.addr.clone(),
        slice: left.slice.clone(),
        target: left.target.clone().or_else(|| left.hostname.clone()),
        why: left.why,
    })
}

fn port_text(port: &Port) -> Option<SmolStr> {
    let number = port.number?;
    let name = if port.name.is_empty() { "(unnamed)" } else { port.name.as_str() };
    let protocol = match port.protocol {
        crate::store::endpoints::Proto::Known(protocol) => protocol.as_str(),
        crate::store::endpoints::Proto::Other => "?",
    };
    Some(alloc::format!("{name}/{protocol}:{number}").to_smolstr())
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchBranch => "below the zone there are only `svc` and `pod`",
            Self::TooLong => "no name has so many labels",
            Self::NotAnAddress => "in a reverse zone only addresses have names",
            Self::NoNamespace => "there is no such namespace",
            Self::NamespaceUnlisted => "the namespace is not in the `namespaces` option",
            Self::NamespaceUnselected => "the namespace's labels are not selected by `namespace_labels`",
            Self::PodsDisabled => "names of Pods are not served (`pods disabled`)",
            Self::PodNoAddress => "the label is no address with dashes",
            Self::NoPod => "no running Pod of the namespace has that address",
            Self::NoService => "there is no such Service in the namespace",
            Self::ServiceUnselected => "the Service's labels are not selected by the `labels` option",
            Self::ServiceIgnored => {
                "the Service has no ready endpoint and is left out (`ignore empty_service`)"
            }
            Self::EndpointsOff => "endpoints are not served (`noendpoints`)",
            Self::NoSlices => "the Service is headless and has no EndpointSlice",
            Self::NoReadyEndpoints => "the Service is headless and no endpoint is ready",
            Self::NoSuchEndpoint => "no ready endpoint of the Service has that hostname or address",
            Self::NoSuchPort => "the Service has no port of that name and protocol",
            Self::BelowAlias => "an ExternalName Service has no names below it",
            Self::AliasIsAddress => "the external name is an address, which no DNS name is",
            Self::AliasInvalid => "the external name is no DNS name",
            Self::TopologyOfAddress => "topology zones are in names of headless Services only",
            Self::NoSuchAddress => "no Service and no ready endpoint has that address",
            Self::NoOutsideAddress => "the Service has no address outside the cluster",
            Self::WrongType => "CoreDNS denies the name for this type of record, although it exists",
        })
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Terminating => "terminating, although it still serves",
            Self::NoAddress => "its address is no IP address",
            Self::BadHostname => "its hostname is longer than a DNS label",
        })
    }
}

impl fmt::Display for ServiceAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "with a cluster IP",
            Self::Pending => "without a cluster IP yet",
            Self::Headless => "headless",
            Self::ExternalName => "ExternalName",
            Self::SlicesOnly => "not there, though it has EndpointSlices",
            Self::Unselected => "not selected by its labels",
        })
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideZones => f.write_str("the name is in none of the zones"),
            Self::Zone(zone) => write!(f, "zone {zone}"),
            Self::NotSynced => f.write_str("not every object is known yet, so a missing name is SERVFAIL"),
            Self::FallsThrough => f.write_str("handed on to the next server (`fallthrough`)"),
            Self::OnlyBelow => f.write_str("the name exists only because names are below it"),
            Self::Service { service, kind, ready, slices } => {
                write!(f, "Service {service}: {kind}, {ready} ready endpoint addresses in {slices} slices")
            }
            Self::Instead(services) => list(f, "there are instead: ", services),
            Self::LeftOut { address, slice, target, why } => {
                write!(f, "endpoint {address} of EndpointSlice {slice}")?;
                if let Some(target) = target {
                    write!(f, " ({target})")?;
                }
                write!(f, " is left out: {why}")
            }
            Self::SliceUnselected(slice) => {
                write!(f, "EndpointSlice {slice} is left out: its labels are not selected")
            }
            Self::EndpointLabels(labels) => list(f, "endpoints that have names: ", labels),
            Self::Ports(ports) => list(f, "ports: ", ports),
            Self::OtherFamily => f.write_str("the name has records, but none of this type"),
            Self::Target(name) => write!(f, "it stands for {name}"),
            Self::TargetUnknown(name) => {
                write!(f, "{name} is outside the zones: its addresses come from another server")
            }
            Self::StandardsDiffer { rcode, answers } => {
                write!(
                    f,
                    "CoreDNS differs from the standards here: {rcode} with {answers} answers would be right"
                )
            }
        }
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, head: &str, items: &[T]) -> fmt::Result {
    f.write_str(head)?;
    if items.is_empty() {
        return f.write_str("none");
    }
    for (index, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl fmt::Display for Explanation {
    /// A short report, one line a fact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.name, self.qtype)?;
        match &self.answer {
            None => writeln!(f, "not answered here")?,
            Some(answer) if answer.rcode == Rcode::NoError && answer.answer.is_empty() => {
                writeln!(f, "NODATA")?
            }
            Some(answer) => writeln!(f, "{}, {} answers", answer.rcode, answer.answer.len())?,
        }
        for record in self.answer.iter().flat_map(|answer| &answer.answer) {
            writeln!(f, "  {record}")?;
        }
        if let Some(absence) = self.absence {
            writeln!(f, "  because {absence}")?;
        }
        self.facts.iter().try_for_each(|fact| writeln!(f, "  {fact}"))
    }
}
