#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod allocation;
pub mod cluster;
mod compat;
mod defaults;
#[cfg(feature = "k8s-openapi")]
pub mod k8s;
mod labels;
mod meta;
pub mod name;
pub mod object;
pub mod registry;
mod scalar;
pub mod selector;
mod serde_util;
pub mod validate;
pub mod workload;

pub use cluster::Cluster;
pub use compat::{Compat, SelectorValues};
pub use labels::{Annotations, Labels};
pub use meta::{ObjectMeta, ObjectRef, ObjectReference, OwnerReference};
pub use object::*;
pub use scalar::{IntOrString, Port, Scalar, Sent, Timestamp};
pub use selector::{LabelSelector, Selector};
pub use validate::{FieldError, ValidationError};

pub use ipnet::IpNet;
pub use smol_str::SmolStr;
