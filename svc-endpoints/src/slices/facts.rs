//! What endpoints depend on in a Pod and in a Service.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use smol_str::SmolStr;
use svc_model::{
    IntOrString, IpFamily, Labels, ObjectRef, Pod, PodIp, PodPhase, PodSpec, Port, Protocol, Sent, Service,
    ServiceType, Timestamp,
};

/// A Pod as endpoints depend on it, borrowed from a [`Pod`] or from a [`PodRecord`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodFacts<'a> {
    pub(crate) namespace: &'a SmolStr,
    pub(crate) name: &'a SmolStr,
    pub(crate) uid: &'a SmolStr,
    pub(crate) node: &'a SmolStr,
    pub(crate) hostname: &'a SmolStr,
    pub(crate) subdomain: &'a SmolStr,
    pub(crate) addresses: &'a [PodIp],
    pub(crate) ports: Ports<'a>,
    pub(crate) flags: Flags,
}

/// Where a Pod's named ports are looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ports<'a> {
    Containers(&'a PodSpec),
    Table(&'a [NamedPort]),
}

/// The yes-or-no facts of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Succeeded or Failed.
    pub(crate) ended: Option<PodPhase>,
    pub(crate) has_address: bool,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
}

impl Flags {
    fn of(pod: &Pod) -> Self {
        let status = &pod.status;
        Self {
            ended: status.phase.get().filter(|_| pod.is_terminal()),
            has_address: !(status.pod_ip.is_empty() && status.pod_ips.is_empty()),
            ready: pod.is_ready(),
            terminating: pod.metadata.is_terminating(),
        }
    }
}

impl<'a> PodFacts<'a> {
    pub(crate) fn of(pod: &'a Pod) -> Self {
        Self {
            namespace: &pod.metadata.namespace,
            name: &pod.metadata.name,
            uid: &pod.metadata.uid,
            node: &pod.spec.node_name,
            hostname: &pod.spec.hostname,
            subdomain: &pod.spec.subdomain,
            addresses: &pod.status.pod_ips,
            ports: Ports::Containers(&pod.spec),
            flags: Flags::of(pod),
        }
    }

    /// Addresses of a family, sorted as text, which is how the reference identifies endpoints.
    ///
    /// Only `podIPs` counts. Text that is no address is published as `<nil>` in IPv4 slices: the reference
    /// prints the nil address that its parser returned, and the API server then refuses the slice.
    pub(crate) fn addresses_of(self, family: IpFamily) -> Vec<Sent<IpAddr>> {
        let mut addresses = Vec::new();
        for ip in self.addresses {
            match ip.ip.get() {
                Some(address) if IpFamily::of(address) == family => addresses.push(address.into()),
                None if family == IpFamily::Ipv4 => addresses.push(Sent::new("<nil>")),
                _ => {}
            }
        }
        if addresses.len() > 1 {
            addresses.sort_by_cached_key(Sent::to_text);
        }
        addresses
    }

    pub(crate) fn has_address_of(self, family: IpFamily) -> bool {
        self.addresses.iter().any(|ip| match ip.ip.get() {
            Some(address) => IpFamily::of(address) == family,
            None => family == IpFamily::Ipv4,
        })
    }
}

impl Ports<'_> {
    /// The number of the first container port of this name and protocol: over the containers in order, then
    /// over the init containers that keep running (KEP-753).
    pub(crate) fn find(self, name: &str, protocol: Option<Protocol>) -> Option<Port> {
        match self {
            Self::Containers(spec) => spec
                .serving_containers()
                .flat_map(|container| &container.ports)
                .find(|port| port.name == name && port.protocol() == protocol)
                .map(|port| port.container_port),
            Self::Table(ports) => ports
                .iter()
                .find(|port| port.name == name && port.protocol == protocol)
                .map(|port| port.number),
        }
    }
}

/// A named container port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPort {
    name: SmolStr,
    protocol: Option<Protocol>,
    number: Port,
}

/// What is kept of a Pod between events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodRecord {
    pub(crate) key: ObjectRef,
    pub(crate) labels: Labels,
    pub(crate) node: SmolStr,
    uid: SmolStr,
    hostname: SmolStr,
    subdomain: SmolStr,
    addresses: Box<[PodIp]>,
    ports: Box<[NamedPort]>,
    flags: Flags,
    pub(crate) ready_since: Option<Timestamp>,
}

impl PodRecord {
    pub(crate) fn of(pod: &Pod) -> Self {
        let ports = pod.spec.serving_containers().flat_map(|container| &container.ports);
        Self {
            key: pod.metadata.object_ref(),
            labels: pod.metadata.labels.clone(),
            node: pod.spec.node_name.clone(),
            uid: pod.metadata.uid.clone(),
            hostname: pod.spec.hostname.clone(),
            subdomain: pod.spec.subdomain.clone(),
            addresses: pod.status.pod_ips.as_slice().into(),
            ports: ports
                .filter(|port| !port.name.is_empty())
                .map(|port| NamedPort {
                    name: port.name.clone(),
                    protocol: port.protocol(),
                    number: port.container_port,
                })
                .collect(),
            flags: Flags::of(pod),
            ready_since: pod.ready_condition().and_then(|condition| condition.last_transition_time),
        }
    }

    pub(crate) fn facts(&self) -> PodFacts<'_> {
        PodFacts {
            namespace: &self.key.namespace,
            name: &self.key.name,
            uid: &self.uid,
            node: &self.node,
            hostname: &self.hostname,
            subdomain: &self.subdomain,
            addresses: &self.addresses,
            ports: Ports::Table(&self.ports),
            flags: self.flags,
        }
    }
}

/// Why a Service gets no endpoints of its own from the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoSelection {
    /// Its type is ExternalName: it is a DNS alias.
    ExternalName,
    /// It has no selector: its endpoints are the user's to write.
    NoSelector,
}

/// The labels by which a Service selects Pods.
///
/// # Errors
/// If the Service selects none by design. An empty selector is not that: it selects every Pod of the
/// namespace.
pub fn selector_of(service: &Service) -> Result<&Labels, NoSelection> {
    if service.spec.service_type() == ServiceType::ExternalName {
        return Err(NoSelection::ExternalName);
    }
    service.spec.selector.as_ref().ok_or(NoSelection::NoSelector)
}

/// The address families in which a Service has endpoints: those that it names, else that of its cluster IP,
/// else both.
pub(crate) fn families_of(service: &Service) -> Families {
    let spec = &service.spec;
    let named = |family| spec.ip_families.iter().any(|named| named.get() == Some(family));
    let (v4, v6) = (named(IpFamily::Ipv4), named(IpFamily::Ipv6));
    if v4 || v6 {
        return Families { v4, v6 };
    }
    if is_headless(service) {
        return Families { v4: true, v6: true };
    }
    let v6 = spec.cluster_ip.get().is_some_and(|ip| ip.is_ipv6());
    Families { v4: !v6, v6 }
}

/// A set of address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    pub(crate) fn iter(self) -> impl Iterator<Item = IpFamily> {
        [(IpFamily::Ipv4, self.v4), (IpFamily::Ipv6, self.v6)]
            .into_iter()
            .filter_map(|(family, present)| present.then_some(family))
    }

    pub(crate) fn contains(self, family: IpFamily) -> bool {
        match family {
            IpFamily::Ipv4 => self.v4,
            IpFamily::Ipv6 => self.v6,
        }
    }
}

/// No cluster IP is set, whether for good (`None`) or not yet: what the headless label of slices says.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.cluster_ip.is_empty() || service.spec.cluster_ip.is("None")
}

/// The Pod port that a Service port leads to. An absent one is the port's own number, as the API server fills
/// in; a 0 that was sent stays one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TargetPort<'a> {
    Number(Port),
    Name(&'a str),
}

impl<'a> TargetPort<'a> {
    pub(crate) fn of(port: &'a svc_model::ServicePort) -> Self {
        match &port.target_port {
            Some(IntOrString::Int(number)) => Self::Number(Port::new(*number)),
            Some(IntOrString::String(name)) if !name.is_empty() => Self::Name(name),
            _ => Self::Number(port.port),
        }
    }
}
