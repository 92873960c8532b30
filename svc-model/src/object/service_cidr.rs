//! `ServiceCIDR` (networking.k8s.io/v1, KEP-1880).

use alloc::vec::Vec;
use ipnet::IpNet;
use smol_str::SmolStr;

use crate::serde_util::{api_kind, api_struct};
use crate::{Sent, Timestamp};

api_kind! {
    /// Ranges from which ClusterIPs are taken (networking.k8s.io/v1).
    pub struct ServiceCidr: "networking.k8s.io/v1" "ServiceCIDR" Cluster {
        /// Ranges.
        pub spec "spec": ServiceCidrSpec;
        /// Whether they may be used.
        pub status "status": ServiceCidrStatus;
    }
}

api_struct! {
    /// `ServiceCIDRSpec`.
    pub struct ServiceCidrSpec {
        /// Ranges, at most one a family.
        pub cidrs: Vec<Sent<IpNet>>,
    }

    /// `ServiceCIDRStatus`.
    pub struct ServiceCidrStatus {
        /// Conditions, `Ready` among them.
        pub conditions: Vec<Condition>,
    }

    /// `metav1.Condition`.
    pub struct Condition {
        /// Name of the condition.
        #[serde(rename = "type")]
        pub condition_type: SmolStr,
        /// `True`, `False` or `Unknown`.
        pub status: SmolStr,
        /// When the status last changed.
        pub last_transition_time: Option<Timestamp>,
        /// Short cause.
        pub reason: SmolStr,
        /// Cause in words.
        pub message: SmolStr,
    }
}

impl ServiceCidr {
    /// True unless the `Ready` condition says `False`, or deletion has begun: new addresses may be
    /// taken from it.
    pub fn is_usable(&self) -> bool {
        let refused = |c: &Condition| c.condition_type == "Ready" && c.status == "False";
        !self.metadata.is_terminating() && !self.status.conditions.iter().any(refused)
    }
}
