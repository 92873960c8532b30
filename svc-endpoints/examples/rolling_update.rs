//! A rolling update of one Service, event by event: how many objects are written, and how many bytes.
//!
//! `cargo run --release --example rolling_update -- 10000 100` replaces 10,000 Pods with at most 100 endpoints a slice.
//! Every event is written at once, which is the worst case: controllers batch.
//!
//! KEP-0752 (EndpointSlice API) counts what a rolling update of 20,000 endpoints sends to the watchers on 5,000 nodes:
//! 200 TB with one Endpoints object of 2 MB, 1 TB with slices of 100 endpoints (10 KB), about 100 GB with one endpoint a
//! slice. The last line puts this run in the same terms.

#![allow(clippy::print_stdout, reason = "prints its findings")]

use svc_endpoints::Config;
use svc_endpoints::engine::{Changes, Engine, SliceChange};
use svc_model::{
    IntOrString, IpFamily, Labels, Node, NodeCondition, ObjectMeta, Pod, PodCondition, PodIp, PodPhase, Port,
    Service, ServicePort, Timestamp, ZONE_LABEL,
};

/// Nodes that watch, as in KEP-0752.
const WATCHERS: usize = 5_000;
/// Pods that are replaced at a time.
const SURGE: u32 = 25;

#[derive(Default)]
struct Total {
    events: usize,
    creates: usize,
    updates: usize,
    deletes: usize,
    bytes: usize,
    endpoint_changes: usize,
}

impl Total {
    fn add(&mut self, engine: &Engine, changes: &Changes) {
        self.events += 1;
        for change in &changes.slices {
            match change {
                SliceChange::Create(_) => self.creates += 1,
                SliceChange::Update(_) => self.updates += 1,
                SliceChange::Delete(_) => self.deletes += 1,
            }
            let text = engine.slice(change.key()).and_then(|slice| serde_json::to_string(slice).ok());
            self.bytes += text.map_or(0, |text| text.len());
        }
        self.endpoint_changes +=
            changes.views.ports.iter().map(|p| p.upserted.len() + p.removed.len()).sum::<usize>();
    }

    fn writes(&self) -> usize {
        self.creates + self.updates + self.deletes
    }
}

fn pod(round: u32, number: u32) -> Pod {
    let mut pod =
        Pod { metadata: ObjectMeta::new("shop", format!("web-{round}-{number:05}")), ..Pod::default() };
    pod.metadata.uid = format!("00000000-0000-4000-800{round}-{number:012}").into();
    pod.metadata.labels = Labels::from_iter([("app", "web")]);
    pod.spec.node_name = format!("node-{}", number % 100).into();
    pod.status.phase = PodPhase::Pending.into();
    pod
}

fn with_address(mut pod: Pod, round: u32, number: u32) -> Pod {
    let [_, _, high, low] = number.to_be_bytes();
    let second = u8::try_from(round).unwrap_or(u8::MAX);
    pod.status.pod_ips = vec![PodIp { ip: core::net::IpAddr::from([10, second, high, low]).into() }];
    pod.status.phase = PodPhase::Running.into();
    pod
}

fn with_readiness(mut pod: Pod, status: &'static str) -> Pod {
    pod.status.conditions = vec![PodCondition {
        condition_type: "Ready".into(),
        status: status.into(),
        ..PodCondition::default()
    }];
    pod
}

fn service() -> Service {
    let mut service = Service { metadata: ObjectMeta::new("shop", "web"), ..Service::default() };
    service.metadata.uid = "11111111-0000-4000-8000-000000000000".into();
    service.spec.cluster_ip = "10.96.0.10".into();
    service.spec.ip_families = vec![IpFamily::Ipv4.into()];
    service.spec.selector = Some(Labels::from_iter([("app", "web")]));
    service.spec.ports = vec![ServicePort {
        name: "http".into(),
        port: Port::new(80),
        target_port: Some(IntOrString::from(8080)),
        ..ServicePort::default()
    }];
    service
}

fn node(number: u32) -> Node {
    let mut node = Node { metadata: ObjectMeta::new("", format!("node-{number}")), ..Node::default() };
    node.metadata.labels.insert(ZONE_LABEL, format!("zone-{}", number % 3));
    node.status.conditions = vec![NodeCondition {
        condition_type: "Ready".into(),
        status: "True".into(),
        ..NodeCondition::default()
    }];
    node
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let pods: u32 = arguments.next().unwrap_or(10_000);
    let limit = arguments.next().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
    let mut config = Config::default();
    config.max_endpoints_per_slice = limit.try_into().unwrap_or(config.max_endpoints_per_slice);
    let mut engine = Engine::new(config);
    for number in 0..100 {
        let _ = engine.apply_node(&node(number));
    }
    for number in 0..pods {
        let _ = engine.apply_pod(&with_readiness(with_address(pod(0, number), 0, number), "True"));
    }
    let _ = engine.apply_service(&service());
    println!("{pods} Pods in {} slices, at most {limit} endpoints each", engine.slices().count());

    let mut total = Total::default();
    for first in (0..pods).step_by(usize::try_from(SURGE).unwrap_or(1)) {
        let batch = first..pods.min(first + SURGE);
        for number in batch.clone() {
            // A new Pod: scheduled, then with an address, then ready.
            let new = pod(1, number);
            let started = with_readiness(with_address(new.clone(), 1, number), "False");
            for state in [new, started.clone(), with_readiness(started, "True")] {
                let changes = engine.apply_pod(&state);
                total.add(&engine, &changes);
            }
        }
        for number in batch {
            // An old one: told to end, not ready any more, gone.
            let mut old = with_readiness(with_address(pod(0, number), 0, number), "True");
            old.metadata.deletion_timestamp = Timestamp::from_unix_nanoseconds(1);
            let ended = with_readiness(old.clone(), "False");
            for state in [old, ended] {
                let changes = engine.apply_pod(&state);
                total.add(&engine, &changes);
            }
            let changes = engine.remove_pod(&pod(0, number).metadata.object_ref());
            total.add(&engine, &changes);
        }
    }
    let slices = engine.slices().count();
    let endpoints: usize = engine.slices().map(|slice| slice.endpoints.len()).sum();
    println!("{} Pod events; afterwards {endpoints} endpoints in {slices} slices", total.events);
    println!(
        "{} objects written: {} created, {} updated, {} deleted; {:.2} for each Pod replaced",
        total.writes(),
        total.creates,
        total.updates,
        total.deletes,
        total.writes() as f64 / f64::from(pods)
    );
    println!("{:.1} MB of JSON written, {:.0} bytes an object", total.bytes as f64 / 1e6, {
        total.bytes as f64 / total.writes().max(1) as f64
    });
    println!("{} endpoints changed in the views of readers", total.endpoint_changes);
    println!(
        "to {WATCHERS} watchers: {:.2} TB (KEP-0752, 20,000 endpoints, one write a Pod: 1 TB with slices of 100, 200 TB \
         with one Endpoints object)",
        total.bytes as f64 * WATCHERS as f64 / 1e12
    );
}
