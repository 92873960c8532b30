//! `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` (policy.networking.k8s.io/v1alpha1),
//! since replaced by ClusterNetworkPolicy.

use alloc::vec::Vec;
use ipnet::IpNet;
use smol_str::SmolStr;

use super::{NamespacedPodSelector, PolicyAction, PolicySubject, Protocol};
use crate::serde_util::{api_kind, api_struct};
use crate::{LabelSelector, Port, Sent};

api_kind! {
    /// Rules before NetworkPolicies (policy.networking.k8s.io/v1alpha1).
    pub struct AdminNetworkPolicy: "policy.networking.k8s.io/v1alpha1" "AdminNetworkPolicy" Cluster {
        /// Priority, subject and rules.
        pub spec "spec": AdminNetworkPolicySpec;
    }
}

api_kind! {
    /// Rules after NetworkPolicies; the one object is named `default`
    /// (policy.networking.k8s.io/v1alpha1).
    pub struct BaselineAdminNetworkPolicy: "policy.networking.k8s.io/v1alpha1" "BaselineAdminNetworkPolicy" Cluster {
        /// Subject and rules; the priority stays 0.
        pub spec "spec": AdminNetworkPolicySpec;
    }
}

api_struct! {
    /// `AdminNetworkPolicySpec`, and `BaselineAdminNetworkPolicySpec` without priority.
    pub struct AdminNetworkPolicySpec {
        /// Order among the policies: 0 first, 1000 last.
        pub priority: i32,
        /// Pods that the policy applies to.
        pub subject: PolicySubject,
        /// Rules for connections to the subject; the first match decides.
        pub ingress: Vec<AdminNetworkPolicyIngressRule>,
        /// Rules for connections from the subject; the first match decides.
        pub egress: Vec<AdminNetworkPolicyEgressRule>,
    }

    /// `AdminNetworkPolicyIngressRule`.
    pub struct AdminNetworkPolicyIngressRule {
        /// Name, for people.
        pub name: SmolStr,
        /// What happens to a match; Baseline has no Pass.
        pub action: Sent<PolicyAction>,
        /// Sources.
        pub from: Vec<AdminNetworkPolicyIngressPeer>,
        /// Ports; `None` means all.
        pub ports: Option<Vec<AdminNetworkPolicyPort>>,
    }

    /// `AdminNetworkPolicyEgressRule`.
    pub struct AdminNetworkPolicyEgressRule {
        /// Name, for people.
        pub name: SmolStr,
        /// What happens to a match; Baseline has no Pass.
        pub action: Sent<PolicyAction>,
        /// Destinations.
        pub to: Vec<AdminNetworkPolicyEgressPeer>,
        /// Ports; `None` means all.
        pub ports: Option<Vec<AdminNetworkPolicyPort>>,
    }

    /// A source: exactly one member is set.
    pub struct AdminNetworkPolicyIngressPeer {
        /// All Pods of the matching namespaces.
        pub namespaces: Option<LabelSelector>,
        /// The matching Pods of the matching namespaces.
        pub pods: Option<NamespacedPodSelector>,
    }

    /// A destination: exactly one member is set.
    pub struct AdminNetworkPolicyEgressPeer {
        /// All Pods of the matching namespaces.
        pub namespaces: Option<LabelSelector>,
        /// The matching Pods of the matching namespaces.
        pub pods: Option<NamespacedPodSelector>,
        /// Nodes by label: their addresses.
        pub nodes: Option<LabelSelector>,
        /// Address ranges.
        pub networks: Vec<Sent<IpNet>>,
        /// Domain names, exact or with a leading `*.`.
        pub domain_names: Vec<SmolStr>,
    }

    /// A port: exactly one member is set.
    pub struct AdminNetworkPolicyPort {
        /// One port.
        pub port_number: Option<PolicyPortNumber>,
        /// A container port of the destination, by name.
        pub named_port: Option<SmolStr>,
        /// Several.
        pub port_range: Option<ProtocolPortRange>,
    }

    /// A protocol and a port.
    pub struct PolicyPortNumber {
        /// Protocol; empty means TCP.
        pub protocol: Sent<Protocol>,
        /// Port.
        pub port: Port,
    }

    /// A protocol and an inclusive range of ports.
    pub struct ProtocolPortRange {
        /// Protocol; empty means TCP.
        pub protocol: Sent<Protocol>,
        /// First port.
        pub start: Port,
        /// Last port.
        pub end: Port,
    }
}
