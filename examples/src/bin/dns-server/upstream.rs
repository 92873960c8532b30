//! Another DNS server, for what is not served here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RData;
use svc_dns::{Data, Looked, Name, Rcode, Record, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one try may take, and how many there are.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 2;

/// A server to ask.
pub(crate) struct Upstream {
    address: SocketAddr,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Sends a query message on and waits for its answer, over TCP if it came over TCP or the answer was cut.
    pub(crate) async fn forward(&self, query: &[u8], tcp: bool) -> Option<Message> {
        for _ in 0..TRIES {
            let answer = if tcp { self.over_tcp(query).await } else { self.over_udp(query).await };
            if let Ok(bytes) = answer
                && let Ok(message) = Message::from_vec(&bytes)
            {
                return Some(message);
            }
        }
        None
    }

    async fn over_udp(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let any = if self.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.address).await?;
        socket.send(query).await?;
        let mut buffer = vec![0; 65_535];
        loop {
            let len = timeout(PATIENCE, socket.recv(&mut buffer)).await??;
            // A late answer to something else is not ours.
            if buffer.get(..2) == query.get(..2) {
                buffer.truncate(len);
                return Ok(buffer);
            }
        }
    }

    async fn over_tcp(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            let len = u16::try_from(query.len()).map_err(io::Error::other)?;
            stream.write_all(&[&len.to_be_bytes()[..], query].concat()).await?;
            let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut buffer).await?;
            Ok(buffer)
        };
        timeout(PATIENCE, exchange).await?
    }

    /// Asks for the target of an ExternalName Service. A server that refuses, fails or is silent has answered, as it has
    /// for CoreDNS, whose own code for it is SERVFAIL: the chain is given up to there.
    pub(crate) async fn ask(&self, name: &Name, qtype: Type) -> Looked {
        let mut query = vec![0x5e, 0x7c, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(name.wire());
        query.extend_from_slice(&qtype.0.to_be_bytes());
        query.extend_from_slice(&[0, 1]);
        let mut answer = self.forward(&query, false).await;
        if answer.as_ref().is_some_and(|answer| answer.metadata.truncation) {
            answer = self.forward(&query, true).await.or(answer);
        }
        let Some(answer) = answer else {
            return Looked::Answer { rcode: Rcode::ServFail, truncated: false, answer: Vec::new() };
        };
        let rcode = match answer.metadata.response_code {
            ResponseCode::NoError => Rcode::NoError,
            ResponseCode::NXDomain => Rcode::NxDomain,
            ResponseCode::Refused => Rcode::Refused,
            _ => Rcode::ServFail,
        };
        let records = answer.answers.iter().filter_map(record).collect();
        Looked::Answer { rcode, truncated: answer.metadata.truncation, answer: records }
    }
}

/// A record of the types that lead to an address.
fn record(record: &hickory_server::proto::rr::Record) -> Option<Record> {
    let name = |name: &hickory_server::proto::rr::Name| Name::from_labels(name.iter()).ok();
    let data = match &record.data {
        RData::A(addr) => Data::A(addr.0),
        RData::AAAA(addr) => Data::Aaaa(addr.0),
        RData::CNAME(target) => Data::Cname(name(&target.0)?),
        _ => return None,
    };
    Some(Record { owner: name(&record.name)?, ttl: record.ttl, data })
}
