//! Nanoseconds per answer from message to message, beside hickory-proto and domain building the same answers; name look-up alone;
//! building and changing the zones of 10,000 Services; bytes an endpoint; the environment variables of 1,000 Services.
//!
//! The cluster for single answers is made here: Service `web` (dual stack), headless `db` with 4, `five` with 5 and `many` with 1,000
//! endpoints. The large one is [`Shape::limits`] with 10 Pods a Service. Memory is what the allocator holds after building, printed
//! once before the benches.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use domain::base::iana::{Class, Rcode as DomainRcode};
use domain::base::message_builder::{MessageBuilder, StaticCompressor};
use domain::base::{Message as DomainMessage, Name as DomainName, Ttl};
use hickory_proto::op::{Message, MessageType, Metadata};
use hickory_proto::rr::{self, RData};
use svc_benches::generate::Shape;
use svc_dns::{
    Name, NoUpstream, Options, Question, Response, ServiceEnv, ServiceLinks, Transport, Type, Zones,
    zones_from_text,
};
use svc_model::{
    Endpoint, EndpointPort, EndpointSlice, Namespace, Object, ObjectMeta, Service, ServicePort, ServiceSpec,
};

fn options() -> Options {
    let mut options = Options::default();
    options.zones = ["cluster.local", "10.0.0.0/8"].map(|zone| zones_from_text(zone).unwrap()).concat();
    options
}

fn service(name: &str, ips: &[&str]) -> Object {
    let port = ServicePort { name: "http".into(), port: 80.into(), ..ServicePort::default() };
    let spec = ServiceSpec {
        cluster_ip: ips[0].into(),
        cluster_ips: ips.iter().map(|ip| (*ip).into()).collect(),
        ports: vec![port],
        ..ServiceSpec::default()
    };
    Service { metadata: ObjectMeta::new("shop", name), spec, ..Service::default() }.into()
}

fn slice(service: &str, number: u8, endpoints: usize, ready: bool) -> Object {
    let mut slice = EndpointSlice::default();
    slice.metadata = ObjectMeta::new("shop", format!("{service}-{number}"));
    slice.metadata.labels.insert(svc_model::SERVICE_NAME_LABEL, service);
    slice.address_type = "IPv4".into();
    let third = service.len() as u8;
    slice.endpoints = (0..endpoints)
        .map(|index| {
            let mut endpoint = Endpoint::default();
            let address = Ipv4Addr::new(10, third, number, index as u8);
            endpoint.addresses = vec![std::net::IpAddr::from(address).into()];
            endpoint.conditions.ready = Some(index > 0 || ready);
            endpoint
        })
        .collect();
    let port = EndpointPort { name: Some("http".into()), port: Some(8080.into()), ..EndpointPort::default() };
    slice.ports = vec![port];
    slice.into()
}

fn small() -> Zones {
    let mut zones = Zones::new(options()).unwrap();
    let mut namespace = Namespace::default();
    namespace.metadata = ObjectMeta::new("", "shop");
    let mut objects = vec![Object::from(namespace), service("web", &["10.96.0.7", "fd00::7"])];
    objects.extend(["db", "five", "many"].map(|name| service(name, &["None"])));
    objects.push(slice("db", 0, 4, true));
    objects.push(slice("five", 0, 5, true));
    objects.extend((0..10).map(|number| slice("many", number, 100, true)));
    objects.iter().for_each(|object| drop(zones.apply(object)));
    zones
}

fn query(name: &str, qtype: Type) -> Vec<u8> {
    let name: Name = name.parse().unwrap();
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(name.wire());
    message.extend_from_slice(&qtype.0.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

fn answers(c: &mut Criterion) {
    let zones = small();
    let mut group = c.benchmark_group("answer");
    let mut out = vec![0; 65_535];
    for (id, name, qtype) in [
        ("a", "web.shop.svc.cluster.local", Type::A),
        ("aaaa", "web.shop.svc.cluster.local", Type::AAAA),
        ("nxdomain", "web.shop.svc.cluster.local.shop.svc.cluster.local", Type::A),
        ("nxdomain-service", "nope.shop.svc.cluster.local", Type::A),
        ("headless-4", "db.shop.svc.cluster.local", Type::A),
        ("headless-1000", "many.shop.svc.cluster.local", Type::A),
        ("endpoint-of-1000", "10-4-7-7.many.shop.svc.cluster.local", Type::A),
        ("srv-5+5", "_http._tcp.five.shop.svc.cluster.local", Type::SRV),
        ("ptr-service", "7.0.96.10.in-addr.arpa", Type::PTR),
        ("ptr-endpoint", "7.7.4.10.in-addr.arpa", Type::PTR),
    ] {
        let message = query(name, qtype);
        let mut respond = || {
            let response = zones.respond(black_box(&message), Transport::Tcp, &NoUpstream, &mut out);
            assert!(matches!(response, Response::Answer(_)));
            response
        };
        let counted = allocation_counter::measure(|| {
            black_box(respond());
        });
        assert_eq!(counted.count_total, 0, "{id} allocates");
        group.bench_function(id, |b| b.iter(&mut respond));
    }
    group.finish();
    let name: Name = "web.shop.svc.cluster.local".parse().unwrap();
    c.bench_function("answer/a as records", |b| {
        b.iter(|| zones.answer(&Question::new(black_box(&name), Type::A), &NoUpstream));
    });
    c.bench_function("explain/nxdomain", |b| {
        let name: Name = "nope.shop.svc.cluster.local".parse().unwrap();
        b.iter(|| zones.explain(&Question::new(black_box(&name), Type::A), &NoUpstream));
    });
}

/// The targets and addresses of the SRV answer, prepared as the peers like them best.
fn peers(c: &mut Criterion) {
    let a = query("web.shop.svc.cluster.local", Type::A);
    let srv = query("_http._tcp.five.shop.svc.cluster.local", Type::SRV);
    let targets: Vec<(String, Ipv4Addr)> = (0..5)
        .map(|index| (format!("10-4-0-{index}.five.shop.svc.cluster.local."), Ipv4Addr::new(10, 4, 0, index)))
        .collect();

    let hickory: Vec<(rr::Name, Ipv4Addr)> =
        targets.iter().map(|(name, addr)| (rr::Name::from_ascii(name).unwrap(), *addr)).collect();
    let reply = |query: &[u8]| {
        let request = Message::from_vec(query).unwrap();
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata = Metadata::response_from_request(&request.metadata);
        response.metadata.message_type = MessageType::Response;
        response.metadata.authoritative = true;
        response.add_queries(request.queries.iter().cloned());
        (request.queries[0].name().clone(), response)
    };
    c.bench_function("peer/hickory-proto a", |b| {
        b.iter(|| {
            let (name, mut response) = reply(black_box(&a));
            let data = RData::A(rr::rdata::A(Ipv4Addr::new(10, 96, 0, 7)));
            response.add_answer(rr::Record::from_rdata(name, 5, data));
            response.to_vec().unwrap()
        });
    });
    c.bench_function("peer/hickory-proto srv-5+5", |b| {
        b.iter(|| {
            let (name, mut response) = reply(black_box(&srv));
            for (target, addr) in &hickory {
                let data = RData::SRV(rr::rdata::SRV::new(0, 20, 8080, target.clone()));
                response.add_answer(rr::Record::from_rdata(name.clone(), 5, data));
                let data = RData::A(rr::rdata::A(*addr));
                response.add_additional(rr::Record::from_rdata(target.clone(), 5, data));
            }
            response.to_vec().unwrap()
        });
    });

    let domain: Vec<(DomainName<Vec<u8>>, Ipv4Addr)> =
        targets.iter().map(|(name, addr)| (name.parse().unwrap(), *addr)).collect();
    let ttl = Ttl::from_secs(5);
    c.bench_function("peer/domain a", |b| {
        let mut buffer = Vec::with_capacity(4096);
        b.iter(|| {
            buffer.clear();
            let request = DomainMessage::from_octets(black_box(&a[..])).unwrap();
            let builder = MessageBuilder::from_target(StaticCompressor::new(&mut buffer)).unwrap();
            let name = request.sole_question().unwrap();
            let mut answer = builder.start_answer(&request, DomainRcode::NOERROR).unwrap();
            let data = domain::rdata::A::new(Ipv4Addr::new(10, 96, 0, 7));
            answer.push((name.qname(), Class::IN, ttl, data)).unwrap();
            answer.header_mut().set_aa(true);
        });
    });
    c.bench_function("peer/domain srv-5+5", |b| {
        let mut buffer = Vec::with_capacity(4096);
        b.iter(|| {
            buffer.clear();
            let request = DomainMessage::from_octets(black_box(&srv[..])).unwrap();
            let builder = MessageBuilder::from_target(StaticCompressor::new(&mut buffer)).unwrap();
            let name = request.sole_question().unwrap();
            let mut answer = builder.start_answer(&request, DomainRcode::NOERROR).unwrap();
            answer.header_mut().set_aa(true);
            for (target, _) in &domain {
                let data = domain::rdata::Srv::new(0, 20, 8080, target);
                answer.push((name.qname(), Class::IN, ttl, data)).unwrap();
            }
            let mut additional = answer.additional();
            for (target, addr) in &domain {
                additional.push((target, Class::IN, ttl, domain::rdata::A::new(*addr))).unwrap();
            }
        });
    });
}

fn large() -> Vec<Object> {
    let cluster = Shape::limits().pods_per_service(10).generate();
    let namespaces = cluster.namespaces.iter().cloned().map(Object::from);
    let services = cluster.services.iter().cloned().map(Object::from);
    let slices = cluster.endpoint_slices().into_iter().map(Object::from);
    namespaces.chain(services).chain(slices).collect()
}

fn clusters(c: &mut Criterion) {
    let objects = large();
    let build = || {
        let mut zones = Zones::new(options()).unwrap();
        drop(zones.replace_all(&objects));
        zones
    };
    let mut zones = None;
    let held = allocation_counter::measure(|| zones = Some(build())).bytes_current;
    let mut zones = zones.unwrap();
    let services = objects.iter().filter(|object| matches!(object, Object::Service(_))).count();
    let ready = objects.iter().map(|object| match object {
        Object::EndpointSlice(slice) => {
            slice.endpoints.iter().filter(|endpoint| endpoint.conditions.is_ready()).count()
        }
        _ => 0,
    });
    let endpoints: usize = ready.sum();
    println!(
        "memory: {services} Services, {endpoints} ready endpoints, {} objects: {held} bytes, {} a ready endpoint, {} an object",
        objects.len(),
        held / endpoints as i64,
        held / objects.len() as i64,
    );
    let mut group = c.benchmark_group("zones");
    group.sample_size(10);
    group.bench_function("build 10,000 Services", |b| {
        b.iter_batched(|| (), |()| build(), BatchSize::PerIteration)
    });
    group.bench_function("list 10,000 Services", |b| b.iter(|| zones.records().count()));
    group.finish();

    // The largest Service loses and regains one endpoint.
    let largest = objects.iter().filter_map(|object| match object {
        Object::EndpointSlice(slice) => Some(slice),
        _ => None,
    });
    let largest = largest.max_by_key(|slice| slice.endpoints.len()).unwrap().clone();
    let mut without = largest.clone();
    without.endpoints.pop();
    let both = [Object::from(without), Object::from(largest.clone())];
    let mut turn = 0;
    c.bench_function(&format!("change/endpoint of a slice of {}", largest.endpoints.len()), |b| {
        b.iter(|| {
            turn += 1;
            black_box(zones.apply(&both[turn % 2]));
        });
    });
    c.bench_function(
        &format!("change/endpoint of a slice of {}, as records", largest.endpoints.len()),
        |b| {
            b.iter(|| {
                turn += 1;
                zones.apply(&both[turn % 2]).records()
            });
        },
    );
    let mut small = small();
    let both = [slice("db", 0, 4, false), slice("db", 0, 4, true)];
    c.bench_function("change/endpoint of 4", |b| {
        b.iter(|| {
            turn += 1;
            black_box(small.apply(&both[turn % 2]));
        });
    });
    let names: Vec<Vec<u8>> = objects
        .iter()
        .filter(|object| matches!(object, Object::Service(_)))
        .map(|object| {
            let metadata = object.metadata();
            query(&format!("{}.{}.svc.cluster.local", metadata.name, metadata.namespace), Type::A)
        })
        .collect();
    let mut out = [0; 1232];
    c.bench_function("answer/a over 10,000 Services in turn", |b| {
        b.iter(|| {
            turn += 1;
            zones.respond(&names[(turn * 7919) % names.len()], Transport::Tcp, &NoUpstream, &mut out)
        });
    });
}

fn environment(c: &mut Criterion) {
    let cluster = Shape::of_services(1_000).generate();
    let mut services: Vec<Service> = cluster.services;
    services.iter_mut().for_each(|service| service.metadata.namespace = "shop".into());
    c.bench_function("env/1,000 Services", |b| {
        b.iter(|| ServiceEnv::of(black_box(&services), "shop", ServiceLinks::Enabled));
    });
}

criterion_group!(benches, answers, peers, clusters, environment);
criterion_main!(benches);
