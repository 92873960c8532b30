//! One endpoint, as a reader of EndpointSlices sees it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use smol_str::{SmolStr, format_smolstr};
use svc_model::ObjectRef;

/// The three conditions of an endpoint with their defaults filled in.
///
/// A reader takes a missing `ready` or `serving` for true and a missing `terminating` for false
/// (discovery.k8s.io/v1, `EndpointConditions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// May receive new connections: serving and not terminating, or published regardless of readiness.
    pub ready: bool,
    /// Passes its readiness checks, whether or not it is terminating.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
}

impl State {
    /// Whether this endpoint is what traffic falls back to when nothing is ready: still serving while it
    /// terminates (KEP-1669).
    #[must_use]
    pub const fn is_fallback(self) -> bool {
        !self.ready && self.serving && self.terminating
    }

    /// Which of two endpoints with the same address and port stands for both: lower wins.
    ///
    /// kube-proxy prefers one that does not terminate, since a pod network may hand an address to a new
    /// Pod while the old one is still being deleted (kubernetes/kubernetes#135593, v1.36), and leaves
    /// everything else to map order. Readiness then decides here.
    pub(crate) const fn rank(self) -> (bool, bool, bool) {
        (self.terminating, !self.ready, !self.serving)
    }
}

impl Default for State {
    /// The state of an endpoint whose conditions say nothing: ready, serving, not terminating.
    fn default() -> Self {
        Self { ready: true, serving: true, terminating: false }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.ready, self.serving, self.terminating) {
            (true, _, false) => "ready",
            (true, _, true) => "ready, terminating",
            (false, true, true) => "serving, terminating",
            (false, false, true) => "terminating",
            (false, true, false) => "serving, not ready",
            (false, false, false) => "not ready",
        })
    }
}

/// What one EndpointSlice says of one endpoint, whatever the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointInfo {
    /// The first address of the endpoint: the only one that a proxy uses.
    pub ip: IpAddr,
    /// Conditions, with defaults filled in.
    pub state: State,
    /// Name for DNS, if the endpoint has one.
    pub hostname: Option<SmolStr>,
    /// The node that it runs on, where known.
    pub node: Option<SmolStr>,
    /// The zone that it runs in, where known.
    pub zone: Option<SmolStr>,
    /// The object behind it, usually a Pod.
    pub target: Option<ObjectRef>,
    /// Zones that should use it, as the slice hints; empty means no hint.
    pub zone_hints: Box<[SmolStr]>,
    /// Nodes that should use it, as the slice hints; empty means no hint.
    pub node_hints: Box<[SmolStr]>,
}

impl EndpointInfo {
    /// Whether the endpoint runs on the named node. An endpoint without a node is local nowhere, and a
    /// viewpoint without a name has no local endpoints.
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        !node.is_empty() && self.node.as_deref() == Some(node)
    }

    /// Whether the endpoint is hinted for the named zone.
    #[must_use]
    pub fn hints_zone(&self, zone: &str) -> bool {
        self.zone_hints.iter().any(|hint| hint == zone)
    }

    /// Whether the endpoint is hinted for the named node.
    #[must_use]
    pub fn hints_node(&self, node: &str) -> bool {
        self.node_hints.iter().any(|hint| hint == node)
    }
}

/// An endpoint of one Service port: address, port number, and what is known of it.
///
/// Clones are cheap: the details are shared between the ports of a Service and between views.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    name: SmolStr,
    address: SocketAddr,
    info: Arc<EndpointInfo>,
}

impl Endpoint {
    /// An endpoint at `info.ip` and `port`.
    #[must_use]
    pub fn new(info: Arc<EndpointInfo>, port: u16) -> Self {
        let address = SocketAddr::new(info.ip, port);
        Self { name: Self::name_of(info.ip, port), address, info }
    }

    /// The text that identifies an endpoint: `10.0.0.1:80`, `[fd00::1]:80`.
    pub(crate) fn name_of(ip: IpAddr, port: u16) -> SmolStr {
        format_smolstr!("{}", SocketAddr::new(ip, port))
    }

    /// Address and port as text, `10.0.0.1:80` or `[fd00::1]:80`. It identifies the endpoint within its
    /// Service port, and kube-proxy hashes it into chain names.
    #[must_use]
    pub fn name(&self) -> &SmolStr {
        &self.name
    }

    /// Address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// IP address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// Port number, 1 to 65535.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything else that is known of the endpoint.
    #[must_use]
    pub fn info(&self) -> &Arc<EndpointInfo> {
        &self.info
    }

    /// Conditions, with defaults filled in.
    #[must_use]
    pub fn state(&self) -> State {
        self.info.state
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
