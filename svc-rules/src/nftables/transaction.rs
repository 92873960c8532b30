//! Writing lines of `nft -f`, with the places where the text may be cut.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use smol_str::SmolStr;

use super::part::{Container, Value};

/// How many operations lie between two places where a text may be cut, at least.
const GRAIN: usize = 32;

/// A place where a text may be cut: bytes and operations up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) bytes: usize,
    pub(super) operations: usize,
}

/// An element to be written.
pub(super) type Element<'a> = (&'a (Container, SmolStr), Option<&'a Value>, Option<&'a Value>);

pub(super) struct Transaction<'a> {
    family: &'static str,
    out: &'a mut String,
    start: usize,
    pub(super) operations: usize,
    pub(super) cuts: Vec<Cut>,
}

impl<'a> Transaction<'a> {
    pub(super) const fn new(family: &'static str, out: &'a mut String) -> Self {
        let start = out.len();
        Self { family, out, start, operations: 0, cuts: Vec::new() }
    }

    /// What was written so far holds by itself.
    pub(super) fn cut(&mut self) {
        let last = self.cuts.last().map_or(0, |cut| cut.operations);
        if self.operations >= last + GRAIN {
            self.cuts.push(Cut { bytes: self.out.len() - self.start, operations: self.operations });
        }
    }

    pub(super) fn table(&mut self, what: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{what} {} kube-proxy", self.family);
        self.operations += 1;
    }

    pub(super) fn line(&mut self, what: &str, rest: fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{what} {} kube-proxy {rest}", self.family);
        self.operations += 1;
    }

    pub(super) fn chain(&mut self, what: &str, chain: &str) {
        self.push(&[what, " ", self.family, " kube-proxy ", chain, "\n"]);
        self.operations += 1;
    }

    pub(super) fn rules<'r>(&mut self, chain: &str, rules: impl IntoIterator<Item = &'r String>) {
        for rule in rules {
            self.push(&["add rule ", self.family, " kube-proxy ", chain, " ", rule, "\n"]);
            self.operations += 1;
        }
    }

    fn push(&mut self, words: &[&str]) {
        words.iter().for_each(|word| self.out.push_str(word));
    }

    /// Deletes the old and adds the new elements of one container, those of each line at once.
    pub(super) fn elements(&mut self, elements: &[Element<'_>], at_once: usize) {
        for line in elements.chunk_by(|((a, _), ..), ((b, _), ..)| a == b) {
            for line in line.chunks(at_once) {
                let old = line.iter().filter(|(_, old, _)| old.is_some()).map(|((_, key), ..)| (key, None));
                self.element_line("delete", line, old);
                let new = line.iter().filter_map(|((_, key), _, new)| new.map(|new| (key, Some(new))));
                self.element_line("add", line, new);
                self.cut();
            }
        }
    }

    fn element_line<'e>(
        &mut self,
        verb: &str,
        line: &[Element<'_>],
        elements: impl Iterator<Item = (&'e SmolStr, Option<&'e Value>)>,
    ) {
        let Some(((container, _), ..)) = line.first() else { return };
        let mut number = 0;
        for (key, value) in elements {
            match number {
                0 => {
                    self.push(&[verb, " element ", self.family, " kube-proxy ", container.name(), " { ", key])
                }
                _ => self.push(&[" , ", key]),
            }
            number += 1;
            if let Some(value) = value {
                if !value.comment.is_empty() {
                    self.push(&[" comment \"", &value.comment, "\""]);
                }
                if !value.verdict.is_empty() {
                    self.push(&[" : ", &value.verdict]);
                }
            }
        }
        if number > 0 {
            self.out.push_str(" }\n");
            self.operations += number;
        }
    }
}
