//! The zones of a cluster, kept up to date object by object.

use alloc::vec::Vec;

use svc_model::{Object, ObjectRef};

use crate::changes::Changes;
use crate::grammar::{Grammar, Pair};
use crate::name::Name;
use crate::options::Options;
use crate::reverse;
use crate::store::service::{Entry, Face, Presence};
use crate::store::{Before, Side, Store, selected};

/// The zones that a cluster's DNS serves, and the Services, endpoints, Pods and namespaces that they are made from.
///
/// Objects go in with [`apply`](Self::apply), [`remove`](Self::remove) and [`replace_all`](Self::replace_all); what changed comes
/// out as [`Changes`]. Questions are answered by [`answer`](Self::answer) as records, by [`respond`](Self::respond) from message to
/// message without allocation, and explained by [`explain`](Self::explain).
#[derive(Debug, Clone)]
pub struct Zones {
    pub(crate) options: Options,
    pub(crate) served: Vec<Served>,
    pub(crate) external: Vec<Served>,
    /// The first zone that is no reverse zone: where PTR records point to.
    pub(crate) primary: Name,
    pub(crate) store: Store,
    pub(crate) serials: Serials,
    pub(crate) sync: Sync,
}

/// A zone, prepared for matching.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    /// In lower case.
    pub(crate) name: Name,
    pub(crate) labels: usize,
    pub(crate) side: Side,
    pub(crate) grammar: Grammar,
    pub(crate) reverse: bool,
}

/// The serial numbers of the zones' SOA records. CoreDNS keeps three, each the Unix time of the last change that matters to it;
/// the caller sets them when [`Changes::touches`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Serials {
    /// The cluster's zones and the reverse zones.
    pub internal: u32,
    /// The clusterset zones.
    pub multicluster: u32,
    /// The external zones.
    pub external: u32,
}

/// Whether every object that exists is known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Sync {
    /// Yes: a name that is not found does not exist.
    #[default]
    Done,
    /// Not yet: a name that is not found is answered SERVFAIL, since it may come.
    Pending,
}

/// Options that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Every zone is a reverse zone, so that no name can be made.
    #[error("zones: at least one zone must not be a reverse zone")]
    NoForwardZone,
    /// A clusterset zone is not among the zones.
    #[error("multicluster: `{0}` is not one of the zones")]
    NotAZone(Name),
    /// Both ways of choosing namespaces are used.
    #[error("namespaces and namespace_labels exclude each other")]
    TwoNamespaceFilters,
    /// Topology zones need endpoints.
    #[error("zonal: needs endpoints, which `noendpoints` turns off")]
    ZonalWithoutEndpoints,
    /// The time to live is too long.
    #[error("ttl: {0} is not in 0 to 3600")]
    Ttl(u32),
}

impl Zones {
    /// Zones without any object yet.
    ///
    /// # Errors
    /// The options contradict each other, as CoreDNS's setup would say.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let is_forward = |zone: &&Name| !reverse::is_reverse(zone.wire());
        let primary = options.zones.iter().find(is_forward).ok_or(OptionsError::NoForwardZone)?.clone();
        if !options.namespaces.is_empty() && options.namespace_labels.is_some() {
            return Err(OptionsError::TwoNamespaceFilters);
        }
        if let Some(zone) =
            options.multicluster.iter().find(|zone| !options.zones.iter().any(|other| other.is(zone)))
        {
            return Err(OptionsError::NotAZone(zone.clone()));
        }
        if options.zonal == crate::Zonal::On && options.endpoints == crate::Endpoints::Off {
            return Err(OptionsError::ZonalWithoutEndpoints);
        }
        if options.ttl > 3600 {
            return Err(OptionsError::Ttl(options.ttl));
        }
        let served = |zone: &Name| {
            let multicluster = options.multicluster.iter().any(|other| zone.is_within(other));
            Served {
                name: zone.to_lowercase(),
                labels: zone.labels().count(),
                side: if multicluster { Side::Imported } else { Side::Internal },
                grammar: Grammar {
                    pair: if multicluster { Pair::EndpointCluster } else { Pair::PortProtocol },
                    zonal: options.zonal,
                },
                reverse: reverse::is_reverse(zone.wire()),
            }
        };
        let zones = options.zones.iter().map(served).collect();
        let external = options.external.iter().flat_map(|external| &external.zones).map(served).collect();
        Ok(Self {
            served: zones,
            external,
            primary: primary.to_lowercase(),
            store: Store::default(),
            serials: Serials::default(),
            sync: Sync::default(),
            options,
        })
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The serial numbers.
    #[must_use]
    pub fn serials(&self) -> Serials {
        self.serials
    }

    /// Sets the serial numbers.
    pub fn set_serials(&mut self, serials: Serials) {
        self.serials = serials;
    }

    /// Says whether every object is known.
    pub fn set_sync(&mut self, sync: Sync) {
        self.sync = sync;
    }

    /// Takes an object in, new or changed. Kinds that no name is made from change nothing.
    pub fn apply(&mut self, object: &Object) -> Changes<'_> {
        let reference = object.object_ref();
        let options = &self.options;
        let presence = |face: Face| {
            if selected(object.metadata(), options) {
                Presence::Some(face.into())
            } else {
                Presence::Unselected
            }
        };
        let befores = match object {
            Object::Service(service) => {
                let presence = presence(Face::of_service(service));
                self.store.set_face(Side::Internal, &reference, presence, options)
            }
            Object::ServiceImport(import) => {
                // CoreDNS selects imports by the selector that is meant for namespaces.
                let selector = options.namespace_labels.as_ref();
                let selected = selector.is_none_or(|selector| selector.matches(&import.metadata.labels));
                let face = Face::of_import(import);
                let presence = if selected { Presence::Some(face.into()) } else { Presence::Unselected };
                self.store.set_face(Side::Imported, &reference, presence, options)
            }
            Object::EndpointSlice(slice) => self.store.set_slice(&reference, Some(slice), options),
            Object::Namespace(namespace) => {
                let labels = namespace.metadata.labels.clone();
                self.store.set_namespace(&reference.name, Some(labels), options)
            }
            Object::Pod(pod) => self.store.set_pod(&reference, Some(pod), options),
            _ => Vec::new(),
        };
        Changes::new(self, befores)
    }

    /// Takes an object out, by its kind (`Service`, `EndpointSlice`, ...) and name.
    pub fn remove(&mut self, kind: &str, reference: &ObjectRef) -> Changes<'_> {
        let options = &self.options;
        let befores = match kind {
            "Service" => self.store.set_face(Side::Internal, reference, Presence::None, options),
            "ServiceImport" => self.store.set_face(Side::Imported, reference, Presence::None, options),
            "EndpointSlice" => self.store.set_slice(reference, None, options),
            "Namespace" => self.store.set_namespace(&reference.name, None, options),
            "Pod" => self.store.set_pod(reference, None, options),
            _ => Vec::new(),
        };
        Changes::new(self, befores)
    }

    /// Forgets every object and takes these in instead.
    pub fn replace_all<'o>(&mut self, objects: impl IntoIterator<Item = &'o Object>) -> Changes<'_> {
        let old = core::mem::take(&mut self.store);
        let before = |side, entry: &Entry| Before {
            side,
            key: entry.key.clone(),
            exposed: old.exposes(entry),
            entry: Some(entry.clone()),
        };
        let mut befores = Vec::new();
        for side in [Side::Internal, Side::Imported] {
            befores.extend(old.table(side).iter().map(|(_, entry)| before(side, entry)));
        }
        for object in objects {
            let _ = self.apply(object);
        }
        // What was not there before comes behind what was, so that it only counts where there was nothing.
        for side in [Side::Internal, Side::Imported] {
            let new = self.store.table(side).iter();
            let missing = |key| Before { side, key, entry: None, exposed: false };
            befores.extend(new.map(|(_, entry)| missing(entry.key.clone())));
        }
        Changes::new(self, befores)
    }

    /// The zone that a name is in, the longest that fits, with how many labels stand left of it.
    pub(crate) fn zone_of(
        &self,
        question: &crate::Question<'_>,
        zones: &'_ [Served],
    ) -> Option<(usize, usize)> {
        let mut found: Option<(usize, usize)> = None;
        for (index, zone) in zones.iter().enumerate() {
            if let Some(left) = question.left_of(zone.name.wire(), zone.labels)
                && found.is_none_or(|(_, best)| left < best)
            {
                found = Some((index, left));
            }
        }
        found
    }
}
