//! Text of nft into words.

use alloc::borrow::Cow;

/// One word, or the end of a line, or one of `{ } , ;`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    /// Written in quotes, so a name or a comment and never a keyword.
    pub(super) quoted: bool,
    pub(super) line: usize,
}

impl<'a> Word<'a> {
    /// Whether it is this keyword or sign.
    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }

    /// Whether a command or rule ends here.
    pub(super) fn ends(&self) -> bool {
        self.is("\n") || self.is(";") || self.is("}")
    }

    /// The word as it has to be written again.
    pub(super) fn written(&self) -> Cow<'a, str> {
        if self.quoted { Cow::Owned(alloc::format!("\"{}\"", self.text)) } else { Cow::Borrowed(self.text) }
    }
}

/// Reads words. A copy is a look ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Words<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    pub(super) const fn line(&self) -> usize {
        self.line
    }

    pub(super) fn peek(&self) -> Option<Word<'a>> {
        let mut ahead = *self;
        ahead.next()
    }

    /// Takes the next word if it is this one.
    pub(super) fn take_if(&mut self, text: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.next().is_some_and(|word| word.is(text));
        if found {
            *self = ahead;
        }
        found
    }

    /// Passes over ends of lines.
    pub(super) fn skip_lines(&mut self) {
        while self.take_if("\n") {}
    }

    fn take(&mut self, length: usize) -> &'a str {
        // Every length handed in ends at an ASCII byte or at the end, so at a character boundary.
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Passes over blanks, comments, and ends of lines behind a backslash.
    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest.bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
            self.take(blanks);
            if self.rest.starts_with("\\\n") {
                self.take(2);
                self.line += 1;
            } else if self.rest.starts_with('#') {
                let comment = self.rest.bytes().take_while(|byte| *byte != b'\n').count();
                self.take(comment);
            } else {
                return;
            }
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        self.skip_blanks();
        let line = self.line;
        let plain = |text| Some(Word { text, quoted: false, line });
        match self.rest.as_bytes().first()? {
            b'\n' => {
                self.line += 1;
                plain(self.take(1))
            }
            b'{' | b'}' | b',' | b';' => plain(self.take(1)),
            b'"' => {
                self.take(1);
                // nft knows no escapes: a quoted string ends at the next quote.
                let length = self.rest.bytes().take_while(|byte| *byte != b'"').count();
                let text = self.take(length);
                self.take(1);
                self.line += text.bytes().filter(|byte| *byte == b'\n').count();
                Some(Word { text, quoted: true, line })
            }
            _ => {
                let length = self.rest.bytes().take_while(|byte| !ends_word(*byte)).count();
                plain(self.take(length))
            }
        }
    }
}

const fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'{' | b'}' | b',' | b';' | b'"')
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn words_are_split_as_nft_does() {
        let words = |text| Words::new(text).map(|word| word.text).collect::<Vec<_>>();
        assert_eq!(
            words("add rule ip t c ip daddr {a,b}"),
            ["add", "rule", "ip", "t", "c", "ip", "daddr", "{", "a", ",", "b", "}"]
        );
        assert_eq!(words("x \"a {b}, c\" y;# no\n z \\\n w"), ["x", "a {b}, c", "y", ";", "\n", "z", "w"]);
        let last = Words::new("a\nb\n\"c\nd\"\ne").last().unwrap();
        assert_eq!(last.line, 5);
        assert_eq!(words("\"open"), ["open"]);
        assert_eq!(words(" \t"), Vec::<&str>::new());
    }
}
