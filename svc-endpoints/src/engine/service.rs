//! What the engine keeps of a Service.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smol_str::SmolStr;
use svc_model::{Endpoint, EndpointSlice, IpFamily, Selector, Sent, Service, Timestamp};

use crate::slices::facts::{PodFacts, Ports};
use crate::slices::hints::hint;
use crate::slices::is_published;
use crate::slices::metadata::{SliceTemplate, is_owned_by};
use crate::slices::ports::{PortResolver, PortsKey, Resolution};
use crate::slices::{Config, HintMode, History, Packing, family_of};

/// A Service, its Pods by name, and where each of them stands in its slices.
#[derive(Debug, Clone)]
pub(super) struct ServiceEntry {
    pub(super) service: Service,
    pub(super) template: SliceTemplate,
    pub(super) mode: HintMode,
    pub(super) history: History,
    /// Whether it was reconciled before.
    pub(super) seen: bool,
    /// The selector that it is filed with.
    pub(super) filed: Option<Selector>,
    /// The Pods that it selects.
    pub(super) pods: BTreeSet<SmolStr>,
    /// The Pods that it selected before it lost its selector, and when they became ready or stopped being so: the
    /// reference forgets none of it until the Service is gone.
    pub(super) unselected: BTreeMap<SmolStr, Timestamp>,
    /// The slices that are managed for it.
    pub(super) slices: BTreeSet<SmolStr>,
    pub(super) ipv4: Places,
    pub(super) ipv6: Places,
    /// The Pods that are published, counted by the ports that they resolve to.
    pub(super) published: BTreeMap<PortsKey, usize>,
    /// Whether a reconciliation would change nothing, and changes of single Pods can be told from the places.
    pub(super) settled: bool,
}

/// Where Pods stand in the slices of one family.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// The slice that holds each Pod.
    pub(super) homes: HashMap<SmolStr, SmolStr, FixedState>,
    /// The slices of each port group, by name.
    pub(super) groups: BTreeMap<PortsKey, Vec<Holder>>,
    /// Slices without endpoints.
    pub(super) empty: usize,
}

/// A slice and how many endpoints it holds.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) slice: SmolStr,
    pub(super) len: usize,
}

impl ServiceEntry {
    pub(super) fn new(service: Service, config: &Config) -> Self {
        Self {
            template: SliceTemplate::of(&service, config),
            mode: HintMode::of(&service, config),
            service,
            history: History::default(),
            seen: false,
            filed: None,
            pods: BTreeSet::new(),
            unselected: BTreeMap::new(),
            slices: BTreeSet::new(),
            ipv4: Places::default(),
            ipv6: Places::default(),
            published: BTreeMap::new(),
            settled: false,
        }
    }

    pub(super) fn replace(&mut self, service: Service, config: &Config) {
        self.template = SliceTemplate::of(&service, config);
        self.mode = HintMode::of(&service, config);
        self.service = service;
        self.settled = false;
    }

    pub(super) fn places(&self, family: IpFamily) -> &Places {
        match family {
            IpFamily::Ipv4 => &self.ipv4,
            IpFamily::Ipv6 => &self.ipv6,
        }
    }

    pub(super) fn places_mut(&mut self, family: IpFamily) -> &mut Places {
        match family {
            IpFamily::Ipv4 => &mut self.ipv4,
            IpFamily::Ipv6 => &mut self.ipv6,
        }
    }

    /// The ports that a Pod resolves to, if it is published.
    pub(super) fn ports_of(&self, pod: PodFacts<'_>) -> Option<PortsKey> {
        is_published(pod).ok()?;
        let resolver = PortResolver::of(&self.service);
        let mut resolution = Resolution::new();
        resolver.resolve_into(pod.ports, &mut resolution);
        Some(PortsKey::of(&resolver.slice_ports(&resolution)))
    }

    pub(super) fn slice_ports(&self, pod: Ports<'_>) -> Vec<svc_model::EndpointPort> {
        let resolver = PortResolver::of(&self.service);
        let mut resolution = Resolution::new();
        resolver.resolve_into(pod, &mut resolution);
        resolver.slice_ports(&resolution)
    }

    /// Takes stock after a reconciliation.
    pub(super) fn settle<'a>(
        &mut self,
        slices: impl Iterator<Item = &'a EndpointSlice>,
        pods: impl Iterator<Item = PodFacts<'a>>,
        config: &Config,
    ) {
        self.ipv4 = Places::default();
        self.ipv6 = Places::default();
        self.published.clear();
        self.settled = self.mode != HintMode::Auto
            && config.packing == Packing::KeepPlaces
            && !self.service.metadata.is_terminating();
        let mode = self.mode;
        for slice in slices {
            let Some(family) = slice.address_type.get().and_then(family_of) else { continue };
            let is_plain = is_owned_by(slice, &self.service)
                && slice.endpoints.iter().all(|endpoint| is_as_written(endpoint, mode));
            self.settled &= is_plain || slice.endpoints.is_empty();
            let places = self.places_mut(family);
            for endpoint in &slice.endpoints {
                if let Some(target) = &endpoint.target_ref {
                    places.homes.insert(target.name.clone(), slice.metadata.name.clone());
                }
            }
            places.empty += usize::from(slice.endpoints.is_empty());
            let holder = Holder { slice: slice.metadata.name.clone(), len: slice.endpoints.len() };
            places.groups.entry(PortsKey::of(&slice.ports)).or_default().push(holder);
        }
        if self.settled {
            for pod in pods {
                if let Some(ports) = self.ports_of(pod) {
                    *self.published.entry(ports).or_default() += 1;
                }
            }
        }
    }
}

/// Whether an endpoint is, to the letter, what rewriting its slice would make of it.
fn is_as_written(endpoint: &Endpoint, mode: HintMode) -> bool {
    let mut plain = Endpoint { hints: None, ..endpoint.clone() };
    if let HintMode::Distribution(distribution) = mode {
        hint(&mut plain, distribution);
    }
    plain.hints == endpoint.hints
        && endpoint.hostname.as_deref() != Some("")
        && endpoint.target_ref.as_ref().is_some_and(|target| target.resource_version.is_empty())
        && endpoint.addresses.is_sorted_by_key(Sent::to_text)
}
