//! The smallest restore input: only the rules that differ.
//!
//! `iptables-restore --noflush` leaves alone what its input does not name, and takes the editing commands of iptables
//! (`-A`, `-I`, `-R`, `-D`) with rule numbers. Rules of a Service stand together in each shared chain, in the order of
//! the Services, so the number of its first rule there is one more than the number of rules of all Services before it.

use alloc::vec::Vec;
use core::ops::Range;

use super::chain::{Chain, Table};
use super::index::Counts;
use super::rules::{Lines, Port, Rules, Sink, sorted_chains};
use super::text::Text;

/// Rules set aside to be compared, grouped by chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    bodies: Vec<u8>,
    rules: Vec<(Chain, Range<usize>)>,
}

impl Sink for Collected {
    fn rule(&mut self, chain: Chain, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bodies.len();
        write(&mut self.bodies);
        self.rules.push((chain, start..self.bodies.len()));
    }
}

impl Collected {
    /// Collects the rules of `ports`, forgetting what was there. Left out are the chains of endpoints that the same
    /// port has among `others`, too: they hold the same rules.
    fn collect(&mut self, rules: &Rules, ports: &[Port], others: &[Port]) {
        self.bodies.clear();
        self.rules.clear();
        for port in ports {
            rules.filter(port, self);
            rules.dispatch(port, self);
            rules.traffic(port, self);
            let twin = others
                .iter()
                .find(|other| other.plan.service == port.plan.service && other.comments == port.comments);
            let same = twin.map(Port::sorted_endpoint_hashes).unwrap_or_default();
            rules.endpoints(port, |hash| same.binary_search(&hash).is_err(), self);
        }
        // The sort is stable: within a chain rules keep their order.
        self.rules.sort_by_key(|(chain, _)| *chain);
    }

    fn body(&self, rule: &(Chain, Range<usize>)) -> &[u8] {
        self.bodies.get(rule.1.clone()).unwrap_or_default()
    }

    /// The rules of the first chain in `rest`, and what follows them.
    fn split<'a>(rest: &'a [(Chain, Range<usize>)], chain: Chain) -> Parts<'a> {
        rest.split_at(rest.iter().take_while(|rule| rule.0 == chain).count())
    }
}

type Parts<'a> = (&'a [(Chain, Range<usize>)], &'a [(Chain, Range<usize>)]);

/// Buffers that a delta is put together in, kept for reuse.
#[derive(Clone, Debug, Default)]
pub(super) struct Delta {
    old: Collected,
    new: Collected,
    filter: Vec<u8>,
    nat: Vec<u8>,
    chains: Vec<Chain>,
}

impl Delta {
    pub(super) fn clear(&mut self) {
        self.filter.clear();
        self.nat.clear();
    }

    /// The tables with their edits, without those that have none.
    pub(super) fn tables(&mut self) -> impl Iterator<Item = (Table, &mut Vec<u8>)> {
        [(Table::Filter, &mut self.filter), (Table::Nat, &mut self.nat)].into_iter()
    }

    pub(super) fn nat(&mut self) -> &mut Vec<u8> {
        &mut self.nat
    }

    /// Adds the edits that turn the rules of `old` into those of `new`, for one Service. `before` counts the rules of
    /// the Services before it in the shared chains. Chains that only `old` has are left to be deleted later.
    pub(super) fn service(&mut self, rules: &Rules, old: &[Port], new: &[Port], before: &Counts) {
        self.old.collect(rules, old, new);
        self.new.collect(rules, new, old);
        self.chains.clear();
        let chains = self.old.rules.iter().chain(&self.new.rules).map(|rule| rule.0);
        self.chains.extend(chains);
        self.chains.sort_unstable();
        self.chains.dedup();

        // A chain must exist before a rule can jump to it.
        let had = sorted_chains(old);
        for port in new {
            port.for_each_chain(|chain| {
                if had.binary_search(&chain).is_err() {
                    Lines(&mut self.nat).chain(Chain::Service(chain));
                }
            });
        }
        let (mut old_rest, mut new_rest) = (self.old.rules.as_slice(), self.new.rules.as_slice());
        for chain in self.chains.iter().copied() {
            let (old_rules, new_rules);
            (old_rules, old_rest) = Collected::split(old_rest, chain);
            (new_rules, new_rest) = Collected::split(new_rest, chain);
            let dissolved = matches!(chain, Chain::Service(_)) && new_rules.is_empty();
            if dissolved {
                continue;
            }
            let first = match chain {
                Chain::Shared(chain) => before.get(chain),
                Chain::Service(_) => 0,
            };
            let old_bodies = old_rules.iter().map(|rule| self.old.body(rule));
            let new_bodies = new_rules.iter().map(|rule| self.new.body(rule));
            let out = match chain.table() {
                Table::Nat => &mut self.nat,
                Table::Filter | Table::Mangle => &mut self.filter,
            };
            edit(chain, first, old_bodies, new_bodies, out);
        }
    }
}

/// Turns one list of rules into another; `first` rules of others come before them in the chain.
fn edit<'a>(
    chain: Chain,
    first: u32,
    old: impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone,
    new: impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone,
    out: &mut Vec<u8>,
) {
    let head = old.clone().zip(new.clone()).take_while(|(old, new)| old == new).count();
    let (mut old, mut new) = (old.skip(head), new.skip(head));
    let same_tail = |(old, new): &(&[u8], &[u8])| old == new;
    let tail = old.clone().rev().zip(new.clone().rev()).take_while(same_tail).count();
    let (mut old_left, mut new_left) = (old.len() - tail, new.len() - tail);
    let mut number = first + u32::try_from(head).unwrap_or(u32::MAX) + 1;
    let mut command = |command: &str, number: Option<u32>, body: &[u8]| {
        out.text(command);
        chain.write(out);
        if let Some(number) = number {
            out.text(" ").number(number);
        }
        if !body.is_empty() {
            out.text(" ").bytes(body);
        }
        out.text("\n");
    };
    while old_left > 0 && new_left > 0 {
        if let (Some(old), Some(new)) = (old.next(), new.next())
            && old != new
        {
            command("-R ", Some(number), new);
        }
        number += 1;
        old_left -= 1;
        new_left -= 1;
    }
    for _ in 0..old_left {
        command("-D ", Some(number), b"");
    }
    // Appending spares the tool from reading the chain; in a shared chain rules of other Services may follow.
    let appends = tail == 0 && matches!(chain, Chain::Service(_));
    for body in new.take(new_left) {
        if appends {
            command("-A ", None, body);
        } else {
            command("-I ", Some(number), body);
        }
        number += 1;
    }
}
