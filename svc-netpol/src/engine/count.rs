//! Things that are held as long as somebody uses them: kinds, idents, peers, rows.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::row::RowKey;
use super::*;

impl Engine {
    pub(super) fn acquire_kind(&mut self, key: KindKey) -> KindId {
        if let Some(id) = self.kind_ids.get(&key).copied() {
            if let Some(kind) = self.kinds.get_mut(id) {
                kind.pods += 1;
            }
            return id;
        }
        let kind = Kind { key: key.clone(), pods: 1, terms: Vec::new(), rows: None, idents: BTreeSet::new() };
        let id = self.kinds.insert(kind);
        self.namespaces.entry(key.namespace.clone()).or_default().kinds.insert(id);
        self.kind_ids.insert(key, id);
        self.pending.kinds.insert(id);
        id
    }

    pub(super) fn release_kind(&mut self, id: KindId) {
        let Some(kind) = self.kinds.get_mut(id) else { return };
        kind.pods -= 1;
        if kind.pods > 0 {
            return;
        }
        let Some(kind) = self.kinds.remove(id) else { return };
        self.pending.kinds.remove(&id);
        self.kind_ids.remove(&kind.key);
        if let Some(namespace) = self.namespaces.get_mut(&kind.key.namespace) {
            namespace.kinds.remove(&id);
        }
        self.drop_namespace(&kind.key.namespace);
        self.release_rows(kind.rows);
    }

    pub(super) fn acquire_ident(&mut self, kind: Option<KindId>, zone: ZoneId) -> IdentId {
        if let Some(id) = self.ident_ids.get(&(kind, zone)).copied() {
            if let Some(ident) = self.idents.get_mut(id) {
                ident.refs += 1;
            }
            return id;
        }
        let id = self.idents.insert(Ident { kind, zone, refs: 1, own: None, around: None });
        self.ident_ids.insert((kind, zone), id);
        if let Some(kind) = kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.idents.insert(id);
        }
        self.pending.idents.insert(id);
        id
    }

    pub(super) fn release_ident(&mut self, id: IdentId) {
        let Some(ident) = self.idents.get_mut(id) else { return };
        ident.refs -= 1;
        if ident.refs > 0 {
            return;
        }
        let Some(ident) = self.idents.remove(id) else { return };
        self.pending.idents.remove(&id);
        self.ident_ids.remove(&(ident.kind, ident.zone));
        if let Some(kind) = ident.kind.and_then(|kind| self.kinds.get_mut(kind)) {
            kind.idents.remove(&id);
        }
        for peer in [ident.own, ident.around].into_iter().flatten() {
            self.release_peer(peer);
        }
    }

    pub(super) fn acquire_peer(&mut self, key: PeerKey) -> PeerId {
        if let Some(id) = self.peer_ids.get(&key).copied() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.refs += 1;
            }
            return id;
        }
        let peer = Peer::new(key.clone(), 1, &self.terms);
        let own = peer.own.clone();
        let id = self.peers.insert(peer);
        self.terms.add_peer(&own, id);
        self.peer_ids.insert(key, id);
        self.pending.peers.insert(id, None);
        self.pending.touched.peers += 1;
        id
    }

    pub(super) fn release_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.refs -= 1;
        if peer.refs > 0 {
            return;
        }
        let Some(peer) = self.peers.remove(id) else { return };
        self.peer_ids.remove(&peer.key);
        self.terms.remove_peer(&peer.own, id);
        self.pending.peers.remove(&id);
        self.pending.touched.peers += 1;
        // The number will be somebody else's.
        for row in self.rows_of_peer(&peer, None) {
            if let Some(row) = self.rows.get_mut(row) {
                row.forget(id);
            }
        }
    }

    pub(super) fn acquire_row(&mut self, key: RowKey) -> RowId {
        if let Some(id) = self.row_ids.get(&key).copied() {
            if let Some(row) = self.rows.get_mut(id) {
                row.refs += 1;
            }
            return id;
        }
        let id = self.rows.insert(Row::empty(key.clone()));
        for code in &key.policies {
            if let Some(policy) = self.policies.get_mut(code.id()) {
                policy.rows.insert(id);
            }
        }
        self.row_ids.insert(key, id);
        self.pending.rows.insert(id);
        id
    }

    pub(super) fn release_rows(&mut self, rows: Option<Rows>) {
        for id in rows.into_iter().flat_map(|rows| [rows.ingress, rows.egress]) {
            let Some(row) = self.rows.get_mut(id) else { continue };
            row.refs -= 1;
            if row.refs > 0 {
                continue;
            }
            let Some(row) = self.rows.remove(id) else { continue };
            self.row_ids.remove(&row.key);
            self.pending.rows.remove(&id);
            self.named_rows.remove(&id);
            for code in &row.key.policies {
                if let Some(policy) = self.policies.get_mut(code.id()) {
                    policy.rows.remove(&id);
                }
            }
            for term in &row.terms {
                self.terms.remove_row(*term, id);
            }
        }
    }

    /// Rows that look at a peer; given terms that find it now and didn't before, or the other way around, only
    /// those to which that may make a difference.
    pub(super) fn rows_of_peer(&self, peer: &Peer, changed: Option<&BTreeSet<TermId>>) -> Vec<RowId> {
        let rows = |term: TermId| self.terms.get(term).into_iter().flat_map(|entry| &entry.rows).copied();
        let mut found: Vec<RowId> = Vec::new();
        let is_apart = |term: &TermId| peer.wide || !self.terms.is_wide(*term);
        for term in changed.into_iter().flatten().filter(|term| is_apart(term)) {
            found.extend(rows(*term));
        }
        if changed.is_none_or(|changed| !changed.iter().all(is_apart)) {
            found.extend(peer.own.iter().flat_map(|code| rows(code.id())));
        }
        if changed.is_none() && peer.wide && !peer.key.names.is_empty() {
            found.extend(&self.named_rows);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
