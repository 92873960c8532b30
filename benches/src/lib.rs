//! Criterion benches, the cluster generator and the side-by-side runs.

pub mod differential;
pub mod generate;
pub mod inputs;
pub mod uniform;
pub mod work;
