//! Generating a node's nftables tables in both layouts: N Services (one TCP port, ClusterIP) with 10 endpoints each, as
//! kube-proxy was measured.
//!
//! `full` is a whole sync by a proxy that starts anew, from Services and slices to the text; `change` is one endpoint
//! replaced by another, from the slice event to the text. Sizes of the texts and memory are printed once for each N.

use std::fs;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_benches::uniform;
use svc_endpoints::view::SliceCache;
use svc_model::{IpFamily, Service};
use svc_rules::nftables::{Layout, Proxy, Scope};
use svc_rules::{LocalDetector, ProxyConfig};

const SIZES: [usize; 4] = [1_000, 5_000, 10_000, 50_000];
const ENDPOINTS: usize = 10;

fn proxy(layout: Layout, services: &[Service]) -> Proxy {
    let mut config = ProxyConfig::new(IpFamily::Ipv4, "node-7");
    config.local_detector = LocalDetector::Cidr("10.0.0.0/8".parse().expect("a range"));
    let mut proxy = Proxy::with_layout(config, layout);
    services.iter().for_each(|service| _ = proxy.apply(service));
    proxy
}

fn sync(proxy: &mut Proxy, slices: &SliceCache, scope: Scope, out: &mut String) {
    out.clear();
    let sync = proxy.sync(slices, scope, out);
    assert_eq!(sync.scope, scope);
    proxy.succeeded();
}

/// Resident bytes of this process, where the system tells.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

fn layouts(c: &mut Criterion) {
    for (name, layout) in [("nftables/reference", Layout::Reference), ("nftables/flat", Layout::Flat)] {
        let mut group = c.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        for size in SIZES {
            let services: Vec<_> = (0..size).map(uniform::service).collect();
            let mut slices = SliceCache::new();
            for at in 0..size {
                let _ = slices.apply(&uniform::slice(at, ENDPOINTS, 0));
            }
            let mut out = String::with_capacity(size * 1024);
            let before = resident();
            let mut held = proxy(layout, &services);
            sync(&mut held, &slices, Scope::Full, &mut out);
            let memory = resident().saturating_sub(before);
            let full = out.len();
            let states = [0, 1].map(|round| uniform::slice(size / 2, ENDPOINTS, round));
            let mut round = 0;
            let mut change = |slices: &mut SliceCache, out: &mut String| {
                round += 1;
                held.touch(&slices.apply(&states[round % 2]));
                sync(&mut held, slices, Scope::Changes, out);
                out.len()
            };
            let small = change(&mut slices, &mut out);
            println!(
                "{name} {size} Services: text full {full} B, change {small} B; held with text {memory} B"
            );
            group.bench_function(BenchmarkId::new("change", size), |b| {
                b.iter(|| change(&mut slices, black_box(&mut out)));
            });
            group.throughput(Throughput::Bytes(full as u64));
            group.bench_function(BenchmarkId::new("full", size), |b| {
                b.iter_batched_ref(
                    || proxy(layout, &services),
                    |proxy| sync(proxy, &slices, Scope::Full, black_box(&mut out)),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, layouts);
criterion_main!(benches);
