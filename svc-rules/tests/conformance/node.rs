//! What the recorded syncs of all three modes share: the configuration of the node, and the changes of a step.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};
use svc_model::{IpFamily, ObjectRef};
use svc_rules::{LocalDetector, NodePortAddresses, ProxyConfig};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeConfig {
    family: Option<String>,
    node_name: String,
    #[serde(rename = "nodeIP")]
    node_ip: String,
    masquerade_all: bool,
    masquerade_mark: Option<String>,
    masquerade_bit: Option<u32>,
    local_detector: Detector,
    node_port_addresses: Vec<String>,
    node_addresses: Vec<String>,
    topology_labels: BTreeMap<String, String>,
    random_fully: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detector {
    mode: String,
    value: String,
}

/// What happens before a sync.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changes {
    #[serde(default)]
    pub(crate) apply: Vec<Value>,
    #[serde(default)]
    pub(crate) delete: Vec<Deleted>,
    topology_labels: Option<BTreeMap<String, String>>,
    /// Options of the node with another value than before.
    pub(crate) config: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
pub(crate) struct Deleted {
    pub(crate) kind: String,
    namespace: String,
    name: String,
}

impl Deleted {
    pub(crate) fn name(&self) -> ObjectRef {
        ObjectRef::new(self.namespace.as_str(), self.name.as_str())
    }
}

impl Changes {
    /// The zone of the node, if its labels changed.
    pub(crate) fn zone(&self) -> Option<Option<&str>> {
        self.topology_labels.as_ref().map(zone)
    }
}

fn zone(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get("topology.kubernetes.io/zone").map(String::as_str)
}

/// What stands for a mark that was recorded as an empty text.
pub(crate) const ABSENT_MARK: u32 = 1 << 14;

impl NodeConfig {
    pub(crate) fn settle(&self) -> Result<ProxyConfig, String> {
        let family = match self.family.as_deref() {
            None | Some("IPv4") => IpFamily::Ipv4,
            Some("IPv6") => IpFamily::Ipv6,
            Some(other) => return Err(format!("family `{other}`")),
        };
        let mut config = ProxyConfig::new(family, self.node_name.as_str());
        config.node_ip = self.node_ip.parse().ok();
        config.node_addresses = addresses(&self.node_addresses);
        config.zone = zone(&self.topology_labels).map(Into::into);
        config.masquerade_all = self.masquerade_all;
        config.masquerade_mark = match self.masquerade_mark.as_deref() {
            None => 1 << self.masquerade_bit.unwrap_or(14),
            Some("") => ABSENT_MARK,
            Some(mark) => number(mark).ok_or_else(|| format!("masqueradeMark `{mark}`"))?,
        };
        let value = self.local_detector.value.as_str();
        config.local_detector = match self.local_detector.mode.as_str() {
            "ClusterCIDR" | "NodeCIDR" => {
                LocalDetector::Cidr(value.parse().map_err(|_| format!("local detector `{value}`"))?)
            }
            "BridgeInterface" => LocalDetector::Bridge(value.into()),
            "InterfaceNamePrefix" => LocalDetector::InterfacePrefix(value.into()),
            _ => LocalDetector::None,
        };
        config.node_port_addresses = NodePortAddresses::within(
            self.node_port_addresses.iter().filter_map(|range| range.parse().ok()),
            family,
        );
        config.random_fully = self.random_fully;
        Ok(config)
    }
}

pub(crate) fn addresses(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|ip| ip.parse().ok()).collect()
}

pub(crate) fn number(hexadecimal: &str) -> Option<u32> {
    u32::from_str_radix(hexadecimal.strip_prefix("0x")?, 16).ok()
}
