//! The shared face in every interleaving of a few threads:
//! `RUSTFLAGS="--cfg loom" cargo test -p svc-lb --test loom --release`.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test may stop at the first surprise, and runs where std is"
)]

use std::net::SocketAddr;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use svc_lb::{Backend, Lease, Request, Scheduler, SharedBalancer};

fn backend(number: u8) -> Backend {
    Backend::new(SocketAddr::from(([10, 2, 0, number], 80)))
}

fn request() -> Request {
    Request::new(SocketAddr::from(([10, 200, 0, 7], 4_000)))
}

/// Every backend counts the leases that are held on it.
fn assert_counted(shared: &SharedBalancer, held: &[Lease]) {
    for backend in shared.backends() {
        let leases = held.iter().filter(|lease| lease.backend().address() == backend.address()).count();
        assert_eq!(backend.active() as usize, leases, "{}", backend.address());
    }
}

#[test]
fn leases_of_two_threads_are_counted_through_a_swap() {
    loom::model(|| {
        let shared = SharedBalancer::new(Scheduler::Rr).unwrap();
        shared.publish(&[backend(1)]).unwrap();
        let mut picker = shared.picker();
        let worker = thread::spawn(move || {
            drop(picker.connect(&request()).unwrap());
            picker.connect(&request()).unwrap()
        });
        let mut picker = shared.picker();
        let early = picker.connect(&request()).unwrap();
        shared.publish(&[backend(1), backend(2)]).unwrap();
        let held = [early, picker.connect(&request()).unwrap(), worker.join().unwrap()];
        assert_counted(&shared, &held);
        drop(held);
        assert_counted(&shared, &[]);
    });
}

#[test]
fn two_threads_on_the_least_loaded_lose_no_count() {
    loom::model(|| {
        let shared = SharedBalancer::new(Scheduler::Lc).unwrap();
        shared.publish(&[backend(1), backend(2)]).unwrap();
        let workers = [(); 2].map(|()| {
            let mut picker = shared.picker();
            thread::spawn(move || picker.connect(&request()).unwrap())
        });
        let held = workers.map(|worker| worker.join().unwrap());
        assert_counted(&shared, &held);
        drop(held);
        assert_counted(&shared, &[]);
    });
}

#[test]
fn who_knows_of_a_swap_picks_nothing_from_before_it() {
    loom::model(|| {
        let shared = SharedBalancer::new(Scheduler::Rr).unwrap();
        shared.publish(&[backend(1)]).unwrap();
        let mut picker = shared.picker();
        let told = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&told);
        let worker = thread::spawn(move || {
            let knows = told.load(Ordering::Acquire);
            let picked = picker.pick(&request()).unwrap().address();
            assert!(!knows || picked == backend(2).address);
        });
        shared.publish(&[backend(2)]).unwrap();
        tell.store(true, Ordering::Release);
        worker.join().unwrap();
    });
}
