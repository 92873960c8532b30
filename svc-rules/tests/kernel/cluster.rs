//! The Services of the lab: one for each behaviour, the same for every backend.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use svc_endpoints::view::SliceCache;
use svc_model::{EndpointSlice, IpFamily, Service};
use svc_rules::packet::{Family, Transport};
use svc_rules::{LocalDetector, ProxyConfig};

use crate::lab::{ALLOWED_NETWORK, NODE_PORT_OWN, POD_NETWORK, POD_PORT, Place, of};
use crate::probe::{Expect, Probe};

/// Addresses of Services, by family.
const CLUSTER: [&str; 2] = ["172.30.0.", "fd00:172:30::"];
const EXTERNAL: [&str; 2] = ["203.0.113.", "2001:db8:abcd::"];

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Name, last part of its addresses, ports and policies of a Service.
struct Plan {
    name: &'static str,
    number: u8,
    endpoints: &'static [Place],
    /// More fields of `spec`.
    spec: fn(Family) -> Value,
    load_balancer: bool,
}

const PLANS: [Plan; 9] = [
    Plan {
        name: "web",
        number: 1,
        endpoints: &[Place::Pod1, Place::Pod2, Place::Remote],
        spec: |family| json!({"externalIPs": [address(EXTERNAL, 1, family)], "type": "NodePort"}),
        load_balancer: false,
    },
    Plan {
        name: "ranges",
        number: 2,
        endpoints: &[Place::Pod1],
        spec: |family| json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [of(ALLOWED_NETWORK, family)]}),
        load_balancer: true,
    },
    Plan {
        name: "sticky",
        number: 3,
        endpoints: &[Place::Pod1, Place::Pod2, Place::Remote],
        spec: |_| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        load_balancer: false,
    },
    Plan { name: "alone", number: 4, endpoints: &[Place::Pod1], spec: |_| json!({}), load_balancer: false },
    Plan {
        name: "local",
        number: 5,
        endpoints: &[Place::Pod2, Place::Remote],
        spec: |_| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
        load_balancer: true,
    },
    Plan {
        name: "away",
        number: 6,
        endpoints: &[Place::Remote],
        spec: |_| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
        load_balancer: true,
    },
    Plan {
        name: "none",
        number: 7,
        endpoints: &[],
        spec: |family| json!({"externalIPs": [address(EXTERNAL, 7, family)], "type": "NodePort"}),
        load_balancer: false,
    },
    Plan {
        name: "inside",
        number: 8,
        endpoints: &[Place::Pod1, Place::Remote],
        spec: |_| json!({"internalTrafficPolicy": "Local"}),
        load_balancer: false,
    },
    Plan {
        name: "nowhere",
        number: 9,
        endpoints: &[Place::Remote],
        spec: |_| json!({"internalTrafficPolicy": "Local"}),
        load_balancer: false,
    },
];

fn address(range: [&str; 2], number: u8, family: Family) -> String {
    format!("{}{number}", of(range, family))
}

fn plan(name: &str) -> &'static Plan {
    PLANS.iter().find(|plan| plan.name == name).unwrap()
}

/// Address and port of a Service's cluster IP.
pub(crate) fn cluster_ip(name: &str, family: Family) -> SocketAddr {
    SocketAddr::new(address(CLUSTER, plan(name).number, family).parse().unwrap(), 80)
}

/// Address and port of a Service's external IP or load balancer address.
pub(crate) fn external_ip(name: &str, family: Family) -> SocketAddr {
    SocketAddr::new(address(EXTERNAL, plan(name).number, family).parse().unwrap(), 80)
}

/// A Service's node port at an address.
pub(crate) fn node_port(name: &str, at: IpAddr) -> SocketAddr {
    SocketAddr::new(at, 30_000 + u16::from(plan(name).number))
}

/// The objects, as the API server has them.
pub(crate) fn objects(family: Family) -> (Vec<Service>, Vec<EndpointSlice>) {
    PLANS.iter().map(|plan| (service(plan, family), slice(plan.name, plan.endpoints, family))).unzip()
}

fn service(plan: &Plan, family: Family) -> Service {
    let cluster_ip = address(CLUSTER, plan.number, family);
    let mut spec = json!({
        "type": "ClusterIP",
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "ipFamilies": [of(["IPv4", "IPv6"], family)],
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
    });
    for (key, value) in (plan.spec)(family).as_object().unwrap() {
        spec[key] = value.clone();
    }
    let exposed = spec["type"] != "ClusterIP";
    let node_port = 30_000 + u16::from(plan.number);
    let ports = PROTOCOLS.map(|protocol| {
        let mut port = json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": 80, "targetPort": POD_PORT});
        if exposed {
            port["nodePort"] = json!(node_port);
        }
        port
    });
    spec["ports"] = json!(ports);
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "lab", "name": plan.name}, "spec": spec,
    });
    if plan.load_balancer {
        object["status"] =
            json!({"loadBalancer": {"ingress": [{"ip": address(EXTERNAL, plan.number, family)}]}});
    }
    serde_json::from_value(object).unwrap()
}

/// The slice of a Service with these endpoints; all but the remote pod are on this node.
pub(crate) fn slice(service: &str, endpoints: &[Place], family: Family) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|place| {
            let node = if *place == Place::Remote { "elsewhere" } else { "here" };
            json!({"addresses": [place.address(family)], "conditions": {"ready": true}, "nodeName": node})
        })
        .collect();
    let ports = PROTOCOLS
        .map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": POD_PORT}));
    serde_json::from_value(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": "lab", "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": of(["IPv4", "IPv6"], family), "endpoints": endpoints, "ports": ports,
    }))
    .unwrap()
}

/// The slices in a cache.
pub(crate) fn cache(slices: &[EndpointSlice]) -> SliceCache {
    let mut cache = SliceCache::new();
    for slice in slices {
        let _ = cache.apply(slice);
    }
    cache
}

/// The proxy's configuration on the lab's node.
pub(crate) fn config(family: Family) -> ProxyConfig {
    let mut config = ProxyConfig::new(of([IpFamily::Ipv4, IpFamily::Ipv6], family), "here");
    config.node_ip = Some(Place::Node.address(family));
    config.node_addresses = vec![Place::Node.address(family)];
    config.local_detector = LocalDetector::Cidr(of(POD_NETWORK, family).parse().unwrap());
    config.localhost_node_ports = family == Family::V4;
    config.random_fully = true;
    config
}

/// Every behaviour, as connections. What differs between backends is left to each of them.
pub(crate) fn probes(family: Family) -> Vec<Probe> {
    use Expect::{Hairpin, Masqueraded, Open, Refused, Silent};
    use Place::{Allowed, Node, Outside, Pod1, Pod2, Remote};
    const ALL: &[Place] = &[Pod1, Pod2, Remote];
    let node = Node.address(family);
    let both = |from, to, expect| {
        [Transport::TCP, Transport::UDP].map(|transport| Probe { from, transport, to, expect })
    };
    let sctp = |from, to, expect| [Probe { from, transport: Transport::SCTP, to, expect }];
    let tcp = |from, to, expect| [Probe { from, transport: Transport::TCP, to, expect }];
    let mut probes = Vec::new();
    // ClusterIP: pods keep their address except to themselves; who is no pod is masqueraded.
    probes.extend(both(Pod1, cluster_ip("web", family), Hairpin(ALL)));
    probes.extend(both(Pod1, cluster_ip("alone", family), Hairpin(&[Pod1])));
    probes.extend(tcp(Pod2, cluster_ip("alone", family), Open(&[Pod1])));
    probes.extend(both(Outside, cluster_ip("web", family), Masqueraded(ALL)));
    probes.extend(both(Node, cluster_ip("web", family), Masqueraded(ALL)));
    // NodePort and external IP.
    probes.extend(both(Outside, node_port("web", node), Masqueraded(ALL)));
    probes.extend(tcp(Pod1, node_port("web", node), Masqueraded(ALL)));
    probes.extend(tcp(Node, node_port("web", node), Masqueraded(ALL)));
    probes.extend(both(Outside, external_ip("web", family), Masqueraded(ALL)));
    probes.extend(tcp(Pod2, external_ip("web", family), Masqueraded(ALL)));
    // A load balancer address with source ranges; the node port of the same Service has none.
    probes.extend(both(Allowed, external_ip("ranges", family), Masqueraded(&[Pod1])));
    probes.extend(both(Outside, external_ip("ranges", family), Silent));
    probes.extend(tcp(Pod2, external_ip("ranges", family), Silent));
    probes.extend(tcp(Outside, node_port("ranges", node), Masqueraded(&[Pod1])));
    // externalTrafficPolicy: Local, with an endpoint here.
    probes.extend(both(Outside, external_ip("local", family), Open(&[Pod2])));
    probes.extend(tcp(Outside, node_port("local", node), Open(&[Pod2])));
    probes.extend(tcp(Pod1, external_ip("local", family), Open(&[Pod2, Remote])));
    probes.extend(tcp(Node, external_ip("local", family), Masqueraded(&[Pod2, Remote])));
    // The same without one: outsiders get nothing, the cluster's own are sent on.
    probes.extend(both(Outside, external_ip("away", family), Silent));
    probes.extend(tcp(Outside, node_port("away", node), Silent));
    probes.extend(tcp(Pod1, external_ip("away", family), Open(&[Remote])));
    probes.extend(tcp(Node, external_ip("away", family), Masqueraded(&[Remote])));
    // No endpoints at all.
    probes.extend(both(Pod1, cluster_ip("none", family), Refused));
    probes.extend(both(Outside, external_ip("none", family), Refused));
    probes.extend(both(Outside, node_port("none", node), Refused));
    probes.extend(tcp(Node, cluster_ip("none", family), Refused));
    // internalTrafficPolicy: Local.
    probes.extend(tcp(Pod2, cluster_ip("inside", family), Open(&[Pod1])));
    probes.extend(tcp(Pod2, cluster_ip("nowhere", family), Silent));
    // SCTP, as far as its rules are its own.
    probes.extend(sctp(Pod1, cluster_ip("web", family), Hairpin(ALL)));
    probes.extend(sctp(Outside, node_port("web", node), Masqueraded(ALL)));
    probes.extend(sctp(Outside, external_ip("local", family), Open(&[Pod2])));
    probes.extend(sctp(Allowed, external_ip("ranges", family), Masqueraded(&[Pod1])));
    probes.extend(sctp(Outside, external_ip("ranges", family), Silent));
    probes.extend(sctp(Outside, node_port("none", node), Refused));
    // What is no Service's goes its own way.
    probes.extend(tcp(Outside, SocketAddr::new(node, NODE_PORT_OWN), Open(&[Node])));
    probes.extend(tcp(Pod1, SocketAddr::new(Pod2.address(family), POD_PORT), Open(&[Pod2])));
    probes
}
