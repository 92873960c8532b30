//! The laws: the compiled engine is the naive twin, incremental is whole, reasons are reasons.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::manual_try_fold,
    clippy::panic,
    clippy::print_stdout,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "helpers of tests, outside of test functions"
)]

#[path = "support/twin.rs"]
mod twin;
#[path = "support/world.rs"]
mod world;

use proptest::prelude::*;
use svc_netpol::model::{IpFamily, Object, ObjectRef, PolicyType};
use svc_netpol::{
    Connection, Decision, Direction, Endpoint, Engine, Flow, Group, Matrix, Policy, Reason, Side, Verdict,
};

use twin::{Outcome, Why};
use world::{Event, World};

fn replay(options: svc_netpol::Options, events: &[Event]) -> (Engine, World) {
    let mut engine = Engine::new(options.clone());
    let mut world = World { options, ..World::default() };
    for event in events {
        match event {
            Event::Apply(object) => engine.apply(object),
            Event::Remove(object) => engine.remove(object),
        };
        world.happen(event);
    }
    (engine, world)
}

fn flows() -> impl Iterator<Item = Flow<'static>> {
    let ends = world::endpoints();
    let pairs =
        ends.clone().into_iter().flat_map(move |from| ends.clone().into_iter().map(move |to| (from, to)));
    pairs.flat_map(|(from, to)| world::TRAFFIC.map(|traffic| Flow::new(from, to, traffic)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_its_twin(options in world::options(), events in world::events(28)) {
        let (engine, world) = replay(options, &events);
        for flow in flows() {
            let decision = engine.decide(&flow);
            prop_assert_eq!(engine.verdict(&flow), decision.verdict);
            match world.decide(flow.from, flow.to, flow.traffic) {
                Ok((egress, ingress)) => {
                    prop_assert_eq!(Outcome::of(&decision.egress), egress, "egress of {}: {}", flow, decision);
                    prop_assert_eq!(Outcome::of(&decision.ingress), ingress, "ingress of {}: {}", flow, decision);
                }
                Err(_) => prop_assert!(matches!(decision.egress.reason, Reason::NoEndpoint(_)), "{}: {}", flow, decision),
            }
        }
    }

    #[test]
    fn incremental_is_whole(options in world::options(), events in world::events(40)) {
        let (engine, world) = replay(options.clone(), &events);
        let mut whole = Engine::new(options);
        whole.replace_all(world.objects.values());
        for flow in flows() {
            prop_assert_eq!(engine.decide(&flow), whole.decide(&flow), "{}", flow);
        }
        let (ours, theirs) = (engine.stats(), whole.stats());
        prop_assert_eq!((ours.kinds, ours.peers, ours.rows, ours.zones), (theirs.kinds, theirs.peers, theirs.rows, theirs.zones));
    }

    #[test]
    fn without_its_reason_a_verdict_changes_or_has_another(events in world::events(28)) {
        let (engine, world) = replay(svc_netpol::Options::default(), &events);
        for flow in flows().step_by(7) {
            let before = engine.decide(&flow);
            for direction in [Direction::Ingress, Direction::Egress] {
                let Reason::Rule(rule) = &side(&before, direction).reason else { continue };
                let object = edited(engine.policy(&rule.policy).unwrap(), |of, at| (of, at) != (direction, rule.rule));
                let (mut without, mut left) = (engine.clone(), world.clone());
                without.apply(&object);
                left.happen(&Event::Apply(Box::new(object)));
                // The rules after it have moved up.
                let was = |mut why: Why| {
                    if let Why::Rule { policy, rule: at, .. } = &mut why
                        && *policy == rule.policy
                        && *at >= rule.rule
                    {
                        *at += 1;
                    }
                    why
                };
                let after = without.decide(&flow);
                let now = Outcome::of(side(&after, direction));
                let (egress, ingress) = left.decide(flow.from, flow.to, flow.traffic).unwrap();
                prop_assert_eq!(&now, if direction == Direction::Ingress { &ingress } else { &egress });
                let then = Outcome::of(side(&before, direction));
                let now = Outcome { allow: now.allow.map(was), deny: now.deny.map(was) };
                prop_assert_ne!(now, then, "{}: {} goes, and nothing changes", flow, rule.policy);
            }
        }
    }

    #[test]
    fn its_reason_alone_makes_a_verdict(events in world::events(28)) {
        let (engine, world) = replay(svc_netpol::Options::default(), &events);
        let mut bare = Engine::default();
        bare.replace_all(world.objects.values().filter(|object| !object.kind().ends_with("NetworkPolicy")));
        for flow in flows().step_by(7) {
            let before = engine.decide(&flow);
            for direction in [Direction::Ingress, Direction::Egress] {
                let Reason::Rule(rule) = &side(&before, direction).reason else { continue };
                let mut alone = bare.clone();
                alone.apply(&edited(engine.policy(&rule.policy).unwrap(), |of, at| (of, at) == (direction, rule.rule)));
                let after = alone.decide(&flow);
                // It may be unknown whether it applies, where all that may apply instead comes to the same.
                let after = Outcome::of(side(&after, direction));
                let verdict = side(&before, direction).verdict;
                let why = if verdict == Verdict::Allow { after.allow } else { after.deny };
                let is_it = matches!(&why, Some(Why::Rule { policy, rule: 0, peer, port })
                    if *policy == rule.policy && (*peer, *port) == (rule.peer, rule.port));
                prop_assert!(is_it, "{}: {} but alone {:?}", flow, before, why);
            }
        }
    }

    #[test]
    fn the_matrix_is_every_verdict(options in world::options(), events in world::events(28), v6 in any::<bool>()) {
        let family = if v6 { IpFamily::Ipv6 } else { IpFamily::Ipv4 };
        let (engine, world) = replay(options, &events);
        let matrix = engine.matrix(family);
        // A Pod's address is the Pod's, whatever range it is in.
        let ends = || members(&matrix).filter(|(end, _)| !world.is_of_a_pod(*end));
        for (from, a) in ends() {
            for (to, b) in ends() {
                let connection = match (from, to) {
                    (Endpoint::Address(_), Endpoint::Address(_)) => continue,
                    (Endpoint::Pod { .. }, Endpoint::Pod { .. }) => matrix.between(&pod(from), &pod(to)).unwrap(),
                    _ => matrix.connection(a, b).clone(),
                };
                for traffic in world::TRAFFIC {
                    let flow = Flow { family: Some(family), ..Flow::new(from, to, traffic) };
                    let decision = engine.decide(&flow);
                    if decision.ingress.reason != Reason::OwnNode {
                        prop_assert_eq!(of_connection(&connection, traffic), decision.verdict, "{}: {}", flow, decision);
                    }
                }
            }
        }
    }

    #[test]
    fn exposure_is_a_row_and_a_column_of_the_matrix(events in world::events(28)) {
        let (engine, _) = replay(svc_netpol::Options::default(), &events);
        let matrix = engine.matrix(IpFamily::Ipv4);
        for own in engine.pods() {
            let Some(at) = matrix.group_of(own) else {
                prop_assert_eq!(engine.exposure(own, IpFamily::Ipv4), None);
                continue;
            };
            let exposure = engine.exposure(own, IpFamily::Ipv4).unwrap();
            let others = |at: usize| match &matrix.groups()[at] {
                Group::Pods(pods) => Group::Pods(pods.iter().filter(|pod| *pod != own).cloned().collect()),
                outside => outside.clone(),
            };
            let listed = |list: Vec<(usize, &Connection)>| {
                let list = list.into_iter().map(|(at, connection)| (others(at), connection.clone()));
                list.filter(|(group, _)| *group != Group::Pods(vec![])).collect::<Vec<_>>()
            };
            let of = |list: &[svc_netpol::Reach]| list.iter().map(|r| (r.group.clone(), r.connection.clone())).collect::<Vec<_>>();
            prop_assert_eq!(of(&exposure.ingress), listed(matrix.who_can_reach(at).collect()));
            prop_assert_eq!(of(&exposure.egress), listed(matrix.reachable_from(at).collect()));
        }
    }

    #[test]
    fn the_difference_is_empty_exactly_if_the_matrices_are_equal(
        events in world::events(24),
        more in world::events(4),
    ) {
        let (before, _) = replay(svc_netpol::Options::default(), &events);
        let mut after = before.clone();
        for event in &more {
            match event {
                Event::Apply(object) => after.apply(object),
                Event::Remove(object) => after.remove(object),
            };
        }
        let (old, new) = (before.matrix(IpFamily::Ipv4), after.matrix(IpFamily::Ipv4));
        let changes = before.difference(&after, IpFamily::Ipv4);
        // Everyone that either state can tell from others.
        let mut ends: Vec<Endpoint<'_>> = members(&old).chain(members(&new)).map(|(end, _)| end).collect();
        ends.sort_by_key(ToString::to_string);
        ends.dedup();
        let mut differing = 0;
        for from in &ends {
            for to in &ends {
                let (a, b) = (at(&old, *from, *to), at(&new, *from, *to));
                let found = changes.iter().filter(|c| is_in(&c.from, *from) && is_in(&c.to, *to) && from != to);
                let found: Vec<_> = found.collect();
                if a == b {
                    prop_assert!(found.is_empty(), "{} -> {}: {:?}", from, to, found);
                } else {
                    differing += 1;
                    prop_assert_eq!(found.len(), 1, "{} -> {}", from, to);
                    prop_assert_eq!((&found[0].before, &found[0].after), (&a, &b));
                    prop_assert_eq!(found[0].gained(), b.allowed.difference(&a.allowed));
                }
            }
        }
        prop_assert_eq!(changes.is_empty(), differing == 0);
        prop_assert!(before.difference(&before, IpFamily::Ipv4).is_empty());
    }

    #[test]
    fn a_denied_connection_has_near_misses_that_miss_something(events in world::events(28)) {
        let (engine, _) = replay(svc_netpol::Options::default(), &events);
        for flow in flows().step_by(5) {
            let nearest = engine.nearest(&flow, 3);
            if engine.verdict(&flow) != Verdict::Deny {
                prop_assert!(nearest.is_empty());
            }
            for near in nearest {
                prop_assert!(!near.misses.is_empty() && !near.to_string().is_empty());
            }
        }
    }

    #[test]
    fn a_rule_that_never_decides_can_go(events in world::events(28)) {
        let (engine, world) = replay(svc_netpol::Options::default(), &events);
        for finding in engine.lint() {
            prop_assert!(!finding.to_string().is_empty());
            let svc_netpol::Lint::NeverDecides = finding.lint else { continue };
            let index: usize = finding.field.trim_end_matches(']').rsplit('[').next().unwrap().parse().unwrap();
            let ingress = finding.field.starts_with("spec.ingress");
            let gone = (if ingress { Direction::Ingress } else { Direction::Egress }, index);
            let mut without = engine.clone();
            without.apply(&edited(engine.policy(&finding.policy).unwrap(), |of, at| (of, at) != gone));
            for flow in flows() {
                prop_assert_eq!(engine.verdict(&flow), without.verdict(&flow), "{}: {}", finding, flow);
            }
        }
        drop(world);
    }

    #[test]
    fn applying_the_same_again_touches_nothing(events in world::events(24)) {
        let (mut engine, world) = replay(svc_netpol::Options::default(), &events);
        for object in world.objects.values() {
            prop_assert_eq!(engine.apply(object), svc_netpol::Touched::default());
        }
    }
}

fn side(decision: &Decision, direction: Direction) -> &Side {
    match direction {
        Direction::Ingress => &decision.ingress,
        Direction::Egress => &decision.egress,
    }
}

/// A policy with some of its rules. It is about the same directions as before, even if one has no rules left.
fn edited(policy: &Policy, keep: impl Fn(Direction, usize) -> bool) -> Object {
    macro_rules! retain {
        ($policy:expr) => {{
            let mut policy = $policy.clone();
            let mut at = 0..;
            policy.spec.ingress.retain(|_| keep(Direction::Ingress, at.next().unwrap()));
            let mut at = 0..;
            policy.spec.egress.retain(|_| keep(Direction::Egress, at.next().unwrap()));
            policy
        }};
    }
    match policy {
        Policy::Network(policy) => {
            let mut policy = policy.clone();
            let types = [PolicyType::Ingress, PolicyType::Egress];
            policy.spec.policy_types =
                types.into_iter().filter(|t| policy.spec.isolates(*t)).map(Into::into).collect();
            retain!(policy).into()
        }
        Policy::Cluster(policy) => retain!(policy).into(),
        Policy::Admin(policy) => retain!(policy).into(),
        Policy::BaselineAdmin(policy) => retain!(policy).into(),
    }
}

fn of_connection(connection: &Connection, traffic: svc_netpol::Traffic) -> Verdict {
    match (connection.allowed.contains(traffic), connection.unknown.contains(traffic)) {
        (true, _) => Verdict::Allow,
        (_, true) => Verdict::Unknown,
        _ => Verdict::Deny,
    }
}

/// Every Pod of a matrix, and the edges of every range, with the index of the group.
fn members(matrix: &Matrix) -> impl Iterator<Item = (Endpoint<'_>, usize)> {
    matrix.groups().iter().enumerate().flat_map(|(at, group)| {
        let ends: Vec<Endpoint<'_>> = match group {
            Group::Pods(pods) => pods.iter().map(Endpoint::from).collect(),
            Group::Outside(ranges) => {
                let edges = ranges.iter().flat_map(|(first, last)| [*first, *last]);
                edges.map(Endpoint::Address).collect()
            }
        };
        ends.into_iter().map(move |end| (end, at))
    })
}

fn pod(end: Endpoint<'_>) -> ObjectRef {
    match end {
        Endpoint::Pod { namespace, name } => ObjectRef::new(namespace, name),
        Endpoint::Address(ip) => panic!("{ip} is no Pod"),
    }
}

fn is_in(group: &Group, end: Endpoint<'_>) -> bool {
    match (group, end) {
        (Group::Pods(pods), Endpoint::Pod { .. }) => pods.contains(&pod(end)),
        (Group::Outside(ranges), Endpoint::Address(ip)) => {
            ranges.iter().any(|(a, b)| (*a..=*b).contains(&ip))
        }
        _ => false,
    }
}

fn at(matrix: &Matrix, from: Endpoint<'_>, to: Endpoint<'_>) -> Connection {
    if from == to {
        return Connection::all();
    }
    let group = |end| matrix.groups().iter().position(|group| is_in(group, end));
    match (group(from), group(to)) {
        (Some(from), Some(to)) => matrix.connection(from, to).clone(),
        _ => Connection::none(),
    }
}

/// Random worlds must be worth something: all verdicts, all kinds of reasons, all kinds of policies.
#[test]
fn random_worlds_have_everything() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut verdicts, mut kinds, mut isolated, mut rules) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..40 {
        let events = world::events(28).new_tree(&mut runner).unwrap().current();
        let (engine, world) = replay(svc_netpol::Options::default(), &events);
        kinds.extend(twin::kinds(&world));
        for flow in flows() {
            let decision = engine.decide(&flow);
            verdicts.push(decision.verdict);
            match Some(&decision.ingress.reason).filter(|_| decision.verdict != Verdict::Unknown).map(Why::of)
            {
                Some(Why::Isolated(_)) => isolated += 1,
                Some(Why::Rule { .. }) => rules += 1,
                _ => {}
            }
        }
    }
    kinds.sort();
    kinds.dedup();
    let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
    let counts = (count(Verdict::Allow), count(Verdict::Deny), count(Verdict::Unknown));
    assert!(counts.0 > 1000 && counts.1 > 1000 && counts.2 > 1000, "{counts:?}");
    assert!(kinds.len() == 4 && isolated > 500 && rules > 500, "{kinds:?} {isolated} {rules}");
}
