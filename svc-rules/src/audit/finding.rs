//! What can be wrong, in words.

use core::fmt;
use core::net::SocketAddr;

use smol_str::SmolStr;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The Service port concerned, as `namespace/name:port`; absent if the node as a whole is.
    pub service: Option<SmolStr>,
    /// The table.
    pub table: &'static str,
    /// The chain.
    pub chain: SmolStr,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The chain is not there.
    MissingChain,
    /// No Service needs the chain.
    StaleChain,
    /// This rule is not there.
    MissingRule {
        /// The rule without its chain.
        rule: SmolStr,
    },
    /// This rule should not be there.
    UnexpectedRule {
        /// The rule without its chain.
        rule: SmolStr,
    },
    /// This rule is there, but at a place where it works otherwise.
    MisplacedRule {
        /// The rule without its chain.
        rule: SmolStr,
    },
    /// Traffic is sent to an address that is no endpoint to be used.
    StaleEndpoint {
        /// The address.
        endpoint: SocketAddr,
    },
    /// An endpoint gets no traffic.
    MissingEndpoint {
        /// The address.
        endpoint: SocketAddr,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}: ")?,
            None => f.write_str("node: ")?,
        }
        let Self { table, chain, .. } = self;
        match &self.problem {
            Problem::MissingChain => write!(f, "chain {chain} is missing from table {table}"),
            Problem::StaleChain => write!(f, "chain {chain} in table {table} is stale: no Service needs it"),
            Problem::MissingRule { rule } => write!(f, "{table} {chain} lacks the rule `{rule}`"),
            Problem::UnexpectedRule { rule } => write!(f, "{table} {chain} has a rule too many: `{rule}`"),
            Problem::MisplacedRule { rule } => write!(f, "{table} {chain} has a rule out of order: `{rule}`"),
            Problem::StaleEndpoint { endpoint } => {
                write!(f, "traffic still goes to {endpoint}, which is no endpoint to be used from here")
            }
            Problem::MissingEndpoint { endpoint } => write!(f, "endpoint {endpoint} gets no traffic"),
        }
    }
}
