//! The libraries' side: the same work on the same files.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use svc_benches::inputs::Sizes;
use svc_dns::{ServiceEnv, ServiceLinks};
use svc_endpoints::engine::Engine as Slicer;
use svc_endpoints::view::SliceCache;
use svc_endpoints::{Config, History, Nodes, Plan, Reconciler};
use svc_model::{EndpointSlice, Labels, Namespace, NetworkPolicy, Node, Object, Pod, Selector, Service};
use svc_netpol::{Endpoint, Engine, Flow, Options, Traffic};
use svc_rules::{LocalDetector, ProxyConfig, iptables, nftables};

use super::Timings;

const ROUNDS: usize = 3;

/// Times everything in the folder.
pub(crate) fn time(inputs: &Path, sizes: &Sizes) -> Result<Timings, String> {
    let mut clock = Clock::default();
    for size in &sizes.rules {
        rules(&mut clock, *size, &read(inputs, &format!("rules-{size}.json"))?);
    }
    for size in &sizes.endpoints {
        endpoints(&mut clock, *size, &read(inputs, &format!("endpoints-{size}.json"))?);
    }
    for size in &sizes.policies {
        policies(&mut clock, *size, &read(inputs, &format!("netpol-{size}.json"))?)?;
    }
    for size in &sizes.env {
        let input: EnvInput = read(inputs, &format!("env-{size}.json"))?;
        clock.time(&format!("env/{size}"), 20, || {
            for _ in 0..20 {
                black_box(ServiceEnv::of(black_box(&input.services), "shop", ServiceLinks::Enabled));
            }
        });
    }
    selectors(&mut clock, &read(inputs, "selectors.json")?)?;
    Ok(clock.timings)
}

fn read<T: for<'de> Deserialize<'de>>(inputs: &Path, name: &str) -> Result<T, String> {
    let text = std::fs::read(inputs.join(name)).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))
}

#[derive(Default)]
struct Clock {
    timings: Timings,
}

impl Clock {
    /// Runs the work so many times a round.
    fn repeat(&mut self, name: &str, times: u32, mut work: impl FnMut()) {
        self.time(name, times, || (0..times).for_each(|_| work()));
    }

    /// Runs the work, which is so many operations, once a round.
    fn time(&mut self, name: &str, operations: u32, mut work: impl FnMut()) {
        for _ in 0..ROUNDS {
            let start = Instant::now();
            work();
            let each = start.elapsed().as_nanos() as f64 / f64::from(operations);
            self.timings.entry(name.to_owned()).or_default().push(each);
        }
    }
}

#[derive(Deserialize)]
struct RulesInput {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    change: Vec<EndpointSlice>,
}

fn proxy_config() -> ProxyConfig {
    let mut config = ProxyConfig::new(svc_model::IpFamily::Ipv4, "node-7");
    config.local_detector = "10.0.0.0/8".parse().map_or(LocalDetector::None, LocalDetector::Cidr);
    config
}

/// How often what takes microseconds is done in one go.
const FEW: u32 = 100;

fn rules(clock: &mut Clock, size: usize, input: &RulesInput) {
    // Small syncs are too short to time alone.
    let times = u32::try_from(1_000 / size.max(1)).unwrap_or(1).max(1);
    let mut slices = SliceCache::new();
    let mut proxy = iptables::Proxy::new(proxy_config());
    for slice in &input.slices {
        proxy.touch(&slices.apply(slice));
    }
    for service in &input.services {
        let _ = proxy.apply(service);
    }
    let mut out = Vec::new();
    let mut sync = |proxy: &mut iptables::Proxy, slices: &SliceCache, mode| {
        out.clear();
        let _ = proxy.sync(slices, mode, iptables::StaleChains::Delete, &mut out);
        proxy.succeeded();
        black_box(&out);
    };
    sync(&mut proxy, &slices, iptables::Mode::Full);
    clock.repeat(&format!("iptables/full/{size}"), times, || sync(&mut proxy, &slices, iptables::Mode::Full));
    let mut turn = 0;
    for (name, mode, times) in [
        ("one endpoint", iptables::Mode::Partial, times),
        ("one endpoint, delta", iptables::Mode::Delta, FEW),
    ] {
        clock.repeat(&format!("iptables/{name}/{size}"), times, || {
            turn += 1;
            proxy.touch(&slices.apply(&input.change[turn % 2]));
            sync(&mut proxy, &slices, mode);
        });
    }

    let mut slices = SliceCache::new();
    let mut proxy = nftables::Proxy::new(proxy_config());
    for slice in &input.slices {
        proxy.touch(&slices.apply(slice));
    }
    for service in &input.services {
        let _ = proxy.apply(service);
    }
    let mut out = String::new();
    let mut sync = |proxy: &mut nftables::Proxy, slices: &SliceCache, scope| {
        out.clear();
        let _ = proxy.sync(slices, scope, &mut out);
        proxy.succeeded();
        black_box(&out);
    };
    sync(&mut proxy, &slices, nftables::Scope::Full);
    clock.repeat(&format!("nftables/full/{size}"), times, || {
        proxy.require_full();
        sync(&mut proxy, &slices, nftables::Scope::Full);
    });
    clock.repeat(&format!("nftables/one endpoint/{size}"), FEW, || {
        turn += 1;
        proxy.touch(&slices.apply(&input.change[turn % 2]));
        sync(&mut proxy, &slices, nftables::Scope::Changes);
    });
}

#[derive(Deserialize)]
struct EndpointsInput {
    service: Service,
    pods: Vec<Pod>,
    nodes: Vec<Node>,
}

fn endpoints(clock: &mut Clock, size: usize, input: &EndpointsInput) {
    let nodes: Nodes = input.nodes.iter().collect();
    let reconcile = |slices: &[EndpointSlice]| -> Plan {
        let mut history = History::default();
        Reconciler::default().reconcile(&input.service, &input.pods, &nodes, slices, None, &mut history)
    };
    clock.time(&format!("endpoints/from scratch/{size}"), 1, || drop(black_box(reconcile(&[]))));
    let mut engine = Slicer::new(Config::default());
    for node in &input.nodes {
        let _ = engine.apply_node(node);
    }
    for pod in &input.pods {
        let _ = engine.apply_pod(pod);
    }
    let _ = engine.apply_service(&input.service);
    let Some(first) = input.pods.first() else { return };
    let mut flipped = first.clone();
    for condition in &mut flipped.status.conditions {
        condition.status = "False".into();
    }
    let states = [first, &flipped];
    let mut turn = 0;
    clock.repeat(&format!("endpoints/one Pod/{size}"), FEW, || {
        turn += 1;
        drop(black_box(engine.apply_pod(states[turn % 2])));
    });
    clock.repeat(&format!("endpoints/nothing changed/{size}"), FEW, || {
        drop(black_box(engine.apply_pod(states[turn % 2])));
    });
}

#[derive(Deserialize)]
struct PoliciesInput {
    namespaces: Vec<Namespace>,
    pods: Vec<Pod>,
    policies: Vec<NetworkPolicy>,
    cases: Vec<Connection>,
}

#[derive(Deserialize)]
struct Connection {
    from: String,
    to: String,
    port: u16,
}

fn policies(clock: &mut Clock, size: usize, input: &PoliciesInput) -> Result<(), String> {
    let objects: Vec<Object> = input
        .namespaces
        .iter()
        .cloned()
        .map(Object::from)
        .chain(input.pods.iter().cloned().map(Object::from))
        .chain(input.policies.iter().cloned().map(Object::from))
        .collect();
    let build = || {
        let mut engine = Engine::new(Options::default());
        engine.apply_all(&objects);
        engine
    };
    clock.time(&format!("netpol/build/{size}"), 1, || drop(black_box(build())));
    let engine = build();
    let mut flows = Vec::new();
    for case in &input.cases {
        let end = |text: &'_ str| -> Option<(String, String)> {
            text.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
        };
        flows.push(end(&case.from).zip(end(&case.to)).zip(Some(case.port)).ok_or("an end that is no Pod")?);
    }
    let flows: Vec<Flow<'_>> = flows
        .iter()
        .map(|(((from_namespace, from), (to_namespace, to)), port)| {
            let (from, to) = (Endpoint::pod(from_namespace, from), Endpoint::pod(to_namespace, to));
            Flow::new(from, to, Traffic::Tcp(*port))
        })
        .collect();
    let count = u32::try_from(flows.len()).map_err(|error| error.to_string())?;
    clock.time(&format!("netpol/verdict/{size}"), count, || {
        for flow in &flows {
            black_box(engine.verdict(black_box(flow)));
        }
    });
    Ok(())
}

#[derive(Deserialize)]
struct EnvInput {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct SelectorsInput {
    selectors: std::collections::BTreeMap<String, String>,
    labels: Labels,
}

fn selectors(clock: &mut Clock, input: &SelectorsInput) -> Result<(), String> {
    const TIMES: u32 = 100_000;
    for (name, text) in &input.selectors {
        let selector: Selector = text.parse().map_err(|error| format!("{text}: {error}"))?;
        clock.time(&format!("selector/parse/{name}"), TIMES, || {
            for _ in 0..TIMES {
                drop(black_box(black_box(text).parse::<Selector>()));
            }
        });
        clock.time(&format!("selector/match/{name}"), TIMES, || {
            for _ in 0..TIMES {
                black_box(black_box(&selector).matches(black_box(&input.labels)));
            }
        });
    }
    Ok(())
}
