//! The objects of one kind, in order of namespace and name.

use alloc::sync::Arc;
use core::fmt;

use smol_str::SmolStr;

use super::tree::Tree;
use crate::object::Kind;

/// All objects of one kind, in order of namespace, then name. Clones share everything (O(1)).
#[derive(Clone)]
pub struct Objects<T> {
    names: Tree<SmolStr, Tree<SmolStr, Id>>,
    by_id: Tree<Id, Arc<T>>,
    ids: IdPool,
}

/// Stands for an object inside the indexes: four bytes where a name takes 24 or more. Which id an object gets depends
/// on the history, so ids never reach the outside, neither as values nor as an order.
pub(super) type Id = u32;

/// Hands out the ids from 0 on; those given back are used again first, the lowest first.
#[derive(Clone, Default)]
pub(super) struct IdPool {
    /// Every id below this has been handed out.
    end: Id,
    free: Tree<Id>,
}

impl IdPool {
    pub(super) fn take(&mut self) -> Id {
        if let Some((&id, ())) = self.free.first() {
            self.free.remove(|stored| stored.cmp(&id));
            return id;
        }
        let id = self.end;
        // Memory ends long before four billion objects.
        self.end = self.end.saturating_add(1);
        id
    }

    pub(super) fn give_back(&mut self, id: Id) {
        self.free.insert(id, ());
    }
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { names: Tree::default(), by_id: Tree::default(), ids: IdPool::default() }
    }
}

impl<T> Objects<T> {
    /// The object of this name; `namespace` is empty for cluster-scoped kinds. O(log n).
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.by_id(self.id(namespace, name)?)
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All objects, by namespace, then name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.names.iter().flat_map(|(_, names)| names.iter()).filter_map(|(_, id)| self.by_id(*id))
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        let names = self.names.get(|stored| stored.as_str().cmp(namespace));
        names.into_iter().flat_map(Tree::iter).filter_map(|(_, id)| self.by_id(*id))
    }

    /// The namespaces that hold objects, in order.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &SmolStr> {
        self.names.iter().map(|(namespace, _)| namespace)
    }

    pub(super) fn with_ids(&self) -> impl Iterator<Item = (Id, &Arc<T>)> {
        self.by_id.iter().map(|(id, object)| (*id, object))
    }

    pub(super) fn id(&self, namespace: &str, name: &str) -> Option<Id> {
        let names = self.names.get(|stored| stored.as_str().cmp(namespace))?;
        names.get(|stored| stored.as_str().cmp(name)).copied()
    }

    pub(super) fn by_id(&self, id: Id) -> Option<&Arc<T>> {
        self.by_id.get(|stored| stored.cmp(&id))
    }
}

impl<T: Kind> Objects<T> {
    /// Puts an object under its name and returns its id, with the object that it replaces.
    pub(super) fn insert(&mut self, object: Arc<T>) -> (Id, Option<Arc<T>>) {
        let metadata = object.metadata();
        if let Some(id) = self.id(&metadata.namespace, &metadata.name) {
            return (id, self.by_id.insert(id, object));
        }
        let id = self.ids.take();
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        self.names.update(&namespace, |names| names.insert(name, id));
        (id, self.by_id.insert(id, object))
    }

    /// Takes an object out.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Option<(Id, Arc<T>)> {
        let id = self.id(namespace, name)?;
        let (_, object) = self.by_id.remove(|stored| stored.cmp(&id))?;
        self.ids.give_back(id);
        let names = self.names.get_mut(|stored| stored.as_str().cmp(namespace))?;
        names.remove(|stored| stored.as_str().cmp(name));
        if names.is_empty() {
            self.names.remove(|stored| stored.as_str().cmp(namespace));
        }
        Some((id, object))
    }
}

/// The same objects; how they came to be here does not count.
impl<T: PartialEq> PartialEq for Objects<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for Objects<T> {}

impl<T: fmt::Debug> fmt::Debug for Objects<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
