//! What each way of writing rules leaves in a node's kernel, ready for packets.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use smol_str::SmolStr;
use svc_endpoints::view::SliceCache;
use svc_model::{IpFamily, Service};

use crate::config::ProxyConfig;
use crate::host::Host;
use crate::ipset::IpSet;
use crate::iptables::{self, StaleChains, jumps};
use crate::ipvsadm::VirtualServers;
use crate::nftables::Layout;
use crate::packet::Family;
use crate::settle::ProxyMode;
use crate::walk::Kernel;
use crate::xtables::RestoreMode;
use crate::{ipvs, nft, nftables, xtables};

/// A way of writing rules that this crate can generate and walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// iptables mode, as kube-proxy writes it.
    Iptables,
    /// nftables mode, as kube-proxy writes it.
    Nftables,
    /// nftables mode in the flat layout.
    NftablesFlat,
    /// IPVS mode, as kube-proxy writes it.
    Ipvs,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 4] = [Self::Iptables, Self::Nftables, Self::NftablesFlat, Self::Ipvs];

    /// The word for it: that of kube-proxy's `mode`, where it is one of kube-proxy's own.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::NftablesFlat => "nftables-flat",
            Self::Ipvs => "ipvs",
        }
    }

    /// How kube-proxy writes in a mode.
    #[must_use]
    pub const fn of(mode: ProxyMode) -> Self {
        match mode {
            ProxyMode::Iptables => Self::Iptables,
            ProxyMode::Nftables => Self::Nftables,
            ProxyMode::Ipvs => Self::Ipvs,
        }
    }

    /// The mode whose configuration it goes by.
    #[must_use]
    pub const fn mode(self) -> ProxyMode {
        match self {
            Self::Iptables => ProxyMode::Iptables,
            Self::Nftables | Self::NftablesFlat => ProxyMode::Nftables,
            Self::Ipvs => ProxyMode::Ipvs,
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == text)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The rules of a node after a full sync, as its kernel holds them.
///
/// ```
/// use svc_endpoints::view::SliceCache;
/// use svc_model::{IpFamily, Service};
/// use svc_rules::host::Host;
/// use svc_rules::outcome::Verdict;
/// use svc_rules::packet::Packet;
/// use svc_rules::{Scheme, NodeRules, ProxyConfig};
///
/// let service: Service = serde_json::from_value(serde_json::json!({
///     "metadata": {"namespace": "shop", "name": "cart"},
///     "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}
/// }))?;
/// let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
/// let packet = Packet::tcp("10.0.0.9:4000".parse()?, "10.96.0.7:80".parse()?).from_interface("veth9");
/// for scheme in Scheme::ALL {
///     let rules = NodeRules::new(scheme, &config, [&service], &SliceCache::new());
///     let walk = rules.walk(&rules.host(Host::new()), &packet);
///     assert!(matches!(walk.certain().unwrap().verdict, Verdict::Reject(_)), "no endpoints in {scheme}");
/// }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NodeRules {
    scheme: Scheme,
    iptables: Option<xtables::Ruleset>,
    nftables: Option<nft::Ruleset>,
    servers: Option<VirtualServers>,
    sets: BTreeMap<SmolStr, IpSet>,
    /// Addresses of the dummy device.
    addresses: Vec<IpAddr>,
    route_localnet: bool,
}

impl NodeRules {
    /// Writes the rules for `services` and reads them back into a model.
    #[must_use]
    pub fn new<'a>(
        scheme: Scheme,
        config: &ProxyConfig,
        services: impl IntoIterator<Item = &'a Service>,
        slices: &SliceCache,
    ) -> Self {
        let mut rules = Self {
            scheme,
            iptables: None,
            nftables: None,
            servers: None,
            sets: BTreeMap::new(),
            addresses: Vec::new(),
            route_localnet: false,
        };
        match scheme {
            Scheme::Iptables => {
                rules.iptables = Some(iptables(config, services, slices));
                rules.route_localnet =
                    config.sysctls().any(|(path, value)| path.ends_with("route_localnet") && value == 1);
            }
            Scheme::Nftables => {
                rules.nftables = Some(nftables(config, Layout::Reference, services, slices));
            }
            Scheme::NftablesFlat => rules.nftables = Some(nftables(config, Layout::Flat, services, slices)),
            Scheme::Ipvs => {
                let mut proxy = ipvs::Proxy::new(config.clone());
                proxy.replace_all(services);
                let _ = proxy.sync(slices, ipvs::Scope::Full, &mut ipvs::Input::default());
                rules.iptables = Some(proxy.rules());
                rules.servers = Some(proxy.virtual_servers());
                rules.sets = proxy.sets();
                rules.addresses = proxy.addresses().collect();
            }
        }
        rules
    }

    /// How they are written.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The rules of iptables among them.
    #[must_use]
    pub const fn iptables(&self) -> Option<&xtables::Ruleset> {
        self.iptables.as_ref()
    }

    /// The rules of nftables among them.
    #[must_use]
    pub const fn nftables(&self) -> Option<&nft::Ruleset> {
        self.nftables.as_ref()
    }

    /// The virtual servers of IPVS among them.
    #[must_use]
    pub const fn servers(&self) -> Option<&VirtualServers> {
        self.servers.as_ref()
    }

    /// The ipsets, by name.
    #[must_use]
    pub const fn sets(&self) -> &BTreeMap<SmolStr, IpSet> {
        &self.sets
    }

    /// A host as its proxy sets it up beside the rules: kernel parameters, sets, addresses.
    #[must_use]
    pub fn host(&self, mut host: Host) -> Host {
        host.route_localnet |= self.route_localnet;
        host.sets.extend(self.sets.iter().map(|(name, set)| (name.clone(), set.clone())));
        if self.servers.is_some() {
            host = host.with_interface(ipvs::DUMMY_DEVICE, self.addresses.iter().copied().map(IpNet::from));
        }
        host
    }

    /// All of it, for packets.
    #[must_use]
    pub const fn kernel(&self) -> Kernel<'_> {
        let mut kernel = Kernel::new();
        if let Some(rules) = &self.iptables {
            kernel = kernel.with_iptables(rules);
        }
        if let Some(rules) = &self.nftables {
            kernel = kernel.with_nftables(rules);
        }
        if let Some(servers) = &self.servers {
            kernel = kernel.with_ipvs(servers);
        }
        kernel
    }

    /// Everything that can become of `packet` on `host`, which [`host`](Self::host) made.
    #[must_use]
    pub fn walk(&self, host: &Host, packet: &crate::packet::Packet) -> crate::outcome::Walk {
        self.kernel().walk(host, packet)
    }
}

// What the generators write can be read: a property test holds it. So no result of reading is looked at below.

fn iptables<'a>(
    config: &ProxyConfig,
    services: impl IntoIterator<Item = &'a Service>,
    slices: &SliceCache,
) -> xtables::Ruleset {
    let mut proxy = iptables::Proxy::new(config.clone());
    for service in services {
        let _ = proxy.apply(service);
    }
    let mut text = Vec::new();
    let _ = proxy.sync(slices, iptables::Mode::Full, StaleChains::Delete, &mut text);
    let mut rules = xtables::Ruleset::new(match config.family {
        IpFamily::Ipv4 => Family::V4,
        IpFamily::Ipv6 => Family::V6,
    });
    let _ = rules.restore(&String::from_utf8_lossy(&text), RestoreMode::Keep);
    for jump in jumps(config) {
        let line = alloc::format!("*{}\n-I {} {jump}\nCOMMIT\n", jump.table, jump.from);
        let _ = rules.restore(&line, RestoreMode::Keep);
    }
    rules
}

fn nftables<'a>(
    config: &ProxyConfig,
    layout: Layout,
    services: impl IntoIterator<Item = &'a Service>,
    slices: &SliceCache,
) -> nft::Ruleset {
    let mut proxy = nftables::Proxy::with_layout(config.clone(), layout);
    for service in services {
        let _ = proxy.apply(service);
    }
    let mut text = String::new();
    let _ = proxy.sync(slices, nftables::Scope::Full, &mut text);
    let mut rules = nft::Ruleset::new();
    let _ = rules.apply(&text);
    rules
}
