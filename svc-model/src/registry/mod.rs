//! What the API server does with a Service beyond checking it: fill in families, allocate addresses and node
//! ports, keep values that a client left out, wipe fields that a change of type leaves behind, release.
//!
//! [`ServiceRegistry`] holds the allocators of one cluster. A refused request changes nothing in them.
//!
//! ```
//! use svc_model::allocation::{ClusterIpAllocator, ClusterIpRange, NodePortAllocator, NodePortRange};
//! use svc_model::registry::{Mode, ServiceRegistry};
//! use svc_model::{Compat, IpFamily, Service};
//!
//! let mut addresses = ClusterIpAllocator::new(IpFamily::Ipv4);
//! addresses.add_range(ClusterIpRange::new("10.96.0.0/12".parse()?)?)?;
//! let node_ports = NodePortAllocator::new(NodePortRange::kubernetes_default());
//! let mut registry = ServiceRegistry::new(addresses, None, node_ports, Compat::default());
//!
//! let mut service: Service = serde_json::from_str(
//!     r#"{"metadata": {"name": "web", "namespace": "shop"},
//!         "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}}"#,
//! )?;
//! service.set_defaults();
//! let service = registry.create(service, Mode::Persist, &mut |_| 0)?;
//! assert_eq!(service.spec.cluster_ip.to_text(), "10.96.1.1");
//! assert_eq!(service.spec.ports[0].node_port.value(), 30_086);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod change;
mod families;
mod ports;

use alloc::vec::Vec;
use core::net::IpAddr;

use smol_str::format_smolstr;

use crate::allocation::{AllocError, ClusterIpAllocator, Entropy, NodePortAllocator};
use crate::validate::{self, Path, Problems};
use crate::{Compat, IpFamily, Sent, Service, ServiceSpec, ServiceType, ValidationError};

/// Whether a request takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It does.
    Persist,
    /// Nothing is taken or released. As in Kubernetes, the values that would be allocated are made up: the
    /// range's own address, and node ports from 32769 on; addresses asked for are not looked up.
    DryRun,
}

/// What a deletion led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deletion {
    /// The Service is gone, and its addresses and ports are free.
    Removed,
    /// Finalizers hold the Service back; nothing was released.
    Pending,
}

/// A request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The Service is not valid, or asks for what it cannot have; HTTP status 422 in Kubernetes.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    /// Nothing is left to allocate, or the port of a health check cannot be had; HTTP status 500 in
    /// Kubernetes.
    #[error("cannot allocate {what} of Service `{service}`: {error}")]
    Allocation {
        /// The Service.
        service: crate::ObjectRef,
        /// What was wanted, such as `a cluster address`.
        what: &'static str,
        /// Why it cannot be had.
        error: AllocError,
    },
    /// An update names one node port twice for the same protocol; HTTP status 500 in Kubernetes.
    #[error("Service `{service}` names the node port {port} twice for the same protocol")]
    DuplicateNodePort {
        /// The Service.
        service: crate::ObjectRef,
        /// The node port.
        port: i32,
    },
}

/// The allocators of a cluster, and the rules by which Services get their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRegistry {
    primary: ClusterIpAllocator,
    secondary: Option<ClusterIpAllocator>,
    node_ports: NodePortAllocator,
    compat: Compat,
}

/// What a request has taken, and what it gives back if it succeeds.
#[derive(Debug, Default)]
struct Transaction {
    taken_ips: Vec<IpAddr>,
    taken_ports: Vec<i32>,
    released_ips: Vec<IpAddr>,
    released_ports: Vec<i32>,
}

impl ServiceRegistry {
    /// A registry over allocators. The family of `primary` is what a Service gets that does not say; `secondary`
    /// makes the cluster dual-stack. A secondary of the primary's family is ignored.
    pub fn new(
        primary: ClusterIpAllocator,
        secondary: Option<ClusterIpAllocator>,
        node_ports: NodePortAllocator,
        compat: Compat,
    ) -> Self {
        let secondary = secondary.filter(|secondary| secondary.family() != primary.family());
        Self { primary, secondary, node_ports, compat }
    }

    /// The addresses of a family, if the cluster has it.
    pub fn addresses(&self, family: IpFamily) -> Option<&ClusterIpAllocator> {
        [Some(&self.primary), self.secondary.as_ref()].into_iter().flatten().find(|a| a.family() == family)
    }

    /// The node ports.
    pub fn node_ports(&self) -> &NodePortAllocator {
        &self.node_ports
    }

    fn addresses_mut(&mut self, family: IpFamily) -> Option<&mut ClusterIpAllocator> {
        [Some(&mut self.primary), self.secondary.as_mut()]
            .into_iter()
            .flatten()
            .find(|a| a.family() == family)
    }

    /// Creates a Service, static defaults already applied: what comes back is what the API server would store.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; nothing is allocated then.
    pub fn create(
        &mut self,
        mut service: Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
    ) -> Result<Service, RegistryError> {
        change::pair_cluster_ips_on_create(&mut service);
        let mut transaction = Transaction::default();
        let outcome = self.try_create(&mut service, mode, entropy, &mut transaction);
        self.finish(transaction, mode, outcome)?;
        self.default_on_read(&mut service);
        Ok(service)
    }

    fn try_create(
        &mut self,
        service: &mut Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        self.fill_in_families(service, None)?;
        self.allocate_all_ips(service, mode, entropy, transaction)?;
        self.allocate_ports(service, mode, entropy, transaction)?;
        service.status = Default::default();
        service.validate_create(self.compat)?;
        Ok(())
    }

    /// Puts a Service in the place of `old`, static defaults already applied: what comes back is what the API
    /// server would store. What the server keeps whatever a client sends (status, and in the metadata uid,
    /// generation and times) is `old`'s. The resource version is not compared.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; nothing is allocated or released then.
    pub fn update(
        &mut self,
        mut service: Service,
        old: &Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
    ) -> Result<Service, RegistryError> {
        let mut old = old.clone();
        self.default_on_read(&mut old);
        change::keep_server_fields(&mut service, &old);
        change::keep_allocated_values(&mut service, &old);
        change::pair_cluster_ips_on_update(&mut service, &old);
        let mut transaction = Transaction::default();
        let outcome = self.try_update(&mut service, &old, mode, entropy, &mut transaction);
        self.finish(transaction, mode, outcome)?;
        self.default_on_read(&mut service);
        Ok(service)
    }

    fn try_update(
        &mut self,
        service: &mut Service,
        old: &Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        self.fill_in_families(service, Some(old))?;
        self.update_ips(service, old, mode, entropy, transaction)?;
        self.update_ports(service, old, mode, entropy, transaction)?;
        service.status = old.status.clone();
        change::wipe_after_type_change(service, old, self.compat);
        validate::service_update(service, old, self.compat)?;
        Ok(())
    }

    /// Deletes a Service.
    pub fn delete(&mut self, service: &Service, mode: Mode) -> Deletion {
        if !service.metadata.finalizers.is_empty() {
            return Deletion::Pending;
        }
        let mut service = service.clone();
        self.default_on_read(&mut service);
        let mut transaction = Transaction::default();
        if !has_type(&service.spec, ServiceType::ExternalName) && !is_headless(&service.spec) {
            transaction.released_ips.extend(service.spec.cluster_ips.iter().filter_map(Sent::get));
        }
        transaction.released_ports.extend(ports::node_ports(&service.spec));
        if ports::needs_health_check(&service.spec) {
            transaction.released_ports.push(service.spec.health_check_node_port.value());
        }
        self.commit(transaction, mode);
        Deletion::Removed
    }

    /// Takes the addresses and node ports of a Service that exists already, as read from a cluster.
    ///
    /// # Errors
    ///
    /// Each value that is outside the ranges or taken, with its field; the others are taken all the same.
    pub fn adopt(&mut self, service: &Service) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        let root = Path::root("spec");
        let spec = &service.spec;
        if !has_type(spec, ServiceType::ExternalName) && !is_headless(spec) {
            let path = root.child("clusterIPs");
            for (i, ip) in spec.cluster_addresses().enumerate() {
                match self.addresses_mut(IpFamily::of(ip)).map(|addresses| addresses.allocate(ip)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => problems.invalid(&path.index(i), &ip, format_smolstr!("{error}")),
                    None => problems.invalid(&path.index(i), &ip, NOT_CONFIGURED),
                }
            }
        }
        let path = root.child("ports");
        let mut taken = Vec::new();
        for (i, port) in spec.ports.iter().enumerate().filter(|(_, port)| !port.node_port.is_zero()) {
            // One number may serve several protocols of a Service.
            let number = port.node_port.value();
            if taken.contains(&number) {
                continue;
            }
            taken.push(number);
            if let Err(error) = self.node_ports.allocate(number) {
                let path = path.index(i);
                problems.invalid(&path.child("nodePort"), &number, format_smolstr!("{error}"));
            }
        }
        if ports::needs_health_check(spec)
            && let Err(error) = self.node_ports.allocate(spec.health_check_node_port.value())
        {
            let path = root.child("healthCheckNodePort");
            problems.invalid(&path, &spec.health_check_node_port, format_smolstr!("{error}"));
        }
        problems.into_result(service)
    }

    fn finish(
        &mut self,
        transaction: Transaction,
        mode: Mode,
        outcome: Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        match outcome {
            Ok(()) => self.commit(transaction, mode),
            Err(_) => self.revert(transaction, mode),
        }
        outcome
    }

    fn commit(&mut self, transaction: Transaction, mode: Mode) {
        if mode == Mode::Persist {
            self.release(&transaction.released_ips, &transaction.released_ports);
        }
    }

    fn revert(&mut self, transaction: Transaction, mode: Mode) {
        if mode == Mode::Persist {
            self.release(&transaction.taken_ips, &transaction.taken_ports);
        }
    }

    fn release(&mut self, ips: &[IpAddr], ports: &[i32]) {
        for ip in ips {
            if let Some(addresses) = self.addresses_mut(IpFamily::of(*ip)) {
                addresses.release(*ip);
            }
        }
        for port in ports {
            self.node_ports.release(*port);
        }
    }
}

const NOT_CONFIGURED: &str = "is of a family that is not configured on this cluster";

fn has_type(spec: &ServiceSpec, wanted: ServiceType) -> bool {
    spec.service_type.get() == Some(wanted)
}

/// Headless to the registry: the first of `clusterIPs` is `None`.
fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.first().is_some_and(|ip| ip.is("None"))
}

/// Headless and without selector: the user's own endpoints may be of both families, whatever the cluster has.
fn is_headless_without_selector(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.is("None") && spec.selector.as_ref().is_none_or(|selector| selector.is_empty())
}
