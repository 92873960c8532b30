//! The kinds of names that Kubernetes knows, and why a text is not one of them.
//!
//! [`NameRule`] is the rule itself: [`NameRule::check`] returns every reason at once, and does not allocate
//! for a valid text. For each rule there is a type that only ever holds a valid name ([`DnsLabel`],
//! [`LabelKey`], ...), for programs that check once, at the edge.
//!
//! The rules are those of RFC 1035, RFC 1123 and RFC 6335 as the Kubernetes documentation ("Object Names
//! and IDs", "Labels and Selectors") narrows them: lower case only, and length limits of its own.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// A kind of name: which characters it may have, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameRule {
    /// At most 63 of `a-z`, `0-9`, `-`; alphanumeric at both ends (RFC 1123). Namespaces, port names of
    /// Services, host names of Pods.
    DnsLabel,
    /// At most 253 bytes: [DNS labels](Self::DnsLabel) joined by dots, where only the whole is limited in
    /// length. Names of most objects.
    DnsSubdomain,
    /// A [DNS label](Self::DnsLabel) that starts with a letter (RFC 1035). Names of Services, unless the
    /// relaxed rule of Kubernetes 1.36 is on.
    Dns1035Label,
    /// At most 15 of `a-z`, `0-9`, `-`; with a letter, without `--`, without `-` at an end (RFC 6335,
    /// section 5.1). Port names of containers, named target ports.
    PortName,
    /// `[prefix/]name`: the name at most 63 of `A-Z`, `a-z`, `0-9`, `-`, `_`, `.`, alphanumeric at both
    /// ends; the prefix a [DNS subdomain](Self::DnsSubdomain). Label keys, and "qualified names" in general.
    LabelKey,
    /// Empty, or what a [label key](Self::LabelKey) allows as its name.
    LabelValue,
}

/// The part of a name that a [`NameProblem`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NamePart {
    /// The whole text.
    Whole,
    /// What comes before the `/` of a label key.
    Prefix,
    /// What comes after the `/` of a label key, or all of it.
    Name,
}

/// One reason why a text is not a name of some kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameProblem {
    /// The part is empty.
    Empty(NamePart),
    /// The part has more than `max` bytes.
    TooLong {
        /// Which part is too long.
        part: NamePart,
        /// The limit, in bytes.
        max: usize,
    },
    /// A DNS label has dots, and would be a fine subdomain.
    Dots,
    /// The part has a character that it may not have, or has it at an end.
    Characters(NamePart, NameRule),
    /// A label key has more than one `/`.
    Slashes,
    /// A port name has a character other than `a-z`, `0-9` and `-`, or none at all.
    PortCharacters,
    /// A port name has no letter.
    NoLetter,
    /// A port name has `--`.
    DoubleHyphen,
    /// A port name starts or ends with `-`.
    EdgeHyphen,
}

impl fmt::Display for NamePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Prefix => f.write_str("the prefix "),
            Self::Name => f.write_str("the name part "),
        }
    }
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(part) => write!(f, "{part}must not be empty"),
            Self::TooLong { part, max } => write!(f, "{part}must have at most {max} characters"),
            Self::Dots => f.write_str("must not contain dots"),
            Self::Characters(part, rule) => write!(f, "{part}must be {}", rule.shape()),
            Self::Slashes => f.write_str("must have at most one `/`, between prefix and name"),
            Self::PortCharacters => f.write_str("may only have lower-case letters, digits and `-`"),
            Self::NoLetter => f.write_str("must have at least one letter"),
            Self::DoubleHyphen => f.write_str("must not have two hyphens in a row"),
            Self::EdgeHyphen => f.write_str("must not start or end with a hyphen"),
        }
    }
}

/// A text is not a name of the wanted kind; all reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    text: SmolStr,
    rule: NameRule,
    problems: Vec<NameProblem>,
}

impl NameError {
    /// The text that was refused.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The rule that it breaks.
    pub fn rule(&self) -> NameRule {
        self.rule
    }

    /// The reasons, at least one.
    pub fn problems(&self) -> &[NameProblem] {
        &self.problems
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a valid {}: ", self.text, self.rule)?;
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl core::error::Error for NameError {}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DnsLabel => "DNS label",
            Self::DnsSubdomain => "DNS subdomain",
            Self::Dns1035Label => "DNS-1035 label",
            Self::PortName => "port name",
            Self::LabelKey => "label key",
            Self::LabelValue => "label value",
        })
    }
}

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const PORT_NAME_MAX: usize = 15;

impl NameRule {
    /// Checks `text` against the rule.
    ///
    /// # Errors
    ///
    /// A [`NameError`] with every reason, in a fixed order.
    ///
    /// ```
    /// use svc_model::name::{NameProblem, NameRule};
    ///
    /// assert!(NameRule::DnsLabel.check("web-1").is_ok());
    /// let error = NameRule::DnsLabel.check("web.shop").unwrap_err();
    /// assert_eq!(error.problems(), [NameProblem::Dots]);
    /// ```
    pub fn check(self, text: &str) -> Result<(), NameError> {
        let problems = match self {
            Self::DnsLabel => dns_label(text),
            Self::DnsSubdomain => dns_subdomain(text, NamePart::Whole),
            Self::Dns1035Label => dns_1035_label(text),
            Self::PortName => port_name(text),
            Self::LabelKey => label_key(text),
            Self::LabelValue => label_value(text),
        };
        if problems.is_empty() { Ok(()) } else { Err(NameError { text: text.into(), rule: self, problems }) }
    }

    /// Whether `text` keeps the rule.
    pub fn accepts(self, text: &str) -> bool {
        self.check(text).is_ok()
    }

    fn shape(self) -> &'static str {
        match self {
            Self::DnsLabel => "lower-case letters, digits and `-`, with a letter or digit at both ends",
            Self::DnsSubdomain => {
                "lower-case letters, digits, `-` and `.`, with a letter or digit at both ends of each part"
            }
            Self::Dns1035Label => {
                "lower-case letters, digits and `-`, starting with a letter and ending with a letter or digit"
            }
            Self::PortName => "lower-case letters, digits and `-`",
            Self::LabelKey => "letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
            Self::LabelValue => {
                "empty, or letters, digits, `-`, `_` and `.`, with a letter or digit at both ends"
            }
        }
    }
}

/// At least one byte, `edge` at both ends, `inner` in between.
fn has_shape(text: &[u8], edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match text {
        [] => false,
        [only] => edge(*only),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().all(|b| inner(*b)),
    }
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_shape(text: &str) -> bool {
    has_shape(text.as_bytes(), lower_alnum, |b| lower_alnum(b) || b == b'-')
}

fn is_subdomain_shape(text: &str) -> bool {
    text.split('.').all(is_label_shape)
}

fn is_key_shape(text: &str) -> bool {
    has_shape(
        text.as_bytes(),
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
    )
}

fn too_long(problems: &mut Vec<NameProblem>, text: &str, part: NamePart, max: usize) {
    if text.len() > max {
        problems.push(NameProblem::TooLong { part, max });
    }
}

fn dns_label(text: &str) -> Vec<NameProblem> {
    let mut problems = Vec::new();
    too_long(&mut problems, text, NamePart::Whole, LABEL_MAX);
    if !is_label_shape(text) {
        problems.push(if is_subdomain_shape(text) {
            NameProblem::Dots
        } else {
            NameProblem::Characters(NamePart::Whole, NameRule::DnsLabel)
        });
    }
    problems
}

fn dns_subdomain(text: &str, part: NamePart) -> Vec<NameProblem> {
    let mut problems = Vec::new();
    too_long(&mut problems, text, part, SUBDOMAIN_MAX);
    if !is_subdomain_shape(text) {
        problems.push(NameProblem::Characters(part, NameRule::DnsSubdomain));
    }
    problems
}

fn dns_1035_label(text: &str) -> Vec<NameProblem> {
    let mut problems = Vec::new();
    too_long(&mut problems, text, NamePart::Whole, LABEL_MAX);
    if !is_label_shape(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        problems.push(NameProblem::Characters(NamePart::Whole, NameRule::Dns1035Label));
    }
    problems
}

fn port_name(text: &str) -> Vec<NameProblem> {
    let mut problems = Vec::new();
    too_long(&mut problems, text, NamePart::Whole, PORT_NAME_MAX);
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(|b| lower_alnum(*b) || *b == b'-') {
        problems.push(NameProblem::PortCharacters);
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        problems.push(NameProblem::NoLetter);
    }
    if text.contains("--") {
        problems.push(NameProblem::DoubleHyphen);
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push(NameProblem::EdgeHyphen);
    }
    problems
}

fn label_key(text: &str) -> Vec<NameProblem> {
    let mut problems = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            problems.push(NameProblem::Slashes);
            return problems;
        }
        Some(("", name)) => {
            problems.push(NameProblem::Empty(NamePart::Prefix));
            name
        }
        Some((prefix, name)) => {
            problems = dns_subdomain(prefix, NamePart::Prefix);
            name
        }
    };
    if name.is_empty() {
        problems.push(NameProblem::Empty(NamePart::Name));
    }
    too_long(&mut problems, name, NamePart::Name, LABEL_MAX);
    if !is_key_shape(name) {
        problems.push(NameProblem::Characters(NamePart::Name, NameRule::LabelKey));
    }
    problems
}

fn label_value(text: &str) -> Vec<NameProblem> {
    let mut problems = Vec::new();
    too_long(&mut problems, text, NamePart::Whole, LABEL_MAX);
    if !text.is_empty() && !is_key_shape(text) {
        problems.push(NameProblem::Characters(NamePart::Whole, NameRule::LabelValue));
    }
    problems
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks `text` and takes it.
            ///
            /// # Errors
            ///
            #[doc = concat!("Every reason why `text` breaks [`NameRule::", stringify!($rule), "`].")]
            pub fn new(text: impl Into<SmolStr>) -> Result<Self, NameError> {
                let text = text.into();
                NameRule::$rule.check(&text)?;
                Ok(Self(text))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for SmolStr {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(SmolStr::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

checked_name!(
    /// A valid DNS label; see [`NameRule::DnsLabel`].
    DnsLabel,
    DnsLabel
);
checked_name!(
    /// A valid DNS subdomain; see [`NameRule::DnsSubdomain`].
    DnsSubdomain,
    DnsSubdomain
);
checked_name!(
    /// A valid DNS-1035 label; see [`NameRule::Dns1035Label`].
    Dns1035Label,
    Dns1035Label
);
checked_name!(
    /// A valid IANA service name, as container ports have; see [`NameRule::PortName`].
    PortName,
    PortName
);
checked_name!(
    /// A valid label key; see [`NameRule::LabelKey`].
    LabelKey,
    LabelKey
);
checked_name!(
    /// A valid label value; see [`NameRule::LabelValue`].
    LabelValue,
    LabelValue
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn count(rule: NameRule, text: &str) -> usize {
        rule.check(text).err().map_or(0, |e| e.problems().len())
    }

    #[test]
    fn each_rule_accepts_and_refuses() {
        let x63 = "x".repeat(63);
        let x64 = "x".repeat(64);
        let long_subdomain = format!("{x63}.{x63}.{x63}.{x63}");
        use NameRule::*;
        for (rule, text, problems) in [
            (DnsLabel, "a", 0),
            (DnsLabel, "1-a", 0),
            (DnsLabel, x63.as_str(), 0),
            (DnsLabel, x64.as_str(), 1),
            (DnsLabel, "", 1),
            (DnsLabel, "-a", 1),
            (DnsLabel, "a-", 1),
            (DnsLabel, "A", 1),
            (DnsLabel, "a.b", 1),
            (DnsSubdomain, "a.b-c.1", 0),
            (DnsSubdomain, "a..b", 1),
            (DnsSubdomain, ".a", 1),
            (DnsSubdomain, "a.", 1),
            (DnsSubdomain, x64.as_str(), 0),
            (DnsSubdomain, long_subdomain.as_str(), 1),
            (Dns1035Label, "a1", 0),
            (Dns1035Label, "1a", 1),
            (PortName, "http-2", 0),
            (PortName, "80", 1),
            (PortName, "", 2),
            (PortName, "-a--b-", 2),
            (PortName, "Http", 1),
            (PortName, "abcdefghijklmnop", 1),
            (LabelKey, "app", 0),
            (LabelKey, "example.com/My_app.v1", 0),
            (LabelKey, "a/b/c", 1),
            (LabelKey, "/a", 1),
            (LabelKey, "a/", 2),
            (LabelKey, "", 2),
            (LabelKey, "A.com/a", 1),
            (LabelKey, "-", 1),
            (LabelKey, x64.as_str(), 1),
            (LabelValue, "", 0),
            (LabelValue, "A_1.b", 0),
            (LabelValue, "a b", 1),
            (LabelValue, "é", 1),
            (LabelValue, x64.as_str(), 1),
        ] {
            assert_eq!(count(rule, text), problems, "{rule:?} {text:?}");
            assert_eq!(rule.accepts(text), problems == 0, "{rule:?} {text:?}");
        }
    }

    #[test]
    fn a_refused_name_says_why() {
        let error = DnsLabel::new("web.shop").unwrap_err();
        assert_eq!(format!("{error}"), "`web.shop` is not a valid DNS label: must not contain dots");
        assert!("web".parse::<DnsLabel>().is_ok());
    }
}
