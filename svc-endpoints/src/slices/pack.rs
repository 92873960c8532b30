//! Packing: which slices take endpoints that have no place yet.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::num::NonZeroUsize;

/// How endpoints are packed into slices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Packing {
    /// As the EndpointSlice controller does: an endpoint never moves. Slices that are written anyway are
    /// filled first, the fullest first; what is left goes into the one unwritten slice that it fills best, if
    /// all of it fits there, else into new slices. After a Service shrinks, near-empty slices stay
    /// (kubernetes/kubernetes#81048).
    #[default]
    KeepPlaces,
    /// Like `KeepPlaces`, and then moves the endpoints of the emptiest slices into the fullest ones that have
    /// room for them, at the price of at most this many more writes for each address family and sync.
    Repack {
        /// Slices written or deleted beyond what the change itself asks for.
        budget: NonZeroUsize,
    },
}

/// A slice as packing sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) len: usize,
    /// Whether the slice is to be written in any case.
    pub(crate) written: bool,
}

/// A number of endpoints to add to a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) target: Target,
    pub(crate) count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The slice at this index.
    Slice(usize),
    /// A new slice.
    New,
}

/// Finds places for `count` endpoints, as the EndpointSlice controller does. Of slices that are equally good
/// the first is taken, where the reference leaves the choice to map order.
pub(crate) fn fill(rooms: &[Room], mut count: usize, limit: NonZeroUsize) -> Vec<Fill> {
    let limit = limit.get();
    let mut fills = Vec::new();
    if count == 0 {
        return fills;
    }
    let mut take = |target, room: usize, count: &mut usize| {
        let taken = room.min(*count);
        if taken > 0 {
            *count -= taken;
            fills.push(Fill { target, count: taken });
        }
    };
    let mut written: Vec<(usize, usize)> = rooms
        .iter()
        .enumerate()
        .filter(|(_, room)| room.written)
        .map(|(index, room)| (index, room.len))
        .collect();
    written.sort_by_key(|&(_, len)| Reverse(len));
    for (index, len) in written {
        take(Target::Slice(index), limit.saturating_sub(len), &mut count);
    }
    while count >= limit {
        take(Target::New, limit, &mut count);
    }
    if count > 0 {
        let best = rooms
            .iter()
            .enumerate()
            .filter(|(_, room)| !room.written && room.len.saturating_add(count) <= limit)
            .max_by_key(|&(index, room)| (room.len, Reverse(index)));
        match best {
            Some((index, room)) => take(Target::Slice(index), limit.saturating_sub(room.len), &mut count),
            None => take(Target::New, limit, &mut count),
        }
    }
    fills
}

/// A slice to dissolve, and how many of its endpoints go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: usize,
    pub(crate) to: Vec<(usize, usize)>,
}

/// Chooses slices to dissolve, emptiest first, as long as all endpoints of one fit into others and no more
/// than `budget` slices are written or deleted that would not be otherwise.
pub(crate) fn dissolve(rooms: &[Room], limit: NonZeroUsize, budget: NonZeroUsize) -> Vec<Move> {
    let limit = limit.get();
    let mut budget = budget.get();
    // Emptiest first; of equals the later one goes, so that a fill order of its own makes no difference.
    let mut order: Vec<(usize, Room)> =
        rooms.iter().copied().enumerate().filter(|(_, room)| room.len > 0).collect();
    order.sort_by_key(|&(index, room)| (room.len, Reverse(index)));
    let mut moves = Vec::new();
    let mut victims = order.iter().copied().collect::<alloc::collections::VecDeque<_>>();
    while let Some((from, victim)) = victims.pop_front() {
        // What is left are the possible receivers; taking the written and the fullest first keeps writes few.
        let mut receivers: Vec<(usize, Room)> = victims.iter().copied().collect();
        receivers.sort_by_key(|&(index, room)| (Reverse(room.written), Reverse(room.len), index));
        let mut rest = victim.len;
        let mut cost = usize::from(!victim.written);
        let mut to = Vec::new();
        for (index, room) in receivers {
            let taken = limit.saturating_sub(room.len).min(rest);
            if taken > 0 {
                cost += usize::from(!room.written);
                rest -= taken;
                to.push((index, taken));
            }
        }
        // A fuller slice would fit no better, and cost no less.
        if rest > 0 || cost > budget {
            break;
        }
        budget -= cost;
        for (index, room) in &mut victims {
            if let Some((_, taken)) = to.iter().find(|(receiver, _)| receiver == index) {
                room.len += taken;
                room.written = true;
            }
        }
        moves.push(Move { from, to });
        // A slice that has received is no victim any more: its new endpoints would move twice.
        let received =
            |index: usize| moves.iter().any(|done: &Move| done.to.iter().any(|(to, _)| *to == index));
        let next = victims.iter().position(|&(index, _)| !received(index));
        match next {
            None => break,
            Some(next) => victims.rotate_left(next),
        }
    }
    moves
}
