//! Carrying out commands of nft, as `nft -f` does: all of them or none.

use alloc::string::String;
use alloc::vec::Vec;

use smol_str::SmolStr;

use super::error::{ErrorKind as Kind, NftError};
use super::model::{
    Base, Chain, ChainKind, Data, DataType, Element, Map, Policy, Rule, Ruleset, Set, SetFlags, Statement,
    Table, TableFamily, TableKey, Tuple,
};
use super::print::tuple_text;
use super::rule::{duration, expression, name, next, rule, tuple, unexpected, verdict};
use super::value;
use super::words::Words;
use crate::outcome::Hook;

type Result<T> = core::result::Result<T, Kind>;

impl Ruleset {
    /// Reads the text of `nft list ruleset`, or commands that build everything from nothing.
    ///
    /// Tables of families other than `ip`, `ip6` and `inet` and objects other than sets, maps and chains are passed
    /// over: no packet of these walks meets them.
    ///
    /// # Errors
    /// The first place that cannot be read or carried out.
    pub fn parse(text: &str) -> core::result::Result<Self, NftError> {
        let mut rules = Self::new();
        rules.apply(text)?;
        Ok(rules)
    }

    /// Carries out the text of one `nft -f`: after an error nothing has changed. Takes time for a copy of each table
    /// that is changed.
    ///
    /// As nft itself does not allow it, no rule may be left that leads to a chain or consults a set that is gone;
    /// this is checked at the end only, so unlike in the kernel an object may be deleted before what refers to it.
    ///
    /// # Errors
    /// The first place that cannot be read or carried out.
    pub fn apply(&mut self, text: &str) -> core::result::Result<(), NftError> {
        let mut transaction = Transaction { rules: self, before: Map::default() };
        let mut words = Words::new(text);
        let mut result = Ok(());
        while result.is_ok() {
            while words.take_if("\n") || words.take_if(";") {}
            let line = words.line();
            if words.peek().is_none() {
                result = transaction.check().map_err(|kind| NftError::new(line, kind));
                break;
            }
            result = transaction.command(&mut words).map_err(|kind| NftError::new(words.line(), kind));
        }
        if result.is_err() {
            transaction.undo();
        }
        result
    }
}

struct Transaction<'r> {
    rules: &'r mut Ruleset,
    /// Tables that were changed, as they were.
    before: Map<TableKey, Option<Table>>,
}

/// Whether an object may be there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Create,
    Insert,
    Delete,
    Destroy,
    Flush,
}

impl Transaction<'_> {
    fn undo(self) {
        for (key, table) in self.before {
            match table {
                Some(table) => drop(self.rules.tables.insert(key, table)),
                None => drop(self.rules.tables.swap_remove(&key)),
            }
        }
    }

    fn command(&mut self, words: &mut Words<'_>) -> Result<()> {
        let word = next(words, "command")?;
        let verb = match word.text {
            "table" => return self.block(words),
            "add" => Verb::Add,
            "create" => Verb::Create,
            "insert" => Verb::Insert,
            "delete" => Verb::Delete,
            "destroy" => Verb::Destroy,
            "flush" => Verb::Flush,
            _ => return Err(unexpected(&word)),
        };
        let object = next(words, word.text)?;
        if verb == Verb::Flush && object.is("ruleset") {
            for key in self.rules.tables.keys().cloned().collect::<Vec<_>>() {
                self.touch(&key);
                self.rules.tables.swap_remove(&key);
            }
            return end(words);
        }
        let family = next(words, object.text)?;
        let family = TableFamily::parse(family.text).ok_or_else(|| unexpected(&family))?;
        let table = name(words, family.name())?;
        let key = (family, SmolStr::from(table));
        if object.is("table") {
            self.table(verb, key, words)?;
            return end(words);
        }
        self.touch(&key);
        let table = self.rules.tables.get_mut(&key);
        let table = table.ok_or_else(|| Kind::NoSuch { what: "table", name: key.1.clone() })?;
        let name = name(words, object.text)?;
        match object.text {
            "chain" => chain(table, verb, name, words)?,
            "set" | "map" => set(table, verb, name, words)?,
            "rule" => add_rule(table, verb, name, words)?,
            "element" => elements(table, verb, name, words)?,
            _ => return Err(unexpected(&object)),
        }
        end(words)
    }

    /// Keeps a table as it is now, the first time it is about to be changed.
    fn touch(&mut self, key: &TableKey) {
        if !self.before.contains_key(key) {
            self.before.insert(key.clone(), self.rules.tables.get(key).cloned());
        }
    }

    fn table(&mut self, verb: Verb, key: TableKey, words: &mut Words<'_>) -> Result<()> {
        self.touch(&key);
        let exists = self.rules.tables.contains_key(&key);
        match verb {
            Verb::Create if exists => Err(Kind::Exists { what: "table", name: key.1 }),
            Verb::Add | Verb::Create => {
                let (family, name) = (key.0, key.1.clone());
                let table = self.rules.tables.entry(key).or_insert_with(|| Table::new(family, &name));
                options(words, &mut |option, words| match option {
                    "comment" => {
                        table.comment = Some(next(words, option)?.text.into());
                        Ok(true)
                    }
                    "flags" => next(words, option).map(|_| true),
                    _ => Ok(false),
                })
            }
            Verb::Delete if !exists => Err(Kind::NoSuch { what: "table", name: key.1 }),
            Verb::Delete | Verb::Destroy => {
                self.rules.tables.swap_remove(&key);
                Ok(())
            }
            // Rules go, chains, sets and elements stay.
            Verb::Flush => match self.rules.tables.get_mut(&key) {
                Some(table) => {
                    table.chains.values_mut().for_each(|chain| chain.rules.clear());
                    Ok(())
                }
                None => Err(Kind::NoSuch { what: "table", name: key.1 }),
            },
            Verb::Insert => Err(Kind::Unexpected("table".into())),
        }
    }

    /// `table FAMILY NAME { .. }`, as `nft list` writes it.
    fn block(&mut self, words: &mut Words<'_>) -> Result<()> {
        let family = next(words, "table")?;
        let table_name = name(words, family.text)?;
        let Some(family) = TableFamily::parse(family.text) else {
            return skip_block(words);
        };
        let key = (family, SmolStr::from(table_name));
        self.touch(&key);
        let table = self.rules.tables.entry(key).or_insert_with(|| Table::new(family, table_name));
        open(words)?;
        loop {
            while words.take_if("\n") || words.take_if(";") {}
            let word = next(words, table_name)?;
            match word.text {
                "}" if !word.quoted => return Ok(()),
                "comment" => table.comment = Some(next(words, word.text)?.text.into()),
                "flags" => drop(next(words, word.text)?),
                "chain" => {
                    let name = name(words, word.text)?;
                    chain_block(table, name, words)?;
                }
                "set" | "map" => {
                    let name = name(words, word.text)?;
                    set(table, Verb::Add, name, words)?;
                }
                _ => skip_block(words)?,
            }
        }
    }

    /// Whatever is referred to in tables that were changed must exist.
    fn check(&self) -> Result<()> {
        for table in self.before.keys().filter_map(|key| self.rules.tables.get(key)) {
            for (name, chain) in &table.chains {
                for statement in chain.rules.iter().flat_map(|rule| &rule.statements) {
                    check_statement(table, name, statement)?;
                }
            }
            for (name, set) in &table.sets {
                for element in set.elements.values() {
                    if let Some(Data::Verdict(verdict)) = &element.data {
                        check_chain(table, name, verdict.chain())?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn check_chain<'a>(table: &Table, from: &SmolStr, to: impl IntoIterator<Item = &'a SmolStr>) -> Result<()> {
    match to.into_iter().find(|to| !table.chains.contains_key(to.as_str())) {
        Some(to) => Err(Kind::Dangling { from: from.clone(), to: to.clone() }),
        None => Ok(()),
    }
}

fn check_statement(table: &Table, from: &SmolStr, statement: &Statement) -> Result<()> {
    check_chain(table, from, statement.chains())?;
    match statement.sets().into_iter().find(|name| !table.sets.contains_key(name.as_str())) {
        Some(to) => Err(Kind::Dangling { from: from.clone(), to: to.clone() }),
        None => Ok(()),
    }
}

/// The end of a command's line.
fn end(words: &mut Words<'_>) -> Result<()> {
    match words.next() {
        None => Ok(()),
        Some(word) if word.is("\n") || word.is(";") => Ok(()),
        Some(word) => Err(unexpected(&word)),
    }
}

fn open(words: &mut Words<'_>) -> Result<()> {
    let word = next(words, "{")?;
    if word.is("{") { Ok(()) } else { Err(unexpected(&word)) }
}

/// Passes over words up to the closing brace of the next block.
fn skip_block(words: &mut Words<'_>) -> Result<()> {
    let mut depth = 0_usize;
    loop {
        let word = next(words, "{")?;
        if word.is("{") {
            depth += 1;
        } else if word.is("}") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// Reads `{ OPTION VALUE ; .. }`, if it is there; `take` reads the value of an option, or says that it is none.
pub(super) fn options(
    words: &mut Words<'_>,
    take: &mut dyn FnMut(&str, &mut Words<'_>) -> Result<bool>,
) -> Result<()> {
    if !words.take_if("{") {
        return Ok(());
    }
    loop {
        while words.take_if("\n") || words.take_if(";") {}
        let word = next(words, "{")?;
        if word.is("}") {
            return Ok(());
        }
        if !take(word.text, words)? {
            return Err(unexpected(&word));
        }
    }
}

fn chain(table: &mut Table, verb: Verb, name: &str, words: &mut Words<'_>) -> Result<()> {
    let missing = || Kind::NoSuch { what: "chain", name: name.into() };
    match verb {
        Verb::Add | Verb::Create => {
            let mut new = Chain::default();
            options(words, &mut |option, words| chain_option(&mut new, option, words))?;
            match table.chains.get_mut(name) {
                Some(_) if verb == Verb::Create => Err(Kind::Exists { what: "chain", name: name.into() }),
                Some(old) if new.base.is_some() && old.base != new.base => {
                    Err(Kind::Exists { what: "chain", name: name.into() })
                }
                Some(_) => Ok(()),
                None => {
                    table.insert_chain(name, new);
                    Ok(())
                }
            }
        }
        Verb::Delete => table.remove_chain(name).map(drop).ok_or_else(missing),
        Verb::Destroy => {
            table.remove_chain(name);
            Ok(())
        }
        Verb::Flush => {
            table.chains.get_mut(name).ok_or_else(missing)?.rules.clear();
            Ok(())
        }
        Verb::Insert => Err(Kind::Unexpected("chain".into())),
    }
}

pub(super) fn chain_option(chain: &mut Chain, option: &str, words: &mut Words<'_>) -> Result<bool> {
    match option {
        "type" => chain.base = Some(base(words)?),
        "policy" => {
            let word = next(words, option)?;
            let policy = match word.text {
                "accept" => Policy::Accept,
                "drop" => Policy::Drop,
                _ => return Err(unexpected(&word)),
            };
            if let Some(base) = &mut chain.base {
                base.policy = policy;
            }
        }
        "comment" => chain.comment = Some(next(words, option)?.text.into()),
        _ => return Ok(false),
    }
    Ok(true)
}

/// `KIND hook HOOK priority PRIORITY`.
fn base(words: &mut Words<'_>) -> Result<Base> {
    let kind = next(words, "type")?;
    let kind = match kind.text {
        "filter" => ChainKind::Filter,
        "nat" => ChainKind::Nat,
        "route" => ChainKind::Route,
        _ => return Err(unexpected(&kind)),
    };
    words.take_if("hook");
    let hook = next(words, "hook")?;
    let hook = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]
        .into_iter()
        .find(|known| known.name() == hook.text)
        .ok_or_else(|| unexpected(&hook))?;
    let word = next(words, "hook")?;
    if !word.is("priority") {
        return Err(unexpected(&word));
    }
    let mut text = String::new();
    while let Some(word) = words.peek().filter(|word| !word.ends()) {
        words.next();
        text.push_str(word.text);
    }
    let priority =
        value::priority(&text).ok_or_else(|| Kind::Value { what: "priority".into(), value: text.into() })?;
    Ok(Base { kind, hook, priority, policy: Policy::Accept })
}

fn chain_block(table: &mut Table, name: &str, words: &mut Words<'_>) -> Result<()> {
    let mut new = Chain::default();
    open(words)?;
    loop {
        while words.take_if("\n") || words.take_if(";") {}
        if words.take_if("}") {
            break;
        }
        let mut ahead = *words;
        let option = next(&mut ahead, name)?;
        // A rule cannot begin with one of these words.
        if !option.quoted && chain_option(&mut new, option.text, &mut ahead)? {
            *words = ahead;
        } else {
            new.rules.push(rule(words, table.family)?);
        }
    }
    match table.chains.get_mut(name) {
        Some(old) => old.rules.append(&mut new.rules),
        None => table.insert_chain(name, new),
    }
    Ok(())
}

fn add_rule(table: &mut Table, verb: Verb, name: &str, words: &mut Words<'_>) -> Result<()> {
    let family = table.family;
    let chain = table.chains.get_mut(name);
    let chain = chain.ok_or_else(|| Kind::NoSuch { what: "chain", name: name.into() })?;
    let rule: Rule = match verb {
        Verb::Add | Verb::Create | Verb::Insert => rule(words, family)?,
        // By handle, which no text that this crate writes has.
        Verb::Delete | Verb::Destroy | Verb::Flush => return Err(Kind::Unexpected("rule".into())),
    };
    if verb == Verb::Insert {
        chain.rules.insert(0, rule)
    } else {
        chain.rules.push(rule)
    }
    Ok(())
}

fn set(table: &mut Table, verb: Verb, name: &str, words: &mut Words<'_>) -> Result<()> {
    let missing = || Kind::NoSuch { what: "set", name: name.into() };
    match verb {
        Verb::Add | Verb::Create => {
            let new = set_options(words)?;
            match table.sets.get_mut(name) {
                Some(_) if verb == Verb::Create => Err(Kind::Exists { what: "set", name: name.into() }),
                Some(old) if old.key != new.key || old.value != new.value => {
                    Err(Kind::Exists { what: "set", name: name.into() })
                }
                Some(old) => {
                    old.elements.extend(new.elements);
                    old.ranges = count_ranges(old);
                    Ok(())
                }
                None => {
                    table.sets.insert(name.into(), new);
                    Ok(())
                }
            }
        }
        Verb::Delete => table.sets.swap_remove(name).map(drop).ok_or_else(missing),
        Verb::Destroy => {
            table.sets.swap_remove(name);
            Ok(())
        }
        Verb::Flush => {
            let set = table.sets.get_mut(name).ok_or_else(missing)?;
            set.elements.clear();
            set.ranges = 0;
            Ok(())
        }
        Verb::Insert => Err(Kind::Unexpected("set".into())),
    }
}

fn is_range(key: &Tuple) -> bool {
    !key.iter().all(super::model::Datum::is_exact)
}

fn count_ranges(set: &Set) -> usize {
    set.elements.keys().filter(|key| is_range(key)).count()
}

pub(super) fn set_options(words: &mut Words<'_>) -> Result<Set> {
    let mut set = Set {
        key: Vec::new(),
        value: None,
        flags: SetFlags::default(),
        timeout: None,
        like: None,
        size: None,
        comment: None,
        elements: Map::default(),
        ranges: 0,
    };
    options(words, &mut |option, words| set_option(&mut set, option, words))?;
    if set.key.is_empty() {
        return Err(Kind::Missing("type".into()));
    }
    // nft gives every dynamic set a size.
    if set.flags.dynamic && set.size.is_none() {
        set.size = Some(Set::DEFAULT_DYNAMIC_SIZE);
    }
    Ok(set)
}

fn set_option(set: &mut Set, option: &str, words: &mut Words<'_>) -> Result<bool> {
    match option {
        "type" => {
            set.key = types(words)?;
            set.value = if words.take_if(":") { Some(types(words)?) } else { None };
        }
        "typeof" => {
            let key = expression(words)?;
            set.key = key.types();
            let mut like = None;
            if words.take_if(":") {
                if words.take_if("verdict") {
                    set.value = Some([DataType::Verdict].into());
                } else {
                    let value = expression(words)?;
                    set.value = Some(value.types());
                    like = Some(value);
                }
            }
            set.like = Some((key, like));
        }
        "flags" => loop {
            let word = next(words, option)?;
            match word.text {
                "constant" => set.flags.constant = true,
                "interval" => set.flags.interval = true,
                "dynamic" => set.flags.dynamic = true,
                "timeout" => set.flags.timeout = true,
                _ => return Err(unexpected(&word)),
            }
            if !words.take_if(",") {
                break;
            }
        },
        "timeout" => {
            set.timeout = Some(duration(words, option)?);
            set.flags.timeout = true;
        }
        "size" => {
            let word = next(words, option)?;
            set.size = Some(value::number(word.text).ok_or_else(|| unexpected(&word))?);
        }
        "comment" => set.comment = Some(next(words, option)?.text.into()),
        // How it is stored and swept, which no packet sees.
        "policy" | "gc-interval" => drop(next(words, option)?),
        "auto-merge" | "counter" => {}
        "elements" => {
            let word = next(words, option)?;
            if !word.is("=") {
                return Err(unexpected(&word));
            }
            for (key, element) in element_list(set, words)? {
                set.ranges += usize::from(is_range(&key));
                set.elements.insert(key, element);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn types(words: &mut Words<'_>) -> Result<Vec<DataType>> {
    let mut all = Vec::new();
    loop {
        let word = next(words, "type")?;
        all.push(DataType::parse(word.text).ok_or_else(|| unexpected(&word))?);
        if !words.take_if(".") {
            return Ok(all);
        }
    }
}

/// `{ KEY [timeout T] [expires T] [comment C] [: DATA] , .. }`.
fn element_list(set: &Set, words: &mut Words<'_>) -> Result<Vec<(Tuple, Element)>> {
    let mut all = Vec::new();
    open(words)?;
    loop {
        words.skip_lines();
        if words.take_if("}") {
            return Ok(all);
        }
        let key = tuple(words, &set.key)?;
        let mut element = Element::default();
        loop {
            words.skip_lines();
            if words.take_if("timeout") {
                element.timeout = Some(duration(words, "timeout")?);
            } else if words.take_if("expires") {
                duration(words, "expires")?;
            } else if words.take_if("comment") {
                element.comment = Some(next(words, "comment")?.text.into());
            } else {
                break;
            }
        }
        if words.take_if(":") {
            words.skip_lines();
            element.data = Some(match (verdict(words)?, &set.value) {
                (Some(verdict), _) => Data::Verdict(verdict),
                (None, Some(types)) => Data::Tuple(tuple(words, types)?),
                (None, None) => Data::Tuple(tuple(words, &[])?),
            });
        }
        all.push((key, element));
        words.skip_lines();
        words.take_if(",");
    }
}

fn elements(table: &mut Table, verb: Verb, name: &str, words: &mut Words<'_>) -> Result<()> {
    let set = table.sets.get_mut(name);
    let set = set.ok_or_else(|| Kind::NoSuch { what: "set", name: name.into() })?;
    for (key, element) in element_list(set, words)? {
        let text = || tuple_text(&key, &set.key).into();
        match verb {
            Verb::Add | Verb::Create => match set.elements.get(&key) {
                Some(old) if old.data != element.data || verb == Verb::Create => {
                    return Err(Kind::ElementExists { set: name.into(), key: text() });
                }
                Some(_) => {}
                None => {
                    set.ranges += usize::from(is_range(&key));
                    set.elements.insert(key, element);
                }
            },
            Verb::Delete | Verb::Destroy => match set.elements.swap_remove(&key) {
                Some(_) => set.ranges = set.ranges.saturating_sub(usize::from(is_range(&key))),
                None if verb == Verb::Destroy => {}
                None => return Err(Kind::NoElement { set: name.into(), key: text() }),
            },
            Verb::Insert | Verb::Flush => return Err(Kind::Unexpected("element".into())),
        }
    }
    Ok(())
}
