//! Connections tried in the kernel and walked through the interpreter, and the two compared.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use svc_rules::host::Host;
use svc_rules::outcome::{Outcome, Verdict, Walk};
use svc_rules::packet::{Packet, Transport};

use crate::lab::{Lab, NODE_PORT_OWN, POD_PORT, Place};
use crate::traffic::Answer;

/// One connection to be tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) from: Place,
    pub(crate) transport: Transport,
    pub(crate) to: SocketAddr,
    /// What the scenario is about; the interpreter must say so too.
    pub(crate) expect: Expect,
}

/// The kind of result a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Answered by exactly these places, with the client's own address seen there.
    Open(&'static [Place]),
    /// Answered by exactly these places, which see the node's address.
    Masqueraded(&'static [Place]),
    /// Answered by exactly these places, which see the node's address if they are the client themselves.
    Hairpin(&'static [Place]),
    /// Connection refused.
    Refused,
    /// No answer.
    Silent,
}

impl Expect {
    /// Everything a client may see.
    fn answers(self, from: Place) -> BTreeSet<Seen> {
        let seen = |place: &Place, masquerade| Seen::Reply(*place, masquerade || from == Place::Node);
        match self {
            Self::Open(places) => places.iter().map(|place| seen(place, false)).collect(),
            Self::Masqueraded(places) => places.iter().map(|place| seen(place, true)).collect(),
            Self::Hairpin(places) => places.iter().map(|place| seen(place, *place == from)).collect(),
            Self::Refused => [Seen::Refused].into(),
            Self::Silent => [Seen::Silence].into(),
        }
    }
}

/// A result in the terms that both the kernel and the interpreter know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// Answered by this place, which saw an address of the node (or not).
    Reply(Place, bool),
    Refused,
    Silence,
}

impl Seen {
    fn of_answer(answer: &Answer, host: &Host) -> Self {
        match answer {
            Answer::Reply { server, peer } => {
                let place = Place::ALL.into_iter().find(|place| place.name() == server).unwrap();
                Self::Reply(place, host.is_local(*peer))
            }
            Answer::Refused => Self::Refused,
            Answer::Silence => Self::Silence,
            Answer::Error(text) => panic!("{text}"),
        }
    }

    /// What a client sees of an outcome in the lab, where servers listen on known ports only.
    pub(crate) fn of_outcome(outcome: &Outcome, packet: &Packet, host: &Host) -> Self {
        let from_node = host.is_local(packet.source);
        match &outcome.verdict {
            Verdict::Deliver if outcome.destination.port() == NODE_PORT_OWN => {
                Self::Reply(Place::Node, outcome.source_nat.is_some() || from_node)
            }
            Verdict::Deliver => Self::Refused,
            Verdict::Forward(_) => match Place::at(outcome.destination.ip()) {
                Some(place) if outcome.destination.port() == POD_PORT => {
                    Self::Reply(place, outcome.source_nat.is_some() || from_node)
                }
                Some(_) => Self::Refused,
                // Nobody there.
                None => Self::Silence,
            },
            Verdict::Drop | Verdict::Martian => Self::Silence,
            Verdict::Reject(_) => Self::Refused,
            other => panic!("undecided: {other:?}\n{}", outcome.explain()),
        }
    }
}

/// Connections enough that no outcome of a share of a third or more is missed once in a hundred million runs.
const MANY: usize = 48;

/// Tries the connection, walks it, and compares both with what the scenario is about.
pub(crate) fn check(lab: &Lab, host: &Host, walk: impl Fn(&Host, &Packet) -> Walk, probe: Probe) {
    let packet = lab.packet_seen_by(host, probe.from, probe.transport, probe.to);
    let walked = walk(host, &packet);
    let predicted: BTreeSet<Seen> =
        walked.outcomes.iter().map(|outcome| Seen::of_outcome(outcome, &packet, host)).collect();
    let wanted = probe.expect.answers(probe.from);
    let explain = || walked.outcomes.iter().map(Outcome::explain).collect::<Vec<_>>().join("--\n");
    assert_eq!(predicted, wanted, "the interpreter on {probe:?}\n{}", explain());
    let count = if predicted.len() > 1 { MANY } else { 1 };
    let mut answers = lab.connect(probe.from, probe.transport, probe.to, count);
    // On a slow machine an answer can be lost or late, and looks like silence then; a rule that drops does so again.
    for _ in 0..2 {
        let silent = answers.iter_mut().filter(|answer| **answer == Answer::Silence);
        for answer in silent.filter(|_| !predicted.contains(&Seen::Silence)) {
            answer.clone_from(&lab.connect(probe.from, probe.transport, probe.to, 1)[0]);
        }
    }
    let seen: BTreeSet<Seen> = answers.iter().map(|answer| Seen::of_answer(answer, host)).collect();
    assert_eq!(seen, predicted, "the kernel on {probe:?}: {answers:?}\n{}", explain());
    let unmasked = |answer: &Answer| match answer {
        Answer::Reply { peer, .. } => host.is_local(*peer) || *peer == packet.source,
        _ => true,
    };
    assert!(answers.iter().all(unmasked), "a stranger's address on {probe:?}: {answers:?}");
}

/// Tries a Service with session affinity: every connection after the first must go where the first went, in the kernel
/// and in the interpreter, which is told what it said itself.
pub(crate) fn check_affinity(
    lab: &Lab,
    host: &mut Host,
    walk: impl Fn(&Host, &Packet) -> Walk,
    from: Place,
    transport: Transport,
    to: SocketAddr,
) {
    let packet = lab.packet_seen_by(host, from, transport, to);
    let first = walk(host, &packet);
    assert!(first.outcomes.len() > 1, "free choice at first: {first:?}");
    let answers = lab.connect(from, transport, to, 12);
    let seen: BTreeSet<Seen> = answers.iter().map(|answer| Seen::of_answer(answer, host)).collect();
    assert_eq!(seen.len(), 1, "{answers:?}");
    let taken = first
        .outcomes
        .iter()
        .find(|outcome| seen.contains(&Seen::of_outcome(outcome, &packet, host)))
        .unwrap_or_else(|| panic!("{answers:?} is none of {first:?}"));
    assert!(!taken.affinity.is_empty());
    host.remember(&taken.affinity);
    let again = walk(host, &packet);
    assert_eq!(again.certain().map(|outcome| outcome.destination), Some(taken.destination), "{again:?}");
}
