//! nftables mode: table `kube-proxy` of family `ip` or `ip6`, in the layout of kube-proxy 1.36 or in a flat one.
//!
//! In the reference's layout ([`Layout::Reference`]) every Service port has a chain, with a map of its endpoints inside a
//! rule. Where the reference writes more than nft takes, this crate writes less: nft refuses comments of more than 128
//! bytes, and with them the whole transaction, so longer ones are cut.
//!
//! In the flat layout ([`Layout::Flat`]) there is a chain for each *number* of endpoints, and all endpoints are elements
//! of a few maps. A Service or an endpoint more is a few elements more, so a table of any size is loaded in time
//! proportional to it. Packets fare as in the reference's layout.

mod base;
mod claims;
mod flat;
mod name;
mod part;
mod sync;
mod transaction;

pub use sync::{Layout, Proxy, Scope, Sync};
