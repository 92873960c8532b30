//! The outcome of a reconciliation: which slices to create, update and delete.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;
use svc_model::{EndpointSlice, IpFamily, ObjectRef};

use super::hints::HintEvent;

/// What to write so that the slices of a Service are as they should be. Writes go in the order creates,
/// updates, deletes, so that no endpoint is missing in between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// Slices to create; the server makes their names from `generateName`.
    pub creates: Vec<EndpointSlice>,
    /// Slices to write in the place of those with the same name.
    pub updates: Vec<EndpointSlice>,
    /// Slices to delete.
    pub deletes: Vec<ObjectRef>,
    /// Slices that stay as they are.
    pub unchanged: Vec<ObjectRef>,
    /// What there is to tell the Service's owner about topology hints.
    pub events: Vec<HintEvent>,
    /// Pods left out since their node does not exist. The reference writes the rest and tries again later.
    pub skipped: Vec<SkippedPod>,
    /// Endpoints that no slice held before.
    pub endpoints_added: usize,
    /// Endpoints that no slice holds any more.
    pub endpoints_removed: usize,
}

/// A Pod that is left out since its node does not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkippedPod {
    /// The Service that selects it.
    pub service: ObjectRef,
    /// Name of the Pod.
    pub pod: SmolStr,
    /// Name of the missing node; empty if the Pod is bound to none.
    pub node: SmolStr,
}

impl fmt::Display for SkippedPod {
    /// The sentence that the reference logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipping Pod {} for Service {}: Node {} Not Found", self.pod, self.service, self.node)
    }
}

impl Plan {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.creates.is_empty() && self.updates.is_empty() && self.deletes.is_empty()
    }

    /// Number of objects to write.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.creates.len() + self.updates.len() + self.deletes.len()
    }

    /// Carries out the plan on the slices that it was made for. `name` gives each created slice its name, as
    /// the API server does from `metadata.generateName`.
    pub fn apply_to(
        self,
        existing: impl IntoIterator<Item = EndpointSlice>,
        mut name: impl FnMut(&EndpointSlice) -> SmolStr,
    ) -> Vec<EndpointSlice> {
        let mut slices: BTreeMap<ObjectRef, EndpointSlice> =
            existing.into_iter().map(|slice| (slice.metadata.object_ref(), slice)).collect();
        for key in &self.deletes {
            slices.remove(key);
        }
        for slice in self.updates {
            slices.insert(slice.metadata.object_ref(), slice);
        }
        for mut slice in self.creates {
            slice.metadata.name = name(&slice);
            slices.insert(slice.metadata.object_ref(), slice);
        }
        slices.into_values().collect()
    }

    /// The message of the error with which the reference retries later, or `None` if it would not.
    #[must_use]
    pub fn retry_message(&self) -> Option<alloc::string::String> {
        use alloc::string::ToString;
        let mut messages: Vec<_> = self.skipped.iter().map(ToString::to_string).collect();
        messages.dedup();
        match messages.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(alloc::format!("[{}]", many.join(", "))),
        }
    }
}

/// How many slices a Service has, and how many it could do with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Efficiency {
    /// Endpoints in the slices of a family.
    pub endpoints: usize,
    /// Slices of the family.
    pub slices: usize,
    /// Slices that would do: the endpoints of each port group packed tightly, one at least.
    pub needed: usize,
}

/// Counts the slices of one family, grouped by their ports, against a limit of endpoints in one.
#[must_use]
pub fn efficiency(slices: &[EndpointSlice], family: IpFamily, limit: core::num::NonZeroUsize) -> Efficiency {
    let mut groups: BTreeMap<_, usize> = BTreeMap::new();
    let mut count = Efficiency::default();
    let of_family = |slice: &&EndpointSlice| slice.address_type.get() == Some(family.into());
    for slice in slices.iter().filter(of_family) {
        count.slices += 1;
        count.endpoints += slice.endpoints.len();
        *groups.entry(super::ports::PortsKey::of(&slice.ports)).or_default() += slice.endpoints.len();
    }
    count.needed = groups.values().map(|endpoints| endpoints.div_ceil(limit.get())).sum::<usize>().max(1);
    count
}
