//! Recorded syncs of kube-proxy in IPVS mode: configuration and steps of object changes in; virtual servers, sets,
//! addresses and rules after each sync out.
//!
//! The texts are carried out on models of the kernel, so that what is compared is what they do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use svc_endpoints::view::SliceCache;
use svc_model::{IpFamily, Object, ObjectRef, Service, SmolStr};
use svc_rules::ipset::{self, Entry, IpSet, OnDuplicate};
use svc_rules::ipvs::{Input, Proxy, Scope, Set};
use svc_rules::ipvsadm::{Method, VirtualAddress, VirtualServers};
use svc_rules::packet::{Family, Transport};
use svc_rules::xtables::{RestoreMode, Ruleset};
use svc_rules::{NodePortAddresses, ProxyConfig};

#[path = "node.rs"]
#[allow(clippy::duplicate_mod, reason = "each adapter stands alone")]
mod node;

use node::{ABSENT_MARK, Changes, NodeConfig, addresses, number};

/// Name of a case, and how it went.
type Case = (String, Result<(), String>);

/// Runs all steps of one file; each is a case.
pub fn run(text: &str) -> Result<Vec<Case>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut node = Node::new(file.config)?;
    let mut results = Vec::new();
    for (number, step) in file.steps.iter().enumerate() {
        let result = node.step(step);
        results.push((format!("step {number}"), result));
    }
    Ok(results)
}

#[derive(Deserialize)]
struct File {
    config: Map<String, Value>,
    steps: Vec<Step>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    #[serde(flatten)]
    node: NodeConfig,
    interface_addresses: Option<Vec<String>>,
    scheduler: String,
    #[serde(rename = "excludeCIDRs")]
    exclude_cidrs: Vec<String>,
    #[serde(rename = "strictARP")]
    strict_arp: bool,
    #[serde(rename = "ipsetIPv6Names")]
    v6_names: Option<bool>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(flatten)]
    changes: Changes,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    services: Vec<Virtual>,
    ipsets: BTreeMap<String, Vec<String>>,
    restore: String,
    addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Virtual {
    address: IpAddr,
    port: u16,
    protocol: String,
    scheduler: String,
    flags: u32,
    timeout: u32,
    #[serde(default)]
    destinations: Option<Vec<Destination>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, PartialOrd)]
struct Destination {
    address: IpAddr,
    port: u16,
    weight: u32,
}

/// Flags of a virtual server in the kernel: it is persistent; its scheduler looks at ports (`mh-port`).
const PERSISTENT: u32 = 0x1;
const MH_PORT: u32 = 0x10;

impl Config {
    fn settle(&self) -> Result<ProxyConfig, String> {
        let mut config = self.node.settle()?;
        // Recorded with one list of addresses for ranges and another one for everything else.
        if let (Some(others), NodePortAddresses::Within(ranges)) =
            (&self.interface_addresses, &config.node_port_addresses)
        {
            let mut matching = addresses(others);
            matching.retain(|ip| ranges.iter().any(|range| range.contains(ip)));
            config.node_port_addresses =
                NodePortAddresses::Within(matching.iter().copied().map(Into::into).collect());
            config.node_addresses.extend(matching);
        }
        if !self.scheduler.is_empty() {
            config.ipvs.scheduler = self.scheduler.as_str().into();
        }
        config.ipvs.exclude_cidrs =
            self.exclude_cidrs.iter().filter_map(|range| range.parse().ok()).collect();
        config.ipvs.strict_arp = self.strict_arp;
        Ok(config)
    }
}

/// What stands for the port of a Service that was recorded without one. No API server accepts such a Service, and
/// neither do tools and kernel.
const ABSENT_PORT: u16 = 65_535;

/// The kernel of the node.
#[derive(Default)]
struct Kernel {
    servers: VirtualServers,
    sets: BTreeMap<SmolStr, IpSet>,
    rules: Option<Ruleset>,
    addresses: BTreeSet<IpAddr>,
}

impl Kernel {
    fn run(&mut self, input: &Input, family: Family) -> Result<(), String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string());
        ipset::restore(&text(&input.sets)?, &mut self.sets, OnDuplicate::Ignore)
            .map_err(|error| error.to_string())?;
        let rules = self.rules.get_or_insert_with(|| Ruleset::new(family));
        rules.restore(&text(&input.rules)?, RestoreMode::Keep).map_err(|error| error.to_string())?;
        self.servers.restore(&text(&input.servers)?).map_err(|error| error.to_string())?;
        for line in format!("{}{}", text(&input.unbind)?, text(&input.bind)?).lines() {
            let words: Vec<_> = line.split(' ').collect();
            let (verb, ip) = match words[..] {
                ["addr", verb, net, "dev", "kube-ipvs0"] => (verb, net.split('/').next().unwrap_or_default()),
                _ => return Err(format!("`{line}` is no command for ip")),
            };
            let ip = ip.parse().map_err(|_| format!("`{line}` names no address"))?;
            let changed =
                if verb == "replace" { self.addresses.insert(ip) } else { self.addresses.remove(&ip) };
            if !changed {
                return Err(format!("`{line}` has no effect"));
            }
        }
        Ok(())
    }
}

struct Node {
    text: Map<String, Value>,
    config: Config,
    proxy: Proxy,
    services: BTreeMap<ObjectRef, Service>,
    slices: SliceCache,
    kernel: Kernel,
}

impl Node {
    fn new(text: Map<String, Value>) -> Result<Self, String> {
        let config = Config::deserialize(Value::Object(text.clone())).map_err(|error| error.to_string())?;
        Ok(Self {
            proxy: Proxy::new(config.settle()?),
            config,
            text,
            services: BTreeMap::new(),
            slices: SliceCache::new(),
            kernel: Kernel::default(),
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let changes = &step.changes;
        if let Some(changed) = &changes.config {
            self.restart(changed)?;
        }
        for object in &changes.apply {
            self.apply(object)?;
        }
        for deleted in &changes.delete {
            let name = deleted.name();
            match deleted.kind.as_str() {
                "Service" => {
                    self.services.remove(&name);
                    self.proxy.remove(&name);
                }
                "EndpointSlice" => self.proxy.touch(&self.slices.remove(&name)),
                _ => {}
            }
        }
        if let Some(zone) = changes.zone() {
            self.proxy.set_zone(zone.map(Into::into));
        }
        let mut input = Input::default();
        let _ = self.proxy.sync(&self.slices, Scope::Changes, &mut input);
        self.proxy.succeeded();
        // Nothing ever connects in the recordings, so what drains goes at once.
        let _ = self.proxy.drain(Duration::ZERO, |_, _| 0, &mut input.servers);
        let family = self.proxy.config().family;
        self.kernel.run(&input, Family::from(family))?;

        self.compare_servers(&step.expect.services)?;
        self.compare_sets(&step.expect.ipsets)?;
        let mut expected = step.expect.addresses.clone();
        expected.sort_unstable();
        equal("addresses", &expected, &self.kernel.addresses.iter().copied().collect::<Vec<_>>())?;
        self.compare_rules(&step.expect.restore)
    }

    /// A proxy with another configuration takes over what is there.
    fn restart(&mut self, changed: &Map<String, Value>) -> Result<(), String> {
        self.text.extend(changed.clone());
        self.config =
            Config::deserialize(Value::Object(self.text.clone())).map_err(|error| error.to_string())?;
        self.proxy = Proxy::new(self.config.settle()?);
        self.proxy.adopt(&self.kernel.servers, &self.kernel.sets, self.kernel.addresses.iter().copied());
        self.proxy.replace_all(self.services.values());
        Ok(())
    }

    fn apply(&mut self, object: &Value) -> Result<(), String> {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let mut object = object.clone();
        let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            if kind == "Service" && port.get("port").and_then(Value::as_u64).unwrap_or(0) == 0 {
                port.insert("port".into(), ABSENT_PORT.into());
            }
        }
        match Object::from_kind(kind, &object) {
            Some(Ok(Object::Service(service))) => {
                let _ = self.proxy.apply(&service);
                self.services.insert(service.metadata.object_ref(), service);
            }
            Some(Ok(Object::EndpointSlice(slice))) => self.proxy.touch(&self.slices.apply(&slice)),
            Some(Err(error)) => return Err(error.to_string()),
            _ => {}
        }
        Ok(())
    }

    fn compare_servers(&self, expected: &[Virtual]) -> Result<(), String> {
        let key = |server: &Virtual| (server.address, server.port, server.protocol.clone());
        let mut expected = expected.to_vec();
        for server in &mut expected {
            if server.port == 0 {
                server.port = ABSENT_PORT;
            }
            let destinations = server.destinations.get_or_insert_default();
            destinations.sort_by_key(|to| (to.address, to.port));
        }
        expected.sort_by_key(key);
        let mut got = Vec::new();
        for (address, server) in self.kernel.servers.iter() {
            let VirtualAddress::Socket { transport, address, port } = *address else {
                return Err(format!("got a virtual server for {address}"));
            };
            let protocol = match transport {
                Transport::TCP => "TCP",
                Transport::UDP => "UDP",
                _ => "SCTP",
            };
            let mh = match server.flags.as_deref() {
                None => 0,
                Some("mh-port") => MH_PORT,
                Some(other) => return Err(format!("got flags `{other}`")),
            };
            let mut destinations = Vec::new();
            for (to, real) in server.servers() {
                if real.method != Method::Masquerade {
                    return Err(format!("got {real:?} at {to}"));
                }
                destinations.push(Destination { address: to.ip(), port: to.port(), weight: real.weight });
            }
            got.push(Virtual {
                address,
                port,
                protocol: protocol.into(),
                scheduler: server.scheduler.to_string(),
                flags: mh | if server.persistence.is_some() { PERSISTENT } else { 0 },
                timeout: server.persistence.map_or(0, |persistence| persistence.seconds),
                destinations: Some(destinations),
            });
        }
        got.sort_by_key(key);
        equal("virtual servers", &expected, &got)
    }

    /// Name of a set in this family. Some recordings of IPv6 have the names of IPv4.
    fn set_name(&self, recorded: &str) -> Option<&'static str> {
        let family = self.proxy.config().family;
        let recorded_in = if self.config.v6_names == Some(false) { IpFamily::Ipv4 } else { family };
        Set::named(recorded, recorded_in).map(|set| set.name(family))
    }

    fn compare_sets(&self, expected: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        let mut sets = Vec::new();
        for (name, entries) in expected {
            let name = self.set_name(name).ok_or_else(|| format!("unknown set `{name}`"))?;
            let kind = Set::named(name, self.proxy.config().family).map_or(ipset::SetType::HashIp, Set::kind);
            let read = |text: &String| {
                let mut entry = Entry::parse(text, kind)
                    .ok_or_else(|| format!("unknown entry `{text}` of set `{name}`"))?;
                if let Some((Some(_), port @ 0)) = &mut entry.port {
                    *port = ABSENT_PORT;
                }
                Ok::<_, String>(entry)
            };
            let entries = entries.iter().map(read).collect::<Result<BTreeSet<_>, _>>()?;
            sets.push((name.to_owned(), entries));
        }
        sets.sort();
        let got = self.kernel.sets.iter().map(|(name, set)| (name.to_string(), set.entries.clone()));
        let got: Vec<_> = got.collect();
        equal("sets", &sets, &got)
    }

    /// The whole text, line by line, and what the changes made of the rules.
    fn compare_rules(&self, expected: &str) -> Result<(), String> {
        let mut whole = self.proxy.clone();
        let mut input = Input::default();
        let _ = whole.sync(&self.slices, Scope::Full, &mut input);
        let got = String::from_utf8(input.rules).map_err(|error| error.to_string())?;
        let expected = self.canonical(expected);
        equal("rules", &expected, &self.canonical(&got))?;
        let family = Family::from(self.proxy.config().family);
        let read = Ruleset::parse(&expected.join("\n"), family).map_err(|error| error.to_string())?;
        let listed = |rules: &Ruleset| -> Vec<String> {
            let lines = rules.tables().iter().flat_map(|table| {
                let chains = table.chains().into_iter().filter(|(name, _)| name.starts_with("KUBE-"));
                chains.flat_map(move |(name, chain)| {
                    let name = format!("{} {name} ", table.name());
                    chain.rules.iter().map(move |rule| format!("{name}{}", rule.text(family)))
                })
            });
            let mut lines: Vec<String> = lines.collect();
            // By table and chain; the sort is stable, so rules keep their order.
            lines.sort_by_key(|line| place(line));
            lines
        };
        let changed = self.kernel.rules.as_ref().map(listed).unwrap_or_default();
        equal("rules after changes", &listed(&read), &changed)
    }

    /// The lines with marks as numbers and sets by the name they have here; rules of single load balancer addresses come
    /// in no fixed order.
    fn canonical(&self, text: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            for index in 1..words.len() {
                if words[index - 1].ends_with("-mark") {
                    let mark = |mark: &str| match mark {
                        "" => format!("{ABSENT_MARK:#x}"),
                        mark => number(mark).map_or_else(|| mark.to_owned(), |mark| format!("{mark:#x}")),
                    };
                    words[index] = words[index].split('/').map(mark).collect::<Vec<_>>().join("/");
                }
                if words[index - 1] == "--vport" && words[index] == "0" {
                    words[index] = ABSENT_PORT.to_string();
                }
                if words[index - 1] == "--match-set"
                    && let Some(name) = self.set_name(&words[index])
                {
                    words[index] = name.to_owned();
                }
            }
            lines.push(words.join(" "));
        }
        let tables = lines.split_inclusive(|line| line == "COMMIT");
        let sorted = tables.flat_map(|table| {
            let mut table = table.to_vec();
            table.sort_by_key(|line| line.starts_with("-A").then(|| place(line)));
            table.sort_by_key(|line| line == "COMMIT");
            table
        });
        sorted.collect()
    }
}

/// By chain; the order of rules counts in all of them but one.
fn place(line: &str) -> (String, String) {
    let chain = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let rule = if chain == "KUBE-IPVS-OUT-FILTER" { line.to_owned() } else { String::new() };
    (chain, rule)
}

/// Compares two lists, and names the first member of each that the other lacks.
fn equal<T: PartialEq + std::fmt::Debug>(what: &str, expected: &[T], got: &[T]) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    let missing = expected.iter().find(|one| !got.contains(one));
    let extra = got.iter().find(|one| !expected.contains(one));
    if missing.or(extra).is_none() {
        return Err(format!("{what}: expected the order {expected:?}, got {got:?}"));
    }
    Err(format!("{what}: expected {missing:?}, got {extra:?}"))
}
