//! Selectors and validation: parse a selector (one requirement, four), match it against the labels of a Pod (one key,
//! four requirements), validate a Service; and a random address of a crowded range.
//!
//! Allocations are counted around one run of each, and printed first.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use svc_model::allocation::{ClusterIpAllocator, ClusterIpRange};
use svc_model::{Compat, IpFamily, Labels, Selector, Service};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Times `run`, and tells how often it allocates.
fn bench<T>(criterion: &mut Criterion, name: &str, mut run: impl FnMut() -> T) {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let result = black_box(run());
    let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
    drop(result);
    println!("{name}: {count} allocations");
    criterion.bench_function(name, |b| b.iter(&mut run));
}

const ONE: &str = "app=web";
/// The kinds of requirements that a selector has most often.
const FOUR: &str = "app=web,environment in (production,qa),tier notin (backend),!canary";

fn selectors(criterion: &mut Criterion) {
    bench(criterion, "selector/parse/1", || black_box(ONE).parse::<Selector>());
    bench(criterion, "selector/parse/4", || black_box(FOUR).parse::<Selector>());

    let labels = Labels::from_iter([
        ("app", "web"),
        ("environment", "qa"),
        ("pod-template-hash", "6d4cf56db6"),
        ("tier", "frontend"),
        ("version", "v1"),
    ]);
    for (name, text) in [("1", ONE), ("4", FOUR)] {
        let Ok(selector) = text.parse::<Selector>() else { continue };
        bench(criterion, &format!("selector/match/{name}"), || {
            black_box(&selector).matches(black_box(&labels))
        });
        bench(criterion, &format!("selector/print/{name}"), || black_box(&selector).to_string());
    }
}

/// A Service with two named ports, as applied and defaulted.
const SERVICE: &str = r#"{
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web", "team": "front"}},
    "spec": {
        "selector": {"app": "web", "tier": "frontend"},
        "clusterIP": "10.96.12.7", "clusterIPs": ["10.96.12.7"],
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [
            {"name": "http", "port": 80, "targetPort": "http"},
            {"name": "https", "port": 443, "targetPort": 8443, "appProtocol": "kubernetes.io/h2c"}
        ]
    }
}"#;

fn validation(criterion: &mut Criterion) {
    let Ok(mut service) = serde_json::from_str::<Service>(SERVICE) else { return };
    service.set_defaults();
    bench(criterion, "service/validate", || black_box(&service).validate_create(Compat::V1_36));
    let mut bad = service.clone();
    bad.metadata.name = "Web".into();
    bench(criterion, "service/validate/one problem", || black_box(&bad).validate_create(Compat::V1_36));
    bench(criterion, "service/read", || serde_json::from_str::<Service>(black_box(SERVICE)));
}

/// A /12 of which every address but the last is taken, searched from the start of its dynamic band; and the same
/// range, empty.
fn allocation(criterion: &mut Criterion) {
    let Ok(net) = "10.0.0.0/12".parse() else { return };
    let Ok(range) = ClusterIpRange::new(net) else { return };
    let mut crowded = ClusterIpAllocator::new(IpFamily::Ipv4);
    let mut empty = ClusterIpAllocator::new(IpFamily::Ipv4);
    if crowded.add_range(range).is_err() || empty.add_range(range).is_err() {
        return;
    }
    for _ in 1..range.size() {
        let _ = crowded.allocate_next(&mut |_| 0);
    }
    for (name, allocator) in [("crowded", &mut crowded), ("empty", &mut empty)] {
        bench(criterion, &format!("cluster address/next/{name} /12"), || -> Option<IpAddr> {
            let ip = allocator.allocate_next(&mut |_| 0).ok()?;
            allocator.release(ip);
            Some(ip)
        });
    }
}

criterion_group!(benches, selectors, validation, allocation);
criterion_main!(benches);
