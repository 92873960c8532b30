//! The `svc` tool, run as a user would run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn manifests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn svc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_svc")).args(args).output().expect("svc runs")
}

/// What `svc` prints, and its exit code.
fn run(args: &[&str]) -> (String, i32) {
    let output = svc(args);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (text, output.status.code().expect("an exit code"))
}

/// Traces through the manifests of a folder; the JSON result and the exit code.
fn trace(folder: &str, from: &str, to: &str, more: &[&str]) -> (serde_json::Value, i32) {
    let folder = manifests(folder);
    let mut args = vec!["trace", "-f", folder.to_str().expect("UTF-8"), "-o", "json", "--from", from, "--to", to];
    args.extend(more);
    let output = svc(&args);
    let error = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {error}"));
    (value, output.status.code().expect("an exit code"))
}

/// Which of the boutique's workloads may connect to which Service, read off its policies by hand.
#[test]
fn the_boutique_lets_through_what_its_policies_say() {
    const SHOP: &str = "tests/manifests/online-boutique";
    let allowed = [
        ("loadgenerator", "frontend:80"),
        ("frontend", "adservice:9555"),
        ("frontend", "cartservice:7070"),
        ("frontend", "checkoutservice:5050"),
        ("frontend", "currencyservice:7000"),
        ("frontend", "productcatalogservice:3550"),
        ("frontend", "recommendationservice:8080"),
        ("frontend", "shippingservice:50051"),
        ("checkoutservice", "cartservice:7070"),
        ("checkoutservice", "currencyservice:7000"),
        ("checkoutservice", "emailservice:5000"),
        ("checkoutservice", "paymentservice:50051"),
        ("checkoutservice", "productcatalogservice:3550"),
        ("checkoutservice", "shippingservice:50051"),
        ("recommendationservice", "productcatalogservice:3550"),
        ("cartservice", "redis-cart:6379"),
    ];
    for (from, to) in allowed {
        let (trace, code) = trace(SHOP, from, to, &[]);
        assert_eq!(code, 0, "{from} -> {to}: {}", trace["outcome"]);
        assert_eq!(trace["outcome"]["delivered"], true);
    }
    let denied = [
        ("adservice", "redis-cart:6379"),
        ("frontend", "redis-cart:6379"),
        ("frontend", "paymentservice:50051"),
        ("frontend", "emailservice:5000"),
        ("cartservice", "checkoutservice:5050"),
        ("recommendationservice", "adservice:9555"),
        ("emailservice", "paymentservice:50051"),
    ];
    for (from, to) in denied {
        let (trace, code) = trace(SHOP, from, to, &[]);
        assert_eq!(code, 1, "{from} -> {to}: {}", trace["outcome"]);
        assert_eq!(trace["outcome"]["failedAt"], "policy", "{from} -> {to}: {}", trace["outcome"]);
    }
}
