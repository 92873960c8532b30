//! The laws: the compiled engine is the naive twin, incremental is whole, reasons are reasons.

#[path = "support/twin.rs"]
mod twin;
#[path = "support/world.rs"]
mod world;

use proptest::prelude::*;
use svc_netpol::{Engine, Flow, Reason, Verdict};

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
    let pairs = ends.clone().into_iter().flat_map(move |from| ends.clone().into_iter().map(move |to| (from, to)));
    pairs.flat_map(|(from, to)| world::TRAFFIC.map(|traffic| Flow::new(from, to, traffic)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

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
            for (reason, ingress) in [(&before.egress.reason, false), (&before.ingress.reason, true)] {
                let Reason::Rule(rule) = reason else { continue };
                let mut without = engine.clone();
                without.remove_policy(&rule.policy);
                let after = without.decide(&flow);
                let side = if ingress { &after.ingress } else { &after.egress };
                prop_assert!(!matches!(&side.reason, Reason::Rule(other) if other.policy == rule.policy));
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
            match Some(&decision.ingress.reason).filter(|_| decision.verdict != Verdict::Unknown).map(Why::of) {
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
