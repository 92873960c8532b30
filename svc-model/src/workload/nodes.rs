//! The nodes of a plan: those given, completed, or made up.

use core::net::IpAddr;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use smol_str::{SmolStr, format_smolstr};

use super::{Plan, PlanOptions, Shortfall};
use crate::object::*;
use crate::{Cluster, IpNet, Labels, ObjectMeta, ObjectRef, Sent};

/// Pods per node beyond which more nodes are made.
const PODS_PER_NODE: usize = 100;

/// All nodes, and what is taken on them.
pub(super) struct Nodes<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) slots: Vec<Slot>,
    /// Load and position of the nodes that take Pods, so that the emptiest comes first.
    pub(super) by_load: BTreeSet<(usize, usize)>,
    /// Addresses given out by this plan.
    pub(super) given: BTreeSet<IpAddr>,
}

/// A node with what is taken on it.
pub(super) struct Slot {
    pub(super) node: Node,
    /// Ranges for Pods, each with the offset of the next address to try.
    pub(super) ranges: Vec<(IpNet, u128)>,
    pub(super) pods: usize,
    pub(super) host_ports: BTreeSet<(Protocol, u16)>,
}

impl<'a> Nodes<'a> {
    /// The nodes of the cluster, or, if it has none, those that its Pods name, or else enough for `pods` new ones.
    pub(super) fn new(cluster: &'a Cluster, options: &PlanOptions, pods: usize, plan: &mut Plan) -> Self {
        let given: Vec<Node> = cluster.nodes().iter().map(|node| (**node).clone()).collect();
        let known = given.len();
        let nodes = if given.is_empty() { made_up(cluster, options, pods) } else { given };
        let mut nodes = complete(cluster, options, nodes, plan);
        for (at, node) in nodes.iter().enumerate() {
            let unchanged = at < known
                && cluster.nodes().get("", &node.metadata.name).is_some_and(|given| **given == *node);
            if !unchanged {
                plan.objects.push(node.clone().into());
            }
        }
        let slots: Vec<Slot> = nodes.drain(..).map(|node| Slot::new(cluster, node)).collect();
        let by_load = slots.iter().enumerate().map(|(at, slot)| (slot.pods, at)).collect();
        Self { cluster, slots, by_load, given: BTreeSet::new() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().map(|slot| &slot.node)
    }
}

impl Slot {
    fn new(cluster: &Cluster, node: Node) -> Self {
        let spec = &node.spec;
        let singular = spec.pod_cidrs.is_empty().then_some(&spec.pod_cidr);
        let ranges = spec.pod_cidrs.iter().chain(singular).filter_map(Sent::get);
        // As host-local address management has it, the first address is the node's own.
        let ranges = ranges.map(|range| (range.trunc(), 2)).collect();
        let mut slot = Self { ranges, pods: 0, host_ports: BTreeSet::new(), node };
        for pod in cluster.pods_on(&slot.node.metadata.name) {
            if !pod.is_terminal() && pod.status != PodStatus::default() {
                slot.pods += 1;
                slot.host_ports.extend(host_ports(pod));
            }
        }
        slot
    }
}

/// The ports that a Pod takes on its node: those it asks for, or, with the node's network, all that it has.
pub(super) fn host_ports(pod: &Pod) -> impl Iterator<Item = (Protocol, u16)> {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    containers.flat_map(|container| &container.ports).filter_map(|port| {
        let number = if pod.spec.host_network { port.container_port } else { port.host_port };
        Some((port.protocol()?, number.number()?.get()))
    })
}

fn made_up(cluster: &Cluster, options: &PlanOptions, pods: usize) -> Vec<Node> {
    let named = cluster.pods().iter().map(|pod| &pod.spec.node_name).filter(|name| !name.is_empty());
    let mut names: BTreeSet<SmolStr> = named.cloned().collect();
    if names.is_empty() {
        let count = options.nodes.max(pods.div_ceil(PODS_PER_NODE));
        // Padded, so that the order of the names is that of the numbers.
        let width = count.checked_ilog10().unwrap_or_default() as usize + 1;
        names.extend((1..=count).map(|number| format_smolstr!("node-{number:0width$}")));
    }
    let zones = options.zones.iter().cycle().map(Some).chain(core::iter::repeat(None));
    names.into_iter().zip(zones).map(|(name, zone)| made_up_node(cluster, name, zone)).collect()
}

fn made_up_node(cluster: &Cluster, name: SmolStr, zone: Option<&SmolStr>) -> Node {
    let labels = [("kubernetes.io/hostname", name.as_str()), ("kubernetes.io/os", "linux")];
    let zone = zone.map(|zone| (ZONE_LABEL, zone.as_str()));
    let labels: Labels = labels.into_iter().chain([("kubernetes.io/arch", "amd64")]).chain(zone).collect();
    let mut node =
        Node { metadata: ObjectMeta { labels, ..ObjectMeta::new("", name.clone()) }, ..Node::default() };
    node.status.allocatable = Labels::from_iter([("cpu", "4"), ("memory", "16Gi"), ("pods", "110")]);
    // Pods that run there tell its address.
    let pods = cluster.pods_on(&name);
    if let Some(ip) = pods.iter().find_map(|pod| pod.status.host_ip.get()) {
        node.status.addresses = alloc::vec![internal(ip)];
    }
    node
}

fn internal(ip: IpAddr) -> NodeAddress {
    NodeAddress { address_type: "InternalIP".into(), address: ip.into() }
}

/// Gives nodes what a manifest leaves out: ranges, addresses, readiness.
fn complete(cluster: &Cluster, options: &PlanOptions, mut nodes: Vec<Node>, plan: &mut Plan) -> Vec<Node> {
    let ranges_of = |node: &Node| -> Vec<IpNet> {
        node.spec.pod_cidrs.iter().chain([&node.spec.pod_cidr]).filter_map(Sent::get).collect()
    };
    let taken: Vec<IpNet> = nodes.iter().flat_map(ranges_of).collect();
    let mut free_ranges: Vec<_> = options.pod_ranges.iter().map(|range| parts(*range, &taken)).collect();
    let own: BTreeSet<IpAddr> = nodes.iter().flat_map(Node::addresses).collect();
    let free = |ip: &IpAddr| !own.contains(ip) && cluster.owners_of(*ip).is_empty();
    let mut addresses: Vec<_> =
        options.node_ranges.iter().map(|range| addresses_from(*range, 2).filter(free)).collect();
    for node in &mut nodes {
        if ranges_of(node).is_empty() {
            node.spec.pod_cidrs = free_ranges.iter_mut().filter_map(Iterator::next).map(Sent::from).collect();
            node.spec.pod_cidr = node.spec.pod_cidrs.first().cloned().unwrap_or_default();
            if node.spec.pod_cidrs.is_empty() {
                let node = ObjectRef::new("", node.metadata.name.clone());
                plan.shortfall(ObjectKind::Node, node, Shortfall::NoRange);
            }
        }
        if node.addresses().next().is_none() {
            node.status.addresses.extend(addresses.iter_mut().filter_map(Iterator::next).map(internal));
        }
        if node.status.conditions.is_empty() {
            let ready =
                NodeCondition { condition_type: "Ready".into(), status: "True".into(), ..Default::default() };
            node.status.conditions.push(ready);
        }
    }
    nodes
}

/// The parts of a range that nodes get, /24 or /64 as by default of the controller manager, without those that overlap
/// what is taken. A smaller range is one part.
fn parts(range: IpNet, taken: &[IpNet]) -> impl Iterator<Item = IpNet> {
    let length = if matches!(range, IpNet::V4(_)) { 24 } else { 64 }.max(range.prefix_len());
    let overlaps = |part: &IpNet| taken.iter().any(|other| part.contains(other) || other.contains(part));
    range.trunc().subnets(length).into_iter().flatten().filter(move |part| !overlaps(part))
}

/// The addresses of a range from an offset on, without the broadcast address.
pub(super) fn addresses_from(range: IpNet, offset: u128) -> impl Iterator<Item = IpAddr> {
    let (first, last) = match range {
        IpNet::V4(range) => {
            (u128::from(range.network().to_bits()), u128::from(range.broadcast().to_bits()).saturating_sub(1))
        }
        IpNet::V6(range) => (range.network().to_bits(), range.broadcast().to_bits()),
    };
    let is_v4 = matches!(range, IpNet::V4(_));
    let address = move |number: u128| match u32::try_from(number) {
        Ok(number) if is_v4 => IpAddr::from(number.to_be_bytes()),
        _ => IpAddr::from(number.to_be_bytes()),
    };
    (first.saturating_add(offset)..=last).map(address)
}
