//! Reading `iptables-save` and `iptables-restore` text, line by line.
//!
//! [`commands`] yields one [`Command`] per line, borrowing nothing it need not own, so that text of many megabytes is
//! read in one pass; [`super::Ruleset::restore`] carries the commands out.

use alloc::borrow::Cow;

use smol_str::SmolStr;

use super::model::{Counters, Policy, Rule};
use super::name::ChainName;
use super::rule;
use super::words::Words;
use crate::packet::Family;

/// One line of restore input.
#[derive(Debug, Clone, PartialEq)]
pub enum Command<'a> {
    /// `*TABLE`: the commands up to `COMMIT` are for this table.
    Table(&'a str),
    /// `:CHAIN POLICY [PACKETS:BYTES]`.
    Declare {
        /// The chain.
        chain: ChainName,
        /// `None` for `-`.
        policy: Option<Policy>,
        /// Counters of the policy.
        counters: Counters,
    },
    /// `-A`.
    Append {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// `-I`.
    Insert {
        /// The chain.
        chain: ChainName,
        /// Where, from 1.
        position: usize,
        /// The rule.
        rule: Rule,
    },
    /// `-R`.
    Replace {
        /// The chain.
        chain: ChainName,
        /// Which, from 1.
        position: usize,
        /// The rule that takes its place.
        rule: Rule,
    },
    /// `-D` with a rule.
    Delete {
        /// The chain.
        chain: ChainName,
        /// The first equal rule is deleted.
        rule: Rule,
    },
    /// `-D` with a number.
    DeleteAt {
        /// The chain.
        chain: ChainName,
        /// Which, from 1.
        position: usize,
    },
    /// `-N`.
    New {
        /// The chain.
        chain: ChainName,
    },
    /// `-X`; without a name, every empty chain of the user's.
    DeleteChain {
        /// The chain.
        chain: Option<ChainName>,
    },
    /// `-F`; without a name, every chain.
    Flush {
        /// The chain.
        chain: Option<ChainName>,
    },
    /// `-Z`.
    Zero {
        /// The chain.
        chain: Option<ChainName>,
    },
    /// `-P`.
    SetPolicy {
        /// The chain.
        chain: ChainName,
        /// The new policy.
        policy: Policy,
    },
    /// `COMMIT`.
    Commit,
}

/// A line that could not be read or carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct RestoreError {
    line: usize,
    kind: RestoreErrorKind,
}

impl RestoreError {
    pub(super) const fn new(line: usize, kind: RestoreErrorKind) -> Self {
        Self { line, kind }
    }

    /// Line number, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// What is wrong.
    pub const fn kind(&self) -> &RestoreErrorKind {
        &self.kind
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreErrorKind {
    /// The first word is no command of restore input.
    #[error("unknown command `{0}`")]
    Command(SmolStr),
    /// A command outside `*TABLE` .. `COMMIT`.
    #[error("no table is named before this line")]
    NoTable,
    /// The text ends before `COMMIT`.
    #[error("`COMMIT` is missing at the end")]
    NoCommit,
    /// A word is missing after an option.
    #[error("`{0}` needs a value")]
    Missing(SmolStr),
    /// A value that the option does not take.
    #[error("`{value}` is no value for `{option}`")]
    Value {
        /// The option.
        option: SmolStr,
        /// What is written.
        value: SmolStr,
    },
    /// An option that no loaded match or target takes.
    #[error("unknown option `{0}`")]
    Option(SmolStr),
    /// An option given twice.
    #[error("option `{0}` is given twice")]
    Twice(SmolStr),
    /// A name that cannot be a chain's.
    #[error("`{0}` is no chain name")]
    ChainName(SmolStr),
    /// A chain that does not exist.
    #[error("chain `{0}` does not exist")]
    NoChain(SmolStr),
    /// A chain that exists already.
    #[error("chain `{0}` exists already")]
    ChainExists(SmolStr),
    /// A chain that cannot be deleted: it has rules.
    #[error("chain `{0}` is not empty")]
    NotEmpty(SmolStr),
    /// A chain that cannot be deleted: rules jump to it.
    #[error("chain `{0}` is still jumped to")]
    Referenced(SmolStr),
    /// A builtin chain cannot be deleted, and only builtin chains have policies.
    #[error("not possible for chain `{0}`: it is builtin, or only builtin chains can")]
    Builtin(SmolStr),
    /// No rule at that place, or no such rule.
    #[error("no such rule in chain `{0}`")]
    NoRule(SmolStr),
    /// A rule jumps to a chain that does not exist when the table is committed.
    #[error("chain `{chain}` jumps to `{target}`, which does not exist")]
    NoTarget {
        /// The chain with the rule.
        chain: SmolStr,
        /// The missing chain.
        target: SmolStr,
    },
}

/// Reads restore input (or saved text, which is restore input) line by line.
///
/// Yields line numbers from 1. Empty lines and comment lines are passed over. Text after an error can be read on, but
/// restore programs stop there.
pub fn commands(
    text: &str,
    family: Family,
) -> impl Iterator<Item = Result<(usize, Command<'_>), RestoreError>> {
    text.split('\n').enumerate().filter_map(move |(index, line)| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.as_bytes().first() {
            None | Some(b'#') => None,
            Some(_) if line.trim_ascii().is_empty() => None,
            Some(_) => Some(match command(line, family) {
                Ok(command) => Ok((index + 1, command)),
                Err(kind) => Err(RestoreError::new(index + 1, kind)),
            }),
        }
    })
}

fn command(line: &str, family: Family) -> Result<Command<'_>, RestoreErrorKind> {
    if let Some(table) = line.strip_prefix('*') {
        return Ok(Command::Table(table.trim_ascii()));
    }
    if let Some(rest) = line.strip_prefix(':') {
        return declare(rest);
    }
    if line.trim_ascii_end() == "COMMIT" {
        return Ok(Command::Commit);
    }
    let mut words = Words::new(line);
    let mut counters = Counters::default();
    let mut verb = plain(&mut words, "command")?;
    if verb.starts_with('[') {
        counters = parse_counters(verb).ok_or_else(|| value("counters", verb))?;
        verb = plain(&mut words, "command")?;
    }
    match verb.as_bytes() {
        b"-A" | b"--append" => {
            let chain = chain_name(&mut words, verb)?;
            Ok(Command::Append { chain, rule: rule::parse(words, family, counters)? })
        }
        b"-I" | b"--insert" => {
            let chain = chain_name(&mut words, verb)?;
            let position = position(&mut words).unwrap_or(1);
            Ok(Command::Insert { chain, position, rule: rule::parse(words, family, counters)? })
        }
        b"-R" | b"--replace" => {
            let chain = chain_name(&mut words, verb)?;
            let position = position(&mut words).ok_or_else(|| RestoreErrorKind::Missing(verb.into()))?;
            Ok(Command::Replace { chain, position, rule: rule::parse(words, family, counters)? })
        }
        b"-D" | b"--delete" => {
            let chain = chain_name(&mut words, verb)?;
            match position(&mut words) {
                Some(position) => Ok(Command::DeleteAt { chain, position }),
                None => Ok(Command::Delete { chain, rule: rule::parse(words, family, counters)? }),
            }
        }
        b"-N" | b"--new-chain" => Ok(Command::New { chain: chain_name(&mut words, verb)? }),
        b"-X" | b"--delete-chain" => Ok(Command::DeleteChain { chain: optional(&mut words, verb)? }),
        b"-F" | b"--flush" => Ok(Command::Flush { chain: optional(&mut words, verb)? }),
        b"-Z" | b"--zero" => Ok(Command::Zero { chain: optional(&mut words, verb)? }),
        b"-P" | b"--policy" => {
            let chain = chain_name(&mut words, verb)?;
            let policy = plain(&mut words, verb)?;
            let policy = parse_policy(policy).flatten().ok_or_else(|| value(verb, policy))?;
            Ok(Command::SetPolicy { chain, policy })
        }
        _ => Err(RestoreErrorKind::Command(verb.into())),
    }
}

fn declare(rest: &str) -> Result<Command<'_>, RestoreErrorKind> {
    let mut words = rest.split_ascii_whitespace();
    let chain = named(words.next().ok_or_else(|| RestoreErrorKind::Missing(":".into()))?)?;
    let policy = words.next().ok_or_else(|| RestoreErrorKind::Missing(chain.into()))?;
    let policy = parse_policy(policy).ok_or_else(|| value(&chain, policy))?;
    let counters = match words.next() {
        None | Some("[0:0]") => Counters::default(),
        Some(text) => parse_counters(text).ok_or_else(|| value("counters", text))?,
    };
    Ok(Command::Declare { chain, policy, counters })
}

pub(super) fn value(option: &str, value: &str) -> RestoreErrorKind {
    RestoreErrorKind::Value { option: option.into(), value: value.into() }
}

/// `Some(None)` is `-`, the policy of a chain that has none.
fn parse_policy(text: &str) -> Option<Option<Policy>> {
    match text {
        "-" => Some(None),
        "ACCEPT" => Some(Some(Policy::Accept)),
        "DROP" => Some(Some(Policy::Drop)),
        _ => None,
    }
}

fn parse_counters(text: &str) -> Option<Counters> {
    let (packets, bytes) = text.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    Some(Counters { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? })
}

fn plain<'a>(words: &mut Words<'a>, after: &str) -> Result<&'a str, RestoreErrorKind> {
    match words.next().map(|word| word.text) {
        Some(Cow::Borrowed(text)) => Ok(text),
        // Only escapes and inner quotes make a word owned; neither can be part of a name.
        Some(Cow::Owned(text)) => Err(value(after, &text)),
        None => Err(RestoreErrorKind::Missing(after.into())),
    }
}

fn optional(words: &mut Words<'_>, verb: &str) -> Result<Option<ChainName>, RestoreErrorKind> {
    if words.rest().trim_ascii().is_empty() { Ok(None) } else { chain_name(words, verb).map(Some) }
}

fn chain_name(words: &mut Words<'_>, verb: &str) -> Result<ChainName, RestoreErrorKind> {
    named(plain(words, verb)?)
}

/// A chain's name as iptables checks it.
pub(super) fn named(name: &str) -> Result<ChainName, RestoreErrorKind> {
    ChainName::new(name).ok_or_else(|| RestoreErrorKind::ChainName(name.into()))
}

/// Reads a rule number if the next word is one.
fn position(words: &mut Words<'_>) -> Option<usize> {
    let mut ahead = words.clone();
    let number = ahead.next()?.text.parse().ok().filter(|number| *number > 0)?;
    *words = ahead;
    Some(number)
}
