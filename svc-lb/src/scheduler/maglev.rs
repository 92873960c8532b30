//! Maglev hashing (`ip_vs_mh.c`).

use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::{Choice, Engine, Fallback, HashFlags, HashKey, Missing, PickReason};
use crate::hash::{WordHasher, fold};
use crate::pool::{Pool, Slot};
use crate::request::Request;
use crate::tournament::gcd;

/// The kernel's two hash keys are constants (`generate_hash_secret`), so its tables are the same everywhere.
const OFFSET_KEY: u64 = 2_654_435_761;
const SKIP_KEY: u64 = 2_654_446_892;

/// The number of slots in a Maglev table: the primes the kernel can be built with
/// (`CONFIG_IP_VS_MH_TAB_INDEX` 8 to 17). More slots share more evenly and move fewer clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaglevSize {
    index: u32,
}

impl MaglevSize {
    /// 4093 slots, as distributions build the kernel.
    pub const KERNEL: Self = Self { index: 12 };
    /// 131,071 slots, the most there are.
    pub const LARGEST: Self = Self { index: 17 };

    /// The size for a kernel configuration's index, 8 to 17.
    pub const fn from_index(index: u32) -> Option<Self> {
        if matches!(index, 8..=17) { Some(Self { index }) } else { None }
    }

    /// The number of slots, which is also the greatest number of backends.
    pub const fn slots(self) -> u32 {
        match self.index {
            8 => 251,
            9 => 509,
            10 => 1021,
            11 => 2039,
            12 => 4093,
            13 => 8191,
            14 => 16_381,
            15 => 32_749,
            16 => 65_521,
            _ => 131_071,
        }
    }
}

impl Default for MaglevSize {
    fn default() -> Self {
        Self::KERNEL
    }
}

/// A backend as the table sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaglevMember<T> {
    pub(crate) member: T,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
}

/// The filled lookup table.
#[derive(Clone, Debug)]
pub(crate) struct MaglevTable<T> {
    slots: Vec<T>,
    size: MaglevSize,
    /// Of `slots`, at hand for the reduction.
    count: u32,
    /// `2^64 / size`, rounded up: turns the modulo into two multiplications (Lemire, Kaser, Kurz 2019).
    reciprocal: u64,
    /// By [`OFFSET_KEY`]. A constant would not do: of its rotations the compiler makes double-precision shifts,
    /// which some processors take several times as long for.
    hasher: WordHasher,
}

#[inline]
const fn hash(address: &SocketAddr, port: u16, hasher: &WordHasher, offset: u32) -> u32 {
    hasher.hash(offset.wrapping_add(port as u32).wrapping_add(fold(address)))
}

/// How far the weights must be shifted so that no backend takes more than some `2^(index / 2)` slots in a row.
fn divisor_and_shift(weights: impl Iterator<Item = u32> + Clone, size: MaglevSize) -> (u32, u32) {
    let divisor = weights.clone().fold(0, gcd);
    let greatest = weights.max().unwrap_or(0).checked_div(divisor).unwrap_or(0);
    (divisor, (u32::BITS - greatest.leading_zeros()).saturating_sub(size.index / 2))
}

impl<T: Copy> MaglevTable<T> {
    /// Members in list order. All slots are `empty` if no member has a weight.
    pub(crate) fn new(members: &[MaglevMember<T>], size: MaglevSize, empty: T) -> Self {
        let count = size.slots();
        let reciprocal = u64::MAX / u64::from(count) + 1;
        let (slots, hasher) = (vec![empty; count as usize], WordHasher::new(OFFSET_KEY));
        let mut table = Self { slots, size, count, reciprocal, hasher };
        table.populate(members);
        table
    }

    #[expect(clippy::indexing_slicing, reason = "every position is kept below the number of slots")]
    fn populate(&mut self, members: &[MaglevMember<T>]) {
        struct Sequence<T> {
            member: T,
            position: u32,
            skip: u32,
            turns: u32,
        }
        let count = self.size.slots();
        let (divisor, shift) = divisor_and_shift(members.iter().map(|member| member.weight), self.size);
        let (offset, skip) = (&self.hasher, &WordHasher::new(SKIP_KEY));
        let mut sequences: Vec<Sequence<T>> = members
            .iter()
            .filter(|member| member.weight > 0)
            .map(|&MaglevMember { member, address, weight }| Sequence {
                member,
                position: hash(&address, address.port(), offset, 0) % count,
                skip: hash(&address, address.port(), skip, 0) % (count - 1) + 1,
                turns: ((weight / divisor) >> shift).max(1),
            })
            .collect();
        if sequences.is_empty() {
            return;
        }
        let mut taken = vec![false; count as usize];
        let mut left = count;
        loop {
            for sequence in &mut sequences {
                for _ in 0..sequence.turns {
                    // The size is prime and the skip below it, so the sequence meets every slot.
                    while taken[sequence.position as usize] {
                        sequence.position += sequence.skip;
                        if sequence.position >= count {
                            sequence.position -= count;
                        }
                    }
                    taken[sequence.position as usize] = true;
                    self.slots[sequence.position as usize] = sequence.member;
                    left -= 1;
                    if left == 0 {
                        return;
                    }
                }
            }
        }
    }

    #[inline]
    fn reduce(&self, hash: u32) -> u32 {
        let low = self.reciprocal.wrapping_mul(u64::from(hash));
        ((u128::from(low) * u128::from(self.count)) >> 64) as u32
    }

    /// The table position of a client, `offset` probes further.
    #[inline]
    fn position(&self, client: &SocketAddr, key: HashKey, offset: u32) -> u32 {
        let port = match key {
            HashKey::Address => 0,
            HashKey::AddressAndPort => client.port(),
        };
        self.reduce(hash(client, port, &self.hasher, offset))
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a position is reduced modulo the number of slots")]
    fn at(&self, position: u32) -> T {
        self.slots[position as usize]
    }

    /// Where the client's hash leads.
    #[inline]
    pub(crate) fn lookup(&self, client: &SocketAddr, key: HashKey) -> T {
        self.at(self.position(client, key, 0))
    }

    /// The kernel's probe sequence (`ip_vs_mh_get_fallback`).
    pub(crate) fn probes(&self, client: &SocketAddr, key: HashKey) -> impl Iterator<Item = T> {
        let (first, count) = (self.position(client, key, 0), self.count);
        (0..count).map(move |offset| self.at(self.position(client, key, (offset + first) % count)))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Maglev {
    table: MaglevTable<Slot>,
    flags: HashFlags,
    /// Backends changed since the table was filled; it is filled anew at the next pick.
    stale: bool,
}

impl Maglev {
    pub(super) fn new(flags: HashFlags, size: MaglevSize) -> Self {
        Self { table: MaglevTable::new(&[], size, Slot::NONE), flags, stale: true }
    }

    /// By the newest weight that was not 0: a backend that drains keeps its slots, so no other client moves.
    #[cold]
    fn fill(&mut self, pool: &Pool) {
        let member = |slot| {
            let details = pool.details(slot);
            MaglevMember { member: slot, address: details.backend.address, weight: details.last_weight }
        };
        let members: Vec<_> = pool.iter().map(member).collect();
        self.table = MaglevTable::new(&members, self.table.size, Slot::NONE);
        self.stale = false;
    }
}

impl Engine for Maglev {
    fn added(&mut self, _pool: &Pool, _slot: Slot) {
        self.stale = true;
    }

    fn removed(&mut self, _pool: &Pool, _slot: Slot, _before: Slot) {
        self.stale = true;
    }

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {
        self.stale = true;
    }

    #[inline]
    fn first(&mut self, _pool: &Pool, request: &Request) -> Slot {
        if self.stale { Slot::NONE } else { self.table.lookup(&request.client, self.flags.key) }
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        if self.stale {
            self.fill(pool);
        }
        let slot = self.table.lookup(&request.client, self.flags.key);
        if slot == Slot::NONE {
            return Err(Missing::USABLE);
        }
        if pool[slot].usable {
            return Ok(Choice::scheduled(slot));
        }
        if self.flags.fallback == Fallback::Refuse {
            return Err(Missing::hashed(slot));
        }
        self.table
            .probes(&request.client, self.flags.key)
            .find(|slot| pool[*slot].usable)
            .map(|slot| Choice { slot, reason: PickReason::Fallback })
            .ok_or(Missing::USABLE)
    }
}
