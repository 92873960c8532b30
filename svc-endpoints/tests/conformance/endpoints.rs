//! Vectors of the Endpoints controller (Pods to an Endpoints object) and of the mirroring controller (hand-written
//! Endpoints to slices).
#![allow(clippy::indexing_slicing, reason = "a JSON value answers Null for a key that it lacks")]
#![allow(clippy::type_complexity, reason = "the shape that the conformance runner expects")]
#![allow(clippy::std_instead_of_alloc, reason = "runs where std is")]
#![allow(unreachable_pub, reason = "included in the conformance runner as well")]

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use svc_endpoints::History;
use svc_endpoints::legacy::{
    EndpointsPlan, Mirror, MirrorPlan, Truncation, plan_endpoints, truncate_subsets,
};
use svc_model::{EndpointAddress, EndpointSlice, EndpointSubset, Endpoints, ObjectRef, Pod, Service};

macro_rules! read {
    ($value:expr) => {
        serde_json::from_value(Clone::clone($value)).map_err(|error| error.to_string())
    };
}

/// Runs a vector file; returns the outcome of each of its cases.
pub fn run(text: &str) -> Result<Vec<(String, Result<(), String>)>, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut outcomes = Vec::new();
    for (index, case) in file["cases"].as_array().ok_or("no cases")?.iter().enumerate() {
        let name = case["name"].as_str().map_or_else(|| format!("#{index}"), str::to_owned);
        let outcome = if case["subsetLengths"].is_array() {
            truncation(case)
        } else if case["existing"].is_array() {
            let object = |key: &str| (case[key].is_object()).then(|| case[key].clone());
            let service: Option<Service> = object("serviceObject").map(|value| read!(&value)).transpose()?;
            // See below on empty selectors.
            mirroring(case, service.as_ref())?.or_else(|message| match with_empty_selector(service) {
                Some(service) => mirroring(case, Some(&service))?.map_err(|_| message),
                None => Err(message),
            })
        } else if case["stage"] == "default" {
            // Defaulting of an object as it is read, not of this crate.
            continue;
        } else {
            endpoints(case)?
        };
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

fn truncation(case: &Value) -> Result<(), String> {
    let length =
        |subset: &Value, key: &str| subset[key].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let before = case["subsetLengths"].as_array().into_iter().flatten();
    let mut subsets: Vec<EndpointSubset> = before
        .map(|subset| EndpointSubset {
            addresses: vec![EndpointAddress::default(); length(subset, "ready")],
            not_ready_addresses: vec![EndpointAddress::default(); length(subset, "notReady")],
            ports: Vec::new(),
        })
        .collect();
    let truncated = truncate_subsets(&mut subsets) == Truncation::Truncated;
    let after: Vec<Value> = subsets
        .iter()
        .map(|s| json!({"notReady": s.not_ready_addresses.len(), "ready": s.addresses.len()}))
        .collect();
    let got = json!({"subsetLengths": after, "truncated": truncated});
    let expected =
        json!({"subsetLengths": case["expect"]["subsetLengths"], "truncated": case["expect"]["truncated"]});
    if got == expected { Ok(()) } else { Err(format!("expected {expected}, got {got}")) }
}

fn key_of(case: &Value) -> Option<ObjectRef> {
    let (namespace, name) = case["service"].as_str()?.split_once('/')?;
    Some(ObjectRef::new(namespace, name))
}

fn endpoints(case: &Value) -> Result<Result<(), String>, String> {
    let key = key_of(case).ok_or("no service")?;
    let mut service: Option<Service> = None;
    let mut pods: Vec<Pod> = Vec::new();
    for object in case["objects"].as_array().into_iter().flatten() {
        match object["kind"].as_str() {
            Some("Service") => {
                service = Some(read!(object)?).filter(|s: &Service| s.metadata.object_ref() == key)
            }
            Some("Pod") => pods.push(read!(object)?),
            _ => {}
        }
    }
    let current: Option<Endpoints> =
        if case["current"].is_object() { Some(read!(&case["current"])?) } else { None };
    let outcome = |service: Option<&Service>| {
        let (action, got) = match service.map(|service| plan_of(service, &pods, current.as_ref())) {
            None => ("delete", None),
            Some(EndpointsPlan::NotManaged(_) | EndpointsPlan::Unchanged) => ("none", None),
            Some(EndpointsPlan::Create(endpoints)) => ("create", Some(endpoints)),
            Some(EndpointsPlan::Update(endpoints)) => ("update", Some(endpoints)),
        };
        let expect = &case["expect"];
        let expected: Option<Endpoints> =
            if expect["endpoints"].is_object() { Some(read!(&expect["endpoints"])?) } else { None };
        let (got, expected) = (got.as_ref().map(summary), expected.as_ref().map(summary));
        let expected_action = expect["action"].as_str().unwrap_or_default();
        if (expected_action, &expected) == (action, &got) {
            Ok(())
        } else {
            Err(format!("expected {expected_action} {expected:?}, got {action} {got:?}"))
        }
    };
    let as_shown = outcome(service.as_ref());
    Ok(as_shown.or_else(|message| match with_empty_selector(service) {
        Some(service) => outcome(Some(&service)).map_err(|_| message),
        None => Err(message),
    }))
}

/// An empty selector selects every Pod, but JSON written by Kubernetes shows it no more than none at all: where a
/// Service shows no selector, the recorded outcome tells which it had.
fn with_empty_selector(service: Option<Service>) -> Option<Service> {
    let mut service = service.filter(|service| service.spec.selector.is_none())?;
    service.spec.selector = Some(Default::default());
    Some(service)
}

fn plan_of(service: &Service, pods: &[Pod], current: Option<&Endpoints>) -> EndpointsPlan {
    let trigger_time = History::default().trigger_time(service, pods);
    plan_endpoints(service, pods, current, trigger_time)
}

/// What of an Endpoints object is fixed: sets of subsets, of addresses and of ports.
fn summary(endpoints: &Endpoints) -> String {
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let addresses =
        |addresses: &[EndpointAddress]| sorted(addresses.iter().map(|a| json!(a).to_string()).collect());
    let subset = |subset: &EndpointSubset| {
        let ports = subset.ports.iter().map(|port| {
            let protocol = if port.protocol.is_empty() { "TCP".into() } else { port.protocol.to_text() };
            format!("{:?} {} {protocol} {:?}", port.name, port.port, port.app_protocol)
        });
        let (ready, not_ready) = (addresses(&subset.addresses), addresses(&subset.not_ready_addresses));
        format!("{:?} {ready:?} {not_ready:?}", sorted(ports.collect()))
    };
    let subsets = sorted(endpoints.subsets.iter().map(subset).collect());
    let metadata = &endpoints.metadata;
    format!("{} {:?} {:?} {subsets:?}", metadata.name, metadata.labels, metadata.annotations)
}

fn mirroring(case: &Value, service: Option<&Service>) -> Result<Result<(), String>, String> {
    let existing: Vec<EndpointSlice> = read!(&case["existing"])?;
    let object = |key: &str| (case[key].is_object()).then(|| case[key].clone());
    let endpoints: Option<Endpoints> = object("endpoints").map(|value| read!(&value)).transpose()?;
    let mut mirror = Mirror::default();
    let limit = case["maxEndpointsPerSubset"].as_u64().and_then(|limit| usize::try_from(limit).ok());
    mirror.max_endpoints_per_subset = limit.and_then(|limit| limit.try_into().ok()).ok_or("no limit")?;
    let outcome = match (key_of(case), &endpoints) {
        (Some(key), _) => mirror.sync(&key, endpoints.as_ref(), service, &existing),
        (None, Some(endpoints)) => mirror.reconcile(endpoints, &existing),
        (None, None) => MirrorPlan::default(),
    };
    let mut events: Vec<String> =
        outcome.events().map(|event| format!("Warning {} {event}", event.reason())).collect();
    events.sort();
    let plan = outcome.plan;
    let expect = &case["expect"];
    let mut problems = String::new();
    let mut check = |what: &str, expected: Value, got: Value| {
        if expected != got {
            let _ = write!(problems, "{what}: expected {expected}, got {got}; ");
        }
    };
    let gone = plan.updates.len() + plan.deletes.len();
    check("created", expect["created"].clone(), json!(plan.creates.len()));
    check("updated", expect["updated"].clone(), json!(plan.updates.len()));
    check("deleted", expect["deleted"].clone(), json!(plan.deletes.len()));
    check("unchanged", expect["unchanged"].clone(), json!(existing.len() - gone));
    let mut expected_events: Vec<&str> =
        expect["events"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    expected_events.sort_unstable();
    check("events", json!(expected_events), json!(events));
    let mut number = 0;
    let after = plan.apply_to(existing.iter().cloned(), |_| {
        number += 1;
        format!("\u{7f}{number}").into()
    });
    let mut expected: Vec<EndpointSlice> = Vec::new();
    for slice in expect["slices"].as_array().into_iter().flatten() {
        let name = slice["metadata"]["name"].as_str().unwrap_or_default();
        let known = existing.iter().find(|old| slice["unchanged"] == true && old.metadata.name == name);
        expected.push(match known {
            Some(old) => old.clone(),
            None => read!(slice)?,
        });
    }
    check("slices", json!(slices_summary(&expected)), json!(slices_summary(&after)));
    Ok(if problems.is_empty() { Ok(()) } else { Err(problems) })
}

/// What of a set of slices is fixed: everything but names and order.
fn slices_summary(slices: &[EndpointSlice]) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for slice in slices {
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        let endpoints = sorted(slice.endpoints.iter().map(|endpoint| json!(endpoint).to_string()).collect());
        let ports = sorted(slice.ports.iter().map(|port| json!(port).to_string()).collect());
        let metadata = &slice.metadata;
        let line = format!(
            "{} {ports:?} {endpoints:?} {:?} {:?} {:?}",
            slice.address_type, metadata.labels, metadata.annotations, metadata.owner_references
        );
        *lines.entry(line).or_default() += 1;
    }
    lines
}
