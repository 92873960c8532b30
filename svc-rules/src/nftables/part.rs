//! What one Service adds to the table: chains with their rules, sets, and elements of the shared sets and maps.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use smol_str::{SmolStr, format_smolstr};
use svc_endpoints::view::{NoEndpoints, Policy};
use svc_model::Protocol;

use super::base::Words;
use super::name;
use crate::iptables::text::Text;
use crate::plan::{PortPlan, ServicePort, protocol_word};

/// A shared set or map, in the order in which they are filled: what leads nowhere before what leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Container {
    /// Flat layout: endpoints by frontend address, port and number.
    Endpoints(Protocol),
    /// Flat layout: endpoints by node port and number.
    NodeportEndpoints(Protocol),
    /// Flat layout: what is remembered of an endpoint, by frontend and the endpoint's number.
    StickySlots,
    /// The same for node ports.
    NodeportStickySlots,
    /// Flat layout: endpoints by frontend and what is remembered of them.
    StickyEndpoints,
    /// The same for node ports.
    NodeportStickyEndpoints,
    /// Flat layout: load balancer addresses that may reach one another through the firewall.
    FirewallSelf,
    FirewallIps,
    HairpinConnections,
    NodeportIps,
    NoEndpointNodeports,
    NoEndpointServices,
    ServiceIps,
    ServiceNodeports,
    /// Flat layout: the chain of each class of frontends.
    ClassChains,
    /// Flat layout: the class of each frontend address.
    ServiceClasses,
    ClusterIps,
}

impl Container {
    pub(super) const ALL: [Self; 21] = [
        Self::Endpoints(Protocol::Tcp),
        Self::Endpoints(Protocol::Udp),
        Self::Endpoints(Protocol::Sctp),
        Self::NodeportEndpoints(Protocol::Tcp),
        Self::NodeportEndpoints(Protocol::Udp),
        Self::NodeportEndpoints(Protocol::Sctp),
        Self::StickySlots,
        Self::NodeportStickySlots,
        Self::StickyEndpoints,
        Self::NodeportStickyEndpoints,
        Self::FirewallSelf,
        Self::FirewallIps,
        Self::HairpinConnections,
        Self::NodeportIps,
        Self::NoEndpointNodeports,
        Self::NoEndpointServices,
        Self::ServiceIps,
        Self::ServiceNodeports,
        Self::ClassChains,
        Self::ServiceClasses,
        Self::ClusterIps,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Endpoints(Protocol::Tcp) => "endpoints-tcp",
            Self::Endpoints(Protocol::Udp) => "endpoints-udp",
            Self::Endpoints(Protocol::Sctp) => "endpoints-sctp",
            Self::NodeportEndpoints(Protocol::Tcp) => "nodeport-endpoints-tcp",
            Self::NodeportEndpoints(Protocol::Udp) => "nodeport-endpoints-udp",
            Self::NodeportEndpoints(Protocol::Sctp) => "nodeport-endpoints-sctp",
            Self::StickySlots => "sticky-slots",
            Self::NodeportStickySlots => "nodeport-sticky-slots",
            Self::StickyEndpoints => "sticky-endpoints",
            Self::NodeportStickyEndpoints => "nodeport-sticky-endpoints",
            Self::FirewallSelf => "firewall-self",
            Self::FirewallIps => "firewall-ips",
            Self::HairpinConnections => "hairpin-connections",
            Self::NodeportIps => "nodeport-ips",
            Self::NoEndpointNodeports => "no-endpoint-nodeports",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::ServiceIps => "service-ips",
            Self::ServiceNodeports => "service-nodeports",
            Self::ClassChains => "class-chains",
            Self::ServiceClasses => "service-classes",
            Self::ClusterIps => "cluster-ips",
        }
    }
}

/// What an element stands for; both parts are empty in a set.
#[derive(Clone, Debug, Default)]
pub(super) struct Value {
    /// The verdict, or the data of a map.
    pub(super) verdict: SmolStr,
    /// Never compared: an element whose verdict stays is not written again, so an old comment stays too.
    pub(super) comment: SmolStr,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.verdict == other.verdict
    }
}

/// The rules of a chain, in order.
pub(super) type Rules = Arc<[String]>;

/// The contribution of one Service.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) chains: Vec<(SmolStr, Rules)>,
    /// Affinity sets with their timeout in seconds.
    pub(super) sets: Vec<(SmolStr, u32)>,
    pub(super) elements: Vec<((Container, SmolStr), Value)>,
}

/// The longest comment that nft takes (`NFTNL_UDATA_COMMENT_MAXLEN`).
const LONGEST_COMMENT: usize = 128;

impl Part {
    pub(super) fn add(&mut self, plan: &PortPlan, words: &Words) {
        let names = Names::new(&plan.service);
        self.common(plan);
        self.frontends(plan, &names);
        self.external(plan, &names, words);
        self.firewall(plan, &names, words);
        for policy in [Policy::Cluster, Policy::Local] {
            if plan.uses(policy) {
                self.spread(plan, policy, &names, words);
            }
        }
        self.endpoints(plan, words);
    }

    pub(super) fn element(&mut self, container: Container, key: SmolStr, verdict: SmolStr, comment: &str) {
        let comment = match comment.split_at_checked(LONGEST_COMMENT - 3) {
            Some((head, _)) if comment.len() > LONGEST_COMMENT => format_smolstr!("{head}..."),
            _ => comment.into(),
        };
        self.elements.push(((container, key), Value { verdict, comment }));
    }

    pub(super) fn chain(&mut self, name: impl Into<SmolStr>, rules: impl Into<Rules>) {
        self.chains.push((name.into(), rules.into()));
    }

    fn frontends(&mut self, plan: &PortPlan, names: &Names) {
        let service = &*plan.service;
        let protocol = protocol_word(service.protocol);
        let key = |ip: IpAddr| format_smolstr!("{ip} . {protocol} . {}", service.port);
        if let Ok(policy) = plan.internal {
            self.element(Container::ServiceIps, key(service.cluster_ip), names.goto(policy).into(), "");
        }
        if plan.has_endpoints {
            let external = format_smolstr!("goto {}", names.external);
            for ip in service.external_ips.iter().chain(&service.load_balancer_ips) {
                self.element(Container::ServiceIps, key(*ip), external.clone(), "");
            }
            if let Some(port) = service.node_port {
                let key = format_smolstr!("{protocol} . {port}");
                self.element(Container::ServiceNodeports, key, external, "");
            }
        }
        if service.has_firewall() {
            for ip in service.load_balancer_ips.iter() {
                let goto = format_smolstr!("goto {}", names.firewall);
                self.element(Container::FirewallIps, key(*ip), goto, "");
            }
        }
    }

    /// What both layouts have in common: cluster addresses, frontends that nothing serves, and connections of Pods to
    /// themselves.
    pub(super) fn common(&mut self, plan: &PortPlan) {
        let service = &*plan.service;
        let protocol = protocol_word(service.protocol);
        let key = |ip: IpAddr| format_smolstr!("{ip} . {protocol} . {}", service.port);
        let name = service.name.as_safe_str();
        let nothing = SmolStr::default;
        self.element(Container::ClusterIps, format_smolstr!("{}", service.cluster_ip), nothing(), "");
        if let Err(why) = plan.internal {
            self.element(Container::NoEndpointServices, key(service.cluster_ip), refusal(why), name);
        }
        if let Err(why) = plan.external {
            for ip in service.external_ips.iter().chain(&service.load_balancer_ips) {
                self.element(Container::NoEndpointServices, key(*ip), refusal(why), name);
            }
            if let Some(port) = service.node_port {
                let key = format_smolstr!("{protocol} . {port}");
                self.element(Container::NoEndpointNodeports, key, refusal(why), name);
            }
        }
        for endpoint in plan.endpoints.iter().filter(|endpoint| endpoint.on_node) {
            let key = format_smolstr!("{0} . {0} . {protocol} . {1}", endpoint.ip, endpoint.port);
            self.element(Container::HairpinConnections, key, nothing(), "");
        }
    }

    fn external(&mut self, plan: &PortPlan, names: &Names, words: &Words) {
        if !(plan.has_endpoints && plan.service.has_external_frontends()) {
            return;
        }
        let mut rules = Vec::new();
        let everywhere = names.goto(Policy::Cluster);
        match plan.service.policy.external {
            Policy::Cluster => rules.push(alloc::format!("{} comment \"masquerade\"", words.mark)),
            Policy::Local => {
                if let Some((here, _)) = &words.local {
                    rules.push(alloc::format!("{here} {everywhere} comment \"short-circuit pod traffic\""));
                }
                let from_node = "fib saddr type local";
                rules.push(alloc::format!("{from_node} {} comment \"masquerade local traffic\"", words.mark));
                rules
                    .push(alloc::format!("{from_node} {everywhere} comment \"short-circuit local traffic\""));
            }
        }
        if let Ok(policy) = plan.external {
            rules.push(names.goto(policy));
        }
        self.chain(names.external.as_str(), rules);
    }

    /// Unlike in iptables mode, the ranges are enforced whether or not there are endpoints.
    fn firewall(&mut self, plan: &PortPlan, names: &Names, words: &Words) {
        let service = &*plan.service;
        if !service.has_firewall() {
            return;
        }
        let mut allowed: Vec<_> = service.source_ranges.iter().map(|range| range.to_string()).collect();
        if words.node_ip.is_some_and(|ip| service.source_ranges.iter().any(|range| range.contains(&ip))) {
            allowed.extend(service.load_balancer_ips.iter().map(IpAddr::to_string));
        }
        let rule = alloc::format!("{} saddr != {{ {} }} drop", words.family, allowed.join(" , "));
        self.chain(names.firewall.as_str(), [rule]);
    }

    fn spread(&mut self, plan: &PortPlan, policy: Policy, names: &Names, words: &Words) {
        let mut rules = Vec::new();
        let number = count(plan.under(policy).count());
        let sticky = plan.service.affinity.is_some();
        let mut last = Vec::with_capacity(64 + 32 * plan.endpoints.len());
        if !sticky {
            let protocol = protocol_word(plan.service.protocol);
            last.text("meta l4proto ").text(protocol).text(" dnat ").text(words.family);
            last.text(" addr . port to ");
        }
        last.text("numgen random mod ").number(number).text(if sticky { " vmap { " } else { " map { " });
        for (place, endpoint) in (0..).zip(plan.under(policy)) {
            last.text(if place > 0 { " , " } else { "" }).number(place);
            if sticky {
                let name = name::of_endpoint(&plan.service, endpoint);
                rules.push(alloc::format!("{} saddr @affinity-{name} goto endpoint-{name}", words.family));
                last.text(" : goto endpoint-").text(&name);
            } else {
                last.text(" : ").ip(endpoint.ip).text(" . ").number(endpoint.port.into());
            }
        }
        last.text(" }");
        // Nothing but ASCII was put together.
        rules.push(String::from_utf8(last).unwrap_or_default());
        self.chain(names.of(policy).as_str(), rules);
    }

    /// Only affinity needs a chain and a set for each endpoint.
    fn endpoints(&mut self, plan: &PortPlan, words: &Words) {
        let Some(seconds) = plan.service.affinity else { return };
        for endpoint in plan.endpoints.iter() {
            let name = name::of_endpoint(&plan.service, endpoint);
            let rules = [
                alloc::format!("update @affinity-{name} {{ {} saddr }}", words.family),
                alloc::format!(
                    "meta l4proto {} dnat to {}",
                    protocol_word(plan.service.protocol),
                    SocketAddr::new(endpoint.ip, endpoint.port),
                ),
            ];
            self.chain(format_smolstr!("endpoint-{name}"), rules);
            self.sets.push((format_smolstr!("affinity-{name}"), seconds));
        }
    }
}

/// What `write` puts together, which is nothing but ASCII.
pub(super) fn joined(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> SmolStr {
    let start = buffer.len();
    write(buffer);
    let text = SmolStr::new(core::str::from_utf8(buffer).unwrap_or_default());
    buffer.truncate(start);
    text
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn refusal(why: NoEndpoints) -> SmolStr {
    SmolStr::new_static(match why {
        NoEndpoints::Anywhere => "goto reject-chain",
        NoEndpoints::OnThisNode => "drop",
    })
}

/// The names of a port's chains.
struct Names {
    cluster: String,
    local: String,
    external: String,
    firewall: String,
}

impl Names {
    fn new(service: &ServicePort) -> Self {
        let base = name::of_port(service);
        Self {
            cluster: ["service-", &base].concat(),
            local: ["local-", &base].concat(),
            external: ["external-", &base].concat(),
            firewall: ["firewall-", &base].concat(),
        }
    }

    fn of(&self, policy: Policy) -> &String {
        match policy {
            Policy::Cluster => &self.cluster,
            Policy::Local => &self.local,
        }
    }

    fn goto(&self, policy: Policy) -> String {
        ["goto ", self.of(policy)].concat()
    }
}
