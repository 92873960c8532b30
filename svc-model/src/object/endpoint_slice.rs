//! `EndpointSlice` (discovery.k8s.io/v1).

use core::net::IpAddr;

use alloc::vec::Vec;
use smol_str::SmolStr;

use super::{IpFamily, Protocol};
use crate::scalar::string_enum;
use crate::serde_util::{api_kind, api_struct};
use crate::{ObjectReference, Port, Sent};

/// Label that names the Service a slice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label that names who manages a slice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

api_kind! {
    /// A part of a Service's endpoints (discovery.k8s.io/v1).
    pub struct EndpointSlice: "discovery.k8s.io/v1" "EndpointSlice" Namespaced {
        /// What the addresses are; immutable.
        pub address_type "addressType": Sent<AddressType>, always;
        /// Endpoints, at most 1,000.
        pub endpoints "endpoints": Vec<Endpoint>, always;
        /// Ports that every endpoint of the slice serves.
        pub ports "ports": Vec<EndpointPort>;
    }
}

api_struct! {
    /// One backend of a Service (`Endpoint`).
    pub struct Endpoint {
        /// Interchangeable addresses; consumers use the first.
        pub addresses: Vec<Sent<IpAddr>>,
        /// State.
        pub conditions: EndpointConditions,
        /// Host name that DNS publishes.
        pub hostname: Option<SmolStr>,
        /// The object behind, usually a Pod.
        pub target_ref: Option<ObjectReference>,
        /// Node of the endpoint.
        pub node_name: Option<SmolStr>,
        /// Zone of the endpoint.
        pub zone: Option<SmolStr>,
        /// Who should use this endpoint.
        pub hints: Option<EndpointHints>,
    }

    /// `EndpointConditions`; `None` means unknown.
    pub struct EndpointConditions {
        /// Takes traffic; unknown counts as true.
        pub ready: Option<bool>,
        /// Could take traffic, terminating or not; unknown follows `ready`.
        pub serving: Option<bool>,
        /// Is going away; unknown counts as false.
        pub terminating: Option<bool>,
    }

    /// `EndpointHints`.
    pub struct EndpointHints {
        /// Zones that should use the endpoint.
        pub for_zones: Vec<ForZone>,
        /// Nodes that should use the endpoint.
        pub for_nodes: Vec<ForNode>,
    }

    /// `ForZone`.
    pub struct ForZone {
        /// Zone name.
        pub name: SmolStr,
    }

    /// `ForNode`.
    pub struct ForNode {
        /// Node name.
        pub name: SmolStr,
    }

    /// `EndpointPort` of a slice.
    pub struct EndpointPort {
        /// Name, that of the Service port; `Some("")` for an unnamed one.
        pub name: Option<SmolStr>,
        /// Protocol; absent means TCP.
        pub protocol: Option<Sent<Protocol>>,
        /// Number; absent means every port.
        pub port: Option<Port>,
        /// Application protocol.
        pub app_protocol: Option<SmolStr>,
    }
}

string_enum! {
    /// What the addresses of a slice are.
    pub enum AddressType {
        /// IPv4 addresses.
        Ipv4 = "IPv4",
        /// IPv6 addresses.
        Ipv6 = "IPv6",
        /// Domain names.
        Fqdn = "FQDN",
    }
}

impl From<IpFamily> for AddressType {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::Ipv4,
            IpFamily::Ipv6 => Self::Ipv6,
        }
    }
}

impl EndpointSlice {
    /// The Service that the slice belongs to, by its label.
    pub fn service_name(&self) -> Option<&str> {
        self.metadata.labels.get(SERVICE_NAME_LABEL).filter(|name| !name.is_empty())
    }
}

impl EndpointConditions {
    /// Ready, unknown counting as true.
    pub fn is_ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// Serving, unknown following ready.
    pub fn is_serving(&self) -> bool {
        self.serving.unwrap_or_else(|| self.is_ready())
    }

    /// Terminating, unknown counting as false.
    pub fn is_terminating(&self) -> bool {
        self.terminating.unwrap_or(false)
    }
}

impl EndpointPort {
    /// The protocol; absent means TCP, `None` if the text is no protocol.
    pub fn protocol(&self) -> Option<Protocol> {
        match &self.protocol {
            None => Some(Protocol::Tcp),
            Some(sent) if sent.is_empty() => Some(Protocol::Tcp),
            Some(sent) => sent.get(),
        }
    }
}
