//! Rows: for a set of policies that apply together in one direction, which rule decides for each peer.
//!
//! A row holds, for every class of peers, a [`Func`]: a step function from traffic to a [`Code`], which names
//! the rule that decides and with it the verdict. So a verdict is a look-up of its reason. Peers for which the
//! rules that name peers make no difference share the row's first function, and take no place.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::func::{Code, Effect, FIRST_RULE, Func, ISOLATED, Standing, State, UNKNOWN};
use super::term::{TermCode, TermId, Terms};
use super::{Map, Peer, PeerId, PolicyCode, PolicyEntry, PolicyId, Slab};
use crate::policy::{Action, Direction, NamedPort, Rule, Tier};
use crate::traffic::PortSet;

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
}

const PAGE: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) key: RowKey,
    /// How many kinds of Pods use the row.
    pub(crate) refs: u32,
    /// Every rule of the policies in the order of evaluation; a reason is an index here.
    pub(crate) rules: Vec<RowRule>,
    /// What an unknown verdict may turn out to be: an allowing reason and a denying one.
    branches: Vec<(Code, Code)>,
    /// Functions, one after the other; that of peers without a cell is first.
    funcs: Vec<u32>,
    /// For each [`PAGE`] peers, 1 + the number of their page in `cells`, 0 if none of them has a cell.
    pages: Vec<u32>,
    /// Pages of offsets in `funcs`.
    cells: Vec<u32>,
    /// Terms of all rules, sorted, each once.
    pub(crate) terms: Vec<TermId>,
}

/// What rows are computed from.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) policies: &'a Slab<PolicyEntry>,
    pub(crate) peers: &'a Slab<Peer>,
    pub(crate) terms: &'a Terms,
}

enum Step<'a> {
    Rule(RuleStep<'a>),
    NextTier,
    /// Whatever no NetworkPolicy allowed is denied.
    Isolate,
}

struct RuleStep<'a> {
    reason: u32,
    effect: Effect,
    maybe: bool,
    rule: &'a Rule<TermId>,
    /// The traffic it names, where that doesn't depend on the peer.
    set: PortSet,
    /// Whether it names ports of the peer.
    named: bool,
}

impl Step<'_> {
    fn apply(&self, state: &State, maybe_peer: bool, names: &[NamedPort]) -> State {
        match self {
            Step::NextTier => state.change(&PortSet::all(), Standing::next_tier),
            Step::Isolate => state.change(&PortSet::all(), |s| s.matched(ISOLATED, Effect::Deny, false)),
            Step::Rule(step) => {
                let f = |s: Standing| s.matched(step.reason, step.effect, step.maybe || maybe_peer);
                if step.named {
                    state.change(&step.rule.traffic(names), f)
                } else {
                    state.change(&step.set, f)
                }
            }
        }
    }

    fn is_named(&self) -> bool {
        matches!(self, Step::Rule(step) if step.named)
    }
}

impl Row {
    /// A row that is yet to be built.
    pub(crate) fn empty(key: RowKey) -> Self {
        Self {
            key,
            refs: 1,
            rules: Vec::new(),
            branches: Vec::new(),
            funcs: Vec::new(),
            pages: Vec::new(),
            cells: Vec::new(),
            terms: Vec::new(),
        }
    }

    /// A row for a key, with a cell for each of the peers that `ctx` knows.
    pub(crate) fn build(key: RowKey, refs: u32, ctx: Context<'_>, scratch: &mut Scratch) -> Self {
        let mut row = Self { refs, ..Self::empty(key) };
        row.terms = row.find_terms(ctx.policies);
        row.rules = row.order(ctx);
        let steps = row.steps(ctx);
        row.fill(&steps, ctx, scratch);
        row
    }

    /// Rules in the order of evaluation: Admin tier by priority, NetworkPolicies, Baseline tier by priority;
    /// policies that tie by kind, namespace and name.
    fn order(&self, ctx: Context<'_>) -> Vec<RowRule> {
        let mut policies: Vec<(PolicyCode, &PolicyEntry)> =
            self.key.policies.iter().filter_map(|code| Some((*code, ctx.policies.get(code.id())?))).collect();
        policies.sort_unstable_by(|(_, a), (_, b)| a.order().cmp(&b.order()));
        let rules = policies.into_iter().flat_map(|(code, entry)| {
            let rules = entry.compiled.rules(self.key.direction).unwrap_or_default();
            (0..rules.len() as u32).map(move |rule| RowRule {
                policy: code.id(),
                rule,
                maybe: code.is_maybe(),
            })
        });
        rules.collect()
    }

    /// Whether a NetworkPolicy applies: then whatever none allows is denied.
    pub(crate) fn isolated(&self, policies: &Slab<PolicyEntry>) -> bool {
        self.key.policies.iter().any(|code| {
            policies.get(code.id()).is_some_and(|entry| entry.compiled.tier == Tier::NetworkPolicy)
        })
    }

    fn steps<'a>(&self, ctx: Context<'a>) -> Vec<Step<'a>> {
        let tier_of = |steps: &mut Vec<Step<'a>>, tier: Tier| {
            for (at, reason) in self.rules.iter().zip(FIRST_RULE..) {
                let Some(entry) = ctx.policies.get(at.policy).filter(|e| e.compiled.tier == tier) else {
                    continue;
                };
                let rules = entry.compiled.rules(self.key.direction).unwrap_or_default();
                let Some(rule) = rules.get(at.rule as usize) else { continue };
                let effect = match rule.action {
                    Action::Accept => Effect::Allow,
                    Action::Deny => Effect::Deny,
                    // Nothing comes after the Baseline tier.
                    Action::Pass if tier == Tier::Baseline => Effect::Allow,
                    Action::Pass => Effect::Pass,
                };
                let named = self.key.direction == Direction::Egress && rule.port_names().next().is_some();
                let set = if named { PortSet::empty() } else { rule.traffic(&self.key.names) };
                steps.push(Step::Rule(RuleStep { reason, effect, maybe: at.maybe, rule, set, named }));
            }
        };
        let mut steps = Vec::with_capacity(self.rules.len() + 2);
        tier_of(&mut steps, Tier::Admin);
        steps.push(Step::NextTier);
        if self.isolated(ctx.policies) {
            tier_of(&mut steps, Tier::NetworkPolicy);
            steps.push(Step::Isolate);
        } else if self.key.baseline {
            tier_of(&mut steps, Tier::Baseline);
        }
        steps
    }

    fn fill(&mut self, steps: &[Step<'_>], ctx: Context<'_>, scratch: &mut Scratch) {
        let mut states = States::default();
        let mut default = states.intern(State::start());
        scratch.reset(ctx.peers.bound());
        let mut matching: Vec<(PeerId, bool)> = Vec::new();
        for step in steps {
            let mut memo: Map<(u32, bool), u32> = Map::default();
            let mut next = |states: &mut States, state: u32, maybe: bool, peer: Option<PeerId>| {
                if let Some(peer) = peer.filter(|_| step.is_named()) {
                    let names = ctx.peers.get(peer).map_or(&[][..], |peer| &peer.key.names);
                    return states.after(state, |state| step.apply(state, maybe, names));
                }
                *memo
                    .entry((state, maybe))
                    .or_insert_with(|| states.after(state, |state| step.apply(state, maybe, &[])))
            };
            match step {
                Step::Rule(RuleStep { rule: Rule { peers: Some(peers), .. }, .. }) => {
                    ctx.terms.peers_of(peers.iter().map(|(term, _)| *term), &mut matching);
                    for (peer, maybe) in matching.drain(..) {
                        let cell = scratch.cell(peer, default);
                        *cell = next(&mut states, *cell, maybe, Some(peer));
                    }
                }
                _ => {
                    if step.is_named() {
                        for (peer, _) in ctx.peers.iter().filter(|(_, entry)| !entry.key.names.is_empty()) {
                            scratch.cell(peer, default);
                        }
                    }
                    let (touched, cells) = scratch.all();
                    for peer in touched {
                        if let Some(cell) = cells.get_mut(*peer as usize) {
                            *cell = next(&mut states, *cell, false, Some(*peer));
                        }
                    }
                    default = next(&mut states, default, false, None);
                }
            }
        }
        let mut funcs: Vec<Option<u32>> = Vec::new();
        funcs.resize(states.list.len(), None);
        let mut func_of = |row: &mut Self, state: u32| match funcs.get_mut(state as usize) {
            Some(slot) => *slot.get_or_insert_with(|| row.intern(states.get(state))),
            None => 0,
        };
        func_of(self, default);
        let (touched, cells) = scratch.all();
        for peer in touched {
            if let Some(state) = cells.get(*peer as usize) {
                let func = func_of(self, *state);
                self.set(*peer, func);
            }
        }
    }

    /// Computes the cell of one peer anew.
    pub(crate) fn recompute(&mut self, peer: PeerId, ctx: Context<'_>) {
        let Some(entry) = ctx.peers.get(peer) else { return self.forget(peer) };
        let mut state = State::start();
        for step in &self.steps(ctx) {
            let maybe = match step {
                Step::Rule(RuleStep { rule: Rule { peers: Some(peers), .. }, .. }) => {
                    match entry.key.finds(peers.iter().map(|(term, _)| *term)) {
                        Some(code) => code.is_maybe(),
                        None => continue,
                    }
                }
                Step::Rule(_) | Step::NextTier | Step::Isolate => false,
            };
            state = step.apply(&state, maybe, &entry.key.names);
        }
        let func = self.intern(&state);
        self.set(peer, func);
    }

    /// Forgets a peer that is no more.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.set(peer, 0);
    }

    fn intern(&mut self, state: &State) -> u32 {
        let branches = &mut self.branches;
        let func = state.finish(|allow, deny| {
            let at = branches.iter().position(|known| *known == (allow, deny)).unwrap_or_else(|| {
                branches.push((allow, deny));
                branches.len() - 1
            });
            at as u32
        });
        let known =
            self.funcs().find(|(_, known)| Func::at(&func, 0) == Some(*known)).map(|(offset, _)| offset);
        known.unwrap_or_else(|| {
            let offset = self.funcs.len() as u32;
            self.funcs.extend(func);
            offset
        })
    }

    /// The two outcomes of an unknown verdict.
    pub(crate) fn branches(&self, code: Code) -> Option<(Code, Code)> {
        self.branches.get(code.reason() as usize).copied()
    }

    /// A code, or both outcomes of an unknown one.
    pub(crate) fn branches_of(&self, code: Code) -> [Code; 2] {
        match self.branches(code).filter(|_| code.verdict() == UNKNOWN) {
            Some((allow, deny)) => [allow, deny],
            None => [code, code],
        }
    }

    fn set(&mut self, peer: PeerId, func: u32) {
        let (page, at) = (peer as usize / PAGE, peer as usize % PAGE);
        if func == 0 && self.pages.get(page).is_none_or(|page| *page == 0) {
            return;
        }
        if self.pages.len() <= page {
            self.pages.resize(page + 1, 0);
        }
        let Some(number) = self.pages.get_mut(page) else { return };
        if *number == 0 {
            self.cells.resize(self.cells.len() + PAGE, 0);
            *number = (self.cells.len() / PAGE) as u32;
        }
        if let Some(cell) = self.cells.get_mut((*number as usize - 1) * PAGE + at) {
            *cell = func;
        }
    }

    /// Offset of the function for a peer.
    #[inline]
    pub(crate) fn offset(&self, peer: PeerId) -> u32 {
        let (page, at) = (peer as usize / PAGE, peer as usize % PAGE);
        match self.pages.get(page) {
            None | Some(0) => 0,
            Some(number) => self.cells.get((*number as usize - 1) * PAGE + at).copied().unwrap_or(0),
        }
    }

    #[inline]
    pub(crate) fn code(&self, peer: PeerId, key: u32) -> Code {
        Func::at(&self.funcs, self.offset(peer)).map_or(Code::DEFAULT, |func| func.code(key))
    }

    /// Every function with its offset.
    pub(crate) fn funcs(&self) -> impl Iterator<Item = (u32, Func<'_>)> {
        let mut offset = 0;
        core::iter::from_fn(move || {
            let func = Func::at(&self.funcs, offset)?;
            let at = offset;
            offset += func.len();
            Some((at, func))
        })
    }

    /// The function at an offset.
    pub(crate) fn func(&self, offset: u32) -> Option<Func<'_>> {
        Func::at(&self.funcs, offset)
    }

    /// Terms of all rules, sorted, each once.
    fn find_terms(&self, policies: &Slab<PolicyEntry>) -> Vec<TermId> {
        let rules = self
            .key
            .policies
            .iter()
            .filter_map(|code| policies.get(code.id())?.compiled.rules(self.key.direction));
        let mut terms: Vec<TermId> =
            rules.flatten().flat_map(|rule| rule.peers.iter().flatten().map(|(term, _)| *term)).collect();
        terms.sort_unstable();
        terms.dedup();
        terms
    }

    /// Whether a rule for everyone names a port of the destination, so that even Pods that no term finds differ.
    pub(crate) fn depends_on_names(&self, policies: &Slab<PolicyEntry>) -> bool {
        self.key.direction == Direction::Egress
            && self.key.policies.iter().any(|code| {
                let rules = policies.get(code.id()).and_then(|entry| entry.compiled.rules(Direction::Egress));
                rules
                    .into_iter()
                    .flatten()
                    .any(|rule| rule.peers.is_none() && rule.port_names().next().is_some())
            })
    }

    /// Bytes held on the heap, about.
    pub(crate) fn heap_size(&self) -> usize {
        let words =
            [&self.funcs, &self.pages, &self.cells, &self.terms].map(Vec::capacity).iter().sum::<usize>();
        size_of::<u32>() * (words + self.key.policies.len()) + self.rules.capacity() * size_of::<RowRule>()
    }
}

/// States met while a row is filled, each once.
#[derive(Default)]
struct States {
    list: Vec<State>,
    ids: Map<State, u32>,
}

impl States {
    fn intern(&mut self, state: State) -> u32 {
        if let Some(id) = self.ids.get(&state) {
            return *id;
        }
        let id = self.list.len() as u32;
        self.list.push(state.clone());
        self.ids.insert(state, id);
        id
    }

    fn after(&mut self, state: u32, f: impl FnOnce(&State) -> State) -> u32 {
        let after = f(self.get(state));
        self.intern(after)
    }

    fn get(&self, id: u32) -> &State {
        #[expect(clippy::indexing_slicing, reason = "ids are made by `intern`, which fills the list")]
        &self.list[id as usize]
    }
}

/// Room to fill rows in, used again and again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    cells: Vec<u32>,
    touched: Vec<PeerId>,
}

const UNTOUCHED: u32 = u32::MAX;

impl Scratch {
    fn reset(&mut self, peers: usize) {
        for peer in self.touched.drain(..) {
            if let Some(cell) = self.cells.get_mut(peer as usize) {
                *cell = UNTOUCHED;
            }
        }
        if self.cells.len() < peers {
            self.cells.resize(peers, UNTOUCHED);
        }
    }

    /// The state of a peer, which is the default one until it is touched.
    fn cell(&mut self, peer: PeerId, default: u32) -> &mut u32 {
        #[expect(clippy::indexing_slicing, reason = "`reset` made room for every peer there is")]
        let cell = &mut self.cells[peer as usize];
        if *cell == UNTOUCHED {
            *cell = default;
            self.touched.push(peer);
        }
        cell
    }

    fn all(&mut self) -> (&[PeerId], &mut [u32]) {
        (&self.touched, &mut self.cells)
    }
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
    /// The surest of these terms that finds the peer.
    pub(crate) fn finds(&self, terms: impl Iterator<Item = TermId>) -> Option<TermCode> {
        let mut best = None;
        for term in terms {
            match self.has(term) {
                Some(code) if !code.is_maybe() => return Some(code),
                code => best = best.or(code),
            }
        }
        best
    }

    /// Whether a term finds the peer, and how surely.
    pub(crate) fn has(&self, term: TermId) -> Option<TermCode> {
        let at = self.terms.partition_point(|code| code.id() < term);
        self.terms.get(at).copied().filter(|code| code.id() == term)
    }
}
