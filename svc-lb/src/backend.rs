//! What a caller says of a backend, and what it can read back.

use core::net::SocketAddr;

use thiserror::Error;

/// The greatest weight a backend may have (`int` in the kernel, and the limit `ipvsadm -w` states).
pub const MAX_WEIGHT: u32 = 2_147_483_647;

/// A backend as configured: where it listens, its share, and how many connections it may hold.
///
/// ```
/// use svc_lb::Backend;
///
/// let backend = Backend::new("10.2.0.1:80".parse()?).with_weight(3).with_thresholds(100, 75);
/// assert_eq!(backend.weight, 3);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Backend {
    /// Address and port. Port 0 means "the port the client asked for", as with firewall-mark services.
    pub address: SocketAddr,
    /// Share of new connections relative to the other backends, 0 to [`MAX_WEIGHT`]. 0 drains: no new
    /// connections, while affinity and existing connections stay.
    pub weight: u32,
    /// At this many connections (active and inactive) the backend takes no more; 0 for no limit
    /// (`ipvsadm -x`).
    pub upper_threshold: u32,
    /// A full backend takes connections again below this many; 0 for three quarters of
    /// `upper_threshold` (`ipvsadm -y`). Not above `upper_threshold`.
    pub lower_threshold: u32,
}

impl Backend {
    /// A backend of weight 1 without thresholds, which is what `ipvsadm -a` gives when told no more.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, weight: 1, upper_threshold: 0, lower_threshold: 0 }
    }

    /// The same with another [`weight`](Self::weight).
    #[must_use]
    pub const fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same with other thresholds; `(0, 0)` for none.
    #[must_use]
    pub const fn with_thresholds(mut self, upper: u32, lower: u32) -> Self {
        self.upper_threshold = upper;
        self.lower_threshold = lower;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.weight > MAX_WEIGHT {
            return Err(ConfigError::Weight { address: self.address, weight: self.weight });
        }
        if self.lower_threshold > self.upper_threshold {
            return Err(ConfigError::Thresholds {
                address: self.address,
                upper: self.upper_threshold,
                lower: self.lower_threshold,
            });
        }
        Ok(())
    }
}

/// Names one backend of one balancer, for as long as the balancer knows it.
///
/// The id of a removed backend stays good while connections of it live (and for two minutes at least); if
/// the same address is added again in that time it gets its old id back, with its counters. After
/// that the id names nothing, and never names another backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A backend as it stands in a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendState {
    /// Its name in this balancer.
    pub id: BackendId,
    /// As configured last.
    pub backend: Backend,
    /// Connections that carry traffic.
    pub active: u32,
    /// Connections that are closing, or of a protocol that is never active (UDP).
    pub inactive: u32,
    /// Whether and why it gets no new connections.
    pub availability: Availability,
}

/// Whether a backend takes new connections, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Availability {
    /// It does.
    Usable,
    /// Its weight is 0.
    Drained,
    /// It reached its upper threshold and has not yet fallen below the lower one (the kernel's
    /// `IP_VS_DEST_F_OVERLOAD`).
    Overloaded,
    /// The caller took it out ([`Balancer::eject`](crate::Balancer::eject)).
    Ejected,
    /// It was removed from the configuration; connections of it may live on.
    Removed,
}

/// Why a backend could not be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The weight does not fit the kernel's `int`.
    #[error("backend {address}: weight {weight} is above {MAX_WEIGHT}")]
    Weight {
        /// The backend.
        address: SocketAddr,
        /// What was asked for.
        weight: u32,
    },
    /// `lower_threshold` is above `upper_threshold`; the kernel answers `ERANGE`.
    #[error("backend {address}: lower threshold {lower} is above upper threshold {upper}")]
    Thresholds {
        /// The backend.
        address: SocketAddr,
        /// `upper_threshold`.
        upper: u32,
        /// `lower_threshold`.
        lower: u32,
    },
    /// The address is configured already; the kernel answers `EEXIST`.
    #[error("backend {address}: exists already")]
    Exists {
        /// The backend.
        address: SocketAddr,
    },
    /// No such backend is configured; the kernel answers `ENOENT`.
    #[error("backend {address}: not configured")]
    NotFound {
        /// The backend.
        address: SocketAddr,
    },
    /// The scheduler's lookup table has no room for another backend (Maglev: as many as table slots).
    #[error("backend {address}: the scheduler's table holds {limit} backends at most")]
    TableFull {
        /// The backend.
        address: SocketAddr,
        /// The table's limit.
        limit: u32,
    },
}
