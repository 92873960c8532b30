//! Conversions from and to the types of [`k8s_openapi`] (feature `k8s-openapi`).
//!
//! ```
//! use k8s_openapi::api::core::v1 as core;
//! use svc_model::Service;
//!
//! let theirs = core::Service {
//!     spec: Some(core::ServiceSpec { cluster_ip: Some("10.96.0.10".into()), ..Default::default() }),
//!     ..Default::default()
//! };
//! let ours = Service::from(&theirs);
//! assert_eq!(ours.spec.cluster_ip.get(), Some([10, 96, 0, 10].into()));
//! assert_eq!(core::Service::from(&ours), theirs);
//! ```
//!
//! Both sides hold whatever the API may send, so nothing can fail. Fields that this crate does not know are left out
//! on the way here, and stay at their defaults on the way back. Two things are not told apart: an optional field that
//! is absent, and one that holds the empty text, list or number, as it is in the API server itself. A condition without
//! a time gets the beginning of 1970 where the API demands one; a gRPC probe's port that is a name, which the API
//! refuses, becomes 0.
//!
//! This crate chooses no version of Kubernetes: that is for the one final binary, by a feature of `k8s-openapi` such as
//! `v1_36`. Policies of the `policy.networking.k8s.io` group and ServiceImports are custom resources and
//! KubeProxyConfiguration is a file, so `k8s-openapi` has no types for them.

mod convert;
mod core_kinds;
mod endpoint_kinds;
mod policy_kinds;
mod workload_kinds;

use self::convert::Convert;

/// Declares, for pairs of structs, the fields that go with each other; both directions come from the one list. Every
/// field of ours is in the list, or it would not compile; names that differ follow the semicolon.
macro_rules! mirror {
    ($($ours:ident = $theirs:ty { $($same:ident),* $(; $($field:ident = $other:ident),*)? })*) => {$(
        impl From<&$theirs> for crate::$ours {
            fn from(theirs: &$theirs) -> Self {
                Self { $($same: theirs.$same.convert(),)* $($($field: theirs.$other.convert(),)*)? }
            }
        }

        impl From<&crate::$ours> for $theirs {
            #[allow(clippy::needless_update, reason = "some structs have no field that is not ours")]
            fn from(ours: &crate::$ours) -> Self {
                Self {
                    $($same: ours.$same.convert(),)*
                    $($($other: ours.$field.convert(),)*)?
                    ..Self::default()
                }
            }
        }

        impl Convert<crate::$ours> for $theirs {
            fn convert(&self) -> crate::$ours {
                self.into()
            }
        }

        impl Convert<$theirs> for crate::$ours {
            fn convert(&self) -> $theirs {
                self.into()
            }
        }

        impl Convert<crate::$ours> for Option<$theirs> {
            fn convert(&self) -> crate::$ours {
                self.as_ref().map(Into::into).unwrap_or_default()
            }
        }

        impl Convert<Option<$theirs>> for crate::$ours {
            fn convert(&self) -> Option<$theirs> {
                (*self != Self::default()).then(|| self.into())
            }
        }
    )*};
}

use mirror;
