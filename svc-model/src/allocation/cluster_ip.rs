//! Cluster addresses.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use smol_str::{SmolStr, ToSmolStr};

use super::bitmap::Bitmap;
use super::{AllocError, Band, Entropy, Numbers, static_band};
use crate::{IpFamily, ServiceCidr};

/// The shortest prefix of an IPv6 range.
const IPV6_MIN_PREFIX: u8 = 64;
/// The bitmap of older versions holds this many IPv6 addresses at most.
const BITMAP_MAX: u64 = 65_535;

/// A range of cluster addresses, such as `10.96.0.0/12`, and its bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterIpRange {
    net: IpNet,
    numbers: Numbers,
}

/// A range cannot hold cluster addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterIpRangeError {
    /// An IPv6 range is too large.
    #[error("the range {0} is too large: the shortest prefix of an IPv6 range is /64")]
    TooLarge(IpNet),
    /// The range is of the other family.
    #[error("the range {0} is not {1}")]
    OtherFamily(IpNet, IpFamily),
}

impl ClusterIpRange {
    /// A range. IPv4 ranges give neither network nor broadcast address away, IPv6 ranges not their first
    /// address; so a range can be without room, such as a /32.
    ///
    /// # Errors
    ///
    /// [`ClusterIpRangeError::TooLarge`] for an IPv6 prefix shorter than 64 (KEP-1880).
    pub fn new(net: IpNet) -> Result<Self, ClusterIpRangeError> {
        if matches!(net, IpNet::V6(_)) && net.prefix_len() < IPV6_MIN_PREFIX {
            return Err(ClusterIpRangeError::TooLarge(net));
        }
        Ok(Self::of_size(net, room(&net)))
    }

    /// A range as the bitmap allocator of Kubernetes up to 1.32 sees it: an IPv6 range may be of any size,
    /// but only its first 65535 addresses are used.
    pub fn bitmap(net: IpNet) -> Self {
        let room = room(&net);
        Self::of_size(net, if matches!(net, IpNet::V6(_)) { room.min(BITMAP_MAX) } else { room })
    }

    fn of_size(net: IpNet, size: u64) -> Self {
        // A sixteenth of the whole range, from 16 to 256 addresses.
        let host_bits = net.max_prefix_len() - net.prefix_len();
        let static_band = static_band(1u64.checked_shl(host_bits.into()).unwrap_or(u64::MAX), 16, 16, 256);
        Self {
            net: net.trunc(),
            numbers: Numbers { first: number(net.network()).saturating_add(1), size, static_band },
        }
    }

    /// The range as a network.
    pub fn net(&self) -> IpNet {
        self.net
    }

    /// The family of its addresses.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.net.addr())
    }

    /// How many addresses can be allocated.
    pub fn size(&self) -> u64 {
        self.numbers.size
    }

    /// The first address that can be allocated, if there is one.
    pub fn first(&self) -> Option<IpAddr> {
        (self.numbers.size > 0).then(|| address(self.family(), self.numbers.first))
    }

    /// The last address that can be allocated, if there is one.
    pub fn last(&self) -> Option<IpAddr> {
        (self.numbers.size > 0).then(|| address(self.family(), *self.numbers.span().end()))
    }

    /// How many addresses, from the first on, are in the static band.
    pub fn static_band(&self) -> u64 {
        self.numbers.static_band
    }

    /// The first address of the dynamic band, if there is one.
    pub fn dynamic_first(&self) -> Option<IpAddr> {
        let numbers = &self.numbers;
        (numbers.size > 0).then(|| address(self.family(), numbers.first + u128::from(numbers.static_band)))
    }

    /// The band of an address; `None` if it cannot be allocated from this range.
    pub fn band(&self, ip: IpAddr) -> Option<Band> {
        if IpFamily::of(ip) == self.family() { self.numbers.band_of(number(ip)) } else { None }
    }
}

impl fmt::Display for ClusterIpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.net.fmt(f)
    }
}

/// How many addresses of a network a Service can have.
fn room(net: &IpNet) -> u64 {
    match net {
        // Without network and broadcast address.
        IpNet::V4(net) => (1u64 << (32 - net.prefix_len())).saturating_sub(2),
        // Without the first address, the subnet's anycast address.
        IpNet::V6(net) => match 128 - net.prefix_len() {
            host_bits @ 0..64 => (1u64 << host_bits) - 1,
            64.. => u64::MAX,
        },
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        IpFamily::Ipv4 => Ipv4Addr::from_bits(number as u32).into(),
        IpFamily::Ipv6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// The cluster addresses of one family: one or more ranges, and what is taken of them.
///
/// Ranges may overlap: an address is taken once, whatever range it came from. Random picks come from the first
/// range that has room, in the order in which ranges were added (Kubernetes leaves that order open).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIpAllocator {
    family: IpFamily,
    ranges: Vec<ClusterIpRange>,
    used: Bitmap,
}

impl ClusterIpAllocator {
    /// An allocator without a range yet.
    pub fn new(family: IpFamily) -> Self {
        Self { family, ranges: Vec::new(), used: Bitmap::default() }
    }

    /// An allocator over the ranges of one family of the ServiceCIDR objects that can be used, in the order of
    /// their names. Ranges that mean nothing or are too large are left out, as they never get ready.
    pub fn from_service_cidrs<'a>(
        family: IpFamily,
        objects: impl IntoIterator<Item = &'a ServiceCidr>,
    ) -> Self {
        let mut objects: Vec<_> = objects.into_iter().filter(|object| object.is_usable()).collect();
        objects.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let nets = objects.iter().flat_map(|object| &object.spec.cidrs).filter_map(|cidr| cidr.get());
        let ranges = nets.filter_map(|net| ClusterIpRange::new(net).ok());
        Self { ranges: ranges.filter(|range| range.family() == family).collect(), ..Self::new(family) }
    }

    /// The family of the addresses.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// The ranges, in the order of random picks.
    pub fn ranges(&self) -> &[ClusterIpRange] {
        &self.ranges
    }

    /// Adds a range behind the others; one that is there already changes nothing.
    ///
    /// # Errors
    ///
    /// [`ClusterIpRangeError::OtherFamily`] for a range of the other family.
    pub fn add_range(&mut self, range: ClusterIpRange) -> Result<(), ClusterIpRangeError> {
        if range.family() != self.family {
            return Err(ClusterIpRangeError::OtherFamily(range.net, self.family));
        }
        if !self.ranges.contains(&range) {
            self.ranges.push(range);
        }
        Ok(())
    }

    /// Takes a range away. Addresses that came from it stay taken, until they are released.
    pub fn remove_range(&mut self, net: IpNet) {
        self.ranges.retain(|range| range.net != net.trunc());
    }

    /// Allocates an address that was asked for.
    ///
    /// # Errors
    ///
    /// [`AllocError::NotInRange`] and [`AllocError::Allocated`].
    pub fn allocate(&mut self, ip: IpAddr) -> Result<(), AllocError> {
        self.check_range(ip)?;
        if self.used.insert(number(ip)) {
            Ok(())
        } else {
            Err(AllocError::Allocated { value: ip.to_smolstr() })
        }
    }

    /// Whether some range has the address: what Kubernetes checks in a dry run. It does not look if the
    /// address is taken.
    ///
    /// # Errors
    ///
    /// [`AllocError::NotInRange`].
    pub fn check_range(&self, ip: IpAddr) -> Result<(), AllocError> {
        if self.ranges.iter().any(|range| range.band(ip).is_some()) {
            Ok(())
        } else {
            Err(AllocError::NotInRange { value: ip.to_smolstr(), range: self.names() })
        }
    }

    /// Allocates an address at random.
    ///
    /// # Errors
    ///
    /// [`AllocError::Full`].
    pub fn allocate_next(&mut self, entropy: &mut Entropy<'_>) -> Result<IpAddr, AllocError> {
        let picked = self.ranges.iter().find_map(|range| range.numbers.pick(&self.used, entropy));
        let picked = picked.ok_or_else(|| AllocError::Full { range: self.names() })?;
        self.used.insert(picked);
        Ok(address(self.family, picked))
    }

    /// What Kubernetes answers in a dry run instead of a random address: the first range's own address, which
    /// no Service can have. `None` without ranges.
    pub fn dry_run_next(&self) -> Option<IpAddr> {
        self.ranges.first().map(|range| range.net.network())
    }

    /// Gives an address back. Returns whether it was taken; one that was not, or that no range has, is fine.
    pub fn release(&mut self, ip: IpAddr) -> bool {
        IpFamily::of(ip) == self.family && self.used.remove(number(ip))
    }

    /// Whether an address is taken.
    pub fn has(&self, ip: IpAddr) -> bool {
        IpFamily::of(ip) == self.family && self.used.contains(number(ip))
    }

    /// How many addresses are taken.
    pub fn used(&self) -> usize {
        self.used.len()
    }

    /// How many addresses of the ranges are free. Addresses in two ranges count twice.
    ///
    /// Costs a walk over the words of the ranges that have taken addresses.
    pub fn free(&self) -> u64 {
        let free =
            |range: &ClusterIpRange| range.size().saturating_sub(self.used.count(&range.numbers.span()));
        self.ranges.iter().map(free).fold(0, u64::saturating_add)
    }

    /// The addresses that are taken, in order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.used.iter().map(|number| address(self.family, number))
    }

    fn names(&self) -> SmolStr {
        let mut names = String::new();
        for (i, range) in self.ranges.iter().enumerate() {
            if i > 0 {
                names.push_str(", ");
            }
            names.push_str(&range.to_smolstr());
        }
        if self.ranges.is_empty() { "(none)".into() } else { names.into() }
    }
}
