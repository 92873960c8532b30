//! How API structs are read and written: one macro, so that every kind obeys the same rules.

use serde::{Deserialize, Deserializer};

/// True for a value that the API server leaves out when writing (Go's `omitempty`).
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads JSON `null` as the default, as Go's decoder does for every field.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Declares a struct of the API: camelCase keys, unknown keys ignored, absent and `null` read as
/// the default, defaults left out when writing.
macro_rules! api_struct {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {$(
            $(#[$field_meta])*
            #[serde(
                default,
                skip_serializing_if = "crate::serde_util::is_default",
                deserialize_with = "crate::serde_util::null_as_default"
            )]
            pub $field: $ty,
        )*}
    )*};
}

/// Declares a top-level kind: a struct like [`api_struct`], written with its `apiVersion` and
/// `kind`, and its [`Kind`](crate::object::Kind) implementation. A field marked `always` is
/// written even when empty.
macro_rules! api_kind {
    (
        $(#[$meta:meta])*
        pub struct $name:ident: $api:literal $kind:literal $scope:ident {
            $($(#[doc = $doc:literal])* pub $field:ident $json:literal: $ty:ty $(, $always:ident)?;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
        pub struct $name {
            /// Name, namespace, labels and the other standard metadata.
            #[serde(default, deserialize_with = "crate::serde_util::null_as_default")]
            pub metadata: crate::ObjectMeta,
            $(
                $(#[doc = $doc])*
                #[serde(
                    rename = $json,
                    default,
                    deserialize_with = "crate::serde_util::null_as_default"
                )]
                pub $field: $ty,
            )*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("apiVersion", $api)?;
                map.serialize_entry("kind", $kind)?;
                map.serialize_entry("metadata", &self.metadata)?;
                $(
                    if api_kind!(@written self.$field $(, $always)?) {
                        map.serialize_entry($json, &self.$field)?;
                    }
                )*
                map.end()
            }
        }

        impl crate::object::Kind for $name {
            const API_VERSION: &'static str = $api;
            const KIND: &'static str = $kind;
            const SCOPE: crate::object::Scope = crate::object::Scope::$scope;
            fn metadata(&self) -> &crate::ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut crate::ObjectMeta {
                &mut self.metadata
            }
        }
    };
    (@written $value:expr, always) => { true };
    (@written $value:expr) => { !crate::serde_util::is_default(&$value) };
}

pub(crate) use {api_kind, api_struct};
