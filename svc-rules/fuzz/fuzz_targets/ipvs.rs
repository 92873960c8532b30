//! Any text as input of `ipvsadm -R` and of `ipset restore`: nothing panics, and what is accepted is written as text that
//! reads back the same.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use svc_rules::ipset::{OnDuplicate, restore, save};
use svc_rules::ipvsadm::VirtualServers;

fuzz_target!(|text: &str| {
    let mut servers = VirtualServers::new();
    let _ = servers.restore(text);
    let saved = servers.save();
    let mut again = VirtualServers::new();
    again.restore(&saved).expect("what is written can be read");
    assert_eq!(again.save(), saved);

    let mut sets = BTreeMap::new();
    let _ = restore(text, &mut sets, OnDuplicate::Ignore);
    let saved = save(&sets);
    let mut again = BTreeMap::new();
    restore(&saved, &mut again, OnDuplicate::Refuse).expect("what is written can be read");
    assert_eq!(again, sets);
});
