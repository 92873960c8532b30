//! Why there are no hints, and what would earn them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;
use svc_model::{EndpointSlice, IpFamily, ObjectRef, Service};

use crate::slices::hints::{is_ready, plan_zones};
use crate::slices::{Config, CpuShares, HintMode, HintRefusal, Nodes, ZoneShare};

/// The state of a Service's hints in one address family.
#[derive(Debug, Clone, PartialEq)]
pub struct HintReport {
    /// Who writes the hints.
    pub mode: HintMode,
    /// Ready endpoints by zone; those without one are under the empty name.
    pub ready_by_zone: BTreeMap<SmolStr, usize>,
    /// Why there are none, or `None` if there are.
    pub reason: Option<NoHints>,
    /// For topology mode `Auto`: the shares of the zones, if the hints hold.
    pub shares: BTreeMap<SmolStr, ZoneShare>,
}

/// Why a Service has no hints.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NoHints {
    /// Nothing asks for them: set `spec.trafficDistribution`.
    NotAskedFor,
    /// The annotation asks for topology mode `Auto`, which is switched off.
    SwitchedOff,
    /// No endpoint is ready.
    NoReadyEndpoint,
    /// Ready endpoints are on nodes without a zone, or on none.
    EndpointsWithoutZone(Vec<ObjectRef>),
    /// The nodes do not tell how CPU is spread: these ready ones lack a zone or CPU. Empty if there are fewer than
    /// two zones.
    NodesIncomplete(Vec<SmolStr>),
    /// Too few endpoints, or a number that cannot be shared out fairly.
    Refused {
        /// What topology mode `Auto` says.
        refusal: HintRefusal,
        /// The next larger number of ready endpoints for which hints hold, and how many each zone would have.
        needed: Option<(usize, BTreeMap<SmolStr, usize>)>,
    },
}

/// How many more endpoints are tried in search of a number that can be shared out.
const SEARCH: usize = 1000;

/// Reports why a Service has no hints in one address family, given its slices (others are passed over).
///
/// The verdict is that of the reconciler's own planning of zones.
#[must_use]
pub fn why_no_hints<'a>(
    service: &Service,
    family: IpFamily,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    nodes: &Nodes,
    config: &Config,
) -> HintReport {
    let mode = HintMode::of(service, config);
    let key = service.metadata.object_ref();
    let of_service = |slice: &&EndpointSlice| {
        slice.metadata.namespace == key.namespace
            && slice.service_name() == Some(&key.name)
            && slice.address_type.get() == Some(family.into())
    };
    let ready =
        slices.into_iter().filter(of_service).flat_map(|slice| &slice.endpoints).filter(|e| is_ready(e));
    let mut report =
        HintReport { mode, ready_by_zone: BTreeMap::new(), reason: None, shares: BTreeMap::new() };
    let mut without_zone = Vec::new();
    for endpoint in ready {
        let zone = endpoint.zone.clone().unwrap_or_default();
        if zone.is_empty() {
            let target = endpoint.target_ref.clone().unwrap_or_default();
            without_zone.push(ObjectRef::new(target.namespace, target.name));
        }
        *report.ready_by_zone.entry(zone).or_default() += 1;
    }
    let count: usize = report.ready_by_zone.values().sum();
    report.reason = match mode {
        HintMode::None => Some(NoHints::NotAskedFor),
        HintMode::AutoSwitchedOff => Some(NoHints::SwitchedOff),
        HintMode::Distribution(_) if count == 0 => Some(NoHints::NoReadyEndpoint),
        HintMode::Distribution(_) | HintMode::Auto if !without_zone.is_empty() => {
            Some(NoHints::EndpointsWithoutZone(without_zone))
        }
        HintMode::Distribution(_) => None,
        HintMode::Auto => {
            let shares = nodes.cpu_shares();
            match (plan_zones(count, shares.as_ref()), shares) {
                (Ok(plan), _) => {
                    report.shares = plan;
                    None
                }
                (Err(_), None) => Some(NoHints::NodesIncomplete(nodes.incomplete().cloned().collect())),
                (Err(refusal), Some(shares)) => {
                    Some(NoHints::Refused { refusal, needed: next_that_holds(count, &shares) })
                }
            }
        }
    };
    report
}

/// The next larger number of endpoints that can be shared out, and the fairest spread of it over the zones.
fn next_that_holds(count: usize, shares: &CpuShares) -> Option<(usize, BTreeMap<SmolStr, usize>)> {
    let (number, plan) = (count + 1..=count + SEARCH)
        .find_map(|number| Some((number, plan_zones(number, Some(shares)).ok()?)))?;
    let mut spread: BTreeMap<SmolStr, usize> =
        plan.iter().map(|(zone, share)| (zone.clone(), share.minimum)).collect();
    // Each zone has its minimum; the rest goes one by one to the zone that is furthest below its fair share.
    for _ in spread.values().sum::<usize>()..number {
        #[expect(clippy::cast_precision_loss, reason = "numbers of endpoints are far below 2^52")]
        let lack =
            |zone: &SmolStr, has: usize| plan.get(zone).map_or(0.0, |share| share.desired - has as f64);
        let furthest = spread
            .iter_mut()
            .max_by(|a, b| lack(a.0, *a.1).total_cmp(&lack(b.0, *b.1)).then_with(|| b.0.cmp(a.0)));
        if let Some((_, has)) = furthest {
            *has += 1;
        }
    }
    Some((number, spread))
}

impl fmt::Display for NoHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAskedFor => f.write_str("nothing asks for hints (spec.trafficDistribution would)"),
            Self::SwitchedOff => f.write_str("topology mode Auto is switched off"),
            Self::NoReadyEndpoint => f.write_str("no endpoint is ready"),
            Self::EndpointsWithoutZone(targets) => {
                write!(f, "{} ready endpoints are on nodes without a zone label", targets.len())?;
                targets.first().map_or(Ok(()), |first| write!(f, ", such as {first}"))
            }
            Self::NodesIncomplete(nodes) if nodes.is_empty() => {
                f.write_str("ready nodes are in fewer than two zones")
            }
            Self::NodesIncomplete(nodes) => {
                write!(f, "{} ready nodes lack a zone label or CPU", nodes.len())?;
                nodes.first().map_or(Ok(()), |first| write!(f, ", such as {first}"))
            }
            Self::Refused { refusal, needed } => {
                write!(f, "{refusal}")?;
                let Some((number, spread)) = needed else { return Ok(()) };
                write!(f, "; {number} ready endpoints would do, spread as")?;
                spread.iter().try_for_each(|(zone, count)| write!(f, " {zone}: {count}"))
            }
        }
    }
}
