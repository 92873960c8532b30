//! One Service at 100 to 100,000 endpoints: its slices from scratch, with nothing changed, with one Pod changed, with
//! another port; the same Pod event in the incremental engine; a selection from a node.
//!
//! Inputs are those of the recorded baseline (Go, Kubernetes v1.36.2 `Reconcile` with a stub client): 100 nodes in 3
//! zones, at most 100 endpoints a slice, a named port. Allocations, and the bytes that are held afterwards, are counted
//! once before the timings. `ENDPOINTS_SIZES=100,1000` picks sizes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_endpoints::engine::Engine;
use svc_endpoints::view::{Exposure, Policy};
use svc_endpoints::{Config, History, Nodes, PortPolicy, Reconciler, Viewpoint};
use svc_model::{
    Container, ContainerPort, EndpointSlice, IntOrString, IpFamily, Labels, Node, NodeCondition, ObjectMeta,
    Pod, PodCondition, PodIp, PodPhase, Port, Service, ServicePort, ZONE_LABEL,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn sizes() -> Vec<u32> {
    match std::env::var("ENDPOINTS_SIZES") {
        Ok(sizes) => sizes.split(',').filter_map(|size| size.trim().parse().ok()).collect(),
        Err(_) => vec![100, 1_000, 10_000, 100_000],
    }
}

fn node(number: u32) -> Node {
    let mut node = Node { metadata: ObjectMeta::new("", format!("node-{number}")), ..Node::default() };
    node.metadata.labels.insert(ZONE_LABEL, format!("zone-{}", number % 3));
    node.status.allocatable = Labels::from_iter([("cpu", "4")]);
    node.status.conditions = vec![NodeCondition {
        condition_type: "Ready".into(),
        status: "True".into(),
        ..NodeCondition::default()
    }];
    node
}

fn pod(number: u32, ready: bool) -> Pod {
    let mut pod = Pod { metadata: ObjectMeta::new("shop", format!("web-{number:06}")), ..Pod::default() };
    pod.metadata.uid = format!("00000000-0000-4000-8000-{number:012}").into();
    pod.metadata.labels = Labels::from_iter([("app", "web"), ("pod-template-hash", "6d4cf56db6")]);
    pod.spec.node_name = format!("node-{}", number % 100).into();
    let port =
        ContainerPort { name: "http".into(), container_port: Port::new(8080), ..ContainerPort::default() };
    pod.spec.containers = vec![Container { name: "web".into(), ports: vec![port], ..Container::default() }];
    pod.status.phase = PodPhase::Running.into();
    pod.status.conditions = vec![PodCondition {
        condition_type: "Ready".into(),
        status: if ready { "True" } else { "False" }.into(),
        ..PodCondition::default()
    }];
    let [_, high, middle, low] = number.to_be_bytes();
    pod.status.pod_ips = vec![PodIp { ip: std::net::IpAddr::from([10, high, middle, low]).into() }];
    pod
}

fn service(target: &str) -> Service {
    let mut service = Service { metadata: ObjectMeta::new("shop", "web"), ..Service::default() };
    service.metadata.uid = "11111111-0000-4000-8000-000000000000".into();
    service.spec.cluster_ip = "10.96.0.10".into();
    service.spec.ip_families = vec![IpFamily::Ipv4.into()];
    service.spec.selector = Some(Labels::from_iter([("app", "web")]));
    let target_port = match target.parse::<u16>() {
        Ok(number) => IntOrString::from(number),
        Err(_) => IntOrString::from(target),
    };
    service.spec.ports = vec![ServicePort {
        name: "http".into(),
        port: Port::new(80),
        target_port: Some(target_port),
        ..ServicePort::default()
    }];
    service
}

struct Input {
    service: Service,
    pods: Vec<Pod>,
    nodes: Nodes,
    slices: Vec<EndpointSlice>,
}

impl Input {
    fn new(size: u32) -> Self {
        let nodes: Vec<Node> = (0..100).map(node).collect();
        let pods = (0..size).map(|number| pod(number, true)).collect();
        let mut input =
            Self { service: service("http"), pods, nodes: nodes.iter().collect(), slices: Vec::new() };
        let mut number = 0;
        let plan = input.plan(&input.pods);
        input.slices = plan.apply_to([], |_| {
            number += 1;
            format!("web-{number:05}").into()
        });
        input
    }

    fn plan(&self, pods: &[Pod]) -> svc_endpoints::Plan {
        Reconciler::default().reconcile(
            &self.service,
            pods,
            &self.nodes,
            &self.slices,
            None,
            &mut History::default(),
        )
    }

    fn engine(&self) -> Engine {
        let mut engine = Engine::new(Config::default());
        for number in 0..100 {
            let _ = engine.apply_node(&node(number));
        }
        for pod in &self.pods {
            let _ = engine.apply_pod(pod);
        }
        let _ = engine.apply_service(&self.service);
        engine
    }
}

/// Runs `work`, and returns its result with allocations made, bytes allocated and bytes still held.
fn count<T>(work: impl FnOnce() -> T) -> (T, [usize; 3]) {
    let read = || [&ALLOCATIONS, &ALLOCATED, &HELD].map(|counter| counter.load(Ordering::Relaxed));
    let before = read();
    let result = work();
    let after = read();
    (result, [0, 1, 2].map(|index| after[index].saturating_sub(before[index])))
}

fn memory(size: u32) {
    let per = |value: usize| value as f64 / f64::from(size);
    let input = Input::new(size);
    let scratch = Input { slices: Vec::new(), ..Input::new(size) };
    let (plan, [allocations, bytes, held]) = count(|| scratch.plan(&scratch.pods));
    println!(
        "{size:>7} endpoints, from scratch: {allocations} allocations ({:.2} an endpoint), {bytes} bytes; \
         the slices hold {:.0} bytes an endpoint",
        per(allocations),
        per(held)
    );
    drop(plan);
    let (_, [allocations, bytes, _]) = count(|| input.plan(&input.pods));
    println!("{size:>7} endpoints, nothing changed: {allocations} allocations, {bytes} bytes");
    let mut pods = input.pods.clone();
    pods[0] = pod(0, false);
    let (_, [allocations, bytes, _]) = count(|| input.plan(&pods));
    println!("{size:>7} endpoints, one Pod changed: {allocations} allocations, {bytes} bytes");
    let (mut engine, [_, _, held]) = count(|| input.engine());
    let flipped = pod(0, false);
    let (_, [allocations, bytes, _]) = count(|| engine.apply_pod(&flipped));
    println!(
        "{size:>7} endpoints, engine: holds {:.0} bytes an endpoint (Pods, slices and views); one Pod changed: \
         {allocations} allocations, {bytes} bytes",
        per(held)
    );
}

fn endpoints(criterion: &mut Criterion) {
    for size in sizes() {
        memory(size);
    }
    let mut group = criterion.benchmark_group("endpoints");
    for size in sizes() {
        let mut input = Input::new(size);
        group.throughput(Throughput::Elements(size.into()));
        let slices = std::mem::take(&mut input.slices);
        group.bench_function(BenchmarkId::new("from scratch", size), |bencher| {
            bencher.iter_with_large_drop(|| black_box(&input).plan(&input.pods));
        });
        input.slices = slices;
        group.bench_function(BenchmarkId::new("nothing changed", size), |bencher| {
            bencher.iter_with_large_drop(|| black_box(&input).plan(&input.pods));
        });
        let mut pods = input.pods.clone();
        pods[0] = pod(0, false);
        group.bench_function(BenchmarkId::new("one Pod changed", size), |bencher| {
            bencher.iter_with_large_drop(|| black_box(&input).plan(&pods));
        });
        input.service = service("8081");
        group.bench_function(BenchmarkId::new("port changed", size), |bencher| {
            bencher.iter_with_large_drop(|| black_box(&input).plan(&input.pods));
        });
        input.service = service("http");
        group.throughput(Throughput::Elements(1));

        let mut engine = input.engine();
        let states = [pod(size / 2, false), pod(size / 2, true)];
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("engine: a Pod's readiness flips", size), |bencher| {
            bencher.iter(|| {
                turn += 1;
                engine.apply_pod(black_box(&states[turn % 2]))
            });
        });
        group.bench_function(BenchmarkId::new("engine: nothing changed", size), |bencher| {
            bencher.iter(|| engine.apply_pod(black_box(&states[turn % 2])));
        });
        let coming = pod(size, true);
        group.bench_function(BenchmarkId::new("engine: a Pod comes and goes", size), |bencher| {
            bencher.iter(|| {
                let added = engine.apply_pod(black_box(&coming));
                (added, engine.remove_pod(&coming.metadata.object_ref()))
            });
        });
        let viewpoint = Viewpoint::node("node-7").in_zone("zone-1");
        let policy =
            PortPolicy { internal: Policy::Cluster, external: Policy::Local, exposure: Exposure::External };
        if let Some((_, port)) = engine.view().ports().next() {
            group.bench_function(BenchmarkId::new("select from a node", size), |bencher| {
                bencher.iter(|| port.select(black_box(policy), &viewpoint).external());
            });
        }
        if size <= 10_000 {
            group.bench_function(BenchmarkId::new("engine: whole cluster read in", size), |bencher| {
                bencher.iter_batched(|| (), |()| input.engine(), BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, endpoints);
criterion_main!(benches);
