//! Metadata, Service, Pod, Node, Namespace.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::{Convert, mirror};

mirror! {
    ObjectMeta = meta::ObjectMeta {
        name, generate_name, namespace, uid, resource_version, generation, creation_timestamp,
        deletion_timestamp, labels, annotations, owner_references, finalizers
    }
    OwnerReference = meta::OwnerReference {
        api_version, kind, name, uid, controller, block_owner_deletion
    }
    ObjectReference = core::ObjectReference {
        kind, namespace, name, uid, api_version, resource_version, field_path
    }

    Service = core::Service { metadata, spec, status }
    ServiceSpec = core::ServiceSpec {
        ports, selector, cluster_ip, cluster_ips, external_ips, session_affinity, load_balancer_ip,
        load_balancer_source_ranges, external_name, external_traffic_policy, health_check_node_port,
        publish_not_ready_addresses, session_affinity_config, ip_families, ip_family_policy,
        allocate_load_balancer_node_ports, load_balancer_class, internal_traffic_policy, traffic_distribution;
        service_type = type_
    }
    ServicePort = core::ServicePort { name, protocol, app_protocol, port, target_port, node_port }
    SessionAffinityConfig = core::SessionAffinityConfig { client_ip }
    ClientIpConfig = core::ClientIPConfig { timeout_seconds }
    ServiceStatus = core::ServiceStatus { load_balancer }
    LoadBalancerStatus = core::LoadBalancerStatus { ingress }
    LoadBalancerIngress = core::LoadBalancerIngress { ip, hostname, ip_mode }

    Pod = core::Pod { metadata, spec, status }
    PodSpec = core::PodSpec {
        containers, init_containers, node_name, node_selector, host_network, hostname, subdomain,
        restart_policy, dns_policy, dns_config, set_hostname_as_fqdn, enable_service_links
    }
    Container = core::Container { name, ports, restart_policy, readiness_probe }
    ContainerPort = core::ContainerPort { name, host_port, container_port, protocol }
    Probe = core::Probe { http_get, tcp_socket, grpc }
    ProbePort = core::HTTPGetAction { port }
    PodDnsConfig = core::PodDNSConfig { nameservers, searches, options }
    PodDnsConfigOption = core::PodDNSConfigOption { name, value }
    PodStatus = core::PodStatus { phase, conditions, host_ip, pod_ip, pod_ips }
    PodIp = core::PodIP { ip }
    PodCondition = core::PodCondition {
        status, last_transition_time, reason, message;
        condition_type = type_
    }
    PodTemplateSpec = core::PodTemplateSpec { metadata, spec }

    Node = core::Node { metadata, spec, status }
    NodeSpec = core::NodeSpec { pod_cidr, pod_cidrs, unschedulable }
    NodeStatus = core::NodeStatus { addresses, allocatable, conditions }
    NodeAddress = core::NodeAddress { address; address_type = type_ }
    NodeCondition = core::NodeCondition { status, last_transition_time; condition_type = type_ }

    Namespace = core::Namespace { metadata, status }
    NamespaceStatus = core::NamespaceStatus { phase }
}
