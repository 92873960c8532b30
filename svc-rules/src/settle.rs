//! From kube-proxy's configuration file and what a node is, to the settled configuration of one family.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_model::{IpFamily, KubeProxyConfiguration, Node, Scalar};

use crate::config::{IpvsOptions, LocalDetector, NodePortAddresses, ProxyConfig};
use crate::duration;

/// How a proxy writes its rules (`mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyMode {
    /// `iptables`, the default on Linux.
    #[default]
    Iptables,
    /// `ipvs`, deprecated by KEP-5495.
    Ipvs,
    /// `nftables`.
    Nftables,
}

impl ProxyMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Iptables, Self::Ipvs, Self::Nftables];

    /// The text of the configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
        }
    }

    /// The mode that a configuration asks for.
    ///
    /// # Errors
    /// If there is no such mode.
    pub fn of(config: &KubeProxyConfiguration) -> Result<Self, ConfigErrors> {
        let text = config.mode.as_str();
        if text.is_empty() {
            return Ok(Self::default());
        }
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            ConfigErrors(Vec::from([ConfigError::new("mode", text, "not iptables, ipvs or nftables")]))
        })
    }
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a proxy finds out about its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeFacts {
    /// Name of the Node object.
    pub name: SmolStr,
    /// Addresses of the node; of each family the first one is its primary.
    pub addresses: Vec<IpAddr>,
    /// Ranges of the node's Pods (`spec.podCIDRs`).
    pub pod_cidrs: Vec<IpNet>,
    /// Zone of the node.
    pub zone: Option<SmolStr>,
    /// Whether the kernel lets packets outside the window pass (`nf_conntrack_tcp_be_liberal`).
    pub tcp_be_liberal: bool,
    /// Accounting objects of the kernel (`nfacct`).
    pub counters: Vec<SmolStr>,
}

impl NodeFacts {
    /// Facts of a node of which only the name is known.
    #[must_use]
    pub fn named(name: impl Into<SmolStr>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl From<&Node> for NodeFacts {
    /// What the Node object tells: internal addresses first.
    fn from(node: &Node) -> Self {
        let of_type = |wanted: &str, equal: bool| {
            let of_type = move |kind: &str| (kind == wanted) == equal;
            let addresses = node.status.addresses.iter();
            addresses
                .filter(move |address| of_type(address.address_type.as_str()))
                .filter_map(|address| IpAddr::read(&address.address.to_string()))
                .collect::<Vec<_>>()
        };
        let mut addresses = of_type("InternalIP", true);
        addresses.extend(of_type("InternalIP", false));
        let pod_cidrs: Vec<_> = node.spec.pod_cidrs.iter().filter_map(svc_model::Sent::get).collect();
        Self {
            addresses,
            pod_cidrs: if pod_cidrs.is_empty() {
                node.spec.pod_cidr.get().into_iter().collect()
            } else {
                pod_cidrs
            },
            zone: node.zone().map(SmolStr::from),
            ..Self::named(node.metadata.name.clone())
        }
    }
}

/// A value of a configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: `{value}` is {problem}")]
pub struct ConfigError {
    field: String,
    value: String,
    problem: &'static str,
}

impl ConfigError {
    fn new(field: impl Into<String>, value: impl fmt::Display, problem: &'static str) -> Self {
        Self { field: field.into(), value: value.to_string(), problem }
    }

    /// Path of the field, such as `iptables.masqueradeBit`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if place > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigErrors {}

impl ProxyConfig {
    /// Settles what rules of `family` depend on, as kube-proxy does when it starts.
    ///
    /// # Errors
    /// All values that cannot be used, each with its field.
    pub fn settle(
        config: &KubeProxyConfiguration,
        node: &NodeFacts,
        family: IpFamily,
    ) -> Result<Self, ConfigErrors> {
        let mode = ProxyMode::of(config);
        let mut errors = Vec::new();
        let mode = mode.unwrap_or_else(|error| {
            errors.extend(error.0);
            ProxyMode::default()
        });
        let name = if config.hostname_override.is_empty() { &node.name } else { &config.hostname_override };
        let mut settled = Self::new(family, name.clone());
        settled.node_addresses.clone_from(&node.addresses);
        settled.zone.clone_from(&node.zone);
        let bound = IpAddr::read(&config.bind_address);
        if bound.is_none() && !config.bind_address.is_empty() {
            errors.push(ConfigError::new("bindAddress", &config.bind_address, "no IP address"));
        }
        let bound = bound.filter(|ip| !ip.is_unspecified());
        settled.node_ip =
            bound.into_iter().chain(node.addresses.iter().copied()).find(|ip| IpFamily::of(*ip) == family);

        let (section, bit, all) = match mode {
            ProxyMode::Iptables => {
                ("iptables", config.iptables.masquerade_bit, config.iptables.masquerade_all)
            }
            ProxyMode::Ipvs => ("ipvs", config.ipvs.masquerade_bit, config.ipvs.masquerade_all),
            ProxyMode::Nftables => {
                ("nftables", config.nftables.masquerade_bit, config.nftables.masquerade_all)
            }
        };
        settled.masquerade_all = all;
        let bit = bit.unwrap_or(14);
        match u32::try_from(bit).ok().and_then(|bit| 1u32.checked_shl(bit)) {
            Some(mark) => settled.masquerade_mark = mark,
            None => errors.push(ConfigError::new(
                alloc::format!("{section}.masqueradeBit"),
                bit,
                "no bit of a mark, 0 to 31",
            )),
        }
        settled.local_detector = local_detector(config, node, family, &mut errors);
        settled.node_port_addresses = node_port_addresses(config, mode, settled.node_ip, family, &mut errors);
        // Packets to loopback addresses can only be let in where a range names one.
        settled.localhost_node_ports = mode == ProxyMode::Iptables
            && family == IpFamily::Ipv4
            && config.iptables.localhost_node_ports.unwrap_or(true)
            && match &settled.node_port_addresses {
                NodePortAddresses::All => true,
                NodePortAddresses::Within(ranges) => ranges.iter().any(|range| range.addr().is_loopback()),
            };
        settled.conntrack_tcp_be_liberal = config.conntrack.tcp_be_liberal || node.tcp_be_liberal;
        let counts = |name: &str| node.counters.iter().any(|counter| counter == name);
        settled.counts_invalid_drops = counts(Self::INVALID_DROPS);
        settled.counts_localhost_node_ports = counts(Self::LOCALHOST_NODE_PORTS);
        if mode == ProxyMode::Ipvs {
            settled.ipvs = ipvs_options(config, &mut errors);
        }
        if errors.is_empty() { Ok(settled) } else { Err(ConfigErrors(errors)) }
    }

    /// The kernel parameters that the rules rely on in iptables mode: path under `/proc/sys`, and value. Those of IPVS
    /// mode are told by [`ipvs::sysctls`](crate::ipvs::sysctls).
    pub fn sysctls(&self) -> impl Iterator<Item = (&'static str, u32)> + use<> {
        // Without it the kernel takes packets from a loopback address to another node's for martians.
        self.opens_localhost().then_some(("net/ipv4/conf/all/route_localnet", 1)).into_iter()
    }
}

fn ipvs_options(config: &KubeProxyConfiguration, errors: &mut Vec<ConfigError>) -> IpvsOptions {
    let sent = &config.ipvs;
    let mut options = IpvsOptions { strict_arp: sent.strict_arp, ..IpvsOptions::default() };
    // The name stands bare in commands. `IP_VS_SCHEDNAME_MAXLEN` is 16 with the closing zero.
    let harmless = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !sent.scheduler.chars().all(harmless) || sent.scheduler.len() > 15 {
        errors.push(ConfigError::new("ipvs.scheduler", &sent.scheduler, "no name of a scheduler"));
    } else if !sent.scheduler.is_empty() {
        options.scheduler.clone_from(&sent.scheduler);
    }
    let excluded = sent.exclude_cidrs.iter();
    options.exclude_cidrs = excluded.filter_map(|text| range("ipvs.excludeCIDRs", text, errors)).collect();
    for (field, text, time) in [
        ("ipvs.tcpTimeout", &sent.tcp_timeout, &mut options.tcp_timeout),
        ("ipvs.tcpFinTimeout", &sent.tcp_fin_timeout, &mut options.tcp_fin_timeout),
        ("ipvs.udpTimeout", &sent.udp_timeout, &mut options.udp_timeout),
    ] {
        match duration::parse(text) {
            Some(read) => *time = read,
            None if text.is_empty() => {}
            None => errors.push(ConfigError::new(field, text, "no duration such as 15m or 0s")),
        }
    }
    options
}

fn local_detector(
    config: &KubeProxyConfiguration,
    node: &NodeFacts,
    family: IpFamily,
    errors: &mut Vec<ConfigError>,
) -> LocalDetector {
    match config.detect_local_mode.as_str() {
        "" | "ClusterCIDR" => {
            let ranges = &config.detect_local.cluster_cidrs;
            let old = config.cluster_cidr.split(',').filter(|text| !text.is_empty());
            let (field, texts): (_, Vec<&str>) = if ranges.is_empty() {
                ("clusterCIDR", old.collect())
            } else {
                ("detectLocal.clusterCIDRs", ranges.iter().map(SmolStr::as_str).collect())
            };
            let ranges: Vec<_> = texts.into_iter().filter_map(|text| range(field, text, errors)).collect();
            first_of(&ranges, family)
        }
        "NodeCIDR" => first_of(&node.pod_cidrs, family),
        "BridgeInterface" => {
            let name = &config.detect_local.bridge_interface;
            interface("detectLocal.bridgeInterface", name, errors);
            LocalDetector::Bridge(name.clone())
        }
        "InterfaceNamePrefix" => {
            let prefix = &config.detect_local.interface_name_prefix;
            interface("detectLocal.interfaceNamePrefix", prefix, errors);
            LocalDetector::InterfacePrefix(prefix.clone())
        }
        other => {
            let problem = "not ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
            errors.push(ConfigError::new("detectLocalMode", other, problem));
            LocalDetector::None
        }
    }
}

/// Only the first range of a family counts; without one local traffic cannot be told.
fn first_of(ranges: &[IpNet], family: IpFamily) -> LocalDetector {
    let first = ranges.iter().find(|range| IpFamily::of(range.addr()) == family);
    first.map_or(LocalDetector::None, |range| LocalDetector::Cidr(*range))
}

fn range(field: &str, text: &str, errors: &mut Vec<ConfigError>) -> Option<IpNet> {
    let range = IpNet::read(text.trim()).map(|range| range.trunc());
    if range.is_none() {
        errors.push(ConfigError::new(field, text, "no range such as 10.0.0.0/8"));
    }
    range
}

/// Names of interfaces stand bare in rules. The kernel (`dev_valid_name`) takes up to 15 bytes without `/`, `:` and
/// white space; quotes and backslashes, which it would take, have a meaning to the tools, as `+` and `*` at the end.
fn interface(field: &str, name: &str, errors: &mut Vec<ConfigError>) {
    let harmless =
        |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\'' | '\\' | '+' | '*' | '!');
    if name.is_empty() || name.len() > 15 || name.starts_with('-') || !name.chars().all(harmless) {
        errors.push(ConfigError::new(field, name, "no name of an interface"));
    }
}

fn node_port_addresses(
    config: &KubeProxyConfiguration,
    mode: ProxyMode,
    node_ip: Option<IpAddr>,
    family: IpFamily,
    errors: &mut Vec<ConfigError>,
) -> NodePortAddresses {
    const FIELD: &str = "nodePortAddresses";
    let sent = &config.node_port_addresses;
    let primary = sent.iter().any(|text| text == "primary");
    if primary && sent.len() > 1 {
        errors.push(ConfigError::new(FIELD, "primary", "not to be combined with ranges"));
    }
    if primary || sent.is_empty() && mode == ProxyMode::Nftables {
        return NodePortAddresses::Within(node_ip.map(IpNet::from).into_iter().collect());
    }
    let ranges: Vec<_> = sent.iter().filter_map(|text| range(FIELD, text, errors)).collect();
    NodePortAddresses::within(ranges, family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn settle(config: &KubeProxyConfiguration) -> Result<ProxyConfig, ConfigErrors> {
        let mut node = NodeFacts::named("node-a");
        node.addresses = vec!["192.168.7.10".parse().unwrap(), "2001:db8::10".parse().unwrap()];
        node.pod_cidrs = vec!["10.0.7.0/24".parse().unwrap()];
        ProxyConfig::settle(config, &node, IpFamily::Ipv4)
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let settled = settle(&KubeProxyConfiguration::default()).unwrap();
        assert_eq!((settled.masquerade_mark, settled.localhost_node_ports), (0x4000, true));
        assert_eq!(settled.node_ip, Some("192.168.7.10".parse().unwrap()));
        assert_eq!(settled.local_detector, LocalDetector::None);
        assert_eq!(settled.node_port_addresses, NodePortAddresses::All);
        assert_eq!(settled.sysctls().count(), 1);
    }

    #[test]
    fn the_first_range_of_the_family_tells_local_pods() {
        let mut config =
            KubeProxyConfiguration { cluster_cidr: "fd00::/64,10.0.0.0/8".into(), ..Default::default() };
        let cidr = |text: &str| LocalDetector::Cidr(text.parse().unwrap());
        assert_eq!(settle(&config).unwrap().local_detector, cidr("10.0.0.0/8"));
        config.detect_local.cluster_cidrs = vec!["10.1.2.3/16".into()];
        assert_eq!(settle(&config).unwrap().local_detector, cidr("10.1.0.0/16"));
        config.detect_local_mode = "NodeCIDR".into();
        assert_eq!(settle(&config).unwrap().local_detector, cidr("10.0.7.0/24"));
    }

    #[test]
    fn node_ports_are_limited_to_ranges() {
        let mut config = KubeProxyConfiguration {
            node_port_addresses: vec!["192.168.0.0/16".into()],
            ..Default::default()
        };
        assert!(!settle(&config).unwrap().localhost_node_ports);
        config.node_port_addresses.push("127.0.0.0/8".into());
        assert!(settle(&config).unwrap().localhost_node_ports);
        config.node_port_addresses = vec![];
        config.mode = "nftables".into();
        let primary = NodePortAddresses::Within(vec!["192.168.7.10/32".parse().unwrap()]);
        assert_eq!(settle(&config).unwrap().node_port_addresses, primary);
    }

    #[test]
    fn options_of_ipvs_are_read() {
        let mut config = KubeProxyConfiguration { mode: "ipvs".into(), ..Default::default() };
        assert_eq!(settle(&config).unwrap().ipvs, IpvsOptions::default());
        config.ipvs.scheduler = "mh".into();
        config.ipvs.exclude_cidrs = vec!["10.1.2.0/24".into()];
        config.ipvs.strict_arp = true;
        config.ipvs.tcp_timeout = "15m0s".into();
        let ipvs = settle(&config).unwrap().ipvs;
        assert_eq!((ipvs.scheduler.as_str(), ipvs.strict_arp, ipvs.tcp_timeout.as_secs()), ("mh", true, 900));
        assert_eq!(ipvs.exclude_cidrs, ["10.1.2.0/24".parse().unwrap()]);
        config.ipvs.scheduler = "rr\n-C".into();
        config.ipvs.exclude_cidrs = vec!["all".into()];
        config.ipvs.udp_timeout = "1".into();
        let errors = settle(&config).unwrap_err();
        let fields: Vec<_> = errors.iter().map(ConfigError::field).collect();
        assert_eq!(fields, ["ipvs.scheduler", "ipvs.excludeCIDRs", "ipvs.udpTimeout"]);
    }

    #[test]
    fn every_unusable_value_is_named() {
        let mut config = KubeProxyConfiguration {
            mode: "userspace".into(),
            detect_local_mode: "BridgeInterface".into(),
            node_port_addresses: vec!["10.0.0.0".into()],
            bind_address: "here".into(),
            ..Default::default()
        };
        config.detect_local.bridge_interface = "br 0\" -j ACCEPT".into();
        config.iptables.masquerade_bit = Some(32);
        let errors = settle(&config).unwrap_err();
        let fields: Vec<_> = errors.iter().map(ConfigError::field).collect();
        assert_eq!(
            fields,
            [
                "mode",
                "bindAddress",
                "iptables.masqueradeBit",
                "detectLocal.bridgeInterface",
                "nodePortAddresses"
            ]
        );
        assert_eq!(
            errors.iter().next().unwrap().to_string(),
            "mode: `userspace` is not iptables, ipvs or nftables"
        );
    }
}
