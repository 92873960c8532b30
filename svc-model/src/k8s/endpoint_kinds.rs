//! EndpointSlice, Endpoints, ServiceCIDR.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::{Convert, mirror};
use crate::Condition;

mirror! {
    EndpointSlice = discovery::EndpointSlice { metadata, address_type, endpoints, ports }
    Endpoint = discovery::Endpoint {
        addresses, conditions, hostname, target_ref, node_name, zone, hints
    }
    EndpointConditions = discovery::EndpointConditions { ready, serving, terminating }
    EndpointHints = discovery::EndpointHints { for_zones, for_nodes }
    ForZone = discovery::ForZone { name }
    ForNode = discovery::ForNode { name }
    EndpointPort = discovery::EndpointPort { name, protocol, port, app_protocol }

    Endpoints = core::Endpoints { metadata, subsets }
    EndpointSubset = core::EndpointSubset { addresses, not_ready_addresses, ports }
    EndpointAddress = core::EndpointAddress { ip, hostname, node_name, target_ref }
    SubsetPort = core::EndpointPort { name, port, protocol, app_protocol }

    ServiceCidr = networking::ServiceCIDR { metadata, spec, status }
    ServiceCidrSpec = networking::ServiceCIDRSpec { cidrs }
    ServiceCidrStatus = networking::ServiceCIDRStatus { conditions }
}

impl Convert<Condition> for meta::Condition {
    fn convert(&self) -> Condition {
        Condition {
            condition_type: self.type_.convert(),
            status: self.status.convert(),
            last_transition_time: self.last_transition_time.convert(),
            reason: self.reason.convert(),
            message: self.message.convert(),
        }
    }
}

impl Convert<meta::Condition> for Condition {
    fn convert(&self) -> meta::Condition {
        meta::Condition {
            type_: self.condition_type.convert(),
            status: self.status.convert(),
            last_transition_time: self.last_transition_time.convert(),
            reason: self.reason.convert(),
            message: self.message.convert(),
            observed_generation: None,
        }
    }
}
