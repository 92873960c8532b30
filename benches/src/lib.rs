//! Criterion benches, the cluster generator and the side-by-side runs.

pub mod generate;
pub mod uniform;
