//! The ordered set of backends with their counters: what the kernel keeps in `svc->destinations`.
//!
//! Backends sit in slots that never move, linked in kernel order: a new one goes to the head, and
//! every scan runs from the head. A removed backend keeps its slot while anything refers to it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::ops::Index;
use core::time::Duration;

use hashbrown::HashMap;

use crate::backend::{Availability, Backend, BackendId, BackendState, ConfigError};
use crate::balancer::KernelRules;

/// How long a removed backend that nothing refers to may still come back with its state
/// (`IP_VS_DEST_TRASH_PERIOD`).
const TRASH_PERIOD: Duration = Duration::from_secs(120);

/// A slot of a [`Pool`]. Only its pool makes them, so they always lead somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// No slot: the end of a list, or an empty place in a table.
    pub(crate) const NONE: Self = Self(u32::MAX);

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(crate) fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// What a pick reads, in half a cache line.
#[derive(Clone, Debug)]
#[repr(align(32))]
pub(crate) struct Entry {
    /// The weight in force: the configured one, or 0 while ejected.
    pub(crate) weight: u32,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
    generation: u32,
    prev: Slot,
    next: Slot,
    /// The upper threshold, at hand for counting.
    upper: u32,
    /// Not overloaded and a weight in force: the schedulers' whole question.
    pub(crate) usable: bool,
    /// In the list (the kernel's `IP_VS_DEST_F_AVAILABLE`).
    pub(crate) configured: bool,
    overloaded: bool,
    ejected: bool,
}

/// The rest of a backend.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    pub(crate) backend: Backend,
    /// The newest weight that was not 0; 0 if there was none. `mh` fills its table by it.
    pub(crate) last_weight: u32,
    /// Affinity entries and scheduler caches that point here. Connections are counted in the entry.
    references: u32,
    pub(crate) added_at: Duration,
    removed_at: Duration,
}

impl Entry {
    pub(crate) fn total(&self) -> u32 {
        self.active.wrapping_add(self.inactive)
    }

    fn availability(&self) -> Availability {
        if !self.configured {
            Availability::Removed
        } else if self.ejected && self.weight == 0 {
            Availability::Ejected
        } else if self.overloaded {
            Availability::Overloaded
        } else if self.weight == 0 {
            Availability::Drained
        } else {
            Availability::Usable
        }
    }
}

impl Details {
    /// The kernel's clearing point: `l_threshold`, or three quarters of `u_threshold`.
    fn lower(&self) -> u32 {
        let Backend { upper_threshold: upper, lower_threshold: lower, .. } = self.backend;
        if lower > 0 { lower } else { upper - upper / 4 }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Pool {
    entries: Vec<Entry>,
    /// By the same slots.
    details: Vec<Details>,
    free: Vec<Slot>,
    head: Slot,
    tail: Slot,
    len: usize,
    ejected: usize,
    /// Ejections are disregarded, since too many backends are out.
    panicking: bool,
    panic_percent: u8,
    rules: KernelRules,
    by_address: HashMap<SocketAddr, Slot, foldhash::fast::FixedState>,
    trash: VecDeque<(Duration, Slot)>,
}

#[expect(clippy::indexing_slicing, reason = "a pool never shrinks, and all slots come from it")]
impl Index<Slot> for Pool {
    type Output = Entry;

    #[inline]
    fn index(&self, slot: Slot) -> &Entry {
        &self.entries[slot.index()]
    }
}

// === lookup ===

impl Pool {
    pub(crate) fn new(rules: KernelRules, panic_percent: u8) -> Self {
        Self {
            entries: Vec::new(),
            details: Vec::new(),
            free: Vec::new(),
            head: Slot::NONE,
            tail: Slot::NONE,
            len: 0,
            ejected: 0,
            panicking: false,
            panic_percent,
            rules,
            by_address: HashMap::default(),
            trash: VecDeque::new(),
        }
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "as for Index")]
    fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot.index()]
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "as for Index; both vectors are of one length")]
    pub(crate) fn details(&self, slot: Slot) -> &Details {
        &self.details[slot.index()]
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "as for Index; both vectors are of one length")]
    fn details_mut(&mut self, slot: Slot) -> &mut Details {
        &mut self.details[slot.index()]
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// One more than the greatest slot index ever used.
    pub(crate) const fn slots(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn rules(&self) -> KernelRules {
        self.rules
    }

    pub(crate) const fn head(&self) -> Slot {
        self.head
    }

    /// The next in kernel order, or [`Slot::NONE`] at the end.
    pub(crate) fn next(&self, slot: Slot) -> Slot {
        self[slot].next
    }

    /// The same, going round: the head after the last one and after [`Slot::NONE`].
    #[inline]
    pub(crate) fn following(&self, slot: Slot) -> Slot {
        // No slot has the index of `Slot::NONE`.
        let next = self.entries.get(slot.index()).map_or(Slot::NONE, |entry| entry.next);
        if next == Slot::NONE { self.head } else { next }
    }

    /// Whether the backend takes new connections; [`Slot::NONE`] does not.
    #[inline]
    pub(crate) fn is_usable(&self, slot: Slot) -> bool {
        self.entries.get(slot.index()).is_some_and(|entry| entry.usable)
    }

    pub(crate) fn prev(&self, slot: Slot) -> Slot {
        self[slot].prev
    }

    /// Kernel order: the last added first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> + Clone + '_ {
        core::iter::successors(self.head.some(), |slot| self[*slot].next.some())
    }

    /// The other way round: the order in which they were added.
    pub(crate) fn iter_added(&self) -> impl Iterator<Item = Slot> + '_ {
        core::iter::successors(self.tail.some(), |slot| self[*slot].prev.some())
    }

    #[inline]
    pub(crate) fn id(&self, slot: Slot) -> BackendId {
        BackendId { slot: slot.0, generation: self[slot].generation }
    }

    /// The name of a backend that takes new connections.
    #[inline]
    pub(crate) fn usable(&self, slot: Slot) -> Option<BackendId> {
        let entry = self.entries.get(slot.index()).filter(|entry| entry.usable)?;
        Some(BackendId { slot: slot.0, generation: entry.generation })
    }

    pub(crate) fn slot(&self, id: BackendId) -> Option<Slot> {
        self.entries
            .get(id.slot as usize)
            .filter(|entry| entry.generation == id.generation)
            .map(|_| Slot(id.slot))
    }

    pub(crate) fn find(&self, address: SocketAddr) -> Option<Slot> {
        self.by_address.get(&address).copied().filter(|slot| self[*slot].configured)
    }

    pub(crate) fn state(&self, slot: Slot) -> BackendState {
        let entry = &self[slot];
        BackendState {
            id: self.id(slot),
            backend: self.details(slot).backend,
            active: entry.active,
            inactive: entry.inactive,
            availability: entry.availability(),
        }
    }
}

// === configuration ===

impl Pool {
    pub(crate) fn add(&mut self, backend: Backend, now: Duration) -> Result<Slot, ConfigError> {
        backend.check()?;
        if self.find(backend.address).is_some() {
            return Err(ConfigError::Exists { address: backend.address });
        }
        self.empty_trash(now);
        let slot = match self.by_address.get(&backend.address) {
            Some(&slot) => slot,
            None => self.allocate(backend),
        };
        self.by_address.insert(backend.address, slot);
        self.details_mut(slot).added_at = now;
        let head = self.head;
        let entry = self.entry_mut(slot);
        entry.configured = true;
        entry.prev = Slot::NONE;
        entry.next = head;
        match head.some() {
            Some(old) => self.entry_mut(old).prev = slot,
            None => self.tail = slot,
        }
        self.head = slot;
        self.len += 1;
        self.configure(slot, backend);
        self.review_panic();
        Ok(slot)
    }

    fn allocate(&mut self, backend: Backend) -> Slot {
        let entry = Entry {
            weight: 0,
            active: 0,
            inactive: 0,
            generation: 0,
            prev: Slot::NONE,
            next: Slot::NONE,
            upper: 0,
            usable: false,
            configured: false,
            overloaded: false,
            ejected: false,
        };
        let details = Details {
            // Without thresholds yet, so that configuring compares against "none".
            backend: Backend::new(backend.address),
            last_weight: 0,
            references: 0,
            added_at: Duration::ZERO,
            removed_at: Duration::ZERO,
        };
        if let Some(slot) = self.free.pop() {
            let generation = self[slot].generation;
            *self.entry_mut(slot) = Entry { generation, ..entry };
            *self.details_mut(slot) = details;
            slot
        } else {
            let slot = Slot(self.entries.len() as u32);
            self.entries.push(entry);
            self.details.push(details);
            slot
        }
    }

    pub(crate) fn edit(&mut self, backend: Backend) -> Result<Slot, ConfigError> {
        backend.check()?;
        let Some(slot) = self.find(backend.address) else {
            return Err(ConfigError::NotFound { address: backend.address });
        };
        self.configure(slot, backend);
        Ok(slot)
    }

    fn configure(&mut self, slot: Slot, backend: Backend) {
        let total = self[slot].total();
        let details = self.details_mut(slot);
        let old = core::mem::replace(&mut details.backend, backend);
        if backend.weight > 0 {
            details.last_weight = backend.weight;
        }
        let (upper, lower) = (backend.upper_threshold, details.lower());
        let same = (old.upper_threshold, old.lower_threshold) == (upper, backend.lower_threshold);
        let overloaded = match self.rules {
            KernelRules::Current if same => None,
            KernelRules::Current if upper == 0 => Some(false),
            KernelRules::Current if total >= upper => Some(true),
            KernelRules::Current => (total < lower).then_some(false),
            KernelRules::Classic => (upper == 0 || upper > old.upper_threshold).then_some(false),
        };
        let entry = self.entry_mut(slot);
        entry.upper = upper;
        if let Some(overloaded) = overloaded {
            entry.overloaded = overloaded;
        }
        self.refresh(slot);
    }

    /// Takes a backend out of the list; its slot and counters stay while referred to.
    pub(crate) fn remove(&mut self, slot: Slot, now: Duration) {
        self.empty_trash(now);
        let entry = self.entry_mut(slot);
        entry.configured = false;
        let (prev, next) = (entry.prev, entry.next);
        let was_ejected = core::mem::take(&mut entry.ejected);
        match prev.some() {
            Some(prev) => self.entry_mut(prev).next = next,
            None => self.head = next,
        }
        match next.some() {
            Some(next) => self.entry_mut(next).prev = prev,
            None => self.tail = prev,
        }
        self.details_mut(slot).removed_at = now;
        self.len -= 1;
        self.ejected -= usize::from(was_ejected);
        self.refresh(slot);
        self.trash.push_back((now, slot));
        self.review_panic();
    }

    fn empty_trash(&mut self, now: Duration) {
        while let Some(&(at, slot)) = self.trash.front()
            && now.saturating_sub(at) >= TRASH_PERIOD
        {
            self.trash.pop_front();
            if !self[slot].configured && !self.is_referenced(slot) && self.details(slot).removed_at == at {
                self.discard(slot);
            }
        }
    }

    fn discard(&mut self, slot: Slot) {
        let address = self.details(slot).backend.address;
        self.by_address.remove(&address);
        // Removed twice in one instant, it lies in the trash twice: the other time is no time to discard it.
        self.details_mut(slot).removed_at = Duration::MAX;
        // The old id names nothing from now on. A slot that has used up its generations is not used again.
        let entry = self.entry_mut(slot);
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.free.push(slot);
        }
    }
}

// === counters and flags ===

impl Pool {
    fn refresh(&mut self, slot: Slot) {
        let (panicking, weight) = (self.panicking, self.details(slot).backend.weight);
        let entry = self.entry_mut(slot);
        entry.weight = if entry.ejected && !panicking { 0 } else { weight };
        entry.usable = entry.configured && !entry.overloaded && entry.weight > 0;
    }

    /// Something keeps a pointer to the slot from now on.
    pub(crate) fn hold(&mut self, slot: Slot) {
        let details = self.details_mut(slot);
        details.references = details.references.saturating_add(1);
    }

    /// It no longer does.
    pub(crate) fn release(&mut self, slot: Slot, now: Duration) {
        let details = self.details_mut(slot);
        details.references = details.references.saturating_sub(1);
        self.forget(slot, now);
    }

    /// Whether a connection or anything that [holds](Self::hold) it points here.
    fn is_referenced(&self, slot: Slot) -> bool {
        self[slot].total() > 0 || self.details(slot).references > 0
    }

    /// Discards a backend that was removed long ago, if nothing points to it any more.
    #[inline]
    fn forget(&mut self, slot: Slot, now: Duration) {
        if !self[slot].configured
            && !self.is_referenced(slot)
            && now.saturating_sub(self.details(slot).removed_at) >= TRASH_PERIOD
        {
            self.trash.retain(|(_, other)| *other != slot);
            self.discard(slot);
        }
    }

    /// Counts a new connection, active at once.
    #[inline]
    pub(crate) fn bind(&mut self, slot: Slot) {
        let rules = self.rules;
        let entry = self.entry_mut(slot);
        entry.active = entry.active.wrapping_add(1);
        let reached = match rules {
            KernelRules::Current => entry.total() == entry.upper,
            KernelRules::Classic => entry.total() >= entry.upper,
        };
        if entry.upper > 0 && reached {
            entry.overloaded = true;
            self.refresh(slot);
        }
    }

    /// Moves a connection from active to inactive.
    pub(crate) fn deactivate(&mut self, slot: Slot) {
        let entry = self.entry_mut(slot);
        entry.active = entry.active.wrapping_sub(1);
        entry.inactive = entry.inactive.wrapping_add(1);
    }

    /// Moves a connection from inactive to active.
    pub(crate) fn activate(&mut self, slot: Slot) {
        let entry = self.entry_mut(slot);
        entry.inactive = entry.inactive.wrapping_sub(1);
        entry.active = entry.active.wrapping_add(1);
    }

    /// Forgets an inactive connection.
    pub(crate) fn unbind(&mut self, slot: Slot, now: Duration) {
        let entry = self.entry_mut(slot);
        entry.inactive = entry.inactive.wrapping_sub(1);
        if entry.overloaded {
            self.review_overload(slot);
        }
        self.forget(slot, now);
    }

    /// An overloaded backend has one connection less.
    fn review_overload(&mut self, slot: Slot) {
        let (total, details) = (self[slot].total(), self.details(slot));
        let Backend { upper_threshold: upper, lower_threshold: lower, .. } = details.backend;
        let fell = match self.rules {
            KernelRules::Current => total.wrapping_add(1) == details.lower(),
            KernelRules::Classic if lower > 0 => total < lower,
            KernelRules::Classic => u64::from(total) * 4 < u64::from(upper) * 3,
        };
        if fell {
            self.entry_mut(slot).overloaded = false;
            self.refresh(slot);
        }
    }

    /// Takes a backend out of service or back in. True if anything changed.
    pub(crate) fn set_ejected(&mut self, slot: Slot, ejected: bool) -> bool {
        let entry = self.entry_mut(slot);
        if entry.ejected == ejected || !entry.configured {
            return false;
        }
        entry.ejected = ejected;
        if ejected {
            self.ejected += 1;
        } else {
            self.ejected -= 1;
        }
        self.refresh(slot);
        self.review_panic();
        true
    }

    pub(crate) fn panicking(&self) -> bool {
        self.panicking
    }

    /// Ejections hold only while the share of backends left in reaches the panic threshold.
    fn review_panic(&mut self) {
        let healthy = (self.len - self.ejected) * 100;
        let panicking = self.ejected > 0 && healthy < self.len * usize::from(self.panic_percent);
        if panicking != self.panicking {
            self.panicking = panicking;
            let mut slot = self.head;
            while slot != Slot::NONE {
                self.refresh(slot);
                slot = self.next(slot);
            }
        }
    }
}
