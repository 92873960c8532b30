//! Texts of the real tools, read and written back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "tests"
)]

use proptest::prelude::*;
use svc_rules::packet::Family;
use svc_rules::xtables::{Match, RestoreErrorKind, RestoreMode, Ruleset, ShowCounters, Target};

/// Restore input in many spellings, and what iptables 1.8.9 (nft and legacy alike) saved after loading it.
const SENT_V4: &str = include_str!("fixtures/sent.v4.txt");
const SAVED_V4: &str = include_str!("fixtures/saved.v4.txt");
const SENT_V6: &str = include_str!("fixtures/sent.v6.txt");
const SAVED_V6: &str = include_str!("fixtures/saved.v6.txt");

fn parse(text: &str, family: Family) -> Ruleset {
    Ruleset::parse(text, family).unwrap_or_else(|error| panic!("{error}"))
}

/// Chain by chain, so that a difference names its rule.
fn assert_same(left: &Ruleset, right: &Ruleset) {
    for table in left.tables() {
        let other = right.table(table.name()).unwrap_or_else(|| panic!("no table {}", table.name()));
        for (name, chain) in table.chains() {
            let theirs = other.chain(name).unwrap_or_else(|| panic!("no chain {name}"));
            let text = |chain: &svc_rules::xtables::Chain| -> Vec<String> {
                chain.rules.iter().map(|rule| rule.text(left.family())).collect()
            };
            assert_eq!(text(chain), text(theirs), "chain {name}");
            assert_eq!(chain, theirs, "chain {name}");
        }
        assert_eq!(table, other);
    }
}

#[test]
fn what_is_sent_equals_what_is_saved() {
    assert_same(&parse(SENT_V4, Family::V4), &parse(SAVED_V4, Family::V4));
    assert_same(&parse(SENT_V6, Family::V6), &parse(SAVED_V6, Family::V6));
}

#[test]
fn saved_text_comes_back_byte_for_byte() {
    for (text, family) in [(SAVED_V4, Family::V4), (SAVED_V6, Family::V6)] {
        assert_eq!(parse(text, family).save(ShowCounters::No), text);
        let counted = parse(text, family).save(ShowCounters::Yes);
        assert_eq!(parse(&counted, family), parse(text, family));
    }
}

#[test]
fn foreign_matches_and_targets_stand_in_their_words() {
    let text = "*filter\n:F - [0:0]\n\
        -A F -p tcp -m multiport --dports 1,2,3:9 -m string --string \"-j \\\"x\" --algo bm ! --icase -j RETURN\n\
        -A F -m limit --limit 5/min -j NFQUEUE --queue-num 3 --queue-bypass\n\
        -A F -m conntrack ! --ctstate NEW --ctproto 6 -j DROP\n\
        -A F -m bpf --bytecode \"4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0\"\n\
        -A F -s 10.0.0.0/255.0.255.0 -j DROP\nCOMMIT\n";
    let rules = parse(text, Family::V4);
    let saved = rules.save(ShowCounters::No);
    let at = saved.find(":F -").unwrap();
    assert_eq!(&saved[at..], &text[text.find(":F -").unwrap()..]);
    let chain = rules.chain("filter", "F").unwrap();
    assert!(
        matches!(&chain.rules[0].matches[0], Match::Opaque(text) if text == "multiport --dports 1,2,3:9")
    );
    assert!(matches!(&chain.rules[1].target, Some(Target::Opaque(text)) if text.starts_with("NFQUEUE ")));
}

#[test]
fn counters_are_read_in_both_places() {
    let rules = parse(
        "*filter\n:INPUT DROP [7:8]\n[1:2] -A INPUT -j DROP\n-A INPUT -c 3 4 -j DROP\nCOMMIT\n",
        Family::V4,
    );
    let text = rules.save(ShowCounters::Yes);
    assert!(text.contains(":INPUT DROP [7:8]\n"));
    assert!(text.contains("[1:2] -A INPUT -j DROP\n[3:4] -A INPUT -j DROP\n"));
    let mut cleared = rules.clone();
    cleared.clear_counters();
    assert_ne!(cleared, rules);
    assert!(cleared.save(ShowCounters::Yes).contains("[0:0] -A INPUT -j DROP\n[0:0] -A INPUT -j DROP\n"));
}

fn nat(rules: &Ruleset) -> String {
    let text = rules.save(ShowCounters::No);
    text.lines().filter(|line| line.contains("KUBE")).collect::<Vec<_>>().join("\n")
}

#[test]
fn restoring_without_flush_changes_only_what_is_named() {
    let mut rules = parse(
        "*nat\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n-A PREROUTING -j KUBE-A\n-A KUBE-A -j KUBE-B\n-A KUBE-B -j ACCEPT\nCOMMIT\n",
        Family::V4,
    );
    // Declaring flushes a user's chain and leaves a builtin one's rules alone.
    rules
        .restore("*nat\n:PREROUTING - [0:0]\n:KUBE-B - [0:0]\n-A KUBE-B -j DROP\nCOMMIT\n", RestoreMode::Keep)
        .unwrap();
    assert_eq!(
        nat(&rules),
        ":KUBE-A - [0:0]\n:KUBE-B - [0:0]\n-A PREROUTING -j KUBE-A\n-A KUBE-A -j KUBE-B\n-A KUBE-B -j DROP"
    );
    // A chain can be unlinked and deleted in one go, as stale chains are.
    rules
        .restore(
            "*nat\n-D KUBE-A -j KUBE-B\n:KUBE-B - [0:0]\n-X KUBE-B\n-I KUBE-A 1 -j RETURN\nCOMMIT\n",
            RestoreMode::Keep,
        )
        .unwrap();
    assert_eq!(nat(&rules), ":KUBE-A - [0:0]\n-A PREROUTING -j KUBE-A\n-A KUBE-A -j RETURN");
    // Without --noflush the table starts empty.
    rules.restore("*nat\n:KUBE-C - [0:0]\nCOMMIT\n", RestoreMode::Replace).unwrap();
    assert_eq!(nat(&rules), ":KUBE-C - [0:0]");
}

#[test]
fn a_table_takes_effect_wholly_or_not_at_all() {
    let mut rules = parse(
        "*nat\n:KUBE-A - [0:0]\n:KUBE-B - [0:0]\n-A KUBE-A -j KUBE-B\n-A KUBE-B -j ACCEPT\nCOMMIT\n*filter\n:KUBE-F - [0:0]\nCOMMIT\n",
        Family::V4,
    );
    let before = rules.clone();
    let mut fails = |text: &str| {
        let error = rules.restore(text, RestoreMode::Keep).unwrap_err();
        assert_eq!(rules, before, "after {text:?}");
        (error.line(), error.kind().clone())
    };
    let name = smol_str::SmolStr::new;
    assert_eq!(fails("*nat\n-X KUBE-A\nCOMMIT\n"), (2, RestoreErrorKind::NotEmpty(name("KUBE-A"))));
    assert_eq!(
        fails("*nat\n-A KUBE-A -j DROP\n:KUBE-B - [0:0]\n-X KUBE-B\nCOMMIT\n"),
        (5, RestoreErrorKind::Referenced(name("KUBE-B")))
    );
    assert_eq!(
        fails("*nat\n-F KUBE-A\n-I KUBE-A 3 -j DROP\n"),
        (3, RestoreErrorKind::NoRule(name("KUBE-A")))
    );
    assert_eq!(
        fails("*nat\n:KUBE-N - [0:0]\n-A KUBE-B -j DROP\n-I KUBE-B -j DROP\n"),
        (5, RestoreErrorKind::NoCommit)
    );
    assert_eq!(fails("*raw\n:KUBE-N - [0:0]\n"), (3, RestoreErrorKind::NoCommit));
    assert_eq!(fails("*nat\n-A NONE -j DROP\n"), (2, RestoreErrorKind::NoChain(name("NONE"))));
    assert_eq!(
        fails("*nat\n-A KUBE-A -j KUBE-X\nCOMMIT"),
        (3, RestoreErrorKind::NoTarget { chain: name("KUBE-A"), target: name("KUBE-X") })
    );
    assert_eq!(fails("*nat\n-D KUBE-A -j DROP\n"), (2, RestoreErrorKind::NoRule(name("KUBE-A"))));
    assert_eq!(fails("-A KUBE-A -j DROP\n"), (1, RestoreErrorKind::NoTable));
    assert_eq!(fails("*nat\n-X PREROUTING\n"), (2, RestoreErrorKind::Builtin(name("PREROUTING"))));
    assert_eq!(fails("*nat\n-N KUBE-A\n"), (2, RestoreErrorKind::ChainExists(name("KUBE-A"))));
    let long = "KUBE-THIS-NAME-IS-TOO-LONG-XX";
    assert_eq!(fails(&format!("*nat\n:{long} - [0:0]\n")), (2, RestoreErrorKind::ChainName(name(long))));
}

#[test]
fn errors_say_what_is_wrong_in_which_line() {
    let message = |rule: &str| {
        Ruleset::parse(&format!("*filter\n\n# comment\n{rule}\nCOMMIT\n"), Family::V4)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(message("-A INPUT --dport 80 -j DROP"), "line 4: unknown option `--dport`");
    assert_eq!(message("-A INPUT -s 10.0.0.256 -j DROP"), "line 4: `10.0.0.256` is no value for `-s`");
    assert_eq!(message("-A INPUT -s fd00::1 -j DROP"), "line 4: `fd00::1` is no value for `-s`");
    assert_eq!(message("-A INPUT -p tcp -m tcp --dport 99999"), "line 4: `99999` is no value for `--dport`");
    assert_eq!(message("-A INPUT -s 1.1.1.1 -s 1.1.1.2"), "line 4: option `-s` is given twice");
    assert_eq!(message("-A INPUT -j"), "line 4: `-j` needs a value");
    assert_eq!(message("-A INPUT -m conntrack --ctstate OLD"), "line 4: `OLD` is no value for `--ctstate`");
    assert_eq!(
        message("-A INPUT -j REJECT --reject-with no"),
        "line 4: `no` is no value for `--reject-with`"
    );
    assert_eq!(message("--foo"), "line 4: unknown command `--foo`");
}

proptest! {
    /// Whatever the bytes, reading neither panics nor loses a rule that it accepted.
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        let _ = Ruleset::parse(&text, Family::V4);
    }

    /// Any word list that is accepted prints to text that reads back the same.
    #[test]
    fn printing_then_reading_gives_the_same_rule(
        words in prop::collection::vec(prop::sample::select(vec![
            "-s", "-d", "-p", "tcp", "udp", "10.0.0.0/8", "1.2.3.4", "!", "-m", "comment", "--comment", "\"a \\\" b\"",
            "-j", "MARK", "--or-mark", "0x4000", "mark", "--mark", "0x1/0x3", "--dport", "80", "-i", "veth+", "DROP",
            "recent", "--name", "X", "--set", "--rcheck", "--seconds", "-g", "KUBE-A", "REJECT", "LOG", "foo", "--bar",
            "statistic", "--mode", "random", "--probability", "0.25", "set", "--match-set", "dst,dst", "addrtype",
            "--dst-type", "LOCAL", "conntrack", "--ctstate", "NEW,DNAT", "DNAT", "--to-destination", "1.2.3.4:5",
        ]), 0..9)
    ) {
        let text = format!("*filter\n:KUBE-A - [0:0]\n-A KUBE-A {}\nCOMMIT\n", words.join(" "));
        if let Ok(rules) = Ruleset::parse(&text, Family::V4) {
            let saved = rules.save(ShowCounters::No);
            let again = Ruleset::parse(&saved, Family::V4).map_err(|e| TestCaseError::fail(format!("{e}: {saved}")))?;
            prop_assert_eq!(again.save(ShowCounters::No), saved);
        }
    }

    /// A comment cannot break out of its rule.
    #[test]
    fn comments_survive(comment in "[^\n\r\0]{0,60}") {
        let mut rules = Ruleset::parse("*filter\n-A INPUT -m comment --comment x -j DROP\nCOMMIT\n", Family::V4).unwrap();
        let rule = rules.chain("filter", "INPUT").unwrap().rules[0].clone();
        let mut rule = rule;
        rule.matches[0] = Match::Comment(comment.as_str().into());
        let text = format!("*filter\n-R INPUT 1 {}\nCOMMIT\n", rule.text(Family::V4));
        rules.restore(&text, RestoreMode::Keep).unwrap();
        prop_assert_eq!(&rules.chain("filter", "INPUT").unwrap().rules[0], &rule);
    }
}
