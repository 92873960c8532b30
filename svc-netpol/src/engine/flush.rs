//! Bringing up to date what changes have marked.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use svc_model::SmolStr;

use super::row::{Context, RowKey};
use super::*;
use crate::compile::Selectors;
use crate::options::{Baseline, IpBlocks};
use crate::policy::{Block, BlockSource, Direction, Term};

impl Engine {
    pub(super) fn flush(&mut self) -> Touched {
        if core::mem::take(&mut self.pending.zones) {
            self.flush_zones();
        }
        for id in core::mem::take(&mut self.pending.kinds) {
            self.flush_kind(id);
        }
        self.flush_idents();
        self.flush_rows();
        for term in core::mem::take(&mut self.pending.terms) {
            self.terms.forget(term);
        }
        self.pending.selectors = Selectors::default();
        core::mem::take(&mut self.pending.touched)
    }

    fn flush_zones(&mut self) {
        let mut terms: Vec<(Tagged, Vec<Range>)> = Vec::new();
        let mut unaddressed = Vec::new();
        for (id, entry) in self.terms.iter() {
            if self.pending.terms.contains(&id) {
                continue;
            }
            match &entry.term {
                Term::Pods(..) => {}
                Term::Block(Block { cidr, except, .. }) => {
                    let holes = except.iter().map(|net| Range::of_net(*net));
                    terms.push((Tagged::new(id, false), Range::of_net(*cidr).without(holes)));
                    unaddressed.push(Tagged::new(id, true));
                }
                Term::Nodes(selector) => {
                    let nodes = self.nodes.values().filter(|node| selector.matches(&node.labels));
                    let addresses: BTreeSet<IpAddr> =
                        nodes.flat_map(|node| &node.addresses).copied().collect();
                    let ranges = addresses.into_iter().map(Range::of_address).collect();
                    terms.push((Tagged::new(id, false), ranges));
                }
                Term::Domain(pattern) => match self.resolve_domain(pattern) {
                    Some(addresses) => {
                        let ranges = addresses.into_iter().map(Range::of_address).collect();
                        terms.push((Tagged::new(id, false), ranges));
                    }
                    None => {
                        terms.push((Tagged::new(id, true), Family::ALL.map(Range::everything).into()));
                    }
                },
            }
        }
        let rebuilt = self.zones.rebuild(&terms, unaddressed);
        for zone in &rebuilt.changed {
            let idents = self.idents.iter().filter(|(_, ident)| ident.zone == *zone).map(|(id, _)| id);
            self.pending.idents.extend(idents);
        }
        for zone in rebuilt.added {
            self.acquire_ident(None, zone);
        }
        let mut moves: Vec<(PodId, usize, KindId, ZoneId, IdentId)> = Vec::new();
        for (id, pod, facts) in self.pods.iter() {
            for (at, family) in Family::ALL.into_iter().enumerate() {
                let Some(ip) = facts.addresses.iter().find(|ip| Family::of(**ip) == family) else {
                    continue;
                };
                let ident = pod.ident(family);
                let zone = self.zones.of(*ip);
                if self.idents.get(ident).is_some_and(|ident| ident.zone != zone) {
                    moves.push((id, at, facts.kind, zone, ident));
                }
            }
        }
        for (id, at, kind, zone, old) in moves {
            let ident = self.acquire_ident(Some(kind), zone);
            if let Some(slot) = self.pods.get_mut(id).and_then(|pod| pod.idents.get_mut(at)) {
                *slot = ident;
            }
            self.release_ident(old);
        }
        for zone in rebuilt.removed {
            if let Some(ident) = self.ident_ids.get(&(None, zone)).copied() {
                self.release_ident(ident);
            }
            self.zones.free(zone);
        }
    }

    /// The addresses that a name, or a `*.suffix`, stands for; `None` if that isn't known.
    fn resolve_domain(&self, pattern: &str) -> Option<BTreeSet<IpAddr>> {
        let mut found = self
            .domains
            .iter()
            .filter(|(name, _)| match pattern.strip_prefix('*') {
                // "`*`, the wildcard specifier, matches one or more entire labels."
                Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
                None => *name == pattern,
            })
            .peekable();
        found.peek()?;
        Some(found.flat_map(|(_, addresses)| addresses).copied().collect())
    }

    /// Which terms find a kind, and which rows are its own.
    fn flush_kind(&mut self, id: KindId) {
        let Some(kind) = self.kinds.get(id) else { return };
        self.pending.touched.kinds += 1;
        let key = &kind.key;
        let labels = self.labels_of(&key.namespace);
        let terms =
            if key.host { Vec::new() } else { self.terms.of_pod(&key.namespace, labels, &key.labels) };
        let policies = |direction: Direction| -> Vec<(PolicyCode, &PolicyEntry)> {
            let mut found: Vec<(PolicyCode, &PolicyEntry)> = Vec::new();
            for code in &terms {
                for id in self.terms.subjects(code.id()) {
                    let Some(entry) = self.policies.get(*id) else { continue };
                    if entry.compiled.rules(direction).is_some() {
                        found.push((Tagged::new(*id, code.is_maybe()), entry));
                    }
                }
            }
            found.sort_unstable_by_key(|(code, _)| *code);
            found
        };
        let (ingress, egress) = (policies(Direction::Ingress), policies(Direction::Egress));
        let isolates = |found: &[(PolicyCode, &PolicyEntry)]| {
            found.iter().any(|(_, e)| e.compiled.tier == Tier::NetworkPolicy)
        };
        let baseline = match self.options.baseline {
            Baseline::PerDirection => true,
            Baseline::UnselectedPods => !isolates(&ingress) && !isolates(&egress),
        };
        let row_key = |direction: Direction, found: &[(PolicyCode, &PolicyEntry)]| {
            let names: Box<[NamedPort]> = match direction {
                Direction::Egress => Box::default(),
                Direction::Ingress if key.ports.is_empty() => Box::default(),
                Direction::Ingress => {
                    let rules = found.iter().flat_map(|(_, e)| e.compiled.ingress.iter().flatten());
                    let names: BTreeSet<&SmolStr> = rules.flat_map(|rule| rule.port_names()).collect();
                    key.ports.iter().filter(|port| names.contains(&port.name)).cloned().collect()
                }
            };
            RowKey { direction, policies: found.iter().map(|(code, _)| *code).collect(), names, baseline }
        };
        let keys = (row_key(Direction::Ingress, &ingress), row_key(Direction::Egress, &egress));
        let rows = Some(Rows { ingress: self.acquire_row(keys.0), egress: self.acquire_row(keys.1) });
        let Some(kind) = self.kinds.get_mut(id) else { return };
        kind.terms = terms;
        let old = core::mem::replace(&mut kind.rows, rows);
        self.pending.idents.extend(&kind.idents);
        self.release_rows(old);
    }

    fn peer_key(&self, ident: &Ident) -> PeerKey {
        let zone = self.zones.get(ident.zone).map_or(&[][..], |zone| &zone.terms);
        let Some(kind) = ident.kind.and_then(|kind| self.kinds.get(kind)) else {
            return PeerKey { terms: zone.into(), names: Box::default() };
        };
        if kind.key.host {
            return PeerKey { terms: zone.into(), names: Box::default() };
        }
        let matches_pods = |code: &&Tagged| match self.terms.get(code.id()).map(|entry| &entry.term) {
            Some(Term::Block(block)) => {
                block.source == BlockSource::Networks || self.options.ip_blocks == IpBlocks::MatchPods
            }
            // Domain names are for what is outside.
            Some(Term::Domain(_)) | None => false,
            Some(Term::Nodes(_) | Term::Pods(..)) => true,
        };
        let mut terms: Vec<Tagged> = kind.terms.clone();
        terms.extend(zone.iter().filter(matches_pods));
        terms.sort_unstable();
        let names = kind.key.ports.iter().filter(|port| self.port_names.contains_key(&port.name));
        PeerKey { terms: terms.into(), names: names.cloned().collect() }
    }

    /// Which peer each ident is. A peer that changes as a whole keeps its number, so that only the rows which
    /// look at what changed are touched.
    fn flush_idents(&mut self) {
        let mut moves: BTreeMap<Option<PeerId>, Vec<(IdentId, Part, PeerKey)>> = BTreeMap::new();
        let pending = core::mem::take(&mut self.pending.idents);
        for id in pending.iter().copied() {
            let Some(ident) = self.idents.get(id) else { continue };
            let own = self.peer_key(ident);
            let wide = own.terms.iter().filter(|code| self.terms.is_wide(code.id()));
            let around = PeerKey { terms: wide.copied().collect(), names: own.names.clone() };
            for (part, old, key) in [(Part::Around, ident.around, around), (Part::Own, ident.own, own)] {
                let known = old.and_then(|peer| self.peers.get(peer));
                if known.is_none_or(|peer| peer.key != key) {
                    moves.entry(old).or_default().push((id, part, key));
                }
            }
        }
        for (old, group) in moves {
            let Some((_, _, first)) = group.first() else { continue };
            let whole = group.iter().all(|(_, _, key)| key == first)
                && old.and_then(|old| self.peers.get(old)).is_some_and(|peer| peer.refs == group.len());
            if let Some(old) = old.filter(|_| whole && !self.peer_ids.contains_key(first)) {
                self.rename_peer(old, first.clone());
                continue;
            }
            for (id, part, key) in group {
                let peer = self.acquire_peer(key);
                if let Some(ident) = self.idents.get_mut(id) {
                    match part {
                        Part::Own => ident.own = Some(peer),
                        Part::Around => ident.around = Some(peer),
                    }
                }
                if let Some(old) = old {
                    self.release_peer(old);
                }
            }
        }
        for id in pending {
            self.settle(id);
        }
    }

    fn settle(&mut self, id: IdentId) {
        let Some(ident) = self.idents.get(id) else { return };
        let kind = ident.kind.and_then(|kind| self.kinds.get(kind)).filter(|kind| !kind.is_host());
        let place = Place {
            peers: Peers {
                own: ident.own.unwrap_or(PeerId::MAX),
                around: ident.around.unwrap_or(PeerId::MAX),
            },
            rows: kind.and_then(|kind| kind.rows).unwrap_or(NO_ROWS),
        };
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, NO_PLACE);
        }
        if let Some(slot) = self.places.get_mut(id as usize) {
            *slot = place;
        }
    }

    fn rename_peer(&mut self, id: PeerId, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let new = Peer::new(key.clone(), peer.refs, &self.terms);
        let (own, wide) = (new.own.clone(), new.wide);
        let old = core::mem::replace(peer, new);
        self.pending.touched.peers += 1;
        self.peer_ids.remove(&old.key);
        self.terms.remove_peer(&old.own, id);
        self.terms.add_peer(&own, id);
        if old.key.names != key.names || old.wide != wide {
            // Cells may be stale in every row that knew it, also in those that won't know it any more.
            for row in self.rows_of_peer(&old, None) {
                if let Some(row) = self.rows.get_mut(row) {
                    row.forget(id);
                }
            }
            self.pending.peers.insert(id, None);
        } else if let Some(changed) = self.pending.peers.entry(id).or_insert_with(|| Some(BTreeSet::new())) {
            let (before, after): (BTreeSet<Tagged>, BTreeSet<Tagged>) =
                (old.key.terms.iter().copied().collect(), key.terms.iter().copied().collect());
            changed.extend(before.symmetric_difference(&after).map(|code| code.id()));
        }
        self.peer_ids.insert(key, id);
    }

    fn flush_rows(&mut self) {
        let dirty = core::mem::take(&mut self.pending.rows);
        let mut scratch = core::mem::take(&mut self.scratch);
        for id in &dirty {
            let Some(row) = self.rows.get_mut(*id) else { continue };
            self.pending.touched.rows += 1;
            let (old, refs, key) = (core::mem::take(&mut row.terms), row.refs, row.key.clone());
            let ctx = Context { policies: &self.policies, peers: &self.peers, terms: &self.terms };
            let built = Row::build(key, refs, ctx, &mut scratch);
            if built.names_ports_of_everyone() {
                self.named_rows.insert(*id);
            } else {
                self.named_rows.remove(id);
            }
            for term in old {
                self.terms.remove_row(term, *id);
            }
            for term in &built.terms {
                self.terms.add_row(*term, *id);
            }
            if let Some(row) = self.rows.get_mut(*id) {
                *row = built;
            }
        }
        let mut cells: Vec<(RowId, PeerId)> = Vec::new();
        for (id, changed) in core::mem::take(&mut self.pending.peers) {
            let Some(peer) = self.peers.get(id) else { continue };
            let rows = self.rows_of_peer(peer, changed.as_ref()).into_iter();
            cells.extend(rows.filter(|row| !dirty.contains(row)).map(|row| (row, id)));
        }
        cells.sort_unstable();
        self.pending.touched.cells += cells.len();
        for of_row in cells.chunk_by(|(a, _), (b, _)| a == b) {
            let Some(row) = of_row.first().and_then(|(id, _)| self.rows.get_mut(*id)) else { continue };
            let ctx = Context { policies: &self.policies, peers: &self.peers, terms: &self.terms };
            row.update(of_row.iter().map(|(_, peer)| *peer), ctx, &mut scratch);
        }
        self.scratch = scratch;
    }
}

/// Which of an ident's peers.
#[derive(Clone, Copy)]
enum Part {
    Own,
    Around,
}
