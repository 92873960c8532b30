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
    let mut args =
        vec!["trace", "-f", folder.to_str().expect("UTF-8"), "-o", "json", "--from", from, "--to", to];
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

#[test]
fn the_boutique_has_endpoints_everywhere() {
    let folder = manifests("tests/manifests/online-boutique");
    let (text, code) = run(&["inspect", "-f", folder.to_str().unwrap(), "-o", "json"]);
    assert_eq!(code, 0);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.len(), 12);
    for row in &rows {
        assert_eq!((&row["ready"], &row["notReady"]), (&1.into(), &0.into()), "{row}");
        assert!(row.get("problem").is_none(), "{row}");
    }
    let external = rows.iter().find(|row| row["name"] == "frontend-external").unwrap();
    assert_eq!(external["type"], "LoadBalancer");
}

const SHOP: &str = "shop";

#[test]
fn a_connection_goes_to_any_ready_pod() {
    let (trace, code) = trace(SHOP, "shop/frontend", "orders", &[]);
    assert_eq!((code, &trace["outcome"]["delivered"]), (0, &true.into()));
    assert_eq!(trace["target"]["object"], serde_json::json!({"namespace": "shop", "name": "orders"}));
    assert_eq!(trace["target"]["affinitySeconds"], 3600);
    let candidates = trace["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 3);
    for candidate in candidates {
        assert!((candidate["share"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9, "{candidate}");
        assert!(candidate["address"].as_str().unwrap().ends_with(":8080"), "{candidate}");
        assert_eq!(candidate["policy"]["verdict"], "allow");
    }
    let chains: Vec<_> = trace["rules"]["hits"].as_array().unwrap().iter().map(|hit| &hit["chain"]).collect();
    assert!(chains.iter().any(|chain| chain.as_str().unwrap().starts_with("KUBE-SEP-")), "{chains:?}");
}

#[test]
fn both_proxy_modes_lead_to_the_same_places() {
    for (from, to) in
        [("shop/frontend", "orders"), ("shop/orders", "warehouse"), ("198.51.100.7", "192.168.0.12:30080")]
    {
        let ends = |mode: &str| {
            let (trace, code) = trace(SHOP, from, to, &["--mode", mode]);
            let ends: Vec<_> = trace["candidates"]
                .as_array()
                .unwrap()
                .iter()
                .map(|end| {
                    (
                        end["address"].clone(),
                        (end["share"].as_f64().unwrap() * 1e6).round(),
                        end["masqueradedAs"].clone(),
                    )
                })
                .collect();
            (code, ends)
        };
        assert_eq!(ends("iptables"), ends("nftables"), "{from} -> {to}");
    }
}

#[test]
fn traffic_stays_in_the_zone_where_hints_say_so() {
    for (from, zone, count) in [("shop/frontend", "zone-a", 2), ("shop/database-0", "zone-b", 1)] {
        let (trace, _) = trace(SHOP, from, "users", &[]);
        let candidates = trace["candidates"].as_array().unwrap();
        assert_eq!(candidates.len(), count, "{from}: {candidates:?}");
        assert!(candidates.iter().all(|candidate| candidate["zone"] == zone), "{from}: {candidates:?}");
    }
}

#[test]
fn each_way_to_fail_is_named_with_what_to_change() {
    let cases = [
        ("shop/frontend", "payments", "endpoints", "much like `payment`"),
        ("shop/users", "stock", "policy", "the policies stop it"),
        ("shop/frontend", "kube-dns", "name", "kube-dns"),
        ("shop/frontend", "usres", "name", "no such Service"),
        ("shop/frontend", "orders:81", "service", "has no port 81/TCP"),
    ];
    for (from, to, stage, text) in cases {
        let (trace, code) = trace(SHOP, from, to, &[]);
        assert_eq!(
            (code, trace["outcome"]["failedAt"].as_str()),
            (1, Some(stage)),
            "{to}: {}",
            trace["outcome"]
        );
        assert!(trace["outcome"]["summary"].as_str().unwrap().contains(text), "{to}: {}", trace["outcome"]);
    }
}

#[test]
fn headless_names_lead_to_pods_and_aliases_out_of_the_cluster() {
    let (pods, code) = trace(SHOP, "shop/orders", "database", &[]);
    assert_eq!((code, pods["candidates"].as_array().unwrap().len()), (0, 3));
    let (one, code) = trace(SHOP, "shop/orders", "database-1.database:5432", &[]);
    assert_eq!(code, 0);
    assert_eq!(one["candidates"][0]["pod"]["name"], "database-1");
    let (alias, code) = trace(SHOP, "shop/orders", "archive", &[]);
    assert_eq!((code, &alias["name"]["outside"]), (0, &"archive.example.com".into()));
    let (written, code) = trace(SHOP, "shop/orders", "warehouse", &[]);
    assert_eq!(code, 0);
    let addresses: Vec<_> = written["candidates"].as_array().unwrap().iter().map(|c| &c["address"]).collect();
    assert_eq!(addresses, ["192.0.2.100:3306", "192.0.2.101:3306"]);
}

#[test]
fn traffic_from_outside_is_masqueraded_at_node_ports() {
    let (trace, code) = trace(SHOP, "198.51.100.7", "192.168.0.12:30080", &[]);
    assert_eq!((code, &trace["target"]["kind"]), (0, &"nodePort".into()));
    for candidate in trace["candidates"].as_array().unwrap() {
        assert_eq!(candidate["masqueradedAs"], "192.168.0.12");
    }
}

#[test]
fn both_layouts_of_nftables_mode_can_be_written_in_words_and_in_json() {
    let folder = manifests(SHOP);
    let rules = |more: &[&str]| {
        let args = [&["rules", "-f", folder.to_str().unwrap(), "--mode", "nftables"], more].concat();
        let output = svc(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (reference, flat) = (rules(&[]), rules(&["--layout", "flat"]));
    assert_eq!(rules(&["--layout", "reference"]), reference);
    assert!(reference.contains("map { 0 : ") && !flat.contains("map { 0 : "));
    assert!(flat.contains("map @endpoints-tcp"));
    for layout in ["reference", "flat"] {
        let json: serde_json::Value =
            serde_json::from_str(&rules(&["--layout", layout, "-o", "json"])).unwrap();
        assert!(json["nftables"].as_array().unwrap().len() > 50);
    }
}

#[test]
fn refused_input_is_told_from_a_connection_that_fails() {
    let shop = manifests(SHOP);
    let shop = shop.to_str().unwrap();
    let broken = manifests("tests/manifests/broken.yaml");
    let broken = broken.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["inspect", "-f", "no/such/file"], "no/such/file"),
        (&["inspect", "-f", broken], "document 2 (Service web): spec.ports[0].port: "),
        (&["trace", "-f", shop, "--from", "shop/nobody", "--to", "orders"], "no Pod or workload `nobody`"),
        (&["trace", "-f", shop, "--from", "frontend", "--to", "orders"], "say shop/frontend"),
        (&["trace", "-f", shop, "--from", "shop/frontend", "--to", "orders:0"], "1 to 65535"),
        (&["trace", "-f", shop, "--from", "192.0.2.1", "--to", "orders"], "outside of the cluster"),
        (
            &["trace", "-f", shop, "--from", "shop/frontend", "--to", "kube-dns.kube-system", "--mode", "x"],
            "iptables, ipvs",
        ),
    ];
    for (args, text) in cases {
        let output = svc(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(text), "{args:?}: {error}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

/// The manifests of the introduction to Services that the project began with, each by itself.
#[test]
fn every_seed_manifest_is_understood() {
    let expected = [
        ("01-service-my-web-service", Some(("ClusterIP", "no Pod matches the selector"))),
        ("02-service-order-service", Some(("ClusterIP", "no Pod matches the selector"))),
        ("03-service-web-nodeport", Some(("NodePort", "no Pod matches the selector"))),
        ("04-service-web-loadbalancer", Some(("LoadBalancer", "no Pod matches the selector"))),
        ("05-service-database-service", Some(("ExternalName", ""))),
        ("06-service-external-database", Some(("ClusterIP", ""))),
        ("07-kubeproxyconfiguration-cfg", None),
        ("08-service-web-service", Some(("ClusterIP", "no Pod matches the selector"))),
        ("09-service-mysql-cluster", Some(("headless", "no Pod matches the selector"))),
        ("10-statefulset-mysql-cluster", None),
        ("11-service-external-database", Some(("ClusterIP", "no selector"))),
        ("12-networkpolicy-deny-all-ingress", None),
        ("13-networkpolicy-restrict-egress", None),
        ("14-networkpolicy-namespace-isolation", None),
    ];
    for (name, service) in expected {
        let file = manifests(&format!("tests/manifests/seed/{name}.yaml"));
        let (text, code) = run(&["inspect", "-f", file.to_str().unwrap(), "-o", "json"]);
        assert_eq!(code, 0, "{name}");
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        match service {
            None => assert!(rows.is_empty(), "{name}: {rows:?}"),
            Some((kind, problem)) => {
                assert_eq!((rows.len(), &rows[0]["type"]), (1, &kind.into()), "{name}: {rows:?}");
                let found = rows[0]["problem"].as_str().unwrap_or_default();
                assert!(
                    found.starts_with(problem) && found.is_empty() == problem.is_empty(),
                    "{name}: {found}"
                );
            }
        }
    }
}

/// The StatefulSet and its headless Service are two files of the introduction; together they work.
#[test]
fn the_seed_database_is_reached_by_name() {
    let file =
        |name: &str| manifests(&format!("tests/manifests/seed/{name}.yaml")).to_str().unwrap().to_owned();
    let (service, pods) = (file("09-service-mysql-cluster"), file("10-statefulset-mysql-cluster"));
    let (text, code) = run(&[
        "trace",
        "-f",
        &service,
        "-f",
        &pods,
        "-o",
        "json",
        "--from",
        "mysql-cluster-0",
        "--to",
        "mysql-cluster-2.mysql-cluster:3306",
    ]);
    let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &trace["candidates"][0]["pod"]["name"]), (0, &"mysql-cluster-2".into()));
}

/// All of the introduction's manifests at once, seen from the only Pods that they make.
#[test]
fn the_seed_manifests_together_lead_where_they_say() {
    let folder = "tests/manifests/seed";
    for to in ["my-web-service", "order-service", "web-nodeport", "web-loadbalancer", "web-service"] {
        let (trace, code) = trace(folder, "mysql-cluster-0", to, &["--mode", "iptables"]);
        assert_eq!((code, trace["outcome"]["failedAt"].as_str()), (1, Some("endpoints")), "{to}");
    }
    let (alias, code) = trace(folder, "mysql-cluster-0", "database-service", &["--mode", "iptables"]);
    assert_eq!((code, &alias["name"]["outside"]), (0, &"mysql.example.com".into()));
    for (to, count) in [("external-database", 2), ("mysql-cluster", 3)] {
        let (trace, code) = trace(folder, "mysql-cluster-0", to, &["--mode", "iptables"]);
        assert_eq!((code, trace["candidates"].as_array().unwrap().len()), (0, count), "{to}");
    }
    // The configuration among them asks for IPVS, which packets aren't traced through yet.
    let folder = manifests(folder);
    let output =
        svc(&["trace", "-f", folder.to_str().unwrap(), "--from", "mysql-cluster-0", "--to", "mysql-cluster"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("say --mode iptables"));
}
