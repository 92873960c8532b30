//! Whether a node has the rules that it should have.
//!
//! kube-proxy never looks back at what it wrote, and a node that keeps a stale endpoint looks like any other. An audit
//! compares what the node's own tools print with what the cluster's objects ask of the node, and says per Service what
//! is missing, stale or changed, together with the input that repairs it: [`iptables()`] reads `iptables-save`,
//! [`nftables()`] `nft list ruleset` as text or JSON.
//!
//! Rules are compared by what they do. Comments and counters are not compared: the reference leaves comments out in
//! large clusters, and mixes both styles around the threshold. Neither is the order of different Services in a shared
//! chain, which the reference does not fix.

mod compare;
mod finding;
mod iptables;
mod nftables;

pub use finding::{Finding, Problem};
pub use iptables::iptables;
pub use nftables::nftables;

use alloc::string::String;
use alloc::vec::Vec;

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Audit {
    /// What is wrong: of the node as a whole first, then by Service.
    pub findings: Vec<Finding>,
    /// Input for the mode's own tool after which nothing is wrong; empty if nothing is.
    pub repair: String,
}

impl Audit {
    fn new(mut findings: Vec<Finding>, repair: String) -> Self {
        findings.sort_by(|a, b| (&a.service, a.table, &a.place).cmp(&(&b.service, b.table, &b.place)));
        Self { findings, repair }
    }
}
