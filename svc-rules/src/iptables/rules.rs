//! The rules themselves: for each Service port and for all of them, in the reference's order.
//!
//! One generator feeds every use. A [`Sink`] decides whether a rule becomes a line of text at once (a full or partial
//! sync) or is set aside to be compared with another (a delta).

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_endpoints::view::{NoEndpoints, Policy};
use svc_model::IpFamily;

use super::chain::{Chain, ChainHash, ChainKind, ServiceChain, SharedChain};
use super::common::{Marked, local_traffic};
use super::text::Text;
use crate::config::{NodePortAddresses, ProxyConfig};
use crate::plan::{Endpoint, PortPlan, protocol_word};

/// Whether rules that exist once per endpoint carry a comment. The reference leaves it out in large clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comments {
    All,
    NotPerEndpoint,
}

/// A Service port as iptables mode sees it: the plan and the hashes of its chain names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) plan: PortPlan,
    pub(super) hash: ChainHash,
    /// One for each of the plan's endpoints.
    pub(super) endpoint_hashes: alloc::boxed::Box<[ChainHash]>,
    pub(super) comments: Comments,
}

impl Port {
    /// Hashes all names, except those of endpoints that `known` has under the same name.
    pub(super) fn new(plan: PortPlan, comments: Comments, known: Option<&Self>) -> Self {
        let service = &plan.service;
        let known = known
            .filter(|k| k.plan.service.name == service.name && k.plan.service.protocol == service.protocol);
        let hash =
            known.map_or_else(|| ChainHash::of_port(&service.name, service.protocol), |known| known.hash);
        let mut known = Known::new(known);
        let mut text = Vec::with_capacity(48);
        let endpoint_hashes = plan
            .endpoints
            .iter()
            .map(|endpoint| {
                known.hash(endpoint).unwrap_or_else(|| {
                    text.clear();
                    text.socket(endpoint.ip, endpoint.port);
                    ChainHash::of_endpoint(&service.name, service.protocol, &text)
                })
            })
            .collect();
        Self { hash, endpoint_hashes, comments, plan }
    }

    /// The chains of endpoints, in an order to search in.
    pub(super) fn sorted_endpoint_hashes(&self) -> Vec<ChainHash> {
        let mut hashes = self.endpoint_hashes.to_vec();
        hashes.sort_unstable();
        hashes
    }

    fn hashed_endpoints(&self) -> impl Iterator<Item = (&Endpoint, ChainHash)> + Clone {
        self.plan.endpoints.iter().zip(self.endpoint_hashes.iter().copied())
    }

    fn set(&self, set: Policy) -> impl Iterator<Item = (&Endpoint, ChainHash)> + Clone {
        self.hashed_endpoints().filter(move |(endpoint, _)| endpoint.serves(set))
    }

    fn chain(&self, kind: ChainKind) -> ServiceChain {
        ServiceChain { hash: self.hash, kind }
    }

    fn set_chain(&self, set: Policy) -> ServiceChain {
        self.chain(match set {
            Policy::Cluster => ChainKind::Cluster,
            Policy::Local => ChainKind::Local,
        })
    }

    /// The external chain exists whenever there are endpoints anywhere, because traffic of this node and its Pods
    /// is served even if the policy `Local` leaves none for others.
    fn has_external_chain(&self) -> bool {
        self.plan.has_endpoints && self.plan.service.has_external_frontends()
    }

    /// Unlike the nftables backend, this one has no firewall chain without endpoints.
    fn has_firewall_chain(&self) -> bool {
        self.plan.has_endpoints && self.plan.service.has_firewall()
    }

    /// The chains of the port, in the order in which they are declared.
    pub(super) fn for_each_chain(&self, mut visit: impl FnMut(ServiceChain)) {
        if self.has_external_chain() {
            visit(self.chain(ChainKind::External));
        }
        if self.has_firewall_chain() {
            visit(self.chain(ChainKind::Firewall));
        }
        for set in [Policy::Cluster, Policy::Local] {
            if self.plan.uses(set) {
                visit(self.set_chain(set));
            }
        }
        for hash in self.endpoint_hashes.iter().copied() {
            visit(ServiceChain { hash, kind: ChainKind::Endpoint });
        }
    }
}

/// The chains of all `ports`, in an order to search in.
pub(super) fn sorted_chains(ports: &[Port]) -> Vec<ServiceChain> {
    let mut chains = Vec::with_capacity(ports.iter().map(|port| port.endpoint_hashes.len() + 4).sum());
    for port in ports {
        port.for_each_chain(|chain| chains.push(chain));
    }
    chains.sort_unstable();
    chains
}

/// The names that a port's endpoints already have.
struct Known<'a> {
    port: Option<&'a Port>,
    /// Where the next endpoint stands, if it is a survivor with nothing gone before it: both lists are sorted alike.
    next: usize,
    /// Made when that fails for the first time.
    sorted: Vec<(IpAddr, u16, usize)>,
}

impl<'a> Known<'a> {
    fn new(port: Option<&'a Port>) -> Self {
        Self { port, next: 0, sorted: Vec::new() }
    }

    fn hash(&mut self, endpoint: &Endpoint) -> Option<ChainHash> {
        let port = self.port?;
        let key = (endpoint.ip, endpoint.port);
        let is_next = port.plan.endpoints.get(self.next).is_some_and(|old| (old.ip, old.port) == key);
        if !is_next {
            if self.sorted.is_empty() {
                let old = port.plan.endpoints.iter().enumerate();
                self.sorted = old.map(|(at, old)| (old.ip, old.port, at)).collect();
                self.sorted.sort_unstable();
            }
            let at = self.sorted.binary_search_by(|old| (old.0, old.1).cmp(&key)).ok()?;
            self.next = self.sorted.get(at)?.2;
        }
        let hash = port.endpoint_hashes.get(self.next).copied();
        self.next += 1;
        hash
    }
}

/// Takes the rules one by one.
pub(super) trait Sink {
    /// A rule at the end of `chain`; `write` appends everything behind `-A CHAIN `.
    fn rule(&mut self, chain: Chain, write: impl FnOnce(&mut Vec<u8>));
}

/// Writes rules as lines of an `iptables-restore` input.
pub(super) struct Lines<'a>(pub(super) &'a mut Vec<u8>);

impl Lines<'_> {
    /// Declares a chain, which empties it if it exists.
    pub(super) fn chain(&mut self, chain: Chain) {
        self.0.text(":");
        chain.write(self.0);
        self.0.text(" - [0:0]\n");
    }
}

impl Sink for Lines<'_> {
    #[inline]
    fn rule(&mut self, chain: Chain, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.text("-A ");
        chain.write(self.0);
        self.0.text(" ");
        write(self.0);
        self.0.text("\n");
    }
}

/// The generator: the configuration, as far as rules repeat it, already in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    family: IpFamily,
    marked: Marked,
    masquerade_all: bool,
    node_ip: Option<IpAddr>,
    /// The match for traffic from local Pods, and the one for all other traffic.
    local: Option<(String, String)>,
    opens_localhost: bool,
    counts_localhost: bool,
    /// Whether invalid packets are dropped, and whether they are counted then.
    drops_invalid: Option<bool>,
    /// `None`: node ports are open at all addresses.
    node_port_ips: Option<Vec<IpAddr>>,
}

impl Rules {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let node_port_ips = match &config.node_port_addresses {
            NodePortAddresses::All => None,
            NodePortAddresses::Within(nets) => {
                let mut ips: Vec<_> = config
                    .node_addresses
                    .iter()
                    .copied()
                    .filter(|ip| IpFamily::of(*ip) == config.family)
                    .filter(|ip| nets.iter().any(|net| net.contains(ip)))
                    .filter(|ip| !ip.is_loopback() || config.opens_localhost())
                    .collect();
                ips.sort_unstable();
                ips.dedup();
                Some(ips)
            }
        };
        Self {
            family: config.family,
            marked: Marked::new(config),
            masquerade_all: config.masquerade_all,
            node_ip: config.node_ip.filter(|ip| IpFamily::of(*ip) == config.family),
            local: local_traffic(&config.local_detector),
            opens_localhost: config.opens_localhost(),
            counts_localhost: config.counts_localhost_node_ports,
            drops_invalid: (!config.conntrack_tcp_be_liberal).then_some(config.counts_invalid_drops),
            node_port_ips,
        }
    }

    /// The shared chains of the filter table.
    pub(super) fn filter_chains(&self) -> impl Iterator<Item = SharedChain> {
        use SharedChain::{
            ExternalServices, FilterNodePorts, FilterServices, Firewall, Forward, ProxyFirewall,
        };
        let fixed = [FilterServices, ExternalServices, Forward, FilterNodePorts, ProxyFirewall];
        fixed.into_iter().chain(self.opens_localhost.then_some(Firewall))
    }

    /// The shared chains of the nat table.
    pub(super) fn nat_chains(&self) -> impl Iterator<Item = SharedChain> {
        use SharedChain::{MarkMasq, NodePorts, Postrouting, Services};
        [Services, NodePorts, Postrouting, MarkMasq].into_iter()
    }

    /// Rules of the filter table that come before those of the Services.
    pub(super) fn filter_head(&self, sink: &mut impl Sink) {
        if self.opens_localhost {
            // Routing to loopback addresses is switched on for node ports, so what is not meant for one of them
            // must not come in from elsewhere (CVE-2020-8558).
            sink.rule(Chain::Shared(SharedChain::Firewall), |w| {
                w.text("-m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8")
                    .text(" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP");
            });
        }
    }

    /// Rules of the filter table that come after those of the Services.
    pub(super) fn filter_tail(&self, sink: &mut impl Sink) {
        let chain = Chain::Shared(SharedChain::Forward);
        if let Some(counted) = self.drops_invalid {
            sink.rule(chain, |w| {
                w.text("-m conntrack --ctstate INVALID ");
                if counted {
                    w.text("-m nfacct --nfacct-name ").text(ProxyConfig::INVALID_DROPS).text(" ");
                }
                w.text("-j DROP");
            });
        }
        self.marked.forward(|write| sink.rule(chain, write));
    }

    /// Rules of the nat table that come before those of the Services.
    pub(super) fn nat_head(&self, sink: &mut impl Sink) {
        let postrouting = Chain::Shared(SharedChain::Postrouting);
        self.marked.postrouting(|write| sink.rule(postrouting, write));
        self.mark_masq(sink);
    }

    /// The rule that marks packets to be masqueraded.
    pub(super) fn mark_masq(&self, sink: &mut impl Sink) {
        sink.rule(Chain::Shared(SharedChain::MarkMasq), |w| self.marked.mark_masq(w));
    }

    /// Rules of the nat table that come after those of the Services.
    pub(super) fn nat_tail(&self, sink: &mut impl Sink) {
        const COMMENT: &str = "-m comment --comment \"kubernetes service nodeports; \
                               NOTE: this must be the last rule in this chain\" ";
        let chain = Chain::Shared(SharedChain::Services);
        match &self.node_port_ips {
            None => sink.rule(chain, |w| {
                w.text(COMMENT).text("-m addrtype --dst-type LOCAL ");
                match self.family {
                    IpFamily::Ipv6 => _ = w.text("! -d ::1/128 "),
                    IpFamily::Ipv4 if !self.opens_localhost => _ = w.text("! -d 127.0.0.0/8 "),
                    IpFamily::Ipv4 => {}
                }
                w.text("-j KUBE-NODEPORTS");
            }),
            Some(ips) => {
                for ip in ips {
                    sink.rule(chain, |w| {
                        w.text(COMMENT).text("-d ").ip(*ip).text(" -j KUBE-NODEPORTS");
                    });
                }
            }
        }
    }

    /// A port's rules in the shared chains of the filter table.
    pub(super) fn filter(&self, port: &Port, sink: &mut impl Sink) {
        let PortPlan { service, .. } = &port.plan;
        if let Err(why) = port.plan.internal {
            sink.rule(Chain::Shared(SharedChain::FilterServices), |w| {
                self.refuse(port, Some(service.cluster_ip), why, w);
            });
        }
        if let Err(why) = port.plan.external {
            for ip in service.external_ips.iter() {
                sink.rule(Chain::Shared(SharedChain::ExternalServices), |w| {
                    self.refuse(port, Some(*ip), why, w)
                });
            }
        }
        if port.has_firewall_chain() {
            for ip in service.load_balancer_ips.iter() {
                sink.rule(Chain::Shared(SharedChain::ProxyFirewall), |w| {
                    w.text("-m comment --comment \"").text(service.name.as_safe_str());
                    w.text(" traffic not accepted by ");
                    port.chain(ChainKind::Firewall).write(w);
                    w.text("\" ");
                    destination(port, *ip, w);
                    w.text(" -j DROP");
                });
            }
        }
        if let Err(why) = port.plan.external {
            for ip in service.load_balancer_ips.iter() {
                sink.rule(Chain::Shared(SharedChain::ExternalServices), |w| {
                    self.refuse(port, Some(*ip), why, w)
                });
            }
            if service.node_port.is_some() {
                sink.rule(Chain::Shared(SharedChain::ExternalServices), |w| self.refuse(port, None, why, w));
            }
        }
        if let Some(health) = service.health_check_node_port {
            sink.rule(Chain::Shared(SharedChain::FilterNodePorts), |w| {
                w.text("-m comment --comment \"").text(service.name.as_safe_str());
                w.text(" health check node port\" -m tcp -p tcp --dport ").number(health.get().into());
                w.text(" -j ACCEPT");
            });
        }
    }

    /// `ip` absent: the node port.
    fn refuse(&self, port: &Port, ip: Option<IpAddr>, why: NoEndpoints, w: &mut Vec<u8>) {
        let service = &port.plan.service;
        let (comment, target) = refusal(why);
        w.text("-m comment --comment \"").text(service.name.as_safe_str()).text(comment).text("\" ");
        match ip {
            Some(ip) => destination(port, ip, w),
            None => {
                w.text("-m addrtype --dst-type LOCAL ");
                node_port(port, "", w);
            }
        }
        w.text(target);
    }

    /// A port's rules in the shared chains of the nat table.
    pub(super) fn dispatch(&self, port: &Port, sink: &mut impl Sink) {
        let PortPlan { service, .. } = &port.plan;
        let mut to = |what: &str, ip: IpAddr, target: ServiceChain| {
            sink.rule(Chain::Shared(SharedChain::Services), |w| {
                w.text("-m comment --comment \"").text(service.name.as_safe_str()).text(what).text("\" ");
                destination(port, ip, w);
                w.text(" -j ");
                target.write(w);
            });
        };
        if let Ok(set) = port.plan.internal {
            to(" cluster IP", service.cluster_ip, port.set_chain(set));
        }
        if !port.plan.has_endpoints {
            return;
        }
        for ip in service.external_ips.iter() {
            to(" external IP", *ip, port.chain(ChainKind::External));
        }
        let load_balancer =
            port.chain(if port.has_firewall_chain() { ChainKind::Firewall } else { ChainKind::External });
        for ip in service.load_balancer_ips.iter() {
            to(" loadbalancer IP", *ip, load_balancer);
        }
        if service.node_port.is_some() {
            let mut open = |range: &str, counter: &str| {
                sink.rule(Chain::Shared(SharedChain::NodePorts), |w| {
                    w.text("-m comment --comment ").text(service.name.as_safe_str()).text(" ");
                    node_port(port, range, w);
                    w.text(counter).text(" -j ");
                    port.chain(ChainKind::External).write(w);
                });
            };
            if self.opens_localhost && self.counts_localhost {
                open("-d 127.0.0.0/8 ", " -m nfacct --nfacct-name localhost_nps_accepted_pkts");
            }
            open("", "");
        }
    }

    /// The rules in a port's own chains.
    pub(super) fn service(&self, port: &Port, sink: &mut impl Sink) {
        self.traffic(port, sink);
        self.endpoints(port, |_| true, sink);
    }

    /// Those in the chains that lead to endpoints.
    pub(super) fn traffic(&self, port: &Port, sink: &mut impl Sink) {
        self.masquerade_internal(port, sink);
        if port.has_external_chain() {
            self.external(port, sink);
        }
        if port.has_firewall_chain() {
            self.firewall(port, sink);
        }
        for set in [Policy::Cluster, Policy::Local] {
            if port.plan.uses(set) {
                self.spread(port, set, sink);
            }
        }
    }

    fn masquerade_internal(&self, port: &Port, sink: &mut impl Sink) {
        let service = &port.plan.service;
        let Ok(set) = port.plan.internal else { return };
        let elsewhere = match &self.local {
            _ if self.masquerade_all => None,
            Some((_, elsewhere)) => Some(elsewhere),
            None => return,
        };
        sink.rule(Chain::Service(port.set_chain(set)), |w| {
            w.text("-m comment --comment \"").text(service.name.as_safe_str()).text(" cluster IP\" ");
            destination(port, service.cluster_ip, w);
            if let Some(elsewhere) = elsewhere {
                w.text(" ").text(elsewhere);
            }
            w.text(" -j KUBE-MARK-MASQ");
        });
    }

    fn external(&self, port: &Port, sink: &mut impl Sink) {
        let name = port.plan.service.name.as_safe_str();
        let chain = Chain::Service(port.chain(ChainKind::External));
        let mut commented = |what: &str, matching: &str, target: Option<ServiceChain>| {
            sink.rule(chain, |w| {
                w.text("-m comment --comment \"").text(what).text(" for ").text(name);
                w.text(" external destinations\" ").text(matching).text("-j ");
                match target {
                    Some(chain) => chain.write(w),
                    None => _ = w.text("KUBE-MARK-MASQ"),
                }
            });
        };
        match port.plan.service.policy.external {
            Policy::Cluster => commented("masquerade traffic", "", None),
            Policy::Local => {
                let everywhere = port.chain(ChainKind::Cluster);
                if let Some((here, _)) = &self.local {
                    commented("pod traffic", &alloc::format!("{here} "), Some(everywhere));
                }
                let from_node = "-m addrtype --src-type LOCAL ";
                commented("masquerade LOCAL traffic", from_node, None);
                commented("route LOCAL traffic", from_node, Some(everywhere));
            }
        }
        if let Ok(set) = port.plan.external {
            sink.rule(chain, |w| {
                w.text("-j ");
                port.set_chain(set).write(w);
            });
        }
    }

    fn firewall(&self, port: &Port, sink: &mut impl Sink) {
        let service = &port.plan.service;
        let name = service.name.as_safe_str();
        let chain = Chain::Service(port.chain(ChainKind::Firewall));
        let mut allow = |write: &dyn Fn(&mut Vec<u8>)| {
            sink.rule(chain, |w| {
                w.text("-m comment --comment \"").text(name).text(" loadbalancer IP\" -s ");
                write(w);
                w.text(" -j ");
                port.chain(ChainKind::External).write(w);
            });
        };
        for range in service.source_ranges.iter() {
            allow(&|w| {
                w.ip(range.addr()).text("/").number(range.prefix_len().into());
            });
        }
        // The node's own packets to the load balancer may carry its address as their source.
        if self.node_ip.is_some_and(|ip| service.source_ranges.iter().any(|range| range.contains(&ip))) {
            for ip in service.load_balancer_ips.iter() {
                allow(&|w| {
                    w.ip(*ip);
                });
            }
        }
        sink.rule(chain, |w| {
            w.text("-m comment --comment \"other traffic to ").text(name);
            w.text(" will be dropped by KUBE-PROXY-FIREWALL\"");
        });
    }

    fn spread(&self, port: &Port, set: Policy, sink: &mut impl Sink) {
        let service = &port.plan.service;
        let chain = Chain::Service(port.set_chain(set));
        let mut head = Vec::with_capacity(256);
        if port.comments == Comments::All {
            head.text("-m comment --comment \"").text(service.name.as_safe_str()).text(" -> ");
        }
        let comment = |endpoint: &Endpoint, w: &mut Vec<u8>| {
            if !head.is_empty() {
                w.bytes(&head).socket(endpoint.ip, endpoint.port).text("\" ");
            }
        };
        if let Some(seconds) = service.affinity {
            for (endpoint, hash) in port.set(set) {
                sink.rule(chain, |w| {
                    let target = ServiceChain { hash, kind: ChainKind::Endpoint };
                    comment(endpoint, w);
                    w.text("-m recent --name ");
                    target.write(w);
                    w.text(" --rcheck --seconds ").number(seconds).text(" --reap -j ");
                    target.write(w);
                });
            }
        }
        let mut left = u32::try_from(port.set(set).count()).unwrap_or(u32::MAX);
        for (endpoint, hash) in port.set(set) {
            sink.rule(chain, |w| {
                comment(endpoint, w);
                if left > 1 {
                    w.text("-m statistic --mode random --probability ").one_in(left).text(" ");
                }
                w.text("-j ");
                ServiceChain { hash, kind: ChainKind::Endpoint }.write(w);
            });
            left = left.saturating_sub(1);
        }
    }

    /// Those in the chains of single endpoints, of which `wanted` picks. They depend on nothing but the Service port,
    /// whether there are comments, and the endpoint's address.
    pub(super) fn endpoints(&self, port: &Port, wanted: impl Fn(ChainHash) -> bool, sink: &mut impl Sink) {
        let service = &port.plan.service;
        // All that the rules of one endpoint share with those of the next.
        let mut head = Vec::with_capacity(256);
        if port.comments == Comments::All {
            head.text("-m comment --comment ").text(service.name.as_safe_str()).text(" ");
        }
        let comment = head.len();
        protocol(port, &mut head);
        head.text("-j DNAT --to-destination ");
        let (comment, translation) = head.split_at_checked(comment).unwrap_or_default();
        for (endpoint, hash) in port.hashed_endpoints().filter(|(_, hash)| wanted(*hash)) {
            let chain = ServiceChain { hash, kind: ChainKind::Endpoint };
            // An endpoint that reaches itself through the Service must see an address that it answers through
            // the node.
            sink.rule(Chain::Service(chain), |w| {
                w.bytes(comment).text("-s ").ip(endpoint.ip).text(" -j KUBE-MARK-MASQ");
            });
            sink.rule(Chain::Service(chain), |w| {
                w.bytes(comment);
                if service.affinity.is_some() {
                    w.text("-m recent --name ");
                    chain.write(w);
                    w.text(" --set ");
                }
                w.bytes(translation).socket(endpoint.ip, endpoint.port);
            });
        }
    }
}

fn refusal(why: NoEndpoints) -> (&'static str, &'static str) {
    match why {
        NoEndpoints::Anywhere => (" has no endpoints", " -j REJECT"),
        NoEndpoints::OnThisNode => (" has no local endpoints", " -j DROP"),
    }
}

fn protocol(port: &Port, w: &mut Vec<u8>) {
    let name = protocol_word(port.plan.service.protocol);
    w.text("-m ").text(name).text(" -p ").text(name).text(" ");
}

fn destination(port: &Port, ip: IpAddr, w: &mut Vec<u8>) {
    protocol(port, w);
    w.text("-d ").ip(ip).text(" --dport ").number(port.plan.service.port.into());
}

/// `range` is empty or ends with a space.
fn node_port(port: &Port, range: &str, w: &mut Vec<u8>) {
    protocol(port, w);
    let number = port.plan.service.node_port.map_or(0, |number| number.get());
    w.text(range).text("--dport ").number(number.into());
}
