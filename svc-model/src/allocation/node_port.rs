//! Node ports.

use core::fmt;
use core::str::FromStr;

use smol_str::{SmolStr, ToSmolStr};

use super::bitmap::Bitmap;
use super::{AllocError, Band, Entropy, Numbers, static_band};

/// A range of node ports, such as `30000-32767`. It can be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePortRange {
    base: u16,
    numbers: Numbers,
}

/// A text is not a range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodePortRangeError {
    /// The text is none of the forms `first-last`, `first+more`, `only`.
    #[error("`{0}` is not a range of ports, such as `30000-32767`")]
    Malformed(SmolStr),
    /// A port is above 65535.
    #[error("the range `{0}` goes beyond 65535")]
    TooHigh(SmolStr),
    /// The range ends before it starts.
    #[error("the range `{0}` ends before it starts")]
    Reversed(SmolStr),
}

impl NodePortRange {
    /// The range that the API server has by default: 30000 to 32767.
    pub fn kubernetes_default() -> Self {
        Self::of_size(30_000, 2_768)
    }

    /// The range without any port.
    pub fn empty() -> Self {
        Self::of_size(0, 0)
    }

    /// The ports from `first` to `last`, both included; none if `last` is less.
    pub fn new(first: u16, last: u16) -> Self {
        Self::of_size(first, (u64::from(last) + 1).saturating_sub(first.into()))
    }

    fn of_size(base: u16, size: u64) -> Self {
        // A thirty-second of the range, from 16 to 128 ports.
        let static_band = static_band(size, 32, 16, 128);
        Self { base, numbers: Numbers { first: base.into(), size, static_band } }
    }

    /// The first port; 0 for the empty range.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// How many ports there are.
    pub fn size(&self) -> u32 {
        u32::try_from(self.numbers.size).unwrap_or(u32::MAX)
    }

    /// How many ports, from the first on, are in the static band.
    pub fn static_band(&self) -> u32 {
        u32::try_from(self.numbers.static_band).unwrap_or(u32::MAX)
    }

    /// The band of a port; `None` if it is not in the range.
    pub fn band(&self, port: i32) -> Option<Band> {
        self.numbers.band_of(u128::try_from(port).ok()?)
    }
}

impl Default for NodePortRange {
    fn default() -> Self {
        Self::kubernetes_default()
    }
}

/// The forms of the flag `--service-node-port-range`: `first-last`, `first+more`, `only`; empty for none.
impl FromStr for NodePortRange {
    type Err = NodePortRangeError;

    fn from_str(text: &str) -> Result<Self, NodePortRangeError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(Self::empty());
        }
        let malformed = || NodePortRangeError::Malformed(trimmed.into());
        let number = |text: &str| text.parse::<i64>().map_err(|_| malformed());
        let (first, last) = match (trimmed.split_once('-'), trimmed.split_once('+')) {
            (None, None) => (number(trimmed)?, number(trimmed)?),
            (Some((first, last)), None) => (number(first)?, number(last)?),
            (None, Some((first, more))) => {
                let first = number(first)?;
                (first, first.saturating_add(number(more)?))
            }
            (Some(_), Some(_)) => return Err(malformed()),
        };
        let beyond = |_| NodePortRangeError::TooHigh(trimmed.into());
        if last < first && first <= i64::from(u16::MAX) {
            return Err(NodePortRangeError::Reversed(trimmed.into()));
        }
        Ok(Self::new(u16::try_from(first).map_err(beyond)?, u16::try_from(last).map_err(beyond)?))
    }
}

impl fmt::Display for NodePortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.numbers.size {
            0 => f.write_str("(none)"),
            _ => write!(f, "{}-{}", self.base, self.numbers.span().end()),
        }
    }
}

/// The node ports of a cluster: a range, and what is taken of it. TCP, UDP and SCTP share the numbers, and
/// health check ports come from here too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePortAllocator {
    range: NodePortRange,
    used: Bitmap,
}

impl NodePortAllocator {
    /// An allocator with nothing taken.
    pub fn new(range: NodePortRange) -> Self {
        Self { range, used: Bitmap::default() }
    }

    /// The range.
    pub fn range(&self) -> NodePortRange {
        self.range
    }

    /// Allocates a port that was asked for. Any number may be: it comes from an API object.
    ///
    /// # Errors
    ///
    /// [`AllocError::NotInRange`] and [`AllocError::Allocated`].
    pub fn allocate(&mut self, port: i32) -> Result<(), AllocError> {
        let value = port.to_smolstr();
        match u128::try_from(port).ok().filter(|number| self.range.numbers.contains(*number)) {
            None => Err(AllocError::NotInRange { value, range: self.range.to_smolstr() }),
            Some(number) if self.used.insert(number) => Ok(()),
            Some(_) => Err(AllocError::Allocated { value }),
        }
    }

    /// Allocates a port at random.
    ///
    /// # Errors
    ///
    /// [`AllocError::Full`].
    pub fn allocate_next(&mut self, entropy: &mut Entropy<'_>) -> Result<u16, AllocError> {
        let full = || AllocError::Full { range: self.range.to_smolstr() };
        let picked = self.range.numbers.pick(&self.used, entropy).ok_or_else(full)?;
        let port = u16::try_from(picked).map_err(|_| full())?;
        self.used.insert(picked);
        Ok(port)
    }

    /// Gives a port back. Returns whether it was taken; one that was not is fine.
    pub fn release(&mut self, port: i32) -> bool {
        u128::try_from(port).is_ok_and(|number| self.used.remove(number))
    }

    /// Whether a port is taken.
    pub fn has(&self, port: i32) -> bool {
        u128::try_from(port).is_ok_and(|number| self.used.contains(number))
    }

    /// How many ports are taken.
    pub fn used(&self) -> usize {
        self.used.len()
    }

    /// How many ports are free.
    pub fn free(&self) -> u32 {
        self.range.size().saturating_sub(u32::try_from(self.used.len()).unwrap_or(u32::MAX))
    }

    /// The ports that are taken, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.used.iter().filter_map(|number| u16::try_from(number).ok())
    }
}
