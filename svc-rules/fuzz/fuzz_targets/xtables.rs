//! Any text as rules of iptables: nothing panics, a refused text changes nothing in the table it fails in, and what is
//! accepted is written as text that reads back the same; packets are walked through it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_rules::host::Host;
use svc_rules::packet::{Family, Packet};
use svc_rules::xtables::{RestoreMode, Ruleset, ShowCounters};

fuzz_target!(|text: &str| {
    for family in [Family::V4, Family::V6] {
        let mut rules = Ruleset::new(family);
        for mode in [RestoreMode::Keep, RestoreMode::Replace] {
            let _ = rules.restore(text, mode);
        }
        let saved = rules.save(ShowCounters::Yes);
        let again = Ruleset::parse(&saved, family).expect("what is written can be read");
        assert_eq!(again.save(ShowCounters::Yes), saved);
        let host = Host::new().with_interface("eth0", ["192.0.2.2/24".parse().unwrap()]);
        let packet = Packet::tcp("192.0.2.3:4000".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
        for packet in [packet.clone(), packet.from_interface("eth0")] {
            let walk = rules.walk(&host, &packet);
            let sum: f64 = walk.outcomes.iter().map(|outcome| outcome.probability.value()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        }
    }
});
