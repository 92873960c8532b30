//! The selector parser: never panics, points into the text, and prints what reads back as the same selector.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_model::{LabelSelector, Labels, Selector};

fuzz_target!(|text: &str| match text.parse::<Selector>() {
    Ok(selector) => {
        let printed = selector.to_string();
        assert_eq!(printed.parse::<Selector>().as_ref(), Ok(&selector));
        let labels = Labels::from_iter([("app", "web"), ("n", "5"), ("example.com/tier", "")]);
        assert_eq!(selector.matches(&labels), selector.explain(&labels).matches());
        if let Ok(object) = LabelSelector::try_from(&selector) {
            assert!(Selector::try_from(&object).is_ok());
        }
    }
    Err(error) => assert!(text.get(error.offset()..).is_some()),
});
