//! Vectors of the EndpointSlice controller: a Service, Pods, nodes and slices in; slices, counts, events out.
#![allow(clippy::indexing_slicing, reason = "a JSON value answers Null for a key that it lacks")]
#![allow(clippy::type_complexity, reason = "the shape that the conformance runner expects")]
#![allow(clippy::std_instead_of_alloc, reason = "runs where std is")]
#![allow(unreachable_pub, reason = "included in the conformance runner as well")]

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use svc_endpoints::slices::{Config, History, Nodes, Reconciler, is_managed, select_pods};
use svc_model::{EndpointSlice, Node, ObjectRef, Pod, Service, Timestamp};

macro_rules! read {
    ($value:expr) => {
        serde_json::from_value(Clone::clone($value)).map_err(|error| error.to_string())
    };
}

/// The objects of a file, kept up to date from case to case.
#[derive(Clone, Default)]
struct World {
    services: BTreeMap<ObjectRef, Service>,
    pods: BTreeMap<ObjectRef, Pod>,
    nodes: BTreeMap<ObjectRef, Node>,
}

/// Runs a vector file; returns the outcome of each of its cases.
pub fn run(text: &str) -> Result<Vec<(String, Result<(), String>)>, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let (config, trigger_time) = config(&file["config"])?;
    let reconciler = Reconciler::new(config);
    let mut world = World::default();
    world.apply(&file["objects"])?;
    let mut previous: Vec<EndpointSlice> = Vec::new();
    let mut outcomes = Vec::new();
    for (index, case) in file["cases"].as_array().ok_or("no cases")?.iter().enumerate() {
        world.delete(&case["delete"])?;
        world.apply(&case["apply"])?;
        let existing = match &case["existing"] {
            Value::String(text) if text == "previous" => previous.clone(),
            slices => read!(slices)?,
        };
        let level = file["level"].as_str().unwrap_or("reconciler");
        let run_case = |world: &World| run_case(&reconciler, world, case, &existing, level, trigger_time);
        // An empty selector selects every Pod, but JSON written by Kubernetes shows it no more than none at
        // all: where a Service shows no selector, the recorded outcome tells which it had.
        let outcome = run_case(&world).or_else(|message| match world.with_empty_selectors() {
            Some(world) if level == "controller" => run_case(&world).map_err(|_| message),
            _ => Err(message),
        });
        let name = format!("#{index}");
        previous = expected_slices(&case["expect"], &existing)?;
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

fn config(value: &Value) -> Result<(Config, Option<Timestamp>), String> {
    let mut config = Config::default();
    let limit = value["maxEndpointsPerSlice"].as_u64().and_then(|limit| usize::try_from(limit).ok());
    config.max_endpoints_per_slice = limit.and_then(|limit| limit.try_into().ok()).ok_or("no limit")?;
    if let Some(name) = value["controllerName"].as_str() {
        config.managed_by = name.into();
    }
    config.topology = value["topology"]["enabled"] == true;
    config.prefer_same_traffic_distribution = value["preferSameTrafficDistribution"] == true;
    let trigger_time = match value["triggerTime"].as_str() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|error| format!("triggerTime: {error}"))?),
    };
    Ok((config, trigger_time))
}

impl World {
    fn apply(&mut self, objects: &Value) -> Result<(), String> {
        for object in objects.as_array().into_iter().flatten() {
            match object["kind"].as_str() {
                Some("Service") => {
                    let service: Service = read!(object)?;
                    self.services.insert(service.metadata.object_ref(), service);
                }
                Some("Pod") => {
                    let pod: Pod = read!(object)?;
                    self.pods.insert(pod.metadata.object_ref(), pod);
                }
                Some("Node") => {
                    let node: Node = read!(object)?;
                    self.nodes.insert(node.metadata.object_ref(), node);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The same with an empty selector for every Service that shows none; `None` if all show one.
    fn with_empty_selectors(&self) -> Option<Self> {
        let mut world = self.clone();
        let mut changed = false;
        for service in world.services.values_mut() {
            changed |= service.spec.selector.is_none();
            service.spec.selector.get_or_insert_default();
        }
        changed.then_some(world)
    }

    fn delete(&mut self, keys: &Value) -> Result<(), String> {
        for object in keys.as_array().into_iter().flatten() {
            let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            let key = ObjectRef::new(text("namespace"), text("name"));
            match object["kind"].as_str() {
                Some("Service") => drop(self.services.remove(&key)),
                Some("Pod") => drop(self.pods.remove(&key)),
                Some("Node") => drop(self.nodes.remove(&key)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn run_case(
    reconciler: &Reconciler,
    world: &World,
    case: &Value,
    existing: &[EndpointSlice],
    level: &str,
    trigger_time: Option<Timestamp>,
) -> Result<(), String> {
    let (namespace, name) =
        case["service"].as_str().and_then(|key| key.split_once('/')).ok_or("no service")?;
    let key = ObjectRef::new(namespace, name);
    let nodes: Nodes = world.nodes.values().collect();
    let mut history = History::default();
    let mut existing_of = existing.to_vec();
    let plan = match world.services.get(&key) {
        None => None,
        Some(service) if level == "controller" => match select_pods(service, world.pods.values()) {
            Err(_) => None,
            Ok(pods) => {
                let pods: Vec<&Pod> = pods.collect();
                existing_of.retain(|slice| is_managed(slice, &key, &reconciler.config().managed_by));
                let trigger = history.trigger_time(service, pods.iter().copied());
                Some(reconciler.reconcile(service, pods, &nodes, &existing_of, trigger, &mut history))
            }
        },
        Some(service) => {
            let pods = world.pods.values();
            Some(reconciler.reconcile(service, pods, &nodes, &existing_of, trigger_time, &mut history))
        }
    };
    let plan = plan.unwrap_or_default();
    let expect = &case["expect"];
    let mut problems = String::new();
    let mut check = |what: &str, expected: Value, got: Value| {
        if expected != got {
            let _ = write!(problems, "{what}: expected {expected}, got {got}; ");
        }
    };
    let written = plan.creates.len() + plan.updates.len() + plan.deletes.len();
    let (created, updated, deleted) = (plan.creates.len(), plan.updates.len(), plan.deletes.len());
    check("created", expect["created"].clone(), json!(created));
    check("updated", expect["updated"].clone(), json!(updated));
    check("deleted", expect["deleted"].clone(), json!(deleted));
    check("unchanged", expect["unchanged"].clone(), json!(existing.len() - (written - created)));
    let open: Vec<&str> = case["open"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_open = |what: &str| open.contains(&what);
    let retry = plan.retry_message();
    if !is_open("error") {
        check("error", expect["error"].clone(), json!(retry));
    }
    if !is_open("events") && (level == "controller" || !expect["events"].is_null()) {
        let mut events: Vec<String> = plan
            .events
            .iter()
            .map(|event| format!("{} {} {event}", event.event_type(), event.reason()))
            .collect();
        events.extend(
            retry
                .as_ref()
                .filter(|_| level == "controller")
                .map(|error| format!("Warning FailedToUpdateEndpointSlices Error updating Endpoint Slices for Service {key}: {error}")),
        );
        events.sort();
        let mut expected: Vec<&str> =
            expect["events"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        expected.sort_unstable();
        check("events", json!(expected), json!(events));
    }
    let mut number = 0;
    let after = plan.apply_to(existing.to_vec(), |_| {
        number += 1;
        format!("\u{7f}{number}").into()
    });
    let expected = expected_slices(expect, existing)?;
    if !is_open("hintZones") && expect["hintZones"].is_object() {
        check("hintZones", expect["hintZones"].clone(), hint_zones(&after));
    }
    check("slices", json!(summary(&expected, &open)), json!(summary(&after, &open)));
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn expected_slices(expect: &Value, existing: &[EndpointSlice]) -> Result<Vec<EndpointSlice>, String> {
    let slices = expect["slices"].as_array().into_iter().flatten();
    slices
        .map(|slice| {
            let name = slice["metadata"]["name"].as_str().unwrap_or_default();
            if slice["unchanged"] == true {
                existing
                    .iter()
                    .find(|old| old.metadata.name == name)
                    .cloned()
                    .ok_or(format!("no slice {name}"))
            } else {
                read!(slice)
            }
        })
        .collect()
}

fn hint_zones(slices: &[EndpointSlice]) -> Value {
    let mut zones: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for slice in slices {
        for endpoint in &slice.endpoints {
            let hinted = endpoint.hints.as_ref().map(|hints| hints.for_zones.as_slice()).unwrap_or_default();
            let names: Vec<&str> = hinted.iter().map(|zone| zone.name.as_str()).collect();
            let of_type = zones.entry(slice.address_type.to_string()).or_default();
            *of_type.entry(names.join(",")).or_default() += 1;
        }
    }
    json!(zones)
}

/// What of a set of slices is fixed, as text in a fixed order.
fn summary(slices: &[EndpointSlice], open: &[&str]) -> Vec<String> {
    let is_open = |what: &str| open.contains(&what);
    let endpoints = |slice: &EndpointSlice| -> Vec<String> {
        let mut endpoints: Vec<String> = slice
            .endpoints
            .iter()
            .map(|endpoint| {
                let mut endpoint = endpoint.clone();
                if is_open("hints") {
                    endpoint.hints = None;
                }
                endpoint.addresses.sort_by_key(|address| address.to_text());
                json!(endpoint).to_string()
            })
            .collect();
        endpoints.sort();
        endpoints
    };
    let head = |slice: &EndpointSlice| -> String {
        let mut ports: Vec<String> = slice.ports.iter().map(|port| json!(port).to_string()).collect();
        ports.sort();
        format!("{} {ports:?}", slice.address_type)
    };
    let metadata = |slice: &EndpointSlice| -> String {
        let metadata = &slice.metadata;
        format!("{:?} {:?} {:?}", metadata.labels, metadata.annotations, metadata.owner_references)
    };
    let mut lines: Vec<String> = Vec::new();
    if is_open("packing") {
        let mut union: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for slice in slices {
            union.entry(head(slice)).or_default().extend(endpoints(slice));
            lines.push(format!("{} {}", head(slice), slice.endpoints.len()));
        }
        for (head, mut endpoints) in union {
            endpoints.sort();
            let endpoints = if is_open("union") { Vec::new() } else { endpoints };
            lines.push(format!("{head} {endpoints:?}"));
        }
    } else {
        lines.extend(
            slices.iter().map(|slice| format!("{} {:?} {}", head(slice), endpoints(slice), metadata(slice))),
        );
    }
    lines.sort();
    lines
}
