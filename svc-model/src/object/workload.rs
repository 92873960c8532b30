//! Workloads: the kinds that make Pods.

use alloc::boxed::Box;
use smol_str::SmolStr;

use super::PodTemplateSpec;
use crate::LabelSelector;
use crate::serde_util::{api_kind, api_struct};

api_kind! {
    /// Pods that are alike and replaced step by step (apps/v1).
    pub struct Deployment: "apps/v1" "Deployment" Namespaced {
        /// Replicas and template.
        pub spec "spec": ReplicatedSpec;
    }
}

api_kind! {
    /// Pods that are alike (apps/v1).
    pub struct ReplicaSet: "apps/v1" "ReplicaSet" Namespaced {
        /// Replicas and template.
        pub spec "spec": ReplicatedSpec;
    }
}

api_kind! {
    /// Pods with a stable name each (apps/v1).
    pub struct StatefulSet: "apps/v1" "StatefulSet" Namespaced {
        /// Replicas and template.
        pub spec "spec": StatefulSetSpec;
    }
}

api_kind! {
    /// One Pod on every matching node (apps/v1).
    pub struct DaemonSet: "apps/v1" "DaemonSet" Namespaced {
        /// Template.
        pub spec "spec": DaemonSetSpec;
    }
}

api_kind! {
    /// Pods that run to an end (batch/v1).
    pub struct Job: "batch/v1" "Job" Namespaced {
        /// Parallelism and template.
        pub spec "spec": JobSpec;
    }
}

api_kind! {
    /// Jobs at set times (batch/v1).
    pub struct CronJob: "batch/v1" "CronJob" Namespaced {
        /// Schedule and template.
        pub spec "spec": CronJobSpec;
    }
}

api_struct! {
    /// Spec of a Deployment or ReplicaSet.
    pub struct ReplicatedSpec {
        /// How many Pods; absent means 1.
        pub replicas: Option<i32>,
        /// Which Pods belong to it.
        pub selector: Option<LabelSelector>,
        /// What they are.
        pub template: PodTemplateSpec,
    }

    /// Spec of a StatefulSet.
    pub struct StatefulSetSpec {
        /// How many Pods; absent means 1.
        pub replicas: Option<i32>,
        /// Which Pods belong to it.
        pub selector: Option<LabelSelector>,
        /// What they are.
        pub template: PodTemplateSpec,
        /// Headless Service that names the Pods.
        pub service_name: SmolStr,
        /// Where the Pods' numbers begin.
        pub ordinals: Option<StatefulSetOrdinals>,
    }

    /// `StatefulSetOrdinals`.
    pub struct StatefulSetOrdinals {
        /// First number.
        pub start: i32,
    }

    /// Spec of a DaemonSet.
    pub struct DaemonSetSpec {
        /// Which Pods belong to it.
        pub selector: Option<LabelSelector>,
        /// What they are.
        pub template: PodTemplateSpec,
    }

    /// Spec of a Job.
    pub struct JobSpec {
        /// How many Pods at a time; absent means 1.
        pub parallelism: Option<i32>,
        /// How many Pods must end well; absent means one, or any.
        pub completions: Option<i32>,
        /// `Indexed` gives each Pod a number; absent means `NonIndexed`.
        pub completion_mode: Option<SmolStr>,
        /// Whether the Job is on hold, without Pods; absent means no.
        pub suspend: Option<bool>,
        /// What they are.
        pub template: PodTemplateSpec,
    }

    /// Spec of a CronJob.
    pub struct CronJobSpec {
        /// The Jobs to make.
        pub job_template: Box<JobTemplateSpec>,
    }

    /// `JobTemplateSpec`.
    pub struct JobTemplateSpec {
        /// Spec of the Jobs.
        pub spec: JobSpec,
    }
}
