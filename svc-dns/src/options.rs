//! What a zone serves and how: the options of CoreDNS's `kubernetes` and `k8s_external` plugins, as data.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use smol_str::SmolStr;
use svc_model::Selector;

use crate::grammar::Zonal;
use crate::name::Name;

/// Which answers are right where CoreDNS and the standards disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behavior {
    /// CoreDNS 1.14.7's answers, byte for byte in meaning: what a cluster's clients see today.
    #[default]
    CoreDns,
    /// What RFC 1034, 2308, 2782 and 8020, the Kubernetes DNS specification 1.1.0 and KEP-1645 ask for.
    Standards,
}

/// Names of Pods by address, `10-1-0-1.<namespace>.pod.<zone>` (CoreDNS's `pods`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pods {
    /// None exist.
    #[default]
    Disabled,
    /// Every address exists in every namespace that does.
    Insecure,
    /// Those of Pods that exist in the namespace, have not ended, and are not being deleted.
    Verified,
}

/// Whether the EndpointSlices of Services are looked at (CoreDNS's `noendpoints` turns them off); those of imports always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Endpoints {
    /// They are.
    #[default]
    Served,
    /// Headless Services and endpoints have no names, and their addresses no PTR records.
    Off,
}

/// The label of an endpoint that has no hostname.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointNames {
    /// The address with dashes.
    #[default]
    Address,
    /// The name of the Pod if it is at most 63 bytes long, else the address (CoreDNS's `endpoint_pod_names`).
    Pod,
}

/// What happens to a Service with a cluster IP and no ready endpoint (CoreDNS's `ignore empty_service`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmptyServices {
    /// Its name exists.
    #[default]
    Served,
    /// Its name does not exist.
    Absent,
}

/// How it is known that a namespace exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamespaceSource {
    /// By its Namespace object, as in a cluster.
    #[default]
    Objects,
    /// By its Namespace object or by any Service, ServiceImport or Pod in it: for manifests that leave Namespaces out.
    Implied,
}

/// Which names an address has (PTR records) when it is an endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PtrNames {
    /// One for each Service and label, hostname or not: CoreDNS's answer.
    #[default]
    All,
    /// Only those made from a hostname: the specification's (section 2.4.3).
    Hostnames,
    /// The first of them, for clients that expect one name.
    One,
}

/// SRV weights and glue in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransferStyle {
    /// As a query over the same endpoints gives them.
    #[default]
    AsQueried,
    /// As CoreDNS 1.14.7 transfers them: the weights of each EndpointSlice on its own, name server addresses with TTL 0, SRV records of
    /// port 65535 for what has no port, endpoints of Services that wait for their address.
    PerSlice,
}

/// What the names of a cluster are made from, and how they are answered. The default is a stock CoreDNS's `cluster.local`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The zones, reverse ones too; a query belongs to the longest that fits. PTR records name the first that is no reverse zone.
    pub zones: Vec<Name>,
    /// The namespaces that are served; all if empty.
    pub namespaces: BTreeSet<SmolStr>,
    /// Namespaces (and, as in CoreDNS, ServiceImports) that are served, by their labels.
    pub namespace_labels: Option<Selector>,
    /// Services, EndpointSlices and Pods that are looked at, by their labels.
    pub labels: Option<Selector>,
    /// Names of Pods.
    pub pods: Pods,
    /// Seconds that an answer may be kept, 0 to 3600.
    pub ttl: u32,
    /// Whether endpoints have names.
    pub endpoints: Endpoints,
    /// How endpoints without a hostname are named.
    pub endpoint_names: EndpointNames,
    /// Services without ready endpoints.
    pub empty_services: EmptyServices,
    /// Names that are handed on instead of being denied: those below any of these zones.
    pub fallthrough: Vec<Name>,
    /// Those of the zones that are clusterset zones (KEP-1645): answered from ServiceImports.
    pub multicluster: Vec<Name>,
    /// Names with a topology zone.
    pub zonal: Zonal,
    /// The addresses that the server listens on; the zone's name servers are the Services that have one of them as an endpoint.
    pub local_addresses: Vec<IpAddr>,
    /// The zones of Services' external addresses.
    pub external: Option<External>,
    /// CoreDNS's answers or the standards'.
    pub behavior: Behavior,
    /// Names of endpoint addresses.
    pub ptr: PtrNames,
    /// Transfers.
    pub transfer: TransferStyle,
    /// How namespaces are known.
    pub namespace_source: NamespaceSource,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            zones: "cluster.local".parse().into_iter().collect(),
            namespaces: BTreeSet::new(),
            namespace_labels: None,
            labels: None,
            pods: Pods::default(),
            ttl: 5,
            endpoints: Endpoints::default(),
            endpoint_names: EndpointNames::default(),
            empty_services: EmptyServices::default(),
            fallthrough: Vec::new(),
            multicluster: Vec::new(),
            zonal: Zonal::default(),
            local_addresses: Vec::new(),
            external: None,
            behavior: Behavior::default(),
            ptr: PtrNames::default(),
            transfer: TransferStyle::default(),
            namespace_source: NamespaceSource::default(),
        }
    }
}

/// The options of CoreDNS's `k8s_external`: `<service>.<namespace>.<zone>` for addresses outside the cluster.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct External {
    /// The zones; PTR records name the first.
    pub zones: Vec<Name>,
    /// The label below which the zone's name server `ns1` is.
    pub apex: SmolStr,
    /// Seconds that addresses and the SOA may be kept. SRV and CNAME records keep [`Options::ttl`], as in CoreDNS.
    pub ttl: u32,
    /// Whether headless Services without external addresses are served by their endpoints.
    pub headless: Headless,
    /// Names that are handed on instead of being denied: those below any of these zones.
    pub fallthrough: Vec<Name>,
}

/// Whether headless Services are in the external zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Headless {
    /// They are not.
    #[default]
    Absent,
    /// They are.
    Served,
}

impl External {
    /// The plugin's defaults over some zones.
    #[must_use]
    pub fn new(zones: Vec<Name>) -> Self {
        Self {
            zones,
            apex: SmolStr::new_static("dns"),
            ttl: 5,
            headless: Headless::Absent,
            fallthrough: Vec::new(),
        }
    }
}
