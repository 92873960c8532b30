//! A node in IPVS mode whose kernel is a model.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use svc_endpoints::view::ViewChanges;
use svc_model::{IpFamily, SmolStr};
use svc_rules::ipset::{self, IpSet, OnDuplicate};
use svc_rules::ipvs::{Input, Proxy, Scope, Sync, jumps};
use svc_rules::ipvsadm::{VirtualServer, VirtualServers};
use svc_rules::packet::Family;
use svc_rules::xtables::{RestoreMode, Ruleset};
use svc_rules::{ProxyConfig, ipvs};

use super::{Cluster, Event};

/// Whether every command has to find what it expects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tools {
    /// All of them succeed.
    Strict,
    /// ipvsadm and `ip -force` go on after what the kernel refuses.
    Real,
}

/// What the kernel has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kernel {
    pub(crate) servers: VirtualServers,
    pub(crate) sets: BTreeMap<SmolStr, IpSet>,
    pub(crate) rules: Ruleset,
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl Kernel {
    /// With the jumps to chains that are still empty.
    pub(crate) fn new(family: IpFamily) -> Self {
        let mut rules = Ruleset::new(Family::from(family));
        for jump in jumps() {
            let text = format!("*{}\n:{} - [0:0]\n-I {} {jump}\nCOMMIT\n", jump.table, jump.to, jump.from);
            rules.restore(&text, RestoreMode::Keep).unwrap();
        }
        let servers = VirtualServers::new();
        Self { servers, sets: BTreeMap::new(), rules, addresses: BTreeSet::new() }
    }

    pub(crate) fn run(&mut self, input: &Input, tools: Tools) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        ipset::restore(&text(&input.sets), &mut self.sets, OnDuplicate::Ignore).unwrap();
        self.rules.restore(&text(&input.rules), RestoreMode::Keep).unwrap();
        self.device(&text(&input.unbind), tools);
        self.ipvsadm(&text(&input.servers), tools);
        self.device(&text(&input.bind), tools);
    }

    pub(crate) fn ipvsadm(&mut self, text: &str, tools: Tools) {
        for line in text.lines() {
            let done = self.servers.restore(line);
            assert!(tools == Tools::Real || done.is_ok(), "{line}: {done:?}");
        }
    }

    fn device(&mut self, text: &str, tools: Tools) {
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let ["addr", verb, net, "dev", ipvs::DUMMY_DEVICE] = words[..] else { panic!("{line}") };
            let ip = net.split('/').next().unwrap().parse().unwrap();
            let done = match verb {
                "replace" => {
                    self.addresses.insert(ip);
                    true
                }
                "del" => self.addresses.remove(&ip),
                _ => panic!("{line}"),
            };
            assert!(done || tools == Tools::Real, "{line}");
        }
    }

    /// The rules; those of single load balancer addresses sorted, since their order means nothing.
    pub(crate) fn rules(rules: &Ruleset) -> Vec<String> {
        let family = rules.family();
        let mut all = Vec::new();
        for table in rules.tables() {
            for (name, chain) in table.chains() {
                let mut lines: Vec<_> = chain
                    .rules
                    .iter()
                    .map(|rule| format!("{} {name} {}", table.name(), rule.text(family)))
                    .collect();
                if **name == *"KUBE-IPVS-OUT-FILTER" {
                    lines.sort();
                }
                all.push(lines);
            }
        }
        all.sort();
        all.concat()
    }
}

/// The lines of `ipvsadm -Sn`.
pub(crate) fn saved(servers: &VirtualServers) -> Vec<String> {
    servers.save().lines().map(str::to_owned).collect()
}

/// Whether nothing leads to a virtual server, or to a real one, any more.
pub(crate) fn active(service: &VirtualServer) -> usize {
    service.servers().filter(|(_, server)| server.weight > 0).count()
}

/// A proxy and its kernel.
pub(crate) struct Node {
    pub(crate) proxy: Proxy,
    pub(crate) kernel: Kernel,
}

impl Node {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        Self { proxy: Proxy::new(config.clone()), kernel: Kernel::new(config.family) }
    }

    /// A node that sees the cluster for the first time.
    pub(crate) fn fresh(config: &ProxyConfig, cluster: &Cluster) -> Self {
        let mut config = config.clone();
        config.zone.clone_from(&cluster.zone);
        let mut node = Self::new(&config);
        node.proxy.replace_all(cluster.services.values());
        let _ = node.sync(cluster, Scope::Full, Tools::Strict);
        node
    }

    pub(crate) fn tell(&mut self, event: &Event, changes: &ViewChanges) {
        match event {
            Event::Apply(service) => _ = self.proxy.apply(service),
            Event::Remove(name) => self.proxy.remove(name),
            Event::Zone(zone) => self.proxy.set_zone(zone.clone()),
            Event::Slice(_) | Event::RemoveSlice(_) => self.proxy.touch(changes),
        }
    }

    pub(crate) fn sync(&mut self, cluster: &Cluster, scope: Scope, tools: Tools) -> Sync {
        let mut input = Input::default();
        let sync = self.proxy.sync(&cluster.slices, scope, &mut input);
        self.kernel.run(&input, tools);
        self.proxy.succeeded();
        sync
    }
}
