//! Families and cluster addresses.

use alloc::vec::Vec;

use smol_str::format_smolstr;

use super::{
    Mode, NOT_CONFIGURED, RegistryError, ServiceRegistry, Transaction, has_type, is_headless,
    is_headless_without_selector,
};
use crate::allocation::Entropy;
use crate::validate::{Path, Problems, cluster_ip_fields};
use crate::{IpFamily, IpFamilyPolicy, Sent, Service, ServiceSpec, ServiceType};

fn policy(spec: &ServiceSpec) -> Option<IpFamilyPolicy> {
    spec.ip_family_policy.as_ref().and_then(Sent::get)
}

fn other(family: IpFamily) -> IpFamily {
    match family {
        IpFamily::Ipv4 => IpFamily::Ipv6,
        IpFamily::Ipv6 => IpFamily::Ipv4,
    }
}

/// A PreferDualStack Service whose addresses and families do not change is left alone, so that a cluster's
/// change to or from dual-stack does not spread to its Services unasked.
fn is_settled(spec: &ServiceSpec, old: Option<&Service>) -> bool {
    let Some(old) = old.map(|old| &old.spec) else { return false };
    let prefers = Some(IpFamilyPolicy::PreferDualStack);
    spec.service_type == old.service_type
        && spec.service_type.get().is_some_and(|kind| kind != ServiceType::ExternalName)
        && policy(spec) == prefers
        && (old.ip_family_policy.is_none() || policy(old) == prefers)
        && spec.cluster_ips == old.cluster_ips
        && spec.ip_families == old.ip_families
}

fn append_other_family(spec: &mut ServiceSpec) {
    if let [only] = spec.ip_families.as_slice()
        && let Some(family) = only.get()
    {
        spec.ip_families.push(other(family).into());
    }
}

impl ServiceRegistry {
    fn is_dual_stack(&self) -> bool {
        self.secondary.is_some()
    }

    fn is_configured(&self, family: &Sent<IpFamily>) -> bool {
        family.get().is_some_and(|family| self.addresses(family).is_some())
    }

    /// Fills in what Services were stored without before the fields existed, and drops a field that was stored
    /// by mistake.
    pub(super) fn default_on_read(&self, service: &mut Service) {
        super::change::pair_cluster_ips_on_create(service);
        let spec = &mut service.spec;
        if has_type(spec, ServiceType::ExternalName) {
            spec.internal_traffic_policy = None;
            return;
        }
        if !spec.ip_families.is_empty() {
            return;
        }
        let primary = self.primary.family();
        let (families, policy): (Vec<_>, _) = if is_headless_without_selector(spec) {
            ([primary, other(primary)].into(), Some(IpFamilyPolicy::RequireDualStack))
        } else if spec.cluster_ip.is("None") {
            ([primary].into(), Some(IpFamilyPolicy::SingleStack))
        } else {
            // An address that means nothing counts as IPv4.
            let family = |ip: &Sent<_>| ip.get().map_or(IpFamily::Ipv4, IpFamily::of);
            let policy = match spec.cluster_ips.len() {
                1 => Some(IpFamilyPolicy::SingleStack),
                2 => Some(IpFamilyPolicy::RequireDualStack),
                _ => None,
            };
            (spec.cluster_ips.iter().map(family).collect(), policy)
        };
        spec.ip_families = families.into_iter().map(Sent::Value).collect();
        if let Some(policy) = policy {
            spec.ip_family_policy = Some(policy.into());
        }
    }

    /// Settles on families and policy, from what the request says and what the cluster has.
    pub(super) fn fill_in_families(
        &self,
        service: &mut Service,
        old: Option<&Service>,
    ) -> Result<(), RegistryError> {
        if has_type(&service.spec, ServiceType::ExternalName) || is_settled(&service.spec, old) {
            return Ok(());
        }
        if service.spec.ip_family_policy.is_none() {
            let inherited = old.and_then(|old| old.spec.ip_family_policy.clone());
            let chosen = if is_headless_without_selector(&service.spec) {
                IpFamilyPolicy::RequireDualStack
            } else {
                IpFamilyPolicy::SingleStack
            };
            service.spec.ip_family_policy = inherited.or(Some(chosen.into()));
        }
        let mut problems = Problems::new();
        cluster_ip_fields(&mut problems, service, old, self.compat);
        problems.into_result(service)?;

        let mut problems = Problems::new();
        if let Some(old) = old {
            release_secondary(&mut problems, &mut service.spec, &old.spec);
        }
        self.policy_and_lists_agree(&mut problems, &service.spec);
        self.infer_families(&mut problems, &mut service.spec);
        problems.into_result(service)?;

        let spec = &mut service.spec;
        if is_headless_without_selector(spec) {
            if spec.ip_families.is_empty() {
                spec.ip_families.push(self.primary.family().into());
            }
            if policy(spec) != Some(IpFamilyPolicy::SingleStack) {
                append_other_family(spec);
            }
            return Ok(());
        }
        let mut problems = Problems::new();
        self.cluster_has_families(&mut problems, spec);
        problems.into_result(service)?;

        let spec = &mut service.spec;
        if spec.ip_families.is_empty() {
            spec.ip_families.push(self.primary.family().into());
        }
        if policy(spec) != Some(IpFamilyPolicy::SingleStack) && self.is_dual_stack() {
            append_other_family(spec);
        }
        Ok(())
    }

    fn policy_and_lists_agree(&self, problems: &mut Problems, spec: &ServiceSpec) {
        if policy(spec) != Some(IpFamilyPolicy::SingleStack) {
            return;
        }
        let root = Path::root("spec");
        let path = root.child("ipFamilyPolicy");
        if spec.cluster_ips.len() == 2 {
            problems.invalid(
                &path,
                "SingleStack",
                "there are two cluster addresses, so two families are wanted",
            );
        }
        if spec.ip_families.len() == 2 {
            problems.invalid(&path, "SingleStack", "there are two families");
        }
    }

    fn infer_families(&self, problems: &mut Problems, spec: &mut ServiceSpec) {
        let root = Path::root("spec");
        let path = root.child("clusterIPs");
        for (i, ip) in spec.cluster_ips.iter().enumerate() {
            if ip.is("None") {
                break;
            }
            if i < spec.ip_families.len() {
                continue;
            }
            match ip.get().map(IpFamily::of).filter(|family| self.addresses(*family).is_some()) {
                Some(family) => spec.ip_families.push(family.into()),
                None => problems.invalid(&path.index(i), ip, NOT_CONFIGURED),
            }
        }
    }

    fn cluster_has_families(&self, problems: &mut Problems, spec: &ServiceSpec) {
        let root = Path::root("spec");
        if policy(spec) == Some(IpFamilyPolicy::RequireDualStack) && !self.is_dual_stack() {
            let detail = "this cluster is not configured for two families";
            problems.invalid(&root.child("ipFamilyPolicy"), "RequireDualStack", detail);
        }
        let path = root.child("ipFamilies");
        for (i, family) in
            spec.ip_families.iter().enumerate().filter(|(_, family)| !self.is_configured(family))
        {
            problems.invalid(&path.index(i), family, "is not configured on this cluster");
        }
    }

    /// An address for each family that has none yet, and those that were asked for.
    pub(super) fn allocate_all_ips(
        &mut self,
        service: &mut Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        if has_type(&service.spec, ServiceType::ExternalName) || is_headless(&service.spec) {
            return Ok(());
        }
        for i in 0..service.spec.ip_families.len() {
            self.allocate_ip(service, i, mode, entropy, transaction)?;
        }
        service.spec.cluster_ip = service.spec.cluster_ips.first().cloned().unwrap_or_default();
        Ok(())
    }

    /// The address of the family at position `i`.
    fn allocate_ip(
        &mut self,
        service: &mut Service,
        i: usize,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        let family = service.spec.ip_families.get(i).and_then(Sent::get);
        let Some(addresses) = family.and_then(|family| self.addresses_mut(family)) else { return Ok(()) };
        let asked = service.spec.cluster_ips.get(i).filter(|asked| !asked.is_empty()).cloned();
        let Some(asked) = asked else {
            let fresh = match mode {
                Mode::Persist => addresses.allocate_next(entropy),
                Mode::DryRun => match addresses.dry_run_next() {
                    Some(ip) => Ok(ip),
                    None => addresses.allocate_next(entropy),
                },
            };
            let ip = fresh.map_err(|error| RegistryError::Allocation {
                service: service.metadata.object_ref(),
                what: "a cluster address",
                error,
            })?;
            transaction.taken_ips.push(ip);
            match service.spec.cluster_ips.get_mut(i) {
                Some(slot) => *slot = ip.into(),
                None => service.spec.cluster_ips.push(ip.into()),
            }
            return Ok(());
        };
        let outcome = asked.get().map(|ip| match mode {
            Mode::Persist => addresses.allocate(ip).map(|()| transaction.taken_ips.push(ip)),
            Mode::DryRun => addresses.check_range(ip),
        });
        let detail = match outcome {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => format_smolstr!("cannot be allocated: {error}"),
            None => "is not an address".into(),
        };
        let mut problems = Problems::new();
        let root = Path::root("spec");
        problems.invalid(&root.child("clusterIPs"), &asked, detail);
        problems.into_result(service).map_err(Into::into)
    }

    /// What a change does to addresses: all new ones from ExternalName, none left to it, and a secondary one
    /// added or given up.
    pub(super) fn update_ips(
        &mut self,
        service: &mut Service,
        old: &Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        if is_settled(&service.spec, Some(old)) {
            return Ok(());
        }
        let external_name = |service: &Service| has_type(&service.spec, ServiceType::ExternalName);
        match (external_name(old), external_name(service)) {
            (true, false) => return self.allocate_all_ips(service, mode, entropy, transaction),
            (true, true) => return Ok(()),
            _ if is_headless(&old.spec) => return Ok(()),
            (false, true) => {
                let ips = old.spec.cluster_ips.iter().take(old.spec.ip_families.len());
                transaction.released_ips.extend(ips.filter_map(Sent::get));
                return Ok(());
            }
            (false, false) => {}
        }
        match (old.spec.ip_families.len(), service.spec.ip_families.len()) {
            (1, 2) => self.allocate_ip(service, 1, mode, entropy, transaction),
            (2, 1) => {
                transaction.released_ips.extend(old.spec.cluster_ips.get(1).and_then(Sent::get));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// SingleStack with addresses or families left as they were means: drop the second. With another policy none
/// may be dropped.
fn release_secondary(problems: &mut Problems, new: &mut ServiceSpec, old: &ServiceSpec) {
    if policy(new) == Some(IpFamilyPolicy::SingleStack) {
        if new.cluster_ips == old.cluster_ips {
            new.cluster_ips.truncate(1);
        }
        if new.ip_families == old.ip_families {
            new.ip_families.truncate(1);
        }
        return;
    }
    let root = Path::root("spec");
    let path = root.child("ipFamilyPolicy");
    let sent = new.ip_family_policy.clone().unwrap_or_default();
    let reduced = |new: usize, old: usize| new > 0 && new < old;
    if reduced(new.cluster_ips.len(), old.cluster_ips.len()) {
        problems.invalid(&path, &sent, "must be `SingleStack` to release the secondary address");
    }
    if reduced(new.ip_families.len(), old.ip_families.len()) {
        problems.invalid(&path, &sent, "must be `SingleStack` to release the secondary family");
    }
}
