//! The two ends of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use svc_model::cluster::AddressOwner;
use svc_model::{IpFamily, Kind, ObjectRef, Pod};
use svc_netpol::Endpoint;

use super::Request;
use crate::world::World;

/// Who connects.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The Pod; `None` for somebody outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    /// Its addresses, primary first.
    pub addresses: Vec<IpAddr>,
    /// The primary one.
    #[serde(skip)]
    pub address: IpAddr,
    /// The Pod's node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// True if the Pod uses the node's network.
    #[serde(skip)]
    pub host_network: bool,
}

impl Source {
    /// Finds the source of a request.
    pub(super) fn find(world: &World, request: &Request<'_>) -> Result<Self> {
        if let Ok(ip) = request.from.parse::<IpAddr>() {
            let pod = world.cluster.owners_of(ip).into_iter().find_map(|owner| match owner {
                AddressOwner::Pod(pod) if !pod.is_terminal() => Some(pod.clone()),
                _ => None,
            });
            return Ok(match pod {
                Some(pod) => Self::of(world, &pod, ip),
                None => Self {
                    pod: None,
                    addresses: vec![ip],
                    address: ip,
                    node: None,
                    zone: None,
                    host_network: false,
                },
            });
        }
        let pod = world.pod(request.from, request.namespace)?;
        let address = pod.addresses().next();
        let address = address.with_context(|| {
            format!("Pod {} has no address yet: it can't connect to anything", pod.object_ref())
        })?;
        Ok(Self::of(world, &pod, address))
    }

    fn of(world: &World, pod: &Pod, address: IpAddr) -> Self {
        let node = Some(pod.spec.node_name.to_string()).filter(|node| !node.is_empty());
        let zone =
            node.as_deref().and_then(|node| world.cluster.nodes().get("", node)?.zone().map(str::to_owned));
        Self {
            pod: Some(pod.object_ref()),
            addresses: pod.addresses().collect(),
            address,
            node,
            zone,
            host_network: pod.spec.host_network,
        }
    }

    /// The address of a family.
    pub(super) fn address_of(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| IpFamily::of(*ip) == family)
    }

    /// The source as policies see it.
    pub(super) fn endpoint(&self) -> Endpoint<'_> {
        match &self.pod {
            Some(pod) => Endpoint::pod(&pod.namespace, &pod.name),
            None => Endpoint::Address(self.address),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pod {
            Some(pod) => write!(f, "{pod}"),
            None => write!(f, "{}", self.address),
        }
    }
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(IpAddr, Option<u16>),
    /// A name.
    Name(String, Option<u16>),
}

impl Destination {
    /// Reads `NAME[:PORT]` or `IP[:PORT]`; IPv6 with a port in brackets.
    ///
    /// # Errors
    ///
    /// If the port is none.
    pub fn parse(text: &str) -> Result<Self> {
        if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self::Address(ip, None));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(address.ip(), Some(checked_port(text, address.port())?)));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => {
                let number =
                    port.parse().ok().with_context(|| format!("--to {text}: `{port}` is no port"))?;
                (name, Some(checked_port(text, number)?))
            }
            None => (text, None),
        };
        if name.contains('/') {
            let (namespace, name) = name.split_once('/').unwrap_or_default();
            bail!(
                "--to {text}: a Pod asks DNS for names, so write {name}.{namespace} (or {name}.{namespace}.svc)"
            );
        }
        if name.parse::<svc_dns::Name>().is_err() || name.is_empty() {
            bail!("--to {text}: `{name}` is neither an address nor a name");
        }
        Ok(Self::Name(name.to_owned(), port))
    }
}

fn checked_port(text: &str, port: u16) -> Result<u16> {
    if port == 0 { bail!("--to {text}: a port is from 1 to 65535") } else { Ok(port) }
}
