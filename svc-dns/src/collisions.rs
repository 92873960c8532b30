//! Names that mean something else than whoever wrote them thinks, because a search list makes them another name first.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use smol_str::{SmolStr, format_smolstr};
use svc_model::ObjectRef;

use crate::store::service::Entry;
use crate::zones::Zones;

/// Top-level domains that are in wide use: a namespace of such a name captures real domain names.
pub const COMMON_TLDS: &[&str] = &[
    "ai", "app", "biz", "ch", "cloud", "cn", "co", "com", "de", "dev", "edu", "eu", "fr", "gov", "in",
    "info", "int", "internal", "io", "jp", "local", "me", "mil", "net", "nl", "online", "org", "ru", "shop",
    "site", "store", "svc", "tech", "uk", "us", "xyz",
];

/// A name that a search list turns into another one than meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Collision {
    /// A namespace is called like a top-level domain: `<service>.<domain>` is the Service in any Pod whose `ndots` is above 1
    /// (kubernetes issue 60534).
    NamespaceIsDomain {
        /// The namespace.
        namespace: SmolStr,
        /// The name of a Service in it, and so the first label of a domain that is captured.
        service: SmolStr,
    },
    /// A Service is called like a top-level domain: `<endpoint>.<domain>` is its endpoint for Pods of its namespace.
    ServiceIsDomain {
        /// The Service.
        service: ObjectRef,
        /// The label of one of its endpoints.
        endpoint: SmolStr,
    },
    /// A Service is called like another namespace, and one of its endpoints like a Service there: for Pods of its own namespace
    /// `<service>.<namespace>` is the endpoint and not the Service (coredns issue 5733).
    EndpointHidesService {
        /// The Service that has the endpoint.
        service: ObjectRef,
        /// The Service that is hidden.
        hidden: ObjectRef,
    },
    /// Two Services have the same cluster IP: its PTR record names the first alone.
    SharedClusterIp {
        /// The address.
        address: core::net::IpAddr,
        /// The Services, the one that the PTR record names first.
        services: Vec<ObjectRef>,
    },
    /// Several endpoints of a Service have the same hostname: the name leads to all of them.
    SharedHostname {
        /// The Service.
        service: ObjectRef,
        /// The label.
        hostname: SmolStr,
        /// How many addresses it leads to.
        addresses: usize,
    },
}

impl Zones {
    /// Every collision among the Services that are served, sorted. `domains` are the top-level domains that Pods really use;
    /// [`COMMON_TLDS`] is a start.
    #[must_use]
    pub fn collisions(&self, domains: &[&str]) -> Vec<Collision> {
        let mut found = Vec::new();
        let served = || {
            let seen = |entry: &&Entry| entry.face().is_some() && self.store.exposes(entry);
            self.store.internal.iter().map(|(_, entry)| entry).filter(seen)
        };
        let mut by_addr: BTreeMap<core::net::IpAddr, Vec<ObjectRef>> = BTreeMap::new();
        for entry in served() {
            let (name, namespace) = (entry.name(), entry.namespace_name());
            let service = ObjectRef::new(namespace, name);
            if domains.contains(&namespace) {
                found
                    .push(Collision::NamespaceIsDomain { namespace: namespace.into(), service: name.into() });
            }
            let mut labels: BTreeMap<SmolStr, Vec<core::net::IpAddr>> = BTreeMap::new();
            for row in entry.endpoints.rows() {
                let label = entry.endpoints.label(row).get(1..).unwrap_or_default();
                let label = SmolStr::new(core::str::from_utf8(label).unwrap_or_default());
                let addrs = labels.entry(label).or_default();
                if !addrs.contains(&row.addr) {
                    addrs.push(row.addr);
                }
            }
            for (label, addrs) in &labels {
                if domains.contains(&name) {
                    found.push(Collision::ServiceIsDomain {
                        service: service.clone(),
                        endpoint: label.clone(),
                    });
                }
                let families =
                    [true, false].map(|v4| addrs.iter().filter(|addr| addr.is_ipv4() == v4).count());
                if families.iter().any(|count| *count > 1) {
                    let (service, hostname) = (service.clone(), label.clone());
                    found.push(Collision::SharedHostname { service, hostname, addresses: addrs.len() });
                }
                if name != namespace && self.hides(label, name) {
                    let hidden = ObjectRef::new(name, label.as_str());
                    found.push(Collision::EndpointHidesService { service: service.clone(), hidden });
                }
            }
            for addr in entry.face().into_iter().flat_map(|face| &face.addrs) {
                by_addr.entry(*addr).or_default().push(service.clone());
            }
        }
        for (address, mut services) in by_addr {
            services.sort();
            if services.len() > 1 {
                found.push(Collision::SharedClusterIp { address, services });
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Whether there is a Service of that name in a namespace.
    fn hides(&self, service: &str, namespace: &str) -> bool {
        let mut key = Vec::new();
        let label = |key: &mut Vec<u8>, text: &str| crate::name::push_label(key, text.as_bytes());
        if label(&mut key, service).and_then(|()| label(&mut key, namespace)).is_err() {
            return false;
        }
        self.store
            .internal
            .find(&key)
            .is_some_and(|(_, entry)| entry.face().is_some() && self.store.exposes(entry))
    }
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamespaceIsDomain { namespace, service } => {
                write!(
                    f,
                    "`{service}.{namespace}` means Service {namespace}/{service} before the domain of that name"
                )
            }
            Self::ServiceIsDomain { service, endpoint } => {
                let name = format_smolstr!("{endpoint}.{}", service.name);
                let home = &service.namespace;
                write!(
                    f,
                    "in namespace {home} `{name}` means an endpoint of Service {service} before the domain of that name"
                )
            }
            Self::EndpointHidesService { service, hidden } => {
                let name = format_smolstr!("{}.{}", hidden.name, hidden.namespace);
                let home = &service.namespace;
                write!(
                    f,
                    "in namespace {home} `{name}` means an endpoint of Service {service}, not Service {hidden}"
                )
            }
            Self::SharedClusterIp { address, services } => {
                write!(f, "cluster IP {address} belongs to several Services:")?;
                services.iter().try_for_each(|service| write!(f, " {service}"))?;
                f.write_str("; its PTR record names the first")
            }
            Self::SharedHostname { service, hostname, addresses } => {
                write!(f, "hostname `{hostname}` of Service {service} leads to {addresses} addresses")
            }
        }
    }
}
