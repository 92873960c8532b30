//! The node, its Pods and somebody outside, each a network namespace, routed by the node's.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::json;
use svc_model::Object;

use crate::agent::PORTS;

pub(crate) const NODE: &str = "node-1";

/// One end: a Pod of the grid, or outside.
struct End {
    name: String,
    addresses: [IpAddr; 2],
    agent: Child,
    answers: BufReader<ChildStdout>,
}

/// A connection to try.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    from: usize,
    pub(crate) source: IpAddr,
    pub(crate) to: SocketAddr,
    pub(crate) udp: bool,
}

pub(crate) struct Grid {
    prefix: String,
    ends: Vec<End>,
    /// The cluster without policies.
    pub(crate) objects: Vec<Object>,
    /// Source ports are used once: what conntrack remembers of one probe must not open the way for another.
    next_port: u16,
    pub(crate) tried: usize,
}

/// Says what is missing to run anything here.
pub(crate) fn available() -> Result<(), String> {
    let tools = [
        ("ip", "-V"),
        ("nft", "--version"),
        ("ipset", "--version"),
        ("iptables-restore", "--version"),
        ("ip6tables-restore", "--version"),
    ];
    for (tool, argument) in tools {
        let found = Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!("`{tool}` is not there or does not run"));
        }
    }
    let probe = format!("svcp{}probe", std::process::id());
    let run = |verb: &str| Command::new("ip").args(["netns", verb, &probe]).stderr(Stdio::null()).status();
    if !run("add").is_ok_and(|status| status.success()) {
        return Err("network namespaces cannot be made".into());
    }
    let _ = run("del");
    Ok(())
}

fn object(kind: &str, value: serde_json::Value) -> Object {
    Object::from_kind(kind, value).unwrap().unwrap()
}

fn run(program: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {complaints}\n{input}", arguments.join(" "));
}

impl Grid {
    /// Pods a, b and c in namespaces x, y and z, and one outside.
    pub(crate) fn new() -> Self {
        let mut grid = Self {
            prefix: format!("svcp{}", std::process::id()),
            ends: Vec::new(),
            objects: Vec::new(),
            next_port: 2000,
            tried: 0,
        };
        grid.make_namespace("node");
        let sysctl = [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv6.icmp.ratelimit=0",
        ];
        for setting in sysctl {
            let (key, value) = setting.split_once('=').unwrap();
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            grid.inside("node", "sh", &["-c", &format!("echo {value} > {path}")], "");
        }
        grid.inside("node", "ip", &["-batch", "-"], "link set lo up\naddr add 192.0.2.2/32 dev lo\n");
        grid.objects.push(object(
            "Node",
            json!({
                "metadata": {"name": NODE},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]},
            }),
        ));
        for (n, namespace) in ["x", "y", "z"].into_iter().enumerate() {
            grid.objects.push(object(
                "Namespace",
                json!({"metadata": {"name": namespace, "labels": {"ns": namespace}}}),
            ));
            for (p, pod) in ["a", "b", "c"].into_iter().enumerate() {
                let (n, p) = (n + 1, p + 1);
                let addresses = [format!("10.180.{n}.{p}"), format!("fd00:180::{n}:{p}")];
                let ports: Vec<_> = PORTS
                    .iter()
                    .flat_map(|port| ["TCP", "UDP"].map(|protocol| json!({
                        "containerPort": port, "protocol": protocol, "name": format!("serve-{port}-{}", protocol.to_lowercase()),
                    })))
                    .collect();
                grid.objects.push(object("Pod", json!({
                    "metadata": {"namespace": namespace, "name": pod, "labels": {"pod": pod}},
                    "spec": {"nodeName": NODE, "containers": [{"name": "c", "ports": ports}]},
                    "status": {"phase": "Running", "podIPs": [{"ip": addresses[0]}, {"ip": addresses[1]}]},
                })));
                grid.add_end(format!("{namespace}{pod}"), &addresses);
            }
        }
        grid.add_end("out".into(), &["203.0.113.9".into(), "2001:db8::9".into()]);
        grid
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn make_namespace(&self, name: &str) {
        run("ip", &["netns", "add", &self.namespace(name)], "");
    }

    fn inside(&self, name: &str, program: &str, arguments: &[&str], input: &str) {
        let namespace = self.namespace(name);
        run("ip", &[&["netns", "exec", &namespace, program], arguments].concat(), input);
    }

    fn add_end(&mut self, name: String, addresses: &[String; 2]) {
        self.make_namespace(&name);
        self.inside(&name, "sh", &["-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"], "");
        let [v4, v6] = addresses;
        let far = self.namespace(&name);
        self.inside("node", "ip", &["-batch", "-"], &format!(
            "link add {name} type veth peer name eth0 netns {far}\nlink set {name} up\naddr add fe80::1/64 dev {name} nodad\n",
        ));
        self.inside(&name, "ip", &["-batch", "-"], &format!(
            "link set lo up\nlink set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
             route add 192.0.2.2/32 dev eth0\nroute add default via 192.0.2.2 dev eth0\nroute add default via fe80::1 dev eth0\n",
        ));
        self.inside(
            "node",
            "ip",
            &["-batch", "-"],
            &format!("route add {v4}/32 dev {name}\nroute add {v6}/128 dev {name}\n"),
        );
        let mut agent = Command::new("ip")
            .args(["netns", "exec", &far, std::env::current_exe().unwrap().to_str().unwrap(), "agent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(agent.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "agent of {name}");
        let addresses = [v4, v6].map(|ip| ip.parse().unwrap());
        self.ends.push(End { name, addresses, agent, answers });
    }

    /// Feeds a program on the node; nothing to feed, nothing to run.
    pub(crate) fn load(&self, program: &str, arguments: &[&str], input: &str) {
        if !input.is_empty() {
            self.inside("node", program, arguments, input);
        }
    }

    /// Every pair of ends but those outside and itself, both protocols, all ports, both families.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for (from, source) in self.ends.iter().enumerate() {
            for destination in self.ends.iter().filter(|end| end.name != source.name) {
                for family in [0, 1] {
                    for (port, udp) in PORTS.iter().flat_map(|port| [(*port, false), (*port, true)]) {
                        let to = SocketAddr::new(destination.addresses[family], port);
                        probes.push(Probe { from, source: source.addresses[family], to, udp });
                    }
                }
            }
        }
        probes
    }

    /// Tries all connections; those that should be open and seem closed again, with more patience, as the machine may
    /// just be busy.
    pub(crate) fn try_all(&mut self, probes: &[Probe], expected: &[bool]) -> Vec<bool> {
        let mut seen = vec![false; probes.len()];
        for patience in [150, 1000, 4000] {
            let left: Vec<usize> =
                (0..probes.len()).filter(|i| !seen[*i] && (expected[*i] || patience == 150)).collect();
            if left.is_empty() {
                break;
            }
            for (index, answer) in self.try_some(probes, &left, patience) {
                seen[index] = answer;
            }
        }
        seen
    }

    fn try_some(&mut self, probes: &[Probe], which: &[usize], patience: u32) -> Vec<(usize, bool)> {
        let mut asked: Vec<Vec<usize>> = vec![Vec::new(); self.ends.len()];
        let mut lines = vec![patience.to_string(); self.ends.len()];
        for index in which {
            let probe = &probes[*index];
            // Below the ports that the kernel gives out by itself.
            self.next_port = if self.next_port >= 30_000 { 2000 } else { self.next_port + 1 };
            let protocol = if probe.udp { "udp" } else { "tcp" };
            lines[probe.from] += &format!(";{protocol} {} {}", probe.to, self.next_port);
            asked[probe.from].push(*index);
        }
        self.tried += which.len();
        for (end, line) in self.ends.iter_mut().zip(&lines).filter(|(_, line)| line.contains(';')) {
            writeln!(end.agent.stdin.as_mut().unwrap(), "{line}").unwrap();
        }
        let mut found = Vec::new();
        for (end, asked) in self.ends.iter_mut().zip(asked).filter(|(_, asked)| !asked.is_empty()) {
            let mut line = String::new();
            end.answers.read_line(&mut line).unwrap();
            assert_eq!(line.trim().len(), asked.len(), "answers of {}", end.name);
            found.extend(asked.into_iter().zip(line.trim().chars().map(|digit| digit == '1')));
        }
        found
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        let mut names = vec!["node".to_owned()];
        for mut end in self.ends.drain(..) {
            let _ = end.agent.kill();
            let _ = end.agent.wait();
            names.push(end.name);
        }
        for name in names {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(&name)])
                .stderr(Stdio::null())
                .status();
        }
    }
}
