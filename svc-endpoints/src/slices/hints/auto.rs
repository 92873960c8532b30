//! Topology mode `Auto`: endpoints shared out to zones in proportion to CPU (KEP-2433).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;
use svc_model::{Endpoint, EndpointHints, EndpointSlice, ForZone};

use super::super::nodes::CpuShares;
use super::super::work::FamilySlices;
use super::is_ready;

/// No endpoint may carry more than this much above its fair share.
const OVERLOAD_THRESHOLD: f64 = 0.2;

/// Why topology mode `Auto` gives a Service no hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HintRefusal {
    /// A ready node outside the control plane has no zone or no CPU, or there are fewer than two zones.
    InsufficientNodeInfo,
    /// Fewer ready endpoints than zones.
    TooFewEndpoints {
        /// Ready endpoints of the family.
        endpoints: usize,
        /// Zones with CPU.
        zones: usize,
    },
    /// The zones' least numbers of endpoints add up to more than there are.
    Overload {
        /// Ready endpoints of the family.
        endpoints: usize,
        /// Zones with CPU.
        zones: usize,
    },
    /// A ready endpoint has no zone.
    EndpointWithoutZone,
}

impl fmt::Display for HintRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = |f: &mut fmt::Formatter<'_>, text: &str, endpoints: &usize, zones: &usize| {
            write!(f, "{text} ({endpoints} endpoints, {zones} zones)")
        };
        match self {
            Self::InsufficientNodeInfo => f.write_str(
                "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
            ),
            Self::TooFewEndpoints { endpoints, zones } => {
                counts(f, "Insufficient number of endpoints", endpoints, zones)
            }
            Self::Overload { endpoints, zones } => counts(
                f,
                "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold",
                endpoints,
                zones,
            ),
            Self::EndpointWithoutZone => f.write_str("One or more endpoints do not have a zone specified"),
        }
    }
}

/// How many of a Service's ready endpoints a zone is to have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZoneShare {
    /// The fair share, by CPU; not below the minimum.
    pub desired: f64,
    /// The least, so that no endpoint carries over 20% more than its fair share.
    pub minimum: usize,
    /// The most that leaves every other zone its minimum.
    pub maximum: usize,
}

/// Shares out a number of ready endpoints to the zones.
pub(crate) fn plan_zones(
    endpoints: usize,
    shares: Option<&CpuShares>,
) -> Result<BTreeMap<SmolStr, ZoneShare>, HintRefusal> {
    let shares = shares.ok_or(HintRefusal::InsufficientNodeInfo)?;
    let zones = shares.zones();
    if zones > endpoints {
        return Err(HintRefusal::TooFewEndpoints { endpoints, zones });
    }
    let mut spare = endpoints;
    let mut plan = BTreeMap::new();
    for (zone, share) in shares.iter() {
        #[expect(clippy::cast_precision_loss, reason = "numbers of endpoints are far below 2^52")]
        let desired = share * endpoints as f64;
        let least = ceil(desired * (1.0 / (1.0 + OVERLOAD_THRESHOLD)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to the number of endpoints"
        )]
        let minimum = least as usize;
        spare = spare.checked_sub(minimum).ok_or(HintRefusal::Overload { endpoints, zones })?;
        plan.insert(zone.clone(), ZoneShare { desired: desired.max(least), minimum, maximum: minimum });
    }
    for share in plan.values_mut() {
        share.maximum += spare;
    }
    Ok(plan)
}

/// `f64::ceil` for numbers from 0 to 2^52, which `core` lacks.
fn ceil(number: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range of u64")]
    let whole = number as u64;
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let whole = whole as f64;
    if whole < number { whole + 1.0 } else { whole }
}

/// Writes hints into the slices. Slices that were to stay as they are keep their hints unless a ready endpoint
/// has none, or one for an unknown zone, or a zone gets too many. In the slices to write, every ready endpoint
/// is hinted for its own zone, and then zones with too many give some away to zones with too few.
pub(crate) fn assign(slices: &mut FamilySlices<'_>, shares: Option<&CpuShares>) -> Result<(), HintRefusal> {
    let ready = slices.endpoints().filter(|endpoint| is_ready(endpoint)).count();
    let plan = plan_zones(ready, shares)?;
    let mut given: BTreeMap<SmolStr, usize> = BTreeMap::new();
    // The reference puts slices whose hints cannot stay behind those that it was to write anyway.
    let mut written: Vec<&mut EndpointSlice> = slices.creates.iter_mut().collect();
    let mut reopened = Vec::new();
    for work in &mut slices.works {
        let was_unchanged = work.is_unchanged();
        if was_unchanged && let Some(kept) = kept_hints(work.old, &given, &plan) {
            for (zone, count) in kept {
                *given.entry(zone.clone()).or_default() += count;
            }
        } else if let Some(slice) = work.update() {
            if was_unchanged { &mut reopened } else { &mut written }.push(slice);
        }
    }
    written.append(&mut reopened);
    let mut endpoints: Vec<&mut Endpoint> = written
        .into_iter()
        .flat_map(|slice| &mut slice.endpoints)
        .filter(|endpoint| is_ready(endpoint))
        .collect();
    for endpoint in &mut endpoints {
        let zone = zone_of(endpoint).ok_or(HintRefusal::EndpointWithoutZone)?.clone();
        *given.entry(zone.clone()).or_default() += 1;
        endpoint.hints = Some(hint_for(zone));
    }
    let (mut donors, mut receivers) = transfers(&plan, &given);
    for endpoint in endpoints {
        let Some((receiver, _)) = receivers.first_key_value() else { break };
        let receiver = receiver.clone();
        if zone_of(endpoint).is_some_and(|zone| take_one(&mut donors, zone)) {
            take_one(&mut receivers, &receiver);
            endpoint.hints = Some(hint_for(receiver));
        }
    }
    Ok(())
}

/// The hints of a slice by zone, if it can keep them.
fn kept_hints<'a>(
    slice: &'a EndpointSlice,
    given: &BTreeMap<SmolStr, usize>,
    plan: &BTreeMap<SmolStr, ZoneShare>,
) -> Option<BTreeMap<&'a SmolStr, usize>> {
    let mut kept = BTreeMap::new();
    for endpoint in slice.endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
        let zones = endpoint.hints.as_ref().map(|hints| hints.for_zones.as_slice())?;
        if zones.is_empty() || zones.iter().any(|zone| !plan.contains_key(&zone.name)) {
            return None;
        }
        for zone in zones {
            *kept.entry(&zone.name).or_default() += 1;
        }
    }
    let fits = |(zone, count): (&&SmolStr, &usize)| {
        let already = given.get(*zone).copied().unwrap_or_default();
        plan.get(*zone).is_some_and(|share| already + count <= share.maximum)
    };
    kept.iter().all(fits).then_some(kept)
}

/// How many endpoints each zone gives away, and how many each receives.
///
/// One at a time goes from the zone with the most above its share to the one with the most below, until either
/// has less than half an endpoint to give or take, or both less than one. Of equal zones the first by name
/// counts, where the reference leaves it to map order.
fn transfers(
    plan: &BTreeMap<SmolStr, ZoneShare>,
    given: &BTreeMap<SmolStr, usize>,
) -> (BTreeMap<SmolStr, usize>, BTreeMap<SmolStr, usize>) {
    let mut surplus: Vec<(&SmolStr, f64)> = Vec::new();
    let mut deficit: Vec<(&SmolStr, f64)> = Vec::new();
    for (zone, share) in plan {
        #[expect(clippy::cast_precision_loss, reason = "numbers of endpoints are far below 2^52")]
        let has = given.get(zone).copied().unwrap_or_default() as f64;
        if has > share.desired {
            surplus.push((zone, has - share.desired));
        } else if has < share.desired {
            deficit.push((zone, share.desired - has));
        }
    }
    let (mut donors, mut receivers) = (BTreeMap::new(), BTreeMap::new());
    while let (Some((donor, to_give)), Some((receiver, to_take))) = (most(&mut surplus), most(&mut deficit)) {
        if (*to_give < 1.0 && *to_take < 1.0) || *to_give < 0.5 || *to_take < 0.5 {
            break;
        }
        *to_give -= 1.0;
        *to_take -= 1.0;
        *donors.entry(donor.clone()).or_default() += 1;
        *receivers.entry(receiver.clone()).or_default() += 1;
    }
    (donors, receivers)
}

/// The zone with the most, and how much; the first of equals, and none if none has any.
fn most<'a, 'z>(zones: &'a mut [(&'z SmolStr, f64)]) -> Option<(&'z SmolStr, &'a mut f64)> {
    let mut best: Option<&mut (&SmolStr, f64)> = None;
    for zone in zones {
        if zone.1 > best.as_ref().map_or(0.0, |best| best.1) {
            best = Some(zone);
        }
    }
    best.map(|(zone, amount)| (*zone, amount))
}

fn take_one(counts: &mut BTreeMap<SmolStr, usize>, zone: &SmolStr) -> bool {
    match counts.get_mut(zone) {
        None => false,
        Some(1) => counts.remove(zone).is_some(),
        Some(count) => {
            *count -= 1;
            true
        }
    }
}

fn zone_of(endpoint: &Endpoint) -> Option<&SmolStr> {
    endpoint.zone.as_ref().filter(|zone| !zone.is_empty())
}

fn hint_for(zone: SmolStr) -> EndpointHints {
    EndpointHints { for_zones: alloc::vec![ForZone { name: zone }], for_nodes: Vec::new() }
}
