//! Clusters of equal Services, as kube-proxy was measured: one TCP port at a cluster address each, and so many endpoints
//! in one slice.

use std::net::IpAddr;

use svc_model::{
    AddressType, Endpoint, EndpointPort, EndpointSlice, Labels, ObjectMeta, Port, Protocol, Service,
    ServicePort,
};

fn namespace(at: usize) -> String {
    format!("ns-{}", at % 50)
}

/// Service number `at`.
pub fn service(at: usize) -> Service {
    let mut service =
        Service { metadata: ObjectMeta::new(namespace(at), format!("svc-{at}")), ..Service::default() };
    let [_, _, high, low] = (at as u32).to_be_bytes();
    service.spec.cluster_ip = IpAddr::from([172, 30, high, low]).into();
    service.spec.ports = vec![ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp.into(),
        port: Port::from(80),
        ..ServicePort::default()
    }];
    service
}

/// The slice of Service number `at`; in `round` 1 its last endpoint has another address than in `round` 0.
pub fn slice(at: usize, endpoints: usize, round: usize) -> EndpointSlice {
    let mut metadata = ObjectMeta::new(namespace(at), format!("svc-{at}-abcde"));
    metadata.labels = Labels::from_iter([(svc_model::SERVICE_NAME_LABEL, format!("svc-{at}"))]);
    let endpoint = |number: usize| {
        let moved = if number == endpoints - 1 { round } else { 0 };
        let [_, a, b, c] = ((at * endpoints + number) as u32 * 2 + moved as u32).to_be_bytes();
        Endpoint {
            addresses: vec![IpAddr::from([10, a, b, c]).into()],
            node_name: Some(format!("node-{}", number * 7 % 100).into()),
            ..Endpoint::default()
        }
    };
    EndpointSlice {
        metadata,
        address_type: AddressType::Ipv4.into(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        ports: vec![EndpointPort {
            name: Some("http".into()),
            port: Some(Port::from(8080)),
            protocol: Some(Protocol::Tcp.into()),
            ..EndpointPort::default()
        }],
    }
}
