//! Virtual servers and the real servers behind them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use smol_str::SmolStr;

use crate::packet::{Family, Transport};

/// What a virtual server answers to, in the order in which `ipvsadm -S` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VirtualAddress {
    /// An address, protocol and port; port 0 stands for all ports of a persistent service.
    Socket {
        /// TCP, UDP or SCTP.
        transport: Transport,
        /// Address.
        address: IpAddr,
        /// Port.
        port: u16,
    },
    /// Packets that carry a mark.
    Mark {
        /// The mark.
        mark: u32,
        /// Their family.
        family: Family,
    },
}

impl VirtualAddress {
    fn rank(&self) -> (bool, Family, Option<IpAddr>, u32, u8) {
        match *self {
            Self::Socket { transport, address, port } => {
                let protocol = match transport {
                    Transport::TCP => 0,
                    Transport::UDP => 1,
                    _ => 2,
                };
                (false, Family::of(address), Some(address), port.into(), protocol)
            }
            Self::Mark { mark, family } => (true, family, None, mark, 0),
        }
    }

    /// The family of the packets that it answers to.
    pub const fn family(&self) -> Family {
        match self {
            Self::Socket { address, .. } => Family::of(*address),
            Self::Mark { family, .. } => *family,
        }
    }
}

impl PartialOrd for VirtualAddress {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VirtualAddress {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Socket { transport, address, port } => {
                let option = match transport {
                    Transport::TCP => "-t",
                    Transport::UDP => "-u",
                    _ => "--sctp-service",
                };
                write!(f, "{option} {}", SocketAddr::new(address, port))
            }
            Self::Mark { mark, family: Family::V4 } => write!(f, "-f {mark}"),
            Self::Mark { mark, family: Family::V6 } => write!(f, "-f {mark} -6"),
        }
    }
}

/// How clients are held to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// For how many seconds after their last connection.
    pub seconds: u32,
    /// Prefix length under which clients are told apart; 32 or 128 for each by itself.
    pub prefix: u8,
}

/// How packets reach a real server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Method {
    /// `-m`: the destination is rewritten.
    Masquerade,
    /// `-g`: as they are, by way of the server's link-layer address.
    #[default]
    Route,
    /// `-i`: in a tunnel; further options in their words.
    Tunnel(SmolStr),
}

/// A server behind a virtual one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RealServer {
    /// How packets reach it.
    pub method: Method,
    /// Its weight; 0 takes no new connections.
    pub weight: u32,
    /// Number of connections from which it takes no more; 0 without limit. `ipvsadm -S` does not tell it.
    pub upper: u32,
    /// Number of connections below which it takes them again; 0 for three quarters of `upper`.
    pub lower: u32,
}

impl Default for RealServer {
    fn default() -> Self {
        Self { method: Method::Route, weight: 1, upper: 0, lower: 0 }
    }
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualServer {
    /// Name of the scheduler.
    pub scheduler: SmolStr,
    /// How clients are held to a server.
    pub persistence: Option<Persistence>,
    /// Persistence engine.
    pub engine: Option<SmolStr>,
    /// Flags of the scheduler, as in `-b`.
    pub flags: Option<SmolStr>,
    /// `-o`: each packet is scheduled by itself.
    pub one_packet: bool,
    pub(super) servers: BTreeMap<SocketAddr, RealServer>,
}

impl Default for VirtualServer {
    fn default() -> Self {
        Self {
            scheduler: SmolStr::new_static("wlc"),
            persistence: None,
            engine: None,
            flags: None,
            one_packet: false,
            servers: BTreeMap::new(),
        }
    }
}

impl VirtualServer {
    /// Its real servers, in order of address and port.
    pub fn servers(&self) -> impl ExactSizeIterator<Item = (SocketAddr, &RealServer)> {
        self.servers.iter().map(|(address, server)| (*address, server))
    }

    /// Puts a real server behind it, in the place of one with the same address and port.
    pub fn insert(&mut self, address: SocketAddr, server: RealServer) {
        self.servers.insert(address, server);
    }

    /// Takes out a real server; `None` if it is not there.
    pub fn remove(&mut self, address: &SocketAddr) -> Option<RealServer> {
        self.servers.remove(address)
    }
}

/// All virtual servers of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VirtualServers {
    pub(super) services: BTreeMap<VirtualAddress, VirtualServer>,
}

impl VirtualServers {
    /// None at all.
    pub const fn new() -> Self {
        Self { services: BTreeMap::new() }
    }

    /// The virtual servers, in the order of `ipvsadm -S`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&VirtualAddress, &VirtualServer)> {
        self.services.iter()
    }

    /// The virtual server that answers to this.
    pub fn get(&self, address: &VirtualAddress) -> Option<&VirtualServer> {
        self.services.get(address)
    }

    /// Adds a virtual server, in the place of the one that answers to the same.
    pub fn insert(&mut self, address: VirtualAddress, server: VirtualServer) {
        self.services.insert(address, server);
    }

    /// The text of `ipvsadm -Sn`. Thresholds are not in it.
    pub fn save(&self) -> String {
        let mut out = String::new();
        for (address, service) in &self.services {
            // Writing to a String cannot fail.
            let _ = service.write(address, &mut out);
        }
        out
    }
}

impl VirtualServer {
    /// Its options as `ipvsadm -Sn` writes them behind its address, of this family: `-s rr -p 10800`.
    pub fn declaration(&self, family: Family) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_options(family, &mut out);
        out
    }

    fn write_options(&self, family: Family, out: &mut String) -> fmt::Result {
        write!(out, "-s {}", self.scheduler)?;
        if let Some(Persistence { seconds, prefix }) = self.persistence {
            write!(out, " -p {seconds}")?;
            match family {
                Family::V4 if prefix < 32 => write!(out, " -M {}", mask(prefix))?,
                Family::V6 if prefix < 128 => write!(out, " -M {prefix}")?,
                _ => {}
            }
        }
        if let Some(engine) = &self.engine {
            write!(out, " --pe {engine}")?;
        }
        if let Some(flags) = &self.flags {
            write!(out, " -b {flags}")?;
        }
        if self.one_packet {
            out.push_str(" -o");
        }
        Ok(())
    }

    fn write(&self, address: &VirtualAddress, out: &mut String) -> fmt::Result {
        write!(out, "-A {address} ")?;
        self.write_options(address.family(), out)?;
        out.push('\n');
        for (server, RealServer { method, weight, .. }) in &self.servers {
            write!(out, "-a {address} -r {server} ")?;
            match method {
                Method::Masquerade => writeln!(out, "-m -w {weight}")?,
                Method::Route => writeln!(out, "-g -w {weight}")?,
                Method::Tunnel(options) if options.is_empty() => writeln!(out, "-i -w {weight}")?,
                Method::Tunnel(options) => writeln!(out, "-i -w {weight} {options}")?,
            }
        }
        Ok(())
    }
}

fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

/// A server that may take a new connection, with the share of them that it gets in the long run.
pub(super) fn shares(service: &VirtualServer) -> Vec<(SocketAddr, f64)> {
    let usable = service.servers.iter().filter(|(_, server)| server.weight > 0);
    let weight = |server: &RealServer| match service.scheduler.as_str() {
        // These look at weights only for being there at all.
        "rr" | "lc" | "dh" | "lblc" | "lblcr" => 1.0,
        _ => f64::from(server.weight),
    };
    if matches!(service.scheduler.as_str(), "fo" | "ovf") {
        // All go to the greatest weight while it has room.
        let best = usable.max_by_key(|(_, server)| server.weight);
        return best.map(|(address, _)| (*address, 1.0)).into_iter().collect();
    }
    let usable: Vec<_> = usable.map(|(address, server)| (*address, weight(server))).collect();
    let sum: f64 = usable.iter().map(|(_, weight)| weight).sum();
    usable.into_iter().map(|(address, weight)| (address, weight / sum)).collect()
}
