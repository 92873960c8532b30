//! Zone-aware preference: stay in the own zone as far as that leaves all backends with the same load.
//!
//! After Envoy's zone-aware routing. Let the callers' zone hold a share *c* of all callers, and a share *b* of the
//! backends' capacity. If *b* reaches *c*, all requests can stay. If not, the part *b / c* stays, and the rest goes to the
//! zones that have more capacity than callers, in proportion to what they have left.

use alloc::vec::Vec;

use crate::request::SplitMix64;

/// One zone as the router sees it: its callers and its backends, in any units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZoneShare {
    /// How much of the load arises here: callers, or their weights.
    pub callers: u32,
    /// How much of it can be served here: usable backends, or their weights.
    pub capacity: u32,
}

/// When requests leave their zone although it could serve all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ZoneOptions {
    /// With less capacity than this in all zones, zones are disregarded (Envoy's `min_cluster_size`, 6).
    pub min_capacity: u32,
}

impl Default for ZoneOptions {
    fn default() -> Self {
        Self { min_capacity: 6 }
    }
}

/// Chooses the zone for each request of one zone's callers. Keep one [`Balancer`](crate::Balancer) for each
/// zone, and let the router say which to ask.
///
/// ```
/// use svc_lb::{ZoneOptions, ZoneRouter, ZoneShare};
///
/// // Zone 0 has half of the callers, but a quarter of the backends.
/// let zones = [ZoneShare { callers: 5, capacity: 2 }, ZoneShare { callers: 5, capacity: 6 }];
/// let router = ZoneRouter::new(&zones, 0, ZoneOptions::default());
/// assert_eq!(router.shares(), [0.5, 0.5]); // of its requests, half must leave
/// assert!(router.route(42).is_some());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneRouter {
    /// Bounds of 2^64, rising; the first that is not below a draw wins.
    bounds: Vec<u64>,
    shares: Vec<f64>,
}

impl ZoneRouter {
    /// A router for the callers of the zone numbered `local`. If that zone is not among them, or no caller is known,
    /// or there is less capacity than `options` ask for, requests go by capacity alone.
    pub fn new(zones: &[ZoneShare], local: usize, options: ZoneOptions) -> Self {
        let shares = shares(zones, local, options);
        let mut sum = 0.0;
        let bounds = shares
            .iter()
            .map(|share| {
                sum += share;
                // Saturates at the top, where rounding might leave the sum of all a little short of 1.
                (sum * 18_446_744_073_709_551_616.0) as u64
            })
            .collect();
        Self { bounds, shares }
    }

    /// The share of requests that goes to each zone; all 0 if there is no capacity.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The zone for a request, by 64 random bits; none if there is no capacity.
    pub fn route(&self, entropy: u64) -> Option<usize> {
        // The request's entropy decides inside the zone too, so it must not be used up here.
        let draw = SplitMix64::new(entropy).next();
        let open = |zone: &usize| self.shares.get(*zone).is_some_and(|share| *share > 0.0);
        let first = self.bounds.partition_point(|bound| *bound <= draw);
        (first..self.shares.len()).find(open).or_else(|| (0..self.shares.len()).rev().find(open))
    }
}

fn shares(zones: &[ZoneShare], local: usize, options: ZoneOptions) -> Vec<f64> {
    let callers: f64 = zones.iter().map(|zone| f64::from(zone.callers)).sum();
    let capacity: f64 = zones.iter().map(|zone| f64::from(zone.capacity)).sum();
    if capacity == 0.0 {
        return zones.iter().map(|_| 0.0).collect();
    }
    let by_capacity = || zones.iter().map(|zone| f64::from(zone.capacity) / capacity).collect();
    let Some(home) =
        zones.get(local).filter(|_| callers > 0.0 && capacity >= f64::from(options.min_capacity))
    else {
        return by_capacity();
    };
    let (arises, served) = (f64::from(home.callers) / callers, f64::from(home.capacity) / capacity);
    let stays = if served >= arises { 1.0 } else { served / arises };
    let spare =
        |zone: &ZoneShare| (f64::from(zone.capacity) / capacity - f64::from(zone.callers) / callers).max(0.0);
    let all: f64 = zones.iter().map(spare).sum();
    let away = |zone: &ZoneShare| if all > 0.0 { (1.0 - stays) * spare(zone) / all } else { 0.0 };
    zones.iter().enumerate().map(|(index, zone)| if index == local { stays } else { away(zone) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_backend_gets_the_same_load(zones in proptest::collection::vec((1..50_u32, 1..50_u32), 1..8)) {
            let zones: Vec<ZoneShare> =
                zones.into_iter().map(|(callers, capacity)| ZoneShare { callers, capacity }).collect();
            let mut load = alloc::vec![0.0; zones.len()];
            for local in 0..zones.len() {
                let router = ZoneRouter::new(&zones, local, ZoneOptions { min_capacity: 0 });
                prop_assert!((router.shares().iter().sum::<f64>() - 1.0).abs() < 1e-9);
                for (zone, share) in router.shares().iter().enumerate() {
                    load[zone] += share * f64::from(zones[local].callers);
                }
            }
            let per_unit: Vec<f64> =
                load.iter().zip(&zones).map(|(load, zone)| load / f64::from(zone.capacity)).collect();
            let (low, high) = per_unit.iter().fold((f64::MAX, 0.0_f64), |(low, high), load| (low.min(*load), high.max(*load)));
            prop_assert!(high - low < 1e-9 * high, "{per_unit:?}");
        }
    }

    #[test]
    fn routes_by_the_shares() {
        let zones = [(1, 1), (5, 2), (1, 9)].map(|(callers, capacity)| ZoneShare { callers, capacity });
        let router = ZoneRouter::new(&zones, 1, ZoneOptions::default());
        let mut counts = [0_u32; 3];
        let mut random = SplitMix64::new(5);
        for _ in 0..100_000 {
            counts[router.route(random.next()).unwrap()] += 1;
        }
        for (count, share) in counts.iter().zip(router.shares()) {
            assert!((f64::from(*count) / 100_000.0 - share).abs() < 0.01);
        }
        assert_eq!(ZoneRouter::new(&[], 0, ZoneOptions::default()).route(1), None);
    }
}
