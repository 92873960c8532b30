//! Services as the API server would store them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::name::{mix, seed};
use super::{Plan, PlanOptions};
use crate::allocation::{ClusterIpAllocator, ClusterIpRange, NodePortAllocator};
use crate::object::*;
use crate::registry::{Mode, ServiceRegistry};
use crate::{Cluster, Sent};

/// Creates every Service that is not what the server would have stored: those that ask for certain values first, then
/// by namespace and name.
pub(super) fn plan_services(cluster: &Cluster, options: &PlanOptions, plan: &mut Plan) {
    let mut registry = registry(cluster, options);
    let (stored, mut sent): (Vec<&Arc<Service>>, Vec<_>) =
        cluster.services().iter().partition(|service| is_stored(&service.spec));
    for service in stored {
        // Whatever it has, it has: what lies in other ranges than ours is in nobody's way.
        let _ = registry.adopt(service);
    }
    sent.sort_by_key(|service| !asks_for_values(&service.spec));
    for service in sent {
        let mut wanted = (**service).clone();
        wanted.set_defaults();
        let name = service.object_ref();
        // The first pick follows from the name alone, so that a Service keeps its address whatever comes beside it.
        let mut state = seed(format_args!("{name}"));
        let mut entropy = |_| {
            state = mix(state.wrapping_add(1));
            state
        };
        match registry.create(wanted, Mode::Persist, &mut entropy) {
            Ok(created) if created == **service => {}
            Ok(created) => plan.objects.push(created.into()),
            Err(error) => plan.shortfall(ObjectKind::Service, name, error.into()),
        }
    }
}

fn registry(cluster: &Cluster, options: &PlanOptions) -> ServiceRegistry {
    let objects = || cluster.service_cidrs().iter().map(Arc::as_ref);
    let given = |family| {
        if !cluster.service_cidrs().is_empty() {
            return ClusterIpAllocator::from_service_cidrs(family, objects());
        }
        let mut allocator = ClusterIpAllocator::new(family);
        for range in &options.service_ranges {
            if IpFamily::of(range.addr()) == family
                && let Ok(range) = ClusterIpRange::new(*range)
            {
                // A range that is there already adds nothing.
                let _ = allocator.add_range(range);
            }
        }
        allocator
    };
    // The first range of the ServiceCIDR named `kubernetes` is of the family that the API server was started with.
    let default =
        cluster.service_cidrs().get("", "kubernetes").and_then(|cidr| cidr.spec.cidrs.first()?.get());
    let first = default.or_else(|| options.service_ranges.first().copied());
    let primary = first.map_or(IpFamily::Ipv4, |range| IpFamily::of(range.addr()));
    let other = if primary == IpFamily::Ipv4 { IpFamily::Ipv6 } else { IpFamily::Ipv4 };
    let secondary = Some(given(other)).filter(|allocator| !allocator.ranges().is_empty());
    let node_ports = NodePortAllocator::new(options.node_ports);
    ServiceRegistry::new(given(primary), secondary, node_ports, options.compat)
}

/// True for a Service that an API server has written: families are filled in together with the addresses.
fn is_stored(spec: &ServiceSpec) -> bool {
    !spec.cluster_ips.is_empty() && !spec.ip_families.is_empty()
}

fn asks_for_values(spec: &ServiceSpec) -> bool {
    let addresses = spec.cluster_ips.iter().chain([&spec.cluster_ip]);
    addresses.filter_map(Sent::get).next().is_some()
        || spec.ports.iter().any(|port| !port.node_port.is_zero())
}
