//! The balancer against a short naive model that scans as the kernel does, over random events.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test may stop at the first surprise, and runs where std is"
)]

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use svc_lb::{
    AffinityOptions, Backend, Balancer, BalancerOptions, CacheOptions, Connection, Fallback, HashFlags,
    HashKey, KernelRules, Request, Scheduler,
};

/// A destination as the kernel has it, in a plain vector whose first element is the list head.
#[derive(Clone, Debug)]
struct Dest {
    backend: Backend,
    active: u32,
    inactive: u32,
    overloaded: bool,
    ejected: bool,
}

impl Dest {
    fn weight(&self) -> u32 {
        if self.ejected { 0 } else { self.backend.weight }
    }

    fn usable(&self) -> bool {
        !self.overloaded && self.weight() > 0
    }

    fn overhead(&self, rules: KernelRules) -> i64 {
        let (active, inactive) = (i64::from(self.active), i64::from(self.inactive));
        active * if rules == KernelRules::Current { 257 } else { 256 } + inactive
    }
}

#[derive(Clone, Debug)]
struct Naive {
    scheduler: Scheduler,
    rules: KernelRules,
    dests: Vec<Dest>,
    /// Removed ones, which come back with their counters.
    trash: Vec<Dest>,
    /// rr and wrr: the position of the cursor by address, None at the list head.
    cursor: Option<SocketAddr>,
    cw: i64,
    mw: i64,
    di: i64,
    cache: Vec<(SocketAddr, SocketAddr)>,
    /// lblcr: the servers of a virtual address, the newest first.
    sets: Vec<(SocketAddr, Vec<SocketAddr>)>,
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Naive {
    fn new(scheduler: Scheduler, rules: KernelRules) -> Self {
        let (dests, trash, cache, sets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { scheduler, rules, dests, trash, cursor: None, cw: 0, mw: 0, di: 1, cache, sets }
    }

    fn index(&self, address: SocketAddr) -> Option<usize> {
        self.dests.iter().position(|dest| dest.backend.address == address)
    }

    fn dest(&mut self, address: SocketAddr) -> &mut Dest {
        let trash = &mut self.trash;
        self.dests.iter_mut().chain(trash).find(|dest| dest.backend.address == address).unwrap()
    }

    fn add(&mut self, backend: Backend) {
        let old = self.trash.iter().position(|dest| dest.backend.address == backend.address);
        let mut dest = match old {
            Some(old) => self.trash.remove(old),
            None => Dest {
                backend: Backend::new(backend.address),
                active: 0,
                inactive: 0,
                overloaded: false,
                ejected: false,
            },
        };
        configure(&mut dest, backend, self.rules);
        self.dests.insert(0, dest);
        self.changed();
    }

    fn edit(&mut self, backend: Backend) {
        let rules = self.rules;
        configure(self.dest(backend.address), backend, rules);
        self.changed();
    }

    fn remove(&mut self, address: SocketAddr) {
        let index = self.index(address).unwrap();
        if self.cursor == Some(address) {
            self.cursor = index.checked_sub(1).map(|before| self.dests[before].backend.address);
        }
        let mut dest = self.dests.remove(index);
        dest.ejected = false;
        self.trash.push(dest);
        self.changed();
    }

    fn changed(&mut self) {
        if self.scheduler == Scheduler::Wrr {
            self.measure();
            self.cursor = None;
            if self.cw > self.mw || self.cw == 0 {
                self.cw = self.mw;
            } else if self.di > 1 {
                self.cw = (self.cw / self.di) * self.di + 1;
            }
        }
    }

    fn measure(&mut self) {
        let weights = || self.dests.iter().map(|dest| dest.backend.weight);
        self.di = i64::from(weights().fold(0, gcd).max(1));
        self.mw = i64::from(weights().max().unwrap_or(0)) - (self.di - 1);
    }

    fn set_scheduler(&mut self, scheduler: Scheduler) {
        self.scheduler = scheduler;
        self.cursor = None;
        self.cache.clear();
        self.sets.clear();
        self.measure();
        self.cw = self.mw;
    }

    /// The first usable one in the list with the least cost per weight.
    fn scan(&self, cost: impl Fn(&Dest) -> i64, weight: impl Fn(&Dest) -> i64) -> Option<usize> {
        self.scan_of(0..self.dests.len(), cost, weight)
    }

    /// The same in a list of some.
    fn scan_of(
        &self,
        list: impl Iterator<Item = usize>,
        cost: impl Fn(&Dest) -> i64,
        weight: impl Fn(&Dest) -> i64,
    ) -> Option<usize> {
        let mut least: Option<usize> = None;
        for index in list.filter(|index| self.dests[*index].usable()) {
            let dest = &self.dests[index];
            let better = |old: &Dest| cost(old) * weight(dest) > cost(dest) * weight(old);
            if least.is_none_or(|least| better(&self.dests[least])) {
                least = Some(index);
            }
        }
        least
    }

    /// More active connections than its weight, while another has less than half of its own.
    fn too_busy(&self, dest: &Dest) -> bool {
        let spare = self.dests.iter().any(|dest| i64::from(dest.active) * 2 < i64::from(dest.weight()));
        dest.active > dest.weight() && spare
    }

    fn pick(&mut self, request: &Request) -> Option<SocketAddr> {
        let weight = |dest: &Dest| i64::from(dest.weight());
        let index = match self.scheduler {
            Scheduler::Rr => {
                let start = self.cursor.map_or(0, |cursor| self.index(cursor).unwrap() + 1);
                let count = self.dests.len();
                let found = (start..start + count).map(|at| at % count).find(|at| self.dests[*at].usable());
                if let Some(found) = found {
                    self.cursor = Some(self.dests[found].backend.address);
                }
                found
            }
            Scheduler::Wrr => self.pick_wrr(),
            Scheduler::Lc => self.scan(|dest| dest.overhead(self.rules), |_| 1),
            Scheduler::Wlc => self.scan(|dest| dest.overhead(self.rules), weight),
            Scheduler::Sed => self.scan(|dest| i64::from(dest.active) + 1, weight),
            Scheduler::Nq => {
                let idle = self.dests.iter().position(|dest| dest.usable() && dest.active == 0);
                idle.or_else(|| self.scan(|dest| i64::from(dest.active) + 1, weight))
            }
            Scheduler::Fo => self.scan(|_| 1, weight),
            Scheduler::Ovf => {
                let mut best: Option<usize> = None;
                for (index, dest) in self.dests.iter().enumerate() {
                    let fits = dest.usable() && dest.active <= dest.weight();
                    if fits && best.is_none_or(|best| self.dests[best].weight() < dest.weight()) {
                        best = Some(index);
                    }
                }
                best
            }
            Scheduler::Sh(flags) => self.pick_sh(request, flags),
            Scheduler::Lblc(_) => {
                let key = request.destination;
                let known =
                    self.cache.iter().find(|(cached, _)| *cached == key).and_then(|(_, to)| self.index(*to));
                let good = known.filter(|at| {
                    let dest = &self.dests[*at];
                    dest.weight() > 0 && !self.too_busy(dest)
                });
                let found = good.or_else(|| self.scan(|dest| dest.overhead(self.rules), weight));
                if let Some(found) = found {
                    self.cache.retain(|(cached, _)| *cached != key);
                    self.cache.push((key, self.dests[found].backend.address));
                }
                found
            }
            Scheduler::Lblcr(_) => {
                let key = request.destination;
                let overhead = |dest: &Dest| dest.overhead(self.rules);
                let known = self.sets.iter().position(|(cached, _)| *cached == key);
                let servers = known.map_or(&[][..], |known| &self.sets[known].1);
                let present = servers.iter().filter_map(|address| self.index(*address));
                let good =
                    self.scan_of(present, overhead, weight).filter(|at| !self.too_busy(&self.dests[*at]));
                let chosen = good.or_else(|| self.scan(overhead, weight))?;
                let address = self.dests[chosen].backend.address;
                let known = known.unwrap_or_else(|| {
                    self.sets.push((key, Vec::new()));
                    self.sets.len() - 1
                });
                let servers = &mut self.sets[known].1;
                if !servers.contains(&address) {
                    servers.insert(0, address);
                }
                Some(chosen)
            }
            other => panic!("no twin for {other}"),
        };
        index.map(|index| self.dests[index].backend.address)
    }

    /// The kernel's two nested loops, step by step.
    fn pick_wrr(&mut self) -> Option<usize> {
        if self.mw == 0 {
            return None;
        }
        let last = self.cursor.map(|cursor| self.index(cursor).unwrap());
        let (mut stop, mut last_pass, mut restarted) = (None, false, false);
        let mut from = last.map_or(0, |last| last + 1);
        loop {
            for index in from..self.dests.len() {
                let dest = &self.dests[index];
                let over = Some(index) == stop;
                if dest.usable() && i64::from(dest.weight()) >= self.cw {
                    self.cursor = Some(dest.backend.address);
                    return Some(index);
                }
                if over {
                    self.cursor = Some(dest.backend.address);
                    return None;
                }
            }
            from = 0;
            self.cw -= self.di;
            if self.cw <= 0 {
                self.cw = self.mw;
                if last_pass || last.is_none() {
                    self.cursor = None;
                    return None;
                }
                restarted = true;
            }
            last_pass = self.cw <= self.di;
            if last_pass && restarted && last.is_some() {
                stop = last;
            }
        }
    }

    fn pick_sh(&self, request: &Request, flags: HashFlags) -> Option<usize> {
        let mut buckets = Vec::new();
        while buckets.len() < 256 && !self.dests.is_empty() {
            for (index, dest) in self.dests.iter().enumerate() {
                buckets.extend(std::iter::repeat_n(index, dest.backend.weight.max(1) as usize));
            }
        }
        let std::net::IpAddr::V4(client) = request.client.ip() else { panic!("clients are IPv4 here") };
        let port = if flags.key == HashKey::AddressAndPort { u32::from(request.client.port()) } else { 0 };
        let hash = (client.to_bits().wrapping_add(port).wrapping_mul(0x61C8_8647) >> 24) as usize;
        let first = *buckets.get(hash)?;
        if self.dests[first].usable() {
            return Some(first);
        }
        let probes = (0..256).map(|offset| (hash + (offset + hash) % 256) % 256);
        match flags.fallback {
            Fallback::Refuse => None,
            Fallback::Next => probes.map(|probe| buckets[probe]).find(|index| self.dests[*index].usable()),
        }
    }

    fn bind(&mut self, address: SocketAddr) {
        let rules = self.rules;
        let dest = self.dest(address);
        dest.active += 1;
        let (total, upper) = (dest.active + dest.inactive, dest.backend.upper_threshold);
        let over = if rules == KernelRules::Current { total == upper } else { total >= upper };
        if upper > 0 && over {
            dest.overloaded = true;
        }
    }

    fn unbind(&mut self, address: SocketAddr) {
        let rules = self.rules;
        let dest = self.dest(address);
        dest.inactive -= 1;
        let total = dest.active + dest.inactive;
        let (upper, lower) = (dest.backend.upper_threshold, dest.backend.lower_threshold);
        let under = match rules {
            KernelRules::Current => total + 1 == clearing(dest.backend),
            KernelRules::Classic if lower > 0 => total < lower,
            KernelRules::Classic => total * 4 < upper * 3,
        };
        if under {
            dest.overloaded = false;
        }
    }
}

fn clearing(backend: Backend) -> u32 {
    let (upper, lower) = (backend.upper_threshold, backend.lower_threshold);
    if lower > 0 { lower } else { upper - upper / 4 }
}

fn configure(dest: &mut Dest, backend: Backend, rules: KernelRules) {
    let old = std::mem::replace(&mut dest.backend, backend);
    let total = dest.active + dest.inactive;
    let (upper, lower) = (backend.upper_threshold, backend.lower_threshold);
    if rules == KernelRules::Classic {
        dest.overloaded &= upper != 0 && upper <= old.upper_threshold;
    } else if (old.upper_threshold, old.lower_threshold) != (upper, lower) {
        dest.overloaded = upper > 0 && (total >= upper || (total >= clearing(backend) && dest.overloaded));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Add(u8, u32, u32),
    Edit(u8, u32, u32),
    Remove(u8),
    Connect(u8, u8),
    Deactivate(u16),
    Release(u16),
    Eject(u8, bool),
    Switch(usize),
}

const SCHEDULERS: [Scheduler; 12] = [
    Scheduler::Rr,
    Scheduler::Wrr,
    Scheduler::Lc,
    Scheduler::Wlc,
    Scheduler::Sed,
    Scheduler::Nq,
    Scheduler::Fo,
    Scheduler::Ovf,
    Scheduler::Sh(HashFlags::NONE),
    Scheduler::Sh(HashFlags { key: HashKey::AddressAndPort, fallback: Fallback::Next }),
    Scheduler::Lblc(CacheOptions::KERNEL),
    Scheduler::Lblcr(CacheOptions::KERNEL),
];

/// A virtual address that expired while nothing was usable has no server afterwards.
#[test]
fn an_expired_locality_does_not_come_back() {
    for scheduler in [Scheduler::Lblc(CacheOptions::KERNEL), Scheduler::Lblcr(CacheOptions::KERNEL)] {
        let mut balancer = Balancer::new(scheduler);
        let backend = |number, weight| Backend::new(address(number)).with_weight(weight);
        balancer.add(backend(1, 1), Duration::ZERO).unwrap();
        let request = Request::new(address(9)).to(address(8));
        let first = balancer.connect(&request).unwrap();
        balancer.edit(backend(1, 0)).unwrap();
        let day_after = request.at(Duration::from_secs(2 * 86_400));
        assert!(balancer.pick(&day_after).is_err());
        balancer.edit(backend(1, 1)).unwrap();
        let second = balancer.add(backend(2, 1), Duration::ZERO).unwrap();
        // The first still has a connection.
        assert_eq!(balancer.pick(&day_after).unwrap().backend, second, "{scheduler}");
        assert_ne!(first.backend(), second);
    }
}

fn event() -> impl Strategy<Value = Event> {
    let weight = prop_oneof![4 => 0..6_u32, 1 => Just(12_u32), 1 => Just(1_000_u32)];
    let upper = prop_oneof![3 => Just(0_u32), 1 => 1..6_u32];
    prop_oneof![
        3 => (0..12_u8, weight.clone(), upper.clone()).prop_map(|(a, w, u)| Event::Add(a, w, u)),
        2 => (0..12_u8, weight, upper).prop_map(|(a, w, u)| Event::Edit(a, w, u)),
        1 => (0..12_u8).prop_map(Event::Remove),
        12 => (any::<u8>(), 0..5_u8).prop_map(|(c, v)| Event::Connect(c, v)),
        4 => any::<u16>().prop_map(Event::Deactivate),
        4 => any::<u16>().prop_map(Event::Release),
        1 => (0..12_u8, any::<bool>()).prop_map(|(a, out)| Event::Eject(a, out)),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let switch = (0..SCHEDULERS.len()).prop_map(Event::Switch);
    vec(prop_oneof![60 => event(), 1 => switch], 0..250)
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 2, 0, number], 80))
}

/// Replays the events on both and compares every pick and every counter.
fn replay(first: Scheduler, classic: bool, events: Vec<Event>) -> Result<(), TestCaseError> {
    let rules = if classic { KernelRules::Classic } else { KernelRules::Current };
    let options = BalancerOptions::new(first).with_kernel(rules);
    let mut fast = Balancer::with_options(options);
    let mut naive = Naive::new(first, rules);
    let mut connections: Vec<(Connection, SocketAddr)> = Vec::new();
    let now = Duration::ZERO;
    for event in events {
        match event {
            Event::Add(number, weight, upper) => {
                let backend =
                    Backend::new(address(number)).with_weight(weight).with_thresholds(upper, upper / 2);
                let added = fast.add(backend, now).is_ok();
                prop_assert_eq!(added, naive.index(address(number)).is_none());
                if added {
                    naive.add(backend);
                }
            }
            Event::Edit(number, weight, upper) => {
                let backend = Backend::new(address(number)).with_weight(weight).with_thresholds(upper, 0);
                if fast.edit(backend).is_ok() {
                    naive.edit(backend);
                }
            }
            Event::Remove(number) => {
                if fast.remove(address(number), now).is_ok() {
                    naive.remove(address(number));
                }
            }
            Event::Connect(client, virtual_address) => {
                let client = SocketAddr::from(([10, 200, 3, client], 20_000 + u16::from(client)));
                let request = Request::new(client).to(SocketAddr::from(([10, 1, 0, virtual_address], 80)));
                let expected = naive.pick(&request);
                let connection = fast.connect(&request).ok();
                let got = connection
                    .as_ref()
                    .map(|connection| fast.backend(connection.backend()).unwrap().backend.address);
                prop_assert_eq!(got, expected);
                if let (Some(connection), Some(address)) = (connection, expected) {
                    naive.bind(address);
                    connections.push((connection, address));
                }
            }
            Event::Deactivate(at) => {
                let count = connections.len().max(1);
                if let Some((connection, address)) = connections.get_mut(usize::from(at) % count)
                    && connection.activity() == svc_lb::Activity::Active
                {
                    fast.deactivate(connection);
                    let dest = naive.dest(*address);
                    dest.active -= 1;
                    dest.inactive += 1;
                }
            }
            Event::Release(at) => {
                if !connections.is_empty() {
                    let (connection, address) = connections.swap_remove(usize::from(at) % connections.len());
                    if connection.activity() == svc_lb::Activity::Active {
                        let dest = naive.dest(address);
                        dest.active -= 1;
                        dest.inactive += 1;
                    }
                    fast.release(connection, now);
                    naive.unbind(address);
                }
            }
            Event::Eject(number, out) => {
                if let Some(state) = fast.find(address(number)) {
                    let changed = if out { fast.eject(state.id) } else { fast.restore(state.id) };
                    let dest = naive.dest(address(number));
                    prop_assert_eq!(changed, dest.ejected != out);
                    dest.ejected = out;
                }
            }
            Event::Switch(to) => {
                fast.set_scheduler(SCHEDULERS[to]).unwrap();
                naive.set_scheduler(SCHEDULERS[to]);
            }
        }
        let state: Vec<_> =
            fast.backends().map(|state| (state.backend, state.active, state.inactive)).collect();
        let expected: Vec<_> =
            naive.dests.iter().map(|dest| (dest.backend, dest.active, dest.inactive)).collect();
        prop_assert_eq!(state, expected);
    }
    Ok(())
}

/// Even weights and ejections, among which weighted round robin must keep its bar and its place.
fn even_events() -> impl Strategy<Value = Vec<Event>> {
    let weight = prop_oneof![Just(2_u32), Just(4_u32), Just(6_u32), Just(12_u32)];
    let add = (0..4_u8, weight).prop_map(|(number, weight)| Event::Add(number, weight, 0));
    let connect = any::<u8>().prop_map(|client| Event::Connect(client, 0));
    let eject = (0..4_u8, prop_oneof![2 => Just(true), 1 => Just(false)]);
    let eject = eject.prop_map(|(number, out)| Event::Eject(number, out));
    vec(prop_oneof![1 => add, 6 => connect, 5 => eject], 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn picks_as_a_scan_of_the_whole_list(
        first in 0..SCHEDULERS.len(),
        classic in any::<bool>(),
        events in events(),
    ) {
        replay(SCHEDULERS[first], classic, events)?;
    }

    #[test]
    fn weighted_rounds_go_on_where_they_were(events in even_events()) {
        replay(Scheduler::Wrr, false, events)?;
    }

    #[test]
    fn replacing_all_ends_in_the_same_backends_as_building_anew(
        old in vec((0..20_u8, 0..5_u32), 0..15),
        new in vec((0..20_u8, 0..5_u32), 0..15),
    ) {
        let set = |list: &[(u8, u32)]| -> Vec<Backend> {
            let map: std::collections::BTreeMap<u8, u32> = list.iter().copied().collect();
            map.into_iter().map(|(number, weight)| Backend::new(address(number)).with_weight(weight)).collect()
        };
        let (old, new) = (set(&old), set(&new));
        let mut balancer = Balancer::with_options(
            BalancerOptions::new(Scheduler::Wrr).with_affinity(AffinityOptions::ipvs(Duration::from_secs(60))),
        );
        balancer.replace_all(&old, Duration::ZERO).unwrap();
        let changes = balancer.replace_all(&new, Duration::ZERO).unwrap();
        let mut got: Vec<Backend> = balancer.backends().map(|state| state.backend).collect();
        got.sort_by_key(|backend| backend.address);
        prop_assert_eq!(&got, &new);
        let kept = old.iter().filter(|backend| new.contains(backend)).count();
        prop_assert_eq!(changes.added.len() + changes.edited.len() + kept, new.len());
        prop_assert_eq!(changes.removed.len() + changes.edited.len() + kept, old.len());
    }
}
