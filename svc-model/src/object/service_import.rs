//! `ServiceImport` (multicluster.x-k8s.io/v1alpha1): a Service of a set of clusters.

use core::net::IpAddr;

use alloc::vec::Vec;
use smol_str::SmolStr;

use super::{Protocol, SessionAffinity, SessionAffinityConfig};
use crate::scalar::string_enum;
use crate::serde_util::{api_kind, api_struct};
use crate::{Port, Sent};

api_kind! {
    /// A Service that other clusters export (KEP-1645).
    pub struct ServiceImport: "multicluster.x-k8s.io/v1alpha1" "ServiceImport" Namespaced {
        /// Addresses and ports.
        pub spec "spec": ServiceImportSpec;
    }
}

api_struct! {
    /// `ServiceImportSpec`.
    pub struct ServiceImportSpec {
        /// Ports.
        pub ports: Vec<ServiceImportPort>,
        /// Addresses; empty for headless.
        pub ips: Vec<Sent<IpAddr>>,
        /// Whether there is an address.
        #[serde(rename = "type")]
        pub import_type: Sent<ServiceImportType>,
        /// Whether connections of one client stay at one endpoint.
        pub session_affinity: Sent<SessionAffinity>,
        /// Parameters of the session affinity.
        pub session_affinity_config: Option<SessionAffinityConfig>,
    }

    /// `ServicePort` of a ServiceImport.
    pub struct ServiceImportPort {
        /// Name.
        pub name: SmolStr,
        /// Protocol; empty means TCP.
        pub protocol: Sent<Protocol>,
        /// Application protocol.
        pub app_protocol: Option<SmolStr>,
        /// Port.
        pub port: Port,
    }
}

string_enum! {
    /// Whether a ServiceImport has an address.
    pub enum ServiceImportType {
        /// One address for the set of clusters.
        ClusterSetIp = "ClusterSetIP",
        /// None; names lead to the endpoints.
        Headless = "Headless",
    }
}
