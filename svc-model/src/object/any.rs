//! Any supported kind, read by its `kind` field.

use core::fmt;

use serde::de::{self, IgnoredAny, MapAccess};
use serde::{Deserialize, Deserializer, Serialize};
use smol_str::SmolStr;

use super::*;

macro_rules! objects {
    ($($variant:ident),* $(,)?) => {
        /// An object of any kind that this crate knows.
        ///
        /// It is written with `apiVersion` and `kind`. To read one whose kind isn't known
        /// beforehand, read the kind first ([`Object::kind_of`]) and then the object
        /// ([`Object::from_kind`]), so that errors name the field.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Object {
            $(#[doc = concat!("`", stringify!($variant), "`.")] $variant($variant),)*
        }

        /// The kinds of [`Object`], in declaration order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ObjectKind {
            $(#[doc = concat!("[`", stringify!($variant), "`](crate::", stringify!($variant), ").")] $variant,)*
        }

        impl ObjectKind {
            /// Every kind, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Name of the kind as the API writes it, such as `EndpointSlice`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => <$variant as Kind>::KIND,)* }
            }

            /// API group and version, such as `discovery.k8s.io/v1`.
            pub const fn api_version(self) -> &'static str {
                match self { $(Self::$variant => <$variant as Kind>::API_VERSION,)* }
            }

            /// Whether the kind lives in namespaces.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => <$variant as Kind>::SCOPE,)* }
            }
        }

        impl Object {
            /// The kind.
            pub fn object_kind(&self) -> ObjectKind {
                match self { $(Self::$variant(_) => ObjectKind::$variant,)* }
            }

            /// Reads the rest of an object of a known kind. `None` if the kind is not supported.
            ///
            /// # Errors
            ///
            /// Whatever the deserializer reports, such as a wrong type of a field.
            pub fn from_kind<'de, D: Deserializer<'de>>(
                kind: &str,
                deserializer: D,
            ) -> Option<Result<Self, D::Error>> {
                $(if kind == <$variant as Kind>::KIND {
                    return Some($variant::deserialize(deserializer).map(Self::$variant));
                })*
                None
            }

            /// Name of the kind, such as `EndpointSlice`.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => <$variant as Kind>::KIND,)* }
            }

            /// Whether the kind lives in namespaces.
            pub fn scope(&self) -> Scope {
                match self { $(Self::$variant(_) => <$variant as Kind>::SCOPE,)* }
            }

            /// The object's metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$variant(object) => &object.metadata,)* }
            }

            /// The object's metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$variant(object) => &mut object.metadata,)* }
            }
        }

        $(impl From<$variant> for Object {
            fn from(object: $variant) -> Self {
                Self::$variant(object)
            }
        })*
    };
}

objects! {
    Service, Pod, Node, Namespace, EndpointSlice, Endpoints, NetworkPolicy, ClusterNetworkPolicy,
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, ServiceImport, ServiceCidr,
    KubeProxyConfiguration, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Object {
    /// Namespace and name.
    pub fn object_ref(&self) -> ObjectRef {
        self.metadata().object_ref()
    }

    /// Reads only the `kind` of a document; empty if it has none.
    ///
    /// # Errors
    ///
    /// If the document is no map, or its `kind` no string.
    pub fn kind_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SmolStr, D::Error> {
        struct Head;
        impl<'de> de::Visitor<'de> for Head {
            type Value = SmolStr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Kubernetes object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SmolStr, A::Error> {
                let mut kind = SmolStr::default();
                while let Some(key) = map.next_key::<SmolStr>()? {
                    if key == "kind" {
                        kind = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(kind)
            }
        }
        deserializer.deserialize_map(Head)
    }
}
