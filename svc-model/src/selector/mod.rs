//! Label selectors.

use alloc::vec::Vec;
use smol_str::SmolStr;

use crate::scalar::string_enum;
use crate::serde_util::api_struct;
use crate::{Labels, Sent};

api_struct! {
    /// A selector as API objects carry it (`metav1.LabelSelector`): both parts must match, and
    /// empty matches everything.
    pub struct LabelSelector {
        /// Keys and the values they must have.
        pub match_labels: Labels,
        /// Further requirements, all of which must hold.
        pub match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// One requirement of a [`LabelSelector`].
    pub struct LabelSelectorRequirement {
        /// Label key.
        pub key: SmolStr,
        /// How key and values relate.
        pub operator: Sent<LabelSelectorOperator>,
        /// Values for `In` and `NotIn`; empty for the others.
        pub values: Vec<SmolStr>,
    }
}

string_enum! {
    /// Operators of a [`LabelSelectorRequirement`].
    pub enum LabelSelectorOperator {
        /// The label is present with one of the values.
        In = "In",
        /// The label is absent or has none of the values.
        NotIn = "NotIn",
        /// The label is present.
        Exists = "Exists",
        /// The label is absent.
        DoesNotExist = "DoesNotExist",
    }
}
