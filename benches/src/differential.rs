//! Random small clusters, played through the reference systems and through the libraries.
//!
//! A case is a document in the vector format without outcomes. The reference systems (the Go programs in `peers/`)
//! fill the outcomes in; the conformance adapters of the crates judge them. Cases are meant to be nasty: every field
//! that counts, in combinations that no sane cluster has.

mod alloc;
mod dns;
mod endpoints;
mod names;
mod netpol;
mod player;
mod proxy;
mod selector;
mod shrink;
mod slices;
mod validation;

use serde_json::Value;

use crate::generate::Random;

pub use player::{Peer, Player};
pub use shrink::{isolate, shrink};

/// What can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// As in the vector folders.
    pub name: &'static str,
    /// The program that knows the reference.
    pub peer: Peer,
    /// Makes one case.
    pub make: fn(&mut Random) -> Value,
}

/// All areas.
pub const AREAS: &[Area] = &[
    Area { name: "iptables", peer: Peer::Kubernetes, make: proxy::iptables },
    Area { name: "nftables", peer: Peer::Kubernetes, make: proxy::nftables },
    Area { name: "ipvs", peer: Peer::Kubernetes, make: proxy::ipvs },
    Area { name: "endpointslice", peer: Peer::Kubernetes, make: slices::endpointslice },
    Area { name: "endpoints", peer: Peer::Kubernetes, make: endpoints::endpoints },
    Area { name: "env", peer: Peer::Kubernetes, make: endpoints::env },
    Area { name: "selector", peer: Peer::Kubernetes, make: selector::selector },
    Area { name: "dns", peer: Peer::CoreDns, make: dns::dns },
    Area { name: "alloc", peer: Peer::Kubernetes, make: alloc::alloc },
    Area { name: "service", peer: Peer::Kubernetes, make: validation::service },
    Area { name: "policy-validation", peer: Peer::Kubernetes, make: validation::policy },
    Area { name: "netpol", peer: Peer::Cyclonus, make: netpol::netpol },
];
