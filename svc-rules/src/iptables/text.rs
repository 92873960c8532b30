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
                let [a, b, c, d] = ip.octets();
                self.octet(a).text(".").octet(b).text(".").octet(c).text(".").octet(d)
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
        const SCALE: u64 = 10_000_000_000;
        let n = u64::from(n.max(1));
        let (mut digits, rest) = (SCALE / n, SCALE % n);
        // Printing the nearest double rounds to even on a tie, and a tie is exact only where 1/n is a double;
        // elsewhere the double lies closer to 1/n than 1/n can lie to a boundary.
        if 2 * rest == n {
            let _ = write!(Formatted(self), "{:.10}", 1.0 / n as f64);
            return self;
        }
        digits += u64::from(2 * rest > n);
        let mut text = *b"0.0000000000";
        if digits >= SCALE {
            text = *b"1.0000000000";
            digits -= SCALE;
        }
        for place in text.iter_mut().rev().take(10) {
            *place = b'0' + (digits % 10) as u8;
            digits /= 10;
        }
        self.bytes(&text)
    }
}

trait Octet {
    fn octet(&mut self, octet: u8) -> &mut Self;
}

impl Octet for Vec<u8> {
    #[inline]
    fn octet(&mut self, octet: u8) -> &mut Self {
        let (hundreds, tens, ones) = (octet / 100, octet / 10 % 10, octet % 10);
        if octet >= 100 {
            self.extend_from_slice(&[b'0' + hundreds, b'0' + tens, b'0' + ones]);
        } else if octet >= 10 {
            self.extend_from_slice(&[b'0' + tens, b'0' + ones]);
        } else {
            self.push(b'0' + ones);
        }
        self
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
        for ip in ["0.0.0.0", "10.180.0.1", "255.199.100.99", "::1", "fd00:10::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(written(|out| _ = out.ip(ip)), format!("{ip}"));
            assert_eq!(written(|out| _ = out.socket(ip, 65535)), format!("{}", SocketAddr::new(ip, 65535)));
        }
    }

    #[test]
    fn probabilities_as_printed_from_a_double() {
        for n in (1..100_000).chain([1 << 20, 10_240 * 5, u32::MAX]) {
            assert_eq!(written(|out| _ = out.one_in(n)), format!("{:.10}", 1.0 / f64::from(n)), "1/{n}");
        }
    }
}
