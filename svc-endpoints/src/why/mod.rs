//! Why: for every Pod, in or out and the reason; for a Service without endpoints, the cause; for hints that are not
//! there, what would earn them.

mod hints;
mod pods;
mod service;

pub use hints::{HintReport, NoHints, why_no_hints};
pub use pods::{Membership, PodReport, Readiness, Serving, why_pods};
pub use service::{Cause, Diagnosis, Funnel, NearMiss, Situation, diagnose};
