//! What IPVS does to packets, in the kernel's path.
//!
//! IPVS takes packets to a virtual server where they are delivered to the host (`ip_vs_remote_request` at LOCAL_IN) or
//! leave it (`ip_vs_local_request` at LOCAL_OUT), rewrites the destination and sends them on through OUTPUT and
//! POSTROUTING. Of a scheduler's choice only the share of each server over many clients is told: the choice itself
//! depends on what was chosen before.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use smol_str::SmolStr;

use super::model::{Method, Persistence, VirtualAddress, VirtualServer, VirtualServers, shares};
use crate::outcome::{AffinityAction, AffinityUpdate, Effect, Hook, RejectWith, Unknown, Verdict};
use crate::packet::{Family, Packet};
use crate::walk::{At, Backend, Flow, Stage, StageKind, Step, hit};

/// `NF_IP_PRI_NAT_SRC - 1` and `NF_IP_PRI_NAT_DST + 2`.
const REMOTE_REQUEST: i32 = 99;
const LOCAL_REQUEST: i32 = -98;

const TABLE: SmolStr = SmolStr::new_static("ipvs");

impl VirtualServers {
    /// The virtual server that takes a packet: by mark, by its own address and port, or by address alone
    /// (`ip_vs_service_find`).
    fn find(&self, packet: &Packet) -> Option<(VirtualAddress, &VirtualServer)> {
        let marked = VirtualAddress::Mark { mark: packet.mark, family: Family::of(packet.destination) };
        let socket =
            |port| VirtualAddress::Socket { transport: packet.transport, address: packet.destination, port };
        let candidates =
            [(packet.mark != 0).then_some(marked), Some(socket(packet.destination_port)), Some(socket(0))];
        candidates.into_iter().flatten().find_map(|address| Some((address, self.services.get(&address)?)))
    }
}

impl Backend for VirtualServers {
    fn stages(&self, hook: Hook) -> Vec<Stage> {
        let priority = match hook {
            Hook::Input => REMOTE_REQUEST,
            Hook::Output => LOCAL_REQUEST,
            Hook::Prerouting | Hook::Forward | Hook::Postrouting => return Vec::new(),
        };
        [Stage { priority, kind: StageKind::Filter, id: (0, 0) }].into()
    }

    fn run(&self, _: Stage, mut flow: Flow, at: &At<'_>, out: &mut Vec<(Flow, Step)>) {
        let found = self.find(&flow.packet).filter(|_| flow.virtual_server.is_none());
        let Some((address, service)) = found else {
            out.push((flow, Step::Pass));
            return;
        };
        let name: SmolStr = alloc::format!("{address}").into();
        let note =
            |flow: &mut Flow, effect| flow.hits.push(hit(at.hook, &TABLE, name.clone(), None, None, effect));
        let list = |server| SmolStr::from(alloc::format!("{address} -> {server}"));
        let client = service.persistence.map(|persistence| masked(flow.packet.source, persistence));
        let mut ways = shares(service);
        // A client that is held to a server goes there even if its weight is 0 (`ip_vs_sched_persist`).
        if let (Some(client), Some(persistence)) = (client, service.persistence) {
            let window = Duration::from_secs(persistence.seconds.into());
            let held = service.servers.keys().find(|server| {
                let seen = flow.last_seen(&list(**server), client, at.host);
                seen.is_some_and(|seen| at.host.now.saturating_sub(seen) < window)
            });
            if let Some(server) = held {
                ways = [(*server, 1.0)].into();
            }
        }
        if ways.is_empty() {
            let answer = RejectWith::PortUnreachable;
            note(&mut flow, Effect::Reject(answer));
            out.push((flow, Step::Stop(Verdict::Reject(answer))));
            return;
        }
        for (server, share) in ways {
            let mut flow = flow.clone();
            flow.probability = flow.probability.and(share);
            if let Some(client) = client {
                flow.affinity.push(AffinityUpdate {
                    list: list(server),
                    address: client,
                    rest: SmolStr::default(),
                    timeout: None,
                    action: AffinityAction::Remember,
                });
            }
            match service.servers.get(&server).map(|server| &server.method) {
                Some(Method::Masquerade) => {
                    let packet = &flow.packet;
                    flow.virtual_server =
                        Some((packet.destination, packet.transport, packet.destination_port));
                    let port = (server.port() != 0).then(|| server.port());
                    let to = flow.rewrite_destination(server.ip(), port);
                    note(&mut flow, Effect::Dnat(to));
                    out.push((flow, Step::Resend));
                }
                _ => {
                    let why = Unknown::Target(SmolStr::new_static("ipvs route or tunnel"));
                    note(&mut flow, Effect::Unknown(why.clone()));
                    out.push((flow, Step::Stop(Verdict::Unknown(why))));
                }
            }
        }
    }
}

/// The client as persistence tells clients apart.
fn masked(address: IpAddr, persistence: Persistence) -> IpAddr {
    crate::xtables::Net::new(address, persistence.prefix).address()
}
