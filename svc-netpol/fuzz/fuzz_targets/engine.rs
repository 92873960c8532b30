//! A JSON list of objects, applied one by one; every second one is then taken away again. Nothing panics, and the engine
//! decides as one that was built from what is left.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_netpol::model::{IpFamily, Object, ObjectRef};
use svc_netpol::{Endpoint, Engine, Flow, Options, Traffic};

fuzz_target!(|data: &[u8]| {
    let Ok(values) = serde_json::from_slice::<Vec<serde_json::Value>>(data) else { return };
    let objects: Vec<Object> = values
        .iter()
        .take(24)
        .filter_map(|value| Object::from_kind(value["kind"].as_str()?, value)?.ok())
        .collect();
    let mut engine = Engine::new(Options::default());
    for object in &objects {
        engine.apply(object);
    }
    for object in objects.iter().step_by(2) {
        engine.remove(object);
    }
    let key = |object: &Object| (object.kind(), object.object_ref());
    let left = objects.iter().enumerate().filter(|(i, object)| {
        let gone = objects.iter().step_by(2).any(|other| key(other) == key(object));
        i % 2 == 1 && !gone
    });
    let mut whole = Engine::new(Options::default());
    whole.replace_all(left.map(|(_, object)| object));
    let pods: Vec<ObjectRef> = whole.pods().into_iter().cloned().collect();
    assert_eq!(engine.pods(), pods.iter().collect::<Vec<_>>());
    let outside = Endpoint::Address([192, 0, 2, 1].into());
    let ends: Vec<Endpoint<'_>> = pods.iter().map(Endpoint::from).chain([outside]).collect();
    for from in &ends {
        for to in &ends {
            for traffic in [Traffic::Tcp(80), Traffic::Udp(53), Traffic::Other] {
                let flow = Flow::new(*from, *to, traffic);
                assert_eq!(engine.decide(&flow), whole.decide(&flow));
                engine.nearest(&flow, 2);
            }
        }
    }
    engine.lint();
    assert!(engine.difference(&whole, IpFamily::Ipv4).is_empty());
});
