//! Laws of label selectors, over random ones.

extern crate alloc;

use alloc::collections::BTreeMap;

use proptest::prelude::*;
use svc_model::selector::{Operator, Requirement};
use svc_model::{LabelSelector, Labels, Selector};

/// The meaning of a selector, word by word as the Kubernetes documentation has it.
fn naive_match(requirements: &[Requirement], labels: &BTreeMap<String, String>) -> bool {
    requirements.iter().all(|requirement| {
        let value = labels.get(requirement.key());
        let listed = value.is_some_and(|value| requirement.values().iter().any(|wanted| wanted == value));
        let number = value.and_then(|value| value.parse::<i64>().ok());
        let bound = requirement.values().first().and_then(|value| value.parse::<i64>().ok());
        match requirement.operator() {
            Operator::Equals | Operator::DoubleEquals | Operator::In => listed,
            Operator::NotEquals | Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number.zip(bound).is_some_and(|(number, bound)| number > bound),
            Operator::LessThan => number.zip(bound).is_some_and(|(number, bound)| number < bound),
        }
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("app".to_owned()),
        Just("in".to_owned()),
        Just("notin".to_owned()),
        Just("example.com/tier".to_owned()),
        "[a-c]",
        "([a-z]{1,3}\\.){0,2}[a-z]/[A-Za-z0-9]([-_.A-Za-z0-9]{0,4}[A-Za-z0-9])?",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("in".to_owned()),
        "[0-3]",
        "[0-9]{1,20}",
        "[A-Za-z0-9]([-_.A-Za-z0-9]{0,4}[A-Za-z0-9])?",
    ]
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let exact =
        (prop::sample::select(vec![Operator::Equals, Operator::DoubleEquals, Operator::NotEquals]), value())
            .prop_map(|(operator, value)| (operator, vec![value]));
    let listed = (
        prop::sample::select(vec![Operator::In, Operator::NotIn]),
        prop::collection::btree_set(value(), 1..5).prop_map(|values| values.into_iter().collect()),
    );
    let unary = prop::sample::select(vec![Operator::Exists, Operator::DoesNotExist])
        .prop_map(|operator| (operator, Vec::new()));
    let compared = (prop::sample::select(vec![Operator::GreaterThan, Operator::LessThan]), any::<u32>())
        .prop_map(|(operator, bound)| (operator, vec![(bound % 12).to_string()]));
    (key(), prop_oneof![exact, listed, unary, compared])
        .prop_filter_map("every one is valid", |(key, (operator, values))| {
            Requirement::new(key, operator, values).ok()
        })
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(key(), value(), 0..6)
}

/// Texts of the grammar's letters, mostly malformed.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "a", "b", "in", "notin", "=", "==", "!=", "!", "(", ")", ",", " ", "\t", ">", "<", "1", "x/y",
            "\0", "é", "-",
        ]),
        0..14,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn printing_and_parsing_are_inverse(requirements in prop::collection::vec(requirement(), 0..6)) {
        let selector = Selector::new(requirements);
        let printed = selector.to_string();
        prop_assert_eq!(printed.parse::<Selector>(), Ok(selector), "{}", printed);
    }

    #[test]
    fn what_parses_is_canonical_after_one_print(text in text()) {
        if let Ok(selector) = text.parse::<Selector>() {
            let printed = selector.to_string();
            prop_assert_eq!(printed.parse::<Selector>(), Ok(selector));
            prop_assert_eq!(printed.parse::<Selector>().map(|again| again.to_string()), Ok(printed));
        }
    }

    #[test]
    fn an_error_points_into_the_text(text in text()) {
        if let Err(error) = text.parse::<Selector>() {
            prop_assert!(text.get(error.offset()..).is_some(), "{:?} {}", text, error);
        }
    }

    #[test]
    fn the_compiled_form_matches_as_the_naive_one(
        requirements in prop::collection::vec(requirement(), 0..5),
        labels in labels(),
    ) {
        let selector = Selector::new(requirements.clone());
        let compiled: Labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let naive = naive_match(&requirements, &labels);
        prop_assert_eq!(selector.matches(&compiled), naive);
        let why = selector.explain(&compiled);
        prop_assert_eq!(why.matches(), naive);
        prop_assert_eq!(why.satisfied() + why.failures().len(), requirements.len());
    }

    #[test]
    fn labels_select_themselves(labels in labels(), more in labels()) {
        let subset: Labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let selector = Selector::from_labels(&subset);
        prop_assert_eq!(Selector::from_labels_checked(&subset), Ok(selector.clone()));
        let all: Labels = more.iter().chain(&labels).map(|(key, value)| (key.as_str(), value.as_str())).collect();
        prop_assert!(selector.matches(&all));
        prop_assert_eq!(selector.matches(&subset), all.contains_all(&subset));
    }

    #[test]
    fn an_object_selects_as_the_selector_it_came_from(
        requirements in prop::collection::vec(requirement(), 0..5),
        labels in labels(),
    ) {
        let selector = Selector::new(requirements);
        if let Ok(object) = LabelSelector::try_from(&selector) {
            let again = Selector::try_from(&object).unwrap();
            let labels: Labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            // Of several `=` on one key the object keeps one, so it may match more, never less.
            prop_assert!(again.matches(&labels) || !selector.matches(&labels));
        }
    }
}
