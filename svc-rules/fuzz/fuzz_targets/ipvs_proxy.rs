//! Events told to a proxy of IPVS mode: nothing panics, all that is written can be read by the models of the tools, and
//! what the changes make of a kernel is what the proxy says is there.
//!
//! Each line is an event: the JSON of a Service or of an EndpointSlice, or a word: `sync`, `full`, `fail`, `drain`, or a
//! number that stands for the Service or slice of that name to be removed.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use svc_endpoints::view::SliceCache;
use svc_model::{EndpointSlice, IpFamily, ObjectRef, Service};
use svc_rules::ProxyConfig;
use svc_rules::ipset::{OnDuplicate, restore};
use svc_rules::ipvs::{Input, Proxy, Scope};
use svc_rules::ipvsadm::VirtualServers;
use svc_rules::packet::Family;
use svc_rules::xtables::{RestoreMode, Ruleset};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fuzz_target!(|events: &str| {
    let mut config = ProxyConfig::new(IpFamily::Ipv4, "a");
    config.node_addresses = vec!["192.0.2.7".parse().expect("an address")];
    let mut proxy = Proxy::new(config);
    let mut slices = SliceCache::new();
    let (mut servers, mut sets) = (VirtualServers::new(), BTreeMap::new());
    let mut rules = Ruleset::new(Family::V4);
    let mut now = Duration::ZERO;
    for event in events.lines().chain(["sync"]) {
        now += Duration::from_secs(30);
        let mut input = Input::default();
        match event {
            "sync" | "full" => {
                let scope = if event == "full" { Scope::Full } else { Scope::Changes };
                let _ = proxy.sync(&slices, scope, &mut input);
                restore(text(&input.sets), &mut sets, OnDuplicate::Ignore).expect("sets");
                rules.restore(text(&input.rules), RestoreMode::Keep).expect("rules");
                for line in text(&input.servers).lines() {
                    // ipvsadm goes on after what the kernel refuses.
                    let _ = servers.restore(line);
                }
                proxy.succeeded();
                assert_eq!(servers, proxy.virtual_servers());
                assert_eq!(sets, proxy.sets());
            }
            "fail" => {
                let _ = proxy.sync(&slices, Scope::Changes, &mut input);
                proxy.failed();
            }
            "drain" => {
                proxy.drain(now, |_, server| u32::from(server.port()) & 1, &mut input.servers);
                servers.restore(text(&input.servers)).expect("servers");
            }
            _ => {
                if let Ok(slice) = serde_json::from_str::<EndpointSlice>(event)
                    && !slice.endpoints.is_empty()
                {
                    proxy.touch(&slices.apply(&slice));
                } else if let Ok(service) = serde_json::from_str::<Service>(event) {
                    let _ = proxy.apply(&service);
                } else {
                    let name = ObjectRef::new("n", event);
                    proxy.remove(&name);
                    proxy.touch(&slices.remove(&name));
                }
            }
        }
    }
});
