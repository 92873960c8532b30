//! Generating a node's rules: N Services (one TCP port, ClusterIP) with 10 endpoints each, as kube-proxy was measured.
//!
//! `full` and `partial` are whole syncs, text included; `delta` is one endpoint replaced by another, from the slice
//! event to the text. Sizes of the texts and memory are printed once for each N.

use std::fs;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_benches::uniform;
use svc_endpoints::view::SliceCache;
use svc_model::IpFamily;
use svc_rules::iptables::{Mode, Proxy, StaleChains};
use svc_rules::{LocalDetector, ProxyConfig};

const SIZES: [usize; 4] = [1_000, 5_000, 10_000, 50_000];
const ENDPOINTS: usize = 10;

fn proxy() -> Proxy {
    let mut config = ProxyConfig::new(IpFamily::Ipv4, "node-7");
    config.local_detector = LocalDetector::Cidr("10.0.0.0/8".parse().expect("a range"));
    Proxy::new(config)
}

fn sync(proxy: &mut Proxy, slices: &SliceCache, mode: Mode, out: &mut Vec<u8>) {
    out.clear();
    let sync = proxy.sync(slices, mode, StaleChains::Delete, out);
    assert_eq!(sync.mode, mode);
    proxy.succeeded();
}

/// Resident bytes of this process, where the system tells.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("iptables");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for size in SIZES {
        let services: Vec<_> = (0..size).map(uniform::service).collect();
        let mut slices = SliceCache::new();
        let mut proxy = proxy();
        let mut out = Vec::with_capacity(size * 4096);
        for at in 0..size {
            proxy.touch(&slices.apply(&uniform::slice(at, ENDPOINTS, 0)));
        }
        out.resize(out.capacity(), 1);
        let before = resident();
        services.iter().for_each(|service| _ = proxy.apply(service));
        sync(&mut proxy, &slices, Mode::Full, &mut out);
        let held = resident().saturating_sub(before);
        let full = out.len();
        let states = [uniform::slice(size / 2, ENDPOINTS, 0), uniform::slice(size / 2, ENDPOINTS, 1)];
        let mut round = 0;
        let mut one = |proxy: &mut Proxy, slices: &mut SliceCache, mode: Mode, out: &mut Vec<u8>| {
            round += 1;
            proxy.touch(&slices.apply(&states[round % 2]));
            sync(proxy, slices, mode, out);
            out.len()
        };
        let partial = one(&mut proxy, &mut slices, Mode::Partial, &mut out);
        let delta = one(&mut proxy, &mut slices, Mode::Delta, &mut out);
        println!("{size} Services: text full {full} B, partial {partial} B, delta {delta} B; held {held} B");

        group.throughput(Throughput::Bytes(full as u64));
        group.bench_function(BenchmarkId::new("full", size), |b| {
            b.iter(|| sync(&mut proxy, &slices, Mode::Full, black_box(&mut out)));
        });
        group.throughput(Throughput::Bytes(partial as u64));
        group.bench_function(BenchmarkId::new("partial", size), |b| {
            b.iter(|| one(&mut proxy, &mut slices, Mode::Partial, black_box(&mut out)));
        });
        group.throughput(Throughput::Bytes(delta as u64));
        group.bench_function(BenchmarkId::new("delta", size), |b| {
            b.iter(|| one(&mut proxy, &mut slices, Mode::Delta, black_box(&mut out)));
        });
    }
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
