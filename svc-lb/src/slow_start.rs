//! Slow start: a new backend's share grows from little to all over a window, so that it can warm up.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::backend::Backend;

/// How the share of a new backend grows (after Envoy's slow start mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SlowStartOptions {
    /// How long it takes to the full share.
    pub window: Duration,
    /// The share at the beginning, in percent of the full one.
    pub min_percent: u8,
    /// All weights are multiplied by this, so that a part of a small weight is still a whole number.
    pub resolution: u32,
}

impl SlowStartOptions {
    /// This window, from 10 percent on, in hundredths of weights.
    pub const fn new(window: Duration) -> Self {
        Self { window, min_percent: 10, resolution: 100 }
    }

    /// The same with another [`min_percent`](Self::min_percent).
    #[must_use]
    pub const fn with_min_percent(mut self, percent: u8) -> Self {
        self.min_percent = percent;
        self
    }
}

/// Backends that warm up.
///
/// Give [`scale`](Self::scale) the configured backends before each
/// [`replace_all`](crate::Balancer::replace_all) (or publish), and again as time passes: new ones come
/// out with a part of their weight, the others with all of it. A table (`sh`, `mh`, ring) is rebuilt by
/// each change of weight, and moves clients; use it with rules that count or draw.
///
/// ```
/// use std::time::Duration;
/// use svc_lb::{Backend, SlowStart, SlowStartOptions};
///
/// let mut start = SlowStart::new(SlowStartOptions::new(Duration::from_secs(60)));
/// let old = Backend::new("10.2.0.1:80".parse()?);
/// start.scale(&[old], Duration::ZERO);
/// let new = Backend::new("10.2.0.2:80".parse()?);
/// let weights = |backends: Vec<Backend>| -> Vec<u32> { backends.iter().map(|backend| backend.weight).collect() };
/// assert_eq!(weights(start.scale(&[old, new], Duration::from_secs(100))), [100, 10]);
/// assert_eq!(weights(start.scale(&[old, new], Duration::from_secs(130))), [100, 50]);
/// assert_eq!(weights(start.scale(&[old, new], Duration::from_secs(160))), [100, 100]);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SlowStart {
    options: SlowStartOptions,
    since: hashbrown::HashMap<SocketAddr, Duration, foldhash::fast::FixedState>,
}

impl SlowStart {
    /// No backend is known yet.
    pub fn new(options: SlowStartOptions) -> Self {
        Self { options, since: hashbrown::HashMap::default() }
    }

    /// The backends with the weights they should have now, at most [`MAX_WEIGHT`](crate::MAX_WEIGHT). Those that
    /// are missing are forgotten, and warm up again when they come back.
    pub fn scale(&mut self, backends: &[Backend], now: Duration) -> Vec<Backend> {
        let since = core::mem::take(&mut self.since);
        backends
            .iter()
            .map(|backend| {
                let at = since.get(&backend.address).copied().unwrap_or(now);
                self.since.insert(backend.address, at);
                Backend { weight: self.weight(backend.weight, now.saturating_sub(at)), ..*backend }
            })
            .collect()
    }

    fn weight(&self, weight: u32, age: Duration) -> u32 {
        let full = u128::from(weight) * u128::from(self.options.resolution.max(1));
        let window = self.options.window.as_nanos();
        let scaled = if age.as_nanos() >= window {
            full
        } else {
            let grown = full * age.as_nanos() / window;
            grown.max(full * u128::from(self.options.min_percent.min(100)) / 100).max(u128::from(weight > 0))
        };
        u32::try_from(scaled).unwrap_or(u32::MAX).min(crate::MAX_WEIGHT)
    }
}
