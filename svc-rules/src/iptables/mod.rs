//! iptables mode, as kube-proxy 1.36 writes it.

mod chain;
pub(crate) mod common;
mod delta;
mod index;
mod jump;
mod rules;
mod sync;
pub(crate) mod text;

pub use chain::{Chain, ChainHash, ChainKind, ServiceChain, SharedChain, Table};
pub use jump::{CANARY, Jump, Packets, jumps};
pub use sync::{FullCause, Mode, Proxy, Sections, StaleChains, Sync};
