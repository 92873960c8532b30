//! Power of two choices by load, and by load times latency (peak EWMA).

use alloc::vec::Vec;
use core::hint::select_unpredictable;
use core::time::Duration;

use super::random::Members;
use super::{Choice, Engine, Missing};
use crate::pool::{Pool, Slot};
use crate::request::{Request, SplitMix64};
use crate::tournament::Ratio;

/// How latencies are averaged: an exponentially weighted moving average that jumps to a peak at once and
/// comes down slowly (Finagle's `PeakEwma`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EwmaOptions {
    /// The time after which an observation counts 1/e of what it did.
    pub decay: Duration,
    /// The latency assumed of a backend that was never observed; it decays too, so that the backend is tried in
    /// time. A pessimistic one keeps a new backend from being flooded, an optimistic one tries it sooner.
    /// The first observation replaces it.
    pub initial: Duration,
}

impl EwmaOptions {
    /// Decay over 10 seconds, 1 second assumed at first, as Finagle and Linkerd do.
    pub const DEFAULT: Self = Self { decay: Duration::from_secs(10), initial: Duration::from_secs(1) };

    /// The same with another [`decay`](Self::decay).
    #[must_use]
    pub const fn with_decay(mut self, decay: Duration) -> Self {
        self.decay = decay;
        self
    }

    /// The same with another [`initial`](Self::initial) latency.
    #[must_use]
    pub const fn with_initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }
}

impl Default for EwmaOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A backend's latency in nanoseconds, as of a time.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    latency: f64,
    at: Duration,
}

impl Estimate {
    fn at(self, now: Duration, decay: Duration) -> f64 {
        let elapsed = now.saturating_sub(self.at).as_nanos() as f64;
        let decay = decay.as_nanos().max(1) as f64;
        if elapsed == 0.0 { self.latency } else { self.latency * libm::exp(-elapsed / decay) }
    }

    fn observe(&mut self, latency: f64, now: Duration, decay: Duration) {
        let kept = self.at(now, decay);
        let share = if self.latency > 0.0 { kept / self.latency } else { 0.0 };
        self.latency = if latency > self.latency { latency } else { kept + latency * (1.0 - share) };
        self.at = self.at.max(now);
    }
}

#[derive(Clone, Debug)]
struct Latencies {
    options: EwmaOptions,
    /// By slot index; none for a backend that was not observed yet.
    estimates: Vec<Option<Estimate>>,
}

#[derive(Clone, Debug)]
pub(crate) struct TwoChoices {
    members: Members,
    latencies: Option<Latencies>,
}

impl TwoChoices {
    pub(super) fn new(options: Option<EwmaOptions>) -> Self {
        let latencies = options.map(|options| Latencies { options, estimates: Vec::new() });
        Self { members: Members::new(), latencies }
    }

    pub(super) fn observe(&mut self, slot: Slot, latency: Duration, now: Duration) {
        if let Some(latencies) = &mut self.latencies {
            latencies.observe(slot, latency.as_nanos() as f64, now);
        }
    }

    /// Whether the second has strictly less to do than the first.
    #[inline]
    fn prefers(&self, pool: &Pool, second: Slot, first: Slot, now: Duration) -> bool {
        let load = |slot: Slot| Ratio { cost: i64::from(pool[slot].active) + 1, weight: pool[slot].weight };
        match &self.latencies {
            None => load(second).beats(load(first)),
            Some(latencies) => {
                let cost = |slot: Slot| {
                    let Ratio { cost, weight } = load(slot);
                    latencies.estimate(pool, slot, now) * cost as f64 / f64::from(weight)
                };
                cost(second) < cost(first)
            }
        }
    }
}

impl Latencies {
    fn observe(&mut self, slot: Slot, latency: f64, now: Duration) {
        if self.estimates.len() <= slot.index() {
            self.estimates.resize(slot.index() + 1, None);
        }
        match self.estimates.get_mut(slot.index()) {
            Some(Some(estimate)) => estimate.observe(latency, now, self.options.decay),
            Some(unobserved) => *unobserved = Some(Estimate { latency, at: now }),
            None => {}
        }
    }

    fn estimate(&self, pool: &Pool, slot: Slot, now: Duration) -> f64 {
        let observed = self.estimates.get(slot.index()).copied().flatten();
        let assumed =
            || Estimate { latency: self.options.initial.as_nanos() as f64, at: pool.details(slot).added_at };
        observed.unwrap_or_else(assumed).at(now, self.options.decay)
    }
}

impl Engine for TwoChoices {
    fn added(&mut self, _pool: &Pool, slot: Slot) {
        self.members.forget();
        if let Some(Latencies { estimates, .. }) = &mut self.latencies
            && let Some(estimate) = estimates.get_mut(slot.index())
        {
            *estimate = None;
        }
    }

    fn removed(&mut self, _pool: &Pool, _slot: Slot, _before: Slot) {
        self.members.forget();
    }

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {}

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, now: Duration) -> Result<Choice, Missing> {
        self.members.refresh(pool);
        let mut random = SplitMix64::new(request.entropy);
        let draw = |random: u64| self.members.draw(pool, random);
        let Some(first) = draw(random.next()) else { return Err(Missing::USABLE) };
        // Two different ones, unless luck is against it eight times over (or there is only one).
        let second = (0..8).find_map(|_| draw(random.next()).filter(|second| *second != first));
        let second = second.unwrap_or(first);
        // A toss-up, hence no branch on it.
        let better = self.prefers(pool, second, first, now);
        Ok(Choice::scheduled(select_unpredictable(better, second, first)))
    }
}
