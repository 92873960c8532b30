//! Graceful removal: no new connections, then wait for the old ones or a deadline.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::backend::{Backend, BackendId, ConfigError};
use crate::balancer::Balancer;

/// Backends on their way out of a [`Balancer`].
///
/// [`start`](Self::start) sets a backend's weight to 0: clients with affinity keep it, new ones go elsewhere, and a
/// Maglev table or ring stays as it is, so that no other client moves yet. Then call
/// [`advance`](Self::advance) now and then, at the latest at [`next_deadline`](Self::next_deadline); it removes
/// those that are done and says how they ended.
///
/// ```
/// use std::time::Duration;
/// use svc_lb::{Backend, Balancer, DrainOutcome, Drains, Request};
///
/// let mut balancer = Balancer::new("rr".parse()?);
/// let address = "10.2.0.1:80".parse()?;
/// balancer.add(Backend::new(address), Duration::ZERO)?;
/// let connection = balancer.connect(&Request::new("10.200.0.7:40312".parse()?))?;
///
/// let mut drains = Drains::new();
/// drains.start(&mut balancer, address, Duration::from_secs(60))?;
/// assert!(drains.advance(&mut balancer, Duration::from_secs(10)).is_empty());
///
/// balancer.release(connection, Duration::from_secs(11));
/// let done = drains.advance(&mut balancer, Duration::from_secs(12));
/// assert_eq!(done, [(address, DrainOutcome::Idle)]);
/// assert!(balancer.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drains {
    /// In the order of starting.
    draining: Vec<Drain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Drain {
    address: SocketAddr,
    id: BackendId,
    deadline: Duration,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrainOutcome {
    /// All its connections were released; it is removed.
    Idle,
    /// The deadline passed with this many connections left; it is removed, and they live on.
    Deadline {
        /// Active and inactive ones.
        connections: u32,
    },
    /// It was given a weight again, or removed by someone else; nothing was done.
    Cancelled,
}

impl Drains {
    /// None yet.
    pub const fn new() -> Self {
        Self { draining: Vec::new() }
    }

    /// Begins to drain a backend. Once begun, a second start only changes the deadline.
    ///
    /// # Errors
    /// If no such backend is configured.
    pub fn start(
        &mut self,
        balancer: &mut Balancer,
        address: SocketAddr,
        deadline: Duration,
    ) -> Result<(), ConfigError> {
        let state = balancer.find(address).ok_or(ConfigError::NotFound { address })?;
        if state.backend.weight > 0 {
            balancer.edit(Backend { weight: 0, ..state.backend })?;
        }
        let drain = Drain { address, id: state.id, deadline };
        match self.draining.iter_mut().find(|known| known.id == state.id) {
            Some(known) => *known = drain,
            None => self.draining.push(drain),
        }
        Ok(())
    }

    /// Removes the backends whose connections are gone or whose deadline has come, and tells how each ended, in
    /// the order of starting.
    pub fn advance(&mut self, balancer: &mut Balancer, now: Duration) -> Vec<(SocketAddr, DrainOutcome)> {
        let mut done = Vec::new();
        self.draining.retain(|drain| {
            let state = balancer.find(drain.address).filter(|state| state.id == drain.id);
            let connections = state.map_or(0, |state| state.active.saturating_add(state.inactive));
            let outcome = match state {
                Some(state) if state.backend.weight == 0 => {
                    if connections > 0 && now < drain.deadline {
                        return true;
                    }
                    // It was found just now, so it can be removed.
                    let _ = balancer.remove(drain.address, now);
                    if connections == 0 { DrainOutcome::Idle } else { DrainOutcome::Deadline { connections } }
                }
                _ => DrainOutcome::Cancelled,
            };
            done.push((drain.address, outcome));
            false
        });
        done
    }

    /// When [`advance`](Self::advance) must be called at the latest.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.draining.iter().map(|drain| drain.deadline).min()
    }

    /// The backends that drain now.
    pub fn draining(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.draining.iter().map(|drain| drain.address)
    }
}
