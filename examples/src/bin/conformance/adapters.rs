//! The areas that the runner knows, each with its adapter.

/// Runs the cases of one vector file: name and outcome of each. An error means that the file is
/// unreadable.
pub(crate) type Adapter = fn(&str) -> Result<Vec<(String, Result<(), String>)>, String>;

macro_rules! areas {
    ($($area:literal = $module:ident $path:literal;)*) => {
        $(#[path = $path]
        #[allow(clippy::type_complexity, reason = "an adapter names no type of its own, so that it can stand anywhere")]
        mod $module;)*

        /// Name and adapter of every area.
        pub(crate) const AREAS: &[(&str, Adapter)] = &[$(($area, $module::run)),*];
    };
}

areas! {
    "alloc" = alloc "../../../../svc-model/tests/conformance/alloc.rs";
    "dns" = dns "../../../../svc-dns/tests/conformance/dns.rs";
    "endpoints" = endpoints "../../../../svc-endpoints/tests/conformance/endpoints.rs";
    "endpointslice" = endpointslice "../../../../svc-endpoints/tests/conformance/endpointslice.rs";
    "env" = env "../../../../svc-dns/tests/conformance/env.rs";
    "iptables" = iptables "../../../../svc-rules/tests/conformance/iptables.rs";
    "ipvs" = ipvs "../../../../svc-rules/tests/conformance/ipvs.rs";
    "netpol" = netpol "../../../../svc-netpol/tests/conformance/netpol.rs";
    "nftables" = nftables "../../../../svc-rules/tests/conformance/nftables.rs";
    "policy-validation" = policy_validation "../../../../svc-model/tests/conformance/policy_validation.rs";
    "scheduler" = scheduler "../../../../svc-lb/tests/conformance/scheduler.rs";
    "selector" = selector "../../../../svc-model/tests/conformance/selector.rs";
    "service" = service "../../../../svc-model/tests/conformance/service.rs";
}
