//! What the kernel has to be told besides.

use core::time::Duration;

use crate::config::ProxyConfig;

/// The kernel parameters that IPVS mode relies on: path under `/proc/sys`, and value. `kernel` is the version of the
/// kernel, major and minor.
pub fn sysctls(
    config: &ProxyConfig,
    kernel: (u32, u32),
) -> impl Iterator<Item = (&'static str, u32)> + use<> {
    // From 4.1 to 5.8 a client that comes back on a port it used before waits for a second, or loses the connection,
    // unless the old entry is used again (kubernetes#93297).
    let reuse = ((4, 1)..(5, 9)).contains(&kernel).then_some(("net/ipv4/vs/conn_reuse_mode", 0));
    let strict = [("net/ipv4/conf/all/arp_ignore", 1), ("net/ipv4/conf/all/arp_announce", 2)];
    let strict_arp = config.ipvs.strict_arp;
    // Masquerading needs connection tracking.
    [("net/ipv4/vs/conntrack", 1)]
        .into_iter()
        .chain(reuse)
        .chain([
            ("net/ipv4/vs/expire_nodest_conn", 1),
            ("net/ipv4/vs/expire_quiescent_template", 1),
            ("net/ipv4/ip_forward", 1),
        ])
        .chain(strict.into_iter().filter(move |_| strict_arp))
}

/// The arguments of `ipvsadm --set`: how many seconds connections of TCP, those of TCP after a FIN, and flows of UDP stay.
/// 0 leaves what the kernel has; `None` if that is all.
#[must_use]
pub fn timeouts(config: &ProxyConfig) -> Option<[u64; 3]> {
    let options = &config.ipvs;
    let all = [options.tcp_timeout, options.tcp_fin_timeout, options.udp_timeout]
        .map(|time: Duration| time.as_secs());
    (all != [0; 3]).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use svc_model::IpFamily;

    #[test]
    fn the_kernels_version_decides_on_reuse() {
        let config = ProxyConfig::new(IpFamily::Ipv4, "a");
        let reuses = |kernel| sysctls(&config, kernel).any(|(path, _)| path.ends_with("conn_reuse_mode"));
        assert!(!reuses((4, 0)) && reuses((4, 1)) && reuses((5, 8)) && !reuses((5, 9)) && !reuses((6, 1)));
    }

    #[test]
    fn options_add_their_own() {
        let mut config = ProxyConfig::new(IpFamily::Ipv4, "a");
        assert_eq!((sysctls(&config, (6, 1)).count(), timeouts(&config)), (4, None));
        config.ipvs.strict_arp = true;
        config.ipvs.udp_timeout = Duration::from_secs(30);
        assert_eq!((sysctls(&config, (6, 1)).count(), timeouts(&config)), (6, Some([0, 0, 30])));
    }
}
