//! From a Pod to an endpoint: whether it is one, and what it says.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use smol_str::SmolStr;
use svc_model::{Endpoint, EndpointConditions, IpFamily, ObjectReference, PodPhase, Sent, Service};

use super::facts::PodFacts;
use super::nodes::Nodes;

/// Why a Pod that a Service selects has no endpoint of an address family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exclusion {
    /// It has ended for good.
    Ended(PodPhase),
    /// It has no IP address yet.
    NoAddress,
    /// The node that it is bound to does not exist (or it is bound to none), and the Service does not publish
    /// addresses regardless of readiness.
    NodeMissing(SmolStr),
    /// None of its IP addresses is of the family.
    NoAddressOf(IpFamily),
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(phase) => write!(f, "has ended ({phase})"),
            Self::NoAddress => f.write_str("has no IP address yet"),
            Self::NodeMissing(node) if node.is_empty() => f.write_str("is bound to no node"),
            Self::NodeMissing(node) => write!(f, "its node {node} does not exist"),
            Self::NoAddressOf(family) => write!(f, "has no {family} address"),
        }
    }
}

/// Whether a Pod counts at all, before nodes and address families are looked at.
pub(crate) fn is_published(pod: PodFacts<'_>) -> Result<(), Exclusion> {
    match pod.flags.ended {
        Some(phase) => Err(Exclusion::Ended(phase)),
        None if !pod.flags.has_address => Err(Exclusion::NoAddress),
        None => Ok(()),
    }
}

/// What a Service says about all of its endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publishing<'a> {
    pub(crate) service: &'a Service,
    pub(crate) nodes: &'a Nodes,
}

/// A Pod that is an endpoint of an address family, not yet written out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Desired<'a> {
    pub(crate) pod: PodFacts<'a>,
    pub(crate) family: IpFamily,
    zone: Option<&'a SmolStr>,
    hostname: Option<&'a SmolStr>,
    ready: bool,
}

impl<'a> Publishing<'a> {
    /// The node of a Pod that [is published](is_published): its zone, if it lies in one.
    pub(crate) fn zone_of(self, pod: PodFacts<'a>) -> Result<Option<&'a SmolStr>, Exclusion> {
        match self.nodes.zone_of(pod.node) {
            Some(zone) => Ok(zone),
            None if self.service.spec.publish_not_ready_addresses => Ok(None),
            None => Err(Exclusion::NodeMissing(pod.node.clone())),
        }
    }

    /// The endpoint of a Pod that [is published](is_published).
    pub(crate) fn endpoint(self, pod: PodFacts<'a>, family: IpFamily) -> Result<Desired<'a>, Exclusion> {
        let zone = self.zone_of(pod)?;
        if !pod.has_address_of(family) {
            return Err(Exclusion::NoAddressOf(family));
        }
        let service = self.service;
        let is_named = !pod.hostname.is_empty()
            && *pod.subdomain == service.metadata.name
            && *pod.namespace == service.metadata.namespace;
        let ready = pod.flags.ready && !pod.flags.terminating;
        Ok(Desired {
            pod,
            family,
            zone,
            hostname: is_named.then_some(pod.hostname),
            ready: ready || service.spec.publish_not_ready_addresses,
        })
    }
}

impl Desired<'_> {
    /// The endpoint as a slice holds it, without hints.
    pub(crate) fn write(&self) -> Endpoint {
        let pod = self.pod;
        Endpoint {
            addresses: pod.addresses_of(self.family),
            conditions: self.conditions(),
            hostname: self.hostname.cloned(),
            target_ref: Some(ObjectReference {
                kind: POD,
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                ..ObjectReference::default()
            }),
            node_name: (!pod.node.is_empty()).then(|| pod.node.clone()),
            zone: self.zone.cloned(),
            hints: None,
        }
    }

    fn conditions(&self) -> EndpointConditions {
        EndpointConditions {
            ready: Some(self.ready),
            serving: Some(self.pod.flags.ready),
            terminating: Some(self.pod.flags.terminating),
        }
    }

    /// Whether `endpoint` is this one, perhaps with other conditions: the same addresses, host name and target.
    pub(crate) fn is(&self, endpoint: &Endpoint) -> bool {
        let target = endpoint.target_ref.as_ref();
        target.is_some_and(|target| target.name == *self.pod.name && target.namespace == *self.pod.namespace)
            && endpoint.hostname.as_ref().filter(|name| !name.is_empty()) == self.hostname
            && self.has_addresses(&endpoint.addresses)
    }

    fn has_addresses(&self, addresses: &[Sent<IpAddr>]) -> bool {
        if let ([address], [own]) = (addresses, self.pod.addresses)
            && *address == own.ip
        {
            return true;
        }
        let mut sorted: Vec<Sent<IpAddr>> = addresses.to_vec();
        sorted.sort_by_cached_key(Sent::to_text);
        sorted == self.pod.addresses_of(self.family)
    }

    /// Whether `endpoint`, which [is](Self::is) this one, needs no update. Hints and the target's resource
    /// version are no reason for one.
    pub(crate) fn is_up_to_date(&self, endpoint: &Endpoint) -> bool {
        let node = (!self.pod.node.is_empty()).then_some(self.pod.node);
        endpoint.node_name.as_ref() == node
            && endpoint.zone.as_ref() == self.zone
            && endpoint.conditions == self.conditions()
            && endpoint.target_ref.as_ref().is_some_and(|target| {
                target.kind == POD
                    && target.uid == *self.pod.uid
                    && target.api_version.is_empty()
                    && target.field_path.is_empty()
            })
    }
}

const POD: SmolStr = SmolStr::new_static("Pod");
