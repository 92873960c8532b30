//! Making a case smaller while it still shows what it showed.

use serde_json::Value;

/// Fields without which an object means nothing, or something that no API server would let through.
const KEPT: &[&str] = &[
    "area",
    "level",
    "config",
    "kind",
    "apiVersion",
    "metadata",
    "namespace",
    "name",
    "spec",
    "protocol",
    "port",
    "addressType",
    "addresses",
    "selector",
    "steps",
    "cases",
    "service",
    "type",
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "family",
    "nodeName",
    "nodeIP",
    "nodeAddresses",
    "masqueradeBit",
    "mode",
    "value",
    "key",
    "operator",
    "existing",
    "labels",
    "controllerName",
    "maxEndpointsPerSlice",
    "objects",
    "conditions",
    "endpoints",
    "ports",
    "apply",
    "delete",
    "status",
    "podIP",
    "podIPs",
    "ip",
    "uid",
    "containers",
    "containerPort",
    "phase",
    "from",
    "to",
    "cidr",
    "values",
    "targetPort",
    "ownerReferences",
    "generateName",
    "sessionAffinity",
    "ttl",
    "serial",
    "notes",
    "resourceVersion",
    "kubernetes.io/service-name",
    "multicluster.kubernetes.io/service-name",
    "multicluster.kubernetes.io/source-cluster",
    "qname",
    "qtype",
];

/// Fields that say one thing together with others.
const WHOLE: &[&str] = &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "sessionAffinityConfig"];

/// Lists and maps that the API never lets be empty, or takes for absent then.
const FILLED: &[&str] = &[
    "addresses",
    "values",
    "ports",
    "ipFamilies",
    "clusterIPs",
    "podIPs",
    "containers",
    "ownerReferences",
    "zones",
    "notes",
    "resourceVersion",
    "kubernetes.io/service-name",
    "multicluster.kubernetes.io/service-name",
    "multicluster.kubernetes.io/source-cluster",
    "selector",
];

/// One case of a file alone, of the areas whose cases stand side by side; `None` where they build on one another. What a
/// case takes over from those before it (objects, the slices that they left) comes with it.
pub fn isolate(mut file: Value, index: usize) -> Option<Value> {
    let cases = file.get_mut("cases")?.as_array_mut()?;
    let before: Vec<Value> = cases.drain(..index).collect();
    cases.truncate(1);
    let mut last = cases.pop()?;
    if let Some(mut objects) = file.get("objects").and_then(Value::as_array).cloned() {
        for case in before.iter().chain([&last]) {
            let listed = |key: &str| case.get(key).and_then(Value::as_array).into_iter().flatten();
            for object in listed("delete").chain(listed("apply")) {
                let name = reference(object);
                objects.retain(|known| reference(known) != name);
            }
            objects.extend(listed("apply").cloned());
        }
        file["objects"] = Value::Array(objects);
    }
    if let Some(case) = last.as_object_mut() {
        case.remove("apply");
        case.remove("delete");
    }
    file["cases"] = Value::Array(vec![last]);
    Some(file)
}

/// Kind, namespace and name of an object or of a reference to one.
fn reference(object: &Value) -> [String; 3] {
    let metadata = object.get("metadata").unwrap_or(object);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    [text(object.get("kind")), text(metadata.get("namespace")), text(metadata.get("name"))]
}

/// Drops elements of lists and fields of objects, one at a time and for as long as `shows` holds of what is left.
pub fn shrink(mut case: Value, mut shows: impl FnMut(&Value) -> bool) -> Value {
    loop {
        let before = case.clone();
        let mut paths = Vec::new();
        places(&case, &mut Vec::new(), &mut paths);
        // The later ones first: what is dropped then does not move the others.
        for path in paths.iter().rev() {
            let mut smaller = case.clone();
            if remove(&mut smaller, path) && shows(&smaller) {
                case = smaller;
            }
        }
        if case == before {
            return case;
        }
    }
}

#[derive(Clone)]
enum Step {
    At(usize),
    Key(String),
}

fn places(value: &Value, path: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
    let may_empty = !matches!(path.last(), Some(Step::Key(key)) if FILLED.contains(&key.as_str()));
    let mut visit = |step: Step, child: &Value, droppable: bool| {
        path.push(step);
        if droppable {
            out.push(path.clone());
        }
        places(child, path, out);
        path.pop();
    };
    match value {
        // A list that may not be empty keeps its last element.
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, item)| visit(Step::At(at), item, items.len() > 1 || may_empty));
        }
        Value::Object(map) => {
            map.iter().filter(|(key, _)| !WHOLE.contains(&key.as_str())).for_each(|(key, child)| {
                let droppable = !KEPT.contains(&key.as_str()) && (map.len() > 1 || may_empty);
                visit(Step::Key(key.clone()), child, droppable);
            })
        }
        _ => {}
    }
}

fn remove(value: &mut Value, path: &[Step]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut at = value;
    for step in parents {
        let next = match step {
            Step::At(index) => at.get_mut(*index),
            Step::Key(key) => at.get_mut(key.as_str()),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match (last, at) {
        (Step::At(index), Value::Array(items)) if *index < items.len() => {
            items.remove(*index);
            true
        }
        (Step::Key(key), Value::Object(map)) => map.remove(key).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_matters_is_left() {
        let case = json!({"steps": [{"apply": [1, 2, 3], "full": true}, {"apply": [4]}], "why": "x"});
        let shows = |case: &Value| case.to_string().contains('2');
        assert_eq!(shrink(case, shows), json!({"steps": [{"apply": [2]}]}));
    }
}
