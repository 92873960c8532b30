#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod engine;
pub mod legacy;
pub mod slices;
pub mod view;
pub mod why;

pub use engine::Engine;
pub use slices::{Config, History, Nodes, Packing, Plan, Reconciler};
pub use view::{Endpoint, PortKey, PortPolicy, Selection, SliceCache, Viewpoint};
