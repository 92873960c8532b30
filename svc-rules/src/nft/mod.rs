//! nftables rules as data: read, change, walk and write them.
//!
//! [`Ruleset`] takes commands for `nft -f` as well as what `nft list ruleset` writes, and brings both into one form,
//! so that what was sent and what is read back are equal. Statements that this crate does not interpret are kept in
//! their words; a packet that reaches one has an unknown fate.
//!
//! ```
//! use svc_rules::host::Host;
//! use svc_rules::nft::Ruleset;
//! use svc_rules::packet::Packet;
//!
//! let rules = Ruleset::parse(
//!     "add table ip t\n\
//!      add chain ip t pre { type nat hook prerouting priority dstnat ; }\n\
//!      add rule ip t pre tcp dport 80 dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 8080 , 1 : 10.0.0.2 . 8080 }\n",
//! )?;
//! let packet = Packet::tcp("192.0.2.1:4000".parse()?, "192.0.2.2:80".parse()?).from_interface("eth0");
//! let walk = rules.walk(&Host::new(), &packet);
//! assert_eq!(walk.destinations().len(), 2);
//! assert!(walk.destinations().iter().all(|(_, share)| share.is_one_in(2)));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod apply;
mod error;
mod eval;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "json")]
mod json_print;
mod model;
mod print;
mod rule;
mod value;
mod walk;
mod words;

pub use error::{ErrorKind, NftError};
#[cfg(feature = "json")]
pub use json::JsonError;
#[cfg(feature = "json")]
pub use json_print::to_json;
pub use model::{
    Base, Chain, ChainKind, Comparison, Data, DataType, Datum, Element, End, Expression, MapRef, Numgen,
    Operand, Policy, Rule, Ruleset, Set, SetFlags, Statement, Table, TableFamily, Tuple, Verdict,
};
