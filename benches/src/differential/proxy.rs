//! Clusters as kube-proxy sees them: Services and slices, step by step.

use serde_json::{Value, json};

use super::names::{NAMESPACES, NODES, ZONES, maybe, metadata, one, percent, service_name, some, tristate};
use crate::generate::Random;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A case of area `iptables`.
pub(super) fn iptables(random: &mut Random) -> Value {
    Maker::new(random, "iptables").make()
}

/// A case of area `nftables`.
pub(super) fn nftables(random: &mut Random) -> Value {
    Maker::new(random, "nftables").make()
}

/// A case of area `ipvs`.
pub(super) fn ipvs(random: &mut Random) -> Value {
    Maker::new(random, "ipvs").make()
}

struct Maker<'a> {
    random: &'a mut Random,
    area: &'static str,
    /// Services that exist or did, by number: they keep namespace, name and addresses.
    services: Vec<Known>,
    slices: Vec<Value>,
    slice_names: usize,
}

#[derive(Clone)]
struct Known {
    number: usize,
    namespace: &'static str,
    name: String,
    ports: Vec<(String, &'static str, usize)>,
    object: Option<Value>,
}

impl<'a> Maker<'a> {
    fn new(random: &'a mut Random, area: &'static str) -> Self {
        Self { random, area, services: Vec::new(), slices: Vec::new(), slice_names: 0 }
    }

    fn make(mut self) -> Value {
        let config = self.config();
        let mut apply = Vec::new();
        for _ in 0..self.random.between(1, 4) {
            self.add_service(&mut apply);
        }
        let mut steps = vec![json!({"apply": apply, "delete": []})];
        for _ in 0..self.random.between(1, 5) {
            let step = self.step();
            steps.push(step);
        }
        json!({"area": self.area, "config": config, "steps": steps})
    }

    fn config(&mut self) -> Value {
        let r = &mut *self.random;
        let v6 = percent(r, 40);
        let detectors = if v6 {
            [("ClusterCIDR", "fd00:10::/64"), ("NodeCIDR", "fd00:10:0:7::/80")]
        } else {
            [("ClusterCIDR", "10.244.0.0/16"), ("NodeCIDR", "10.244.7.0/24")]
        };
        let detector = match r.below(5) {
            at @ 0..2 => json!({"mode": detectors[at].0, "value": detectors[at].1}),
            2 => json!({"mode": "BridgeInterface", "value": "cbr0"}),
            3 => json!({"mode": "InterfaceNamePrefix", "value": "veth"}),
            _ => json!({"mode": "None", "value": ""}),
        };
        let ranges = one(
            r,
            &[
                json!([]),
                json!([]),
                json!(["127.0.0.0/8", "::1/128"]),
                json!(["192.168.7.0/24", "2001:db8:7::/64"]),
                json!(["192.168.7.10/32", "127.0.0.0/8", "2001:db8:7::11/128"]),
                json!(["2001:db8:7::/64"]),
                json!(["10.0.0.0/8"]),
                json!(["0.0.0.0/0", "::/0"]),
            ],
        );
        let nfacct =
            some(r, &["ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"].map(Value::from), 50);
        let mut config = json!({
            "family": if v6 { "IPv6" } else { "IPv4" },
            "nodeName": NODES[0],
            "nodeIP": if v6 { "2001:db8:7::10" } else { "192.168.7.10" },
            "nodeAddresses": ["10.99.0.5", "127.0.0.1", "192.168.7.10", "192.168.7.11",
                "2001:db8:7::10", "2001:db8:7::11", "::1", "fe80::1"],
            "nodePortAddresses": ranges,
            "masqueradeAll": percent(r, 20),
            "masqueradeBit": *r.pick(&[14, 14, 15, 0, 31]),
            "localDetector": detector,
            "localhostNodePorts": percent(r, 70),
            "randomFully": percent(r, 50),
            "conntrackTCPLiberal": percent(r, 20),
            "nfacct": nfacct,
            "topologyLabels": topology(r),
        });
        match self.area {
            "nftables" => config["serviceCIDRs"] = service_cidrs(r),
            "ipvs" => {
                config["scheduler"] = json!(*r.pick(&["rr", "wrr", "lc", "sh", "mh", "sed"]));
                config["strictARP"] = json!(percent(r, 20));
                config["excludeCIDRs"] =
                    one(r, &[json!([]), json!([]), json!(["203.0.113.0/24", "2001:db8:99::/64"])]);
            }
            _ => {}
        }
        config
    }

    fn add_service(&mut self, apply: &mut Vec<Value>) {
        let number = self.services.len() + 2;
        let mut ports = Vec::new();
        let count = *self.random.pick(&[1, 1, 1, 2, 2, 3]);
        for at in 0..count {
            let name = match (count, self.random.below(3)) {
                (1, 0) => String::new(),
                (_, 1) => format!("p{at}"),
                _ => format!("http-{at}"),
            };
            let protocol = *self.random.pick(&["TCP", "TCP", "TCP", "UDP", "SCTP"]);
            // The same number twice, where the protocols differ.
            let port = if at > 0 && percent(self.random, 30) { 80 } else { 80 + at * 363 };
            if ports.iter().any(|(_, p, n): &(_, &str, usize)| *p == protocol && *n == port) {
                continue;
            }
            ports.push((name, protocol, port));
        }
        let namespace = *self.random.pick(&NAMESPACES);
        let name = service_name(self.random, number);
        self.services.push(Known { number, namespace, name, ports, object: None });
        let at = self.services.len() - 1;
        if percent(self.random, 95) {
            self.write_service(at, apply);
        }
        for _ in 0..self.random.below(4) {
            self.add_slice(at, apply);
        }
    }

    /// Writes a Service anew: same name, addresses and ports, everything else drawn again.
    fn write_service(&mut self, at: usize, apply: &mut Vec<Value>) {
        let known = self.services[at].clone();
        let object = self.service(&known);
        self.services[at].object = Some(object.clone());
        apply.push(object);
    }

    fn service(&mut self, known: &Known) -> Value {
        let r = &mut *self.random;
        let n = known.number;
        let (v4, v6) = (format!("172.30.0.{n}"), format!("fd00:10:96::{n:x}"));
        let mut spec = json!({"selector": {"app": known.name}});
        let kind = *r.pick(&[
            "ClusterIP",
            "ClusterIP",
            "NodePort",
            "NodePort",
            "LoadBalancer",
            "LoadBalancer",
            "LoadBalancer",
            "ExternalName",
        ]);
        spec["type"] = json!(kind);
        match r.below(10) {
            0..4 => set_ips(&mut spec, &[&v4], "SingleStack"),
            4..6 => set_ips(&mut spec, &[&v6], "SingleStack"),
            6..9 => set_ips(&mut spec, &[&v4, &v6], "PreferDualStack"),
            _ => set_ips(&mut spec, &[&v6, &v4], "RequireDualStack"),
        }
        if kind == "ExternalName" {
            spec = json!({"type": kind, "externalName": "example.com"});
        } else if kind == "ClusterIP" && percent(r, 10) {
            spec["clusterIP"] = json!("None");
            spec["clusterIPs"] = json!(["None"]);
        } else if percent(r, 8) {
            // As old clusters have it.
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if let Some(map) = spec.as_object_mut() {
                    map.remove(key);
                }
            }
        }
        let mut ports = Vec::new();
        for (at, (name, protocol, port)) in known.ports.iter().enumerate() {
            let mut value = json!({"protocol": protocol, "port": port, "targetPort": 8080 + at});
            if !name.is_empty() {
                value["name"] = json!(name);
            }
            if matches!(kind, "NodePort" | "LoadBalancer") && percent(r, 90) {
                value["nodePort"] = json!(30_000 + n * 10 + at);
            }
            maybe(r, 10, &mut value, "appProtocol", json!("http"));
            ports.push(value);
        }
        spec["ports"] = json!(ports);
        self.policies(&mut spec, kind, n);
        let mut status = json!({});
        if kind == "LoadBalancer" {
            self.load_balancer(&mut spec, &mut status, n);
        }
        let r = &mut *self.random;
        let mut metadata = metadata(known.namespace, &known.name);
        maybe(r, 10, &mut metadata, "annotations", json!({"service.kubernetes.io/topology-mode": "Auto"}));
        maybe(r, 10, &mut metadata, "labels", json!({"team": "a"}));
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        if status != json!({}) {
            service["status"] = status;
        }
        service
    }

    fn policies(&mut self, spec: &mut Value, kind: &str, n: usize) {
        let r = &mut *self.random;
        if percent(r, 25) {
            spec["sessionAffinity"] = json!("ClientIP");
            // Of a Service always the same: kube-proxy in nftables mode leaves the set of an endpoint at the first one.
            let seconds = [1, 60, 10_800, 86_400][n % 4];
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
        } else {
            spec["sessionAffinity"] = json!("None");
        }
        let policies = [json!("Cluster"), json!("Local")];
        let policy = one(r, &policies);
        maybe(r, 70, spec, "internalTrafficPolicy", policy);
        if kind != "ClusterIP" || percent(r, 20) {
            let policy = one(r, &policies);
            maybe(r, 90, spec, "externalTrafficPolicy", policy);
        }
        if kind != "ExternalName" && percent(r, 25) {
            let external =
                [format!("198.51.100.{n}"), format!("2001:db8:98::{n:x}"), format!("198.51.101.{n}")];
            spec["externalIPs"] = json!(some(r, &external, 60));
        }
        maybe(r, 10, spec, "publishNotReadyAddresses", json!(true));
        let distribution = one(r, &["PreferClose", "PreferSameZone", "PreferSameNode"].map(Value::from));
        maybe(r, 20, spec, "trafficDistribution", distribution);
    }

    fn load_balancer(&mut self, spec: &mut Value, status: &mut Value, n: usize) {
        let r = &mut *self.random;
        let mut ingress = Vec::new();
        for ip in [format!("203.0.113.{n}"), format!("2001:db8:99::{n:x}"), format!("203.0.114.{n}")] {
            if !percent(r, 60) {
                continue;
            }
            let mut value = json!({"ip": ip});
            let mode = one(r, &["VIP", "VIP", "Proxy"].map(Value::from));
            maybe(r, 60, &mut value, "ipMode", mode);
            ingress.push(value);
        }
        if percent(r, 10) {
            ingress.push(json!({"hostname": "lb.example.com"}));
        }
        if !ingress.is_empty() {
            *status = json!({"loadBalancer": {"ingress": ingress}});
        }
        let ranges = [
            "10.0.0.0/8",
            "192.168.7.0/24",
            "192.168.7.10/32",
            " 203.0.113.0/25",
            "0.0.0.0/0",
            "2001:db8:7::/64",
            "::/0",
            "fd00::/8",
            "10.99.0.5/32",
            "1.2.3.4/32",
        ];
        if percent(r, 40) {
            spec["loadBalancerSourceRanges"] = json!(some(r, &ranges, 20));
        }
        if spec["externalTrafficPolicy"] == "Local" && percent(r, 80) {
            spec["healthCheckNodePort"] = json!(31_000 + n);
        }
        maybe(r, 10, spec, "loadBalancerClass", json!("example.com/lb"));
        maybe(r, 10, spec, "allocateLoadBalancerNodePorts", json!(false));
    }

    fn add_slice(&mut self, service: usize, apply: &mut Vec<Value>) {
        let known = self.services[service].clone();
        self.slice_names += 1;
        let name = format!("{}-{}", known.name, self.slice_names);
        let slice = self.slice(&known, &name);
        self.slices.push(slice.clone());
        apply.push(slice);
    }

    fn slice(&mut self, known: &Known, name: &str) -> Value {
        let r = &mut *self.random;
        let kind = *r.pick(&["IPv4", "IPv4", "IPv4", "IPv4", "IPv6", "IPv6", "IPv6", "IPv6", "FQDN"]);
        let mut endpoints: Vec<Value> = Vec::new();
        for _ in 0..r.below(5) {
            let fresh = endpoint(r, kind);
            if !has_address(&endpoints, &fresh) && !elsewhere(&self.slices, "", &fresh) {
                endpoints.push(fresh);
            }
        }
        // An endpoint on its way from one slice to another, or a Pod whose address is in use again.
        if percent(r, 15)
            && let Some(other) = self.slices.last()
            && other["addressType"] == kind
            && other["metadata"]["labels"]["kubernetes.io/service-name"] == known.name.as_str()
            && let Some(twin) = other["endpoints"].get(0)
        {
            let mut twin = twin.clone();
            if twin["conditions"]["terminating"] != true && percent(r, 60) {
                twin["conditions"] = json!({"ready": false, "serving": percent(r, 70), "terminating": true});
            }
            if !has_address(&endpoints, &twin) {
                endpoints.push(twin);
            }
        }
        let mut ports = Vec::new();
        for (at, (name, protocol, _)) in known.ports.iter().enumerate() {
            if percent(r, 7) {
                continue;
            }
            let number = if percent(r, 15) { 9090 + at } else { 8080 + at };
            let mut port = json!({"name": name, "protocol": protocol, "port": number});
            if percent(r, 3) {
                port["port"] = Value::Null;
            }
            if name.is_empty() && percent(r, 5) {
                port["name"] = Value::Null;
            }
            maybe(r, 10, &mut port, "appProtocol", json!("http"));
            ports.push(port);
        }
        if percent(r, 5) {
            ports.push(json!({"name": "other", "protocol": "TCP", "port": 1234}));
        }
        let mut metadata = metadata(known.namespace, name);
        if percent(r, 97) {
            metadata["labels"] = json!({"kubernetes.io/service-name": known.name});
        }
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": kind, "endpoints": endpoints, "ports": ports})
    }

    fn step(&mut self) -> Value {
        let mut apply = Vec::new();
        let mut delete = Vec::new();
        for _ in 0..*self.random.pick(&[0, 1, 1, 1, 1, 2, 2, 3]) {
            self.change(&mut apply, &mut delete);
        }
        let mut step = json!({"apply": apply, "delete": delete});
        let r = &mut *self.random;
        if percent(r, 7) {
            step["topologyLabels"] = topology(r);
        }
        if self.area == "nftables" {
            if percent(r, 5) {
                step["serviceCIDRs"] = service_cidrs(r);
            }
            maybe(r, 30, &mut step, "aged", json!(true));
        }
        step
    }

    fn change(&mut self, apply: &mut Vec<Value>, delete: &mut Vec<Value>) {
        let service = self.random.below(self.services.len());
        let slice = self.random.below(self.slices.len());
        match self.random.below(12) {
            0 => self.add_service(apply),
            1 | 2 => self.write_service(service, apply),
            3 => {
                // One field alone.
                let Some(mut object) = self.services[service].object.clone() else { return };
                let known = self.services[service].clone();
                let other = self.service(&known);
                let keys: Vec<String> =
                    other["spec"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
                let key = self.random.pick(&keys).clone();
                if object["spec"]["type"] == "ExternalName"
                    || [
                        "type",
                        "clusterIP",
                        "clusterIPs",
                        "ipFamilies",
                        "ipFamilyPolicy",
                        "sessionAffinity",
                        "sessionAffinityConfig",
                    ]
                    .contains(&key.as_str())
                {
                    object = other;
                } else {
                    object["spec"][&key] = other["spec"][&key].clone();
                }
                self.services[service].object = Some(object.clone());
                apply.push(object);
            }
            4 => {
                let known = &mut self.services[service];
                known.object = None;
                delete.push(json!({"kind": "Service", "namespace": known.namespace, "name": known.name}));
            }
            5 => self.add_slice(service, apply),
            _ if self.slices.is_empty() => self.add_slice(service, apply),
            6 => {
                let gone = self.slices.swap_remove(slice);
                let metadata = &gone["metadata"];
                delete.push(json!({"kind": "EndpointSlice", "namespace": metadata["namespace"], "name": metadata["name"]}));
            }
            7 => apply.push(self.slices[slice].clone()),
            _ => {
                let kind = self.slices[slice]["addressType"].as_str().unwrap_or("IPv4").to_owned();
                let name = self.slices[slice]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let fresh = endpoint(self.random, &kind);
                let at = self.random.below(self.slices[slice]["endpoints"].as_array().map_or(0, Vec::len));
                let twin = elsewhere(&self.slices, &name, &self.slices[slice]["endpoints"][at]);
                let taken = elsewhere(&self.slices, &name, &fresh);
                let Some(endpoints) = self.slices[slice]["endpoints"].as_array_mut() else { return };
                match self.random.below(4) {
                    1 if !endpoints.is_empty() => drop(endpoints.remove(at)),
                    2 | 3 if !endpoints.is_empty() && !twin => {
                        endpoints[at]["conditions"] = fresh["conditions"].clone();
                    }
                    _ if !has_address(endpoints, &fresh) && !taken => endpoints.push(fresh),
                    _ => {}
                }
                apply.push(self.slices[slice].clone());
            }
        }
    }
}

fn set_ips(spec: &mut Value, ips: &[&str], policy: &str) {
    spec["clusterIP"] = json!(ips[0]);
    spec["clusterIPs"] = json!(ips);
    spec["ipFamilyPolicy"] = json!(policy);
    spec["ipFamilies"] =
        ips.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).map(Value::from).collect();
}

fn topology(random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!({}),
        1 => json!({ZONE_LABEL: "zone-9"}),
        _ => json!({ZONE_LABEL: *random.pick(&ZONES)}),
    }
}

fn service_cidrs(random: &mut Random) -> Value {
    one(
        random,
        &[
            json!([]),
            json!(["172.30.0.0/16", "fd00:10:96::/112"]),
            json!(["172.30.0.0/16", "10.96.0.0/12"]),
            json!(["fd00:10:96::/112"]),
        ],
    )
}

/// Whether the endpoint's address stands in a slice other than the named one. Kubernetes defines what that means only
/// if both are the same or one is terminating.
fn elsewhere(slices: &[Value], name: &str, endpoint: &Value) -> bool {
    slices.iter().filter(|slice| slice["metadata"]["name"] != name).any(|slice| {
        let endpoints = slice["endpoints"].as_array();
        !endpoint.is_null() && endpoints.is_some_and(|endpoints| has_address(endpoints, endpoint))
    })
}

/// Whether the address stands in the slice already. Which of two endpoints of one address a slice means is undefined
/// in Kubernetes.
fn has_address(endpoints: &[Value], fresh: &Value) -> bool {
    endpoints.iter().any(|endpoint| endpoint["addresses"][0] == fresh["addresses"][0])
}

/// An endpoint.
fn endpoint(random: &mut Random, kind: &str) -> Value {
    let r = random;
    let (a, b) = (r.below(9), r.below(20) + 2);
    let address = match kind {
        "IPv4" => format!("10.244.{a}.{b}"),
        "IPv6" => format!("fd00:10::{a:x}:{b:x}"),
        _ => format!("host-{a}-{b}.example.com"),
    };
    let mut addresses = vec![address];
    if percent(r, 5) && kind == "IPv4" {
        addresses.push("10.244.9.9".into());
    }
    let mut conditions = json!({});
    for key in ["ready", "serving"] {
        tristate(r, &mut conditions, key);
    }
    if percent(r, 20) {
        conditions["terminating"] = json!(percent(r, 80));
    }
    if percent(r, 50) {
        conditions = json!({"ready": true});
    }
    let mut endpoint = json!({"addresses": addresses, "conditions": conditions});
    let node = *r.pick(&NODES);
    maybe(r, 80, &mut endpoint, "nodeName", json!(node));
    let zone = *r.pick(&ZONES);
    maybe(r, 70, &mut endpoint, "zone", json!(zone));
    if percent(r, 40) {
        let mut hints = json!({});
        let zones: Vec<Value> = some(r, &ZONES, 50).iter().map(|zone| json!({"name": zone})).collect();
        maybe(r, 70, &mut hints, "forZones", json!(zones));
        let nodes: Vec<Value> = some(r, &NODES, 40).iter().map(|node| json!({"name": node})).collect();
        maybe(r, 30, &mut hints, "forNodes", json!(nodes));
        endpoint["hints"] = hints;
    }
    maybe(r, 10, &mut endpoint, "hostname", json!("h-1"));
    endpoint
}
