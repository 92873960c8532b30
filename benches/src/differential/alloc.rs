//! Sequences of allocations of cluster IPs and node ports, in ranges small enough to run full.

use serde_json::{Value, json};

use super::names::percent;
use crate::generate::Random;

/// A case of area `alloc`.
pub(super) fn alloc(random: &mut Random) -> Value {
    let r = random;
    if percent(r, 50) { cluster_ips(r) } else { node_ports(r) }
}

fn cluster_ips(random: &mut Random) -> Value {
    let r = random;
    let cases: Vec<Value> = (0..4)
        .map(|_| {
            let (net, prefix, bits) = *r.pick(&[
                ("10.0.0.0", "10.0.0.", 24),
                ("10.0.0.0", "10.0.0.", 25),
                ("10.0.0.0", "10.0.0.", 26),
                ("10.0.0.0", "10.0.0.", 28),
                ("10.0.0.0", "10.0.0.", 29),
                ("10.0.0.0", "10.0.0.", 30),
                ("10.0.0.0", "10.0.0.", 22),
                ("10.0.0.0", "10.0.0.", 20),
                ("10.0.0.0", "10.0.0.", 16),
                ("fd00::", "fd00::", 120),
                ("fd00::", "fd00::", 124),
                ("fd00::", "fd00::", 112),
            ]);
            let ops: Vec<Value> = (0..r.between(5, 60))
                .map(|_| {
                    let host = if percent(r, 90) { r.below(20) } else { r.below(300) };
                    let ip = match r.below(20) {
                        0 => (*r.pick(&["11.0.0.1", "9.255.255.255", "fd01::1", "10.0.16.0", "10.1.0.0"]))
                            .to_owned(),
                        _ if prefix.contains(':') => format!("{prefix}{host:x}"),
                        _ => format!("{prefix}{}", host.min(255)),
                    };
                    op(r, "ip", json!(ip))
                })
                .collect();
            json!({"cidr": format!("{net}/{bits}"), "ops": ops})
        })
        .collect();
    json!({"area": "alloc", "kind": "clusterIP", "cases": cases})
}

fn node_ports(random: &mut Random) -> Value {
    let r = random;
    let cases: Vec<Value> = (0..4)
        .map(|_| {
            let range = *r.pick(&[
                "30000-32767",
                "30000-30031",
                "30000-30015",
                "30000-30016",
                "30000-30100",
                "1-10",
                "65500-65535",
                "30000-30000",
            ]);
            let first: usize = range.split('-').next().and_then(|first| first.parse().ok()).unwrap_or(0);
            let ops: Vec<Value> = (0..r.between(5, 60))
                .map(|_| {
                    let port = match r.below(20) {
                        0 => *r.pick(&[0, 65_536, 29_999, 80]),
                        _ => first + r.below(40),
                    };
                    op(r, "port", json!(port))
                })
                .collect();
            json!({"range": range, "ops": ops})
        })
        .collect();
    json!({"area": "alloc", "kind": "nodePort", "cases": cases})
}

fn op(random: &mut Random, key: &str, value: Value) -> Value {
    match random.below(10) {
        0..4 => json!({"op": "allocateNext"}),
        4..7 => json!({"op": "allocate", key: value}),
        7..9 => json!({"op": "release", key: value}),
        _ => json!({"op": "has", key: value}),
    }
}
