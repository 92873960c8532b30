//! What is in the table without any Service.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;
use svc_model::{IpFamily, Protocol};

use super::Layout;
use super::flat::OTHER_SERVICES;
use super::part::Container;
use crate::config::{LocalDetector, NodePortAddresses, ProxyConfig};
use crate::plan::protocol_word;

/// How many clients the flat layout remembers, each once for each endpoint.
const MOST_CLIENTS: u32 = 1 << 20;

/// The configuration, as far as rules repeat it, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) layout: Layout,
    pub(super) ip_family: IpFamily,
    /// `ip` or `ip6`.
    pub(super) family: &'static str,
    /// Sets the mark of traffic to be masqueraded.
    pub(super) mark: String,
    mark_value: String,
    masquerade_all: bool,
    /// The match for traffic from local Pods, and the one for all other traffic.
    pub(super) local: Option<(String, String)>,
    pub(super) node_ip: Option<IpAddr>,
    /// `None`: node ports are open at all addresses.
    pub(super) node_port_ips: Option<Vec<IpAddr>>,
    address_type: &'static str,
    loopback: &'static str,
}

impl Words {
    pub(super) fn new(config: &ProxyConfig, layout: Layout) -> Self {
        let (family, address_type, loopback) = match config.family {
            IpFamily::Ipv4 => ("ip", "ipv4_addr", "127.0.0.0/8"),
            IpFamily::Ipv6 => ("ip6", "ipv6_addr", "::1"),
        };
        let both = |key: &str, value: String| Some((format!("{key} {value}"), format!("{key} != {value}")));
        let local = match &config.local_detector {
            LocalDetector::Cidr(cidr) => both(&format!("{family} saddr"), cidr.to_string()),
            LocalDetector::Bridge(name) => both("iifname", name.to_string()),
            LocalDetector::InterfacePrefix(prefix) => both("iifname", format!("{prefix}*")),
            LocalDetector::None => None,
        };
        let mark_value = format!("{:#010x}", config.masquerade_mark);
        let node_port_ips = match &config.node_port_addresses {
            NodePortAddresses::All => None,
            NodePortAddresses::Within(nets) => {
                let of_family = |ip: &&IpAddr| IpFamily::of(**ip) == config.family && !ip.is_loopback();
                let ips = config.node_addresses.iter().filter(of_family);
                Some(ips.copied().filter(|ip| nets.iter().any(|net| net.contains(ip))).collect())
            }
        };
        Self {
            layout,
            ip_family: config.family,
            family,
            mark: format!("mark set mark or {mark_value}"),
            mark_value,
            masquerade_all: config.masquerade_all,
            local,
            node_ip: config.node_ip.filter(|ip| IpFamily::of(*ip) == config.family),
            node_port_ips,
            address_type,
            loopback,
        }
    }

    /// The declaration of the table.
    pub(super) const TABLE: &'static str = "{ comment \"rules for kube-proxy\" ; }";

    /// Chains of both layouts.
    const CHAINS: [(&'static str, &'static str); 15] = [
        ("cluster-ips-check", ""),
        ("filter-forward", " { type filter hook forward priority 0 ; }"),
        ("filter-input", " { type filter hook input priority 0 ; }"),
        ("filter-output", " { type filter hook output priority 0 ; }"),
        ("filter-output-pre-dnat", " { type filter hook output priority -110 ; }"),
        ("filter-prerouting-pre-dnat", " { type filter hook prerouting priority -110 ; }"),
        ("firewall-check", ""),
        ("masquerading", ""),
        ("nat-output", " { type nat hook output priority -100 ; }"),
        ("nat-postrouting", " { type nat hook postrouting priority 100 ; }"),
        ("nat-prerouting", " { type nat hook prerouting priority -100 ; }"),
        ("nodeport-endpoints-check", ""),
        ("reject-chain", " { comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\" ; }"),
        ("service-endpoints-check", ""),
        ("services", ""),
    ];

    /// Names and declarations of chains that are always there.
    pub(super) fn chains(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let flat = (self.layout == Layout::Flat).then_some((OTHER_SERVICES, ""));
        Self::CHAINS.into_iter().chain(flat)
    }

    /// Declarations of sets and maps that are always there: kind, name, what it holds.
    pub(super) fn containers(&self) -> impl Iterator<Item = (&'static str, &'static str, String)> {
        let address = self.address_type;
        let service = format!("{address} . inet_proto . inet_service");
        let set = |container, kind: &str, comment: &str| {
            ("set", Container::name(container), format!("{{ type {kind} ; comment \"{comment}\" ; }}"))
        };
        let map = |container, kind: &str, comment: &str| {
            (
                "map",
                Container::name(container),
                format!("{{ type {kind} : verdict ; comment \"{comment}\" ; }}"),
            )
        };
        let node_ports = "inet_proto . inet_service";
        let fixed = [
            set(Container::ClusterIps, address, "Active ClusterIPs"),
            set(
                Container::HairpinConnections,
                &format!("{address} . {service}"),
                "service hairpin connections",
            ),
            map(
                Container::FirewallIps,
                &service,
                "destinations that are subject to LoadBalancerSourceRanges",
            ),
            map(
                Container::NoEndpointNodeports,
                node_ports,
                "vmap to drop or reject packets to service nodeports with no endpoints",
            ),
            map(
                Container::NoEndpointServices,
                &service,
                "vmap to drop or reject packets to services with no endpoints",
            ),
            map(Container::ServiceIps, &service, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
            map(Container::ServiceNodeports, node_ports, "NodePort traffic"),
        ];
        let node_ips = self
            .node_port_ips
            .is_some()
            .then(|| set(Container::NodeportIps, address, "IPs that accept NodePort traffic"));
        let flat = (self.layout == Layout::Flat).then(|| self.flat_containers());
        fixed.into_iter().chain(node_ips).chain(flat.into_iter().flatten())
    }

    /// What the flat layout adds. Drawn numbers have no type by name, so such keys are declared by expressions; and nft
    /// takes the protocol of a map that gives ports for a condition of the rule, so there is one for each.
    fn flat_containers(&self) -> Vec<(&'static str, &'static str, String)> {
        let Self { family, address_type: address, .. } = self;
        let (number, service) = ("numgen random mod 2", "inet_proto . inet_service");
        let mut all = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let word = protocol_word(protocol);
            let to =
                format!("{family} daddr . {word} dport ; comment \"endpoints of frontends, by number\" ;");
            let of_address = format!("{{ typeof {family} daddr . {word} dport . {number} : {to} }}");
            let of_port = format!("{{ typeof {word} dport . {number} : {to} }}");
            all.push(("map", Container::Endpoints(protocol).name(), of_address));
            all.push(("map", Container::NodeportEndpoints(protocol).name(), of_port));
        }
        for (slots, endpoints, by, service) in [
            (
                Container::StickySlots,
                Container::StickyEndpoints,
                format!("{family} daddr . "),
                format!("{address} . {service}"),
            ),
            (
                Container::NodeportStickySlots,
                Container::NodeportStickyEndpoints,
                String::new(),
                service.to_string(),
            ),
        ] {
            let what = format!(
                "{{ typeof {by}meta l4proto . th dport . {number} : {family} daddr ; comment \"tokens of endpoints, by number\" ; }}"
            );
            all.push(("map", slots.name(), what));
            let what = format!(
                "{{ type {service} . {address} : {address} . inet_service ; comment \"endpoints, by token\" ; }}"
            );
            all.push(("map", endpoints.name(), what));
        }
        let what =
            format!("{{ type {address} . {service} : {address} ; comment \"classes of frontends\" ; }}");
        all.push(("map", Container::ServiceClasses.name(), what));
        let what = format!("{{ type inet_proto . {address} : verdict ; comment \"chains of classes\" ; }}");
        all.push(("map", Container::ClassChains.name(), what));
        let what = format!(
            "{{ type {address} . {address} . {service} ; comment \"load balancer addresses and their own traffic\" ; }}"
        );
        all.push(("set", Container::FirewallSelf.name(), what));
        let what = format!(
            "{{ type {address} . {address} ; flags dynamic,timeout ; size {MOST_CLIENTS} ; comment \"clients and the tokens of their endpoints\" ; }}"
        );
        all.push(("set", "affinity", what));
        all
    }

    /// The rules of the chains that are always there, in order within each chain.
    pub(super) fn rules(&self, service_cidrs: &[IpNet]) -> Vec<(&'static str, String)> {
        let Self { family, mark, mark_value, loopback, .. } = self;
        let service_key = format!("{family} daddr . meta l4proto . th dport");
        let node_port_key = match self.node_port_ips {
            Some(_) => format!("{family} daddr @nodeport-ips meta l4proto . th dport"),
            None => format!("{family} daddr != {loopback} meta l4proto . th dport"),
        };
        let new = |jump: &str| format!("ct state new jump {jump}");
        let mut rules = Vec::from([
            ("filter-input", new("nodeport-endpoints-check")),
            ("filter-input", new("service-endpoints-check")),
            ("filter-forward", new("service-endpoints-check")),
            ("filter-output", new("service-endpoints-check")),
            ("filter-output-pre-dnat", new("firewall-check")),
            ("filter-prerouting-pre-dnat", new("firewall-check")),
            ("nat-output", "jump services".to_string()),
            ("nat-prerouting", "jump services".to_string()),
            ("nat-postrouting", "jump masquerading".to_string()),
            ("filter-forward", new("cluster-ips-check")),
            ("filter-output", new("cluster-ips-check")),
            (
                "masquerading",
                format!("mark and {mark_value} != 0 mark set mark xor {mark_value} masquerade fully-random"),
            ),
            (
                "masquerading",
                format!(
                    "ct status dnat {family} saddr . {family} daddr . meta l4proto . th dport \
                     @hairpin-connections masquerade fully-random"
                ),
            ),
            (
                "cluster-ips-check",
                format!(
                    "{family} daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\""
                ),
            ),
        ]);
        if !service_cidrs.is_empty() {
            let cidrs: Vec<_> = service_cidrs.iter().map(IpNet::to_string).collect();
            let rule = format!(
                "{family} daddr {{ {} }} drop comment \"Drop traffic to unallocated ClusterIPs\"",
                cidrs.join(",")
            );
            rules.push(("cluster-ips-check", rule));
        }
        let to_cluster_ips = format!("{family} daddr @cluster-ips");
        match &self.local {
            _ if self.masquerade_all => {
                let comment = "masquerade all clusterIP traffic";
                rules.push(("services", format!("{to_cluster_ips} {mark} comment \"{comment}\"")));
            }
            Some((_, elsewhere)) => {
                let comment = "masquerade clusterIP traffic from outside cluster";
                rules
                    .push(("services", format!("{to_cluster_ips} {elsewhere} {mark} comment \"{comment}\"")));
            }
            None => {}
        }
        let local = if self.node_port_ips.is_none() { "fib daddr type local " } else { "" };
        let by_ip = format!("{service_key} vmap @service-ips");
        match self.layout {
            Layout::Reference => rules.push(("services", by_ip)),
            Layout::Flat => {
                let class = format!("{family} daddr set {service_key} map @service-classes");
                let chain = format!("meta l4proto . {family} daddr vmap @class-chains");
                rules.extend([
                    ("services", format!("{class} {chain}")),
                    (OTHER_SERVICES, format!("{family} daddr set ct original {family} daddr")),
                    (OTHER_SERVICES, by_ip),
                ]);
            }
        }
        rules.extend([
            ("services", format!("{local}{node_port_key} vmap @service-nodeports")),
            ("nodeport-endpoints-check", format!("{node_port_key} vmap @no-endpoint-nodeports")),
            ("service-endpoints-check", format!("{service_key} vmap @no-endpoint-services")),
            ("firewall-check", format!("{service_key} vmap @firewall-ips")),
            ("reject-chain", "reject".to_string()),
        ]);
        rules
    }

    /// The declaration of a set that remembers clients.
    pub(super) fn affinity_set(&self, seconds: u32) -> String {
        format!("{{ type {} ; flags dynamic,timeout ; timeout {seconds}s ; }}", self.address_type)
    }
}
