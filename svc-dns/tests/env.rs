//! The environment variables of random Services, against a twin that writes each one out and looks for clashes in a map.

#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test may stop at the first surprise, and runs where std is"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use svc_dns::{ServiceEnv, ServiceLinks};
use svc_model::{ObjectMeta, Service, ServicePort, ServiceSpec};

/// Every variable, those that another of the same name hides too.
fn every(services: &[&Service]) -> Vec<(String, String)> {
    let upper = |text: &str| text.replace('-', "_").to_uppercase();
    let mut vars = Vec::new();
    for service in services {
        let host = service.spec.cluster_ip.to_text();
        let Some(first) = service.spec.ports.first() else { continue };
        if host.is_empty() || host == "None" {
            continue;
        }
        let joined = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let protocol = |port: &ServicePort| match port.protocol.to_text() {
            text if text.is_empty() => "TCP".to_owned(),
            text => text.to_string(),
        };
        let url = |port: &ServicePort| {
            format!("{}://{joined}:{}", protocol(port).to_lowercase(), port.port.value())
        };
        let prefix = upper(&service.metadata.name);
        vars.push((format!("{prefix}_SERVICE_HOST"), host.to_string()));
        vars.push((format!("{prefix}_SERVICE_PORT"), first.port.value().to_string()));
        for port in service.spec.ports.iter().filter(|port| !port.name.is_empty()) {
            let name = format!("{prefix}_SERVICE_PORT_{}", upper(&port.name));
            vars.push((name, port.port.value().to_string()));
        }
        vars.push((format!("{prefix}_PORT"), url(first)));
        for port in &service.spec.ports {
            let stem = format!("{prefix}_PORT_{}_{}", port.port.value(), protocol(port).to_uppercase());
            vars.push((stem.clone(), url(port)));
            vars.push((format!("{stem}_PROTO"), protocol(port).to_lowercase()));
            vars.push((format!("{stem}_PORT"), port.port.value().to_string()));
            vars.push((format!("{stem}_ADDR"), host.to_string()));
        }
    }
    vars
}

fn port() -> impl Strategy<Value = ServicePort> {
    let name = prop::sample::select(vec!["", "http", "http-2", "HTTP", "80-tcp"]);
    let protocol = prop::sample::select(vec!["", "TCP", "UDP", "tcp", "TCP_PROTO"]);
    (name, protocol, prop::sample::select(vec![80, 81, 8080])).prop_map(|(name, protocol, number)| {
        ServicePort {
            name: name.into(),
            protocol: protocol.into(),
            port: number.into(),
            ..ServicePort::default()
        }
    })
}

fn service() -> impl Strategy<Value = Service> {
    let name = prop::sample::select(vec![
        "a",
        "a-service",
        "a-port",
        "a-service-port",
        "a-port-80",
        "A",
        "a_port",
        "b",
        "kubernetes",
    ]);
    let namespace = prop::sample::select(vec!["default", "shop"]);
    let ip = prop::sample::select(vec!["", "None", "10.0.0.1", "fd00::1", "010.0.0.1"]);
    (name, namespace, ip, prop::collection::vec(port(), 0..3)).prop_map(|(name, namespace, ip, ports)| {
        Service {
            metadata: ObjectMeta::new(namespace, name),
            spec: ServiceSpec { cluster_ip: ip.into(), ports, ..ServiceSpec::default() },
            ..Service::default()
        }
    })
}

proptest! {
    #[test]
    fn clashes_are_found_and_the_last_variable_counts(services in prop::collection::vec(service(), 0..6)) {
        let env = ServiceEnv::in_order(&services);
        let all = every(&services.iter().collect::<Vec<_>>());
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &all {
            by_name.entry(name).or_default().push(value);
        }
        let got: BTreeMap<&str, &str> = env.vars().map(|var| (var.name, var.value)).collect();
        prop_assert_eq!(got.len(), env.len());
        let expected: BTreeMap<&str, &str> =
            by_name.iter().map(|(name, values)| (*name, *values.last().unwrap())).collect();
        prop_assert_eq!(got, expected);
        let clashes: Vec<(&str, Vec<&str>)> = env
            .clashes()
            .map(|clash| (clash.name, clash.vars.iter().map(|var| var.value).collect()))
            .collect();
        let expected: Vec<(&str, Vec<&str>)> =
            by_name.into_iter().filter(|(_, values)| values.len() > 1).collect();
        prop_assert_eq!(clashes, expected);
        prop_assert_eq!(env.bytes(), env.vars().map(|var| var.name.len() + var.value.len() + 2).sum::<usize>());
    }

    /// Services are chosen by namespace and name, whatever their order.
    #[test]
    fn a_pod_sees_its_namespace_and_the_master(services in prop::collection::vec(service(), 0..8), on: bool) {
        let links = if on { ServiceLinks::Enabled } else { ServiceLinks::Disabled };
        let env = ServiceEnv::of(&services, "shop", links);
        let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
        for service in &services {
            let ip = service.spec.cluster_ip.to_text();
            let (namespace, name) = (&*service.metadata.namespace, &*service.metadata.name);
            if ip.is_empty() || ip == "None" {
                continue;
            }
            if on && namespace == "shop" {
                chosen.insert(name, service);
            } else if (namespace, name) == ("default", "kubernetes") {
                chosen.entry(name).or_insert(service);
            }
        }
        prop_assert_eq!(env, ServiceEnv::in_order(chosen.into_values()));
    }
}
