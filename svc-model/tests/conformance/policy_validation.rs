//! Runs `policy-validation` vectors: defaults and validation of NetworkPolicies.
#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a missing key is null")]

use serde_json::Value;
use svc_model::{Compat, NetworkPolicy, SelectorValues, ValidationError};

/// The cases of a file by name, each with its outcome.
pub type Outcomes = Vec<(String, Result<(), String>)>;

/// Runs the cases of one file.
pub fn run(text: &str) -> Result<Outcomes, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let cases = file["cases"].as_array().ok_or("no `cases`")?;
    Ok(cases.iter().enumerate().map(|(i, case)| (name(i, case), check(case))).collect())
}

fn name(i: usize, case: &Value) -> String {
    format!("#{i} {} {}", case["stage"].as_str().unwrap_or("?"), case["name"].as_str().unwrap_or_default())
}

fn check(case: &Value) -> Result<(), String> {
    let mut compat = Compat::V1_36;
    // The nameless cases are upstream's table of valid policies, which it runs with strict parsing of
    // addresses off; one of them is among the invalid policies too, where parsing is strict.
    compat.strict_ip_validation = !case["name"].as_str().unwrap_or_default().starts_with("/#");

    compat.selector_values = match case["allowInvalidLabelValueInSelector"] == true {
        true => SelectorValues::Unchecked,
        false => SelectorValues::Checked,
    };

    let stage = case["stage"].as_str().ok_or("no `stage`")?;
    let mut object = read(&case["object"])?;
    if stage.starts_with("default") {
        object.set_defaults();
        let defaulted = read(&case["defaulted"])?;
        if object != defaulted {
            return Err(format!("defaulted: expected {defaulted:?}, got {object:?}"));
        }
    }
    let got = match stage.trim_start_matches("default+") {
        "default" => Ok(()),
        "create" => object.validate_create(compat),
        "update" => object.validate_update(&read(&case["old"])?, compat),
        other => return Err(format!("unknown stage `{other}`")),
    };
    same_problems(case, got)
}

fn read(value: &Value) -> Result<NetworkPolicy, String> {
    serde_json::from_value(value.clone()).map_err(|e| e.to_string())
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
