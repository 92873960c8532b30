//! Collects problems, and the checks that many kinds share.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Display;

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::path::Path;
use super::{FieldError, FieldErrorKind, ValidationError};
use crate::name::NameRule;
use crate::object::Kind;
use crate::selector::LabelSelectorOperator;
use crate::{IntOrString, LabelSelector, Labels, Port, Scalar, SelectorValues, Sent};

pub(crate) const IMMUTABLE: &str = "is immutable";

#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<FieldError>);

impl Problems {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn into_result<K: Kind>(self, object: &K) -> Result<(), ValidationError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(ValidationError { kind: K::KIND, object: object.object_ref(), problems: self.0 })
    }

    fn push(&mut self, path: &Path<'_>, kind: FieldErrorKind, value: Option<SmolStr>, detail: SmolStr) {
        self.0.push(FieldError { field: path.to_string(), kind, value, detail });
    }

    pub(crate) fn required(&mut self, path: &Path<'_>, detail: &'static str) {
        self.push(path, FieldErrorKind::Required, None, SmolStr::new_static(detail));
    }

    pub(crate) fn forbidden(&mut self, path: &Path<'_>, detail: &'static str) {
        self.push(path, FieldErrorKind::Forbidden, None, SmolStr::new_static(detail));
    }

    pub(crate) fn invalid(
        &mut self,
        path: &Path<'_>,
        value: &(impl Display + ?Sized),
        detail: impl Into<SmolStr>,
    ) {
        self.push(path, FieldErrorKind::Invalid, Some(value.to_smolstr()), detail.into());
    }

    pub(crate) fn unsupported(
        &mut self,
        path: &Path<'_>,
        value: &(impl Display + ?Sized),
        allowed: &[impl Display],
    ) {
        let mut detail = alloc::string::String::from("one of ");
        for (i, value) in allowed.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            detail.push_str(&format_smolstr!("{comma}`{value}`"));
        }
        self.push(path, FieldErrorKind::NotSupported, Some(value.to_smolstr()), detail.into());
    }

    pub(crate) fn duplicate(&mut self, path: &Path<'_>, value: &(impl Display + ?Sized)) {
        self.push(path, FieldErrorKind::Duplicate, Some(value.to_smolstr()), SmolStr::default());
    }

    pub(crate) fn too_long(&mut self, path: &Path<'_>, max: usize) {
        self.push(path, FieldErrorKind::TooLong, None, format_smolstr!("at most {max} bytes"));
    }

    pub(crate) fn too_many(&mut self, path: &Path<'_>, count: usize, max: usize) {
        self.push(path, FieldErrorKind::TooMany, Some(count.to_smolstr()), format_smolstr!("at most {max}"));
    }

    /// A text that must keep a rule for names: one problem for each reason.
    pub(crate) fn name(&mut self, path: &Path<'_>, rule: NameRule, text: &str) {
        self.name_as(path, rule, text, text);
    }

    /// The same for a text that stands in for the `value` which was sent.
    pub(crate) fn name_as(&mut self, path: &Path<'_>, rule: NameRule, text: &str, value: &str) {
        if let Err(error) = rule.check(text) {
            for problem in error.problems() {
                self.invalid(path, value, problem.to_smolstr());
            }
        }
    }

    pub(crate) fn labels(&mut self, path: &Path<'_>, labels: &Labels) {
        for (key, value) in labels.iter() {
            self.name(path, NameRule::LabelKey, key);
            self.name(path, NameRule::LabelValue, value);
        }
    }

    /// A field that must be given, and be a value that is known.
    pub(crate) fn known<T: Scalar>(&mut self, path: &Path<'_>, sent: &Sent<T>, allowed: &[T]) {
        if sent.is_empty() {
            self.required(path, "");
        } else if sent.get().is_none() {
            self.unsupported(path, sent, allowed);
        }
    }

    pub(crate) fn port_number(&mut self, path: &Path<'_>, port: Port) {
        if port.number().is_none() {
            self.invalid(path, &port, "must be from 1 to 65535");
        }
    }

    pub(crate) fn port_number_or_name(&mut self, path: &Path<'_>, port: &IntOrString) {
        match port {
            IntOrString::Int(number) => self.port_number(path, Port::new(*number)),
            IntOrString::String(name) => self.name(path, NameRule::PortName, name),
        }
    }

    /// Calls `report` with the index of each value that an earlier one equals.
    pub(crate) fn duplicates<K: Ord>(
        &mut self,
        values: impl ExactSizeIterator<Item = Option<K>>,
        mut report: impl FnMut(&mut Self, usize),
    ) {
        if values.len() < 2 {
            return;
        }
        let mut seen = BTreeSet::new();
        for (i, value) in values.enumerate() {
            if value.is_some_and(|value| !seen.insert(value)) {
                report(self, i);
            }
        }
    }

    /// A label selector object (`metav1.LabelSelector`).
    pub(crate) fn label_selector(&mut self, path: &Path<'_>, selector: &LabelSelector, mode: SelectorValues) {
        self.labels(&path.child("matchLabels"), &selector.match_labels);
        let path = path.child("matchExpressions");
        for (i, expression) in selector.match_expressions.iter().enumerate() {
            let path = path.index(i);
            let (values, given) = (path.child("values"), !expression.values.is_empty());
            match expression.operator.get() {
                Some(LabelSelectorOperator::In | LabelSelectorOperator::NotIn) if !given => {
                    self.required(&values, "`In` and `NotIn` need values");
                }
                Some(LabelSelectorOperator::Exists | LabelSelectorOperator::DoesNotExist) if given => {
                    self.forbidden(&values, "`Exists` and `DoesNotExist` take no values");
                }
                Some(_) => {}
                None => {
                    self.invalid(&path.child("operator"), &expression.operator, "is not a selector operator")
                }
            }
            self.name(&path.child("key"), NameRule::LabelKey, &expression.key);
            if mode != SelectorValues::Unchecked {
                for (i, value) in expression.values.iter().enumerate() {
                    self.name(&values.index(i), NameRule::LabelValue, value);
                }
            }
        }
    }
}
