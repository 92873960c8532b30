//! `svc env`: the environment variables of Services that a Pod's containers see.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use svc_dns::{ServiceEnv, ServiceLinks};
use svc_examples::output::{DIM, Format, WARN, styled, write_data};
use svc_model::Service;

use crate::common::{InputArgs, OutputArgs, write_notes};

/// Options of `svc env`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pod or workload, `NAME` or `NAMESPACE/NAME`; without it any Pod of the namespace given with -n.
    pod: Option<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only the count, the size and the clashes.
    #[arg(long)]
    summary: bool,
}

#[derive(Serialize)]
struct Variables {
    namespace: String,
    variables: Vec<Variable>,
    bytes: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clashes: Vec<Clash>,
}

#[derive(Serialize)]
struct Variable {
    name: String,
    value: String,
    service: String,
}

#[derive(Serialize)]
struct Clash {
    name: String,
    values: Vec<String>,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let world = args.input.world()?;
    let (namespace, links) = match &args.pod {
        Some(pod) => {
            let pod = world.pod(pod, &args.input.namespace)?;
            let links = pod.spec.enable_service_links.unwrap_or(true);
            (
                pod.metadata.namespace.to_string(),
                if links { ServiceLinks::Enabled } else { ServiceLinks::Disabled },
            )
        }
        None => (args.input.namespace.clone(), ServiceLinks::Enabled),
    };
    let services: Vec<Arc<Service>> = world.cluster.services().iter().cloned().collect();
    let env = ServiceEnv::of(services.iter().map(Arc::as_ref), &namespace, links);
    let clash = |clash: svc_dns::EnvClash<'_>| Clash {
        name: clash.name.to_owned(),
        values: clash.vars.iter().map(|var| format!("{} of {}", var.value, var.service)).collect(),
    };
    let variables = Variables {
        namespace,
        bytes: env.bytes(),
        clashes: env.clashes().map(clash).collect(),
        variables: env
            .vars()
            .map(|var| Variable {
                name: var.name.to_owned(),
                value: var.value.to_owned(),
                service: var.service.to_string(),
            })
            .collect(),
    };
    if args.output.output != Format::Table {
        write_data(out, args.output.output, &variables)?;
        return Ok(ExitCode::SUCCESS);
    }
    for Variable { name, value, .. } in variables.variables.iter().filter(|_| !args.summary) {
        writeln!(out, "{name}={value}")?;
    }
    for Clash { name, values } in &variables.clashes {
        writeln!(out, "{} {name} is set more than once: {}", styled(WARN, "!"), values.join(", "))?;
    }
    let line = format!("{} variables, {} bytes", variables.variables.len(), variables.bytes);
    writeln!(out, "{}", styled(DIM, line))?;
    write_notes(out, &world.notes)?;
    Ok(ExitCode::SUCCESS)
}
