//! A cluster made from manifests: what the controllers would have made of them, and the views that
//! the libraries give of it.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use svc_dns::{Kubelet, Options, OptionsError, Zones};
use svc_endpoints::legacy::Mirror;
use svc_endpoints::slices::{Config, History, Nodes, Reconciler, selector_of};
use svc_endpoints::view::{SliceCache, Viewpoint};
use svc_endpoints::why::{Cause, Situation, diagnose};
use svc_model::workload::{self, PlanOptions, Shortfall, workload_of};
use svc_model::{
    Cluster, EndpointSlice, Endpoints, IpFamily, Kind, KubeProxyConfiguration, Node, Object, ObjectRef, Pod,
    Sent, Service,
};
use svc_netpol::Engine;
use svc_rules::{LocalDetector, NodeFacts, NodeRules, ProxyConfig, ProxyMode, Scheme};

use crate::input::Input;

/// The domain of cluster DNS.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Everything that a command may ask.
#[derive(Debug)]
pub struct World {
    /// All objects, those planned and derived among them.
    pub cluster: Cluster,
    /// The endpoints of every Service port, merged from the EndpointSlices.
    pub endpoints: SliceCache,
    /// What was assumed because the manifests don't say.
    pub notes: Vec<String>,
}

impl World {
    /// Makes a cluster from what was read: namespaces that objects live in, Pods that workloads would
    /// run, addresses and ports that Services would get, and the EndpointSlices of it all.
    ///
    /// # Errors
    ///
    /// If the API server would refuse a Service; the message names it and the field.
    pub fn new(input: Input) -> Result<Self> {
        let mut cluster = Cluster::default();
        for object in input.objects {
            let _ = cluster.apply(object);
        }
        let plan = workload::plan(&cluster, &PlanOptions::default());
        let mut notes = Vec::new();
        if cluster.nodes().is_empty() {
            notes.push("nodes and their Pod networks, as the manifests have none".to_owned());
        }
        for (key, shortfall) in &plan.shortfalls {
            match shortfall {
                Shortfall::Service(error) => bail!("the API server would refuse {key}: {error}"),
                shortfall => notes.push(format!("{key}: {shortfall}")),
            }
        }
        for object in plan.objects {
            let _ = cluster.apply(object);
        }
        let slices = derive_slices(&cluster);
        for slice in slices {
            let _ = cluster.apply(slice);
        }
        let mut endpoints = SliceCache::new();
        for slice in cluster.endpoint_slices().iter() {
            let _ = endpoints.apply(slice);
        }
        Ok(Self { cluster, endpoints, notes })
    }

    /// Every object that policies look at.
    pub fn policies(&self) -> Engine {
        self.policies_with(svc_netpol::Options::default())
    }

    /// Every object that policies look at, read as the options say.
    pub fn policies_with(&self, options: svc_netpol::Options) -> Engine {
        let mut engine = Engine::new(options);
        let _ = engine.apply_all(&self.objects());
        engine
    }

    /// The zones of cluster DNS.
    pub fn zones(&self) -> Zones {
        self.zones_with(Options::default()).expect("the default options agree")
    }

    /// The zones of cluster DNS, served as the options say.
    ///
    /// # Errors
    ///
    /// If the options contradict each other.
    pub fn zones_with(&self, options: Options) -> Result<Zones, OptionsError> {
        let mut zones = Zones::new(options)?;
        zones.replace_all(&self.objects());
        Ok(zones)
    }

    /// What a kubelet of this cluster tells its Pods about DNS.
    pub fn kubelet(&self) -> Kubelet {
        Kubelet::new(vec![self.dns_address().0], CLUSTER_DOMAIN)
    }

    /// The address of cluster DNS, and the Service that has it, if the manifests have one.
    pub fn dns_address(&self) -> (IpAddr, Option<Arc<Service>>) {
        let service = ["kube-dns", "coredns"]
            .into_iter()
            .find_map(|name| self.cluster.services().get("kube-system", name))
            .filter(|service| service.spec.cluster_addresses().next().is_some());
        let address = service.and_then(|service| service.spec.cluster_addresses().next());
        (address.unwrap_or(IpAddr::from([10, 96, 0, 10])), service.cloned())
    }

    /// A Pod by `NAMESPACE/NAME` or `NAME`, or any Pod of a workload of that name: the first by name.
    ///
    /// # Errors
    ///
    /// If there is none; the message names those nearest.
    pub fn pod(&self, text: &str, default_namespace: &str) -> Result<Arc<Pod>> {
        let (namespace, name) = text.split_once('/').unwrap_or((default_namespace, text));
        if let Some(pod) = self.cluster.pods().get(namespace, name) {
            return Ok(Arc::clone(pod));
        }
        let of_workload = |pod: &&Arc<Pod>| workload_of(pod).is_some_and(|workload| workload.name == name);
        if let Some(pod) = self.cluster.pods().in_namespace(namespace).find(of_workload) {
            return Ok(Arc::clone(pod));
        }
        let elsewhere: Vec<_> = self
            .cluster
            .pods()
            .iter()
            .filter(|pod| pod.metadata.name == name || of_workload(pod))
            .map(|pod| pod.metadata.namespace.to_string())
            .collect();
        if let Some(other) = elsewhere.first() {
            bail!(
                "no Pod or workload `{name}` in namespace {namespace}; there is one in {other}: say {other}/{name}"
            );
        }
        let names: Vec<_> =
            self.cluster.pods().in_namespace(namespace).map(|pod| pod.metadata.name.as_str()).collect();
        match names.len() {
            0 => bail!("no Pod or workload `{name}`: namespace {namespace} has no Pods"),
            n => bail!(
                "no Pod or workload `{name}` in namespace {namespace}; it has {}{}",
                names.into_iter().take(8).collect::<Vec<_>>().join(", "),
                if n > 8 { ", ..." } else { "" }
            ),
        }
    }

    /// A node by name, or the first one.
    ///
    /// # Errors
    ///
    /// If there is no such node.
    pub fn node(&self, name: Option<&str>) -> Result<Arc<Node>> {
        let nodes = self.cluster.nodes();
        match name {
            Some(name) => nodes.get("", name).cloned().with_context(|| {
                let names: Vec<_> = nodes.iter().map(|node| node.metadata.name.as_str()).collect();
                format!("no node `{name}`; there are {}", names.join(", "))
            }),
            None => nodes.iter().next().cloned().context("there is no node"),
        }
    }

    /// The place that a node looks at endpoints from.
    pub fn viewpoint(&self, node: &str) -> Viewpoint {
        self.cluster
            .nodes()
            .get("", node)
            .map_or_else(|| Viewpoint::node(node), |node| Viewpoint::from(&**node))
    }

    /// The families in which there are Pods.
    pub fn families(&self) -> Vec<IpFamily> {
        let mut families: Vec<_> = self
            .cluster
            .pods()
            .iter()
            .flat_map(|pod| pod.addresses().map(IpFamily::of).collect::<Vec<_>>())
            .collect();
        families.sort();
        families.dedup();
        if families.is_empty() { vec![IpFamily::Ipv4] } else { families }
    }

    /// Why a Service that ought to have endpoints has none that takes traffic; `None` if one does, or if none is
    /// meant to (ExternalName).
    pub fn why_no_endpoints(&self, service: &Service) -> Option<Cause> {
        let slices = self.cluster.slices_of(&service.object_ref());
        let takes_traffic = |endpoint: &svc_model::Endpoint| {
            endpoint.conditions.is_ready()
                || (endpoint.conditions.is_serving() && endpoint.conditions.is_terminating())
        };
        if slices.iter().flat_map(|slice| &slice.endpoints).any(takes_traffic) {
            return None;
        }
        let nodes: Nodes = self.cluster.nodes().iter().map(|node| &**node).collect();
        let pods: Vec<&Pod> = self.cluster.pods().iter().map(|pod| &**pod).collect();
        let slices: Vec<&EndpointSlice> = slices.iter().map(|slice| &***slice).collect();
        let endpoints: Vec<&Endpoints> = self.cluster.endpoints().iter().map(|object| &**object).collect();
        let situation =
            Situation { service, pods: &pods, nodes: &nodes, slices: &slices, endpoints: &endpoints };
        diagnose(&situation, &Config::default())
            .causes
            .into_iter()
            .find(|cause| *cause != Cause::ExternalName)
    }

    /// kube-proxy's configuration, if the manifests have one.
    fn proxy_file(&self) -> KubeProxyConfiguration {
        self.cluster
            .kube_proxy_configurations()
            .iter()
            .next()
            .map(|config| (**config).clone())
            .unwrap_or_default()
    }

    /// The mode that kube-proxy is configured for.
    ///
    /// # Errors
    ///
    /// If there is no such mode.
    pub fn proxy_mode(&self) -> Result<ProxyMode> {
        Ok(ProxyMode::of(&self.proxy_file())?)
    }

    /// What a node's proxy goes by in a mode. Where the configuration doesn't say how local Pods are told, they are told by
    /// the network of all Pods.
    ///
    /// # Errors
    ///
    /// If the configuration has values that can't be used.
    pub fn proxy_config(&self, node: &Node, family: IpFamily, mode: ProxyMode) -> Result<ProxyConfig> {
        let mut file = self.proxy_file();
        file.mode = mode.as_str().into();
        let mut config = ProxyConfig::settle(&file, &NodeFacts::from(node), family)?;
        if file.detect_local_mode.is_empty()
            && config.local_detector == LocalDetector::None
            && let Some(network) = self.pod_network(family)
        {
            config.local_detector = LocalDetector::Cidr(network);
        }
        Ok(config)
    }

    /// The rules of a node, as its kernel has them after a full sync.
    pub fn rules(&self, scheme: Scheme, config: &ProxyConfig) -> NodeRules {
        let services = self.cluster.services().iter().map(|service| &**service);
        NodeRules::new(scheme, config, services, &self.endpoints)
    }

    /// The network that the Pods of a family lie in: the smallest that has all of the nodes' ranges.
    pub fn pod_network(&self, family: IpFamily) -> Option<IpNet> {
        let ranges = self.cluster.nodes().iter().flat_map(|node| {
            let spec = &node.spec;
            spec.pod_cidrs.iter().chain([&spec.pod_cidr]).filter_map(Sent::get).collect::<Vec<_>>()
        });
        let mut ranges = ranges.filter(|range| IpFamily::of(range.addr()) == family);
        let first = ranges.next()?;
        ranges.try_fold(first, |mut network, range| {
            while !network.contains(&range) {
                network = network.supernet()?;
            }
            Some(network)
        })
    }

    /// All objects that DNS and policies look at.
    pub fn objects(&self) -> Vec<Object> {
        fn all<T: Kind + Clone + Into<Object>>(objects: &svc_model::cluster::Objects<T>) -> Vec<Object> {
            objects.iter().map(|object| T::clone(object).into()).collect()
        }
        let c = &self.cluster;
        [
            all(c.namespaces()),
            all(c.nodes()),
            all(c.services()),
            all(c.pods()),
            all(c.endpoint_slices()),
            all(c.network_policies()),
            all(c.cluster_network_policies()),
            all(c.admin_network_policies()),
            all(c.baseline_admin_network_policies()),
            all(c.service_imports()),
        ]
        .concat()
    }
}

/// The EndpointSlices that the controllers would add to those that are there: of Services with a
/// selector from their Pods, of Services without one from hand-written Endpoints.
fn derive_slices(cluster: &Cluster) -> Vec<EndpointSlice> {
    let nodes: Nodes = cluster.nodes().iter().map(|node| &**node).collect();
    let reconciler = Reconciler::new(Config::default());
    let mirror = Mirror::default();
    let mut slices = Vec::new();
    for service in cluster.services().iter() {
        let key = service.object_ref();
        let existing: Vec<EndpointSlice> =
            cluster.slices_of(&key).into_iter().map(|slice| EndpointSlice::clone(slice)).collect();
        if selector_of(service).is_err() {
            let endpoints = cluster.endpoints().get(&key.namespace, &key.name);
            let plan = mirror.sync(&key, endpoints.map(|e| &**e), Some(service), &existing);
            slices.extend(named(&key, plan.plan.creates));
        } else if existing.is_empty() {
            let pods = cluster.pods_selected_by(service);
            let pods = pods.into_iter().map(|pod| &**pod);
            let plan = reconciler.reconcile(service, pods, &nodes, &[], None, &mut History::default());
            slices.extend(named(&key, plan.creates));
        }
    }
    slices
}

/// Gives names to slices that the server would name.
fn named(service: &ObjectRef, slices: Vec<EndpointSlice>) -> impl Iterator<Item = EndpointSlice> {
    let service = service.clone();
    slices.into_iter().enumerate().map(move |(i, mut slice)| {
        slice.metadata.name = format!("{}-{}", service.name, i + 1).into();
        slice
    })
}
