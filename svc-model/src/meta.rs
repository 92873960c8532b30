//! Standard object metadata and references between objects.

use core::fmt;

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::serde_util::api_struct;
use crate::{Annotations, Labels, Timestamp};

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
///
/// Ordered by namespace, then name, which is the total order used wherever the reference leaves
/// one open.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Namespace, empty for cluster-scoped kinds.
    #[serde(default)]
    pub namespace: SmolStr,
    /// Name.
    pub name: SmolStr,
}

impl ObjectRef {
    /// A reference to a namespaced object.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.pad(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

api_struct! {
    /// Standard metadata (`metav1.ObjectMeta`), without the fields that no decision depends on.
    pub struct ObjectMeta {
        /// Name, unique in its namespace and kind.
        pub name: SmolStr,
        /// Prefix from which the server makes a name.
        pub generate_name: SmolStr,
        /// Namespace; empty for cluster-scoped kinds, and in manifests that leave it to the client.
        pub namespace: SmolStr,
        /// Unique id, given by the server.
        pub uid: SmolStr,
        /// Opaque version of the object, given by the server.
        pub resource_version: SmolStr,
        /// Counts changes of the desired state.
        pub generation: i64,
        /// When the object was created.
        pub creation_timestamp: Option<Timestamp>,
        /// Set once the object is being deleted.
        pub deletion_timestamp: Option<Timestamp>,
        /// Labels.
        pub labels: Labels,
        /// Annotations.
        pub annotations: Annotations,
        /// Objects that this one depends on.
        pub owner_references: Vec<OwnerReference>,
        /// Names of those who must act before the object can go.
        pub finalizers: Vec<SmolStr>,
    }

    /// A link to an owning object (`metav1.OwnerReference`).
    pub struct OwnerReference {
        /// API group and version of the owner.
        pub api_version: SmolStr,
        /// Kind of the owner.
        pub kind: SmolStr,
        /// Name of the owner, in the same namespace or cluster-scoped.
        pub name: SmolStr,
        /// Unique id of the owner.
        pub uid: SmolStr,
        /// True for the one owner that manages this object.
        pub controller: Option<bool>,
        /// True if the owner waits for this object to go first.
        pub block_owner_deletion: Option<bool>,
    }

    /// A link to any object (`v1.ObjectReference`), as endpoints carry it in `targetRef`.
    pub struct ObjectReference {
        /// Kind, such as `Pod`.
        pub kind: SmolStr,
        /// Namespace.
        pub namespace: SmolStr,
        /// Name.
        pub name: SmolStr,
        /// Unique id.
        pub uid: SmolStr,
        /// API group and version.
        pub api_version: SmolStr,
        /// Version of the object that was seen.
        pub resource_version: SmolStr,
        /// A part of the object.
        pub field_path: SmolStr,
    }
}

impl ObjectMeta {
    /// Metadata of a namespaced object.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), ..Self::default() }
    }

    /// The object's namespace and name.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// True once deletion has begun.
    pub fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}
