//! Where CoreDNS and the standards disagree: both answers, one by one.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]

use serde_json::{Value, json};
use svc_dns::{Behavior, Looked, Name, Options, Pods, Question, Rcode, Type, Zonal, Zones, zones_from_text};
use svc_model::Object;

fn zones(behavior: Behavior, change: impl Fn(&mut Options)) -> Zones {
    let mut options = Options::default();
    options.zones = ["cluster.local", "clusterset.local", "10.0.0.0/8"]
        .map(|zone| zones_from_text(zone).unwrap())
        .concat();
    options.multicluster = vec!["clusterset.local".parse().unwrap()];
    options.behavior = behavior;
    options.local_addresses = vec!["10.9.9.9".parse().unwrap()];
    change(&mut options);
    let mut zones = Zones::new(options).unwrap();
    let service = |name: &str, spec: Value| json!({"kind": "Service", "metadata": {"namespace": "d", "name": name}, "spec": spec});
    let alias =
        |name: &str, target: &str| service(name, json!({"type": "ExternalName", "externalName": target}));
    let ports = json!([{"name": "http", "port": 80}, {"port": 81}]);
    for json in [
        json!({"kind": "Namespace", "metadata": {"name": "d", "labels": {"env": "prod"}}}),
        json!({"kind": "Namespace", "metadata": {"name": "hidden"}}),
        service(
            "web",
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ports": ports}),
        ),
        service("pending", json!({"clusterIP": "", "clusterIPs": [""], "ports": ports})),
        service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
        alias("good", "web.d.svc.cluster.local"),
        alias("dangling", "nope.d.svc.cluster.local"),
        alias("loop", "pool.d.svc.cluster.local"),
        alias("pool", "loop.d.svc.cluster.local"),
        alias("far", "far.example.org"),
        json!({"kind": "EndpointSlice", "metadata": {"namespace": "d", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432}],
            "endpoints": [{"addresses": ["10.1.0.1"], "hostname": "db-0", "zone": "Z1"}, {"addresses": ["10.1.0.2"]}]}),
        json!({"kind": "Service", "metadata": {"namespace": "hidden", "name": "web"}, "spec": {"clusterIP": "10.0.0.9", "ports": ports}}),
    ] {
        drop(zones.apply(&Object::from_kind(json["kind"].as_str().unwrap(), &json).unwrap().unwrap()));
    }
    zones
}

fn nobody(_: &Name, _: Type) -> Looked {
    Looked::Failed
}

/// The code and the answer section, a line a record without its owner and TTL.
fn ask(zones: &Zones, name: &str, qtype: Type) -> String {
    let name = name.parse().unwrap();
    let answer = zones.answer(&Question::new(&name, qtype), &nobody).unwrap();
    let data = |record: &svc_dns::Record| format!(" {} {}", record.data.record_type(), record.data);
    let soa = if answer.authority.is_empty() { "" } else { " soa" };
    format!("{}{}{soa}", answer.rcode, answer.answer.iter().map(data).collect::<String>())
}

fn check(change: impl Fn(&mut Options), rows: &[(&str, Type, &str, &str)]) {
    let (coredns, standards) = (zones(Behavior::CoreDns, &change), zones(Behavior::Standards, &change));
    for (name, qtype, first, second) in rows {
        assert_eq!(ask(&coredns, name, *qtype), *first, "CoreDNS: {name} {qtype}");
        assert_eq!(ask(&standards, name, *qtype), *second, "standards: {name} {qtype}");
        assert_ne!(first, second, "{name} {qtype} is no difference");
    }
}

const NODATA: &str = "NOERROR soa";
const NXDOMAIN: &str = "NXDOMAIN soa";

#[test]
fn names_that_exist_are_not_denied() {
    check(
        |options| options.zonal = Zonal::On,
        &[
            ("cluster.local", Type::TXT, NXDOMAIN, NODATA),
            ("svc.cluster.local", Type::TXT, NXDOMAIN, NODATA),
            ("d.svc.cluster.local", Type::TXT, NXDOMAIN, NODATA),
            ("dns.cluster.local", Type::A, NXDOMAIN, NODATA),
            ("dns-version.cluster.local", Type::A, NXDOMAIN, NODATA),
            ("ns.dns.cluster.local", Type::TXT, NXDOMAIN, NODATA),
            ("_tcp.web.d.svc.cluster.local", Type::SRV, NXDOMAIN, NODATA),
            ("_tcp.db.d.svc.cluster.local", Type::A, NXDOMAIN, NODATA),
            ("_zone.db.d.svc.cluster.local", Type::A, NXDOMAIN, NODATA),
            ("pin._zone.db.d.svc.cluster.local", Type::A, NXDOMAIN, NODATA),
            ("1.10.in-addr.arpa", Type::PTR, NXDOMAIN, NODATA),
            ("1.0.0.10.in-addr.arpa", Type::A, NXDOMAIN, NODATA),
            ("nope.d.svc.cluster.local", Type::SOA, NODATA, NXDOMAIN),
        ],
    );
    let standards = zones(Behavior::Standards, |_| {});
    for name in [
        "_udp.web.d.svc.cluster.local",
        "_tcp.nope.d.svc.cluster.local",
        "dns.svc.cluster.local",
        "_tcp.good.d.svc.cluster.local",
    ] {
        assert_eq!(ask(&standards, name, Type::A), NXDOMAIN, "{name}");
    }
    assert_eq!(ask(&standards, "999.10.in-addr.arpa", Type::PTR), NODATA);
    assert_eq!(ask(&standards, "x.10.in-addr.arpa", Type::PTR), NXDOMAIN);
}

#[test]
fn a_chain_is_given_for_every_type_and_end() {
    let cname = " CNAME web.d.svc.cluster.local.";
    check(
        |_| {},
        &[
            ("good.d.svc.cluster.local", Type::MX, NODATA, &format!("NOERROR{cname} soa")),
            ("good.d.svc.cluster.local", Type::TXT, NODATA, &format!("NOERROR{cname} soa")),
            (
                "good.d.svc.cluster.local",
                Type::SRV,
                NODATA,
                &format!("NOERROR{cname} SRV 0 100 80 web.d.svc.cluster.local."),
            ),
            ("dangling.d.svc.cluster.local", Type::A, NODATA, "NXDOMAIN CNAME nope.d.svc.cluster.local. soa"),
            (
                "loop.d.svc.cluster.local",
                Type::A,
                NODATA,
                "SERVFAIL CNAME pool.d.svc.cluster.local. CNAME loop.d.svc.cluster.local.",
            ),
            ("far.d.svc.cluster.local", Type::A, NODATA, "SERVFAIL CNAME far.example.org."),
        ],
    );
    let standards = zones(Behavior::Standards, |_| {});
    let name = "far.d.svc.cluster.local".parse().unwrap();
    let question = Question::new(&name, Type::A);
    assert_eq!(standards.outside(&question), [("far.example.org".parse().unwrap(), Type::A)]);
    let alone = standards.answer(&question, &svc_dns::NoUpstream).unwrap();
    assert_eq!((alone.rcode, alone.answer.len()), (Rcode::NoError, 1), "whoever asked can go on alone");
}

#[test]
fn services() {
    let all = " SRV 0 25 80 web.d.svc.cluster.local. SRV 0 25 81 web.d.svc.cluster.local.";
    check(
        |_| {},
        &[
            ("pending.d.svc.cluster.local", Type::CNAME, "NOERROR CNAME .", NODATA),
            (
                "web.d.svc.cluster.local",
                Type::SRV,
                &format!("NOERROR{all}"),
                "NOERROR SRV 0 100 80 web.d.svc.cluster.local.",
            ),
            (
                "_http._tcp.web.d.svc.cluster.local",
                Type::SRV,
                "NOERROR SRV 0 50 80 web.d.svc.cluster.local.",
                "NOERROR SRV 0 100 80 web.d.svc.cluster.local.",
            ),
            (
                "http.tcp.web.d.svc.cluster.local",
                Type::SRV,
                "NOERROR SRV 0 50 80 web.d.svc.cluster.local.",
                NXDOMAIN,
            ),
            ("_._tcp.web.d.svc.cluster.local", Type::SRV, &format!("NOERROR{all}"), NXDOMAIN),
            ("_http._tcp.web.d.svc.cluster.local", Type::A, "NOERROR A 10.0.0.1", NODATA),
            ("dns-version.clusterset.local", Type::TXT, "NOERROR TXT \"1.1.0\"", "NOERROR TXT \"1.0.0\""),
            ("ns.dns.Cluster.local", Type::A, NXDOMAIN, "NOERROR A 10.9.9.9"),
            ("Cluster.local", Type::NS, NODATA, "NOERROR NS ns.dns.Cluster.local."),
        ],
    );
}

#[test]
fn pods_and_hidden_namespaces() {
    check(
        |options| options.pods = Pods::Insecure,
        &[
            ("x.10-1-0-1.d.pod.cluster.local", Type::A, "NOERROR A 10.1.0.1", NXDOMAIN),
            (
                "10-1-0-1.d.pod.cluster.local",
                Type::SRV,
                "NOERROR SRV 0 100 0 10-1-0-1.d.pod.cluster.local.",
                NODATA,
            ),
        ],
    );
    check(
        |options| options.namespace_labels = Some("env=prod".parse().unwrap()),
        &[("9.0.0.10.in-addr.arpa", Type::PTR, "NOERROR PTR web.hidden.svc.cluster.local.", NXDOMAIN)],
    );
}

#[test]
fn most_answers_are_the_same() {
    let (coredns, standards) = (zones(Behavior::CoreDns, |_| {}), zones(Behavior::Standards, |_| {}));
    for name in [
        "cluster.local",
        "web.d.svc.cluster.local",
        "db.d.svc.cluster.local",
        "db-0.db.d.svc.cluster.local",
        "nope.d.svc.cluster.local",
        "_sql._tcp.db.d.svc.cluster.local",
        "1.0.0.10.in-addr.arpa",
        "2.0.1.10.in-addr.arpa",
        "x.cluster.local",
        "d.svc.cluster.local",
    ] {
        for qtype in [Type::A, Type::AAAA, Type::PTR, Type::NS, Type::CNAME] {
            if qtype == Type::PTR || !name.ends_with("arpa") {
                let ignored = name.starts_with('_') && qtype == Type::A;
                assert!(
                    ignored || ask(&coredns, name, qtype) == ask(&standards, name, qtype),
                    "{name} {qtype}"
                );
            }
        }
    }
}
