//! Runs `alloc` vectors: ranges with their bands, and sequences of allocations.
#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a missing key is null")]

use core::net::IpAddr;

use serde_json::{Value, json};
use svc_model::IpFamily;
use svc_model::allocation::{
    AllocError, Band, ClusterIpAllocator, ClusterIpRange, NodePortAllocator, NodePortRange,
};

/// The cases of a file by name, each with its outcome.
pub type Outcomes = Vec<(String, Result<(), String>)>;

/// Runs the cases of one file.
pub fn run(text: &str) -> Result<Outcomes, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let check = match file["kind"].as_str() {
        Some("clusterIP") => cluster_ip,
        Some("nodePort") => node_port,
        _ => return Err("unknown `kind`".into()),
    };
    let cases = file["cases"].as_array().ok_or("no `cases`")?;
    Ok(cases.iter().enumerate().map(|(i, case)| (name(i, case), check(case))).collect())
}

fn name(i: usize, case: &Value) -> String {
    let range = case.get("cidr").unwrap_or(&case["range"]);
    format!("#{i} {}", range.as_str().unwrap_or("?"))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{value} is no text"))
}

/// Compares a result with the case's value of that name, if it has one.
fn same(case: &Value, key: &str, got: Value) -> Result<(), String> {
    match case.get(key) {
        Some(expected) if *expected != got => Err(format!("{key}: expected {expected}, got {got}")),
        _ => Ok(()),
    }
}

fn cluster_ip(case: &Value) -> Result<(), String> {
    let net = text(&case["cidr"])?.parse().map_err(|e| format!("cidr: {e}"))?;
    same(case, "bitmapFree", ClusterIpRange::bitmap(net).size().into())?;
    let range = match ClusterIpRange::new(net) {
        Ok(range) if case.get("error").is_none() => range,
        Err(_) if case.get("error").is_some() => return Ok(()),
        other => return Err(format!("expected error {}, got {other:?}", case["error"])),
    };
    same(case, "size", range.size().into())?;
    same(case, "staticBand", range.static_band().into())?;
    let mut allocator = ClusterIpAllocator::new(IpFamily::of(net.addr()));
    allocator.add_range(range).map_err(|e| e.to_string())?;
    if range.size() > 0 {
        for (key, got) in
            [("first", range.first()), ("last", range.last()), ("dynamicFirst", range.dynamic_first())]
        {
            same(case, key, json!(got))?;
        }
        // The reference counts in signed numbers.
        same(case, "free", allocator.free().min(i64::MAX as u64).into())?;
    }
    for op in case["dryRun"].as_array().into_iter().flatten() {
        match text(&op["op"])? {
            "allocateNext" => same(op, "got", json!(allocator.dry_run_next()))?,
            _ => same_error(op, &allocator.check_range(parse(&op["ip"])?))?,
        }
    }
    for (i, op) in case["ops"].as_array().into_iter().flatten().enumerate() {
        cluster_ip_op(&mut allocator, &range, op).map_err(|e| format!("op {i} {op}: {e}"))?;
        same(op, "used", allocator.used().into()).map_err(|e| format!("op {i} {op}: {e}"))?;
        same(op, "free", allocator.free().into()).map_err(|e| format!("op {i} {op}: {e}"))?;
    }
    same(case, "usedAfter", json!(allocator.iter().collect::<Vec<_>>()))
}

fn parse(value: &Value) -> Result<IpAddr, String> {
    text(value)?.parse().map_err(|e| format!("{value}: {e}"))
}

fn cluster_ip_op(
    allocator: &mut ClusterIpAllocator,
    range: &ClusterIpRange,
    op: &Value,
) -> Result<(), String> {
    match text(&op["op"])? {
        "allocate" => same_error(op, &allocator.allocate(parse(&op["ip"])?)),
        "release" => {
            allocator.release(parse(&op["ip"])?);
            Ok(())
        }
        "has" => same(op, "has", allocator.has(parse(&op["ip"])?).into()),
        "allocateNext" => {
            let wanted = op.get("got").map(parse).transpose()?;
            let band = wanted.and_then(|ip| range.band(ip));
            let start = match (band, range.first(), range.dynamic_first()) {
                (Some(Band::Static), Some(first), _) => offset(first, wanted),
                (Some(Band::Dynamic), _, Some(first)) => offset(first, wanted),
                _ => 0,
            };
            let got = allocator.allocate_next(&mut toward(band, start));
            same_error(op, &got)?;
            same_pick(op, got.ok().map(|ip| (json!(ip), range.band(ip))))
        }
        other => Err(format!("unknown op `{other}`")),
    }
}

fn offset(first: IpAddr, ip: Option<IpAddr>) -> u64 {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    ip.map_or(0, |ip| u64::try_from(bits(ip) - bits(first)).unwrap_or_default())
}

/// Entropy that makes the pick which the recorded run made by chance.
fn toward(band: Option<Band>, start: u64) -> impl FnMut(u64) -> u64 {
    let mut dynamic = true;
    move |_| {
        let wanted = if dynamic { Band::Dynamic } else { Band::Static };
        dynamic = false;
        if band == Some(wanted) { start } else { 0 }
    }
}

fn same_pick(op: &Value, got: Option<(Value, Option<Band>)>) -> Result<(), String> {
    let Some((got, band)) = got else { return Ok(()) };
    same(op, "got", got)?;
    let band = match band {
        Some(Band::Static) => "static",
        Some(Band::Dynamic) => "dynamic",
        None => "none",
    };
    same(op, "band", band.into())
}

fn same_error<T>(op: &Value, got: &Result<T, AllocError>) -> Result<(), String> {
    let kind = match got {
        Ok(_) => Value::Null,
        Err(AllocError::NotInRange { .. }) => "not-in-range".into(),
        Err(AllocError::Allocated { .. }) => "allocated".into(),
        Err(AllocError::Full { .. }) => "full".into(),
        Err(other) => other.to_string().into(),
    };
    let expected = &op["error"]["kind"];
    if *expected == kind { Ok(()) } else { Err(format!("error: expected {expected}, got {kind}")) }
}

fn node_port(case: &Value) -> Result<(), String> {
    let range: NodePortRange = match text(&case["range"])?.parse() {
        Ok(range) if case.get("error").is_none() => range,
        Err(_) if case.get("error").is_some() => return Ok(()),
        other => return Err(format!("expected error {}, got {other:?}", case["error"])),
    };
    let mut allocator = NodePortAllocator::new(range);
    same(case, "base", range.base().into())?;
    same(case, "size", range.size().into())?;
    same(case, "staticBand", range.static_band().into())?;
    same(case, "free", allocator.free().into())?;
    for (i, op) in case["ops"].as_array().into_iter().flatten().enumerate() {
        node_port_op(&mut allocator, op).map_err(|e| format!("op {i} {op}: {e}"))?;
        same(op, "used", allocator.used().into()).map_err(|e| format!("op {i} {op}: {e}"))?;
        same(op, "free", allocator.free().into()).map_err(|e| format!("op {i} {op}: {e}"))?;
    }
    same(case, "usedAfter", json!(allocator.iter().collect::<Vec<_>>()))
}

fn node_port_op(allocator: &mut NodePortAllocator, op: &Value) -> Result<(), String> {
    let port = i32::try_from(op["port"].as_i64().unwrap_or_default()).map_err(|e| e.to_string())?;
    match text(&op["op"])? {
        "allocate" => same_error(op, &allocator.allocate(port)),
        "release" => {
            allocator.release(port);
            Ok(())
        }
        "has" => same(op, "has", allocator.has(port).into()),
        "allocateNext" => {
            let range = allocator.range();
            let wanted = op["got"].as_u64().unwrap_or_default();
            let band = range.band(i32::try_from(wanted).map_err(|e| e.to_string())?);
            let skipped = if band == Some(Band::Dynamic) { range.static_band() } else { 0 };
            let start = wanted.saturating_sub(u64::from(range.base()) + u64::from(skipped));
            let got = allocator.allocate_next(&mut toward(band, start));
            same_error(op, &got)?;
            same_pick(op, got.ok().map(|port| (json!(port), range.band(port.into()))))
        }
        other => Err(format!("unknown op `{other}`")),
    }
}
