//! Messages: what is written says what the answer says, whatever comes in.
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

use common::{events, left, object, query, questions, read};
use proptest::prelude::*;
use serde_json::json;
use svc_dns::{
    Behavior, Name, NoUpstream, Options, Question, Rcode, Response, Transport, Type, Zones, zones_from_text,
};

fn zones(objects: &[svc_model::Object], behavior: Behavior) -> Zones {
    let mut options = Options::default();
    options.zones =
        ["cluster.local", "10.0.0.0/16", "10.1.0.0/24"].map(|zone| zones_from_text(zone).unwrap()).concat();
    options.behavior = behavior;
    let mut zones = Zones::new(options).unwrap();
    objects.iter().for_each(|object| drop(zones.apply(object)));
    zones
}

fn respond(zones: &Zones, message: &[u8], transport: Transport, size: usize) -> Option<Vec<u8>> {
    let mut out = vec![0x55; size];
    match zones.respond(message, transport, &NoUpstream, &mut out) {
        Response::Answer(len) => Some(out[..len].to_vec()),
        _ => None,
    }
}

/// A headless Service with so many endpoints.
fn headless(count: usize) -> Zones {
    let endpoints: Vec<_> = (0..count)
        .map(
            |index| json!({"addresses": [format!("10.1.{}.{}", index / 250, index % 250)], "conditions": {}}),
        )
        .collect();
    let objects = [
        json!({"kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "db"},
            "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}),
        json!({"kind": "EndpointSlice", "metadata": {"namespace": "shop", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "sql", "port": 5432}]}),
    ];
    zones(&objects.map(|json| object(&json)), Behavior::CoreDns)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn message_and_answer_agree(
        events in events(),
        behavior in prop_oneof![Just(Behavior::CoreDns), Just(Behavior::Standards)],
    ) {
        let zones = zones(&left(&events), behavior);
        for (name, qtype) in questions() {
            let answer = zones.answer(&Question::new(&name, qtype), &NoUpstream);
            let written = respond(&zones, &query(&name, qtype, Some(1232)), Transport::Tcp, 65_535);
            prop_assert_eq!(answer.is_some(), written.is_some(), "{} {}", &name, qtype);
            let (Some(answer), Some(written)) = (answer, written) else { continue };
            let message = read(&written).unwrap_or_else(|| panic!("unreadable: {name} {qtype} {written:x?}"));
            prop_assert_eq!(message.flags, 0x8500 | answer.rcode.number(), "{} {}", &name, qtype);
            prop_assert_eq!(&message.question[..], name.wire());
            let texts = |records: &[svc_dns::Record]| records.iter().map(ToString::to_string).collect::<Vec<_>>();
            let sections = [texts(&answer.answer), texts(&answer.authority), texts(&answer.additional)];
            prop_assert_eq!(message.sections, sections, "{} {}", &name, qtype);
        }
    }

    #[test]
    fn any_bytes_are_answered_or_dropped(bytes in proptest::collection::vec(any::<u8>(), 0..80), size in 0..600usize) {
        let zones = headless(3);
        if let Some(written) = respond(&zones, &bytes, Transport::Udp, size) {
            prop_assert!(written.len() <= size);
            prop_assert_eq!(&written[..2], &bytes[..2]);
            prop_assert!(written[2] & 0x80 != 0);
        }
    }

    #[test]
    fn a_damaged_query_is_answered_or_dropped(
        at in 0..60usize, value in any::<u8>(), qtype in proptest::sample::select(vec![Type::A, Type::SRV, Type::IXFR]),
        cut in 0..70usize, size in 12..1300usize,
    ) {
        let zones = headless(5);
        let name = "_sql._tcp.db.shop.svc.cluster.local".parse().unwrap();
        let mut message = query(&name, qtype, Some(1232));
        message.truncate(message.len().min(cut));
        if let Some(byte) = message.get_mut(at) {
            *byte = value;
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Some(written) = respond(&zones, &message, transport, size) {
                prop_assert!(written.len() <= size);
            }
            let _ = zones.transfer_messages(&message, size);
        }
    }
}

#[test]
fn long_answers_are_cut_after_a_whole_record() {
    let zones = headless(100);
    let name: Name = "db.shop.svc.cluster.local".parse().unwrap();
    for (edns, limit) in [(None, 512), (Some(100), 512), (Some(1232), 1232), (Some(4096), 4096)] {
        let written = respond(&zones, &query(&name, Type::A, edns), Transport::Udp, 65_535).unwrap();
        assert!(
            written.len() <= limit && written.len() + 16 > limit.min(100 * 16),
            "{edns:?} {}",
            written.len()
        );
        let message = read(&written).unwrap();
        assert_eq!(message.flags & 0x0200 != 0, limit < 100 * 16, "{edns:?}");
        assert_eq!(message.sections[0].len() < 100, limit < 100 * 16);
    }
    let whole = respond(&zones, &query(&name, Type::A, None), Transport::Tcp, 65_535).unwrap();
    assert_eq!((read(&whole).unwrap().sections[0].len(), whole[2] & 2), (100, 0));
    // A buffer that holds no header and question is given up.
    assert_eq!(respond(&zones, &query(&name, Type::A, None), Transport::Udp, 40), None);
}

#[test]
fn only_additional_records_cut() {
    let name: Name = "_sql._tcp.db.shop.svc.cluster.local".parse().unwrap();
    // Seven SRV records fit into 512 bytes, their addresses do not.
    let mut zones = headless(7);
    let written = respond(&zones, &query(&name, Type::SRV, None), Transport::Udp, 512).unwrap();
    let message = read(&written).unwrap();
    assert!(message.sections[0].len() == 7 && message.sections[2].len() < 7, "{message:?}");
    assert_eq!(message.flags & 0x0200, 0x0200, "CoreDNS sets TC for anything that is cut");
    let mut options = zones.options().clone();
    options.behavior = Behavior::Standards;
    let old = zones.clone();
    zones = Zones::new(options).unwrap();
    for (kind, json) in [
        ("Namespace", json!({"metadata": {"name": "shop"}})),
        ("Service", json!({"metadata": {"namespace": "shop", "name": "db"}, "spec": {"clusterIP": "None"}})),
        (
            "EndpointSlice",
            json!({"metadata": {"namespace": "shop", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": (0..7).map(|index| json!({"addresses": [format!("10.1.0.{index}")]})).collect::<Vec<_>>(),
            "ports": [{"name": "sql", "port": 5432}]}),
        ),
    ] {
        drop(zones.apply(&svc_model::Object::from_kind(kind, &json).unwrap().unwrap()));
    }
    let written = respond(&zones, &query(&name, Type::SRV, None), Transport::Udp, 512).unwrap();
    assert_eq!(
        read(&written).unwrap().flags & 0x0200,
        0,
        "RFC 2181 section 9: nothing that was asked for is missing"
    );
    drop(old);
}

#[test]
fn refusals() {
    let zones = headless(1);
    let name: Name = "db.shop.svc.cluster.local".parse().unwrap();
    let good = query(&name, Type::A, Some(1232));
    let with = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        respond(&zones, &message, Transport::Udp, 512)
    };
    let rcode = |message: Option<Vec<u8>>| message.map(|message| message[3] & 0xf);
    assert_eq!(rcode(with(2, 0x81)), None, "an answer is not answered");
    assert_eq!(rcode(with(2, 0x20)), Some(4), "opcode NOTIFY");
    assert_eq!(rcode(with(5, 2)), Some(1), "two questions");
    assert_eq!(rcode(with(12, 64)), Some(1), "a label of 64 bytes");
    assert_eq!(rcode(with(good.len() - 12, 3)), Some(5), "class CHAOS");
    let bad_version = with(good.len() - 5, 1).unwrap();
    assert_eq!(
        (bad_version[3] & 0xf, bad_version[bad_version.len() - 6]),
        (0, 1),
        "EDNS version 1 is BADVERS"
    );
    assert_eq!(respond(&zones, b"", Transport::Udp, 512), None);
    assert_eq!(respond(&zones, &good[..11], Transport::Udp, 512), None);
    assert_eq!(rcode(respond(&zones, &good[..20], Transport::Udp, 512)), Some(1));
    let other = query(&"example.com".parse().unwrap(), Type::A, None);
    let mut out = [0; 512];
    assert_eq!(zones.respond(&other, Transport::Udp, &NoUpstream, &mut out), Response::Next);
    let transfer = query(&"cluster.local".parse().unwrap(), Type::AXFR, None);
    assert_eq!(rcode(respond(&zones, &transfer, Transport::Udp, 512)), Some(5));
    assert_eq!(zones.respond(&transfer, Transport::Tcp, &NoUpstream, &mut out), Response::Transfer);
    let elsewhere = query(&"shop.svc.cluster.local".parse().unwrap(), Type::AXFR, None);
    assert_eq!(rcode(respond(&zones, &elsewhere, Transport::Tcp, 512)), Some(9));
}

#[test]
fn spelling_is_kept() {
    let zones = headless(2);
    let name: Name = "_SQL._tcp.Db.shop.svc.CLUSTER.local".parse().unwrap();
    let message =
        read(&respond(&zones, &query(&name, Type::SRV, None), Transport::Tcp, 4096).unwrap()).unwrap();
    assert_eq!(
        message.sections[0][0],
        "_SQL._tcp.Db.shop.svc.CLUSTER.local. 5 IN SRV 0 50 5432 10-1-0-0.db.shop.svc.CLUSTER.local."
    );
    assert_eq!(message.sections[2][1], "10-1-0-1.db.shop.svc.CLUSTER.local. 5 IN A 10.1.0.1");
}

#[test]
fn transfers_are_split_into_messages() {
    let zones = headless(1000);
    let zone: Name = "cluster.local".parse().unwrap();
    let records: Vec<String> =
        zones.transfer(&zone, None).unwrap().map(|record| record.to_string()).collect();
    let messages = zones.transfer_messages(&query(&zone, Type::AXFR, Some(1232)), 4096);
    assert!(messages.len() > 10 && messages.iter().all(|message| message.len() <= 4096));
    let read: Vec<String> =
        messages.iter().flat_map(|message| read(message).unwrap().sections[0].clone()).collect();
    assert_eq!(read, records);
    assert_eq!(records.len(), 2 + 3 * 1000);
    assert_eq!(records.iter().collect::<BTreeSet<_>>().len(), 1 + 3 * 1000);
    assert_eq!(records.first(), records.last());
    assert!(
        zones.transfer(&"example.com".parse().unwrap(), None).is_err_and(|rcode| rcode == Rcode::NotAuth)
    );
}
