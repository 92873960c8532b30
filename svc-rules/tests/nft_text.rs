//! Texts of nft, read, written back, and carried out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

use proptest::prelude::*;
use svc_rules::nft::{ErrorKind, Ruleset, Statement, TableFamily};

/// A table of kube-proxy's with every kind of object, and what nft 1.0.6 listed after loading it.
const SENT: &str = include_str!("fixtures/nft.sent.txt");
const LISTED: &str = include_str!("fixtures/nft.listed.txt");

fn parse(text: &str) -> Ruleset {
    Ruleset::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn assert_same(left: &Ruleset, right: &Ruleset) {
    // As text first, so that a difference names its line.
    let (left_text, right_text) = (left.commands(), right.commands());
    for (left, right) in left_text.lines().zip(right_text.lines()) {
        assert_eq!(left, right);
    }
    assert_eq!(left_text, right_text);
    assert_eq!(left, right);
}

fn opaque(rules: &Ruleset) -> Vec<&Statement> {
    let chains = rules.tables().into_iter().flat_map(|table| table.chains());
    let statements = chains.flat_map(|(_, chain)| &chain.rules).flat_map(|rule| &rule.statements);
    statements.filter(|statement| matches!(statement, Statement::Opaque(_))).collect()
}

#[test]
fn what_is_sent_equals_what_is_listed() {
    let (sent, listed) = (parse(SENT), parse(LISTED));
    assert!(opaque(&sent).is_empty(), "{:?}", opaque(&sent));
    assert_same(&sent, &listed);
    assert_eq!(sent.table(TableFamily::Ip6, "kube-proxy").unwrap().chains().len(), 22);
}

#[test]
fn commands_build_the_same_again() {
    let rules = parse(SENT);
    assert_same(&parse(&rules.commands()), &rules);
    // Twice is once, except that rules are added again.
    let mut twice = rules.clone();
    let objects: String =
        SENT.lines().filter(|line| !line.starts_with("add rule")).map(|line| format!("{line}\n")).collect();
    twice.apply(&objects).unwrap();
    assert_same(&twice, &rules);
}

#[cfg(feature = "json")]
#[test]
fn json_says_the_same_as_text() {
    let rules = Ruleset::from_json(include_str!("fixtures/nft.listed.json")).unwrap();
    assert!(opaque(&rules).is_empty(), "{:?}", opaque(&rules));
    // nft 1.0.6 leaves this out of JSON: comments of tables and chains, and the flag `dynamic`.
    let text: String = LISTED
        .lines()
        .filter(|line| !line.contains("comment \"rules for") && !line.contains("comment \"helper for"))
        .map(|line| format!("{}\n", line.replace("flags dynamic,timeout", "flags timeout")))
        .collect();
    assert_same(&rules, &parse(&text));
}

#[cfg(feature = "json")]
#[test]
fn json_that_is_none_of_nft_is_refused() {
    let fail = |text: &str| Ruleset::from_json(text).unwrap_err().to_string();
    assert!(fail("{").starts_with("not JSON"));
    assert_eq!(fail("{}"), "object 0: no list `nftables`");
    let object = |text: &str| fail(&format!("{{\"nftables\": [{{\"metainfo\": {{}}}}, {text}]}}"));
    assert_eq!(object(r#"{"table": {"family": "ip"}}"#), "object 1: `name` is missing");
    assert_eq!(
        object(r#"{"table": {"family": "ip", "name": "a; flush ruleset"}}"#),
        "object 1: `a; flush ruleset` is no name"
    );
    let rule = r#"{"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"accept": null}]}}"#;
    assert_eq!(object(rule), "object 1: line 1: table `t` does not exist");
}

#[cfg(feature = "json")]
#[test]
fn json_that_is_not_understood_stands_in_its_words() {
    let text = r#"{"nftables": [{"table": {"family": "inet", "name": "t"}}, {"chain": {"family": "inet", "table": "t", "name": "c"}},
        {"rule": {"family": "inet", "table": "t", "chain": "c", "expr": [
            {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
            {"limit": {"rate": 4, "per": "second"}}, {"accept": null}]}}]}"#;
    let rules = Ruleset::from_json(text).unwrap();
    let chain = rules.table(TableFamily::Inet, "t").unwrap().chain("c").unwrap();
    let text = chain.rules[0].text(TableFamily::Inet);
    assert!(text.starts_with("ct state established,related json-limit \"{"), "{text}");
    assert_eq!(opaque(&rules).len(), 1);
}

const SMALL: &str = "add table ip t\nadd chain ip t a\nadd chain ip t b\nadd set ip t s { type ipv4_addr ; }\n\
    add map ip t m { type ipv4_addr . inet_proto . inet_service : verdict ; }\nadd rule ip t a ip saddr @s goto b\n\
    add element ip t m { 10.0.0.1 . tcp . 80 comment \"x\" : goto b }\n";

#[test]
fn transactions_take_effect_wholly_or_not_at_all() {
    let mut rules = parse(SMALL);
    let before = rules.clone();
    let mut fails = |text: &str| {
        let error = rules.apply(text).unwrap_err();
        assert_same(&rules, &before);
        (error.line(), error.to_string(), error.kind().clone())
    };
    assert_eq!(fails("add rule ip t a accept\n\nadd rule ip t none accept\n").0, 3);
    assert_eq!(fails("delete chain ip t b\n").1, "line 2: `a` refers to `b`, which does not exist");
    assert_eq!(
        fails("flush chain ip t a; delete chain ip t b").1,
        "line 1: `m` refers to `b`, which does not exist"
    );
    assert_eq!(
        fails("add rule ip t a ip daddr @none drop\n").1,
        "line 2: `a` refers to `none`, which does not exist"
    );
    let taken = "line 1: `10.0.0.1 . tcp . 80` is in `m` already";
    assert_eq!(fails("add element ip t m { 10.0.0.1 . tcp . 80 : drop }").1, taken);
    assert_eq!(fails("create element ip t m { 10.0.0.1 . tcp . 80 : goto b }").1, taken);
    assert_eq!(fails("delete element ip t s { 10.0.0.9 }").1, "line 1: `10.0.0.9` is not in `s`");
    assert_eq!(fails("create table ip t").1, "line 1: table `t` exists already");
    assert_eq!(fails("add table ip u\nadd chain ip v c").1, "line 2: table `v` does not exist");
    assert_eq!(fails("add element ip t s { fd00::1 }").1, "line 1: `fd00::1` is no element");
    assert_eq!(
        fails("add chain ip t c { type nat hook nowhere priority 0 ; }").2,
        ErrorKind::Unexpected("nowhere".into())
    );
    assert_eq!(
        fails("add chain ip t c { type nat hook input priority 0x ; }").1,
        "line 1: `0x` is no priority"
    );
    assert_eq!(fails("add rule ip t a numgen random mod 0 vmap { }").1, "line 1: `0` is no mod");
    assert_eq!(fails("add rule ip t").1, "line 1: something is missing after `rule`");
    assert_eq!(fails("flush ruleset\nadd rule ip t a accept").1, "line 2: table `t` does not exist");
}

#[test]
fn changes_are_carried_out_in_order() {
    let mut rules = parse(SMALL);
    rules
        .apply(
            "add chain ip t c\ninsert rule ip t a goto c comment \"first\"\ndelete element ip t m { 10.0.0.1 . tcp . 80 }\n\
             add element ip t m { 10.0.0.1 . tcp . 80 : drop , 10.0.0.2 . udp . 53 : goto c }\nadd element ip t s { 10.0.0.0/8 }\n",
        )
        .unwrap();
    let text = rules.commands();
    let rules_and_elements: Vec<&str> =
        text.lines().filter(|line| line.starts_with("add rule") || line.starts_with("add element")).collect();
    assert_eq!(
        rules_and_elements,
        [
            "add rule ip t a goto c comment \"first\"",
            "add rule ip t a ip saddr @s goto b",
            "add element ip t m { 10.0.0.1 . tcp . 80 : drop }",
            "add element ip t m { 10.0.0.2 . udp . 53 : goto c }",
            "add element ip t s { 10.0.0.0/8 }",
        ]
    );
    rules.apply("flush chain ip t a\nflush map ip t m\ndelete map ip t m\ndelete set ip t s\ndelete chain ip t a\n").unwrap();
    assert_eq!(rules.commands(), "add table ip t\nadd chain ip t b\nadd chain ip t c\n");
    rules.apply("flush table ip t\ndestroy table ip t\ndestroy table ip t\n").unwrap();
    assert_eq!(rules, Ruleset::new());
}

#[test]
fn foreign_statements_stand_in_their_words() {
    let text = "table inet fw {\n\tflowtable f {\n\t\thook ingress priority 0\n\t\tdevices = { eth0 }\n\t}\n\n\tchain in {\n\
        \t\ttype filter hook input priority filter - 5; policy drop;\n\
        \t\tct state vmap { invalid : drop, established : accept, related : accept }\n\
        \t\ttcp dport { 22, 80-90 } counter packets 5 bytes 300 accept\n\
        \t\tip protocol icmp icmp type { echo-request, echo-reply } limit rate 4/second accept comment \"ping\"\n\
        \t\ticmpv6 type nd-neighbor-solicit accept\n\t}\n}\ntable arp x {\n\tchain y {\n\t}\n}\n";
    let rules = parse(text);
    let table = rules.table(TableFamily::Inet, "fw").unwrap();
    let chain = table.chain("in").unwrap();
    assert_eq!(chain.base.unwrap().priority, -5);
    let texts: Vec<String> = chain.rules.iter().map(|rule| rule.text(TableFamily::Inet)).collect();
    assert_eq!(
        texts,
        [
            "ct state vmap { invalid : drop, established : accept, related : accept }",
            "tcp dport { 22, 80-90 } counter accept",
            "ip protocol icmp icmp type { echo-request, echo-reply } limit rate 4/second accept comment \"ping\"",
            "icmpv6 type nd-neighbor-solicit accept",
        ]
    );
    assert_eq!(opaque(&rules).len(), 2);
    assert_eq!(rules.tables().len(), 1, "tables of other families see no IP packet");
}

proptest! {
    /// Whatever the text, reading it neither panics nor changes anything when it fails.
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,160}") {
        let mut rules = parse(SMALL);
        let before = rules.clone();
        if rules.apply(&text).is_err() {
            prop_assert_eq!(rules, before);
        }
    }

    /// Any words that are accepted as a rule print to text that reads back the same.
    #[test]
    fn printing_then_reading_gives_the_same_rule(
        words in prop::collection::vec(prop::sample::select(vec![
            "ip", "saddr", "daddr", "10.0.0.1", "10.0.0.0/8", "@s", "!=", "{", "}", ",", ".", "tcp", "dport", "80", "th",
            "meta", "l4proto", "mark", "set", "or", "and", "0x4000", "numgen", "random", "mod", "2", "vmap", "map", ":",
            "0", "1", "goto", "jump", "b", "drop", "accept", "reject", "with", "icmp", "dnat", "to", "10.0.0.1:80",
            "masquerade", "fully-random", "fib", "type", "local", "ct", "state", "new", "status", "update", "iifname",
            "veth*", "comment", "\"a b\"", "counter", "foo", "@m",
        ]), 1..12)
    ) {
        let mut rules = parse(SMALL);
        if rules.apply(&format!("add rule ip t b {}\n", words.join(" "))).is_ok() {
            let text = rules.commands();
            let again = Ruleset::parse(&text).map_err(|error| TestCaseError::fail(format!("{error}:\n{text}")))?;
            prop_assert_eq!(again.commands(), text);
        }
    }
}
