//! What the libraries hold in memory once they know the objects of the record's input files: `held DIR` prints bytes as JSON.
//!
//! A program of its own, since it counts every allocation, which would cost the timed ones something. Objects that were read from the
//! files are not counted on either side, only what is made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use svc_benches::work::{DnsInput, EndpointsInput, PoliciesInput, RulesInput, policy_engine, read};
use svc_rules::{iptables, ipvs, nftables};

/// Print what the libraries hold of the record's input files, in bytes.
#[derive(Parser)]
struct Args {
    /// The folder with the input files.
    inputs: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse().inputs)
        .and_then(|held| serde_json::to_string(&held).map_err(|error| error.to_string()))
    {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("held: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Bytes that are held after the work, of what it returns.
fn held<T>(work: impl FnOnce() -> T) -> i64 {
    let mut made = None;
    let counted = allocation_counter::measure(|| made = Some(work()));
    drop(made);
    counted.bytes_current
}

fn run(inputs: &Path) -> Result<BTreeMap<String, i64>, String> {
    let mut all = BTreeMap::new();
    let mut names: Vec<String> = std::fs::read_dir(inputs)
        .map_err(|error| format!("{}: {error}", inputs.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    for name in names {
        let Some((kind, size)) = name.trim_end_matches(".json").rsplit_once('-') else { continue };
        match kind {
            "rules" => rules(&read(inputs, &name)?, size, &mut all),
            "endpoints" => {
                let input: EndpointsInput = read(inputs, &name)?;
                all.insert(format!("endpoints/{size}"), held(|| input.engine()));
            }
            "netpol" => {
                let input: PoliciesInput = read(inputs, &name)?;
                let (cluster, policies) = (input.cluster(), input.policies());
                all.insert(format!("netpol, policies alone/{size}"), held(|| policy_engine(&policies)));
                all.insert(format!("netpol/{size}"), held(|| policy_engine(cluster.iter().chain(&policies))));
            }
            "dns" => {
                let input: DnsInput = read(inputs, &name)?;
                let mut zones = Some(input.empty_zones()?);
                let objects = input.objects();
                let bytes = held(|| {
                    let mut zones = zones.take();
                    zones.iter_mut().for_each(|zones| drop(zones.replace_all(&objects)));
                    zones
                });
                all.insert(format!("dns/{size}"), bytes);
            }
            _ => {}
        }
    }
    Ok(all)
}

/// After a full sync and one of a changed endpoint, since a proxy keeps what it has written; and how long the texts are.
fn rules(input: &RulesInput, size: &str, all: &mut BTreeMap<String, i64>) {
    let mut lengths: BTreeMap<String, usize> = BTreeMap::new();
    let [_, changed] = &input.change;
    all.insert(format!("slices/{size}"), held(|| input.iptables().1));

    let mut text = Vec::new();
    let bytes = held(|| {
        let (mut proxy, mut slices) = input.iptables();
        for (name, mode) in [
            ("full", iptables::Mode::Full),
            ("one endpoint", iptables::Mode::Partial),
            ("one endpoint, delta", iptables::Mode::Delta),
        ] {
            text.clear();
            let _ = proxy.sync(&slices, mode, iptables::StaleChains::Delete, &mut text);
            proxy.succeeded();
            lengths.insert(format!("text of iptables, {name}/{size}"), text.len());
            // Back and forth.
            let next = if mode == iptables::Mode::Full { changed } else { &input.change[0] };
            proxy.touch(&slices.apply(next));
        }
        text = Vec::new();
        (proxy, slices)
    });
    all.insert(format!("iptables/{size}"), bytes);

    let mut text = String::new();
    let bytes = held(|| {
        let (mut proxy, mut slices) = input.nftables();
        for (name, scope) in [("full", nftables::Scope::Full), ("one endpoint", nftables::Scope::Changes)] {
            text.clear();
            let _ = proxy.sync(&slices, scope, &mut text);
            proxy.succeeded();
            lengths.insert(format!("text of nftables, {name}/{size}"), text.len());
            proxy.touch(&slices.apply(changed));
        }
        text = String::new();
        (proxy, slices)
    });
    all.insert(format!("nftables/{size}"), bytes);

    let mut texts = ipvs::Input::default();
    let bytes = held(|| {
        let (mut proxy, mut slices) = input.ipvs();
        for (name, scope) in [("full", ipvs::Scope::Full), ("one endpoint", ipvs::Scope::Changes)] {
            texts.clear();
            let _ = proxy.sync(&slices, scope, &mut texts);
            proxy.succeeded();
            let length = texts.texts().iter().map(|(_, text)| text.len()).sum();
            lengths.insert(format!("text of ipvs, {name}/{size}"), length);
            proxy.touch(&slices.apply(changed));
        }
        texts = ipvs::Input::default();
        (proxy, slices)
    });
    all.insert(format!("ipvs/{size}"), bytes);
    all.extend(lengths.into_iter().map(|(name, length)| (name, length as i64)));
}
