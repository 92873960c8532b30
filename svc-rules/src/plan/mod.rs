//! What each Service port needs from a node, before any backend turns it into rules.
//!
//! A [`ServicePort`] is the part of a Service that rules depend on, for one address family; [`service_ports`] reads
//! it off a Service or says why there is nothing to read. A [`PortPlan`] adds the endpoints that the node may use,
//! as [`svc_endpoints`] selects them. All three backends write from the same plan.

mod conntrack;
mod inbox;
mod name;
mod node;
mod port;
mod service;

pub use conntrack::{ConntrackCleanup, Flow, Frontend};
pub(crate) use inbox::Inbox;
pub use name::ServicePortName;
pub use node::port_plans;
pub use port::{Endpoint, PortPlan, ServicePort};
pub use service::{Skipped, service_ports};

use svc_model::Protocol;

/// The protocol in lower case, as rules spell it.
pub(crate) const fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
