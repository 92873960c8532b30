//! IPVS mode, as kube-proxy 1.36 writes it: a virtual server in the kernel for each address and port of a Service, a
//! dummy device that makes the addresses local, sets of addresses and ports, and a few iptables rules that look into the
//! sets to masquerade and to filter.
//!
//! The mode is deprecated in Kubernetes (KEP-5495). [`Deviation`] lists where it treats packets otherwise than iptables
//! mode does.
//!
//! ```
//! use svc_endpoints::view::SliceCache;
//! use svc_model::{EndpointSlice, IpFamily, Service};
//! use svc_rules::ProxyConfig;
//! use svc_rules::ipvs::{Input, Proxy, Scope};
//!
//! let service: Service = serde_json::from_str(r#"{
//!     "metadata": {"namespace": "shop", "name": "cart"},
//!     "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}
//! }"#)?;
//! let slice: EndpointSlice = serde_json::from_str(r#"{
//!     "metadata": {"namespace": "shop", "name": "cart-1", "labels": {"kubernetes.io/service-name": "cart"}},
//!     "addressType": "IPv4",
//!     "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
//!     "ports": [{"name": "http", "port": 8080}]
//! }"#)?;
//!
//! let mut slices = SliceCache::new();
//! let mut proxy = Proxy::new(ProxyConfig::new(IpFamily::Ipv4, "node-a"));
//! let _ = proxy.apply(&service);
//! proxy.touch(&slices.apply(&slice));
//! let mut input = Input::default();
//! let _ = proxy.sync(&slices, Scope::Changes, &mut input);
//! for (tool, text) in input.texts() {
//!     println!("# {tool}\n{}", String::from_utf8_lossy(text));
//! }
//! proxy.succeeded();
//! assert_eq!(
//!     String::from_utf8(input.servers)?,
//!     "-A -t 10.96.0.7:80 -s rr\n\
//!      -a -t 10.96.0.7:80 -r 10.0.0.1:8080 -m -w 1\n\
//!      -a -t 10.96.0.7:80 -r 10.0.0.2:8080 -m -w 1\n"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: the reference creates its sets for 65,536 entries each, and so does this crate; the kernel refuses more. A
//! timeout of session affinity that ipvsadm would not take (none that the API server lets through) is brought within 1
//! second to a year.

mod counted;
mod deviation;
mod part;
mod rules;
mod server;
mod set;
mod sync;
mod sysctl;

use alloc::vec::Vec;

pub use deviation::Deviation;
pub use rules::jumps;
pub use set::Set;
pub use sync::{Proxy, Scope, Sync};
pub use sysctl::{sysctls, timeouts};

/// The device that holds the addresses of Services, of type `dummy`: `ip link add kube-ipvs0 type dummy`. It need not
/// be up.
pub const DUMMY_DEVICE: &str = "kube-ipvs0";

/// What is to be fed to which tool, in the order of the fields; an empty text needs no call.
///
/// In this order no packet to a Service ever meets an address of the node that no virtual server answers for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// For `ipset -exist restore`.
    pub sets: Vec<u8>,
    /// For `iptables-restore --noflush --counters`, or `ip6tables-restore`. The jumps to these chains ([`jumps`]) are
    /// put in one by one.
    pub rules: Vec<u8>,
    /// For `ip -force -batch -`: addresses to be taken from the dummy device.
    pub unbind: Vec<u8>,
    /// For `ipvsadm --restore`, which goes on after what the kernel refuses.
    pub servers: Vec<u8>,
    /// For `ip -force -batch -`: addresses to be given to the dummy device.
    pub bind: Vec<u8>,
}

impl Input {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts().into_iter().all(|(_, text)| text.is_empty())
    }

    /// Empties all texts, keeping their memory.
    pub fn clear(&mut self) {
        let Self { sets, rules, unbind, servers, bind } = self;
        [sets, rules, unbind, servers, bind].into_iter().for_each(Vec::clear);
    }

    /// The texts in order, each with the tool that takes it (that of IPv4 in the case of iptables).
    #[must_use]
    pub fn texts(&self) -> [(&'static str, &[u8]); 5] {
        [
            ("ipset -exist restore", &self.sets),
            ("iptables-restore --noflush --counters", &self.rules),
            ("ip -force -batch -", &self.unbind),
            ("ipvsadm --restore", &self.servers),
            ("ip -force -batch -", &self.bind),
        ]
    }
}
