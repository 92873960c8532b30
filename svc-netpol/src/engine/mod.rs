//! The compiled engine: state in, verdicts with reasons out.
//!
//! Pods are grouped by what policies can tell apart. A *kind* is a namespace, labels and named ports; a *zone*
//! is a set of addresses that the same blocks find; a *peer* is what rules can tell of a kind in a zone, or of
//! everyone around it; a *row* is what a set of policies says to each peer. A verdict finds both ends by name or
//! address, and then looks into the row of each side.

mod address;
mod count;
mod flush;
mod func;
mod inspect;
mod pods;
mod row;
mod slab;
mod slots;
mod table;
mod term;
mod update;
mod verdict;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_model::{Labels, ObjectRef, SmolStr};

use crate::options::Options;
use crate::policy::{Compiled, NamedPort, Policy, PolicyRef, Tier};

pub(crate) use address::{Family, Range, ZoneId, Zones, bits};
pub(crate) use func::{ALLOW, Code, DENY, UNKNOWN};
pub(crate) use pods::{PodEntry, PodId};
pub(crate) use row::{PeerKey, Row, Scratch};
pub(crate) use slab::Slab;
pub(crate) use table::FuncId;
pub(crate) use term::{NamespaceLabels, Tagged, TermId, Terms};
pub use update::Touched;
pub(crate) use update::pod_ref;
pub(crate) use verdict::End;

pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

pub(crate) type PolicyId = u32;
pub(crate) type PolicyCode = Tagged;
pub(crate) type KindId = u32;
pub(crate) type IdentId = u32;
pub(crate) type PeerId = u32;
pub(crate) type RowId = u32;

/// Policies, Pods, namespaces and nodes, compiled so that any connection's verdict is a few look-ups.
///
/// Objects go in with [`apply`](Self::apply) and [`remove`](Self::remove), or in bulk with
/// [`replace_all`](Self::replace_all); verdicts come out of [`verdict`](Self::verdict), and with their reasons
/// of [`decide`](Self::decide). Everything else here is computed from the same compiled rows.
///
/// # Costs
///
/// With *K* kinds of Pods (namespace, labels and named ports), *C* classes of peers and *R* sets of policies
/// that apply together, of which there are usually far fewer than Pods:
///
/// - a verdict: constant, apart from a binary search in the ports of one rule set and, for an external address,
///   in the edges of all blocks;
/// - a Pod that looks like another one: constant; one with new labels: as many selectors as its labels may
///   match, and one cell in each row that asks for one of its labels; if no Pod has had just these policies, also
///   a row, which looks at everyone that its rules name;
/// - a policy: its own rows, and the kinds that a selector new to the cluster matches; a policy with a block
///   new to the cluster cuts the address space anew, which looks at every Pod once;
/// - memory: for a Pod 64 bytes by which verdicts find it, 112 of facts that they rarely ask for, and its entries in
///   two tables, about 250 in all; for a row 13 to 26 bytes a peer that its rules name, where a namespace is one
///   peer and a kind of Pods another one only if labels are asked for: at most *R* × *C*, usually far fewer.
#[derive(Debug, Clone)]
pub struct Engine {
    options: Options,
    namespaces: Map<SmolStr, Namespace>,
    nodes: BTreeMap<SmolStr, NodeEntry>,
    domains: BTreeMap<SmolStr, Vec<IpAddr>>,
    policies: Slab<PolicyEntry>,
    policy_ids: BTreeMap<PolicyRef, PolicyId>,
    terms: Terms,
    zones: Zones,
    /// How many policies name each port name.
    port_names: BTreeMap<SmolStr, usize>,
    kinds: Slab<Kind>,
    kind_ids: Map<KindKey, KindId>,
    idents: Slab<Ident>,
    /// What each ident comes to, close together.
    places: Vec<Place>,
    ident_ids: Map<(Option<KindId>, ZoneId), IdentId>,
    peers: Slab<Peer>,
    peer_ids: Map<PeerKey, PeerId>,
    rows: Slab<Row>,
    row_ids: Map<row::RowKey, RowId>,
    /// Rows with a rule for everyone that names a port of the destination.
    named_rows: BTreeSet<RowId>,
    pods: pods::Pods,
    pending: update::Pending,
    scratch: Scratch,
}

#[derive(Debug, Clone, Default)]
struct Namespace {
    /// `None`: there are Pods in it, but it isn't declared.
    labels: Option<Labels>,
    kinds: BTreeSet<KindId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeEntry {
    labels: Labels,
    addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone)]
pub(crate) struct PolicyEntry {
    pub(crate) policy: Arc<Policy>,
    pub(crate) reference: PolicyRef,
    pub(crate) compiled: Compiled<TermId>,
    /// Rows that the policy is part of.
    rows: BTreeSet<RowId>,
}

impl PolicyEntry {
    /// Order of evaluation.
    pub(crate) fn order(&self) -> (Tier, i32, &PolicyRef) {
        (self.compiled.tier, self.compiled.priority, &self.reference)
    }
}

/// What makes Pods alike, apart from their addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KindKey {
    pub(crate) namespace: SmolStr,
    pub(crate) labels: Labels,
    /// On its node's network, and therefore no Pod to policies.
    host: bool,
    ports: Box<[NamedPort]>,
}

#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) key: KindKey,
    /// How many Pods are of the kind.
    pods: usize,
    /// Terms that find it, sorted.
    pub(crate) terms: Vec<Tagged>,
    /// Rows of its own policies; `None` until computed.
    pub(crate) rows: Option<Rows>,
    idents: BTreeSet<IdentId>,
}

impl Kind {
    /// On its node's network, and therefore no Pod to policies.
    pub(crate) fn is_host(&self) -> bool {
        self.key.host
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rows {
    pub(crate) ingress: RowId,
    pub(crate) egress: RowId,
}

/// The rows of a kind that no policy is about.
pub(crate) const NO_ROWS: Rows = Rows { ingress: RowId::MAX, egress: RowId::MAX };

/// What an ident comes to: all that a verdict asks of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) peers: Peers,
    /// Those of its kind; [`NO_ROWS`] for what policies aren't about.
    pub(crate) rows: Rows,
}

const NO_PLACE: Place = Place { peers: Peers { own: PeerId::MAX, around: PeerId::MAX }, rows: NO_ROWS };

/// What an end of a connection is to a row: first as itself, then as one of those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Peers {
    pub(crate) own: PeerId,
    pub(crate) around: PeerId,
}

/// A kind in a zone; no kind: the zone's external addresses.
#[derive(Debug, Clone)]
pub(crate) struct Ident {
    pub(crate) kind: Option<KindId>,
    zone: ZoneId,
    refs: usize,
    /// The peers that it is; `None` until computed.
    own: Option<PeerId>,
    around: Option<PeerId>,
}

/// A class of peers.
///
/// Terms that look at a Pod's labels set it apart from the others around it: those in a namespace with such labels, at
/// such addresses, with such named ports. *Everyone around* is a peer too, which all other terms find and which
/// stands for every Pod there that a row doesn't look at closely. So a label that is new to the cluster concerns the
/// rows that ask for it, and a namespace concerns a row once, however many kinds of Pods are in it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) key: PeerKey,
    /// How many idents are this peer, counted twice if they are both parts of it.
    refs: usize,
    /// Whether it is everyone around.
    wide: bool,
    /// The terms by which rows know it: those that set it apart, or for everyone around, all.
    own: Box<[Tagged]>,
}

impl Peer {
    fn new(key: PeerKey, refs: usize, terms: &Terms) -> Self {
        let apart: Box<[Tagged]> =
            key.terms.iter().filter(|code| !terms.is_wide(code.id())).copied().collect();
        let wide = apart.is_empty();
        let own = if wide { key.terms.clone() } else { apart };
        Self { key, refs, wide, own }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Engine {
    /// An engine that knows nothing: every connection between addresses is allowed.
    pub fn new(options: Options) -> Self {
        let mut engine = Self {
            options,
            namespaces: Map::default(),
            nodes: BTreeMap::new(),
            domains: BTreeMap::new(),
            policies: Slab::default(),
            policy_ids: BTreeMap::new(),
            terms: Terms::default(),
            zones: Zones::default(),
            port_names: BTreeMap::new(),
            kinds: Slab::default(),
            kind_ids: Map::default(),
            idents: Slab::default(),
            places: Vec::new(),
            ident_ids: Map::default(),
            peers: Slab::default(),
            peer_ids: Map::default(),
            rows: Slab::default(),
            row_ids: Map::default(),
            named_rows: BTreeSet::new(),
            pods: pods::Pods::default(),
            pending: update::Pending::default(),
            scratch: Scratch::default(),
        };
        for zone in engine.zones.ids() {
            engine.acquire_ident(None, zone);
        }
        engine.flush();
        engine
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its policies, in the order of kind, namespace and name.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyRef, &Policy)> {
        self.policy_ids
            .iter()
            .filter_map(|(reference, id)| Some((reference, &*self.policies.get(*id)?.policy)))
    }

    /// A policy.
    pub fn policy(&self, reference: &PolicyRef) -> Option<&Policy> {
        Some(&self.policies.get(*self.policy_ids.get(reference)?)?.policy)
    }

    /// Its Pods in the order of namespace and name; those that have ended are not among them.
    pub fn pods(&self) -> Vec<&ObjectRef> {
        let mut pods: Vec<&ObjectRef> = self.pods.iter().map(|(.., facts)| &facts.reference).collect();
        pods.sort_unstable();
        pods
    }

    /// The addresses of a Pod, primary first; empty if there is no such Pod.
    pub fn pod_addresses(&self, pod: &ObjectRef) -> &[IpAddr] {
        let facts = self.pods.of(pod).and_then(|(id, _)| self.pods.facts(id));
        facts.map_or(&[], |facts| &facts.addresses)
    }

    /// The labels of a Pod; `None` if there is no such Pod.
    pub fn pod_labels(&self, pod: &ObjectRef) -> Option<&Labels> {
        let (id, _) = self.pods.of(pod)?;
        Some(&self.kinds.get(self.pods.facts(id)?.kind)?.key.labels)
    }

    /// The size of what was compiled.
    pub fn stats(&self) -> Stats {
        let rows: usize = self.rows.iter().map(|(_, row)| size_of::<Row>() + row.heap_size()).sum();
        let peers: usize = self
            .peers
            .iter()
            .map(|(_, peer)| 2 * size_of::<Peer>() + 3 * size_of_val(&*peer.key.terms))
            .sum();
        let kinds: usize = self
            .kinds
            .iter()
            .map(|(_, kind)| 2 * size_of::<Kind>() + kind.terms.capacity() * size_of::<Tagged>())
            .sum();
        Stats {
            pods: self.pods.len(),
            policies: self.policies.len(),
            selectors: self.terms.len(),
            kinds: self.kinds.len(),
            zones: self.zones.ids().len(),
            peers: self.peers.len(),
            rows: self.rows.len(),
            bytes: rows + self.pods.heap_size() + peers + kinds + self.zones.heap_size(),
        }
    }
}

/// The size of a compiled engine, see [`Engine::stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Pods that haven't ended.
    pub pods: usize,
    /// Policies of all kinds.
    pub policies: usize,
    /// Distinct subjects, peers and blocks that they name.
    pub selectors: usize,
    /// Distinct kinds of Pods: namespace, labels, named ports.
    pub kinds: usize,
    /// Sets of addresses that blocks can't tell apart.
    pub zones: usize,
    /// Kinds in zones, as far as rules can tell them apart.
    pub peers: usize,
    /// Distinct sets of policies that apply together, each direction by itself.
    pub rows: usize,
    /// Bytes held for all of it, about: policies, labels and names are not counted.
    pub bytes: usize,
}
