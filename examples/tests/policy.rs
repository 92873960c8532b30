//! `svc policy` as a user runs it, and its page in a real browser: it renders, filters, shows the reason of a cell, and no
//! name in it becomes code.
//!
//! The browser is Chromium. Where there is none the test says so and passes, except where the environment variable `CI` is
//! `true`: there it fails.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use svc_examples::policy_page;
use svc_model::{IpFamily, Object};
use svc_netpol::Engine;

/// A name that would be code, were it not text.
const EVIL: &str =
    "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">";

fn object(kind: &str, value: serde_json::Value) -> Object {
    Object::from_kind(kind, value).unwrap().unwrap()
}

fn engine() -> Engine {
    let mut engine = Engine::default();
    for (name, ip) in [("web", "10.0.0.1"), ("db", "10.0.0.2"), (EVIL, "10.0.0.3")] {
        engine.apply(&object("Pod", json!({
            "metadata": {"namespace": "shop", "name": name, "labels": {"app": if name == EVIL { "evil" } else { name }}},
            "status": {"podIPs": [{"ip": ip}]},
        })));
    }
    engine.apply(&object("NetworkPolicy", json!({
        "metadata": {"namespace": "shop", "name": format!("db{EVIL}")},
        "spec": {
            "podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}],
        },
    })));
    engine
}

fn page() -> (PathBuf, usize) {
    let engine = engine();
    let matrix = engine.matrix(IpFamily::Ipv4);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy-page.html");
    let mut file = std::fs::File::create(&path).unwrap();
    policy_page::write_html(&mut file, &engine, &matrix, IpFamily::Ipv4).unwrap();
    (path, matrix.groups().len())
}

fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    })
}

/// The document after the page's script has run.
fn dom(browser: &str, page: &Path, hash: &str) -> String {
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy-page-profile");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}#{hash}", page.display()))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{browser} failed");
    String::from_utf8(output.stdout).unwrap()
}

/// What stands between two marks, first occurrence.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start} in {text}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end} after {start}")).0
}

#[test]
fn the_page_renders_filters_and_explains_in_a_browser() {
    let Some(browser) = browser() else {
        let required = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!required, "CANNOT RUN: there is no Chromium");
        eprintln!("SKIPPED: there is no Chromium");
        return;
    };
    let (page, groups) = page();
    // Pods db, web and the evil one, and everybody outside; no cell for a lone Pod with itself, or outside with outside.
    assert_eq!(groups, 4);

    let all = dom(browser, &page, "");
    assert_eq!(all.matches("<button").count(), groups * groups - groups);
    assert_eq!(between(&all, "id=\"count\" role=\"status\">", "<"), "12 of 12 connections");
    assert_eq!(between(&all, "<title>", "</title>"), "Who reaches whom", "a name became code");
    assert!(!all.contains("<img"), "a name became an element");

    // Filtered: from web to db, at the port that is open, with the reason of that cell.
    let chosen = dom(browser, &page, "from=web&to=shop/db&port=TCP+5432&cell=2,1");
    assert_eq!(chosen.matches("<button").count(), 1, "{}", between(&chosen, "<tbody>", "</tbody>"));
    assert_eq!(between(&chosen, "id=\"count\" role=\"status\">", "<"), "1 of 12 connections");
    assert!(between(&chosen, "<button", ">").contains("class=\"all\""));
    let reason = between(&chosen, "<section id=\"reason\"", "</section>");
    assert!(reason.contains("shop/web -&gt; shop/db"), "{reason}");
    assert!(reason.contains("allowed: TCP 5432"), "{reason}");
    assert!(reason.contains("ingress[0], peer 0, port 0"), "{reason}");
    assert!(reason.contains("and no rule matches"), "{reason}");

    // Another port of the same cell is closed.
    let closed = dom(browser, &page, "from=web&to=shop/db&port=udp/53");
    assert!(between(&closed, "<button", ">").contains("class=\"none\""));
}

#[test]
fn the_picture_has_a_square_for_each_pair_and_only_text_in_it() {
    let matrix = engine().matrix(IpFamily::Ipv4);
    let mut svg = Vec::new();
    policy_page::write_svg(&mut svg, &matrix).unwrap();
    let svg = String::from_utf8(svg).unwrap();
    let groups = matrix.groups().len();
    assert_eq!(svg.matches("<rect").count(), 1 + groups * groups);
    assert!(!svg.contains("<script") && !svg.contains("<img"));
    assert!(svg.contains("shop/web -&gt; shop/db: TCP 5432"));
}

fn svc(args: &[&str]) -> (String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_svc")).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap();
    assert!(code < 2, "{args:?}: {errors}");
    (String::from_utf8(output.stdout).unwrap(), code)
}

/// The same with the shop's manifests.
fn shop(command: &str, args: &[&str]) -> (String, i32) {
    svc(&[&["policy", command, "-n", "shop", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/shop")], args]
        .concat())
}

#[test]
fn the_tool_answers_with_text_and_exit_code() {
    let (text, code) = shop("check", &["orders", "database", "5432"]);
    assert!(code == 0 && text.ends_with(" TCP 5432: allow\n"), "{code} {text}");
    let (text, code) = shop("check", &["frontend", "database", "5432"]);
    assert!(code == 1 && text.ends_with(" TCP 5432: deny\n"), "{code} {text}");
}

#[test]
fn points_on_which_engines_disagree_are_read_as_told() {
    let itself = ["frontend", "frontend", "1"];
    assert_eq!(shop("check", &itself).1, 0);
    assert_eq!(shop("check", &[&itself[..], &["--read", "self-traffic-evaluated"]].concat()).1, 1);
}

#[test]
fn a_denial_is_explained_with_the_rule_that_comes_nearest() {
    let (text, code) = shop("explain", &["frontend", "database", "tcp/5432"]);
    assert_eq!(code, 1);
    assert!(
        text.contains("isolated by NetworkPolicy shop/database, NetworkPolicy shop/default-deny"),
        "{text}"
    );
    assert!(text.contains("NetworkPolicy shop/database ingress[0]: peer 0 is another"), "{text}");
    let (json, _) = shop("explain", &["frontend", "database", "5432", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["verdict"], "deny");
    assert_eq!(json["nearest"].as_array().unwrap().len(), 3);
}

#[test]
fn a_pod_is_told_who_reaches_it_and_what_it_reaches() {
    let (text, code) = shop("reach", &["database"]);
    assert!(code == 0 && text.contains("not reachable from outside\n"), "{text}");
    let reached: Vec<&str> = text.lines().filter(|line| line.contains("reached by")).collect();
    assert!(reached.iter().any(|line| line.contains("shop/orders") && line.contains("TCP 5432")), "{text}");
    assert!(!reached.iter().any(|line| line.contains("frontend")), "{text}");
    // A Pod that isn't there yet.
    let more = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy-reach.yaml");
    std::fs::write(
        &more,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: new, namespace: open}\nspec: {containers: [{name: c, image: i}]}\n",
    )
    .unwrap();
    let (json, code) = shop("reach", &["open/new", "-o", "json", "-f", more.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["reachableFromOutside"]), (0, &true.into()));
    assert!(json["reaches"].as_array().unwrap().iter().all(|row| row["who"] != "open/new"), "{json}");
}

#[test]
fn the_matrix_comes_in_every_format() {
    let (table, _) = shop("matrix", &[]);
    assert!(table.contains("TCP 5432") && table.contains("FROM \\ TO"), "{table}");
    let (json, _) = shop("matrix", &["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["connections"].as_array().unwrap().len() > 20);
    assert!(shop("matrix", &["-o", "svg"]).0.starts_with("<svg"));
    assert!(shop("matrix", &["-o", "html"]).0.starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_change_is_told_by_the_connections_that_it_changes() {
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/shop");
    assert_eq!(shop("diff", &["--to", manifests]), ("no connection changes\n".to_owned(), 0));
    let more = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy-diff.yaml");
    std::fs::write(
        &more,
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: open, namespace: shop}\n\
        spec: {podSelector: {matchLabels: {app: payments}}, ingress: [{ports: [{port: 8443}]}]}\n",
    )
    .unwrap();
    let (text, code) = shop("diff", &["--to", manifests, "--to", more.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(text.contains("TCP 8443") && text.contains("NetworkPolicy shop/open ingress[0]"), "{text}");
    assert!(!text.contains("database"), "{text}");
}

#[test]
fn lint_says_what_is_probably_not_meant() {
    let (text, code) = shop("lint", &[]);
    assert!(code <= 1 && !text.is_empty());
    let evil = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy-lint.yaml");
    std::fs::write(
        &evil,
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: lost, namespace: shop}\n\
        spec: {podSelector: {matchLabels: {app: nobody}}}\n",
    )
    .unwrap();
    let (text, code) = shop("lint", &["-f", evil.to_str().unwrap()]);
    assert!(
        code == 1 && text.contains("NetworkPolicy shop/lost") && text.contains("selects no Pod"),
        "{text}"
    );
}
