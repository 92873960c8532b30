//! Lines into words, as `iptables-restore` splits them.

use alloc::borrow::Cow;
use alloc::string::String;

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: Cow<'a, str>,
    /// Written in quotes, so a value and never an option.
    pub(super) quoted: bool,
}

/// Splits a line at spaces and tabs. Double quotes hold a word together and end it where they close; inside them a
/// backslash takes the next character as it is (`add_param_to_argv` in iptables).
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) const fn new(line: &'a str) -> Self {
        Self { rest: line }
    }

    /// What has not been read yet.
    pub(super) const fn rest(&self) -> &'a str {
        self.rest
    }

    fn take(&mut self, length: usize) -> &'a str {
        // Every length handed in ends at an ASCII byte or at the end, so at a character boundary.
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Reads a word that has quotes in it, into memory of its own unless it is one plain quoted string.
    fn quoted(&mut self) -> Word<'a> {
        if let Some(inner) = self.rest.strip_prefix('"')
            && let Some(end) = inner.bytes().position(|byte| matches!(byte, b'"' | b'\\'))
            && inner.as_bytes().get(end) == Some(&b'"')
        {
            self.take(1);
            let text = self.take(end);
            self.take(1);
            return Word { text: Cow::Borrowed(text), quoted: true };
        }
        let mut text = String::new();
        let (mut open, mut escaped, mut used) = (false, false, self.rest.len());
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if escaped => {
                    text.push(c);
                    escaped = false;
                }
                '\\' if open => escaped = true,
                '"' if open => {
                    used = at + 1;
                    break;
                }
                '"' => open = true,
                ' ' | '\t' if !open => {
                    used = at;
                    break;
                }
                c => text.push(c),
            }
        }
        self.take(used);
        Word { text: Cow::Owned(text), quoted: true }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let start = self.rest.bytes().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r'))?;
        self.take(start);
        let end = self.rest.bytes().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'"'));
        match end {
            Some(end) if self.rest.as_bytes().get(end) == Some(&b'"') => Some(self.quoted()),
            Some(end) => Some(Word { text: Cow::Borrowed(self.take(end)), quoted: false }),
            None => Some(Word { text: Cow::Borrowed(self.take(self.rest.len())), quoted: false }),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::vec::Vec;

    use super::*;

    fn words(line: &str) -> Vec<(String, bool)> {
        Words::new(line).map(|word| (word.text.into_owned(), word.quoted)).collect()
    }

    #[test]
    fn words_are_split_as_iptables_does() {
        let plain = |text: &str| (text.to_owned(), false);
        let quoted = |text: &str| (text.to_owned(), true);
        assert_eq!(words("-A  X\t-j Y"), [plain("-A"), plain("X"), plain("-j"), plain("Y")]);
        assert_eq!(words(r#"a "b c" d"#), [plain("a"), quoted("b c"), plain("d")]);
        assert_eq!(words(r#""a\"b\\c\'d""#), [quoted(r#"a"b\c'd"#)]);
        assert_eq!(words(r#""""#), [quoted("")]);
        assert_eq!(words(r#"ab"c d"e"#), [quoted("abc d"), plain("e")]);
        assert_eq!(words(r#""open ended"#), [quoted("open ended")]);
        assert_eq!(words(r"a\b"), [plain(r"a\b")]);
        assert_eq!(words("\"é\\é\""), [quoted("éé")]);
        assert_eq!(words("   "), []);
    }
}
