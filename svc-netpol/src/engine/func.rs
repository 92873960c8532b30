//! Step functions from traffic to what decides, and how rules shape them.

use alloc::vec::Vec;

use crate::traffic::{END, PortSet};

/// What decides: two bits of verdict, and the number of the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Code(u32);

pub(crate) const ALLOW: u32 = 0;
pub(crate) const DENY: u32 = 1;
pub(crate) const UNKNOWN: u32 = 2;

/// Number of the reason "nothing applies".
pub(crate) const BY_DEFAULT: u32 = 0;
/// Number of the reason "isolated, and no rule allows it".
pub(crate) const ISOLATED: u32 = 1;
/// Number of the first rule.
pub(crate) const FIRST_RULE: u32 = 2;

impl Code {
    pub(crate) const DEFAULT: Self = Self::new(BY_DEFAULT, ALLOW);

    pub(crate) const fn new(reason: u32, verdict: u32) -> Self {
        Self(reason << 2 | verdict)
    }

    /// The code as a number, which is less than 2^31.
    #[inline]
    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn of_number(number: u32) -> Self {
        Self(number)
    }

    #[inline]
    pub(crate) const fn verdict(self) -> u32 {
        self.0 & 3
    }

    /// Number of the reason; for an unknown verdict, index into the row's branches.
    #[inline]
    pub(crate) const fn reason(self) -> u32 {
        self.0 >> 2
    }
}

/// A step function from traffic to what decides, as it lies in a row: the number of steps, where each but the first
/// begins, and the code of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Func<'a> {
    starts: &'a [u32],
    codes: &'a [u32],
}

impl<'a> Func<'a> {
    /// The function that lies at an offset.
    #[inline]
    pub(crate) fn at(words: &'a [u32], offset: u32) -> Option<Self> {
        let words = words.get(offset as usize..)?;
        let (steps, words) = words.split_first()?;
        let (starts, words) = words.split_at_checked((*steps as usize).checked_sub(1)?)?;
        Some(Self { starts, codes: words.get(..*steps as usize)? })
    }

    /// How many words it takes.
    pub(crate) fn len(&self) -> u32 {
        (1 + self.starts.len() + self.codes.len()) as u32
    }

    /// What decides, if that is the same for all traffic.
    pub(crate) fn as_constant(self) -> Option<Code> {
        match self.codes {
            [code] => Some(Code(*code)),
            _ => None,
        }
    }

    /// What decides about traffic.
    #[inline]
    pub(crate) fn code(&self, key: u32) -> Code {
        // Counting all of them takes no branch; in a long list, finding the place takes fewer steps.
        let step = if self.starts.len() <= 64 {
            self.starts.iter().filter(|start| **start <= key).count()
        } else {
            self.starts.partition_point(|start| *start <= key)
        };
        self.codes.get(step).map_or(Code::DEFAULT, |code| Code(*code))
    }

    pub(crate) fn steps(self) -> impl Iterator<Item = (u32, u32, Code)> + 'a {
        let starts = [0].into_iter().chain(self.starts.iter().copied());
        let ends = self.starts.iter().copied().chain([END]);
        starts.zip(ends).zip(self.codes).map(|((start, end), code)| (start, end, Code(*code)))
    }

    /// The traffic of one verdict.
    pub(crate) fn traffic(&self, verdict: u32) -> PortSet {
        let mut set = PortSet::empty();
        for (start, end, code) in self.steps() {
            if code.verdict() == verdict {
                set.push(start, end);
            }
        }
        set
    }
}

/// Where a piece of traffic stands during evaluation. Several of these can hold at a time, if it is unknown
/// whether a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    /// No rule has matched.
    open: bool,
    /// A rule has passed it on to the next tier.
    passed: bool,
    /// 1 + the reason that allows it, 0 for none.
    allow: u32,
    /// 1 + the reason that denies it, 0 for none.
    deny: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
    Pass,
}

impl Standing {
    const START: Self = Self { open: true, passed: false, allow: 0, deny: 0 };

    /// Whether the next rule that matches decides.
    pub(crate) const fn is_open(self) -> bool {
        self.open
    }

    pub(crate) fn matched(mut self, reason: u32, effect: Effect, maybe: bool) -> Self {
        if !self.open {
            return self;
        }
        self.open = maybe;
        match effect {
            Effect::Allow if self.allow == 0 => self.allow = reason + 1,
            Effect::Deny if self.deny == 0 => self.deny = reason + 1,
            Effect::Pass => self.passed = true,
            Effect::Allow | Effect::Deny => {}
        }
        self
    }

    pub(crate) fn next_tier(mut self) -> Self {
        self.open |= self.passed;
        self.passed = false;
        self
    }
}

/// The standing of all traffic: steps from the start of the line to its end; neighbours differ.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    steps: Vec<(u32, Standing)>,
    /// Room for the next steps.
    spare: Vec<(u32, Standing)>,
    /// Room for the codes of a function.
    codes: Vec<u32>,
}

impl State {
    /// Nothing has been looked at.
    pub(crate) fn restart(&mut self) {
        self.steps.clear();
        self.steps.push((0, Standing::START));
    }

    /// All traffic moves on.
    pub(crate) fn change_all(&mut self, f: impl Fn(Standing) -> Standing) {
        for (_, standing) in &mut self.steps {
            *standing = f(*standing);
        }
        self.steps.dedup_by_key(|(_, standing)| *standing);
    }

    /// The traffic of a set moves on.
    pub(crate) fn change(&mut self, set: &PortSet, mut f: impl FnMut(Standing) -> Standing) {
        let out = &mut self.spare;
        out.clear();
        let mut push = |start: u32, standing: Standing| match out.last() {
            Some((_, last)) if *last == standing => {}
            _ => out.push((start, standing)),
        };
        let mut intervals = set.intervals().iter().copied().peekable();
        let ends = self.steps.iter().skip(1).map(|(start, _)| *start).chain([END]);
        for ((start, standing), end) in self.steps.iter().zip(ends) {
            let mut at = *start;
            while at < end {
                while intervals.next_if(|(_, last)| *last <= at).is_some() {}
                match intervals.peek() {
                    Some((first, last)) if *first <= at => {
                        push(at, f(*standing));
                        at = end.min(*last);
                    }
                    next => {
                        push(at, *standing);
                        at = next.map_or(end, |(first, _)| end.min(*first));
                    }
                }
            }
        }
        core::mem::swap(&mut self.steps, &mut self.spare);
    }

    /// The function once every rule has been looked at, in words as [`Func`] has them: what is still open is allowed.
    /// `branch` numbers the pair of reasons where both verdicts are possible.
    pub(crate) fn finish(&mut self, words: &mut Vec<u32>, mut branch: impl FnMut(Code, Code) -> u32) {
        let Self { steps, codes, .. } = self;
        codes.clear();
        words.clear();
        words.push(0);
        for (start, standing) in steps {
            let allow = match standing.allow {
                0 => (standing.open || standing.passed).then_some(Code::DEFAULT),
                reason => Some(Code::new(reason - 1, ALLOW)),
            };
            let deny = standing.deny.checked_sub(1).map(|reason| Code::new(reason, DENY));
            let code = match (allow, deny) {
                (Some(allow), Some(deny)) => Code::new(branch(allow, deny), UNKNOWN),
                (None, Some(deny)) => deny,
                (allow, None) => allow.unwrap_or(Code::DEFAULT),
            };
            if codes.last() != Some(&code.0) {
                if !codes.is_empty() {
                    words.push(*start);
                }
                codes.push(code.0);
            }
        }
        if let Some(count) = words.first_mut() {
            *count = codes.len() as u32;
        }
        words.extend_from_slice(codes);
    }
}
