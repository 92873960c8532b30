//! Hints: which zones and nodes should use an endpoint.

mod auto;
mod distribution;

use core::fmt;

use svc_model::{AddressType, Endpoint, IpFamily, Sent, Service, TrafficDistribution};

pub use auto::{HintRefusal, ZoneShare};
pub(crate) use auto::{assign, plan_zones};
pub(crate) use distribution::{distribute, hint, remove};

use super::reconcile::Config;

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_AWARE_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// Who writes the hints of a Service's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HintMode {
    /// Nobody: there are none.
    None,
    /// The annotation for topology mode `Auto`: endpoints are shared out to zones by their CPU (KEP-2433).
    Auto,
    /// The annotation asks for `Auto`, but the controller runs without topology: there are none.
    AutoSwitchedOff,
    /// `spec.trafficDistribution`: every endpoint is hinted for its own zone, and with `PreferSameNode` for
    /// its own node (KEP-4444, KEP-3015).
    Distribution(TrafficDistribution),
}

impl HintMode {
    /// Reads a Service. The annotation beats the field, and of the annotation's two names the deprecated one
    /// beats the other.
    #[must_use]
    pub fn of(service: &Service, config: &Config) -> Self {
        let annotations = &service.metadata.annotations;
        let annotation = annotations.get(TOPOLOGY_AWARE_HINTS).or_else(|| annotations.get(TOPOLOGY_MODE));
        if matches!(annotation, Some("Auto" | "auto")) {
            return if config.topology { Self::Auto } else { Self::AutoSwitchedOff };
        }
        match service.spec.traffic_distribution.as_ref().and_then(Sent::get) {
            Some(close @ TrafficDistribution::PreferClose) => Self::Distribution(close),
            Some(same) if config.prefer_same_traffic_distribution => Self::Distribution(same),
            _ => Self::None,
        }
    }
}

/// Something to tell the owner of a Service about its topology hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HintEvent {
    /// The address family that it is about.
    pub family: IpFamily,
    /// What happened.
    pub kind: HintEventKind,
}

/// What happened to the topology hints of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HintEventKind {
    /// Hints were added, where there were none.
    Enabled,
    /// The annotation no longer asks for them.
    Disabled,
    /// The annotation asks for them, but they would not be safe.
    Refused(HintRefusal),
}

impl HintEvent {
    /// `Normal` or `Warning`, as the `type` of a Kubernetes Event.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self.kind {
            HintEventKind::Enabled => "Normal",
            HintEventKind::Disabled | HintEventKind::Refused(_) => "Warning",
        }
    }

    /// The `reason` of a Kubernetes Event.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self.kind {
            HintEventKind::Enabled => "TopologyAwareHintsEnabled",
            HintEventKind::Disabled | HintEventKind::Refused(_) => "TopologyAwareHintsDisabled",
        }
    }
}

impl fmt::Display for HintEvent {
    /// The `message` of a Kubernetes Event, word for word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            HintEventKind::Enabled => f.write_str("Topology Aware Hints has been enabled")?,
            HintEventKind::Disabled => f.write_str("Topology Aware Hints has been disabled")?,
            HintEventKind::Refused(refusal) => refusal.fmt(f)?,
        }
        write!(f, ", addressType: {}", AddressType::from(self.family))
    }
}

/// Hints count ready endpoints only, and an unknown condition is not ready here.
pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready == Some(true)
}
