//! Why a selector does not match, and how near the labels come.

use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;

use super::requirement::{Miss, Operator, Requirement};
use super::{Kind, Selector};
use crate::labels::Labels;

/// How labels fare against a selector: which requirements fail, and why.
///
/// Of many Pods that do not match, the least by [`cmp_nearness`](Self::cmp_nearness) is the nearest miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    total: usize,
    nothing: bool,
    failures: Vec<Failure>,
}

/// A requirement that labels do not satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    requirement: Requirement,
    miss: Miss,
    found: Option<SmolStr>,
    similar: Option<SmolStr>,
}

impl Selector {
    /// How `labels` fare against this selector: the same checks as [`matches`](Self::matches), all of them.
    ///
    /// ```
    /// use svc_model::{Labels, Selector};
    ///
    /// let selector: Selector = "app=web,tier=front".parse()?;
    /// let labels: Labels = [("app", "wep"), ("tier", "front")].into_iter().collect();
    /// let why = selector.explain(&labels);
    /// assert_eq!(why.to_string(), "1 of 2 requirements hold; `app=web` fails: the label is `wep`, much like `web`");
    /// # Ok::<(), svc_model::selector::ParseSelectorError>(())
    /// ```
    pub fn explain(&self, labels: &Labels) -> Explanation {
        let requirements = self.requirements();
        let failures = requirements.iter().filter_map(|r| Failure::of(r, labels)).collect();
        Explanation { total: requirements.len(), nothing: self.0 == Kind::Nothing, failures }
    }
}

impl Explanation {
    /// Whether the selector matches.
    pub fn matches(&self) -> bool {
        !self.nothing && self.failures.is_empty()
    }

    /// How many requirements the selector has.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many of them hold.
    pub fn satisfied(&self) -> usize {
        self.total.saturating_sub(self.failures.len())
    }

    /// Those that do not hold, by key. Empty, and yet no match, when the selector is [`Selector::NOTHING`].
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// What explanations are ordered by: a miss before none at all, few failures before many, look-alikes
    /// before strangers.
    fn rank(&self) -> (bool, usize, usize) {
        let strangers = self.failures.iter().filter(|f| f.similar.is_none()).count();
        (self.nothing, self.failures.len(), strangers)
    }

    /// Compares how near two sets of labels come to one selector: `Less` is nearer.
    pub fn cmp_nearness(&self, other: &Self) -> core::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Failure {
    fn of(requirement: &Requirement, labels: &Labels) -> Option<Self> {
        let found = labels.get(requirement.key());
        let miss = requirement.check(found).err()?;
        let similar = match miss {
            Miss::Absent => {
                let keys = labels.iter().map(|(key, _)| key);
                most_similar(requirement.key(), keys)
            }
            Miss::OtherValue => {
                let values = requirement.values().iter().map(SmolStr::as_str);
                most_similar(found.unwrap_or_default(), values)
            }
            _ => None,
        };
        Some(Self {
            requirement: requirement.clone(),
            miss,
            found: found.map(Into::into),
            similar: similar.map(Into::into),
        })
    }

    /// The requirement.
    pub fn requirement(&self) -> &Requirement {
        &self.requirement
    }

    /// Why it fails.
    pub fn miss(&self) -> Miss {
        self.miss
    }

    /// The value that the label has; `None` if there is no such label.
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// A look-alike that hints at a slip of the pen: where the label is absent, a label with nearly this key;
    /// where it has another value, a wanted value nearly the same.
    pub fn similar(&self) -> Option<&str> {
        self.similar.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` fails: ", self.requirement)?;
        let found = self.found().unwrap_or_default();
        match self.miss {
            Miss::Absent => {
                write!(f, "there is no label `{}`", self.requirement.key())?;
                match self.similar() {
                    Some(key) => write!(f, ", but one `{key}`"),
                    None => Ok(()),
                }
            }
            Miss::Present => write!(f, "the label is there, as `{found}`"),
            Miss::OtherValue => {
                write!(f, "the label is `{found}`")?;
                match self.similar() {
                    Some(value) => write!(f, ", much like `{value}`"),
                    None => Ok(()),
                }
            }
            Miss::RuledOut => write!(f, "the label is `{found}`"),
            Miss::NotAnInteger => write!(f, "the label is `{found}`, not an integer"),
            Miss::OutOfRange => {
                let side = match self.requirement.operator() {
                    Operator::GreaterThan => "not greater",
                    _ => "not less",
                };
                write!(f, "the label is `{found}`, {side}")
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nothing {
            return f.write_str("the selector matches nothing");
        }
        if self.total == 0 {
            return f.write_str("the selector matches everything");
        }
        write!(f, "{} of {} requirements hold", self.satisfied(), self.total)?;
        self.failures.iter().try_for_each(|failure| write!(f, "; {failure}"))
    }
}

/// The candidate that differs least from `wanted`, if it is a likely slip: other case, another prefix before
/// the `/`, or at most two letters (one, in short words) wrong, missing or too many.
fn most_similar<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if wanted.len() < 4 { 1 } else { 2 };
    candidates
        .map(|candidate| (difference(wanted, candidate), candidate))
        .filter(|(difference, _)| *difference <= limit)
        .min_by_key(|(difference, _)| *difference)
        .map(|(_, candidate)| candidate)
}

fn difference(a: &str, b: &str) -> usize {
    let name = |text: &str| text.rsplit('/').next().map_or(0, str::len);
    let same_name = |a: &str, b: &str| {
        let (a, b) = (a.get(a.len() - name(a)..), b.get(b.len() - name(b)..));
        a.is_some_and(|a| !a.is_empty()) && a == b
    };
    if a.eq_ignore_ascii_case(b) || same_name(a, b) { 0 } else { edits(a.as_bytes(), b.as_bytes()) }
}

/// Levenshtein's distance, one row at a time. Keys and values are short, and this is for explanations only.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let above = *cell;
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}
