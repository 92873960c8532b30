//! Names of chains, held in place: rulesets have hundreds of thousands of them, and most rules name one.

use core::fmt;
use core::ops::Deref;

use smol_str::SmolStr;

/// The longest chain name that iptables takes.
pub const MAX_CHAIN_NAME: usize = 28;

/// The name of a chain, at most 28 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainName {
    /// Zero behind the name, so that names compare as their bytes do.
    bytes: [u8; MAX_CHAIN_NAME],
    length: u8,
}

impl ChainName {
    /// The name, if iptables takes it: not empty, not too long, no `-` or `!` at its head, and nothing in it that would
    /// part words.
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty()
            && !name.starts_with(['-', '!'])
            && !name.contains(|c: char| c.is_ascii_control() || matches!(c, ' ' | '"'));
        let mut bytes = [0; MAX_CHAIN_NAME];
        bytes.get_mut(..name.len()).filter(|_| fits)?.copy_from_slice(name.as_bytes());
        Some(Self { bytes, length: u8::try_from(name.len()).ok()? })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        // Both always hold: the bytes are those of a string of this length.
        self.bytes
            .get(..usize::from(self.length))
            .and_then(|bytes| str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

impl Deref for ChainName {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl core::hash::Hash for ChainName {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.bytes);
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl PartialEq<str> for ChainName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl From<ChainName> for SmolStr {
    fn from(name: ChainName) -> Self {
        Self::new(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_iptables_takes() {
        let longest = "KUBE-0123456789-0123456789-X";
        assert_eq!(ChainName::new(longest).unwrap().as_str(), longest);
        assert_eq!(ChainName::new("KUBE-0123456789-0123456789-XY"), None);
        assert_eq!(ChainName::new(""), None);
        assert_eq!(ChainName::new("-A"), None);
        assert_eq!(ChainName::new("!A"), None);
        assert_eq!(ChainName::new("A B"), None);
        assert_eq!(ChainName::new("A\"B"), None);
        assert_eq!(&*ChainName::new("é").unwrap(), "é");
        assert!(ChainName::new("A").unwrap() < ChainName::new("AB").unwrap());
        assert!(ChainName::new("AB").unwrap() < ChainName::new("B").unwrap());
    }
}
