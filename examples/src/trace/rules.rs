//! The node's rules, generated and walked.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;
use svc_model::{IpFamily, Protocol};
use svc_rules::Scheme;
use svc_rules::host::Host;
use svc_rules::outcome::{self, SourceNat, Verdict};
use svc_rules::packet::{Packet, Transport};

use super::{Request, Source};
use crate::world::World;

/// The rules that a packet passes on a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RulesStep {
    /// Proxy mode.
    pub mode: &'static str,
    /// The node.
    pub node: String,
    /// The rules that matched, of the first candidate (or of the refusal).
    pub hits: Vec<RuleHit>,
}

/// A rule that matched.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleHit {
    /// Table.
    pub table: String,
    /// Chain, or the virtual server as ipvsadm writes it.
    pub chain: String,
    /// Number of the rule in its chain, from 1; none for a chain's policy and for virtual servers of IPVS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// What it did.
    pub effect: String,
    /// The rule's comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A way that the packet may take to its end.
pub(super) struct End {
    pub(super) destination: SocketAddr,
    pub(super) share: f64,
    pub(super) masqueraded_as: Option<IpAddr>,
}

pub(super) struct Walked {
    pub(super) step: RulesStep,
    /// Ends at which the packet gets through, by address.
    pub(super) ends: Vec<End>,
    /// Why the rest doesn't, and what would help.
    pub(super) refused: Option<(String, Option<String>)>,
}

/// Walks the rules of the source's node (of the node that outside traffic enters at) towards each address;
/// each gets an equal share.
pub(super) fn walk(
    world: &World,
    request: &Request<'_>,
    source: &Source,
    addresses: &[IpAddr],
    port: u16,
) -> Result<Walked> {
    let scheme = match request.mode {
        Some(scheme) => scheme,
        None => Scheme::of(world.proxy_mode()?),
    };
    let node = world.node(entry_node(world, request, source, addresses).as_deref())?;
    let name = node.metadata.name.to_string();
    let family = addresses.first().map_or(IpFamily::Ipv4, |ip| IpFamily::of(*ip));
    let rules = world.rules(scheme, &world.proxy_config(&node, family, scheme.mode())?);
    let host = rules.host(host(world, &name));
    let mut walked = Walked {
        step: RulesStep { mode: scheme.as_str(), node: name.clone(), hits: Vec::new() },
        ends: Vec::new(),
        refused: None,
    };
    let share = 1.0 / addresses.len().max(1) as f64;
    let client = source.address_of(family).unwrap_or(source.address);
    for address in addresses {
        let transport = match request.protocol {
            Protocol::Tcp => Transport::TCP,
            Protocol::Udp => Transport::UDP,
            Protocol::Sctp => Transport::SCTP,
        };
        // A process of the node sends from the address that it sends to, if that is the node's own.
        let own = source.host_network && host.is_local(*address);
        let client = if own { *address } else { client };
        let packet = Packet::new(transport, SocketAddr::new(client, 40_000), SocketAddr::new(*address, port));
        let packet = match (&source.pod, source.host_network) {
            (Some(_), true) => packet,
            (Some(_), false) => packet.from_interface("pod0"),
            (None, _) => packet.from_interface("eth0"),
        };
        let walk = rules.walk(&host, &packet);
        for outcome in &walk.outcomes {
            walked.add(outcome, share, &host, family);
        }
    }
    walked.merge();
    Ok(walked)
}

impl Walked {
    fn add(&mut self, outcome: &outcome::Outcome, share: f64, host: &Host, family: IpFamily) {
        let delivered = outcome.verdict.is_accept();
        if self.step.hits.is_empty() || (!delivered && self.refused.is_none() && self.ends.is_empty()) {
            self.step.hits = outcome.hits.iter().map(rule_hit).collect();
        }
        if delivered {
            let masqueraded_as = match outcome.source_nat {
                Some(SourceNat::To(ip)) => Some(ip),
                Some(SourceNat::Masquerade { .. }) => host
                    .interfaces
                    .iter()
                    .flat_map(|interface| &interface.addresses)
                    .map(IpNet::addr)
                    .find(|ip| IpFamily::of(*ip) == family),
                None => None,
            };
            self.ends.push(End {
                destination: outcome.destination,
                share: share * outcome.probability.value(),
                masqueraded_as,
            });
        } else {
            self.refused.get_or_insert_with(|| refusal(outcome));
        }
    }

    /// One entry an end, in order of address.
    fn merge(&mut self) {
        self.ends.sort_by_key(|end| (end.destination, end.masqueraded_as));
        self.ends.dedup_by(|next, kept| {
            let same = next.destination == kept.destination && next.masqueraded_as == kept.masqueraded_as;
            if same {
                kept.share += next.share;
            }
            same
        });
    }
}

fn refusal(outcome: &outcome::Outcome) -> (String, Option<String>) {
    let rule = outcome.hits.last().and_then(|hit| hit.comment.as_ref());
    let because = rule.map_or_else(String::new, |comment| format!(": {comment}"));
    match &outcome.verdict {
        Verdict::Reject(_) => (format!("the node rejects the connection{because}"), None),
        Verdict::Drop => (
            format!("the node drops the packet{because}"),
            because
                .contains("local endpoints")
                .then(|| "run a ready Pod on this node, or set the traffic policy to Cluster".to_owned()),
        ),
        Verdict::NoRoute => ("the node has no route there".into(), None),
        Verdict::Martian => ("the kernel takes the address for impossible there".into(), None),
        Verdict::Unknown(why) => (format!("it can't be told what the rules do: {why}"), None),
        Verdict::Deliver | Verdict::Forward(_) => unreachable!("it was delivered"),
    }
}

fn rule_hit(hit: &outcome::Hit) -> RuleHit {
    let text = hit.to_string();
    let place = match hit.rule {
        Some(number) => format!("{} rule {number} ", hit.chain),
        None => format!("{} policy ", hit.chain),
    };
    let effect = text.split_once(&place).map_or(text.as_str(), |(_, effect)| effect);
    let effect = effect.split(" (").next().unwrap_or(effect);
    RuleHit {
        table: hit.table.to_string(),
        chain: hit.chain.to_string(),
        number: hit.rule,
        effect: effect.to_owned(),
        comment: hit.comment.as_ref().map(ToString::to_string),
    }
}

/// The node whose rules count: the source's own, the one addressed, or the one that was named.
fn entry_node(world: &World, request: &Request<'_>, source: &Source, addresses: &[IpAddr]) -> Option<String> {
    if let Some(node) = &source.node {
        return Some(node.clone());
    }
    if let Some(node) = request.node {
        return Some(node.to_owned());
    }
    addresses.iter().find_map(|ip| {
        world.cluster.owners_of(*ip).into_iter().find_map(|owner| match owner {
            svc_model::cluster::AddressOwner::Node(node) => Some(node.metadata.name.to_string()),
            _ => None,
        })
    })
}

/// A node with an interface to the outside and one to its Pods and those of other nodes.
fn host(world: &World, node: &str) -> Host {
    let addresses = world.cluster.nodes().get("", node).map(|node| node.addresses().collect::<Vec<_>>());
    let addresses = addresses.unwrap_or_default();
    let mut host = Host::new().with_interface("eth0", addresses.into_iter().map(IpNet::from));
    for pod in world.cluster.pods_on(node) {
        if !pod.spec.host_network {
            for ip in pod.addresses() {
                host = host.with_route(IpNet::from(ip), "pod0");
            }
        }
    }
    for everywhere in [[0, 0, 0, 0].into(), IpAddr::from([0u16; 8])] {
        if let Ok(network) = IpNet::new(everywhere, 0) {
            host = host.with_route(network, "eth0");
        }
    }
    host
}
