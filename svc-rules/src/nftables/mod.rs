//! nftables mode, as kube-proxy 1.36 writes it: table `kube-proxy` of family `ip` or `ip6`, with a chain for each
//! Service port and a few maps that lead to them.
//!
//! Where the reference writes more than nft takes, this crate writes less: nft refuses comments of more than 128
//! bytes, and with them the whole transaction, so longer ones are cut.

mod base;
mod name;
mod part;
mod sync;

pub use sync::{Proxy, Scope, Sync};
