//! Label selectors and NetworkPolicy.

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::{Convert, mirror};
use crate::selector::LabelSelectorRequirement;

mirror! {
    LabelSelector = meta::LabelSelector { match_labels, match_expressions }

    NetworkPolicy = networking::NetworkPolicy { metadata, spec }
    NetworkPolicySpec = networking::NetworkPolicySpec { pod_selector, ingress, egress, policy_types }
    NetworkPolicyIngressRule = networking::NetworkPolicyIngressRule { ports; from = from }
    NetworkPolicyEgressRule = networking::NetworkPolicyEgressRule { ports, to }
    NetworkPolicyPort = networking::NetworkPolicyPort { protocol, port, end_port }
    NetworkPolicyPeer = networking::NetworkPolicyPeer { pod_selector, namespace_selector, ip_block }
    IpBlock = networking::IPBlock { cidr, except }
}

impl Convert<LabelSelectorRequirement> for meta::LabelSelectorRequirement {
    fn convert(&self) -> LabelSelectorRequirement {
        LabelSelectorRequirement {
            key: self.key.convert(),
            operator: self.operator.convert(),
            values: self.values.convert(),
        }
    }
}

impl Convert<meta::LabelSelectorRequirement> for LabelSelectorRequirement {
    fn convert(&self) -> meta::LabelSelectorRequirement {
        meta::LabelSelectorRequirement {
            key: self.key.convert(),
            operator: self.operator.convert(),
            values: self.values.convert(),
        }
    }
}
