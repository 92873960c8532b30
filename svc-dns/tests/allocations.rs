//! Answers from message to message take nothing from the allocator.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]

use serde_json::json;
use svc_dns::{Name, NoUpstream, Options, Response, Transport, Type, Zones, zones_from_text};
use svc_model::Object;

#[test]
fn answering_does_not_allocate() {
    let mut options = Options::default();
    options.zones = ["cluster.local", "10.0.0.0/8"].map(|zone| zones_from_text(zone).unwrap()).concat();
    let mut zones = Zones::new(options).unwrap();
    let endpoints: Vec<_> = (0..50).map(|index| json!({"addresses": [format!("10.1.0.{index}")]})).collect();
    for json in [
        json!({"kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}}),
        json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "db"}, "spec": {"clusterIP": "None"}}),
        json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "alias"},
            "spec": {"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}}),
        json!({"kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": endpoints, "ports": [{"name": "sql", "port": 5432}]}),
    ] {
        drop(zones.apply(&Object::from_kind(json["kind"].as_str().unwrap(), &json).unwrap().unwrap()));
    }
    let mut out = vec![0; 65_535];
    for (name, qtype) in [
        ("web.shop.svc.cluster.local", Type::A),
        ("web.shop.svc.cluster.local", Type::AAAA),
        ("_http._tcp.WEB.shop.svc.cluster.local", Type::SRV),
        ("_sql._tcp.db.shop.svc.cluster.local", Type::SRV),
        ("db.shop.svc.cluster.local", Type::A),
        ("10-1-0-7.db.shop.svc.cluster.local", Type::A),
        ("alias.shop.svc.cluster.local", Type::A),
        ("7.0.96.10.in-addr.arpa", Type::PTR),
        ("7.0.1.10.in-addr.arpa", Type::PTR),
        ("nope.shop.svc.cluster.local", Type::A),
        ("cluster.local", Type::SOA),
        ("example.com", Type::A),
    ] {
        let name: Name = name.parse().unwrap();
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend_from_slice(name.wire());
        query.extend_from_slice(&qtype.0.to_be_bytes());
        query.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let mut response = Response::Nothing;
        let counted = allocation_counter::measure(|| {
            response = zones.respond(&query, Transport::Tcp, &NoUpstream, &mut out);
        });
        assert_ne!(response, Response::Nothing, "{name} {qtype}");
        assert_eq!(counted.count_total, 0, "{name} {qtype}");
    }
}
