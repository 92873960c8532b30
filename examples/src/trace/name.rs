//! How a Pod's resolver finds an address for a name.

use std::net::IpAddr;

use anyhow::{Result, bail};
use serde::Serialize;
use svc_dns::{
    Data, Name, NoUpstream, Question, Resolver, SearchEnd, SearchStep, Type, Verdict as DnsVerdict, Zones,
};
use svc_endpoints::view::PortKey;
use svc_model::{IpFamily, Kind, ObjectMeta, ObjectRef, Pod, PodIp, Protocol};
use svc_netpol::{Engine, Flow, Traffic};

use super::{Outcome, PolicyStep, Source, Stage, is_external_name};
use crate::world::{CLUSTER_DOMAIN, World};

/// The way from a name to addresses.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NameStep {
    /// The Pod's resolv.conf.
    pub resolv_conf: String,
    /// Whether the Pod may ask cluster DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStep>,
    /// True if cluster DNS isn't in the manifests, and a Pod labelled `k8s-app: kube-dns` in `kube-system` was
    /// assumed.
    pub dns_assumed: bool,
    /// The queries in order, up to the first with an address.
    pub queries: Vec<Query>,
    /// The records of the answer.
    pub records: Vec<String>,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// The Service that the name is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ObjectRef>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What would help.
    #[serde(skip)]
    advice: Option<String>,
    /// The name outside of the cluster that this one stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
}

/// A name that was asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// The name.
    pub name: String,
    /// What the query for A records gave.
    pub a: String,
    /// What the query for AAAA records gave.
    pub aaaa: String,
}

impl NameStep {
    pub(super) fn resolve(world: &World, engine: &Engine, source: &Source, name: &str) -> Result<Self> {
        let Some(pod) =
            source.pod.as_ref().and_then(|pod| world.cluster.pods().get(&pod.namespace, &pod.name))
        else {
            bail!(
                "{source} is outside of the cluster and doesn't ask its DNS: give --to an address, \
                 such as a node's with a node port"
            );
        };
        let zones = world.zones();
        let dns = world.kubelet().pod_dns(pod);
        let (policy, dns_assumed) = may_ask(world, engine, source);
        let search = zones.search(name, &dns.conf, Resolver::Glibc, &NoUpstream);
        let queries = search.steps.iter().map(|step| Query {
            name: step.candidate.name.to_string(),
            a: step.a.to_string(),
            aaaa: step.aaaa.to_string(),
        });
        let mut step = Self {
            resolv_conf: dns.conf.to_string(),
            policy,
            dns_assumed,
            queries: queries.collect(),
            records: Vec::new(),
            addresses: Vec::new(),
            service: None,
            problem: None,
            advice: None,
            outside: None,
        };
        if let Some((index, alias)) = alias(world, &search.steps) {
            step.queries.truncate(index + 1);
            if let Some(query) = step.queries.last_mut() {
                (query.a, query.aaaa) = ("CNAME".into(), "CNAME".into());
                step.records.push(format!("{} IN CNAME {alias}", query.name));
            }
            step.outside = Some(alias);
            return Ok(step);
        }
        let found = match search.end {
            SearchEnd::Found(index) => search.steps.get(index),
            SearchEnd::NotFound | SearchEnd::Stopped => None,
        };
        // A name of one label that no search domain completes is no name of the world outside.
        let found = found.filter(|found| found.a != DnsVerdict::Elsewhere || name.contains('.'));
        match found {
            Some(found) => step.take_answer(world, &zones, &found.candidate.name),
            None => {
                let (problem, advice) = absence(world, &zones, pod, name);
                (step.problem, step.advice) = (Some(problem), advice);
            }
        }
        Ok(step)
    }

    fn take_answer(&mut self, world: &World, zones: &Zones, name: &Name) {
        for qtype in [Type::A, Type::AAAA] {
            let Some(answer) = zones.answer(&Question::new(name, qtype), &NoUpstream) else {
                self.outside = Some(name.to_string());
                return;
            };
            for record in answer.answer {
                match &record.data {
                    Data::A(ip) => self.addresses.push((*ip).into()),
                    Data::Aaaa(ip) => self.addresses.push((*ip).into()),
                    Data::Cname(target) if self.outside.is_none() => self.outside = Some(target.to_string()),
                    _ => {}
                }
                let text = record.to_string();
                if !self.records.contains(&text) {
                    self.records.push(text);
                }
            }
        }
        if !self.addresses.is_empty() {
            self.outside = None;
        }
        self.service = service_of(world, name);
    }

    /// The addresses of families that the source has.
    pub(super) fn usable(&self, source: &Source) -> Vec<IpAddr> {
        let mut usable: Vec<_> = self
            .addresses
            .iter()
            .copied()
            .filter(|ip| source.address_of(IpFamily::of(*ip)).is_some())
            .collect();
        // One family is tried first; addresses of the other are for when that fails.
        if let Some(first) = usable.first().map(|ip| IpFamily::of(*ip)) {
            usable.retain(|ip| IpFamily::of(*ip) == first);
        }
        usable
    }

    /// The name outside of the cluster, if the answer leads there.
    pub(super) fn outside(&self) -> Option<String> {
        self.outside.clone()
    }

    /// The outcome, if the connection ends here.
    pub(super) fn failure(&self, name: &str) -> Option<Outcome> {
        if let Some(policy) = &self.policy
            && policy.verdict == "deny"
        {
            return Some(Outcome::failed(
                Stage::Name,
                "the policies keep the Pod from asking cluster DNS",
                "allow egress to port 53, UDP and TCP, of the Pods labelled k8s-app=kube-dns in kube-system"
                    .to_owned(),
            ));
        }
        let problem = self.problem.as_ref()?;
        let summary = format!("cluster DNS knows no address for {name}: {problem}");
        Some(Outcome::failed(Stage::Name, summary, self.advice.clone()))
    }
}

/// The first candidate that is the name of an ExternalName Service, and what that stands for.
fn alias(world: &World, steps: &[SearchStep]) -> Option<(usize, String)> {
    steps.iter().enumerate().find_map(|(index, step)| {
        let key = service_of(world, &step.candidate.name)?;
        let service = world.cluster.services().get(&key.namespace, &key.name)?;
        is_external_name(service).then(|| (index, service.spec.external_name.to_string()))
    })
}

/// What the policies say of the Pod's queries, and whether cluster DNS had to be assumed.
fn may_ask(world: &World, engine: &Engine, source: &Source) -> (Option<PolicyStep>, bool) {
    let (_, service) = world.dns_address();
    let ask = |engine: &Engine, to: IpAddr, port: u16| {
        let decision = engine.decide(&Flow::new(source.endpoint(), to, Traffic::Udp(port)));
        PolicyStep::new(&decision)
    };
    let Some(service) = service else {
        let mut engine = engine.clone();
        let mut pod = Pod { metadata: ObjectMeta::new("kube-system", "coredns"), ..Pod::default() };
        pod.metadata.labels.insert("k8s-app", "kube-dns");
        // An address of the documentation range (RFC 5737), which no block of a policy means.
        let ip = IpAddr::from([203, 0, 113, 53]);
        pod.status.pod_ips.push(PodIp { ip: ip.into() });
        let mut namespace = svc_model::Namespace::default();
        namespace.metadata.name = "kube-system".into();
        namespace.metadata.labels = world.cluster.namespace_labels("kube-system");
        let _ = engine.apply(&namespace.into());
        let _ = engine.apply_pod(&pod);
        return (Some(ask(&engine, ip, 53)), true);
    };
    let key = |family| PortKey {
        service: service.object_ref(),
        family,
        port: service
            .spec
            .ports
            .iter()
            .find(|p| p.protocol() == Some(Protocol::Udp))
            .map(|p| p.name.clone())
            .unwrap_or_default(),
        protocol: Protocol::Udp,
    };
    let endpoint = [IpFamily::Ipv4, IpFamily::Ipv6]
        .into_iter()
        .find_map(|family| world.endpoints.port(&key(family))?.iter().next().cloned());
    (endpoint.map(|endpoint| ask(engine, endpoint.ip(), endpoint.port())), false)
}

/// Why no candidate of a name exists, and what would help.
fn absence(world: &World, zones: &Zones, pod: &Pod, name: &str) -> (String, Option<String>) {
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let namespace = match rest.split('.').next().filter(|part| !part.is_empty()) {
        Some(namespace) => namespace,
        None => pod.metadata.namespace.as_str(),
    };
    if let Some(service) = world.cluster.services().get(namespace, first)
        && let Some(cause) = world.why_no_endpoints(service)
    {
        return (
            format!("Service {namespace}/{first} is headless without endpoints: {cause}"),
            cause.advice().map(ToOwned::to_owned),
        );
    }
    let full = format!("{first}.{namespace}.svc.{CLUSTER_DOMAIN}.");
    let explained = full.parse::<Name>().ok().and_then(|full| {
        zones.explain(&Question::new(&full, Type::A), &NoUpstream).absence.map(|absence| absence.to_string())
    });
    let problem = explained.unwrap_or_else(|| format!("there is no Service {namespace}/{first}"));
    let elsewhere = world.cluster.services().iter().find(|service| service.metadata.name == first);
    let advice = elsewhere.map(|other| {
        let other = &other.metadata.namespace;
        format!("there is a Service {first} in namespace {other}: say {first}.{other}")
    });
    (problem, advice)
}

/// The Service that a name of the cluster's zone is of.
fn service_of(world: &World, name: &Name) -> Option<ObjectRef> {
    let labels: Vec<_> = name.labels().filter_map(|label| std::str::from_utf8(label).ok()).collect();
    let svc = labels.iter().position(|label| label.eq_ignore_ascii_case("svc"))?;
    let (service, namespace) = (labels.get(svc.checked_sub(2)?)?, labels.get(svc.checked_sub(1)?)?);
    let key = ObjectRef::new(namespace.to_ascii_lowercase(), service.to_ascii_lowercase());
    world.cluster.services().get(&key.namespace, &key.name).map(|service| service.object_ref())
}
