//! Any bytes as a query: nothing panics, an answer fits, and it says the same over a large buffer as the records do.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use svc_dns::{Behavior, NoUpstream, Options, Pods, Response, Transport, Zonal, Zones, zones_from_text};
use svc_model::Object;

fn zones(behavior: Behavior) -> Zones {
    let mut options = Options::default();
    options.zones = ["cluster.local", "10.0.0.0/8", "fd00::/16"].map(|zone| zones_from_text(zone).unwrap()).concat();
    options.pods = Pods::Insecure;
    options.zonal = Zonal::On;
    options.behavior = behavior;
    let mut zones = Zones::new(options).unwrap();
    for json in [
        json!({"kind": "Namespace", "metadata": {"name": "d"}}),
        json!({"kind": "Service", "metadata": {"namespace": "d", "name": "w"},
            "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ports": [{"name": "p", "port": 80}]}}),
        json!({"kind": "Service", "metadata": {"namespace": "d", "name": "h"}, "spec": {"clusterIP": "None"}}),
        json!({"kind": "Service", "metadata": {"namespace": "d", "name": "e"},
            "spec": {"type": "ExternalName", "externalName": "w.d.svc.cluster.local"}}),
        json!({"kind": "EndpointSlice", "metadata": {"namespace": "d", "name": "h-1", "labels": {"kubernetes.io/service-name": "h"}},
            "endpoints": (0..40).map(|i| json!({"addresses": [format!("10.1.0.{i}")]})).collect::<Vec<_>>(),
            "ports": [{"name": "p", "port": 80}]}),
    ] {
        let object = Object::from_kind(json["kind"].as_str().unwrap(), &json).unwrap().unwrap();
        drop(zones.apply(&object));
    }
    zones
}

static ZONES: LazyLock<[Zones; 2]> = LazyLock::new(|| [zones(Behavior::CoreDns), zones(Behavior::Standards)]);

fuzz_target!(|data: &[u8]| {
    let Some((size, query)) = data.split_first() else { return };
    let mut out = [0; 2048];
    let size = usize::from(*size) * 8;
    for zones in &*ZONES {
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Response::Answer(len) = zones.respond(query, transport, &NoUpstream, &mut out[..size]) {
                assert!(len <= size && out[..2] == query[..2] && out[2] & 0x80 != 0);
            }
        }
        for message in zones.transfer_messages(query, size) {
            assert!(message.len() <= size.max(1024));
        }
    }
});
