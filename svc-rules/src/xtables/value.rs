//! Reading values: addresses, ports, marks, probabilities.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use super::model::{Net, PortRange, Target};
use crate::ipset::Side;
use crate::packet::Family;

/// `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]:PORT`; ranges are left to stand in their words.
pub(super) fn parse_socket(text: &str, family: Family) -> Option<Target> {
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port),
            None if port.is_empty() => None,
            None => return None,
        };
        (parse_address(address)?, port)
    } else {
        match text.split_once(':') {
            Some((address, port)) if family == Family::V4 => (parse_address(address)?, Some(port)),
            _ => (parse_address(text)?, None),
        }
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    (Family::of(address) == family).then_some(Target::Dnat { address, port })
}

pub(super) fn parse_net(text: &str) -> Option<Net> {
    let Some((address, mask)) = text.split_once('/') else {
        return parse_address(text).map(|address| Net::new(address, u8::MAX));
    };
    let address = parse_address(address)?;
    match mask.parse::<u8>() {
        Ok(prefix) => (prefix <= Family::of(address).bits()).then(|| Net::new(address, prefix)),
        Err(_) => Net::masked(address, parse_address(mask)?),
    }
}

/// An address. Four plain decimal numbers are read here, since most words of most rules are such.
fn parse_address(text: &str) -> Option<IpAddr> {
    let mut octets = [0u32; 4];
    let mut parts = octets.iter_mut();
    let mut part = parts.next()?;
    let mut digits = 0;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' if digits < 3 => {
                *part = *part * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 => {
                part = parts.next()?;
                digits = 0;
            }
            _ => return text.parse().ok(),
        }
    }
    if digits == 0 || parts.next().is_some() {
        return None;
    }
    let [a, b, c, d] = octets.map(u8::try_from);
    Some(IpAddr::V4(Ipv4Addr::new(a.ok()?, b.ok()?, c.ok()?, d.ok()?)))
}

pub(super) fn parse_ports(text: &str) -> Option<PortRange> {
    match text.split_once(':') {
        None => text.parse().ok().map(|port| PortRange { first: port, last: port }),
        Some((first, last)) => {
            let first = if first.is_empty() { 0 } else { first.parse().ok()? };
            let last = if last.is_empty() { u16::MAX } else { last.parse().ok()? };
            (first <= last).then_some(PortRange { first, last })
        }
    }
}

/// `VALUE` or `VALUE/MASK`, decimal, octal or hexadecimal as C writes them.
pub(super) fn parse_marks(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once('/') {
        None => parse_c_number(text).map(|value| (value, None)),
        Some((value, mask)) => Some((parse_c_number(value)?, Some(parse_c_number(mask)?))),
    }
}

fn parse_c_number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// A probability as the kernel keeps it: rounded to a multiple of 2^-31.
pub(super) fn parse_probability(text: &str) -> Option<u32> {
    let probability: f64 = text.parse().ok()?;
    if !(0.0..=1.0).contains(&probability) {
        return None;
    }
    // In range by the check above, and rounding to nearest by adding a half.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= probability <= 1")]
    Some((probability * 2_147_483_648.0 + 0.5) as u32)
}

pub(super) fn parse_sides(text: &str) -> Option<Vec<Side>> {
    text.split(',')
        .map(|side| match side {
            "src" => Some(Side::Source),
            "dst" => Some(Side::Destination),
            _ => None,
        })
        .collect()
}
