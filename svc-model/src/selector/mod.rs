//! Label selectors: parsed, compiled, matched, printed and explained.
//!
//! A [`Selector`] is the compiled form. It comes from the string syntax ([`str::parse`]), from the
//! [`LabelSelector`] object of the API (`TryFrom`), or from plain labels as Services have them
//! ([`Selector::from_labels`]). Three things that are easily confused stay apart: a selector that matches
//! everything, one that matches nothing, and one with requirements.

mod explain;
mod object;
mod parse;
mod requirement;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use smol_str::SmolStr;

pub use explain::{Explanation, Failure};
pub use object::{LabelSelector, LabelSelectorError, LabelSelectorOperator, LabelSelectorRequirement};
pub use parse::{ParseSelectorError, ParseSelectorErrorKind};
pub use requirement::{Miss, Operator, Requirement, RequirementError, RequirementProblem};

use crate::labels::Labels;

/// A compiled label selector: all of its requirements must hold.
///
/// Requirements are held in the order of their keys (those of one key as they were given), so selectors that
/// say the same in another order are equal. Cloning shares them.
///
/// ```
/// use svc_model::{Labels, Selector};
///
/// let selector: Selector = "tier in (web, api), !canary".parse()?;
/// let labels: Labels = [("tier", "web")].into_iter().collect();
/// assert!(selector.matches(&labels));
/// assert_eq!(selector.to_string(), "!canary,tier in (api,web)");
/// # Ok::<(), svc_model::selector::ParseSelectorError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Kind);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Nothing,
    Everything,
    /// Not empty, sorted by key.
    All(Arc<[Requirement]>),
}

impl Selector {
    /// The selector that matches all labels: no requirements.
    pub const EVERYTHING: Self = Self(Kind::Everything);

    /// The selector that matches no labels at all. It prints as the empty text, which reads back as
    /// [`EVERYTHING`](Self::EVERYTHING): the syntax has no word for it.
    pub const NOTHING: Self = Self(Kind::Nothing);

    /// A selector of these requirements; of none, [`EVERYTHING`](Self::EVERYTHING).
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut all: Vec<Requirement> = requirements.into_iter().collect();
        if all.is_empty() {
            return Self::EVERYTHING;
        }
        // Stable: requirements on one key stay in their order.
        all.sort_by(|a, b| a.key().cmp(b.key()));
        Self(Kind::All(all.into()))
    }

    /// The selector of plain labels: each must be there with its value. No labels match everything.
    ///
    /// The labels are taken as they are, valid or not, as Kubernetes takes `spec.selector` of a stored
    /// Service. A Service *without* selector selects nothing: that is for the caller to tell, see
    /// [`Selector::from_service`].
    pub fn from_labels(labels: &Labels) -> Self {
        Self::new(labels.iter().map(|(key, value)| Requirement::unchecked_equals(key.into(), value.into())))
    }

    /// [`from_labels`](Self::from_labels) with every key and value checked.
    ///
    /// # Errors
    ///
    /// The first label that has an invalid key or value, in key order.
    pub fn from_labels_checked(labels: &Labels) -> Result<Self, RequirementError> {
        let all: Result<Vec<_>, _> =
            labels.iter().map(|(key, value)| Requirement::new(key, Operator::Equals, [value])).collect();
        Ok(Self::new(all?))
    }

    /// The selector of a Service: `spec.selector`. Absent, it selects nothing (the endpoints are somebody
    /// else's); empty, it selects every Pod of the namespace.
    pub fn from_service(selector: Option<&Labels>) -> Self {
        selector.map_or(Self::NOTHING, Self::from_labels)
    }

    /// The selector of an optional [`LabelSelector`]: absent, it matches nothing; empty, everything.
    ///
    /// # Errors
    ///
    /// The first requirement that is not valid.
    pub fn from_object(selector: Option<&LabelSelector>) -> Result<Self, LabelSelectorError> {
        selector.map_or(Ok(Self::NOTHING), Self::try_from)
    }

    /// This selector with more requirements. [`NOTHING`](Self::NOTHING) stays nothing.
    #[must_use]
    pub fn and(&self, more: impl IntoIterator<Item = Requirement>) -> Self {
        match &self.0 {
            Kind::Nothing => Self::NOTHING,
            _ => Self::new(self.requirements().iter().cloned().chain(more)),
        }
    }

    /// Whether these labels satisfy every requirement.
    ///
    /// Costs one look-up in the labels for each requirement, and no allocation.
    #[inline]
    pub fn matches(&self, labels: &Labels) -> bool {
        match &self.0 {
            Kind::Nothing => false,
            Kind::Everything => true,
            Kind::All(all) => {
                // Both are sorted by key: labels before one that was found need not be looked at again.
                let mut rest = labels.as_slice();
                all.iter().all(|requirement| {
                    let (before, value) = find(rest, requirement.stored_key());
                    rest = rest.get(before..).unwrap_or_default();
                    requirement.judge(value).is_ok()
                })
            }
        }
    }

    /// Whether this selector has no requirements, and so matches everything.
    pub fn is_everything(&self) -> bool {
        self.0 == Kind::Everything
    }

    /// Whether this is [`NOTHING`](Self::NOTHING). Requirements that contradict each other are not found out.
    pub fn is_nothing(&self) -> bool {
        self.0 == Kind::Nothing
    }

    /// The requirements, ordered by key; none for everything and for nothing.
    pub fn requirements(&self) -> &[Requirement] {
        match &self.0 {
            Kind::All(all) => all,
            Kind::Nothing | Kind::Everything => &[],
        }
    }

    /// The one value that this selector wants for a label, judged by the first requirement on that label.
    pub fn exact_value(&self, key: &str) -> Option<&str> {
        self.requirements().iter().find(|r| r.key() == key)?.exact_value()
    }
}

/// The value of a key among sorted labels, and how many labels come before it (none are known to if it is not there).
#[inline]
fn find<'a>(labels: &'a [(SmolStr, SmolStr)], key: &SmolStr) -> (usize, Option<&'a SmolStr>) {
    let at = if labels.len() <= Labels::LINEAR_MAX {
        labels.iter().position(|(known, _)| known == key)
    } else {
        labels.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()
    };
    (at.unwrap_or_default(), at.and_then(|at| labels.get(at)).map(|(_, value)| value))
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        parse::parse(text).map(Self::new)
    }
}

/// The canonical text: requirements by key, values in order. It reads back as an equal selector, except that
/// [`NOTHING`](Selector::NOTHING) prints as the empty text, and that unchecked labels may print as anything.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
