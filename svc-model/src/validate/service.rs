//! Services.

use alloc::vec::Vec;

use super::ValidationError;
use super::address;
use super::meta;
use super::path::Path;
use super::problems::{IMMUTABLE, Problems};
use super::service_ips::{
    cluster_ip_fields, cluster_ips_change, families_change, is_external_name, is_headless,
};
use crate::name::NameRule;
use crate::object::Scope;
use crate::{
    ClientIpConfig, Compat, IntOrString, LoadBalancerIpMode, Protocol, Sent, Service, ServiceSpec,
    ServiceType, SessionAffinity, SessionAffinityConfig, TrafficDistribution, TrafficPolicy,
};

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_AWARE_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is `LoadBalancer`";
/// The longest session affinity: a day.
const AFFINITY_MAX_SECONDS: i32 = 86_400;

impl Service {
    /// Checks a Service that is being created, defaults already applied.
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_create(&self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        let rule = if compat.relaxed_service_names { NameRule::DnsLabel } else { NameRule::Dns1035Label };
        meta::create(&mut problems, &self.metadata, Scope::Namespaced, rule);
        validate(&mut problems, self, None, compat);
        problems.into_result(self)
    }

    /// Checks a Service that takes the place of `old`. The name is `old`'s, and so not judged again; addresses
    /// that `old` has may stay, valid or not.
    ///
    /// # Errors
    ///
    /// All problems, in the order in which the API server lists them.
    pub fn validate_update(&self, old: &Self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::resource_version(&mut problems, &self.metadata);
        update(&mut problems, self, old, compat);
        problems.into_result(self)
    }

    /// Checks a Service whose status takes the place of `old`'s.
    ///
    /// # Errors
    ///
    /// All problems of metadata and status; the spec is not looked at.
    pub fn validate_status_update(&self, old: &Self, compat: Compat) -> Result<(), ValidationError> {
        let mut problems = Problems::new();
        meta::resource_version(&mut problems, &self.metadata);
        meta::update(&mut problems, &self.metadata, &old.metadata);
        load_balancer_status(&mut problems, self, old, compat);
        problems.into_result(self)
    }
}

/// An update without a resource version, which takes whatever is stored as its base.
pub(crate) fn service_update(
    service: &Service,
    old: &Service,
    compat: Compat,
) -> Result<(), ValidationError> {
    let mut problems = Problems::new();
    update(&mut problems, service, old, compat);
    problems.into_result(service)
}

fn update(problems: &mut Problems, service: &Service, old: &Service, compat: Compat) {
    meta::update(problems, &service.metadata, &old.metadata);
    cluster_ips_change(problems, service, old);
    families_change(problems, service, old);
    load_balancer_class(problems, &service.spec, Some(&old.spec));
    if needs_health_check(&service.spec)
        && needs_health_check(&old.spec)
        && service.spec.health_check_node_port != old.spec.health_check_node_port
    {
        let root = Path::root("spec");
        problems.forbidden(&root.child("healthCheckNodePort"), IMMUTABLE);
    }
    validate(problems, service, Some(old), compat);
}

fn has_type(spec: &ServiceSpec, wanted: ServiceType) -> bool {
    spec.service_type.get() == Some(wanted)
}

/// Whether traffic from outside the cluster can reach it, as validation sees it: an unknown type is none of
/// those that can.
fn is_externally_accessible(spec: &ServiceSpec) -> bool {
    match spec.service_type.get() {
        Some(ServiceType::LoadBalancer | ServiceType::NodePort) => true,
        Some(ServiceType::ClusterIp) => !spec.external_ips.is_empty(),
        Some(ServiceType::ExternalName) | None => false,
    }
}

/// Whether a load balancer must ask nodes if they have endpoints.
pub(crate) fn needs_health_check(spec: &ServiceSpec) -> bool {
    has_type(spec, ServiceType::LoadBalancer) && spec.external_policy_local()
}

fn validate(problems: &mut Problems, service: &Service, old: Option<&Service>, compat: Compat) {
    let spec = &service.spec;
    let root = Path::root("spec");
    topology_annotations(problems, service);
    if spec.ports.is_empty() && !is_headless(spec) && !is_external_name(spec) {
        problems.required(&root.child("ports"), "");
    }
    by_type(problems, &root, spec);
    ports(problems, &root.child("ports"), spec);
    if let Some(selector) = &spec.selector {
        problems.labels(&root.child("selector"), selector);
    }
    session_affinity(problems, &root, spec);
    cluster_ip_fields(problems, service, old, compat);

    let external_ips = root.child("externalIPs");
    let old_external_ips = old.map_or(&[][..], |old| &old.spec.external_ips);
    for (i, ip) in spec.external_ips.iter().enumerate() {
        let path = external_ips.index(i);
        if address::ip(problems, &path, ip, old_external_ips, compat) {
            address::not_special(problems, &path, ip);
        }
    }
    problems.known(&root.child("type"), &spec.service_type, ServiceType::ALL);
    port_clashes(problems, &root.child("ports"), spec);
    source_ranges(problems, &root, service, old, compat);

    let node_ports = "allocateLoadBalancerNodePorts";
    match (has_type(spec, ServiceType::LoadBalancer), spec.allocate_load_balancer_node_ports) {
        (false, Some(_)) => problems.forbidden(&root.child(node_ports), ONLY_LOAD_BALANCER),
        // Kubernetes leaves `spec` out of this path.
        (true, None) => problems.required(&Path::root(node_ports), ""),
        _ => {}
    }
    load_balancer_class(problems, spec, None);
    traffic_policies(problems, &root, spec);
    if let Some(sent) = &spec.traffic_distribution {
        let allowed: &[TrafficDistribution] = if compat.prefer_same_traffic_distribution {
            TrafficDistribution::ALL
        } else {
            &[TrafficDistribution::PreferClose]
        };
        if sent.get().is_none_or(|value| !allowed.contains(&value)) {
            problems.unsupported(&root.child("trafficDistribution"), sent, allowed);
        }
    }
}

fn topology_annotations(problems: &mut Problems, service: &Service) {
    let annotations = &service.metadata.annotations;
    if let (Some(mode), Some(hints)) = (annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_AWARE_HINTS))
        && mode != hints
    {
        let path = Path::root("metadata");
        let path = path.child("annotations");
        problems.invalid(&path.key(TOPOLOGY_MODE), mode, "must equal the annotation topology-aware-hints");
    }
}

fn by_type(problems: &mut Problems, root: &Path<'_>, spec: &ServiceSpec) {
    match spec.service_type.get() {
        Some(ServiceType::LoadBalancer | ServiceType::NodePort) if is_headless(spec) => {
            let ips = root.child("clusterIPs");
            problems.invalid(&ips.index(0), "None", "a Service of this type cannot be headless");
        }
        Some(ServiceType::ExternalName) => {
            let detail = "may not be given for type `ExternalName`";
            for (given, field) in [
                (!spec.cluster_ips.is_empty(), "clusterIPs"),
                (!spec.ip_families.is_empty(), "ipFamilies"),
                (spec.ip_family_policy.is_some(), "ipFamilyPolicy"),
            ] {
                if given {
                    problems.forbidden(&root.child(field), detail);
                }
            }
            let path = root.child("externalName");
            // A dot at the end marks the name as complete.
            match spec.external_name.strip_suffix('.').unwrap_or(&spec.external_name) {
                "" => problems.required(&path, ""),
                name => problems.name(&path, NameRule::DnsSubdomain, name),
            }
        }
        _ => {}
    }
}

fn ports(problems: &mut Problems, path: &Path<'_>, spec: &ServiceSpec) {
    let several = spec.ports.len() > 1;
    let mut repeated = Vec::new();
    let names = spec.ports.iter().map(|port| Some(&port.name).filter(|name| !name.is_empty()));
    problems.duplicates(names, |_, i| repeated.push(i));
    for (i, port) in spec.ports.iter().enumerate() {
        let path = path.index(i);
        let name = path.child("name");
        if !port.name.is_empty() {
            problems.name(&name, NameRule::DnsLabel, &port.name);
            if repeated.binary_search(&i).is_ok() {
                problems.duplicate(&name, &port.name);
            }
        } else if several {
            problems.required(&name, "");
        }
        problems.port_number(&path.child("port"), port.port);
        problems.known(&path.child("protocol"), &port.protocol, Protocol::ALL);
        problems.port_number_or_name(
            &path.child("targetPort"),
            port.target_port.as_ref().unwrap_or(&IntOrString::Int(0)),
        );
        if let Some(protocol) = &port.app_protocol {
            problems.name(&path.child("appProtocol"), NameRule::LabelKey, protocol);
        }
    }
}

/// Node ports where there must be none, and ports that two entries claim for the same protocol.
fn port_clashes(problems: &mut Problems, path: &Path<'_>, spec: &ServiceSpec) {
    if has_type(spec, ServiceType::ClusterIp) {
        for (i, _) in spec.ports.iter().enumerate().filter(|(_, port)| !port.node_port.is_zero()) {
            let path = path.index(i);
            problems.forbidden(&path.child("nodePort"), "may not be used when `type` is `ClusterIP`");
        }
    }
    let node_ports =
        spec.ports.iter().map(|p| (!p.node_port.is_zero()).then_some((&p.protocol, p.node_port)));
    problems.duplicates(node_ports, |problems, i| {
        let node_port = spec.ports.get(i).map(|port| port.node_port).unwrap_or_default();
        let path = path.index(i);
        problems.duplicate(&path.child("nodePort"), &node_port);
    });
    let ports = spec.ports.iter().map(|port| Some((&port.protocol, port.port)));
    problems.duplicates(ports, |problems, i| {
        let port = spec.ports.get(i).map(|port| port.port).unwrap_or_default();
        problems.duplicate(&path.index(i), &port);
    });
}

fn session_affinity(problems: &mut Problems, root: &Path<'_>, spec: &ServiceSpec) {
    problems.known(&root.child("sessionAffinity"), &spec.session_affinity, SessionAffinity::ALL);
    let path = root.child("sessionAffinityConfig");
    match (spec.session_affinity.get(), &spec.session_affinity_config) {
        (Some(SessionAffinity::None), Some(_)) => {
            problems.forbidden(&path, "may not be given when `sessionAffinity` is `None`");
        }
        (Some(SessionAffinity::ClientIp), None) => {
            problems.required(&path, "`ClientIP` affinity has a timeout")
        }
        (Some(SessionAffinity::ClientIp), Some(SessionAffinityConfig { client_ip })) => {
            let path = path.child("clientIP");
            match client_ip {
                None => problems.required(&path, ""),
                Some(ClientIpConfig { timeout_seconds: None }) => {
                    problems.required(&path.child("timeoutSeconds"), "");
                }
                Some(ClientIpConfig { timeout_seconds: Some(seconds) }) => {
                    if !(1..=AFFINITY_MAX_SECONDS).contains(seconds) {
                        let path = path.child("timeoutSeconds");
                        problems.invalid(&path, seconds, "must be from 1 to 86400");
                    }
                }
            }
        }
        _ => {}
    }
}

/// The ranges of the spec; without those, the ranges of the old annotation. Either may be padded with spaces.
fn source_ranges(
    problems: &mut Problems,
    root: &Path<'_>,
    service: &Service,
    old: Option<&Service>,
    compat: Compat,
) {
    let load_balancer = has_type(&service.spec, ServiceType::LoadBalancer);
    let ranges = &service.spec.load_balancer_source_ranges;
    if !ranges.is_empty() {
        // Kubernetes writes this path with a capital L.
        let path = root.child("LoadBalancerSourceRanges");
        if !load_balancer {
            problems.forbidden(&path, ONLY_LOAD_BALANCER);
        }
        let old_ranges = old.map_or(&[][..], |old| &old.spec.load_balancer_source_ranges);
        for (i, range) in ranges.iter().enumerate() {
            let range = match range {
                Sent::Text(text) => &Sent::new(text.trim()),
                Sent::Value(_) => range,
            };
            address::range(problems, &path.index(i), range, old_ranges, compat);
        }
    } else if let Some(text) = service.metadata.annotations.get(SOURCE_RANGES) {
        let path = Path::root("metadata");
        let path = path.child("annotations");
        let path = path.key(SOURCE_RANGES);
        if !load_balancer {
            problems.forbidden(&path, ONLY_LOAD_BALANCER);
        }
        // Tolerated as a whole: whoever changes one range must mend the others.
        let before = old.and_then(|old| old.metadata.annotations.get(SOURCE_RANGES));
        if before != Some(text) && !text.trim().is_empty() {
            for range in text.split(',') {
                address::range(problems, &path, &Sent::new(range.trim()), &[], compat);
            }
        }
    }
}

fn load_balancer_class(problems: &mut Problems, spec: &ServiceSpec, old: Option<&ServiceSpec>) {
    let path = Path::root("spec");
    let path = path.child("loadBalancerClass");
    let load_balancer = has_type(spec, ServiceType::LoadBalancer);
    if let Some(old) = old
        && load_balancer
        && has_type(old, ServiceType::LoadBalancer)
        && old.load_balancer_class != spec.load_balancer_class
    {
        let class = spec.load_balancer_class.as_deref().unwrap_or_default();
        problems.invalid(&path, class, "must not change once it is set");
    }
    match &spec.load_balancer_class {
        Some(class) if load_balancer => problems.name(&path, NameRule::LabelKey, class),
        Some(_) => problems.forbidden(&path, ONLY_LOAD_BALANCER),
        None => {}
    }
}

fn traffic_policies(problems: &mut Problems, root: &Path<'_>, spec: &ServiceSpec) {
    let path = root.child("externalTrafficPolicy");
    let policy = &spec.external_traffic_policy;
    if is_externally_accessible(spec) {
        problems.known(&path, policy, TrafficPolicy::ALL);
    } else if !policy.is_empty() {
        problems.invalid(&path, policy, "may only be given when traffic from outside can reach the Service");
    }

    let path = root.child("healthCheckNodePort");
    let port = spec.health_check_node_port;
    match (needs_health_check(spec), port.is_zero()) {
        (true, true) => problems.required(&path, ""),
        (true, false) => problems.port_number(&path, port),
        (false, true) => {}
        (false, false) => {
            let detail = "needs type `LoadBalancer` and `externalTrafficPolicy: Local`";
            problems.invalid(&path, &port, detail);
        }
    }

    let path = root.child("internalTrafficPolicy");
    match (&spec.internal_traffic_policy, spec.service_type.get()) {
        (None, None | Some(ServiceType::ExternalName)) => {}
        (None, Some(_)) => problems.required(&path, ""),
        (Some(policy), _) if policy.get().is_none() => {
            problems.unsupported(&path, policy, TrafficPolicy::ALL)
        }
        (Some(_), _) => {}
    }
}

fn load_balancer_status(problems: &mut Problems, service: &Service, old: &Service, compat: Compat) {
    let root = Path::root("status");
    let root = root.child("loadBalancer");
    let root = root.child("ingress");
    let ingress = &service.status.load_balancer.ingress;
    if !compat.load_balancer_status_on_any_type
        && !has_type(&service.spec, ServiceType::LoadBalancer)
        && !ingress.is_empty()
    {
        return problems.forbidden(&root, "may only be used when `spec.type` is `LoadBalancer`");
    }
    let old_ips: Vec<_> = old.status.load_balancer.ingress.iter().map(|ingress| ingress.ip.clone()).collect();
    for (i, ingress) in ingress.iter().enumerate() {
        let path = root.index(i);
        if !ingress.ip.is_empty() {
            address::ip(problems, &path.child("ip"), &ingress.ip, &old_ips, compat);
        }
        let mode = path.child("ipMode");
        match (&ingress.ip_mode, ingress.ip.is_empty()) {
            (None, false) => problems.required(&mode, "an address needs a mode"),
            (Some(_), true) => problems.forbidden(&mode, "may not be given without `ip`"),
            (Some(sent), false) if sent.get().is_none() => {
                problems.unsupported(&mode, sent, LoadBalancerIpMode::ALL);
            }
            _ => {}
        }
        if !ingress.hostname.is_empty() {
            let path = path.child("hostname");
            problems.name(&path, NameRule::DnsSubdomain, &ingress.hostname);
            if Sent::<core::net::IpAddr>::new(&ingress.hostname).get().is_some() {
                problems.invalid(&path, &ingress.hostname, "must be a DNS name, not an address");
            }
        }
    }
}
