//! Text that no API server has checked cannot break out of its rule.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "tests")]

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;
use svc_endpoints::view::SliceCache;
use svc_model::{EndpointSlice, IpFamily, Service};
use svc_rules::iptables::{Mode, Proxy, StaleChains};
use svc_rules::packet::Family;
use svc_rules::xtables::Ruleset;
use svc_rules::{ProxyConfig, ipvs, nft, nftables};

/// The rules of a Service with every kind of frontend and rule, in all modes.
fn rules(namespace: &str, name: &str, port: &str, endpoints: bool) -> (String, String, ipvs::Input) {
    let service = Service::deserialize(json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "172.30.0.1", "externalIPs": ["192.0.2.1"],
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001, "sessionAffinity": "ClientIP",
            "loadBalancerSourceRanges": ["203.0.113.0/24"],
            "ports": [{"name": port, "port": 80, "nodePort": 30000}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}},
    }))
    .unwrap();
    let slice = EndpointSlice::deserialize(json!({
        "metadata": {"namespace": namespace, "name": "s", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"name": port, "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "node-a"}, {"addresses": ["10.0.0.2"]}],
    }))
    .unwrap();
    let mut slices = SliceCache::new();
    if endpoints {
        let _ = slices.apply(&slice);
    }
    let mut proxy = Proxy::new(ProxyConfig::new(IpFamily::Ipv4, "node-a"));
    let _ = proxy.apply(&service);
    let mut out = Vec::new();
    let _ = proxy.sync(&slices, Mode::Full, StaleChains::Delete, &mut out);
    let mut proxy = nftables::Proxy::new(ProxyConfig::new(IpFamily::Ipv4, "node-a"));
    let _ = proxy.apply(&service);
    let mut text = String::new();
    let _ = proxy.sync(&slices, nftables::Scope::Full, &mut text);
    let mut config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
    config.node_addresses = ["192.0.2.77".parse().unwrap()].into();
    let mut proxy = ipvs::Proxy::new(config);
    let _ = proxy.apply(&service);
    let mut input = ipvs::Input::default();
    let _ = proxy.sync(&slices, ipvs::Scope::Full, &mut input);
    (String::from_utf8(out).unwrap(), text, input)
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\PC\n\r\t\"'\\\\;{}#:/ -]{0,80}",
        Just("x\"\n-A INPUT -j ACCEPT\n".to_owned()),
        Just("x } ; add rule ip t c accept # ".to_owned()),
        Just("\\\" -j DROP".to_owned()),
        "[a-z]{200,260}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn names_stay_in_their_place(
        namespace in hostile(),
        name in hostile().prop_filter("a label names the Service", |name| !name.is_empty()),
        port in hostile(),
        endpoints: bool,
    ) {
        let (iptables, nftables, ipvs) = rules(&namespace, &name, &port, endpoints);
        let (calm_iptables, calm_nftables, calm_ipvs) = rules("ns", "svc", "http", endpoints);
        // No name stands in any text of IPVS mode.
        prop_assert_eq!(ipvs, calm_ipvs);
        // As many lines, each with the same command, and all of them read.
        let commands = |text: &str| text.lines().map(|line| line.chars().take(7).collect()).collect::<Vec<String>>();
        prop_assert_eq!(commands(&iptables), commands(&calm_iptables));
        prop_assert_eq!(commands(&nftables), commands(&calm_nftables));
        let parsed = Ruleset::parse(&iptables, Family::V4);
        prop_assert!(parsed.is_ok(), "{:?}\n{}", parsed.err(), iptables);
        let parsed = nft::Ruleset::parse(&nftables);
        prop_assert!(parsed.is_ok(), "{:?}\n{}", parsed.err(), nftables);
    }
}
