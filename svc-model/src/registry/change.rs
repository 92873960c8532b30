//! How a request is completed from the Service it replaces.

use alloc::vec::Vec;

use super::has_type;
use super::ports::{needs_health_check, node_ports};
use crate::{Compat, Port, Service, ServiceSpec, ServiceType};

/// Old clients send `clusterIP` alone.
pub(super) fn pair_cluster_ips_on_create(service: &mut Service) {
    let spec = &mut service.spec;
    if !spec.cluster_ip.is_empty() && spec.cluster_ips.is_empty() {
        spec.cluster_ips.push(spec.cluster_ip.clone());
    }
}

/// Guesses what a client meant that changed one of the pair `clusterIP`, `clusterIPs`, and not the other.
pub(super) fn pair_cluster_ips_on_update(service: &mut Service, old: &Service) {
    let (new, old) = (&mut service.spec, &old.spec);
    if new.cluster_ip == old.cluster_ip {
        if new.cluster_ips.is_empty() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    } else if new.cluster_ips == old.cluster_ips {
        new.cluster_ips.clear();
        let cleared = new.cluster_ip.is_empty() && !old.cluster_ip.is_empty();
        if !cleared {
            new.cluster_ips.push(new.cluster_ip.clone());
        }
    }
}

/// What a client cannot change.
pub(super) fn keep_server_fields(service: &mut Service, old: &Service) {
    let (new, old) = (&mut service.metadata, &old.metadata);
    new.generation = old.generation;
    new.creation_timestamp = old.creation_timestamp;
    if new.uid.is_empty() {
        new.uid.clone_from(&old.uid);
    }
    if new.resource_version.is_empty() {
        new.resource_version.clone_from(&old.resource_version);
    }
    if old.deletion_timestamp.is_some() {
        new.deletion_timestamp = old.deletion_timestamp;
    }
}

/// Lets a client send the same manifest again: values that the server allocated and the client leaves out are
/// kept.
pub(super) fn keep_allocated_values(service: &mut Service, old: &Service) {
    let (new, old) = (&mut service.spec, &old.spec);
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if new.cluster_ip.is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.is_empty() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if gets_node_ports(old) && gets_node_ports(new) {
        let given: Vec<i32> =
            node_ports(new).filter(|port| node_ports(old).any(|old| old == *port)).collect();
        for port in new.ports.iter_mut().filter(|port| port.node_port.is_zero()) {
            // By name; of several ports without name the last one counts.
            let before = old.ports.iter().rev().find(|old| old.name == port.name);
            let before = before.map(|old| old.node_port).unwrap_or_default();
            if !given.contains(&before.value()) {
                port.node_port = before;
            }
        }
    }
    if needs_health_check(old) && needs_health_check(new) && new.health_check_node_port.is_zero() {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Wipes fields that the new type has no use for, each unless the client changed it: then validation will
/// have a word.
pub(super) fn wipe_after_type_change(service: &mut Service, old: &Service, compat: Compat) {
    let (new, old) = (&mut service.spec, &old.spec);
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if (&new.cluster_ip, &new.cluster_ips) == (&old.cluster_ip, &old.cluster_ips) {
            new.cluster_ip = Default::default();
            new.cluster_ips.clear();
        }
        if new.ip_families == old.ip_families {
            new.ip_families.clear();
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if has_node_port_type(old)
        && !has_node_port_type(new)
        && node_ports(new).all(|port| node_ports(old).any(|old| old == port))
    {
        new.ports.iter_mut().for_each(|port| port.node_port = Port::default());
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = Port::default();
    }
    if has_type(old, ServiceType::LoadBalancer) && !has_type(new, ServiceType::LoadBalancer) {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
        if !compat.load_balancer_status_on_any_type {
            service.status.load_balancer = Default::default();
        }
    }
    let new = &mut service.spec;
    if old.is_externally_accessible()
        && !new.is_externally_accessible()
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = Default::default();
    }
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    !has_type(spec, ServiceType::ExternalName)
}

fn has_node_port_type(spec: &ServiceSpec) -> bool {
    has_type(spec, ServiceType::NodePort) || has_type(spec, ServiceType::LoadBalancer)
}

/// Whether node ports are allocated for it.
pub(super) fn gets_node_ports(spec: &ServiceSpec) -> bool {
    has_type(spec, ServiceType::NodePort)
        || (has_type(spec, ServiceType::LoadBalancer)
            && spec.allocate_load_balancer_node_ports != Some(false))
}
