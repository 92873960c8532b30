//! Laws of allocators and of the registry, over random requests.
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

extern crate alloc;

use alloc::collections::BTreeSet;
use core::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use serde_json::json;
use svc_model::allocation::{
    AllocError, Band, ClusterIpAllocator, ClusterIpRange, NodePortAllocator, NodePortRange,
};
use svc_model::registry::{Deletion, Mode, ServiceRegistry};
use svc_model::{Compat, IpFamily, Service};

/// An allocator that is obviously right: a set, and a walk from the drawn place on, and round.
struct Naive {
    ranges: Vec<ClusterIpRange>,
    used: BTreeSet<IpAddr>,
}

impl Naive {
    fn addresses(range: &ClusterIpRange, band: Band) -> Vec<IpAddr> {
        range.net().hosts_and_ends().filter(|ip| range.band(*ip) == Some(band)).collect()
    }

    fn allocate(&mut self, ip: IpAddr) -> Result<(), &'static str> {
        match self.ranges.iter().any(|range| range.band(ip).is_some()) {
            false => Err("not-in-range"),
            true if self.used.insert(ip) => Ok(()),
            true => Err("allocated"),
        }
    }

    fn allocate_next(&mut self, draw: u64) -> Result<IpAddr, &'static str> {
        for range in &self.ranges {
            for band in [Band::Dynamic, Band::Static] {
                let addresses = Self::addresses(range, band);
                let start = usize::try_from(draw).unwrap() % addresses.len().max(1);
                let round = addresses.iter().skip(start).chain(addresses.iter().take(start));
                if let Some(ip) = round.copied().find(|ip| !self.used.contains(ip)) {
                    self.used.insert(ip);
                    return Ok(ip);
                }
            }
        }
        Err("full")
    }
}

trait AllAddresses {
    fn hosts_and_ends(&self) -> Box<dyn Iterator<Item = IpAddr>>;
}

impl AllAddresses for svc_model::IpNet {
    fn hosts_and_ends(&self) -> Box<dyn Iterator<Item = IpAddr>> {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_bits(),
            IpAddr::V6(_) => 0,
        };
        Box::new((bits(self.network())..=bits(self.broadcast())).map(|bits| Ipv4Addr::from_bits(bits).into()))
    }
}

fn kind<T>(result: Result<T, AllocError>) -> Result<T, &'static str> {
    result.map_err(|error| match error {
        AllocError::NotInRange { .. } => "not-in-range",
        AllocError::Allocated { .. } => "allocated",
        AllocError::Full { .. } => "full",
        _ => "other",
    })
}

#[derive(Debug, Clone)]
enum Op {
    Allocate(u8),
    Next(u64),
    Release(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        any::<u8>().prop_map(Op::Allocate),
        (0u64..300).prop_map(Op::Next),
        (0u64..300).prop_map(Op::Next),
        any::<u8>().prop_map(Op::Release),
    ]
}

proptest! {
    /// With ranges that may overlap, too.
    #[test]
    fn cluster_addresses_are_picked_as_the_naive_allocator_picks_them(
        prefixes in prop::collection::vec((24u8..=32, any::<u8>()), 1..4),
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let mut allocator = ClusterIpAllocator::new(IpFamily::Ipv4);
        for (prefix, last) in prefixes {
            let net = svc_model::IpNet::new(Ipv4Addr::new(10, 0, 0, last).into(), prefix).unwrap();
            allocator.add_range(ClusterIpRange::new(net).unwrap()).unwrap();
        }
        let mut naive = Naive { ranges: allocator.ranges().to_vec(), used: BTreeSet::new() };
        let address = |last| IpAddr::from([10, 0, 0, last]);
        for op in ops {
            match op {
                Op::Allocate(last) => {
                    prop_assert_eq!(kind(allocator.allocate(address(last))), naive.allocate(address(last)));
                }
                Op::Next(draw) => {
                    let got = kind(allocator.allocate_next(&mut |bound| draw % bound));
                    prop_assert_eq!(got, naive.allocate_next(draw));
                }
                Op::Release(last) => {
                    prop_assert_eq!(allocator.release(address(last)), naive.used.remove(&address(last)));
                }
            }
        }
        prop_assert!(allocator.iter().eq(naive.used.iter().copied()));
        prop_assert_eq!(allocator.used(), naive.used.len());
    }

    #[test]
    fn node_ports_are_given_once_and_all_of_them(
        first in 1u16..60_000,
        size in 1u16..300,
        draws in prop::collection::vec(any::<u64>(), 300),
    ) {
        let range = NodePortRange::new(first, first + (size - 1));
        let mut allocator = NodePortAllocator::new(range);
        let mut seen = BTreeSet::new();
        for (i, draw) in draws.into_iter().enumerate() {
            let full = i >= usize::from(size);
            match allocator.allocate_next(&mut |_| draw) {
                Ok(port) => {
                    prop_assert!(!full && seen.insert(port));
                    let dynamic_left = i < usize::try_from(range.size() - range.static_band()).unwrap();
                    let expected = if dynamic_left { Band::Dynamic } else { Band::Static };
                    prop_assert_eq!(range.band(port.into()), Some(expected));
                }
                Err(error) => {
                    prop_assert_eq!((full, kind::<u16>(Err(error))), (true, Err("full")));
                }
            }
        }
        prop_assert_eq!(allocator.free(), 0);
    }
}

fn registry() -> ServiceRegistry {
    let range = |family, net: &str| {
        let mut allocator = ClusterIpAllocator::new(family);
        allocator.add_range(ClusterIpRange::new(net.parse().unwrap()).unwrap()).unwrap();
        allocator
    };
    let ipv4 = range(IpFamily::Ipv4, "10.0.0.0/28");
    let ipv6 = range(IpFamily::Ipv6, "fd00::/124");
    let node_ports = NodePortAllocator::new(NodePortRange::new(30_000, 30_007));
    ServiceRegistry::new(ipv4, Some(ipv6), node_ports, Compat::V1_36)
}

/// Services as clients send them: most fit together, some are refused.
fn service() -> impl Strategy<Value = Service> {
    let port = (0u8..4, any::<bool>(), prop::option::weighted(0.4, 30_000..30_009i32));
    let families = prop_oneof![
        3 => Just(json!(null)),
        1 => Just(json!(["IPv4"])),
        1 => Just(json!(["IPv6"])),
        1 => Just(json!(["IPv6", "IPv4"])),
    ];
    let policy = prop_oneof![
        2 => Just(json!(null)),
        1 => Just(json!("SingleStack")),
        2 => Just(json!("PreferDualStack")),
        2 => Just(json!("RequireDualStack")),
    ];
    let address = prop_oneof![
        6 => Just(json!(null)),
        1 => Just(json!("None")),
        1 => Just(json!("10.0.0.3")),
        1 => Just(json!("10.0.0.99")),
        1 => Just(json!("fd00::2")),
    ];
    let kind = prop::sample::select(vec!["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
    let flags =
        (any::<bool>(), any::<bool>(), prop::option::of(30_000..30_009i32), prop::bool::weighted(0.1));
    (prop::collection::vec(port, 0..4), families, policy, address, kind, flags).prop_map(
        |(ports, families, policy, address, kind, (local, node_ports, health, unfit))| {
            let external = unfit || matches!(kind, "NodePort" | "LoadBalancer");
            let balanced = unfit || kind == "LoadBalancer";
            let addressed = unfit || kind != "ExternalName";
            let ports: Vec<_> = ports
                .iter()
                .map(|(i, udp, node_port)| {
                    let protocol = if *udp { "UDP" } else { "TCP" };
                    let node_port = node_port.filter(|_| external);
                    let name = format!("{}-{i}", protocol.to_lowercase());
                    json!({"name": name, "port": 80 + i, "protocol": protocol, "nodePort": node_port})
                })
                .collect();
            let mut service: Service = serde_json::from_value(json!({
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {
                    "type": kind, "selector": {"a": "b"}, "ports": ports,
                    "clusterIP": Some(address).filter(|_| addressed),
                    "ipFamilies": Some(families).filter(|_| addressed),
                    "ipFamilyPolicy": Some(policy).filter(|_| addressed),
                    "externalTrafficPolicy": (external && local).then_some("Local"),
                    "allocateLoadBalancerNodePorts": balanced.then_some(node_ports),
                    "healthCheckNodePort": health.filter(|_| balanced && local),
                    "externalName": (kind == "ExternalName").then_some("example.com"),
                },
            }))
            .unwrap();
            service.set_defaults();
            service
        },
    )
}

proptest! {
    #[test]
    fn a_refused_request_and_a_dry_run_change_nothing(
        services in prop::collection::vec(service(), 1..8),
        change in service(),
    ) {
        let mut registry = registry();
        let mut stored: Option<Service> = None;
        for service in services {
            let before = registry.clone();
            let _ = registry.create(service.clone(), Mode::DryRun, &mut |_| 3);
            prop_assert_eq!(&registry, &before);
            match registry.create(service, Mode::Persist, &mut |_| 3) {
                Ok(service) => stored = Some(service),
                Err(_) => prop_assert_eq!(&registry, &before),
            }
        }
        if let Some(old) = stored {
            let before = registry.clone();
            let _ = registry.update(change.clone(), &old, Mode::DryRun, &mut |_| 3);
            prop_assert_eq!(&registry, &before);
            if registry.update(change, &old, Mode::Persist, &mut |_| 3).is_err() {
                prop_assert_eq!(&registry, &before);
            }
        }
    }

    #[test]
    fn what_a_service_holds_is_what_its_deletion_frees(
        services in prop::collection::vec(service(), 1..8),
        change in service(),
    ) {
        let mut registry = registry();
        let empty = registry.clone();
        let mut stored = Vec::new();
        for service in services {
            stored.extend(registry.create(service, Mode::Persist, &mut |_| 5));
        }
        if let Some(old) = stored.pop() {
            let new = registry.update(change, &old, Mode::Persist, &mut |_| 5).unwrap_or(old);
            stored.push(new);
        }
        // The allocators can be made anew from what is stored.
        let mut again = empty.clone();
        for service in &stored {
            prop_assert_eq!(again.adopt(service), Ok(()));
        }
        prop_assert_eq!(&again, &registry);
        for service in &stored {
            prop_assert_eq!(registry.delete(service, Mode::Persist), Deletion::Removed);
        }
        prop_assert_eq!(registry, empty);
    }

    #[test]
    fn the_same_manifest_again_changes_nothing(service in service()) {
        let mut registry = registry();
        if let Ok(stored) = registry.create(service.clone(), Mode::Persist, &mut |_| 1) {
            let before = registry.clone();
            let sent = service.spec.ip_families.len();
            // Where an entry shares the node port that another asked for, Kubernetes gives it one of its own
            // when the manifest is sent again: an update never shares.
            let asked: BTreeSet<_> = service.spec.ports.iter().map(|port| port.node_port.value()).collect();
            let mut entries = service.spec.ports.iter().zip(&stored.spec.ports);
            prop_assume!(!entries.any(|(sent, stored)| {
                sent.node_port.is_zero() && !stored.node_port.is_zero() && asked.contains(&stored.node_port.value())
            }));
            let again = registry.update(service, &stored, Mode::Persist, &mut |_| 1);
            // A manifest with one family, to which the server added another, looks like one that gives the
            // other up; Kubernetes refuses that.
            if sent == 0 || sent == stored.spec.ip_families.len() {
                prop_assert_eq!(again, Ok(stored));
            } else {
                prop_assert!(again.is_err());
            }
            prop_assert_eq!(registry, before);
        }
    }

    #[test]
    fn services_are_written_as_they_were_read(service in service()) {
        let text = serde_json::to_string(&service).unwrap();
        let again: Service = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&again, &service);
        prop_assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }
}
