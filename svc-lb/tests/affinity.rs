//! Session affinity: who stays, for how long, and in how much memory.

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
    AffinityOptions, Backend, Balancer, BalancerOptions, Connection, PickReason, Quiescent, Request,
    Scheduler,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn backend(number: u8) -> Backend {
    Backend::new(SocketAddr::from(([10, 2, 0, number], 80)))
}

fn client(number: u32) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::from(0x0ac8_0000 + number).into(), 4_000)
}

fn balancer(affinity: AffinityOptions, backends: u8) -> Balancer {
    let mut balancer = Balancer::with_options(BalancerOptions::new(Scheduler::Rr).with_affinity(affinity));
    for number in 0..backends {
        balancer.add(backend(number), Duration::ZERO).unwrap();
    }
    balancer
}

fn address_of(balancer: &mut Balancer, client: SocketAddr, at: Duration) -> (SocketAddr, PickReason) {
    let pick = balancer.pick(&Request::new(client).at(at)).unwrap();
    (balancer.backend(pick.backend).unwrap().backend.address, pick.reason)
}

#[test]
fn timeouts_are_those_of_each_rule() {
    let timeout = seconds(100);
    // The last second at which a client is still known.
    for (options, last) in [
        (AffinityOptions::ipvs(timeout), 99),
        (AffinityOptions::nftables(timeout), 99),
        (AffinityOptions::recent(timeout), 100),
    ] {
        let mut balancer = balancer(options, 3);
        let (first, _) = address_of(&mut balancer, client(1), seconds(0));
        assert_eq!(address_of(&mut balancer, client(1), seconds(last)), (first, PickReason::Affinity));
        // The pick has restarted the timer.
        assert_eq!(address_of(&mut balancer, client(1), seconds(2 * last)), (first, PickReason::Affinity));
        let (second, reason) = address_of(&mut balancer, client(1), seconds(3 * last + 1));
        assert_eq!(reason, PickReason::Scheduled);
        assert_ne!(second, first);
    }
}

#[test]
fn a_template_outlives_its_timer_under_live_connections_and_is_shorter_afterwards() {
    let mut balancer = balancer(AffinityOptions::ipvs(seconds(100)), 3);
    let connection = balancer.connect(&Request::new(client(1))).unwrap();
    let first = connection.backend();
    // It fires at 100, 160, 220, ... until the connection is gone at 250, and so for the last time at 280.
    balancer.release(connection, seconds(250));
    let again = balancer.connect(&Request::new(client(1)).at(seconds(279))).unwrap();
    assert_eq!((again.backend(), again.reason()), (first, PickReason::Affinity));
    balancer.release(again, seconds(279));
    // Restarted at 279, but with 60 seconds only.
    assert_eq!(address_of(&mut balancer, client(1), seconds(338)).1, PickReason::Affinity);
    assert_eq!(address_of(&mut balancer, client(1), seconds(398)).1, PickReason::Scheduled);
}

#[test]
fn the_client_whose_last_connection_is_longest_ago_is_forgotten_first() {
    let mut balancer = balancer(AffinityOptions::ipvs(seconds(1_000)).with_capacity(3), 2);
    for number in [1, 2, 3, 1, 4] {
        address_of(&mut balancer, client(number), seconds(u64::from(number)));
    }
    assert_eq!(balancer.remembered_clients(), 3);
    assert_eq!(address_of(&mut balancer, client(1), seconds(9)).1, PickReason::Affinity);
    assert_eq!(address_of(&mut balancer, client(2), seconds(9)).1, PickReason::Scheduled);
}

#[test]
fn recent_bounds_the_clients_of_each_backend() {
    let mut balancer = balancer(AffinityOptions::recent(seconds(1_000)).with_capacity(5), 2);
    for number in 0..100 {
        address_of(&mut balancer, client(number), seconds(1));
    }
    assert_eq!(balancer.remembered_clients(), 10);
}

#[test]
fn clients_fit_the_stated_memory() {
    let mut balancer = balancer(AffinityOptions::ipvs(seconds(10_800)), 10);
    for number in 0..(1 << 18) {
        balancer.pick(&Request::new(client(number))).unwrap();
    }
    assert_eq!(balancer.remembered_clients(), 1 << 18);
    let each = balancer.affinity_bytes() as f64 / f64::from(1 << 18);
    assert!(each < 80.0, "{each} bytes for each client");
}

#[test]
fn expired_clients_are_swept_as_new_ones_come() {
    let mut balancer = balancer(AffinityOptions::ipvs(seconds(10)), 2);
    for number in 0..1_000 {
        address_of(&mut balancer, client(number), seconds(0));
    }
    for number in 1_000..2_000 {
        address_of(&mut balancer, client(number), seconds(20));
    }
    assert_eq!(balancer.remembered_clients(), 1_000);
}

#[test]
fn draining_keeps_clients_unless_told_otherwise() {
    for (quiescent, kept) in [(Quiescent::Keep, true), (Quiescent::Expire, false)] {
        let mut balancer = balancer(AffinityOptions::ipvs(seconds(100)).with_quiescent(quiescent), 2);
        let (first, _) = address_of(&mut balancer, client(1), seconds(0));
        balancer.edit(Backend::new(first).with_weight(0)).unwrap();
        assert_eq!(address_of(&mut balancer, client(1), seconds(1)).0 == first, kept);
    }
}

#[test]
fn a_backend_that_goes_twice_in_one_instant_is_forgotten_once() {
    let mut balancer = Balancer::new(Scheduler::Rr);
    for _ in 0..2 {
        balancer.add(backend(1), seconds(0)).unwrap();
        balancer.remove(backend(1).address, seconds(0)).unwrap();
    }
    // Long after, two others must not get one and the same place.
    let ids = [2, 3].map(|number| balancer.add(backend(number), seconds(10_000)).unwrap());
    assert_ne!(ids[0], ids[1]);
    let addresses: Vec<_> = balancer.backends().map(|state| state.backend.address).collect();
    assert_eq!(addresses, [backend(3).address, backend(2).address]);
}

#[derive(Clone, Debug)]
enum Event {
    Connect(u32),
    Release(u16),
    Add(u8),
    Remove(u8),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..20_u32).prop_map(Event::Connect),
        3 => any::<u16>().prop_map(Event::Release),
        1 => (0..6_u8).prop_map(Event::Add),
        1 => (0..6_u8).prop_map(Event::Remove),
        2 => (0..90_u64).prop_map(Event::Wait),
    ]
}

/// A template as the kernel has it: with a real timer that is run second by second.
struct Template {
    server: SocketAddr,
    expires: u64,
    timeout: u64,
    live: u32,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A change of backends moves the clients of removed ones and nobody else, and timers run as if they were
    /// run second by second.
    #[test]
    fn clients_stay_as_with_ticking_timers(events in vec(event(), 0..200)) {
        let mut fast = balancer(AffinityOptions::ipvs(seconds(100)), 4);
        let mut configured: Vec<u8> = (0..4).collect();
        let mut templates: HashMap<u32, Template> = HashMap::new();
        let mut held: Vec<(Connection, u32, SocketAddr)> = Vec::new();
        let mut now = 0;
        for event in events {
            match event {
                Event::Connect(number) => {
                    let Ok(connection) = fast.connect(&Request::new(client(number)).at(seconds(now))) else {
                        prop_assert!(configured.is_empty());
                        continue;
                    };
                    let got = fast.backend(connection.backend()).unwrap().backend.address;
                    let lives = |server: SocketAddr| configured.iter().any(|number| backend(*number).address == server);
                    match templates.get_mut(&number).filter(|template| lives(template.server)) {
                        Some(template) => {
                            prop_assert_eq!((got, connection.reason()), (template.server, PickReason::Affinity));
                            template.live += 1;
                            template.expires = now + template.timeout;
                        }
                        None => {
                            prop_assert_eq!(connection.reason(), PickReason::Scheduled);
                            // Connections of an earlier template do not hold this one.
                            for (_, of, _) in held.iter_mut().filter(|(_, of, _)| *of == number) {
                                *of = u32::MAX;
                            }
                            let template = Template { server: got, expires: now + 100, timeout: 100, live: 1 };
                            templates.insert(number, template);
                        }
                    }
                    held.push((connection, number, got));
                }
                Event::Release(at) => {
                    if !held.is_empty() {
                        let (connection, of, _) = held.swap_remove(usize::from(at) % held.len());
                        fast.release(connection, seconds(now));
                        if let Some(template) = templates.get_mut(&of) {
                            template.live -= 1;
                        }
                    }
                }
                Event::Add(number) => {
                    if fast.add(backend(number), seconds(now)).is_ok() {
                        configured.push(number);
                    }
                }
                Event::Remove(number) => {
                    if fast.remove(backend(number).address, seconds(now)).is_ok() {
                        configured.retain(|other| *other != number);
                    }
                }
                Event::Wait(wait) => {
                    for _ in 0..wait {
                        now += 1;
                        let mut gone = Vec::new();
                        for (number, template) in &mut templates {
                            if template.expires == now {
                                if template.live > 0 {
                                    template.expires = now + 60;
                                    template.timeout = 60;
                                } else {
                                    gone.push(*number);
                                }
                            }
                        }
                        for number in gone {
                            templates.remove(&number);
                        }
                    }
                }
            }
        }
    }
}
