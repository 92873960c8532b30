//! Addresses and ranges: what the API accepts as new, and what it tolerates because it was there before.
//!
//! Fields that are older than strict parsing take the "legacy" forms where the cluster is not strict
//! (KEP-4858), and always where the old object has the very same text.

use core::net::IpAddr;

use ipnet::IpNet;

use super::path::Path;
use super::problems::Problems;
use crate::{Compat, Sent};

const NOT_AN_IP: &str = "must be an IP address, such as 10.9.8.7 or 2001:db8::ffff";
const NOT_A_RANGE: &str = "must be an address range, such as 10.9.8.0/24 or 2001:db8::/64";

/// Checks an address. Returns whether it passed.
pub(super) fn ip(
    problems: &mut Problems,
    path: &Path<'_>,
    sent: &Sent<IpAddr>,
    old: &[Sent<IpAddr>],
    compat: Compat,
) -> bool {
    let problem = match sent {
        // Canonical text: neither mapped nor with leading zeros.
        Sent::Value(_) => return true,
        Sent::Text(_) if old.contains(sent) => return true,
        Sent::Text(_) if sent.get().is_none() => NOT_AN_IP,
        Sent::Text(_) if !compat.strict_ip_validation => return true,
        Sent::Text(text) => match text.parse::<IpAddr>() {
            Err(_) => "must not have leading zeros",
            Ok(ip) if ip.to_canonical() != ip => "must not be an IPv4-mapped IPv6 address",
            Ok(_) => return true,
        },
    };
    problems.invalid(path, sent, problem);
    false
}

/// Checks a range. `sent` may stand in for a padded text; `old` holds the texts of the old object.
pub(super) fn range(
    problems: &mut Problems,
    path: &Path<'_>,
    sent: &Sent<IpNet>,
    old: &[Sent<IpNet>],
    compat: Compat,
) -> bool {
    if old.contains(sent) {
        return true;
    }
    let problem = match sent.get() {
        None => NOT_A_RANGE,
        Some(_) if !compat.strict_ip_validation => return true,
        Some(_) if sent_with_zeros(sent) => "must not have leading zeros in address or prefix length",
        Some(net) if net.addr().to_canonical() != net.addr() => "must not have an IPv4-mapped IPv6 address",
        Some(net) if net.addr() != net.network() => "must not have bits set beyond the prefix length",
        Some(_) => return true,
    };
    problems.invalid(path, sent, problem);
    false
}

/// Checks a range as CEL's `isCIDR` does: never in a legacy form, but host bits are fine.
pub(super) fn strict_range_with_host_bits(problems: &mut Problems, path: &Path<'_>, sent: &Sent<IpNet>) {
    let strict = |net: IpNet| net.addr().to_canonical() == net.addr() && !sent_with_zeros(sent);
    if !sent.get().is_some_and(strict) {
        problems.invalid(path, sent, NOT_A_RANGE);
    }
}

fn sent_with_zeros(sent: &Sent<IpNet>) -> bool {
    let Sent::Text(text) = sent else { return false };
    text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'))
    })
}

/// Refuses addresses that no remote endpoint can have: unspecified, loopback, link-local.
pub(super) fn not_special(problems: &mut Problems, path: &Path<'_>, sent: &Sent<IpAddr>) {
    let Some(ip) = sent.get() else { return problems.invalid(path, sent, NOT_AN_IP) };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets().starts_with(&[224, 0, 0])),
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.octets();
            (ip.is_unicast_link_local(), first == 0xff && second & 0x0f == 0x02)
        }
    };
    for (is, problem) in [
        (ip.is_unspecified(), "must not be the unspecified address"),
        (ip.is_loopback(), "must not be in the loopback range (127.0.0.0/8, ::1)"),
        (link_local, "must not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (link_local_multicast, "must not be in the link-local multicast range (224.0.0.0/24, ff02::/16)"),
    ] {
        if is {
            problems.invalid(path, sent, problem);
        }
    }
}
