//! For every Pod that a selector matches: in or out, and the reason.

use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;
use svc_model::{IpFamily, ObjectRef, Pod, Service};

use crate::slices::endpoint::{Publishing, is_published};
use crate::slices::facts::{PodFacts, families_of};
use crate::slices::ports::{PortResolver, Resolution};
use crate::slices::{Exclusion, NoSelection, Nodes, select_pods};

/// What a Service makes of one Pod that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReport {
    /// The Pod.
    pub pod: ObjectRef,
    /// In or out, for each address family of the Service.
    pub families: Vec<(IpFamily, Membership)>,
    /// The Service ports (by name) whose named target port the Pod's containers do not declare under that name and
    /// protocol. A Pod of which no port resolves is in slices without ports, which most readers ignore.
    pub unresolved_ports: Vec<SmolStr>,
    /// Whether any port resolves (or the Service has none).
    pub has_ports: bool,
}

/// Whether a Pod is an endpoint of an address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// It is.
    In(Readiness),
    /// It is not.
    Out(Exclusion),
}

/// Whether an endpoint counts as ready, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The Pod is ready.
    Ready,
    /// The Service publishes addresses whether the Pod is ready or not, and this one is not.
    PublishedRegardless(Serving),
    /// Not ready, since the Pod is being deleted; while it serves, traffic falls back to it where nothing else is.
    Terminating(Serving),
    /// The Pod's condition `Ready` is not `True`.
    NotReady {
        /// The condition's reason, if the Pod has the condition at all.
        reason: SmolStr,
        /// The condition's message.
        message: SmolStr,
    },
}

/// Whether a Pod passes its readiness checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Serving {
    /// It does.
    Yes,
    /// It does not.
    No,
}

impl Readiness {
    /// Whether the endpoint is ready in the eyes of readers.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::PublishedRegardless(_))
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::PublishedRegardless(_) => f.write_str("not ready, but published all the same"),
            Self::Terminating(Serving::Yes) => f.write_str("terminating, still serving"),
            Self::Terminating(Serving::No) => f.write_str("terminating"),
            Self::NotReady { reason, .. } if reason.is_empty() => f.write_str("not ready"),
            Self::NotReady { reason, message } if message.is_empty() => write!(f, "not ready: {reason}"),
            Self::NotReady { reason, message } => write!(f, "not ready: {reason}: {message}"),
        }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(readiness) => write!(f, "in: {readiness}"),
            Self::Out(exclusion) => write!(f, "out: {exclusion}"),
        }
    }
}

impl PodReport {
    /// Whether the Pod is a ready endpoint with a port in any family.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let is_ready = |(_, membership): &(_, Membership)| match membership {
            Membership::In(readiness) => readiness.is_ready(),
            Membership::Out(_) => false,
        };
        self.has_ports && self.families.iter().any(is_ready)
    }
}

/// Reports on every Pod among `pods` that a Service selects, in the order given. The verdicts are those of the
/// reconciler itself.
///
/// # Errors
/// If the Service selects no Pods by design.
pub fn why_pods<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    nodes: &Nodes,
) -> Result<Vec<PodReport>, NoSelection> {
    let pods: Vec<&Pod> = pods.into_iter().collect();
    let selected = select_pods(service, pods)?;
    Ok(selected.map(|pod| report(service, pod, nodes)).collect())
}

fn report(service: &Service, pod: &Pod, nodes: &Nodes) -> PodReport {
    let facts = PodFacts::of(pod);
    let publishing = Publishing { service, nodes };
    let families = families_of(service).iter().map(|family| {
        let membership = match is_published(facts).and_then(|()| publishing.endpoint(facts, family)) {
            Ok(_) => Membership::In(readiness(service, pod, facts)),
            Err(exclusion) => Membership::Out(exclusion),
        };
        (family, membership)
    });
    let resolver = PortResolver::of(service);
    let mut resolution = Resolution::new();
    resolver.resolve_into(facts.ports, &mut resolution);
    PodReport {
        pod: pod.metadata.object_ref(),
        families: families.collect(),
        unresolved_ports: resolver.unresolved(&resolution).map(|port| port.name.clone()).collect(),
        has_ports: resolution.is_empty() || resolution.iter().any(Option::is_some),
    }
}

fn readiness(service: &Service, pod: &Pod, facts: PodFacts<'_>) -> Readiness {
    let serving = if facts.flags.ready { Serving::Yes } else { Serving::No };
    match (facts.flags.ready, facts.flags.terminating) {
        (true, false) => Readiness::Ready,
        _ if service.spec.publish_not_ready_addresses => Readiness::PublishedRegardless(serving),
        (_, true) => Readiness::Terminating(serving),
        (false, false) => {
            let condition = pod.ready_condition();
            let text =
                |of: fn(&svc_model::PodCondition) -> &SmolStr| condition.map(of).cloned().unwrap_or_default();
            Readiness::NotReady { reason: text(|c| &c.reason), message: text(|c| &c.message) }
        }
    }
}
