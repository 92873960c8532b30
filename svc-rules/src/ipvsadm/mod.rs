//! IPVS virtual servers as data: the text of `ipvsadm -Sn` and `ipvsadm -R`, and what becomes of a packet.
//!
//! ```
//! use svc_rules::ipvsadm::VirtualServers;
//!
//! let mut servers = VirtualServers::new();
//! servers.restore("-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.0.0.7:6443 -m -w 1\n")?;
//! assert_eq!(servers.save(), "-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.0.0.7:6443 -m -w 1\n");
//! # Ok::<(), svc_rules::ipvsadm::RestoreError>(())
//! ```

mod model;
mod parse;
mod walk;

pub use model::{Method, Persistence, RealServer, VirtualAddress, VirtualServer, VirtualServers};
pub use parse::{RestoreError, RestoreErrorKind};
