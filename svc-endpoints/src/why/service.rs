//! Why a Service has no endpoints: the first cause in the order a person would look.

use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;
use svc_model::selector::Explanation;
use svc_model::{EndpointSlice, Endpoints, MANAGED_BY_LABEL, ObjectRef, Pod, Selector, Service};

use super::pods::{Membership, PodReport, Readiness, why_pods};
use crate::legacy::{MAX_ADDRESSES, Mirror, NotMirrored};
use crate::slices::metadata::is_owned_by;
use crate::slices::{Config, Exclusion, NoSelection, Nodes, selector_of};

/// What a diagnosis looks at. Lists may hold more than concerns the Service.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The Service.
    pub service: &'a Service,
    /// Pods of all namespaces, so that those of another one can be pointed at.
    pub pods: &'a [&'a Pod],
    /// The nodes.
    pub nodes: &'a Nodes,
    /// The slices as they are.
    pub slices: &'a [&'a EndpointSlice],
    /// The Endpoints objects as they are.
    pub endpoints: &'a [&'a Endpoints],
}

/// How many Pods are left after each question, in the order in which they are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Funnel {
    /// Pods that the selector matches.
    pub selected: usize,
    /// Of these, those that have not ended for good.
    pub alive: usize,
    /// Of these, those with an IP address.
    pub with_address: usize,
    /// Of these, those with an address of a family of the Service.
    pub of_family: usize,
    /// Of these, those whose node exists.
    pub on_node: usize,
    /// Of these, those of which a port resolves.
    pub with_port: usize,
    /// Of these, those that are not being deleted.
    pub staying: usize,
    /// Of these, those that are ready.
    pub ready: usize,
}

/// A Pod that a selector nearly matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The Pod.
    pub pod: ObjectRef,
    /// How its labels fare, key by key.
    pub explanation: Explanation,
}

/// A cause for a Service having no ready endpoints, in the order of a check list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Its type is ExternalName: it is a DNS alias and never has endpoints.
    ExternalName,
    /// It has no selector, so its endpoints must be written by hand, and there are none. The reason tells why
    /// hand-written Endpoints were not mirrored either.
    NoSelector(Option<NotMirrored>),
    /// Its selector is empty, which selects every Pod of the namespace; there is none.
    EmptySelector,
    /// No Pod in its namespace matches the selector.
    NoPodMatches {
        /// The Pods of the namespace that come nearest, nearest first, three at most.
        nearest: Vec<NearMiss>,
        /// Other namespaces with Pods that match.
        elsewhere: Vec<SmolStr>,
    },
    /// All its Pods have ended for good.
    AllEnded,
    /// None of its Pods has an IP address yet.
    NoAddress,
    /// None of its Pods has an address of the Service's families.
    NoAddressOfFamily,
    /// The nodes of its Pods do not exist.
    NodeMissing(Vec<SmolStr>),
    /// No Pod declares the container port that these Service ports ask for by name.
    PortsUnresolved(Vec<SmolStr>),
    /// All its Pods are being deleted.
    AllTerminating,
    /// None of its Pods is ready. One of them, and why it is not.
    NotReady {
        /// The Pod.
        pod: ObjectRef,
        /// What its condition says.
        readiness: Readiness,
    },
    /// Slices under its name belong to an earlier Service of the same name.
    SlicesOfNamesake(Vec<ObjectRef>),
    /// Slices under its name are managed by somebody else.
    SlicesManagedElsewhere(Vec<(ObjectRef, SmolStr)>),
    /// Its Endpoints object is cut off at 1,000 addresses; slices hold them all.
    EndpointsOverCapacity,
}

/// Why a Service has no ready endpoints, or what else is odd about those that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was found, in the order of the check list. The first is the one to mend first.
    pub causes: Vec<Cause>,
    /// How many Pods are left after each question.
    pub funnel: Funnel,
    /// Every Pod that the selector matches.
    pub pods: Vec<PodReport>,
}

/// Looks for the causes of a Service having no ready endpoints.
///
/// A Service with ready endpoints may have causes as well, of the kind that leaves some reader without them.
#[must_use]
pub fn diagnose(situation: &Situation<'_>, config: &Config) -> Diagnosis {
    let service = situation.service;
    let key = service.metadata.object_ref();
    let selector = match selector_of(service) {
        Ok(selector) => selector,
        Err(reason) => {
            let causes = without_selection(situation, &key, reason);
            return Diagnosis { causes, ..Diagnosis::default() };
        }
    };
    let pods = why_pods(service, situation.pods.iter().copied(), situation.nodes).unwrap_or_default();
    let funnel = Funnel::of(&pods);
    let mut causes = Vec::new();
    if funnel.selected == 0 {
        causes.push(if selector.is_empty() {
            Cause::EmptySelector
        } else {
            no_pod_matches(situation, &Selector::from_labels(selector))
        });
    } else if let Some(cause) = funnel.bottleneck(&pods) {
        causes.push(cause);
    }
    let named: Vec<&EndpointSlice> = situation
        .slices
        .iter()
        .copied()
        .filter(|slice| slice.metadata.namespace == key.namespace && slice.service_name() == Some(&key.name))
        .collect();
    let manager =
        |slice: &EndpointSlice| SmolStr::new(slice.metadata.labels.get(MANAGED_BY_LABEL).unwrap_or_default());
    let namesakes: Vec<ObjectRef> = named
        .iter()
        .filter(|slice| manager(slice) == config.managed_by && !is_owned_by(slice, service))
        .map(|slice| slice.metadata.object_ref())
        .collect();
    if !namesakes.is_empty() {
        causes.push(Cause::SlicesOfNamesake(namesakes));
    }
    let elsewhere: Vec<(ObjectRef, SmolStr)> = named
        .iter()
        .filter(|slice| manager(slice) != config.managed_by)
        .map(|slice| (slice.metadata.object_ref(), manager(slice)))
        .collect();
    if !elsewhere.is_empty() {
        causes.push(Cause::SlicesManagedElsewhere(elsewhere));
    }
    if funnel.of_family > MAX_ADDRESSES {
        causes.push(Cause::EndpointsOverCapacity);
    }
    Diagnosis { causes, funnel, pods }
}

fn without_selection(situation: &Situation<'_>, key: &ObjectRef, reason: NoSelection) -> Vec<Cause> {
    let has_endpoints = |slice: &&EndpointSlice| {
        slice.metadata.namespace == key.namespace
            && slice.service_name() == Some(&key.name)
            && slice.endpoints.iter().any(|endpoint| endpoint.conditions.is_ready())
    };
    match reason {
        NoSelection::ExternalName => alloc::vec![Cause::ExternalName],
        NoSelection::NoSelector if situation.slices.iter().any(has_endpoints) => Vec::new(),
        NoSelection::NoSelector => {
            let endpoints =
                situation.endpoints.iter().copied().find(|endpoints| endpoints.metadata.object_ref() == *key);
            alloc::vec![Cause::NoSelector(Mirror::should_mirror(endpoints, Some(situation.service)).err())]
        }
    }
}

fn no_pod_matches(situation: &Situation<'_>, selector: &Selector) -> Cause {
    let namespace = &situation.service.metadata.namespace;
    let mut nearest: Vec<NearMiss> = situation
        .pods
        .iter()
        .filter(|pod| pod.metadata.namespace == *namespace)
        .map(|pod| NearMiss {
            pod: pod.metadata.object_ref(),
            explanation: selector.explain(&pod.metadata.labels),
        })
        .collect();
    nearest.sort_by(|a, b| a.explanation.cmp_nearness(&b.explanation).then_with(|| a.pod.cmp(&b.pod)));
    nearest.truncate(3);
    let mut elsewhere: Vec<SmolStr> = situation
        .pods
        .iter()
        .filter(|pod| pod.metadata.namespace != *namespace && selector.matches(&pod.metadata.labels))
        .map(|pod| pod.metadata.namespace.clone())
        .collect();
    elsewhere.sort_unstable();
    elsewhere.dedup();
    Cause::NoPodMatches { nearest, elsewhere }
}

impl Funnel {
    fn of(pods: &[PodReport]) -> Self {
        let mut funnel = Self { selected: pods.len(), ..Self::default() };
        for pod in pods {
            let out = |is: fn(&Exclusion) -> bool| {
                pod.families.iter().all(|(_, m)| matches!(m, Membership::Out(reason) if is(reason)))
            };
            let readiness = pod.families.iter().find_map(|(_, membership)| match membership {
                Membership::In(readiness) => Some(readiness),
                Membership::Out(_) => None,
            });
            let passed = [
                !out(|reason| matches!(reason, Exclusion::Ended(_))),
                !out(|reason| matches!(reason, Exclusion::NoAddress)),
                !out(|reason| matches!(reason, Exclusion::NoAddressOf(_))),
                readiness.is_some(),
                pod.has_ports,
                !matches!(readiness, Some(Readiness::Terminating(_))),
                readiness.is_some_and(Readiness::is_ready),
            ];
            let counts = [
                &mut funnel.alive,
                &mut funnel.with_address,
                &mut funnel.of_family,
                &mut funnel.on_node,
                &mut funnel.with_port,
                &mut funnel.staying,
                &mut funnel.ready,
            ];
            for (count, _) in counts.into_iter().zip(passed).take_while(|(_, passed)| *passed) {
                *count += 1;
            }
        }
        funnel
    }

    /// The question that the last Pods fail.
    fn bottleneck(self, pods: &[PodReport]) -> Option<Cause> {
        let sorted = |names: &mut dyn Iterator<Item = SmolStr>| {
            let mut names: Vec<SmolStr> = names.collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let memberships = || pods.iter().flat_map(|pod| pod.families.iter().map(move |(_, m)| (pod, m)));
        if self.alive == 0 {
            return Some(Cause::AllEnded);
        }
        if self.with_address == 0 {
            return Some(Cause::NoAddress);
        }
        if self.of_family == 0 {
            return Some(Cause::NoAddressOfFamily);
        }
        if self.on_node == 0 {
            let mut nodes = memberships().filter_map(|(_, membership)| match membership {
                Membership::Out(Exclusion::NodeMissing(node)) => Some(node.clone()),
                _ => None,
            });
            return Some(Cause::NodeMissing(sorted(&mut nodes)));
        }
        if self.with_port == 0 {
            let mut ports = pods.iter().flat_map(|pod| pod.unresolved_ports.iter().cloned());
            return Some(Cause::PortsUnresolved(sorted(&mut ports)));
        }
        if self.staying == 0 {
            return Some(Cause::AllTerminating);
        }
        if self.ready == 0 {
            return memberships().find_map(|(pod, membership)| match membership {
                Membership::In(readiness @ Readiness::NotReady { .. }) => {
                    Some(Cause::NotReady { pod: pod.pod.clone(), readiness: readiness.clone() })
                }
                _ => None,
            });
        }
        None
    }
}

impl Cause {
    /// What would help, where that is not plain from the cause.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::ExternalName | Self::EmptySelector | Self::AllTerminating | Self::EndpointsOverCapacity => {
                return None;
            }
            Self::NoSelector(Some(NotMirrored::SkipMirror)) => {
                "write EndpointSlices for it, or take the label off its Endpoints"
            }
            Self::NoSelector(_) => "give it a selector, or write EndpointSlices for it",
            Self::NoPodMatches { elsewhere, .. } if !elsewhere.is_empty() => {
                "a Service selects Pods of its own namespace only"
            }
            Self::NoPodMatches { .. } => "make the selector and the labels of the Pod template agree",
            Self::AllEnded => "Pods that are to serve must not end: see what their containers say",
            Self::NoAddress => "see why the Pods do not start: their events say it",
            Self::NoAddressOfFamily => "name a family in ipFamilies that the Pods have addresses of",
            Self::NodeMissing(_) => "delete the Pods, so that they are made anew on nodes that exist",
            Self::PortsUnresolved(_) => "name a container port so, or give targetPort as a number",
            Self::NotReady { .. } => {
                "see the readiness probe; publishNotReadyAddresses publishes Pods all the same"
            }
            Self::SlicesOfNamesake(_) => "they go once the garbage collector has been round",
            Self::SlicesManagedElsewhere(_) => "readers merge them with the controller's own",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, names: &mut dyn Iterator<Item = &dyn fmt::Display>| {
            names.enumerate().try_for_each(|(index, name)| {
                let comma = if index > 0 { ", " } else { "" };
                write!(f, "{comma}{name}")
            })
        };
        match self {
            Self::ExternalName => f.write_str("type ExternalName: an alias in DNS, without endpoints"),
            Self::NoSelector(None) => f.write_str("no selector, and its Endpoints hold no ready address"),
            Self::NoSelector(Some(reason)) => write!(f, "no selector, and {reason}"),
            Self::EmptySelector => f.write_str("the empty selector selects every Pod, and there is none"),
            Self::NoPodMatches { nearest, elsewhere } => {
                f.write_str("no Pod matches the selector")?;
                if let Some(miss) = nearest.first() {
                    write!(f, "; nearest is {}: {}", miss.pod.name, miss.explanation)?;
                }
                if !elsewhere.is_empty() {
                    f.write_str("; Pods match in namespace ")?;
                    list(f, &mut elsewhere.iter().map(|name| name as &dyn fmt::Display))?;
                }
                Ok(())
            }
            Self::AllEnded => f.write_str("all its Pods have ended"),
            Self::NoAddress => f.write_str("none of its Pods has an IP address yet"),
            Self::NoAddressOfFamily => f.write_str("none of its Pods has an address of the Service's family"),
            Self::NodeMissing(nodes) => {
                f.write_str("the nodes of its Pods do not exist: ")?;
                list(f, &mut nodes.iter().map(|name| name as &dyn fmt::Display))
            }
            Self::PortsUnresolved(ports) => {
                f.write_str("no Pod declares the named container port that it asks for, at port ")?;
                list(f, &mut ports.iter().map(|name| name as &dyn fmt::Display))
            }
            Self::AllTerminating => f.write_str("all its Pods are being deleted"),
            Self::NotReady { pod, readiness } => write!(f, "no Pod is ready; {}: {readiness}", pod.name),
            Self::SlicesOfNamesake(slices) => {
                f.write_str("slices belong to an earlier Service of this name: ")?;
                list(f, &mut slices.iter().map(|slice| &slice.name as &dyn fmt::Display))
            }
            Self::SlicesManagedElsewhere(slices) => {
                f.write_str("slices are managed by somebody else: ")?;
                list(f, &mut slices.iter().map(|(slice, _)| &slice.name as &dyn fmt::Display))
            }
            Self::EndpointsOverCapacity => {
                write!(f, "its Endpoints object is cut off at {MAX_ADDRESSES} addresses; slices hold all")
            }
        }
    }
}
