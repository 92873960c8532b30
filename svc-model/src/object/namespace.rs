//! `Namespace` (core/v1).

use crate::serde_util::{api_kind, api_struct};
use smol_str::SmolStr;

/// Label that every namespace carries with its own name since Kubernetes 1.21.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

api_kind! {
    /// A scope for names (core/v1).
    pub struct Namespace: "v1" "Namespace" Cluster {
        /// Where the namespace is in its life.
        pub status "status": NamespaceStatus;
    }
}

api_struct! {
    /// `NamespaceStatus`.
    pub struct NamespaceStatus {
        /// `Active` or `Terminating`.
        pub phase: SmolStr,
    }
}
