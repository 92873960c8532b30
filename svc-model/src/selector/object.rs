//! The `LabelSelector` object of the API, and the ways between it and the compiled selector.

use alloc::vec::Vec;

use smol_str::SmolStr;

use super::{Operator, Requirement, RequirementError, Selector};
use crate::scalar::string_enum;
use crate::serde_util::api_struct;
use crate::{Labels, Sent};

api_struct! {
    /// A label selector as API objects hold it (`metav1.LabelSelector`): labels and expressions, all
    /// of which must hold. Empty, it matches everything. Where a field of this type is absent, it mostly
    /// matches nothing: see [`Selector::from_object`].
    pub struct LabelSelector {
        /// Labels that must be there with these values.
        pub match_labels: Labels,
        /// Further requirements.
        pub match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// One requirement of a [`LabelSelector`], as it was sent.
    pub struct LabelSelectorRequirement {
        /// The key of the label.
        pub key: SmolStr,
        /// How label and values relate.
        pub operator: Sent<LabelSelectorOperator>,
        /// The values: at least one for `In` and `NotIn`, none for the others.
        pub values: Vec<SmolStr>,
    }
}

string_enum! {
    /// The operator of a [`LabelSelectorRequirement`].
    pub enum LabelSelectorOperator {
        /// The label is there, with one of the values.
        In = "In",
        /// The label is absent, or has none of the values.
        NotIn = "NotIn",
        /// The label is there.
        Exists = "Exists",
        /// The label is absent.
        DoesNotExist = "DoesNotExist",
    }
}

/// A [`LabelSelector`] cannot be turned into something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelSelectorError {
    /// An expression has an operator that is none of the four.
    #[error("`{operator}` is not an operator of label selectors (label `{key}`)")]
    UnknownOperator {
        /// The label of the expression.
        key: SmolStr,
        /// Its operator.
        operator: SmolStr,
    },
    /// A key or a value is not valid.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// The requirement has no equivalent in the other form.
    #[error("`{0}` cannot be written in this form")]
    NotExpressible(SmolStr),
}

impl LabelSelectorRequirement {
    fn known_operator(&self) -> Result<LabelSelectorOperator, LabelSelectorError> {
        self.operator.get().ok_or_else(|| LabelSelectorError::UnknownOperator {
            key: self.key.clone(),
            operator: self.operator.to_text(),
        })
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = LabelSelectorError;

    fn try_from(object: &LabelSelector) -> Result<Self, LabelSelectorError> {
        let mut all = Vec::with_capacity(object.match_labels.len() + object.match_expressions.len());
        for (key, value) in object.match_labels.iter() {
            all.push(Requirement::new(key, Operator::Equals, [value])?);
        }
        for expression in &object.match_expressions {
            let operator = match expression.known_operator()? {
                LabelSelectorOperator::In => Operator::In,
                LabelSelectorOperator::NotIn => Operator::NotIn,
                LabelSelectorOperator::Exists => Operator::Exists,
                LabelSelectorOperator::DoesNotExist => Operator::DoesNotExist,
            };
            all.push(Requirement::new(expression.key.clone(), operator, expression.values.iter().cloned())?);
        }
        Ok(Self::new(all))
    }
}

/// The object of a selector. It has no word for `>`, `<` and `!=` (not even as `NotIn`: Kubernetes refuses
/// that too), nor for [`Selector::NOTHING`]. Of several `=` on one label only the last is kept, so
/// `a=1,a=2`, which matches nothing, turns into `a=2`: a quirk of Kubernetes' conversion.
impl TryFrom<&Selector> for LabelSelector {
    type Error = LabelSelectorError;

    fn try_from(selector: &Selector) -> Result<Self, LabelSelectorError> {
        if selector.is_nothing() {
            return Err(LabelSelectorError::NotExpressible("nothing".into()));
        }
        let mut labels: Vec<(SmolStr, SmolStr)> = Vec::new();
        let mut match_expressions = Vec::new();
        for requirement in selector.requirements() {
            let operator = match requirement.operator() {
                Operator::Equals | Operator::DoubleEquals => {
                    let value = requirement.exact_value().unwrap_or_default();
                    labels.push((requirement.key().into(), value.into()));
                    continue;
                }
                Operator::In => LabelSelectorOperator::In,
                Operator::NotIn => LabelSelectorOperator::NotIn,
                Operator::Exists => LabelSelectorOperator::Exists,
                Operator::DoesNotExist => LabelSelectorOperator::DoesNotExist,
                Operator::NotEquals | Operator::GreaterThan | Operator::LessThan => {
                    return Err(LabelSelectorError::NotExpressible(smol_str::format_smolstr!(
                        "{requirement}"
                    )));
                }
            };
            let mut values = requirement.values().to_vec();
            values.dedup();
            match_expressions.push(LabelSelectorRequirement {
                key: requirement.key().into(),
                operator: operator.into(),
                values,
            });
        }
        Ok(Self { match_labels: labels.into_iter().collect(), match_expressions })
    }
}

impl LabelSelector {
    /// The plain labels that say the same, for APIs that know only those: `In` with a single value counts as
    /// such a label, and wins over `matchLabels`.
    ///
    /// # Errors
    ///
    /// The first expression that plain labels cannot say.
    pub fn to_labels(&self) -> Result<Labels, LabelSelectorError> {
        let mut labels: Vec<(SmolStr, SmolStr)> =
            self.match_labels.iter().map(|(key, value)| (key.into(), value.into())).collect();
        for expression in &self.match_expressions {
            match (expression.known_operator()?, expression.values.as_slice()) {
                (LabelSelectorOperator::In, [value]) => labels.push((expression.key.clone(), value.clone())),
                (operator, _) => {
                    let text = smol_str::format_smolstr!("{} {operator}", expression.key);
                    return Err(LabelSelectorError::NotExpressible(text));
                }
            }
        }
        Ok(labels.into_iter().collect())
    }
}
