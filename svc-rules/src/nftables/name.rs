//! Names of chains and sets.

use alloc::string::String;
use core::fmt::Write;

use sha2::{Digest, Sha256};

use crate::plan::{Endpoint, ServicePort, protocol_word};

/// The kernel takes names of up to 255 bytes (`NFT_NAME_MAXLEN`); 16 are left for prefixes.
const LONGEST: usize = 240;

/// What the names of a port's chains end with: eight characters of a hash, then the port in full.
pub(super) fn of_port(service: &ServicePort) -> String {
    shorten(hashed(
        &port_text(service, service.name.as_str()),
        &port_text(service, service.name.as_safe_str()),
    ))
}

/// What the names of an endpoint's chain and set end with.
pub(super) fn of_endpoint(service: &ServicePort, endpoint: &Endpoint) -> String {
    // A colon may not stand in a name; the reference replaces it before it hashes.
    let ip = alloc::format!("{}", endpoint.ip).replace(':', ".");
    let with_endpoint = |mut text: String| {
        let _ = write!(text, "__{ip}/{}", endpoint.port);
        text
    };
    let raw = with_endpoint(port_text(service, service.name.as_str()));
    let safe = with_endpoint(port_text(service, service.name.as_safe_str()));
    shorten(hashed(&raw, &safe))
}

fn port_text(service: &ServicePort, name: &str) -> String {
    // The name is `namespace/name:port`, the colon with what follows left out for a port without a name.
    let service_name = name.split_once(':').map_or(name, |(service, _)| service);
    let port = name.split_once(':').map_or("", |(_, port)| port);
    alloc::format!("{service_name}/{}/{port}", protocol_word(service.protocol))
}

fn hashed(text: &str, shown: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().take(5).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let digits = (0..8u32).rev().map(|shift| match (bits >> (5 * shift)) as u8 & 31 {
        letter @ 0..=25 => char::from(b'A' + letter),
        number => char::from(b'2' + (number - 26)),
    });
    digits.chain(['-']).chain(shown.chars()).collect()
}

fn shorten(mut name: String) -> String {
    if name.len() > LONGEST {
        // Names are ASCII by now, so the cut falls between characters.
        name.truncate(LONGEST - 3);
        name.push_str("...");
    }
    name
}
