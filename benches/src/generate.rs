//! Clusters of any size from a seed: the input of every bench.
//!
//! The same [`Shape`] gives the same objects on every machine. The mixes follow what clusters look like rather than
//! what is easy: names and labels of realistic length (the memory of a cluster is mostly text), Services with one to
//! 250 Pods where few are large, several label schemes, some Services over the Pods of another, a few StatefulSets
//! with labels of their own per Pod, Pods that are not ready, going or not yet started.
//!
//! [`Shape::limits`] is the largest cluster Kubernetes promises to carry (the scalability thresholds of
//! kubernetes/community: 5,000 nodes, 150,000 Pods, 10,000 Services, at most 250 endpoints a Service).

mod address;
mod random;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use svc_model::{
    AddressType, Container, ContainerPort, Endpoint, EndpointConditions, EndpointPort, EndpointSlice,
    IntOrString, IpBlock, IpFamily, IpFamilyPolicy, LabelSelector, Labels, Namespace, NetworkPolicy,
    NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, Node,
    NodeAddress, NodeCondition, Object, ObjectMeta, ObjectReference, OwnerReference, Pod, PodCondition,
    PodIp, PodPhase, PolicyType, Port, Protocol, Sent, Service, ServicePort, ServiceType, SessionAffinity,
    SmolStr, TrafficPolicy,
};

use address::{cluster_address, node_address, pod_address};
pub use random::Random;

/// What to generate. Start from [`Shape::of_services`] or [`Shape::limits`] and change fields.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Everything random follows from this.
    pub seed: u64,
    /// Nodes, each with a /24 for its Pods.
    pub nodes: usize,
    /// Zones, over which the nodes are spread evenly.
    pub zones: usize,
    /// Namespaces; the first tenth of them holds half of the Services.
    pub namespaces: usize,
    /// Services of all types.
    pub services: usize,
    /// Pods of all Services together. One Service has 1 to 250.
    pub pods: usize,
    /// NetworkPolicies.
    pub policies: usize,
    /// Whether Pods, nodes and half of the Services have IPv6 addresses too.
    pub dual_stack: bool,
}

impl Shape {
    /// A cluster around this many Services (10 to 50,000): 15 Pods a Service, 30 Pods a node, 20 Services a
    /// namespace, one policy for two Services.
    pub fn of_services(services: usize) -> Self {
        let pods = services * 15;
        Self {
            seed: 1,
            nodes: pods.div_ceil(30),
            zones: 3,
            namespaces: services.div_ceil(20),
            services,
            pods,
            policies: services.div_ceil(2),
            dual_stack: false,
        }
    }

    /// The scalability thresholds of Kubernetes: 5,000 nodes, 150,000 Pods, 10,000 Services.
    pub fn limits() -> Self {
        Self { nodes: 5_000, pods: 150_000, ..Self::of_services(10_000) }
    }

    /// The same with this many Pods a Service.
    #[must_use]
    pub fn pods_per_service(self, pods: usize) -> Self {
        let pods = self.services * pods;
        Self { pods, nodes: pods.div_ceil(30), ..self }
    }

    /// Generates the objects.
    pub fn generate(&self) -> Generated {
        Maker { shape: self, random: Random::new(self.seed), node_ports: 30_086..32_768 }.make()
    }
}

/// A generated cluster, as manifests would give it, in no particular order beyond a fixed one.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Nodes `node-00000` and on.
    pub nodes: Vec<Node>,
    /// Namespaces `team-000` and on.
    pub namespaces: Vec<Namespace>,
    /// Pods, those of one workload together.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<Service>,
    /// NetworkPolicies.
    pub policies: Vec<NetworkPolicy>,
    /// For each Service the Pods that it selects, as positions in `pods`.
    pub pods_of: Vec<Range<usize>>,
}

impl Generated {
    /// All objects but slices: nodes, namespaces, Services, Pods, policies.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let nodes = self.nodes.iter().cloned().map(Object::from);
        let namespaces = self.namespaces.iter().cloned().map(Object::from);
        let services = self.services.iter().cloned().map(Object::from);
        let pods = self.pods.iter().cloned().map(Object::from);
        let policies = self.policies.iter().cloned().map(Object::from);
        nodes.chain(namespaces).chain(services).chain(pods).chain(policies)
    }

    /// EndpointSlices as a controller would have written them: up to 100 endpoints each, one port group a Service.
    pub fn endpoint_slices(&self) -> Vec<EndpointSlice> {
        let zones: std::collections::HashMap<&str, Option<&str>> =
            self.nodes.iter().map(|node| (node.metadata.name.as_str(), node.zone())).collect();
        let mut slices = Vec::new();
        for (service, range) in self.services.iter().zip(&self.pods_of) {
            for family in &service.spec.ip_families {
                let Some(family) = family.get() else { continue };
                let endpoints: Vec<Endpoint> =
                    self.pods[range.clone()].iter().filter_map(|pod| endpoint(pod, family, &zones)).collect();
                for (at, chunk) in endpoints.chunks(100).enumerate() {
                    slices.push(slice(service, family, at, chunk.to_vec()));
                }
            }
        }
        slices
    }
}

fn endpoint(
    pod: &Pod,
    family: IpFamily,
    zones: &std::collections::HashMap<&str, Option<&str>>,
) -> Option<Endpoint> {
    let address = pod.addresses().find(|ip| IpFamily::of(*ip) == family)?;
    let (serving, terminating) = (pod.is_ready(), pod.metadata.is_terminating());
    let node = &pod.spec.node_name;
    Some(Endpoint {
        addresses: vec![address.into()],
        conditions: EndpointConditions {
            ready: Some(serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        },
        hostname: (!pod.spec.hostname.is_empty()).then(|| pod.spec.hostname.clone()),
        target_ref: Some(ObjectReference {
            kind: "Pod".into(),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        node_name: Some(node.clone()),
        zone: zones.get(node.as_str()).copied().flatten().map(SmolStr::from),
        hints: None,
    })
}

fn slice(service: &Service, family: IpFamily, at: usize, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let name =
        format!("{}-{}{at:03}", service.metadata.name, if family == IpFamily::Ipv4 { "a" } else { "b" });
    let mut metadata = ObjectMeta::new(service.metadata.namespace.clone(), name);
    metadata.labels = Labels::from_iter([
        (svc_model::SERVICE_NAME_LABEL, service.metadata.name.as_str()),
        (svc_model::MANAGED_BY_LABEL, "endpointslice-controller.k8s.io"),
    ]);
    metadata.owner_references = vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: service.metadata.name.clone(),
        uid: service.metadata.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }];
    let ports = service.spec.ports.iter().map(|port| EndpointPort {
        name: Some(port.name.clone()),
        protocol: port.protocol().map(Sent::from).or(Some(Protocol::Tcp.into())),
        port: Some(port_number(port)),
        app_protocol: None,
    });
    EndpointSlice {
        metadata,
        address_type: AddressType::from(family).into(),
        endpoints,
        ports: ports.collect(),
    }
}

/// The number behind a target port: the names are those of [`CONTAINER_PORTS`].
fn port_number(port: &ServicePort) -> Port {
    match port.target_port() {
        IntOrString::Int(number) => Port::new(number),
        IntOrString::String(name) => {
            let named = CONTAINER_PORTS.iter().find(|(known, _, _)| *known == name);
            named.map_or(port.port, |(_, number, _)| Port::from(*number))
        }
    }
}

/// Ports that every generated container has.
const CONTAINER_PORTS: [(&str, u16, Protocol); 4] = [
    ("http", 8080, Protocol::Tcp),
    ("metrics", 9090, Protocol::Tcp),
    ("grpc", 50_051, Protocol::Tcp),
    ("stats", 8125, Protocol::Udp),
];

const WORDS: [&str; 24] = [
    "checkout",
    "cart",
    "catalog",
    "payments",
    "ledger",
    "search",
    "profile",
    "gateway",
    "orders",
    "shipping",
    "recommender",
    "inventory",
    "notifier",
    "billing",
    "session",
    "media",
    "pricing",
    "reviews",
    "frontend",
    "auth",
    "reports",
    "scheduler",
    "ingest",
    "warehouse",
];

/// Pods made from one template.
struct Workload {
    name: String,
    namespace: SmolStr,
    labels: Labels,
    selector: Labels,
    stateful: bool,
    pods: Range<usize>,
}

struct Maker<'a> {
    shape: &'a Shape,
    random: Random,
    node_ports: Range<u16>,
}

impl Maker<'_> {
    fn make(mut self) -> Generated {
        let nodes = (0..self.shape.nodes).map(|at| self.node(at)).collect();
        let namespaces: Vec<_> = (0..self.shape.namespaces.max(1)).map(|at| self.namespace(at)).collect();
        let workloads = self.workloads(&namespaces);
        let pods = self.pods(&workloads);
        let (services, pods_of) = self.services(&workloads);
        let policies = self.policies(&workloads, &namespaces);
        Generated { nodes, namespaces, pods, services, policies, pods_of }
    }

    fn metadata(&mut self, namespace: SmolStr, name: impl Into<SmolStr>, labels: Labels) -> ObjectMeta {
        let day = self.random.below(300) as i128;
        ObjectMeta {
            uid: self.random.uid().into(),
            resource_version: SmolStr::from((self.random.below(9_000_000) + 1_000_000).to_string()),
            creation_timestamp: svc_model::Timestamp::from_unix_nanoseconds(
                (1_767_225_600 + day * 86_400) * 1_000_000_000,
            ),
            labels,
            ..ObjectMeta::new(namespace, name)
        }
    }

    fn node(&mut self, at: usize) -> Node {
        let name = format!("node-{at:05}");
        let zone = format!("zone-{}", char::from(b'a' + (at % self.shape.zones.max(1)) as u8));
        let mut labels = Labels::from_iter([
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
            (svc_model::ZONE_LABEL, zone.as_str()),
            ("topology.kubernetes.io/region", "region-1"),
        ]);
        if at.is_multiple_of(10) {
            labels.insert("pool", "batch");
        }
        let mut node = Node { metadata: self.metadata(SmolStr::default(), name, labels), ..Node::default() };
        let mut addresses = vec![node_address(at, IpFamily::Ipv4)];
        let mut cidrs = vec![format!("{}/24", pod_address(at, 0, IpFamily::Ipv4))];
        if self.shape.dual_stack {
            addresses.push(node_address(at, IpFamily::Ipv6));
            cidrs.push(format!("{}/64", pod_address(at, 0, IpFamily::Ipv6)));
        }
        node.spec.pod_cidr = Sent::new(&cidrs[0]);
        node.spec.pod_cidrs = cidrs.iter().map(|cidr| Sent::new(cidr)).collect();
        node.status.addresses = addresses
            .into_iter()
            .map(|ip| NodeAddress { address_type: "InternalIP".into(), address: ip.into() })
            .collect();
        node.status.allocatable = Labels::from_iter([("cpu", "16"), ("memory", "64Gi"), ("pods", "110")]);
        let ready = if self.random.permille(5) { "Unknown" } else { "True" };
        node.status.conditions = vec![NodeCondition {
            condition_type: "Ready".into(),
            status: ready.into(),
            ..NodeCondition::default()
        }];
        node
    }

    fn namespace(&mut self, at: usize) -> Namespace {
        let name = format!("team-{at:03}");
        let labels = Labels::from_iter([
            (svc_model::NAMESPACE_NAME_LABEL, name.as_str()),
            ("environment", ["production", "staging", "development"][at % 3]),
            ("team", WORDS[at % WORDS.len()]),
        ]);
        let mut namespace =
            Namespace { metadata: self.metadata(SmolStr::default(), name, labels), ..Namespace::default() };
        namespace.status.phase = "Active".into();
        namespace
    }

    /// Pods a Service: most have a handful, few have up to 250.
    fn pod_counts(&mut self, workloads: usize) -> Vec<usize> {
        let mut counts: Vec<usize> = (0..workloads)
            .map(|_| match self.random.below(100) {
                0..40 => self.random.between(1, 3),
                40..75 => self.random.between(4, 12),
                75..93 => self.random.between(13, 40),
                93..99 => self.random.between(41, 100),
                _ => self.random.between(101, 250),
            })
            .collect();
        // Then one by one up or down to the number asked for, as far as 1 to 250 a workload allow.
        let target = self.shape.pods.clamp(workloads, workloads * 250);
        let mut total: usize = counts.iter().sum();
        while total != target {
            let at = self.random.below(workloads);
            if total < target && counts[at] < 250 {
                counts[at] += 1;
                total += 1;
            } else if total > target && counts[at] > 1 {
                counts[at] -= 1;
                total -= 1;
            }
        }
        counts
    }

    fn workloads(&mut self, namespaces: &[Namespace]) -> Vec<Workload> {
        // One Service in twelve is a second one over the Pods of another or has none.
        let workloads = (self.shape.services * 11).div_ceil(12).max(1);
        let mut start = 0;
        let busy = namespaces.len().div_ceil(10);
        let counts = self.pod_counts(workloads);
        counts
            .into_iter()
            .enumerate()
            .map(|(at, count)| {
                let among = if self.random.permille(500) { busy } else { namespaces.len() };
                let namespace = namespaces[self.random.below(among)].metadata.name.clone();
                let name = format!("{}-{at}", self.random.pick(&WORDS));
                let pods = start..start + count;
                start = pods.end;
                self.workload(name, namespace, pods)
            })
            .collect()
    }

    fn workload(&mut self, name: String, namespace: SmolStr, pods: Range<usize>) -> Workload {
        let tier = *self.random.pick(&["frontend", "backend", "data", "batch"]);
        let version = format!("v{}.{}", self.random.between(1, 4), self.random.below(30));
        let hash = self.random.suffix(10);
        // Three label schemes: `app`, the recommended labels, and both.
        let (selector, rest) = match self.random.below(10) {
            0..5 => (vec![("app", name.as_str())], vec![("tier", tier), ("version", version.as_str())]),
            5..8 => (
                vec![
                    ("app.kubernetes.io/name", name.as_str()),
                    ("app.kubernetes.io/instance", namespace.as_str()),
                ],
                vec![
                    ("app.kubernetes.io/part-of", "shop"),
                    ("app.kubernetes.io/component", tier),
                    ("app.kubernetes.io/version", version.as_str()),
                    ("app.kubernetes.io/managed-by", "Helm"),
                ],
            ),
            _ => (
                vec![("app", name.as_str()), ("tier", tier)],
                vec![("app.kubernetes.io/name", name.as_str()), ("security", "restricted")],
            ),
        };
        let stateful = self.random.permille(40);
        let revision = if stateful { "controller-revision-hash" } else { "pod-template-hash" };
        let labels = selector.iter().chain(&rest).copied().chain([(revision, hash.as_str())]).collect();
        Workload { selector: selector.into_iter().collect(), labels, name, namespace, stateful, pods }
    }

    fn pods(&mut self, workloads: &[Workload]) -> Vec<Pod> {
        let nodes = self.shape.nodes.max(1);
        let mut used = vec![0_usize; nodes];
        let mut pods = Vec::with_capacity(self.shape.pods);
        for workload in workloads {
            for ordinal in 0..workload.pods.len() {
                // A node takes up to 250 Pods; the next one with room is taken.
                let wanted = self.random.below(nodes);
                let node = (0..nodes).map(|step| (wanted + step) % nodes).find(|node| used[*node] < 250);
                let node = node.unwrap_or(wanted);
                used[node] += 1;
                pods.push(self.pod(workload, ordinal, node, used[node]));
            }
        }
        pods
    }

    fn pod(&mut self, workload: &Workload, ordinal: usize, node: usize, host: usize) -> Pod {
        let mut labels = workload.labels.clone();
        let (name, kind, owner) = if workload.stateful {
            let name = format!("{}-{ordinal}", workload.name);
            labels.insert("statefulset.kubernetes.io/pod-name", name.as_str());
            labels.insert("apps.kubernetes.io/pod-index", ordinal.to_string());
            (name, "StatefulSet", workload.name.clone())
        } else {
            let hash = labels.get("pod-template-hash").unwrap_or_default();
            let set = format!("{}-{hash}", workload.name);
            (format!("{set}-{}", self.random.suffix(5)), "ReplicaSet", set)
        };
        let mut metadata = self.metadata(workload.namespace.clone(), name, labels);
        metadata.owner_references = vec![OwnerReference {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            name: owner.into(),
            uid: self.random.uid().into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }];
        let mut pod = Pod { metadata, ..Pod::default() };
        if workload.stateful {
            pod.spec.hostname = pod.metadata.name.clone();
            pod.spec.subdomain = workload.name.as_str().into();
        }
        pod.spec.containers = vec![Container {
            name: "main".into(),
            ports: CONTAINER_PORTS
                .iter()
                .map(|(name, number, protocol)| ContainerPort {
                    name: (*name).into(),
                    container_port: Port::from(*number),
                    protocol: (*protocol).into(),
                    ..ContainerPort::default()
                })
                .collect(),
            ..Container::default()
        }];
        self.run(&mut pod, node, host);
        pod
    }

    /// Gives a Pod its node, addresses and state: 980 of 1,000 are ready, 10 are not, 5 are going, 5 wait.
    fn run(&mut self, pod: &mut Pod, node: usize, host: usize) {
        let state = self.random.below(1000);
        if state < 5 {
            pod.status.phase = PodPhase::Pending.into();
            return;
        }
        if state < 10 {
            pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp;
        }
        pod.spec.node_name = format!("node-{node:05}").into();
        pod.status.phase = PodPhase::Running.into();
        pod.status.host_ip = node_address(node, IpFamily::Ipv4).into();
        let families: &[IpFamily] =
            if self.shape.dual_stack { &[IpFamily::Ipv4, IpFamily::Ipv6] } else { &[IpFamily::Ipv4] };
        pod.status.pod_ips =
            families.iter().map(|family| PodIp { ip: pod_address(node, host, *family).into() }).collect();
        pod.status.pod_ip = pod_address(node, host, IpFamily::Ipv4).into();
        let ready = if (10..20).contains(&state) { "False" } else { "True" };
        let condition = |name: &str, status: &str| PodCondition {
            condition_type: name.into(),
            status: status.into(),
            last_transition_time: pod.metadata.creation_timestamp,
            ..PodCondition::default()
        };
        pod.status.conditions = vec![
            condition("Initialized", "True"),
            condition("Ready", ready),
            condition("ContainersReady", ready),
            condition("PodScheduled", "True"),
        ];
    }

    fn services(&mut self, workloads: &[Workload]) -> (Vec<Service>, Vec<Range<usize>>) {
        (0..self.shape.services)
            .map(|at| match workloads.get(at) {
                Some(workload) => (self.service(at, workload, false), workload.pods.clone()),
                None => {
                    let workload = &workloads[self.random.below(workloads.len())];
                    let service = self.service(at, workload, true);
                    let selects = service.spec.selector.is_some();
                    (service, if selects { workload.pods.clone() } else { 0..0 })
                }
            })
            .unzip()
    }

    fn service(&mut self, at: usize, workload: &Workload, second: bool) -> Service {
        let name = if second { format!("{}-second-{at}", workload.name) } else { workload.name.clone() };
        let mut service = Service {
            metadata: self.metadata(workload.namespace.clone(), name, workload.selector.clone()),
            ..Service::default()
        };
        let spec = &mut service.spec;
        spec.selector = Some(workload.selector.clone());
        spec.service_type = ServiceType::ClusterIp.into();
        spec.session_affinity = SessionAffinity::None.into();
        if second && self.random.permille(200) {
            spec.selector = None;
            if self.random.permille(500) {
                spec.service_type = ServiceType::ExternalName.into();
                spec.external_name = format!("{}.example.com", workload.name).into();
                return service;
            }
        }
        let dual = self.shape.dual_stack && self.random.permille(500);
        let policy = if dual { IpFamilyPolicy::PreferDualStack } else { IpFamilyPolicy::SingleStack };
        spec.ip_family_policy = Some(policy.into());
        spec.ip_families = vec![IpFamily::Ipv4.into()];
        spec.internal_traffic_policy = Some(TrafficPolicy::Cluster.into());
        spec.ports = self.service_ports();
        if dual {
            spec.ip_families.push(IpFamily::Ipv6.into());
        }
        if workload.stateful {
            spec.cluster_ip = Sent::new("None");
            spec.cluster_ips = vec![Sent::new("None")];
            return service;
        }
        let addresses = [cluster_address(at, IpFamily::Ipv4), cluster_address(at, IpFamily::Ipv6)];
        spec.cluster_ip = addresses[0].into();
        spec.cluster_ips = addresses.iter().take(if dual { 2 } else { 1 }).map(|ip| (*ip).into()).collect();
        self.expose(&mut service, at);
        service
    }

    /// Makes 4 % of the Services NodePort and 2 % LoadBalancer, some of them Local, and 3 % sticky.
    fn expose(&mut self, service: &mut Service, at: usize) {
        let spec = &mut service.spec;
        let external = match self.random.below(100) {
            0..4 => ServiceType::NodePort,
            4..6 => ServiceType::LoadBalancer,
            _ => ServiceType::ClusterIp,
        };
        if self.random.permille(30) {
            spec.session_affinity = SessionAffinity::ClientIp.into();
        }
        if external == ServiceType::ClusterIp || self.node_ports.len() < spec.ports.len() + 1 {
            return;
        }
        spec.service_type = external.into();
        for port in &mut spec.ports {
            port.node_port = self.node_ports.next().map(Port::from).unwrap_or_default();
        }
        let local = self.random.permille(300);
        let policy = if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        spec.external_traffic_policy = policy.into();
        if external == ServiceType::LoadBalancer {
            spec.allocate_load_balancer_node_ports = Some(true);
            if local {
                spec.health_check_node_port = self.node_ports.next().map(Port::from).unwrap_or_default();
            }
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + at as u32 % 65_536);
            service.status.load_balancer.ingress = vec![svc_model::LoadBalancerIngress {
                ip: IpAddr::V4(ip).into(),
                ip_mode: Some(svc_model::LoadBalancerIpMode::Vip.into()),
                ..svc_model::LoadBalancerIngress::default()
            }];
        }
    }

    /// One port in six cases of ten, two or three in the others; half of the targets are names.
    fn service_ports(&mut self) -> Vec<ServicePort> {
        let ports = [1, 1, 1, 1, 1, 1, 2, 2, 2, 3][self.random.below(10)];
        let first = self.random.below(CONTAINER_PORTS.len());
        (0..ports)
            .map(|at| {
                let (name, number, protocol) = CONTAINER_PORTS[(first + at) % CONTAINER_PORTS.len()];
                let target = if self.random.permille(500) { name.into() } else { IntOrString::from(number) };
                ServicePort {
                    name: name.into(),
                    protocol: protocol.into(),
                    port: Port::from(if name == "http" { 80 } else { number }),
                    target_port: Some(target),
                    ..ServicePort::default()
                }
            })
            .collect()
    }

    /// A third closes a namespace, the others open one workload to a few peers.
    fn policies(&mut self, workloads: &[Workload], namespaces: &[Namespace]) -> Vec<NetworkPolicy> {
        let closing = (self.shape.policies / 3).min(namespaces.len());
        let mut policies = Vec::with_capacity(self.shape.policies);
        for namespace in namespaces.iter().take(closing) {
            let metadata = self.metadata(namespace.metadata.name.clone(), "default-deny", Labels::default());
            let mut policy = NetworkPolicy { metadata, ..NetworkPolicy::default() };
            policy.spec.policy_types = vec![PolicyType::Ingress.into()];
            policies.push(policy);
        }
        for at in closing..self.shape.policies {
            let workload = &workloads[self.random.below(workloads.len())];
            let name = format!("{}-allow-{at}", workload.name);
            let metadata = self.metadata(workload.namespace.clone(), name, Labels::default());
            let mut policy = NetworkPolicy { metadata, ..NetworkPolicy::default() };
            policy.spec.pod_selector.match_labels = workload.selector.clone();
            policy.spec.policy_types = vec![PolicyType::Ingress.into()];
            let from = (0..self.random.between(1, 4)).map(|_| self.peer(workload, workloads)).collect();
            policy.spec.ingress = vec![NetworkPolicyIngressRule { ports: self.policy_ports(), from }];
            if self.random.permille(300) {
                policy.spec.policy_types.push(PolicyType::Egress.into());
                let to = (0..self.random.between(1, 3)).map(|_| self.peer(workload, workloads)).collect();
                policy.spec.egress = vec![NetworkPolicyEgressRule { ports: Vec::new(), to }];
            }
            policies.push(policy);
        }
        policies
    }

    fn peer(&mut self, subject: &Workload, workloads: &[Workload]) -> NetworkPolicyPeer {
        let other = &workloads[self.random.below(workloads.len())];
        let labels = |labels: Labels| LabelSelector { match_labels: labels, ..LabelSelector::default() };
        let named = |namespace: &SmolStr| {
            labels(Labels::from_iter([(svc_model::NAMESPACE_NAME_LABEL, namespace.clone())]))
        };
        let mut peer = NetworkPolicyPeer::default();
        match self.random.below(100) {
            0..50 => peer.pod_selector = Some(labels(other.selector.clone())),
            50..70 => {
                peer.pod_selector = Some(labels(other.selector.clone()));
                peer.namespace_selector = Some(named(&other.namespace));
            }
            70..80 => peer.namespace_selector = Some(named(&subject.namespace)),
            80..88 => {
                peer.namespace_selector = Some(labels(Labels::from_iter([("environment", "production")])));
            }
            88..90 => peer.pod_selector = Some(LabelSelector::default()),
            _ => {
                let third = self.random.below(256);
                peer.ip_block = Some(IpBlock {
                    cidr: Sent::new(&format!("192.0.{third}.0/24")),
                    except: vec![Sent::new(&format!("192.0.{third}.128/28"))],
                });
            }
        }
        peer
    }

    fn policy_ports(&mut self) -> Vec<NetworkPolicyPort> {
        let (name, number, protocol) = *self.random.pick(&CONTAINER_PORTS);
        let port = if self.random.permille(300) { name.into() } else { IntOrString::from(number) };
        match self.random.below(10) {
            0..3 => Vec::new(),
            9 => vec![NetworkPolicyPort {
                protocol: Some(protocol.into()),
                port: Some(8000_u16.into()),
                end_port: Some(Port::new(8100)),
            }],
            _ => {
                vec![NetworkPolicyPort { protocol: Some(protocol.into()), port: Some(port), end_port: None }]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_those_asked_for_and_the_seed_decides() {
        let shape = Shape { dual_stack: true, ..Shape::of_services(300) };
        let made = shape.generate();
        assert_eq!((made.services.len(), made.pods.len(), made.policies.len()), (300, 4500, 150));
        assert_eq!(made.pods, shape.generate().pods);
        assert_ne!(made.pods, Shape { seed: 2, ..shape }.generate().pods);
    }

    #[test]
    fn objects_are_distinct_and_selectors_select_their_pods() {
        let made = Shape::of_services(400).generate();
        let keys: HashSet<_> = made.objects().map(|object| (object.kind(), object.object_ref())).collect();
        assert_eq!(keys.len(), made.objects().count());
        let addresses: HashSet<_> = made.pods.iter().flat_map(Pod::addresses).collect();
        assert_eq!(addresses.len(), made.pods.iter().flat_map(Pod::addresses).count());
        for (service, pods) in made.services.iter().zip(&made.pods_of) {
            for pod in &made.pods[pods.clone()] {
                let selector = service.spec.selector.as_ref().expect("only selecting Services have Pods");
                assert!(pod.metadata.labels.contains_all(selector));
            }
        }
    }

    #[test]
    fn slices_hold_each_endpoint_once() {
        let made = Shape { dual_stack: true, ..Shape::of_services(50) }.generate();
        for slice in made.endpoint_slices() {
            assert!(!slice.endpoints.is_empty() && slice.endpoints.len() <= 100);
            let service = slice.service_name().expect("slices name their Service");
            let names: Vec<_> = made.services.iter().map(|service| service.metadata.name.as_str()).collect();
            assert!(names.contains(&service));
        }
    }
}
