//! Replays what a real kernel did: the same servers, connections and edits, in the same order.

#![allow(unreachable_pub, reason = "included by the crate's own test and by the conformance runner")]
#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a missing key is null")]
#![allow(clippy::type_complexity, reason = "the shape that the conformance runner expects")]
#![allow(clippy::std_instead_of_core, clippy::std_instead_of_alloc, reason = "runs where std is")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use svc_lb::{
    AffinityOptions, Backend, Balancer, BalancerOptions, CacheOptions, Connection, Quiescent, Request,
    Scheduler,
};

/// One case for each file, named by scheduler and source.
pub fn run(text: &str) -> Result<Vec<(String, Result<(), String>)>, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let name = format!("{} {}", string(&file, "scheduler")?, file["source"].as_str().unwrap_or_default());
    let deterministic = file["deterministic"].as_bool().unwrap_or(true);
    let mut replay = Replay::new(&file)?;
    let steps = file["steps"].as_array().ok_or("no steps")?;
    for (index, step) in steps.iter().enumerate() {
        let outcome = replay.step(step)?;
        if deterministic && let Err(difference) = outcome {
            let op = string(step, "op")?;
            return Ok(vec![(name, Err(format!("step {index} ({op}): {difference}")))]);
        }
    }
    Ok(vec![(name, Ok(()))])
}

/// How long the entry of a closed and of a reset connection lives (`tcp_timeouts`: TIME_WAIT, CLOSE).
const TIME_WAIT: Duration = Duration::from_secs(120);
const CLOSE: Duration = Duration::from_secs(10);

struct Replay {
    balancer: Balancer,
    options: CacheOptions,
    service: Option<SocketAddr>,
    now: Duration,
    /// With the time at which the entry leaves, once it is closing.
    connections: BTreeMap<u64, (Connection, Option<Duration>)>,
}

impl Replay {
    fn new(file: &Value) -> Result<Self, String> {
        let setup: Vec<&str> = list(&file["setup"]).filter_map(Value::as_str).collect();
        let mut cache = CacheOptions::default();
        let mut quiescent = Quiescent::Keep;
        for line in setup {
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words.as_slice() {
                ["echo", seconds, ">", path] if path.ends_with("_expiration") => {
                    let seconds = seconds.parse().map_err(|_| format!("bad expiration in `{line}`"))?;
                    cache = cache.with_expiration(Duration::from_secs(seconds));
                }
                ["echo", value, ">", path] if path.ends_with("expire_quiescent_template") => {
                    quiescent = if value == "0" { Quiescent::Keep } else { Quiescent::Expire };
                }
                _ => {}
            }
        }
        let mut options = BalancerOptions::new(scheduler(file, cache)?);
        if let Some(persistence) = file.get("persistence").filter(|value| !value.is_null()) {
            let timeout =
                Duration::from_secs(persistence["timeout"].as_u64().ok_or("persistence without timeout")?);
            let (ipv4, ipv6) = match string(persistence, "netmask")? {
                mask if mask.contains('.') => {
                    let mask: std::net::Ipv4Addr =
                        mask.parse().map_err(|_| format!("bad netmask `{mask}`"))?;
                    (mask.to_bits().leading_ones() as u8, 128)
                }
                length => (32, length.parse().map_err(|_| format!("bad netmask `{length}`"))?),
            };
            let affinity = AffinityOptions::ipvs(timeout).with_prefixes(ipv4, ipv6).with_quiescent(quiescent);
            options = options.with_affinity(affinity);
        }
        let mut balancer = Balancer::with_options(options);
        for server in list(&file["servers"]) {
            let ip: IpAddr = string(server, "addr")?.parse().map_err(|_| "bad server address".to_string())?;
            let address = SocketAddr::new(ip, number(server, "port")? as u16);
            balancer.add(backend(server, address)?, Duration::ZERO).map_err(|error| error.to_string())?;
        }
        let service = file["service"]["addr"].as_str().map(address).transpose()?;
        Ok(Self { balancer, options: cache, service, now: Duration::ZERO, connections: BTreeMap::new() })
    }

    fn step(&mut self, step: &Value) -> Result<Result<(), String>, String> {
        let outcome = match string(step, "op")? {
            "connect" => self.connect(step)?,
            "close" => self.close(step, TIME_WAIT)?,
            "reset" => self.close(step, CLOSE)?,
            "expire" | "advance" => {
                self.advance(Duration::from_secs(u64::from(number(step, "seconds")?)));
                self.check_gone(step)
            }
            "set-weight" => {
                let edited = backend(step, address(string(step, "server")?)?)?;
                self.balancer.edit(edited).map(|_| ()).map_err(|error| error.to_string())
            }
            "add" => {
                let added = backend(step, address(string(step, "server")?)?)?;
                self.balancer.add(added, self.now).map(|_| ()).map_err(|error| error.to_string())
            }
            "del" => {
                let removed = address(string(step, "server")?)?;
                self.balancer.remove(removed, self.now).map(|_| ()).map_err(|error| error.to_string())
            }
            "set-scheduler" => {
                let scheduler = scheduler(step, self.options)?;
                self.balancer.set_scheduler(scheduler).map_err(|error| error.to_string())
            }
            other => return Err(format!("unknown step `{other}`")),
        };
        Ok(outcome.and_then(|()| self.check_state(step)))
    }

    fn connect(&mut self, step: &Value) -> Result<Result<(), String>, String> {
        let client: IpAddr = string(step, "client")?.parse().map_err(|_| "bad client".to_string())?;
        let client = SocketAddr::new(client, number(step, "port")? as u16);
        let destination = match step["vip"].as_str() {
            Some(vip) => address(vip)?,
            None => self.service.ok_or("connect without an address")?,
        };
        let id = step["id"].as_u64().ok_or("connect without id")?;
        let entropy = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let request = Request::new(client).to(destination).at(self.now).with_entropy(entropy);
        let chosen = match self.balancer.connect(&request) {
            Ok(connection) => {
                let mut server =
                    self.balancer.backend(connection.backend()).ok_or("unknown backend")?.backend.address;
                if server.port() == 0 {
                    server.set_port(destination.port());
                }
                self.connections.insert(id, (connection, None));
                Some(server)
            }
            Err(_) => None,
        };
        let expected = step["expect"].as_str().map(address).transpose()?;
        Ok(if chosen == expected { Ok(()) } else { Err(format!("expected {expected:?}, got {chosen:?}")) })
    }

    fn close(&mut self, step: &Value, lives: Duration) -> Result<Result<(), String>, String> {
        let id = step["id"].as_u64().ok_or("close without id")?;
        let Some((connection, gone)) = self.connections.get_mut(&id) else {
            return Ok(Err(format!("connection {id} was refused")));
        };
        self.balancer.deactivate(connection);
        *gone = Some(self.now + lives);
        Ok(Ok(()))
    }

    /// Lets time pass; closing entries leave in the order of their times.
    fn advance(&mut self, by: Duration) {
        self.now += by;
        let due = |gone: &Option<Duration>| gone.filter(|gone| *gone <= self.now);
        let mut leaving: Vec<(Duration, u64)> =
            self.connections.iter().filter_map(|(id, (_, gone))| Some((due(gone)?, *id))).collect();
        leaving.sort_unstable();
        for (at, id) in leaving {
            if let Some((connection, _)) = self.connections.remove(&id) {
                self.balancer.release(connection, at);
            }
        }
    }

    fn check_gone(&self, step: &Value) -> Result<(), String> {
        match list(&step["ids"]).filter_map(Value::as_u64).find(|id| self.connections.contains_key(id)) {
            Some(id) => Err(format!("connection {id} still lives")),
            None => Ok(()),
        }
    }

    fn check_state(&self, step: &Value) -> Result<(), String> {
        let Some(expected) = step.get("state").filter(|state| !state.is_null()) else { return Ok(()) };
        let state: Vec<Value> = self
            .balancer
            .backends()
            .map(|state| {
                let backend = state.backend;
                serde_json::json!([backend.address.to_string(), backend.weight, state.active, state.inactive])
            })
            .collect();
        let state = Value::Array(state);
        if state == *expected { Ok(()) } else { Err(format!("expected state {expected}, got {state}")) }
    }
}

fn scheduler(value: &Value, cache: CacheOptions) -> Result<Scheduler, String> {
    let flags = list(&value["flags"]).filter_map(Value::as_str);
    let parsed = Scheduler::parse(string(value, "scheduler")?, flags).map_err(|error| error.to_string())?;
    Ok(match parsed {
        Scheduler::Lblc(_) => Scheduler::Lblc(cache),
        Scheduler::Lblcr(_) => Scheduler::Lblcr(cache),
        other => other,
    })
}

fn backend(value: &Value, address: SocketAddr) -> Result<Backend, String> {
    let threshold = |key: &str| value[key].as_u64().unwrap_or(0) as u32;
    Ok(Backend::new(address)
        .with_weight(number(value, "weight")?)
        .with_thresholds(threshold("u_threshold"), threshold("l_threshold")))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key].as_str().ok_or_else(|| format!("no text `{key}` in {value}"))
}

fn number(value: &Value, key: &str) -> Result<u32, String> {
    value[key]
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| format!("no number `{key}`"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("bad address `{text}`"))
}
