//! Who reaches whom, for everybody at once.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use svc_model::{IpFamily, ObjectRef, Pod};

use crate::engine::{ALLOW, Engine, Family, FuncId, Map, Peers, Rows, UNKNOWN, pod_ref};
use crate::options::SelfTraffic;
use crate::traffic::PortSet;

/// Traffic that comes about between two ends, and traffic of which that isn't known; the rest is denied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// What is allowed by both sides.
    pub allowed: PortSet,
    /// What no side denies and at least one side doesn't know.
    pub unknown: PortSet,
}

impl Connection {
    /// Everything is allowed.
    pub fn all() -> Self {
        Self { allowed: PortSet::all(), unknown: PortSet::empty() }
    }

    /// Everything is denied.
    pub const fn none() -> Self {
        Self { allowed: PortSet::empty(), unknown: PortSet::empty() }
    }

    /// True if everything is denied.
    pub fn is_none(&self) -> bool {
        self.allowed.is_empty() && self.unknown.is_empty()
    }

    fn of_both_sides(a: &Self, b: &Self) -> Self {
        let allowed = a.allowed.intersection(&b.allowed);
        let perhaps = a.allowed.union(&a.unknown).intersection(&b.allowed.union(&b.unknown));
        Self { unknown: perhaps.difference(&allowed), allowed }
    }
}

/// The allowed traffic, and after a question mark the unknown.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unknown.is_empty() {
            self.allowed.fmt(f)
        } else if self.allowed.is_empty() {
            write!(f, "? {}", self.unknown)
        } else {
            write!(f, "{} ? {}", self.allowed, self.unknown)
        }
    }
}

/// Ends of connections that no policy can tell apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Pods, sorted.
    Pods(Vec<ObjectRef>),
    /// Ranges of addresses outside, first and last of each, sorted. A Pod's address in a range is still the
    /// Pod's.
    Outside(Vec<(IpAddr, IpAddr)>),
}

impl Group {
    /// True for addresses outside.
    pub const fn is_outside(&self) -> bool {
        matches!(self, Self::Outside(_))
    }
}

/// The first member, and how many others there are; ranges as networks where they are one.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = match self {
            Self::Pods(pods) => {
                if let Some(pod) = pods.first() {
                    write!(f, "{pod}")?;
                }
                pods.len()
            }
            Self::Outside(ranges) => {
                if let Some((first, last)) = ranges.first() {
                    match ipnet::IpNet::new(*first, prefix(*first, *last)) {
                        Ok(net) if net.network() == *first && net.broadcast() == *last => write!(f, "{net}")?,
                        _ => write!(f, "{first}-{last}")?,
                    }
                }
                ranges.len()
            }
        };
        if more > 1 { write!(f, " (+{})", more - 1) } else { Ok(()) }
    }
}

/// Length of the prefix that two addresses of one family share.
fn prefix(first: IpAddr, last: IpAddr) -> u8 {
    let zeros = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
        _ => 0,
    };
    zeros as u8
}

/// What a group is to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Class {
    outside: bool,
    rows: Option<Rows>,
    peers: Peers,
}

/// All connections of a cluster over one address family, by groups of ends that no policy can tell apart.
///
/// Connections between two addresses outside are none of the cluster's business and are not among them; a Pod's
/// own node, which reaches it whatever the policies say, isn't either. Made by [`Engine::matrix`].
#[derive(Debug, Clone)]
pub struct Matrix {
    groups: Vec<Group>,
    of_pod: BTreeMap<ObjectRef, u32>,
    connections: Vec<Connection>,
    /// Row by row, indices into `connections`.
    cells: Vec<u32>,
    self_traffic: SelfTraffic,
}

impl Engine {
    /// Who reaches whom over one address family.
    ///
    /// Costs about one look-up for each pair of groups; the Pods of a group are not looked at one by one.
    pub fn matrix(&self, family: IpFamily) -> Matrix {
        let classes = self.classes(family);
        let mut sides = Sides::new(self);
        let mut cells = Vec::with_capacity(classes.len() * classes.len());
        for (from, _) in &classes {
            for (to, _) in &classes {
                cells.push(sides.cell(*from, *to));
            }
        }
        let groups: Vec<Group> = classes.into_iter().map(|(_, group)| group).collect();
        let mut of_pod = BTreeMap::new();
        for (group, at) in groups.iter().zip(0..) {
            if let Group::Pods(pods) = group {
                of_pod.extend(pods.iter().map(|pod| (pod.clone(), at)));
            }
        }
        let self_traffic = self.options().self_traffic;
        Matrix { groups, of_pod, connections: sides.connections, cells, self_traffic }
    }

    /// What a Pod can reach and who can reach it; `None` if there is no such Pod, or it has no address of the
    /// family.
    ///
    /// Costs two look-ups for each group.
    pub fn exposure(&self, pod: &ObjectRef, family: IpFamily) -> Option<Exposure> {
        let classes = self.classes(family);
        let is_its = |group: &Group| matches!(group, Group::Pods(pods) if pods.binary_search(pod).is_ok());
        let own = classes.iter().find(|(_, group)| is_its(group))?.0;
        let mut sides = Sides::new(self);
        let (mut ingress, mut egress) = (Vec::new(), Vec::new());
        for (class, mut group) in classes {
            let (from, to) = (sides.cell(class, own), sides.cell(own, class));
            if let Group::Pods(pods) = &mut group {
                pods.retain(|other| other != pod);
                if pods.is_empty() {
                    continue;
                }
            }
            for (list, cell) in [(&mut ingress, from), (&mut egress, to)] {
                if let Some(connection) = sides.connections.get(cell as usize).filter(|c| !c.is_none()) {
                    list.push(Reach { group: group.clone(), connection: connection.clone() });
                }
            }
        }
        Some(Exposure { ingress, egress })
    }

    /// What a Pod could reach and who could reach it, if it were there (instead of one of the same name).
    pub fn exposure_of(&self, pod: &Pod, family: IpFamily) -> Option<Exposure> {
        let mut with = self.clone();
        with.apply_pod(pod);
        with.exposure(&pod_ref(pod), family)
    }

    fn classes(&self, family: IpFamily) -> Vec<(Class, Group)> {
        let family = Family::from(family);
        let mut pods: Map<Class, Vec<ObjectRef>> = Map::default();
        for (reference, kind, peers) in self.pod_peers(family) {
            let rows = kind.rows.filter(|_| !kind.is_host());
            pods.entry(Class { outside: false, rows, peers }).or_default().push(reference.clone());
        }
        let mut classes: Vec<(Class, Group)> = pods
            .into_iter()
            .map(|(class, mut pods)| {
                pods.sort_unstable();
                (class, Group::Pods(pods))
            })
            .collect();
        let mut outside: BTreeMap<Peers, Vec<(IpAddr, IpAddr)>> = BTreeMap::new();
        for (range, peers) in self.outside_peers(family) {
            outside.entry(peers).or_default().push((family.address(range.first), family.address(range.last)));
        }
        classes.extend(
            outside
                .into_iter()
                .map(|(peers, ranges)| (Class { outside: true, rows: None, peers }, Group::Outside(ranges))),
        );
        classes.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
        classes
    }
}

/// Connections met so far, each once.
struct Sides<'a> {
    engine: &'a Engine,
    connections: Vec<Connection>,
    ids: Map<Connection, u32>,
    /// For each row by number, the connections that this side alone would allow.
    rows: Vec<SideFuncs>,
    pairs: Map<(u32, u32), u32>,
    last: ((u32, u32), u32),
}

const NONE: u32 = 0;
const ALL: u32 = 1;

/// The connection of each function of a row.
#[derive(Default)]
struct SideFuncs {
    /// By the code that decides about all traffic.
    constants: Vec<u32>,
    /// By where the function lies.
    steps: Vec<u32>,
}

impl SideFuncs {
    fn set(&mut self, func: FuncId, connection: u32) {
        let (list, at) = match func.get() {
            Ok(code) => (&mut self.constants, code.number()),
            Err(offset) => (&mut self.steps, offset),
        };
        list.resize(list.len().max(at as usize + 1), NONE);
        if let Some(slot) = list.get_mut(at as usize) {
            *slot = connection;
        }
    }

    #[inline]
    fn get(&self, func: FuncId) -> Option<u32> {
        match func.get() {
            Ok(code) => self.constants.get(code.number() as usize).copied(),
            Err(offset) => self.steps.get(offset as usize).copied(),
        }
    }
}

impl<'a> Sides<'a> {
    fn new(engine: &'a Engine) -> Self {
        let mut sides = Self {
            engine,
            connections: Vec::new(),
            ids: Map::default(),
            rows: Vec::new(),
            pairs: Map::default(),
            last: ((NONE, NONE), NONE),
        };
        sides.intern(Connection::none());
        sides.intern(Connection::all());
        for (id, row) in engine.rows() {
            let mut funcs = SideFuncs::default();
            for (func_id, func) in row.table.funcs() {
                let side = Connection { allowed: func.traffic(ALLOW), unknown: func.traffic(UNKNOWN) };
                funcs.set(func_id, sides.intern(side));
            }
            sides.rows.resize_with(id as usize, SideFuncs::default);
            sides.rows.push(funcs);
        }
        sides
    }

    fn intern(&mut self, connection: Connection) -> u32 {
        if let Some(id) = self.ids.get(&connection) {
            return *id;
        }
        let id = self.connections.len() as u32;
        self.connections.push(connection.clone());
        self.ids.insert(connection, id);
        id
    }

    fn side(&self, row: Option<u32>, peers: Peers) -> u32 {
        let Some(id) = row else { return ALL };
        let func = self.engine.row(id).map(|row| row.table.func(peers));
        func.and_then(|func| self.rows.get(id as usize)?.get(func)).unwrap_or(ALL)
    }

    fn cell(&mut self, from: Class, to: Class) -> u32 {
        if from.outside && to.outside {
            return NONE;
        }
        let egress = self.side(from.rows.map(|rows| rows.egress), to.peers);
        let ingress = self.side(to.rows.map(|rows| rows.ingress), from.peers);
        let pair = (egress, ingress);
        if self.last.0 == pair {
            return self.last.1;
        }
        let id = match self.pairs.get(&pair) {
            Some(id) => *id,
            None => {
                let (a, b) = (self.connections.get(egress as usize), self.connections.get(ingress as usize));
                let both = match (a, b) {
                    (Some(a), Some(b)) => Connection::of_both_sides(a, b),
                    _ => Connection::none(),
                };
                let id = self.intern(both);
                self.pairs.insert(pair, id);
                id
            }
        };
        self.last = (pair, id);
        id
    }
}

impl Matrix {
    /// The groups: Pods in the order of their first member, then addresses outside.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of a Pod, as an index.
    pub fn group_of(&self, pod: &ObjectRef) -> Option<usize> {
        self.of_pod.get(pod).map(|group| *group as usize)
    }

    /// The connection from each member of one group to each other member of another, by index.
    pub fn connection(&self, from: usize, to: usize) -> &Connection {
        static NOTHING: Connection = Connection::none();
        let groups = self.groups.len();
        let cell = (from < groups && to < groups).then(|| self.cells.get(from * groups + to)).flatten();
        cell.and_then(|cell| self.connections.get(*cell as usize)).unwrap_or(&NOTHING)
    }

    /// The connection between two Pods; `None` if one of them isn't here.
    pub fn between(&self, from: &ObjectRef, to: &ObjectRef) -> Option<Connection> {
        let (a, b) = (self.group_of(from)?, self.group_of(to)?);
        if from == to && self.self_traffic == SelfTraffic::Allowed {
            return Some(Connection::all());
        }
        Some(self.connection(a, b).clone())
    }

    /// Everyone that reaches a group, with what.
    pub fn who_can_reach(&self, group: usize) -> impl Iterator<Item = (usize, &Connection)> {
        (0..self.groups.len())
            .map(move |from| (from, self.connection(from, group)))
            .filter(|(_, c)| !c.is_none())
    }

    /// Everyone that a group reaches, with what.
    pub fn reachable_from(&self, group: usize) -> impl Iterator<Item = (usize, &Connection)> {
        (0..self.groups.len()).map(move |to| (to, self.connection(group, to))).filter(|(_, c)| !c.is_none())
    }

    /// How many pairs of ends the matrix speaks of, each Pod counted for itself and each group of addresses
    /// outside as one.
    pub fn pairs(&self) -> usize {
        let outside = self.groups.iter().filter(|group| group.is_outside()).count();
        let pods = self.of_pod.len();
        pods * pods + 2 * pods * outside
    }
}

/// What one Pod can reach and who can reach it, see [`Engine::exposure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Who can reach it.
    pub ingress: Vec<Reach>,
    /// What it can reach.
    pub egress: Vec<Reach>,
}

impl Exposure {
    /// Who can reach it from outside.
    pub fn from_outside(&self) -> impl Iterator<Item = &Reach> {
        self.ingress.iter().filter(|reach| reach.group.is_outside())
    }
}

/// Ends that are reached, or reach, with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The others.
    pub group: Group,
    /// What comes about between each of them and the Pod.
    pub connection: Connection,
}
