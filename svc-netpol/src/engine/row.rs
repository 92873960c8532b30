//! Rows: for a set of policies that apply together in one direction, which rule decides for each peer.
//!
//! A row holds, for every class of peers, a [`Func`]: a step function from traffic to a [`Code`], which names
//! the rule that decides and with it the verdict. So a verdict is a look-up of its reason. A peer has a cell only
//! where the row looks at what sets it apart from those [around it](super::Peer); it is else what they are, and
//! they in turn, where the row doesn't look at them, are what everyone is.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use hashbrown::Equivalent;

use super::func::{Code, Effect, FIRST_RULE, ISOLATED, Standing, State};
use super::table::{FuncId, Table};
use super::term::{TermCode, TermId, Terms};
use super::{Map, Peer, PeerId, Peers, PolicyCode, PolicyEntry, PolicyId, Slab};
use crate::policy::{Action, Direction, NamedPort, Tier};

/// What a row is made for; equal keys share a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RowKey {
    pub(crate) direction: Direction,
    /// The policies that apply, sorted.
    pub(crate) policies: Box<[PolicyCode]>,
    /// For ingress, the subject's named ports that the rules name.
    pub(crate) names: Box<[NamedPort]>,
    /// Whether the Baseline tier is consulted where no NetworkPolicy isolates.
    pub(crate) baseline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRule {
    pub(crate) policy: PolicyId,
    pub(crate) rule: u32,
    /// Whether it is unknown if the policy applies.
    maybe: bool,
    /// Whether it is for everyone.
    everyone: bool,
    /// Where its peers end in the row's `peers`; they begin where those of the rule before end.
    peers_end: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) key: RowKey,
    /// How many kinds of Pods use the row.
    pub(crate) refs: u32,
    /// Every rule that is consulted, in the order of evaluation; a reason is an index here.
    pub(crate) rules: Vec<RowRule>,
    /// Peers of the rules, one rule after the other.
    peers: Vec<TermId>,
    /// Terms of all rules, sorted, each once.
    pub(crate) terms: Vec<TermId>,
    /// Whether a NetworkPolicy applies: then whatever none allows is denied.
    isolated: bool,
    /// Which rules name ports of the peer.
    named: Named,
    /// What an unknown verdict may turn out to be: an allowing reason and a denying one.
    branches: Vec<(Code, Code)>,
}

/// Which rules of a row name ports of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    None,
    ForSome,
    /// One for everyone does, so that even Pods that no term finds differ.
    ForEveryone,
}

/// What rows are computed from.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) policies: &'a Slab<PolicyEntry>,
    pub(crate) peers: &'a Slab<Peer>,
    pub(crate) terms: &'a Terms,
}

impl Row {
    /// A row that is yet to be built.
    pub(crate) fn empty(key: RowKey) -> Self {
        Self {
            table: Table::default(),
            key,
            refs: 1,
            rules: Vec::new(),
            peers: Vec::new(),
            terms: Vec::new(),
            isolated: false,
            named: Named::None,
            branches: Vec::new(),
        }
    }

    /// A row for a key, with a cell for each of the peers in `ctx` that it looks at.
    pub(crate) fn build(key: RowKey, refs: u32, ctx: Context<'_>, scratch: &mut Scratch) -> Self {
        let mut row = Self { refs, ..Self::empty(key) };
        row.order(ctx);
        row.evaluate(&[], &[], ctx, scratch, |_| {});
        row.table.set_default(&scratch.words);
        let mut peers: Vec<PeerId> = row.terms.iter().flat_map(|term| ctx.terms.peers(*term)).collect();
        if row.named == Named::ForEveryone {
            let named = ctx.peers.iter().filter(|(_, peer)| peer.wide && !peer.key.names.is_empty());
            peers.extend(named.map(|(id, _)| id));
        }
        peers.sort_unstable();
        peers.dedup();
        row.table.reserve(peers.len());
        row.update(peers, ctx, scratch);
        row
    }

    /// Puts the rules in the order of evaluation: Admin tier by priority, NetworkPolicies, Baseline tier by priority
    /// if it is consulted at all; policies that tie by kind, namespace and name.
    fn order(&mut self, ctx: Context<'_>) {
        let mut policies: Vec<(PolicyCode, &PolicyEntry)> =
            self.key.policies.iter().filter_map(|code| Some((*code, ctx.policies.get(code.id())?))).collect();
        policies.sort_unstable_by(|(_, a), (_, b)| a.order().cmp(&b.order()));
        self.isolated = policies.iter().any(|(_, entry)| entry.compiled.tier == Tier::NetworkPolicy);
        let baseline = self.key.baseline && !self.isolated;
        for (code, entry) in policies {
            if entry.compiled.tier == Tier::Baseline && !baseline {
                continue;
            }
            let rules = entry.compiled.rules(self.key.direction).unwrap_or_default();
            for (rule, index) in rules.iter().zip(0..) {
                self.peers.extend(rule.peers.iter().flatten().map(|(term, _)| *term));
                self.rules.push(RowRule {
                    policy: code.id(),
                    rule: index,
                    maybe: code.is_maybe(),
                    everyone: rule.peers.is_none(),
                    peers_end: self.peers.len() as u32,
                });
                if self.key.direction == Direction::Egress && rule.port_names().next().is_some() {
                    let named = if rule.peers.is_none() { Named::ForEveryone } else { Named::ForSome };
                    self.named = self.named.max(named);
                }
            }
        }
        self.terms = self.peers.clone();
        self.terms.sort_unstable();
        self.terms.dedup();
    }

    /// What the rules come to for a peer that these terms find and that has these named ports: in the words of `scratch`,
    /// as a [`Func`](super::func::Func) has them. `decides` is told the reason of every rule that some of the traffic comes to.
    fn evaluate(
        &mut self,
        found: &[TermCode],
        names: &[NamedPort],
        ctx: Context<'_>,
        scratch: &mut Scratch,
        mut decides: impl FnMut(u32),
    ) {
        let Scratch { state, words, .. } = scratch;
        state.restart();
        let (mut begin, mut admin) = (0, true);
        for (at, reason) in self.rules.iter().zip(FIRST_RULE..) {
            let peers = self.peers.get(begin..at.peers_end as usize).unwrap_or_default();
            begin = at.peers_end as usize;
            let maybe = match surest(found, peers) {
                Some(code) => code.is_maybe(),
                None if at.everyone => false,
                None => continue,
            };
            let Some(entry) = ctx.policies.get(at.policy) else { continue };
            let rules = entry.compiled.rules(self.key.direction).unwrap_or_default();
            let Some(rule) = rules.get(at.rule as usize) else { continue };
            let tier = entry.compiled.tier;
            if admin && tier != Tier::Admin {
                state.change_all(Standing::next_tier);
                admin = false;
            }
            let effect = match rule.action {
                Action::Accept => Effect::Allow,
                Action::Deny => Effect::Deny,
                // Nothing comes after the Baseline tier.
                Action::Pass if tier == Tier::Baseline => Effect::Allow,
                Action::Pass => Effect::Pass,
            };
            let names = match self.key.direction {
                Direction::Ingress => &*self.key.names,
                Direction::Egress => names,
            };
            let matched = |s: Standing| {
                if s.is_open() {
                    decides(reason);
                }
                s.matched(reason, effect, at.maybe || maybe)
            };
            if rule.port_names().next().is_some() {
                state.change(&rule.traffic(names), matched);
            } else {
                state.change(&rule.fixed, matched);
            }
        }
        if admin {
            state.change_all(Standing::next_tier);
        }
        if self.isolated {
            state.change_all(|s| s.matched(ISOLATED, Effect::Deny, false));
        }
        let branches = &mut self.branches;
        state.finish(words, |allow, deny| {
            let at = branches.iter().position(|known| *known == (allow, deny)).unwrap_or_else(|| {
                branches.push((allow, deny));
                branches.len() - 1
            });
            at as u32
        });
    }

    /// Computes the cells of some peers anew; those that the row doesn't look at lose theirs.
    pub(crate) fn update(
        &mut self,
        peers: impl IntoIterator<Item = PeerId>,
        ctx: Context<'_>,
        scratch: &mut Scratch,
    ) {
        let mut known: Map<(Box<[TermCode]>, &[NamedPort]), FuncId> = Map::default();
        let mut found = core::mem::take(&mut scratch.found);
        for id in peers {
            let Some(peer) = ctx.peers.get(id).filter(|peer| self.looks_at(peer)) else {
                self.table.remove(id);
                continue;
            };
            found.clear();
            found.extend(peer.key.terms.iter().filter(|code| self.has_term(code.id())));
            let names = if self.named == Named::None { &[][..] } else { &*peer.key.names };
            let func = match known.get(&Alike(&found, names)) {
                Some(func) => *func,
                None => {
                    self.evaluate(&found, names, ctx, scratch, |_| {});
                    let func = self.table.intern(&scratch.words);
                    known.insert((found.as_slice().into(), names), func);
                    func
                }
            };
            self.table.set(id, func);
        }
        scratch.found = found;
    }

    /// The rules that decide about some traffic of some of these ends, for sure or perhaps.
    pub(crate) fn deciding(&self, ends: &BTreeSet<Peers>, ctx: Context<'_>) -> BTreeSet<(PolicyId, u32)> {
        let (mut row, mut scratch, mut deciding) = (self.clone(), Scratch::default(), BTreeSet::new());
        let seen = |id: PeerId| ctx.peers.get(id).filter(|peer| self.looks_at(peer));
        let looked_at = |ends: &Peers| seen(ends.own).or_else(|| seen(ends.around));
        let mut alike: BTreeSet<(Vec<TermCode>, &[NamedPort])> = BTreeSet::new();
        for end in ends {
            let (terms, names) =
                looked_at(end).map_or((&[][..], &[][..]), |p| (&*p.key.terms, &*p.key.names));
            let found = terms.iter().copied().filter(|code| self.has_term(code.id())).collect();
            alike.insert((found, if self.named == Named::None { &[] } else { names }));
        }
        for (found, names) in alike {
            row.evaluate(&found, names, ctx, &mut scratch, |reason| {
                let rule = self.rules.get((reason - FIRST_RULE) as usize);
                deciding.extend(rule.map(|rule| (rule.policy, rule.rule)));
            });
        }
        deciding
    }

    fn has_term(&self, term: TermId) -> bool {
        self.terms.binary_search(&term).is_ok()
    }

    /// Whether a peer has a cell here.
    fn looks_at(&self, peer: &Peer) -> bool {
        peer.own.iter().any(|code| self.has_term(code.id()))
            || peer.wide && self.named == Named::ForEveryone && !peer.key.names.is_empty()
    }

    /// Whether a rule for everyone names a port of the peer.
    pub(crate) fn names_ports_of_everyone(&self) -> bool {
        self.named == Named::ForEveryone
    }

    /// Forgets a peer that is no more.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.table.remove(peer);
    }

    /// The two outcomes of an unknown verdict.
    pub(crate) fn branches(&self, code: Code) -> Option<(Code, Code)> {
        self.branches.get(code.reason() as usize).copied()
    }

    /// Bytes held on the heap, about.
    pub(crate) fn heap_size(&self) -> usize {
        let words = [&self.peers, &self.terms].map(Vec::capacity).iter().sum::<usize>();
        self.table.heap_size()
            + size_of::<u32>() * (words + self.key.policies.len())
            + self.rules.capacity() * size_of::<RowRule>()
    }
}

/// Peers for which a row comes to the same: found by the same of its terms, and with the same named ports.
#[derive(Hash)]
struct Alike<'a>(&'a [TermCode], &'a [NamedPort]);

impl Equivalent<(Box<[TermCode]>, &[NamedPort])> for Alike<'_> {
    fn equivalent(&self, (found, names): &(Box<[TermCode]>, &[NamedPort])) -> bool {
        *self.0 == **found && self.1 == *names
    }
}

/// The surest of some terms that is among those which find a peer.
fn surest(found: &[TermCode], terms: &[TermId]) -> Option<TermCode> {
    let mut best = None;
    for code in found.iter().filter(|code| terms.contains(&code.id())) {
        if !code.is_maybe() {
            return Some(*code);
        }
        best = Some(*code);
    }
    best
}

/// Room to compute rows in, used again and again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    state: State,
    words: Vec<u32>,
    found: Vec<TermCode>,
}

/// What policies can tell of the other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PeerKey {
    /// Terms that find it, sorted, each once.
    pub(crate) terms: Box<[TermCode]>,
    /// Its named ports that some policy names, sorted.
    pub(crate) names: Box<[NamedPort]>,
}

impl PeerKey {
    /// Whether a term finds the peer, and how surely.
    pub(crate) fn has(&self, term: TermId) -> Option<TermCode> {
        let at = self.terms.partition_point(|code| code.id() < term);
        self.terms.get(at).copied().filter(|code| code.id() == term)
    }
}
