use alloc::format;
use alloc::string::ToString;

use super::*;

fn selector(text: &str) -> Selector {
    text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|pair| pair.split_once('=')).collect()
}

#[test]
fn prints_requirements_by_key_and_values_in_order() {
    for (text, canonical) in [
        ("", ""),
        (" \t\r\n", ""),
        ("b,a", "a,b"),
        ("x notin (b,a,,b)", "x notin (,a,b)"),
        ("x in()", "x in ()"),
        ("x==1,x=1", "x==1,x=1"),
        ("x!=,!y", "x!=,!y"),
        ("notin=in,in in (in)", "in in (in),notin=in"),
        ("n>007", "n>007"),
        ("a=b\0,c=d", "a=b,c=d"),
        ("a=b,\0c=d", "a=b,c=d"),
        ("\0a", ""),
    ] {
        assert_eq!(selector(text).to_string(), canonical, "{text:?}");
    }
}

#[test]
fn errors_say_where_and_what() {
    for (text, message) in [
        ("a, \0b", "at byte 3: the selector ends where a label key is expected"),
        (",", "at byte 0: found `,` where a label key is expected"),
        ("a,", "at byte 2: the selector ends where a label key is expected"),
        ("x in (a b)", "at byte 8: found `b` where `,` or `)` is expected"),
        ("x in a", "at byte 5: found `a` where `(` is expected"),
        ("x in (a", "at byte 7: the selector ends where `,` or `)` is expected"),
        ("a==b==c", "at byte 4: found `==` where `,` or the end is expected"),
        ("!k=v", "at byte 2: found `=` where `,` or the end is expected"),
        ("a, n>x", "at byte 3: invalid requirement on label `n`: `x` is not an integer"),
        (
            "n>-1",
            "at byte 0: invalid requirement on label `n`: `-1` is not a valid label value: must be empty, or \
             letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
        ),
    ] {
        let error = text.parse::<Selector>().unwrap_err();
        assert_eq!(error.to_string(), message, "{text:?}");
    }
}

#[test]
fn everything_nothing_and_empty_stay_apart() {
    let some = labels("a=1");
    assert!(Selector::EVERYTHING.matches(&some) && Selector::EVERYTHING.matches(&Labels::default()));
    assert!(!Selector::NOTHING.matches(&some) && !Selector::NOTHING.matches(&Labels::default()));
    assert_eq!(Selector::from_service(None), Selector::NOTHING);
    assert_eq!(Selector::from_service(Some(&Labels::default())), Selector::EVERYTHING);
    assert_eq!(Selector::from_object(None), Ok(Selector::NOTHING));
    assert_eq!(Selector::from_object(Some(&LabelSelector::default())), Ok(Selector::EVERYTHING));
    assert_eq!(Selector::new([]), Selector::EVERYTHING);
    assert_eq!(selector(""), Selector::EVERYTHING);
    let more = Requirement::new("a", Operator::Exists, [""; 0]).unwrap();
    assert_eq!(Selector::NOTHING.and([more.clone()]), Selector::NOTHING);
    assert_eq!(Selector::EVERYTHING.and([more]).to_string(), "a");
    assert!(LabelSelector::try_from(&Selector::NOTHING).is_err());
    assert!(Selector::NOTHING.explain(&some).to_string().contains("nothing"));
}

#[test]
fn wrong_requirements_report_every_problem() {
    let error = Requirement::new("-", Operator::In, [""; 0]).unwrap_err();
    assert_eq!(error.problems().len(), 2);
    let error = Requirement::new("a", Operator::LessThan, ["x y", "2"]).unwrap_err();
    assert_eq!(error.problems().len(), 3, "{error}");
    assert!(Requirement::new("a", Operator::Exists, ["1"]).is_err());
    assert!(Requirement::new("a", Operator::Equals, ["1", "2"]).is_err());
}

#[test]
fn exact_values_are_found() {
    let some = selector("a=1,b in (2),c in (3,4),d!=5,e");
    assert_eq!(some.exact_value("a"), Some("1"));
    assert_eq!(some.exact_value("b"), Some("2"));
    for key in ["c", "d", "e", "f"] {
        assert_eq!(some.exact_value(key), None);
    }
}

#[test]
fn explains_each_kind_of_miss() {
    let found = labels("App=web,tier=frontend,n=5,old=1,env=Prod,word=x");
    for (text, explanation) in [
        ("app=web", "`app=web` fails: there is no label `app`, but one `App`"),
        ("kind", "`kind` fails: there is no label `kind`"),
        (
            "example.com/tier",
            "`example.com/tier` fails: there is no label `example.com/tier`, but one `tier`",
        ),
        ("env in (prod,test)", "`env in (prod,test)` fails: the label is `Prod`, much like `prod`"),
        ("tier=backend", "`tier=backend` fails: the label is `frontend`"),
        ("!old", "`!old` fails: the label is there, as `1`"),
        ("old notin (1,2)", "`old notin (1,2)` fails: the label is `1`"),
        ("n>5", "`n>5` fails: the label is `5`, not greater"),
        ("n<5", "`n<5` fails: the label is `5`, not less"),
        ("word>1", "`word>1` fails: the label is `x`, not an integer"),
    ] {
        let why = selector(text).explain(&found);
        assert!(!why.matches());
        assert_eq!(why.to_string(), format!("0 of 1 requirements hold; {explanation}"));
    }
    let near = selector("app=web,tier=frontend").explain(&found);
    let far = selector("app=web,tier=frontend").explain(&labels("x=y"));
    assert_eq!((near.satisfied(), near.total()), (1, 2));
    assert_eq!(near.cmp_nearness(&far), core::cmp::Ordering::Less);
}

#[test]
fn objects_convert_both_ways() {
    let some = selector("a=1,b in (3,2),!c,d,e notin (x)");
    let object = LabelSelector::try_from(&some).unwrap();
    assert_eq!(Selector::try_from(&object), Ok(some));
    assert!(object.to_labels().is_err());
    for text in ["a!=1", "a>1", "a<1"] {
        assert!(LabelSelector::try_from(&selector(text)).is_err(), "{text}");
    }
    let quirk = LabelSelector::try_from(&selector("a=1,a=2")).unwrap();
    assert_eq!(quirk.to_labels(), Ok(labels("a=2")));
}
