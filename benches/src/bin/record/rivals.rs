//! Our benches beside those of the crates that one would take otherwise, at the same work.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::report::{reached, time};

/// Our bench and the other crate's, as criterion names their folders; `N` stands for each size.
const PAIRS: &[(&str, &str)] = &[
    ("answer/a", "peer_hickory-proto a"),
    ("answer/a", "peer_domain a"),
    ("answer/srv-5+5", "peer_hickory-proto srv-5+5"),
    ("answer/srv-5+5", "peer_domain srv-5+5"),
    ("pick_mh/N", "peer_maglev_N"),
    ("table build/mh/N", "peer_maglev table build_N"),
    ("pick_ring-hash/N", "peer_pingora-ketama_N"),
    ("pick_least-request/N", "peer_tower p2c_N"),
    ("pick_weighted-random/N", "peer_rand WeightedIndex_N"),
    ("pick_weighted-random/N", "peer_rand_distr WeightedAliasIndex_N"),
];

const SIZES: [&str; 5] = ["2", "10", "100", "1000", "10000"];

/// The table, empty if none of the benches has run. The goal is to be faster than each.
pub(crate) fn table(crates: &BTreeMap<String, [f64; 3]>) -> String {
    let mut rows = String::new();
    for (ours, theirs) in PAIRS {
        let sizes = if ours.contains('N') { &SIZES[..] } else { &SIZES[..1] };
        for size in sizes {
            let (ours, theirs) = (ours.replace('N', size), theirs.replace("_N", &format!("_{size}")));
            let Some(([mine, ..], [other, ..])) = crates.get(&ours).zip(crates.get(&theirs)) else {
                continue;
            };
            let goal = reached(mine < other, "faster");
            let _ = writeln!(
                rows,
                "| {ours} | {} | {} | {} | {:.1} | {goal} |",
                time(*mine),
                theirs.trim_start_matches("peer_"),
                time(*other),
                other / mine
            );
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\n## Beside other crates\n\nMedians of the benches below, at the same work.\n\n\
         | bench | this project | crate | its time | times faster | goal |\n| --- | --- | --- | --- | --- | --- |\n{rows}"
    )
}
