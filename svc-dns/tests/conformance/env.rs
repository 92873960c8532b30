//! Vectors of area `env`: Services, a namespace and whether links are on, and the variables that the kubelet sets.

use std::collections::BTreeMap;

use serde_json::Value;
use svc_dns::{ServiceEnv, ServiceLinks};
use svc_model::Service;

/// Runs the cases of one vector file.
pub fn run(text: &str) -> Result<Vec<(String, Result<(), String>)>, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let cases = file["cases"].as_array().ok_or("no `cases`")?;
    let mut results = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let name = case["name"].as_str().map_or_else(|| format!("case {index}"), str::to_owned);
        let services: Vec<Service> =
            serde_json::from_value(case["services"].clone()).map_err(|error| format!("{name}: {error}"))?;
        results.push((name, check(case, &services)));
    }
    Ok(results)
}

fn check(case: &Value, services: &[Service]) -> Result<(), String> {
    if let Some(expected) = case["expectOrdered"].as_array() {
        let expected: Vec<String> =
            expected.iter().map(|var| format!("{}={}", text(var, "name"), text(var, "value"))).collect();
        let env = ServiceEnv::in_order(services);
        let got: Vec<String> = env.vars().map(|var| format!("{}={}", var.name, var.value)).collect();
        return same(&expected, &got);
    }
    let links = match case["enableServiceLinks"].as_bool() {
        Some(false) => ServiceLinks::Disabled,
        _ => ServiceLinks::Enabled,
    };
    let namespace = case["namespace"].as_str().ok_or("no `namespace`")?;
    let env = ServiceEnv::of(services, namespace, links);
    let mut got: BTreeMap<String, String> =
        env.vars().map(|var| (var.name.to_owned(), var.value.to_owned())).collect();
    if got.len() != env.len() {
        return Err("a name is given twice".to_owned());
    }
    let mut expected: BTreeMap<String, String> =
        serde_json::from_value(case["expect"].clone()).map_err(|error| error.to_string())?;
    // Where the reference leaves the value open, any of those seen is right, and the clash must be known.
    for (name, values) in case["open"].as_object().into_iter().flatten() {
        expected.remove(name);
        let value = got.remove(name).ok_or_else(|| format!("expected {name}"))?;
        if !values.as_array().is_some_and(|values| values.iter().any(|one| one == value.as_str())) {
            return Err(format!("expected {name} to be one of {values}, got {value}"));
        }
        if !env.clashes().any(|clash| clash.name == *name) {
            return Err(format!("expected a clash over {name}"));
        }
    }
    same(&expected, &got)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn same<T: PartialEq + std::fmt::Debug>(expected: &T, got: &T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("expected {expected:?}\n     got {got:?}")) }
}
