#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod compile;
mod decision;
mod difference;
mod engine;
mod lint;
mod matrix;
mod nearest;
mod options;
mod plan;
mod policy;
mod traffic;

pub use decision::{Decision, Endpoint, Flow, Missing, Reason, RuleReason, Side, Verdict};
pub use difference::{Because, Change};
pub use engine::{Engine, Stats, Touched};
pub use lint::{Finding, Lint};
pub use matrix::{Connection, Exposure, Group, Matrix, Reach};
pub use nearest::{Miss, NearMiss, PeerMiss, PodMiss};
pub use options::{Baseline, HostNetwork, IpBlocks, Options, OwnNode, SelfTraffic};
pub use plan::{NodePlan, RowPlan};
pub use policy::{Action, Direction, Policy, PolicyKind, PolicyRef, Tier};
pub use traffic::{PortSet, Traffic};

/// The types of the Kubernetes API that this crate reads.
pub use svc_model as model;
