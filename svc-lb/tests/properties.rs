//! Shares over long runs, disruption and evenness of tables, panic mode.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test may stop at the first surprise, and runs where std is"
)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use svc_lb::{
    Backend, Balancer, BalancerOptions, ConfigError, HashFlags, MaglevSize, Request, Scheduler, SplitMix64,
};

fn backend(number: usize, weight: u32) -> Backend {
    let address = SocketAddr::from(([10, 2, (number >> 8) as u8, number as u8], 80));
    Backend::new(address).with_weight(weight)
}

fn balancer(scheduler: Scheduler, weights: &[u32]) -> Balancer {
    let mut balancer = Balancer::new(scheduler);
    for (number, weight) in weights.iter().enumerate() {
        balancer.add(backend(number, *weight), Duration::ZERO).unwrap();
    }
    balancer
}

fn client(number: u32) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::from(0x0a80_0000 + number * 7).into(), 4_000)
}

/// How often each address is picked, by clients 0, 1, 2, ...
fn counts(balancer: &mut Balancer, picks: u32) -> HashMap<SocketAddr, u32> {
    let mut random = SplitMix64::new(42);
    let mut counts = HashMap::new();
    for number in 0..picks {
        let request = Request::new(client(number)).with_entropy(random.next());
        if let Ok(pick) = balancer.pick(&request) {
            *counts.entry(balancer.backend(pick.backend).unwrap().backend.address).or_insert(0) += 1;
        }
    }
    counts
}

fn assert_shares(name: &str, weights: &[u32], counts: &HashMap<SocketAddr, u32>, tolerance: f64) {
    let (total, picks) = (f64::from(weights.iter().sum::<u32>()), f64::from(counts.values().sum::<u32>()));
    for (number, weight) in weights.iter().enumerate() {
        let count = f64::from(counts.get(&backend(number, 0).address).copied().unwrap_or(0));
        let expected = picks * f64::from(*weight) / total;
        // Five standard deviations of a binomial share, and what the rule itself may be off by.
        let allowed =
            5.0 * (expected * (1.0 - f64::from(*weight) / total)).sqrt() + tolerance * expected + 1.0;
        assert!(
            (count - expected).abs() <= allowed,
            "{name} {number}: {count}, expected {expected} ± {allowed}"
        );
    }
}

#[test]
fn random_rules_keep_their_shares() {
    let weights = [1, 2, 3, 4, 10];
    let cases = [
        (Scheduler::WeightedRandom, &weights[..], 0.0),
        (Scheduler::Random(svc_lb::ProbabilityRule::Uniform), &[1; 7][..], 0.0),
        (Scheduler::Random(svc_lb::ProbabilityRule::IptablesChain), &[1; 7][..], 0.0),
        (Scheduler::LeastRequest, &[1; 7][..], 0.0),
        // The kernel's draw gives the first in the list one unit too many: 1/20 of the total here.
        (Scheduler::Twos, &[100, 200, 300, 400][..], 0.02),
        (Scheduler::Mh(HashFlags::NONE, MaglevSize::KERNEL), &weights[..], 0.05),
        (Scheduler::Mh(HashFlags::NONE, MaglevSize::LARGEST), &weights[..], 0.02),
        (Scheduler::RingHash(svc_lb::RingOptions::DEFAULT), &weights[..], 0.35),
    ];
    for (scheduler, weights, tolerance) in cases {
        let counts = counts(&mut balancer(scheduler, weights), 100_000);
        assert_shares(scheduler.name(), weights, &counts, tolerance);
    }
}

#[test]
fn unusable_backends_leave_the_rest_in_proportion() {
    for scheduler in [Scheduler::WeightedRandom, Scheduler::Random(svc_lb::ProbabilityRule::IptablesChain)] {
        let mut balancer = balancer(scheduler, &[2; 10]);
        for number in 0..5 {
            let id = balancer.find(backend(number, 0).address).unwrap().id;
            assert!(balancer.eject(id));
        }
        let counts = counts(&mut balancer, 50_000);
        assert_shares(scheduler.name(), &[0, 0, 0, 0, 0, 2, 2, 2, 2, 2], &counts, 0.0);
    }
}

#[test]
fn peak_ewma_avoids_the_slow_one() {
    let mut balancer = balancer(Scheduler::PeakEwma(svc_lb::EwmaOptions::DEFAULT), &[1; 4]);
    for number in 0..4 {
        let id = balancer.find(backend(number, 0).address).unwrap().id;
        let latency = if number == 0 { Duration::from_millis(500) } else { Duration::from_millis(5) };
        balancer.observe(id, latency, Duration::ZERO);
    }
    let counts = counts(&mut balancer, 10_000);
    assert_eq!(counts.get(&backend(0, 0).address), None);
    assert_eq!(counts.len(), 3);
}

#[test]
fn panic_disregards_ejections_when_too_many_are_out() {
    for scheduler in ["rr", "wlc", "wrr", "lblcr"] {
        let options = BalancerOptions::new(scheduler.parse().unwrap()).with_panic_percent(50);
        let mut balancer = Balancer::with_options(options);
        let ids: Vec<_> =
            (0..4).map(|number| balancer.add(backend(number, 1), Duration::ZERO).unwrap()).collect();
        assert!(balancer.eject(ids[0]) && balancer.eject(ids[1]));
        assert!(!balancer.is_panicking());
        assert_eq!(
            counts(&mut balancer, 100).len(),
            if scheduler == "lblcr" || scheduler == "wlc" { 1 } else { 2 }
        );
        assert!(balancer.eject(ids[2]));
        assert!(balancer.is_panicking());
        // The one left in would be last: with panic the first in the list takes its turn too.
        balancer.edit(backend(3, 0)).unwrap();
        assert!(balancer.pick(&Request::new(client(1))).is_ok());
        assert!(balancer.restore(ids[2]));
        assert!(!balancer.is_panicking());
    }
}

#[test]
fn removed_backends_are_forgotten_in_time() {
    let mut balancer = balancer(Scheduler::Rr, &[1]);
    let connection = balancer.connect(&Request::new(client(1))).unwrap();
    let (id, address) = (connection.backend(), backend(0, 0).address);
    balancer.remove(address, Duration::from_secs(1)).unwrap();
    assert_eq!(balancer.backend(id).unwrap().active, 1);
    assert_eq!(balancer.add(backend(0, 1), Duration::from_secs(500)).unwrap(), id);
    assert_eq!(balancer.backend(id).unwrap().active, 1);
    balancer.remove(address, Duration::from_secs(501)).unwrap();
    balancer.release(connection, Duration::from_secs(700));
    assert_eq!(balancer.backend(id), None);
    assert_ne!(balancer.add(backend(0, 1), Duration::from_secs(701)).unwrap(), id);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, ..ProptestConfig::default() })]

    /// Without failures a full round of wrr gives each exactly its weight.
    #[test]
    fn weighted_rounds_are_exact(weights in vec(1..20_u32, 1..12)) {
        let total: u32 = weights.iter().sum();
        let counts = counts(&mut balancer(Scheduler::Wrr, &weights), total);
        for (number, weight) in weights.iter().enumerate() {
            prop_assert_eq!(counts.get(&backend(number, 0).address), Some(weight));
        }
    }

    /// A table slot is won in turns, so with equal weights no backend has two slots more than another; over clients
    /// that is an even share, up to the table's grain and the luck of the draw.
    #[test]
    fn maglev_is_even(count in 2..60_usize) {
        let scheduler = Scheduler::Mh(HashFlags::NONE, MaglevSize::LARGEST);
        let counts = counts(&mut balancer(scheduler, &vec![1; count]), 60_000);
        assert_shares("mh", &vec![1; count], &counts, 0.002);
    }

    /// Removing one of n backends moves its own clients, about 1/n, and few others (the Maglev paper's
    /// figure 12: a few percent at this table size); the ring moves none of the others at all.
    #[test]
    fn tables_disrupt_little(count in 3..40_usize, removed in any::<prop::sample::Index>()) {
        let removed = backend(removed.index(count), 0).address;
        let ring = Scheduler::RingHash(svc_lb::RingOptions::DEFAULT);
        for (scheduler, bound) in [(Scheduler::Mh(HashFlags::NONE, MaglevSize::LARGEST), 0.04), (ring, 0.0)] {
            let mut balancer = balancer(scheduler, &vec![1; count]);
            let place = |balancer: &mut Balancer| -> Vec<SocketAddr> {
                let pick = |number| balancer.pick(&Request::new(client(number))).unwrap().backend;
                let ids: Vec<_> = (0..10_000).map(pick).collect();
                ids.into_iter().map(|id| balancer.backend(id).unwrap().backend.address).collect()
            };
            let before = place(&mut balancer);
            balancer.remove(removed, Duration::ZERO).unwrap();
            let after = place(&mut balancer);
            let others = before.iter().zip(&after).filter(|(old, new)| old != new && **old != removed).count();
            prop_assert!(others as f64 <= bound * 10_000.0, "{scheduler}: {others} of 10000 others moved");
        }
    }

    /// Draining (weight 0) and ejecting move the clients of that backend and nobody else.
    #[test]
    fn draining_moves_only_its_own_clients(count in 2..30_usize, drained in any::<prop::sample::Index>()) {
        let drained = backend(drained.index(count), 0).address;
        let mh = Scheduler::parse("mh", ["mh-fallback"]).unwrap();
        for scheduler in [mh, Scheduler::RingHash(svc_lb::RingOptions::DEFAULT)] {
            for eject in [false, true] {
                let mut balancer = balancer(scheduler, &vec![1; count]);
                let before: Vec<_> =
                    (0..2_000).map(|number| balancer.pick(&Request::new(client(number))).unwrap().backend).collect();
                let id = balancer.find(drained).unwrap().id;
                if eject {
                    balancer.eject(id);
                } else {
                    balancer.edit(Backend::new(drained).with_weight(0)).unwrap();
                }
                for (number, old) in (0..2_000).zip(before) {
                    let new = balancer.pick(&Request::new(client(number))).unwrap().backend;
                    prop_assert!(new != id && (new == old || old == id));
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize, u32),
    Remove(usize),
    Connect(u32, u64),
    Deactivate(usize),
    Release(usize),
    Eject(usize, bool),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..8_usize, 0..4_u32).prop_map(|(number, weight)| Step::Add(number, weight)),
        1 => (0..8_usize).prop_map(Step::Remove),
        8 => (0..50_u32, any::<u64>()).prop_map(|(client, entropy)| Step::Connect(client, entropy)),
        3 => any::<usize>().prop_map(Step::Deactivate),
        3 => any::<usize>().prop_map(Step::Release),
        1 => (0..8_usize, any::<bool>()).prop_map(|(number, out)| Step::Eject(number, out)),
        1 => any::<u32>().prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever the scheduler, a backend's counters are the connections that are held on it, a pick is never
    /// made for one that takes none, and none is refused where every backend is usable.
    #[test]
    fn counters_are_the_connections_that_are_held(
        scheduler in 0..Scheduler::ALL.len(),
        panic_percent in prop_oneof![Just(0_u8), Just(60)],
        steps in vec(step(), 0..150),
    ) {
        let scheduler = Scheduler::ALL[scheduler];
        let options = BalancerOptions::new(scheduler).with_panic_percent(panic_percent);
        let mut balancer = Balancer::with_options(options);
        let mut held = Vec::new();
        let mut now = Duration::ZERO;
        for step in steps {
            match step {
                Step::Add(number, weight) => {
                    let _ = balancer.add(backend(number, weight), now);
                }
                Step::Remove(number) => {
                    let _ = balancer.remove(backend(number, 0).address, now);
                }
                Step::Connect(number, entropy) => {
                    let request = Request::new(client(number)).to(client(number % 7)).at(now).with_entropy(entropy);
                    let usable = |state: &svc_lb::BackendState| state.availability == svc_lb::Availability::Usable;
                    let all = !balancer.is_empty() && balancer.backends().all(|state| usable(&state));
                    let before: Vec<_> = balancer.backends().collect();
                    match balancer.connect(&request) {
                        Ok(connection) => {
                            let state = before.iter().find(|state| state.id == connection.backend());
                            prop_assert!(state.is_some_and(usable), "{scheduler}: {state:?}");
                            held.push(connection);
                        }
                        // ovf fills up.
                        Err(refusal) => prop_assert!(!all || scheduler == Scheduler::Ovf, "{scheduler}: {refusal}"),
                    }
                }
                Step::Deactivate(at) => {
                    let count = held.len().max(1);
                    if let Some(connection) = held.get_mut(at % count) {
                        balancer.deactivate(connection);
                    }
                }
                Step::Release(at) => {
                    if !held.is_empty() {
                        let connection = held.swap_remove(at % held.len());
                        balancer.release(connection, now);
                    }
                }
                Step::Eject(number, out) => {
                    if let Some(state) = balancer.find(backend(number, 0).address) {
                        let _ = if out { balancer.eject(state.id) } else { balancer.restore(state.id) };
                    }
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds.into()),
            }
            for state in balancer.backends() {
                let count = |activity| {
                    let of = held.iter().filter(|held: &&svc_lb::Connection| held.backend() == state.id);
                    of.filter(|held| held.activity() == activity).count()
                };
                let counted = (state.active as usize, state.inactive as usize);
                let expected = (count(svc_lb::Activity::Active), count(svc_lb::Activity::Inactive));
                prop_assert_eq!(counted, expected);
            }
        }
    }
}

/// As many backends as table slots are the most that Maglev takes, by whichever way they meet.
#[test]
fn maglev_refuses_more_backends_than_table_slots() {
    let size = MaglevSize::from_index(8).unwrap();
    let maglev = Scheduler::Mh(HashFlags::default(), size);
    let backend = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        Backend::new(SocketAddr::from(([10, 2, high, low], 80)))
    };
    let mut balancer = Balancer::new(Scheduler::Rr);
    for number in 0..=size.slots() {
        balancer.add(backend(number), Duration::ZERO).unwrap();
    }
    let last = backend(size.slots()).address;
    let full = ConfigError::TableFull { address: last, limit: size.slots() };
    assert_eq!(balancer.set_scheduler(maglev), Err(full));
    assert_eq!(balancer.scheduler(), Scheduler::Rr);
    balancer.remove(last, Duration::ZERO).unwrap();
    assert_eq!(balancer.set_scheduler(maglev), Ok(()));
    assert_eq!(balancer.add(backend(size.slots()), Duration::ZERO), Err(full));
}
