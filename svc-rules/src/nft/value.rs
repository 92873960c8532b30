//! Reading values: addresses, ports, protocols, marks, flags, durations.

use core::net::IpAddr;
use core::time::Duration;

use ipnet::IpNet;

use super::model::{DataType, Datum, Expression};
use crate::packet::Transport;

/// `ct state` flags, as the kernel numbers them.
pub(super) const CT_STATES: [(&str, u32); 5] =
    [("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64)];

/// `ct status` flags (`enum ip_conntrack_status`).
pub(super) const CT_STATUS: [(&str, u32); 7] = [
    ("expected", 1),
    ("seen-reply", 2),
    ("assured", 4),
    ("confirmed", 8),
    ("snat", 16),
    ("dnat", 32),
    ("dying", 512),
];

/// Address classes (`RTN_*`).
pub(super) const FIB_TYPES: [(&str, u32); 9] = [
    ("unspec", 0),
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
];

/// Names of numbers that an expression gives.
pub(super) fn names(expression: &Expression) -> &'static [(&'static str, u32)] {
    match expression {
        Expression::CtState => &CT_STATES,
        Expression::CtStatus => &CT_STATUS,
        Expression::FibType(_) => &FIB_TYPES,
        _ => &[],
    }
}

/// Reads a datum of a known type.
pub(super) fn datum(text: &str, kind: DataType) -> Option<Datum> {
    match kind {
        DataType::Ipv4Addr | DataType::Ipv6Addr => {
            addresses(text).filter(|datum| is_v4(datum) == (kind == DataType::Ipv4Addr))
        }
        DataType::InetProto => Transport::parse(text).map(|transport| Datum::Number(transport.0.into())),
        DataType::InetService | DataType::Mark | DataType::Integer => numbers(text),
        DataType::IfName => Some(Datum::Text(text.into())),
        DataType::Verdict => None,
    }
}

/// Reads a datum of which nothing is known: an address or a number.
pub(super) fn any_datum(text: &str) -> Option<Datum> {
    numbers(text).or_else(|| addresses(text))
}

fn is_v4(datum: &Datum) -> bool {
    match datum {
        Datum::Address(address) | Datum::Addresses(address, _) => address.is_ipv4(),
        Datum::Network(network) => network.addr().is_ipv4(),
        _ => false,
    }
}

fn addresses(text: &str) -> Option<Datum> {
    if let Ok(address) = text.parse() {
        return Some(Datum::Address(address));
    }
    if let Some((first, last)) = text.split_once('-') {
        let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
        return (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Datum::Addresses(first, last));
    }
    text.parse().ok().map(network)
}

/// A network, or the address that it is if it has full length.
pub(super) fn network(network: IpNet) -> Datum {
    if network.prefix_len() == network.max_prefix_len() {
        Datum::Address(network.addr())
    } else {
        Datum::Network(network.trunc())
    }
}

fn numbers(text: &str) -> Option<Datum> {
    if let Some(number) = number(text) {
        return Some(Datum::Number(number));
    }
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(Datum::Numbers(first, last))
}

/// Decimal, or hexadecimal after `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `1d2h3m4s5ms`, any part of it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (amount, after) = rest.split_at_checked(digits)?;
        let amount: u64 = amount.parse().ok()?;
        let unit = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(unit)?;
        let part = match unit {
            "ms" => Duration::from_millis(amount),
            "s" => Duration::from_secs(amount),
            "m" => Duration::from_secs(amount.checked_mul(60)?),
            "h" => Duration::from_secs(amount.checked_mul(3_600)?),
            "d" => Duration::from_secs(amount.checked_mul(86_400)?),
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// `filter`, `dstnat - 10`, `-110`: words are given without blanks.
pub(super) fn priority(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let (name, offset) = text.split_at_checked(at)?;
    let base = match name {
        "raw" => -300,
        "mangle" => -150,
        "dstnat" => -100,
        "filter" => 0,
        "security" => 50,
        "srcnat" => 100,
        _ => return None,
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    i32::checked_add(base, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_type() {
        assert_eq!(datum("tcp", DataType::InetProto), Some(Datum::Number(6)));
        assert_eq!(datum("1-5", DataType::InetService), Some(Datum::Numbers(1, 5)));
        assert_eq!(datum("5-1", DataType::InetService), None);
        assert_eq!(datum("0x4000", DataType::Mark), Some(Datum::Number(0x4000)));
        assert_eq!(datum("10.0.0.9/32", DataType::Ipv4Addr), datum("10.0.0.9", DataType::Ipv4Addr));
        assert_eq!(datum("10.0.0.9/8", DataType::Ipv4Addr), datum("10.0.0.0/8", DataType::Ipv4Addr));
        assert_eq!(datum("fd00::1", DataType::Ipv4Addr), None);
        assert!(
            datum("10.0.0.1-10.0.0.9", DataType::Ipv4Addr).unwrap().covers(&any_datum("10.0.0.5").unwrap())
        );
    }

    #[test]
    fn durations_and_priorities_are_read_as_nft_writes_them() {
        assert_eq!(duration("3h"), Some(Duration::from_secs(10_800)));
        assert_eq!(duration("1d2h3m4s500ms"), Some(Duration::from_millis(93_784_500)));
        assert_eq!(duration(""), None);
        assert_eq!(duration("5"), None);
        assert_eq!(duration("99999999999999999999s"), None);
        assert_eq!(priority("dstnat-10"), Some(-110));
        assert_eq!(priority("filter"), Some(0));
        assert_eq!(priority("-110"), Some(-110));
        assert_eq!(priority("no"), None);
    }
}
