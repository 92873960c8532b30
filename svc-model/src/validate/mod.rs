//! Validation as the API server does it: every problem at once, each with its field path and kind.
//!
//! Kinds have methods: [`Service::validate_create`](crate::Service::validate_create), `validate_update` and
//! so on. They judge an object as it stands: apply its defaults first
//! ([`Service::set_defaults`](crate::Service::set_defaults)), as the server does. Nothing is allocated for a
//! valid object but what duplicates are found with.
//!
//! Field and kind of a problem are those of Kubernetes; the wording of the detail is this crate's own.
//!
//! ```
//! use svc_model::validate::FieldErrorKind;
//! use svc_model::{Compat, Service};
//!
//! let mut service: Service = serde_json::from_str(
//!     r#"{"metadata": {"name": "web", "namespace": "shop"},
//!         "spec": {"ports": [{"port": 80}, {"name": "https", "port": 70000}]}}"#,
//! )?;
//! service.set_defaults();
//! let error = service.validate_create(Compat::default()).unwrap_err();
//! let problems: Vec<_> = error.problems().iter().map(|p| (p.field(), p.kind())).collect();
//! assert_eq!(problems, [
//!     ("spec.ports[0].name", FieldErrorKind::Required),
//!     ("spec.ports[1].port", FieldErrorKind::Invalid),
//!     ("spec.ports[1].targetPort", FieldErrorKind::Invalid),
//! ]);
//! # Ok::<(), serde_json::Error>(())
//! ```

mod address;
mod cluster_policy;
mod endpoint_slice;
mod endpoints;
mod meta;
mod network_policy;
mod path;
mod problems;
mod service;
mod service_ips;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;

use crate::ObjectRef;

pub(crate) use path::Path;
pub(crate) use problems::Problems;
pub(crate) use service::{needs_health_check, service_update};
pub(crate) use service_ips::cluster_ip_fields;

/// What is wrong with a field, in the words of the API (`metav1.CauseType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// The field must be given.
    Required,
    /// The value is malformed, or breaks a rule.
    Invalid,
    /// The value is none of a fixed set.
    NotSupported,
    /// The field may not be given here.
    Forbidden,
    /// The value must be unique, and is not.
    Duplicate,
    /// The value is too long.
    TooLong,
    /// The list has too many elements.
    TooMany,
}

impl FieldErrorKind {
    /// The name of the kind in a `Status` object of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

impl fmt::Display for FieldErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One problem of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldError {
    field: String,
    kind: FieldErrorKind,
    value: Option<SmolStr>,
    detail: SmolStr,
}

impl FieldError {
    /// The path of the field, such as `spec.ports[0].port`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong.
    pub fn kind(&self) -> FieldErrorKind {
        self.kind
    }

    /// The value that was refused, as text, where it helps.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Why; may be empty where kind and field say it all.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FieldErrorKind::Required => "required",
            FieldErrorKind::Invalid => "invalid",
            FieldErrorKind::NotSupported => "not supported",
            FieldErrorKind::Forbidden => "forbidden",
            FieldErrorKind::Duplicate => "duplicate",
            FieldErrorKind::TooLong => "too long",
            FieldErrorKind::TooMany => "too many",
        };
        write!(f, "{}: {what}", self.field)?;
        if let Some(value) = &self.value {
            write!(f, " `{value}`")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// An object is not valid: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationError {
    kind: &'static str,
    object: ObjectRef,
    problems: Vec<FieldError>,
}

impl ValidationError {
    /// The kind of the object, such as `Service`.
    pub fn object_kind(&self) -> &'static str {
        self.kind
    }

    /// The object.
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The problems, at least one, in the order of the rules.
    pub fn problems(&self) -> &[FieldError] {
        &self.problems
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` is invalid: ", self.kind, self.object)?;
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl core::error::Error for ValidationError {}

#[cfg(test)]
mod tests;
