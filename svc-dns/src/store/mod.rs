//! What the zones are made from, indexed for looking up: Services, ServiceImports and their endpoints by name, addresses for PTR,
//! namespaces, Pods.

pub(crate) mod endpoints;
pub(crate) mod service;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{BuildHasher as _, Hash};
use core::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet, HashTable};
use smol_str::SmolStr;
use svc_model::{EndpointSlice, Labels, ObjectMeta, ObjectRef, Pod, PodPhase, Sent};

use self::endpoints::Reading;
use self::service::{Entry, Face, Presence};
use crate::grammar::Zonal;
use crate::name::push_label;
use crate::options::{Endpoints, NamespaceSource, Options, Pods};

/// The label that names the Service of a slice from another cluster (KEP-1645).
pub(crate) const IMPORT_NAME: &str = "multicluster.kubernetes.io/service-name";
/// The label that names the cluster that such a slice is from.
const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";

/// A fixed hasher: nothing here is keyed by what a client sends, and the same state must give the same bytes.
const HASHER: FixedState = FixedState::with_seed(0);

type Map<K, V> = HashMap<K, V, FixedState>;

/// Which of the two families of Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Services of this cluster.
    Internal,
    /// ServiceImports of the clusterset.
    Imported,
}

/// Services by name, with the slices that each has.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    slices: Map<ObjectRef, u32>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            slices: Map::with_hasher(HASHER),
        }
    }
}

impl Table {
    pub(crate) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    /// The entry of a Service, by its labels in wire form.
    pub(crate) fn find(&self, key: &[u8]) -> Option<(u32, &Entry)> {
        let is = |id: &u32| self.get(*id).is_some_and(|entry| &*entry.key == key);
        let id = *self.by_key.find(hash(key), is)?;
        Some((id, self.get(id)?))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0u32..).zip(&self.entries).filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }

    /// The entry of a Service, made if there is none.
    fn make(&mut self, key: Box<[u8]>, namespace: u32) -> u32 {
        if let Some((id, _)) = self.find(&key) {
            return id;
        }
        let entry = Entry {
            key,
            namespace,
            presence: Presence::None,
            endpoints: endpoints::Endpoints::default(),
            unselected: Vec::new(),
        };
        let code = hash(&entry.key);
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.entries.get_mut(id as usize) {
            *slot = Some(entry);
        }
        let entries = &self.entries;
        let rehash =
            |id: &u32| entries.get(*id as usize).and_then(Option::as_ref).map_or(0, |entry| hash(&entry.key));
        self.by_key.insert_unique(code, id, rehash);
        id
    }

    /// Forgets an entry that holds nothing any more; tells whether it did.
    fn drop_vacant(&mut self, id: u32) -> Option<u32> {
        let entry = self.get(id).filter(|entry| entry.is_vacant())?;
        let namespace = entry.namespace;
        let code = hash(&entry.key);
        if let Ok(found) = self.by_key.find_entry(code, |other| *other == id) {
            found.remove();
        }
        if let Some(slot) = self.entries.get_mut(id as usize) {
            *slot = None;
        }
        self.free.push(id);
        Some(namespace)
    }
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    HASHER.hash_one(value)
}

/// Which Services an address belongs to; one row for each time that it does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses(HashTable<(IpAddr, u32)>);

impl Addresses {
    fn insert(&mut self, addr: IpAddr, id: u32) {
        self.0.insert_unique(hash(&addr), (addr, id), |(addr, _)| hash(addr));
    }

    fn remove(&mut self, addr: IpAddr, id: u32) {
        if let Ok(found) = self.0.find_entry(hash(&addr), |row| *row == (addr, id)) {
            found.remove();
        }
    }

    /// The Services of an address, in no order, one more than once if it has the address more than once.
    pub(crate) fn find(&self, addr: IpAddr) -> impl Iterator<Item = u32> {
        self.0.iter_hash(hash(&addr)).filter(move |row| row.0 == addr).map(|row| row.1)
    }
}

/// A namespace, known by its object or by something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace {
    pub(crate) name: SmolStr,
    object: Option<Labels>,
    /// How many objects are in it that let it exist without an object of its own.
    implied: u32,
    members: HashSet<(u8, u32), FixedState>,
    pub(crate) state: NamespaceState,
}

/// Whether names in a namespace are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamespaceState {
    /// They are.
    Exposed,
    /// There is no such namespace.
    Absent,
    /// `namespaces` does not list it.
    Unlisted,
    /// `namespace_labels` does not select it.
    Unselected,
}

/// Everything that the zones are made from.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) internal: Table,
    pub(crate) imported: Table,
    pub(crate) cluster_addrs: Addresses,
    pub(crate) outside_addrs: Addresses,
    pub(crate) endpoint_addrs: Addresses,
    namespaces: Vec<Namespace>,
    by_namespace: HashTable<u32>,
    pods: Map<ObjectRef, Option<IpAddr>>,
    /// Pods by namespace and address, one row a Pod.
    pod_addrs: HashTable<(u32, IpAddr)>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            internal: Table::default(),
            imported: Table::default(),
            cluster_addrs: Addresses::default(),
            outside_addrs: Addresses::default(),
            endpoint_addrs: Addresses::default(),
            namespaces: Vec::new(),
            by_namespace: HashTable::new(),
            pods: Map::with_hasher(HASHER),
            pod_addrs: HashTable::new(),
        }
    }
}

/// A Service that a change reaches, as it was before.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(crate) side: Side,
    pub(crate) key: Box<[u8]>,
    pub(crate) entry: Option<Entry>,
    pub(crate) exposed: bool,
}

impl Store {
    pub(crate) fn table(&self, side: Side) -> &Table {
        match side {
            Side::Internal => &self.internal,
            Side::Imported => &self.imported,
        }
    }

    fn table_mut(&mut self, side: Side) -> &mut Table {
        match side {
            Side::Internal => &mut self.internal,
            Side::Imported => &mut self.imported,
        }
    }

    /// A namespace by its label.
    pub(crate) fn namespace(&self, name: &[u8]) -> Option<&Namespace> {
        let is =
            |id: &u32| self.namespaces.get(*id as usize).is_some_and(|found| found.name.as_bytes() == name);
        self.by_namespace.find(hash(name), is).and_then(|id| self.namespaces.get(*id as usize))
    }

    pub(crate) fn namespace_of(&self, entry: &Entry) -> Option<&Namespace> {
        self.namespaces.get(entry.namespace as usize)
    }

    /// Whether the names of an entry's namespace are served.
    pub(crate) fn exposes(&self, entry: &Entry) -> bool {
        self.namespace_of(entry).is_some_and(|namespace| namespace.state == NamespaceState::Exposed)
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter()
    }

    /// Whether a Pod with this address is in a namespace.
    pub(crate) fn has_pod(&self, namespace: &[u8], addr: IpAddr) -> bool {
        let is = |id: &u32| {
            self.namespaces.get(*id as usize).is_some_and(|found| found.name.as_bytes() == namespace)
        };
        let id = self.by_namespace.find(hash(namespace), is).copied();
        id.is_some_and(|id| self.pod_addrs.find(hash(&(id, addr)), |row| *row == (id, addr)).is_some())
    }

    fn make_namespace(&mut self, name: &str, options: &Options) -> u32 {
        let is = |id: &u32| self.namespaces.get(*id as usize).is_some_and(|found| found.name == name);
        if let Some(id) = self.by_namespace.find(hash(name.as_bytes()), is) {
            return *id;
        }
        let id = u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX);
        let mut namespace = Namespace {
            name: SmolStr::new(name),
            object: None,
            implied: 0,
            members: HashSet::with_hasher(HASHER),
            state: NamespaceState::Absent,
        };
        namespace.decide(options);
        self.namespaces.push(namespace);
        let namespaces = &self.namespaces;
        let rehash =
            |id: &u32| namespaces.get(*id as usize).map_or(0, |namespace| hash(namespace.name.as_bytes()));
        self.by_namespace.insert_unique(hash(name.as_bytes()), id, rehash);
        id
    }

    /// Records that a namespace has an object (or has none any more); gives the Services whose names come or go with it.
    pub(crate) fn set_namespace(
        &mut self,
        name: &str,
        object: Option<Labels>,
        options: &Options,
    ) -> Vec<Before> {
        let id = self.make_namespace(name, options);
        self.change_namespace(id, options, |namespace| namespace.object = object)
    }

    fn change_namespace(
        &mut self,
        id: u32,
        options: &Options,
        change: impl FnOnce(&mut Namespace),
    ) -> Vec<Before> {
        let Some(namespace) = self.namespaces.get_mut(id as usize) else { return Vec::new() };
        let before = namespace.state;
        change(namespace);
        namespace.decide(options);
        let exposed = before == NamespaceState::Exposed;
        if exposed == (namespace.state == NamespaceState::Exposed) {
            return Vec::new();
        }
        let mut members: Vec<_> = namespace.members.iter().copied().collect();
        members.sort_unstable();
        let side = |side| if side == 0 { Side::Internal } else { Side::Imported };
        let before = |(number, id)| {
            let entry = self.table(side(number)).get(id)?.clone();
            Some(Before { side: side(number), key: entry.key.clone(), entry: Some(entry), exposed })
        };
        members.into_iter().filter_map(before).collect()
    }

    /// Records a Service or ServiceImport, or that there is none any more. `None` outside: no object.
    pub(crate) fn set_face(
        &mut self,
        side: Side,
        metadata: &ObjectRef,
        presence: Presence,
        options: &Options,
    ) -> Vec<Before> {
        let Some(key) = key(&metadata.name, &metadata.namespace) else { return Vec::new() };
        if presence == Presence::None && self.table(side).find(&key).is_none() {
            return Vec::new();
        }
        let (id, mut befores) = self.open(side, key, &metadata.namespace, options);
        let was = self.table(side).get(id).is_some_and(|entry| entry.presence != Presence::None);
        let is = presence != Presence::None;
        self.unindex(side, id);
        if let Some(entry) = self.table_mut(side).get_mut(id) {
            entry.presence = presence;
        }
        self.index(side, id);
        if was != is && options.namespace_source == NamespaceSource::Implied {
            befores.extend(self.imply(&metadata.namespace, options, is));
        }
        self.close(side, id);
        befores
    }

    /// Counts an object that lets its namespace exist.
    fn imply(&mut self, namespace: &str, options: &Options, more: bool) -> Vec<Before> {
        let id = self.make_namespace(namespace, options);
        self.change_namespace(id, options, |namespace| {
            namespace.implied =
                if more { namespace.implied + 1 } else { namespace.implied.saturating_sub(1) };
        })
    }

    /// The entry of a Service, and how it is before a change.
    fn open(&mut self, side: Side, key: Box<[u8]>, namespace: &str, options: &Options) -> (u32, Vec<Before>) {
        let namespace = self.make_namespace(namespace, options);
        let entry = self.table(side).find(&key).map(|(_, entry)| entry.clone());
        let id = self.table_mut(side).make(key.clone(), namespace);
        let mut exposed = false;
        if let Some(namespace) = self.namespaces.get_mut(namespace as usize) {
            namespace.members.insert((side as u8, id));
            exposed = namespace.state == NamespaceState::Exposed;
        }
        (id, alloc::vec![Before { side, key, entry, exposed }])
    }

    fn close(&mut self, side: Side, id: u32) {
        if let Some(namespace) = self.table_mut(side).drop_vacant(id)
            && let Some(namespace) = self.namespaces.get_mut(namespace as usize)
        {
            namespace.members.remove(&(side as u8, id));
        }
    }

    /// Enters the addresses of an object.
    fn index(&mut self, side: Side, id: u32) {
        if let (Side::Internal, Some(face)) = (side, self.internal.get(id).and_then(Entry::face)) {
            face.addrs.iter().for_each(|addr| self.cluster_addrs.insert(*addr, id));
            outside_addrs(face).for_each(|addr| self.outside_addrs.insert(addr, id));
        }
    }

    fn unindex(&mut self, side: Side, id: u32) {
        if let (Side::Internal, Some(face)) = (side, self.internal.get(id).and_then(Entry::face)) {
            face.addrs.iter().for_each(|addr| self.cluster_addrs.remove(*addr, id));
            outside_addrs(face).for_each(|addr| self.outside_addrs.remove(addr, id));
        }
    }

    /// Records a slice (or, with none, that it is gone) under every Service that it is for.
    pub(crate) fn set_slice(
        &mut self,
        reference: &ObjectRef,
        slice: Option<&EndpointSlice>,
        options: &Options,
    ) -> Vec<Before> {
        let mut befores = Vec::new();
        for side in [Side::Internal, Side::Imported] {
            // CoreDNS's `noendpoints` leaves the slices of imports alone.
            let off = match side {
                Side::Internal => options.endpoints == Endpoints::Off,
                Side::Imported => options.multicluster.is_empty(),
            };
            if off {
                continue;
            }
            let label = if side == Side::Internal { svc_model::SERVICE_NAME_LABEL } else { IMPORT_NAME };
            let owner = slice.and_then(|slice| slice.metadata.labels.get(label));
            let key = owner.and_then(|owner| key(owner, &reference.namespace));
            let old = self.table(side).slices.get(reference).copied();
            let moved = |entry: &Entry| key.as_deref() != Some(&*entry.key);
            if let Some(old) = old.filter(|id| self.table(side).get(*id).is_some_and(moved)) {
                befores.extend(self.drop_slice(side, old, reference));
            }
            if let (Some(key), Some(slice)) = (key, slice) {
                befores.extend(self.put_slice(side, key, reference, slice, options));
            }
        }
        befores
    }

    fn drop_slice(&mut self, side: Side, id: u32, reference: &ObjectRef) -> Option<Before> {
        let entry = self.table(side).get(id)?.clone();
        let exposed = self.exposes(&entry);
        self.table_mut(side).slices.remove(reference);
        self.unindex_rows(side, id, &reference.name);
        if let Some(entry) = self.table_mut(side).get_mut(id) {
            entry.endpoints.take(&reference.name);
            entry.unselected.retain(|name| *name != reference.name);
        }
        self.index_rows(side, id, &reference.name);
        self.close(side, id);
        Some(Before { side, key: entry.key.clone(), entry: Some(entry), exposed })
    }

    fn put_slice(
        &mut self,
        side: Side,
        key: Box<[u8]>,
        reference: &ObjectRef,
        slice: &EndpointSlice,
        options: &Options,
    ) -> Vec<Before> {
        let (id, befores) = self.open(side, key, &reference.namespace, options);
        self.table_mut(side).slices.insert(reference.clone(), id);
        self.unindex_rows(side, id, &reference.name);
        let selected = selected(&slice.metadata, options);
        let cluster = cluster_label(&slice.metadata);
        let names = options.endpoint_names;
        let reading = Reading { names, topology: options.zonal == Zonal::On };
        if let Some(entry) = self.table_mut(side).get_mut(id) {
            entry.unselected.retain(|name| *name != reference.name);
            if selected {
                entry.endpoints.put(
                    slice,
                    if side == Side::Imported { cluster } else { Box::default() },
                    reading,
                );
            } else {
                entry.endpoints.take(&reference.name);
                entry.unselected.push(reference.name.clone());
                entry.unselected.sort();
            }
        }
        self.index_rows(side, id, &reference.name);
        befores
    }

    fn index_rows(&mut self, side: Side, id: u32, slice: &str) {
        if let (Side::Internal, Some(entry)) = (side, self.internal.get(id)) {
            entry.endpoints.rows_of(slice).iter().for_each(|row| self.endpoint_addrs.insert(row.addr, id));
        }
    }

    fn unindex_rows(&mut self, side: Side, id: u32, slice: &str) {
        if let (Side::Internal, Some(entry)) = (side, self.internal.get(id)) {
            entry.endpoints.rows_of(slice).iter().for_each(|row| self.endpoint_addrs.remove(row.addr, id));
        }
    }

    /// Records a Pod, or that it is gone.
    pub(crate) fn set_pod(
        &mut self,
        reference: &ObjectRef,
        pod: Option<&Pod>,
        options: &Options,
    ) -> Vec<Before> {
        let implied = options.namespace_source == NamespaceSource::Implied;
        if options.pods != Pods::Verified && !implied {
            return Vec::new();
        }
        let namespace = self.make_namespace(&reference.namespace, options);
        let old = self.pods.remove(reference);
        if let Some(Some(addr)) = old
            && let Ok(found) =
                self.pod_addrs.find_entry(hash(&(namespace, addr)), |row| *row == (namespace, addr))
        {
            found.remove();
        }
        if let Some(pod) = pod {
            let ended = [PodPhase::Succeeded, PodPhase::Failed, PodPhase::Unknown];
            let ended = pod.status.phase.get().is_some_and(|phase| ended.contains(&phase));
            let watched = !ended && !pod.metadata.is_terminating() && selected(&pod.metadata, options);
            let addr = match &pod.status.pod_ip {
                Sent::Value(addr) if watched => Some(*addr),
                _ => None,
            };
            if let Some(addr) = addr {
                let row = (namespace, addr);
                self.pod_addrs.insert_unique(hash(&row), row, hash);
            }
            self.pods.insert(reference.clone(), addr);
        }
        if implied && old.is_some() != pod.is_some() {
            return self.imply(&reference.namespace, options, pod.is_some());
        }
        Vec::new()
    }
}

impl Namespace {
    fn decide(&mut self, options: &Options) {
        let implied = options.namespace_source == NamespaceSource::Implied && self.implied > 0;
        let selected = |labels: &Labels| {
            options.namespace_labels.as_ref().is_none_or(|selector| selector.matches(labels))
        };
        self.state = if !options.namespaces.is_empty() && !options.namespaces.contains(&self.name) {
            NamespaceState::Unlisted
        } else {
            match &self.object {
                Some(labels) if selected(labels) => NamespaceState::Exposed,
                Some(_) => NamespaceState::Unselected,
                None if implied && selected(&Labels::default()) => NamespaceState::Exposed,
                None => NamespaceState::Absent,
            }
        };
    }
}

/// Whether the `labels` option selects an object.
pub(crate) fn selected(metadata: &ObjectMeta, options: &Options) -> bool {
    options.labels.as_ref().is_none_or(|selector| selector.matches(&metadata.labels))
}

/// The labels of a Service in wire form; none if they are no labels.
fn key(name: &str, namespace: &str) -> Option<Box<[u8]>> {
    let mut wire = Vec::with_capacity(name.len() + namespace.len() + 2);
    push_label(&mut wire, name.as_bytes()).ok()?;
    push_label(&mut wire, namespace.as_bytes()).ok()?;
    Some(wire.into())
}

fn cluster_label(metadata: &ObjectMeta) -> Box<[u8]> {
    let mut wire = Vec::new();
    let cluster = metadata.labels.get(SOURCE_CLUSTER).unwrap_or_default();
    push_label(&mut wire, cluster.as_bytes()).map(|()| wire.into()).unwrap_or_default()
}

fn outside_addrs(face: &Face) -> impl Iterator<Item = IpAddr> {
    face.outside.iter().filter_map(|outside| match outside {
        service::Outside::Addr(addr) => Some(*addr),
        service::Outside::Host(_) => None,
    })
}
