//! Runs `service` vectors: static defaults, validation of creation, update and status update, and the registry
//! (allocation and release included).
#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a missing key is null")]

#[path = "cases.rs"]
#[allow(clippy::duplicate_mod, reason = "each adapter stands alone")]
mod cases;

use std::collections::HashMap;

use serde_json::{Value, json};
use svc_model::allocation::{ClusterIpAllocator, ClusterIpRange, NodePortAllocator};
use svc_model::registry::{Deletion, Mode, RegistryError, ServiceRegistry};
use svc_model::{Compat, IpFamily, Service, ValidationError};

use cases::{Outcomes, same_problems};

/// Runs the cases of one file.
pub fn run(text: &str) -> Result<Outcomes, String> {
    cases::each(text, check)
}

fn check(file: &Value, case: &Value) -> Result<(), String> {
    let stage = case["stage"].as_str().ok_or("no `stage`")?;
    if stage.starts_with("rest-") {
        return check_registry(file, case, stage);
    }
    let mut object = read(&case["object"])?;
    if stage.starts_with("default") {
        object.set_defaults();
        let defaulted = read(&case["defaulted"])?;
        if object != defaulted {
            return Err(format!("defaulted: expected {}, got {}", json!(defaulted), json!(object)));
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

fn check_registry(file: &Value, case: &Value, stage: &str) -> Result<(), String> {
    let mut registry = registry(file, case)?;
    let mode = if case["dryRun"] == true { Mode::DryRun } else { Mode::Persist };
    let outcome = match stage {
        "rest-create" => registry.create(read(&case["object"])?, mode, &mut |_| 0),
        "rest-update" => registry.update(read(&case["object"])?, &read(&case["old"])?, mode, &mut |_| 0),
        "rest-delete" => {
            let removed = registry.delete(&read(&case["old"])?, mode) == Deletion::Removed;
            if case["removed"] != removed {
                return Err(format!("removed: expected {}, got {removed}", case["removed"]));
            }
            return same_allocated(case, &registry, &HashMap::new());
        }
        other => return Err(format!("unknown stage `{other}`")),
    };
    let mut chosen = HashMap::new();
    match outcome {
        Ok(service) if case["valid"] == true => same_result(case, &service, &mut chosen)?,
        Ok(service) => return Err(format!("expected errors {}, got {}", case["errors"], json!(service))),
        Err(RegistryError::Invalid(error)) if case["status"]["code"] == 422 => {
            same_problems(case, Err(error))?
        }
        Err(RegistryError::Invalid(error)) => {
            return Err(format!("expected {}, got {error}", case["status"]));
        }
        Err(_) if case["status"]["code"] == 500 => {}
        Err(error) => return Err(format!("expected {}, got {error}", case["status"])),
    }
    same_allocated(case, &registry, &chosen)
}

/// The registry as it was before the request.
fn registry(file: &Value, case: &Value) -> Result<ServiceRegistry, String> {
    let mut allocators = Vec::new();
    for family in case["cluster"]["families"].as_array().into_iter().flatten() {
        let family = if family == "IPv6" { IpFamily::Ipv6 } else { IpFamily::Ipv4 };
        let net = file["ranges"][family.as_str()].as_str().ok_or("no range")?;
        let range = ClusterIpRange::new(net.parse().map_err(|e| format!("{net}: {e}"))?);
        let mut allocator = ClusterIpAllocator::new(family);
        allocator.add_range(range.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        for ip in case["allocatedBefore"]["clusterIPs"].as_array().into_iter().flatten() {
            let ip = ip.as_str().unwrap_or_default().parse().map_err(|e| format!("{ip}: {e}"))?;
            if IpFamily::of(ip) == family {
                allocator.allocate(ip).map_err(|e| e.to_string())?;
            }
        }
        allocators.push(allocator);
    }
    let range = file["ranges"]["nodePorts"].as_str().unwrap_or_default();
    let mut node_ports = NodePortAllocator::new(range.parse().map_err(|e| format!("{range}: {e}"))?);
    for port in case["allocatedBefore"]["nodePorts"].as_array().into_iter().flatten() {
        let port = i32::try_from(port.as_i64().unwrap_or_default()).map_err(|e| e.to_string())?;
        node_ports.allocate(port).map_err(|e| e.to_string())?;
    }
    let mut allocators = allocators.into_iter();
    let primary = allocators.next().ok_or("no family")?;
    Ok(ServiceRegistry::new(primary, allocators.next(), node_ports, compat(&file["gates"])))
}

/// Compares the stored Service. Where the reference chose a value by chance, any will do: `chosen` keeps what
/// takes the place of what.
fn same_result(case: &Value, got: &Service, chosen: &mut HashMap<String, Value>) -> Result<(), String> {
    let mut expected = json!(read(&case["result"])?);
    let got = json!(got);
    for path in case["assigned"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
        let (Some(slot), Some(ours)) = (expected.pointer_mut(&pointer), got.pointer(&pointer)) else {
            return Err(format!("{path}: expected a value, got {got}"));
        };
        chosen.insert(slot.to_string(), ours.clone());
        *slot = ours.clone();
    }
    if expected == got { Ok(()) } else { Err(format!("expected {expected}, got {got}")) }
}

/// Compares all that is allocated after the request.
fn same_allocated(
    case: &Value,
    registry: &ServiceRegistry,
    chosen: &HashMap<String, Value>,
) -> Result<(), String> {
    let mut ips = Vec::new();
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        ips.extend(registry.addresses(family).into_iter().flat_map(|a| a.iter()).map(|ip| json!(ip)));
    }
    let ports = registry.node_ports().iter().map(|port| json!(port)).collect();
    for (key, got) in [("clusterIPs", ips), ("nodePorts", ports)] {
        let mut got: Vec<String> = got.iter().map(Value::to_string).collect();
        let expected = case["allocatedAfter"][key].as_array().into_iter().flatten();
        let mut expected: Vec<String> =
            expected.map(|value| chosen.get(&value.to_string()).unwrap_or(value).to_string()).collect();
        got.sort_unstable();
        expected.sort_unstable();
        if got != expected {
            return Err(format!("allocated {key}: expected {expected:?}, got {got:?}"));
        }
    }
    Ok(())
}
