//! CNAME chains: ExternalName Services that point to each other, and out of the zones.

use super::{Answered, Asked, Looked, Upstream};
use crate::lookup::Found;
use crate::name::{Name, below};
use crate::question::Question;
use crate::record::Rcode;
use crate::sink::{DataRef, NameRef, Section, Sink};
use crate::store::service::Alias;
use crate::zones::Zones;

/// How many CNAMEs may come before one: CoreDNS's limit.
const LONGEST: usize = 10;

/// The aliases on the way, in order, each the target of the one before.
#[derive(Default)]
struct Chain<'z> {
    targets: [Option<&'z Name>; LONGEST + 1],
    len: usize,
}

impl<'z> Chain<'z> {
    /// Adds a target unless the chain is too long or comes back to a name; both spelled exactly, as CoreDNS compares them.
    fn push(&mut self, target: &'z Name) -> bool {
        if self.targets.iter().flatten().any(|known| *known == target) {
            return false;
        }
        let Some(slot) = self.targets.get_mut(self.len) else { return false };
        *slot = Some(target);
        self.len += 1;
        true
    }

    /// Writes the CNAME records.
    fn write(&self, asked: Asked<'_, '_>, ttl: u32, sink: &mut dyn Sink) {
        let mut owner = asked.owner();
        for target in self.targets.iter().flatten() {
            let target = NameRef::whole(target.wire());
            sink.record(Section::Answer, owner, ttl, DataRef::Cname(target));
            owner = target;
        }
    }
}

/// Where a chain ends.
enum End<'z> {
    /// At a name in the zone; it may lead nowhere.
    Inside(&'z Name),
    /// At a name outside the zone.
    Outside(&'z Name),
    /// At itself, or too far away.
    Nowhere,
}

impl Zones {
    /// Follows aliases inside the zone.
    fn follow<'z>(&'z self, asked: Asked<'z, '_>, alias: &'z Alias) -> (Chain<'z>, End<'z>) {
        let mut chain = Chain::default();
        let Alias::Name(target) = alias else { return (chain, End::Nowhere) };
        let mut target = target;
        // An alias of itself, or of a name below it, is not followed.
        if below(target.wire(), asked.question.name()).is_some() {
            return (chain, End::Nowhere);
        }
        loop {
            if !chain.push(target) {
                return (chain, End::Nowhere);
            }
            let question = Question::new(target, asked.question.qtype());
            let Some(left) = question.left_of(asked.zone.name.wire(), asked.zone.labels) else {
                return (chain, End::Outside(target));
            };
            match self.lookup(asked.behavior).locate(asked.zone, &question, left) {
                Ok(Found::Alias(Alias::Name(next))) => {
                    if below(next.wire(), target.wire()).is_some() {
                        return (chain, End::Nowhere);
                    }
                    target = next;
                }
                _ => return (chain, End::Inside(target)),
            }
        }
    }

    /// CoreDNS's way: the chain is given only if it ends in a record of the type; any other end is a bare NODATA.
    pub(super) fn chain_coredns(
        &self,
        asked: Asked<'_, '_>,
        alias: &Alias,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> Answered {
        let ttl = self.options.ttl;
        let (chain, end) = self.follow(asked, alias);
        match end {
            End::Nowhere => Answered::Nothing,
            End::Outside(target) => match upstream.lookup(target, asked.question.qtype()) {
                Looked::Nobody | Looked::Failed => Answered::Nothing,
                Looked::Answer { truncated, answer, .. } => {
                    chain.write(asked, ttl, sink);
                    answer.iter().for_each(|record| sink.foreign(Section::Answer, record));
                    if truncated {
                        sink.truncate();
                    }
                    Answered::Records
                }
            },
            End::Inside(target) => {
                let question = Question::new(target, asked.question.qtype());
                let left = question.left_of(asked.zone.name.wire(), asked.zone.labels).unwrap_or_default();
                let asked_last =
                    Asked { behavior: asked.behavior, ..self.asked(asked.zone, &question, left) };
                let resolved = self.resolve_coredns(asked_last, upstream, &mut super::Nowhere);
                if resolved != Ok(Answered::Records) {
                    return Answered::Nothing;
                }
                chain.write(asked, ttl, sink);
                // Found once, found again.
                let _ = self.resolve_coredns(asked_last, upstream, sink);
                Answered::Records
            }
        }
    }

    /// RFC 1034 section 3.6.2: the chain is given for every type, and the code is that of its end.
    pub(super) fn chain_standards(
        &self,
        asked: Asked<'_, '_>,
        alias: &Alias,
        upstream: &dyn Upstream,
        sink: &mut dyn Sink,
    ) -> Answered {
        let (chain, end) = self.follow(asked, alias);
        chain.write(asked, self.options.ttl, sink);
        match end {
            End::Nowhere => Answered::Chain(Rcode::ServFail),
            End::Outside(target) => match upstream.lookup(target, asked.question.qtype()) {
                // Whoever asked can go on alone.
                Looked::Nobody => Answered::Chain(Rcode::NoError),
                Looked::Failed => Answered::Chain(Rcode::ServFail),
                Looked::Answer { rcode, truncated, answer } => {
                    answer.iter().for_each(|record| sink.foreign(Section::Answer, record));
                    if truncated {
                        sink.truncate();
                    }
                    // The SOA of a negative answer would be another zone's.
                    if rcode == Rcode::NoError { Answered::Records } else { Answered::Chain(rcode) }
                }
            },
            End::Inside(target) => {
                let question = Question::new(target, asked.question.qtype());
                let left = question.left_of(asked.zone.name.wire(), asked.zone.labels).unwrap_or_default();
                let asked_last =
                    Asked { behavior: asked.behavior, ..self.asked(asked.zone, &question, left) };
                match self.resolve_standards(asked_last, upstream, sink) {
                    Ok(Answered::Nothing) => Answered::ChainToNothing,
                    Ok(answered) => answered,
                    Err(_) => Answered::Chain(Rcode::NxDomain),
                }
            }
        }
    }
}
