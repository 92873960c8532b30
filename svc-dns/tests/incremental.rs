//! The law of every incremental type: applying changes to the old output gives what a build from scratch gives, in any order of
//! events; and the engine agrees with its naive twin.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]

mod common;

use std::collections::BTreeSet;

use common::{Event, events, left, naive, questions};
use proptest::prelude::*;
use svc_dns::{
    Behavior, ChangeKind, External, Name, NoUpstream, Options, Question, Rcode, Record, RecordChange, Zones,
    zones_from_text,
};

fn options(behavior: Behavior) -> Options {
    let zones =
        ["cluster.local", "10.0.0.0/16", "10.1.0.0/24"].map(|zone| zones_from_text(zone).unwrap()).concat();
    let mut options = Options::default();
    options.zones = zones;
    options.local_addresses = vec!["10.1.0.2".parse().unwrap()];
    options.external = Some(External::new(vec!["example.org".parse().unwrap()]));
    options.behavior = behavior;
    options
}

fn fresh(events: &[Event], behavior: Behavior) -> Zones {
    let mut zones = Zones::new(options(behavior)).unwrap();
    // Another order than the events had.
    let mut objects = left(events);
    objects.reverse();
    for object in &objects {
        let _ = zones.apply(object);
    }
    zones
}

fn listing(zones: &Zones) -> BTreeSet<(Name, Record)> {
    zones.records().collect()
}

fn update(listing: &mut BTreeSet<(Name, Record)>, changes: Vec<RecordChange>) {
    for change in changes {
        let entry = (change.zone, change.record);
        match change.kind {
            ChangeKind::Add => assert!(listing.insert(entry.clone()), "added twice: {entry:?}"),
            ChangeKind::Remove => assert!(listing.remove(&entry), "removed, but was not there: {entry:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_add_up(events in events(), behavior in prop_oneof![Just(Behavior::CoreDns), Just(Behavior::Standards)]) {
        let mut zones = Zones::new(options(behavior)).unwrap();
        let mut known = BTreeSet::new();
        for event in &events {
            let changes = match event {
                Event::Apply(object) => zones.apply(object).records(),
                Event::Remove(kind, reference) => zones.remove(kind, reference).records(),
            };
            update(&mut known, changes);
        }
        let scratch = fresh(&events, behavior);
        prop_assert_eq!(&known, &listing(&scratch));
        prop_assert_eq!(&known, &listing(&zones));
        for (name, qtype) in questions() {
            let question = Question::new(&name, qtype);
            prop_assert_eq!(zones.answer(&question, &NoUpstream), scratch.answer(&question, &NoUpstream), "{} {}", name, qtype);
        }
    }

    #[test]
    fn replacing_is_a_change_too(before in events(), after in events()) {
        let mut zones = fresh(&before, Behavior::CoreDns);
        let mut known = listing(&zones);
        let objects = left(&after);
        update(&mut known, zones.replace_all(&objects).records());
        prop_assert_eq!(&known, &listing(&fresh(&after, Behavior::CoreDns)));
        prop_assert_eq!(&known, &listing(&zones));
    }

    #[test]
    fn naive_twin(events in events()) {
        let objects = left(&events);
        let zones = fresh(&events, Behavior::CoreDns);
        for (name, qtype) in questions() {
            let Some(expected) = naive(&objects, &name, qtype) else { continue };
            let Some(answer) = zones.answer(&Question::new(&name, qtype), &NoUpstream) else { continue };
            if !["A", "AAAA", "SRV"].contains(&qtype.to_string().as_str()) {
                continue;
            }
            let texts = |records: &[Record]| records.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
            let got = (answer.rcode, texts(&answer.answer), texts(&answer.additional));
            prop_assert_eq!(&got, &expected, "{} {}", name, qtype);
            prop_assert_eq!(got.1.len(), answer.answer.len(), "a record twice: {} {}", name, qtype);
            prop_assert_eq!(answer.authority.is_empty(), answer.rcode == Rcode::NoError && !answer.answer.is_empty());
        }
    }
}

/// With so many endpoints that weights stay, only the records of those that changed are listed.
#[test]
fn a_change_in_a_large_service_is_as_small_as_it_is() {
    let slice = |number: usize, hosts: std::ops::Range<usize>| {
        let endpoint =
            |host: usize| serde_json::json!({"addresses": [format!("10.1.{}.{}", host / 200, host % 200)]});
        common::object(&serde_json::json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "a", "name": format!("db-{number}"), "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": hosts.map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "http", "port": 80}],
        }))
    };
    let mut zones = Zones::new(options(Behavior::CoreDns)).unwrap();
    for json in [
        serde_json::json!({"kind": "Namespace", "metadata": {"name": "a"}}),
        serde_json::json!({"kind": "Service", "metadata": {"namespace": "a", "name": "db"}, "spec": {"clusterIP": "None"}}),
    ] {
        let _ = zones.apply(&common::object(&json));
    }
    let _ = zones.apply(&slice(0, 0..150));
    let _ = zones.apply(&slice(1, 149..300));
    let mut known = listing(&zones);
    // One that no other slice has, one that the second slice has too, one outside the reverse zone, some that the first slice has
    // too, nearly all.
    for (number, hosts, count) in
        [(0, 1..150, 4), (0, 1..149, 0), (1, 149..299, 3), (1, 140..299, 0), (0, 0..1, 139 * 4 + 4)]
    {
        let changes = zones.apply(&slice(number, hosts.clone())).records();
        assert_eq!(changes.len(), count, "{number} {hosts:?}");
        update(&mut known, changes);
        assert_eq!(known, listing(&zones), "{number} {hosts:?}");
    }
}
