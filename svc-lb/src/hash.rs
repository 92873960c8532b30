//! The kernel's hashes, and SipHash for the tables that are our own.

use core::net::{IpAddr, SocketAddr};

/// An address as the kernel's schedulers see it: IPv4 in host order, IPv6 as the exclusive or of its four
/// 32-bit words (`ip_vs_sh_hashkey` and its siblings).
#[inline]
pub(crate) const fn fold(address: &SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_bits(),
        SocketAddr::V6(v6) => {
            let bits = v6.ip().to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// An address as one map key: IPv4 as its IPv4-mapped IPv6 form.
pub(crate) fn widen(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Address and port as one 64-bit number for our own tables.
#[inline]
pub(crate) fn address_hash(address: SocketAddr, salt: u64) -> u64 {
    let mut sip = SipState::new(salt, 0x7376_635f_6c62);
    let port = u64::from(address.port());
    match address.ip() {
        IpAddr::V4(v4) => sip.finish(u64::from(v4.to_bits()) | (port << 32) | (6 << 56)),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            sip.word((bits >> 64) as u64);
            sip.word(bits as u64);
            sip.finish(port | (18 << 56))
        }
    }
}

/// `hash_32` of the kernel's `linux/hash.h`: the golden-ratio multiplier, then the top `bits` bits.
pub(crate) const fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61C8_8647) >> (32 - bits)
}

/// `hsiphash` of one 32-bit word on a 64-bit kernel: SipHash-1-3, cut to its low half, with both words
/// of the key equal (as `mh` keys it).
///
/// The state is that of a key, with what the first round does to it before the word matters already done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordHasher {
    v0: u64,
    v1: u64,
    /// `v1` once more, as the second half of the round turns it.
    v1_turned: u64,
    v2: u64,
    v3: u64,
}

impl WordHasher {
    pub(crate) const fn new(key: u64) -> Self {
        let SipState { v0, v1, v2, v3 } = SipState::new(key, key);
        let sum = v0.wrapping_add(v1);
        let v1 = v1.rotate_left(13) ^ sum;
        Self { v0: sum.rotate_left(32), v1, v1_turned: v1.rotate_left(17), v2, v3 }
    }

    #[inline]
    pub(crate) const fn hash(&self, value: u32) -> u32 {
        let word = value as u64 | (4 << 56);
        let v3 = self.v3 ^ word;
        let v2 = self.v2.wrapping_add(v3);
        let v3 = v3.rotate_left(16) ^ v2;
        let v0 = self.v0.wrapping_add(v3);
        let v3 = v3.rotate_left(21) ^ v0;
        let v2 = v2.wrapping_add(self.v1);
        let v1 = self.v1_turned ^ v2;
        SipState { v0: v0 ^ word, v1, v2: v2.rotate_left(32), v3 }.end() as u32
    }
}

/// SipHash-1-3 (Aumasson and Bernstein) over whole words; the last one carries the length on top.
#[derive(Clone, Copy)]
struct SipState {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipState {
    #[inline]
    const fn new(k0: u64, k1: u64) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline]
    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline]
    const fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline]
    const fn finish(mut self, last: u64) -> u64 {
        self.word(last);
        self.end()
    }

    #[inline]
    const fn end(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher as _;

    /// The standard library's unkeyed hasher is SipHash-1-3 too, so it serves as the twin.
    #[test]
    fn agrees_with_the_standard_librarys_siphash() {
        extern crate std;
        for value in [0_u32, 1, 0x0ac8_0001, u32::MAX] {
            let mut default = std::collections::hash_map::DefaultHasher::new();
            default.write(&value.to_le_bytes());
            let ours = SipState::new(0, 0).finish(u64::from(value) | (4 << 56));
            assert_eq!(ours, default.finish());
            assert_eq!(WordHasher::new(0).hash(value), ours as u32);
        }
    }

    #[test]
    fn folds_both_families() {
        assert_eq!(fold(&SocketAddr::from(([10, 1, 2, 3], 80))), 0x0a01_0203);
        let v6: SocketAddr = "[1:2:3:4:5:6:7:8]:80".parse().unwrap();
        assert_eq!(fold(&v6), 0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006 ^ 0x0007_0008);
    }
}
