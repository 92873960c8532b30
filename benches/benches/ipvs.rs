//! Generating what IPVS mode needs: N Services (one TCP port, ClusterIP) with 10 endpoints each, as kube-proxy was
//! measured.
//!
//! `full` is a whole sync, all texts included; `change` is one endpoint replaced by another, from the slice event to the
//! texts, with the server that drains deleted. Sizes of the texts are printed once for each N.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_benches::uniform;
use svc_endpoints::view::SliceCache;
use svc_model::IpFamily;
use svc_rules::ipvs::{Input, Proxy, Scope};
use svc_rules::{LocalDetector, ProxyConfig};

const SIZES: [usize; 3] = [1_000, 10_000, 50_000];
const ENDPOINTS: usize = 10;

fn proxy() -> Proxy {
    let mut config = ProxyConfig::new(IpFamily::Ipv4, "node-7");
    config.local_detector = LocalDetector::Cidr("10.0.0.0/8".parse().expect("a range"));
    Proxy::new(config)
}

/// Syncs, and returns the size of all texts.
fn sync(proxy: &mut Proxy, slices: &SliceCache, scope: Scope, out: &mut Input) -> usize {
    out.clear();
    let sync = proxy.sync(slices, scope, out);
    assert_eq!(sync.scope, scope);
    proxy.succeeded();
    let _ = proxy.drain(Duration::ZERO, |_, _| 0, &mut out.servers);
    out.texts().iter().map(|(_, text)| text.len()).sum()
}

fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("ipvs");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for size in SIZES {
        let mut slices = SliceCache::new();
        let mut proxy = proxy();
        let mut out = Input::default();
        for at in 0..size {
            proxy.touch(&slices.apply(&uniform::slice(at, ENDPOINTS, 0)));
            let _ = proxy.apply(&uniform::service(at));
        }
        let full = sync(&mut proxy, &slices, Scope::Full, &mut out);
        let states = [uniform::slice(size / 2, ENDPOINTS, 0), uniform::slice(size / 2, ENDPOINTS, 1)];
        let mut round = 0;
        let mut change = |proxy: &mut Proxy, slices: &mut SliceCache, out: &mut Input| {
            round += 1;
            proxy.touch(&slices.apply(&states[round % 2]));
            sync(proxy, slices, Scope::Changes, out)
        };
        let one = change(&mut proxy, &mut slices, &mut out);
        println!("{size} Services: texts full {full} B, change {one} B");

        group.throughput(Throughput::Bytes(full as u64));
        group.bench_function(BenchmarkId::new("full", size), |b| {
            b.iter(|| sync(&mut proxy, &slices, Scope::Full, black_box(&mut out)));
        });
        group.throughput(Throughput::Bytes(one as u64));
        group.bench_function(BenchmarkId::new("change", size), |b| {
            b.iter(|| change(&mut proxy, &mut slices, black_box(&mut out)));
        });
    }
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
