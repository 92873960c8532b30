//! Runs `selector` vectors: the string syntax, `LabelSelector` objects and plain label sets.

#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a missing key is null")]

use serde_json::Value;
use svc_model::{LabelSelector, Labels, Selector};

/// The cases of a file by name, each with its outcome.
pub type Outcomes = Vec<(String, Result<(), String>)>;

/// Runs the cases of one file.
pub fn run(text: &str) -> Result<Outcomes, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let cases = file["cases"].as_array().ok_or("no `cases`")?;
    Ok(cases.iter().enumerate().map(|(i, case)| (name(i, case), check(case))).collect())
}

fn name(i: usize, case: &Value) -> String {
    let input = case.get("selector").or(case.get("set")).unwrap_or(&Value::Null);
    format!("#{i} {input} {}", case.get("labels").unwrap_or(&Value::Null))
}

fn check(case: &Value) -> Result<(), String> {
    let selector = if let Some(set) = case.get("set") {
        let set: Labels = serde_json::from_value::<Option<Labels>>(set.clone())
            .map_err(|e| e.to_string())?
            .unwrap_or_default();
        if let Some(expected) = case.get("validatedError") {
            let got = Selector::from_labels_checked(&set).is_err();
            same("validatedError", expected, &got.into())?;
        }
        Ok(Selector::from_labels(&set))
    } else if let Some(text) = case["selector"].as_str() {
        text.parse::<Selector>().map_err(|e| e.to_string())
    } else {
        let object: Option<LabelSelector> =
            serde_json::from_value(case["selector"].clone()).map_err(|e| e.to_string())?;
        as_map(case, object.as_ref())?;
        Selector::from_object(object.as_ref()).map_err(|e| e.to_string())
    };
    let selector = match (selector, case["error"] == true) {
        (Err(_), true) => return Ok(()),
        (Ok(selector), true) => return Err(format!("expected an error, got `{selector}`")),
        (Err(error), false) => return Err(format!("expected a selector, got the error: {error}")),
        (Ok(selector), false) => selector,
    };
    if let Some(canonical) = case.get("canonical") {
        same("canonical", canonical, &selector.to_string().into())?;
    }
    if let Some(expected) = case.get("labelSelector") {
        let got = LabelSelector::try_from(&selector).map_err(|e| e.to_string())?;
        let wanted: LabelSelector = serde_json::from_value(expected.clone()).map_err(|e| e.to_string())?;
        if got != wanted {
            return Err(format!("labelSelector: expected {expected}, got {got:?}"));
        }
    }
    if case["labelSelectorError"] == true {
        let got = LabelSelector::try_from(&selector);
        if let Ok(got) = got {
            return Err(format!("labelSelector: expected an error, got {got:?}"));
        }
    }
    if let Some(matches) = case.get("matches") {
        let labels: Labels = serde_json::from_value(case["labels"].clone()).map_err(|e| e.to_string())?;
        same("matches", matches, &selector.matches(&labels).into())?;
        same("explanation", matches, &selector.explain(&labels).matches().into())?;
    }
    Ok(())
}

fn as_map(case: &Value, object: Option<&LabelSelector>) -> Result<(), String> {
    let Some(object) = object else { return Ok(()) };
    if let Some(expected) = case.get("asMap") {
        let got = object.to_labels().map_err(|e| e.to_string())?;
        same("asMap", expected, &serde_json::to_value(got).map_err(|e| e.to_string())?)?;
    }
    if case["asMapError"] == true && object.to_labels().is_ok() {
        return Err("asMap: expected an error".into());
    }
    Ok(())
}

fn same(what: &str, expected: &Value, got: &Value) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected {expected}, got {got}")) }
}
