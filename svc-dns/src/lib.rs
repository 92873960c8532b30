#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod changes;
mod collisions;
mod corefile;
mod env;
mod explain;
mod grammar;
mod lookup;
mod name;
mod options;
mod question;
mod record;
mod resolv_conf;
mod reverse;
mod scope;
mod search;
mod sink;
mod store;
mod transfer;
mod wire;
mod zones;

pub use answer::{Looked, NoUpstream, Upstream};
pub use changes::{ChangeKind, Changes, RecordChange, SerialKind};
pub use collisions::{COMMON_TLDS, Collision};
pub use corefile::{CorefileError, CorefileErrorKind};
pub use env::{EnvClash, EnvVar, ServiceEnv, ServiceLinks};
pub use explain::{Explanation, Fact, ServiceAnswers};
pub use grammar::{Branch, Directive, Grammar, NameParts, Pair, Zonal};
pub use lookup::Absence;
pub use name::{Name, NameError};
pub use options::{
    Behavior, EmptyServices, EndpointNames, Endpoints, External, Headless, NamespaceSource, Options, Pods,
    PtrNames, TransferStyle,
};
pub use question::Question;
pub use record::{Data, Rcode, Record, Soa, Type, UnknownType};
pub use resolv_conf::{
    DnsBasis, DnsEvent, Kubelet, PodDns, ResolvConf, ResolvConfError, SearchLimits, UnknownPolicy,
};
pub use reverse::{reverse_name, reverse_zones, zones_from_text};
pub use search::{Candidate, Resolver, Search, SearchEnd, SearchStep, Verdict, candidates};
pub use sink::{Answer, Section};
pub use store::endpoints::{LeftOut, endpoint_label};
pub use wire::{Response, Transport};
pub use zones::{OptionsError, Serials, Sync, Zones};
