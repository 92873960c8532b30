//! iptables and ip6tables rules as data: read, change, walk and write them.
//!
//! [`Ruleset`] holds tables, chains and rules in the form the kernel gives them, so that a rule written by hand in
//! one order of options and the same rule read back from `iptables-save` are equal. Matches and targets that this
//! crate does not interpret are kept in their words and written back as they were.
//!
//! ```
//! use svc_rules::packet::Family;
//! use svc_rules::xtables::{RestoreMode, Ruleset};
//!
//! let mut rules = Ruleset::new(Family::V4);
//! rules.restore("*filter\n-A INPUT -m tcp -p tcp --dport 22 -d 192.0.2.1 -j DROP\nCOMMIT\n", RestoreMode::Keep)?;
//! let rule = &rules.chain("filter", "INPUT").unwrap().rules[0];
//! assert_eq!(rule.text(Family::V4), "-d 192.0.2.1/32 -p tcp -m tcp --dport 22 -j DROP");
//! # Ok::<(), svc_rules::xtables::RestoreError>(())
//! ```

mod apply;
mod model;
mod name;
mod parse;
mod print;
mod rule;
mod value;
mod walk;
mod words;

pub use apply::RestoreMode;
pub use model::{
    AddrTypeTest, AddressTypes, Chain, Counters, CtStates, IpvsTest, MarkTest, Match, Net, Policy, PortDraw,
    PortModule, PortRange, PortTest, Recent, RecentAction, Rule, Ruleset, Sense, SetTest, StateModule, Table,
    Target, Test, builtin_hooks,
};
pub use name::{ChainName, MAX_CHAIN_NAME};
pub use parse::{Command, RestoreError, RestoreErrorKind, commands};
pub use print::ShowCounters;
