//! What runs in each namespace: servers on the ports, and a client that tries connections on demand.

use std::io::{BufRead, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// Ports that are served.
pub(crate) const PORTS: [u16; 2] = [80, 81];

/// Reads lines of probes, `tcp|udp ADDRESS SOURCE-PORT` separated by `;` after a time in milliseconds, and answers each
/// line with a digit for each probe: 1 for open.
pub(crate) fn run() {
    for port in PORTS {
        // Takes IPv4 as well.
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let tcp = TcpListener::bind(any).unwrap();
        thread::spawn(move || tcp.incoming().for_each(drop));
        let udp = UdpSocket::bind(any).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 16];
            loop {
                // Errors are of clients that are gone.
                if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(&buffer[..length], from);
                }
            }
        });
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (patience, probes) = line.split_once(';').unwrap();
        let patience = Duration::from_millis(patience.parse().unwrap());
        let clients: Vec<_> = probes
            .split(';')
            .map(|probe| {
                let words: Vec<String> = probe.split(' ').map(str::to_owned).collect();
                thread::spawn(move || {
                    let (to, port) = (words[1].parse().unwrap(), words[2].parse().unwrap());
                    if words[0] == "tcp" { tcp(to, patience) } else { udp(to, port, patience) }
                })
            })
            .collect();
        let answers: String =
            clients.into_iter().map(|client| if client.join().unwrap() { '1' } else { '0' }).collect();
        println!("{answers}");
        std::io::stdout().flush().unwrap();
    }
}

fn tcp(to: SocketAddr, patience: Duration) -> bool {
    TcpStream::connect_timeout(&to, patience).is_ok()
}

fn udp(to: SocketAddr, port: u16, patience: Duration) -> bool {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let Ok(socket) = UdpSocket::bind((any, port)) else { return false };
    let mut buffer = [0; 16];
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect(to).is_ok() && socket.send(b"hello").is_ok() && socket.recv(&mut buffer).is_ok()
}
