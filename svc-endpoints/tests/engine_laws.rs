//! Laws of the reconciler and of the incremental engine, against a twin that reconciles whole Services.

#![allow(clippy::std_instead_of_alloc, reason = "tests run where std is")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use core::num::NonZeroUsize;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use svc_endpoints::engine::{Changes, Engine, SliceChange};
use svc_endpoints::slices::{HintMode, is_managed, select_pods, selector_of};
use svc_endpoints::{Config, History, Nodes, Packing, Reconciler, SliceCache};
use svc_model::{
    AddressType, Container, ContainerPort, Endpoint, EndpointConditions, EndpointSlice, IntOrString,
    IpFamily, Labels, MANAGED_BY_LABEL, Node, NodeCondition, ObjectMeta, ObjectRef, ObjectReference,
    OwnerReference, Pod, PodCondition, PodIp, PodPhase, Port, SERVICE_NAME_LABEL, Service, ServicePort,
    SmolStr, Timestamp, TrafficDistribution,
};

const MANAGER: &str = "endpointslice-controller.k8s.io";

#[derive(Debug, Clone)]
enum Event {
    ApplyPod(Box<Pod>),
    RemovePod(SmolStr),
    ApplyNode(Box<Node>),
    RemoveNode(SmolStr),
    ApplyService(Box<Service>),
    RemoveService(SmolStr),
    ApplySlice(Box<EndpointSlice>),
    RemoveSlice(usize),
}

fn key(name: &SmolStr) -> ObjectRef {
    ObjectRef::new("ns", name.clone())
}

fn numbered(prefix: &'static str, count: usize) -> impl Strategy<Value = SmolStr> {
    (0..count).prop_map(move |n| format!("{prefix}{n}").into())
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_unix_nanoseconds(i128::from(second) * 1_000_000_000).unwrap()
}

fn pod() -> impl Strategy<Value = Pod> {
    let labels =
        prop_oneof![6 => Just(("app", "web")), 2 => Just(("app", "api")), 1 => Just(("app", "none"))];
    let ips = prop_oneof![
        6 => Just(vec![4]), 1 => Just(vec![6]), 2 => Just(vec![4, 6]), 1 => Just(vec![]), 1 => Just(vec![4, 4])
    ];
    let state = (prop::bool::weighted(0.7), prop::bool::weighted(0.15), prop::bool::weighted(0.05), 0..5i64);
    let port = prop_oneof![4 => Just(Some(8080)), 2 => Just(Some(9090)), 1 => Just(None)];
    (numbered("pod-", 8), labels, numbered("node-", 3), ips, state, port, prop::bool::weighted(0.2), 0..2u8)
        .prop_map(|(name, label, node, ips, (ready, terminating, ended, since), port, named, generation)| {
            let number: u8 = name.trim_start_matches("pod-").parse().unwrap();
            let mut pod = Pod { metadata: ObjectMeta::new("ns", name.clone()), ..Pod::default() };
            pod.metadata.uid = format!("{name}-{generation}").into();
            pod.metadata.labels = [label].into_iter().collect();
            pod.metadata.deletion_timestamp = terminating.then(|| second(9));
            pod.spec.node_name = node;
            if named {
                pod.spec.hostname = name;
                pod.spec.subdomain = "svc-0".into();
            }
            let port = port.map(|port| ContainerPort {
                name: "http".into(),
                container_port: Port::new(port),
                ..ContainerPort::default()
            });
            pod.spec.containers =
                vec![Container { ports: port.into_iter().collect(), ..Container::default() }];
            pod.status.phase = if ended { PodPhase::Succeeded } else { PodPhase::Running }.into();
            pod.status.conditions = vec![PodCondition {
                condition_type: "Ready".into(),
                status: if ready { "True" } else { "False" }.into(),
                last_transition_time: Some(second(since)),
                ..PodCondition::default()
            }];
            let address = |(index, family): (usize, &i32)| PodIp {
                ip: if *family == 4 {
                    format!("10.0.{index}.{number}").as_str().into()
                } else {
                    format!("fd00::{number}").as_str().into()
                },
            };
            pod.status.pod_ips = ips.iter().enumerate().map(address).collect();
            pod
        })
}

fn node() -> impl Strategy<Value = Node> {
    let zone = prop_oneof![5 => numbered("zone-", 2).prop_map(Some), 1 => Just(None)];
    (numbered("node-", 3), zone, prop::bool::weighted(0.9), 1..4u8).prop_map(|(name, zone, ready, cpu)| {
        let mut node = Node { metadata: ObjectMeta::new("", name), ..Node::default() };
        if let Some(zone) = zone {
            node.metadata.labels.insert(svc_model::ZONE_LABEL, zone);
        }
        node.status.allocatable = [("cpu", cpu.to_string())].into_iter().collect();
        node.status.conditions = vec![NodeCondition {
            condition_type: "Ready".into(),
            status: if ready { "True" } else { "False" }.into(),
            ..NodeCondition::default()
        }];
        node
    })
}

fn service() -> impl Strategy<Value = Service> {
    let selector = prop_oneof![
        8 => Just(Some(vec![("app", "web")])), 2 => Just(Some(vec![("app", "api")])), 1 => Just(Some(vec![])),
        1 => Just(None)
    ];
    let families =
        prop_oneof![5 => Just(vec![IpFamily::Ipv4]), 2 => Just(vec![IpFamily::Ipv4, IpFamily::Ipv6])];
    let target = prop_oneof![3 => Just(IntOrString::from(80)), 2 => Just(IntOrString::from("http"))];
    let hints = prop_oneof![
        4 => Just((None, false)),
        1 => Just((Some(TrafficDistribution::PreferClose), false)),
        1 => Just((Some(TrafficDistribution::PreferSameNode), false)),
        1 => Just((None, true)),
    ];
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.05), any::<bool>(), any::<bool>());
    (numbered("svc-", 3), selector, families, target, hints, flags, 0..2u8).prop_map(
        |(
            name,
            selector,
            families,
            target,
            (distribution, auto),
            (publish, terminating, headless, label),
            generation,
        )| {
            let mut service = Service { metadata: ObjectMeta::new("ns", name.clone()), ..Service::default() };
            service.metadata.uid = format!("{name}-{generation}").into();
            service.metadata.creation_timestamp = Some(second(1));
            service.metadata.deletion_timestamp = terminating.then(|| second(9));
            if auto {
                service.metadata.annotations.insert("service.kubernetes.io/topology-mode", "Auto");
            }
            if label {
                service.metadata.labels.insert("team", "blue");
            }
            let spec = &mut service.spec;
            spec.cluster_ip = if headless { "None" } else { "10.96.0.1" }.into();
            spec.selector = selector.map(|selector| selector.into_iter().collect::<Labels>());
            spec.ip_families = families.into_iter().map(Into::into).collect();
            spec.ports = vec![ServicePort {
                port: Port::new(80),
                target_port: Some(target),
                ..ServicePort::default()
            }];
            spec.publish_not_ready_addresses = publish;
            spec.traffic_distribution = distribution.map(Into::into);
            service
        },
    )
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let endpoints = prop::collection::btree_map(0..8u8, any::<bool>(), 0..4);
    let manager = prop_oneof![4 => Just(MANAGER), 1 => Just("somebody")];
    (1..5u8, numbered("svc-", 3), endpoints, manager, prop::bool::weighted(0.8), 0..2u8).prop_map(
        |(number, service, endpoints, manager, owned, generation)| {
            let mut metadata = ObjectMeta::new("ns", format!("{service}-{number}"));
            metadata.labels =
                [(SERVICE_NAME_LABEL, service.as_str()), (MANAGED_BY_LABEL, manager)].into_iter().collect();
            if owned {
                metadata.owner_references = vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Service".into(),
                    name: service.clone(),
                    uid: format!("{service}-{generation}").into(),
                    ..OwnerReference::default()
                }];
            }
            let endpoint = |(number, ready): (u8, bool)| Endpoint {
                addresses: vec![format!("10.0.0.{number}").as_str().into()],
                conditions: EndpointConditions { ready: Some(ready), ..EndpointConditions::default() },
                target_ref: Some(ObjectReference {
                    kind: "Pod".into(),
                    namespace: "ns".into(),
                    name: format!("pod-{number}").into(),
                    ..ObjectReference::default()
                }),
                ..Endpoint::default()
            };
            EndpointSlice {
                metadata,
                address_type: AddressType::Ipv4.into(),
                endpoints: endpoints.into_iter().map(endpoint).collect(),
                ports: vec![svc_model::EndpointPort {
                    name: Some("".into()),
                    protocol: Some(svc_model::Protocol::Tcp.into()),
                    port: Some(Port::new(80)),
                    app_protocol: None,
                }],
            }
        },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        20 => pod().prop_map(|pod| Event::ApplyPod(Box::new(pod))),
        6 => numbered("pod-", 8).prop_map(Event::RemovePod),
        5 => node().prop_map(|node| Event::ApplyNode(Box::new(node))),
        1 => numbered("node-", 3).prop_map(Event::RemoveNode),
        3 => service().prop_map(|service| Event::ApplyService(Box::new(service))),
        1 => numbered("svc-", 3).prop_map(Event::RemoveService),
        1 => slice().prop_map(|slice| Event::ApplySlice(Box::new(slice))),
        1 => (0..6usize).prop_map(Event::RemoveSlice),
    ];
    let start = (
        prop::collection::vec(node(), 3),
        prop::collection::vec(service(), 1..3),
        prop::collection::vec(pod(), 0..8),
    );
    (start, prop::collection::vec(event, 1..40)).prop_map(|((nodes, services, pods), events)| {
        let nodes = nodes.into_iter().map(|node| Event::ApplyNode(Box::new(node)));
        let services = services.into_iter().map(|service| Event::ApplyService(Box::new(service)));
        let pods = pods.into_iter().map(|pod| Event::ApplyPod(Box::new(pod)));
        nodes.chain(services).chain(pods).chain(events).collect()
    })
}

fn config() -> impl Strategy<Value = Config> {
    let packing = prop_oneof![
        4 => Just(Packing::KeepPlaces),
        1 => (1..4usize).prop_map(|budget| Packing::Repack { budget: NonZeroUsize::new(budget).unwrap() }),
    ];
    (1..5usize, packing).prop_map(|(limit, packing)| {
        let mut config = Config::default();
        config.max_endpoints_per_slice = NonZeroUsize::new(limit).unwrap();
        config.packing = packing;
        config
    })
}

/// The twin: all objects in maps, and whole reconciliations of each Service that an event concerns.
struct Naive {
    reconciler: Reconciler,
    pods: BTreeMap<SmolStr, Pod>,
    nodes: BTreeMap<SmolStr, Node>,
    services: BTreeMap<SmolStr, Service>,
    slices: BTreeMap<SmolStr, EndpointSlice>,
    histories: BTreeMap<SmolStr, History>,
}

impl Naive {
    fn selecting(&self, pod: Option<&Pod>) -> BTreeSet<SmolStr> {
        let selects =
            |service: &&Service| select_pods(service, pod).is_ok_and(|mut pods| pods.next().is_some());
        self.services.values().filter(selects).map(|service| service.metadata.name.clone()).collect()
    }

    fn nodes(&self) -> Nodes {
        self.nodes.values().collect()
    }

    fn on_node(&mut self, name: &SmolStr, new: Option<Node>) -> BTreeSet<SmolStr> {
        let before = self.nodes();
        match new {
            Some(node) => drop(self.nodes.insert(name.clone(), node)),
            None => drop(self.nodes.remove(name)),
        }
        let after = self.nodes();
        let mut concerned = BTreeSet::new();
        if before.zone_of(name) != after.zone_of(name) {
            let pods = self.pods.values().filter(|pod| pod.spec.node_name == *name);
            concerned.extend(pods.flat_map(|pod| self.selecting(Some(pod))));
        }
        if before.cpu_shares() != after.cpu_shares() {
            let auto = |s: &&Service| HintMode::of(s, self.reconciler.config()) == HintMode::Auto;
            concerned.extend(self.services.values().filter(auto).map(|s| s.metadata.name.clone()));
        }
        concerned
    }

    fn manages(&self, slice: Option<&EndpointSlice>) -> Option<SmolStr> {
        let service = SmolStr::new(slice?.service_name()?);
        (self.services.contains_key(&service) && is_managed(slice?, &key(&service), MANAGER))
            .then_some(service)
    }

    fn handle(&mut self, event: Event) {
        let concerned: BTreeSet<SmolStr> = match event {
            Event::ApplyPod(pod) => {
                let old = self.pods.insert(pod.metadata.name.clone(), (*pod).clone());
                if old.as_ref() == Some(&*pod) {
                    return;
                }
                self.selecting(old.as_ref()).union(&self.selecting(Some(&pod))).cloned().collect()
            }
            Event::RemovePod(name) => {
                let old = self.pods.remove(&name);
                self.selecting(old.as_ref())
            }
            Event::ApplyNode(node) => self.on_node(&node.metadata.name.clone(), Some(*node)),
            Event::RemoveNode(name) => self.on_node(&name, None),
            Event::ApplyService(service) => {
                let name = service.metadata.name.clone();
                if self.services.insert(name.clone(), (*service).clone()) == Some(*service) {
                    return;
                }
                [name].into()
            }
            Event::RemoveService(name) => {
                self.histories.remove(&name);
                if let Some(service) = self.services.remove(&name) {
                    self.slices.retain(|_, slice| {
                        let is_owned =
                            slice.metadata.owner_references.iter().any(|o| o.uid == service.metadata.uid);
                        !(is_owned && is_managed(slice, &key(&name), MANAGER))
                    });
                }
                BTreeSet::new()
            }
            Event::ApplySlice(slice) => {
                let old = self.slices.insert(slice.metadata.name.clone(), (*slice).clone());
                if old.as_ref() == Some(&*slice) {
                    return;
                }
                self.manages(old.as_ref()).into_iter().chain(self.manages(Some(&slice))).collect()
            }
            Event::RemoveSlice(index) => {
                let Some(name) = self.slices.keys().nth(index).cloned() else { return };
                let old = self.slices.remove(&name);
                self.manages(old.as_ref()).into_iter().collect()
            }
        };
        for service in concerned {
            self.reconcile(&service);
        }
    }

    fn reconcile(&mut self, name: &SmolStr) {
        let service = &self.services[name];
        let Ok(pods) = select_pods(service, self.pods.values()) else { return };
        let pods: Vec<&Pod> = pods.collect();
        let history = self.histories.entry(name.clone()).or_default();
        let trigger = history.trigger_time(service, pods.iter().copied());
        let managed = self.slices.values().filter(|slice| is_managed(slice, &key(name), MANAGER)).cloned();
        let existing: Vec<EndpointSlice> = managed.collect();
        let nodes = self.nodes.values().collect();
        let plan = self.reconciler.reconcile(service, pods, &nodes, &existing, trigger, history);
        let mut taken: BTreeSet<SmolStr> = self.slices.keys().cloned().collect();
        for slice in &existing {
            self.slices.remove(&slice.metadata.name);
        }
        for deleted in &plan.deletes {
            taken.remove(&deleted.name);
        }
        let after = plan.apply_to(existing, |slice| {
            let prefix = &slice.metadata.generate_name;
            let free =
                (1..).map(|n| SmolStr::from(format!("{prefix}{n}"))).find(|name| !taken.contains(name));
            taken.insert(free.clone().unwrap());
            free.unwrap()
        });
        self.slices.extend(after.into_iter().map(|slice| (slice.metadata.name.clone(), slice)));
    }

    /// Holds for the slices of every Service: each Pod's endpoint is in exactly one, and none is over the limit.
    fn check(&self) {
        let limit = self.reconciler.config().max_endpoints_per_slice.get();
        let nodes = self.nodes();
        for (name, service) in &self.services {
            let Ok(pods) = select_pods(service, self.pods.values()) else { continue };
            let pods: Vec<&Pod> = pods.collect();
            let managed: Vec<&EndpointSlice> =
                self.slices.values().filter(|slice| is_managed(slice, &key(name), MANAGER)).collect();
            for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
                let of_family = |slice: &&&EndpointSlice| slice.address_type.get() == Some(family.into());
                let mut held: Vec<SmolStr> = Vec::new();
                for slice in managed.iter().filter(of_family) {
                    assert!(slice.endpoints.len() <= limit.max(4), "no slice of ours is over the limit");
                    held.extend(slice.endpoints.iter().map(|e| e.target_ref.as_ref().unwrap().name.clone()));
                }
                held.sort();
                let serves = service.spec.ip_families.iter().any(|f| f.get() == Some(family));
                let is_in = |pod: &&&Pod| {
                    serves
                        && !pod.is_terminal()
                        && (nodes.contains(&pod.spec.node_name) || service.spec.publish_not_ready_addresses)
                        && pod.addresses().any(|ip| IpFamily::of(ip) == family)
                };
                let wanted: Vec<SmolStr> =
                    pods.iter().filter(is_in).map(|pod| pod.metadata.name.clone()).collect();
                if !service.metadata.is_terminating() {
                    assert_eq!(held, wanted, "no endpoint of {name} is lost or doubled ({family})");
                }
            }
        }
    }
}

fn handle(engine: &mut Engine, event: &Event) -> Changes {
    match event {
        Event::ApplyPod(pod) => engine.apply_pod(pod),
        Event::RemovePod(name) => engine.remove_pod(&key(name)),
        Event::ApplyNode(node) => engine.apply_node(node),
        Event::RemoveNode(name) => engine.remove_node(name),
        Event::ApplyService(service) => engine.apply_service(service),
        Event::RemoveService(name) => engine.remove_service(&key(name)),
        Event::ApplySlice(slice) => engine.apply_slice(slice),
        Event::RemoveSlice(index) => {
            let key = engine.slices().nth(*index).map(|slice| slice.metadata.object_ref());
            key.map(|key| engine.remove_slice(&key)).unwrap_or_default()
        }
    }
}

proptest! {

    #[test]
    fn the_engine_agrees_with_whole_reconciliations(config in config(), events in events()) {
        let mut engine = Engine::new(config.clone());
        let mut naive = Naive {
            reconciler: Reconciler::new(config),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            histories: BTreeMap::new(),
        };
        let mut written: BTreeMap<ObjectRef, EndpointSlice> = BTreeMap::new();
        for event in events {
            let foreign = match &event {
                Event::ApplySlice(slice) => Some((slice.metadata.object_ref(), Some((**slice).clone()))),
                Event::RemoveSlice(index) => {
                    engine.slices().nth(*index).map(|slice| (slice.metadata.object_ref(), None))
                }
                _ => None,
            };
            let changes = handle(&mut engine, &event);
            naive.handle(event);
            let slices: BTreeMap<SmolStr, EndpointSlice> =
                engine.slices().map(|slice| (slice.metadata.name.clone(), slice.clone())).collect();
            prop_assert_eq!(&slices, &naive.slices);
            naive.check();

            // What somebody else did, and then the changes, lead from the old slices to the new ones.
            match foreign {
                Some((key, Some(slice))) => drop(written.insert(key, slice)),
                Some((key, None)) => drop(written.remove(&key)),
                None => {}
            }
            for change in &changes.slices {
                let now = engine.slice(change.key()).cloned();
                match (change, now) {
                    (SliceChange::Create(key), Some(slice)) => {
                        prop_assert!(written.insert(key.clone(), slice).is_none());
                    }
                    (SliceChange::Update(key), Some(slice)) => {
                        prop_assert!(written.insert(key.clone(), slice).is_some());
                    }
                    (SliceChange::Delete(key), None) => prop_assert!(written.remove(key).is_some()),
                    (change, now) => prop_assert!(false, "{:?} but {:?}", change, now),
                }
            }
            let engine_slices: BTreeMap<ObjectRef, EndpointSlice> =
                engine.slices().map(|slice| (slice.metadata.object_ref(), slice.clone())).collect();
            prop_assert_eq!(&written, &engine_slices);

            let mut whole = SliceCache::new();
            let _ = whole.replace_all(engine.slices());
            prop_assert_eq!(engine.view(), &whole);
        }
    }

    #[test]
    fn a_second_reconciliation_changes_nothing(
        config in config(),
        service in service(),
        pods in prop::collection::vec(pod(), 0..12),
        nodes in prop::collection::vec(node(), 0..4),
        existing in prop::collection::vec(slice(), 0..4),
    ) {
        prop_assume!(selector_of(&service).is_ok() && !service.metadata.is_terminating());
        // The hints of topology mode `Auto` need not settle: see KEP-2433 on zones without nodes.
        prop_assume!(HintMode::of(&service, &config) != HintMode::Auto);
        let nodes: Nodes = nodes.iter().collect();
        let pods: BTreeMap<SmolStr, Pod> = pods.into_iter().map(|pod| (pod.metadata.name.clone(), pod)).collect();
        let pods: Vec<&Pod> = select_pods(&service, pods.values()).into_iter().flatten().collect();
        let name = service.metadata.object_ref();
        let mut slices: BTreeMap<SmolStr, EndpointSlice> = existing
            .into_iter()
            .filter(|slice| is_managed(slice, &name, MANAGER))
            .map(|slice| (slice.metadata.name.clone(), slice))
            .collect();
        let reconciler = Reconciler::new(config);
        let mut history = History::default();
        // Repacking takes as many rounds as its budget asks for, and then ends.
        for round in 0..20 {
            let existing: Vec<EndpointSlice> = slices.values().cloned().collect();
            let plan = reconciler.reconcile(&service, pods.iter().copied(), &nodes, &existing, None, &mut history);
            if round > 0 && plan.is_noop() {
                return Ok(());
            }
            let keeps_places = reconciler.config().packing == Packing::KeepPlaces;
            prop_assert!(round == 0 || !keeps_places, "round {}: {:?}", round, plan);
            let mut number = 0;
            let after = plan.apply_to(existing, |_| {
                number += 1;
                format!("new-{round}-{number}").into()
            });
            slices = after.into_iter().map(|slice| (slice.metadata.name.clone(), slice)).collect();
        }
        prop_assert!(false, "repacking does not end");
    }

    #[test]
    fn the_order_of_the_pods_makes_no_difference(
        config in config(),
        service in service(),
        pods in prop::collection::vec(pod(), 0..12),
        nodes in prop::collection::vec(node(), 0..4),
    ) {
        let nodes: Nodes = nodes.iter().collect();
        let pods: BTreeMap<SmolStr, Pod> = pods.into_iter().map(|pod| (pod.metadata.name.clone(), pod)).collect();
        let reconciler = Reconciler::new(config);
        let plan = |pods: Vec<&Pod>| reconciler.reconcile(&service, pods, &nodes, &[], None, &mut History::default());
        prop_assert_eq!(plan(pods.values().collect()), plan(pods.values().rev().collect()));
    }
}
