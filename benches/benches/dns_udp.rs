//! Queries a second over UDP on the loopback, 256 in flight: a bare echo, svc-dns in the same loop, and a running server.
//!
//! ```text
//! cargo build --release --bin dns-server && target/release/dns-server -f examples/shop --listen 127.0.0.1:1053 &
//! cargo bench -p svc-benches --bench dns_udp -- 127.0.0.1:1053
//! ```
//!
//! What the network costs on a machine is what the echo shows; the difference to it is what answering costs.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use svc_dns::{Name, NoUpstream, Options, Response, Transport, Type, Zones};
use svc_model::{Namespace, Object, ObjectMeta, Service, ServicePort, ServiceSpec};

/// Queries on their way at any time.
const WINDOW: u16 = 256;
/// How long each side is measured.
const MEASURED: Duration = Duration::from_secs(2);

fn zones() -> Zones {
    let mut zones = Zones::new(Options::default()).expect("default options");
    let namespace = Namespace { metadata: ObjectMeta::new("", "shop"), ..Namespace::default() };
    let port = ServicePort { name: "http".into(), port: 80.into(), ..ServicePort::default() };
    let spec = ServiceSpec { cluster_ip: "10.96.0.7".into(), ports: vec![port], ..ServiceSpec::default() };
    let web = Service { metadata: ObjectMeta::new("shop", "frontend"), spec, ..Service::default() };
    for object in [Object::from(namespace), Object::from(web)] {
        drop(zones.apply(&object));
    }
    zones
}

/// Starts a thread that answers every packet.
fn serve(mut answer: impl FnMut(&[u8], &mut [u8]) -> usize + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut query, mut out) = ([0; 4096], [0; 4096]);
        while let Ok((len, from)) = socket.recv_from(&mut query) {
            let len = answer(&query[..len], &mut out);
            let _ = socket.send_to(&out[..len], from);
        }
    });
    address
}

/// Queries answered a second.
fn measure(server: SocketAddr, query: &[u8]) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(server).expect("an address");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let mut query = query.to_vec();
    let mut send = |id: u16| {
        query[..2].copy_from_slice(&id.to_be_bytes());
        let _ = socket.send(&query);
    };
    (0..WINDOW).for_each(&mut send);
    let mut buffer = [0; 4096];
    let (mut answered, mut id) = (0u64, WINDOW);
    let start = Instant::now();
    while start.elapsed() < MEASURED {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                answered += 1;
                send(id);
            }
            // Packets were lost: the window is filled anew.
            Err(_) => (0..WINDOW).for_each(|offset| send(id.wrapping_add(offset))),
        }
        id = id.wrapping_add(1);
    }
    answered as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let name: Name = "frontend.shop.svc.cluster.local".parse().expect("a name");
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(name.wire());
    query.extend_from_slice(&Type::A.0.to_be_bytes());
    query.extend_from_slice(&[0, 1]);

    let echo = serve(|query, out| {
        out[..query.len()].copy_from_slice(query);
        query.len()
    });
    let zones = zones();
    let respond = serve(move |query, out| match zones.respond(query, Transport::Udp, &NoUpstream, out) {
        Response::Answer(len) => len,
        _ => 0,
    });
    let mut sides = vec![("bare echo", echo), ("svc-dns in the same loop", respond)];
    // Cargo passes `--bench`; an address is a server to measure beside.
    sides.extend(std::env::args().filter_map(|arg| arg.parse().ok()).map(|address| ("server", address)));
    for (name, address) in sides {
        println!("{name}: {:.0} queries/s", measure(address, &query));
    }
}
