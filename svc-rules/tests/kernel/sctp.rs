//! The first two packets of an SCTP association (RFC 9260), INIT and INIT ACK, written by hand onto raw sockets.
//!
//! So SCTP can be tried in kernels that have no SCTP of their own: netfilter and IPVS track, translate and refuse such
//! packets all the same. The greeting travels in the state cookie of the INIT ACK.

use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

const SCTP: i32 = 132;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Parameter of an INIT ACK.
const STATE_COOKIE: u16 = 7;
/// Bytes before the first chunk, and of an INIT or INIT ACK before its first parameter.
const HEADER: usize = 12;
const FIXED: usize = 20;

/// A raw socket, as the standard library's type that sends and receives datagrams. It binds no port.
fn raw(ipv4: bool) -> Result<UdpSocket> {
    let domain = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
    Ok(Socket::new(domain, Type::RAW, Some(Protocol::from(SCTP)))?.into())
}

/// An INIT or INIT ACK.
struct Packet {
    from: u16,
    to: u16,
    /// Zero in an INIT; the other end's initiate tag in the answer.
    tag: u32,
    kind: u8,
    /// The tag that answers must carry.
    initiate_tag: u32,
    cookie: Vec<u8>,
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut parameter = Vec::new();
        if !self.cookie.is_empty() {
            parameter.extend(STATE_COOKIE.to_be_bytes());
            parameter.extend((self.cookie.len() as u16 + 4).to_be_bytes());
            parameter.extend(&self.cookie);
        }
        let length = (FIXED + parameter.len()) as u16;
        parameter.resize(parameter.len().next_multiple_of(4), 0);
        let mut bytes = Vec::new();
        bytes.extend(self.from.to_be_bytes());
        bytes.extend(self.to.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.kind, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.initiate_tag.to_be_bytes());
        // A window, one stream each way, and the first sequence number.
        bytes.extend(65_536u32.to_be_bytes());
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(1u32.to_be_bytes());
        bytes.extend(parameter);
        let checksum = crc32c(&bytes).to_le_bytes();
        bytes[8..HEADER].copy_from_slice(&checksum);
        bytes
    }

    /// `None` where it is none of the two, or its checksum is wrong.
    fn parse(received: &[u8], ipv4: bool) -> Option<Self> {
        // A raw socket of IPv4 is given the IP header, too.
        let skipped = if ipv4 { usize::from(received.first()? & 15) * 4 } else { 0 };
        let mut bytes = received.get(skipped..)?.to_vec();
        let short =
            |at: usize| Some(u16::from_be_bytes(received.get(skipped + at..)?.get(..2)?.try_into().ok()?));
        let long =
            |at: usize| Some(u32::from_be_bytes(received.get(skipped + at..)?.get(..4)?.try_into().ok()?));
        let checksum = long(8)?.to_be_bytes();
        bytes.get_mut(8..HEADER)?.fill(0);
        let kind = *bytes.get(HEADER)?;
        if crc32c(&bytes).to_le_bytes() != checksum || !matches!(kind, INIT | INIT_ACK) {
            return None;
        }
        let parameter = HEADER + FIXED;
        let cookie = match short(parameter) {
            Some(STATE_COOKIE) => {
                bytes.get(parameter + 4..parameter + usize::from(short(parameter + 2)?))?.to_vec()
            }
            _ => Vec::new(),
        };
        Some(Self { from: short(0)?, to: short(2)?, tag: long(4)?, kind, initiate_tag: long(16)?, cookie })
    }
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// Answers every INIT to the port, in one family, with a greeting and the address that it came from.
pub(crate) fn serve(greeting: &str, port: u16, ipv4: bool) -> Result<()> {
    let socket = raw(ipv4)?;
    let greeting = greeting.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            match Packet::parse(&buffer[..length], ipv4) {
                Some(init) if init.kind == INIT && init.to == port => {
                    let cookie = format!("{greeting} {}", peer.ip()).into_bytes();
                    let tag = init.initiate_tag;
                    let answer =
                        Packet { from: port, to: init.from, tag, kind: INIT_ACK, initiate_tag: 2, cookie };
                    let _ = socket.send_to(&answer.bytes(), peer);
                }
                _ => {}
            }
        }
    });
    Ok(())
}

/// Sends an INIT from the port, again while nothing comes back, and returns the cookie of the INIT ACK.
pub(crate) fn connect(from: u16, to: SocketAddr, patience: Duration) -> Result<String> {
    let socket = raw(to.is_ipv4())?;
    socket.connect(SocketAddr::new(to.ip(), 0))?;
    let init = Packet { from, to: to.port(), tag: 0, kind: INIT, initiate_tag: 1, cookie: Vec::new() };
    let start = Instant::now();
    let mut buffer = [0; 256];
    while start.elapsed() < patience {
        socket.send(&init.bytes())?;
        let sent = Instant::now();
        while let Some(left) = (patience / 3).checked_sub(sent.elapsed()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut buffer) {
                Ok(length) => match Packet::parse(&buffer[..length], to.is_ipv4()) {
                    Some(answer)
                        if answer.kind == INIT_ACK && (answer.from, answer.to) == (to.port(), from) =>
                    {
                        return Ok(String::from_utf8_lossy(&answer.cookie).into_owned());
                    }
                    _ => {}
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Err(ErrorKind::TimedOut.into())
}
