//! Rules that differ between versions of Kubernetes, as values.

/// The rules of one version of Kubernetes, where versions differ. [`Compat::V1_36`] is the default; a cluster
/// with other feature gates sets the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Compat {
    /// Refuse new addresses with leading zeros and IPv4-mapped ones, and ranges with host bits (gate
    /// `StrictIPCIDRValidation`, KEP-4858, on since 1.36). What the old object had stays accepted.
    pub strict_ip_validation: bool,
    /// Names of Services may start with a digit (gate `RelaxedServiceNameValidation`, KEP-5311, on since
    /// 1.36).
    pub relaxed_service_names: bool,
    /// `trafficDistribution` may be `PreferSameZone` and `PreferSameNode` (gate
    /// `PreferSameTrafficDistribution`, KEP-3015, on since 1.34).
    pub prefer_same_traffic_distribution: bool,
    /// A status may list load-balancer addresses of a Service of another type (gate
    /// `AllowServiceLBStatusOnNonLB`, off).
    pub load_balancer_status_on_any_type: bool,
    /// How values of label selectors in policies are judged.
    pub selector_values: SelectorValues,
}

/// How validation judges the values of `matchExpressions` in policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SelectorValues {
    /// Each must be a label value.
    Checked,
    /// The same, unless the policy is being updated and had a bad one before: what the API server does.
    CheckedUnlessStored,
    /// They may be anything.
    Unchecked,
}

impl Compat {
    /// Kubernetes 1.36 with its default feature gates.
    pub const V1_36: Self = Self {
        strict_ip_validation: true,
        relaxed_service_names: true,
        prefer_same_traffic_distribution: true,
        load_balancer_status_on_any_type: false,
        selector_values: SelectorValues::CheckedUnlessStored,
    };

    /// Kubernetes 1.34 and 1.35 with their default feature gates.
    pub const V1_35: Self = Self { strict_ip_validation: false, relaxed_service_names: false, ..Self::V1_36 };
}

impl Default for Compat {
    fn default() -> Self {
        Self::V1_36
    }
}
