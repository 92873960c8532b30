//! The jumps from the kernel's own chains into those of the proxy.
//!
//! They are not part of a restore input, since the kernel's chains are not the proxy's to rewrite: they are put in one
//! by one, where missing, before a full sync.

use alloc::string::String;
use core::fmt;

use super::chain::Table;
use crate::config::ProxyConfig;

/// A rule in a chain of the kernel that leads to a chain of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Jump {
    /// The table.
    pub table: Table,
    /// The kernel's chain.
    pub from: &'static str,
    /// The proxy's chain.
    pub to: &'static str,
    /// Which packets take it.
    pub packets: Packets,
    /// The comment on the rule; `KUBE-FIREWALL`, which kubelet may have put in as well, has none.
    pub comment: Option<&'static str>,
}

/// Which packets take a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packets {
    /// All.
    All,
    /// The first of each connection.
    New,
}

impl Jump {
    /// The rule without its chain, as arguments of `iptables`: `-m conntrack --ctstate NEW -j KUBE-SERVICES`.
    #[must_use]
    pub fn rule(&self) -> String {
        alloc::format!("{self}")
    }
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.packets == Packets::New {
            f.write_str("-m conntrack --ctstate NEW ")?;
        }
        if let Some(comment) = self.comment {
            write!(f, "-m comment --comment \"{comment}\" ")?;
        }
        write!(f, "-j {}", self.to)
    }
}

/// Name of the empty chain, one in each table, whose absence shows that someone has flushed the tables; then the next
/// sync has to be a full one.
pub const CANARY: &str = "KUBE-PROXY-CANARY";

/// The jumps that must exist, in the order in which each is put at the head of its chain if it is missing; so the last
/// one of a chain is the first that a packet meets.
pub fn jumps(config: &ProxyConfig) -> impl Iterator<Item = Jump> + use<> {
    use Packets::{All, New};
    const EXTERNAL: &str = "kubernetes externally-visible service portals";
    const HEALTH: &str = "kubernetes health check service ports";
    const SERVICES: &str = "kubernetes service portals";
    const FORWARD: &str = "kubernetes forwarding rules";
    const FIREWALL: &str = "kubernetes load balancer firewall";
    const POSTROUTING: &str = "kubernetes postrouting rules";
    const FIXED: [(Table, &str, &str, Packets, &str); 12] = [
        (Table::Filter, "INPUT", "KUBE-EXTERNAL-SERVICES", New, EXTERNAL),
        (Table::Filter, "FORWARD", "KUBE-EXTERNAL-SERVICES", New, EXTERNAL),
        (Table::Filter, "INPUT", "KUBE-NODEPORTS", All, HEALTH),
        (Table::Filter, "FORWARD", "KUBE-SERVICES", New, SERVICES),
        (Table::Filter, "OUTPUT", "KUBE-SERVICES", New, SERVICES),
        (Table::Filter, "FORWARD", "KUBE-FORWARD", All, FORWARD),
        (Table::Filter, "INPUT", "KUBE-PROXY-FIREWALL", New, FIREWALL),
        (Table::Filter, "OUTPUT", "KUBE-PROXY-FIREWALL", New, FIREWALL),
        (Table::Filter, "FORWARD", "KUBE-PROXY-FIREWALL", New, FIREWALL),
        (Table::Nat, "OUTPUT", "KUBE-SERVICES", All, SERVICES),
        (Table::Nat, "PREROUTING", "KUBE-SERVICES", All, SERVICES),
        (Table::Nat, "POSTROUTING", "KUBE-POSTROUTING", All, POSTROUTING),
    ];
    let fixed = FIXED.into_iter().map(|(table, from, to, packets, comment)| Jump {
        table,
        from,
        to,
        packets,
        comment: Some(comment),
    });
    let loopback = ["INPUT", "OUTPUT"].map(|from| Jump {
        table: Table::Filter,
        from,
        to: "KUBE-FIREWALL",
        packets: All,
        comment: None,
    });
    fixed.chain(loopback.into_iter().filter({
        let opens_localhost = config.opens_localhost();
        move |_| opens_localhost
    }))
}
