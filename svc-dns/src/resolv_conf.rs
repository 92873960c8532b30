//! The resolv.conf of a Pod, as the kubelet makes it (`pkg/kubelet/network/dns`, KEP-2595).

use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use smol_str::{SmolStr, format_smolstr};
use svc_model::{DnsPolicy, Pod, PodDnsConfigOption};

/// At most so many name servers.
const MAX_NAMESERVERS: usize = 3;
/// The longest search domain (a DNS-1123 subdomain).
const MAX_SEARCH: usize = 253;

/// What a resolver is told: name servers, search domains and options.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct ResolvConf {
    /// Addresses of name servers, as text.
    pub nameservers: Vec<SmolStr>,
    /// Domains that names are tried in.
    pub searches: Vec<SmolStr>,
    /// Options, `name` or `name:value`.
    pub options: Vec<SmolStr>,
}

/// A `nameserver` line without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `nameserver` without an address")]
pub struct ResolvConfError {
    line: usize,
}

impl ResolvConfError {
    /// The line, counted from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }
}

impl ResolvConf {
    /// Reads a node's file as the kubelet does: name servers add up, of `search` and `options` the last line counts, the dot at the
    /// end of a search domain is cut, `domain` is not read.
    ///
    /// # Errors
    /// A `nameserver` line has no address; no Pod can be started then.
    pub fn parse(text: &str) -> Result<Self, ResolvConfError> {
        let mut conf = Self::default();
        for (index, line) in text.split('\n').enumerate() {
            let mut fields = line.split_whitespace();
            match fields.next() {
                Some("nameserver") => {
                    let address = fields.next().ok_or(ResolvConfError { line: index + 1 })?;
                    conf.nameservers.push(address.into());
                }
                Some("search") => {
                    conf.searches = fields.map(|domain| without_dot(domain).into()).collect();
                }
                Some("options") => conf.options = fields.map(Into::into).collect(),
                _ => {}
            }
        }
        Ok(conf)
    }

    /// The `ndots` option, at most 15 as resolvers cap it; 1 if it is not set.
    #[must_use]
    pub fn ndots(&self) -> usize {
        let value = self.options.iter().rev().find_map(|option| option.strip_prefix("ndots:"));
        value.and_then(|value| value.parse::<usize>().ok()).map_or(1, |ndots| ndots.min(15))
    }

    /// Adds options in the way of a Pod's `dnsConfig`: one of the same name is replaced. The kubelet's order is that of a map; here
    /// an option keeps its place.
    pub fn merge_options(&mut self, options: &[PodDnsConfigOption]) {
        let name_of = |option: &str| SmolStr::new(option.split_once(':').map_or(option, |(name, _)| name));
        let mut merged: Vec<(SmolStr, SmolStr)> = Vec::new();
        let mut put =
            |name: SmolStr, value: SmolStr| match merged.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => merged.push((name, value)),
            };
        for option in &self.options {
            let value = option.split_once(':').map_or("", |(_, value)| value);
            put(name_of(option), value.into());
        }
        for option in options {
            put(option.name.clone(), option.value.clone().unwrap_or_default());
        }
        let text = |(name, value): &(SmolStr, SmolStr)| {
            if value.is_empty() { name.clone() } else { format_smolstr!("{name}:{value}") }
        };
        self.options = merged.iter().map(text).collect();
    }

    /// Cuts the list of name servers to three; tells whether it was longer.
    pub fn limit_nameservers(&mut self) -> Option<DnsEvent> {
        let longer = self.nameservers.len() > MAX_NAMESERVERS;
        self.nameservers.truncate(MAX_NAMESERVERS);
        longer.then_some(DnsEvent::NameserverLimit)
    }

    /// Cuts the search list to the limits; tells whether anything was left out.
    pub fn limit_searches(&mut self, limits: SearchLimits) -> Option<DnsEvent> {
        let (paths, characters) = limits.values();
        let before = self.searches.len();
        self.searches.truncate(paths);
        self.searches.retain(|search| search.len() <= MAX_SEARCH);
        let line = |searches: &[SmolStr]| {
            (searches.iter().map(|search| search.len() + 1).sum::<usize>()).saturating_sub(1)
        };
        while line(&self.searches) > characters {
            self.searches.pop();
        }
        (self.searches.len() < before).then_some(DnsEvent::SearchLimit)
    }
}

impl fmt::Display for ResolvConf {
    /// The file, as the kubelet's runtime writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for nameserver in &self.nameservers {
            writeln!(f, "nameserver {nameserver}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

/// How long a search list may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum SearchLimits {
    /// 32 domains and 2048 characters: Kubernetes 1.28 and later (KEP-2595).
    #[default]
    Expanded,
    /// 6 domains and 256 characters: before, and what glibc before 2.26 reads.
    Legacy,
}

impl SearchLimits {
    fn values(self) -> (usize, usize) {
        match self {
            Self::Expanded => (32, 2048),
            Self::Legacy => (6, 256),
        }
    }
}

/// Where a Pod's resolver settings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DnsBasis {
    /// The cluster's DNS.
    Cluster,
    /// The node's file.
    Host,
    /// Nothing but the Pod's own `dnsConfig`.
    Nothing,
}

/// A `dnsPolicy` that Kubernetes does not know. The kubelet goes on with the cluster's DNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.dnsPolicy: `{0}` is no DNS policy")]
pub struct UnknownPolicy(SmolStr);

impl DnsBasis {
    /// What a policy means for a Pod with or without the host's network. An absent policy is ClusterFirst, as the API server sets it.
    ///
    /// # Errors
    /// The policy is unknown.
    pub fn of(pod: &Pod) -> Result<Self, UnknownPolicy> {
        let policy = &pod.spec.dns_policy;
        let known = if policy.is_empty() { Some(DnsPolicy::ClusterFirst) } else { policy.get() };
        Ok(match known.ok_or_else(|| UnknownPolicy(policy.to_text()))? {
            DnsPolicy::None => Self::Nothing,
            DnsPolicy::ClusterFirstWithHostNet => Self::Cluster,
            DnsPolicy::ClusterFirst if !pod.spec.host_network => Self::Cluster,
            DnsPolicy::ClusterFirst | DnsPolicy::Default => Self::Host,
        })
    }
}

/// Something that the kubelet reports while it makes a resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DnsEvent {
    /// `DNSConfigForming`: more than three name servers.
    #[error("more than 3 name servers: the rest is left out")]
    NameserverLimit,
    /// `DNSConfigForming`: the search list is too long.
    #[error("the search list is too long: search domains are left out")]
    SearchLimit,
    /// `MissingClusterDNS`: the Pod wants the cluster's DNS and the kubelet knows none.
    #[error("the kubelet knows no cluster DNS: the node's settings are taken instead")]
    MissingClusterDns,
    /// The policy is unknown and taken for the cluster's.
    #[error("spec.dnsPolicy: `{0}` is no DNS policy: ClusterFirst is taken instead")]
    UnknownPolicy(SmolStr),
}

/// What a kubelet knows about DNS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Kubelet {
    /// `clusterDNS`.
    pub cluster_dns: Vec<IpAddr>,
    /// `clusterDomain`; empty gives no cluster search domains.
    pub cluster_domain: SmolStr,
    /// The node's file; none if `resolvConf` is empty.
    pub node: Option<ResolvConf>,
    /// The node's addresses.
    pub node_addresses: Vec<IpAddr>,
    /// The limits of its version.
    pub limits: SearchLimits,
}

/// A Pod's resolver settings and what was reported on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PodDns {
    /// The settings.
    pub conf: ResolvConf,
    /// What the kubelet reports.
    pub events: Vec<DnsEvent>,
}

impl Kubelet {
    /// A kubelet with a cluster DNS address and domain, and a node that brings nothing of its own.
    #[must_use]
    pub fn new(cluster_dns: Vec<IpAddr>, cluster_domain: &str) -> Self {
        let node = Some(ResolvConf::default());
        Self { cluster_dns, cluster_domain: cluster_domain.into(), node, ..Self::default() }
    }

    /// The resolv.conf of a Pod.
    ///
    /// ```
    /// use svc_dns::Kubelet;
    /// use svc_model::{ObjectMeta, Pod};
    ///
    /// let kubelet = Kubelet::new(vec!["10.96.0.10".parse()?], "cluster.local");
    /// let pod = Pod { metadata: ObjectMeta::new("shop", "web-0"), ..Pod::default() };
    /// assert_eq!(
    ///     kubelet.pod_dns(&pod).conf.to_string(),
    ///     "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
    /// );
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn pod_dns(&self, pod: &Pod) -> PodDns {
        let mut events = Vec::new();
        let mut basis = DnsBasis::of(pod).unwrap_or_else(|UnknownPolicy(policy)| {
            events.push(DnsEvent::UnknownPolicy(policy));
            DnsBasis::Cluster
        });
        if basis == DnsBasis::Cluster && self.cluster_dns.is_empty() {
            events.push(DnsEvent::MissingClusterDns);
            basis = DnsBasis::Host;
        }
        let node = self.node.clone().unwrap_or_default();
        let mut conf = match basis {
            DnsBasis::Nothing => ResolvConf::default(),
            DnsBasis::Cluster => ResolvConf {
                nameservers: self.cluster_dns.iter().map(|addr| addr.to_string().into()).collect(),
                searches: self.cluster_searches(&pod.metadata.namespace, node.searches),
                options: alloc::vec![SmolStr::new_static("ndots:5")],
            },
            DnsBasis::Host if self.node.is_none() => self.no_lookups(),
            DnsBasis::Host => node,
        };
        if let Some(own) = &pod.spec.dns_config {
            conf.nameservers.extend(own.nameservers.iter().cloned());
            conf.searches.extend(own.searches.iter().cloned());
            unique(&mut conf.nameservers);
            unique(&mut conf.searches);
            conf.merge_options(&own.options);
        }
        events.extend(conf.limit_nameservers());
        events.extend(conf.limit_searches(self.limits));
        PodDns { conf, events }
    }

    fn cluster_searches(&self, namespace: &str, node: Vec<SmolStr>) -> Vec<SmolStr> {
        let domain = &self.cluster_domain;
        if domain.is_empty() {
            return node;
        }
        let mut searches = alloc::vec![
            format_smolstr!("{namespace}.svc.{domain}"),
            format_smolstr!("svc.{domain}"),
            domain.clone(),
        ];
        searches.extend(node);
        unique(&mut searches);
        searches
    }

    /// An empty `--resolv-conf` means no lookups: the local host, where nobody answers, and the root as the only search domain.
    fn no_lookups(&self) -> ResolvConf {
        let local = |addr: &IpAddr| SmolStr::new_static(if addr.is_ipv6() { "::1" } else { "127.0.0.1" });
        let mut nameservers: Vec<SmolStr> = self.node_addresses.iter().map(local).collect();
        if nameservers.is_empty() {
            nameservers.push(SmolStr::new_static("127.0.0.1"));
        }
        ResolvConf { nameservers, searches: alloc::vec![SmolStr::new_static(".")], options: Vec::new() }
    }
}

/// A search domain without the dot at its end; the root alone stays what it is.
fn without_dot(domain: &str) -> &str {
    domain.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(domain)
}

fn unique(list: &mut Vec<SmolStr>) {
    let mut seen: Vec<SmolStr> = Vec::with_capacity(list.len());
    list.retain(|item| {
        let new = !seen.contains(item);
        if new {
            seen.push(item.clone());
        }
        new
    });
}
