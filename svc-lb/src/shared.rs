//! The face for data planes: many threads pick at once while backends are swapped under them.
//!
//! Each swap makes a new *generation*: an immutable list of backends with the rule's table, linked behind the one
//! before. A [`Picker`] holds one generation and, before each pick, looks whether a newer one is linked: one
//! load of a word that nobody writes to but at a swap. So a pick never waits, never touches a word that
//! another pick writes (but for the counters of the backends themselves), and frees nothing; a
//! generation goes when the last picker has left it. Compared with a swapped pointer (as in the arc-swap crate)
//! this needs no per-thread storage, so it works without `std`, and no unsafe code here.
//!
//! Counters belong to the backends, not to a generation: a backend that stays keeps its count through every
//! swap. One that leaves takes its count along; if its address comes back later it starts at zero.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::select_unpredictable;
use core::net::SocketAddr;

use hashbrown::HashMap;
use thiserror::Error;

use crate::backend::{Availability, Backend, ConfigError};
use crate::request::{Request, SplitMix64, scale};
use crate::scheduler::{
    AliasTable, Fallback, HashFlags, MaglevMember, MaglevSize, MaglevTable, ProbabilityRule, Refusal, Ring,
    RingOptions, Scheduler, destination_bucket, source_bucket, source_table,
};
use crate::sync::{AtomicBool, AtomicU32, Mutex, Once, Ordering};
use crate::tournament::Ratio;

/// Marks a table place that leads nowhere.
const NOWHERE: u32 = u32::MAX;

/// A backend as all threads share it.
///
/// What connecting writes lies together, right behind the counts of the [`Arc`] around it (which a lease takes part in),
/// and two cache lines away from what every pick reads and from the next backend.
#[derive(Debug)]
#[repr(C)]
pub struct SharedBackend {
    active: AtomicU32,
    apart: [u64; 14],
    ejected: AtomicBool,
    address: SocketAddr,
}

impl SharedBackend {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leases that are held now.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Takes the backend out of service or back in, for all pickers at once.
    pub fn set_ejected(&self, ejected: Ejection) {
        self.ejected.store(ejected == Ejection::Out, Ordering::Relaxed);
    }

    fn availability(&self, member: &Member) -> Availability {
        if self.ejected.load(Ordering::Relaxed) {
            Availability::Ejected
        } else if member.limit > 0 && self.active() >= member.limit {
            Availability::Overloaded
        } else if member.weight == 0 {
            Availability::Drained
        } else {
            Availability::Usable
        }
    }
}

/// Whether a shared backend serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ejection {
    /// It takes no new connections.
    Out,
    /// It does.
    In,
}

/// A connection counted on a shared backend, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping the lease ends the connection's count"]
pub struct Lease {
    backend: Arc<SharedBackend>,
}

impl Lease {
    /// The backend.
    pub fn backend(&self) -> &SharedBackend {
        &self.backend
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A scheduler that the shared face does not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("scheduler `{scheduler}` cannot pick on many threads at once")]
pub struct UnsharedScheduler {
    scheduler: Scheduler,
}

/// A backend in one generation.
#[derive(Debug)]
struct Member {
    weight: u32,
    /// The upper threshold.
    limit: u32,
    backend: Arc<SharedBackend>,
}

impl Member {
    #[inline]
    fn usable(&self) -> bool {
        self.backend.availability(self) == Availability::Usable
    }

    /// Active connections, and one more, per weight (`sed`).
    fn expected(&self) -> Ratio {
        Ratio { cost: i64::from(self.backend.active()) + 1, weight: self.weight }
    }
}

/// The rules that scan for a minimum.
#[derive(Clone, Copy, Debug)]
enum Least {
    Lc,
    Wlc,
    Sed,
    Nq,
    Fo,
    Ovf,
}

impl Least {
    /// The first usable one in list order with the least ratio, as far as the counters can be seen at once.
    fn find(self, members: &[Member]) -> Option<&Member> {
        let active = |member: &Member| i64::from(member.backend.active());
        match self {
            Self::Lc => least(members, |member| Ratio { cost: active(member), weight: 1 }),
            Self::Wlc => least(members, |member| Ratio { cost: active(member), weight: member.weight }),
            Self::Sed => least(members, Member::expected),
            Self::Nq => least(members, |member| match member.expected() {
                Ratio { cost: 1, weight } => Ratio { cost: 0, weight },
                busy => busy,
            }),
            Self::Fo => least(members, |member| Ratio { cost: -i64::from(member.weight), weight: 1 }),
            Self::Ovf => least(members, |member| {
                let fits = active(member) <= i64::from(member.weight);
                if fits { Ratio { cost: -i64::from(member.weight), weight: 1 } } else { Ratio::NEVER }
            }),
        }
    }
}

#[inline]
fn least(members: &[Member], ratio: impl Fn(&Member) -> Ratio) -> Option<&Member> {
    let usable = members.iter().filter(|member| member.usable()).map(|member| (ratio(member), member));
    let fitting = usable.filter(|(ratio, _)| ratio.weight > 0);
    fitting.reduce(|best, other| if other.0.beats(best.0) { other } else { best }).map(|(_, member)| member)
}

/// A scheduler that can be shared.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Turns,
    Least(Least),
    Uniform,
    Weighted,
    TwoChoices,
    Source(HashFlags),
    Destination,
    Maglev(HashFlags, MaglevSize),
    Ring(RingOptions),
}

impl TryFrom<Scheduler> for Rule {
    type Error = UnsharedScheduler;

    fn try_from(scheduler: Scheduler) -> Result<Self, UnsharedScheduler> {
        Ok(match scheduler {
            Scheduler::Rr => Self::Turns,
            Scheduler::Lc => Self::Least(Least::Lc),
            Scheduler::Wlc => Self::Least(Least::Wlc),
            Scheduler::Sed => Self::Least(Least::Sed),
            Scheduler::Nq => Self::Least(Least::Nq),
            Scheduler::Fo => Self::Least(Least::Fo),
            Scheduler::Ovf => Self::Least(Least::Ovf),
            Scheduler::Random(ProbabilityRule::Uniform) => Self::Uniform,
            Scheduler::WeightedRandom => Self::Weighted,
            Scheduler::LeastRequest => Self::TwoChoices,
            Scheduler::Sh(flags) => Self::Source(flags),
            Scheduler::Dh => Self::Destination,
            Scheduler::Mh(flags, size) => Self::Maglev(flags, size),
            Scheduler::RingHash(options) => Self::Ring(options),
            scheduler => return Err(UnsharedScheduler { scheduler }),
        })
    }
}

/// A rule laid out for one list of members. Tables hold positions in it.
#[derive(Debug)]
enum Table {
    Turns,
    Least(Least),
    Uniform,
    Weighted(AliasTable<u32>),
    TwoChoices,
    Source(Box<[u32; 256]>, HashFlags),
    Destination(Box<[u32; 256]>),
    Maglev(MaglevTable<u32>, HashFlags),
    Ring(Ring<u32>),
}

impl Table {
    fn new(rule: Rule, members: &[Member]) -> Self {
        let numbered = (0_u32..).zip(members);
        let weights = numbered.clone().map(|(position, member)| (position, member.weight));
        match rule {
            Rule::Turns => Self::Turns,
            Rule::Least(rule) => Self::Least(rule),
            Rule::Uniform => Self::Uniform,
            Rule::Weighted => Self::Weighted(AliasTable::new(weights)),
            Rule::TwoChoices => Self::TwoChoices,
            Rule::Source(flags) => Self::Source(source_table(weights, NOWHERE), flags),
            Rule::Destination => {
                Self::Destination(source_table(weights.map(|(position, _)| (position, 1)), NOWHERE))
            }
            Rule::Maglev(flags, size) => {
                let member = |(position, member): (u32, &Member)| MaglevMember {
                    member: position,
                    address: member.backend.address,
                    weight: member.weight,
                };
                let members: Vec<_> = numbered.map(member).collect();
                Self::Maglev(MaglevTable::new(&members, size, NOWHERE), flags)
            }
            Rule::Ring(options) => {
                let member =
                    |(position, member): (u32, &Member)| (position, member.backend.address, member.weight);
                Self::Ring(Ring::new(numbered.map(member), options))
            }
        }
    }
}

/// Backends and table between two swaps.
#[derive(Debug)]
struct Generation {
    /// In list order: the last given first.
    members: Vec<Member>,
    table: Table,
    /// The generation that replaced this one; always `Some` once it is there, but for the moment of dropping.
    next: Once<Option<Arc<Self>>>,
}

impl Drop for Generation {
    /// A picker that slept through many swaps frees them all here: in a loop, since a chain dropped by recursion
    /// would need as deep a stack.
    fn drop(&mut self) {
        let mut next = self.next.get_mut().and_then(Option::take);
        while let Some(mut generation) = next.and_then(Arc::into_inner) {
            next = generation.next.get_mut().and_then(Option::take);
        }
    }
}

/// Backends that many threads pick from, each through its own [`Picker`].
///
/// The schedulers offered: `rr` (each picker goes round on its own, from a place of its own), `lc`, `wlc`, `sed`, `nq`,
/// `fo` and `ovf` (a scan, O(n); leases are the active connections), `sh`, `dh`, `mh`, random, weighted random, least
/// request and ring hash (O(1)). With many threads and many backends prefer least request to a scan. Not offered are those
/// whose next pick depends on all picks before it, by whichever thread (`wrr`, `lblc`, `lblcr`, peak EWMA), and those that
/// another does better (`twos`: least request; a chain of iptables rules: random).
///
/// An upper threshold holds up to the number of threads that connect in the same moment; lower ones are not used.
///
/// ```
/// use svc_lb::{Backend, Request, Scheduler, SharedBalancer};
///
/// let balancer = SharedBalancer::new("least-request".parse()?)?;
/// balancer.publish(&[Backend::new("10.2.0.1:80".parse()?), Backend::new("10.2.0.2:80".parse()?)])?;
///
/// let mut picker = balancer.picker(); // one for each thread
/// let request = Request::new("10.200.0.7:40312".parse()?).with_entropy(7);
/// let lease = picker.connect(&request)?;
/// assert_eq!(lease.backend().active(), 1);
///
/// balancer.publish(&[Backend::new("10.2.0.3:80".parse()?)])?; // pickers see it at their next pick
/// assert_eq!(picker.pick(&request)?.address(), "10.2.0.3:80".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedBalancer {
    rule: Rule,
    /// Taken by swaps and by new pickers, never by a pick.
    latest: Mutex<Arc<Generation>>,
    pickers: AtomicU32,
}

impl SharedBalancer {
    /// A balancer without backends.
    ///
    /// # Errors
    /// If the scheduler is not among those offered.
    pub fn new(scheduler: Scheduler) -> Result<Self, UnsharedScheduler> {
        let rule = Rule::try_from(scheduler)?;
        let table = Table::new(rule, &[]);
        let first = Generation { members: Vec::new(), table, next: Once::new() };
        Ok(Self { rule, latest: Mutex::new(Arc::new(first)), pickers: AtomicU32::new(0) })
    }

    /// Makes the backends these. Pickers see them at their next pick; backends that stay keep their counts and ejections.
    ///
    /// # Errors
    /// If a backend is given twice, or its weight or thresholds are out of range, or Maglev's table cannot
    /// hold them. Then nothing is changed.
    pub fn publish(&self, backends: &[Backend]) -> Result<(), ConfigError> {
        let mut latest = self.latest.lock();
        let mut known: HashMap<SocketAddr, Arc<SharedBackend>, foldhash::fast::FixedState> = latest
            .members
            .iter()
            .map(|member| (member.backend.address, Arc::clone(&member.backend)))
            .collect();
        let mut members = Vec::with_capacity(backends.len());
        let mut seen = hashbrown::HashSet::<SocketAddr, foldhash::fast::FixedState>::default();
        for backend in backends.iter().rev() {
            backend.check()?;
            let address = backend.address;
            if !seen.insert(address) {
                return Err(ConfigError::Exists { address });
            }
            if let Rule::Maglev(_, size) = self.rule
                && members.len() >= size.slots() as usize
            {
                return Err(ConfigError::TableFull { address, limit: size.slots() });
            }
            let shared = known.remove(&address).unwrap_or_else(|| {
                let (active, ejected) = (AtomicU32::new(0), AtomicBool::new(false));
                Arc::new(SharedBackend { active, apart: [0; 14], ejected, address })
            });
            members.push(Member { weight: backend.weight, limit: backend.upper_threshold, backend: shared });
        }
        let table = Table::new(self.rule, &members);
        let generation = Arc::new(Generation { members, table, next: Once::new() });
        latest.next.call_once(|| Some(Arc::clone(&generation)));
        *latest = generation;
        Ok(())
    }

    /// A picker for one thread. Clone it or ask for more for others.
    pub fn picker(&self) -> Picker {
        let generation = Arc::clone(&self.latest.lock());
        let number = self.pickers.fetch_add(1, Ordering::Relaxed);
        let turn = SplitMix64::new(u64::from(number)).below(generation.members.len() as u64) as usize;
        Picker { generation, turn }
    }

    /// The backends now, in list order.
    pub fn backends(&self) -> Vec<Arc<SharedBackend>> {
        self.latest.lock().members.iter().map(|member| Arc::clone(&member.backend)).collect()
    }
}

/// One thread's way to the backends. Its picks never wait for anyone.
///
/// One that does not pick keeps all that was published since its last pick in memory.
#[derive(Clone, Debug)]
pub struct Picker {
    generation: Arc<Generation>,
    /// Where `rr` goes on.
    turn: usize,
}

impl Picker {
    /// Chooses a backend without counting anything.
    ///
    /// # Errors
    /// If there is no backend for the request, with the reason.
    #[inline]
    pub fn pick(&mut self, request: &Request) -> Result<&SharedBackend, Refusal> {
        Ok(&self.member(request)?.backend)
    }

    /// Chooses a backend and counts the connection there until the lease is dropped.
    ///
    /// # Errors
    /// If there is no backend for the request, with the reason.
    #[inline]
    pub fn connect(&mut self, request: &Request) -> Result<Lease, Refusal> {
        let backend = Arc::clone(&self.member(request)?.backend);
        backend.active.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { backend })
    }

    #[inline]
    fn member(&mut self, request: &Request) -> Result<&Member, Refusal> {
        if self.generation.next.is_completed() {
            self.catch_up();
        }
        let Generation { members, table, .. } = &*self.generation;
        let found = match table {
            Table::Turns => next_turn(members, &mut self.turn),
            Table::Least(rule) => rule.find(members),
            Table::Uniform => {
                let first = scale(request.entropy, members.len() as u64);
                members
                    .get(first as usize)
                    .filter(|member| member.usable())
                    .or_else(|| redraw(members, request))
            }
            Table::Weighted(alias) => alias
                .draw(request.entropy)
                .and_then(|position| members.get(position as usize))
                .filter(|member| member.usable())
                .or_else(|| redraw_weighted(members, alias, request)),
            Table::TwoChoices => two_choices(members, request),
            Table::Source(buckets, flags) => {
                let bucket = |probe| buckets.get(source_bucket(request.client, flags.key, probe)).copied();
                let first = bucket(None).unwrap_or(NOWHERE);
                return hashed(members, first, flags, || {
                    (0..256).filter_map(move |probe| bucket(Some(probe)))
                });
            }
            Table::Destination(buckets) => {
                let first = buckets.get(destination_bucket(request.destination)).copied().unwrap_or(NOWHERE);
                return hashed(members, first, &HashFlags::NONE, core::iter::empty);
            }
            Table::Maglev(maglev, flags) => {
                let first = maglev.lookup(&request.client, flags.key);
                return hashed(members, first, flags, || maglev.probes(&request.client, flags.key));
            }
            Table::Ring(ring) => {
                let usable = |position| members.get(position as usize).filter(|member| member.usable());
                let first = ring.first(request.client).and_then(usable);
                first.or_else(|| ring.walk(request.client).find_map(usable))
            }
        };
        found.ok_or(if members.is_empty() { Refusal::NoBackends } else { Refusal::NoneUsable })
    }

    #[cold]
    fn catch_up(&mut self) {
        while let Some(Some(next)) = self.generation.next.get() {
            self.generation = Arc::clone(next);
        }
    }
}

fn next_turn<'a>(members: &'a [Member], turn: &mut usize) -> Option<&'a Member> {
    for _ in 0..members.len() {
        *turn = if *turn + 1 < members.len() { *turn + 1 } else { 0 };
        if let Some(member) = members.get(*turn).filter(|member| member.usable()) {
            return Some(member);
        }
    }
    None
}

/// Unusable ones are drawn again, up to 32 times; then the first usable one is taken.
#[cold]
fn redraw<'a>(members: &'a [Member], request: &Request) -> Option<&'a Member> {
    let mut random = SplitMix64::new(request.entropy);
    (0..32)
        .filter_map(|_| members.get(random.below(members.len() as u64) as usize))
        .find(|member| member.usable())
        .or_else(|| members.iter().find(|member| member.usable()))
}

#[cold]
fn redraw_weighted<'a>(
    members: &'a [Member],
    alias: &AliasTable<u32>,
    request: &Request,
) -> Option<&'a Member> {
    let mut random = SplitMix64::new(request.entropy);
    (0..32)
        .filter_map(|_| members.get(alias.draw(random.next())? as usize))
        .find(|member| member.usable())
        .or_else(|| members.iter().find(|member| member.usable()))
}

fn two_choices<'a>(members: &'a [Member], request: &Request) -> Option<&'a Member> {
    let mut random = SplitMix64::new(request.entropy);
    let count = members.len() as u64;
    let first = random.below(count);
    // Different from the first: one of the others, each alike.
    let second = (first + 1 + random.below(count.saturating_sub(1))).checked_rem(count)?;
    let pair =
        [first, second].map(|position| members.get(position as usize).filter(|member| member.usable()));
    match pair {
        [Some(first), Some(second)] => {
            Some(select_unpredictable(second.expected().beats(first.expected()), second, first))
        }
        [Some(one), None] | [None, Some(one)] => Some(one),
        [None, None] => redraw(members, request),
    }
}

fn hashed<'a, I: Iterator<Item = u32>>(
    members: &'a [Member],
    first: u32,
    flags: &HashFlags,
    probes: impl FnOnce() -> I,
) -> Result<&'a Member, Refusal> {
    let Some(member) = members.get(first as usize) else {
        return Err(if members.is_empty() { Refusal::NoBackends } else { Refusal::NoneUsable });
    };
    let availability = member.backend.availability(member);
    if availability == Availability::Usable {
        return Ok(member);
    }
    match flags.fallback {
        Fallback::Refuse => Err(Refusal::HashedUnusable { backend: member.backend.address, availability }),
        Fallback::Next => probes()
            .filter_map(|position| members.get(position as usize))
            .find(|member| member.usable())
            .ok_or(Refusal::NoneUsable),
    }
}
