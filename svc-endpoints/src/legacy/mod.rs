//! The older Endpoints objects: made from Pods, or mirrored into EndpointSlices where a user wrote them by hand.

mod endpoints;
mod mirror;
mod subsets;
mod truncate;

pub use endpoints::{EndpointsPlan, plan_endpoints};
pub use mirror::{Mirror, MirrorEvent, MirrorPlan, NotMirrored};
pub use subsets::repack_subsets;
pub use truncate::{MAX_ADDRESSES, Truncation, truncate_subsets};
