//! Runs `policy-validation` vectors: defaults and validation of NetworkPolicies.
#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a missing key is null")]

#[path = "cases.rs"]
#[allow(clippy::duplicate_mod, reason = "each adapter stands alone")]
mod cases;

use serde_json::Value;
use svc_model::{Compat, NetworkPolicy, SelectorValues};

use cases::{Outcomes, same_problems};

/// Runs the cases of one file.
pub fn run(text: &str) -> Result<Outcomes, String> {
    cases::each(text, |_, case| check(case))
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
