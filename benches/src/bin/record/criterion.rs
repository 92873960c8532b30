//! What the criterion benches have measured: medians by bench.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// Medians in nanoseconds, with the ends of their confidence interval; nothing if the benches have not run.
pub(crate) fn read(folder: &Path) -> BTreeMap<String, [f64; 3]> {
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, [f64; 3]>) {
    let estimates = folder.join("new").join("estimates.json");
    if let Some(median) = std::fs::read(&estimates).ok().and_then(|text| median(&text)) {
        let name = folder.strip_prefix(root).unwrap_or(folder).display().to_string();
        found.insert(name, median);
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(root, &entry.path(), found);
        }
    }
}

fn median(text: &[u8]) -> Option<[f64; 3]> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let median = &value["median"];
    let interval = &median["confidence_interval"];
    Some([
        median["point_estimate"].as_f64()?,
        interval["lower_bound"].as_f64()?,
        interval["upper_bound"].as_f64()?,
    ])
}
