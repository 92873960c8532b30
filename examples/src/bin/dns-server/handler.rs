//! From hickory's requests to answers and back.

use std::sync::Arc;

use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Message, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{self, DNSClass, RData};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use svc_dns::{Answer, Data, Looked, Name, Question, Rcode, Record, Type, Zones};
use tokio::sync::watch;

use crate::upstream::Upstream;

/// The size of a message of a transfer: well below the limit of 64 KiB, so that rewriting it cannot pass the limit.
const TRANSFER_SIZE: usize = 32 * 1024;

/// Answers requests from the newest zones.
pub(crate) struct Handler {
    zones: watch::Receiver<Arc<Zones>>,
    upstream: Option<Upstream>,
}

/// A message to send, without its question.
#[derive(Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    recursion_available: bool,
    truncated: bool,
    answers: Vec<rr::Record>,
    authorities: Vec<rr::Record>,
    additionals: Vec<rr::Record>,
}

impl Reply {
    fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    fn answer(answer: &Answer) -> Self {
        Self {
            code: code(answer.rcode),
            authoritative: true,
            recursion_available: false,
            truncated: answer.truncated,
            answers: answer.answer.iter().filter_map(record).collect(),
            authorities: answer.authority.iter().filter_map(record).collect(),
            additionals: answer.additional.iter().filter_map(record).collect(),
        }
    }

    fn message(message: Message) -> Self {
        Self {
            code: message.metadata.response_code,
            authoritative: message.metadata.authoritative,
            recursion_available: message.metadata.recursion_available,
            truncated: message.metadata.truncation,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
        }
    }
}

impl Handler {
    pub(crate) fn new(zones: watch::Receiver<Arc<Zones>>, upstream: Option<Upstream>) -> Self {
        Self { zones, upstream }
    }

    /// What to send, in order: one message, or those of a transfer.
    async fn replies(&self, request: &Request) -> Vec<Reply> {
        if request.metadata.op_code != OpCode::Query {
            return vec![Reply::code(ResponseCode::NotImp)];
        }
        let Ok(info) = request.request_info() else { return vec![Reply::code(ResponseCode::FormErr)] };
        let query = info.query.original();
        if query.query_class() != DNSClass::IN {
            return vec![Reply::code(ResponseCode::Refused)];
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return vec![Reply::code(ResponseCode::BADVERS)];
        }
        let Ok(name) = Name::from_labels(query.name().iter()) else {
            return vec![Reply::code(ResponseCode::FormErr)];
        };
        let zones = Arc::clone(&self.zones.borrow());
        let qtype = Type(u16::from(query.query_type()));
        let tcp = request.protocol() != Protocol::Udp;
        if matches!(qtype, Type::AXFR | Type::IXFR) {
            return transfer(&zones, &name, request, tcp);
        }
        let question = Question::new(&name, qtype);
        let looked = self.look_up(&zones, &question).await;
        let upstream = |name: &Name, qtype: Type| {
            let found = looked.iter().find(|(other, asked, _)| other == name && *asked == qtype);
            found.map_or(Looked::Nobody, |(_, _, looked)| looked.clone())
        };
        match zones.answer(&question, &upstream) {
            Some(answer) => vec![Reply::answer(&answer)],
            None => vec![self.forward(request, tcp).await],
        }
    }

    /// Asks for the names outside the zones that an answer depends on.
    async fn look_up(&self, zones: &Zones, question: &Question<'_>) -> Vec<(Name, Type, Looked)> {
        let Some(upstream) = &self.upstream else { return Vec::new() };
        let mut looked = Vec::new();
        for (name, qtype) in zones.outside(question) {
            let answer = upstream.ask(&name, qtype).await;
            looked.push((name, qtype, answer));
        }
        looked
    }

    async fn forward(&self, request: &Request, tcp: bool) -> Reply {
        let Some(upstream) = &self.upstream else { return Reply::code(ResponseCode::Refused) };
        let answer = upstream.forward(request.as_slice(), tcp).await;
        answer.map_or_else(|| Reply::code(ResponseCode::ServFail), Reply::message)
    }
}

/// The messages of a transfer, over TCP alone.
fn transfer(zones: &Zones, zone: &Name, request: &Request, tcp: bool) -> Vec<Reply> {
    if !tcp {
        return vec![Reply::code(ResponseCode::Refused)];
    }
    if let Err(rcode) = zones.transfer(zone, None).map(drop) {
        return vec![Reply::code(code(rcode))];
    }
    let messages = zones.transfer_messages(request.as_slice(), TRANSFER_SIZE);
    let messages: Vec<Reply> =
        messages.iter().filter_map(|bytes| Message::from_vec(bytes).ok()).map(Reply::message).collect();
    if messages.is_empty() { vec![Reply::code(ResponseCode::FormErr)] } else { messages }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        // The size that the client asked for is the one that its answer is cut to.
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().max(512)).set_version(0);
            edns
        });
        let mut last = ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        for reply in self.replies(request).await {
            metadata.response_code = reply.code;
            metadata.authoritative = reply.authoritative;
            metadata.recursion_available = reply.recursion_available;
            metadata.truncation = reply.truncated;
            let mut builder = MessageResponseBuilder::from_message_request(request);
            if let Some(edns) = &edns {
                builder.edns(edns);
            }
            let message = builder.build(metadata, &reply.answers, &reply.authorities, [], &reply.additionals);
            match response_handle.send_response(message).await {
                Ok(info) => last = info,
                // The client is gone.
                Err(_) => break,
            }
        }
        last
    }
}

fn code(rcode: Rcode) -> ResponseCode {
    match rcode {
        Rcode::NoError => ResponseCode::NoError,
        Rcode::FormErr => ResponseCode::FormErr,
        Rcode::NxDomain => ResponseCode::NXDomain,
        Rcode::NotImp => ResponseCode::NotImp,
        Rcode::Refused => ResponseCode::Refused,
        Rcode::NotAuth => ResponseCode::NotAuth,
        Rcode::BadVers => ResponseCode::BADVERS,
        _ => ResponseCode::ServFail,
    }
}

fn name(name: &Name) -> Option<rr::Name> {
    rr::Name::from_labels(name.labels()).ok()
}

fn record(record: &Record) -> Option<rr::Record> {
    let data = match &record.data {
        Data::A(addr) => RData::A(A(*addr)),
        Data::Aaaa(addr) => RData::AAAA(AAAA(*addr)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ns(target) => RData::NS(NS(name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, name(target)?))
        }
        Data::Txt(text) => RData::TXT(TXT::from_bytes(vec![text])),
        Data::Soa(soa) => {
            let time = |seconds: u32| i32::try_from(seconds).unwrap_or(i32::MAX);
            RData::SOA(SOA::new(
                name(&soa.mname)?,
                name(&soa.rname)?,
                soa.serial,
                time(soa.refresh),
                time(soa.retry),
                time(soa.expire),
                soa.minimum,
            ))
        }
        _ => return None,
    };
    Some(rr::Record::from_rdata(name(&record.owner)?, record.ttl, data))
}
