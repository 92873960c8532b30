//! All Services in their total order, with the number of rules that come before each of them in a shared chain.
//!
//! A change in the middle of `KUBE-SERVICES` is addressed by the number of the rule, so that number must be found
//! without walking all Services. Entries are kept in sorted runs of bounded length with the sum of their counts: a
//! lookup walks the runs, then one run.

use alloc::boxed::Box;
use alloc::vec::Vec;

use svc_model::ObjectRef;

use super::chain::{Chain, SharedChain, Table};
use super::rules::{Lines, Port, Rules, Sink};

/// Number of rules in each shared chain that Services have rules in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u32; 6]);

impl Counts {
    fn of(rules: &Rules, ports: &[Port]) -> Self {
        let mut counts = Self::default();
        for port in ports {
            rules.filter(port, &mut counts);
            rules.dispatch(port, &mut counts);
        }
        counts
    }

    fn slot(&mut self, chain: SharedChain) -> Option<&mut u32> {
        self.0.get_mut(place(chain)?)
    }

    pub(super) fn get(&self, chain: SharedChain) -> u32 {
        place(chain).and_then(|place| self.0.get(place)).copied().unwrap_or(0)
    }

    fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    fn subtract(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum -= count;
        }
    }
}

/// Counting needs no text.
impl Sink for Counts {
    fn rule(&mut self, chain: Chain, _write: impl FnOnce(&mut Vec<u8>)) {
        if let Chain::Shared(chain) = chain
            && let Some(count) = self.slot(chain)
        {
            *count += 1;
        }
    }
}

const fn place(chain: SharedChain) -> Option<usize> {
    Some(match chain {
        SharedChain::FilterServices => 0,
        SharedChain::ExternalServices => 1,
        SharedChain::FilterNodePorts => 2,
        SharedChain::ProxyFirewall => 3,
        SharedChain::Services => 4,
        SharedChain::NodePorts => 5,
        SharedChain::Forward | SharedChain::Firewall | SharedChain::Postrouting | SharedChain::MarkMasq => {
            return None;
        }
    })
}

/// A Service with at least one port.
#[derive(Clone, Debug)]
struct Entry {
    name: ObjectRef,
    ports: Box<[Port]>,
    counts: Counts,
}

#[derive(Clone, Debug, Default)]
struct Run {
    /// Sorted by name, never empty.
    entries: Vec<Entry>,
    counts: Counts,
    text: Option<Text>,
}

/// The rules of a run in the shared chains, as they are written.
#[derive(Clone, Debug, Default)]
struct Text {
    filter: Box<[u8]>,
    nat: Box<[u8]>,
}

impl Run {
    fn first(&self) -> Option<&ObjectRef> {
        self.entries.first().map(|entry| &entry.name)
    }

    fn find(&self, name: &ObjectRef) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.name.cmp(name))
    }

    fn write(&self, table: Table, rules: &Rules, out: &mut Vec<u8>) {
        let mut lines = Lines(out);
        for port in self.entries.iter().flat_map(|entry| &entry.ports) {
            match table {
                Table::Filter => rules.filter(port, &mut lines),
                Table::Nat => rules.dispatch(port, &mut lines),
                Table::Mangle => {}
            }
        }
    }

    fn recount(&mut self) {
        self.counts = Counts::default();
        for entry in &self.entries {
            self.counts.add(&entry.counts);
        }
    }
}

/// The Services in order of namespace and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    runs: Vec<Run>,
}

impl Index {
    /// Longest run: half of it is moved when one is split.
    const RUN: usize = 256;

    /// The ports of a Service; none if it is not there.
    pub(super) fn get(&self, name: &ObjectRef) -> &[Port] {
        let run = self.runs.get(self.run_of(name));
        run.and_then(|run| run.entries.get(run.find(name).ok()?)).map_or(&[], |entry| &entry.ports)
    }

    /// Puts `ports` in the place of what the Service had, which is returned. Without ports it is removed.
    pub(super) fn replace(&mut self, name: &ObjectRef, ports: Box<[Port]>, rules: &Rules) -> Box<[Port]> {
        let counts = Counts::of(rules, &ports);
        let at = self.run_of(name);
        let Some(run) = self.runs.get_mut(at) else {
            if !ports.is_empty() {
                let entry = Entry { name: name.clone(), ports, counts };
                self.runs.push(Run { entries: Vec::from([entry]), counts, text: None });
            }
            return Box::default();
        };
        run.text = None;
        match run.find(name) {
            Ok(place) if ports.is_empty() => {
                let old = run.entries.remove(place);
                run.counts.subtract(&old.counts);
                if run.entries.is_empty() {
                    self.runs.remove(at);
                }
                old.ports
            }
            Ok(place) => {
                let Some(entry) = run.entries.get_mut(place) else { return Box::default() };
                run.counts.subtract(&entry.counts);
                run.counts.add(&counts);
                entry.counts = counts;
                core::mem::replace(&mut entry.ports, ports)
            }
            Err(_) if ports.is_empty() => Box::default(),
            Err(place) => {
                run.entries.insert(place, Entry { name: name.clone(), ports, counts });
                run.counts.add(&counts);
                if run.entries.len() > Self::RUN {
                    self.split(at);
                }
                Box::default()
            }
        }
    }

    fn split(&mut self, at: usize) {
        let Some(run) = self.runs.get_mut(at) else { return };
        let mut upper = Run { entries: run.entries.split_off(run.entries.len() / 2), ..Run::default() };
        run.recount();
        upper.recount();
        self.runs.insert(at + 1, upper);
    }

    /// The run that holds `name`, or would.
    fn run_of(&self, name: &ObjectRef) -> usize {
        self.runs.partition_point(|run| run.first().is_some_and(|first| first <= name)).saturating_sub(1)
    }

    /// How many rules the Services before `name` have in each shared chain.
    pub(super) fn before(&self, name: &ObjectRef) -> Counts {
        let at = self.run_of(name);
        let mut sum = Counts::default();
        for run in self.runs.iter().take(at) {
            sum.add(&run.counts);
        }
        if let Some(run) = self.runs.get(at) {
            let (Ok(place) | Err(place)) = run.find(name);
            for entry in run.entries.iter().take(place) {
                sum.add(&entry.counts);
            }
        }
        sum
    }

    /// Keeps the rules of all Services in the shared chains as text, until a Service of the same run changes.
    pub(super) fn keep_texts(&mut self, rules: &Rules) {
        let mut buffer = Vec::new();
        for run in self.runs.iter_mut().filter(|run| run.text.is_none()) {
            let mut written = |table| {
                buffer.clear();
                run.write(table, rules, &mut buffer);
                Box::from(buffer.as_slice())
            };
            run.text = Some(Text { filter: written(Table::Filter), nat: written(Table::Nat) });
        }
    }

    /// Writes the rules of all Services in the shared chains of a table.
    pub(super) fn write(&self, table: Table, rules: &Rules, out: &mut Vec<u8>) {
        for run in &self.runs {
            match (&run.text, table) {
                (Some(text), Table::Filter) => out.extend_from_slice(&text.filter),
                (Some(text), Table::Nat) => out.extend_from_slice(&text.nat),
                _ => run.write(table, rules, out),
            }
        }
    }

    /// The names of all Services, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectRef> {
        self.runs.iter().flat_map(|run| &run.entries).map(|entry| &entry.name)
    }

    /// The ports of each Service, in order.
    pub(super) fn services(&self) -> impl Iterator<Item = &[Port]> {
        self.runs.iter().flat_map(|run| &run.entries).map(|entry| &*entry.ports)
    }

    /// All ports, in order.
    pub(super) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.runs.iter().flat_map(|run| &run.entries).flat_map(|entry| &entry.ports)
    }

    /// All ports, in order, to change what no count depends on.
    pub(super) fn ports_mut(&mut self) -> impl Iterator<Item = &mut Port> {
        self.runs.iter_mut().flat_map(|run| &mut run.entries).flat_map(|entry| &mut entry.ports)
    }

    /// The ports of a Service, to change what no count depends on.
    pub(super) fn ports_of_mut(&mut self, name: &ObjectRef) -> impl Iterator<Item = &mut Port> {
        let at = self.run_of(name);
        let run = self.runs.get_mut(at);
        let entry = run.and_then(|run| {
            let place = run.find(name).ok()?;
            run.entries.get_mut(place)
        });
        entry.into_iter().flat_map(|entry| &mut entry.ports)
    }
}
