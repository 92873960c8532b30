//! Walking a packet through nftables rules, as the kernel evaluates them.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use smol_str::SmolStr;

use super::eval::{Evaluated, is_member, values, verdict_for};
use super::model::{
    Chain, ChainKind, Comparison, Datum, End, Expression, Operand, Policy, Rule, Ruleset, Statement, Table,
    Tuple, Verdict as RuleVerdict,
};
use super::print::tuple_text;
use crate::host::Host;
use crate::outcome::{AffinityAction, AffinityUpdate, Effect, Hook, SourceNat, Unknown, Verdict, Walk};
use crate::packet::Packet;
use crate::walk::{At, Backend, Flow, Stage, StageKind, Step, hit, walk};

/// How deep chains may jump (`NFT_JUMP_STACK_SIZE`).
const JUMP_STACK: usize = 16;

impl Ruleset {
    /// Everything that can become of `packet` on `host` under these rules.
    ///
    /// Clients remembered in dynamic sets are looked for in [`Host::memory`] under the set's name, and in the elements
    /// that the ruleset holds itself.
    pub fn walk(&self, host: &Host, packet: &Packet) -> Walk {
        walk(&[self], host, packet)
    }
}

impl Backend for Ruleset {
    fn stages(&self, hook: Hook) -> Vec<Stage> {
        let mut stages = Vec::new();
        for (place, table) in self.tables.values().enumerate() {
            for (index, _, chain) in table.bases.iter().filter_map(|name| table.chains.get_full(name)) {
                if let Some(base) = chain.base.filter(|base| base.hook == hook) {
                    let kind = if base.kind == ChainKind::Nat { StageKind::Nat } else { StageKind::Filter };
                    stages.push(Stage { priority: base.priority, kind, id: (place, index) });
                }
            }
        }
        stages
    }

    fn run(&self, stage: Stage, flow: Flow, at: &At<'_>, out: &mut Vec<(Flow, Step)>) {
        let table = self.tables.get_index(stage.id.0).map(|(_, table)| table);
        let table = table.filter(|table| table.family.sees(flow.packet.destination));
        let base = table
            .and_then(|table| table.chains.get_index(stage.id.1).map(|(name, chain)| (table, name, chain)));
        let Some((table, name, chain)) = base else {
            out.push((flow, Step::Pass));
            return;
        };
        let mut branches = vec![Branch { flow, stack: vec![Frame { name, chain, next: 0 }], act: None }];
        while let Some(Branch { flow, stack, act }) = branches.pop() {
            let mut run = Run { table, base: (name, chain), at, flow, stack };
            match run.go(act) {
                Stop::End(step) => out.push((run.flow, step)),
                Stop::Split(ways, place) => {
                    for (probability, act) in ways {
                        let mut flow = run.flow.clone();
                        flow.probability = flow.probability.and(probability);
                        branches.push(Branch { flow, stack: run.stack.clone(), act: Some((act, place)) });
                    }
                }
            }
        }
    }
}

/// A chain being traversed.
#[derive(Clone)]
struct Frame<'a> {
    name: &'a SmolStr,
    chain: &'a Chain,
    /// Place of the rule to be looked at next, from 0.
    next: usize,
}

/// The rule at which something happens.
#[derive(Clone, Copy)]
struct Place<'a> {
    rule: &'a Rule,
    chain: &'a SmolStr,
    /// From 1.
    number: usize,
}

/// What is to be done once a draw has been made.
#[derive(Clone)]
enum Act {
    /// The rule goes on at this statement.
    Resume(usize),
    /// The rule does not match.
    Miss,
    Verdict(RuleVerdict),
    Dnat(Tuple),
    Snat(Tuple),
    /// The rule goes on at this statement with an address written.
    Write(End, Tuple, usize),
}

/// A packet that has yet to do something, and then to go on where it stands.
struct Branch<'a> {
    flow: Flow,
    stack: Vec<Frame<'a>>,
    act: Option<(Act, Place<'a>)>,
}

/// Why a run stops.
enum Stop<'a> {
    /// The base chain ends.
    End(Step),
    /// A draw: go on in each of these ways.
    Split(Vec<(f64, Act)>, Place<'a>),
}

/// What a statement comes to.
enum Done {
    /// On to the next statement of the rule.
    Next,
    /// On to the next rule, of this chain or another.
    NextRule,
    End(Step),
    Split(Vec<(f64, Act)>),
}

struct Run<'a, 'b> {
    table: &'a Table,
    base: (&'a SmolStr, &'a Chain),
    at: &'b At<'b>,
    flow: Flow,
    stack: Vec<Frame<'a>>,
}

impl<'a> Run<'a, '_> {
    fn go(&mut self, act: Option<(Act, Place<'a>)>) -> Stop<'a> {
        if let Some((act, place)) = act
            && let Some(stop) = self.take_up(act, place)
        {
            return stop;
        }
        loop {
            let Some(frame) = self.stack.last_mut() else {
                return Stop::End(self.policy());
            };
            let (chain, frame_name) = (frame.chain, frame.name);
            let Some(rule) = chain.rules.get(frame.next) else {
                self.stack.pop();
                continue;
            };
            frame.next += 1;
            let place = Place { rule, chain: frame_name, number: frame.next };
            if let Some(stop) = self.rule(place, 0) {
                return stop;
            }
        }
    }

    fn policy(&mut self) -> Step {
        let (name, chain) = self.base;
        if chain.base.is_some_and(|base| base.policy == Policy::Drop) {
            self.flow.hits.push(hit(self.at.hook, &self.table.name, name.clone(), None, None, Effect::Drop));
            return Step::Stop(Verdict::Drop);
        }
        Step::Pass
    }

    /// Does what a draw has come to.
    fn take_up(&mut self, act: Act, place: Place<'a>) -> Option<Stop<'a>> {
        let act = match act {
            Act::Resume(statement) => return self.rule(place, statement),
            Act::Write(end, to, next) => match self.write(end, &to, place) {
                Ok(()) => return self.rule(place, next),
                Err(why) => return Some(self.unknown(place, why)),
            },
            act => act,
        };
        match self.act(act, place) {
            Ok(Done::End(step)) => Some(Stop::End(step)),
            Ok(Done::Next | Done::NextRule | Done::Split(_)) => None,
            Err(why) => Some(self.unknown(place, why)),
        }
    }

    fn unknown(&mut self, place: Place<'_>, why: Unknown) -> Stop<'a> {
        self.note(place, Effect::Unknown(why.clone()));
        Stop::End(Step::Stop(Verdict::Unknown(why)))
    }

    /// Carries out a rule from a statement on; `None` to go on with the next rule.
    fn rule(&mut self, place: Place<'a>, from: usize) -> Option<Stop<'a>> {
        let before = self.flow.hits.len();
        for (index, statement) in place.rule.statements.iter().enumerate().skip(from) {
            match self.statement(statement, index, place) {
                Ok(Done::Next) => {}
                Ok(Done::NextRule) => return None,
                Ok(Done::End(step)) => return Some(Stop::End(step)),
                Ok(Done::Split(ways)) => return Some(Stop::Split(ways, place)),
                Err(why) => return Some(self.unknown(place, why)),
            }
        }
        if self.flow.hits.len() == before {
            self.note(place, Effect::Continue);
        }
        None
    }

    fn note(&mut self, place: Place<'_>, effect: Effect) {
        let comment = place.rule.comment.as_ref();
        let hit =
            hit(self.at.hook, &self.table.name, place.chain.clone(), Some(place.number), comment, effect);
        self.flow.hits.push(hit);
    }

    fn statement(&mut self, statement: &Statement, index: usize, place: Place<'a>) -> Evaluated<Done> {
        match statement {
            Statement::Match { left, comparison, right } => {
                let passes = self.test(left, *comparison, right)?;
                Ok(if passes >= 1.0 {
                    Done::Next
                } else if passes <= 0.0 {
                    Done::NextRule
                } else {
                    Done::Split(vec![(passes, Act::Resume(index + 1)), (1.0 - passes, Act::Miss)])
                })
            }
            Statement::Verdict(verdict) => self.act(Act::Verdict(verdict.clone()), place),
            Statement::VerdictMap(key, map) => {
                let mut ways = Vec::new();
                for (probability, key) in self.values(key)? {
                    let verdict = match key {
                        Some(key) => verdict_for(self.table, map, &key)?,
                        None => None,
                    };
                    ways.push((probability, verdict.map_or(Act::Miss, Act::Verdict)));
                }
                self.choose(ways, place)
            }
            Statement::SetMark { mask, xor } => {
                self.flow.packet.mark = (self.flow.packet.mark & mask) ^ xor;
                self.note(place, Effect::Mark(self.flow.packet.mark));
                Ok(Done::Next)
            }
            Statement::Dnat(to) => {
                let ways = self.values(to)?.into_iter().map(|(p, to)| (p, to.map_or(Act::Miss, Act::Dnat)));
                self.choose(ways.collect(), place)
            }
            Statement::Snat(to) => {
                let ways = self.values(to)?.into_iter().map(|(p, to)| (p, to.map_or(Act::Miss, Act::Snat)));
                self.choose(ways.collect(), place)
            }
            Statement::Masquerade { fully_random } => {
                let how = SourceNat::Masquerade { fully_random: *fully_random };
                self.flow.rewrite_source(how);
                self.note(place, Effect::Snat(how));
                Ok(Done::End(Step::Pass))
            }
            Statement::Reject(with) => {
                self.note(place, Effect::Reject(*with));
                Ok(Done::End(Step::Stop(Verdict::Reject(*with))))
            }
            Statement::SetAddress(end, to) => {
                let mut ways: Vec<_> = self
                    .values(to)?
                    .into_iter()
                    .map(|(p, to)| (p, to.map_or(Act::Miss, |to| Act::Write(*end, to, index + 1))))
                    .collect();
                if ways.len() != 1 {
                    return Ok(Done::Split(ways));
                }
                match ways.pop() {
                    Some((_, Act::Write(end, to, _))) => self.write(end, &to, place).map(|()| Done::Next),
                    _ => Ok(Done::NextRule),
                }
            }
            Statement::Remember { set, key, timeout, .. } => {
                self.remember(set, key, *timeout, AffinityAction::Remember)
            }
            Statement::Forget { set, key } => self.remember(set, key, None, AffinityAction::Forget),
            Statement::Note(_) => Ok(Done::Next),
            Statement::Opaque(text) => Err(Unknown::Match(text.clone())),
        }
    }

    /// Goes the only way at once, or splits.
    fn choose(&mut self, mut ways: Vec<(f64, Act)>, place: Place<'a>) -> Evaluated<Done> {
        match ways.pop() {
            None => Ok(Done::NextRule),
            Some((_, act)) if ways.is_empty() => self.act(act, place),
            Some(last) => {
                ways.push(last);
                Ok(Done::Split(ways))
            }
        }
    }

    fn act(&mut self, act: Act, place: Place<'a>) -> Evaluated<Done> {
        match act {
            Act::Miss | Act::Resume(_) | Act::Write(..) => Ok(Done::NextRule),
            Act::Verdict(verdict) => self.verdict(verdict, place),
            Act::Dnat(to) => {
                let (address, port) = place_of(&to)?;
                let place_to = self.flow.rewrite_destination(address, port);
                self.note(place, Effect::Dnat(place_to));
                Ok(Done::End(Step::Pass))
            }
            Act::Snat(to) => {
                let (address, _) = place_of(&to)?;
                self.flow.rewrite_source(SourceNat::To(address));
                self.note(place, Effect::Snat(SourceNat::To(address)));
                Ok(Done::End(Step::Pass))
            }
        }
    }

    fn write(&mut self, end: End, to: &[Datum], place: Place<'_>) -> Evaluated<()> {
        let [Datum::Address(address)] = to else {
            return Err(Unknown::Target(SmolStr::new_static("set to no address")));
        };
        match end {
            End::Source => self.flow.packet.source = *address,
            End::Destination => self.flow.packet.destination = *address,
        }
        self.note(place, Effect::Write(*address));
        Ok(())
    }

    fn verdict(&mut self, verdict: RuleVerdict, place: Place<'a>) -> Evaluated<Done> {
        let (effect, done) = match verdict {
            RuleVerdict::Accept => (Effect::Accept, Done::End(Step::Pass)),
            RuleVerdict::Drop => (Effect::Drop, Done::End(Step::Stop(Verdict::Drop))),
            RuleVerdict::Continue => (Effect::Continue, Done::NextRule),
            RuleVerdict::Return => {
                self.stack.pop();
                (Effect::Return, Done::NextRule)
            }
            RuleVerdict::Jump(name) => {
                if self.stack.len() > JUMP_STACK {
                    return Err(Unknown::Loop);
                }
                self.enter(&name)?;
                (Effect::Jump(name), Done::NextRule)
            }
            RuleVerdict::Goto(name) => {
                self.stack.pop();
                self.enter(&name)?;
                (Effect::Goto(name), Done::NextRule)
            }
        };
        // A goto that never comes back could go on for ever: no packet meets more rules than this on any real path.
        if self.flow.hits.len() > MAX_HITS {
            return Err(Unknown::Loop);
        }
        self.note(place, effect);
        Ok(done)
    }

    fn enter(&mut self, name: &SmolStr) -> Evaluated<()> {
        let (name, chain) =
            self.table.chains.get_key_value(name.as_str()).ok_or_else(|| Unknown::Chain(name.clone()))?;
        self.stack.push(Frame { name, chain, next: 0 });
        Ok(())
    }

    fn values(&self, expression: &Expression) -> Evaluated<Vec<(f64, Option<Tuple>)>> {
        values(expression, self.table, &self.flow, self.at.host)
    }

    /// The probability that the packet passes a test.
    fn test(&self, left: &Expression, comparison: Comparison, right: &Operand) -> Evaluated<f64> {
        let mut passes = 0.0;
        for (probability, value) in self.values(left)? {
            // What cannot be read of a packet passes no test, whatever its sense.
            let Some(value) = value else { continue };
            let is = is_member(left, &value, right, self.table, &self.flow, self.at.host)?;
            if is == (comparison == Comparison::Equal) {
                passes += probability;
            }
        }
        Ok(passes)
    }

    fn remember(
        &mut self,
        set: &SmolStr,
        key: &Expression,
        timeout: Option<Duration>,
        action: AffinityAction,
    ) -> Evaluated<Done> {
        let types = key.types();
        for (probability, key) in self.values(key)? {
            match key.as_deref() {
                Some([Datum::Address(address), rest @ ..]) if probability >= 1.0 => {
                    self.flow.affinity.push(AffinityUpdate {
                        list: set.clone(),
                        address: *address,
                        rest: tuple_text(rest, types.get(1..).unwrap_or_default()).into(),
                        timeout,
                        action,
                    });
                }
                None => return Ok(Done::NextRule),
                Some(_) => return Err(Unknown::Set(set.clone())),
            }
        }
        Ok(Done::Next)
    }
}

/// More rules than any path of a packet has.
const MAX_HITS: usize = 4096;

/// An address, with or without a port.
fn place_of(to: &[Datum]) -> Evaluated<(IpAddr, Option<u16>)> {
    match to {
        [Datum::Address(address)] => Ok((*address, None)),
        [Datum::Address(address), Datum::Number(port)] => {
            let port = u16::try_from(*port).map_err(|_| Unknown::Target(SmolStr::new_static("dnat")))?;
            Ok((*address, Some(port)))
        }
        _ => Err(Unknown::Target(SmolStr::new_static("dnat to a range"))),
    }
}
