//! The manifests, and what they look like as zones.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use svc_dns::{ChangeKind, Options, SerialKind, Serials, Zones};
use svc_examples::input::Input;
use svc_examples::output::{BAD, styled};
use svc_examples::world::World;
use tokio::sync::watch;

/// Where the objects come from.
pub(crate) struct Source {
    files: Vec<PathBuf>,
    namespace: String,
    options: Options,
    objects: usize,
    skipped: Option<String>,
}

impl Source {
    pub(crate) fn new(files: Vec<PathBuf>, namespace: String, options: Options) -> Self {
        Self { files, namespace, options, objects: 0, skipped: None }
    }

    /// The manifests with what the controllers would make of them: Pods of workloads, EndpointSlices.
    fn world(&mut self) -> anyhow::Result<World> {
        let input = Input::read(&self.files, &self.namespace)?;
        self.objects = input.objects.len();
        self.skipped = input.skipped_note();
        World::new(input)
    }

    /// Reads everything.
    pub(crate) fn read(&mut self) -> anyhow::Result<Zones> {
        let options = self.options.clone();
        let mut zones = self.world()?.zones_with(options)?;
        let now = now();
        zones.set_serials(Serials { internal: now, multicluster: now, external: now });
        Ok(zones)
    }

    /// A line about what was read.
    pub(crate) fn summary(&self, zones: &Zones) -> String {
        let records = zones.records().count();
        let skipped = self.skipped.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        format!("{} objects, {records} records{skipped}", self.objects)
    }

    /// Looks for changed files again and again; serves the old state as long as the new one is broken.
    pub(crate) async fn watch(mut self, sender: watch::Sender<Arc<Zones>>, pause: Duration) {
        let mut seen = stamp(&self.files);
        loop {
            tokio::time::sleep(pause).await;
            let stamp = stamp(&self.files);
            if stamp == seen {
                continue;
            }
            seen = stamp;
            let old = Arc::clone(&sender.borrow());
            match self.reread((*old).clone()) {
                Ok((zones, note)) => {
                    anstream::eprintln!("{note}");
                    sender.send_replace(Arc::new(zones));
                }
                Err(error) => anstream::eprintln!("{} {error:#}", styled(BAD, "not reloaded:")),
            }
        }
    }

    fn reread(&mut self, mut zones: Zones) -> anyhow::Result<(Zones, String)> {
        let world = self.world().context("reading the manifests again")?;
        let mut serials = zones.serials();
        let changes = zones.replace_all(&world.objects());
        let records = changes.records();
        let now = now();
        // A serial only grows, whatever the clock does.
        let bump = |serial: &mut u32, kind| {
            if changes.touches(kind) {
                *serial = now.max(serial.wrapping_add(1));
            }
        };
        bump(&mut serials.internal, SerialKind::Internal);
        bump(&mut serials.multicluster, SerialKind::Multicluster);
        bump(&mut serials.external, SerialKind::External);
        zones.set_serials(serials);
        let added = records.iter().filter(|change| change.kind == ChangeKind::Add).count();
        Ok((zones, format!("reloaded: {added} records added, {} removed", records.len() - added)))
    }
}

/// Seconds since 1970, which is what CoreDNS takes for a serial.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() as u32
}

/// Path, size and time of change of every file.
fn stamp(files: &[PathBuf]) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let mut stamps = Vec::new();
    files.iter().for_each(|path| collect(path, &mut stamps));
    stamps.sort();
    stamps
}

fn collect(path: &Path, stamps: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) {
    if let Ok(entries) = std::fs::read_dir(path) {
        entries.flatten().for_each(|entry| collect(&entry.path(), stamps));
    } else if let Ok(metadata) = std::fs::metadata(path) {
        stamps.push((path.to_path_buf(), metadata.len(), metadata.modified().ok()));
    }
}
