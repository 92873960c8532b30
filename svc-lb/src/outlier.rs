//! Outlier ejection: backends that fail for their callers are taken out for a while, longer each time.
//!
//! After Envoy's and gRPC's outlier detection (gRFC A50): failures in a row, and a success rate far below that of
//! the others. It is fed with outcomes and answers with changes; [`Balancer::eject`](crate::Balancer::eject) and
//! [`restore`](crate::Balancer::restore) carry them out.

use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;

use crate::backend::BackendId;

/// When a backend counts as an outlier, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OutlierOptions {
    /// This many failures in a row eject at once; 0 never does.
    pub consecutive_failures: u32,
    /// How often success rates are compared, and ejected backends let in again.
    pub interval: Duration,
    /// The first ejection lasts this long, the n-th one n times as long. An interval without ejection takes
    /// one back.
    pub base_ejection: Duration,
    /// No ejection lasts longer.
    pub max_ejection: Duration,
    /// At most this share of backends may be out, in percent; one may always be.
    pub max_ejected_percent: u8,
    /// A success rate this many thousandths of a standard deviation below the mean ejects (1900 in Envoy);
    /// 0 never does.
    pub deviation_milli: u32,
    /// Only backends with this many outcomes in the interval are compared.
    pub min_requests: u32,
    /// Only if there are this many of those.
    pub min_backends: u32,
}

impl OutlierOptions {
    /// Envoy's defaults.
    pub const DEFAULT: Self = Self {
        consecutive_failures: 5,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected_percent: 10,
        deviation_milli: 1900,
        min_requests: 100,
        min_backends: 5,
    };

    /// The same with another number of [`consecutive_failures`](Self::consecutive_failures).
    #[must_use]
    pub const fn with_consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// The same with another bound on the [share](Self::max_ejected_percent) that may be out.
    #[must_use]
    pub const fn with_max_ejected_percent(mut self, percent: u8) -> Self {
        self.max_ejected_percent = percent;
        self
    }
}

impl Default for OutlierOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// As it should.
    Success,
    /// By the backend's fault.
    Failure,
}

/// What is to be done about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlierChange {
    /// Take it out.
    Eject {
        /// The backend.
        backend: BackendId,
        /// Why.
        cause: EjectionCause,
        /// It is let in again at the first interval after this time.
        until: Duration,
    },
    /// Let it in again.
    Restore {
        /// The backend.
        backend: BackendId,
    },
}

/// Why a backend is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EjectionCause {
    /// It failed this many times in a row.
    ConsecutiveFailures(u32),
    /// Its success rate was far below the others'.
    SuccessRate {
        /// Its rate in thousandths.
        rate_milli: u32,
        /// The rate that would have passed, in thousandths.
        bound_milli: u32,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    successes: u32,
    failures: u32,
    in_a_row: u32,
    /// Until when it is out.
    ejected_until: Option<Duration>,
    /// How many times over the base the next ejection lasts, less one.
    multiplier: u32,
}

/// Watches outcomes and finds the outliers.
///
/// ```
/// use std::time::Duration;
/// use svc_lb::{Backend, Balancer, OutlierChange, OutlierDetector, OutlierOptions, Outcome};
///
/// let mut balancer = Balancer::new("rr".parse()?);
/// let first = balancer.add(Backend::new("10.2.0.1:80".parse()?), Duration::ZERO)?;
/// let second = balancer.add(Backend::new("10.2.0.2:80".parse()?), Duration::ZERO)?;
/// let mut detector = OutlierDetector::new(OutlierOptions::DEFAULT.with_consecutive_failures(2));
/// detector.watch([first, second]);
///
/// assert_eq!(detector.record(first, Outcome::Failure, Duration::from_secs(1)), None);
/// let change = detector.record(first, Outcome::Failure, Duration::from_secs(2));
/// assert!(matches!(change, Some(OutlierChange::Eject { backend, .. }) if backend == first));
/// balancer.eject(first);
///
/// let changes = detector.advance(Duration::from_secs(40));
/// assert_eq!(changes, [OutlierChange::Restore { backend: first }]);
/// balancer.restore(first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OutlierDetector {
    options: OutlierOptions,
    records: HashMap<BackendId, Record, foldhash::fast::FixedState>,
    ejected: usize,
    next_sweep: Duration,
}

impl OutlierDetector {
    /// A detector that watches nothing yet.
    pub fn new(options: OutlierOptions) -> Self {
        Self { options, records: HashMap::default(), ejected: 0, next_sweep: options.interval }
    }

    /// Makes the backends these: new ones are watched from now on, others forgotten.
    pub fn watch(&mut self, backends: impl IntoIterator<Item = BackendId>) {
        let mut records: HashMap<BackendId, Record, foldhash::fast::FixedState> = HashMap::default();
        for backend in backends {
            records.insert(backend, self.records.get(&backend).copied().unwrap_or_default());
        }
        self.ejected = records.values().filter(|record| record.ejected_until.is_some()).count();
        self.records = records;
    }

    /// The backends that are out.
    pub fn ejected(&self) -> usize {
        self.ejected
    }

    /// Tells how a request ended; a change is to be carried out at once. Outcomes of backends that are not
    /// watched, or are out already, change nothing.
    pub fn record(&mut self, backend: BackendId, outcome: Outcome, now: Duration) -> Option<OutlierChange> {
        let record = self.records.get_mut(&backend).filter(|record| record.ejected_until.is_none())?;
        match outcome {
            Outcome::Success => {
                record.successes = record.successes.saturating_add(1);
                record.in_a_row = 0;
                None
            }
            Outcome::Failure => {
                record.failures = record.failures.saturating_add(1);
                record.in_a_row = record.in_a_row.saturating_add(1);
                let (failures, limit) = (record.in_a_row, self.options.consecutive_failures);
                if limit == 0 || failures < limit {
                    return None;
                }
                self.eject(backend, EjectionCause::ConsecutiveFailures(failures), now)
            }
        }
    }

    /// Compares success rates and lets backends in again, once for each interval that has passed. Changes come in the
    /// order of backends.
    pub fn advance(&mut self, now: Duration) -> Vec<OutlierChange> {
        if now < self.next_sweep {
            return Vec::new();
        }
        self.next_sweep = now.saturating_add(self.options.interval);
        let mut changes = Vec::new();
        let mut backends: Vec<BackendId> = self.records.keys().copied().collect();
        backends.sort_unstable();
        let bound = self.success_bound(&backends);
        for backend in backends {
            let Some(record) = self.records.get_mut(&backend) else { continue };
            let rated = record.rate(self.options.min_requests);
            (record.successes, record.failures) = (0, 0);
            match (record.ejected_until, rated, bound) {
                (Some(until), ..) if now >= until => {
                    record.ejected_until = None;
                    record.in_a_row = 0;
                    self.ejected -= 1;
                    changes.push(OutlierChange::Restore { backend });
                }
                (Some(_), ..) => {}
                (None, Some(rate), Some(bound)) if rate < bound => {
                    let milli = |rate: f64| libm::round(rate.max(0.0) * 1000.0) as u32;
                    let cause =
                        EjectionCause::SuccessRate { rate_milli: milli(rate), bound_milli: milli(bound) };
                    changes.extend(self.eject(backend, cause, now));
                }
                (None, ..) => record.multiplier = record.multiplier.saturating_sub(1),
            }
        }
        changes
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub const fn next_deadline(&self) -> Duration {
        self.next_sweep
    }

    /// Mean less the deviations allowed, over all backends with enough requests.
    fn success_bound(&self, backends: &[BackendId]) -> Option<f64> {
        let rates = || {
            let records = backends.iter().filter_map(|backend| self.records.get(backend));
            let present = records.filter(|record| record.ejected_until.is_none());
            present.filter_map(|record| record.rate(self.options.min_requests))
        };
        let count = rates().count();
        if self.options.deviation_milli == 0 || count < (self.options.min_backends.max(1) as usize) {
            return None;
        }
        let mean = rates().sum::<f64>() / count as f64;
        let variance = rates().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / count as f64;
        Some(mean - libm::sqrt(variance) * f64::from(self.options.deviation_milli) / 1000.0)
    }

    fn eject(&mut self, backend: BackendId, cause: EjectionCause, now: Duration) -> Option<OutlierChange> {
        let allowed = (self.records.len() * usize::from(self.options.max_ejected_percent) / 100).max(1);
        if self.ejected >= allowed {
            return None;
        }
        let options = self.options;
        let record = self.records.get_mut(&backend)?;
        record.multiplier = record.multiplier.saturating_add(1);
        let lasts = options.base_ejection.saturating_mul(record.multiplier).min(options.max_ejection);
        let until = now.saturating_add(lasts);
        record.ejected_until = Some(until);
        self.ejected += 1;
        Some(OutlierChange::Eject { backend, cause, until })
    }
}

impl Record {
    fn rate(&self, min_requests: u32) -> Option<f64> {
        let total = u64::from(self.successes) + u64::from(self.failures);
        (total > 0 && total >= u64::from(min_requests)).then(|| f64::from(self.successes) / total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> BackendId {
        BackendId { slot, generation: 0 }
    }

    #[test]
    fn the_worst_of_many_is_ejected_by_its_success_rate() {
        let mut detector = OutlierDetector::new(OutlierOptions::DEFAULT.with_consecutive_failures(0));
        detector.watch((0..10).map(id));
        for round in 0..100 {
            for slot in 0..10 {
                let failed = slot == 3 && round % 2 == 0;
                let outcome = if failed { Outcome::Failure } else { Outcome::Success };
                assert_eq!(detector.record(id(slot), outcome, Duration::ZERO), None);
            }
        }
        let changes = detector.advance(Duration::from_secs(10));
        let [OutlierChange::Eject { backend, cause, until }] = changes[..] else { panic!("{changes:?}") };
        assert_eq!((backend, until), (id(3), Duration::from_secs(40)));
        assert!(matches!(cause, EjectionCause::SuccessRate { rate_milli: 500, bound_milli: 501..950 }));
    }

    #[test]
    fn ejections_last_longer_each_time_and_are_bounded_in_number() {
        let mut detector = OutlierDetector::new(OutlierOptions::DEFAULT.with_consecutive_failures(1));
        detector.watch((0..5).map(id));
        let first = detector.record(id(0), Outcome::Failure, Duration::ZERO);
        assert!(
            matches!(first, Some(OutlierChange::Eject { until, .. }) if until == Duration::from_secs(30))
        );
        // One of five is the share that may be out.
        assert_eq!(detector.record(id(1), Outcome::Failure, Duration::ZERO), None);
        let at = Duration::from_secs(30);
        assert_eq!(detector.advance(at), [OutlierChange::Restore { backend: id(0) }]);
        let again = detector.record(id(0), Outcome::Failure, at);
        assert!(
            matches!(again, Some(OutlierChange::Eject { until, .. }) if until == Duration::from_secs(90))
        );
        assert_eq!(detector.ejected(), 1);
    }
}
