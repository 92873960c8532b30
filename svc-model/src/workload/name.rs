//! Names as Kubernetes makes them up, but the same ones each time.

use alloc::string::String;
use core::fmt;

use smol_str::{SmolStr, format_smolstr};

/// The characters of generated names: no vowels, and no digits that look like them.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest prefix of a name that a suffix of five characters is put to (`names.SimpleNameGenerator`).
const MAX_PREFIX: usize = 58;

/// FNV-1a, 64 bits: a seed from text.
pub(super) fn seed(text: fmt::Arguments<'_>) -> u64 {
    struct Fnv(u64);
    impl fmt::Write for Fnv {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    // Writing to the hash cannot fail.
    let _ = fmt::write(&mut hash, text);
    mix(hash.0)
}

/// Spreads what distinguishes similar texts over all bits (the finish of SplitMix64).
pub(super) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Characters of generated names from a seed.
fn letters(mut seed: u64, length: usize) -> String {
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        let letter = usize::try_from(seed % ALPHABET.len() as u64).unwrap_or_default();
        text.push(char::from(ALPHABET.get(letter).copied().unwrap_or(b'x')));
        seed /= ALPHABET.len() as u64;
    }
    text
}

/// The hash that a revision of a template goes by: it follows from the workload, not from the template, so that an
/// edit does not rename all Pods.
pub(super) fn revision(kind: &str, namespace: &str, name: &str) -> SmolStr {
    letters(seed(format_args!("{kind}/{namespace}/{name}")), 10).into()
}

/// The name of the Pod of this number: the prefix, shortened if need be, and five characters. Those follow from kind,
/// prefix and number, and differ for all numbers of one kind and prefix.
pub(super) fn generated(kind: &str, prefix: &str, number: usize) -> SmolStr {
    // There are 3^15 words, so a step that 3 does not divide visits each of them once.
    const WORDS: u64 = 27_u64.pow(5);
    const STEP: u64 = 8_675_309;
    let word = (seed(format_args!("{kind}/{prefix}")) % WORDS + (number as u64 % WORDS) * STEP) % WORDS;
    let cut = prefix.char_indices().nth(MAX_PREFIX).map_or(prefix.len(), |(at, _)| at);
    let prefix = prefix.get(..cut).unwrap_or(prefix);
    format_smolstr!("{prefix}{}", letters(word, 5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn names_of_one_prefix_differ_and_come_again() {
        let names: BTreeSet<_> = (0..100_000).map(|number| generated("ReplicaSet", "web-", number)).collect();
        assert_eq!(names.len(), 100_000);
        assert_eq!(generated("ReplicaSet", "web-", 7), generated("ReplicaSet", "web-", 7));
        assert_ne!(generated("ReplicaSet", "web-", 7), generated("ReplicaSet", "api-", 7));
    }

    #[test]
    fn long_prefixes_are_cut_to_a_label() {
        let name = generated("Job", &"x".repeat(80), 0);
        assert_eq!(name.len(), 63);
    }
}
