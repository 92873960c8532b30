//! Names of chains and sets.

use alloc::string::String;
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};
use svc_model::IpFamily;

use crate::plan::{Endpoint, ServicePort, protocol_word};

/// The kernel takes names of up to 255 bytes (`NFT_NAME_MAXLEN`); 16 are left for prefixes.
const LONGEST: usize = 240;

/// What the names of a port's chains end with: eight characters of a hash, then the port in full.
pub(super) fn of_port(service: &ServicePort) -> String {
    hashed(&port_text(service))
}

/// What the names of an endpoint's chain and set end with.
pub(super) fn of_endpoint(service: &ServicePort, endpoint: &Endpoint) -> String {
    let mut text = port_text(service);
    // A colon may not stand in a name; the reference replaces it before it hashes.
    let ip = alloc::format!("{}", endpoint.ip).replace(':', ".");
    let _ = write!(text, "__{ip}/{}", endpoint.port);
    hashed(&text)
}

fn port_text(service: &ServicePort) -> String {
    let (name, protocol) = (&service.name, protocol_word(service.protocol));
    alloc::format!("{}/{}/{protocol}/{}", name.namespace(), name.name(), name.port())
}

/// What the flat layout remembers of an endpoint of a port: a part of a hash, in the shape of an address.
///
/// It depends on nothing but names, address and port, so that it stays the same from one process to the next. Two
/// endpoints of one port have the same with a probability of 2^-32 (IPv4) or 2^-128 (IPv6): then a client that was sent to
/// one may be sent to the other. Of different ports it does no harm.
pub(super) fn token(service: &ServicePort, endpoint: &Endpoint, family: IpFamily) -> IpAddr {
    let mut text = port_text(service);
    let _ = write!(text, "__{}/{}", endpoint.ip, endpoint.port);
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().take(16).fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    match family {
        IpFamily::Ipv4 => Ipv4Addr::from((bits >> 96) as u32).into(),
        IpFamily::Ipv6 => Ipv6Addr::from(bits).into(),
    }
}

/// Eight characters of a text's hash.
pub(super) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().take(5).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let digits = (0..8u32).rev().map(|shift| match (bits >> (5 * shift)) as u8 & 31 {
        letter @ 0..=25 => char::from(b'A' + letter),
        number => char::from(b'2' + (number - 26)),
    });
    digits.collect()
}

/// The hash of a text, and the text as far as it may stand in a name: invalid characters become `_`.
fn hashed(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    let shown = text.chars().map(|c| if harmless(c) { c } else { '_' });
    shorten(hash(text).chars().chain(['-']).chain(shown).collect())
}

fn shorten(mut name: String) -> String {
    if name.len() > LONGEST {
        // Names are ASCII by now, so the cut falls between characters.
        name.truncate(LONGEST - 3);
        name.push_str("...");
    }
    name
}
