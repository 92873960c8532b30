//! `Endpoints` (core/v1), deprecated since Kubernetes 1.33 in favour of EndpointSlice.

use core::net::IpAddr;

use alloc::vec::Vec;
use smol_str::SmolStr;

use super::Protocol;
use crate::serde_util::{api_kind, api_struct};
use crate::{ObjectReference, Port, Sent};

api_kind! {
    /// All endpoints of a Service in one object (core/v1).
    pub struct Endpoints: "v1" "Endpoints" Namespaced {
        /// Addresses grouped by the ports they serve.
        pub subsets "subsets": Vec<EndpointSubset>;
    }
}

api_struct! {
    /// Addresses that serve the same ports (`EndpointSubset`).
    pub struct EndpointSubset {
        /// Ready addresses.
        pub addresses: Vec<EndpointAddress>,
        /// Addresses that are not ready.
        pub not_ready_addresses: Vec<EndpointAddress>,
        /// Ports.
        pub ports: Vec<SubsetPort>,
    }

    /// `EndpointAddress`.
    pub struct EndpointAddress {
        /// Address.
        pub ip: Sent<IpAddr>,
        /// Host name that DNS publishes.
        pub hostname: SmolStr,
        /// Node of the endpoint.
        pub node_name: Option<SmolStr>,
        /// The object behind, usually a Pod.
        pub target_ref: Option<ObjectReference>,
    }

    /// `EndpointPort` of a subset.
    pub struct SubsetPort {
        /// Name, that of the Service port.
        pub name: SmolStr,
        /// Number.
        pub port: Port,
        /// Protocol; empty means TCP.
        pub protocol: Sent<Protocol>,
        /// Application protocol.
        pub app_protocol: Option<SmolStr>,
    }
}
