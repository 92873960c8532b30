//! Schedulers and their flags by the names that `ipvsadm` knows.

use alloc::string::{String, ToString as _};

use thiserror::Error;

use super::{
    CacheOptions, EwmaOptions, Fallback, HashFlags, HashKey, MaglevSize, ProbabilityRule, RingOptions,
    Scheduler,
};

/// A scheduler or flag name that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// No scheduler has this name.
    #[error("unknown scheduler `{0}`")]
    UnknownScheduler(String),
    /// The scheduler does not know this flag.
    #[error("scheduler `{scheduler}` has no flag `{flag}`")]
    UnknownFlag {
        /// The scheduler.
        scheduler: &'static str,
        /// The flag.
        flag: String,
    },
}

impl Scheduler {
    /// Every scheduler, with its default options.
    pub const ALL: [Self; 19] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Sh(HashFlags::NONE),
        Self::Dh,
        Self::Mh(HashFlags::NONE, MaglevSize::KERNEL),
        Self::Lblc(CacheOptions::KERNEL),
        Self::Lblcr(CacheOptions::KERNEL),
        Self::Twos,
        Self::Random(ProbabilityRule::Uniform),
        Self::WeightedRandom,
        Self::LeastRequest,
        Self::PeakEwma(EwmaOptions::DEFAULT),
        Self::RingHash(RingOptions::DEFAULT),
    ];

    /// The scheduler with this name and these flags, as in `ipvsadm -s NAME -b FLAG,FLAG`.
    ///
    /// Flags are `sh-fallback`, `sh-port`, `mh-fallback` and `mh-port` for their own schedulers, and the
    /// kernel's bits `flag-1` to `flag-3` for any (where a scheduler gives a bit no meaning it is
    /// accepted and ignored, as the kernel does).
    ///
    /// ```
    /// use svc_lb::{Fallback, Scheduler};
    ///
    /// let Scheduler::Sh(flags) = Scheduler::parse("sh", ["sh-fallback"])? else { unreachable!() };
    /// assert_eq!(flags.fallback, Fallback::Next);
    /// assert!(Scheduler::parse("rr", ["sh-fallback"]).is_err());
    /// # Ok::<(), svc_lb::SchedulerError>(())
    /// ```
    ///
    /// # Errors
    /// If the name or a flag is unknown.
    pub fn parse<'a>(name: &str, flags: impl IntoIterator<Item = &'a str>) -> Result<Self, SchedulerError> {
        let mut scheduler = Self::ALL
            .into_iter()
            .find(|scheduler| scheduler.name() == name)
            .ok_or_else(|| SchedulerError::UnknownScheduler(name.to_string()))?;
        for flag in flags {
            scheduler = scheduler.with_flag(flag)?;
        }
        Ok(scheduler)
    }

    fn with_flag(self, flag: &str) -> Result<Self, SchedulerError> {
        let unknown = SchedulerError::UnknownFlag { scheduler: self.name(), flag: flag.to_string() };
        let own = flag.strip_prefix(self.name()).and_then(|rest| rest.strip_prefix('-'));
        match self {
            Self::Sh(flags) => flags.with_flag(flag, own).map(Self::Sh),
            Self::Mh(flags, size) => flags.with_flag(flag, own).map(|flags| Self::Mh(flags, size)),
            other => matches!(flag, "flag-1" | "flag-2" | "flag-3").then_some(other),
        }
        .ok_or(unknown)
    }

    /// The name: the kernel's where it has one.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Sh(_) => "sh",
            Self::Dh => "dh",
            Self::Mh(..) => "mh",
            Self::Lblc(_) => "lblc",
            Self::Lblcr(_) => "lblcr",
            Self::Twos => "twos",
            Self::Random(_) => "random",
            Self::WeightedRandom => "weighted-random",
            Self::LeastRequest => "least-request",
            Self::PeakEwma(_) => "peak-ewma",
            Self::RingHash(_) => "ring-hash",
        }
    }
}

impl core::str::FromStr for Scheduler {
    type Err = SchedulerError;

    /// The scheduler of this name without flags.
    fn from_str(name: &str) -> Result<Self, SchedulerError> {
        Self::parse(name, [])
    }
}

impl core::fmt::Display for Scheduler {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl HashFlags {
    /// Address only, no fallback.
    pub const NONE: Self = Self { key: HashKey::Address, fallback: Fallback::Refuse };

    /// Bit 1 is the fallback, bit 2 the port (`IP_VS_SVC_F_SCHED1`, `IP_VS_SVC_F_SCHED2`).
    fn with_flag(mut self, flag: &str, own: Option<&str>) -> Option<Self> {
        match (flag, own) {
            ("flag-1", _) | (_, Some("fallback")) => self.fallback = Fallback::Next,
            ("flag-2", _) | (_, Some("port")) => self.key = HashKey::AddressAndPort,
            ("flag-3", _) => {}
            _ => return None,
        }
        Some(self)
    }
}
