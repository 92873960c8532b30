//! Vectors of area `netpol`: Pods, namespaces, nodes and policies; the verdict of each connection.

#![allow(unreachable_pub, reason = "a module of this test, and of the conformance runner")]

use serde_json::Value;
use svc_netpol::model::{Object, Protocol, Sent};
use svc_netpol::{Engine, Flow, Options, Traffic, Verdict};

/// Runs every case of one file: its name, and what differs from the recorded verdicts.
///
/// # Errors
///
/// If the file is no vector file.
pub fn run(text: &str) -> Result<Vec<(String, Result<(), String>)>, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut engine = Engine::new(Options::default());
    for list in ["namespaces", "nodes", "pods", "policies"] {
        for value in file[list].as_array().into_iter().flatten() {
            engine.apply(&object(value)?);
        }
    }
    let cases = file["cases"].as_array().ok_or("no cases")?;
    cases.iter().map(|case| Ok((name(case), check(&engine, case)?))).collect()
}

fn object(value: &Value) -> Result<Object, String> {
    let kind = value["kind"].as_str().ok_or("an object without kind")?;
    match Object::from_kind(kind, value) {
        Some(object) => object.map_err(|e| format!("{kind}: {e}")),
        None => Err(format!("unsupported kind {kind}")),
    }
}

fn name(case: &Value) -> String {
    let end = |end: &Value| end.as_str().or(end["ip"].as_str()).unwrap_or_default().to_owned();
    let protocol = case["protocol"].as_str().unwrap_or_default();
    format!("{} -> {} {protocol} {}", end(&case["from"]), end(&case["to"]), case["port"])
}

fn check(engine: &Engine, case: &Value) -> Result<Result<(), String>, String> {
    let port = case["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("no port")?;
    let protocol: Protocol =
        Sent::new(case["protocol"].as_str().unwrap_or_default()).get().ok_or("no protocol")?;
    let flow = Flow::new(endpoint(&case["from"])?, endpoint(&case["to"])?, Traffic::new(protocol, port));
    let decision = engine.decide(&flow);
    if engine.verdict(&flow) != decision.verdict {
        return Ok(Err("the verdict with reasons is another than the one without".to_owned()));
    }
    let got = [
        ("verdict", decision.verdict),
        ("egress", decision.egress.verdict),
        ("ingress", decision.ingress.verdict),
    ];
    for (key, got) in got {
        let expected = match case[key].as_str() {
            Some("allow") => Verdict::Allow,
            Some("deny") => Verdict::Deny,
            _ => continue,
        };
        if got != expected {
            return Ok(Err(format!("{key}: expected {expected}, got {decision}")));
        }
    }
    Ok(Ok(()))
}

fn endpoint(end: &Value) -> Result<svc_netpol::Endpoint<'_>, String> {
    if let Some(ip) = end["ip"].as_str() {
        return Ok(svc_netpol::Endpoint::Address(ip.parse().map_err(|_| format!("{ip} is no address"))?));
    }
    let (namespace, name) =
        end.as_str().and_then(|end| end.split_once('/')).ok_or("an end that is no Pod")?;
    Ok(svc_netpol::Endpoint::pod(namespace, name))
}
