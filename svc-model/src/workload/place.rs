//! Placing Pods: a node, addresses, a status.

use core::net::IpAddr;

use alloc::vec::Vec;

use smol_str::SmolStr;

use super::draft::{Draft, Target};
use super::nodes::{Nodes, addresses_from, host_ports};
use super::{Plan, Refusals, Shortfall, condition};
use crate::object::*;

impl Nodes<'_> {
    /// Makes a Pod run on the emptiest node that takes it, or on the one that is named. If there is none it is Pending.
    pub(super) fn place(&mut self, draft: Draft, plan: &mut Plan) -> Pod {
        let name = draft.object_ref();
        let Draft { mut pod, target } = draft;
        let found = match target {
            Target::Any => self.find(&pod).map_err(Shortfall::NoNode),
            Target::Node(node) => self.named(node),
        };
        let placed = found.and_then(|at| self.run(&mut pod, at));
        if let Err(shortfall) = placed {
            let scheduled = !pod.spec.node_name.is_empty();
            pod.status.phase = PodPhase::Pending.into();
            pod.status.conditions = alloc::vec![condition("PodScheduled", scheduled)];
            if let Some(condition) = pod.status.conditions.first_mut().filter(|_| !scheduled) {
                condition.reason = "Unschedulable".into();
                condition.message = smol_str::format_smolstr!("{shortfall}");
            }
            plan.shortfall(ObjectKind::Pod, name, shortfall);
        }
        pod
    }

    fn named(&self, node: SmolStr) -> Result<usize, Shortfall> {
        // Nodes are in order of their names.
        let found = self.slots.binary_search_by(|slot| slot.node.metadata.name.cmp(&node));
        found.map_err(|_| Shortfall::NodeMissing(node))
    }

    fn find(&self, pod: &Pod) -> Result<usize, Refusals> {
        let wanted: Vec<_> = host_ports(pod).collect();
        let mut refusals = Refusals::default();
        for (_, at) in &self.by_load {
            let Some(slot) = self.slots.get(*at) else { continue };
            if slot.node.spec.unschedulable {
                refusals.unschedulable += 1;
            } else if !slot.node.metadata.labels.contains_all(&pod.spec.node_selector) {
                refusals.selector += 1;
            } else if wanted.iter().any(|port| slot.host_ports.contains(port)) {
                refusals.host_port += 1;
            } else {
                return Ok(*at);
            }
        }
        Err(refusals)
    }

    /// Runs a Pod on a node.
    fn run(&mut self, pod: &mut Pod, at: usize) -> Result<(), Shortfall> {
        let Some(slot) = self.slots.get_mut(at) else { return Ok(()) };
        let node = &slot.node;
        pod.spec.node_name = node.metadata.name.clone();
        self.by_load.remove(&(slot.pods, at));
        slot.pods += 1;
        self.by_load.insert((slot.pods, at));
        slot.host_ports.extend(host_ports(pod));

        let mut addresses: Vec<IpAddr> = Vec::new();
        if pod.spec.host_network {
            addresses.extend(node.addresses().find(IpAddr::is_ipv4));
            addresses.extend(node.addresses().find(IpAddr::is_ipv6));
        } else {
            for (range, next) in &mut slot.ranges {
                let taken = |ip: &IpAddr| self.given.contains(ip) || !self.cluster.owners_of(*ip).is_empty();
                let free = addresses_from(*range, *next).zip(1..).find(|(ip, _)| !taken(ip));
                if let Some((ip, tried)) = free {
                    *next += tried;
                    self.given.insert(ip);
                    addresses.push(ip);
                }
            }
        }
        if addresses.is_empty() {
            return Err(Shortfall::NoAddress(node.metadata.name.clone()));
        }
        pod.status = PodStatus {
            phase: PodPhase::Running.into(),
            conditions: ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
                .map(|name| condition(name, true))
                .to_vec(),
            host_ip: node.addresses().next().map(Into::into).unwrap_or_default(),
            pod_ip: addresses.first().copied().map(Into::into).unwrap_or_default(),
            pod_ips: addresses.into_iter().map(|ip| PodIp { ip: ip.into() }).collect(),
        };
        Ok(())
    }
}
