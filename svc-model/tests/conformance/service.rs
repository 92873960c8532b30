//! Runs `service` vectors: static defaults, and validation of creation, update and status update.
#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a missing key is null")]

use serde_json::Value;
use svc_model::{Compat, Service, ValidationError};

/// The cases of a file by name, each with its outcome.
pub type Outcomes = Vec<(String, Result<(), String>)>;

/// Runs the cases of one file.
pub fn run(text: &str) -> Result<Outcomes, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let cases = file["cases"].as_array().ok_or("no `cases`")?;
    Ok(cases.iter().enumerate().map(|(i, case)| (name(i, case), check(&file, case))).collect())
}

fn name(i: usize, case: &Value) -> String {
    format!("#{i} {} {}", case["stage"].as_str().unwrap_or("?"), case["name"].as_str().unwrap_or_default())
}

fn check(file: &Value, case: &Value) -> Result<(), String> {
    let stage = case["stage"].as_str().ok_or("no `stage`")?;
    let mut object = read(&case["object"])?;
    if stage.starts_with("default") {
        object.set_defaults();
        let defaulted = read(&case["defaulted"])?;
        if object != defaulted {
            return Err(format!("defaulted: expected {}, got {}", json(&defaulted), json(&object)));
        }
    }
    let old = || read(&case["old"]);
    let validate = |compat: Compat| -> Result<Result<(), ValidationError>, String> {
        Ok(match stage.trim_start_matches("default+") {
            "default" => Ok(()),
            "create" => object.validate_create(compat),
            "update" => object.validate_update(&old()?, compat),
            "status-update" => object.validate_status_update(&old()?, compat),
            other => return Err(format!("unknown stage `{other}`")),
        })
    };
    same_problems(case, validate(compat(&file["gates"]))?)?;
    match case.get("underOtherGates") {
        Some(other) => same_problems(other, validate(compat(&other["gates"]))?),
        None => Ok(()),
    }
}

fn compat(gates: &Value) -> Compat {
    let gate = |name: &str, default: bool| gates[name].as_bool().unwrap_or(default);
    let mut compat = Compat::V1_36;
    compat.strict_ip_validation = gate("StrictIPCIDRValidation", compat.strict_ip_validation);
    compat.relaxed_service_names = gate("RelaxedServiceNameValidation", compat.relaxed_service_names);
    compat.prefer_same_traffic_distribution =
        gate("PreferSameTrafficDistribution", compat.prefer_same_traffic_distribution);
    compat
}

fn read(value: &Value) -> Result<Service, String> {
    serde_json::from_value(value.clone()).map_err(|e| e.to_string())
}

fn json(service: &Service) -> String {
    serde_json::to_string(service).unwrap_or_default()
}

/// Compares field and kind of each problem, in any order.
fn same_problems(case: &Value, got: Result<(), ValidationError>) -> Result<(), String> {
    let mut expected: Vec<_> = case["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| (e["field"].as_str().unwrap_or_default(), e["type"].as_str().unwrap_or_default()))
        .collect();
    let mut problems: Vec<_> = got
        .as_ref()
        .err()
        .into_iter()
        .flat_map(|error| error.problems())
        .map(|problem| (problem.field(), problem.kind().as_str()))
        .collect();
    expected.sort_unstable();
    problems.sort_unstable();
    if expected == problems { Ok(()) } else { Err(format!("expected {expected:?}, got {problems:?}")) }
}
