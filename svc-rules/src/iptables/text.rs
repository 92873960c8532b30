//! Appending the words of rules to a buffer, without going through the formatting machinery where it counts.

use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};

/// Lets `write!` append to a byte buffer.
pub(crate) struct Formatted<'a>(pub(crate) &'a mut Vec<u8>);

impl Write for Formatted<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Appending words.
pub(crate) trait Text {
    fn text(&mut self, text: &str) -> &mut Self;
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self;
    fn number(&mut self, number: u32) -> &mut Self;
    fn ip(&mut self, ip: IpAddr) -> &mut Self;
    /// `ip:port`, the address in brackets when it is IPv6.
    fn socket(&mut self, ip: IpAddr, port: u16) -> &mut Self;
    /// The probability `1/n` with ten decimals.
    fn one_in(&mut self, n: u32) -> &mut Self;
}

impl Text for Vec<u8> {
    #[inline]
    fn text(&mut self, text: &str) -> &mut Self {
        self.extend_from_slice(text.as_bytes());
        self
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }

    #[inline]
    fn number(&mut self, number: u32) -> &mut Self {
        self.text(itoa::Buffer::new().format(number))
    }

    fn ip(&mut self, ip: IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(ip) => {
                let mut line = Dotted::default();
                ip.octets().into_iter().for_each(|octet| line.octet(octet));
                line.length = line.length.saturating_sub(1);
                self.bytes(line.as_bytes())
            }
            IpAddr::V6(ip) => {
                // Writing to a vector does not fail.
                let _ = write!(Formatted(self), "{ip}");
                self
            }
        }
    }

    fn socket(&mut self, ip: IpAddr, port: u16) -> &mut Self {
        match ip {
            IpAddr::V4(_) => self.ip(ip).text(":").number(port.into()),
            IpAddr::V6(_) => {
                let _ = write!(Formatted(self), "{}", SocketAddr::new(ip, port));
                self
            }
        }
    }

    fn one_in(&mut self, n: u32) -> &mut Self {
        if let Some(text) = usize::try_from(n).ok().and_then(|n| ONE_IN.get(n)) {
            return self.bytes(text);
        }
        let n = u64::from(n);
        let (digits, rest) = (SCALE / n, SCALE % n);
        // Printing the nearest double rounds to even on a tie, and a tie is exact only where 1/n is a double;
        // elsewhere the double lies closer to 1/n than 1/n can lie to a boundary.
        if 2 * rest == n {
            let _ = write!(Formatted(self), "{:.10}", 1.0 / n as f64);
            return self;
        }
        self.bytes(&decimals(digits + u64::from(2 * rest > n)))
    }
}

const SCALE: u64 = 10_000_000_000;

/// `0.` and ten digits; at most 1.
const fn decimals(mut digits: u64) -> [u8; 12] {
    let mut text = *b"0.0000000000";
    if digits >= SCALE {
        text = *b"1.0000000000";
        digits -= SCALE;
    }
    let mut rest = text.as_mut_slice();
    while let Some((last, before)) = rest.split_last_mut() {
        if *last == b'.' {
            break;
        }
        *last = b'0' + (digits % 10) as u8;
        digits /= 10;
        rest = before;
    }
    text
}

/// The probabilities of common numbers of endpoints. None of them is a tie.
static ONE_IN: [[u8; 12]; 257] = {
    let mut all = [decimals(SCALE); 257];
    let mut rest = all.as_mut_slice();
    while let Some((text, before)) = rest.split_last_mut() {
        let n = before.len() as u64;
        if n > 1 {
            *text = decimals(SCALE / n + (2 * (SCALE % n) > n) as u64);
        }
        rest = before;
    }
    all
};

/// Octets with a dot behind each, and how many bytes of it count.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut all = [([b'.'; 4], 0); 256];
    let mut rest = all.as_mut_slice();
    while let Some((text, before)) = rest.split_last_mut() {
        let octet = before.len() as u8;
        let (hundreds, tens, ones) = (b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10);
        *text = match octet {
            100.. => ([hundreds, tens, ones, b'.'], 4),
            10.. => ([tens, ones, b'.', b'.'], 3),
            _ => ([ones, b'.', b'.', b'.'], 2),
        };
        rest = before;
    }
    all
};

/// An IPv4 address with a dot at its end.
#[derive(Default)]
struct Dotted {
    bytes: [u8; 16],
    length: usize,
}

impl Dotted {
    #[inline]
    fn octet(&mut self, octet: u8) {
        let Some((text, length)) = OCTETS.get(usize::from(octet)) else { return };
        // Four octets always fit.
        if let Some(place) = self.bytes.get_mut(self.length..self.length + text.len()) {
            place.copy_from_slice(text);
            self.length += usize::from(*length);
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> alloc::string::String {
        let mut out = Vec::new();
        write(&mut out);
        alloc::string::String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_as_the_standard_library_prints_them() {
        for ip in
            ["0.0.0.0", "10.180.0.1", "255.199.100.99", "255.255.255.255", "9.10.99.100", "::1", "fd00:10::1"]
        {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(written(|out| _ = out.ip(ip)), format!("{ip}"));
            assert_eq!(written(|out| _ = out.socket(ip, 65535)), format!("{}", SocketAddr::new(ip, 65535)));
        }
    }

    #[test]
    fn probabilities_as_printed_from_a_double() {
        for n in (0..100_000).chain([1 << 20, 10_240 * 5, u32::MAX]) {
            assert_eq!(
                written(|out| _ = out.one_in(n)),
                format!("{:.10}", 1.0 / f64::from(n.max(1))),
                "1/{n}"
            );
        }
    }
}
