//! Which endpoints a node uses: traffic policies, topology hints, terminating endpoints.

use core::fmt;

use smol_str::SmolStr;

use super::endpoint::Endpoint;
use super::policy::{Policy, PortPolicy};
use super::port::PortEndpoints;

/// Where traffic is looked at from: a node, and the zone that it lies in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Viewpoint {
    node: SmolStr,
    zone: SmolStr,
}

impl Viewpoint {
    /// The node of this name, in no zone.
    #[must_use]
    pub fn node(name: impl Into<SmolStr>) -> Self {
        Self { node: name.into(), zone: SmolStr::default() }
    }

    /// The same node, lying in `zone` (its label `topology.kubernetes.io/zone`).
    #[must_use]
    pub fn in_zone(self, zone: impl Into<SmolStr>) -> Self {
        Self { zone: zone.into(), ..self }
    }

    /// Name of the node; empty if the viewpoint is none.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node
    }

    /// Zone of the node; empty if it has none.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }
}

impl From<&svc_model::Node> for Viewpoint {
    fn from(node: &svc_model::Node) -> Self {
        Self { node: node.metadata.name.clone(), zone: node.zone().map(SmolStr::new).unwrap_or_default() }
    }
}

/// How far traffic under policy `Cluster` is kept, after the hints of the ready endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// To endpoints hinted for this node (`trafficDistribution: PreferSameNode`).
    SameNode,
    /// To endpoints hinted for this zone (`PreferSameZone`, `PreferClose`, topology mode `Auto`).
    SameZone,
    /// Not kept: every endpoint in the cluster.
    Everywhere,
}

/// What became of one kind of hint. Hints count only if every ready endpoint carries one and at least one
/// of them is for this place (KEP-2433, KEP-3015).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HintUse {
    /// Hints of this kind decide.
    Applied,
    /// A narrower kind of hint decides already.
    NotNeeded,
    /// No endpoint is ready, so there is no hint to consider.
    NoReadyEndpoint,
    /// This many ready endpoints carry no hint.
    Missing(u32),
    /// The viewpoint has no name of this kind (a node without a zone label).
    UnknownPlace,
    /// Every ready endpoint has a hint, and none is for this place.
    NoneForHere,
}

/// The scope of cluster-wide traffic, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topology {
    /// How far traffic is kept.
    pub scope: Scope,
    /// What became of node hints.
    pub node_hints: HintUse,
    /// What became of zone hints.
    pub zone_hints: HintUse,
}

impl Topology {
    fn of(endpoints: &PortEndpoints, viewpoint: &Viewpoint) -> Self {
        let tally = endpoints.tally();
        let hints = |with_hints: u32, here: u32, place: &str| {
            if tally.ready == 0 {
                HintUse::NoReadyEndpoint
            } else if with_hints < tally.ready {
                HintUse::Missing(tally.ready - with_hints)
            } else if here > 0 {
                HintUse::Applied
            } else if place.is_empty() {
                HintUse::UnknownPlace
            } else {
                HintUse::NoneForHere
            }
        };
        let node_hints =
            hints(tally.ready_with_node_hints, tally.for_node(viewpoint.node_name()), viewpoint.node_name());
        if node_hints == HintUse::Applied {
            return Self { scope: Scope::SameNode, node_hints, zone_hints: HintUse::NotNeeded };
        }
        let zone_hints =
            hints(tally.ready_with_zone_hints, tally.for_zone(viewpoint.zone()), viewpoint.zone());
        let scope = if zone_hints == HintUse::Applied { Scope::SameZone } else { Scope::Everywhere };
        Self { scope, node_hints, zone_hints }
    }
}

/// The rule by which one policy picks endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The Service port never routes by this policy.
    Unused,
    /// Ready endpoints within the policy's reach.
    Ready,
    /// Nothing within reach is ready: endpoints that still serve while terminating. Under policy `Cluster`
    /// hints no longer count.
    ServingTerminating,
    /// Nothing within reach is usable.
    Nothing,
}

/// Why an endpoint is used under a policy, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Used: ready.
    Ready,
    /// Used: serving while it terminates, and nothing within reach is ready.
    ServingTerminating,
    /// The Service port never routes by this policy.
    PolicyUnused,
    /// Runs elsewhere, and the policy is `Local`.
    OtherNode,
    /// Neither ready nor serving while terminating.
    NotReady,
    /// Serving while terminating, but ready endpoints are within reach.
    ReadyOnesExist,
    /// Ready, but hinted for other nodes only.
    HintedForOtherNodes,
    /// Ready, but hinted for other zones only.
    HintedForOtherZones,
}

impl Placement {
    /// Whether the endpoint is used.
    #[must_use]
    pub const fn is_used(self) -> bool {
        matches!(self, Self::Ready | Self::ServingTerminating)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::ServingTerminating => "terminating but still serving, and nothing is ready",
            Self::PolicyUnused => "no traffic takes this policy",
            Self::OtherNode => "on another node",
            Self::NotReady => "not ready",
            Self::ReadyOnesExist => "terminating, and others are ready",
            Self::HintedForOtherNodes => "hinted for other nodes",
            Self::HintedForOtherZones => "hinted for other zones",
        })
    }
}

/// Why a frontend of a Service port has no endpoint to send traffic to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoEndpoints {
    /// None is usable anywhere in the cluster. kube-proxy rejects the connection, so that clients fail at once.
    Anywhere,
    /// The policy is `Local` and none is usable on this node, though some are elsewhere. kube-proxy drops the
    /// packet: another node may answer for the same address.
    OnThisNode,
}

impl fmt::Display for NoEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anywhere => "has no endpoints",
            Self::OnThisNode => "has no local endpoints",
        })
    }
}

/// The endpoints of one Service port that are usable from one node.
///
/// Making a selection costs the same at any number of endpoints; the lists are filtered while they are
/// walked, in the order of the endpoints' text.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    endpoints: &'a PortEndpoints,
    viewpoint: &'a Viewpoint,
    policy: PortPolicy,
    topology: Topology,
    cluster: Rule,
    local: Rule,
    any: bool,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(endpoints: &'a PortEndpoints, policy: PortPolicy, viewpoint: &'a Viewpoint) -> Self {
        let tally = endpoints.tally();
        let rule = |used: bool, ready: u32, fallback: u32| match (used, ready, fallback) {
            (false, ..) => Rule::Unused,
            (true, 1.., _) => Rule::Ready,
            (true, 0, 1..) => Rule::ServingTerminating,
            (true, 0, 0) => Rule::Nothing,
        };
        let here = tally.on_node(viewpoint.node_name());
        Self {
            endpoints,
            viewpoint,
            policy,
            topology: Topology::of(endpoints, viewpoint),
            cluster: rule(policy.uses_cluster(), tally.ready, tally.fallback),
            local: rule(policy.uses_local(), here.ready, here.fallback),
            any: tally.ready + tally.fallback > 0,
        }
    }

    /// Endpoints for traffic under policy `Cluster`: ready ones within the scope of the hints, else any that
    /// still serve while terminating. Nothing if the port never routes by this policy.
    pub fn cluster(self) -> impl DoubleEndedIterator<Item = &'a Endpoint> + Clone {
        self.endpoints.iter().filter(move |endpoint| self.cluster_placement(endpoint).is_used())
    }

    /// Endpoints for traffic under policy `Local`: ready ones on this node, else those on this node that
    /// still serve while terminating. Nothing if the port never routes by this policy.
    pub fn local(self) -> impl DoubleEndedIterator<Item = &'a Endpoint> + Clone {
        self.endpoints.iter().filter(move |endpoint| self.local_placement(endpoint).is_used())
    }

    /// Every endpoint that traffic from this node can reach: the union of [`cluster`](Self::cluster) and
    /// [`local`](Self::local).
    pub fn reachable(self) -> impl DoubleEndedIterator<Item = &'a Endpoint> + Clone {
        self.endpoints.iter().filter(move |endpoint| {
            self.cluster_placement(endpoint).is_used() || self.local_placement(endpoint).is_used()
        })
    }

    /// Whether any endpoint is usable from anywhere in the cluster, even if none is from here.
    #[must_use]
    pub fn any_in_cluster(self) -> bool {
        self.any
    }

    /// The endpoints of the port, usable or not.
    #[must_use]
    pub fn endpoints(self) -> &'a PortEndpoints {
        self.endpoints
    }

    /// Where the selection was made from.
    #[must_use]
    pub fn viewpoint(self) -> &'a Viewpoint {
        self.viewpoint
    }

    /// Whether the endpoint runs on this node.
    #[must_use]
    pub fn is_local(self, endpoint: &Endpoint) -> bool {
        endpoint.info().is_on(self.viewpoint.node_name())
    }

    /// How far traffic under policy `Cluster` is kept, and what became of the hints.
    #[must_use]
    pub fn topology(self) -> Topology {
        self.topology
    }

    /// The rule by which endpoints for policy `Cluster` are picked.
    #[must_use]
    pub fn cluster_rule(self) -> Rule {
        self.cluster
    }

    /// The rule by which endpoints for policy `Local` are picked.
    #[must_use]
    pub fn local_rule(self) -> Rule {
        self.local
    }

    /// The policy that traffic to the cluster IP takes.
    ///
    /// # Errors
    /// Why there is no endpoint for it.
    pub fn internal(self) -> Result<Policy, NoEndpoints> {
        self.frontend(self.policy.internal)
    }

    /// The policy that traffic to node ports, external IPs and load balancer IPs takes, or `None` if the
    /// port has no such address.
    ///
    /// Traffic to these addresses that comes from inside the cluster takes policy `Cluster` in any case.
    #[must_use]
    pub fn external(self) -> Option<Result<Policy, NoEndpoints>> {
        self.policy.is_external().then(|| self.frontend(self.policy.external))
    }

    fn frontend(self, policy: Policy) -> Result<Policy, NoEndpoints> {
        match policy {
            _ if !self.any => Err(NoEndpoints::Anywhere),
            Policy::Local if self.local == Rule::Nothing => Err(NoEndpoints::OnThisNode),
            policy => Ok(policy),
        }
    }

    /// Why the endpoint is used by traffic under policy `Cluster`, or is not.
    #[must_use]
    pub fn cluster_placement(self, endpoint: &Endpoint) -> Placement {
        let info = endpoint.info();
        match self.cluster {
            Rule::Unused => Placement::PolicyUnused,
            Rule::Ready if !info.state.ready => Self::left_out(endpoint),
            Rule::Ready => match self.topology.scope {
                Scope::SameNode if !info.hints_node(self.viewpoint.node_name()) => {
                    Placement::HintedForOtherNodes
                }
                Scope::SameZone if !info.hints_zone(self.viewpoint.zone()) => Placement::HintedForOtherZones,
                _ => Placement::Ready,
            },
            Rule::ServingTerminating if info.state.is_fallback() => Placement::ServingTerminating,
            Rule::ServingTerminating | Rule::Nothing => Placement::NotReady,
        }
    }

    /// Why the endpoint is used by traffic under policy `Local`, or is not.
    #[must_use]
    pub fn local_placement(self, endpoint: &Endpoint) -> Placement {
        let state = endpoint.state();
        match self.local {
            Rule::Unused => Placement::PolicyUnused,
            _ if !self.is_local(endpoint) => Placement::OtherNode,
            Rule::Ready if !state.ready => Self::left_out(endpoint),
            Rule::Ready => Placement::Ready,
            Rule::ServingTerminating if state.is_fallback() => Placement::ServingTerminating,
            Rule::ServingTerminating | Rule::Nothing => Placement::NotReady,
        }
    }

    fn left_out(endpoint: &Endpoint) -> Placement {
        if endpoint.state().is_fallback() { Placement::ReadyOnesExist } else { Placement::NotReady }
    }
}

impl PortEndpoints {
    /// The endpoints usable from `viewpoint` by a port with these traffic policies, as kube-proxy
    /// categorizes them.
    #[must_use]
    pub fn select<'a>(&'a self, policy: PortPolicy, viewpoint: &'a Viewpoint) -> Selection<'a> {
        Selection::new(self, policy, viewpoint)
    }
}
