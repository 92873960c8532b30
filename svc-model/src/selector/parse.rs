//! The string syntax of selectors.
//!
//! ```text
//! selector    = [ requirement *( "," requirement ) ]
//! requirement = key | "!" key | key ( "=" | "==" | "!=" | ">" | "<" ) [ value ]
//!             | key ( "in" | "notin" ) "(" [ value ] *( "," [ value ] ) ")"
//! ```
//!
//! White space (space, tab, CR, LF) may stand between tokens. There is no quoting. `in` and `notin` are
//! operators only where an operator is expected. A NUL byte ends the token before it and is swallowed; where
//! a token should start, it ends the selector: a quirk of Kubernetes' lexer that is kept.

use alloc::vec::Vec;
use core::fmt;

use smol_str::SmolStr;

use super::requirement::{Operator, Requirement, RequirementError};

/// A text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseSelectorError {
    offset: usize,
    kind: ParseSelectorErrorKind,
}

/// What is wrong with the text of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseSelectorErrorKind {
    /// A token stands where another one is needed.
    Unexpected {
        /// The token; empty at the end of the text.
        found: SmolStr,
        /// What may stand there.
        expected: &'static str,
    },
    /// A requirement is well formed, but not valid.
    Requirement(RequirementError),
}

impl ParseSelectorError {
    /// Where in the text, in bytes: the token that does not fit, or the start of the invalid requirement.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong there.
    pub fn kind(&self) -> &ParseSelectorErrorKind {
        &self.kind
    }
}

impl fmt::Display for ParseSelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset)?;
        match &self.kind {
            ParseSelectorErrorKind::Unexpected { found, expected } if found.is_empty() => {
                write!(f, "the selector ends where {expected} is expected")
            }
            ParseSelectorErrorKind::Unexpected { found, expected } => {
                write!(f, "found `{found}` where {expected} is expected")
            }
            ParseSelectorErrorKind::Requirement(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for ParseSelectorError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.kind {
            ParseSelectorErrorKind::Requirement(error) => Some(error),
            ParseSelectorErrorKind::Unexpected { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Open,
    Close,
    Comma,
    Bang,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    End,
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Bang => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::End => "",
        }
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_symbol(b: u8) -> bool {
    matches!(b, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

/// Reads `rest` token by token, with one token of look-ahead.
struct Parser<'a> {
    text_len: usize,
    rest: &'a str,
    next: Token<'a>,
    /// Where `next` starts.
    offset: usize,
}

/// All requirements of `text`, in the order of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, ParseSelectorError> {
    let mut parser = Parser { text_len: text.len(), rest: text, next: Token::End, offset: 0 };
    parser.advance();
    let mut requirements = Vec::new();
    if parser.next == Token::End {
        return Ok(requirements);
    }
    loop {
        requirements.push(parser.requirement()?);
        match parser.next {
            Token::End => return Ok(requirements),
            Token::Comma => parser.advance(),
            _ => return Err(parser.unexpected("`,` or the end")),
        }
    }
}

impl<'a> Parser<'a> {
    fn split(&mut self, at: usize) -> &'a str {
        // Tokens end before an ASCII byte or at the end of the text, so `at` is always a boundary.
        let (head, tail) = self.rest.split_at_checked(at).unwrap_or((self.rest, ""));
        self.rest = tail;
        head
    }

    fn skip_nul(&mut self) {
        if let Some(rest) = self.rest.strip_prefix('\0') {
            self.rest = rest;
        }
    }

    fn advance(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.offset = self.text_len - self.rest.len();
        let mut bytes = self.rest.bytes();
        let (token, len) = match (bytes.next(), bytes.next()) {
            (None | Some(0), _) => {
                self.rest = "";
                self.next = Token::End;
                return;
            }
            (Some(b'('), _) => (Token::Open, 1),
            (Some(b')'), _) => (Token::Close, 1),
            (Some(b','), _) => (Token::Comma, 1),
            (Some(b'>'), _) => (Token::Greater, 1),
            (Some(b'<'), _) => (Token::Less, 1),
            (Some(b'!'), Some(b'=')) => (Token::NotEquals, 2),
            (Some(b'!'), _) => (Token::Bang, 1),
            (Some(b'='), Some(b'=')) => (Token::DoubleEquals, 2),
            (Some(b'='), _) => (Token::Equals, 1),
            (Some(_), _) => {
                let len = self.rest.bytes().position(|b| b == 0 || is_space(b) || is_symbol(b));
                let word = self.split(len.unwrap_or(self.rest.len()));
                (Token::Word(word), 0)
            }
        };
        self.split(len);
        self.skip_nul();
        self.next = token;
    }

    fn unexpected(&self, expected: &'static str) -> ParseSelectorError {
        let found = self.next.text().into();
        ParseSelectorError {
            offset: self.offset,
            kind: ParseSelectorErrorKind::Unexpected { found, expected },
        }
    }

    fn requirement(&mut self) -> Result<Requirement, ParseSelectorError> {
        let start = self.offset;
        let invalid =
            |error| ParseSelectorError { offset: start, kind: ParseSelectorErrorKind::Requirement(error) };
        let made = match self.next {
            Token::Bang => {
                self.advance();
                let key = self.key()?;
                Requirement::new(key, Operator::DoesNotExist, none())
            }
            _ => {
                let key = self.key()?;
                let operator = match self.next {
                    Token::End | Token::Comma => Operator::Exists,
                    Token::Word("in") => Operator::In,
                    Token::Word("notin") => Operator::NotIn,
                    Token::Equals => Operator::Equals,
                    Token::DoubleEquals => Operator::DoubleEquals,
                    Token::NotEquals => Operator::NotEquals,
                    Token::Greater => Operator::GreaterThan,
                    Token::Less => Operator::LessThan,
                    _ => return Err(self.unexpected("an operator, `,` or the end")),
                };
                match operator {
                    Operator::Exists => Requirement::new(key, operator, none()),
                    Operator::In | Operator::NotIn => {
                        self.advance();
                        Requirement::new(key, operator, self.list()?)
                    }
                    _ => {
                        self.advance();
                        Requirement::new(key, operator, [self.value()?])
                    }
                }
            }
        };
        made.map_err(invalid)
    }

    fn key(&mut self) -> Result<&'a str, ParseSelectorError> {
        match self.next {
            Token::Word(key) => {
                self.advance();
                Ok(key)
            }
            _ => Err(self.unexpected("a label key")),
        }
    }

    /// What follows `=`: nothing is the empty value.
    fn value(&mut self) -> Result<&'a str, ParseSelectorError> {
        match self.next {
            Token::Word(value) => {
                self.advance();
                Ok(value)
            }
            Token::End | Token::Comma => Ok(""),
            _ => Err(self.unexpected("a label value")),
        }
    }

    /// What follows `in`: values between parentheses. Nothing between two commas, or between a comma and a
    /// parenthesis, is the empty value; so is nothing at all. The same value twice counts once.
    fn list(&mut self) -> Result<Vec<&'a str>, ParseSelectorError> {
        if self.next != Token::Open {
            return Err(self.unexpected("`(`"));
        }
        self.advance();
        let mut values = Vec::new();
        loop {
            let value = match self.next {
                Token::Word(value) => {
                    self.advance();
                    value
                }
                Token::Comma | Token::Close => "",
                _ => return Err(self.unexpected("a label value, `,` or `)`")),
            };
            values.push(value);
            match self.next {
                Token::Comma => self.advance(),
                Token::Close => break self.advance(),
                _ => return Err(self.unexpected("`,` or `)`")),
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}

fn none() -> [&'static str; 0] {
    []
}
