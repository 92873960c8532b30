//! What one Service adds to the table: chains with their rules, sets, and elements of the shared sets and maps.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};

use svc_endpoints::view::{NoEndpoints, Policy};

use super::base::Words;
use super::name;
use crate::plan::{PortPlan, ServicePort, protocol_word};

/// A shared set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Container {
    ClusterIps,
    FirewallIps,
    HairpinConnections,
    NoEndpointNodeports,
    NoEndpointServices,
    NodeportIps,
    ServiceIps,
    ServiceNodeports,
}

impl Container {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::FirewallIps => "firewall-ips",
            Self::HairpinConnections => "hairpin-connections",
            Self::NoEndpointNodeports => "no-endpoint-nodeports",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NodeportIps => "nodeport-ips",
            Self::ServiceIps => "service-ips",
            Self::ServiceNodeports => "service-nodeports",
        }
    }
}

/// What an element stands for; both parts are empty in a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    /// The verdict.
    pub(super) verdict: String,
    /// Never compared: an element whose verdict stays is not written again, so an old comment stays too.
    pub(super) comment: String,
}

/// The contribution of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) chains: Vec<(String, Vec<String>)>,
    /// Affinity sets with their timeout in seconds.
    pub(super) sets: Vec<(String, u32)>,
    pub(super) elements: Vec<(Container, String, Value)>,
}

/// The longest comment that nft takes (`NFTNL_UDATA_COMMENT_MAXLEN`).
const LONGEST_COMMENT: usize = 128;

impl Part {
    pub(super) fn add(&mut self, plan: &PortPlan, words: &Words) {
        let names = Names::new(&plan.service);
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

    fn element(&mut self, container: Container, key: String, verdict: String, comment: &str) {
        let comment = match comment.split_at_checked(LONGEST_COMMENT - 3) {
            Some((head, _)) if comment.len() > LONGEST_COMMENT => alloc::format!("{head}..."),
            _ => comment.to_string(),
        };
        self.elements.push((container, key, Value { verdict, comment }));
    }

    fn frontends(&mut self, plan: &PortPlan, names: &Names) {
        let service = &*plan.service;
        let protocol = protocol_word(service.protocol);
        let key = |ip: IpAddr| alloc::format!("{ip} . {protocol} . {}", service.port);
        let name = service.name.as_safe_str();
        self.element(Container::ClusterIps, service.cluster_ip.to_string(), String::new(), "");
        match plan.internal {
            Ok(policy) => {
                let goto = names.goto(policy);
                self.element(Container::ServiceIps, key(service.cluster_ip), goto, "");
            }
            Err(why) => {
                self.element(
                    Container::NoEndpointServices,
                    key(service.cluster_ip),
                    refusal(why).into(),
                    name,
                );
            }
        }
        let external = || alloc::format!("goto {}", names.external);
        for ip in service.external_ips.iter().chain(&service.load_balancer_ips) {
            if plan.has_endpoints {
                self.element(Container::ServiceIps, key(*ip), external(), "");
            }
            if let Err(why) = plan.external {
                self.element(Container::NoEndpointServices, key(*ip), refusal(why).into(), name);
            }
        }
        if service.has_firewall() {
            for ip in service.load_balancer_ips.iter() {
                let goto = alloc::format!("goto {}", names.firewall);
                self.element(Container::FirewallIps, key(*ip), goto, "");
            }
        }
        if let Some(port) = service.node_port {
            let key = alloc::format!("{protocol} . {port}");
            if plan.has_endpoints {
                self.element(Container::ServiceNodeports, key.clone(), external(), "");
            }
            if let Err(why) = plan.external {
                self.element(Container::NoEndpointNodeports, key, refusal(why).into(), name);
            }
        }
        for endpoint in plan.endpoints.iter().filter(|endpoint| endpoint.on_node) {
            let key = alloc::format!("{0} . {0} . {protocol} . {1}", endpoint.ip, endpoint.port);
            self.element(Container::HairpinConnections, key, String::new(), "");
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
        self.chains.push((names.external.clone(), rules));
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
        self.chains.push((names.firewall.clone(), Vec::from([rule])));
    }

    fn spread(&mut self, plan: &PortPlan, policy: Policy, names: &Names, words: &Words) {
        let mut rules = Vec::new();
        let number = plan.under(policy).count();
        let sticky = plan.service.affinity.is_some();
        let mut last = match sticky {
            true => alloc::format!("numgen random mod {number} vmap {{ "),
            false => alloc::format!(
                "meta l4proto {} dnat {} addr . port to numgen random mod {number} map {{ ",
                protocol_word(plan.service.protocol),
                words.family,
            ),
        };
        for (place, endpoint) in plan.under(policy).enumerate() {
            last.push_str(if place > 0 { " , " } else { "" });
            if sticky {
                let name = name::of_endpoint(&plan.service, endpoint);
                rules.push(alloc::format!("{} saddr @affinity-{name} goto endpoint-{name}", words.family));
                let _ = write!(last, "{place} : goto endpoint-{name}");
            } else {
                let _ = write!(last, "{place} : {} . {}", endpoint.ip, endpoint.port);
            }
        }
        last.push_str(" }");
        rules.push(last);
        self.chains.push((names.of(policy).clone(), rules));
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
            self.chains.push((alloc::format!("endpoint-{name}"), rules.into()));
            self.sets.push((alloc::format!("affinity-{name}"), seconds));
        }
    }
}

fn refusal(why: NoEndpoints) -> &'static str {
    match why {
        NoEndpoints::Anywhere => "goto reject-chain",
        NoEndpoints::OnThisNode => "drop",
    }
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
            cluster: alloc::format!("service-{base}"),
            local: alloc::format!("local-{base}"),
            external: alloc::format!("external-{base}"),
            firewall: alloc::format!("firewall-{base}"),
        }
    }

    fn of(&self, policy: Policy) -> &String {
        match policy {
            Policy::Cluster => &self.cluster,
            Policy::Local => &self.local,
        }
    }

    fn goto(&self, policy: Policy) -> String {
        alloc::format!("goto {}", self.of(policy))
    }
}
