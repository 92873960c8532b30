//! `NetworkPolicy` (networking.k8s.io/v1).

use alloc::vec::Vec;
use ipnet::IpNet;

use super::Protocol;
use crate::scalar::string_enum;
use crate::serde_util::{api_kind, api_struct};
use crate::{IntOrString, LabelSelector, Port, Sent};

api_kind! {
    /// Which connections the selected Pods may have (networking.k8s.io/v1).
    pub struct NetworkPolicy: "networking.k8s.io/v1" "NetworkPolicy" Namespaced {
        /// Selection and rules.
        pub spec "spec": NetworkPolicySpec;
    }
}

api_struct! {
    /// `NetworkPolicySpec`.
    pub struct NetworkPolicySpec {
        /// Pods of the policy's namespace that it applies to; empty selects all.
        pub pod_selector: LabelSelector,
        /// Connections that may come in.
        pub ingress: Vec<NetworkPolicyIngressRule>,
        /// Connections that may go out.
        pub egress: Vec<NetworkPolicyEgressRule>,
        /// Directions that the policy isolates; empty means Ingress, and Egress if there is an
        /// egress rule.
        pub policy_types: Vec<Sent<PolicyType>>,
    }

    /// `NetworkPolicyIngressRule`.
    pub struct NetworkPolicyIngressRule {
        /// Ports; empty means every port of every protocol.
        pub ports: Vec<NetworkPolicyPort>,
        /// Sources; empty means everyone.
        pub from: Vec<NetworkPolicyPeer>,
    }

    /// `NetworkPolicyEgressRule`.
    pub struct NetworkPolicyEgressRule {
        /// Ports; empty means every port of every protocol.
        pub ports: Vec<NetworkPolicyPort>,
        /// Destinations; empty means everyone.
        pub to: Vec<NetworkPolicyPeer>,
    }

    /// `NetworkPolicyPort`.
    pub struct NetworkPolicyPort {
        /// Protocol; absent means TCP.
        pub protocol: Option<Sent<Protocol>>,
        /// Port, by number or name; absent means every port of the protocol.
        pub port: Option<IntOrString>,
        /// Last port of a range that begins at `port`.
        pub end_port: Option<Port>,
    }

    /// `NetworkPolicyPeer`: Pods by selectors, or a block of addresses.
    pub struct NetworkPolicyPeer {
        /// Pods, of the policy's namespace unless `namespace_selector` says otherwise.
        pub pod_selector: Option<LabelSelector>,
        /// Namespaces.
        pub namespace_selector: Option<LabelSelector>,
        /// Addresses.
        pub ip_block: Option<IpBlock>,
    }

    /// `IPBlock`.
    pub struct IpBlock {
        /// Range.
        pub cidr: Sent<IpNet>,
        /// Ranges inside that are left out.
        pub except: Vec<Sent<IpNet>>,
    }
}

string_enum! {
    /// Direction that a policy isolates.
    pub enum PolicyType {
        /// Connections to the Pod.
        Ingress = "Ingress",
        /// Connections from the Pod.
        Egress = "Egress",
    }
}

impl NetworkPolicySpec {
    /// True if the policy isolates the direction: listed in `policyTypes`, or, where that is
    /// empty, Ingress always and Egress if there is an egress rule.
    pub fn isolates(&self, direction: PolicyType) -> bool {
        if self.policy_types.is_empty() {
            direction == PolicyType::Ingress || !self.egress.is_empty()
        } else {
            self.policy_types.iter().any(|t| t.get() == Some(direction))
        }
    }
}

impl NetworkPolicyPort {
    /// The protocol; absent means TCP, `None` if the text is no protocol.
    pub fn protocol(&self) -> Option<Protocol> {
        match &self.protocol {
            None => Some(Protocol::Tcp),
            Some(sent) => sent.get(),
        }
    }
}
