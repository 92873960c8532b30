//! `dns-server` over real sockets: every kind of record, cut answers, transfers, broken packets, reloading, an upstream.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_server::net::client::{Client, ClientHandle as _};
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::net::tcp::TcpClientStream;
use hickory_server::net::udp::UdpClientStream;
use hickory_server::proto::op::{DnsResponse, Message, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// A running server, ended with the test.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(manifests: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dns-server"))
            .args(["--listen", "127.0.0.1:0", "--reload", "0.05", "-f"])
            .arg(manifests)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next()).unwrap();
        Self { child, address: address.parse().unwrap() }
    }

    async fn udp(&self, name: &str, qtype: RecordType) -> DnsResponse {
        let stream = UdpClientStream::builder(self.address, TokioRuntimeProvider::default()).build();
        let (mut client, background) = Client::<TokioRuntimeProvider>::from_sender(stream);
        tokio::spawn(background);
        client.query(Name::from_ascii(name).unwrap(), DNSClass::IN, qtype).await.unwrap()
    }

    async fn tcp(&self, name: &str, qtype: RecordType) -> DnsResponse {
        let (future, sender) =
            TcpClientStream::new(self.address, None, None, TokioRuntimeProvider::default());
        let stream = future.await.unwrap();
        let (mut client, background) = Client::<TokioRuntimeProvider>::new(stream, sender);
        tokio::spawn(background);
        client.query(Name::from_ascii(name).unwrap(), DNSClass::IN, qtype).await.unwrap()
    }

    /// A query over UDP without EDNS, whose answer may be cut.
    async fn plain(&self, message: &[u8]) -> Option<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(message, self.address).await.unwrap();
        let mut buffer = [0; 65_535];
        let len =
            tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await.ok()?.unwrap();
        Message::from_vec(&buffer[..len]).ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn query(name: &str, qtype: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, qtype as u8, 0, 1]);
    message
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

const CLUSTER: &str = "
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, 'fd00::/112']}
---
kind: Namespace
metadata: {name: shop}
---
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7'], ipFamilyPolicy: RequireDualStack, ports: [{name: http, port: 80}]}
---
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
kind: Service
metadata: {name: far, namespace: shop}
spec: {type: ExternalName, externalName: web.far.svc.example.org}
---
";

/// The cluster above with a headless Service of so many endpoints.
fn cluster(endpoints: usize) -> String {
    let mut text = format!(
        "{CLUSTER}kind: EndpointSlice\nmetadata: {{name: db-1, namespace: shop, labels: {{kubernetes.io/service-name: db}}}}\n\
         addressType: IPv4\nports: [{{name: sql, port: 5432}}]\nendpoints:\n"
    );
    for index in 0..endpoints {
        let (high, low) = (index / 250, index % 250);
        text.push_str(&format!(
            "- {{addresses: [10.1.{high}.{low}], hostname: db-{index}, conditions: {{ready: true}}}}\n"
        ));
    }
    text
}

fn lines(records: &[hickory_server::proto::rr::Record]) -> Vec<String> {
    let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_record() {
    let folder = folder("records");
    std::fs::write(folder.join("cluster.yaml"), cluster(2)).unwrap();
    let server = Running::start(&folder, &[]);
    let web = "web.shop.svc.cluster.local.";
    for (name, qtype, expected) in [
        (web, RecordType::A, vec!["web.shop.svc.cluster.local. 5 IN A 10.96.0.7"]),
        (web, RecordType::AAAA, vec!["web.shop.svc.cluster.local. 5 IN AAAA fd00::7"]),
        (
            "_http._tcp.Web.shop.svc.cluster.local.",
            RecordType::SRV,
            vec!["_http._tcp.Web.shop.svc.cluster.local. 5 IN SRV 0 50 80 web.shop.svc.cluster.local."],
        ),
        (
            "alias.shop.svc.cluster.local.",
            RecordType::A,
            vec![
                "alias.shop.svc.cluster.local. 5 IN CNAME web.shop.svc.cluster.local.",
                "web.shop.svc.cluster.local. 5 IN A 10.96.0.7",
            ],
        ),
        (
            "db-1.db.shop.svc.cluster.local.",
            RecordType::A,
            vec!["db-1.db.shop.svc.cluster.local. 5 IN A 10.1.0.1"],
        ),
        (
            "7.0.96.10.in-addr.arpa.",
            RecordType::PTR,
            vec!["7.0.96.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local."],
        ),
        (
            "dns-version.cluster.local.",
            RecordType::TXT,
            vec!["dns-version.cluster.local. 28800 IN TXT 1.1.0"],
        ),
        ("cluster.local.", RecordType::NS, vec!["cluster.local. 5 IN NS ns.dns.cluster.local."]),
    ] {
        for response in [server.udp(name, qtype).await, server.tcp(name, qtype).await] {
            assert_eq!(response.metadata.response_code, ResponseCode::NoError, "{name} {qtype}");
            assert!(response.metadata.authoritative);
            assert_eq!(lines(&response.answers), expected, "{name} {qtype}");
        }
    }
    let soa = server.udp("cluster.local.", RecordType::SOA).await;
    assert!(
        lines(&soa.answers)[0]
            .starts_with("cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. ")
    );
    let missing = server.udp("nope.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!((missing.answers.len(), missing.authorities.len()), (0, 1));
    let elsewhere = server.udp("example.com.", RecordType::A).await;
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_answer_is_whole_over_tcp() {
    let folder = folder("cut");
    std::fs::write(folder.join("cluster.yaml"), cluster(300)).unwrap();
    let server = Running::start(&folder, &[]);
    let name = "db.shop.svc.cluster.local.";
    let cut = server.plain(&query(name, 1)).await.unwrap();
    assert!(cut.metadata.truncation && cut.answers.len() < 300);
    let whole = server.tcp(name, RecordType::A).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_gives_the_whole_zone() {
    let folder = folder("transfer");
    std::fs::write(folder.join("cluster.yaml"), cluster(1000)).unwrap();
    let server = Running::start(&folder, &[]);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let message = query("cluster.local", 252);
    stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat()).await.unwrap();
    let mut records = Vec::new();
    let mut messages = 0;
    while records.len() < 2 || records.first() != records.last() {
        let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut buffer).await.unwrap();
        let message = Message::from_vec(&buffer).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        records.extend(message.answers.iter().map(ToString::to_string));
        messages += 1;
    }
    assert!(messages > 1, "{messages} messages");
    // SOA, NS and its address, 3 records an endpoint, 2 addresses and 2 SRV of `web`, two aliases, SOA.
    assert_eq!(records.len(), 1 + 2 + 3 * 1000 + 4 + 2 + 1);
    assert!(records[0].contains(" IN SOA "));
    let refused = server.plain(&message).await.unwrap();
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "not over UDP");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_packets_stop_nothing() {
    let folder = folder("broken");
    std::fs::write(folder.join("cluster.yaml"), cluster(1)).unwrap();
    let server = Running::start(&folder, &[]);
    let good = query("web.shop.svc.cluster.local", 1);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for cut in 0..good.len() {
        socket.send_to(&good[..cut], server.address).await.unwrap();
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        socket.send_to(&bad, server.address).await.unwrap();
    }
    socket.send_to(&[0xff; 4096], server.address).await.unwrap();
    for garbage in [&b"\0"[..], b"\0\x05abc", b"\xff\xff\0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
    }
    let response = server.udp("web.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(response.answers.len(), 1);
    assert_eq!(server.tcp("web.shop.svc.cluster.local.", RecordType::A).await.answers.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_manifests_are_read_again() {
    let folder = folder("reload");
    let file = folder.join("cluster.yaml");
    std::fs::write(&file, cluster(1)).unwrap();
    let server = Running::start(&folder, &[]);
    let count = async || server.udp("db.shop.svc.cluster.local.", RecordType::A).await.answers.len();
    assert_eq!(count().await, 1);
    // A broken file changes nothing.
    std::fs::write(&file, "kind: Service\nspec: [").unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(count().await, 1);
    std::fs::write(&file, cluster(3)).unwrap();
    for _ in 0..100 {
        if count().await == 3 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never reloaded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_names_come_from_the_upstream() {
    let far = folder("far");
    let text = "kind: Service\nmetadata: {name: web, namespace: far}\nspec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}\n";
    std::fs::write(far.join("cluster.yaml"), text).unwrap();
    let upstream = Running::start(&far, &["--zone", "example.org"]);
    let near = folder("near");
    std::fs::write(near.join("cluster.yaml"), cluster(1)).unwrap();
    let server = Running::start(&near, &["--upstream", &upstream.address.to_string()]);
    let forwarded = server.udp("web.far.svc.example.org.", RecordType::A).await;
    assert_eq!(lines(&forwarded.answers), ["web.far.svc.example.org. 5 IN A 10.96.0.99"]);
    let chain = server.udp("far.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(
        lines(&chain.answers),
        [
            "far.shop.svc.cluster.local. 5 IN CNAME web.far.svc.example.org.",
            "web.far.svc.example.org. 5 IN A 10.96.0.99",
        ]
    );

    // One that does not serve the name refuses: CoreDNS gives the chain up to there.
    let refusing = Running::start(&far, &["--zone", "example.net"]);
    let server = Running::start(&near, &["--upstream", &refusing.address.to_string()]);
    let chain = server.udp("far.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(chain.metadata.response_code, ResponseCode::NoError);
    assert_eq!(lines(&chain.answers), ["far.shop.svc.cluster.local. 5 IN CNAME web.far.svc.example.org."]);
}
