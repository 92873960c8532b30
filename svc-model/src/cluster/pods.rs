//! Pods by label, node and address.

use core::net::IpAddr;

use alloc::vec::Vec;
use smol_str::SmolStr;

use super::objects::{Id, IdPool};
use super::selector_index::demands_label;
use super::tree::Tree;
use crate::selector::{Operator, Requirement};
use crate::{Labels, Pod, Selector};

/// Indexes over Pods.
///
/// Pods of one namespace with equal labels form a *class*: the Pods of a ReplicaSet are one. Selectors are matched
/// with classes, not with Pods, and a Pod costs an entry in its class, however many labels it has. The class also
/// holds the one copy of the labels that its Pods share.
#[derive(Clone, Default)]
pub(super) struct PodIndex {
    class_of: Tree<Id, ClassId>,
    classes: Tree<ClassId, Class>,
    members: Tree<(ClassId, Id)>,
    namespaces: Tree<SmolStr, NamespaceClasses>,
    class_ids: IdPool,
    on_node: Tree<SmolStr, Tree<Id>>,
    by_address: Tree<(IpAddr, Id)>,
}

pub(super) type ClassId = Id;

#[derive(Clone)]
pub(super) struct Class {
    pub(super) namespace: SmolStr,
    pub(super) labels: Labels,
    pods: u32,
}

#[derive(Clone, Default)]
struct NamespaceClasses {
    ids: Tree<Labels, ClassId>,
    by_label: Tree<(SmolStr, SmolStr, ClassId)>,
}

impl PodIndex {
    /// The one copy of these labels that Pods of a namespace share, if some Pod has them.
    pub(super) fn shared_labels(&self, namespace: &str, labels: &Labels) -> Option<&Labels> {
        Some(&self.class(self.find_class(namespace, labels)?)?.labels)
    }

    /// Moves the Pod `id` from its old state to its new one.
    pub(super) fn reindex(&mut self, id: Id, old: Option<&Pod>, new: Option<&Pod>) {
        let labels = |pod: Option<&Pod>| pod.map(|pod| pod.metadata.labels.clone());
        if labels(old) != labels(new) {
            if old.is_some() {
                self.leave_class(id);
            }
            if let Some(pod) = new {
                self.join_class(id, &pod.metadata.namespace, &pod.metadata.labels);
            }
        }
        let node = |pod: Option<&Pod>| pod.map(|pod| pod.spec.node_name.clone()).unwrap_or_default();
        let (old_node, new_node) = (node(old), node(new));
        if old_node != new_node {
            self.leave_node(id, &old_node);
            self.join_node(id, new_node);
        }
        let same = |a: &Pod, b: &Pod| a.addresses().eq(b.addresses());
        if !old.zip(new).is_some_and(|(old, new)| same(old, new)) {
            for ip in old.into_iter().flat_map(Pod::addresses) {
                self.by_address.remove(|stored| stored.cmp(&(ip, id)));
            }
            for ip in new.into_iter().flat_map(Pod::addresses) {
                self.by_address.insert((ip, id), ());
            }
        }
    }

    fn find_class(&self, namespace: &str, labels: &Labels) -> Option<ClassId> {
        let classes = self.namespaces.get(|stored| stored.as_str().cmp(namespace))?;
        classes.ids.get(|stored| stored.cmp(labels)).copied()
    }

    fn join_class(&mut self, id: Id, namespace: &SmolStr, labels: &Labels) {
        let class = match self.find_class(namespace, labels) {
            Some(class) => class,
            None => self.open_class(namespace, labels),
        };
        if let Some(class) = self.classes.get_mut(|stored| stored.cmp(&class)) {
            class.pods += 1;
        }
        self.class_of.insert(id, class);
        self.members.insert((class, id), ());
    }

    fn open_class(&mut self, namespace: &SmolStr, labels: &Labels) -> ClassId {
        let class = self.class_ids.take();
        self.classes.insert(class, Class { namespace: namespace.clone(), labels: labels.clone(), pods: 0 });
        self.namespaces.update(namespace, |classes| {
            classes.ids.insert(labels.clone(), class);
            for (key, value) in labels.as_slice() {
                classes.by_label.insert((key.clone(), value.clone(), class), ());
            }
        });
        class
    }

    fn leave_class(&mut self, id: Id) {
        let Some((_, class)) = self.class_of.remove(|stored| stored.cmp(&id)) else { return };
        self.members.remove(|stored| stored.cmp(&(class, id)));
        let Some(state) = self.classes.get_mut(|stored| stored.cmp(&class)) else { return };
        state.pods -= 1;
        if state.pods == 0 {
            self.close_class(class);
        }
    }

    fn close_class(&mut self, class: ClassId) {
        let Some((_, Class { namespace, labels, .. })) = self.classes.remove(|stored| stored.cmp(&class))
        else {
            return;
        };
        self.class_ids.give_back(class);
        let Some(classes) = self.namespaces.get_mut(|stored| stored.cmp(&namespace)) else { return };
        classes.ids.remove(|stored| stored.cmp(&labels));
        for (key, value) in labels.as_slice() {
            let label = (key, value, &class);
            classes.by_label.remove(|(key, value, class)| (key, value, class).cmp(&label));
        }
        if classes.ids.is_empty() {
            self.namespaces.remove(|stored| stored.cmp(&namespace));
        }
    }

    fn leave_node(&mut self, id: Id, node: &str) {
        let Some(pods) = self.on_node.get_mut(|stored| stored.as_str().cmp(node)) else { return };
        pods.remove(|stored| stored.cmp(&id));
        if pods.is_empty() {
            self.on_node.remove(|stored| stored.as_str().cmp(node));
        }
    }

    fn join_node(&mut self, id: Id, node: SmolStr) {
        if node.is_empty() {
            return;
        }
        self.on_node.update(&node, |pods| pods.insert(id, ()));
    }

    pub(super) fn class(&self, class: ClassId) -> Option<&Class> {
        self.classes.get(|stored| stored.cmp(&class))
    }

    pub(super) fn class_of(&self, id: Id) -> Option<ClassId> {
        self.class_of.get(|stored| stored.cmp(&id)).copied()
    }

    /// The Pods of a class.
    pub(super) fn members(&self, class: ClassId) -> impl Iterator<Item = Id> {
        self.members.range(move |(stored, _)| stored.cmp(&class)).map(|((_, id), ())| *id)
    }

    /// The Pods bound to a node.
    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = Id> {
        let pods = self.on_node.get(|stored| stored.as_str().cmp(node));
        pods.into_iter().flat_map(Tree::iter).map(|(id, ())| *id)
    }

    /// The Pods that have an address.
    pub(super) fn at_address(&self, ip: IpAddr) -> impl Iterator<Item = Id> {
        self.by_address.range(move |(stored, _)| stored.cmp(&ip)).map(|((_, id), ())| *id)
    }

    /// The classes of a namespace that a selector matches.
    pub(super) fn select(&self, namespace: &str, selector: &Selector) -> Vec<ClassId> {
        let Some(classes) = self.namespaces.get(|stored| stored.as_str().cmp(namespace)) else {
            return Vec::new();
        };
        if selector.is_nothing() {
            return Vec::new();
        }
        match classes.rarest(selector) {
            None => {
                classes.ids.iter().filter(|(labels, _)| selector.matches(labels)).map(|(_, id)| *id).collect()
            }
            Some(requirement) => {
                let found = classes.with(requirement);
                found.filter(|id| self.class(*id).is_some_and(|c| selector.matches(&c.labels))).collect()
            }
        }
    }
}

impl NamespaceClasses {
    /// The requirement that the fewest classes come into question for, `None` if none demands a label. All are counted
    /// in step, so that the cost is that of the rarest.
    fn rarest<'a>(&self, selector: &'a Selector) -> Option<&'a Requirement> {
        let demands = || selector.requirements().iter().filter(|requirement| demands_label(requirement));
        if demands().count() < 2 {
            return demands().next();
        }
        let mut limit = 8;
        while limit < self.ids.len() {
            if let Some(rare) =
                demands().find(|requirement| self.with(requirement).take(limit).count() < limit)
            {
                return Some(rare);
            }
            limit *= 8;
        }
        demands().next()
    }

    /// The classes that have a label which a requirement demands.
    fn with(&self, requirement: &Requirement) -> impl Iterator<Item = ClassId> {
        let key = requirement.key();
        let by_value =
            matches!(requirement.operator(), Operator::Equals | Operator::DoubleEquals | Operator::In);
        let values = if by_value { requirement.values() } else { &[] };
        // Values are sorted; repeated ones must not repeat classes.
        let values =
            values.iter().enumerate().filter(|(at, value)| *at == 0 || values.get(at - 1) != Some(value));
        let by_label = values.flat_map(move |(_, value)| {
            self.by_label.range(move |(k, v, _)| k.as_str().cmp(key).then_with(|| v.cmp(value)))
        });
        let any_value = (!by_value).then(|| self.by_label.range(move |(k, _, _)| k.as_str().cmp(key)));
        by_label.chain(any_value.into_iter().flatten()).map(|((_, _, class), ())| *class)
    }
}
