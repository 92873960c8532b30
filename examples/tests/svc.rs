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
fn all_proxy_modes_lead_to_the_same_places() {
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
        for other in ["nftables", "nftables-flat", "ipvs"] {
            assert_eq!(ends("iptables"), ends(other), "{from} -> {to} in mode {other}");
        }
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
    let rules = |mode: &str, more: &[&str]| {
        let args = [&["rules", "-f", folder.to_str().unwrap(), "--mode", mode], more].concat();
        let output = svc(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (reference, flat) = (rules("nftables", &[]), rules("nftables-flat", &[]));
    assert!(reference.contains("map { 0 : ") && !flat.contains("map { 0 : "));
    assert!(flat.contains("map @endpoints-tcp"));
    for mode in ["nftables", "nftables-flat"] {
        let json: serde_json::Value = serde_json::from_str(&rules(mode, &["-o", "json"])).unwrap();
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
            "nftables-flat or ipvs",
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
    // The configuration among them asks for IPVS.
    let (ipvs, code) = trace(folder, "mysql-cluster-0", "external-database", &[]);
    assert_eq!((code, &ipvs["rules"]["mode"]), (0, &"ipvs".into()));
    let hits = ipvs["rules"]["hits"].as_array().unwrap();
    assert!(hits.iter().any(|hit| hit["table"] == "ipvs"), "{hits:?}");
}

/// A file with this text, to be read by `svc`.
fn scratch(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the folder for temporary files can be written to");
    path.to_str().expect("UTF-8").to_owned()
}

/// What `svc rules` writes is what `svc audit` wants to find; without a line of it, it says whose line that is.
#[test]
fn an_audit_finds_what_is_missing() {
    let shop = manifests(SHOP);
    let shop = shop.to_str().unwrap();
    let cases: [(&str, &[&str], &str, &str); 3] = [
        ("iptables", &["--iptables-save"], "-A KUBE-SEP-", "iptables-restore --noflush"),
        ("nftables", &["--nft"], "add element ip kube-proxy service-ips { ", "nft -f -"),
        ("nftables-flat", &["--flat", "--nft"], "add rule ip kube-proxy cluster/tcp/", "nft -f -"),
    ];
    for (mode, options, line, tool) in cases {
        let (rules, code) = run(&["rules", "-f", shop, "--mode", mode]);
        assert_eq!(code, 0);
        let audit = |name: &str, text: &str| {
            let file = scratch(&format!("{name}-{mode}"), text);
            let args = [&["audit", "-f", shop, "-o", "json"], options, &[&file]].concat();
            let (found, code) = run(&args);
            let found: serde_json::Value = serde_json::from_str(&found).unwrap();
            let (repair, _) = run(&[&["audit", "-f", shop, "--repair"], options, &[&file]].concat());
            (found, code, repair)
        };
        // The jumps to the chains are no part of a restore input.
        let (found, code, _) = audit("whole", &rules);
        let faults = found["findings"].as_array().unwrap();
        assert!(faults.iter().all(|fault| fault["service"].is_null()), "{mode}: {found}");
        assert_eq!(code, i32::from(mode == "iptables"), "{mode}: {found}");

        let gone = rules.lines().position(|text| text.starts_with(line)).unwrap();
        let kept: String = rules
            .lines()
            .enumerate()
            .filter(|(at, _)| *at != gone)
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        let (found, code, repair) = audit("damaged", &kept);
        assert_eq!((code, &found["repair"][0]["command"]), (1, &tool.into()), "{mode}: {found}");
        assert_eq!(found["repair"][0]["input"], repair, "{mode}");
        let lacks = |fault: &serde_json::Value| fault["text"].as_str().unwrap().contains(" lacks the ");
        assert!(found["findings"].as_array().unwrap().iter().any(lacks), "{mode}: {found}");
    }
    let output = svc(&["audit", "-f", shop]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--nft"));
}

/// A node without anything gets from the repair what `svc audit` wants to find.
#[test]
fn an_audit_of_ipvs_reads_three_files() {
    let shop = manifests(SHOP);
    let shop = shop.to_str().unwrap();
    let audit = |name: &str, [servers, sets, rules]: [&str; 3]| {
        let file = |kind: &str, text: &str| scratch(&format!("ipvs-{name}-{kind}"), text);
        let (servers, sets, rules) = (file("servers", servers), file("sets", sets), file("rules", rules));
        let files = ["--ipvs", &servers, "--ipset", &sets, "--iptables-save", &rules];
        run(&[&["audit", "-f", shop, "-o", "json"], &files[..]].concat())
    };
    let foreign = "create cali40 hash:net,iface family inet hashsize 1024 maxelem 65536\n";
    let (found, code) = audit("empty", ["", foreign, ""]);
    assert_eq!(code, 1);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let says = |text: &str| found["findings"].as_array().unwrap().iter().any(|fault| fault["text"] == text);
    assert!(says("node: set KUBE-CLUSTER-IP is missing from table ipset"), "{found}");
    let step = |tool: &str| {
        let steps = found["repair"].as_array().unwrap().iter();
        let of_tool = |step: &&serde_json::Value| step["command"].as_str().unwrap().starts_with(tool);
        steps.filter(of_tool).map(|step| step["input"].as_str().unwrap()).collect::<String>()
    };
    let (servers, sets, rules) = (step("ipvsadm"), step("ipset"), step("iptables"));
    let (found, code) = audit("repaired", [&servers, &sets, &rules]);
    assert_eq!(code, 0, "{found}");
    let output = svc(&["audit", "-f", shop, "--ipvs", "-"]);
    assert_eq!(output.status.code(), Some(2));
}

const CART: &str = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: cart}\n\
    spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}\n---\n\
    apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
    metadata: {namespace: shop, name: cart-1, labels: {kubernetes.io/service-name: cart}}\naddressType: IPv4\n\
    endpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http, port: 8080}]\n";

#[test]
fn a_diff_shows_what_comes_and_goes_in_every_mode() {
    let old = scratch("diff-old.yaml", CART);
    let new = scratch("diff-new.yaml", &CART.replace("10.0.0.1", "10.0.0.2"));
    for (mode, gone, come) in [
        (
            "iptables",
            "- -p tcp -m comment --comment \"shop/cart:http\" -m tcp -j DNAT --to-destination 10.0.0.1:8080",
            "10.0.0.2:8080",
        ),
        ("nftables", "map { 0 : 10.0.0.1 . 8080 }", "map { 0 : 10.0.0.2 . 8080 }"),
        ("nftables-flat", "10.96.0.7 . 80 . 0 : 10.0.0.1 . 8080", "10.96.0.7 . 80 . 0 : 10.0.0.2 . 8080"),
        ("ipvs", "10.0.0.1:8080 weight 1", "10.0.0.2:8080 weight 1"),
    ] {
        let (text, code) = run(&["rules", "--mode", mode, "--diff", &old, &new]);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("- ") && line.contains(gone.trim_start_matches("- "))),
            "{text}"
        );
        assert!(text.lines().any(|line| line.starts_with("+ ") && line.contains(come)), "{text}");
        let (text, code) = run(&["rules", "--mode", mode, "--diff", &old, &old]);
        assert_eq!((text.as_str(), code), ("", 0));
    }
}

#[test]
fn a_move_to_another_mode_is_reported_service_by_service() {
    let shop = manifests(SHOP);
    let shop = shop.to_str().unwrap();
    let (text, code) = run(&["rules", "-f", shop, "--migrate", "iptables", "nftables", "-o", "json"]);
    assert_eq!(code, 1);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let changes = report["changes"].as_array().unwrap();
    assert!(changes.iter().all(|change| change["difference"].is_string()), "{text}");
    let local = changes.iter().find(|change| change["difference"] == "localhost-node-ports").unwrap();
    assert_eq!(local["clients"], serde_json::json!(["node"]));
    assert_eq!(local["to"], "the node itself");
    let explained = report["differences"].as_array().unwrap();
    assert!(explained.iter().any(|known| known["name"] == "localhost-node-ports"), "{text}");
    let (table, code) = run(&["rules", "-f", shop, "--migrate", "iptables", "nftables"]);
    assert_eq!(code, 1);
    assert!(table.contains("localhost-node-ports: ") && table.contains("to do: "), "{table}");
    let (text, code) = run(&["rules", "-f", shop, "--migrate", "iptables", "ipvs", "-o", "json"]);
    assert_eq!(code, 1);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let named =
        |name: &str| report["changes"].as_array().unwrap().iter().any(|change| change["difference"] == name);
    assert!(named("other-ports") && named("pings"), "{text}");
    let (text, code) = run(&["rules", "-f", shop, "--migrate", "nftables", "nftables-flat"]);
    assert_eq!((code, text.contains("nothing changes")), (0, true), "{text}");
    // Whether an address may be a Service's is known where a ServiceCIDR says so.
    let ranges = Path::new(env!("CARGO_TARGET_TMPDIR")).join("service-cidr.yaml");
    let object = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\n\
                  spec: {cidrs: [10.96.0.0/16, \"fd00:10:96::/112\"]}\n";
    std::fs::write(&ranges, object).unwrap();
    let ranges = ranges.to_str().unwrap();
    let unallocated = |files: &[&str]| {
        let files = files.iter().flat_map(|file| ["-f", file]);
        let args =
            ["rules", "--migrate", "iptables", "nftables"].into_iter().chain(files).collect::<Vec<_>>();
        let (text, code) = run(&args);
        assert_eq!(code, 1, "{text}");
        text.contains("10.96.255.254, no Service's address")
    };
    assert!(unallocated(&[shop, ranges]) && !unallocated(&[shop]));
    let output = svc(&["rules", "-f", shop, "--migrate", "iptables", "userspace"]);
    assert_eq!(output.status.code(), Some(2));
}
