//! The environment variables of Services, as the kubelet sets them (`pkg/kubelet/envvars`).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use hashbrown::HashMap;
use smol_str::SmolStr;
use svc_model::{ObjectRef, Protocol, Sent, Service, ServicePort};

/// The namespace and name of the API server's Service, which every Pod is told about.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// One environment variable and the Service that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EnvVar<'e> {
    /// The name.
    pub name: &'e str,
    /// The value.
    pub value: &'e str,
    /// The Service.
    pub service: &'e ObjectRef,
}

/// Whether a Pod is told about the Services of its namespace (`enableServiceLinks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum ServiceLinks {
    /// It is.
    #[default]
    Enabled,
    /// It is told about the API server alone.
    Disabled,
}

/// A name that several variables have; which of them a container sees is open in Kubernetes (the order of a map).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EnvClash<'e> {
    /// The name.
    pub name: &'e str,
    /// The variables, the one that counts here last.
    pub vars: Vec<EnvVar<'e>>,
}

/// The variables of a Pod, in one piece of text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceEnv {
    /// Where names and values lie. They overlap: a name is often the start of another, a value part of a URL.
    text: String,
    services: Vec<ObjectRef>,
    vars: Vec<Var>,
    /// Each group has one name.
    clashes: Vec<Vec<Var>>,
}

/// Where a variable is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Var {
    name: Span,
    value: Span,
    service: u32,
}

/// Start and end.
type Span = (u32, u32);

impl ServiceEnv {
    /// The variables of a Pod in a namespace, out of all Services of the cluster.
    ///
    /// Services without a cluster IP have none. The Pod's namespace counts before `default`, so its own `kubernetes` hides the API
    /// server's. Of names that clash the last in the order of Services counts.
    ///
    /// ```
    /// use svc_dns::{ServiceEnv, ServiceLinks};
    /// use svc_model::{ObjectMeta, Service, ServicePort, ServiceSpec};
    ///
    /// let port = ServicePort { port: 80.into(), ..ServicePort::default() };
    /// let spec = ServiceSpec { cluster_ip: "10.96.0.7".into(), ports: vec![port], ..ServiceSpec::default() };
    /// let web = Service { metadata: ObjectMeta::new("shop", "web"), spec, ..Service::default() };
    /// let env = ServiceEnv::of([&web], "shop", ServiceLinks::Enabled);
    /// let first = env.vars().next().unwrap();
    /// assert_eq!((first.name, first.value), ("WEB_SERVICE_HOST", "10.96.0.7"));
    /// assert_eq!((env.len(), env.bytes()), (7, 191));
    /// ```
    #[must_use]
    pub fn of<'s>(
        services: impl IntoIterator<Item = &'s Service>,
        namespace: &str,
        links: ServiceLinks,
    ) -> Self {
        let name = |service: &&'s Service| service.metadata.name.as_str();
        let mut chosen: Vec<&Service> = Vec::new();
        let mut master = None;
        for service in services {
            let home = service.metadata.namespace.as_str();
            if !has_address(service) {
                continue;
            }
            if home == namespace && links == ServiceLinks::Enabled {
                chosen.push(service);
            } else if (home, name(&service)) == MASTER && master.is_none() {
                master = Some(service);
            }
        }
        chosen.sort_by(|a, b| name(a).cmp(name(b)));
        // Of one name the last given counts.
        chosen.dedup_by(|later, first| {
            let same = name(later) == name(first);
            if same {
                *first = *later;
            }
            same
        });
        if let Some(master) = master
            && let Err(place) = chosen.binary_search_by(|service| name(service).cmp(MASTER.1))
        {
            chosen.insert(place, master);
        }
        Self::in_order(chosen)
    }

    /// The variables of these Services in this order.
    #[must_use]
    pub fn in_order<'s>(services: impl IntoIterator<Item = &'s Service>) -> Self {
        // The API server allows no Service with a cluster IP and without ports.
        let written = |service: &&Service| has_address(service) && !service.spec.ports.is_empty();
        let services: Vec<&Service> = services.into_iter().filter(written).collect();
        let count = |service: &&Service| Self::count_of(service.spec.ports.len(), service.spec.ports.len());
        let count = services.iter().map(count).sum();
        let mut writer = EnvWriter {
            text: Vec::with_capacity(count * 24),
            vars: Vec::with_capacity(count),
            service: 0,
            stem: Vec::new(),
        };
        for service in &services {
            writer.put_service(service);
            writer.service += 1;
        }
        let mut env = Self {
            // Every piece of it was text.
            text: String::from_utf8(writer.text).unwrap_or_default(),
            services: services.iter().map(|service| service.metadata.object_ref()).collect(),
            vars: writer.vars,
            clashes: Vec::new(),
        };
        if may_clash(&services) {
            env.settle();
        }
        env
    }

    /// Each name once, Services by name (or in the order given), within a Service in the kubelet's order.
    pub fn vars(&self) -> impl ExactSizeIterator<Item = EnvVar<'_>> {
        self.vars.iter().map(|var| self.var(*var))
    }

    /// Names that several variables have, sorted.
    pub fn clashes(&self) -> impl ExactSizeIterator<Item = EnvClash<'_>> {
        self.clashes.iter().map(|group| {
            let vars: Vec<EnvVar<'_>> = group.iter().map(|var| self.var(*var)).collect();
            EnvClash { name: vars.first().map_or("", |var| var.name), vars }
        })
    }

    /// How many variables there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vars.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vars.is_empty()
    }

    /// The size of the variables in a process: `NAME=value` with a zero byte each. The kernel starts no process whose arguments and
    /// environment are too long (a quarter of the stack limit, usually 2 MiB), and no variable over 128 KiB.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.vars.iter().map(|var| len(var.name) + len(var.value) + 2).sum()
    }

    /// The number of variables of a Service with so many ports, of which so many have a name: 3 + named + 4 x ports.
    #[must_use]
    pub fn count_of(ports: usize, named: usize) -> usize {
        3 + named + 4 * ports
    }
}

impl ServiceEnv {
    fn text(&self, (start, end): Span) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    fn name(&self, var: Var) -> &str {
        self.text(var.name)
    }

    fn var(&self, var: Var) -> EnvVar<'_> {
        const NOBODY: &ObjectRef =
            &ObjectRef { namespace: SmolStr::new_static(""), name: SmolStr::new_static("") };
        EnvVar {
            name: self.name(var),
            value: self.text(var.value),
            service: self.services.get(var.service as usize).unwrap_or(NOBODY),
        }
    }

    /// Finds variables of one name and keeps the last of them.
    fn settle(&mut self) {
        let mut last: HashMap<&str, usize, foldhash::fast::FixedState> = HashMap::default();
        last.reserve(self.vars.len());
        let mut repeated: Vec<&str> = Vec::new();
        for (index, var) in self.vars.iter().enumerate() {
            if last.insert(self.name(*var), index).is_some() {
                repeated.push(self.name(*var));
            }
        }
        repeated.sort_unstable();
        repeated.dedup();
        let with_name =
            |name: &&str| self.vars.iter().copied().filter(|var| self.name(*var) == *name).collect();
        let clashes: Vec<Vec<Var>> = repeated.iter().map(with_name).collect();
        let counts =
            |(index, var): (usize, &Var)| (last.get(self.name(*var)) == Some(&index)).then_some(*var);
        let vars = self.vars.iter().enumerate().filter_map(counts).collect();
        drop(last);
        self.clashes = clashes;
        self.vars = vars;
    }
}

fn len((start, end): Span) -> usize {
    end.saturating_sub(start) as usize
}

/// Puts the text together.
struct EnvWriter {
    text: Vec<u8>,
    vars: Vec<Var>,
    service: u32,
    /// `<SERVICE>_PORT_<number>_<PROTOCOL>` of the port in hand.
    stem: Vec<u8>,
}

/// Where the parts of a URL are, which are values of their own.
#[derive(Clone, Copy)]
struct Url {
    whole: Span,
    protocol: Span,
    host: Span,
    port: Span,
}

impl EnvWriter {
    fn at(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, parts: [&[u8]; 2]) -> Span {
        let start = self.at();
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        (start, self.at())
    }

    fn put(&mut self, name: Span, value: Span) {
        self.vars.push(Var { name, value, service: self.service });
    }

    /// `tcp://10.0.0.1:80`; as Go joins host and port, an address with colons goes into brackets.
    fn url(&mut self, ip: &Sent<IpAddr>, port: &ServicePort) -> Url {
        let (start, protocol) = self.push([lower(port).as_bytes(), b""]);
        self.text.extend_from_slice(b"://");
        let host = self.host(ip);
        let colons = self.text.get(host.0 as usize..).is_some_and(|host| host.contains(&b':'));
        let host = if colons {
            self.text.insert(host.0 as usize, b'[');
            self.text.push(b']');
            (host.0 + 1, host.1 + 1)
        } else {
            host
        };
        self.text.push(b':');
        let (number, end) = self.push([itoa::Buffer::new().format(port.port.value()).as_bytes(), b""]);
        Url { whole: (start, end), protocol: (start, protocol), host, port: (number, end) }
    }

    /// The cluster IP as text.
    fn host(&mut self, ip: &Sent<IpAddr>) -> Span {
        let start = self.at();
        match ip {
            Sent::Value(IpAddr::V4(addr)) => {
                let mut digits = itoa::Buffer::new();
                for (index, octet) in addr.octets().into_iter().enumerate() {
                    if index > 0 {
                        self.text.push(b'.');
                    }
                    self.text.extend_from_slice(digits.format(octet).as_bytes());
                }
            }
            ip => self.text.extend_from_slice(ip.to_text().as_bytes()),
        }
        (start, self.at())
    }

    /// The variables of one Service, in the kubelet's order.
    fn put_service(&mut self, service: &Service) {
        let spec = &service.spec;
        let Some(first) = spec.ports.first() else { return };
        let first = self.url(&spec.cluster_ip, first);
        let mut stem = core::mem::take(&mut self.stem);
        stem.clear();
        push_upper(&mut stem, &service.metadata.name);
        let prefix = stem.len();
        let name = self.push([&stem, b"_SERVICE_HOST"]);
        self.put(name, first.host);
        let name = self.push([&stem, b"_SERVICE_PORT"]);
        self.put(name, first.port);
        stem.extend_from_slice(b"_SERVICE_PORT_");
        for port in spec.ports.iter().filter(|port| !port.name.is_empty()) {
            let name = self.push([&stem, b""]);
            push_upper(&mut self.text, &port.name);
            let end = self.at();
            let value = self.push([itoa::Buffer::new().format(port.port.value()).as_bytes(), b""]);
            self.put((name.0, end), value);
        }
        stem.truncate(prefix);
        let name = self.push([&stem, b"_PORT"]);
        self.put(name, first.whole);
        stem.extend_from_slice(b"_PORT_");
        let prefix = stem.len();
        for (index, port) in spec.ports.iter().enumerate() {
            let url = if index == 0 { first } else { self.url(&spec.cluster_ip, port) };
            stem.truncate(prefix);
            stem.extend_from_slice(itoa::Buffer::new().format(port.port.value()).as_bytes());
            stem.push(b'_');
            stem.extend_from_slice(upper(port).as_bytes());
            // The name of the first is the start of the second's.
            let (start, end) = self.push([&stem, b"_PROTO"]);
            self.put((start, end - 6), url.whole);
            self.put((start, end), url.protocol);
            let name = self.push([&stem, b"_PORT"]);
            self.put(name, url.port);
            let name = self.push([&stem, b"_ADDR"]);
            self.put(name, url.host);
        }
        self.stem = stem;
    }
}

/// Whether two variables could have one name. `false` is certain; all it takes is a look at the names of Services and ports.
///
/// Names of sorted, valid Services (lower case, digits, dashes) differ in upper case as well. So names of variables are the same only
/// if one Service is called like another and then `-service` or `-port`, or within a Service.
fn may_clash(services: &[&Service]) -> bool {
    let sorted = services.is_sorted_by(|a, b| a.metadata.name.as_str() < b.metadata.name.as_str());
    if !sorted || !services.iter().all(|service| is_valid(&service.metadata.name)) {
        return true;
    }
    services.iter().any(|service| {
        extends_another(&service.metadata.name, |other| {
            services.binary_search_by(|service| service.metadata.name.as_str().cmp(other)).is_ok()
        }) || ports_clash(&service.spec.ports)
    })
}

fn is_valid(name: &str) -> bool {
    // Without an early end, which many bytes at a time could not have.
    name.bytes().fold(true, |valid, byte| valid & matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether a name is another's and then `-service` or `-port` (and anything behind a dash).
fn extends_another(name: &str, exists: impl Fn(&str) -> bool) -> bool {
    let dashes = name.bytes().enumerate().filter(|(_, byte)| *byte == b'-');
    dashes.filter_map(|(at, _)| name.split_at_checked(at)).any(|(other, rest)| {
        let behind = rest.strip_prefix("-service").or_else(|| rest.strip_prefix("-port"));
        behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) && exists(other)
    })
}

/// Whether two ports of a Service could give one name.
fn ports_clash(ports: &[ServicePort]) -> bool {
    ports.iter().enumerate().any(|(index, port)| {
        let known = port.protocol.is_empty() || matches!(port.protocol, Sent::Value(_));
        let same = |other: &ServicePort| {
            other.port == port.port
                && (other.protocol == port.protocol || other.protocol.is_empty() || port.protocol.is_empty())
                || (!port.name.is_empty() && other.name == port.name)
        };
        !known || !is_valid(&port.name) || ports.iter().take(index).any(same)
    })
}

/// Whether there is a cluster IP.
fn has_address(service: &Service) -> bool {
    match &service.spec.cluster_ip {
        Sent::Value(_) => true,
        Sent::Text(text) => !text.is_empty() && text != "None",
    }
}

/// The protocol in upper case.
fn upper(port: &ServicePort) -> Cow<'_, str> {
    match &port.protocol {
        Sent::Value(protocol) => Cow::Borrowed(protocol.as_str()),
        Sent::Text(text) if text.is_empty() => Cow::Borrowed("TCP"),
        Sent::Text(text) => Cow::Owned(text.to_ascii_uppercase()),
    }
}

/// The protocol in lower case.
fn lower(port: &ServicePort) -> Cow<'_, str> {
    match &port.protocol {
        Sent::Value(Protocol::Tcp) => Cow::Borrowed("tcp"),
        Sent::Value(Protocol::Udp) => Cow::Borrowed("udp"),
        Sent::Value(Protocol::Sctp) => Cow::Borrowed("sctp"),
        Sent::Text(text) if text.is_empty() => Cow::Borrowed("tcp"),
        Sent::Text(text) => Cow::Owned(text.to_ascii_lowercase()),
    }
}

/// Upper case with dashes as underscores: all that is done to a name.
fn push_upper(text: &mut Vec<u8>, name: &str) {
    if !name.is_ascii() {
        text.extend_from_slice(name.replace('-', "_").to_uppercase().as_bytes());
        return;
    }
    let start = text.len();
    text.extend_from_slice(name.as_bytes());
    for byte in text.get_mut(start..).unwrap_or_default() {
        *byte = if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    }
}
