//! What is written as JSON is read as what it was.
#![cfg(feature = "json")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

mod common;

use common::{Cluster, config, event, families};
use proptest::collection::vec;
use proptest::prelude::*;
use svc_rules::nft::{Ruleset, to_json};
use svc_rules::nftables::{Layout, Proxy, Scope};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_says_what_the_words_say(
        (config, events) in families().prop_flat_map(|family| (config(family), vec(event(family), 4..24))),
        flat in any::<bool>(),
    ) {
        let mut cluster = Cluster::default();
        let mut proxy = Proxy::with_layout(config, if flat { Layout::Flat } else { Layout::Reference });
        for event in &events {
            let _ = cluster.apply(event);
        }
        for service in cluster.services.values() {
            let _ = proxy.apply(service);
        }
        let _ = proxy.sync(&cluster.slices, Scope::Full, &mut String::new());
        let rules = Ruleset::parse(&proxy.table()).unwrap();
        let json = to_json(&proxy.table()).unwrap();
        let read = Ruleset::from_json(&json).unwrap_or_else(|error| panic!("{error}\n{json}"));
        // JSON does not say that sets are dynamic, and so does say the size that those have by default.
        let said = rules.commands().replace("flags dynamic,timeout", "flags timeout");
        let without_size = |rules: &Ruleset| rules.commands().replace(" size 65535 ;", "");
        prop_assert_eq!(without_size(&read), said.clone());
        prop_assert_eq!(without_size(&Ruleset::from_json(&rules.to_json().unwrap()).unwrap()), said);
    }
}

#[test]
fn statements_that_are_not_understood_are_refused() {
    let error = to_json("add table ip t\nadd chain ip t c\nadd rule ip t c limit rate 5/second accept\n")
        .unwrap_err();
    assert_eq!(error.line(), 3);
    assert_eq!(to_json("").unwrap(), r#"{"nftables":[]}"#);
}
