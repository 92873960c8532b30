//! Uniform random choice, as nftables makes it and as a chain of iptables rules makes it.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Choice, Engine, Missing};
use crate::pool::{Pool, Slot};
use crate::request::{Request, SplitMix64, scale};

/// How a uniform choice is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbabilityRule {
    /// One draw over all (as nftables' `numgen random`): each share is off by less than n / 2^64.
    #[default]
    Uniform,
    /// kube-proxy's chain of iptables rules: one draw for each rule, against
    /// [`iptables_threshold`]; O(n). Shares are those of [`iptables_share`]: off by up to about
    /// n * 10^-10 relatively, from the ten digits that the rule carries.
    IptablesChain,
}

/// The bound of iptables' `statistic` match for one of `remaining` endpoints, of 2^31.
///
/// kube-proxy writes the probability `1/remaining` with ten digits after the point, iptables scales
/// it to 31 bits, and the kernel compares 31 random bits with it (`xt_statistic.c`). The last rule of a
/// chain has no match, so for 0 and 1 this is 2^31.
///
/// ```
/// assert_eq!(svc_lb::iptables_threshold(2), 1 << 30);
/// assert_eq!(svc_lb::iptables_threshold(3), 715_827_883); // 0.3333333333
/// ```
pub fn iptables_threshold(remaining: usize) -> u32 {
    const ONE: f64 = 2_147_483_648.0;
    if remaining <= 1 {
        return 1 << 31;
    }
    let text = format!("{:.10}", 1.0 / remaining as f64);
    let probability: f64 = text.parse().unwrap_or(0.0);
    libm::round(ONE * probability) as u32
}

/// The share of requests that the endpoint at `index` of a chain of `count` gets, 0 to 1; 0 beyond the chain.
pub fn iptables_share(index: usize, count: usize) -> f64 {
    const ONE: f64 = 2_147_483_648.0;
    if index >= count {
        return 0.0;
    }
    let probability = |at: usize| f64::from(iptables_threshold(count - at)) / ONE;
    (0..index).map(|at| 1.0 - probability(at)).product::<f64>() * probability(index)
}

/// The backends in list order, laid out for random access.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// Empty once backends came or went; laid anew at the next pick.
    slots: Vec<Slot>,
}

impl Members {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    pub(super) fn forget(&mut self) {
        self.slots.clear();
    }

    #[inline]
    pub(super) fn refresh(&mut self, pool: &Pool) {
        if self.slots.is_empty() {
            self.lay(pool);
        }
    }

    #[cold]
    fn lay(&mut self, pool: &Pool) {
        self.slots.extend(pool.iter());
    }

    /// One at random; [`Slot::NONE`] if none are laid.
    #[inline]
    fn at(&self, random: u64) -> Slot {
        self.slots.get(scale(random, self.slots.len() as u64) as usize).copied().unwrap_or(Slot::NONE)
    }

    /// A usable one at random. Unusable ones are drawn again, up to 32 times; then the next usable one in
    /// the list is taken, so that the cost stays bounded.
    #[inline]
    pub(super) fn draw(&self, pool: &Pool, random: u64) -> Option<Slot> {
        let first = scale(random, self.slots.len() as u64) as usize;
        match self.slots.get(first) {
            Some(&slot) if pool.is_usable(slot) => Some(slot),
            _ => self.draw_again(pool, random, first),
        }
    }

    #[cold]
    fn draw_again(&self, pool: &Pool, random: u64, first: usize) -> Option<Slot> {
        let mut again = SplitMix64::new(random);
        let usable = |slot: &Slot| pool[*slot].usable;
        let count = self.slots.len() as u64;
        let (before, after) = self.slots.split_at_checked(first)?;
        (0..32)
            .filter_map(|_| self.slots.get(again.below(count) as usize).copied())
            .find(usable)
            .or_else(|| after.iter().chain(before).copied().find(usable))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Random {
    /// Never laid for the chain.
    members: Members,
    rule: ProbabilityRule,
    /// By the number of endpoints that remain; filled for the chain alone.
    thresholds: Vec<u32>,
}

impl Random {
    pub(super) const fn new(rule: ProbabilityRule) -> Self {
        Self { members: Members::new(), rule, thresholds: Vec::new() }
    }

    /// Walks the chain that kube-proxy would write for the usable backends, the first added first.
    fn walk_chain(&mut self, pool: &Pool, entropy: u64) -> Option<Slot> {
        let usable = || pool.iter_added().filter(|slot| pool[*slot].usable);
        let count = usable().count();
        for remaining in self.thresholds.len()..=count {
            self.thresholds.push(iptables_threshold(remaining));
        }
        let mut random = SplitMix64::new(entropy);
        let bounds = self.thresholds.get(..=count)?.iter().rev();
        usable().zip(bounds).find(|(_, bound)| ((random.next() >> 33) as u32) < **bound).map(|(slot, _)| slot)
    }
}

impl Engine for Random {
    fn added(&mut self, _pool: &Pool, _slot: Slot) {
        self.members.forget();
    }

    fn removed(&mut self, _pool: &Pool, _slot: Slot, _before: Slot) {
        self.members.forget();
    }

    fn edited(&mut self, _pool: &Pool, _slot: Slot) {}

    #[inline]
    fn first(&mut self, _pool: &Pool, request: &Request) -> Slot {
        self.members.at(request.entropy)
    }

    #[inline(never)]
    fn pick(&mut self, pool: &mut Pool, request: &Request, _now: Duration) -> Result<Choice, Missing> {
        let slot = match self.rule {
            ProbabilityRule::Uniform => {
                self.members.refresh(pool);
                self.members.draw(pool, request.entropy)
            }
            ProbabilityRule::IptablesChain => self.walk_chain(pool, request.entropy),
        };
        slot.map(Choice::scheduled).ok_or(Missing::USABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_chain_add_up_and_hardly_differ() {
        for count in [1, 2, 3, 7, 100, 1000] {
            let shares: Vec<f64> = (0..count).map(|index| iptables_share(index, count)).collect();
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let ideal = 1.0 / count as f64;
            let worst = shares.iter().map(|share| (share / ideal - 1.0).abs()).fold(0.0, f64::max);
            assert!(worst < count as f64 * 1e-9, "{count}: {worst}");
        }
    }
}
