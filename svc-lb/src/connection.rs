//! A counted connection.

use crate::affinity::TemplateRef;
use crate::backend::BackendId;
use crate::scheduler::PickReason;

/// A connection that a [`Balancer`](crate::Balancer) has counted: keep it beside the connection, and give it
/// back when that ends.
///
/// It can be neither copied nor made, so a connection is never counted twice, and what it does to the
/// counters follows from its own state. One that is dropped instead of
/// [released](crate::Balancer::release) stays counted.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a connection that is not released stays counted"]
pub struct Connection {
    pub(crate) backend: BackendId,
    pub(crate) reason: PickReason,
    pub(crate) activity: Activity,
    pub(crate) template: TemplateRef,
}

/// How a connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activity {
    /// Carrying traffic: TCP from the first SYN on, SCTP once established.
    Active,
    /// Closing, or of a protocol without connections (UDP).
    Inactive,
}

impl Connection {
    /// The backend that serves it.
    pub const fn backend(&self) -> BackendId {
        self.backend
    }

    /// What led to this backend.
    pub const fn reason(&self) -> PickReason {
        self.reason
    }

    /// How it is counted now.
    pub const fn activity(&self) -> Activity {
        self.activity
    }
}
