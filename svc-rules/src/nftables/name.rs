//! Names of chains and sets.

use alloc::string::String;
use core::fmt::Write;

use sha2::{Digest, Sha256};

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

/// The hash of a text, and the text as far as it may stand in a name: invalid characters become `_`.
fn hashed(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().take(5).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let digits = (0..8u32).rev().map(|shift| match (bits >> (5 * shift)) as u8 & 31 {
        letter @ 0..=25 => char::from(b'A' + letter),
        number => char::from(b'2' + (number - 26)),
    });
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    let shown = text.chars().map(|c| if harmless(c) { c } else { '_' });
    shorten(digits.chain(['-']).chain(shown).collect())
}

fn shorten(mut name: String) -> String {
    if name.len() > LONGEST {
        // Names are ASCII by now, so the cut falls between characters.
        name.truncate(LONGEST - 3);
        name.push_str("...");
    }
    name
}
