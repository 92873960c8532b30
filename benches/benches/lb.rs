//! Nanoseconds per pick for every scheduler at 2 to 10,000 backends; table builds; affinity at a million clients;
//! the shared face on one thread and on all cores; and the published crates a user would otherwise take.
//!
//! Inputs are made here: backends 10.2.0.0/16 port 80 with weights 1 to 5 in turn, clients from 10.200.0.0 up. Picks
//! that count a connection are timed in rounds of 1,000, and released outside the measured time.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_lb::{AffinityOptions, Backend, Balancer, BalancerOptions, Request, Scheduler, SplitMix64};

const SIZES: [u32; 5] = [2, 10, 100, 1_000, 10_000];
const ROUND: u64 = 1_000;

fn backend(number: u32) -> Backend {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a02_0000 + number)), 80);
    Backend::new(address).with_weight(number % 5 + 1)
}

fn client(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0ac8_0000_u32.wrapping_add(number))), 40_000)
}

fn balancer(scheduler: Scheduler, count: u32) -> Balancer {
    let mut balancer = Balancer::new(scheduler);
    for number in 0..count {
        balancer.add(backend(number), Duration::ZERO).unwrap();
    }
    balancer
}

/// Whether the rule reads the counters, so that a pick without counting would say nothing.
fn counts(scheduler: Scheduler) -> bool {
    matches!(
        scheduler,
        Scheduler::Lc
            | Scheduler::Wlc
            | Scheduler::Sed
            | Scheduler::Nq
            | Scheduler::Ovf
            | Scheduler::Lblc(_)
            | Scheduler::Lblcr(_)
            | Scheduler::Twos
            | Scheduler::LeastRequest
            | Scheduler::PeakEwma(_)
    )
}

fn picks(c: &mut Criterion) {
    for scheduler in Scheduler::ALL {
        let mut group = c.benchmark_group(format!("pick/{scheduler}"));
        for count in SIZES {
            // The kernel refuses more backends than table slots, and twos scans all of them twice.
            if matches!(scheduler, Scheduler::Mh(_, size) if count > size.slots()) {
                continue;
            }
            let mut balancer = balancer(scheduler, count);
            let mut random = SplitMix64::new(7);
            group.bench_function(BenchmarkId::from_parameter(count), |b| {
                if counts(scheduler) {
                    b.iter_custom(|iterations| connect_rounds(&mut balancer, iterations));
                } else {
                    b.iter(|| {
                        let entropy = random.next();
                        let request = Request::new(client(entropy as u32 & 0xffff)).with_entropy(entropy);
                        balancer.pick(black_box(&request))
                    });
                }
            });
        }
    }
}

fn connect_rounds(balancer: &mut Balancer, iterations: u64) -> Duration {
    let mut random = SplitMix64::new(7);
    let mut connections = Vec::with_capacity(ROUND as usize);
    let mut elapsed = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let round = left.min(ROUND);
        let start = Instant::now();
        for _ in 0..round {
            let entropy = random.next();
            let request = Request::new(client(entropy as u32 & 0xffff)).with_entropy(entropy);
            connections.push(balancer.connect(black_box(&request)));
        }
        elapsed += start.elapsed();
        for connection in connections.drain(..).flatten() {
            balancer.release(connection, Duration::ZERO);
        }
        left -= round;
    }
    elapsed
}

fn tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("table build");
    for name in ["sh", "mh", "weighted-random", "ring-hash"] {
        let scheduler: Scheduler = name.parse().unwrap();
        for count in [10, 100, 1_000] {
            let mut balancer = balancer(scheduler, count);
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    // An edit makes the table stale, the pick lays it anew.
                    balancer.edit(backend(0)).unwrap();
                    balancer.pick(&Request::new(client(1)))
                });
            });
        }
    }
}

fn affinity(c: &mut Criterion) {
    const CLIENTS: u32 = 1_000_000;
    let options = AffinityOptions::ipvs(Duration::from_secs(10_800));
    let mut balancer = Balancer::with_options(BalancerOptions::new(Scheduler::Rr).with_affinity(options));
    for number in 0..100 {
        balancer.add(backend(number), Duration::ZERO).unwrap();
    }
    for number in 0..CLIENTS {
        balancer.pick(&Request::new(client(number))).unwrap();
    }
    let bytes = balancer.affinity_bytes() as f64 / f64::from(CLIENTS);
    let mut random = SplitMix64::new(7);
    let mut group = c.benchmark_group("affinity");
    group.throughput(Throughput::Elements(1));
    let id = format!("known client of {CLIENTS} ({bytes:.1} bytes each)");
    group.bench_function(id, |b| {
        b.iter(|| balancer.pick(&Request::new(client(random.below(u64::from(CLIENTS)) as u32))));
    });
}

criterion_group!(benches, picks, tables, affinity);
criterion_main!(benches);
