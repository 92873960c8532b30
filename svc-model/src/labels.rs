//! Labels and annotations: a small sorted map of text, shared between clones.

use core::fmt;

use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// Labels of an object, sorted by key, each key once. Cloning shares the storage.
///
/// Look-up is a binary search, or a plain one among the few labels that most objects have.
///
/// ```
/// use svc_model::Labels;
///
/// let labels = Labels::from_iter([("app", "web"), ("tier", "front")]);
/// assert_eq!(labels.get("app"), Some("web"));
/// assert_eq!(labels.to_string(), "app=web,tier=front");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Option<Arc<[(SmolStr, SmolStr)]>>); // INVARIANT: never `Some` of an empty slice

/// Annotations of an object: the same map, with values of any length.
pub type Annotations = Labels;

impl Labels {
    /// Up to this many entries, comparing each for equality is faster than a binary search.
    pub(crate) const LINEAR_MAX: usize = 8;

    fn entries(&self) -> &[(SmolStr, SmolStr)] {
        self.0.as_deref().unwrap_or_default()
    }

    fn from_entries(mut entries: Vec<(SmolStr, SmolStr)>) -> Self {
        // Stable, so that of equal keys the last one given ends up last, and is the one kept.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.reverse();
        entries.dedup_by(|a, b| a.0 == b.0);
        entries.reverse();
        Self((!entries.is_empty()).then(|| entries.into()))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_entry(key).map(|(_, value)| value.as_str())
    }

    /// The key and value as stored.
    pub fn get_entry(&self, key: &str) -> Option<&(SmolStr, SmolStr)> {
        let entries = self.entries();
        if entries.len() <= Self::LINEAR_MAX {
            // Lengths differ mostly, which tells keys apart sooner than their order does.
            return entries.iter().find(|(k, _)| k == key);
        }
        let at = entries.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok()?;
        entries.get(at)
    }

    /// True if the key is present, with any value.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get_entry(key).is_some()
    }

    /// True if every entry of `subset` is present here with the same value: what a Service's plain
    /// selector asks of a Pod.
    pub fn contains_all(&self, subset: &Self) -> bool {
        subset.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// Keys and values in key order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + DoubleEndedIterator + Clone {
        self.entries().iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The entries as stored, sorted by key.
    pub fn as_slice(&self) -> &[(SmolStr, SmolStr)] {
        self.entries()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Sets a key (copies the map; cost is its length).
    pub fn insert(&mut self, key: impl Into<SmolStr>, value: impl Into<SmolStr>) {
        let mut entries = self.entries().to_vec();
        entries.push((key.into(), value.into()));
        *self = Self::from_entries(entries);
    }

    /// Removes a key, if present.
    pub fn remove(&mut self, key: &str) {
        if self.contains_key(key) {
            *self = Self::from_entries(self.entries().iter().filter(|(k, _)| k != key).cloned().collect());
        }
    }
}

impl<K: Into<SmolStr>, V: Into<SmolStr>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::from_entries(entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or_default().min(64));
                while let Some((key, value)) = map.next_entry::<SmolStr, Option<SmolStr>>()? {
                    entries.push((key, value.unwrap_or_default()));
                }
                Ok(Labels::from_entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn of_equal_keys_the_last_wins() {
        let labels = Labels::from_iter([("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(labels.to_string(), "a=2,b=3");
        let read: Labels = serde_json::from_str(r#"{"b":"1","a":null,"b":"3"}"#).unwrap();
        assert_eq!(read.to_string(), "a=,b=3");
    }

    #[test]
    fn insert_and_remove_keep_the_order() {
        let mut labels = Labels::default();
        labels.insert("b", "1");
        labels.insert("a", "2");
        labels.remove("missing");
        assert_eq!(labels.to_string(), "a=2,b=1");
        labels.remove("a");
        labels.remove("b");
        assert_eq!(labels, Labels::default());
    }
}
