//! The kernel's path of a packet from hook to hook, shared by all backends.
//!
//! A backend names its base chains at each hook ([`Backend::stages`]) and runs a packet through one of them
//! ([`Backend::run`]); this module orders them by priority as the kernel does, asks nat chains only where the kernel
//! does, and makes the routing decisions between hooks.
//!
//! Taken as given: forwarding is on, `rp_filter` lets the packet pass, and no other code takes packets away.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use smol_str::SmolStr;

use crate::host::{Egress, Host, Seen};
use crate::ipvsadm::VirtualServers;
use crate::outcome::{
    AffinityAction, AffinityUpdate, Effect, Hit, Hook, Outcome, Probability, SourceNat, Verdict, Walk,
};
use crate::packet::{ConnState, Origin, Packet, Transport, is_loopback};
use crate::{nft, xtables};

/// Everything that one kernel has loaded, of whatever kind; base chains are ordered by priority across all of it.
///
/// ```
/// use svc_rules::Kernel;
/// use svc_rules::host::Host;
/// use svc_rules::ipvsadm::VirtualServers;
/// use svc_rules::packet::Packet;
///
/// let mut servers = VirtualServers::new();
/// servers.restore("-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.0.0.7:6443 -m -w 1\n")?;
/// let host = Host::new().with_interface("kube-ipvs0", ["10.96.0.1/32".parse()?]);
/// let packet = Packet::tcp("10.0.0.9:4000".parse()?, "10.96.0.1:443".parse()?).from_interface("veth9");
/// let walk = Kernel::new().with_ipvs(&servers).walk(&host, &packet);
/// assert_eq!(walk.certain().unwrap().destination, "10.0.0.7:6443".parse()?);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel<'a> {
    iptables: Option<&'a xtables::Ruleset>,
    nftables: Option<&'a nft::Ruleset>,
    ipvs: Option<&'a VirtualServers>,
}

impl<'a> Kernel<'a> {
    /// Nothing loaded.
    pub const fn new() -> Self {
        Self { iptables: None, nftables: None, ipvs: None }
    }

    /// With these rules of iptables or ip6tables.
    #[must_use]
    pub const fn with_iptables(mut self, rules: &'a xtables::Ruleset) -> Self {
        self.iptables = Some(rules);
        self
    }

    /// With these rules of nftables.
    #[must_use]
    pub const fn with_nftables(mut self, rules: &'a nft::Ruleset) -> Self {
        self.nftables = Some(rules);
        self
    }

    /// With these virtual servers.
    #[must_use]
    pub const fn with_ipvs(mut self, servers: &'a VirtualServers) -> Self {
        self.ipvs = Some(servers);
        self
    }

    /// Everything that can become of `packet` on `host`. ipsets are those of [`Host::sets`].
    pub fn walk(&self, host: &Host, packet: &Packet) -> Walk {
        let iptables = self.iptables.map(|rules| rules as &dyn Backend);
        let nftables = self.nftables.map(|rules| rules as &dyn Backend);
        let ipvs = self.ipvs.map(|servers| servers as &dyn Backend);
        let all: Vec<&dyn Backend> = [iptables, nftables, ipvs].into_iter().flatten().collect();
        walk(&all, host, packet)
    }
}

/// What a base chain is for: chains for translation are asked for the first packet of a connection only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StageKind {
    Filter,
    Nat,
}

/// One base chain at a hook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) priority: i32,
    pub(crate) kind: StageKind,
    /// The backend's own name for it: places of its table and chain.
    pub(crate) id: (usize, usize),
}

/// How a base chain ends for a packet.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// On to the next base chain.
    Pass,
    /// IPVS has taken it and sends it again, as if from the host itself.
    Resend,
    /// The end.
    Stop(Verdict),
}

/// A set of rules that packets can be walked through.
pub(crate) trait Backend {
    fn stages(&self, hook: Hook) -> Vec<Stage>;

    /// Runs `flow` through one base chain and appends every way it can end; at least one.
    fn run(&self, stage: Stage, flow: Flow, at: &At<'_>, out: &mut Vec<(Flow, Step)>);
}

/// Where and when a base chain is run.
#[derive(Debug)]
pub(crate) struct At<'a> {
    pub(crate) hook: Hook,
    pub(crate) host: &'a Host,
}

/// A packet under way, with its history.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// The packet as it is now; its interfaces are in `input` and `output`.
    pub(crate) packet: Packet,
    pub(crate) input: Option<SmolStr>,
    pub(crate) output: Option<Egress>,
    pub(crate) probability: Probability,
    pub(crate) affinity: Vec<AffinityUpdate>,
    pub(crate) hits: Vec<Hit>,
    /// The virtual server of IPVS whose connection it belongs to.
    pub(crate) virtual_server: Option<(IpAddr, Transport, u16)>,
    /// Source and destination as connection tracking knows them.
    original: (IpAddr, IpAddr),
    dnat: bool,
    source_nat: Option<SourceNat>,
}

impl Flow {
    fn new(packet: &Packet, host: &Host) -> Self {
        let (input, output) = match &packet.origin {
            Origin::Local => (None, Some(host.egress(packet.destination))),
            Origin::Interface(name) => (Some(name.clone()), None),
        };
        Self {
            packet: packet.clone(),
            input,
            output,
            probability: Probability::ONE,
            affinity: Vec::new(),
            hits: Vec::new(),
            virtual_server: None,
            original: (packet.source, packet.destination),
            dnat: false,
            source_nat: None,
        }
    }

    /// Rewrites the destination; port 0 keeps the port.
    pub(crate) fn rewrite_destination(&mut self, address: IpAddr, port: Option<u16>) -> SocketAddr {
        self.packet.destination = address;
        if let Some(port) = port {
            self.packet.destination_port = port;
        }
        self.packet.dnat_status = true;
        self.dnat = true;
        SocketAddr::new(address, self.packet.destination_port)
    }

    pub(crate) fn rewrite_source(&mut self, how: SourceNat) {
        self.source_nat = Some(how);
        self.packet.snat_status = true;
    }

    pub(crate) const fn original(&self, end: nft::End) -> IpAddr {
        match end {
            nft::End::Source => self.original.0,
            nft::End::Destination => self.original.1,
        }
    }

    /// When the client alone was last remembered in the list, this packet's own doings included.
    pub(crate) fn last_seen(&self, list: &str, address: IpAddr, host: &Host) -> Option<Duration> {
        self.remembered(list, address, "", host).map(|seen| seen.at)
    }

    /// When, and for how long, a key was last remembered in the list, this packet's own doings included.
    pub(crate) fn remembered(&self, list: &str, address: IpAddr, rest: &str, host: &Host) -> Option<Seen> {
        let same = |update: &&AffinityUpdate| {
            update.list == list && update.address == address && update.rest == rest
        };
        match self.affinity.iter().rev().find(same) {
            Some(update) => match update.action {
                AffinityAction::Remember => Some(Seen { at: host.now, timeout: update.timeout }),
                AffinityAction::Forget => None,
            },
            None => host.memory.find(list, address, rest),
        }
    }

    fn end(self, verdict: Verdict) -> Outcome {
        Outcome {
            probability: self.probability,
            verdict,
            destination: SocketAddr::new(self.packet.destination, self.packet.destination_port),
            dnat: self.dnat,
            source_nat: self.source_nat,
            mark: self.packet.mark,
            affinity: self.affinity,
            hits: self.hits,
        }
    }
}

/// A rule that matched, to be noted in a flow's history.
pub(crate) fn hit(
    hook: Hook,
    table: &SmolStr,
    chain: SmolStr,
    rule: Option<usize>,
    comment: Option<&SmolStr>,
    effect: Effect,
) -> Hit {
    Hit { hook, table: table.clone(), chain, rule, comment: comment.cloned(), effect }
}

/// A leg of the path. The last two are the second half of a packet that the host sends to itself: it leaves through
/// the loopback device and comes in again, known to connection tracking, so nat chains are not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Prerouting,
    Input,
    Forward,
    Output,
    /// OUTPUT once more, for what IPVS sends on; its destination is bound already.
    Resent,
    Postrouting,
    LoopPrerouting,
    LoopInput,
}

impl Leg {
    const fn hook(self) -> Hook {
        match self {
            Self::Prerouting | Self::LoopPrerouting => Hook::Prerouting,
            Self::Input | Self::LoopInput => Hook::Input,
            Self::Forward => Hook::Forward,
            Self::Output | Self::Resent => Hook::Output,
            Self::Postrouting => Hook::Postrouting,
        }
    }
}

/// What follows when every base chain of a leg let the packet pass.
enum Next {
    Leg(Leg),
    End(Verdict),
}

/// Walks a packet through all base chains of all backends.
pub(crate) fn walk(backends: &[&dyn Backend], host: &Host, packet: &Packet) -> Walk {
    let stages = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]
        .map(|hook| (hook, sorted_stages(backends, hook)));
    let stages_at = |hook: Hook| {
        stages.iter().find(|(at, _)| *at == hook).map_or(&[][..], |(_, stages)| stages.as_slice())
    };
    let first = match packet.origin {
        Origin::Local => Leg::Output,
        Origin::Interface(_) => Leg::Prerouting,
    };
    let mut outcomes = Vec::new();
    let start = Flow::new(packet, host);
    if let Some(verdict) = refused_at_once(packet, &start) {
        return Walk { outcomes: vec![start.end(verdict)] };
    }
    let mut work = vec![(start, first, 0)];
    let mut ends = Vec::new();
    while let Some((mut flow, leg, index)) = work.pop() {
        let Some((backend, stage)) = stages_at(leg.hook()).get(index) else {
            match next(&mut flow, leg, host) {
                Next::Leg(leg) => work.push((flow, leg, 0)),
                Next::End(verdict) => outcomes.push(flow.end(verdict)),
            }
            continue;
        };
        if stage.kind == StageKind::Nat && !asks_nat(&flow, leg) {
            work.push((flow, leg, index + 1));
            continue;
        }
        let at = At { hook: leg.hook(), host };
        backend.run(*stage, flow, &at, &mut ends);
        for (flow, step) in ends.drain(..) {
            match step {
                Step::Pass => work.push((flow, leg, index + 1)),
                Step::Resend => work.push(resend(flow, host, leg, index)),
                Step::Stop(verdict) => outcomes.push(flow.end(verdict)),
            }
        }
    }
    outcomes.sort_by(|a, b| {
        b.probability
            .value()
            .total_cmp(&a.probability.value())
            .then_with(|| a.destination.cmp(&b.destination))
    });
    Walk { outcomes }
}

fn sorted_stages<'a>(backends: &[&'a dyn Backend], hook: Hook) -> Vec<(&'a dyn Backend, Stage)> {
    let mut all: Vec<_> = backends
        .iter()
        .flat_map(|backend| backend.stages(hook).into_iter().map(move |stage| (*backend, stage)))
        .collect();
    all.sort_by_key(|(_, stage)| stage.priority);
    all
}

/// IPv6 drops loopback addresses from the wire before any hook (`ip6_rcv_core`); and what the host itself cannot route
/// is never sent.
fn refused_at_once(packet: &Packet, flow: &Flow) -> Option<Verdict> {
    let on_wire = matches!(&packet.origin, Origin::Interface(name) if name != "lo");
    let loopback = is_loopback(packet.source) || is_loopback(packet.destination);
    if on_wire && loopback && packet.destination.is_ipv6() {
        return Some(Verdict::Martian);
    }
    (flow.output == Some(Egress::NoRoute)).then_some(Verdict::NoRoute)
}

/// Whether nat chains are asked: for the first packet of a connection, once for each end (`nf_nat_inet_fn`).
fn asks_nat(flow: &Flow, leg: Leg) -> bool {
    let bound = match leg {
        Leg::Prerouting | Leg::Output => flow.dnat,
        Leg::Input | Leg::Postrouting => flow.source_nat.is_some(),
        Leg::Forward | Leg::Resent | Leg::LoopPrerouting | Leg::LoopInput => true,
    };
    matches!(flow.packet.state, ConnState::New | ConnState::Related) && !bound
}

fn next(flow: &mut Flow, leg: Leg, host: &Host) -> Next {
    let destination = flow.packet.destination;
    match leg {
        Leg::Prerouting => {
            let on_wire = flow.input.as_ref().is_some_and(|name| name != "lo");
            let loopback = is_loopback(flow.packet.source) || is_loopback(destination);
            // `ip_route_input_slow`: martian source or destination.
            if on_wire && loopback && !host.route_localnet {
                return Next::End(Verdict::Martian);
            }
            if host.is_local(destination) {
                return Next::Leg(Leg::Input);
            }
            route(flow, host, Leg::Forward)
        }
        Leg::Output | Leg::Resent => {
            let next = route(flow, host, Leg::Postrouting);
            let out_of_host = !host.is_local(destination);
            // `__mkroute_output`: a loopback source may not leave by a real device.
            if out_of_host
                && flow.packet.source.is_ipv4()
                && is_loopback(flow.packet.source)
                && !host.route_localnet
            {
                return Next::End(Verdict::Martian);
            }
            next
        }
        Leg::Forward => Next::Leg(Leg::Postrouting),
        Leg::Postrouting if flow.input.is_none() && host.is_local(destination) => {
            flow.input = Some(SmolStr::new_static("lo"));
            flow.output = None;
            Next::Leg(Leg::LoopPrerouting)
        }
        Leg::Postrouting => Next::End(Verdict::Forward(match flow.output.take() {
            Some(Egress::Interface(name)) => Some(name),
            _ => None,
        })),
        Leg::LoopPrerouting => Next::Leg(Leg::LoopInput),
        Leg::Input | Leg::LoopInput => Next::End(Verdict::Deliver),
    }
}

/// What IPVS sends on goes through OUTPUT from its beginning (`ip_vs_nat_send_or_cont`); to the host itself, it just
/// goes on where it is.
fn resend(mut flow: Flow, host: &Host, leg: Leg, index: usize) -> (Flow, Leg, usize) {
    if host.is_local(flow.packet.destination) {
        return (flow, leg, index + 1);
    }
    flow.input = None;
    flow.output = Some(host.egress(flow.packet.destination));
    (flow, Leg::Resent, 0)
}

/// Finds the way out after the destination may have been rewritten.
fn route(flow: &mut Flow, host: &Host, then: Leg) -> Next {
    let egress = host.egress(flow.packet.destination);
    if egress == Egress::NoRoute {
        return Next::End(Verdict::NoRoute);
    }
    flow.output = Some(egress);
    Next::Leg(then)
}
