//! The single-threaded face: events in, picks and state out.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use hashbrown::HashSet;

use crate::affinity::{Affinity, AffinityOptions, TemplateRef};
use crate::backend::{Backend, BackendId, BackendState, ConfigError};
use crate::connection::{Activity, Connection};
use crate::pool::Pool;
use crate::request::Request;
use crate::scheduler::{Choice, Engine as _, Missing, PickReason, Refusal, Scheduler, State};

/// Which kernel's arithmetic is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelRules {
    /// Since the rework of 2026 (in Debian's 6.1.192): an active connection weighs 257 inactive ones; a backend is
    /// overloaded from the moment its connections reach the upper threshold exactly, until they fall
    /// from the lower one.
    #[default]
    Current,
    /// Before: 256; overloaded on any connection at or above the upper threshold, until any end leaves
    /// fewer than the lower one.
    Classic,
}

/// How a [`Balancer`] works.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BalancerOptions {
    /// The rule for new connections.
    pub scheduler: Scheduler,
    /// Whether and how clients keep their backend.
    pub affinity: Option<AffinityOptions>,
    /// Which kernel's arithmetic is followed.
    pub kernel: KernelRules,
    /// When the share of backends that are not ejected falls below this many percent, ejections are
    /// disregarded: spreading load over backends that may be ill is better than felling the rest
    /// (Envoy's panic threshold). 0, the default, always keeps to ejections; above 100 never does.
    pub panic_percent: u8,
}

impl BalancerOptions {
    /// This scheduler, and defaults for the rest.
    pub const fn new(scheduler: Scheduler) -> Self {
        Self { scheduler, affinity: None, kernel: KernelRules::Current, panic_percent: 0 }
    }

    /// The same with session affinity.
    #[must_use]
    pub fn with_affinity(mut self, affinity: AffinityOptions) -> Self {
        self.affinity = Some(affinity);
        self
    }

    /// The same with another kernel's rules.
    #[must_use]
    pub const fn with_kernel(mut self, kernel: KernelRules) -> Self {
        self.kernel = kernel;
        self
    }

    /// The same with a [panic threshold](Self::panic_percent).
    #[must_use]
    pub const fn with_panic_percent(mut self, percent: u8) -> Self {
        self.panic_percent = percent;
        self
    }
}

/// A choice that was made but not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The backend.
    pub backend: BackendId,
    /// What led to it.
    pub reason: PickReason,
}

/// What [`Balancer::replace_all`] did, each list in the order of its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New (or back again).
    pub added: Vec<SocketAddr>,
    /// With another weight or other thresholds.
    pub edited: Vec<SocketAddr>,
    /// Gone, the last added first.
    pub removed: Vec<SocketAddr>,
}

/// One virtual service: backends, a scheduler, and the connections' counters.
///
/// Backends come and go by [`add`](Self::add), [`edit`](Self::edit), [`remove`](Self::remove) and
/// [`replace_all`](Self::replace_all). For each new connection call [`connect`](Self::connect), tell it
/// when the connection [closes](Self::deactivate), and [`release`](Self::release) it when it is gone. Where
/// nothing is counted (datagrams, or rules that do not look at load), [`pick`](Self::pick) is enough.
///
/// All calls take the time as a [`Duration`] since an epoch of the caller's choice, the same for one balancer.
///
/// A copy of a balancer shares nothing with the original and continues exactly as it would; connections
/// can be released in either.
#[derive(Clone, Debug)]
pub struct Balancer {
    pool: Pool,
    scheduler: Scheduler,
    state: State,
    affinity: Option<Affinity>,
    /// The latest time seen.
    now: Duration,
}

// === configuration ===

impl Balancer {
    /// A balancer without backends, with this scheduler and nothing else.
    pub fn new(scheduler: Scheduler) -> Self {
        Self::with_options(BalancerOptions::new(scheduler))
    }

    /// A balancer without backends.
    pub fn with_options(options: BalancerOptions) -> Self {
        let pool = Pool::new(options.kernel, options.panic_percent);
        let state = State::new(options.scheduler, &pool, Duration::ZERO);
        let affinity = options.affinity.map(Affinity::new);
        Self { pool, scheduler: options.scheduler, state, affinity, now: Duration::ZERO }
    }

    /// Adds a backend at the head of the list, as `ipvsadm -a` does. The cost is that of one change of the scheduler's
    /// structures: O(log n), or for the tables (`sh`, `dh`, `mh`, weighted random, ring hash) a rebuild
    /// at the next pick however many changes came before it.
    ///
    /// # Errors
    /// If the address is configured already, weight or thresholds are out of range, or Maglev's table is full. (The kernel
    /// takes a backend beyond the table's size, says nothing, and leaves the table as it was: `ip_vs_mh_reassign` fails, and
    /// `__ip_vs_update_dest` does not look.)
    pub fn add(&mut self, backend: Backend, now: Duration) -> Result<BackendId, ConfigError> {
        if let Scheduler::Mh(_, size) = self.scheduler
            && self.pool.len() >= size.slots() as usize
        {
            return Err(ConfigError::TableFull { address: backend.address, limit: size.slots() });
        }
        let now = self.advance(now);
        let panicking = self.pool.panicking();
        let slot = self.pool.add(backend, now)?;
        self.state.added(&self.pool, slot);
        self.settle_panic(panicking);
        Ok(self.pool.id(slot))
    }

    /// Sets a backend's weight and thresholds, as `ipvsadm -e` does; even to what they were, since the
    /// kernel's `wrr` starts over then.
    ///
    /// # Errors
    /// If no such backend is configured, or weight or thresholds are out of range.
    pub fn edit(&mut self, backend: Backend) -> Result<BackendId, ConfigError> {
        let slot = self.pool.edit(backend)?;
        self.state.edited(&self.pool, slot);
        Ok(self.pool.id(slot))
    }

    /// Removes a backend. Its connections live on and stay counted until they are released; clients that belong
    /// to it are scheduled anew.
    ///
    /// # Errors
    /// If no such backend is configured.
    pub fn remove(&mut self, address: SocketAddr, now: Duration) -> Result<BackendId, ConfigError> {
        let slot = self.pool.find(address).ok_or(ConfigError::NotFound { address })?;
        let now = self.advance(now);
        let (id, before, panicking) = (self.pool.id(slot), self.pool.prev(slot), self.pool.panicking());
        self.pool.remove(slot, now);
        self.state.removed(&self.pool, slot, before);
        self.settle_panic(panicking);
        Ok(id)
    }

    /// Makes the backends these, with as few changes as possible: what stays the same keeps its place in
    /// the list, its counters and its clients; what is new is added in the order given.
    ///
    /// # Errors
    /// If a backend is given twice, or its weight or thresholds are out of range, or Maglev's table cannot
    /// hold them. Then nothing is changed.
    pub fn replace_all(&mut self, backends: &[Backend], now: Duration) -> Result<Changes, ConfigError> {
        let mut wanted: HashSet<SocketAddr, foldhash::fast::FixedState> = HashSet::default();
        for backend in backends {
            backend.check()?;
            if !wanted.insert(backend.address) {
                return Err(ConfigError::Exists { address: backend.address });
            }
            if let Scheduler::Mh(_, size) = self.scheduler
                && wanted.len() > size.slots() as usize
            {
                return Err(ConfigError::TableFull { address: backend.address, limit: size.slots() });
            }
        }
        let mut changes = Changes::default();
        let present: Vec<SocketAddr> =
            self.pool.iter().map(|slot| self.pool.details(slot).backend.address).collect();
        for address in present {
            if !wanted.contains(&address) {
                self.remove(address, now)?;
                changes.removed.push(address);
            }
        }
        for backend in backends {
            match self.pool.find(backend.address) {
                Some(slot) if self.pool.details(slot).backend == *backend => {}
                Some(_) => {
                    self.edit(*backend)?;
                    changes.edited.push(backend.address);
                }
                None => {
                    self.add(*backend, now)?;
                    changes.added.push(backend.address);
                }
            }
        }
        Ok(changes)
    }

    /// Changes the scheduler, as `ipvsadm -E -s` does: its state starts afresh, counters, thresholds and affinity
    /// stay.
    ///
    /// # Errors
    /// If Maglev's table cannot hold the backends. Then nothing is changed (the kernel would leave the service without
    /// any scheduler).
    pub fn set_scheduler(&mut self, scheduler: Scheduler) -> Result<(), ConfigError> {
        if let Scheduler::Mh(_, size) = scheduler
            && self.pool.len() > size.slots() as usize
            && let Some(head) = self.pool.head().some()
        {
            let address = self.pool.details(head).backend.address;
            return Err(ConfigError::TableFull { address, limit: size.slots() });
        }
        self.state.clear(&mut self.pool, self.now);
        self.state = State::new(scheduler, &self.pool, self.now);
        self.scheduler = scheduler;
        Ok(())
    }

    /// Changes the affinity. Clients are forgotten unless it is the same as before.
    pub fn set_affinity(&mut self, affinity: Option<AffinityOptions>) {
        if self.affinity.as_ref().map(Affinity::options) != affinity.as_ref() {
            if let Some(old) = &mut self.affinity {
                old.clear(&mut self.pool, self.now);
            }
            self.affinity = affinity.map(Affinity::new);
        }
    }

    /// Takes a backend out of service for new connections, as if its weight were 0, without touching its
    /// configuration or any table, until [`restore`](Self::restore). True if it was in service.
    ///
    /// Clients with affinity keep it, as with weight 0.
    pub fn eject(&mut self, id: BackendId) -> bool {
        self.set_ejected(id, true)
    }

    /// Takes an ejected backend back into service. True if it was out.
    pub fn restore(&mut self, id: BackendId) -> bool {
        self.set_ejected(id, false)
    }

    fn set_ejected(&mut self, id: BackendId, ejected: bool) -> bool {
        let Some(slot) = self.pool.slot(id) else { return false };
        let panicking = self.pool.panicking();
        let changed = self.pool.set_ejected(slot, ejected);
        if changed {
            self.state.loaded(&self.pool, slot);
            self.settle_panic(panicking);
        }
        changed
    }

    fn settle_panic(&mut self, before: bool) {
        if before != self.pool.panicking() {
            self.state.reloaded(&self.pool);
        }
    }

    #[inline]
    fn advance(&mut self, now: Duration) -> Duration {
        // As one number each, which are compared in half as many steps as durations are. A store on every pick
        // would chain each to the one before.
        let whole = |time: Duration| (u128::from(time.as_secs()) << 64) | u128::from(time.subsec_nanos());
        if whole(self.now) < whole(now) {
            self.now = now;
        }
        self.now
    }
}

// === connections ===

impl Balancer {
    /// Chooses a backend and counts the connection as active.
    ///
    /// # Errors
    /// If there is no backend for it, with the reason. Nothing is counted then.
    #[inline]
    pub fn connect(&mut self, request: &Request) -> Result<Connection, Refusal> {
        let now = self.advance(request.now);
        let chosen = match &mut self.affinity {
            None => self.state.pick(&mut self.pool, request, now).map(|choice| (choice, TemplateRef::NONE)),
            Some(affinity) => choose_with(affinity, &mut self.state, &mut self.pool, request, now),
        };
        let (Choice { slot, reason }, template) = chosen.map_err(|missing| missing.refusal(&self.pool))?;
        self.pool.bind(slot);
        self.state.loaded(&self.pool, slot);
        if let Some(affinity) = &mut self.affinity {
            affinity.begin(template);
        }
        Ok(Connection { backend: self.pool.id(slot), template, reason, activity: Activity::Active })
    }

    /// Chooses a backend without counting anything. The scheduler moves on and affinity is kept, as for a connection.
    ///
    /// # Errors
    /// If there is no backend for it, with the reason.
    // Always: the call would cost as much as the simplest rules' picks.
    #[inline(always)]
    pub fn pick(&mut self, request: &Request) -> Result<Pick, Refusal> {
        let now = self.advance(request.now);
        if self.affinity.is_none() {
            let slot = self.state.first(&self.pool, request);
            if let Some(backend) = self.pool.usable(slot) {
                return Ok(Pick { backend, reason: PickReason::Scheduled });
            }
        }
        match self.choose(request, now) {
            Ok(Choice { slot, reason }) => Ok(Pick { backend: self.pool.id(slot), reason }),
            Err(missing) => Err(missing.refusal(&self.pool)),
        }
    }

    #[inline(never)]
    fn choose(&mut self, request: &Request, now: Duration) -> Result<Choice, Missing> {
        let Self { pool, state, affinity, .. } = self;
        match affinity {
            None => state.pick(pool, request, now),
            Some(affinity) => choose_with(affinity, state, pool, request, now).map(|(choice, _)| choice),
        }
    }

    /// Counts a connection as inactive: it is closing (TCP), or of a protocol without connections (UDP, at once).
    pub fn deactivate(&mut self, connection: &mut Connection) {
        self.set_activity(connection, Activity::Inactive);
    }

    /// Counts an inactive connection as active again (SCTP, once it is established).
    pub fn activate(&mut self, connection: &mut Connection) {
        self.set_activity(connection, Activity::Active);
    }

    fn set_activity(&mut self, connection: &mut Connection, activity: Activity) {
        if let Some(slot) = self.pool.slot(connection.backend)
            && connection.activity != activity
        {
            match activity {
                Activity::Active => self.pool.activate(slot),
                Activity::Inactive => self.pool.deactivate(slot),
            }
            connection.activity = activity;
            self.state.loaded(&self.pool, slot);
        }
    }

    /// Forgets a connection that is gone.
    pub fn release(&mut self, connection: Connection, now: Duration) {
        let now = self.advance(now);
        if let Some(affinity) = &mut self.affinity {
            affinity.end(connection.template, now);
        }
        if let Some(slot) = self.pool.slot(connection.backend) {
            if connection.activity == Activity::Active {
                self.pool.deactivate(slot);
            }
            self.pool.unbind(slot, now);
            self.state.loaded(&self.pool, slot);
        }
    }

    /// Tells how long a backend took to answer. Read by [`Scheduler::PeakEwma`] alone.
    pub fn observe(&mut self, id: BackendId, latency: Duration, now: Duration) {
        let now = self.advance(now);
        if let Some(slot) = self.pool.slot(id) {
            self.state.observe(slot, latency, now);
        }
    }
}

/// A client's own backend, or else the scheduler's choice, which becomes its own.
fn choose_with(
    affinity: &mut Affinity,
    state: &mut State,
    pool: &mut Pool,
    request: &Request,
    now: Duration,
) -> Result<(Choice, TemplateRef), Missing> {
    let client = request.client.ip();
    if let Some((slot, template)) = affinity.lookup(pool, client, now) {
        return Ok((Choice { slot, reason: PickReason::Affinity }, template));
    }
    // With the client's own address, not the masked one; the kernel's `sh` and `mh` see it too.
    let choice = state.pick(pool, request, now)?;
    let template = affinity.assign(pool, client, choice.slot, now);
    Ok((choice, template))
}

// === state ===

impl Balancer {
    /// The scheduler in use.
    pub const fn scheduler(&self) -> Scheduler {
        self.scheduler
    }

    /// The number of configured backends.
    pub const fn len(&self) -> usize {
        self.pool.len()
    }

    /// Whether no backend is configured.
    pub const fn is_empty(&self) -> bool {
        self.pool.len() == 0
    }

    /// The configured backends in list order: the last added first.
    pub fn backends(&self) -> impl Iterator<Item = BackendState> + '_ {
        self.pool.iter().map(|slot| self.pool.state(slot))
    }

    /// The configured backend with this address.
    pub fn find(&self, address: SocketAddr) -> Option<BackendState> {
        self.pool.find(address).map(|slot| self.pool.state(slot))
    }

    /// The backend of this name, if it still names one; also one that was removed.
    pub fn backend(&self, id: BackendId) -> Option<BackendState> {
        self.pool.slot(id).map(|slot| self.pool.state(slot))
    }

    /// Whether ejections are disregarded, since too many backends are out.
    pub fn is_panicking(&self) -> bool {
        self.pool.panicking()
    }

    /// The number of clients that affinity remembers, expired ones that were not yet swept included.
    pub fn remembered_clients(&self) -> usize {
        self.affinity.as_ref().map_or(0, Affinity::len)
    }

    /// Bytes on the heap for remembering them.
    pub fn affinity_bytes(&self) -> usize {
        self.affinity.as_ref().map_or(0, Affinity::heap_bytes)
    }
}
