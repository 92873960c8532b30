//! The object readers: never panic, write what they read, and hand anything they read to defaulting, validation and
//! allocation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_model::allocation::{ClusterIpAllocator, ClusterIpRange, NodePortAllocator, NodePortRange};
use svc_model::registry::{Mode, ServiceRegistry};
use svc_model::{Compat, IpFamily, Object};

fuzz_target!(|text: &str| {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return };
    let kind = value.get("kind").and_then(|kind| kind.as_str()).unwrap_or("Service");
    let Some(Ok(mut object)) = Object::from_kind(kind, &value) else { return };

    let written = serde_json::to_value(&object).expect("objects are writable");
    let again = Object::from_kind(kind, &written).expect("the kind is known").expect("what was written");
    assert_eq!(again, object);

    let compat = Compat::V1_36;
    let _ = match &mut object {
        Object::Service(service) => {
            service.set_defaults();
            let mut registry = registry(compat);
            let empty = registry.clone();
            if registry.create(service.clone(), Mode::Persist, &mut |_| 0).is_err() {
                assert_eq!(registry, empty);
            }
            let _ = registry.update(service.clone(), service, Mode::Persist, &mut |_| 0);
            registry.delete(service, Mode::Persist);
            let _ = registry.adopt(service);
            let _ = service.validate_create(compat);
            let _ = service.validate_status_update(service, compat);
            service.validate_update(service, compat)
        }
        Object::NetworkPolicy(policy) => {
            policy.set_defaults();
            let _ = policy.validate_create(compat);
            policy.validate_update(policy, compat)
        }
        Object::EndpointSlice(slice) => {
            slice.set_defaults();
            slice.validate_create(compat)
        }
        Object::Endpoints(endpoints) => {
            endpoints.set_defaults();
            endpoints.validate_create(compat)
        }
        Object::ClusterNetworkPolicy(policy) => policy.validate_create(),
        Object::AdminNetworkPolicy(policy) => policy.validate_create(),
        Object::BaselineAdminNetworkPolicy(policy) => policy.validate_create(),
        _ => Ok(()),
    };
});

fn registry(compat: Compat) -> ServiceRegistry {
    let allocator = |family, net: &str| {
        let range = ClusterIpRange::new(net.parse().expect("a network")).expect("a range");
        let mut allocator = ClusterIpAllocator::new(family);
        allocator.add_range(range).expect("the right family");
        allocator
    };
    ServiceRegistry::new(
        allocator(IpFamily::Ipv4, "10.0.0.0/24"),
        Some(allocator(IpFamily::Ipv6, "fd00::/120")),
        NodePortAllocator::new(NodePortRange::default()),
        compat,
    )
}
