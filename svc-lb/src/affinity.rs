//! Session affinity: which client went where, for how long, and in how much memory.

use core::net::IpAddr;
use core::time::Duration;

use crate::hash::widen;
use crate::lru::Lru;
use crate::pool::{Pool, Slot};

/// After its timer fired under live connections a template's timer runs this long
/// (`ip_vs_conn_expire`).
const PROLONGED: Duration = Duration::from_secs(60);

/// How clients keep their backend.
///
/// The table maps a client (masked) to a backend. It takes at most `capacity` entries, and when full it
/// forgets the client whose last connection is longest ago. An entry costs about 60 bytes, plus what the
/// growth of vectors leaves unused.
///
/// A change of backends never moves a client whose own backend is still configured: weight 0,
/// thresholds and ejection all keep existing clients, as in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AffinityOptions {
    /// What counts as the same session.
    pub rule: AffinityRule,
    /// How long a client is remembered after its last new connection. Kubernetes' default for `ClientIP` is
    /// 10,800 seconds, `ipvsadm -p` alone means 360.
    pub timeout: Duration,
    /// IPv4 clients that share this many leading bits are one client; 32 for each on its own.
    pub ipv4_prefix: u8,
    /// The same for IPv6, up to 128.
    pub ipv6_prefix: u8,
    /// What becomes of clients of a backend whose weight was set to 0.
    pub quiescent: Quiescent,
    /// The greatest number of clients remembered; for [`AffinityRule::Recent`] of each backend.
    pub capacity: u32,
    /// Keys the table's hash, so that clients cannot aim at its collisions. Any random number.
    pub seed: u64,
}

impl AffinityOptions {
    /// The kernel's persistence with this timeout, single addresses, and room for a million clients.
    pub const fn ipvs(timeout: Duration) -> Self {
        Self {
            rule: AffinityRule::Ipvs,
            timeout,
            ipv4_prefix: 32,
            ipv6_prefix: 128,
            quiescent: Quiescent::Keep,
            capacity: 1 << 20,
            seed: 0,
        }
    }

    /// What iptables' `recent` module does with `--rcheck --seconds N --reap`: 100 clients for each backend
    /// (the module's `ip_list_tot`).
    pub const fn recent(timeout: Duration) -> Self {
        Self { rule: AffinityRule::Recent, capacity: 100, ..Self::ipvs(timeout) }
    }

    /// What an nftables set with a timeout does, as in kube-proxy's nftables mode.
    pub const fn nftables(timeout: Duration) -> Self {
        Self { rule: AffinityRule::Nftables, ..Self::ipvs(timeout) }
    }

    /// The same with clients grouped by these leading bits; more than 32 and 128 mean 32 and 128.
    #[must_use]
    pub const fn with_prefixes(mut self, ipv4: u8, ipv6: u8) -> Self {
        self.ipv4_prefix = ipv4;
        self.ipv6_prefix = ipv6;
        self
    }

    /// The same with another [`capacity`](Self::capacity); 0 means 1.
    #[must_use]
    pub const fn with_capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// The same with another rule for drained backends.
    #[must_use]
    pub const fn with_quiescent(mut self, quiescent: Quiescent) -> Self {
        self.quiescent = quiescent;
        self
    }

    /// The same with another [`seed`](Self::seed).
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Whose timing an [affinity](AffinityOptions) follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AffinityRule {
    /// IPVS persistence templates (`ip_vs_conn.c`). The timer restarts with each new connection. When it
    /// fires while connections of the client live, it runs 60 seconds more, and from then on always 60.
    Ipvs,
    /// The `recent` match of iptables (`xt_recent.c`): seen at most `timeout` ago, inclusive; each
    /// backend has a list of its own.
    Recent,
    /// An element of an nftables set with a timeout: seen less than `timeout` ago.
    Nftables,
}

/// What becomes of the clients of a backend of weight 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quiescent {
    /// They keep it until they time out (the kernel's default).
    #[default]
    Keep,
    /// Their next connection is scheduled anew (sysctl `expire_quiescent_template`).
    Expire,
}

/// Client to backend. What the kernel calls a template.
#[derive(Clone, Debug)]
struct Template {
    /// Milliseconds since the epoch: half a billion years are enough, and 8 bytes less than a `Duration`.
    expires: u64,
    slot: Slot,
    /// Connections that came through this template and are not released.
    live: u32,
    /// Tells this template from an earlier one of the same client.
    epoch: u32,
    prolonged: bool,
}

impl Default for Template {
    fn default() -> Self {
        Self { expires: 0, slot: Slot::NONE, live: 0, epoch: 0, prolonged: false }
    }
}

/// A connection's way back to its template: a place in the table, and what must be found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TemplateRef {
    place: u32,
    epoch: u32,
}

impl TemplateRef {
    /// Of a connection that has no template. No template has this epoch.
    pub(crate) const NONE: Self = Self { place: 0, epoch: 0 };
}

#[derive(Clone, Debug)]
pub(crate) struct Affinity {
    options: AffinityOptions,
    clients: Lru<Template>,
    last_epoch: u32,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Affinity {
    pub(crate) fn new(options: AffinityOptions) -> Self {
        let clients = Lru::new(options.capacity, options.seed);
        Self { options, clients, last_epoch: 0 }
    }

    pub(crate) const fn options(&self) -> &AffinityOptions {
        &self.options
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.clients.heap_bytes()
    }

    fn key(&self, client: IpAddr) -> u128 {
        let kept = match client {
            IpAddr::V4(_) => 96 + u32::from(self.options.ipv4_prefix.min(32)),
            IpAddr::V6(_) => u32::from(self.options.ipv6_prefix.min(128)),
        };
        widen(client) & u128::MAX.checked_shl(128 - kept).unwrap_or(0)
    }

    /// The backend this client belongs to, if it still may; its timer restarts.
    pub(crate) fn lookup(
        &mut self,
        pool: &Pool,
        client: IpAddr,
        now: Duration,
    ) -> Option<(Slot, TemplateRef)> {
        let key = self.key(client);
        let now = millis(now);
        let options = &self.options;
        let (place, template) = self.clients.touch(key)?;
        let entry = &pool[template.slot];
        let quiescent =
            pool.details(template.slot).backend.weight == 0 && options.quiescent == Quiescent::Expire;
        if !template.settle(options.rule, now) || !entry.configured || quiescent {
            return None;
        }
        template.restart(options.timeout, now);
        Some((template.slot, TemplateRef { place, epoch: template.epoch }))
    }

    /// Remembers where the scheduler sent a client.
    pub(crate) fn assign(
        &mut self,
        pool: &mut Pool,
        client: IpAddr,
        slot: Slot,
        now: Duration,
    ) -> TemplateRef {
        let key = self.key(client);
        let list = if self.options.rule == AffinityRule::Recent { slot.0 } else { 0 };
        if let Some(old) = self.clients.remove(key) {
            pool.release(old.slot, now);
        }
        let (rule, at) = (self.options.rule, millis(now));
        // Two out for each in: the table shrinks to the clients of the last `timeout`.
        for _ in 0..2 {
            match self.clients.oldest(list) {
                Some(oldest) if !oldest.clone().settle(rule, at) => {
                    if let Some(gone) = self.clients.pop_oldest(list) {
                        pool.release(gone.slot, now);
                    }
                }
                _ => break,
            }
        }
        self.last_epoch = self.last_epoch.checked_add(1).unwrap_or(1);
        let epoch = self.last_epoch;
        let mut template = Template { expires: 0, slot, live: 0, epoch, prolonged: false };
        template.restart(self.options.timeout, at);
        pool.hold(slot);
        let (place, evicted) = self.clients.insert(list, key, template);
        if let Some(evicted) = evicted {
            pool.release(evicted.slot, now);
        }
        TemplateRef { place, epoch }
    }

    /// The template of a connection, unless it was replaced or evicted since.
    fn resolve(&mut self, reference: TemplateRef) -> Option<&mut Template> {
        let found = self.clients.at_mut(reference.place)?;
        (found.epoch == reference.epoch && found.slot != Slot::NONE).then_some(found)
    }

    /// A connection of the template begins.
    pub(crate) fn begin(&mut self, reference: TemplateRef) {
        if let Some(template) = self.resolve(reference) {
            template.live += 1;
        }
    }

    /// A connection of the template is gone for good.
    pub(crate) fn end(&mut self, reference: TemplateRef, now: Duration) {
        let rule = self.options.rule;
        if let Some(template) = self.resolve(reference) {
            // Firings before now saw this connection alive.
            template.settle(rule, millis(now));
            template.live = template.live.saturating_sub(1);
        }
    }

    /// Forgets all clients.
    pub(crate) fn clear(&mut self, pool: &mut Pool, now: Duration) {
        for template in self.clients.drain() {
            pool.release(template.slot, now);
        }
    }
}

impl Template {
    /// Lets the timer run up to now; false if the template is gone by then.
    fn settle(&mut self, rule: AffinityRule, now: u64) -> bool {
        let fired = match rule {
            AffinityRule::Ipvs | AffinityRule::Nftables => self.expires <= now,
            AffinityRule::Recent => self.expires < now,
        };
        if fired && rule == AffinityRule::Ipvs && self.live > 0 {
            let step = millis(PROLONGED);
            let firings = (now - self.expires) / step + 1;
            self.expires = self.expires.saturating_add(firings.saturating_mul(step));
            self.prolonged = true;
            return true;
        }
        !fired
    }

    fn restart(&mut self, timeout: Duration, now: u64) {
        let timeout = if self.prolonged { PROLONGED } else { timeout };
        self.expires = now.saturating_add(millis(timeout));
    }
}
