//! What the adapters of recorded validations share: reading a file's cases, comparing problems.

use serde_json::Value;
use svc_model::ValidationError;

/// The cases of a file by name, each with its outcome.
pub(super) type Outcomes = Vec<(String, Result<(), String>)>;

/// Runs the cases of one file; `check` is given the file and a case.
pub(super) fn each(
    text: &str,
    check: impl Fn(&Value, &Value) -> Result<(), String>,
) -> Result<Outcomes, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let cases = file["cases"].as_array().ok_or("no `cases`")?;
    Ok(cases.iter().enumerate().map(|(i, case)| (name(i, case), check(&file, case))).collect())
}

fn name(i: usize, case: &Value) -> String {
    format!("#{i} {} {}", case["stage"].as_str().unwrap_or("?"), case["name"].as_str().unwrap_or_default())
}

/// Compares field and kind of each problem, in any order.
pub(super) fn same_problems(case: &Value, got: Result<(), ValidationError>) -> Result<(), String> {
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
