//! What the input files of the record hold, and the libraries made ready for it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use svc_dns::{Options, Zones, zones_from_text};
use svc_endpoints::engine::Engine as Slicer;
use svc_endpoints::view::SliceCache;
use svc_endpoints::{Config, Nodes};
use svc_model::{EndpointSlice, IpFamily, Labels, Namespace, NetworkPolicy, Node, Object, Pod, Service};
use svc_netpol::{Engine, Options as PolicyOptions};
use svc_rules::{LocalDetector, ProxyConfig, iptables, ipvs, nftables};

/// Reads one of the files that [`inputs::write`](crate::inputs::write) has written.
///
/// # Errors
///
/// If it can't be read, or holds something else.
pub fn read<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> Result<T, String> {
    let text = std::fs::read(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))
}

/// Services and slices for the rules of a node.
#[derive(Debug, Deserialize)]
pub struct RulesInput {
    /// The Services.
    pub services: Vec<Service>,
    /// Their slices.
    pub slices: Vec<EndpointSlice>,
    /// One of the slices, and the same with one endpoint replaced.
    pub change: [EndpointSlice; 2],
}

/// Makes a proxy of one mode that knows all objects and has synced nothing yet, with its slices.
macro_rules! proxy {
    ($name:ident, $mode:ident) => {
        #[doc = concat!("A proxy in ", stringify!($mode), " mode that knows all objects, and the slices that it reads.")]
        pub fn $name(&self) -> ($mode::Proxy, SliceCache) {
            let mut slices = SliceCache::new();
            let mut proxy = $mode::Proxy::new(proxy_config());
            for slice in &self.slices {
                proxy.touch(&slices.apply(slice));
            }
            for service in &self.services {
                let _ = proxy.apply(service);
            }
            (proxy, slices)
        }
    };
}

impl RulesInput {
    proxy!(iptables, iptables);
    proxy!(nftables, nftables);
    proxy!(ipvs, ipvs);
}

fn proxy_config() -> ProxyConfig {
    let mut config = ProxyConfig::new(IpFamily::Ipv4, "node-7");
    config.local_detector = "10.0.0.0/8".parse().map_or(LocalDetector::None, LocalDetector::Cidr);
    config
}

/// One Service with its Pods.
#[derive(Debug, Deserialize)]
pub struct EndpointsInput {
    /// The Service.
    pub service: Service,
    /// Its Pods.
    pub pods: Vec<Pod>,
    /// The nodes that they run on.
    pub nodes: Vec<Node>,
}

impl EndpointsInput {
    /// The nodes as the reconciler takes them.
    pub fn nodes(&self) -> Nodes {
        self.nodes.iter().collect()
    }

    /// An engine that knows all objects.
    pub fn engine(&self) -> Slicer {
        let mut engine = Slicer::new(Config::default());
        for node in &self.nodes {
            let _ = engine.apply_node(node);
        }
        for pod in &self.pods {
            let _ = engine.apply_pod(pod);
        }
        let _ = engine.apply_service(&self.service);
        engine
    }
}

/// Policies with the Pods that they select, and connections between those.
#[derive(Debug, Deserialize)]
pub struct PoliciesInput {
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
    /// The Pods.
    pub pods: Vec<Pod>,
    /// The policies.
    pub policies: Vec<NetworkPolicy>,
    /// The connections.
    pub cases: Vec<Connection>,
}

/// A TCP connection between two Pods, each as `namespace/name`.
#[derive(Debug, Deserialize)]
pub struct Connection {
    /// Who connects.
    pub from: String,
    /// To whom.
    pub to: String,
    /// To which port.
    pub port: u16,
}

impl PoliciesInput {
    /// Namespaces and Pods.
    pub fn cluster(&self) -> Vec<Object> {
        let namespaces = self.namespaces.iter().cloned().map(Object::from);
        namespaces.chain(self.pods.iter().cloned().map(Object::from)).collect()
    }

    /// The policies.
    pub fn policies(&self) -> Vec<Object> {
        self.policies.iter().cloned().map(Object::from).collect()
    }
}

/// An engine that knows the objects.
pub fn policy_engine<'o>(objects: impl IntoIterator<Item = &'o Object>) -> Engine {
    let mut engine = Engine::new(PolicyOptions::default());
    engine.apply_all(objects);
    engine
}

/// Services for the environment of a Pod.
#[derive(Debug, Deserialize)]
pub struct EnvInput {
    /// The Services.
    pub services: Vec<Service>,
}

/// Selectors as text, and labels to match.
#[derive(Debug, Deserialize)]
pub struct SelectorsInput {
    /// The selectors by their number of requirements.
    pub selectors: BTreeMap<String, String>,
    /// The labels.
    pub labels: Labels,
}

/// A cluster to ask for names.
#[derive(Debug, Deserialize)]
pub struct DnsInput {
    /// Zones and ranges of addresses.
    pub zones: Vec<String>,
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
    /// The Services.
    pub services: Vec<Service>,
    /// Their slices.
    pub slices: Vec<EndpointSlice>,
    /// What is asked.
    pub questions: BTreeMap<String, DnsQuestion>,
}

/// A name and a type.
#[derive(Debug, Deserialize)]
pub struct DnsQuestion {
    /// The name.
    pub qname: String,
    /// The type.
    pub qtype: String,
    /// How often it is asked in one go.
    pub times: u32,
}

impl DnsInput {
    /// All objects.
    pub fn objects(self) -> Vec<Object> {
        let namespaces = self.namespaces.into_iter().map(Object::from);
        let services = self.services.into_iter().map(Object::from);
        namespaces.chain(services).chain(self.slices.into_iter().map(Object::from)).collect()
    }

    /// Empty zones of these names.
    ///
    /// # Errors
    ///
    /// If one is no name of a zone.
    pub fn empty_zones(&self) -> Result<Zones, String> {
        let mut options = Options::default();
        options.zones.clear();
        for zone in &self.zones {
            options.zones.extend(zones_from_text(zone).map_err(|error| error.to_string())?);
        }
        Zones::new(options).map_err(|error| error.to_string())
    }
}
