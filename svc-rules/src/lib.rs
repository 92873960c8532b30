#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod host;
pub mod ipset;
pub mod outcome;
pub mod packet;
mod walk;
pub mod xtables;
