//! The two ends of a connection. This program runs itself inside a namespace: as a server that tells who it is and
//! whom it sees, or as a client that tells what came of its attempts.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::sctp;

/// How long a client waits before it takes a packet for lost: long enough for a second SYN, since over a veth pair the
/// refusal of the first can arrive while the socket is still busy sending it, and is then forgotten.
const PATIENCE: Duration = Duration::from_millis(1300);

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// A server answered.
    Reply {
        /// Its name.
        server: String,
        /// The address from which it saw the client come.
        peer: IpAddr,
    },
    /// Connection refused.
    Refused,
    /// Nothing came back.
    Silence,
    /// Another error, in words.
    Error(String),
}

impl Answer {
    pub(crate) fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("reply"), Some(server), Some(peer)) => {
                Self::Reply { server: server.into(), peer: peer.parse().unwrap() }
            }
            (Some("refused"), ..) => Self::Refused,
            (Some("silence"), ..) => Self::Silence,
            _ => Self::Error(line.into()),
        }
    }
}

/// Runs the part of this program that the first argument names, if it does.
pub(crate) fn helper(arguments: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", name, ports @ ..] => serve(name, ports),
        ["connect", protocol, destination, count] => {
            for number in 0..count.parse::<u32>().unwrap() {
                println!("{}", connect(protocol, destination.parse().unwrap(), number));
            }
        }
        ["sysctl", settings @ ..] => {
            for setting in settings {
                let (key, value) = setting.split_once('=').unwrap();
                fs::write(format!("/proc/sys/{key}"), value)
                    .unwrap_or_else(|error| panic!("{setting}: {error}"));
            }
        }
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

/// Serves TCP, UDP and SCTP on every port, in both families, until its standard input is closed.
fn serve(name: &str, ports: &[&str]) {
    for port in ports {
        let port: u16 = port.parse().unwrap();
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        let greeting = name.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let peer = stream.peer_addr().map(|peer| peer.ip().to_canonical());
                if let Ok(peer) = peer {
                    let mut stream = stream;
                    let _ = stream.write_all(format!("{greeting} {peer}").as_bytes());
                }
            }
        });
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        let greeting = name.to_owned();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{greeting} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
        sctp::serve(name, port, true).unwrap();
        sctp::serve(name, port, false).unwrap();
    }
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
}

/// One attempt, the `number`th of this process.
fn connect(protocol: &str, destination: SocketAddr, number: u32) -> String {
    let result = match protocol {
        "tcp" => over_tcp(destination),
        "udp" => over_udp(destination),
        // Raw sockets have no ports of their own; each attempt is to be a connection of its own.
        "sctp" => {
            let port = 20_000 + std::process::id().wrapping_mul(64).wrapping_add(number) % 40_000;
            sctp::connect(port as u16, destination, PATIENCE)
        }
        other => panic!("protocol {other}"),
    };
    match result {
        Ok(text) => format!("reply {text}"),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => "refused".into(),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "silence".into(),
            _ => format!("error: {error}"),
        },
    }
}

fn over_tcp(destination: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&destination, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn over_udp(destination: SocketAddr) -> std::io::Result<String> {
    let any: IpAddr =
        if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(destination)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"?")?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
