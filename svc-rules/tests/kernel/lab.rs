//! A node with its surroundings, made of network namespaces.
//!
//! ```text
//!   pod1 --- veth1 |      | eth0 --- outside (192.0.2.3,  default route)
//!   pod2 --- veth2 | node |
//! remote --- tun0  |      | eth1 --- allowed (192.0.2.65, within the source ranges of the tests)
//! ```
//!
//! Every namespace has IPv4 and IPv6, no DAD and no ICMP rate limit, and holds a server on its ports. Nothing of it can
//! reach the machine's own network. All is removed when the [`Lab`] is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use svc_rules::host::Host;
use svc_rules::packet::{Family, Packet, Transport};

use crate::traffic::Answer;

/// Port of the servers in pods, and of the server on the node itself.
pub(crate) const POD_PORT: u16 = 8080;
pub(crate) const NODE_PORT_OWN: u16 = 22;

/// A namespace of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The node, where the rules are.
    Node,
    /// A pod on the node.
    Pod1,
    /// Another pod on the node.
    Pod2,
    /// A pod on another node.
    Remote,
    /// A client outside the cluster.
    Outside,
    /// A client outside the cluster, in the network that source ranges allow.
    Allowed,
}

impl Place {
    pub(crate) const ALL: [Self; 6] =
        [Self::Node, Self::Pod1, Self::Pod2, Self::Remote, Self::Outside, Self::Allowed];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod1 => "pod1",
            Self::Pod2 => "pod2",
            Self::Remote => "remote",
            Self::Outside => "outside",
            Self::Allowed => "allowed",
        }
    }

    /// The interface of the node behind which it is.
    pub(crate) const fn interface(self) -> Option<&'static str> {
        match self {
            Self::Node => None,
            Self::Pod1 => Some("veth1"),
            Self::Pod2 => Some("veth2"),
            Self::Remote => Some("tun0"),
            Self::Outside => Some("eth0"),
            Self::Allowed => Some("eth1"),
        }
    }

    pub(crate) fn address(self, family: Family) -> IpAddr {
        let (v4, v6) = match self {
            Self::Node => ("192.0.2.2", "2001:db8:0:1::2"),
            Self::Pod1 => ("10.180.0.1", "fd00:10:180::1"),
            Self::Pod2 => ("10.180.0.2", "fd00:10:180::2"),
            Self::Remote => ("10.180.1.1", "fd00:10:180:1::1"),
            Self::Outside => ("192.0.2.3", "2001:db8:0:1::3"),
            Self::Allowed => ("192.0.2.65", "2001:db8:0:2::65"),
        };
        match family {
            Family::V4 => v4.parse().unwrap(),
            Family::V6 => v6.parse().unwrap(),
        }
    }

    pub(crate) fn at(address: IpAddr) -> Option<Self> {
        Self::ALL.into_iter().find(|place| place.address(Family::of(address)) == address)
    }

    const fn is_pod(self) -> bool {
        matches!(self, Self::Pod1 | Self::Pod2 | Self::Remote)
    }
}

/// The pod network; what comes from it is local traffic.
pub(crate) const POD_NETWORK: [&str; 2] = ["10.180.0.0/16", "fd00:10:180::/48"];
/// The network that the source ranges of the tests allow.
pub(crate) const ALLOWED_NETWORK: [&str; 2] = ["192.0.2.64/26", "2001:db8:0:2::/64"];

/// Picks the entry of the family.
pub(crate) const fn of<T: Copy>(both: [T; 2], family: Family) -> T {
    match family {
        Family::V4 => both[0],
        Family::V6 => both[1],
    }
}

/// Says what is missing to run anything here.
pub(crate) fn available() -> Result<(), String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    if !status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_ascii_whitespace().nth(2) == Some("0"))
    {
        return Err("not root".into());
    }
    for (tool, argument) in [
        ("ip", "-V"),
        ("iptables-nft-restore", "--version"),
        ("iptables-legacy-restore", "--version"),
        ("nft", "--version"),
    ] {
        let found = Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!("`{tool}` is not there or does not run"));
        }
    }
    let probe = format!("svc{}probe", std::process::id());
    let run = |verb: &str| Command::new("ip").args(["netns", verb, &probe]).stderr(Stdio::null()).status();
    let made = run("add").is_ok_and(|status| status.success());
    if made {
        let _ = run("del");
    }
    if made { Ok(()) } else { Err("network namespaces cannot be made".into()) }
}

/// The namespaces and the servers in them.
pub(crate) struct Lab {
    prefix: String,
    servers: Vec<Child>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        for place in Place::ALL {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(place)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Lab {
    /// A node with everything around it, and no rules.
    pub(crate) fn new() -> Self {
        let lab = Self::bare();
        lab.build();
        let mut lab = lab;
        for place in [Place::Node, Place::Pod1, Place::Pod2, Place::Remote] {
            let port = if place == Place::Node { NODE_PORT_OWN } else { POD_PORT };
            lab.serve(place, port);
        }
        lab
    }

    /// The namespaces alone, for what only loads rules and reads them back.
    pub(crate) fn bare() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("svc{}n{number}", std::process::id()), servers: Vec::new() };
        for place in Place::ALL {
            run("ip", &["netns", "add", &lab.namespace(place)], "").unwrap();
        }
        lab
    }

    fn namespace(&self, place: Place) -> String {
        format!("{}{}", self.prefix, place.name())
    }

    fn build(&self) {
        let quiet = ["net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0"];
        let router = [
            "net/ipv4/ip_forward=1",
            "net/ipv6/conf/all/forwarding=1",
            "net/ipv4/conf/all/route_localnet=1",
            "net/ipv4/conf/all/rp_filter=0",
            "net/ipv4/conf/default/rp_filter=0",
            "net/ipv4/conf/all/send_redirects=0",
            "net/ipv4/conf/default/send_redirects=0",
            "net/ipv4/icmp_ratelimit=0",
            "net/ipv6/icmp/ratelimit=0",
        ];
        for place in Place::ALL {
            self.helper(place, &[&["sysctl"], &quiet[..]].concat());
        }
        self.helper(Place::Node, &[&["sysctl"], &router[..]].concat());
        let mut node = String::from("link set lo up\n");
        for place in Place::ALL.into_iter().filter(|place| *place != Place::Node) {
            let (interface, far) = (place.interface().unwrap(), self.namespace(place));
            node += &format!(
                "link add {interface} type veth peer name eth0 netns {far}\nlink set {interface} up\n"
            );
            if place.is_pod() {
                node += &format!("addr add fe80::1/64 dev {interface} nodad\n");
            }
        }
        node += "addr add 192.0.2.2/26 dev eth0\naddr add 2001:db8:0:1::2/64 dev eth0 nodad\n\
                 addr add 192.0.2.66/26 dev eth1\naddr add 2001:db8:0:2::66/64 dev eth1 nodad\n";
        self.ip(Place::Node, &node);
        for place in Place::ALL.into_iter().filter(|place| *place != Place::Node) {
            let [v4, v6] = [Family::V4, Family::V6].map(|family| place.address(family));
            let mut far = String::from("link set lo up\nlink set eth0 up\n");
            if place.is_pod() {
                // As on a real node: the pod knows nothing but a way to the node, which has no address of the pod
                // network.
                far += &format!("addr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n");
                far += "route add 192.0.2.2/32 dev eth0\nroute add default via 192.0.2.2 dev eth0\n";
                far += "route add default via fe80::1 dev eth0\n";
            } else {
                let [to_v4, to_v6] = match place {
                    Place::Allowed => ["192.0.2.66", "2001:db8:0:2::66"],
                    _ => ["192.0.2.2", "2001:db8:0:1::2"],
                };
                far += &format!("addr add {v4}/26 dev eth0\naddr add {v6}/64 dev eth0 nodad\n");
                far += &format!("route add default via {to_v4}\nroute add default via {to_v6}\n");
            }
            self.ip(place, &far);
        }
        let mut routes = String::from(
            "route add default via 192.0.2.3 dev eth0\nroute add default via 2001:db8:0:1::3 dev eth0\n",
        );
        for place in Place::ALL.into_iter().filter(|place| place.is_pod()) {
            let interface = place.interface().unwrap();
            let [v4, v6] = [Family::V4, Family::V6].map(|family| place.address(family));
            routes += &format!("route add {v4}/32 dev {interface}\nroute add {v6}/128 dev {interface}\n");
        }
        self.ip(Place::Node, &routes);
    }

    /// The node as the interpreter is told of it.
    pub(crate) fn host(&self) -> Host {
        let mut host = Host::new()
            .with_interface("eth0", ["192.0.2.2/26", "2001:db8:0:1::2/64"].map(|net| net.parse().unwrap()))
            .with_interface("eth1", ["192.0.2.66/26", "2001:db8:0:2::66/64"].map(|net| net.parse().unwrap()))
            .with_route("0.0.0.0/0".parse().unwrap(), "eth0")
            .with_route("::/0".parse().unwrap(), "eth0");
        for place in Place::ALL.into_iter().filter(|place| place.is_pod()) {
            for family in [Family::V4, Family::V6] {
                host = host.with_route(place.address(family).into(), place.interface().unwrap());
            }
        }
        host.route_localnet = true;
        host
    }

    /// The first packet of a connection from `place`, as the node sees it.
    pub(crate) fn packet(&self, place: Place, transport: Transport, destination: SocketAddr) -> Packet {
        self.packet_seen_by(&self.host(), place, transport, destination)
    }

    /// The same, where `host` has more addresses than the lab gave it: what it sends to one of its own comes from there.
    pub(crate) fn packet_seen_by(
        &self,
        host: &Host,
        place: Place,
        transport: Transport,
        destination: SocketAddr,
    ) -> Packet {
        let family = Family::of(destination.ip());
        let loops = place == Place::Node && host.is_local(destination.ip());
        let source = if loops { destination.ip() } else { place.address(family) };
        let packet = Packet::new(transport, SocketAddr::new(source, 40_000), destination);
        match place.interface() {
            Some(interface) => packet.from_interface(interface),
            None => packet,
        }
    }

    fn serve(&mut self, place: Place, port: u16) {
        let mut server = self
            .inside(place, std::env::current_exe().unwrap().to_str().unwrap())
            .args(["serve", place.name(), &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        self.servers.push(server);
        assert_eq!(line, "ready\n", "server of {}", place.name());
    }

    /// Tries `count` connections one after another.
    pub(crate) fn connect(
        &self,
        from: Place,
        transport: Transport,
        to: SocketAddr,
        count: usize,
    ) -> Vec<Answer> {
        let protocol = transport.to_string();
        let text = self.helper(from, &["connect", &protocol, &to.to_string(), &count.to_string()]);
        text.lines().map(Answer::parse).collect()
    }

    fn inside(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(place), program]);
        command
    }

    pub(crate) fn helper(&self, place: Place, arguments: &[&str]) -> String {
        self.run(place, std::env::current_exe().unwrap().to_str().unwrap(), arguments, "").unwrap()
    }

    pub(crate) fn ip(&self, place: Place, lines: &str) {
        run("ip", &["-n", &self.namespace(place), "-batch", "-"], lines).unwrap();
    }

    /// Runs a program in a namespace; its output, or its complaints.
    pub(crate) fn run(
        &self,
        place: Place,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let namespace = self.namespace(place);
        run("ip", &[&["netns", "exec", &namespace, program], arguments].concat(), input)
    }
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || {
        // A program that stops reading at an error of its own says so itself.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let _ = feeder.join();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(format!("{program} {}: {}{}", arguments.join(" "), text(output.stdout), text(output.stderr)))
    }
}
