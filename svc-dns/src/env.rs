//! The environment variables of Services, as the kubelet sets them (`pkg/kubelet/envvars`).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use hashbrown::HashMap;
use smol_str::SmolStr;
use svc_model::{ObjectRef, Service, ServicePort};

/// The namespace and name of the API server's Service, which every Pod is told about.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// One environment variable and the Service that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EnvVar {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// The Service.
    pub service: ObjectRef,
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
pub struct EnvClash {
    /// The name.
    pub name: String,
    /// The variables, the one that counts here last.
    pub vars: Vec<EnvVar>,
}

/// The variables of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServiceEnv {
    /// Each name once, Services by name, within a Service in the kubelet's order.
    pub vars: Vec<EnvVar>,
    /// Names that several variables have.
    pub clashes: Vec<EnvClash>,
}

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
    /// assert_eq!(env.vars[0].name, "WEB_SERVICE_HOST");
    /// assert_eq!(env.vars[0].value, "10.96.0.7");
    /// assert_eq!((env.vars.len(), env.bytes()), (7, 191));
    /// ```
    #[must_use]
    pub fn of<'s>(
        services: impl IntoIterator<Item = &'s Service>,
        namespace: &str,
        links: ServiceLinks,
    ) -> Self {
        let mut chosen: HashMap<&str, &Service, foldhash::fast::FixedState> = HashMap::default();
        for service in services {
            let (name, home) = (service.metadata.name.as_str(), service.metadata.namespace.as_str());
            if address(service).is_none() {
                continue;
            }
            let own = home == namespace && links == ServiceLinks::Enabled;
            if own {
                chosen.insert(name, service);
            } else if (home, name) == MASTER {
                chosen.entry(name).or_insert(service);
            }
        }
        let mut services: Vec<&Service> = chosen.into_values().collect();
        services.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Self::in_order(services)
    }

    /// The variables of these Services in this order.
    #[must_use]
    pub fn in_order<'s>(services: impl IntoIterator<Item = &'s Service>) -> Self {
        let mut all = Vec::new();
        for service in services {
            service_vars(service, &mut all);
        }
        let mut last: HashMap<&str, usize, foldhash::fast::FixedState> = HashMap::default();
        last.reserve(all.len());
        let mut repeated: Vec<&str> = Vec::new();
        for (index, var) in all.iter().enumerate() {
            if last.insert(&var.name, index).is_some() {
                repeated.push(&var.name);
            }
        }
        repeated.sort_unstable();
        repeated.dedup();
        let with_name = |name: &&str| EnvClash {
            name: String::from(*name),
            vars: all.iter().filter(|var| var.name == *name).cloned().collect(),
        };
        let clashes: Vec<EnvClash> = repeated.iter().map(with_name).collect();
        drop(repeated);
        if clashes.is_empty() {
            drop(last);
            return Self { vars: all, clashes };
        }
        let keep: Vec<bool> =
            all.iter().enumerate().map(|(index, var)| last.get(var.name.as_str()) == Some(&index)).collect();
        drop(last);
        let vars = all.into_iter().zip(keep).filter_map(|(var, keep)| keep.then_some(var)).collect();
        Self { vars, clashes }
    }

    /// The size of the variables in a process: `NAME=value` with a zero byte each. The kernel starts no process whose arguments and
    /// environment are too long (a quarter of the stack limit, usually 2 MiB), and no variable over 128 KiB.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.vars.iter().map(|var| var.name.len() + var.value.len() + 2).sum()
    }

    /// The number of variables of a Service with so many ports, of which so many have a name: 3 + named + 4 x ports.
    #[must_use]
    pub fn count_of(ports: usize, named: usize) -> usize {
        3 + named + 4 * ports
    }
}

/// The cluster IP as text, unless there is none.
fn address(service: &Service) -> Option<SmolStr> {
    let ip = &service.spec.cluster_ip;
    (!ip.is_empty() && !ip.is("None")).then(|| ip.to_text())
}

/// The variables of one Service, in the kubelet's order.
fn service_vars(service: &Service, vars: &mut Vec<EnvVar>) {
    // The API server allows no Service with a cluster IP and without ports.
    let (Some(host), Some(first)) = (address(service), service.spec.ports.first()) else { return };
    let reference = service.metadata.object_ref();
    let prefix = upper(&service.metadata.name);
    vars.reserve(ServiceEnv::count_of(service.spec.ports.len(), service.spec.ports.len()));
    let mut put = |suffix: &[&str], value: &str| {
        let len = prefix.len() + suffix.iter().map(|part| part.len()).sum::<usize>();
        let mut name = String::with_capacity(len);
        name.push_str(&prefix);
        suffix.iter().for_each(|part| name.push_str(part));
        vars.push(EnvVar { name, value: value.into(), service: reference.clone() });
    };
    let mut digits = itoa::Buffer::new();
    put(&["_SERVICE_HOST"], &host);
    put(&["_SERVICE_PORT"], digits.format(first.port.value()));
    for port in service.spec.ports.iter().filter(|port| !port.name.is_empty()) {
        put(&["_SERVICE_PORT_", &upper(&port.name)], digits.format(port.port.value()));
    }
    let url = |port: &ServicePort| {
        let mut url = String::with_capacity(host.len() + 16);
        url.push_str(&protocol(port).to_ascii_lowercase());
        // As Go joins host and port: an address with colons goes into brackets.
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let _ = write!(url, "://{open}{host}{close}:{}", port.port.value());
        url
    };
    put(&["_PORT"], &url(first));
    for port in &service.spec.ports {
        let number = digits.format(port.port.value());
        let (lower, upper) = (protocol(port).to_ascii_lowercase(), protocol(port).to_ascii_uppercase());
        put(&["_PORT_", number, "_", &upper], &url(port));
        put(&["_PORT_", number, "_", &upper, "_PROTO"], &lower);
        put(&["_PORT_", number, "_", &upper, "_PORT"], number);
        put(&["_PORT_", number, "_", &upper, "_ADDR"], &host);
    }
}

fn protocol(port: &ServicePort) -> SmolStr {
    if port.protocol.is_empty() { SmolStr::new_static("TCP") } else { port.protocol.to_text() }
}

/// Upper case with dashes as underscores: all that is done to a name.
fn upper(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}
