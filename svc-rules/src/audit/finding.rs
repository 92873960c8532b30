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
    /// The table of iptables or nftables; `ipvs` for virtual servers, `ipset` for sets of that tool.
    pub table: &'static str,
    /// The chain, set or map in it, or the virtual server as ipvsadm writes it.
    pub place: SmolStr,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a chain, set, map or virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The table is not there.
    MissingTable,
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
    /// The chain is attached elsewhere than it should be, or not at all; or a set holds other things.
    Redeclared {
        /// The declaration that is there, without the name.
        found: SmolStr,
        /// The one that should be.
        wanted: SmolStr,
    },
    /// The set or map is not there.
    MissingSet,
    /// No Service needs the set or map.
    StaleSet,
    /// This element is not there.
    MissingElement {
        /// The element, in a map with what it stands for.
        element: SmolStr,
    },
    /// This element should not be there.
    UnexpectedElement {
        /// The element, in a map with what it stands for.
        element: SmolStr,
    },
    /// This element of a map stands for something else than it should.
    ChangedElement {
        /// The element that is there.
        found: SmolStr,
        /// The one that should be.
        wanted: SmolStr,
    },
    /// The virtual server is not there.
    MissingServer,
    /// No Service needs the virtual server.
    StaleServer,
    /// The virtual server does not send to this endpoint.
    MissingRealServer {
        /// The address.
        server: SocketAddr,
    },
    /// The virtual server sends to this address, which is no endpoint to be used.
    StaleRealServer {
        /// The address.
        server: SocketAddr,
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
        let Self { table, place, .. } = self;
        match &self.problem {
            Problem::MissingTable => write!(f, "table {table} is missing"),
            Problem::MissingChain => write!(f, "chain {place} is missing from table {table}"),
            Problem::StaleChain => write!(f, "chain {place} in table {table} is stale: no Service needs it"),
            Problem::MissingRule { rule } => write!(f, "{table} {place} lacks the rule `{rule}`"),
            Problem::UnexpectedRule { rule } => write!(f, "{table} {place} has a rule too many: `{rule}`"),
            Problem::MisplacedRule { rule } => write!(f, "{table} {place} has a rule out of order: `{rule}`"),
            Problem::Redeclared { found, wanted } => {
                write!(f, "{table} {place} is declared as `{found}` instead of `{wanted}`")
            }
            Problem::MissingSet => write!(f, "set {place} is missing from table {table}"),
            Problem::StaleSet => write!(f, "set {place} in table {table} is stale: no Service needs it"),
            Problem::MissingElement { element } => write!(f, "{table} {place} lacks the element `{element}`"),
            Problem::UnexpectedElement { element } => {
                write!(f, "{table} {place} has an element too many: `{element}`")
            }
            Problem::ChangedElement { found, wanted } => {
                write!(f, "{table} {place} has `{found}` instead of `{wanted}`")
            }
            Problem::MissingServer => write!(f, "virtual server {place} is missing"),
            Problem::StaleServer => write!(f, "virtual server {place} is stale: no Service needs it"),
            Problem::MissingRealServer { server } => {
                write!(f, "virtual server {place} sends nothing to endpoint {server}")
            }
            Problem::StaleRealServer { server } => {
                write!(
                    f,
                    "virtual server {place} still sends to {server}, which is no endpoint to be used from here"
                )
            }
            Problem::StaleEndpoint { endpoint } => {
                write!(f, "traffic still goes to {endpoint}, which is no endpoint to be used from here")
            }
            Problem::MissingEndpoint { endpoint } => write!(f, "endpoint {endpoint} gets no traffic"),
        }
    }
}
