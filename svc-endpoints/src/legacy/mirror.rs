//! The mirroring controller: slices for Endpoints that a user wrote by hand.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::num::NonZeroUsize;

use smol_str::SmolStr;
use svc_model::{
    AddressType, Annotations, Endpoint, EndpointAddress, EndpointConditions, EndpointPort, EndpointSlice,
    Endpoints, IpFamily, MANAGED_BY_LABEL, ObjectMeta, ObjectRef, ObjectReference, SERVICE_NAME_LABEL, Sent,
    Service, SubsetPort,
};

use super::subsets::repack_subsets;
use crate::slices::metadata::{TRIGGER_TIME_ANNOTATION, controller_reference, name_prefix};
use crate::slices::ports::PortsKey;
use crate::slices::{Plan, family_of};

const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Mirrors hand-written Endpoints into EndpointSlices, so that readers need to know slices only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mirror {
    /// Most addresses of one subset that are mirrored, 1 to 1000
    /// (`--mirroring-max-endpoints-per-subset`, default 1000).
    pub max_endpoints_per_subset: NonZeroUsize,
    /// What the slices' label `endpointslice.kubernetes.io/managed-by` says.
    pub managed_by: SmolStr,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            max_endpoints_per_subset: const { NonZeroUsize::new(1000).unwrap() },
            managed_by: SmolStr::new_static("endpointslicemirroring-controller.k8s.io"),
        }
    }
}

/// Why Endpoints are not mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotMirrored {
    /// There are no Endpoints of this name.
    NoEndpoints,
    /// The label `endpointslice.kubernetes.io/skip-mirror` says `true`.
    SkipMirror,
    /// The annotation of leader election: the object is a lock, not a list of endpoints.
    LeaderElection,
    /// There is no Service of this name.
    NoService,
    /// The Service has a selector, so slices are made from its Pods.
    HasSelector,
}

impl fmt::Display for NotMirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEndpoints => "there are no Endpoints of its name",
            Self::SkipMirror => "its Endpoints are labelled not to be mirrored",
            Self::LeaderElection => "its Endpoints are a lock for leader election",
            Self::NoService => "there is no Service of its name",
            Self::HasSelector => "its Service has a selector",
        })
    }
}

/// The slices that mirror an Endpoints object, and what there is to tell about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct MirrorPlan {
    /// What to write.
    pub plan: Plan,
    /// Addresses that are no IP addresses, and are left out.
    pub invalid_addresses: usize,
    /// Addresses that are left out, invalid ones among them.
    pub skipped_addresses: usize,
    /// The limit that they were held against.
    limit: usize,
}

/// Something to tell the owner of an Endpoints object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MirrorEvent {
    /// This many addresses are no IP addresses.
    InvalidIpAddress(usize),
    /// This many addresses were skipped; invalid ones are counted with them, as in the reference.
    TooManyAddressesToMirror {
        /// Most addresses of a subset that are mirrored.
        limit: usize,
        /// Addresses skipped.
        skipped: usize,
    },
}

impl MirrorEvent {
    /// The `reason` of a Kubernetes Event; its type is `Warning`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::InvalidIpAddress(_) => "InvalidIPAddress",
            Self::TooManyAddressesToMirror { .. } => "TooManyAddressesToMirror",
        }
    }
}

impl fmt::Display for MirrorEvent {
    /// The `message` of a Kubernetes Event, word for word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidIpAddress(count) => {
                write!(f, "Skipped {count} invalid IP addresses when mirroring to EndpointSlices")
            }
            Self::TooManyAddressesToMirror { limit, skipped } => write!(
                f,
                "A max of {limit} addresses can be mirrored to EndpointSlices per Endpoints subset. \
                 {skipped} addresses were skipped"
            ),
        }
    }
}

impl MirrorPlan {
    /// What there is to tell the owner of the Endpoints object.
    pub fn events(&self) -> impl Iterator<Item = MirrorEvent> {
        let invalid =
            (self.invalid_addresses > 0).then_some(MirrorEvent::InvalidIpAddress(self.invalid_addresses));
        let too_many = (self.skipped_addresses > self.invalid_addresses).then_some(
            MirrorEvent::TooManyAddressesToMirror { limit: self.limit, skipped: self.skipped_addresses },
        );
        invalid.into_iter().chain(too_many)
    }
}

/// A slice to be: one address family, one set of ports.
type MirrorKey = (PortsKey, IpFamily);

impl Mirror {
    /// Whether the Endpoints of a Service are to be mirrored.
    ///
    /// # Errors
    /// Why they are not. Slices that mirrored them before are then deleted.
    pub fn should_mirror(
        endpoints: Option<&Endpoints>,
        service: Option<&Service>,
    ) -> Result<(), NotMirrored> {
        let metadata = &endpoints.ok_or(NotMirrored::NoEndpoints)?.metadata;
        if metadata.labels.get(SKIP_MIRROR_LABEL) == Some("true") {
            return Err(NotMirrored::SkipMirror);
        }
        if metadata.annotations.contains_key(LEADER_ANNOTATION) {
            return Err(NotMirrored::LeaderElection);
        }
        match service.ok_or(NotMirrored::NoService)?.spec.selector {
            Some(_) => Err(NotMirrored::HasSelector),
            None => Ok(()),
        }
    }

    /// Whether a slice is a mirror of the Endpoints of this name.
    #[must_use]
    pub fn is_mirror_of(&self, slice: &EndpointSlice, endpoints: &ObjectRef) -> bool {
        slice.metadata.namespace == endpoints.namespace
            && slice.service_name() == Some(&endpoints.name)
            && slice.metadata.labels.get(MANAGED_BY_LABEL) == Some(&self.managed_by)
    }

    /// Plans the mirror slices of a name, whatever exists of Endpoints and Service. Slices among `existing`
    /// that are not mirrors of this name are left alone, and not mentioned in the plan.
    pub fn sync(
        &self,
        key: &ObjectRef,
        endpoints: Option<&Endpoints>,
        service: Option<&Service>,
        existing: &[EndpointSlice],
    ) -> MirrorPlan {
        let mirrors: Vec<&EndpointSlice> =
            existing.iter().filter(|slice| self.is_mirror_of(slice, key)).collect();
        match (Self::should_mirror(endpoints, service), endpoints) {
            (Ok(()), Some(endpoints)) => self.plan(endpoints, &mirrors),
            _ => {
                let deletes = mirrors.iter().map(|slice| slice.metadata.object_ref()).collect();
                let endpoints_removed = mirrors.iter().map(|slice| slice.endpoints.len()).sum();
                MirrorPlan {
                    plan: Plan { deletes, endpoints_removed, ..Plan::default() },
                    ..MirrorPlan::default()
                }
            }
        }
    }

    /// Plans the slices that mirror an Endpoints object: one for each set of ports and address family, whatever
    /// their number of addresses up to the limit. `existing` are all its mirrors.
    ///
    /// The reference loses a slice until a later sync where several new ones and some to delete meet; this does
    /// not.
    pub fn reconcile(&self, endpoints: &Endpoints, existing: &[EndpointSlice]) -> MirrorPlan {
        self.plan(endpoints, &existing.iter().collect::<Vec<_>>())
    }

    fn plan(&self, endpoints: &Endpoints, existing: &[&EndpointSlice]) -> MirrorPlan {
        let mut outcome = MirrorPlan { limit: self.max_endpoints_per_subset.get(), ..MirrorPlan::default() };
        let mut desired = self.desired(endpoints, &mut outcome);
        let plan = &mut outcome.plan;
        let mut by_key: BTreeMap<Option<MirrorKey>, Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in existing {
            let family = slice.address_type.get().and_then(family_of);
            by_key.entry(family.map(|family| (PortsKey::of(&slice.ports), family))).or_default().push(slice);
        }
        let mut creates: Vec<EndpointSlice> = Vec::new();
        let mut deletes: Vec<&EndpointSlice> = Vec::new();
        for (key, slices) in by_key {
            let wanted = key.and_then(|key| desired.remove(&key));
            let (Some(wanted), Some((first, rest))) = (wanted, slices.split_first()) else {
                plan.endpoints_removed += slices.iter().map(|slice| slice.endpoints.len()).sum::<usize>();
                deletes.extend(slices);
                continue;
            };
            deletes.extend(rest);
            let difference = Difference::between(&first.endpoints, &wanted.endpoints);
            plan.endpoints_added += difference.added;
            plan.endpoints_removed += difference.removed;
            if difference == Difference::default() && is_labelled_for(first, endpoints) {
                plan.unchanged.push(first.metadata.object_ref());
            } else {
                let mut slice = self.slice(endpoints, wanted);
                slice.metadata.generate_name = SmolStr::default();
                slice.metadata.name = first.metadata.name.clone();
                plan.updates.push(slice);
            }
        }
        for wanted in desired.into_values() {
            plan.endpoints_added += wanted.endpoints.len();
            creates.push(self.slice(endpoints, wanted));
        }
        for slice in deletes {
            // Recycled: a slice that would go takes the content of one that would be created.
            let of_type = creates.iter().position(|create| create.address_type == slice.address_type);
            match of_type.map(|index| creates.remove(index)) {
                Some(mut create) => {
                    create.metadata.name = slice.metadata.name.clone();
                    plan.updates.push(create);
                }
                None => plan.deletes.push(slice.metadata.object_ref()),
            }
        }
        if !endpoints.metadata.is_terminating() {
            plan.creates = creates;
        }
        outcome
    }

    fn desired(&self, endpoints: &Endpoints, outcome: &mut MirrorPlan) -> BTreeMap<MirrorKey, Wanted> {
        let mut desired: BTreeMap<MirrorKey, Wanted> = BTreeMap::new();
        for subset in repack_subsets(&endpoints.subsets) {
            let ports: Vec<EndpointPort> = subset.ports.iter().map(slice_port).collect();
            let key = PortsKey::of(&ports);
            let ready = subset.addresses.iter().map(|address| (address, true));
            let not_ready = subset.not_ready_addresses.iter().map(|address| (address, false));
            let mut mirrored = 0;
            for (address, is_ready) in ready.chain(not_ready) {
                if mirrored >= self.max_endpoints_per_subset.get() {
                    break;
                }
                let Some(ip) = address.ip.get() else {
                    outcome.invalid_addresses += 1;
                    continue;
                };
                mirrored += 1;
                let family = IpFamily::of(ip);
                let wanted = desired.entry((key.clone(), family)).or_insert_with(|| Wanted {
                    family,
                    ports: ports.clone(),
                    endpoints: BTreeMap::new(),
                });
                let endpoint = slice_endpoint(ip, address, is_ready);
                wanted.endpoints.insert(identity(&endpoint), endpoint);
            }
            outcome.skipped_addresses += subset.addresses.len() + subset.not_ready_addresses.len() - mirrored;
        }
        desired
    }

    fn slice(&self, endpoints: &Endpoints, wanted: Wanted) -> EndpointSlice {
        let owner = &endpoints.metadata;
        let mut labels = owner.labels.clone();
        labels.insert(SERVICE_NAME_LABEL, owner.name.clone());
        labels.insert(MANAGED_BY_LABEL, self.managed_by.clone());
        EndpointSlice {
            metadata: ObjectMeta {
                generate_name: name_prefix(&owner.name),
                namespace: owner.namespace.clone(),
                labels,
                annotations: mirrored_annotations(&owner.annotations),
                owner_references: alloc::vec![controller_reference("v1", "Endpoints", owner)],
                ..ObjectMeta::default()
            },
            address_type: AddressType::from(wanted.family).into(),
            endpoints: wanted.endpoints.into_values().collect(),
            ports: wanted.ports,
        }
    }
}

/// The content of a slice to be.
struct Wanted {
    family: IpFamily,
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<Identity, Endpoint>,
}

/// What makes two endpoints the same: addresses, host name, namespace and name of the target.
type Identity = (Vec<Sent<IpAddr>>, SmolStr, ObjectRef);

fn identity(endpoint: &Endpoint) -> Identity {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    let target = endpoint.target_ref.as_ref();
    let target = target.map(|target| ObjectRef::new(target.namespace.clone(), target.name.clone()));
    (addresses, endpoint.hostname.clone().unwrap_or_default(), target.unwrap_or_default())
}

/// How the endpoints of a slice differ from those that it ought to have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    added: usize,
    updated: usize,
    removed: usize,
}

impl Difference {
    fn between(existing: &[Endpoint], wanted: &BTreeMap<Identity, Endpoint>) -> Self {
        let mut difference = Self::default();
        let mut found = BTreeSet::new();
        for endpoint in existing {
            let identity = identity(endpoint);
            match wanted.get(&identity) {
                Some(wanted) if found.insert(identity) => {
                    difference.updated += usize::from(!is_up_to_date(endpoint, wanted));
                }
                _ => difference.removed += 1,
            }
        }
        difference.added = wanted.len() - found.len();
        difference
    }
}

/// Whether an endpoint says what the wanted one says; hints and the target's resource version don't count.
fn is_up_to_date(endpoint: &Endpoint, wanted: &Endpoint) -> bool {
    let target = |endpoint: &Endpoint| {
        endpoint
            .target_ref
            .clone()
            .map(|target| ObjectReference { resource_version: SmolStr::default(), ..target })
    };
    endpoint.node_name == wanted.node_name
        && endpoint.zone == wanted.zone
        && endpoint.conditions == wanted.conditions
        && target(endpoint) == target(wanted)
}

/// Whether labels, annotations and owner of a mirror are those that its Endpoints give it. The labels that the
/// mirror has of its own are left aside.
fn is_labelled_for(slice: &EndpointSlice, endpoints: &Endpoints) -> bool {
    let mut labels = slice.metadata.labels.clone();
    labels.remove(SERVICE_NAME_LABEL);
    labels.remove(MANAGED_BY_LABEL);
    let owner = &endpoints.metadata;
    labels == owner.labels
        && slice.metadata.annotations == mirrored_annotations(&owner.annotations)
        && !slice.metadata.owner_references.iter().any(|reference| {
            // The mirror of a deleted namesake.
            reference.kind == "Endpoints" && reference.name == owner.name && reference.uid != owner.uid
        })
}

fn mirrored_annotations(annotations: &Annotations) -> Annotations {
    let mut annotations = annotations.clone();
    annotations.remove(TRIGGER_TIME_ANNOTATION);
    annotations.remove(LAST_APPLIED_ANNOTATION);
    annotations
}

fn slice_port(port: &SubsetPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    }
}

fn slice_endpoint(ip: IpAddr, address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: alloc::vec![ip.into()],
        conditions: EndpointConditions { ready: Some(ready), ..EndpointConditions::default() },
        hostname: Some(address.hostname.clone()).filter(|hostname| !hostname.is_empty()),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        ..Endpoint::default()
    }
}
