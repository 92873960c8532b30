//! IPVS mode: what the proxy writes, in the kernel and in the interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use svc_endpoints::view::SliceCache;
use svc_model::{EndpointSlice, ObjectRef, Service};
use svc_rules::audit::{self, Audit, IpvsDump};
use svc_rules::ipset::{self, OnDuplicate};
use svc_rules::ipvs::{DUMMY_DEVICE, Input, Proxy, Scope, jumps, sysctls};
use svc_rules::ipvsadm::VirtualServers;
use svc_rules::packet::{Family, Transport};
use svc_rules::xtables::Ruleset;
use svc_rules::{Kernel as Rules, ProxyConfig};

use crate::Scenario;
use crate::cluster::{cache, cluster_ip, external_ip, node_port, objects, probes, slice};
use crate::lab::{Lab, POD_PORT, Place};
use crate::probe::{Expect, Probe, check, check_affinity};

const SCENARIOS: &[Scenario] = &[
    ("ipvs_ipv4_audit", || audit(Family::V4)),
    ("ipvs_ipv6_audit", || audit(Family::V6)),
    ("ipvs_ipv4_connections", || connections(Family::V4)),
    ("ipvs_ipv6_connections", || connections(Family::V6)),
    ("ipvs_ipv4_updates", || updates(Family::V4)),
    ("ipvs_ipv6_updates", || updates(Family::V6)),
];

const RUNNER: &str = "SVC_IPVS_RUNNER";

/// What can be run: here, or in the kernel that a command leads to.
pub(crate) fn scenarios() -> Result<&'static [Scenario], String> {
    let run = |tool: &str, argument: &str| {
        Command::new(tool).arg(argument).output().is_ok_and(|output| output.status.success())
    };
    let _ = run("modprobe", "ip_vs");
    let missing = if !Path::new("/proc/net/ip_vs").exists() {
        "this kernel has no IPVS"
    } else if !run("ipvsadm", "-Sn") || !run("ipset", "save") {
        "`ipvsadm` or `ipset` is not there or does not run"
    } else {
        return Ok(SCENARIOS);
    };
    match std::env::var_os(RUNNER) {
        Some(_) => Ok(&[("ipvs_in_another_kernel", elsewhere)]),
        None => Err(format!("{missing}, and {RUNNER} names no command that leads to one")),
    }
}

/// Runs this program, with the scenarios of this module, by the command.
fn elsewhere() {
    let runner = std::env::var_os(RUNNER).unwrap();
    let mut command = Command::new(runner);
    command.arg(std::env::current_exe().unwrap()).arg("ipvs_ip").env_remove(RUNNER);
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success(), "{}", output.status);
    for (name, _) in SCENARIOS {
        assert!(text.contains(&format!("test {name} ... ok")), "{name} was not run");
    }
}

fn config(family: Family) -> ProxyConfig {
    let mut config = crate::cluster::config(family);
    let other = if family == Family::V4 { "192.0.2.66" } else { "2001:db8:0:2::66" };
    config.node_addresses.push(other.parse().unwrap());
    config
}

/// A proxy, what it is told, and the node that it writes for.
struct Node<'a> {
    lab: &'a Lab,
    proxy: Proxy,
    slices: SliceCache,
}

impl<'a> Node<'a> {
    fn new(lab: &'a Lab, family: Family, services: &[Service], slices: &[EndpointSlice]) -> Self {
        let config = config(family);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        let kernel = (numbers.next().unwrap(), numbers.next().unwrap());
        let settings: Vec<_> =
            sysctls(&config, kernel).map(|(path, value)| format!("{path}={value}")).collect();
        let mut words = vec!["sysctl"];
        words.extend(settings.iter().map(String::as_str));
        lab.helper(Place::Node, &words);
        // In a namespace that has never had an address the kernel refuses every real server.
        lab.ip(Place::Node, &format!("link set lo up\nlink add {DUMMY_DEVICE} type dummy\n"));
        let mut proxy = Proxy::new(config);
        proxy.replace_all(services);
        Self { lab, proxy, slices: cache(slices) }
    }

    fn family(&self) -> Family {
        Family::from(self.proxy.config().family)
    }

    fn iptables(&self, what: &str) -> &'static str {
        match (self.family(), what) {
            (Family::V4, "restore") => "iptables-nft-restore",
            (Family::V4, _) => "iptables-nft-save",
            (Family::V6, "restore") => "ip6tables-nft-restore",
            (Family::V6, _) => "ip6tables-nft-save",
        }
    }

    fn run(&self, program: &str, arguments: &[&str], text: &[u8]) -> String {
        let text = std::str::from_utf8(text).unwrap();
        if text.is_empty() && !arguments.contains(&"-Sn") && !arguments.contains(&"save") {
            return String::new();
        }
        let done = self.lab.run(Place::Node, program, arguments, text);
        done.unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn feed(&self, input: &Input) {
        self.run("ipset", &["-exist", "restore"], &input.sets);
        self.run(self.iptables("restore"), &["--noflush", "--counters", "--wait=30"], &input.rules);
        self.run("ip", &["-force", "-batch", "-"], &input.unbind);
        self.ipvsadm(&input.servers);
        self.run("ip", &["-force", "-batch", "-"], &input.bind);
    }

    /// It ends well whatever the kernel says, but it says what that was.
    fn ipvsadm(&self, text: &[u8]) {
        assert_eq!(self.run("sh", &["-c", "ipvsadm --restore 2>&1"], text), "");
    }

    fn sync(&mut self, scope: Scope) -> Input {
        let mut input = Input::default();
        let _ = self.proxy.sync(&self.slices, scope, &mut input);
        self.feed(&input);
        self.proxy.succeeded();
        input
    }

    fn jump(&self) {
        for jump in jumps() {
            let text = format!("*{}\n-I {} {jump}\nCOMMIT\n", jump.table, jump.from);
            self.run(self.iptables("restore"), &["--noflush", "--wait=30"], text.as_bytes());
        }
    }

    /// While the kernel lists the virtual servers of one namespace in several messages, it counts those of all. So a list
    /// taken while another scenario changes its own may have gaps and repeats; one that comes out twice is right.
    fn servers(&self) -> VirtualServers {
        let list = || self.run("ipvsadm", &["-Sn"], b"");
        let mut text = list();
        for _ in 0..10 {
            let before = std::mem::replace(&mut text, list());
            if before == text {
                break;
            }
        }
        let mut servers = VirtualServers::new();
        servers.restore(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        servers
    }

    fn sets(&self) -> BTreeMap<svc_model::SmolStr, ipset::IpSet> {
        let text = self.lab.run(Place::Node, "ipset", &["save"], "").unwrap();
        let mut sets = BTreeMap::new();
        ipset::restore(&text, &mut sets, OnDuplicate::Refuse)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        sets
    }

    fn rules(&self) -> Ruleset {
        let text = self.lab.run(Place::Node, self.iptables("save"), &[], "").unwrap();
        let mut rules =
            Ruleset::parse(&text, self.family()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        rules.clear_counters();
        rules
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let arguments = ["-o", "addr", "show", "dev", DUMMY_DEVICE];
        let text = self.lab.run(Place::Node, "ip", &arguments, "").unwrap();
        let words = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(3)?.split('/').next());
        words.map(|ip| ip.parse().unwrap()).collect()
    }

    /// What the tools read back is what the proxy says it sent.
    fn check_state(&self) {
        assert_eq!(self.servers(), self.proxy.virtual_servers());
        assert_eq!(self.sets(), self.proxy.sets());
        assert_eq!(self.addresses(), self.proxy.addresses().collect());
        let (kernel, sent) = (self.rules(), self.proxy.rules());
        for name in ["filter", "nat"] {
            let (kernel, sent) = (kernel.table(name).unwrap(), sent.table(name).unwrap());
            for (name, chain) in sent.chains().into_iter().filter(|(_, chain)| !chain.rules.is_empty()) {
                assert_eq!(kernel.chain(name).map(|chain| &chain.rules), Some(&chain.rules), "chain {name}");
            }
        }
    }
}

fn connections(family: Family) {
    use Expect::{Masqueraded, Open, Refused};
    use Place::{Node as Here, Outside, Pod1, Pod2, Remote};
    let lab = Lab::new();
    let (services, slices) = objects(family);
    let mut node = Node::new(&lab, family, &services, &slices);
    node.sync(Scope::Full);
    node.jump();
    node.check_state();
    let (rules, servers) = (node.rules(), node.servers());
    let bound = node.addresses().into_iter().map(IpNet::from);
    let mut host = lab.host().with_interface(DUMMY_DEVICE, bound);
    host.sets = node.sets();
    host.now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let walk = |host: &svc_rules::host::Host, packet: &svc_rules::packet::Packet| {
        Rules::new().with_iptables(&rules).with_ipvs(&servers).walk(host, packet)
    };
    let own = Here.address(family);
    // Where this mode differs from the others.
    let differs: [(Place, SocketAddr, Expect); 6] = [
        // Pods and the node take the policy `Local` like everyone else,
        (Pod1, external_ip("local", family), Open(&[Pod2])),
        (Here, external_ip("local", family), Masqueraded(&[Pod2])),
        // which falls back to all endpoints where there is none here.
        (Outside, external_ip("away", family), Open(&[Remote])),
        (Outside, node_port("away", own), Open(&[Remote])),
        // A virtual server without servers refuses.
        (Pod2, cluster_ip("nowhere", family), Refused),
        // No other port of a cluster address leads to the host.
        (Pod1, SocketAddr::new(cluster_ip("web", family).ip(), 81), Refused),
    ];
    for mut probe in probes(family) {
        if let Some((.., expect)) =
            differs.iter().find(|(from, to, _)| (*from, *to) == (probe.from, probe.to))
        {
            probe.expect = *expect;
        }
        check(&lab, &host, walk, probe);
    }
    for (from, to, expect) in differs {
        check(&lab, &host, walk, Probe { from, transport: Transport::TCP, to, expect });
    }
    for from in [Pod1, Outside] {
        let to = cluster_ip("sticky", family);
        check_affinity(&lab, &mut host, walk, from, Transport::TCP, to);
    }
}

/// Changes alone leave in the kernel what the proxy says, and what a proxy that starts anew writes.
fn updates(family: Family) {
    let lab = Lab::bare();
    let (services, slices) = objects(family);
    let mut node = Node::new(&lab, family, &services, &slices);
    node.sync(Scope::Full);
    node.jump();
    node.check_state();
    assert!(node.sync(Scope::Changes).is_empty());
    let steps: [fn(&mut Node<'_>, Family); 5] = [
        |node, family| node.endpoints("web", &[Place::Pod1, Place::Remote], family),
        |node, family| {
            node.endpoints("none", &[Place::Pod2], family);
            node.endpoints("alone", &[], family);
        },
        |node, _| {
            for name in ["ranges", "local", "sticky"] {
                node.proxy.remove(&ObjectRef::new("lab", name));
            }
        },
        |node, family| {
            node.proxy.replace_all(&objects(family).0);
            node.endpoints("sticky", &[Place::Remote], family);
        },
        // Servers that drain come back.
        |node, family| {
            node.endpoints("web", &[Place::Pod1, Place::Pod2, Place::Remote], family);
            node.endpoints("sticky", &[Place::Pod1, Place::Pod2], family);
        },
    ];
    for (number, step) in steps.into_iter().enumerate() {
        step(&mut node, family);
        assert!(!node.sync(Scope::Changes).is_empty(), "step {number}");
        node.check_state();
    }
    let drained: BTreeSet<_> = node.proxy.draining().map(|(_, server)| server.ip()).collect();
    assert!(drained.contains(&Place::Remote.address(family)), "{drained:?}");
    let mut text = Vec::new();
    assert!(node.proxy.drain(Duration::ZERO, |_, _| 0, &mut text) > 0);
    node.ipvsadm(&text);
    node.check_state();
    assert_eq!(node.proxy.draining().count(), 0);

    // Another process takes over, and finds nothing to do but the rules, which are always written.
    let mut other = Proxy::new(config(family));
    other.adopt(&node.servers(), &node.sets(), node.addresses());
    other.replace_all(&objects(family).0);
    node.proxy = other;
    let input = node.sync(Scope::Changes);
    assert!(
        input.servers.is_empty() && input.sets.is_empty() && input.bind.is_empty() && input.unbind.is_empty()
    );
    node.check_state();

    // Everything, over what is there.
    node.sync(Scope::Full);
    node.check_state();
}

/// What the tools print after a load has nothing wrong with it; each damage is found out from it, and repaired.
fn audit(family: Family) {
    let lab = Lab::bare();
    let (services, slices) = objects(family);
    let mut node = Node::new(&lab, family, &services, &slices);
    node.sync(Scope::Full);
    node.jump();
    let check = || {
        let (servers, sets, rules) = (node.servers(), node.sets(), node.rules());
        let found = IpvsDump { servers: &servers, sets: &sets, rules: &rules };
        audit::ipvs(node.proxy.config(), &services, &node.slices, found)
    };
    let feed = |command: &str, text: &str| match command.split(' ').collect::<Vec<_>>()[..] {
        ["iptables-restore", ref arguments @ ..] => {
            node.run(node.iptables("restore"), arguments, text.as_bytes());
        }
        ["ipvsadm", ..] => node.ipvsadm(text.as_bytes()),
        [tool, ref arguments @ ..] => _ = node.run(tool, arguments, text.as_bytes()),
        [] => panic!("no tool"),
    };
    assert_eq!(check(), Audit::default());

    let web = cluster_ip("web", family);
    let pod = SocketAddr::new(Place::Pod1.address(family), POD_PORT);
    let set = if family == Family::V4 { "KUBE-CLUSTER-IP" } else { "KUBE-6-CLUSTER-IP" };
    let other = SocketAddr::new(web.ip(), 99);
    let element = format!("{set} {},tcp:80", web.ip());
    let (servers, sets, rules) = ("ipvsadm --restore", "ipset restore", "iptables-restore --noflush");
    // In an order in which they can also be done one after another.
    let damages = [
        (servers, format!("-e -t {web} -r {pod} -m -w 7\n")),
        (servers, format!("-E -t {web} -s wrr\n")),
        (servers, format!("-A -t {other} -s rr\n-a -t {other} -r {pod} -m -w 1\n")),
        (servers, format!("-a --sctp-service {web} -r {other} -m -w 1\n")),
        (servers, format!("-d -t {web} -r {pod}\n")),
        (servers, format!("-D -t {web}\n")),
        (sets, format!("del {element}\n")),
        (sets, format!("add {set} {},udp:99\n", web.ip())),
        (rules, "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n".into()),
        (rules, "*nat\n-D KUBE-POSTROUTING 1\nCOMMIT\n".into()),
        (rules, "*nat\n-D PREROUTING 1\nCOMMIT\n".into()),
    ];
    for (command, text) in &damages {
        feed(command, text);
        let found = check();
        assert!(!found.findings.is_empty(), "{command}: {text}");
        found.repair.iter().for_each(|step| feed(step.command, &step.input));
        assert_eq!(check(), Audit::default(), "{command}: {text}");
    }
    damages.iter().for_each(|(command, text)| feed(command, text));
    check().repair.iter().for_each(|step| feed(step.command, &step.input));
    assert_eq!(check(), Audit::default());
}

impl Node<'_> {
    fn endpoints(&mut self, service: &str, endpoints: &[Place], family: Family) {
        self.proxy.touch(&self.slices.apply(&slice(service, endpoints, family)));
    }
}
