//! Reverse names: addresses under `in-addr.arpa` (RFC 1035) and `ip6.arpa` (RFC 3596).

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::name::{Labels, Name, NameError, below};

const IN_ADDR: &[u8] = b"\x07in-addr\x04arpa\0";
const IP6: &[u8] = b"\x03ip6\x04arpa\0";

/// The name under which the PTR records of an address stand.
///
/// ```
/// let name = svc_dns::reverse_name("10.96.0.10".parse().unwrap());
/// assert_eq!(name.to_string(), "10.0.96.10.in-addr.arpa.");
/// ```
#[must_use]
pub fn reverse_name(addr: IpAddr) -> Name {
    prefix_name(addr, 128)
}

/// The reverse name of the first `bits` of an address, on a label border (8 bits in IPv4, 4 in IPv6), rounded down.
fn prefix_name(addr: IpAddr, bits: u8) -> Name {
    let mut wire = Vec::with_capacity(74);
    match addr {
        IpAddr::V4(v4) => {
            let labels = usize::from(bits / 8).min(4);
            for octet in v4.octets().iter().take(labels).rev() {
                let mut digits = itoa::Buffer::new();
                push(&mut wire, digits.format(*octet).as_bytes());
            }
            wire.extend_from_slice(IN_ADDR);
        }
        IpAddr::V6(v6) => {
            let value = u128::from(v6);
            let labels = u32::from(bits / 4).min(32);
            for index in (0..labels).rev() {
                let nibble = (value >> (124 - 4 * index)) & 0xf;
                let digit = char::from_digit(u32::try_from(nibble).unwrap_or_default(), 16).unwrap_or('0');
                push(&mut wire, &[u8::try_from(digit).unwrap_or(b'0')]);
            }
            wire.extend_from_slice(IP6);
        }
    }
    // At most 32 labels of 2 bytes and 10 more: always a name.
    Name::from_wire(&wire).unwrap_or_else(|_| Name::root())
}

fn push(wire: &mut Vec<u8>, label: &[u8]) {
    wire.push(u8::try_from(label.len()).unwrap_or_default());
    wire.extend_from_slice(label);
}

/// Whether a zone in wire form is `in-addr.arpa`, `ip6.arpa` or below.
pub(crate) fn is_reverse(zone: &[u8]) -> bool {
    below(zone, IN_ADDR).or_else(|| below(zone, IP6)).is_some()
}

/// The address that a reverse name stands for, if it is a whole one.
///
/// As CoreDNS reads it: octets without leading zeros; of an IPv6 name the 32 labels nearest to the root count and up to three
/// more are ignored; an IPv4-mapped address is its IPv4 address. `extra` says whether ignored labels are let pass.
pub(crate) fn address(name: &[u8], extra: Extra) -> Option<IpAddr> {
    if let Some(at) = below(name, IN_ADDR) {
        let mut octets = [0u8; 4];
        let mut labels = Labels(name.get(..at)?);
        for octet in octets.iter_mut().rev() {
            *octet = decimal(labels.next()?)?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let at = below(name, IP6)?;
    let labels = Labels(name.get(..at)?);
    let count = labels.clone().count();
    let skip = count.checked_sub(32)?;
    if skip > 3 || (skip > 0 && extra == Extra::Refused) {
        return None;
    }
    let mut value = 0u128;
    for (index, label) in labels.skip(skip).enumerate() {
        let [digit] = label else { return None };
        value |= u128::from(char::from(*digit).to_digit(16)?) << (4 * index);
    }
    Some(IpAddr::V6(Ipv6Addr::from(value)).to_canonical())
}

/// Whether labels left of a whole IPv6 reverse name are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    Ignored,
    Refused,
}

fn decimal(label: &[u8]) -> Option<u8> {
    match label {
        [b'0', _, ..] | [_, _, _, _, ..] => None,
        _ => label.iter().try_fold(0u8, |value, byte| {
            let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
            value.checked_mul(10)?.checked_add(digit)
        }),
    }
}

/// The reverse zones that a network covers: one on a label border, as many as needed for the next border otherwise.
///
/// `10.0.0.0/23` gives `0.0.10.in-addr.arpa.` and `1.0.10.in-addr.arpa.`, as CoreDNS splits it.
#[must_use]
pub fn reverse_zones(net: IpNet) -> Vec<Name> {
    let step = if net.addr().is_ipv4() { 8 } else { 4 };
    let border = net.prefix_len().next_multiple_of(step);
    match net.subnets(border) {
        Ok(subnets) => subnets.map(|subnet| prefix_name(subnet.addr(), border)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Reads a zone as a Corefile gives it: a name, or a network that stands for its reverse zones; a port and a `dns://` are cut.
///
/// # Errors
/// The text is neither.
pub fn zones_from_text(text: &str) -> Result<Vec<Name>, NameError> {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = match text.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    };
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(reverse_zones(net.trunc()));
    }
    Ok(alloc::vec![text.parse::<Name>()?.to_lowercase()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn zones(text: &str) -> Vec<String> {
        zones_from_text(text).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn networks_become_zones() {
        assert_eq!(zones("10.0.0.0/23"), ["0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa."]);
        assert_eq!(zones("10.0.0.0/8"), ["10.in-addr.arpa."]);
        assert_eq!(zones("0.0.0.0/0"), ["in-addr.arpa."]);
        assert_eq!(zones("1234:abcd::0/64"), ["0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa."]);
        assert_eq!(zones("fd00::/7").len(), 2);
        assert_eq!(zones("Cluster.local"), ["cluster.local."]);
        assert_eq!(zones("dns://cluster.local:1053"), ["cluster.local."]);
        assert!(zones_from_text("a..b").is_err());
    }

    #[test]
    fn addresses_there_and_back() {
        for text in ["10.96.0.10", "255.0.0.1", "fd00::a", "1234:abcd::1"] {
            let addr: IpAddr = text.parse().unwrap();
            assert_eq!(address(reverse_name(addr).wire(), Extra::Refused), Some(addr));
        }
        for bad in
            ["01.0.0.10.in-addr.arpa", "256.0.0.10.in-addr.arpa", "0.0.10.in-addr.arpa", "a.ip6.arpa", "x.y"]
        {
            assert_eq!(address(bad.parse::<Name>().unwrap().wire(), Extra::Ignored), None, "{bad}");
        }
        let long: Name = alloc::format!("x.{}", reverse_name("fd00::a".parse().unwrap())).parse().unwrap();
        assert_eq!(address(long.wire(), Extra::Ignored), Some("fd00::a".parse().unwrap()));
        assert_eq!(address(long.wire(), Extra::Refused), None);
        assert!(is_reverse(IN_ADDR) && is_reverse(reverse_name("1.2.3.4".parse().unwrap()).wire()));
    }
}
