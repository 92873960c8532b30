//! Why a name is not there, what resolvers ask for it, and what it collides with.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]

use serde_json::{Value, json};
use svc_dns::{
    Absence, COMMON_TLDS, Collision, EmptyServices, Fact, LeftOut, NoUpstream, Options, Question, ResolvConf,
    Resolver, SearchEnd, ServiceAnswers, Type, Verdict, Zones,
};
use svc_model::{Object, ObjectRef};

fn zones(change: impl Fn(&mut Options), objects: &[Value]) -> Zones {
    let mut options = Options::default();
    change(&mut options);
    let mut zones = Zones::new(options).unwrap();
    for json in objects {
        drop(zones.apply(&Object::from_kind(json["kind"].as_str().unwrap(), json).unwrap().unwrap()));
    }
    zones
}

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": name}})
}

fn service(namespace: &str, name: &str, cluster_ip: &str) -> Value {
    json!({"kind": "Service", "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"clusterIP": cluster_ip, "ports": [{"name": "http", "port": 80}]}})
}

fn slice(namespace: &str, service: &str, endpoints: Value) -> Value {
    json!({"kind": "EndpointSlice", "metadata": {"namespace": namespace, "name": format!("{service}-1"),
        "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080}]})
}

fn shop() -> Vec<Value> {
    vec![
        namespace("shop"),
        namespace("bank"),
        service("shop", "web", "10.0.0.1"),
        service("shop", "db", "None"),
        service("shop", "cold", "None"),
        service("bank", "ledger", "10.0.0.2"),
        json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "ip"}, "spec": {"type": "ExternalName", "externalName": "192.0.2.1"}}),
        slice(
            "shop",
            "db",
            json!([
            {"addresses": ["10.1.0.1"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "db-0"}},
            {"addresses": ["10.1.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}, "hostname": "db-1"}]),
        ),
        slice("shop", "web", json!([{"addresses": ["10.1.0.3"], "hostname": "web-0"}])),
    ]
}

fn why(zones: &Zones, name: &str, qtype: Type) -> (Option<Absence>, Vec<Fact>) {
    let name = name.parse().unwrap();
    let explanation = zones.explain(&Question::new(&name, qtype), &NoUpstream);
    assert!(!explanation.to_string().is_empty());
    (explanation.absence, explanation.facts)
}

#[test]
fn every_absence_has_its_reason() {
    let zones_of = |change: fn(&mut Options)| zones(change, &shop());
    let plain = zones_of(|_| {});
    for (name, expected) in [
        ("web.shop.cluster.local", Absence::NoSuchBranch),
        ("a.b.c.web.shop.svc.cluster.local", Absence::TooLong),
        ("web.nope.svc.cluster.local", Absence::NoNamespace),
        ("nope.shop.svc.cluster.local", Absence::NoService),
        ("db.shop.svc.cluster.local", Absence::NoReadyEndpoints),
        ("cold.shop.svc.cluster.local", Absence::NoSlices),
        ("db-0.db.shop.svc.cluster.local", Absence::NoSuchEndpoint),
        ("_ftp._tcp.web.shop.svc.cluster.local", Absence::NoSuchPort),
        ("ip.shop.svc.cluster.local", Absence::AliasIsAddress),
        ("x.ip.shop.svc.cluster.local", Absence::BelowAlias),
        ("10-1-0-3.shop.pod.cluster.local", Absence::PodsDisabled),
    ] {
        assert_eq!(why(&plain, name, Type::A).0, Some(expected), "{name}");
    }
    let listed = zones_of(|options| options.namespaces = ["bank".into()].into());
    assert_eq!(why(&listed, "web.shop.svc.cluster.local", Type::A).0, Some(Absence::NamespaceUnlisted));
    let labelled = zones_of(|options| options.namespace_labels = Some("env=prod".parse().unwrap()));
    assert_eq!(why(&labelled, "web.shop.svc.cluster.local", Type::A).0, Some(Absence::NamespaceUnselected));
    let selected = zones_of(|options| options.labels = Some("app=other".parse().unwrap()));
    assert_eq!(why(&selected, "web.shop.svc.cluster.local", Type::A).0, Some(Absence::ServiceUnselected));
    let ignored = zones_of(|options| options.empty_services = EmptyServices::Absent);
    assert_eq!(why(&ignored, "ledger.bank.svc.cluster.local", Type::A).0, Some(Absence::ServiceIgnored));
    let without = zones_of(|options| options.endpoints = svc_dns::Endpoints::Off);
    assert_eq!(why(&without, "db.shop.svc.cluster.local", Type::A).0, Some(Absence::EndpointsOff));
    let pods = zones_of(|options| options.pods = svc_dns::Pods::Verified);
    assert_eq!(why(&pods, "10-1-0-3.shop.pod.cluster.local", Type::A).0, Some(Absence::NoPod));
    assert_eq!(why(&pods, "x.shop.pod.cluster.local", Type::A).0, Some(Absence::PodNoAddress));
}

#[test]
fn facts_name_the_objects() {
    let zones = zones(|_| {}, &shop());
    let (_, facts) = why(&zones, "db.shop.svc.cluster.local", Type::A);
    let db = ObjectRef::new("shop", "db");
    assert!(
        facts.contains(&Fact::Service { service: db, kind: ServiceAnswers::Headless, ready: 0, slices: 1 }),
        "{facts:?}"
    );
    let left: Vec<_> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::LeftOut { address, target, why, .. } => Some((address.as_str(), target.as_deref(), *why)),
            _ => None,
        })
        .collect();
    assert_eq!(
        left,
        [("10.1.0.1", Some("db-0"), LeftOut::NotReady), ("10.1.0.2", Some("db-1"), LeftOut::Terminating)]
    );
    let (_, facts) = why(&zones, "ledger.shop.svc.cluster.local", Type::A);
    assert!(facts.contains(&Fact::Instead(vec![ObjectRef::new("bank", "ledger")])), "{facts:?}");
    let (_, facts) = why(&zones, "_ftp._tcp.web.shop.svc.cluster.local", Type::SRV);
    assert!(facts.contains(&Fact::Ports(vec!["http/TCP:80".into()])), "{facts:?}");
    let (_, facts) = why(&zones, "nope.web.shop.svc.cluster.local", Type::A);
    assert!(facts.contains(&Fact::EndpointLabels(vec!["web-0".into()])), "{facts:?}");
    let (absence, facts) = why(&zones, "web.shop.svc.cluster.local", Type::AAAA);
    assert!(absence.is_none() && facts.contains(&Fact::OtherFamily), "{facts:?}");
    let (absence, facts) = why(&zones, "shop.svc.cluster.local", Type::A);
    assert!(absence.is_none() && facts.contains(&Fact::OnlyBelow), "{facts:?}");
    let (_, facts) = why(&zones, "cluster.local", Type::TXT);
    assert!(facts.iter().any(|fact| matches!(fact, Fact::StandardsDiffer { .. })), "{facts:?}");
    let (_, facts) = why(&zones, "example.com", Type::A);
    assert_eq!(facts, [Fact::OutsideZones]);
}

fn conf() -> ResolvConf {
    ResolvConf::parse("search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
        .unwrap()
}

#[test]
fn queries_of_a_default_pod() {
    let mut objects = shop();
    objects.push(service("shop", "cache", "10.0.0.5"));
    let zones = zones(|_| {}, &objects);
    // name, queries of glibc, of musl
    for (name, glibc, musl) in [
        ("web", 2, 2),
        ("ledger.bank", 4, 4),
        ("ledger.bank.svc", 6, 6),
        ("ledger.bank.svc.cluster.local", 8, 8),
        ("ledger.bank.svc.cluster.local.", 2, 2),
        ("api.example.com", 8, 8),
        ("api.example.com.", 2, 2),
        ("a.b.c.d.e.example.com", 2, 2),
    ] {
        for (resolver, queries) in [(Resolver::Glibc, glibc), (Resolver::Musl, musl), (Resolver::Go, glibc)] {
            let search = zones.search(name, &conf(), resolver, &NoUpstream);
            assert_eq!(search.queries(), queries, "{name} {resolver}: {search:?}");
            assert_eq!(search.end, SearchEnd::Found(queries / 2 - 1), "{name} {resolver}");
            assert_eq!(search.wasted(), queries - 2);
        }
    }
}

#[test]
fn musl_stops_where_others_go_on() {
    // `shop` alone: shop.shop.svc is missing, then `shop.svc.cluster.local` exists without addresses.
    let zones = zones(|_| {}, &shop());
    let glibc = zones.search("shop", &conf(), Resolver::Glibc, &NoUpstream);
    let musl = zones.search("shop", &conf(), Resolver::Musl, &NoUpstream);
    assert_eq!((musl.end, musl.steps.len()), (SearchEnd::Stopped, 2));
    assert_eq!(musl.steps[1].a, Verdict::NoData);
    assert_eq!(
        (glibc.end, glibc.steps.len()),
        (SearchEnd::Found(3), 4),
        "taken to exist as a name elsewhere"
    );
}

#[test]
fn names_that_mean_something_else() {
    let zones = zones(
        |_| {},
        &[
            namespace("shop"),
            namespace("com"),
            namespace("bank"),
            service("com", "example", "10.0.0.1"),
            service("bank", "ledger", "10.0.0.1"),
            service("shop", "bank", "None"),
            slice(
                "shop",
                "bank",
                json!([
                {"addresses": ["10.1.0.1"], "hostname": "ledger"}, {"addresses": ["10.1.0.2"], "hostname": "ledger"}]),
            ),
        ],
    );
    let found = zones.collisions(COMMON_TLDS);
    let (bank, hidden) = (ObjectRef::new("shop", "bank"), ObjectRef::new("bank", "ledger"));
    for expected in [
        Collision::NamespaceIsDomain { namespace: "com".into(), service: "example".into() },
        Collision::NamespaceIsDomain { namespace: "shop".into(), service: "bank".into() },
        Collision::EndpointHidesService { service: bank.clone(), hidden: hidden.clone() },
        Collision::SharedHostname { service: bank, hostname: "ledger".into(), addresses: 2 },
        Collision::SharedClusterIp {
            address: "10.0.0.1".parse().unwrap(),
            services: vec![hidden, ObjectRef::new("com", "example")],
        },
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        assert!(!expected.to_string().is_empty());
    }
    assert_eq!(found.len(), 5);
    // The resolver agrees: in namespace `shop`, `ledger.bank` is the endpoint.
    let search = zones.search("ledger.bank", &conf(), Resolver::Glibc, &NoUpstream);
    assert_eq!(search.end, SearchEnd::Found(0));
}
