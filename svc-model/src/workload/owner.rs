//! Which workload a Pod belongs to.

use core::fmt;

use smol_str::SmolStr;

use crate::{ObjectMeta, OwnerReference, Pod};

/// A workload, by kind and name, in the namespace of its Pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Kind, such as `Deployment`.
    pub kind: SmolStr,
    /// Name.
    pub name: SmolStr,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The workload that a Pod belongs to as people name it: its controller, or, where that is a ReplicaSet of a
/// Deployment, the Deployment. None for a Pod of its own.
///
/// ```
/// use svc_model::workload::{Workload, workload_of};
/// use svc_model::Pod;
///
/// let pod: Pod = serde_json::from_str(
///     r#"{"metadata": {"name": "web-7d4b9c-x2v6q", "labels": {"pod-template-hash": "7d4b9c"},
///         "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7d4b9c", "controller": true}]}}"#,
/// )?;
/// assert_eq!(workload_of(&pod), Some(Workload { kind: "Deployment".into(), name: "web".into() }));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn workload_of(pod: &Pod) -> Option<Workload> {
    let OwnerReference { kind, name, .. } = controller_of(&pod.metadata)?;
    let hash = pod.metadata.labels.get("pod-template-hash").filter(|hash| !hash.is_empty());
    let deployment = hash.filter(|_| kind == "ReplicaSet").and_then(|hash| {
        let name = name.strip_suffix(hash)?.strip_suffix('-')?;
        Some(Workload { kind: "Deployment".into(), name: name.into() })
    });
    Some(deployment.unwrap_or_else(|| Workload { kind: kind.clone(), name: name.clone() }))
}

/// The one owner that manages an object.
pub(super) fn controller_of(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.iter().find(|owner| owner.controller == Some(true))
}
