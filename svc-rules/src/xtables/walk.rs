//! Walking a packet through iptables rules, as the kernel traverses them.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use smol_str::SmolStr;

use super::model::{
    AddrTypeTest, AddressTypes, Chain, CtStates, IpvsTest, Match, Policy, PortDraw, PortTest, Recent,
    RecentAction, Rule, Ruleset, StateModule, Table, Target, Test, builtin_hooks,
};
use super::name::ChainName;
use crate::host::{AddressType, Egress, Host};
use crate::ipset::Side;
use crate::outcome::{AffinityAction, AffinityUpdate, Effect, Hook, SourceNat, Unknown, Verdict, Walk};
use crate::packet::{ConnState, Packet, Transport};
use crate::walk::{At, Backend, Flow, Stage, StageKind, Step, hit, walk};

/// Targets that neither end the walk nor change what later rules can see.
const NEUTRAL: [&str; 6] = ["LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "TCPMSS"];

impl Ruleset {
    /// Everything that can become of `packet` on `host` under these rules.
    pub fn walk(&self, host: &Host, packet: &Packet) -> Walk {
        walk(&[self], host, packet)
    }
}

/// `NF_IP_PRI_*` of the tables.
fn priority(table: &str, hook: Hook) -> Option<i32> {
    Some(match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting | Hook::Output) => -100,
        ("filter", _) => 0,
        ("security", _) => 50,
        ("nat", _) => 100,
        _ => return None,
    })
}

impl Backend for Ruleset {
    fn stages(&self, hook: Hook) -> Vec<Stage> {
        let mut stages = Vec::new();
        for (id, table) in self.tables.iter().enumerate() {
            if !builtin_hooks(&table.name).contains(&hook) {
                continue;
            }
            if let Some(priority) = priority(&table.name, hook) {
                let kind = if table.name == "nat" { StageKind::Nat } else { StageKind::Filter };
                stages.push(Stage { priority, kind, id: (id, 0) });
            }
        }
        stages
    }

    fn run(&self, stage: Stage, flow: Flow, at: &At<'_>, out: &mut Vec<(Flow, Step)>) {
        let found = self.tables.get(stage.id.0).and_then(|table| {
            table
                .chains
                .get_key_value(&ChainName::new(at.hook.chain())?)
                .map(|(name, base)| (table, name, base))
        });
        let Some((table, name, base)) = found else {
            out.push((flow, Step::Pass));
            return;
        };
        let start = vec![Frame { name, chain: base, next: 0 }];
        let mut branches = vec![(flow, start)];
        while let Some((flow, stack)) = branches.pop() {
            let mut traversal =
                Traversal { table, base: (name, base), at, flow, stack, branches: &mut branches };
            let step = traversal.run();
            out.push((traversal.flow, step));
        }
    }
}

/// A chain being traversed.
#[derive(Clone)]
struct Frame<'a> {
    name: &'a ChainName,
    chain: &'a Chain,
    /// Place of the rule to be looked at next, from 0.
    next: usize,
}

struct Traversal<'a, 'b> {
    table: &'a Table,
    base: (&'a ChainName, &'a Chain),
    at: &'b At<'b>,
    flow: Flow,
    stack: Vec<Frame<'a>>,
    branches: &'b mut Vec<(Flow, Vec<Frame<'a>>)>,
}

/// Whether a rule or match holds.
enum Fit {
    Yes,
    No,
    /// With this probability, the match at this place having been drawn.
    Chance(f64, usize),
    Unknown(Unknown),
}

impl From<bool> for Fit {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl<'a> Traversal<'a, '_> {
    fn run(&mut self) -> Step {
        loop {
            let Some(frame) = self.stack.last_mut() else {
                return self.policy();
            };
            let (chain, name) = (frame.chain, frame.name);
            let Some(rule) = chain.rules.get(frame.next) else {
                self.stack.pop();
                continue;
            };
            frame.next += 1;
            let number = frame.next;
            if let Some(step) = self.rule(rule, name, number) {
                return step;
            }
        }
    }

    fn policy(&mut self) -> Step {
        let (name, chain) = self.base;
        match chain.policy {
            Some(Policy::Drop) => {
                self.flow.hits.push(hit(
                    self.at.hook,
                    &self.table.name,
                    (*name).into(),
                    None,
                    None,
                    Effect::Drop,
                ));
                Step::Stop(Verdict::Drop)
            }
            Some(Policy::Accept) | None => Step::Pass,
        }
    }

    fn note(&mut self, rule: &Rule, chain: &ChainName, number: usize, effect: Effect) {
        let hit = hit(self.at.hook, &self.table.name, (*chain).into(), Some(number), rule.comment(), effect);
        self.flow.hits.push(hit);
    }

    /// Looks at one rule; `None` to go on.
    fn rule(&mut self, rule: &'a Rule, chain: &ChainName, number: usize) -> Option<Step> {
        let mut from = 0;
        loop {
            match self.fits(rule, from) {
                Fit::No => return None,
                Fit::Yes => return self.target(rule, chain, number),
                Fit::Chance(probability, place) => {
                    let mut other = self.flow.clone();
                    other.probability = other.probability.and(1.0 - probability);
                    self.branches.push((other, self.stack.clone()));
                    self.flow.probability = self.flow.probability.and(probability);
                    from = place + 1;
                }
                Fit::Unknown(_) if rule.target.as_ref().is_none_or(is_neutral) => return None,
                Fit::Unknown(why) => return Some(self.stop(rule, chain, number, why)),
            }
        }
    }

    fn stop(&mut self, rule: &Rule, chain: &ChainName, number: usize, why: Unknown) -> Step {
        self.note(rule, chain, number, Effect::Unknown(why.clone()));
        Step::Stop(Verdict::Unknown(why))
    }

    fn target(&mut self, rule: &'a Rule, chain: &ChainName, number: usize) -> Option<Step> {
        let (effect, step) = match &rule.target {
            None => (Effect::Continue, None),
            Some(Target::Accept) => (Effect::Accept, Some(Step::Pass)),
            Some(Target::Drop) => (Effect::Drop, Some(Step::Stop(Verdict::Drop))),
            Some(Target::Reject(with)) => (Effect::Reject(*with), Some(Step::Stop(Verdict::Reject(*with)))),
            Some(Target::Return) => {
                self.stack.pop();
                (Effect::Return, None)
            }
            Some(Target::Jump(name) | Target::Goto(name)) => {
                let Some((name, to)) = self.table.chains.get_key_value(name) else {
                    return Some(self.stop(rule, chain, number, Unknown::Chain((*name).into())));
                };
                // Deeper than there are chains, so one of them is in the stack twice.
                if self.stack.len() > self.table.chains.len() {
                    return Some(self.stop(rule, chain, number, Unknown::Loop));
                }
                let goes = matches!(rule.target, Some(Target::Goto(_)));
                if goes {
                    self.stack.pop();
                }
                self.stack.push(Frame { name, chain: to, next: 0 });
                (if goes { Effect::Goto((*name).into()) } else { Effect::Jump((*name).into()) }, None)
            }
            Some(Target::Mark { value, mask }) => {
                self.flow.packet.mark = (self.flow.packet.mark & !mask) ^ value;
                (Effect::Mark(self.flow.packet.mark), None)
            }
            Some(Target::Dnat { address, port }) => {
                (Effect::Dnat(self.flow.rewrite_destination(*address, *port)), Some(Step::Pass))
            }
            Some(Target::Snat(address)) => (self.snat(SourceNat::To(*address)), Some(Step::Pass)),
            Some(Target::Masquerade(draw)) => {
                let how = SourceNat::Masquerade { fully_random: *draw == PortDraw::FullyRandom };
                (self.snat(how), Some(Step::Pass))
            }
            Some(target @ Target::Opaque(_)) if is_neutral(target) => (Effect::Continue, None),
            Some(Target::Opaque(text)) => {
                return Some(self.stop(rule, chain, number, Unknown::Target(text.clone())));
            }
        };
        self.note(rule, chain, number, effect);
        step
    }

    fn snat(&mut self, how: SourceNat) -> Effect {
        self.flow.rewrite_source(how);
        Effect::Snat(how)
    }

    /// Whether the rule's tests hold, from the match at place `from` on (and the header, if that is 0).
    ///
    /// As in the kernel, matches are asked in order and the first that fails ends it, so `recent --set` takes effect
    /// even where a later match fails. A match that is not understood leaves the answer open only if no other one
    /// settles it.
    fn fits(&mut self, rule: &Rule, from: usize) -> Fit {
        let mut open = None;
        if from == 0 {
            match self.header(rule) {
                Fit::No => return Fit::No,
                Fit::Unknown(why) => open = Some(why),
                Fit::Yes | Fit::Chance(..) => {}
            }
        }
        for (place, m) in rule.matches.iter().enumerate().skip(from) {
            match self.holds(m, place) {
                Fit::Yes => {}
                Fit::No => return Fit::No,
                Fit::Unknown(why) => open = open.or(Some(why)),
                // Drawn only once everything before it is settled.
                Fit::Chance(probability, place) if open.is_none() => return Fit::Chance(probability, place),
                Fit::Chance(..) => {}
            }
        }
        open.map_or(Fit::Yes, Fit::Unknown)
    }

    fn header(&self, rule: &Rule) -> Fit {
        let packet = &self.flow.packet;
        let addresses = rule.source.is_none_or(|test| test.sense.of(test.value.contains(packet.source)))
            && rule.destination.is_none_or(|test| test.sense.of(test.value.contains(packet.destination)));
        let transport = rule.transport.is_none_or(|test| test.sense.of(test.value == packet.transport));
        // Connection tracking has put fragments together before any rule sees them.
        let fragment = rule.fragment.is_none_or(|sense| sense.of(false));
        let input = rule.in_interface.as_ref().is_none_or(|test| {
            test.sense.of(interface_fits(&test.value, self.flow.input.as_deref().unwrap_or_default()))
        });
        if !(addresses && transport && fragment && input) {
            return Fit::No;
        }
        match (&rule.out_interface, &self.flow.output) {
            (None, _) => Fit::Yes,
            (Some(test), None) => test.sense.of(interface_fits(&test.value, "")).into(),
            (Some(test), Some(Egress::Interface(name))) => {
                test.sense.of(interface_fits(&test.value, name)).into()
            }
            (Some(_), Some(_)) => Fit::Unknown(Unknown::Route),
        }
    }

    fn holds(&mut self, m: &Match, place: usize) -> Fit {
        let packet = &self.flow.packet;
        match m {
            Match::Comment(_) | Match::Nfacct(_) => Fit::Yes,
            Match::Ports(test) => ports_fit(test, packet).into(),
            Match::State(module, test) => {
                test.sense.of(test.value.intersects(states(packet, *module))).into()
            }
            Match::Mark(test) => test.sense.of(packet.mark & test.value.mask == test.value.value).into(),
            Match::AddrType(test) => address_types_fit(test, packet, self.at.host).into(),
            Match::Random(test) => {
                let probability = f64::from(test.value) / 2_147_483_648.0;
                let probability = if test.sense.of(true) { probability } else { 1.0 - probability };
                if probability >= 1.0 {
                    Fit::Yes
                } else if probability <= 0.0 {
                    Fit::No
                } else {
                    Fit::Chance(probability, place)
                }
            }
            Match::Recent(recent) => self.recent(recent),
            Match::Set(test) => match self.at.host.sets.get(&test.value.name) {
                Some(set) => test.sense.of(set.contains(packet, &test.value.sides)).into(),
                None => Fit::Unknown(Unknown::Set(test.value.name.clone())),
            },
            Match::PhysdevIsIn(sense) => sense.of(packet.bridge_port.is_some()).into(),
            Match::Ipvs(test) => ipvs_fits(test, self.flow.virtual_server).into(),
            Match::Opaque(text) => Fit::Unknown(Unknown::Match(text.clone())),
        }
    }

    /// `recent_mt` of the kernel.
    fn recent(&mut self, recent: &Recent) -> Fit {
        let address = match recent.side {
            Side::Source => self.flow.packet.source,
            Side::Destination => self.flow.packet.destination,
        };
        let address = super::model::and(address, recent.mask);
        let host = self.at.host;
        let seen = self.flow.last_seen(&recent.list, address, host);
        let Test { sense, value: action } = recent.action;
        let update = |action| AffinityUpdate {
            list: recent.list.clone(),
            address,
            rest: SmolStr::default(),
            timeout: None,
            action,
        };
        let holds = match (action, seen) {
            (RecentAction::Set, _) => {
                self.flow.affinity.push(update(AffinityAction::Remember));
                true
            }
            (_, None) => false,
            (RecentAction::Remove, Some(_)) => {
                self.flow.affinity.push(update(AffinityAction::Forget));
                true
            }
            (RecentAction::Check | RecentAction::Update, Some(_)) if recent.hitcount > 1 || recent.rttl => {
                return Fit::Unknown(Unknown::Match(SmolStr::new_static("recent --hitcount or --rttl")));
            }
            (RecentAction::Check | RecentAction::Update, Some(at)) => {
                let window = Duration::from_secs(recent.seconds.into());
                let fresh = recent.seconds == 0 || host.now.saturating_sub(at) <= window;
                if fresh && action == RecentAction::Update {
                    self.flow.affinity.push(update(AffinityAction::Remember));
                }
                fresh
            }
        };
        sense.of(holds).into()
    }
}

fn is_neutral(target: &Target) -> bool {
    matches!(target, Target::Opaque(text) if text.split(' ').next().is_some_and(|name| NEUTRAL.contains(&name)))
}

/// A trailing `+` stands for any ending, none included.
fn interface_fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

fn ports_fit(test: &PortTest, packet: &Packet) -> bool {
    packet.transport == test.module.transport()
        && test.source.is_none_or(|range| range.sense.of(range.value.contains(packet.source_port)))
        && test.destination.is_none_or(|range| range.sense.of(range.value.contains(packet.destination_port)))
}

/// Every test fails for a packet that belongs to no IPVS connection.
fn ipvs_fits(test: &IpvsTest, of: Option<(IpAddr, Transport, u16)>) -> bool {
    of.is_some_and(|(address, transport, port)| {
        test.address.is_none_or(|test| test.sense.of(test.value.contains(address)))
            && test.transport.is_none_or(|test| test.sense.of(test.value == transport))
            && test.port.is_none_or(|test| test.sense.of(test.value == port))
    })
}

/// The packet's states as `xt_conntrack` sees them; `xt_state` does not know translation.
fn states(packet: &Packet, module: StateModule) -> CtStates {
    let state = match packet.state {
        ConnState::Invalid => return CtStates::INVALID,
        ConnState::Untracked => return CtStates::UNTRACKED,
        ConnState::New => CtStates::NEW,
        ConnState::Established => CtStates::ESTABLISHED,
        ConnState::Related => CtStates::RELATED,
    };
    match module {
        StateModule::State => state,
        StateModule::Conntrack => {
            let snat = if packet.snat_status { CtStates::SNAT } else { CtStates::default() };
            let dnat = if packet.dnat_status { CtStates::DNAT } else { CtStates::default() };
            state.union(snat).union(dnat)
        }
    }
}

fn address_types_fit(test: &AddrTypeTest, packet: &Packet, host: &Host) -> bool {
    let fits = |test: &Option<Test<AddressTypes>>, address: IpAddr| {
        test.is_none_or(|test| test.sense.of(test.value.intersects(class(host, address))))
    };
    fits(&test.source, packet.source) && fits(&test.destination, packet.destination)
}

fn class(host: &Host, address: IpAddr) -> AddressTypes {
    match host.address_type(address) {
        AddressType::Unicast => AddressTypes::UNICAST,
        AddressType::Local => AddressTypes::LOCAL,
        AddressType::Broadcast => AddressTypes::BROADCAST,
        AddressType::Multicast => AddressTypes::MULTICAST,
    }
}
