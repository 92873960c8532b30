//! Names, owners, labels and annotations of slices.

use alloc::string::ToString;
use alloc::vec::Vec;

use smol_str::{SmolStr, format_smolstr};
use svc_model::{
    Annotations, Endpoint, EndpointPort, EndpointSlice, IpFamily, Labels, MANAGED_BY_LABEL, ObjectMeta,
    OwnerReference, SERVICE_NAME_LABEL, Service, Timestamp,
};

use super::facts::is_headless;
use super::reconcile::Config;

/// Label of slices and Endpoints of a Service without cluster IP.
pub(crate) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Annotation that tells when the change happened that a write answers to.
pub(crate) const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

const RESERVED_LABELS: [&str; 3] = [SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL];

/// What all slices of a Service have in common.
#[derive(Debug, Clone)]
pub(crate) struct SliceTemplate {
    metadata: ObjectMeta,
}

impl SliceTemplate {
    pub(crate) fn of(service: &Service, config: &Config) -> Self {
        let owner = &service.metadata;
        let own = own_labels(&owner.labels).map(|(key, value)| (key.clone(), value.clone()));
        let reserved = [
            (SERVICE_NAME_LABEL, Some(owner.name.clone())),
            (MANAGED_BY_LABEL, Some(config.managed_by.clone())),
            (HEADLESS_LABEL, is_headless(service).then(SmolStr::default)),
        ];
        let reserved =
            reserved.into_iter().filter_map(|(key, value)| Some((SmolStr::new_static(key), value?)));
        let metadata = ObjectMeta {
            generate_name: name_prefix(&owner.name),
            namespace: owner.namespace.clone(),
            labels: own.chain(reserved).collect(),
            owner_references: alloc::vec![controller_reference("v1", "Service", owner)],
            ..ObjectMeta::default()
        };
        Self { metadata }
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.metadata.labels
    }

    /// A new slice without endpoints.
    pub(crate) fn slice(&self, family: IpFamily, ports: Vec<EndpointPort>) -> EndpointSlice {
        EndpointSlice {
            metadata: self.metadata.clone(),
            address_type: svc_model::AddressType::from(family).into(),
            endpoints: Vec::new(),
            ports,
        }
    }

    /// An existing slice with other endpoints, and with the labels that it ought to have.
    pub(crate) fn rewrite(&self, old: &EndpointSlice, endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            metadata: ObjectMeta { labels: self.metadata.labels.clone(), ..old.metadata.clone() },
            address_type: old.address_type.clone(),
            endpoints,
            ports: old.ports.clone(),
        }
    }

    /// Whether a slice is to be written for its labels alone. A difference in reserved labels is no reason.
    pub(crate) fn labels_differ(&self, slice: &EndpointSlice) -> bool {
        let (should, is) = (&self.metadata.labels, &slice.metadata.labels);
        should != is && !own_labels(should).eq(own_labels(is))
    }

    /// Whether a slice will do as the placeholder. Its name, owner and annotations don't matter, so that one
    /// left over from a deleted namesake will do as well until it is collected. A label with an empty value
    /// counts as much as none, so the headless label doesn't matter either.
    pub(crate) fn is_placeholder(&self, slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
        slice.endpoints.is_empty()
            && slice.ports.is_empty()
            && slice.address_type == placeholder.address_type
            && slice.metadata.namespace == self.metadata.namespace
            && with_value(&slice.metadata.labels).eq(with_value(&self.metadata.labels))
    }
}

fn with_value(labels: &Labels) -> impl Iterator<Item = &(SmolStr, SmolStr)> {
    labels.as_slice().iter().filter(|(_, value)| !value.is_empty())
}

/// Labels that are not reserved, in order.
fn own_labels(labels: &Labels) -> impl Iterator<Item = &(SmolStr, SmolStr)> {
    labels.as_slice().iter().filter(|(key, _)| !RESERVED_LABELS.contains(&key.as_str()))
}

/// The owner reference of the one object that manages another.
pub(crate) fn controller_reference(
    api_version: &'static str,
    kind: &'static str,
    owner: &ObjectMeta,
) -> OwnerReference {
    OwnerReference {
        api_version: SmolStr::new_static(api_version),
        kind: SmolStr::new_static(kind),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether a slice belongs to this very Service, not to a namesake.
pub(crate) fn is_owned_by(slice: &EndpointSlice, service: &Service) -> bool {
    slice.metadata.owner_references.iter().any(|owner| {
        owner.uid == service.metadata.uid && owner.kind == "Service" && owner.api_version == "v1"
    })
}

/// The prefix from which the server makes slice names: the Service's name and a dash, or without the dash if
/// that is no prefix of a DNS subdomain.
pub(crate) fn name_prefix(service: &SmolStr) -> SmolStr {
    let dashed = format_smolstr!("{service}-");
    if is_subdomain_prefix(&dashed) { dashed } else { service.clone() }
}

/// Whether a name that starts so can be a DNS-1123 subdomain: at most 253 characters, labels of lower-case
/// letters, digits and inner dashes. A dash at the very end is fine, since more follows.
fn is_subdomain_prefix(prefix: &str) -> bool {
    let with_suffix = match prefix.strip_suffix('-') {
        Some(start) => format_smolstr!("{start}a"),
        None => SmolStr::new(prefix),
    };
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let is_end = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        is_end(bytes.first())
            && is_end(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    prefix.len() <= 253 && with_suffix.split('.').all(is_label)
}

pub(crate) fn set_trigger_time(annotations: &mut Annotations, time: Option<Timestamp>) {
    match time {
        Some(time) => annotations.insert(TRIGGER_TIME_ANNOTATION, time.to_string()),
        None => annotations.remove(TRIGGER_TIME_ANNOTATION),
    }
}
