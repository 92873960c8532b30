//! One connection, traced: name, Service, endpoints, rules, policy, Pod.

mod name;
mod party;
mod rules;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use svc_endpoints::view::{PortKey, Topology};
use svc_model::cluster::AddressOwner;
use svc_model::{IpFamily, Kind, ObjectRef, Pod, Protocol, Service, ServicePort, ServiceType};
use svc_netpol::{Decision, Endpoint, Engine, Flow, Traffic, Verdict};
use svc_rules::Scheme;

pub use self::name::{NameStep, Query};
pub use self::party::{Destination, Source};
pub use self::rules::{RuleHit, RulesStep};
use crate::world::World;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `NAMESPACE/POD`, `POD`, a workload, or an address outside.
    pub from: &'a str,
    /// `NAME[:PORT]` or `IP[:PORT]`.
    pub to: &'a str,
    /// Namespace of a `from` that doesn't say.
    pub namespace: &'a str,
    /// Transport protocol.
    pub protocol: Protocol,
    /// How the rules that are walked are written; as in the mode of the configuration if not given.
    pub mode: Option<Scheme>,
    /// Node that traffic from outside enters at; the first one if not given.
    pub node: Option<&'a str>,
}

/// The whole way of a connection, as far as it gets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Who connects.
    pub from: Source,
    /// What was asked for.
    pub to: String,
    /// How the name is resolved, if it is a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NameStep>,
    /// What stands at the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Where the packet may end up.
    pub candidates: Vec<Candidate>,
    /// The rules that it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesStep>,
    /// How it ends.
    pub outcome: Outcome,
}

/// What stands at the address that is connected to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// What has the address.
    pub kind: TargetKind,
    /// The Service or Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// The Service port, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// How long a client stays at one endpoint, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<i32>,
    /// How far traffic is kept, where hints decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology: Option<String>,
}

/// Kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetKind {
    /// Cluster address of a Service.
    ClusterIp,
    /// External address of a Service.
    ExternalIp,
    /// Load balancer address of a Service.
    LoadBalancerIp,
    /// A node's address, at a node port of a Service.
    NodePort,
    /// Pods named by a headless Service.
    HeadlessService,
    /// A node.
    Node,
    /// A Pod.
    Pod,
    /// Outside of the cluster.
    Outside,
}

/// A place where the packet may end up.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Address and port.
    pub address: SocketAddr,
    /// Share of the connections, 0 to 1.
    pub share: f64,
    /// The Pod there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Source address that the destination sees, where it is rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masqueraded_as: Option<IpAddr>,
    /// What the policies say.
    pub policy: PolicyStep,
    /// False if no container of the Pod declares the port; Kubernetes doesn't ask for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declares_port: Option<bool>,
}

/// The verdict of the policies on one connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStep {
    /// `allow`, `deny` or `unknown`.
    pub verdict: String,
    /// The source's side and what decided it.
    pub egress: String,
    /// The destination's side and what decided it.
    pub ingress: String,
}

impl PolicyStep {
    fn new(decision: &Decision) -> Self {
        Self {
            verdict: decision.verdict.to_string(),
            egress: decision.egress.to_string(),
            ingress: decision.ingress.to_string(),
        }
    }

    /// True if both sides allow it.
    pub fn allows(&self) -> bool {
        self.verdict == "allow"
    }
}

/// How a connection ends.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// True if every connection arrives.
    pub delivered: bool,
    /// In words.
    pub summary: String,
    /// The step at which it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Stage>,
    /// What to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Steps of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Asking cluster DNS.
    Name,
    /// Finding the Service port.
    Service,
    /// Finding endpoints.
    Endpoints,
    /// Passing policies.
    Policy,
    /// Passing the node's rules.
    Rules,
}

impl Outcome {
    fn failed(stage: Stage, summary: impl Into<String>, advice: impl Into<Option<String>>) -> Self {
        Self { delivered: false, summary: summary.into(), failed_at: Some(stage), advice: advice.into() }
    }

    fn delivered(summary: impl Into<String>) -> Self {
        Self { delivered: true, summary: summary.into(), failed_at: None, advice: None }
    }
}

impl Trace {
    /// Traces a connection.
    ///
    /// # Errors
    ///
    /// If the request makes no sense: no such Pod, no such port syntax.
    pub fn run(world: &World, request: &Request<'_>) -> Result<Self> {
        let source = Source::find(world, request)?;
        let destination = Destination::parse(request.to)?;
        Tracer { world, request, engine: world.policies(), source }.run(&destination)
    }
}

struct Tracer<'a> {
    world: &'a World,
    request: &'a Request<'a>,
    engine: Engine,
    source: Source,
}

impl Tracer<'_> {
    fn run(self, destination: &Destination) -> Result<Trace> {
        let mut trace = Trace {
            from: self.source.clone(),
            to: self.request.to.to_owned(),
            name: None,
            target: None,
            candidates: Vec::new(),
            rules: None,
            outcome: Outcome::delivered(""),
        };
        trace.outcome = self.fill(destination, &mut trace)?;
        Ok(trace)
    }

    fn fill(&self, destination: &Destination, trace: &mut Trace) -> Result<Outcome> {
        let (addresses, port) = match destination {
            Destination::Address(address, port) => (vec![*address], *port),
            Destination::Name(name, port) => {
                let step = NameStep::resolve(self.world, &self.engine, &self.source, name)?;
                let (addresses, failure) = (step.usable(&self.source), step.failure(name));
                trace.name = Some(step);
                if let Some(outcome) = failure {
                    return Ok(outcome);
                }
                if let Some(outside) = trace.name.as_ref().and_then(NameStep::outside) {
                    return Ok(self.leaves(&outside));
                }
                (addresses, *port)
            }
        };
        let Some(&first) = addresses.first() else {
            return Ok(Outcome::failed(
                Stage::Name,
                "the name has no address of a family that the source has",
                None,
            ));
        };
        let service = trace.name.as_ref().and_then(|step| step.service.clone());
        let (target, service) = match self.target(first, port, service.as_ref())? {
            Ok(found) => found,
            Err(outcome) => return Ok(outcome),
        };
        let port = target.address.port();
        trace.target = Some(target);
        self.walk(&addresses, port, service.as_deref(), trace)
    }

    /// What stands at an address, and the port meant.
    #[expect(clippy::type_complexity, reason = "an outcome is an answer, an error is a refused request")]
    fn target(
        &self,
        ip: IpAddr,
        port: Option<u16>,
        named: Option<&ObjectRef>,
    ) -> Result<Result<(Target, Option<std::sync::Arc<Service>>), Outcome>> {
        let world = self.world;
        let owners = world.cluster.owners_of(ip);
        let service = owners.iter().find_map(|owner| match owner {
            AddressOwner::Service(service, kind) => Some((std::sync::Arc::clone(service), *kind)),
            _ => None,
        });
        let headless = named.and_then(|key| world.cluster.services().get(&key.namespace, &key.name)).cloned();
        let base = |kind, object, port: u16| Target {
            address: SocketAddr::new(ip, port),
            kind,
            object,
            port: None,
            affinity_seconds: None,
            topology: None,
        };
        if let Some((service, kind)) = service {
            let kind = TargetKind::of(kind);
            let found = match self.service_port(&service, port)? {
                Ok(found) => found,
                Err(outcome) => return Ok(Err(outcome)),
            };
            let mut target = base(kind, Some(service.object_ref()), port_number(found)?);
            target.port = Some(port_name(found));
            target.affinity_seconds = service.spec.client_ip_affinity();
            target.topology = self.topology(&service, found, IpFamily::of(ip));
            return Ok(Ok((target, Some(service))));
        }
        if let Some(service) = headless.filter(|service| service.spec.is_headless()) {
            let port = match port {
                Some(port) => port,
                None => match self.service_port(&service, None)? {
                    Ok(found) => self.endpoint_port(&service, found, ip).unwrap_or(port_number(found)?),
                    Err(outcome) => return Ok(Err(outcome)),
                },
            };
            return Ok(Ok((
                base(TargetKind::HeadlessService, Some(service.object_ref()), port),
                Some(service),
            )));
        }
        let needed = || format!("{ip} is no Service's address, so the port is needed: --to {ip}:PORT");
        let port = port.with_context(needed)?;
        for owner in &owners {
            match owner {
                AddressOwner::Node(node) => {
                    let by_node_port = world.cluster.services().iter().find(|service| {
                        service.spec.ports.iter().any(|p| {
                            p.node_port.number().is_some_and(|n| n.get() == port)
                                && p.protocol() == Some(self.request.protocol)
                        })
                    });
                    return Ok(Ok(match by_node_port {
                        Some(service) => {
                            let mut target = base(TargetKind::NodePort, Some(service.object_ref()), port);
                            target.affinity_seconds = service.spec.client_ip_affinity();
                            (target, Some(service.clone()))
                        }
                        None => (base(TargetKind::Node, Some(node.object_ref()), port), None),
                    }));
                }
                AddressOwner::Pod(pod) => {
                    return Ok(Ok((base(TargetKind::Pod, Some(pod.object_ref()), port), None)));
                }
                AddressOwner::Service(..) => {}
            }
        }
        Ok(Ok((base(TargetKind::Outside, None, port), None)))
    }

    /// The port of a Service that is meant.
    fn service_port<'s>(
        &self,
        service: &'s Service,
        port: Option<u16>,
    ) -> Result<Result<&'s ServicePort, Outcome>> {
        let of_protocol = |p: &&ServicePort| p.protocol() == Some(self.request.protocol);
        let ports: Vec<_> = service.spec.ports.iter().filter(of_protocol).collect();
        let list = || {
            let list: Vec<_> =
                service.spec.ports.iter().map(|p| format!("{}/{}", p.port, p.protocol)).collect();
            list.join(", ")
        };
        match port {
            Some(number) => {
                let found = ports.into_iter().find(|p| p.port.number().is_some_and(|n| n.get() == number));
                Ok(found.ok_or_else(|| {
                    Outcome::failed(
                        Stage::Service,
                        format!(
                            "Service {} has no port {number}/{}",
                            service.object_ref(),
                            self.request.protocol
                        ),
                        format!("it has {}: connect to one of these, or add the port to the Service", list()),
                    )
                }))
            }
            None => match ports.as_slice() {
                [only] => Ok(Ok(only)),
                [] => bail!(
                    "Service {} has no {} port; it has {}",
                    service.object_ref(),
                    self.request.protocol,
                    list()
                ),
                _ => bail!("Service {} has several ports, say which: {}", service.object_ref(), list()),
            },
        }
    }

    fn endpoint_port(&self, service: &Service, port: &ServicePort, ip: IpAddr) -> Option<u16> {
        let endpoints = self.world.endpoints.port(&port_key(service, port, IpFamily::of(ip))?)?;
        endpoints.iter().find(|endpoint| endpoint.ip() == ip).map(|endpoint| endpoint.port())
    }

    fn topology(&self, service: &Service, port: &ServicePort, family: IpFamily) -> Option<String> {
        use svc_endpoints::view::{PortPolicy, Scope};
        let endpoints = self.world.endpoints.port(&port_key(service, port, family)?)?;
        let viewpoint = self.world.viewpoint(self.source.node.as_deref()?);
        let Topology { scope, .. } =
            endpoints.select(PortPolicy::of(service, port, family), &viewpoint).topology();
        match scope {
            Scope::SameNode => Some(format!("kept on node {}", viewpoint.node_name())),
            Scope::SameZone => Some(format!("kept in zone {}", viewpoint.zone())),
            Scope::Everywhere => None,
        }
    }

    /// Walks the node's rules towards each address, then asks the policies about every end.
    fn walk(
        &self,
        addresses: &[IpAddr],
        port: u16,
        service: Option<&Service>,
        trace: &mut Trace,
    ) -> Result<Outcome> {
        let walked = rules::walk(self.world, self.request, &self.source, addresses, port)?;
        for end in &walked.ends {
            let candidate = self.candidate(end);
            trace.candidates.push(candidate);
        }
        let refused = walked.refused.clone();
        trace.rules = Some(walked.step);
        if trace.candidates.is_empty() {
            if let Some(service) = service
                && let Some(cause) = self.world.why_no_endpoints(service)
            {
                return Ok(Outcome::failed(
                    Stage::Endpoints,
                    cause.to_string(),
                    cause.advice().map(ToOwned::to_owned),
                ));
            }
            let (summary, advice) = refused.unwrap_or_else(|| ("nothing takes the packet".into(), None));
            return Ok(Outcome::failed(Stage::Rules, summary, advice));
        }
        Ok(self.conclude(trace, refused))
    }

    fn candidate(&self, end: &rules::End) -> Candidate {
        let pod =
            self.world.cluster.owners_of(end.destination.ip()).into_iter().find_map(|owner| match owner {
                AddressOwner::Pod(pod) if !pod.is_terminal() => Some(pod),
                _ => None,
            });
        let traffic = Traffic::new(self.request.protocol, end.destination.port());
        let from = match (end.masqueraded_as, &self.source.pod) {
            // What leaves through the node's address is the node's, for whoever sees it there.
            (Some(ip), None) => Endpoint::Address(ip),
            (_, Some(pod)) => Endpoint::pod(&pod.namespace, &pod.name),
            (None, None) => Endpoint::Address(self.source.address),
        };
        let decision = self.engine.decide(&Flow::new(from, end.destination.ip(), traffic));
        let node = pod.map(|pod| pod.spec.node_name.to_string()).filter(|node| !node.is_empty());
        let zone = node
            .as_deref()
            .and_then(|node| self.world.cluster.nodes().get("", node)?.zone().map(str::to_owned));
        Candidate {
            address: end.destination,
            share: end.share,
            pod: pod.map(|pod| pod.object_ref()),
            node,
            zone,
            masqueraded_as: end.masqueraded_as,
            policy: PolicyStep::new(&decision),
            declares_port: pod.map(|pod| declares(pod, traffic)),
        }
    }

    fn conclude(&self, trace: &Trace, refused: Option<(String, Option<String>)>) -> Outcome {
        let arriving: f64 = trace.candidates.iter().filter(|c| c.policy.allows()).map(|c| c.share).sum();
        let blocked = trace.candidates.iter().find(|c| !c.policy.allows());
        if let Some(blocked) = blocked {
            let who = blocked.pod.as_ref().map_or_else(|| blocked.address.to_string(), ToString::to_string);
            let summary = if arriving > 0.0 {
                format!("{:.0}% arrive; the policies stop the rest, such as those to {who}", arriving * 100.0)
            } else if blocked.policy.verdict == Verdict::Unknown.to_string() {
                format!("whether the policies let it through to {who} can't be told")
            } else {
                format!("the policies stop it on the way to {who}")
            };
            return Outcome::failed(Stage::Policy, summary, self.policy_advice(blocked));
        }
        if let Some((summary, advice)) = refused {
            return Outcome::failed(
                Stage::Rules,
                format!("{:.0}% arrive; {summary}", arriving * 100.0),
                advice,
            );
        }
        let pods: Vec<_> = trace.candidates.iter().filter_map(|c| c.pod.as_ref()).collect();
        Outcome::delivered(match (trace.candidates.as_slice(), pods.as_slice()) {
            ([only], [pod]) => format!("delivered to Pod {pod} at {}", only.address),
            ([only], _) => format!("delivered to {}", only.address),
            (all, _) => format!("delivered to one of {} endpoints", all.len()),
        })
    }

    fn policy_advice(&self, blocked: &Candidate) -> Option<String> {
        let port = format!("{}/{}", blocked.address.port(), self.request.protocol);
        let from = self.source.to_string();
        let to = blocked.pod.as_ref().map_or_else(|| blocked.address.ip().to_string(), ToString::to_string);
        let mut changes = Vec::new();
        if blocked.policy.egress.starts_with("deny") {
            changes.push(format!("let a policy that selects {from} allow egress to {to} on port {port}"));
        }
        if blocked.policy.ingress.starts_with("deny") {
            changes.push(format!("let a policy that selects {to} allow ingress from {from} on port {port}"));
        }
        (!changes.is_empty()).then(|| changes.join(", and "))
    }

    /// A name that stands for one outside of the cluster.
    fn leaves(&self, outside: &str) -> Outcome {
        let everywhere = Flow::new(
            self.source.endpoint(),
            IpAddr::from([192, 0, 2, 1]),
            Traffic::new(self.request.protocol, 443),
        );
        let decision = self.engine.decide(&everywhere);
        let mut outcome = Outcome::delivered(format!("leaves the cluster for {outside}"));
        if decision.egress.verdict != Verdict::Allow {
            outcome.advice = Some(format!(
                "egress of {} is restricted: whether {outside} may be reached depends on its addresses",
                self.source
            ));
        }
        outcome
    }
}

impl TargetKind {
    fn of(kind: svc_model::cluster::ServiceAddress) -> Self {
        use svc_model::cluster::ServiceAddress;
        match kind {
            ServiceAddress::ClusterIp => Self::ClusterIp,
            ServiceAddress::ExternalIp => Self::ExternalIp,
            ServiceAddress::LoadBalancerIp => Self::LoadBalancerIp,
        }
    }
}

fn port_number(port: &ServicePort) -> Result<u16> {
    port.port.number().map(Into::into).with_context(|| format!("{} is no port", port.port))
}

fn port_name(port: &ServicePort) -> String {
    if port.name.is_empty() { port.port.to_string() } else { port.name.to_string() }
}

fn port_key(service: &Service, port: &ServicePort, family: IpFamily) -> Option<PortKey> {
    let protocol = port.protocol()?;
    Some(PortKey { service: service.object_ref(), family, port: port.name.clone(), protocol })
}

fn declares(pod: &Pod, traffic: Traffic) -> bool {
    pod.spec.serving_containers().flat_map(|container| &container.ports).any(|port| {
        port.protocol() == traffic.protocol() && port.container_port.number().map(u16::from) == traffic.port()
    })
}

/// True for a Service that DNS answers with another name.
fn is_external_name(service: &Service) -> bool {
    service.spec.service_type() == ServiceType::ExternalName
}
