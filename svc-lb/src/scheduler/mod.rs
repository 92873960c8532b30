//! The schedulers: one file for each rule, one enum to choose among them.

mod alias;
mod ewma;
mod hash_table;
mod locality;
mod maglev;
mod name;
mod random;
mod ranked;
mod ring;
mod rr;
mod twos;
mod wrr;

use core::net::SocketAddr;
use core::time::Duration;

use crate::backend::Availability;
use crate::pool::{Pool, Slot};
use crate::request::Request;

pub use ewma::EwmaOptions;
pub use maglev::MaglevSize;
pub use name::SchedulerError;
pub use random::{ProbabilityRule, iptables_share, iptables_threshold};
pub use ring::RingOptions;

pub(crate) use alias::AliasTable;
pub(crate) use hash_table::{destination_bucket, source_bucket, source_table};
pub(crate) use maglev::{MaglevMember, MaglevTable};
pub(crate) use ring::Ring;

/// The rule by which backends are chosen.
///
/// The first fourteen are the kernel's, named and behaving as there ([`KernelRules`](crate::KernelRules) picks
/// between kernel generations); "list order" is the kernel's: the backend added last comes first. The
/// others are what other proxies offer. Costs are per pick for *n* backends, with
/// the counting of the connection included. How shares differ from what weights say (the bias) stands with each rule.
///
/// | rule | cost | use it when |
/// | --- | --- | --- |
/// | [`Rr`](Self::Rr) | O(1) past usable ones | requests cost the same, backends are alike |
/// | [`Wrr`](Self::Wrr) | O(log n) | the same with unlike backends; bursty: heavy ones come first |
/// | [`Lc`](Self::Lc), [`Wlc`](Self::Wlc) | O(log n) | connections last long and differ in length |
/// | [`Sed`](Self::Sed), [`Nq`](Self::Nq) | O(log n) | the same with few connections and very unlike weights |
/// | [`Fo`](Self::Fo), [`Ovf`](Self::Ovf) | O(log n) | one backend at a time: standby, or fill up and spill over |
/// | [`Sh`](Self::Sh), [`Dh`](Self::Dh) | O(1) | a client (a virtual address) must stay, changes are rare |
/// | [`Mh`](Self::Mh) | O(1) | a client must stay, and must not move when others change |
/// | [`Lblc`](Self::Lblc), [`Lblcr`](Self::Lblcr) | O(log n), O(set) | caches: same virtual address, same server, unless overloaded |
/// | [`Twos`](Self::Twos) | O(n) | as in the kernel; prefer [`LeastRequest`](Self::LeastRequest) |
/// | [`Random`](Self::Random), [`WeightedRandom`](Self::WeightedRandom) | O(1) | many independent balancers share backends |
/// | [`LeastRequest`](Self::LeastRequest) | O(1) | many balancers, uneven requests; no herd on a new backend |
/// | [`PeakEwma`](Self::PeakEwma) | O(1) | backends answer at different speeds, and you measure it |
/// | [`RingHash`](Self::RingHash) | O(1) expected | as `Mh`, with any number of backends and finer weights |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheduler {
    /// Round robin (`ip_vs_rr.c`): the next usable one in list order. Bias: none over a round; weights count only as 0
    /// or not.
    Rr,
    /// Weighted round robin (`ip_vs_wrr.c`): rounds of falling weight, so 3,2,1 gives a, ab, abc. Bias: none over a whole
    /// round; each begins with the heavy ones alone, and any change of backends begins a new one.
    Wrr,
    /// Least connection (`ip_vs_lc.c`). Bias: ties go to the first in list order, so that at little load it gets most;
    /// a new backend gets every connection until it has caught up. Weights count only as 0 or not.
    Lc,
    /// Weighted least connection (`ip_vs_wlc.c`): the least load per weight. Bias: as [`Lc`](Self::Lc), and all idle ones
    /// tie, whatever their weights.
    Wlc,
    /// Shortest expected delay (`ip_vs_sed.c`): the least `(active + 1) / weight`. Bias: at little load, light ones get
    /// nothing at all.
    Sed,
    /// Never queue (`ip_vs_nq.c`): an idle one if there is any, else as [`Sed`](Self::Sed). Bias: while some are idle,
    /// weights do not count.
    Nq,
    /// Weighted failover (`ip_vs_fo.c`): always the greatest weight. Bias: all to one, which is what it is for.
    Fo,
    /// Weighted overflow (`ip_vs_ovf.c`): the greatest weight among those with `active <= weight`, and none where all are
    /// full. Bias: as many to the heaviest as it holds, which is what it is for.
    Ovf,
    /// Source hash (`ip_vs_sh.c`): 256 buckets dealt by weight. A change of backends moves most clients. Bias: shares are
    /// whole 256ths, and where weights add up to more than 256 the last in the list get none; clients behind
    /// one address all go to one backend.
    Sh(HashFlags),
    /// Destination hash (`ip_vs_dh.c`): 256 buckets dealt evenly, keyed by the virtual address. Bias: shares of whole
    /// 256ths of the addresses, however unlike these are asked for; no weights.
    Dh,
    /// Maglev hashing (`ip_vs_mh.c`; Eisenbud et al., NSDI 2016) of the source. Bias: equal backends differ by one table
    /// slot at most; great weights are shifted until they fit the table, so that light ones get more than their share.
    Mh(HashFlags, MaglevSize),
    /// Locality-based least connection (`ip_vs_lblc.c`): a virtual address keeps its server until that is overloaded.
    /// Bias: shares follow how often each address is asked for.
    Lblc(CacheOptions),
    /// The same with replication (`ip_vs_lblcr.c`): an address that overloads its server gets more of them. Bias: as
    /// [`Lblc`](Self::Lblc), but a popular address is shared.
    Lblcr(CacheOptions),
    /// Power of two choices, weighted (`ip_vs_twos.c`). The kernel's random numbers are the request's entropy
    /// here, so the distribution is the kernel's and the single pick is not. Bias: the first in the list is drawn as if
    /// it weighed one more.
    Twos,
    /// Each usable backend with the same probability. Bias: none that counts; [`ProbabilityRule`] has the figures.
    Random(ProbabilityRule),
    /// In proportion to weight (Walker's alias table, Vose 1991). Bias: each share is off by less than n / 2^64 while all
    /// backends with a weight are usable; the share of unusable ones is dealt over the rest by weight.
    WeightedRandom,
    /// Two different backends at random, of which the less loaded (active connections per weight) takes the
    /// request. Bias: weights count in the comparison alone, as in Envoy's and Linkerd's: of two idle ones the heavier
    /// always takes it, and the most loaded of all gets nothing.
    LeastRequest,
    /// [`LeastRequest`](Self::LeastRequest) with latency in the load: peak EWMA (Finagle). Feed it by
    /// [`Balancer::observe`](crate::Balancer::observe). Bias: towards the fast ones.
    PeakEwma(EwmaOptions),
    /// A hash ring with points by weight (ketama), keyed by the client's address. Bias: with p points a backend's share
    /// varies by about 1 / sqrt(p).
    RingHash(RingOptions),
}

/// Options of the source hashes `sh` and `mh` (`ipvsadm -b`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HashFlags {
    /// What is hashed.
    pub key: HashKey,
    /// What happens when the hash leads to an unusable backend.
    pub fallback: Fallback,
}

/// What of the client a hash covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashKey {
    /// The address.
    #[default]
    Address,
    /// Address and port (`sh-port`, `mh-port`).
    AddressAndPort,
}

/// What happens when the hash leads to an unusable backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fallback {
    /// The request is refused.
    #[default]
    Refuse,
    /// The next usable one by the kernel's probe sequence (`sh-fallback`, `mh-fallback`).
    Next,
}

/// Options of the locality caches `lblc` and `lblcr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CacheOptions {
    /// An address unused for this long is forgotten at the next full sweep (every 30 minutes); a set unchanged
    /// for this long shrinks. Sysctls `lblc_expiration` and `lblcr_expiration`, by default a day.
    pub expiration: Duration,
    /// The greatest number of virtual addresses remembered; the least recently used goes first. The
    /// kernel begins to drop entries above 16,384, by an age of six minutes and without a hard bound.
    pub capacity: u32,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self::KERNEL
    }
}

impl CacheOptions {
    /// A day, and 16,384 addresses.
    pub const KERNEL: Self = Self { expiration: Duration::from_secs(86_400), capacity: 16_384 };

    /// The defaults with another [`expiration`](Self::expiration).
    #[must_use]
    pub const fn with_expiration(mut self, expiration: Duration) -> Self {
        self.expiration = expiration;
        self
    }
}

/// What led to a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PickReason {
    /// The scheduler's rule.
    Scheduled,
    /// The hash led to an unusable backend, and the fallback to this one.
    Fallback,
    /// The virtual address had this backend before (`lblc`, `lblcr`).
    Cached,
    /// The client had this backend before (session affinity).
    Affinity,
}

/// Why there is no pick. The kernel answers such a request with "port unreachable".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No backend is configured.
    #[error("no backend is configured")]
    NoBackends,
    /// All are drained, overloaded or ejected (for `ovf` also: full to their weight).
    #[error("no backend is usable")]
    NoneUsable,
    /// The hash leads to this backend, which takes nothing, and fallback is off.
    #[error("the hash leads to backend {backend}, which takes no connections ({availability:?})")]
    HashedUnusable {
        /// Where the hash leads.
        backend: SocketAddr,
        /// Why it cannot be used.
        availability: Availability,
    },
}

/// A scheduler's answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) slot: Slot,
    pub(crate) reason: PickReason,
}

impl Choice {
    pub(crate) const fn scheduled(slot: Slot) -> Self {
        Self { slot, reason: PickReason::Scheduled }
    }
}

/// Why a scheduler has no answer, in few enough bits that an answer stays in a register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing(Slot);

impl Missing {
    /// None can be used (or there is none).
    pub(crate) const USABLE: Self = Self(Slot::NONE);

    /// The hash leads to this one.
    pub(crate) const fn hashed(slot: Slot) -> Self {
        Self(slot)
    }

    #[cold]
    pub(crate) fn refusal(self, pool: &Pool) -> Refusal {
        match self.0.some() {
            Some(slot) => {
                let state = pool.state(slot);
                Refusal::HashedUnusable { backend: state.backend.address, availability: state.availability }
            }
            None if pool.len() == 0 => Refusal::NoBackends,
            None => Refusal::NoneUsable,
        }
    }
}

/// What the balancer tells a scheduler, after the pool has changed.
pub(crate) trait Engine {
    fn added(&mut self, pool: &Pool, slot: Slot);

    /// `before` is the neighbour nearer to the head that the removed one had.
    fn removed(&mut self, pool: &Pool, slot: Slot, before: Slot);

    /// Weight or thresholds were set (perhaps to what they were).
    fn edited(&mut self, pool: &Pool, slot: Slot);

    /// Counters or the usable flag changed.
    fn loaded(&mut self, _pool: &Pool, _slot: Slot) {}

    /// Usable flags changed all over (panic mode came or went).
    fn reloaded(&mut self, _pool: &Pool) {}

    /// Where a pick leads in the common case, at the least cost: if that can be used, it is the pick. If it cannot, or is
    /// [`Slot::NONE`], nothing has changed and a [`pick`](Self::pick) has to find out.
    ///
    /// Inlined into the dispatch below if it is but a few instructions, and else never: there, the simplest rule
    /// would pay for the registers of the most complex one.
    #[inline]
    fn first(&mut self, _pool: &Pool, _request: &Request) -> Slot {
        Slot::NONE
    }

    /// The pick in all cases.
    fn pick(&mut self, pool: &mut Pool, request: &Request, now: Duration) -> Result<Choice, Missing>;

    /// Lets go of slots that are held.
    fn clear(&mut self, _pool: &mut Pool, _now: Duration) {}
}

macro_rules! engines {
    ($($variant:ident($type:ty)),+ $(,)?) => {
        /// A scheduler with its state.
        #[derive(Clone, Debug)]
        pub(crate) enum State {
            $($variant($type)),+
        }

        impl Engine for State {
            fn added(&mut self, pool: &Pool, slot: Slot) {
                match self { $(Self::$variant(engine) => engine.added(pool, slot)),+ }
            }

            fn removed(&mut self, pool: &Pool, slot: Slot, before: Slot) {
                match self { $(Self::$variant(engine) => engine.removed(pool, slot, before)),+ }
            }

            fn edited(&mut self, pool: &Pool, slot: Slot) {
                match self { $(Self::$variant(engine) => engine.edited(pool, slot)),+ }
            }

            #[inline]
            fn loaded(&mut self, pool: &Pool, slot: Slot) {
                match self { $(Self::$variant(engine) => engine.loaded(pool, slot)),+ }
            }

            fn reloaded(&mut self, pool: &Pool) {
                match self { $(Self::$variant(engine) => engine.reloaded(pool)),+ }
            }

            /// Inlined into the caller, so that the simplest rules cost what they do: a call would cost as much again.
            #[inline(always)]
            fn first(&mut self, pool: &Pool, request: &Request) -> Slot {
                match self { $(Self::$variant(engine) => engine.first(pool, request)),+ }
            }

            #[inline(always)]
            fn pick(&mut self, pool: &mut Pool, request: &Request, now: Duration) -> Result<Choice, Missing> {
                match self { $(Self::$variant(engine) => engine.pick(pool, request, now)),+ }
            }

            fn clear(&mut self, pool: &mut Pool, now: Duration) {
                match self { $(Self::$variant(engine) => engine.clear(pool, now)),+ }
            }
        }
    };
}

engines! {
    Rr(rr::Rr),
    Wrr(wrr::Wrr),
    Lc(ranked::Ranked<ranked::Lc>),
    Wlc(ranked::Ranked<ranked::Wlc>),
    Sed(ranked::Ranked<ranked::Sed>),
    Nq(ranked::Ranked<ranked::Nq>),
    Fo(ranked::Ranked<ranked::Fo>),
    Ovf(ranked::Ranked<ranked::Ovf>),
    HashTable(hash_table::HashTable),
    Mh(maglev::Maglev),
    Lblc(locality::Locality<locality::One>),
    Lblcr(locality::Locality<locality::Set>),
    Twos(twos::Twos),
    Random(random::Random),
    WeightedRandom(alias::WeightedRandom),
    TwoChoices(ewma::TwoChoices),
    RingHash(ring::RingHash),
}

impl State {
    pub(crate) fn new(scheduler: Scheduler, pool: &Pool, now: Duration) -> Self {
        match scheduler {
            Scheduler::Rr => Self::Rr(rr::Rr::new()),
            Scheduler::Wrr => Self::Wrr(wrr::Wrr::new(pool)),
            Scheduler::Lc => Self::Lc(ranked::Ranked::new(pool)),
            Scheduler::Wlc => Self::Wlc(ranked::Ranked::new(pool)),
            Scheduler::Sed => Self::Sed(ranked::Ranked::new(pool)),
            Scheduler::Nq => Self::Nq(ranked::Ranked::new(pool)),
            Scheduler::Fo => Self::Fo(ranked::Ranked::new(pool)),
            Scheduler::Ovf => Self::Ovf(ranked::Ranked::new(pool)),
            Scheduler::Sh(flags) => Self::HashTable(hash_table::HashTable::source(flags)),
            Scheduler::Dh => Self::HashTable(hash_table::HashTable::destination()),
            Scheduler::Mh(flags, size) => Self::Mh(maglev::Maglev::new(flags, size)),
            Scheduler::Lblc(options) => Self::Lblc(locality::Locality::new(pool, options, now)),
            Scheduler::Lblcr(options) => Self::Lblcr(locality::Locality::new(pool, options, now)),
            Scheduler::Twos => Self::Twos(twos::Twos),
            Scheduler::Random(rule) => Self::Random(random::Random::new(rule)),
            Scheduler::WeightedRandom => Self::WeightedRandom(alias::WeightedRandom::new()),
            Scheduler::LeastRequest => Self::TwoChoices(ewma::TwoChoices::new(None)),
            Scheduler::PeakEwma(options) => Self::TwoChoices(ewma::TwoChoices::new(Some(options))),
            Scheduler::RingHash(options) => Self::RingHash(ring::RingHash::new(options)),
        }
    }

    pub(crate) fn observe(&mut self, slot: Slot, latency: Duration, now: Duration) {
        if let Self::TwoChoices(engine) = self {
            engine.observe(slot, latency, now);
        }
    }
}
