//! What changes for each Service when a node's proxy moves to another mode.
//!
//! [`report`] sends the packets of [`Surroundings`] through the rules of both modes and compares what
//! becomes of them. Nothing is listed because of its name: a difference is found first, and then named, if it is one
//! that is [`Known`] of the reference, with what it means and what to do about it.
//!
//! ```
//! use svc_endpoints::view::SliceCache;
//! use svc_model::{IpFamily, Service};
//! use svc_rules::migrate::{self, Known, Side};
//! use svc_rules::probe::Client;
//! use svc_rules::{Scheme, ProxyConfig};
//!
//! let service: Service = serde_json::from_value(serde_json::json!({
//!     "metadata": {"namespace": "shop", "name": "cart"},
//!     "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}
//! }))?;
//! let config = ProxyConfig::new(IpFamily::Ipv4, "node-a");
//! let (from, to) = (Side::new(Scheme::Iptables, &config), Side::new(Scheme::Nftables, &config));
//! let differences = migrate::report(from, to, [&service], &SliceCache::new());
//! let ping = differences.iter().find(|found| found.known == Some(Known::Pings));
//! assert_eq!(ping.unwrap().client, Client::Pod);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod known;
mod node;

pub use known::Known;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use svc_endpoints::view::SliceCache;
use svc_model::Service;

use crate::config::ProxyConfig;
use crate::plan::{ServicePortName, port_plans};
use crate::probe::{Answer, Client, Surroundings};
use crate::scheme::{NodeRules, Scheme};

/// One of two modes of a node.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// How rules are written.
    pub scheme: Scheme,
    /// The proxy's configuration in that mode. Both are of the same node and family.
    pub config: &'a ProxyConfig,
}

impl<'a> Side<'a> {
    /// This scheme with this configuration.
    #[must_use]
    pub const fn new(scheme: Scheme, config: &'a ProxyConfig) -> Self {
        Self { scheme, config }
    }
}

/// A connection that fares differently.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// The Service port that is connected to; absent if the connection is to none.
    pub service: Option<ServicePortName>,
    /// Who connects.
    pub client: Client,
    /// To what, in words: `cluster address 10.96.0.7:80/tcp`.
    pub target: String,
    /// What becomes of it in the mode that is left.
    pub from: Answer,
    /// What becomes of it in the mode that is moved to.
    pub to: Answer,
    /// The difference between the modes that it comes from; absent if it is none of those that are known.
    pub known: Option<Known>,
}

/// Everything that changes between the two modes: of the node as a whole first, then Service by Service in the order
/// given, port by port.
///
/// The rules of each Service are generated and walked by themselves, so the cost grows with the number of Services.
#[must_use]
pub fn report<'a>(
    from: Side<'_>,
    to: Side<'_>,
    services: impl IntoIterator<Item = &'a Service>,
    slices: &SliceCache,
) -> Vec<Difference> {
    let mut differences = node::differences(from, to);
    for service in services {
        of_service(from, to, service, slices, &mut differences);
    }
    differences
}

fn of_service(
    from: Side<'_>,
    to: Side<'_>,
    service: &Service,
    slices: &SliceCache,
    out: &mut Vec<Difference>,
) {
    let plans = port_plans(from.config, service, slices);
    if plans.is_empty() {
        return;
    }
    let surroundings = Surroundings::new(from.config, plans);
    let rules = [from, to].map(|side| NodeRules::new(side.scheme, side.config, [service], slices));
    let hosts = [&rules[0], &rules[1]].map(|rules| rules.host(surroundings.host().clone()));
    for probe in surroundings.probes() {
        let Some(plan) = surroundings.plan(&probe) else { continue };
        let [a, b] = [(&rules[0], &hosts[0]), (&rules[1], &hosts[1])]
            .map(|(rules, host)| surroundings.ask(rules.kernel(), host, &probe));
        if !a.same(&b) {
            out.push(Difference {
                service: Some(plan.service.name.clone()),
                client: probe.client,
                target: probe.target().to_string(),
                known: Known::of(plan, &probe, [from, to], [&a, &b]),
                from: a,
                to: b,
            });
        }
    }
    node::health_checks([from, to], &surroundings, [&rules[0], &rules[1]], out);
}
