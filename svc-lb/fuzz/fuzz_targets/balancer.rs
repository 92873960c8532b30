//! Any events, on any scheduler: no panic, and counters that add up to the connections that are held.
//!
//! `cargo +nightly fuzz run balancer` in the folder of the crate.

#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use svc_lb::{
    Activity, AffinityOptions, Backend, Balancer, BalancerOptions, Connection, KernelRules, Request,
    Scheduler,
};

#[derive(Arbitrary, Debug)]
struct Input {
    scheduler: u8,
    classic: bool,
    affinity: Option<(u8, u8, u8)>,
    panic_percent: u8,
    events: Vec<Event>,
}

#[derive(Arbitrary, Debug)]
enum Event {
    Add { number: u8, weight: u32, upper: u32, lower: u32 },
    Edit { number: u8, weight: u32, upper: u32, lower: u32 },
    Remove { number: u8 },
    ReplaceAll { numbers: Vec<u8> },
    Scheduler(u8),
    Connect { client: [u8; 4], port: u16, destination: u8, entropy: u64 },
    Deactivate(u8),
    Activate(u8),
    Release(u8),
    Eject(u8),
    Restore(u8),
    Observe { number: u8, latency: u32 },
    Wait(u32),
}

fn scheduler(number: u8) -> Scheduler {
    Scheduler::ALL[usize::from(number) % Scheduler::ALL.len()]
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 2, 0, number], 80))
}

fuzz_target!(|input: Input| {
    let rules = if input.classic { KernelRules::Classic } else { KernelRules::Current };
    let mut options = BalancerOptions::new(scheduler(input.scheduler))
        .with_kernel(rules)
        .with_panic_percent(input.panic_percent);
    if let Some((timeout, prefix, capacity)) = input.affinity {
        let affinity = AffinityOptions::ipvs(Duration::from_secs(timeout.into()));
        options =
            options.with_affinity(affinity.with_prefixes(prefix, prefix).with_capacity(capacity.into()));
    }
    let mut balancer = Balancer::with_options(options);
    let mut held: Vec<Connection> = Vec::new();
    let mut now = Duration::ZERO;
    for event in input.events {
        match event {
            Event::Add { number, weight, upper, lower } => {
                let backend = Backend::new(address(number)).with_weight(weight).with_thresholds(upper, lower);
                let _ = balancer.add(backend, now);
            }
            Event::Edit { number, weight, upper, lower } => {
                let backend = Backend::new(address(number)).with_weight(weight).with_thresholds(upper, lower);
                let _ = balancer.edit(backend);
            }
            Event::Remove { number } => {
                let _ = balancer.remove(address(number), now);
            }
            Event::ReplaceAll { numbers } => {
                let backends: Vec<Backend> =
                    numbers.into_iter().map(|number| Backend::new(address(number))).collect();
                let _ = balancer.replace_all(&backends, now);
            }
            Event::Scheduler(number) => {
                let _ = balancer.set_scheduler(scheduler(number));
            }
            Event::Connect { client, port, destination, entropy } => {
                let request = Request::new(SocketAddr::from((client, port)))
                    .to(address(destination))
                    .at(now)
                    .with_entropy(entropy);
                held.extend(balancer.connect(&request));
            }
            Event::Deactivate(at) => {
                let count = held.len().max(1);
                if let Some(connection) = held.get_mut(usize::from(at) % count) {
                    balancer.deactivate(connection);
                }
            }
            Event::Activate(at) => {
                let count = held.len().max(1);
                if let Some(connection) = held.get_mut(usize::from(at) % count) {
                    balancer.activate(connection);
                }
            }
            Event::Release(at) => {
                if !held.is_empty() {
                    let connection = held.swap_remove(usize::from(at) % held.len());
                    balancer.release(connection, now);
                }
            }
            Event::Eject(number) => {
                if let Some(state) = balancer.find(address(number)) {
                    balancer.eject(state.id);
                }
            }
            Event::Restore(number) => {
                if let Some(state) = balancer.find(address(number)) {
                    balancer.restore(state.id);
                }
            }
            Event::Observe { number, latency } => {
                if let Some(state) = balancer.find(address(number)) {
                    balancer.observe(state.id, Duration::from_micros(latency.into()), now);
                }
            }
            Event::Wait(seconds) => now += Duration::from_secs(seconds.into()),
        }
    }
    for state in balancer.backends() {
        let count = |activity| {
            let of = held.iter().filter(|connection| connection.backend() == state.id);
            of.filter(|connection| connection.activity() == activity).count()
        };
        assert_eq!(state.active as usize, count(Activity::Active));
        assert_eq!(state.inactive as usize, count(Activity::Inactive));
    }
});
