//! Node ports and health check ports.

use alloc::collections::{BTreeMap, BTreeSet};

use smol_str::format_smolstr;

use super::change::gets_node_ports;
use super::{Mode, RegistryError, ServiceRegistry, Transaction, has_type};
use crate::allocation::{AllocError, Entropy};
use crate::validate::{Path, Problems};
use crate::{Port, Service, ServiceSpec, ServiceType};

pub(super) use crate::validate::needs_health_check;

/// Before the first port that a dry run makes up.
const DRY_RUN_BEFORE: i32 = 32_768;

pub(super) fn node_ports(spec: &ServiceSpec) -> impl Iterator<Item = i32> + '_ {
    spec.ports.iter().map(|port| port.node_port.value()).filter(|port| *port != 0)
}

fn may_have_node_ports(spec: &ServiceSpec) -> bool {
    has_type(spec, ServiceType::NodePort) || has_type(spec, ServiceType::LoadBalancer)
}

impl ServiceRegistry {
    /// Node ports and the health check port of a new Service. Entries for the same port (DNS over TCP and UDP)
    /// share a node port, unless they name different ones.
    pub(super) fn allocate_ports(
        &mut self,
        service: &mut Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        if may_have_node_ports(&service.spec) {
            // The node port that the first entry of a port got.
            let mut shared: BTreeMap<i32, i32> = BTreeMap::new();
            for i in 0..service.spec.ports.len() {
                let Some(entry) = service.spec.ports.get(i) else { break };
                let (port, asked) = (entry.port.value(), entry.node_port.value());
                if asked == 0 && !gets_node_ports(&service.spec) {
                    continue;
                }
                let got = match shared.get(&port) {
                    Some(first) if asked == 0 || asked == *first => *first,
                    Some(_) => self.take_node_port(service, i, asked, mode, transaction)?,
                    None => {
                        // What any entry of this port asks for counts for the first.
                        let asked = service.spec.ports.iter().filter(|other| other.port.value() == port);
                        let asked = asked.map(|other| other.node_port.value()).find(|asked| *asked != 0);
                        let got = match asked {
                            Some(asked) => self.take_node_port(service, i, asked, mode, transaction)?,
                            None => self.next_node_port(service, mode, entropy, transaction)?,
                        };
                        shared.insert(port, got);
                        got
                    }
                };
                if let Some(entry) = service.spec.ports.get_mut(i) {
                    entry.node_port = Port::new(got);
                }
            }
        }
        if needs_health_check(&service.spec) {
            self.take_health_check_port(service, mode, entropy, transaction)?;
        }
        Ok(())
    }

    /// Node ports and the health check port after a change: new ones are taken, and those no longer named are
    /// given back. Here entries do not share.
    pub(super) fn update_ports(
        &mut self,
        service: &mut Service,
        old: &Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        if may_have_node_ports(&service.spec) {
            self.update_node_ports(service, old, mode, entropy, transaction)?;
        } else if may_have_node_ports(&old.spec) {
            transaction.released_ports.extend(node_ports(&old.spec));
        }
        match (needs_health_check(&old.spec), needs_health_check(&service.spec)) {
            (false, true) => self.take_health_check_port(service, mode, entropy, transaction)?,
            (true, false) => transaction.released_ports.push(old.spec.health_check_node_port.value()),
            _ => {}
        }
        Ok(())
    }

    fn update_node_ports(
        &mut self,
        service: &mut Service,
        old: &Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        let before: BTreeSet<i32> = node_ports(&old.spec).collect();
        let mut taken = BTreeSet::new();
        let mut named = BTreeSet::new();
        for i in 0..service.spec.ports.len() {
            let Some(entry) = service.spec.ports.get(i) else { break };
            let (protocol, asked) = (entry.protocol.clone(), entry.node_port.value());
            if asked == 0 && !gets_node_ports(&service.spec) {
                continue;
            }
            let got = if asked == 0 {
                self.next_node_port(service, mode, entropy, transaction)?
            } else {
                if !before.contains(&asked) && taken.insert(asked) {
                    self.take_node_port(service, i, asked, mode, transaction)?;
                }
                asked
            };
            if !named.insert((protocol, got)) {
                return Err(RegistryError::DuplicateNodePort {
                    service: service.metadata.object_ref(),
                    port: got,
                });
            }
            if let Some(entry) = service.spec.ports.get_mut(i) {
                entry.node_port = Port::new(got);
            }
        }
        let after: BTreeSet<i32> = node_ports(&service.spec).collect();
        transaction.released_ports.extend(before.difference(&after));
        Ok(())
    }

    /// Takes the node port that entry `i` asks for.
    fn take_node_port(
        &mut self,
        service: &Service,
        i: usize,
        port: i32,
        mode: Mode,
        transaction: &mut Transaction,
    ) -> Result<i32, RegistryError> {
        if let Err(error) = self.take_port(port, mode, transaction) {
            let mut problems = Problems::new();
            let root = Path::root("spec");
            let path = root.child("ports");
            let path = path.index(i);
            problems.invalid(&path.child("nodePort"), &port, format_smolstr!("cannot be allocated: {error}"));
            problems.into_result(service)?;
        }
        Ok(port)
    }

    fn next_node_port(
        &mut self,
        service: &Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<i32, RegistryError> {
        self.next_port(mode, entropy, transaction).map_err(|error| RegistryError::Allocation {
            service: service.metadata.object_ref(),
            what: "a node port",
            error,
        })
    }

    fn take_health_check_port(
        &mut self,
        service: &mut Service,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<(), RegistryError> {
        let asked = service.spec.health_check_node_port.value();
        let outcome = match asked {
            0 => self.next_port(mode, entropy, transaction),
            _ => self.take_port(asked, mode, transaction).map(|()| asked),
        };
        let port = outcome.map_err(|error| RegistryError::Allocation {
            service: service.metadata.object_ref(),
            what: "the health check port",
            error,
        })?;
        service.spec.health_check_node_port = Port::new(port);
        Ok(())
    }

    /// A dry run looks if the port is taken, but not if it is in the range.
    fn take_port(&mut self, port: i32, mode: Mode, transaction: &mut Transaction) -> Result<(), AllocError> {
        match mode {
            Mode::Persist => self.node_ports.allocate(port)?,
            Mode::DryRun if self.node_ports.has(port) || transaction.taken_ports.contains(&port) => {
                return Err(AllocError::Allocated { value: format_smolstr!("{port}") });
            }
            Mode::DryRun => {}
        }
        transaction.taken_ports.push(port);
        Ok(())
    }

    fn next_port(
        &mut self,
        mode: Mode,
        entropy: &mut Entropy<'_>,
        transaction: &mut Transaction,
    ) -> Result<i32, AllocError> {
        let port = match mode {
            Mode::Persist => i32::from(self.node_ports.allocate_next(entropy)?),
            Mode::DryRun => {
                transaction.taken_ports.iter().copied().max().unwrap_or(DRY_RUN_BEFORE).saturating_add(1)
            }
        };
        transaction.taken_ports.push(port);
        Ok(port)
    }
}
