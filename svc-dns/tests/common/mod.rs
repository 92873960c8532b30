//! Objects and questions for random cases, a naive twin of the answering engine, and a small reader of messages.
#![expect(unreachable_pub, dead_code, reason = "shared by several test files, none of which uses all")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use svc_dns::{Name, Rcode, Type};
use svc_model::{Object, ObjectRef};

/// One thing that happens to a cluster.
#[derive(Debug, Clone)]
pub enum Event {
    Apply(Box<Object>),
    Remove(&'static str, ObjectRef),
}

pub fn object(json: &Value) -> Object {
    Object::from_kind(json["kind"].as_str().unwrap(), json).unwrap().unwrap()
}

const NAMESPACES: [&str; 2] = ["a", "b"];
const SERVICES: [&str; 3] = ["web", "db", "a"];
const PORTS: [(&str, &str, u16); 4] =
    [("http", "TCP", 80), ("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("", "TCP", 81)];

fn ports() -> impl Strategy<Value = Vec<Value>> {
    proptest::sample::subsequence(PORTS.to_vec(), 0..=4).prop_map(|ports| {
        ports
            .into_iter()
            .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
            .collect()
    })
}

fn service() -> impl Strategy<Value = Object> {
    let kind = 0..5usize;
    let place = (proptest::sample::select(&NAMESPACES[..]), proptest::sample::select(&SERVICES[..]));
    (place, kind, 1..4u8, ports(), proptest::bool::ANY).prop_map(|((namespace, name), kind, ip, ports, outside)| {
        let (v4, v6) = (format!("10.0.0.{ip}"), format!("fd00::{ip}"));
        let spec = match kind {
            0 => json!({"type": "ClusterIP", "clusterIP": v4, "clusterIPs": [v4, v6], "ports": ports}),
            1 => json!({"type": "ClusterIP", "clusterIP": v6, "clusterIPs": [v6], "ports": ports}),
            2 | 3 => json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "ports": ports}),
            _ => json!({"type": "ExternalName", "externalName": format!("{}.b.svc.cluster.local", SERVICES[usize::from(ip) % 3])}),
        };
        let mut service = json!({"kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": spec});
        if outside {
            service["spec"]["externalIPs"] = json!([format!("192.0.2.{ip}")]);
        }
        object(&service)
    })
}

fn slice() -> impl Strategy<Value = Object> {
    let endpoint = (1..6u8, proptest::option::of(proptest::sample::select(&["x", "y", "Z"][..])), 0..4usize);
    let place = (proptest::sample::select(&NAMESPACES[..]), 0..4usize, 0..4usize);
    (place, proptest::bool::ANY, proptest::collection::vec(endpoint, 0..4), ports()).prop_map(
        |((namespace, service, number), v6, endpoints, ports)| {
            let endpoint = |(ip, hostname, ready): (u8, Option<&str>, usize)| {
                let addr = if v6 { format!("fd01::{ip}") } else { format!("10.1.0.{ip}") };
                let mut endpoint = json!({"addresses": [addr], "conditions": {"ready": ready > 0}});
                if let Some(hostname) = hostname {
                    endpoint["hostname"] = hostname.into();
                }
                endpoint
            };
            let endpoints: Vec<Value> = endpoints.into_iter().map(endpoint).collect();
            let mut labels = json!({});
            if let Some(service) = SERVICES.get(service) {
                labels["kubernetes.io/service-name"] = (*service).into();
            }
            object(&json!({
                "kind": "EndpointSlice",
                "metadata": {"namespace": namespace, "name": format!("s{number}"), "labels": labels},
                "addressType": if v6 { "IPv6" } else { "IPv4" }, "endpoints": endpoints, "ports": ports,
            }))
        },
    )
}

fn namespace() -> impl Strategy<Value = Object> {
    proptest::sample::select(&NAMESPACES[..])
        .prop_map(|name| object(&json!({"kind": "Namespace", "metadata": {"name": name}})))
}

/// Any object of the small cluster.
pub fn any_object() -> impl Strategy<Value = Object> {
    prop_oneof![3 => service(), 5 => slice(), 1 => namespace()]
}

/// Objects that come, change and go.
pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (any_object(), 0..4u8).prop_map(|(object, remove)| {
        if remove == 0 {
            Event::Remove(object.kind(), object.object_ref())
        } else {
            Event::Apply(Box::new(object))
        }
    });
    proptest::collection::vec(event, 1..25)
}

/// The objects that are left after some events.
pub fn left(events: &[Event]) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    for event in events {
        let (kind, reference) = match event {
            Event::Apply(object) => (object.kind(), object.object_ref()),
            Event::Remove(kind, reference) => (*kind, reference.clone()),
        };
        objects.retain(|other| (other.kind(), other.object_ref()) != (kind, reference.clone()));
        if let Event::Apply(object) = event {
            objects.push((**object).clone());
        }
    }
    objects
}

/// Names that exist in the small cluster, almost exist, or do not.
pub fn questions() -> Vec<(Name, Type)> {
    let mut names: Vec<String> =
        ["", "svc.", "ns.dns.", "dns-version.", "x."].map(|left| format!("{left}cluster.local.")).into();
    for namespace in ["a", "b", "c"] {
        names.push(format!("{namespace}.svc.cluster.local."));
        for service in SERVICES {
            for left in [
                "",
                "x.",
                "Z.",
                "10-1-0-1.",
                "fd01--2.",
                "_http._tcp.",
                "_dns._udp.",
                "_dns-tcp._tcp.",
                "dns.udp.",
                "a.b.c.",
            ] {
                names.push(format!("{left}{service}.{namespace}.svc.Cluster.local."));
            }
        }
    }
    for last in 1..6 {
        names.push(format!("{last}.0.0.10.in-addr.arpa."));
        names.push(format!("{last}.0.1.10.in-addr.arpa."));
    }
    let types = [Type::A, Type::AAAA, Type::SRV, Type::PTR, Type::TXT, Type::CNAME, Type::SOA, Type::MX];
    let pair = |name: String| types.map(|qtype| (name.parse().unwrap(), qtype));
    names.into_iter().flat_map(pair).collect()
}

/// What the naive twin says: code, answers, additionals.
pub type Naive = (Rcode, BTreeSet<String>, BTreeSet<String>);

/// A, AAAA and SRV of a Service name by going through every object, with default options; none for names that are not of this kind.
pub fn naive(objects: &[Object], name: &Name, qtype: Type) -> Option<Naive> {
    let text = name.to_string();
    let left = text.to_lowercase();
    let left = left.strip_suffix(".svc.cluster.local.")?;
    let zone = text.split_at(text.len() - "cluster.local.".len()).1;
    let labels: Vec<&str> = left.split('.').collect();
    let bare = |label: &str| label.strip_prefix('_').unwrap_or(label).to_owned();
    let (port, protocol, endpoint, service, namespace) = match labels[..] {
        [service, namespace] => (String::new(), String::new(), "", service, namespace),
        [endpoint, service, namespace] => (String::new(), String::new(), endpoint, service, namespace),
        [port, protocol, service, namespace] => (bare(port), bare(protocol), "", service, namespace),
        _ => return None,
    };
    let missing = Some((Rcode::NxDomain, BTreeSet::new(), BTreeSet::new()));
    let is = |object: &&Object| object.object_ref() == ObjectRef::new(namespace, service);
    if !objects
        .iter()
        .any(|object| matches!(object, Object::Namespace(_)) && object.metadata().name == namespace)
    {
        return missing;
    }
    let Some(Object::Service(object)) =
        objects.iter().find(|object| matches!(object, Object::Service(_)) && is(object))
    else {
        return missing;
    };
    if object.spec.service_type() == svc_model::ServiceType::ExternalName {
        return None;
    }
    // Every pair of an address and a port with the label of its name, as the reference collects them.
    let mut pairs: Vec<(String, IpAddr, Option<i32>)> = Vec::new();
    let wanted = |name: &str, number_protocol: &str| {
        (port.is_empty() || name.eq_ignore_ascii_case(&port))
            && (protocol.is_empty() || number_protocol.eq_ignore_ascii_case(&protocol))
    };
    let base = format!("{service}.{namespace}.svc.{zone}");
    if object.spec.is_headless() || !endpoint.is_empty() {
        for slice in objects.iter().filter_map(|object| match object {
            Object::EndpointSlice(slice) if slice.metadata.namespace == namespace => Some(slice),
            _ => None,
        }) {
            if slice.service_name() != Some(service) {
                continue;
            }
            for one in slice.endpoints.iter().filter(|one| one.conditions.is_ready()) {
                let addr = one.addresses[0].get().unwrap();
                let label = one
                    .hostname
                    .as_ref()
                    .map_or_else(|| addr.to_string().replace(['.', ':'], "-"), ToString::to_string);
                if !endpoint.is_empty() && !label.eq_ignore_ascii_case(endpoint) {
                    continue;
                }
                let target = format!("{label}.{base}");
                if slice.ports.is_empty() && wanted("", "") {
                    pairs.push((target.clone(), addr, None));
                }
                for one in &slice.ports {
                    let text = one.protocol.as_ref().unwrap().to_text();
                    if wanted(one.name.as_deref().unwrap_or_default(), &text) {
                        pairs.push((target.clone(), addr, one.port.map(|port| port.value())));
                    }
                }
            }
        }
    } else {
        for addr in object.spec.cluster_addresses() {
            if object.spec.ports.is_empty() && wanted("", "") {
                pairs.push((base.clone(), addr, None));
            }
            for one in &object.spec.ports {
                if wanted(&one.name, &one.protocol.to_text()) {
                    pairs.push((base.clone(), addr, Some(one.port.value())));
                }
            }
        }
    }
    if pairs.is_empty() {
        return missing;
    }
    let (mut answers, mut additionals) = (BTreeSet::new(), BTreeSet::new());
    let weight = (100 / pairs.len()).max(1);
    for (target, addr, number) in pairs {
        let record = if addr.is_ipv4() { "A" } else { "AAAA" };
        if qtype.to_string() == record {
            answers.insert(format!("{text} 5 IN {record} {addr}"));
        }
        if let (Type::SRV, Some(number)) = (qtype, number) {
            answers.insert(format!("{text} 5 IN SRV 0 {weight} {number} {target}"));
            additionals.insert(format!("{target} 5 IN {record} {addr}"));
        }
    }
    Some((Rcode::NoError, answers, additionals))
}

/// A message, read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub flags: u16,
    pub question: Vec<u8>,
    pub sections: [Vec<String>; 3],
}

/// Reads a message of the record types that this crate writes, strictly: pointers go back, data ends where its length says.
pub fn read(message: &[u8]) -> Option<Message> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let long = |at: usize| Some(u32::from_be_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let mut at = 12;
    let name = |at: &mut usize| -> Option<Vec<u8>> {
        let (mut wire, mut here, mut jumped) = (Vec::new(), *at, false);
        loop {
            let len = *message.get(here)?;
            if len >= 0xc0 {
                let to = usize::from(word(here)? & 0x3fff);
                if !jumped {
                    *at = here + 2;
                }
                if to >= here {
                    return None;
                }
                (here, jumped) = (to, true);
                continue;
            }
            wire.extend_from_slice(message.get(here..here + 1 + usize::from(len))?);
            here += 1 + usize::from(len);
            if len == 0 {
                if !jumped {
                    *at = here;
                }
                return Some(wire);
            }
        }
    };
    let question = name(&mut at)?;
    at += 4;
    let show = |wire: &[u8]| Name::from_wire(wire).map(|name| name.to_string()).ok();
    let mut sections = [Vec::new(), Vec::new(), Vec::new()];
    for (index, section) in sections.iter_mut().enumerate() {
        for _ in 0..word(6 + 2 * index)? {
            let owner = name(&mut at)?;
            let (qtype, ttl, len) = (Type(word(at)?), long(at + 4)?, usize::from(word(at + 8)?));
            at += 10;
            let end = at + len;
            let data = message.get(at..end)?;
            let text = match qtype {
                Type::OPT => {
                    at = end;
                    continue;
                }
                Type::A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?).to_string(),
                Type::AAAA => IpAddr::from(<[u8; 16]>::try_from(data).ok()?).to_string(),
                Type::SRV => {
                    let (weight, port) = (word(at + 2)?, word(at + 4)?);
                    at += 6;
                    format!("{} {weight} {port} {}", word(at - 6)?, show(&name(&mut at)?)?)
                }
                Type::TXT => format!("\"{}\"", String::from_utf8_lossy(data.get(1..)?)),
                Type::SOA => {
                    let (mname, rname) = (show(&name(&mut at)?)?, show(&name(&mut at)?)?);
                    let numbers: Vec<String> = (0..5)
                        .map(|index| long(at + 4 * index).map(|n| n.to_string()))
                        .collect::<Option<_>>()?;
                    at += 20;
                    format!("{mname} {rname} {}", numbers.join(" "))
                }
                _ => show(&name(&mut at)?)?,
            };
            if matches!(qtype, Type::A | Type::AAAA | Type::TXT) {
                at = end;
            }
            if at != end {
                return None;
            }
            section.push(format!("{} {ttl} IN {qtype} {text}", show(&owner)?));
        }
    }
    (at == message.len()).then_some(Message { flags: word(2)?, question, sections })
}

/// A query message.
pub fn query(name: &Name, qtype: Type, edns: Option<u16>) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    message.extend_from_slice(name.wire());
    message.extend_from_slice(&qtype.0.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some(size) = edns {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
    }
    message
}
