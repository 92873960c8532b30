//! One condition on one label.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;

use crate::name::{NameError, NameRule};

/// How a requirement relates a label to its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `key=value`: the label is there, with this value.
    Equals,
    /// `key==value`: the same as [`Equals`](Self::Equals), kept apart because it is printed as it was written.
    DoubleEquals,
    /// `key!=value`: the label is absent, or has another value.
    NotEquals,
    /// `key in (a,b)`: the label is there, with one of these values.
    In,
    /// `key notin (a,b)`: the label is absent, or has none of these values.
    NotIn,
    /// `key`: the label is there, with whatever value.
    Exists,
    /// `!key`: the label is absent.
    DoesNotExist,
    /// `key>n`: the label is there, is an integer, and is greater.
    GreaterThan,
    /// `key<n`: the label is there, is an integer, and is less.
    LessThan,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Exists => "exists",
            Self::DoesNotExist => "!",
            Self::GreaterThan => ">",
            Self::LessThan => "<",
        })
    }
}

/// The values of a requirement: nearly always one, so that one is held in place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Values {
    None,
    One(SmolStr),
    /// Sorted, two or more, duplicates kept: they are printed.
    Many(Box<[SmolStr]>),
}

/// One condition on one label: key, operator, values.
///
/// It is valid by construction, except where a [`Selector`](super::Selector) is made of unchecked labels.
/// Its values are held in order, so two requirements are equal when they print alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: SmolStr,
    operator: Operator,
    values: Values,
    /// The number that `>` and `<` compare with; 0 otherwise.
    bound: i64,
}

/// Why a label does not satisfy a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// The label is absent, and must be there.
    Absent,
    /// The label is there, and must not.
    Present,
    /// The label has a value other than those wanted.
    OtherValue,
    /// The label has a value that is ruled out.
    RuledOut,
    /// The label is no integer (64 bits, base 10), so it compares with nothing.
    NotAnInteger,
    /// The label is an integer outside the wanted range.
    OutOfRange,
}

/// One reason why a requirement is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequirementProblem {
    /// The key is no label key.
    Key(NameError),
    /// `in` and `notin` need at least one value.
    NoValues,
    /// The operator takes exactly one value.
    NotOneValue,
    /// `exists` and `!` take no values.
    HasValues,
    /// `>` and `<` need an integer of 64 bits.
    NotAnInteger(SmolStr),
    /// A value is no label value.
    Value(NameError),
}

impl fmt::Display for RequirementProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) | Self::Value(error) => write!(f, "{error}"),
            Self::NoValues => f.write_str("`in` and `notin` need at least one value"),
            Self::NotOneValue => f.write_str("the operator takes exactly one value"),
            Self::HasValues => f.write_str("the operator takes no values"),
            Self::NotAnInteger(value) => write!(f, "`{value}` is not an integer"),
        }
    }
}

/// A requirement is not valid; all reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequirementError {
    key: SmolStr,
    problems: Vec<RequirementProblem>,
}

impl RequirementError {
    /// The key of the requirement.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The reasons, at least one.
    pub fn problems(&self) -> &[RequirementProblem] {
        &self.problems
    }
}

impl fmt::Display for RequirementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid requirement on label `{}`: ", self.key)?;
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl core::error::Error for RequirementError {}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with key, number of values and each value. A value of `>` and `<` must be an
    /// integer *and* a label value, so negative numbers are refused, as Kubernetes refuses them.
    pub fn new(
        key: impl Into<SmolStr>,
        operator: Operator,
        values: impl IntoIterator<Item = impl Into<SmolStr>>,
    ) -> Result<Self, RequirementError> {
        let key = key.into();
        let mut values = values.into_iter().map(Into::into);
        let values = match (values.next(), values.next()) {
            (None, _) => Values::None,
            (Some(value), None) => Values::One(value),
            (Some(first), Some(second)) => {
                let mut all: Vec<SmolStr> = [first, second].into_iter().chain(values).collect();
                all.sort_unstable();
                Values::Many(all.into_boxed_slice())
            }
        };
        let mut made = Self { key, operator, values, bound: 0 };
        let mut problems = Vec::new();
        if let Err(error) = NameRule::LabelKey.check(&made.key) {
            problems.push(RequirementProblem::Key(error));
        }
        made.check_values(&mut problems);
        if problems.is_empty() { Ok(made) } else { Err(RequirementError { key: made.key, problems }) }
    }

    /// `key=value` that nobody checks: labels of stored objects are taken as they are.
    pub(super) fn unchecked_equals(key: SmolStr, value: SmolStr) -> Self {
        Self { key, operator: Operator::Equals, values: Values::One(value), bound: 0 }
    }

    fn check_values(&mut self, problems: &mut Vec<RequirementProblem>) {
        let count = self.values().len();
        match self.operator {
            Operator::In | Operator::NotIn if count == 0 => problems.push(RequirementProblem::NoValues),
            Operator::In | Operator::NotIn => {}
            Operator::Exists | Operator::DoesNotExist if count != 0 => {
                problems.push(RequirementProblem::HasValues);
            }
            Operator::Exists | Operator::DoesNotExist => {}
            _ if count != 1 => problems.push(RequirementProblem::NotOneValue),
            _ => {}
        }
        let mut bound = 0;
        for value in self.values() {
            if matches!(self.operator, Operator::GreaterThan | Operator::LessThan) {
                match value.parse() {
                    Ok(number) => bound = number,
                    Err(_) => problems.push(RequirementProblem::NotAnInteger(value.clone())),
                }
            }
            if let Err(error) = NameRule::LabelValue.check(value) {
                problems.push(RequirementProblem::Value(error));
            }
        }
        self.bound = bound;
    }

    /// The key of the label.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn stored_key(&self) -> &SmolStr {
        &self.key
    }

    /// The operator.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, in byte order; duplicates as they were given.
    pub fn values(&self) -> &[SmolStr] {
        match &self.values {
            Values::None => &[],
            Values::One(value) => core::slice::from_ref(value),
            Values::Many(values) => values,
        }
    }

    /// The value that a label must have to satisfy this requirement, if there is just one.
    pub fn exact_value(&self) -> Option<&str> {
        match (self.operator, &self.values) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, Values::One(value)) => Some(value),
            _ => None,
        }
    }

    /// Whether a label of this value (`None`: no such label) satisfies the requirement.
    #[inline]
    pub fn matches(&self, value: Option<&str>) -> bool {
        self.check(value).is_ok()
    }

    /// Checks a label of this value (`None`: no such label) against the requirement.
    ///
    /// # Errors
    ///
    /// Why the label does not satisfy it.
    #[inline]
    pub fn check(&self, value: Option<&str>) -> Result<(), Miss> {
        self.judge(value)
    }

    /// [`check`](Self::check) for either kind of text: two short values are compared without a call.
    #[inline]
    pub(super) fn judge<V>(&self, value: Option<&V>) -> Result<(), Miss>
    where
        V: AsRef<str> + ?Sized,
        SmolStr: PartialEq<V>,
    {
        match (self.operator, value) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, Some(value)) => {
                if self.has_value(value) { Ok(()) } else { Err(Miss::OtherValue) }
            }
            (Operator::NotEquals | Operator::NotIn, Some(value)) => {
                if self.has_value(value) {
                    Err(Miss::RuledOut)
                } else {
                    Ok(())
                }
            }
            (Operator::GreaterThan | Operator::LessThan, Some(value)) => self.compare(value.as_ref()),
            (Operator::Exists, Some(_)) => Ok(()),
            (Operator::DoesNotExist, Some(_)) => Err(Miss::Present),
            (Operator::NotEquals | Operator::NotIn | Operator::DoesNotExist, None) => Ok(()),
            (_, None) => Err(Miss::Absent),
        }
    }

    #[inline]
    fn has_value<V>(&self, value: &V) -> bool
    where
        V: AsRef<str> + ?Sized,
        SmolStr: PartialEq<V>,
    {
        /// Up to this many values, comparing each for equality is faster than a binary search.
        const LINEAR_MAX: usize = 8;
        match &self.values {
            Values::None => false,
            Values::One(one) => one == value,
            Values::Many(values) if values.len() <= LINEAR_MAX => values.iter().any(|one| one == value),
            Values::Many(values) => {
                values.binary_search_by(|probe| probe.as_str().cmp(value.as_ref())).is_ok()
            }
        }
    }

    fn compare(&self, value: &str) -> Result<(), Miss> {
        let number: i64 = value.parse().map_err(|_| Miss::NotAnInteger)?;
        let within = match self.operator {
            Operator::GreaterThan => number > self.bound,
            _ => number < self.bound,
        };
        if within { Ok(()) } else { Err(Miss::OutOfRange) }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operator {
            Operator::Exists => return f.write_str(&self.key),
            Operator::DoesNotExist => return write!(f, "!{}", self.key),
            Operator::In | Operator::NotIn => write!(f, "{} {} (", self.key, self.operator)?,
            _ => write!(f, "{}{}", self.key, self.operator)?,
        }
        for (i, value) in self.values().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(value)?;
        }
        if matches!(self.operator, Operator::In | Operator::NotIn) {
            f.write_str(")")?;
        }
        Ok(())
    }
}
