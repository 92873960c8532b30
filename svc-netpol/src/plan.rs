//! What a node has to enforce: the rows of its own Pods, with addresses in place of classes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_model::ObjectRef;

use crate::engine::{ALLOW, Engine, Family, FuncId, Peers, Row, RowId};
use crate::options::{OwnNode, SelfTraffic};
use crate::policy::{Direction, PolicyRef};
use crate::traffic::PortSet;

/// What one node has to enforce for the Pods on it, see [`Engine::node_plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// One for each set of policies that apply together to some Pod of the node, in one direction.
    pub rows: Vec<RowPlan>,
    /// Whether policies apply to a Pod's connections to itself.
    pub self_traffic: SelfTraffic,
    /// Whether policies apply to connections from the node to its Pods.
    pub own_node: OwnNode,
}

/// One set of policies in one direction: to whom it applies, and what it lets through for whom.
///
/// The first place where a peer's address is found decides: `pods`, then `blocks`, then `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPlan {
    /// Names the row by its content: equal for equal sets of policies, whatever happens around them.
    pub key: String,
    /// The direction.
    pub direction: Direction,
    /// The policies, sorted.
    pub policies: Vec<PolicyRef>,
    /// Addresses of the node's Pods that it applies to, sorted.
    pub subjects: Vec<IpAddr>,
    /// For each allowance that occurs in the row, the Pods that have it and of whom it isn't true for the
    /// addresses around them; there may be none.
    pub pods: BTreeMap<PortSet, Vec<IpAddr>>,
    /// Ranges of addresses (first, last) with an allowance other than `default`, sorted; none overlaps another.
    pub blocks: BTreeMap<PortSet, Vec<(IpAddr, IpAddr)>>,
    /// What everyone else may.
    pub default: PortSet,
}

impl Engine {
    /// What a node has to enforce for the Pods on it. An unknown verdict is enforced as a denial.
    ///
    /// Costs one look-up for each row of the node's Pods and each Pod and range of addresses of the cluster.
    pub fn node_plan(&self, node: &str) -> NodePlan {
        let mut subjects: BTreeMap<RowId, BTreeSet<IpAddr>> = BTreeMap::new();
        for (kind, addresses) in self.pods_on(node) {
            let Some(rows) = kind.rows.filter(|_| !kind.is_host()) else { continue };
            for row in [rows.ingress, rows.egress] {
                subjects.entry(row).or_default().extend(addresses);
            }
        }
        let pods: BTreeMap<IpAddr, Peers> = Family::ALL
            .into_iter()
            .flat_map(|family| self.pod_peers(family).map(move |found| (family, found)))
            .filter(|(_, (_, kind, _))| !kind.is_host())
            .filter_map(|(family, (pod, _, peer))| Some((self.held_address(pod, family)?, peer)))
            .collect();
        let mut rows: Vec<RowPlan> = subjects
            .into_iter()
            .filter_map(|(id, subjects)| {
                let row = self.row(id).filter(|row| !row.key.policies.is_empty())?;
                Some(self.row_plan(row, subjects, &pods))
            })
            .collect();
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let options = self.options();
        NodePlan { rows, self_traffic: options.self_traffic, own_node: options.own_node }
    }

    /// The address by which a Pod is known in a family: its first one, unless another Pod has it too and comes
    /// before.
    fn held_address(&self, pod: &ObjectRef, family: Family) -> Option<IpAddr> {
        let ip = self.pod_addresses(pod).iter().copied().find(|ip| Family::of(*ip) == family)?;
        (self.pod_at(ip) == Some(pod)).then_some(ip)
    }

    fn row_plan(&self, row: &Row, subjects: BTreeSet<IpAddr>, peers: &BTreeMap<IpAddr, Peers>) -> RowPlan {
        let allowed: BTreeMap<FuncId, PortSet> =
            row.table.funcs().map(|(id, func)| (id, func.traffic(ALLOW))).collect();
        let of = |peer: Peers| allowed.get(&row.table.func(peer));
        let default = allowed.get(&row.table.default_func()).cloned().unwrap_or_default();
        let mut blocks: BTreeMap<PortSet, Vec<(IpAddr, IpAddr)>> = BTreeMap::new();
        for family in Family::ALL {
            for (range, peer) in self.outside_peers(family) {
                let Some(set) = of(peer).filter(|set| **set != default) else { continue };
                let (first, last) = (family.address(range.first), family.address(range.last));
                blocks.entry(set.clone()).or_default().push((first, last));
            }
        }
        let mut pods: BTreeMap<PortSet, Vec<IpAddr>> =
            allowed.values().map(|set| (set.clone(), Vec::new())).collect();
        for (ip, peer) in peers {
            let around = self.outside_peers_of(*ip).and_then(of).unwrap_or(&default);
            if let Some(set) = of(*peer).filter(|set| *set != around)
                && let Some(list) = pods.get_mut(set)
            {
                list.push(*ip);
            }
        }
        let mut policies: Vec<PolicyRef> =
            row.key.policies.iter().filter_map(|code| self.policy_ref(code.id())).cloned().collect();
        policies.sort_unstable();
        let mut key = format!("{} {}", row.key.direction, row.key.baseline);
        for policy in &policies {
            key += &format!(" {policy}");
        }
        for port in &row.key.names {
            key += &format!(" {}={} {}", port.name, port.protocol, port.port);
        }
        if row.key.policies.iter().any(|code| code.is_maybe()) {
            key += " ?";
        }
        RowPlan {
            key,
            direction: row.key.direction,
            policies,
            subjects: subjects.into_iter().collect(),
            pods,
            blocks,
            default,
        }
    }
}
