//! Laws of the cluster state, against a twin that keeps a plain map and scans it for every answer.

extern crate alloc;

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use proptest::prelude::*;
use svc_model::cluster::{AddressOwner, Changes, Transition};
use svc_model::*;

/// The twin: objects by kind, namespace and name.
type Twin = BTreeMap<(ObjectKind, ObjectRef), Object>;

#[derive(Clone, Debug)]
enum Event {
    Apply(Box<Object>),
    Remove(ObjectKind, ObjectRef),
    ReplaceAll(Vec<Object>),
    ReplacePods(Vec<Pod>),
}

const NAMESPACES: [&str; 2] = ["blue", "green"];
const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.0.0.2", "fd00::1", "010.0.0.1", "nonsense"];

fn namespace() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMESPACES[..])
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["a", "b", "c"][..])
}

fn labels() -> impl Strategy<Value = Labels> {
    let label = (prop::sample::select(&["app", "tier"][..]), prop::sample::select(&["1", "2", "3"][..]));
    prop::collection::vec(label, 0..3).prop_map(Labels::from_iter)
}

fn label_selector() -> impl Strategy<Value = LabelSelector> {
    use svc_model::selector::{LabelSelectorOperator as Op, LabelSelectorRequirement};
    let expression = (
        prop::sample::select(&["app", "tier", "no key!"][..]),
        prop::sample::select(&[Op::In, Op::NotIn, Op::Exists, Op::DoesNotExist][..]),
    )
        .prop_map(|(key, operator)| {
            let values: &[&str] = if matches!(operator, Op::In | Op::NotIn) { &["1", "3"] } else { &[] };
            LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: values.iter().map(|value| (*value).into()).collect(),
            }
        });
    (labels(), prop::collection::vec(expression, 0..2))
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

fn ips() -> impl Strategy<Value = Vec<Sent<IpAddr>>> {
    prop::collection::vec(prop::sample::select(&ADDRESSES[..]).prop_map(Sent::new), 0..3)
}

fn pod() -> impl Strategy<Value = Pod> {
    let spec = (prop::option::of(name()), prop::bool::ANY, prop::option::of(Just("web")));
    let status = (ips(), prop::sample::select(PodPhase::ALL), prop::bool::ANY, prop::bool::ANY);
    (namespace(), name(), labels(), spec, status).prop_map(|(namespace, name, labels, spec, status)| {
        let mut pod = Pod { metadata: ObjectMeta::new(namespace, name), ..Pod::default() };
        pod.metadata.labels = labels;
        pod.spec.node_name = spec.0.unwrap_or_default().into();
        pod.spec.host_network = spec.1;
        pod.spec.hostname = spec.2.unwrap_or_default().into();
        pod.status.pod_ips = status.0.into_iter().map(|ip| PodIp { ip }).collect();
        pod.status.phase = status.1.into();
        if status.2 {
            pod.status.conditions = vec![PodCondition {
                condition_type: "Ready".into(),
                status: "True".into(),
                ..Default::default()
            }];
        }
        if status.3 {
            pod.metadata.annotations = Labels::from_iter([("beat", "1")]);
        }
        pod
    })
}

fn service() -> impl Strategy<Value = Service> {
    let metadata = (namespace(), name(), prop::bool::weighted(0.2));
    (metadata, prop::option::weighted(0.9, labels()), ips(), ips(), ips()).prop_map(
        |((namespace, name, hints), selector, cluster, external, ingress)| {
            let mut service = Service { metadata: ObjectMeta::new(namespace, name), ..Service::default() };
            if hints {
                service.metadata.annotations =
                    Labels::from_iter([("service.kubernetes.io/topology-mode", "Auto")]);
            }
            service.spec.selector = selector;
            service.spec.cluster_ips = cluster;
            service.spec.external_ips = external;
            service.status.load_balancer.ingress =
                ingress.into_iter().map(|ip| LoadBalancerIngress { ip, ..Default::default() }).collect();
            service
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    (name(), labels(), prop::option::of(name()), ips(), prop::bool::ANY).prop_map(
        |(name, labels, zone, addresses, ready)| {
            // A namespace on a cluster-scoped object means nothing.
            let mut node = Node { metadata: ObjectMeta::new("ignored", name), ..Node::default() };
            node.metadata.labels = labels;
            if let Some(zone) = zone {
                node.metadata.labels.insert(ZONE_LABEL, zone);
            }
            node.status.addresses = addresses
                .into_iter()
                .map(|address| NodeAddress { address_type: "InternalIP".into(), address })
                .collect();
            if ready {
                node.status.conditions = vec![NodeCondition {
                    condition_type: "Ready".into(),
                    status: "True".into(),
                    ..Default::default()
                }];
            }
            node
        },
    )
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    (namespace(), name(), prop::option::of(name()), prop::bool::ANY).prop_map(
        |(namespace, name, service, any)| {
            let mut slice =
                EndpointSlice { metadata: ObjectMeta::new(namespace, name), ..EndpointSlice::default() };
            if let Some(service) = service {
                slice.metadata.labels = Labels::from_iter([(SERVICE_NAME_LABEL, service)]);
            }
            slice.endpoints = if any { vec![Endpoint::default()] } else { Vec::new() };
            slice
        },
    )
}

fn network_policy() -> impl Strategy<Value = NetworkPolicy> {
    let peer = (prop::option::of(label_selector()), prop::option::of(label_selector())).prop_map(
        |(pod_selector, namespace_selector)| NetworkPolicyPeer {
            pod_selector,
            namespace_selector,
            ip_block: None,
        },
    );
    (namespace(), name(), label_selector(), prop::collection::vec(peer, 0..3), prop::bool::ANY).prop_map(
        |(namespace, name, pod_selector, peers, ingress)| {
            let mut policy =
                NetworkPolicy { metadata: ObjectMeta::new(namespace, name), ..NetworkPolicy::default() };
            policy.spec.pod_selector = pod_selector;
            if ingress {
                policy.spec.ingress = vec![NetworkPolicyIngressRule { from: peers, ..Default::default() }];
            } else {
                policy.spec.egress = vec![NetworkPolicyEgressRule { to: peers, ..Default::default() }];
            }
            policy
        },
    )
}

fn cluster_network_policy() -> impl Strategy<Value = ClusterNetworkPolicy> {
    let pods = (label_selector(), label_selector()).prop_map(|(namespace_selector, pod_selector)| {
        NamespacedPodSelector { namespace_selector, pod_selector }
    });
    let subject = (prop::option::of(label_selector()), prop::option::of(pods));
    let peer = (prop::option::of(label_selector()), prop::option::of(label_selector()));
    (name(), subject, peer).prop_map(|(name, (namespaces, pods), (nodes, peers))| {
        let mut policy =
            ClusterNetworkPolicy { metadata: ObjectMeta::new("", name), ..ClusterNetworkPolicy::default() };
        policy.spec.subject = PolicySubject { namespaces, pods };
        let peer = ClusterNetworkPolicyEgressPeer { nodes, namespaces: peers, ..Default::default() };
        policy.spec.egress = vec![ClusterNetworkPolicyEgressRule { to: vec![peer], ..Default::default() }];
        policy
    })
}

fn object() -> impl Strategy<Value = Object> {
    let namespace = (namespace(), labels()).prop_map(|(name, labels)| Namespace {
        metadata: ObjectMeta { labels, ..ObjectMeta::new("", name) },
        ..Namespace::default()
    });
    let endpoints = (namespace_and_name(), prop::bool::ANY).prop_map(|(metadata, any)| Endpoints {
        metadata,
        subsets: if any { vec![EndpointSubset::default()] } else { Vec::new() },
    });
    let deployment =
        namespace_and_name().prop_map(|metadata| Deployment { metadata, ..Deployment::default() });
    prop_oneof![
        8 => pod().prop_map(Object::from),
        4 => service().prop_map(Object::from),
        2 => node().prop_map(Object::from),
        2 => namespace.prop_map(Object::from),
        2 => slice().prop_map(Object::from),
        1 => endpoints.prop_map(Object::from),
        1 => deployment.prop_map(Object::from),
        3 => network_policy().prop_map(Object::from),
        2 => cluster_network_policy().prop_map(Object::from),
    ]
}

fn namespace_and_name() -> impl Strategy<Value = ObjectMeta> {
    (namespace(), name()).prop_map(|(namespace, name)| ObjectMeta::new(namespace, name))
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(
        &[
            ObjectKind::Pod,
            ObjectKind::Service,
            ObjectKind::Node,
            ObjectKind::Namespace,
            ObjectKind::EndpointSlice,
            ObjectKind::NetworkPolicy,
            ObjectKind::ClusterNetworkPolicy,
        ][..],
    );
    prop_oneof![
        12 => object().prop_map(|object| Event::Apply(Box::new(object))),
        4 => (kind, namespace(), name()).prop_map(|(kind, namespace, name)| {
            let name = if kind == ObjectKind::Namespace { namespace } else { name };
            let namespace = if kind.scope() == Scope::Cluster { "" } else { namespace };
            Event::Remove(kind, ObjectRef::new(namespace, name))
        }),
        1 => prop::collection::vec(object(), 0..12).prop_map(Event::ReplaceAll),
        1 => prop::collection::vec(pod(), 0..6).prop_map(Event::ReplacePods),
    ]
}

fn key_of(object: &Object) -> (ObjectKind, ObjectRef) {
    (object.object_kind(), object.object_ref())
}

fn put(twin: &mut Twin, mut object: Object) {
    if object.scope() == Scope::Cluster {
        object.metadata_mut().namespace = SmolStr::default();
    }
    twin.insert(key_of(&object), object);
}

fn carry_out(cluster: &mut Cluster, twin: &mut Twin, event: Event) -> Changes {
    match event {
        Event::Apply(object) => {
            put(twin, (*object).clone());
            cluster.apply(*object)
        }
        Event::Remove(kind, object) => {
            twin.remove(&(kind, object.clone()));
            cluster.remove(kind, &object)
        }
        Event::ReplaceAll(objects) => {
            twin.clear();
            objects.iter().cloned().for_each(|object| put(twin, object));
            cluster.replace_all(objects)
        }
        Event::ReplacePods(pods) => {
            twin.retain(|(kind, _), _| *kind != ObjectKind::Pod);
            pods.iter().cloned().for_each(|pod| put(twin, pod.into()));
            cluster.replace_kind(ObjectKind::Pod, pods)
        }
    }
}

// What the twin answers, by scanning.

macro_rules! of_kind {
    ($twin:expr, $kind:ident) => {
        $twin.values().filter_map(|object| match object {
            Object::$kind(object) => Some(object),
            _ => None,
        })
    };
}

fn namespace_labels(twin: &Twin, name: &str) -> Labels {
    let mut labels = of_kind!(twin, Namespace)
        .find(|namespace| namespace.metadata.name == name)
        .map(|namespace| namespace.metadata.labels.clone())
        .unwrap_or_default();
    labels.insert(NAMESPACE_NAME_LABEL, name);
    labels
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector).is_ok_and(|selector| selector.matches(labels))
}

/// What an EndpointSlice controller would look at for a Service.
fn endpoints_input(twin: &Twin, service: &Service) -> String {
    let mut input = format!("{service:?}");
    let selector = service.spec.selector.as_ref();
    for pod in of_kind!(twin, Pod).filter(|pod| pod.metadata.namespace == service.metadata.namespace) {
        if selector.is_some_and(|selector| pod.metadata.labels.contains_all(selector)) {
            let node = of_kind!(twin, Node).find(|node| node.metadata.name == pod.spec.node_name);
            let zone = node.map(|node| node.zone());
            let (name, spec, ips) = (&pod.metadata.name, &pod.spec, &pod.status.pod_ips);
            let named = (&spec.hostname, &spec.subdomain, &spec.containers, &spec.init_containers);
            let state = (&spec.node_name, zone, pod.is_terminal(), pod.is_ready());
            input += &format!("{name} {named:?} {ips:?} {state:?}");
        }
    }
    if service.metadata.annotations.contains_key("service.kubernetes.io/topology-mode") {
        let nodes: Vec<_> = of_kind!(twin, Node).map(|node| (node.zone(), node.is_ready())).collect();
        input += &format!("{nodes:?}");
    }
    input
}

/// What proxies and DNS would look at for a Service, by name: it need not be there.
fn published_input(twin: &Twin, service: &ObjectRef) -> String {
    let mut input = String::new();
    for (key, object) in twin {
        let ours = match object {
            Object::Service(_) | Object::Endpoints(_) => key.1 == *service,
            Object::EndpointSlice(slice) => {
                key.1.namespace == service.namespace && slice.service_name() == Some(&service.name)
            }
            _ => false,
        };
        if ours {
            input += &format!("{object:?}");
        }
    }
    input
}

/// What a policy bears on: the Pods that it applies to, the namespaces and nodes that it names.
fn policy_input(twin: &Twin, policy: &Object) -> String {
    // Namespaces (none: the policy's own) and Pods of each subject, namespaces of each peer, nodes.
    let mut subjects: Vec<(Option<&LabelSelector>, Option<&LabelSelector>)> = Vec::new();
    let mut namespaces: Vec<&LabelSelector> = Vec::new();
    let mut nodes = Vec::new();
    match policy {
        Object::NetworkPolicy(policy) => {
            subjects.push((None, Some(&policy.spec.pod_selector)));
            let from = policy.spec.ingress.iter().flat_map(|rule| &rule.from);
            let peers = from.chain(policy.spec.egress.iter().flat_map(|rule| &rule.to));
            namespaces.extend(peers.filter_map(|peer| peer.namespace_selector.as_ref()));
        }
        Object::ClusterNetworkPolicy(policy) => {
            let subject = &policy.spec.subject;
            subjects.extend(subject.namespaces.as_ref().map(|namespaces| (Some(namespaces), None)));
            let pods = subject.pods.as_ref();
            subjects.extend(pods.map(|pods| (Some(&pods.namespace_selector), Some(&pods.pod_selector))));
            let peers: Vec<_> = policy.spec.egress.iter().flat_map(|rule| &rule.to).collect();
            namespaces.extend(peers.iter().filter_map(|peer| peer.namespaces.as_ref()));
            namespaces.extend(peers.iter().filter_map(|peer| Some(&peer.pods.as_ref()?.namespace_selector)));
            nodes.extend(peers.iter().filter_map(|peer| peer.nodes.as_ref()));
        }
        _ => return String::new(),
    }
    let mut input = format!("{policy:?}");
    for (namespaces, pods) in subjects {
        input += "|";
        for pod in of_kind!(twin, Pod) {
            let namespace = &pod.metadata.namespace;
            let inside = match namespaces {
                None => *namespace == policy.metadata().namespace,
                Some(selector) => selects(selector, &namespace_labels(twin, namespace)),
            };
            if inside && pods.is_none_or(|selector| selects(selector, &pod.metadata.labels)) {
                let (spec, ips) = (&pod.spec, &pod.status.pod_ips);
                input += &format!("{} {} {ips:?}", pod.object_ref(), spec.host_network);
            }
        }
    }
    for selector in namespaces {
        let selected = NAMESPACES.iter().filter(|name| selects(selector, &namespace_labels(twin, name)));
        input += &format!("{:?}", selected.collect::<Vec<_>>());
    }
    for selector in nodes {
        for node in of_kind!(twin, Node).filter(|node| selects(selector, &node.metadata.labels)) {
            input += &format!("{} {:?}", node.metadata.name, node.status.addresses);
        }
    }
    input
}

/// Every query of the cluster gives what the twin finds by scanning.
fn same_answers(cluster: &Cluster, twin: &Twin) {
    assert!(cluster.pods().iter().map(|pod| &**pod).eq(of_kind!(twin, Pod)));
    assert!(cluster.services().iter().map(|service| &**service).eq(of_kind!(twin, Service)));
    assert!(cluster.nodes().iter().map(|node| &**node).eq(of_kind!(twin, Node)));
    assert_eq!(cluster.pods().len(), of_kind!(twin, Pod).count());
    for name in NAMESPACES {
        assert_eq!(cluster.namespace_labels(name), namespace_labels(twin, name));
        let pods = of_kind!(twin, Pod).filter(|pod| pod.metadata.namespace == name);
        assert!(cluster.pods().in_namespace(name).map(|pod| &**pod).eq(pods));
    }
    for pod in of_kind!(twin, Pod) {
        let metadata = &pod.metadata;
        let found = cluster.services_selecting(&metadata.namespace, &metadata.labels);
        let scan = of_kind!(twin, Service).filter(|service| {
            let selector = service.spec.selector.as_ref();
            service.metadata.namespace == metadata.namespace
                && selector.is_some_and(|selector| metadata.labels.contains_all(selector))
        });
        assert!(found.into_iter().map(|service| &**service).eq(scan));
        assert_eq!(cluster.pods().get(&metadata.namespace, &metadata.name).map(|pod| &**pod), Some(pod));
    }
    for service in of_kind!(twin, Service) {
        let selector = service.spec.selector.as_ref();
        let found = cluster.pods_selected_by(service);
        let scan = of_kind!(twin, Pod).filter(|pod| {
            pod.metadata.namespace == service.metadata.namespace
                && selector.is_some_and(|selector| pod.metadata.labels.contains_all(selector))
        });
        assert!(found.into_iter().map(|pod| &**pod).eq(scan));
        let key = service.object_ref();
        let scan = of_kind!(twin, EndpointSlice).filter(|slice| {
            slice.metadata.namespace == key.namespace && slice.service_name() == Some(&key.name)
        });
        assert!(cluster.slices_of(&key).into_iter().map(|slice| &**slice).eq(scan));
    }
    for selector in ["app in (1,2),tier", "!app", "app,app in (1),tier notin (3)", "app=1", ""] {
        let selector = selector.parse().unwrap_or(Selector::NOTHING);
        assert!(!selector.is_nothing());
        for namespace in NAMESPACES {
            let scan = of_kind!(twin, Pod)
                .filter(|p| p.metadata.namespace == namespace && selector.matches(&p.metadata.labels));
            let found = cluster.pods_matching(namespace, &selector);
            assert!(found.into_iter().map(|pod| &**pod).eq(scan), "{selector} in {namespace}");
        }
    }
    for node in ["a", "b", "c"] {
        let scan = of_kind!(twin, Pod).filter(|pod| pod.spec.node_name == node);
        assert!(cluster.pods_on(node).into_iter().map(|pod| &**pod).eq(scan));
    }
    for ip in [[10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()] {
        let found: Vec<String> = cluster.owners_of(ip).into_iter().map(owner).collect();
        assert_eq!(found, owners(twin, ip));
    }
}

fn owner(owner: AddressOwner<'_>) -> String {
    match owner {
        AddressOwner::Service(service, role) => format!("{role:?} {}", service.object_ref()),
        AddressOwner::Node(node) => format!("node {}", node.object_ref()),
        AddressOwner::Pod(pod) => format!("pod {}", pod.object_ref()),
    }
}

fn owners(twin: &Twin, ip: IpAddr) -> Vec<String> {
    let mut owners = Vec::new();
    for service in of_kind!(twin, Service) {
        let ingress = &service.status.load_balancer.ingress;
        let roles = [
            ("ClusterIp", service.spec.cluster_addresses().any(|address| address == ip)),
            ("ExternalIp", service.spec.external_ips.iter().any(|address| address.get() == Some(ip))),
            ("LoadBalancerIp", ingress.iter().any(|ingress| ingress.ip.get() == Some(ip))),
        ];
        let roles = roles.into_iter().filter(|(_, owns)| *owns);
        owners.extend(roles.map(|(role, _)| format!("{role} {}", service.object_ref())));
    }
    let nodes = of_kind!(twin, Node).filter(|node| node.addresses().any(|address| address == ip));
    owners.extend(nodes.map(|node| format!("node {}", node.object_ref())));
    let pods = of_kind!(twin, Pod).filter(|pod| pod.addresses().any(|address| address == ip));
    owners.extend(pods.map(|pod| format!("pod {}", pod.object_ref())));
    owners
}

/// The changes name every object, Service and policy for which something differs.
fn changes_are_complete(changes: &Changes, before: &Twin, after: &Twin) {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    let named: BTreeMap<_, _> =
        changes.objects.iter().map(|(key, how)| ((key.kind, key.object.clone()), *how)).collect();
    assert_eq!(named.len(), changes.objects.len());
    for key in &keys {
        let how = match (before.get(key), after.get(key)) {
            (None, Some(_)) => Some(Transition::Added),
            (Some(_), None) => Some(Transition::Removed),
            (Some(a), Some(b)) if a != b => Some(Transition::Updated),
            _ => None,
        };
        // Within one call an object may change and change back.
        let named = named.get(key).copied();
        assert!(named == how || (how.is_none() && named == Some(Transition::Updated)));
    }
    let input = |twin: &Twin, key: &ObjectRef| match twin.get(&(ObjectKind::Service, key.clone())) {
        Some(Object::Service(service)) => endpoints_input(twin, service),
        _ => String::new(),
    };
    for key in NAMESPACES.iter().flat_map(|ns| ["a", "b", "c"].map(|name| ObjectRef::new(*ns, name))) {
        if input(before, &key) != input(after, &key) {
            assert!(changes.selected.contains(&key), "{key} is not among {changes:?}");
        }
        if published_input(before, &key) != published_input(after, &key) {
            assert!(changes.published.contains(&key), "{key} is not among {changes:?}");
        }
    }
    for key in &keys {
        let input = |twin: &Twin| twin.get(key).map(|policy| policy_input(twin, policy)).unwrap_or_default();
        if input(before) != input(after) {
            let named =
                changes.policies.iter().any(|policy| (policy.kind, &policy.object) == (key.0, &key.1));
            assert!(named, "{key:?} is not among {changes:?}");
        }
    }
    assert!(changes.selected.is_sorted() && changes.published.is_sorted() && changes.policies.is_sorted());
    if before == after && changes.objects.is_empty() {
        assert!(changes.selected.is_empty() && changes.published.is_empty() && changes.policies.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// After every event: the state equals one built from its objects alone, in another order; every query answers as
    /// a scan does; the changes name all that differs; and no snapshot sees what came after it.
    #[test]
    fn incremental_equals_whole(events in prop::collection::vec(event(), 1..40)) {
        let (mut cluster, mut twin) = (Cluster::default(), Twin::new());
        let mut snapshots = Vec::new();
        for event in events {
            let before = twin.clone();
            let changes = carry_out(&mut cluster, &mut twin, event);
            changes_are_complete(&changes, &before, &twin);
            same_answers(&cluster, &twin);
            snapshots.push((cluster.clone(), twin.clone()));
        }
        for (snapshot, twin) in snapshots.iter().step_by(7) {
            let mut whole = Cluster::default();
            for object in twin.values().rev().cloned() {
                prop_assert!(!whole.apply(object).is_empty());
            }
            prop_assert_eq!(snapshot, &whole);
            same_answers(snapshot, twin);
        }
    }
}

// What is left out of the changes matters as much as what is in them.

fn shop() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, selector) in [("web", Some("web")), ("all", None), ("other", Some("other"))] {
        let mut service = Service { metadata: ObjectMeta::new("shop", name), ..Service::default() };
        let selector = selector.map_or_else(Labels::default, |app| Labels::from_iter([("app", app)]));
        service.spec.selector = Some(selector);
        let _ = cluster.apply(service);
    }
    cluster
}

fn web_pod() -> Pod {
    let mut pod = Pod { metadata: ObjectMeta::new("shop", "web-1"), ..Pod::default() };
    pod.metadata.labels = Labels::from_iter([("app", "web"), ("track", "stable")]);
    pod.spec.node_name = "n1".into();
    pod
}

fn names(services: &[ObjectRef]) -> Vec<&str> {
    services.iter().map(|service| service.name.as_str()).collect()
}

#[test]
fn a_pod_touches_the_services_that_select_it() {
    let mut cluster = shop();
    assert_eq!(names(&cluster.apply(web_pod()).selected), ["all", "web"]);
    // The same again: nothing at all.
    assert!(cluster.apply(web_pod()).is_empty());
    // A heartbeat: the Pod, and no Service.
    let mut beat = web_pod();
    beat.metadata.resource_version = "2".into();
    let changes = cluster.apply(beat);
    assert_eq!((changes.objects.len(), changes.selected.len()), (1, 0));
    // A label that no selector names.
    let mut relabelled = web_pod();
    relabelled.metadata.labels.insert("track", "canary");
    assert!(cluster.apply(relabelled).selected.is_empty());
    // A label that moves the Pod from one Service to another, while a third keeps it.
    let mut moved = web_pod();
    moved.metadata.labels.insert("app", "other");
    assert_eq!(names(&cluster.apply(moved.clone()).selected), ["other", "web"]);
    // An address that comes at the same time as the move: all three.
    let mut back = web_pod();
    back.status.pod_ips = vec![PodIp { ip: Sent::new("10.0.0.1") }];
    assert_eq!(names(&cluster.apply(back).selected), ["all", "other", "web"]);
    let removed = cluster.remove(ObjectKind::Pod, &ObjectRef::new("shop", "web-1"));
    assert_eq!(names(&removed.selected), ["all", "web"]);
    assert!(removed.published.is_empty());
}

#[test]
fn a_node_touches_services_by_its_zone_and_not_by_its_heartbeat() {
    let mut cluster = shop();
    let _ = cluster.apply(web_pod());
    let mut node = Node { metadata: ObjectMeta::new("", "n1"), ..Node::default() };
    assert_eq!(names(&cluster.apply(node.clone()).selected), ["all", "web"]);
    node.metadata.resource_version = "2".into();
    node.status.conditions = vec![NodeCondition {
        condition_type: "Ready".into(),
        status: "True".into(),
        ..NodeCondition::default()
    }];
    assert!(cluster.apply(node.clone()).selected.is_empty());
    node.metadata.labels.insert(ZONE_LABEL, "z1");
    assert_eq!(names(&cluster.apply(node).selected), ["all", "web"]);
}

#[test]
fn pods_of_one_label_set_share_it() {
    let mut cluster = shop();
    for name in ["web-1", "web-2"] {
        let mut pod = web_pod();
        pod.metadata.name = name.into();
        // Labels of their own, as they come from a reader.
        pod.metadata.labels = Labels::from_iter(pod.metadata.labels.iter());
        let _ = cluster.apply(pod);
    }
    let labels: Vec<_> = cluster.pods().iter().map(|pod| pod.metadata.labels.as_slice().as_ptr()).collect();
    assert!(matches!(labels[..], [one, other] if one == other));
}
