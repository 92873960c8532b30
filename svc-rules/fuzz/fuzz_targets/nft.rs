//! Any text as commands of nft: nothing panics, a refused text changes nothing, and what is accepted is written as text
//! that reads back the same; packets are walked through it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_rules::host::Host;
use svc_rules::nft::Ruleset;
use svc_rules::packet::Packet;

const BASE: &str = "add table ip t\nadd chain ip t c { type nat hook prerouting priority -100 ; }\nadd chain ip t d\n\
    add set ip t s { type ipv4_addr ; flags dynamic,timeout ; timeout 5s ; }\n\
    add map ip t m { type ipv4_addr . inet_proto . inet_service : verdict ; }\n";

fuzz_target!(|text: &str| {
    let mut rules = Ruleset::parse(BASE).expect("the base is well formed");
    let before = rules.clone();
    if rules.apply(text).is_err() {
        assert_eq!(rules, before);
        return;
    }
    let commands = rules.commands();
    let again = Ruleset::parse(&commands).expect("what is written can be read");
    assert_eq!(again.commands(), commands);
    let host = Host::new().with_interface("eth0", ["192.0.2.2/24".parse().unwrap()]);
    let packet = Packet::tcp("192.0.2.3:4000".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
    // A draw among very many has as many outcomes; those are left to the tests.
    if !text.contains("mod") {
        let walk = rules.walk(&host, &packet.from_interface("eth0"));
        let sum: f64 = walk.outcomes.iter().map(|outcome| outcome.probability.value()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
});
