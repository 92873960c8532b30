//! What iptables and IPVS mode have in common: the rules of packets that are marked to be masqueraded, and how traffic
//! of local Pods is matched.

use alloc::string::String;
use alloc::vec::Vec;

use super::text::Text;
use crate::config::{LocalDetector, ProxyConfig};

/// The rules of marked packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    mark: String,
    random_fully: bool,
}

impl Marked {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        Self { mark: alloc::format!("{:#010x}", config.masquerade_mark), random_fully: config.random_fully }
    }

    /// Those in `KUBE-POSTROUTING`, which masquerade.
    pub(crate) fn postrouting(&self, mut rule: impl FnMut(&dyn Fn(&mut Vec<u8>))) {
        rule(&|w| {
            w.text("-m mark ! --mark ").text(&self.mark).text("/").text(&self.mark).text(" -j RETURN");
        });
        // The mark is cleared so that the packet is not masqueraded again if it goes through the stack twice.
        rule(&|w| {
            w.text("-j MARK --xor-mark ").text(&self.mark);
        });
        rule(&|w| {
            w.text("-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE");
            if self.random_fully {
                w.text(" --random-fully");
            }
        });
    }

    /// The one in `KUBE-MARK-MASQ`, which marks.
    pub(crate) fn mark_masq(&self, w: &mut Vec<u8>) {
        w.text("-j MARK --or-mark ").text(&self.mark);
    }

    /// Those in `KUBE-FORWARD`, which let marked packets and what follows them pass.
    pub(crate) fn forward(&self, mut rule: impl FnMut(&dyn Fn(&mut Vec<u8>))) {
        rule(&|w| {
            w.text("-m comment --comment \"kubernetes forwarding rules\" -m mark --mark ");
            w.text(&self.mark).text("/").text(&self.mark).text(" -j ACCEPT");
        });
        rule(&|w| {
            w.text("-m comment --comment \"kubernetes forwarding conntrack rule\"")
                .text(" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        });
    }
}

/// The match for traffic from local Pods, and the one for all other traffic.
pub(crate) fn local_traffic(detector: &LocalDetector) -> Option<(String, String)> {
    let local = match detector {
        LocalDetector::Cidr(cidr) => alloc::format!("-s {cidr}"),
        LocalDetector::Bridge(name) => alloc::format!("-i {name}"),
        LocalDetector::InterfacePrefix(prefix) => alloc::format!("-i {prefix}+"),
        LocalDetector::None => return None,
    };
    let other = alloc::format!("! {local}");
    Some((local, other))
}
