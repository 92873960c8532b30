//! `spec.trafficDistribution`: every ready endpoint is hinted for where it runs.

use svc_model::{Endpoint, EndpointHints, EndpointSlice, ForNode, ForZone, TrafficDistribution};

use super::super::work::FamilySlices;
use super::is_ready;

/// Writes hints into the slices; those that were to stay as they are become updates where hints are missing or
/// wrong. Endpoints that are not ready keep whatever hints they have.
pub(crate) fn distribute(slices: &mut FamilySlices<'_>, distribution: TrafficDistribution) {
    slices.update_where(|slice| slice.endpoints.iter().any(|endpoint| !is_hinted(endpoint, distribution)));
    for endpoint in slices.written_endpoints_mut() {
        hint(endpoint, distribution);
    }
}

/// Writes the hints of one endpoint.
pub(crate) fn hint(endpoint: &mut Endpoint, distribution: TrafficDistribution) {
    if is_ready(endpoint) {
        let hints = EndpointHints {
            for_zones: endpoint.zone.iter().map(|zone| ForZone { name: zone.clone() }).collect(),
            for_nodes: node_hint(endpoint, distribution)
                .map(|name| ForNode { name: name.clone() })
                .into_iter()
                .collect(),
        };
        endpoint.hints = (hints != EndpointHints::default()).then_some(hints);
    }
}

fn node_hint(endpoint: &Endpoint, distribution: TrafficDistribution) -> Option<&svc_model::SmolStr> {
    endpoint.node_name.as_ref().filter(|_| distribution == TrafficDistribution::PreferSameNode)
}

fn is_hinted(endpoint: &Endpoint, distribution: TrafficDistribution) -> bool {
    if !is_ready(endpoint) {
        return true;
    }
    let (zones, nodes) = match &endpoint.hints {
        Some(hints) => (hints.for_zones.as_slice(), hints.for_nodes.as_slice()),
        None => Default::default(),
    };
    zones.iter().map(|zone| &zone.name).eq(&endpoint.zone)
        && nodes.iter().map(|node| &node.name).eq(node_hint(endpoint, distribution))
}

/// Removes all hints; slices that were to stay as they are become updates only where there were any.
pub(crate) fn remove(slices: &mut FamilySlices<'_>) {
    let has_hints = |slice: &EndpointSlice| slice.endpoints.iter().any(|endpoint| endpoint.hints.is_some());
    slices.update_where(has_hints);
    for endpoint in slices.written_endpoints_mut() {
        endpoint.hints = None;
    }
}
