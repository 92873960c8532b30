//! What the command-line tools share: reading manifests and printing results.

pub mod input;
pub mod output;
pub mod policy_page;
pub mod trace;
pub mod world;
