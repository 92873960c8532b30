//! The reader's side: EndpointSlices merged per Service port, and the endpoints usable from a node.

mod cache;
mod endpoint;
mod health;
mod policy;
mod port;
mod read;
mod select;

pub use cache::{PortChange, PortKey, SliceCache, ViewChanges};
pub use endpoint::{Endpoint, EndpointInfo, State};
pub use health::{HealthCheck, ProxyHealth};
pub use policy::{Exposure, Policy, PortPolicy};
pub use port::PortEndpoints;
pub use read::{Ignored, IgnoredPart};
pub use select::{HintUse, NoEndpoints, Placement, Rule, Scope, Selection, Topology, Viewpoint};
