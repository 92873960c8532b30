//! Small pieces that several areas draw from.

use serde_json::{Map, Value, json};

use crate::generate::Random;

/// Namespaces, few enough to clash.
pub(super) const NAMESPACES: [&str; 3] = ["default", "ns-1", "ns-2"];
/// Zones.
pub(super) const ZONES: [&str; 3] = ["zone-1", "zone-2", "zone-3"];
/// Nodes; the proxy under test runs on the first.
pub(super) const NODES: [&str; 4] = ["node-a", "node-b", "node-c", "node-d"];

/// True in this many of a hundred cases.
pub(super) fn percent(random: &mut Random, share: usize) -> bool {
    random.permille(share * 10)
}

/// One of the items, as a JSON value.
pub(super) fn one(random: &mut Random, items: &[Value]) -> Value {
    random.pick(items).clone()
}

/// Sets a key in this many of a hundred cases.
pub(super) fn maybe(random: &mut Random, share: usize, object: &mut Value, key: &str, value: Value) {
    if percent(random, share) {
        object[key] = value;
    }
}

/// A subset of the items, in their order.
pub(super) fn some<T: Clone>(random: &mut Random, items: &[T], share: usize) -> Vec<T> {
    items.iter().filter(|_| percent(random, share)).cloned().collect()
}

/// true, false, or absent.
pub(super) fn tristate(random: &mut Random, object: &mut Value, key: &str) {
    match random.below(4) {
        0 => {}
        1 => object[key] = json!(false),
        _ => object[key] = json!(true),
    }
}

/// Metadata with a name in a namespace.
pub(super) fn metadata(namespace: &str, name: &str) -> Value {
    let mut map = Map::new();
    if !namespace.is_empty() {
        map.insert("namespace".into(), namespace.into());
    }
    map.insert("name".into(), name.into());
    Value::Object(map)
}

/// A name of almost any shape that the API takes for a Service.
pub(super) fn service_name(random: &mut Random, number: usize) -> String {
    match random.below(8) {
        0 => format!("x{number}"),
        1 => format!("a-{number}-b"),
        2 => format!("{}-{number}", "long-name".repeat(6)),
        _ => format!("svc-{number}"),
    }
}
