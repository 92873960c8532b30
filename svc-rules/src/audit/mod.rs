//! Whether a node has the rules that it should have.
//!
//! kube-proxy never looks back at what it wrote, and a node that keeps a stale endpoint looks like any other. An audit
//! compares what the node's own tools print with what the cluster's objects ask of the node, and says per Service what
//! is missing, stale or changed, together with the input that repairs it: [`iptables()`] reads `iptables-save`,
//! [`nftables()`] `nft list ruleset` as text or JSON, and [`ipvs()`] `ipvsadm -Sn`, `ipset save` and `iptables-save`.
//!
//! Rules are compared by what they do. Comments and counters are not compared: the reference leaves comments out in
//! large clusters, and mixes both styles around the threshold. Neither is the order of different Services in a shared
//! chain, which the reference does not fix.

mod compare;
mod finding;
mod iptables;
mod ipvs;
mod nftables;
mod owners;

pub use finding::{Finding, Problem};
pub use iptables::iptables;
pub use ipvs::{IpvsDump, ipvs};
pub use nftables::nftables;

use alloc::string::String;
use alloc::vec::Vec;

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Audit {
    /// What is wrong: of the node as a whole first, then by Service.
    pub findings: Vec<Finding>,
    /// What is to be fed to which tool, in order, after which nothing is wrong; empty if nothing is.
    pub repair: Vec<Repair>,
}

/// One step of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// The tool with its arguments.
    pub command: &'static str,
    /// What it is to read.
    pub input: String,
}

impl Repair {
    /// A step that is left out if it is empty.
    fn one(command: &'static str, input: String) -> Vec<Self> {
        if input.is_empty() { Vec::new() } else { Vec::from([Self { command, input }]) }
    }
}

impl Audit {
    fn new(mut findings: Vec<Finding>, repair: Vec<Repair>) -> Self {
        findings.sort_by(|a, b| (&a.service, a.table, &a.place).cmp(&(&b.service, b.table, &b.place)));
        Self { findings, repair }
    }
}
