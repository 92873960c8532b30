//! Enforcement of policies on a node: what [`svc_netpol::Engine::node_plan`] says, as nftables or as iptables with
//! ipset.
//!
//! Both layouts have the same parts. A *row* is a chain for one set of policies in one direction; its subjects (the
//! node's Pods that these policies apply to) are elements of a set or map that leads there. In it, peers are elements of
//! sets, one for each allowance that occurs, and each set leads to a chain that lets the allowed ports return and
//! refuses the rest. So a Pod that comes, goes or changes is an element that comes or goes, as long as somebody like it
//! has been there; rules change with policies only.
//!
//! Isolation comes before allowances: nftables puts all in place in one transaction; with ipset, subjects and rules come
//! before the peers that may reach them.
//!
//! Only new connections are judged; replies follow their connection, and connections that exist when a policy changes
//! live on. Packets between Pods must be routed: a bridge that hands frames from port to port is not seen, unless
//! `br_netfilter` shows them.

pub mod iptables;
pub mod nftables;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use sha2::{Digest, Sha256};
use svc_netpol::{Direction, PortSet, RowPlan};

/// How connections are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Silently: the client waits.
    #[default]
    Drop,
    /// With a TCP reset or an ICMP error: the client knows at once.
    Reject,
}

/// What happens to the peers of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target<'a> {
    /// This direction has nothing against it.
    Return,
    /// Nothing gets through.
    Refuse,
    /// Some ports get through.
    Ports(&'a PortSet),
}

impl<'a> Target<'a> {
    fn of(allowed: &'a PortSet) -> Self {
        if allowed.is_all() {
            Self::Return
        } else if allowed.is_empty() {
            Self::Refuse
        } else {
            Self::Ports(allowed)
        }
    }
}

/// A name for content: the same for the same content, on every machine.
fn hash(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

fn row_name(row: &RowPlan) -> String {
    let direction = match row.direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    };
    format!("{direction}-{}", hash(&row.key))
}

fn ports_name(ports: &PortSet) -> String {
    hash(&format!("{ports}"))
}

/// Every allowance that names ports, each once.
fn port_sets(rows: &[RowPlan]) -> BTreeSet<&PortSet> {
    rows.iter()
        .flat_map(|row| row.pods.keys().chain(row.blocks.keys()).chain([&row.default]))
        .filter(|ports| matches!(Target::of(ports), Target::Ports(_)))
        .collect()
}

/// An address family as the tools name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn has(self, ip: &IpAddr) -> bool {
        matches!((self, ip), (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_)))
    }

    const fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }
}
