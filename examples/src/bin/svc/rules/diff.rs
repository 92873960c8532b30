//! `svc rules --diff`: what changes on a node between two sets of manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::iter;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use svc_examples::input::Input;
use svc_examples::output::{BAD, BOLD, DIM, GOOD, styled};
use svc_examples::world::World;
use svc_rules::NodeRules;
use svc_rules::ipvsadm::VirtualServers;
use svc_rules::packet::Family;

use super::{Args, configuration};

/// Lines by the chain, set or map that they are in.
type Contents = BTreeMap<String, Vec<String>>;

/// Prints what comes and goes, place by place. Exit code 1 if anything does.
pub(super) fn run(args: &Args, old: &Path, new: &Path, out: &mut dyn Write) -> Result<ExitCode> {
    let (old_rules, new_rules) = (rules(args, old)?, rules(args, new)?);
    if old_rules.scheme() != new_rules.scheme() {
        bail!(
            "{} is in mode {}, {} in mode {}: --migrate says what changes between modes",
            old.display(),
            old_rules.scheme(),
            new.display(),
            new_rules.scheme()
        );
    }
    let family = args.family.packet();
    let (old, new) = (contents(&old_rules, family), contents(&new_rules, family));
    let mut same = true;
    let places: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let none = Vec::new();
    for place in places {
        let (before, after) = (old.get(place).unwrap_or(&none), new.get(place).unwrap_or(&none));
        if before == after {
            continue;
        }
        same = false;
        writeln!(out, "{}", styled(BOLD, place))?;
        let (gone, come) = (beyond(before, after), beyond(after, before));
        for line in &gone {
            writeln!(out, "{}", styled(BAD, format_args!("- {line}")))?;
        }
        for line in &come {
            writeln!(out, "{}", styled(GOOD, format_args!("+ {line}")))?;
        }
        if gone.is_empty() && come.is_empty() {
            writeln!(out, "{}", styled(DIM, "  the same in another order"))?;
        }
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The rules of the node after a full sync.
fn rules(args: &Args, path: &Path) -> Result<NodeRules> {
    let world = World::new(Input::read(&[path], &args.namespace)?)?;
    let (scheme, config) = configuration(&world, args.node.as_deref(), args.family.model(), args.mode)
        .with_context(|| path.display().to_string())?;
    Ok(world.rules(scheme, &config))
}

fn contents(rules: &NodeRules, family: Family) -> Contents {
    let mut contents = Contents::new();
    for table in rules.iptables().into_iter().flat_map(|rules| rules.tables()) {
        for (name, chain) in table.chains() {
            let lines = chain.rules.iter().map(|rule| rule.text(family)).collect();
            contents.insert(format!("{} {name}", table.name()), lines);
        }
    }
    for table in rules.nftables().into_iter().flat_map(|rules| rules.tables()) {
        let at = |name: &str| format!("{} {} {name}", table.family.name(), table.name);
        for (name, chain) in table.chains() {
            let lines = chain.rules.iter().map(|rule| rule.text(table.family)).collect();
            contents.insert(at(name), lines);
        }
        for (name, set) in table.sets() {
            let elements = set.elements().into_iter().map(|(key, element)| set.element_text(key, element));
            // An affinity set is empty until clients come, so it shows by its declaration.
            let declared = set.flags.dynamic.then(|| set.declaration());
            contents.insert(at(name), declared.into_iter().chain(elements).collect());
        }
    }
    for (name, set) in rules.sets() {
        let entries = set.entries.iter().map(ToString::to_string).collect();
        contents.insert(format!("ipset {name}"), entries);
    }
    for (address, server) in rules.servers().into_iter().flat_map(VirtualServers::iter) {
        let servers = server.servers().map(|(at, server)| format!("{at} weight {}", server.weight));
        contents.insert(
            format!("ipvs {address}"),
            iter::once(server.declaration(family)).chain(servers).collect(),
        );
    }
    contents
}

/// The lines that are in `of` more often than in `other`, in order.
fn beyond<'a>(of: &'a [String], other: &[String]) -> Vec<&'a String> {
    let mut left: BTreeMap<&String, usize> = BTreeMap::new();
    for line in other {
        *left.entry(line).or_default() += 1;
    }
    let mut new = |line: &&String| match left.get_mut(*line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    of.iter().filter(|line| new(line)).collect()
}
