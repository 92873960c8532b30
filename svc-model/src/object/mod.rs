//! One file per Kubernetes kind: slim structs that read and write the API server's JSON.
//!
//! Fields mirror the API's own, and follow its rule for absence: what is a pointer in the API is an
//! `Option`, anything else is empty when absent. A kind keeps what was sent (see
//! [`Sent`](crate::Sent)); methods give the effective value. Fields that no decision of the service
//! network depends on are left out.

mod admin_network_policy;
mod any;
mod cluster_network_policy;
mod endpoint_slice;
mod endpoints;
mod kube_proxy;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod service;
mod service_cidr;
mod service_import;
mod workload;

pub use admin_network_policy::*;
pub use any::{Object, ObjectKind};
pub use cluster_network_policy::*;
pub use endpoint_slice::*;
pub use endpoints::*;
pub use kube_proxy::*;
pub use namespace::*;
pub use network_policy::*;
pub use node::*;
pub use pod::*;
pub use service::*;
pub use service_cidr::*;
pub use service_import::*;
pub use workload::*;

use crate::{ObjectMeta, ObjectRef, scalar::string_enum};

/// Whether a kind lives in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The kind's objects live in namespaces.
    Namespaced,
    /// The kind's objects belong to the cluster as a whole.
    Cluster,
}

/// A top-level kind of the API.
pub trait Kind {
    /// API group and version, such as `discovery.k8s.io/v1`.
    const API_VERSION: &'static str;
    /// Name of the kind, such as `EndpointSlice`.
    const KIND: &'static str;
    /// Whether its objects live in namespaces.
    const SCOPE: Scope;

    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// The object's metadata, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;

    /// Namespace and name.
    fn object_ref(&self) -> ObjectRef {
        self.metadata().object_ref()
    }
}

string_enum! {
    /// Transport protocol of a port.
    pub enum Protocol {
        /// TCP, the default.
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
        /// SCTP.
        Sctp = "SCTP",
    }

    /// Address family.
    pub enum IpFamily {
        /// IPv4.
        Ipv4 = "IPv4",
        /// IPv6.
        Ipv6 = "IPv6",
    }
}

impl IpFamily {
    /// The family of an address.
    pub const fn of(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(_) => Self::Ipv4,
            core::net::IpAddr::V6(_) => Self::Ipv6,
        }
    }
}
