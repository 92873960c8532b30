#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod view;

pub use view::{Endpoint, PortKey, PortPolicy, Selection, SliceCache, Viewpoint};
