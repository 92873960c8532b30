//! Nanoseconds per pick for every scheduler at 2 to 10,000 backends; table builds; affinity at a million clients;
//! the shared face on one thread and on all cores; and the published crates a user would otherwise take.
//!
//! Inputs are made here: backends 10.2.0.0/16 port 80 with weights 1 to 5 in turn, clients from 10.200.0.0 up, 16 virtual
//! addresses. Requests are made before the clock runs, and so are the keys that other crates hash; the random number that a
//! rule needs is drawn inside, for ours and for the others from the same generator. Picks that count a connection are timed
//! in rounds of 1,000, and released outside the measured time.

use std::future::Future;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::weighted::WeightedAliasIndex;
use svc_lb::{
    AffinityOptions, Backend, Balancer, BalancerOptions, Picker, Request, Scheduler, SharedBalancer,
    SplitMix64,
};
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PendingRequests};

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

/// Whether the rule draws, so that each request needs a random number of its own.
fn draws(scheduler: Scheduler) -> bool {
    matches!(
        scheduler,
        Scheduler::Twos
            | Scheduler::Random(_)
            | Scheduler::WeightedRandom
            | Scheduler::LeastRequest
            | Scheduler::PeakEwma(_)
    )
}

fn generator() -> SmallRng {
    SmallRng::seed_from_u64(7)
}

/// Clients in no order.
fn clients(count: usize) -> Vec<SocketAddr> {
    let mut rng = generator();
    (0..count).map(|_| client(rng.next_u32() & 0xffff)).collect()
}

fn requests(count: usize) -> Vec<Request> {
    let virtual_address = |number: u8| SocketAddr::from(([10, 1, 0, number % 16], 80));
    (0..)
        .zip(clients(count))
        .map(|(number, client)| Request::new(client).to(virtual_address(number as u8)))
        .collect()
}

/// How many requests are in turn, where they are not a round: few enough to stay in the first cache, as one that just came
/// in would.
const TURN: usize = 256;

fn picks(c: &mut Criterion) {
    for scheduler in Scheduler::ALL {
        let mut group = c.benchmark_group(format!("pick/{scheduler}"));
        for count in SIZES {
            // No more backends than table slots are taken.
            if matches!(scheduler, Scheduler::Mh(_, size) if count > size.slots()) {
                continue;
            }
            let mut balancer = balancer(scheduler, count);
            let (mut rng, draws) = (generator(), draws(scheduler));
            group.bench_function(BenchmarkId::from_parameter(count), |b| {
                if counts(scheduler) {
                    b.iter_custom(|iterations| connect_rounds(&mut balancer, draws, iterations));
                } else {
                    in_turn(b, &mut requests(TURN), |request| {
                        if draws {
                            request.entropy = rng.next_u64();
                        }
                        balancer.pick(request).map(|pick| pick.backend)
                    });
                }
            });
        }
    }
}

/// Times a pick for each of some requests, over and over. The clock is read once, and what is picked is looked at by nobody
/// but the optimizer: a pick takes a few nanoseconds, and so does anything else.
fn in_turn<T, P>(b: &mut Bencher<'_>, requests: &mut [T], mut pick: impl FnMut(&mut T) -> P) {
    b.iter_custom(|iterations| {
        let mut left = iterations as usize;
        let start = Instant::now();
        while left > 0 {
            let turn = left.min(requests.len());
            for request in &mut requests[..turn] {
                black_box(pick(request));
            }
            left -= turn;
        }
        start.elapsed()
    });
}

fn connect_rounds(balancer: &mut Balancer, draws: bool, iterations: u64) -> Duration {
    let mut rng = generator();
    let mut requests = requests(ROUND as usize);
    let mut connections = Vec::with_capacity(ROUND as usize);
    let mut elapsed = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let round = left.min(ROUND);
        let start = Instant::now();
        for request in &mut requests[..round as usize] {
            if draws {
                request.entropy = rng.next_u64();
            }
            connections.push(balancer.connect(request));
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
    let (mut random, mut request) = (SplitMix64::new(7), Request::new(client(0)));
    let mut group = c.benchmark_group("affinity");
    group.throughput(Throughput::Elements(1));
    let id = format!("known client of {CLIENTS} ({bytes:.1} bytes each)");
    group.bench_function(id, |b| {
        b.iter(|| {
            request.client = client(random.below(u64::from(CLIENTS)) as u32);
            balancer.pick(&request)
        });
    });
}

/// The shared face: what one thread pays, and what each pays when all cores pick at once; with the counting of the
/// connection and its end, and for the pick alone.
fn shared(c: &mut Criterion) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for name in ["rr", "random", "weighted-random", "least-request", "sh", "mh", "ring-hash", "wlc"] {
        let mut group = c.benchmark_group(format!("shared/{name}"));
        for count in [10, 1_000] {
            let balancer = SharedBalancer::new(name.parse().unwrap()).unwrap();
            let backends: Vec<Backend> = (0..count).map(backend).collect();
            balancer.publish(&backends).unwrap();
            for threads in [1, cores] {
                group.bench_function(BenchmarkId::new(format!("{threads} threads"), count), |b| {
                    let connect =
                        |picker: &mut Picker, request: &Request| drop(black_box(picker.connect(request)));
                    b.iter_custom(|iterations| shared_rounds(&balancer, threads, iterations, connect));
                });
                group.bench_function(
                    BenchmarkId::new(format!("{threads} threads, pick alone"), count),
                    |b| {
                        let pick = |picker: &mut Picker, request: &Request| {
                            let _ = black_box(picker.pick(request));
                        };
                        b.iter_custom(|iterations| shared_rounds(&balancer, threads, iterations, pick));
                    },
                );
            }
        }
    }
}

/// The time one thread takes for its picks while the others make as many.
fn shared_rounds(
    balancer: &SharedBalancer,
    threads: usize,
    iterations: u64,
    once: impl Fn(&mut Picker, &Request) + Copy + Send + Sync,
) -> Duration {
    let together = Barrier::new(threads);
    std::thread::scope(|scope| {
        let run = |seed| {
            let mut picker = balancer.picker();
            let together = &together;
            move || {
                let (mut random, mut requests) = (SmallRng::seed_from_u64(seed), requests(TURN));
                together.wait();
                let start = Instant::now();
                for turn in 0..iterations {
                    let request = &mut requests[turn as usize % TURN];
                    request.entropy = random.next_u64();
                    once(&mut picker, request);
                }
                start.elapsed()
            }
        };
        let workers: Vec<_> = (0..threads as u64).map(|seed| scope.spawn(run(seed))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap_or_default()
    })
}

/// Crates that a user would otherwise take, each at its own algorithm and by its own public call.
///
/// `pingora-load-balancing` is left out: it brings Pingora's whole HTTP and TLS stack into the build. Its
/// ring, `pingora-ketama`, is here.
fn peers(c: &mut Criterion) {
    let clients = clients(TURN);
    for count in SIZES {
        let weights = || (0..count).map(|number| backend(number).weight);
        let (mut rng, mut nothing) = (generator(), [(); TURN]);

        let index = WeightedIndex::new(weights()).unwrap();
        c.bench_function(&format!("peer/rand WeightedIndex/{count}"), |b| {
            in_turn(b, &mut nothing, |()| index.sample(&mut rng));
        });
        let alias = WeightedAliasIndex::new(weights().collect()).unwrap();
        c.bench_function(&format!("peer/rand_distr WeightedAliasIndex/{count}"), |b| {
            in_turn(b, &mut nothing, |()| alias.sample(&mut rng));
        });

        if count <= 1_000 {
            let addresses = (0..count).map(|number| backend(number).address);
            let table = maglev::Maglev::with_capacity(addresses.clone(), 4093);
            let mut keys: Vec<IpAddr> = clients.iter().map(SocketAddr::ip).collect();
            c.bench_function(&format!("peer/maglev/{count}"), |b| {
                in_turn(b, &mut keys, |key| *maglev::ConsistentHasher::get(&table, key).unwrap());
            });
            c.bench_function(&format!("peer/maglev table build/{count}"), |b| {
                b.iter(|| maglev::Maglev::with_capacity(addresses.clone(), 4093));
            });
        }

        let buckets: Vec<_> = (0..count)
            .map(backend)
            .map(|backend| pingora_ketama::Bucket::new(backend.address, backend.weight))
            .collect();
        let ring = pingora_ketama::Continuum::new(&buckets);
        let octets = |client: &SocketAddr| match client.ip() {
            IpAddr::V4(client) => client.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        let mut keys: Vec<[u8; 4]> = clients.iter().map(octets).collect();
        c.bench_function(&format!("peer/pingora-ketama/{count}"), |b| {
            in_turn(b, &mut keys, |key| ring.node(key));
        });

        let mut balance = tower_balance(count);
        let mut context = Context::from_waker(Waker::noop());
        c.bench_function(&format!("peer/tower p2c/{count}"), |b| {
            b.iter(|| {
                let ready = Service::<()>::poll_ready(&mut balance, &mut context);
                assert!(ready.is_ready());
                // The service answers at once, so that the pick is all there is to time.
                let mut answer = std::pin::pin!(balance.call(()));
                answer.as_mut().poll(&mut context)
            });
        });
    }
}

/// A backend that is always ready and answers at once.
#[derive(Clone)]
struct Instantly;

impl Service<()> for Instantly {
    type Response = ();
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<(), Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

type Loaded = PendingRequests<Instantly>;

fn tower_balance(count: u32) -> Balance<ServiceList<Vec<Loaded>>, ()> {
    let services =
        (0..count).map(|_| PendingRequests::new(Instantly, CompleteOnResponse::default())).collect();
    Balance::new(ServiceList::new::<()>(services))
}

criterion_group!(benches, picks, tables, affinity, shared, peers);
criterion_main!(benches);
