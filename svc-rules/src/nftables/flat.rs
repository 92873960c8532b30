//! What one Service adds to the table in the flat layout: elements of maps that all Services share.
//!
//! A frontend has a class, which leads to a chain for its number of endpoints, `cluster/tcp/10`, which draws a number and
//! looks frontend and number up in one map of all endpoints. The chain is the same for every Service with ten endpoints.
//!
//! A map from frontends to chains would be shorter, but whenever an element with a chain is added, the kernel walks all
//! elements of all such maps, to see whether chains lead in circles. The few classes are soon walked.
//!
//! nft cannot look up what a map gave, except from a field of the packet. So the class is put into the packet's destination
//! for as long as the chain runs: connection tracking keeps the real one, and the translation at the end of the chain takes
//! the place of both.
//!
//! Session affinity needs to know an endpoint before the translation, which ends the chain. So what is remembered of it
//! (see [`name::token`]) is put into the packet's destination in the same way.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU16;

use smol_str::{SmolStr, format_smolstr};
use svc_endpoints::view::Policy;
use svc_model::{IpFamily, Protocol};

use super::base::Words;
use super::name;
use super::part::{Container, Part, count, joined};
use crate::iptables::text::Text;
use crate::plan::{PortPlan, ServicePort, protocol_word};

/// Numbers of the endpoints of policy `Local` begin here: a frontend can have both.
const LOCAL: usize = 1 << 24;

/// The chain of frontend addresses of which the class says nothing: it puts the real destination back.
pub(super) const OTHER_SERVICES: &str = "other-services";

/// How a frontend address is served, if simply.
#[derive(Clone, Copy)]
enum Class {
    /// By the endpoints of a policy, so many of them.
    Inside(Policy, usize),
    /// By so many endpoints, after masquerading.
    Outside(usize),
}

/// The class of all other frontend addresses: [`Container::ServiceIps`] has their chains.
const OTHER: u32 = 3 << 24;

impl Class {
    fn number(self) -> Option<u32> {
        let (kind, endpoints) = match self {
            Self::Inside(Policy::Cluster, endpoints) => (0, endpoints),
            Self::Inside(Policy::Local, endpoints) => (1, endpoints),
            Self::Outside(endpoints) => (2, endpoints),
        };
        let endpoints = u32::try_from(endpoints).ok().filter(|endpoints| endpoints >> 24 == 0)?;
        Some((kind << 24) | endpoints)
    }
}

/// A class in the shape of an address. Only the rule that writes it reads it, so it may be the address of something else.
fn class_address(class: u32, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::Ipv4 => Ipv4Addr::from(class).into(),
        // In the block that is set aside for discarding (RFC 6666).
        IpFamily::Ipv6 => Ipv6Addr::from((0x100 << 112) | u128::from(class)).into(),
    }
}

/// What a client connects to.
#[derive(Clone, Copy)]
enum Frontend {
    Address(IpAddr),
    NodePort(NonZeroU16),
}

impl Frontend {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Address(_) => "",
            Self::NodePort(_) => "nodeport-",
        }
    }

    /// What stands for it in a key, the protocol included or not.
    fn key(self, service: &ServicePort, protocol: Option<Protocol>) -> SmolStr {
        let protocol = protocol.map(protocol_word);
        let port = service.port;
        match (self, protocol) {
            (Self::Address(ip), None) => format_smolstr!("{ip} . {port}"),
            (Self::Address(ip), Some(protocol)) => format_smolstr!("{ip} . {protocol} . {port}"),
            (Self::NodePort(port), None) => format_smolstr!("{port}"),
            (Self::NodePort(port), Some(protocol)) => format_smolstr!("{protocol} . {port}"),
        }
    }
}

impl Part {
    pub(super) fn add_flat(&mut self, plan: &PortPlan, words: &Words) {
        let service = &*plan.service;
        let frontends = 1 + service.external_ips.len() + service.load_balancer_ips.len();
        self.elements.reserve(frontends * (plan.endpoints.len() + 3));
        self.common(plan);
        if let Ok(policy) = plan.internal {
            let frontend = Frontend::Address(service.cluster_ip);
            let chain = self.spread_flat(plan, policy, frontend, words);
            let class = service.affinity.is_none().then(|| Class::Inside(policy, plan.under(policy).count()));
            self.lead(service, frontend, class, &chain, words);
        }
        if plan.has_endpoints {
            let addresses = service.external_ips.iter().chain(&service.load_balancer_ips);
            let addresses = addresses.map(|ip| Frontend::Address(*ip));
            for frontend in addresses.chain(service.node_port.map(Frontend::NodePort)) {
                let chain = self.enter(plan, frontend, words);
                let free = service.affinity.is_none() && service.policy.external == Policy::Cluster;
                let class = plan.external.ok().filter(|_| free);
                let class = class.map(|policy| Class::Outside(plan.under(policy).count()));
                self.lead(service, frontend, class, &chain, words);
            }
        }
        self.guard(service, words);
    }

    /// Leads a frontend to its chain.
    fn lead(
        &mut self,
        service: &ServicePort,
        frontend: Frontend,
        class: Option<Class>,
        chain: &str,
        words: &Words,
    ) {
        let key = frontend.key(service, Some(service.protocol));
        let chain = format_smolstr!("goto {chain}");
        if let Frontend::NodePort(_) = frontend {
            return self.element(Container::ServiceNodeports, key, chain, "");
        }
        let (class, chain) = match class.and_then(Class::number) {
            Some(class) => (class, chain),
            None => {
                self.element(Container::ServiceIps, key.clone(), chain, "");
                (OTHER, format_smolstr!("goto {OTHER_SERVICES}"))
            }
        };
        let (protocol, class) = (protocol_word(service.protocol), class_address(class, words.ip_family));
        self.element(Container::ClassChains, format_smolstr!("{protocol} . {class}"), chain, "");
        self.element(Container::ServiceClasses, key, format_smolstr!("{class}"), "");
    }

    /// The chain that traffic from outside enters by.
    fn enter(&mut self, plan: &PortPlan, frontend: Frontend, words: &Words) -> SmolStr {
        let everywhere =
            plan.uses(Policy::Cluster).then(|| self.spread_flat(plan, Policy::Cluster, frontend, words));
        let (name, rules) = match plan.service.policy.external {
            Policy::Cluster => {
                let then = everywhere.filter(|_| plan.external.is_ok());
                let mut rules = Vec::from([alloc::format!("{} comment \"masquerade\"", words.mark)]);
                rules.extend(then.iter().map(|chain| alloc::format!("goto {chain}")));
                (format_smolstr!("external/{}", then.unwrap_or_default()), rules)
            }
            Policy::Local => {
                let here =
                    plan.external.is_ok().then(|| self.spread_flat(plan, Policy::Local, frontend, words));
                let mut rules = Vec::new();
                let from_node = "fib saddr type local";
                if let (Some(chain), Some((from_pods, _))) = (&everywhere, &words.local) {
                    rules.push(alloc::format!(
                        "{from_pods} goto {chain} comment \"short-circuit pod traffic\""
                    ));
                }
                rules.push(alloc::format!("{from_node} {} comment \"masquerade local traffic\"", words.mark));
                rules.extend(everywhere.iter().map(|chain| {
                    alloc::format!("{from_node} goto {chain} comment \"short-circuit local traffic\"")
                }));
                rules.extend(here.iter().map(|chain| alloc::format!("goto {chain}")));
                let (here, everywhere) = (here.unwrap_or_default(), everywhere.unwrap_or_default());
                (format_smolstr!("external/{here}/{everywhere}"), rules)
            }
        };
        self.chain(name.clone(), rules);
        name
    }

    /// The endpoints of a frontend under a policy, and the chain that chooses one.
    fn spread_flat(&mut self, plan: &PortPlan, policy: Policy, frontend: Frontend, words: &Words) -> SmolStr {
        match plan.service.affinity {
            None => self.spread_freely(plan, policy, frontend, words),
            Some(seconds) => self.spread_sticky(plan, policy, frontend, seconds, words),
        }
    }

    fn spread_freely(
        &mut self,
        plan: &PortPlan,
        policy: Policy,
        frontend: Frontend,
        words: &Words,
    ) -> SmolStr {
        let service = &*plan.service;
        let container = match frontend {
            Frontend::Address(_) => Container::Endpoints(service.protocol),
            Frontend::NodePort(_) => Container::NodeportEndpoints(service.protocol),
        };
        let base = first(policy);
        // There are many of these, and formatting them takes most of the time.
        let mut front = Vec::with_capacity(64);
        front.text(&frontend.key(service, None)).text(" . ");
        let mut buffer = Vec::with_capacity(64);
        let mut number = 0;
        for endpoint in plan.under(policy) {
            let key = joined(&mut front, |text| _ = text.number(count(base + number)));
            let to = joined(&mut buffer, |text| {
                text.ip(endpoint.ip).text(" . ").number(endpoint.port.into());
            });
            self.element(container, key, to, "");
            number += 1;
        }
        let protocol = protocol_word(service.protocol);
        let (prefix, family) = (frontend.prefix(), words.family);
        let name = format_smolstr!("{prefix}{}/{protocol}/{number}", policy_word(policy));
        if !self.has_chain(&name) {
            let front = match frontend {
                Frontend::Address(_) => alloc::format!("ct original {family} daddr . {protocol} dport"),
                Frontend::NodePort(_) => alloc::format!("{protocol} dport"),
            };
            let draw = draw(number, base);
            let rule = alloc::format!("dnat {family} to {front} . {draw} map @{}", container.name());
            self.chain(name.clone(), [rule]);
        }
        name
    }

    fn spread_sticky(
        &mut self,
        plan: &PortPlan,
        policy: Policy,
        frontend: Frontend,
        seconds: u32,
        words: &Words,
    ) -> SmolStr {
        let service = &*plan.service;
        let (slots, endpoints) = match frontend {
            Frontend::Address(_) => (Container::StickySlots, Container::StickyEndpoints),
            Frontend::NodePort(_) => (Container::NodeportStickySlots, Container::NodeportStickyEndpoints),
        };
        let base = first(policy);
        let front = frontend.key(service, Some(service.protocol));
        let mut number = 0;
        for endpoint in plan.under(policy) {
            let token = format_smolstr!("{}", name::token(service, endpoint, words.ip_family));
            let to = format_smolstr!("{} . {}", endpoint.ip, endpoint.port);
            self.element(endpoints, format_smolstr!("{front} . {token}"), to, "");
            self.element(slots, format_smolstr!("{front} . {}", base + number), token, "");
            number += 1;
        }
        let (prefix, family) = (frontend.prefix(), words.family);
        let name = format_smolstr!("{prefix}{}/sticky/{seconds}s/{number}", policy_word(policy));
        if !self.has_chain(&name) {
            let front = match frontend {
                Frontend::Address(_) => {
                    alloc::format!("ct original {family} daddr . meta l4proto . th dport")
                }
                Frontend::NodePort(_) => "meta l4proto . th dport".to_string(),
            };
            let remember = format_smolstr!("{prefix}remember/{seconds}s");
            let put =
                |number: &str| alloc::format!("{family} daddr set {front} . {number} map @{}", slots.name());
            let mut rules = Vec::with_capacity(2 * number + 2);
            for number in base..base + number {
                // A number that is always the same: nft takes no plain one in a key.
                rules.push(put(&draw_of("inc", 1, number)));
                rules.push(alloc::format!("{family} saddr . {family} daddr @affinity goto {remember}"));
            }
            rules.push(put(&draw(number, base)));
            rules.push(alloc::format!("goto {remember}"));
            self.chain(name.clone(), rules);
            let rules = [
                alloc::format!("update @affinity {{ {family} saddr . {family} daddr timeout {seconds}s }}"),
                alloc::format!("dnat {family} to {front} . {family} daddr map @{}", endpoints.name()),
            ];
            self.chain(remember, rules);
        }
        name
    }

    /// As in the reference's layout, the ranges are enforced whether or not there are endpoints. Services with the same
    /// ranges share a chain.
    fn guard(&mut self, service: &ServicePort, words: &Words) {
        if !service.has_firewall() {
            return;
        }
        let mut ranges: Vec<String> = service.source_ranges.iter().map(|range| range.to_string()).collect();
        ranges.sort_unstable();
        ranges.dedup();
        let ranges = ranges.join(" , ");
        let (family, protocol) = (words.family, protocol_word(service.protocol));
        let from_node =
            words.node_ip.is_some_and(|ip| service.source_ranges.iter().any(|range| range.contains(&ip)));
        let mut rule = alloc::format!("{family} saddr != {{ {ranges} }} ");
        if from_node {
            rule.push_str(&alloc::format!(
                "{family} saddr . {family} daddr . meta l4proto . th dport != @{} ",
                Container::FirewallSelf.name()
            ));
            let addresses = &service.load_balancer_ips;
            for (from, to) in addresses.iter().flat_map(|from| addresses.iter().map(move |to| (from, to))) {
                let key = format_smolstr!("{from} . {to} . {protocol} . {}", service.port);
                self.element(Container::FirewallSelf, key, SmolStr::default(), "");
            }
        }
        rule.push_str("drop");
        let name = format_smolstr!("firewall/{}", name::hash(&rule));
        for ip in &service.load_balancer_ips {
            let key = Frontend::Address(*ip).key(service, Some(service.protocol));
            self.element(Container::FirewallIps, key, format_smolstr!("goto {name}"), "");
        }
        self.chain(name, [rule]);
    }

    fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|(known, _)| known == name)
    }
}

const fn first(policy: Policy) -> usize {
    match policy {
        Policy::Cluster => 0,
        Policy::Local => LOCAL,
    }
}

const fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Cluster => "cluster",
        Policy::Local => "local",
    }
}

fn draw(number: usize, base: usize) -> String {
    draw_of("random", number, base)
}

fn draw_of(mode: &str, number: usize, base: usize) -> String {
    match base {
        0 => alloc::format!("numgen {mode} mod {number}"),
        _ => alloc::format!("numgen {mode} mod {number} offset {base}"),
    }
}
