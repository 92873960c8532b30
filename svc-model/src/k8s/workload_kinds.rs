//! Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob.

use alloc::boxed::Box;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::{Convert, mirror};
use crate::{IntOrString, JobTemplateSpec, LabelSelector, ProbePort};

mirror! {
    Deployment = apps::Deployment { metadata, spec }
    ReplicatedSpec = apps::DeploymentSpec { replicas, selector, template }
    ReplicaSet = apps::ReplicaSet { metadata, spec }
    StatefulSet = apps::StatefulSet { metadata, spec }
    StatefulSetSpec = apps::StatefulSetSpec { replicas, selector, template, service_name, ordinals }
    StatefulSetOrdinals = apps::StatefulSetOrdinals { start }
    DaemonSet = apps::DaemonSet { metadata, spec }
    DaemonSetSpec = apps::DaemonSetSpec { selector, template }
    Job = batch::Job { metadata, spec }
    JobSpec = batch::JobSpec { parallelism, completions, completion_mode, suspend, template }
    CronJob = batch::CronJob { metadata, spec }
    CronJobSpec = batch::CronJobSpec { job_template }
    JobTemplateSpec = batch::JobTemplateSpec { spec }
}

/// A second pair for one struct of ours.
mod replica_set {
    use super::*;

    mirror! {
        ReplicatedSpec = apps::ReplicaSetSpec { replicas, selector, template }
    }
}

mod probe {
    use super::*;

    mirror! {
        ProbePort = core::TCPSocketAction { port }
    }
}

impl Convert<Box<JobTemplateSpec>> for batch::JobTemplateSpec {
    fn convert(&self) -> Box<JobTemplateSpec> {
        Box::new(self.into())
    }
}

impl Convert<batch::JobTemplateSpec> for Box<JobTemplateSpec> {
    fn convert(&self) -> batch::JobTemplateSpec {
        (&**self).into()
    }
}

/// A gRPC check takes its port by number only.
impl Convert<ProbePort> for core::GRPCAction {
    fn convert(&self) -> ProbePort {
        ProbePort { port: IntOrString::Int(self.port) }
    }
}

impl Convert<core::GRPCAction> for ProbePort {
    fn convert(&self) -> core::GRPCAction {
        let port = match self.port {
            IntOrString::Int(port) => port,
            IntOrString::String(_) => 0,
        };
        core::GRPCAction { port, ..core::GRPCAction::default() }
    }
}

// Workloads must have a selector there, and may lack one here.

impl Convert<Option<LabelSelector>> for meta::LabelSelector {
    fn convert(&self) -> Option<LabelSelector> {
        Some(self.into())
    }
}

impl Convert<meta::LabelSelector> for Option<LabelSelector> {
    fn convert(&self) -> meta::LabelSelector {
        self.as_ref().map(Into::into).unwrap_or_default()
    }
}
