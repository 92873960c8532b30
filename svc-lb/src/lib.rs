#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod affinity;
mod backend;
mod balancer;
mod connection;
mod drain;
mod hash;
mod lru;
mod outlier;
mod pool;
mod request;
mod scheduler;
mod shared;
mod slow_start;
mod sync;
mod tournament;
mod zone;

pub use affinity::{AffinityOptions, AffinityRule, Quiescent};
pub use backend::{Availability, Backend, BackendId, BackendState, ConfigError, MAX_WEIGHT};
pub use balancer::{Balancer, BalancerOptions, Changes, KernelRules, Pick};
pub use connection::{Activity, Connection};
pub use drain::{DrainOutcome, Drains};
pub use outlier::{EjectionCause, Outcome, OutlierChange, OutlierDetector, OutlierOptions};
pub use request::{Request, SplitMix64};
pub use scheduler::{
    CacheOptions, EwmaOptions, Fallback, HashFlags, HashKey, MaglevSize, PickReason, ProbabilityRule,
    Refusal, RingOptions, Scheduler, SchedulerError, iptables_share, iptables_threshold,
};
pub use shared::{Ejection, Lease, Picker, SharedBackend, SharedBalancer, UnsharedScheduler};
pub use slow_start::{SlowStart, SlowStartOptions};
pub use zone::{ZoneOptions, ZoneRouter, ZoneShare};
