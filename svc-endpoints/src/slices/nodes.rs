//! The nodes of a cluster, as far as endpoints depend on them: zones, and CPU by zone.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smol_str::SmolStr;
use svc_model::Node;

use super::quantity::nano_cpus;

/// Nodes with either label are left out of the CPU by zone: they usually run no Pods of Services.
const CONTROL_PLANE_LABELS: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// The nodes of a cluster: which exist, their zones, and how CPU is spread over the zones.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    by_name: HashMap<SmolStr, NodeFacts, FixedState>,
    zones: BTreeMap<SmolStr, ZoneCpu>,
    /// Ready nodes that count, but lack a zone or CPU.
    incomplete: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeFacts {
    zone: Option<SmolStr>,
    capacity: Capacity,
}

/// What a node adds to the CPU by zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capacity {
    /// Nothing: not ready, or of the control plane.
    LeftOut,
    /// Its zone or CPU is unknown, which spoils the count for the whole cluster.
    Incomplete,
    /// This much, in billionths of a core.
    Cpu(u128),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ZoneCpu {
    nodes: usize,
    nano_cpus: u128,
}

/// What an event changed in [`Nodes`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct NodeChange {
    /// The node appeared, is gone, or lies in another zone: endpoints of its Pods differ.
    pub endpoints: bool,
    /// CPU by zone differs: hints of topology mode `Auto` may differ.
    pub cpu_by_zone: bool,
}

impl NodeChange {
    /// Whether anything changed that endpoints or hints depend on.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.endpoints && !self.cpu_by_zone
    }
}

impl NodeFacts {
    fn of(node: &Node) -> Self {
        let zone = node.zone().map(SmolStr::new);
        let labels = &node.metadata.labels;
        let capacity =
            if !node.is_ready() || CONTROL_PLANE_LABELS.iter().any(|label| labels.contains_key(label)) {
                Capacity::LeftOut
            } else {
                match node.status.allocatable.get("cpu").and_then(nano_cpus) {
                    Some(nano_cpus @ 1..) if zone.is_some() => Capacity::Cpu(nano_cpus),
                    _ => Capacity::Incomplete,
                }
            };
        Self { zone, capacity }
    }
}

impl Nodes {
    /// No nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node, or puts it in the place of the one with the same name.
    pub fn apply(&mut self, node: &Node) -> NodeChange {
        self.exchange(&node.metadata.name, Some(NodeFacts::of(node)))
    }

    /// Removes a node. Removing one that is not there changes nothing.
    pub fn remove(&mut self, name: &str) -> NodeChange {
        self.exchange(&SmolStr::new(name), None)
    }

    fn exchange(&mut self, name: &SmolStr, new: Option<NodeFacts>) -> NodeChange {
        let old = match &new {
            Some(new) => self.by_name.insert(name.clone(), new.clone()),
            None => self.by_name.remove(name),
        };
        let place = |facts: &Option<NodeFacts>| facts.as_ref().map(|facts| facts.zone.clone());
        let capacity = |facts: &Option<NodeFacts>| match facts {
            Some(NodeFacts { zone: Some(zone), capacity: Capacity::Cpu(nano_cpus) }) => {
                (Some((zone.clone(), *nano_cpus)), 0)
            }
            Some(NodeFacts { capacity: Capacity::Cpu(_) | Capacity::Incomplete, .. }) => (None, 1),
            Some(NodeFacts { capacity: Capacity::LeftOut, .. }) | None => (None, 0),
        };
        let (before, after) = (capacity(&old), capacity(&new));
        let change = NodeChange { endpoints: place(&old) != place(&new), cpu_by_zone: before != after };
        if change.cpu_by_zone {
            self.incomplete += after.1;
            self.incomplete -= before.1;
            if let Some((zone, nano_cpus)) = after.0 {
                let cpu = self.zones.entry(zone).or_default();
                cpu.nodes += 1;
                cpu.nano_cpus = cpu.nano_cpus.saturating_add(nano_cpus);
            }
            if let Some((zone, nano_cpus)) = before.0
                && let Some(cpu) = self.zones.get_mut(&zone)
            {
                cpu.nodes -= 1;
                cpu.nano_cpus -= nano_cpus;
                if cpu.nodes == 0 {
                    self.zones.remove(&zone);
                }
            }
        }
        change
    }

    /// Whether there is a node of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The zone of a node: the outer `None` means that there is no such node.
    #[must_use]
    pub fn zone_of(&self, name: &str) -> Option<Option<&SmolStr>> {
        self.by_name.get(name).map(|facts| facts.zone.as_ref())
    }

    /// The ready nodes outside the control plane that lack a zone or CPU, by name; one is enough for
    /// [`cpu_shares`](Self::cpu_shares) to be unknown.
    pub fn incomplete(&self) -> impl Iterator<Item = &SmolStr> {
        let mut names: Vec<&SmolStr> = self
            .by_name
            .iter()
            .filter(|(_, facts)| facts.capacity == Capacity::Incomplete)
            .map(|(name, _)| name)
            .collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Each zone's share of the allocatable CPU of ready nodes outside the control plane, as topology mode
    /// `Auto` weighs zones (KEP-2433). `None` if it cannot be told: some such node has no zone or no CPU, or
    /// there are fewer than two zones.
    #[must_use]
    pub fn cpu_shares(&self) -> Option<CpuShares> {
        // Amounts are compared in thousandths of a core, each rounded up.
        let milli = |nano_cpus: u128| nano_cpus.div_ceil(1_000_000);
        let total = milli(self.zones.values().map(|zone| zone.nano_cpus).fold(0, u128::saturating_add));
        if self.incomplete > 0 || self.zones.len() < 2 || total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "the reference divides two float64 as well")]
        let shares = self
            .zones
            .iter()
            .map(|(zone, cpu)| (zone.clone(), milli(cpu.nano_cpus) as f64 / total as f64))
            .collect();
        Some(CpuShares(shares))
    }
}

impl<'a> FromIterator<&'a Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = &'a Node>>(nodes: I) -> Self {
        let mut all = Self::new();
        for node in nodes {
            let _ = all.apply(node);
        }
        all
    }
}

/// The share of every zone, two at least, in the CPU of a cluster; they add up to about 1.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuShares(BTreeMap<SmolStr, f64>);

impl CpuShares {
    /// Zones and their shares, in the order of the zones' names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SmolStr, f64)> {
        self.0.iter().map(|(zone, share)| (zone, *share))
    }

    /// Number of zones.
    #[must_use]
    pub fn zones(&self) -> usize {
        self.0.len()
    }
}
