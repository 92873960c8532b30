//! `ClusterNetworkPolicy` (policy.networking.k8s.io/v1alpha2).

use alloc::vec::Vec;
use ipnet::IpNet;
use smol_str::SmolStr;

use crate::scalar::string_enum;
use crate::serde_util::{api_kind, api_struct};
use crate::{LabelSelector, Port, Sent};

api_kind! {
    /// Rules of the cluster's administrator, before (Admin) or after (Baseline) NetworkPolicies
    /// (policy.networking.k8s.io/v1alpha2).
    pub struct ClusterNetworkPolicy: "policy.networking.k8s.io/v1alpha2" "ClusterNetworkPolicy" Cluster {
        /// Tier, priority, subject and rules.
        pub spec "spec": ClusterNetworkPolicySpec;
    }
}

api_struct! {
    /// `ClusterNetworkPolicySpec`.
    pub struct ClusterNetworkPolicySpec {
        /// When the policy is consulted.
        pub tier: Sent<PolicyTier>,
        /// Order in the tier: 0 first, 1000 last.
        pub priority: i32,
        /// Pods that the policy applies to.
        pub subject: PolicySubject,
        /// Rules for connections to the subject; the first match decides.
        pub ingress: Vec<ClusterNetworkPolicyIngressRule>,
        /// Rules for connections from the subject; the first match decides.
        pub egress: Vec<ClusterNetworkPolicyEgressRule>,
    }

    /// Pods that a cluster-scoped policy applies to: exactly one member is set.
    pub struct PolicySubject {
        /// All Pods of the matching namespaces.
        pub namespaces: Option<LabelSelector>,
        /// The matching Pods of the matching namespaces.
        pub pods: Option<NamespacedPodSelector>,
    }

    /// Pods by namespace and Pod labels (`NamespacedPod`).
    pub struct NamespacedPodSelector {
        /// Namespaces.
        pub namespace_selector: LabelSelector,
        /// Pods in them.
        pub pod_selector: LabelSelector,
    }

    /// `ClusterNetworkPolicyIngressRule`.
    pub struct ClusterNetworkPolicyIngressRule {
        /// Name, for people.
        pub name: SmolStr,
        /// What happens to a match.
        pub action: Sent<PolicyAction>,
        /// Sources.
        pub from: Vec<ClusterNetworkPolicyIngressPeer>,
        /// Protocols and ports; empty means all.
        pub protocols: Vec<ClusterNetworkPolicyProtocol>,
    }

    /// `ClusterNetworkPolicyEgressRule`.
    pub struct ClusterNetworkPolicyEgressRule {
        /// Name, for people.
        pub name: SmolStr,
        /// What happens to a match.
        pub action: Sent<PolicyAction>,
        /// Destinations.
        pub to: Vec<ClusterNetworkPolicyEgressPeer>,
        /// Protocols and ports; empty means all.
        pub protocols: Vec<ClusterNetworkPolicyProtocol>,
    }

    /// A source: exactly one member is set; none is a kind of peer that this version doesn't know.
    pub struct ClusterNetworkPolicyIngressPeer {
        /// All Pods of the matching namespaces.
        pub namespaces: Option<LabelSelector>,
        /// The matching Pods of the matching namespaces.
        pub pods: Option<NamespacedPodSelector>,
    }

    /// A destination: exactly one member is set; none is a kind of peer that this version doesn't
    /// know.
    pub struct ClusterNetworkPolicyEgressPeer {
        /// All Pods of the matching namespaces.
        pub namespaces: Option<LabelSelector>,
        /// The matching Pods of the matching namespaces.
        pub pods: Option<NamespacedPodSelector>,
        /// Nodes by label: their addresses.
        pub nodes: Option<LabelSelector>,
        /// Address ranges; they match Pod addresses too.
        pub networks: Vec<Sent<IpNet>>,
        /// Domain names, exact or with a leading `*.`.
        pub domain_names: Vec<SmolStr>,
    }

    /// A protocol with its ports: exactly one member is set.
    pub struct ClusterNetworkPolicyProtocol {
        /// TCP.
        pub tcp: Option<ClusterNetworkPolicyTransport>,
        /// UDP.
        pub udp: Option<ClusterNetworkPolicyTransport>,
        /// SCTP.
        pub sctp: Option<ClusterNetworkPolicyTransport>,
        /// A container port of the destination, by name; its protocol is that port's own.
        pub destination_named_port: SmolStr,
    }

    /// The ports of one protocol.
    pub struct ClusterNetworkPolicyTransport {
        /// Destination port; absent means every port.
        pub destination_port: Option<ClusterNetworkPolicyPort>,
    }

    /// A port or a range: exactly one member is set.
    pub struct ClusterNetworkPolicyPort {
        /// One port.
        pub number: Port,
        /// Several.
        pub range: Option<PolicyPortRange>,
    }

    /// An inclusive range of ports.
    pub struct PolicyPortRange {
        /// First port.
        pub start: Port,
        /// Last port.
        pub end: Port,
    }
}

string_enum! {
    /// When a cluster-scoped policy is consulted.
    pub enum PolicyTier {
        /// Before NetworkPolicies.
        Admin = "Admin",
        /// After NetworkPolicies, for Pods that none isolates.
        Baseline = "Baseline",
    }

    /// What happens to a connection that matches a rule.
    pub enum PolicyAction {
        /// Accepted, for this direction.
        Accept = "Accept",
        /// The name of Accept in v1alpha1.
        Allow = "Allow",
        /// Dropped.
        Deny = "Deny",
        /// Left to the next tier.
        Pass = "Pass",
    }
}
