//! When the change happened that a reconciliation answers to.

use alloc::collections::BTreeMap;

use smol_str::SmolStr;
use svc_model::{Pod, Service, Timestamp};

use super::reconcile::History;

/// The times of changes that were seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenTimes {
    service: Option<Timestamp>,
    pods: BTreeMap<SmolStr, Timestamp>,
}

impl History {
    /// The time of the change that a reconciliation of this Service with these Pods answers to, for the
    /// annotation `endpoints.kubernetes.io/last-change-trigger-time`: when the Service was created, the first
    /// time; later, the earliest of the times at which Pods became ready or not that are newer than those seen
    /// before. `None` if there is no such time; the annotation is then removed.
    pub fn trigger_time<'a>(
        &mut self,
        service: &Service,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp;
        let pods: BTreeMap<SmolStr, Timestamp> = pods
            .into_iter()
            .filter_map(|pod| Some((pod.metadata.name.clone(), pod.ready_condition()?.last_transition_time?)))
            .collect();
        let seen = self.seen.replace(SeenTimes { service: created, pods });
        let (Some(seen), Some(now)) = (seen, &self.seen) else { return created };
        let newer_pods =
            now.pods.iter().filter(|(pod, time)| seen.pods.get(*pod).is_none_or(|seen| *time > seen));
        let newer_service = created.filter(|created| seen.service.is_none_or(|seen| *created > seen));
        newer_pods.map(|(_, time)| *time).chain(newer_service).min()
    }
}
