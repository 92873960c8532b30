//! Verdicts, and what decided them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use svc_model::{IpFamily, ObjectRef, SmolStr};

use crate::policy::{Action, Direction, PolicyRef, Tier};
use crate::traffic::Traffic;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint<'a> {
    /// A Pod.
    Pod {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// An address: that of a Pod if one has it, else somebody outside.
    Address(IpAddr),
}

impl<'a> Endpoint<'a> {
    /// A Pod by namespace and name.
    pub const fn pod(namespace: &'a str, name: &'a str) -> Self {
        Self::Pod { namespace, name }
    }
}

impl<'a> From<&'a ObjectRef> for Endpoint<'a> {
    fn from(pod: &'a ObjectRef) -> Self {
        Self::pod(&pod.namespace, &pod.name)
    }
}

impl From<IpAddr> for Endpoint<'_> {
    fn from(ip: IpAddr) -> Self {
        Self::Address(ip)
    }
}

impl fmt::Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Address(ip) => write!(f, "{ip}"),
        }
    }
}

/// A new connection: who, to whom, with what. Replies need no verdict, they follow their connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow<'a> {
    /// Who connects. The address that the destination sees, so behind source NAT a node's.
    pub from: Endpoint<'a>,
    /// Who is connected to: a backend, not the virtual address of a Service.
    pub to: Endpoint<'a>,
    /// Protocol and port.
    pub traffic: Traffic,
    /// Family of the addresses used. `None`: that of an end given by address, else the first address of the
    /// destination for which the source has one.
    pub family: Option<IpFamily>,
}

impl<'a> Flow<'a> {
    /// A connection over whichever family its ends share.
    pub fn new(from: impl Into<Endpoint<'a>>, to: impl Into<Endpoint<'a>>, traffic: Traffic) -> Self {
        Self { from: from.into(), to: to.into(), traffic, family: None }
    }
}

impl fmt::Display for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.from, self.to, self.traffic)
    }
}

/// Whether a connection comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It does.
    Allow,
    /// It doesn't.
    Deny,
    /// It depends on something that isn't known; the reason says on what.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Unknown => "unknown",
        })
    }
}

/// A verdict with the reasons of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The outcome: denied if either side denies, else unknown if either is, else allowed.
    pub verdict: Verdict,
    /// The source's side.
    pub egress: Side,
    /// The destination's side.
    pub ingress: Side,
}

/// The verdict of one side and what decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The side's verdict.
    pub verdict: Verdict,
    /// What decided.
    pub reason: Reason,
}

/// What decided one side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// This end is outside, or on a node's network: no policy is about it.
    NotSubject,
    /// A Pod's connection to itself never leaves it.
    SelfTraffic,
    /// The source is the node that the Pod runs on.
    OwnNode,
    /// No rule matches and nothing isolates the Pod.
    Default,
    /// NetworkPolicies isolate the Pod in this direction, and none of their rules matches.
    Isolated {
        /// Those policies, in order.
        policies: Vec<PolicyRef>,
    },
    /// A rule matches.
    Rule(RuleReason),
    /// Both verdicts are possible.
    Undetermined {
        /// What would allow it.
        allow: Box<Self>,
        /// What would deny it.
        deny: Box<Self>,
        /// What isn't known.
        missing: Vec<Missing>,
    },
    /// An end of the connection can't be told.
    NoEndpoint(Missing),
}

/// A rule that decided, down to the entries of its lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleReason {
    /// Tier of the policy.
    pub tier: Tier,
    /// The policy.
    pub policy: PolicyRef,
    /// Which of its lists.
    pub direction: Direction,
    /// Index of the rule in that list.
    pub rule: usize,
    /// Name of the rule, if it has one.
    pub name: SmolStr,
    /// What it does.
    pub action: Action,
    /// Index of the first peer that matches; `None` if the rule is for everyone.
    pub peer: Option<usize>,
    /// Index of the first port that matches; `None` if the rule is for all traffic.
    pub port: Option<usize>,
}

/// Something that would have to be known for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missing {
    /// There is no such Pod, or it has ended.
    Pod(ObjectRef),
    /// The Pod has no address, at least not of the connection's family.
    Address(ObjectRef),
    /// The two ends have no address family in common.
    CommonFamily,
    /// The namespace isn't declared, so its labels aren't known.
    Namespace(SmolStr),
    /// No address of the domain name is known.
    Domain(SmolStr),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "there is no Pod {pod}"),
            Self::Address(pod) => write!(f, "Pod {pod} has no fitting address"),
            Self::CommonFamily => f.write_str("the two ends have no address family in common"),
            Self::Namespace(name) => write!(f, "namespace {name} isn't declared"),
            Self::Domain(name) => write!(f, "no address of {name} is known"),
        }
    }
}

impl fmt::Display for RuleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.rule)?;
        if !self.name.is_empty() {
            write!(f, " `{}`", self.name.escape_debug())?;
        }
        if self.tier != Tier::NetworkPolicy {
            write!(f, " ({} tier, {})", self.tier, self.action)?;
        }
        match self.peer {
            Some(peer) => write!(f, ", peer {peer}")?,
            None => f.write_str(", everyone")?,
        }
        match self.port {
            Some(port) => write!(f, ", port {port}"),
            None => f.write_str(", all traffic"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSubject => f.write_str("no policy is about this end"),
            Self::SelfTraffic => f.write_str("the Pod's own traffic"),
            Self::OwnNode => f.write_str("the Pod's own node"),
            Self::Default => f.write_str("no rule matches and nothing isolates the Pod"),
            Self::Isolated { policies } => {
                f.write_str("isolated by ")?;
                for (i, policy) in policies.iter().enumerate() {
                    write!(f, "{}{policy}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(", and no rule matches")
            }
            Self::Rule(rule) => rule.fmt(f),
            Self::Undetermined { allow, deny, missing } => {
                for (i, missing) in missing.iter().enumerate() {
                    write!(f, "{}{missing}", if i > 0 { ", " } else { "" })?;
                }
                write!(f, "; perhaps allowed: {allow}; perhaps denied: {deny}")
            }
            Self::NoEndpoint(missing) => missing.fmt(f),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.verdict, self.reason)
    }
}

/// Three lines: the verdict, then each side.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  egress  {}\n  ingress {}", self.verdict, self.egress, self.ingress)
    }
}
