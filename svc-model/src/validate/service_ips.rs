//! Cluster addresses and families of a Service: what they may be, and how they may change.

use core::net::IpAddr;

use smol_str::{SmolStr, format_smolstr};

use super::address;
use super::path::Path;
use super::problems::Problems;
use crate::{Compat, IpFamily, IpFamilyPolicy, Sent, Service, ServiceSpec, ServiceType};

const UNCHANGEABLE: &str = "must not change once it is set";

/// Whether validation takes the Service for a headless one: `clusterIPs` is exactly `["None"]`.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(spec.cluster_ips.as_slice(), [only] if only.is("None"))
}

pub(super) fn is_external_name(spec: &ServiceSpec) -> bool {
    spec.service_type.get() == Some(ServiceType::ExternalName)
}

fn is_ipv6(sent: &Sent<IpAddr>) -> bool {
    sent.get().is_some_and(|ip| ip.is_ipv6())
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`, one by one and against each other.
/// Allocation checks them too, before it fills them in.
pub(crate) fn cluster_ip_fields(
    problems: &mut Problems,
    service: &Service,
    old: Option<&Service>,
    compat: Compat,
) {
    let spec = &service.spec;
    if is_external_name(spec) {
        return;
    }
    let root = Path::root("spec");
    let ips = root.child("clusterIPs");
    match (spec.cluster_ip.is_empty(), spec.cluster_ips.first()) {
        (false, None) => problems.required(&ips, "must be given along with `clusterIP`"),
        (false, Some(first)) if *first != spec.cluster_ip => {
            problems.invalid(&ips, &list(spec), "must begin with `clusterIP`");
        }
        (true, Some(_)) => problems.invalid(&ips, &list(spec), "must be empty without `clusterIP`"),
        _ => {}
    }

    let families = root.child("ipFamilies");
    for (i, family) in spec.ip_families.iter().enumerate() {
        if family.get().is_none() {
            problems.unsupported(&families.index(i), family, IpFamily::ALL);
        }
        if spec.ip_families.iter().take(i).any(|earlier| earlier == family) {
            problems.duplicate(&families.index(i), family);
        }
    }
    if let Some(policy) = spec.ip_family_policy.as_ref().filter(|policy| policy.get().is_none()) {
        problems.unsupported(&root.child("ipFamilyPolicy"), policy, IpFamilyPolicy::ALL);
    }

    let old_ips = old.map_or(&[][..], |old| &old.spec.cluster_ips);
    let mut well_formed = true;
    for (i, ip) in spec.cluster_ips.iter().enumerate() {
        if i > 0 || !ip.is("None") {
            well_formed &= address::ip(problems, &ips.index(i), ip, old_ips, compat);
        } else if spec.cluster_ips.len() > 1 {
            well_formed = false;
            problems.invalid(&ips, &list(spec), "must have `None` as its only value, if at all");
        }
    }
    let count = spec.cluster_ips.len();
    if count > 2 {
        problems.invalid(&ips, &list(spec), "must have at most two values");
    }
    if !well_formed {
        return;
    }
    let ipv6 = spec.cluster_ips.iter().filter(|ip| is_ipv6(ip)).count();
    if count > 1 && (ipv6 == 0 || ipv6 == count) {
        problems.invalid(&ips, &list(spec), "must have at most one address of each family");
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in spec.cluster_ips.iter().zip(&spec.ip_families).enumerate() {
        let fits = match family.get() {
            Some(IpFamily::Ipv4) => !is_ipv6(ip),
            Some(IpFamily::Ipv6) => is_ipv6(ip),
            None => true,
        };
        if !fits {
            problems.invalid(
                &ips.index(i),
                ip,
                format_smolstr!("must be {family}, as `ipFamilies[{i}]` says"),
            );
        }
    }
}

fn list(spec: &ServiceSpec) -> SmolStr {
    let mut text = alloc::string::String::new();
    for (i, ip) in spec.cluster_ips.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        text.push_str(&format_smolstr!("{comma}{ip}"));
    }
    text.into()
}

fn wants_single_stack(spec: &ServiceSpec) -> bool {
    spec.ip_family_policy.as_ref().and_then(Sent::get) == Some(IpFamilyPolicy::SingleStack)
}

/// The primary address is kept for life, but from or to ExternalName; a secondary one may be added, and
/// given up along with the wish for two.
pub(super) fn cluster_ips_change(problems: &mut Problems, service: &Service, old: &Service) {
    let (new, old) = (&service.spec, &old.spec);
    if is_external_name(new) || is_external_name(old) || (is_headless(new) && is_headless(old)) {
        return;
    }
    let root = Path::root("spec");
    let ips = root.child("clusterIPs");
    let (now, before) = (new.cluster_ips.as_slice(), old.cluster_ips.as_slice());
    if now.len() == before.len() {
        for (i, (_, ip)) in before.iter().zip(now).enumerate().filter(|(_, (before, now))| before != now) {
            problems.invalid(&ips.index(i), ip, UNCHANGEABLE);
        }
        return;
    }
    match (now.first(), before.first()) {
        (None, _) => problems.invalid(&ips.index(0), "", "must not be given up"),
        (Some(now), Some(before)) if now != before => problems.invalid(&ips.index(0), now, UNCHANGEABLE),
        _ => {}
    }
    if now.len() == 1 && before.len() > 1 && !wants_single_stack(new) {
        policy_must_be_single(problems, &root, new, "must be `SingleStack` to give up the secondary address");
    }
}

/// The same for families; those of a headless Service are free to change.
pub(super) fn families_change(problems: &mut Problems, service: &Service, old: &Service) {
    let (new, old) = (&service.spec, &old.spec);
    if is_external_name(new) || is_external_name(old) || is_headless(new) || is_headless(old) {
        return;
    }
    let root = Path::root("spec");
    let families = root.child("ipFamilies");
    let first = families.index(0);
    let (now, before) = (new.ip_families.as_slice(), old.ip_families.as_slice());
    if now.len() == before.len() {
        // One problem for each family that differs, all at the first: so Kubernetes reports it.
        for (_, family) in before.iter().zip(now).filter(|(before, now)| before != now) {
            problems.invalid(&first, family, UNCHANGEABLE);
        }
        return;
    }
    // Kubernetes looks at the addresses here, not at the families.
    if now.len() < before.len() && new.cluster_ips.is_empty() {
        problems.invalid(&first, "", "must not be given up");
    }
    if let (Some(now), Some(before)) = (now.first(), before.first())
        && now != before
    {
        problems.invalid(&first, now, UNCHANGEABLE);
    }
    if now.len() == 1 && before.len() > 1 && !wants_single_stack(new) {
        policy_must_be_single(problems, &root, new, "must be `SingleStack` to give up the secondary family");
    }
}

fn policy_must_be_single(problems: &mut Problems, root: &Path<'_>, spec: &ServiceSpec, detail: &'static str) {
    let policy = spec.ip_family_policy.clone().unwrap_or_default();
    problems.invalid(&root.child("ipFamilyPolicy"), &policy, detail);
}
