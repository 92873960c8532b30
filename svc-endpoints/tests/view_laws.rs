//! Laws of the merged views: incremental equals whole, changes lead from the old views to the new ones,
//! and selection agrees with a plain reading of kube-proxy's rules.

#![allow(clippy::std_instead_of_alloc, reason = "tests run where std is")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use svc_endpoints::view::{
    Endpoint, Exposure, NoEndpoints, Policy, PortEndpoints, PortKey, Scope, ViewChanges,
};
use svc_endpoints::{PortPolicy, SliceCache, Viewpoint};
use svc_model::{
    AddressType, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
    ObjectMeta, ObjectRef, Port, SERVICE_NAME_LABEL,
};

#[derive(Debug, Clone)]
enum Event {
    Apply(Box<EndpointSlice>),
    Remove(ObjectRef),
    ReplaceAll(Vec<EndpointSlice>),
}

fn name(prefix: &'static str, count: usize) -> impl Strategy<Value = String> {
    (0..count).prop_map(move |n| format!("{prefix}{n}"))
}

fn endpoint() -> impl Strategy<Value = svc_model::Endpoint> {
    let condition = || prop_oneof![3 => Just(None), 2 => any::<bool>().prop_map(Some)];
    let hints = proptest::option::weighted(0.7, (name("zone-", 3), name("node-", 3), any::<[bool; 2]>()));
    let address = prop_oneof![8 => (1..6u8).prop_map(|n| format!("10.0.0.{n}")), 1 => Just("fd00::1".into()),
        1 => Just("nonsense".into())];
    (
        address,
        (condition(), condition(), condition()),
        proptest::option::weighted(0.8, name("node-", 3)),
        hints,
    )
        .prop_map(|(address, (ready, serving, terminating), node, hints)| svc_model::Endpoint {
            addresses: vec![address.as_str().into()],
            conditions: EndpointConditions { ready, serving, terminating },
            node_name: node.map(Into::into),
            hints: hints.map(|(zone, node, [with_zone, with_node])| EndpointHints {
                for_zones: with_zone.then(|| ForZone { name: zone.into() }).into_iter().collect(),
                for_nodes: with_node.then(|| ForNode { name: node.into() }).into_iter().collect(),
            }),
            ..Default::default()
        })
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let family =
        prop_oneof![8 => Just(AddressType::Ipv4), 1 => Just(AddressType::Ipv6), 1 => Just(AddressType::Fqdn)];
    let port = (proptest::option::weighted(0.9, name("p", 2)), 0..3i32).prop_map(|(name, number)| {
        EndpointPort { name: name.map(Into::into), port: Some(Port::new(number)), ..Default::default() }
    });
    (
        name("slice-", 4),
        proptest::option::weighted(0.9, name("svc-", 2)),
        family,
        proptest::collection::vec(port, 0..3),
        proptest::collection::vec(endpoint(), 0..6),
    )
        .prop_map(|(name, service, family, ports, endpoints)| {
            let mut metadata = ObjectMeta::new("ns", name);
            if let Some(service) = service {
                metadata.labels.insert(SERVICE_NAME_LABEL, service);
            }
            EndpointSlice { metadata, address_type: family.into(), endpoints, ports }
        })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => slice().prop_map(|slice| Event::Apply(Box::new(slice))),
        2 => name("slice-", 4).prop_map(|name| Event::Remove(ObjectRef::new("ns", name))),
        1 => proptest::collection::vec(slice(), 0..4).prop_map(Event::ReplaceAll),
    ];
    proptest::collection::vec(event, 1..12)
}

type Views = BTreeMap<PortKey, BTreeMap<String, Endpoint>>;

fn views(cache: &SliceCache) -> Views {
    cache
        .ports()
        .map(|(key, port)| (key.clone(), port.iter().map(|e| (e.name().to_string(), e.clone())).collect()))
        .collect()
}

fn follow(views: &mut Views, changes: &ViewChanges) {
    for change in &changes.ports {
        let view = views.entry(change.key.clone()).or_default();
        for endpoint in &change.removed {
            let removed = view.remove(endpoint.name().as_str());
            assert_eq!(removed.as_ref(), Some(endpoint), "what is removed was there as it was");
        }
        for endpoint in &change.upserted {
            let before = view.insert(endpoint.name().to_string(), endpoint.clone());
            assert_ne!(before.as_ref(), Some(endpoint), "what is upserted differs from before");
        }
        if view.is_empty() {
            views.remove(&change.key);
        }
    }
}

/// What `CategorizeEndpoints` of kube-proxy answers, computed in passes over the endpoints.
#[derive(Debug, PartialEq)]
struct Naive {
    cluster: BTreeSet<String>,
    local: BTreeSet<String>,
    reachable: BTreeSet<String>,
    any: bool,
    scope: Scope,
}

fn naive(port: &PortEndpoints, policy: PortPolicy, node: &str, zone: &str) -> Naive {
    let all: Vec<&Endpoint> = port.iter().collect();
    let ready: Vec<&&Endpoint> = all.iter().filter(|e| e.state().ready).collect();
    let falls_back = |e: &Endpoint| e.state().serving && e.state().terminating;
    let on_node = |e: &Endpoint| !node.is_empty() && e.info().node.as_deref() == Some(node);
    let for_node = |e: &Endpoint| e.info().node_hints.iter().any(|h| h == node);
    let for_zone = |e: &Endpoint| e.info().zone_hints.iter().any(|h| h == zone);
    let scope = if ready.is_empty() {
        Scope::Everywhere
    } else if ready.iter().all(|e| !e.info().node_hints.is_empty()) && ready.iter().any(|e| for_node(e)) {
        Scope::SameNode
    } else if ready.iter().all(|e| !e.info().zone_hints.is_empty()) && ready.iter().any(|e| for_zone(e)) {
        Scope::SameZone
    } else {
        Scope::Everywhere
    };
    let names = |pick: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<String> {
        all.iter().filter(|e| pick(e)).map(|e| e.name().to_string()).collect()
    };
    let external = policy.exposure == Exposure::External;
    let mut cluster = BTreeSet::new();
    if policy.internal == Policy::Cluster || external {
        cluster = names(&|e| {
            e.state().ready
                && match scope {
                    Scope::SameNode => for_node(e),
                    Scope::SameZone => for_zone(e),
                    Scope::Everywhere => true,
                }
        });
        if cluster.is_empty() {
            cluster = names(&falls_back);
        }
    }
    let mut local = BTreeSet::new();
    if policy.internal == Policy::Local || (policy.external == Policy::Local && external) {
        local = names(&|e| on_node(e) && e.state().ready);
        if local.is_empty() {
            local = names(&|e| on_node(e) && falls_back(e));
        }
    }
    let any = all.iter().any(|e| e.state().ready || falls_back(e));
    Naive { reachable: cluster.union(&local).cloned().collect(), cluster, local, any, scope }
}

proptest! {
    #[test]
    fn incremental_equals_whole(events in events()) {
        let mut cache = SliceCache::new();
        let mut slices = BTreeMap::new();
        let mut followed = Views::new();
        for event in events {
            let changes = match event {
                Event::Apply(slice) => {
                    let changes = cache.apply(&slice);
                    slices.insert(slice.metadata.object_ref(), *slice);
                    changes
                }
                Event::Remove(key) => {
                    slices.remove(&key);
                    cache.remove(&key)
                }
                Event::ReplaceAll(all) => {
                    slices = all.iter().map(|s| (s.metadata.object_ref(), s.clone())).collect();
                    cache.replace_all(&all)
                }
            };
            follow(&mut followed, &changes);
            let mut whole = SliceCache::new();
            let _ = whole.replace_all(slices.values().rev());
            prop_assert_eq!(&cache, &whole);
            prop_assert_eq!(&followed, &views(&whole));
        }
    }

    #[test]
    fn applying_again_changes_nothing(slice in slice()) {
        let mut cache = SliceCache::new();
        let _ = cache.apply(&slice);
        prop_assert!(cache.apply(&slice).is_empty());
    }

    #[test]
    fn selection_agrees_with_the_plain_rules(
        slices in proptest::collection::vec(slice(), 1..4),
        internal in prop_oneof![Just(Policy::Cluster), Just(Policy::Local)],
        external in prop_oneof![Just(Policy::Cluster), Just(Policy::Local)],
        exposure in prop_oneof![Just(Exposure::Internal), Just(Exposure::External)],
        node in prop_oneof![1 => Just(String::new()), 6 => name("node-", 3)],
        zone in prop_oneof![1 => Just(String::new()), 6 => name("zone-", 3)],
    ) {
        let mut cache = SliceCache::new();
        let _ = cache.replace_all(&slices);
        let policy = PortPolicy { internal, external, exposure };
        let viewpoint = Viewpoint::node(node.as_str()).in_zone(zone.as_str());
        for (_, port) in cache.ports() {
            let expected = naive(port, policy, &node, &zone);
            let selection = port.select(policy, &viewpoint);
            let got = Naive {
                cluster: selection.cluster().map(|e| e.name().to_string()).collect(),
                local: selection.local().map(|e| e.name().to_string()).collect(),
                reachable: selection.reachable().map(|e| e.name().to_string()).collect(),
                any: selection.any_in_cluster(),
                scope: selection.topology().scope,
            };
            prop_assert_eq!(&got, &expected);
            let frontend = |policy| match policy {
                _ if !expected.any => Err(NoEndpoints::Anywhere),
                Policy::Local if expected.local.is_empty() => Err(NoEndpoints::OnThisNode),
                policy => Ok(policy),
            };
            prop_assert_eq!(selection.internal(), frontend(internal));
            let outside = (exposure == Exposure::External).then(|| frontend(external));
            prop_assert_eq!(selection.external(), outside);
        }
    }
}
