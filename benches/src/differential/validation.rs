//! Services and NetworkPolicies as users might send them, most with something wrong.

use serde_json::{Value, json};

use super::names::{maybe, metadata, one, percent, some};
use crate::generate::Random;

/// A case of area `service`.
pub(super) fn service(random: &mut Random) -> Value {
    cases("service", random, service_object, stored_service)
}

/// A case of area `policy-validation`.
pub(super) fn policy(random: &mut Random) -> Value {
    cases("policy-validation", random, policy_object, policy_object)
}

/// Creations, and updates of a stored object in some of its fields.
fn cases(
    area: &str,
    random: &mut Random,
    make: fn(&mut Random) -> Value,
    stored: fn(&mut Random) -> Value,
) -> Value {
    let r = random;
    let cases: Vec<Value> = (0..8)
        .map(|number| {
            let mut object = make(r);
            let mut case = json!({"name": format!("random-{number}"), "stage": "default+create"});
            if percent(r, 45) {
                case["stage"] = json!("default+update");
                let mut old = stored(r);
                old["metadata"]["resourceVersion"] = json!("1");
                let mut new = old.clone();
                let headless = old["spec"]["clusterIP"] == "None";
                for (field, value) in object["spec"].as_object().into_iter().flatten() {
                    // Both refuse an address and `None`; the API server does so once more, as an internal error.
                    let mixed = field == "clusterIPs" && headless;
                    if percent(r, 20) && !mixed {
                        new["spec"][field] = value.clone();
                    }
                }
                for field in ["clusterIP", "clusterIPs", "ports", "selector", "externalName", "policyTypes"] {
                    if percent(r, 8)
                        && let Some(spec) = new["spec"].as_object_mut()
                    {
                        spec.remove(field);
                    }
                }
                maybe(r, 5, &mut new["metadata"], "name", json!("other"));
                maybe(r, 5, &mut new["metadata"], "resourceVersion", json!(""));
                object = new;
                case["old"] = old;
            }
            case["object"] = object;
            case
        })
        .collect();
    json!({"area": area, "cases": cases})
}

/// A Service that the API server may have stored.
fn stored_service(random: &mut Random) -> Value {
    let r = random;
    let (ips, families) = one(
        r,
        &[
            json!([["10.0.0.1"], ["IPv4"]]),
            json!([["fd00::1"], ["IPv6"]]),
            json!([["10.0.0.1", "fd00::1"], ["IPv4", "IPv6"]]),
            json!([["None"], ["IPv4"]]),
        ],
    )
    .as_array()
    .and_then(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone())))
    .unwrap_or_default();
    let headless = ips[0] == "None";
    let kind = if headless {
        "ClusterIP"
    } else {
        *r.pick(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])
    };
    if kind == "ExternalName" {
        return json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("shop", "web"),
            "spec": {"type": "ExternalName", "externalName": "example.com", "sessionAffinity": "None"}});
    }
    let many = families.as_array().is_some_and(|families| families.len() > 1);
    let mut spec = json!({"type": kind, "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families,
        "ipFamilyPolicy": if many { "PreferDualStack" } else { "SingleStack" }, "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster", "selector": {"a": "b"},
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]});
    if kind != "ClusterIP" {
        spec["externalTrafficPolicy"] = json!("Cluster");
        spec["ports"][0]["nodePort"] = json!(30_000);
    }
    if kind == "LoadBalancer" {
        spec["allocateLoadBalancerNodePorts"] = json!(true);
        maybe(r, 40, &mut spec, "loadBalancerClass", json!("example.com/lb"));
        if percent(r, 30) {
            spec["externalTrafficPolicy"] = json!("Local");
            spec["healthCheckNodePort"] = json!(30_001);
        }
    }
    // Stored before addresses were read strictly.
    maybe(r, 15, &mut spec, "externalIPs", json!(["010.0.0.1"]));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("shop", "web"), "spec": spec})
}

const ADDRESSES: [&str; 14] = [
    "10.0.0.1",
    "10.0.0.2",
    "fd00::1",
    "fd00::2",
    "None",
    "",
    "010.0.0.1",
    "fd00:0::1",
    "::ffff:10.0.0.1",
    "1.2.3",
    "127.0.0.1",
    "0.0.0.0",
    "169.254.1.1",
    "224.0.0.1",
];

fn name(random: &mut Random) -> &'static str {
    const NAMES: [&str; 10] = [
        "web",
        "web",
        "web",
        "web",
        "web-",
        "0web",
        "Web",
        "",
        "a.b",
        "a23456789-123456789-123456789-123456789-123456789-123456789-1234",
    ];
    let name: &&str = random.pick(&NAMES);
    name
}

fn labels(random: &mut Random) -> Value {
    one(
        random,
        &[
            json!({"a": "b"}),
            json!({"a": "b"}),
            json!({"app": ""}),
            json!({"example.com/a": "b_c.d"}),
            json!({"a": "b!"}),
            json!({"-a": "b"}),
            json!({"Example.com/a": "b"}),
            json!({"/a": "b"}),
            json!({}),
        ],
    )
}

fn service_object(random: &mut Random) -> Value {
    let r = random;
    let mut metadata = metadata("shop", name(r));
    let given = labels(r);
    maybe(r, 20, &mut metadata, "labels", given);
    let mut spec = json!({});
    let kind = *r.pick(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Other", "clusterIP"]);
    maybe(r, 70, &mut spec, "type", json!(kind));
    let selector = labels(r);
    // Go's encoding leaves an empty one out.
    if selector != json!({}) {
        maybe(r, 60, &mut spec, "selector", selector);
    }
    if percent(r, 88) {
        spec["ports"] = (0..*r.pick(&[0, 1, 1, 1, 2, 2, 3])).map(|_| port(r)).collect();
    }
    let ips: Vec<&str> = (0..r.below(4)).map(|_| *r.pick(&ADDRESSES)).collect();
    if percent(r, 50) {
        let first = *ips.first().unwrap_or(&ADDRESSES[0]);
        maybe(r, 85, &mut spec, "clusterIP", json!(first));
        maybe(r, 75, &mut spec, "clusterIPs", json!(ips));
    }
    let families: Vec<&str> =
        (0..r.below(4)).map(|_| *r.pick(&["IPv4", "IPv6", "IPv4", "IPv6", "ipv4"])).collect();
    maybe(r, 30, &mut spec, "ipFamilies", json!(families));
    let policy = *r.pick(&["SingleStack", "PreferDualStack", "RequireDualStack", "Dual"]);
    maybe(r, 30, &mut spec, "ipFamilyPolicy", json!(policy));
    let outside: Vec<&str> = some(r, &ADDRESSES, 12);
    maybe(r, 30, &mut spec, "externalIPs", json!(outside));
    let affinity = *r.pick(&["None", "ClientIP", "ClientIP", "clientip"]);
    maybe(r, 40, &mut spec, "sessionAffinity", json!(affinity));
    let config = one(
        r,
        &[
            json!({"clientIP": {"timeoutSeconds": 10}}),
            json!({"clientIP": {"timeoutSeconds": 0}}),
            json!({"clientIP": {"timeoutSeconds": 86_401}}),
            json!({"clientIP": {}}),
            json!({}),
        ],
    );
    maybe(r, 30, &mut spec, "sessionAffinityConfig", config);
    let (external, internal) =
        (*r.pick(&["Cluster", "Local", "", "local"]), *r.pick(&["Cluster", "Local", "", "Node"]));
    maybe(r, 30, &mut spec, "externalTrafficPolicy", json!(external));
    maybe(r, 30, &mut spec, "internalTrafficPolicy", json!(internal));
    let check = *r.pick(&[0, 30_000, 1, -1, 65_536]);
    maybe(r, 15, &mut spec, "healthCheckNodePort", json!(check));
    let ranges = some(
        r,
        &[
            "10.0.0.0/8",
            " 10.0.0.0/8 ",
            "10.0.0.1/8",
            "fd00::/64",
            "0.0.0.0/0",
            "10.0.0.1",
            "010.0.0.0/8",
            "x",
        ],
        20,
    );
    maybe(r, 25, &mut spec, "loadBalancerSourceRanges", json!(ranges));
    let address = *r.pick(&ADDRESSES);
    maybe(r, 15, &mut spec, "loadBalancerIP", json!(address));
    let class = *r.pick(&["example.com/lb", "lb", "Lb", "", "a/b/c", "example.com/"]);
    maybe(r, 15, &mut spec, "loadBalancerClass", json!(class));
    let allocate = percent(r, 50);
    maybe(r, 20, &mut spec, "allocateLoadBalancerNodePorts", json!(allocate));
    let external_name =
        *r.pick(&["example.com", "example.com.", "Example.com", "-a.b", "", "10.0.0.1", "_a.example.com"]);
    maybe(r, 30, &mut spec, "externalName", json!(external_name));
    let distribution = *r.pick(&["PreferClose", "PreferSameZone", "PreferSameNode", "Other", ""]);
    maybe(r, 15, &mut spec, "trafficDistribution", json!(distribution));
    let unready = percent(r, 50);
    maybe(r, 15, &mut spec, "publishNotReadyAddresses", json!(unready));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

fn port(random: &mut Random) -> Value {
    let r = random;
    let mut port = json!({"port": *r.pick(&[80, 80, 443, 0, -1, 65_535, 65_536])});
    let name = *r.pick(&[
        "http",
        "dns",
        "http",
        "",
        "a--b",
        "Http",
        "0123456789abcdef",
        "a-port-with-a-name-that-is-longer-than-any-label-may-be-i-think-so",
    ]);
    maybe(r, 60, &mut port, "name", json!(name));
    let protocol = *r.pick(&["TCP", "UDP", "SCTP", "tcp", "HTTP", ""]);
    maybe(r, 60, &mut port, "protocol", json!(protocol));
    let target = one(
        r,
        &[
            json!(8080),
            json!(0),
            json!(65_536),
            json!("http"),
            json!(""),
            json!("a-name-of-16-char"),
            json!("8080"),
            json!("a--b"),
        ],
    );
    maybe(r, 60, &mut port, "targetPort", target);
    let node = *r.pick(&[30_000, 30_001, 0, -1, 65_536]);
    maybe(r, 25, &mut port, "nodePort", json!(node));
    let protocol = *r.pick(&["http", "kubernetes.io/h2c", "a b", "", "A/b", "example.com/a/b"]);
    maybe(r, 20, &mut port, "appProtocol", json!(protocol));
    port
}

fn policy_object(random: &mut Random) -> Value {
    let r = random;
    let mut spec = json!({});
    let chosen = selector(r);
    maybe(r, 95, &mut spec, "podSelector", chosen);
    let types: Vec<&str> =
        (0..r.below(4)).map(|_| *r.pick(&["Ingress", "Egress", "Ingress", "Egress", "ingress"])).collect();
    maybe(r, 50, &mut spec, "policyTypes", json!(types));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        if percent(r, 60) {
            spec[direction] = (0..r.below(3)).map(|_| rule(r, peers)).collect();
        }
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata("shop", name(r)), "spec": spec})
}

fn rule(random: &mut Random, peers: &str) -> Value {
    let r = random;
    let mut rule = json!({});
    if percent(r, 75) {
        rule[peers] = (0..r.below(3)).map(|_| peer(r)).collect();
    }
    if percent(r, 70) {
        rule["ports"] = (0..r.below(3)).map(|_| policy_port(r)).collect();
    }
    rule
}

fn peer(random: &mut Random) -> Value {
    let r = random;
    let mut peer = json!({});
    for key in ["podSelector", "namespaceSelector"] {
        let selector = selector(r);
        maybe(r, 40, &mut peer, key, selector);
    }
    if percent(r, 40) {
        const BLOCKS: [&str; 12] = [
            "10.0.0.0/8",
            "10.0.0.0/16",
            "10.1.0.0/16",
            "10.0.0.1/8",
            "0.0.0.0/0",
            "fd00::/16",
            "fd00::/64",
            "010.0.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0",
            "",
            "::ffff:10.0.0.0/104",
        ];
        let mut block = json!({"cidr": *r.pick(&BLOCKS)});
        let excepts = some(r, &BLOCKS, 15);
        maybe(r, 60, &mut block, "except", json!(excepts));
        peer["ipBlock"] = block;
    }
    peer
}

fn policy_port(random: &mut Random) -> Value {
    let r = random;
    let mut port = json!({});
    let protocol = *r.pick(&["TCP", "UDP", "SCTP", "tcp", ""]);
    maybe(r, 70, &mut port, "protocol", json!(protocol));
    let number = one(
        r,
        &[
            json!(80),
            json!(0),
            json!(65_535),
            json!(65_536),
            json!("http"),
            json!(""),
            json!("a--b"),
            json!("Http"),
            json!(-1),
            json!("a-name-of-16-char"),
            json!("80"),
        ],
    );
    maybe(r, 75, &mut port, "port", number);
    let end = *r.pick(&[80, 81, 79, 0, 65_536, 65_535]);
    maybe(r, 30, &mut port, "endPort", json!(end));
    port
}

fn selector(random: &mut Random) -> Value {
    let r = random;
    let mut selector = json!({});
    let given = labels(r);
    maybe(r, 50, &mut selector, "matchLabels", given);
    if percent(r, 40) {
        let expressions: Vec<Value> = (0..r.below(3))
            .map(|_| {
                let key = *r.pick(&["a", "example.com/a", "", "a b", "-a"]);
                let operator = *r.pick(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "in", ""]);
                let mut expression = json!({"key": key, "operator": operator});
                let values = some(r, &["b", "", "bad value!", "c.d"], 35);
                maybe(r, 60, &mut expression, "values", json!(values));
                expression
            })
            .collect();
        selector["matchExpressions"] = json!(expressions);
    }
    selector
}
