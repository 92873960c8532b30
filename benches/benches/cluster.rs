//! The cluster state at the scalability limits of Kubernetes: 5,000 nodes, 150,000 Pods, 10,000 Services.
//!
//! Objects are read from JSON first, so that, as with objects from an API server, no two share any text.
//! Memory is what the allocator was asked for, counted around each step.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use serde::de::DeserializeOwned;
use svc_benches::generate::{Random, Shape};
use svc_model::{
    Cluster, Kind, Labels, Namespace, NetworkPolicy, Node, Object, ObjectKind, Pod, Service, Timestamp,
};

/// Counts the bytes that are allocated and not yet freed.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The objects of a cluster as they come from a reader.
fn read(shape: &Shape) -> Vec<Object> {
    let made = shape.generate();
    fn reread<T: serde::Serialize + DeserializeOwned>(objects: &[T]) -> Vec<T> {
        let text = |object: &T| serde_json::to_vec(object).expect("objects are writable");
        objects
            .iter()
            .map(|object| serde_json::from_slice(&text(object)).expect("what was written"))
            .collect()
    }
    let mut objects: Vec<Object> = Vec::new();
    objects.extend(reread(&made.nodes).into_iter().map(Object::from));
    objects.extend(reread(&made.namespaces).into_iter().map(Object::from));
    objects.extend(reread(&made.services).into_iter().map(Object::from));
    objects.extend(reread(&made.pods).into_iter().map(Object::from));
    objects.extend(reread(&made.policies).into_iter().map(Object::from));
    objects
}

fn load(objects: Vec<Object>) -> Cluster {
    let mut cluster = Cluster::default();
    let _ = cluster.replace_all(objects);
    cluster
}

/// Loads the objects, and prints what they took by themselves and what they take in the cluster with its indexes.
fn load_and_weigh(objects: Vec<Object>, before: usize) -> Cluster {
    let count = objects.len();
    // A vector of `Object` gives each the room of the largest kind; what counts is their own size.
    let room = objects.capacity() * size_of::<Object>();
    let own: usize = objects.iter().map(own_size).sum();
    let read = LIVE.load(Ordering::Relaxed) - before - room + own;
    let cluster = load(objects);
    let loaded = LIVE.load(Ordering::Relaxed) - before;
    println!("{count} objects: {} bytes each as read, {} in the cluster", read / count, loaded / count);
    cluster
}

fn own_size(object: &Object) -> usize {
    match object {
        Object::Pod(_) => size_of::<Pod>(),
        Object::Service(_) => size_of::<Service>(),
        Object::Node(_) => size_of::<Node>(),
        Object::Namespace(_) => size_of::<Namespace>(),
        _ => size_of::<NetworkPolicy>(),
    }
}

/// Changes that keep coming: Pods by chance, each with what changed.
struct Feed {
    pods: Vec<Pod>,
    random: Random,
    round: usize,
}

impl Feed {
    fn of(cluster: &Cluster) -> Self {
        let pods = cluster.pods().iter().filter(|pod| pod.is_ready()).map(|pod| (**pod).clone()).collect();
        Self { pods, random: Random::new(7), round: 0 }
    }

    fn next(&mut self, change: impl Fn(&mut Pod, usize)) -> Pod {
        self.round += 1;
        let mut pod = self.random.pick(&self.pods).clone();
        change(&mut pod, self.round);
        pod
    }
}

fn heartbeat(pod: &mut Pod, round: usize) {
    pod.metadata.resource_version = round.to_string().into();
}

/// The last transition is always another one, so that it is a change whatever the state was.
fn readiness(pod: &mut Pod, round: usize) {
    for condition in pod.status.conditions.iter_mut().filter(|condition| condition.condition_type == "Ready")
    {
        condition.status = "False".into();
        condition.last_transition_time = Timestamp::from_unix_nanoseconds(round as i128);
    }
}

fn new_label(pod: &mut Pod, round: usize) {
    pod.metadata.labels.insert("track", if round.is_multiple_of(2) { "canary" } else { "stable" });
}

/// A change of a Pod in a round.
type Change = fn(&mut Pod, usize);

fn changes(criterion: &mut Criterion, cluster: &mut Cluster) {
    let mut group = criterion.benchmark_group("cluster");
    let kinds: [(&str, Change); 3] =
        [("Pod heartbeat", heartbeat), ("Pod readiness", readiness), ("Pod label", new_label)];
    for (name, change) in kinds {
        let mut feed = Feed::of(cluster);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| feed.next(change), |pod| cluster.apply(pod), BatchSize::SmallInput);
        });
    }
    let mut feed = Feed::of(cluster);
    group.bench_function("Pod removed and added", |bencher| {
        bencher.iter_batched(
            || feed.next(heartbeat),
            |pod| (cluster.remove(ObjectKind::Pod, &pod.object_ref()), cluster.apply(pod)),
            BatchSize::SmallInput,
        );
    });
    let mut feed = Feed::of(cluster);
    let mut snapshot = cluster.clone();
    group.bench_function("Pod readiness after a snapshot", |bencher| {
        bencher.iter_batched(
            || feed.next(readiness),
            |pod| {
                snapshot = cluster.clone();
                cluster.apply(pod)
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("snapshot", |bencher| bencher.iter(|| cluster.clone()));
    group.finish();
}

fn questions(criterion: &mut Criterion, cluster: &Cluster) {
    let mut group = criterion.benchmark_group("cluster");
    let pods: Vec<_> = cluster.pods().iter().collect();
    let services: Vec<_> = cluster.services().iter().collect();
    let mut random = Random::new(11);
    group.bench_function("Services that select a Pod", |bencher| {
        bencher.iter(|| {
            let metadata = &random.pick(&pods).metadata;
            cluster.services_selecting(&metadata.namespace, &metadata.labels).len()
        });
    });
    // What the reference does for every Pod event: a match with each Service of the namespace.
    group.bench_function("Services that select a Pod, by a scan", |bencher| {
        bencher.iter(|| {
            let metadata = &random.pick(&pods).metadata;
            let services = cluster.services().in_namespace(&metadata.namespace);
            let selects = |labels: &Labels| metadata.labels.contains_all(labels);
            services.filter(|service| service.spec.selector.as_ref().is_some_and(selects)).count()
        });
    });
    group.bench_function("Pods that a Service selects", |bencher| {
        bencher.iter(|| cluster.pods_selected_by(random.pick::<&Arc<Service>>(&services)).len());
    });
    group.bench_function("owner of an address", |bencher| {
        bencher.iter(|| random.pick(&pods).addresses().map(|ip| cluster.owners_of(ip).len()).sum::<usize>());
    });
    group.finish();
}

fn bench(criterion: &mut Criterion) {
    let before = LIVE.load(Ordering::Relaxed);
    let objects = read(&Shape::limits());
    let mut group = criterion.benchmark_group("cluster");
    group.sample_size(10);
    group.bench_function("load the limits", |bencher| {
        bencher.iter_batched(|| objects.clone(), load, BatchSize::PerIteration);
    });
    group.finish();
    let mut cluster = load_and_weigh(objects, before);
    questions(criterion, &cluster);
    changes(criterion, &mut cluster);
}

criterion_group!(benches, bench);
criterion_main!(benches);
