//! What a walk must know of the host besides its rules: addresses, routes, remembered clients and ipsets.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use ipnet::IpNet;
use smol_str::SmolStr;

use crate::ipset::IpSet;
use crate::outcome::{AffinityAction, AffinityUpdate};
use crate::packet::{is_limited_broadcast, is_loopback};

/// Class of an address on this host, as `addrtype` and `fib .. type` test it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressType {
    /// Any other host.
    Unicast,
    /// An address of this host.
    Local,
    /// A broadcast address of an attached network.
    Broadcast,
    /// A multicast group.
    Multicast,
}

/// An interface and its addresses; each address brings the route to its network with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name, at most 15 bytes.
    pub name: SmolStr,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// A route beyond the attached networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destinations it covers.
    pub network: IpNet,
    /// Interface that leads there.
    pub interface: SmolStr,
}

/// The host's side of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Host {
    /// Interfaces other than the loopback, which every host has.
    pub interfaces: Vec<Interface>,
    /// Routes; the longest prefix wins, the first of equals. Empty means that they are not known.
    pub routes: Vec<Route>,
    /// Sysctl `net.ipv4.conf.all.route_localnet`: loopback addresses may cross real interfaces.
    pub route_localnet: bool,
    /// Remembered clients.
    pub memory: Memory,
    /// ipsets by name.
    pub sets: BTreeMap<SmolStr, IpSet>,
    /// The present, on the clock of [`Memory`]'s stamps.
    pub now: Duration,
}

impl Host {
    /// A host with nothing but its loopback.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same host with one more interface.
    #[must_use]
    pub fn with_interface(
        mut self,
        name: impl Into<SmolStr>,
        addresses: impl IntoIterator<Item = IpNet>,
    ) -> Self {
        self.interfaces.push(Interface { name: name.into(), addresses: addresses.into_iter().collect() });
        self
    }

    /// The same host with one more route.
    #[must_use]
    pub fn with_route(mut self, network: IpNet, interface: impl Into<SmolStr>) -> Self {
        self.routes.push(Route { network, interface: interface.into() });
        self
    }

    /// Whether packets to `address` are for this host.
    pub fn is_local(&self, address: IpAddr) -> bool {
        is_loopback(address)
            || self.interfaces.iter().flat_map(|i| &i.addresses).any(|network| network.addr() == address)
    }

    /// The class of an address. As the kernel does it (`inet_addr_type`), only the local table is looked at: what is
    /// neither local, broadcast nor multicast is unicast, whether a route to it exists or not.
    pub fn address_type(&self, address: IpAddr) -> AddressType {
        if is_limited_broadcast(address) {
            AddressType::Broadcast
        } else if address.is_multicast() {
            AddressType::Multicast
        } else if self.is_local(address) {
            AddressType::Local
        } else if self.is_broadcast(address) {
            AddressType::Broadcast
        } else {
            AddressType::Unicast
        }
    }

    fn is_broadcast(&self, address: IpAddr) -> bool {
        self.interfaces.iter().flat_map(|i| &i.addresses).any(|network| {
            matches!(network, IpNet::V4(v4) if v4.prefix_len() < 31) && network.broadcast() == address
        })
    }

    /// The interface that leads to `address`: `lo` for the host's own, else by the longest matching prefix.
    pub fn route(&self, address: IpAddr) -> Option<SmolStr> {
        if self.is_local(address) {
            return Some(SmolStr::new_static("lo"));
        }
        let attached = self.interfaces.iter().flat_map(|i| i.addresses.iter().map(move |net| (net, &i.name)));
        let routed = self.routes.iter().map(|route| (&route.network, &route.interface));
        let mut best: Option<(u8, &SmolStr)> = None;
        for (network, name) in attached.chain(routed) {
            if network.contains(&address) && best.is_none_or(|(length, _)| network.prefix_len() > length) {
                best = Some((network.prefix_len(), name));
            }
        }
        best.map(|(_, name)| name.clone())
    }

    /// Where a packet to `address` leaves. Without any route given, nothing is said of addresses beyond the attached
    /// networks; with one, the table is taken as complete.
    pub(crate) fn egress(&self, address: IpAddr) -> Egress {
        match self.route(address) {
            Some(interface) => Egress::Interface(interface),
            None if self.routes.is_empty() => Egress::Unknown,
            None => Egress::NoRoute,
        }
    }

    /// Takes over what a walk says is to be remembered, as of [`Host::now`].
    pub fn remember(&mut self, updates: &[AffinityUpdate]) {
        for update in updates {
            self.memory.apply(update, self.now);
        }
    }
}

/// The way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Egress {
    Interface(SmolStr),
    Unknown,
    NoRoute,
}

/// Clients remembered by list: the `recent` lists of iptables and the dynamic sets of nftables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    lists: BTreeMap<SmolStr, BTreeMap<(IpAddr, SmolStr), Seen>>,
}

/// When a client was remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: Duration,
    /// For how long, where the list does not say it.
    pub(crate) timeout: Option<Duration>,
}

impl Memory {
    /// When the client was last remembered in this list, in whatever company.
    pub fn last_seen(&self, list: &str, address: IpAddr) -> Option<Duration> {
        let of_client = self.lists.get(list)?.range((address, SmolStr::default())..);
        of_client.take_while(|((of, _), _)| *of == address).map(|(_, seen)| seen.at).max()
    }

    pub(crate) fn find(&self, list: &str, address: IpAddr, rest: &str) -> Option<Seen> {
        self.lists.get(list)?.get(&(address, rest.into())).copied()
    }

    /// Carries out one update at time `now`.
    pub fn apply(&mut self, update: &AffinityUpdate, now: Duration) {
        match update.action {
            AffinityAction::Remember => {
                let seen = Seen { at: now, timeout: update.timeout };
                let key = (update.address, update.rest.clone());
                self.lists.entry(update.list.clone()).or_default().insert(key, seen);
            }
            AffinityAction::Forget => {
                if let Some(list) = self.lists.get_mut(&update.list) {
                    list.remove(&(update.address, update.rest.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host::new()
            .with_interface("eth0", ["192.0.2.10/24".parse().unwrap(), "2001:db8::10/64".parse().unwrap()])
            .with_route("10.244.1.0/24".parse().unwrap(), "cni0")
            .with_route("0.0.0.0/0".parse().unwrap(), "eth0")
            .with_route("10.244.1.7/32".parse().unwrap(), "veth7")
    }

    #[test]
    fn addresses_have_the_class_the_kernel_gives_them() {
        let host = host();
        let class = |text: &str| host.address_type(text.parse().unwrap());
        assert_eq!(class("192.0.2.10"), AddressType::Local);
        assert_eq!(class("127.3.4.5"), AddressType::Local);
        assert_eq!(class("::1"), AddressType::Local);
        assert_eq!(class("2001:db8::10"), AddressType::Local);
        assert_eq!(class("192.0.2.11"), AddressType::Unicast);
        assert_eq!(class("192.0.2.255"), AddressType::Broadcast);
        assert_eq!(class("255.255.255.255"), AddressType::Broadcast);
        assert_eq!(class("224.0.0.1"), AddressType::Multicast);
        assert_eq!(class("ff02::1"), AddressType::Multicast);
        assert_eq!(class("8.8.8.8"), AddressType::Unicast);
    }

    #[test]
    fn the_longest_prefix_leads() {
        let host = host();
        let route = |text: &str| host.route(text.parse().unwrap());
        assert_eq!(route("10.244.1.7").unwrap(), "veth7");
        assert_eq!(route("10.244.1.8").unwrap(), "cni0");
        assert_eq!(route("192.0.2.77").unwrap(), "eth0");
        assert_eq!(route("8.8.8.8").unwrap(), "eth0");
        assert_eq!(route("127.0.0.1").unwrap(), "lo");
        assert_eq!(route("2001:db9::1"), None);
    }
}
