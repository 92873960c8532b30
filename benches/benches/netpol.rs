//! Policies: build, verdict with and without reason, the full matrix, and one change at a time.
//!
//! The cluster is made here: namespaces in 10 teams, 100 Pods each with 10 applications in 2 tiers, one address each.
//! Policies are spread over the namespaces in the mix of the cyclonus generator: Pod peers of the own namespace,
//! namespace peers, both, address blocks with an exception, everyone; one port a rule, one in eight by name; a quarter
//! selects the whole namespace; a third has egress too. Sizes are 100 policies in 10 namespaces and 1,000 and 10,000 in
//! 100 namespaces, as measured for cyclonus (1.8 ms, 42 ms and 0.71 s to build; 8, 43 and 126 us a verdict).

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_model::{
    Container, ContainerPort, IntOrString, IpBlock, IpFamily, LabelSelector, Labels, Namespace,
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    Object, ObjectMeta, Pod, PodIp, PolicyType, Port, SmolStr,
};
use svc_netpol::{Endpoint, Engine, Flow, Options, Traffic};

const SIZES: [(usize, usize); 3] = [(100, 10), (1_000, 100), (10_000, 100)];
const PODS: usize = 100;

fn meta(namespace: usize, name: String, labels: Labels) -> ObjectMeta {
    ObjectMeta { namespace: namespace_name(namespace), name: name.into(), labels, ..ObjectMeta::default() }
}

fn namespace_name(number: usize) -> SmolStr {
    format!("namespace-{number:03}").into()
}

fn selector(labels: &[(&str, String)]) -> LabelSelector {
    LabelSelector {
        match_labels: labels.iter().map(|(key, value)| (*key, value.as_str())).collect(),
        ..LabelSelector::default()
    }
}

fn app(number: usize) -> String {
    format!("app-{}", number % 10)
}

fn tier(number: usize) -> String {
    format!("tier-{}", number % 2)
}

fn team(number: usize) -> String {
    format!("team-{}", number % 10)
}

fn namespace(number: usize) -> Namespace {
    let labels = [("team", team(number))].into_iter().collect();
    Namespace {
        metadata: ObjectMeta { name: namespace_name(number), labels, ..ObjectMeta::default() },
        ..Namespace::default()
    }
}

fn address(namespace: usize, number: usize) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + (namespace * 256 + number) as u32).into()
}

fn pod(namespace: usize, number: usize) -> Pod {
    let labels = [("app", app(number)), ("tier", tier(number / 10))].into_iter().collect();
    let port =
        ContainerPort { name: "web".into(), container_port: Port::new(8080), ..ContainerPort::default() };
    let mut pod = Pod { metadata: meta(namespace, format!("pod-{number:03}"), labels), ..Pod::default() };
    pod.spec.containers.push(Container { name: "main".into(), ports: vec![port], ..Container::default() });
    pod.status.pod_ips.push(PodIp { ip: address(namespace, number).into() });
    pod
}

fn peer(number: usize) -> Option<NetworkPolicyPeer> {
    let pods = Some(selector(&[("app", app(number / 7))]));
    let namespaces = Some(selector(&[("team", team(number / 3))]));
    let block = IpBlock {
        cidr: format!("172.{}.{}.0/24", 16 + number % 16, number / 16 % 256).as_str().into(),
        except: vec![format!("172.{}.{}.128/25", 16 + number % 16, number / 16 % 256).as_str().into()],
    };
    let none = NetworkPolicyPeer::default;
    match number % 8 {
        0..3 => Some(NetworkPolicyPeer { pod_selector: pods, ..none() }),
        3 => Some(NetworkPolicyPeer { namespace_selector: namespaces, ..none() }),
        4 | 5 => Some(NetworkPolicyPeer { namespace_selector: namespaces, pod_selector: pods, ..none() }),
        6 => Some(NetworkPolicyPeer { ip_block: Some(block), ..none() }),
        _ => None,
    }
}

fn policy(number: usize, namespaces: usize) -> NetworkPolicy {
    let within = number / namespaces;
    let port = match number % 8 {
        5 => IntOrString::from("web"),
        _ => IntOrString::from(8000 + (number % 16) as u16),
    };
    let ports = vec![NetworkPolicyPort { port: Some(port), ..NetworkPolicyPort::default() }];
    let mut policy = NetworkPolicy {
        metadata: meta(number % namespaces, format!("policy-{within:04}"), Labels::default()),
        ..NetworkPolicy::default()
    };
    if !within.is_multiple_of(4) {
        policy.spec.pod_selector = selector(&[("app", app(within))]);
    }
    policy.spec.policy_types = vec![PolicyType::Ingress.into()];
    policy.spec.ingress =
        vec![NetworkPolicyIngressRule { from: peer(number).into_iter().collect(), ports: ports.clone() }];
    if number.is_multiple_of(3) {
        policy.spec.policy_types.push(PolicyType::Egress.into());
        policy.spec.egress =
            vec![NetworkPolicyEgressRule { to: peer(number + 1).into_iter().collect(), ports }];
    }
    policy
}

fn cluster(policies: usize, namespaces: usize) -> Vec<Object> {
    let mut objects: Vec<Object> = (0..namespaces).map(|n| namespace(n).into()).collect();
    objects.extend((0..namespaces).flat_map(|n| (0..PODS).map(move |number| pod(n, number).into())));
    objects.extend((0..policies).map(|number| policy(number, namespaces).into()));
    objects
}

fn engine(objects: &[Object]) -> Engine {
    let mut engine = Engine::new(Options::default());
    engine.apply_all(objects);
    engine
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("netpol/build");
    group.sample_size(10);
    for (policies, namespaces) in SIZES {
        let objects = cluster(policies, namespaces);
        group.bench_function(BenchmarkId::from_parameter(policies), |b| {
            b.iter(|| engine(black_box(&objects)))
        });
        let stats = engine(&objects).stats();
        eprintln!("{policies} policies: {stats:?}, {} bytes a Pod", stats.bytes / stats.pods);
    }
    group.finish();
}

fn verdict(c: &mut Criterion) {
    for (policies, namespaces) in SIZES {
        let engine = engine(&cluster(policies, namespaces));
        let refs: Vec<_> = engine.pods().into_iter().cloned().collect();
        // A walk through all Pods in an order without pattern, so that caches help as little as in real use.
        let pairs: Vec<(usize, usize)> =
            (0..4096).map(|i| (i * 7919 % refs.len(), i * 104_729 % refs.len())).collect();
        let outside: IpAddr = Ipv4Addr::new(172, 17, 3, 200).into();
        let mut group = c.benchmark_group("netpol/verdict");
        group.throughput(Throughput::Elements(pairs.len() as u64));
        let mut run = |name: &str, ask: &dyn Fn(Flow<'_>) -> usize, from_outside: bool| {
            group.bench_function(BenchmarkId::new(name, policies), |b| {
                b.iter(|| {
                    pairs
                        .iter()
                        .zip(0u16..)
                        .map(|((from, to), i)| {
                            let from = if from_outside {
                                Endpoint::Address(outside)
                            } else {
                                Endpoint::from(&refs[*from])
                            };
                            ask(Flow::new(from, &refs[*to], Traffic::Tcp(8000 + i % 16)))
                        })
                        .sum::<usize>()
                });
            });
        };
        run("pods", &|flow| engine.verdict(&flow) as usize, false);
        run("outside", &|flow| engine.verdict(&flow) as usize, true);
        run("with reasons", &|flow| engine.decide(&flow).verdict as usize, false);
        group.finish();
    }
}

fn matrix(c: &mut Criterion) {
    let mut group = c.benchmark_group("netpol/matrix");
    group.sample_size(10);
    for (policies, namespaces) in SIZES {
        let engine = engine(&cluster(policies, namespaces));
        let pairs = engine.matrix(IpFamily::Ipv4).pairs();
        group.throughput(Throughput::Elements(pairs as u64));
        group.bench_function(BenchmarkId::from_parameter(policies), |b| {
            b.iter(|| engine.matrix(IpFamily::Ipv4))
        });
    }
    group.finish();
}

fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("netpol/change");
    for (policies, namespaces) in SIZES {
        let mut engine = engine(&cluster(policies, namespaces));
        // A Pod that gets the labels of another application and back: both kinds stay in use.
        let versions = [
            pod(3, 42),
            Pod { metadata: meta(3, "pod-042".into(), pod(3, 43).metadata.labels), ..pod(3, 42) },
        ];
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("pod relabelled", policies), |b| {
            b.iter(|| {
                turn ^= 1;
                engine.apply_pod(black_box(&versions[turn]))
            });
        });
        let moved = [pod(3, 42), {
            let mut pod = pod(3, 42);
            pod.status.pod_ips = vec![PodIp { ip: address(3, 200).into() }];
            pod
        }];
        group.bench_function(BenchmarkId::new("pod address", policies), |b| {
            b.iter(|| {
                turn ^= 1;
                engine.apply_pod(black_box(&moved[turn]))
            });
        });
        let labelled = [pod(3, 42), {
            let mut pod = pod(3, 42);
            pod.metadata.labels.insert("app", "app-new");
            pod
        }];
        group.bench_function(BenchmarkId::new("pod with labels like no other", policies), |b| {
            b.iter(|| {
                turn ^= 1;
                engine.apply_pod(black_box(&labelled[turn]))
            });
        });
        let rules = [policy(14, namespaces), {
            let mut policy = policy(14, namespaces);
            policy.spec.ingress.push(NetworkPolicyIngressRule::default());
            policy
        }];
        group.bench_function(BenchmarkId::new("policy", policies), |b| {
            b.iter(|| {
                turn ^= 1;
                engine.apply_policy(black_box(rules[turn].clone()))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, build, verdict, matrix, change);
criterion_main!(benches);
