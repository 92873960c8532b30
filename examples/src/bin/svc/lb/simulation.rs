//! The simulation: made-up clients, connections that end, and what became of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use svc_lb::{Backend, Balancer, BalancerOptions, Connection, Request, SplitMix64};

/// What is simulated.
pub(super) struct Plan {
    pub(super) options: BalancerOptions,
    pub(super) backends: Vec<Backend>,
    pub(super) requests: u64,
    pub(super) clients: u32,
    /// Connections open at a time on average.
    pub(super) open: u64,
    /// The index of the backend that goes.
    pub(super) remove: usize,
    pub(super) seed: u64,
}

/// What came out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) scheduler: String,
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) backends: Vec<Row>,
    pub(super) fairness: Fairness,
    pub(super) disruption: Disruption,
}

/// One backend. Shares are parts of 1.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) requests: u64,
    pub(super) share: f64,
    /// By weight.
    pub(super) ideal: f64,
    /// The most connections it had at once.
    pub(super) most_open: u32,
}

/// How evenly requests per weight are spread over the backends that have a weight.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fairness {
    /// Jain, Chiu, Hawe (1984).
    pub(super) jain: f64,
    /// The greatest and the least share, in ideal shares.
    pub(super) busiest: f64,
    pub(super) idlest: f64,
    /// Standard deviation by mean.
    pub(super) variation: f64,
}

/// What happens to clients when a backend goes. Parts of 1.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Disruption {
    pub(super) removed: SocketAddr,
    /// Clients of the removed backend, of all.
    pub(super) own: f64,
    /// Clients of other backends that move, of those.
    pub(super) others: f64,
    /// Clients that get another backend at their next request though nothing has changed.
    pub(super) anyway: f64,
}

fn client(number: u32) -> SocketAddr {
    // Spread over 10.128.0.0/9 in no order, as real clients are; an odd factor keeps them different.
    let bits = 0x0a80_0000 | (number.wrapping_mul(0x9E37_79B1) & 0x007f_ffff);
    SocketAddr::new(Ipv4Addr::from(bits).into(), 1024 + (number % 60_000) as u16)
}

pub(super) fn run(plan: &Plan, mut progress: impl FnMut(u64)) -> anyhow::Result<Report> {
    let mut balancer = Balancer::with_options(plan.options.clone());
    balancer.replace_all(&plan.backends, Duration::ZERO)?;
    let empty = balancer.clone();
    let mut random = SplitMix64::new(plan.seed);
    let mut counts: HashMap<SocketAddr, (u64, u32)> = HashMap::new();
    let mut ending: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut refused = 0;
    for number in 0..plan.requests {
        // One request a millisecond.
        let now = Duration::from_millis(number);
        while let Some(Reverse((end, ended))) = ending.peek().copied()
            && end <= number
        {
            ending.pop();
            if let Some(connection) = connections.remove(&ended) {
                balancer.release(connection, now);
            }
        }
        let from = client(random.below(u64::from(plan.clients)) as u32);
        let request = Request::new(from).to(from).at(now).with_entropy(random.next());
        match balancer.connect(&request) {
            Ok(connection) => {
                if let Some(state) = balancer.backend(connection.backend()) {
                    let (requests, most) = counts.entry(state.backend.address).or_default();
                    *requests += 1;
                    *most = state.active.max(*most);
                }
                ending.push(Reverse((number + 1 + lifetime(&mut random, plan.open), number)));
                connections.insert(number, connection);
            }
            Err(_) => refused += 1,
        }
        if number % 4_096 == 0 {
            progress(number);
        }
    }
    let backends = rows(&plan.backends, &counts);
    Ok(Report {
        scheduler: plan.options.scheduler.to_string(),
        requests: plan.requests,
        refused,
        fairness: fairness(&backends),
        disruption: disruption(plan, &empty)?,
        backends,
    })
}

/// An exponentially distributed number of requests, so that `mean` are open at a time.
fn lifetime(random: &mut SplitMix64, mean: u64) -> u64 {
    let uniform = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    (-(1.0 - uniform).ln() * mean as f64) as u64
}

fn rows(backends: &[Backend], counts: &HashMap<SocketAddr, (u64, u32)>) -> Vec<Row> {
    let total: u64 = counts.values().map(|(requests, _)| requests).sum();
    let weights: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let part = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    backends
        .iter()
        .map(|backend| {
            let (requests, most_open) = counts.get(&backend.address).copied().unwrap_or_default();
            Row {
                address: backend.address,
                weight: backend.weight,
                requests,
                share: part(requests, total),
                ideal: part(u64::from(backend.weight), weights),
                most_open,
            }
        })
        .collect()
}

fn fairness(rows: &[Row]) -> Fairness {
    let ratios: Vec<f64> =
        rows.iter().filter(|row| row.ideal > 0.0).map(|row| row.share / row.ideal).collect();
    let count = ratios.len().max(1) as f64;
    let (sum, squares): (f64, f64) = (ratios.iter().sum(), ratios.iter().map(|ratio| ratio * ratio).sum());
    let mean = sum / count;
    let variance = (squares / count - mean * mean).max(0.0);
    Fairness {
        jain: if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 },
        busiest: ratios.iter().copied().fold(0.0, f64::max),
        idlest: ratios.iter().copied().reduce(f64::min).unwrap_or(0.0),
        variation: if mean > 0.0 { variance.sqrt() / mean } else { 0.0 },
    }
}

/// Connects once for each client, before and after. All stay connected, so that rules that look at load have something
/// to look at.
fn disruption(plan: &Plan, empty: &Balancer) -> anyhow::Result<Disruption> {
    let removed = plan.backends[plan.remove].address;
    let place = |balancer: &mut Balancer, second: u64| -> Vec<Option<SocketAddr>> {
        let mut random = SplitMix64::new(plan.seed ^ second);
        (0..plan.clients)
            .map(|number| {
                let request = Request::new(client(number)).to(client(number)).at(Duration::from_secs(second));
                let connection = balancer.connect(&request.with_entropy(random.next())).ok()?;
                balancer.backend(connection.backend()).map(|state| state.backend.address)
            })
            .collect()
    };
    let mut balancer = empty.clone();
    let before = place(&mut balancer, 0);
    let again = place(&mut balancer.clone(), 1);
    balancer.remove(removed, Duration::from_secs(1))?;
    let after = place(&mut balancer, 1);
    let all = before.len().max(1) as f64;
    let own = before.iter().filter(|place| **place == Some(removed)).count() as f64;
    let moved = |old: &[Option<SocketAddr>], new: &[Option<SocketAddr>]| {
        old.iter().zip(new).filter(|(old, new)| **old != Some(removed) && old != new).count() as f64
    };
    let anyway = before.iter().zip(&again).filter(|(old, new)| old != new).count() as f64;
    let others = (all - own).max(1.0);
    Ok(Disruption { removed, own: own / all, others: moved(&before, &after) / others, anyway: anyway / all })
}

#[cfg(test)]
mod tests {
    use super::*;
    use svc_lb::Scheduler;

    #[test]
    fn every_scheduler_can_be_simulated() {
        for scheduler in Scheduler::ALL {
            let address = |number: u8| SocketAddr::from(([10, 2, 0, number], 80));
            let plan = Plan {
                options: BalancerOptions::new(scheduler),
                backends: (1..=4)
                    .map(|number| Backend::new(address(number)).with_weight(number.into()))
                    .collect(),
                requests: 10_000,
                clients: 500,
                open: 20,
                remove: 1,
                seed: 1,
            };
            let mut seen = Vec::new();
            let report = run(&plan, |done| seen.push(done)).unwrap();
            assert_eq!(seen, [0, 4_096, 8_192], "{scheduler}");
            let counted: u64 = report.backends.iter().map(|row| row.requests).sum();
            assert_eq!(counted + report.refused, 10_000, "{scheduler}");
            assert_eq!(report.refused > 0, scheduler == Scheduler::Ovf, "{scheduler}");
            let Disruption { removed, own, others, anyway } = report.disruption;
            assert_eq!(removed, address(2));
            assert!([own, others, anyway].iter().all(|part| (0.0..=1.0).contains(part)), "{scheduler}");
            // What hashes keeps each client where it is, and a ring all but those of the backend that goes.
            match scheduler {
                Scheduler::Sh(_) | Scheduler::Dh => assert_eq!(anyway, 0.0, "{scheduler}"),
                Scheduler::Mh(..) => assert!(anyway == 0.0 && own > 0.0 && others < 0.1, "{others}"),
                Scheduler::RingHash(_) => assert_eq!((anyway, others), (0.0, 0.0)),
                _ => {}
            }
        }
    }
}
