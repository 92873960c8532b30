//! The messages of svc-dns, read by hickory-proto and by domain: both must see what the answer says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use domain::base::iana::Rtype;
use domain::rdata::AllRecordData;
use hickory_server::proto::op::Message;
use proptest::prelude::*;
use serde_json::json;
use svc_dns::{
    Name, NoUpstream, Options, Question, Record, Response, Transport, Type, Zones, zones_from_text,
};
use svc_model::Object;

/// Services over endpoints as a few numbers choose them.
fn zones(services: &[(u8, u8, u8)]) -> Zones {
    let mut options = Options::default();
    options.zones =
        ["cluster.local", "10.0.0.0/8", "fd00::/16"].map(|zone| zones_from_text(zone).unwrap()).concat();
    options.local_addresses = vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let mut zones = Zones::new(options).unwrap();
    let mut apply = |json: serde_json::Value| {
        let object = Object::from_kind(json["kind"].as_str().unwrap(), &json).unwrap().unwrap();
        drop(zones.apply(&object));
    };
    apply(json!({"kind": "Namespace", "metadata": {"name": "shop"}}));
    for (index, (kind, endpoints, hosts)) in services.iter().enumerate() {
        let name = format!("s{index}");
        let ip = format!("10.96.0.{index}");
        let spec = match kind % 3 {
            0 => {
                json!({"clusterIP": ip, "clusterIPs": [ip, format!("fd00::{index}")], "ports": [{"name": "http", "port": 80}, {"port": 81}]})
            }
            1 => json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}),
            _ => {
                json!({"type": "ExternalName", "externalName": format!("s{}.shop.svc.Cluster.local", endpoints % 4)})
            }
        };
        apply(json!({"kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}));
        for family in ["IPv4", "IPv6"] {
            let endpoint = |number: u8| {
                let addr = if family == "IPv4" {
                    format!("10.1.{index}.{number}")
                } else {
                    format!("fd00::{index}:{number:x}")
                };
                let mut endpoint = json!({"addresses": [addr], "conditions": {"ready": number % 5 != 4}});
                if number < *hosts {
                    endpoint["hostname"] = format!("Host-{}", number / 2).into();
                }
                endpoint
            };
            let endpoints: Vec<_> = (0..*endpoints).map(endpoint).collect();
            apply(json!({
                "kind": "EndpointSlice",
                "metadata": {"name": format!("{name}-{family}"), "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
                "addressType": family, "endpoints": endpoints,
                "ports": [{"name": "http", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 53}],
            }));
        }
    }
    zones
}

fn questions(services: usize) -> Vec<(Name, Type)> {
    let mut names: Vec<String> =
        ["", "ns.dns.", "dns-version.", "shop.svc.", "x."].map(|left| format!("{left}CLUSTER.local")).into();
    for index in 0..=services {
        for left in ["", "_http._tcp.", "host-0.", "10-1-0-1.", "_DNS._udp."] {
            names.push(format!("{left}s{index}.Shop.svc.cluster.local"));
        }
        names.push(format!("{index}.0.96.10.in-addr.arpa"));
        names.push(format!("1.{index}.1.10.in-addr.arpa"));
    }
    let types =
        [Type::A, Type::AAAA, Type::SRV, Type::PTR, Type::NS, Type::SOA, Type::TXT, Type::CNAME, Type::MX];
    names.iter().flat_map(|name| types.map(|qtype| (name.parse().unwrap(), qtype))).collect()
}

fn query(name: &Name, qtype: Type) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(name.wire());
    message.extend_from_slice(&qtype.0.to_be_bytes());
    message.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    message
}

/// The lines of a section, with the dot at the end that readers leave out or put in as they like.
fn ours(records: &[Record]) -> Vec<String> {
    records.iter().map(ToString::to_string).collect()
}

fn hickory(records: &[hickory_server::proto::rr::Record]) -> Vec<String> {
    let quoted =
        |line: String| if line.contains(" IN TXT ") { line.replace("1.1.0", "\"1.1.0\"") } else { line };
    records.iter().map(|record| quoted(record.to_string())).collect()
}

fn dotted(name: impl std::fmt::Display) -> String {
    let text = name.to_string();
    if text.ends_with('.') { text } else { format!("{text}.") }
}

fn nlnet(section: domain::base::message::RecordSection<'_, [u8]>) -> Vec<String> {
    let mut lines = Vec::new();
    for record in section {
        let record = record.unwrap();
        if record.rtype() == Rtype::OPT {
            continue;
        }
        let (owner, ttl) = (dotted(record.owner()), record.ttl().as_secs());
        let record = record.into_record::<AllRecordData<_, _>>().unwrap().unwrap();
        let data = match record.data() {
            AllRecordData::A(a) => format!("A {}", IpAddr::from(a.addr())),
            AllRecordData::Aaaa(aaaa) => format!("AAAA {}", aaaa.addr()),
            AllRecordData::Cname(cname) => format!("CNAME {}", dotted(cname.cname())),
            AllRecordData::Ns(ns) => format!("NS {}", dotted(ns.nsdname())),
            AllRecordData::Ptr(ptr) => format!("PTR {}", dotted(ptr.ptrdname())),
            AllRecordData::Srv(srv) => {
                format!("SRV {} {} {} {}", srv.priority(), srv.weight(), srv.port(), dotted(srv.target()))
            }
            AllRecordData::Txt(txt) => {
                format!("TXT \"{}\"", String::from_utf8(txt.text::<Vec<u8>>()).unwrap())
            }
            AllRecordData::Soa(soa) => format!(
                "SOA {} {} {} {} {} {} {}",
                dotted(soa.mname()),
                dotted(soa.rname()),
                soa.serial(),
                soa.refresh().as_secs(),
                soa.retry().as_secs(),
                soa.expire().as_secs(),
                soa.minimum().as_secs()
            ),
            other => format!("{other:?}"),
        };
        lines.push(format!("{owner} {ttl} IN {data}"));
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_readers_agree(services in proptest::collection::vec((0..3u8, 0..7u8, 0..7u8), 1..5)) {
        let zones = zones(&services);
        let mut kinds = BTreeMap::new();
        for (name, qtype) in questions(services.len()) {
            let answer = zones.answer(&Question::new(&name, qtype), &NoUpstream).unwrap();
            let mut out = [0; 65_535];
            let Response::Answer(len) = zones.respond(&query(&name, qtype), Transport::Tcp, &NoUpstream, &mut out) else {
                panic!("{name} {qtype}");
            };
            let expected = [ours(&answer.answer), ours(&answer.authority), ours(&answer.additional)];

            let first = Message::from_vec(&out[..len]).unwrap();
            prop_assert_eq!(first.metadata.id, 0xabcd);
            prop_assert_eq!(u16::from(first.metadata.response_code), answer.rcode.number());
            prop_assert_eq!(first.edns.as_ref().map(|edns| edns.max_payload()), Some(1232));
            let got = [hickory(&first.answers), hickory(&first.authorities), hickory(&first.additionals)];
            prop_assert_eq!(&got, &expected, "hickory: {} {}", &name, qtype);

            let second = domain::base::Message::from_slice(&out[..len]).unwrap();
            prop_assert!(second.header().aa() && second.header().qr() && !second.header().tc());
            let sections = second.sections().unwrap();
            let got = [nlnet(sections.1), nlnet(sections.2), nlnet(sections.3)];
            prop_assert_eq!(&got, &expected, "domain: {} {}", &name, qtype);
            *kinds.entry((answer.rcode, answer.answer.len().min(2))).or_insert(0) += 1;
        }
        prop_assert!(kinds.len() >= 3, "{:?}", kinds);
    }
}
