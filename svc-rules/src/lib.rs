#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod audit;
mod config;
mod duration;
pub mod host;
pub mod ipset;
pub mod iptables;
pub mod ipvs;
pub mod ipvsadm;
pub mod migrate;
pub mod nft;
pub mod nftables;
pub mod outcome;
pub mod packet;
pub mod plan;
pub mod policy;
pub mod probe;
mod scheme;
mod settle;
mod walk;
pub mod xtables;

pub use config::{IpvsOptions, LocalDetector, NodePortAddresses, ProxyConfig};
pub use scheme::{NodeRules, Scheme};
pub use settle::{ConfigError, ConfigErrors, NodeFacts, ProxyMode};
pub use walk::Kernel;
