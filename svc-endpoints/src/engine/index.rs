//! Which Services select a Pod, without trying them all.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_model::Labels;

/// A key and value that a selector asks for.
type Pair = (SmolStr, SmolStr);

/// Services by one of the labels that their selectors ask for.
///
/// A Pod's candidates are the Services under each of its labels; each selector is then tested in full. Every
/// selector is filed under the label that the fewest others were filed under.
#[derive(Debug, Clone, Default)]
pub(super) struct SelectorIndex {
    by_label: BTreeMap<Pair, BTreeMap<SmolStr, Labels>>,
    /// Services with an empty selector, which selects every Pod.
    all: BTreeSet<SmolStr>,
    /// The label that each Service is filed under.
    filed: BTreeMap<SmolStr, Pair>,
}

impl SelectorIndex {
    pub(super) fn insert(&mut self, service: &SmolStr, selector: &Labels) {
        self.remove(service);
        let others = |pair: &&Pair| self.by_label.get(*pair).map_or(0, BTreeMap::len);
        match selector.as_slice().iter().min_by_key(others).cloned() {
            None => {
                self.all.insert(service.clone());
            }
            Some(pair) => {
                self.by_label.entry(pair.clone()).or_default().insert(service.clone(), selector.clone());
                self.filed.insert(service.clone(), pair);
            }
        }
    }

    pub(super) fn remove(&mut self, service: &SmolStr) {
        self.all.remove(service);
        if let Some(pair) = self.filed.remove(service)
            && let Some(services) = self.by_label.get_mut(&pair)
        {
            services.remove(service);
            if services.is_empty() {
                self.by_label.remove(&pair);
            }
        }
    }

    /// The Services that select a Pod with these labels, by name.
    pub(super) fn select(&self, labels: &Labels) -> Vec<SmolStr> {
        let candidates = labels.as_slice().iter().filter_map(|pair| self.by_label.get(pair)).flatten();
        let mut selected: Vec<SmolStr> = candidates
            .filter(|(_, selector)| labels.contains_all(selector))
            .map(|(service, _)| service)
            .chain(&self.all)
            .cloned()
            .collect();
        selected.sort_unstable();
        selected
    }
}
