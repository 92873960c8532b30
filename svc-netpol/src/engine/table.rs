//! What a verdict looks at in a row: which function each peer has, and the functions.

use alloc::vec::Vec;

use super::func::{Code, Func};
use super::slots::Slots;
use super::{PeerId, Peers};

/// The functions of a row's peers. What finds a function is in one line of a cache.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Table {
    /// The peers that have a function of their own, with its [`FuncId`].
    cells: Slots,
    /// That of all others.
    default: FuncId,
    /// Functions, one after the other.
    funcs: Vec<u32>,
}

/// Which function of a row: a code, where that decides about all traffic, or else where the function lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FuncId(u32);

impl FuncId {
    const CONSTANT: u32 = 1 << 31;

    const fn constant(code: Code) -> Self {
        Self(Self::CONSTANT | code.number())
    }

    /// The code of all traffic, or where the function lies.
    #[inline]
    pub(crate) const fn get(self) -> Result<Code, u32> {
        if self.0 & Self::CONSTANT == 0 { Err(self.0) } else { Ok(Code::of_number(self.0 ^ Self::CONSTANT)) }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { cells: Slots::default(), default: FuncId::constant(Code::DEFAULT), funcs: Vec::new() }
    }
}

impl Table {
    /// Sets the function of peers that have none of their own.
    pub(crate) fn set_default(&mut self, words: &[u32]) {
        self.default = self.intern(words);
    }

    /// Which function peers have that have none of their own.
    pub(crate) fn default_func(&self) -> FuncId {
        self.default
    }

    /// Makes room for so many peers, and for one at least: where there is always room, no look-up has to ask.
    pub(crate) fn reserve(&mut self, peers: usize) {
        self.cells.reserve(peers.max(1));
    }

    pub(crate) fn set(&mut self, peer: PeerId, func: FuncId) {
        self.cells.set(peer, func.0);
    }

    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.cells.remove(peer);
    }

    /// Which function these words are, from now on if they are new.
    pub(crate) fn intern(&mut self, words: &[u32]) -> FuncId {
        let func = Func::at(words, 0);
        let known = self.funcs().find(|(_, known)| Some(*known) == func);
        if let Some((id, _)) = known {
            return id;
        }
        let offset = self.funcs.len() as u32;
        self.funcs.extend_from_slice(words);
        func.map_or(FuncId(offset), |func| id_of(func, offset))
    }

    /// Which function an end has: its own, or that of those around it.
    #[inline]
    pub(crate) fn func(&self, peers: Peers) -> FuncId {
        // Both are looked up, as guessing wrong whether the first is there costs more.
        FuncId(self.cells.get_or(peers.own, self.cells.get_or(peers.around, self.default.0)))
    }

    /// What decides about traffic with an end.
    #[inline]
    pub(crate) fn code(&self, peers: Peers, key: u32) -> Code {
        match self.func(peers).get() {
            Ok(code) => code,
            Err(offset) => Func::at(&self.funcs, offset).map_or(Code::DEFAULT, |func| func.code(key)),
        }
    }

    /// Every function.
    pub(crate) fn funcs(&self) -> impl Iterator<Item = (FuncId, Func<'_>)> {
        let mut offset = 0;
        core::iter::from_fn(move || {
            let func = Func::at(&self.funcs, offset)?;
            let id = id_of(func, offset);
            offset += func.len();
            Some((id, func))
        })
    }

    /// Bytes held on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        self.cells.heap_size() + self.funcs.capacity() * size_of::<u32>()
    }
}

fn id_of(func: Func<'_>, offset: u32) -> FuncId {
    func.as_constant().map_or(FuncId(offset), FuncId::constant)
}
