//! Addresses by position, so that no two objects share one: nodes in 172.16.0.0/12, Pods in 10.0.0.0/8 (a /24 a
//! node), ClusterIPs in 100.64.0.0/10, and their like in IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_model::IpFamily;

pub(super) fn node_address(node: usize, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::Ipv4 => address_v4([172, 16, 0, 0], node + 1),
        IpFamily::Ipv6 => address_v6(0xfd00_0172_0016, node as u64 + 1),
    }
}

pub(super) fn pod_address(node: usize, host: usize, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::Ipv4 => address_v4([10, 0, 0, 0], node * 256 + host),
        IpFamily::Ipv6 => {
            let range = u128::from(0xfd00_0010_0244_u64) << 80 | (node as u128) << 64;
            IpAddr::V6(Ipv6Addr::from(range | host as u128))
        }
    }
}

pub(super) fn cluster_address(service: usize, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::Ipv4 => address_v4([100, 64, 0, 0], service + 1),
        IpFamily::Ipv6 => address_v6(0xfd00_0010_0096, service as u64 + 1),
    }
}

fn address_v4(base: [u8; 4], offset: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(u32::from_be_bytes(base) + offset as u32))
}

fn address_v6(prefix: u64, offset: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(u128::from(prefix) << 80 | u128::from(offset)))
}
