//! What can be wrong with text of nft.

use smol_str::SmolStr;

/// A place in the text that could not be read or carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct NftError {
    line: usize,
    kind: ErrorKind,
}

impl NftError {
    pub(super) const fn new(line: usize, kind: ErrorKind) -> Self {
        Self { line, kind }
    }

    /// Line number, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// What is wrong.
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A word that cannot stand here.
    #[error("`{0}` cannot stand here")]
    Unexpected(SmolStr),
    /// The text ends too early.
    #[error("something is missing after `{0}`")]
    Missing(SmolStr),
    /// A value that cannot be read as what it should be.
    #[error("`{value}` is no {what}")]
    Value {
        /// What it should be.
        what: SmolStr,
        /// What is written.
        value: SmolStr,
    },
    /// A table, chain, set or map that does not exist.
    #[error("{what} `{name}` does not exist")]
    NoSuch {
        /// What kind of object.
        what: &'static str,
        /// Its name.
        name: SmolStr,
    },
    /// A table, chain, set or map that exists already, and differs or was to be created.
    #[error("{what} `{name}` exists already")]
    Exists {
        /// What kind of object.
        what: &'static str,
        /// Its name.
        name: SmolStr,
    },
    /// An element to be deleted that is not there.
    #[error("`{key}` is not in `{set}`")]
    NoElement {
        /// The set.
        set: SmolStr,
        /// The key.
        key: SmolStr,
    },
    /// An element to be added whose key is there with other data.
    #[error("`{key}` is in `{set}` already")]
    ElementExists {
        /// The set.
        set: SmolStr,
        /// The key.
        key: SmolStr,
    },
    /// A chain that does not exist is jumped to, or a set that does not exist consulted, when the text has been carried out.
    #[error("`{from}` refers to `{to}`, which does not exist")]
    Dangling {
        /// The chain or map that refers.
        from: SmolStr,
        /// What is missing.
        to: SmolStr,
    },
}
