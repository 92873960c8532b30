//! The libraries' side: the same work on the same files.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use svc_benches::inputs::Sizes;
use svc_benches::work::{
    DnsInput, EndpointsInput, EnvInput, PoliciesInput, RulesInput, SelectorsInput, policy_engine, read,
};
use svc_dns::{Name, NoUpstream, ServiceEnv, ServiceLinks, Transport, Type, Zones};
use svc_endpoints::{History, Plan, Reconciler};
use svc_model::{EndpointSlice, Selector};
use svc_netpol::{Endpoint, Flow, Traffic};
use svc_rules::{iptables, ipvs, nftables};

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
    for size in &sizes.dns {
        names(&mut clock, *size, inputs, &format!("dns-{size}.json"))?;
    }
    selectors(&mut clock, &read(inputs, "selectors.json")?)?;
    Ok(clock.timings)
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

/// How often what takes microseconds is done in one go.
const FEW: u32 = 100;

fn rules(clock: &mut Clock, size: usize, input: &RulesInput) {
    // Small syncs are too short to time alone.
    let times = u32::try_from(1_000 / size.max(1)).unwrap_or(1).max(1);
    let (mut proxy, mut slices) = input.iptables();
    let mut out = Vec::new();
    let mut sync = |proxy: &mut iptables::Proxy, slices: &_, mode| {
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

    let (mut proxy, mut slices) = input.nftables();
    let mut out = String::new();
    let mut sync = |proxy: &mut nftables::Proxy, slices: &_, scope| {
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

    let (mut proxy, mut slices) = input.ipvs();
    let mut out = ipvs::Input::default();
    let mut sync = |proxy: &mut ipvs::Proxy, slices: &_, scope| {
        out.clear();
        let _ = proxy.sync(slices, scope, &mut out);
        proxy.succeeded();
        // What drains is deleted at once: there are no connections.
        let _ = proxy.drain(Duration::ZERO, |_, _| 0, &mut out.servers);
        black_box(&out);
    };
    sync(&mut proxy, &slices, ipvs::Scope::Full);
    clock.repeat(&format!("ipvs/full/{size}"), times, || sync(&mut proxy, &slices, ipvs::Scope::Full));
    clock.repeat(&format!("ipvs/one endpoint/{size}"), FEW, || {
        turn += 1;
        proxy.touch(&slices.apply(&input.change[turn % 2]));
        sync(&mut proxy, &slices, ipvs::Scope::Changes);
    });
}

fn endpoints(clock: &mut Clock, size: usize, input: &EndpointsInput) {
    let nodes = input.nodes();
    let reconcile = |slices: &[EndpointSlice]| -> Plan {
        let mut history = History::default();
        Reconciler::default().reconcile(&input.service, &input.pods, &nodes, slices, None, &mut history)
    };
    clock.time(&format!("endpoints/from scratch/{size}"), 1, || drop(black_box(reconcile(&[]))));
    let mut engine = input.engine();
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

fn policies(clock: &mut Clock, size: usize, input: &PoliciesInput) -> Result<(), String> {
    let (cluster, policies) = (input.cluster(), input.policies());
    clock.time(&format!("netpol/build, policies alone/{size}"), 1, || {
        drop(black_box(policy_engine(&policies)))
    });
    let build = || policy_engine(cluster.iter().chain(&policies));
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

/// From query message to answer message; and reading a cluster in.
fn names(clock: &mut Clock, size: usize, inputs: &Path, file: &str) -> Result<(), String> {
    let text = std::fs::read(inputs.join(file)).map_err(|error| format!("{file}: {error}"))?;
    let read_in = || -> Result<Zones, String> {
        let input: DnsInput = serde_json::from_slice(&text).map_err(|error| format!("{file}: {error}"))?;
        let mut zones = input.empty_zones()?;
        drop(zones.replace_all(&input.objects()));
        Ok(zones)
    };
    let zones = read_in()?;
    clock.time(&format!("dns/read in/{size}"), 1, || drop(black_box(read_in())));
    let input: DnsInput = read(inputs, file)?;
    let mut out = vec![0; 65_535];
    for (work, question) in &input.questions {
        let name: Name = question.qname.parse().map_err(|error| format!("{}: {error}", question.qname))?;
        let qtype: Type = question.qtype.parse().map_err(|error| format!("{}: {error}", question.qtype))?;
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(name.wire());
        query.extend_from_slice(&qtype.0.to_be_bytes());
        query.extend_from_slice(&[0, 1]);
        clock.repeat(&format!("dns/{work}/{size}"), question.times, || {
            black_box(zones.respond(black_box(&query), Transport::Tcp, &NoUpstream, &mut out));
        });
    }
    Ok(())
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
