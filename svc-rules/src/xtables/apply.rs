//! Carrying out restore input, as the kernel and `iptables-restore` do together.

use alloc::vec::Vec;
use core::mem;

use super::model::{Chain, Counters, Rule, Ruleset, Table, Target};
use super::name::ChainName;
use super::parse::{Command, RestoreError, RestoreErrorKind as Kind, commands};
use super::rule::push;
use crate::packet::Family;
use foldhash::fast::FixedState;
use indexmap::IndexMap;

/// What happens to the chains of a table that the input names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// `--noflush`: they stay, except that declaring a chain of the user's empties it.
    Keep,
    /// Without `--noflush`: the table is emptied first; policies of builtin chains stay.
    Replace,
}

impl Ruleset {
    /// Reads the text of `iptables-save` (or complete restore input) from nothing.
    ///
    /// # Errors
    /// The first line that cannot be read or carried out.
    pub fn parse(text: &str, family: Family) -> Result<Self, RestoreError> {
        let mut rules = Self::new(family);
        rules.restore(text, RestoreMode::Keep)?;
        Ok(rules)
    }

    /// Carries out restore input.
    ///
    /// A table takes effect at its `COMMIT`, wholly or not at all: after an error, tables committed before it stay
    /// changed, and the table of the error is as it was.
    ///
    /// # Errors
    /// The first line that cannot be read or carried out. A missing chain that is jumped to is found at `COMMIT`.
    pub fn restore(&mut self, text: &str, mode: RestoreMode) -> Result<(), RestoreError> {
        let mut open: Option<Section> = None;
        let mut line = 0;
        let mut result = Ok(());
        for item in commands(text, self.family()) {
            result = item.and_then(|(at, command)| {
                line = at;
                self.step(&mut open, command, mode).map_err(|kind| RestoreError::new(at, kind))
            });
            if result.is_err() {
                break;
            }
        }
        if let Some(section) = open {
            self.close(section.undo());
            if result.is_ok() {
                result = Err(RestoreError::new(line + 1, Kind::NoCommit));
            }
        }
        result
    }

    fn step(
        &mut self,
        open: &mut Option<Section>,
        command: Command<'_>,
        mode: RestoreMode,
    ) -> Result<(), Kind> {
        match (command, open.as_mut()) {
            (Command::Table(_), Some(_)) => Err(Kind::NoCommit),
            (Command::Table(name), None) => {
                *open = Some(self.open(name, mode));
                Ok(())
            }
            (_, None) => Err(Kind::NoTable),
            (Command::Commit, Some(section)) => {
                section.check()?;
                if let Some(section) = open.take() {
                    self.close(Some((section.place, section.table)));
                }
                Ok(())
            }
            (command, Some(section)) => section.carry_out(command),
        }
    }

    /// Takes a table out to be changed.
    fn open(&mut self, name: &str, mode: RestoreMode) -> Section {
        let at = self.tables.iter().position(|table| table.name == name);
        let (place, table) = match at {
            Some(at) => (at, self.tables.remove(at)),
            None => (self.tables.len(), Table::new(name)),
        };
        let mut section = Section {
            table,
            place,
            existed: at.is_some(),
            touched: IndexMap::with_hasher(FixedState::default()),
            deleted: Vec::new(),
            current: None,
        };
        if mode == RestoreMode::Replace {
            section.empty();
        }
        section
    }

    fn close(&mut self, table: Option<(usize, Table)>) {
        if let Some((place, table)) = table {
            self.tables.insert(place.min(self.tables.len()), table);
        }
    }
}

/// What a chain was before the section first touched it.
#[derive(Debug)]
enum Before {
    /// It did not exist.
    Absent,
    /// This chain.
    Whole(Chain),
    /// The same with this many rules only: so far, rules were only appended.
    Shorter(usize),
}

/// One `*TABLE` .. `COMMIT` under way.
#[derive(Debug)]
struct Section {
    table: Table,
    /// Its place among the tables.
    place: usize,
    existed: bool,
    /// Chains as they were, for undoing; empty where there was no table.
    touched: IndexMap<ChainName, Before, FixedState>,
    /// Chains that were deleted.
    deleted: Vec<ChainName>,
    /// Position of the chain that was appended to last.
    current: Option<usize>,
}

impl Section {
    fn carry_out(&mut self, command: Command<'_>) -> Result<(), Kind> {
        match command {
            Command::Append { chain, rule } => self.append(chain, rule),
            Command::Declare { chain, policy, counters } => {
                self.current = None;
                match self.table.chains.get(&chain) {
                    Some(Chain { policy: Some(_), .. }) => {
                        // A builtin chain keeps its rules; `-` leaves its policy alone.
                        if policy.is_some() {
                            let chain = self.change(chain)?;
                            chain.policy = policy;
                            chain.counters = counters;
                        }
                    }
                    Some(_) => self.replace(chain, Chain { counters, ..Chain::default() }),
                    None => self.create(chain, Chain { counters, ..Chain::default() }),
                }
                Ok(())
            }
            Command::Insert { chain, position, rule } => {
                let rules = &mut self.change(chain)?.rules;
                if position > rules.len() + 1 {
                    return Err(Kind::NoRule(chain.into()));
                }
                rules.insert(position.saturating_sub(1), rule);
                Ok(())
            }
            Command::Replace { chain, position, rule } => {
                let place = self.change(chain)?.rules.get_mut(position.saturating_sub(1));
                *place.ok_or_else(|| Kind::NoRule(chain.into()))? = rule;
                Ok(())
            }
            Command::Delete { chain, rule } => {
                let found = self.existing(chain)?.rules.iter().position(|other| other.same(&rule));
                let found = found.ok_or_else(|| Kind::NoRule(chain.into()))?;
                self.change(chain)?.rules.remove(found);
                Ok(())
            }
            Command::DeleteAt { chain, position } => {
                if position > self.existing(chain)?.rules.len() {
                    return Err(Kind::NoRule(chain.into()));
                }
                self.change(chain)?.rules.remove(position.saturating_sub(1));
                Ok(())
            }
            Command::New { chain } => {
                if self.table.chains.contains_key(&chain) {
                    return Err(Kind::ChainExists(chain.into()));
                }
                self.create(chain, Chain::default());
                Ok(())
            }
            Command::DeleteChain { chain: Some(chain) } => {
                let found = self.existing(chain)?;
                if found.policy.is_some() {
                    return Err(Kind::Builtin(chain.into()));
                }
                if !found.rules.is_empty() {
                    return Err(Kind::NotEmpty(chain.into()));
                }
                self.remove(chain);
                Ok(())
            }
            Command::DeleteChain { chain: None } => {
                for name in self.names(|chain| chain.policy.is_none() && chain.rules.is_empty()) {
                    self.remove(name);
                }
                Ok(())
            }
            Command::Flush { chain: Some(chain) } => {
                let policy = self.existing(chain)?.policy;
                let counters = self.existing(chain)?.counters;
                self.replace(chain, Chain { policy, counters, rules: Vec::new() });
                Ok(())
            }
            Command::Flush { chain: None } => {
                for name in self.names(|chain| !chain.rules.is_empty()) {
                    self.carry_out(Command::Flush { chain: Some(name) })?;
                }
                Ok(())
            }
            Command::Zero { chain: Some(chain) } => {
                let chain = self.change(chain)?;
                chain.counters = Counters::default();
                chain.rules.iter_mut().for_each(|rule| rule.counters = Counters::default());
                Ok(())
            }
            Command::Zero { chain: None } => {
                for name in self.names(|_| true) {
                    self.carry_out(Command::Zero { chain: Some(name) })?;
                }
                Ok(())
            }
            Command::SetPolicy { chain, policy } => {
                if self.existing(chain)?.policy.is_none() {
                    return Err(Kind::Builtin(chain.into()));
                }
                self.change(chain)?.policy = Some(policy);
                Ok(())
            }
            Command::Table(_) | Command::Commit => Err(Kind::NoTable),
        }
    }

    /// Appends; most lines of most texts come here, in runs of one chain.
    fn append(&mut self, name: ChainName, rule: Rule) -> Result<(), Kind> {
        if let Some((current, chain)) = self.current.and_then(|at| self.table.chains.get_index_mut(at))
            && *current == name
        {
            push(&mut chain.rules, rule);
            return Ok(());
        }
        let (at, key, chain) =
            self.table.chains.get_full_mut(&name).ok_or_else(|| Kind::NoChain(name.into()))?;
        if self.existed && !self.touched.contains_key(&name) {
            self.touched.insert(*key, Before::Shorter(chain.rules.len()));
        }
        push(&mut chain.rules, rule);
        self.current = Some(at);
        Ok(())
    }

    fn existing(&self, name: ChainName) -> Result<&Chain, Kind> {
        self.table.chains.get(&name).ok_or_else(|| Kind::NoChain(name.into()))
    }

    fn names(&self, which: impl Fn(&Chain) -> bool) -> Vec<ChainName> {
        self.table.chains.iter().filter(|(_, chain)| which(chain)).map(|(name, _)| *name).collect()
    }

    /// A chain to be changed anywhere but at its end.
    fn change(&mut self, name: ChainName) -> Result<&mut Chain, Kind> {
        let (_, key, chain) =
            self.table.chains.get_full_mut(&name).ok_or_else(|| Kind::NoChain(name.into()))?;
        if !self.existed {
            return Ok(chain);
        }
        match self.touched.get_mut(&name) {
            None => {
                self.touched.insert(*key, Before::Whole(chain.clone()));
            }
            Some(before) => {
                if let Before::Shorter(length) = *before {
                    let mut whole = chain.clone();
                    whole.rules.truncate(length);
                    *before = Before::Whole(whole);
                }
            }
        }
        Ok(chain)
    }

    /// Puts a chain in the place of another, which is kept for undoing if it is what was there before.
    fn replace(&mut self, name: ChainName, with: Chain) {
        let Some(chain) = self.table.chains.get_mut(&name) else { return };
        let mut old = mem::replace(chain, with);
        if !self.existed {
            return;
        }
        match self.touched.get_mut(&name) {
            None => drop(self.touched.insert(name, Before::Whole(old))),
            Some(before) => {
                if let Before::Shorter(length) = *before {
                    old.rules.truncate(length);
                    *before = Before::Whole(old);
                }
            }
        }
    }

    fn create(&mut self, name: ChainName, chain: Chain) {
        if self.existed {
            self.touched.entry(name).or_insert(Before::Absent);
        }
        self.table.chains.insert(name, chain);
    }

    fn remove(&mut self, name: ChainName) {
        self.replace(name, Chain::default());
        self.table.chains.swap_remove(&name);
        self.current = None;
        self.deleted.push(name);
    }

    /// Empties the table, as restoring without `--noflush` does.
    fn empty(&mut self) {
        for name in self.names(|_| true) {
            match self.table.chains.get(&name).and_then(|chain| chain.policy) {
                Some(policy) => {
                    self.replace(name, Chain { policy: Some(policy), ..Chain::default() });
                }
                None => self.remove(name),
            }
        }
    }

    /// Every jump must lead somewhere. Only chains that were touched can have a new jump; if a chain was deleted, any
    /// may have an old one.
    fn check(&self) -> Result<(), Kind> {
        let check = |name: &ChainName, chain: &Chain| {
            let mut targets =
                chain.rules.iter().filter_map(|rule| rule.target.as_ref().and_then(Target::chain));
            match targets.find(|target| !self.table.chains.contains_key(*target)) {
                Some(target) if self.deleted.contains(target) => Err(Kind::Referenced((*target).into())),
                Some(target) => Err(Kind::NoTarget { chain: (*name).into(), target: (*target).into() }),
                None => Ok(()),
            }
        };
        if !self.existed || !self.deleted.is_empty() {
            return self.table.chains.iter().try_for_each(|(name, chain)| check(name, chain));
        }
        let mut touched = self.touched.keys().filter_map(|name| self.table.chains.get_key_value(name));
        touched.try_for_each(|(name, chain)| check(name, chain))
    }

    /// The table as it was, with its place; nothing if it did not exist.
    fn undo(mut self) -> Option<(usize, Table)> {
        if !self.existed {
            return None;
        }
        for (name, before) in self.touched {
            match before {
                Before::Absent => drop(self.table.chains.swap_remove(&name)),
                Before::Whole(chain) => drop(self.table.chains.insert(name, chain)),
                Before::Shorter(length) => {
                    if let Some(chain) = self.table.chains.get_mut(&name) {
                        chain.rules.truncate(length);
                    }
                }
            }
        }
        Some((self.place, self.table))
    }
}
