//! Many threads pick while backends are swapped; nothing may be lost, doubled, or picked from the past.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test may stop at the first surprise, and runs where std is"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use svc_lb::{Backend, Balancer, Ejection, Lease, Request, Scheduler, SharedBalancer, SplitMix64};

/// All that are offered but `ovf` and `dh`: those may refuse while something is usable.
const SHARED: [&str; 12] = [
    "rr",
    "lc",
    "wlc",
    "sed",
    "nq",
    "fo",
    "sh",
    "mh",
    "random",
    "weighted-random",
    "least-request",
    "ring-hash",
];

fn backends(range: std::ops::Range<u8>) -> Vec<Backend> {
    let backend = |number: u8| Backend::new(SocketAddr::from(([10, 2, 0, number], 80)));
    range.map(|number| backend(number).with_weight(u32::from(number % 3) + 1)).collect()
}

fn request(random: &mut SplitMix64) -> Request {
    let entropy = random.next();
    Request::new(SocketAddr::from(([10, 200, (entropy >> 8) as u8, entropy as u8], 4_000)))
        .to(SocketAddr::from(([10, 1, (entropy >> 24) as u8, (entropy >> 16) as u8], 80)))
        .with_entropy(entropy)
}

#[test]
fn counts_are_neither_lost_nor_doubled_under_swaps() {
    for name in SHARED {
        let shared = SharedBalancer::new(name.parse().unwrap()).unwrap();
        shared.publish(&backends(0..8)).unwrap();
        // Held to the end, so that no count is forgotten with its backend.
        let stable = shared.backends();
        let done = AtomicBool::new(false);
        let connected = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|seed| {
                    let mut picker = shared.picker();
                    let (done, connected) = (&done, &connected);
                    scope.spawn(move || {
                        let mut random = SplitMix64::new(seed);
                        let mut held: Vec<Lease> = Vec::new();
                        // At least once, also if all swaps are over before this thread runs.
                        loop {
                            held.push(picker.connect(&request(&mut random)).unwrap());
                            connected.fetch_add(1, Ordering::Relaxed);
                            if held.len() > 50 {
                                drop(held.swap_remove(random.below(50) as usize));
                            }
                            if done.load(Ordering::Relaxed) {
                                break held;
                            }
                        }
                    })
                })
                .collect();
            for round in 0..40 {
                // The first eight always stay.
                shared.publish(&backends(0..8 + round % 5)).unwrap();
                std::thread::yield_now();
            }
            done.store(true, Ordering::Relaxed);
            let held: Vec<Lease> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
            for backend in &stable {
                let leases =
                    held.iter().filter(|lease| lease.backend().address() == backend.address()).count();
                assert_eq!(backend.active() as usize, leases, "{name}: {}", backend.address());
            }
        });
        assert!(connected.load(Ordering::Relaxed) > 0);
        assert!(stable.iter().all(|backend| backend.active() == 0), "{name}");
    }
}

#[test]
fn a_picker_never_sees_a_generation_older_than_one_it_was_told_of() {
    let shared = SharedBalancer::new(Scheduler::Rr).unwrap();
    shared.publish(&backends(0..1)).unwrap();
    let mut sleeper = shared.picker();
    // A chain that would overflow the stack if it were dropped by recursion.
    for number in 0..30_000_u32 {
        shared.publish(&backends((number % 7) as u8..(number % 7) as u8 + 1)).unwrap();
    }
    let mut random = SplitMix64::new(0);
    let last = backends((29_999 % 7) as u8..(29_999 % 7) as u8 + 1)[0].address;
    assert_eq!(sleeper.clone().pick(&request(&mut random)).unwrap().address(), last);
    let mut other = sleeper.clone();
    drop(shared);
    assert_eq!(sleeper.pick(&request(&mut random)).unwrap().address(), last);
    drop(sleeper);
    assert_eq!(other.pick(&request(&mut random)).unwrap().address(), last);
}

#[test]
fn tables_are_those_of_the_single_threaded_face() {
    for name in ["sh", "dh", "mh", "ring-hash", "weighted-random", "random"] {
        let scheduler: Scheduler = name.parse().unwrap();
        let shared = SharedBalancer::new(scheduler).unwrap();
        let mut single = Balancer::new(scheduler);
        shared.publish(&backends(0..20)).unwrap();
        single.replace_all(&backends(0..20), std::time::Duration::ZERO).unwrap();
        let mut picker = shared.picker();
        let mut random = SplitMix64::new(1);
        for _ in 0..5_000 {
            let request = request(&mut random);
            let pick = single.pick(&request).unwrap();
            let expected = single.backend(pick.backend).unwrap().backend.address;
            assert_eq!(picker.pick(&request).unwrap().address(), expected, "{name}");
        }
    }
}

#[test]
fn scans_choose_as_the_single_threaded_face_does() {
    for name in ["lc", "wlc", "sed", "nq", "fo", "ovf"] {
        let scheduler: Scheduler = name.parse().unwrap();
        let shared = SharedBalancer::new(scheduler).unwrap();
        let mut single = Balancer::new(scheduler);
        shared.publish(&backends(0..8)).unwrap();
        single.replace_all(&backends(0..8), std::time::Duration::ZERO).unwrap();
        let mut picker = shared.picker();
        let mut random = SplitMix64::new(1);
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..2_000 {
            if random.below(5) < 2 && !held.is_empty() {
                let (lease, connection): (Lease, _) =
                    held.swap_remove(random.below(held.len() as u64) as usize);
                drop(lease);
                single.release(connection, std::time::Duration::ZERO);
                continue;
            }
            let request = request(&mut random);
            match (picker.connect(&request), single.connect(&request)) {
                (Ok(lease), Ok(connection)) => {
                    let expected = single.backend(connection.backend()).unwrap().backend.address;
                    assert_eq!(lease.backend().address(), expected, "{name}");
                    held.push((lease, connection));
                }
                (shared, single) => {
                    assert_eq!((shared.is_err(), single.is_err()), (true, true), "{name}");
                    refused += 1;
                }
            }
        }
        // ovf fills up, and nothing else is ever full.
        assert_eq!(refused > 0, name == "ovf", "{name}");
    }
}

#[test]
fn ejected_and_full_backends_are_passed_over() {
    for name in SHARED {
        let scheduler = match name {
            "sh" => Scheduler::parse("sh", ["sh-fallback"]).unwrap(),
            "mh" => Scheduler::parse("mh", ["mh-fallback"]).unwrap(),
            name => name.parse().unwrap(),
        };
        let shared = SharedBalancer::new(scheduler).unwrap();
        let limited: Vec<Backend> =
            backends(0..3).into_iter().map(|backend| backend.with_thresholds(10, 0)).collect();
        shared.publish(&limited).unwrap();
        let all = shared.backends();
        all[0].set_ejected(Ejection::Out);
        let mut picker = shared.picker();
        let mut random = SplitMix64::new(2);
        let leases: Vec<Lease> = (0..20).map(|_| picker.connect(&request(&mut random)).unwrap()).collect();
        assert_eq!([all[0].active(), all[1].active(), all[2].active()], [0, 10, 10], "{name}");
        assert!(picker.connect(&request(&mut random)).is_err());
        all[0].set_ejected(Ejection::In);
        assert_eq!(picker.pick(&request(&mut random)).unwrap().address(), all[0].address());
        drop(leases);
    }
}
