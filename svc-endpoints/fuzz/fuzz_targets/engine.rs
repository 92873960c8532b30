//! The engine, fed with whatever objects can be read: a line is an object to apply, or after a dash one to remove. It
//! must not panic, its views must be those of its slices, and every Service must be at rest but where its hints are not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_endpoints::engine::{Changes, Engine};
use svc_endpoints::legacy::{Mirror, plan_endpoints};
use svc_endpoints::slices::{Config, HintMode, is_managed};
use svc_endpoints::why::why_pods;
use svc_endpoints::{History, Reconciler, SliceCache, Viewpoint};
use svc_model::{EndpointSlice, Object, Pod, Service};

fuzz_target!(|text: &str| {
    let mut config = Config::default();
    config.max_endpoints_per_slice = 2.try_into().expect("not zero");
    let mut engine = Engine::new(config.clone());
    let mut services: Vec<Service> = Vec::new();
    let mut pods: Vec<Pod> = Vec::new();
    for line in text.lines().take(64) {
        let (remove, json) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
        let Ok(value) = serde_json::from_str::<serde_json::Value>(json) else { continue };
        let kind = value.get("kind").and_then(|kind| kind.as_str()).unwrap_or("Pod");
        let Some(Ok(object)) = Object::from_kind(kind, &value) else { continue };
        let key = object.object_ref();
        let _: Changes = match (object, remove) {
            (Object::Pod(pod), false) => {
                pods.retain(|known| known.metadata.object_ref() != key);
                pods.push(pod.clone());
                engine.apply_pod(&pod)
            }
            (Object::Pod(_), true) => {
                pods.retain(|known| known.metadata.object_ref() != key);
                engine.remove_pod(&key)
            }
            (Object::Service(service), false) => {
                services.retain(|known| known.metadata.object_ref() != key);
                services.push(service.clone());
                engine.apply_service(&service)
            }
            (Object::Service(_), true) => {
                services.retain(|known| known.metadata.object_ref() != key);
                engine.remove_service(&key)
            }
            (Object::Node(node), false) => engine.apply_node(&node),
            (Object::Node(_), true) => engine.remove_node(&key.name),
            (Object::EndpointSlice(slice), false) => engine.apply_slice(&slice),
            (Object::EndpointSlice(_), true) => engine.remove_slice(&key),
            (Object::Endpoints(endpoints), _) => {
                let _ = Mirror::default().reconcile(&endpoints, &[]);
                Changes::default()
            }
            _ => Changes::default(),
        };
    }
    let mut whole = SliceCache::new();
    let _ = whole.replace_all(engine.slices());
    assert_eq!(engine.view(), &whole);

    let here = Viewpoint::node("n1").in_zone("a");
    for (_, port) in engine.view().ports() {
        let selection = port.select(Default::default(), &here);
        assert!(selection.cluster().count() + selection.local().count() >= selection.reachable().count());
    }
    for service in &services {
        let key = service.metadata.object_ref();
        let Ok(reports) = why_pods(service, &pods, engine.nodes()) else { continue };
        let _ = plan_endpoints(service, &pods, None, None);
        if HintMode::of(service, &config) == HintMode::Auto || service.metadata.is_terminating() {
            continue;
        }
        let managed = |slice: &&EndpointSlice| is_managed(slice, &key, &config.managed_by);
        let existing: Vec<EndpointSlice> = engine.slices_of(&key).filter(managed).cloned().collect();
        let selected =
            pods.iter().filter(|pod| reports.iter().any(|report| report.pod == pod.metadata.object_ref()));
        let reconciler = Reconciler::new(config.clone());
        let plan =
            reconciler.reconcile(service, selected, engine.nodes(), &existing, None, &mut History::default());
        assert!(plan.is_noop(), "{plan:?}");
    }
});
