//! No pick allocates, once tables are laid and clients and virtual addresses are known.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    reason = "a test may stop at the first surprise, and runs where std is"
)]

use std::net::SocketAddr;
use std::time::Duration;

use svc_lb::{
    AffinityOptions, Backend, Balancer, BalancerOptions, Request, Scheduler, SharedBalancer, SplitMix64,
};

fn backends() -> Vec<Backend> {
    (0..50_u8)
        .map(|number| Backend::new(SocketAddr::from(([10, 2, 0, number], 80))).with_weight(number.into()))
        .collect()
}

fn request(random: &mut SplitMix64) -> Request {
    let entropy = random.next();
    let client = SocketAddr::from(([10, 200, 0, entropy as u8], 4_000));
    Request::new(client)
        .to(SocketAddr::from(([10, 1, 0, (entropy >> 8) as u8 % 8], 80)))
        .with_entropy(entropy)
}

#[test]
fn picks_do_not_allocate() {
    for scheduler in Scheduler::ALL {
        for affinity in [None, Some(AffinityOptions::ipvs(Duration::from_secs(60)))] {
            let mut options = BalancerOptions::new(scheduler);
            options.affinity = affinity;
            let mut balancer = Balancer::with_options(options);
            balancer.replace_all(&backends(), Duration::ZERO).unwrap();
            let mut random = SplitMix64::new(1);
            let mut pick = |balancer: &mut Balancer| {
                if let Ok(connection) = balancer.connect(&request(&mut random)) {
                    balancer.release(connection, Duration::ZERO);
                }
            };
            (0..5_000).for_each(|_| pick(&mut balancer));
            let info = allocation_counter::measure(|| (0..5_000).for_each(|_| pick(&mut balancer)));
            assert_eq!(info.count_total, 0, "{scheduler}");
        }
    }
}

#[test]
fn shared_picks_do_not_allocate() {
    for scheduler in Scheduler::ALL {
        let Ok(shared) = SharedBalancer::new(scheduler) else { continue };
        shared.publish(&backends()).unwrap();
        let mut picker = shared.picker();
        let mut random = SplitMix64::new(1);
        let info = allocation_counter::measure(|| {
            for _ in 0..5_000 {
                drop(picker.connect(&request(&mut random)));
            }
        });
        assert_eq!(info.count_total, 0, "{scheduler}");
    }
}
