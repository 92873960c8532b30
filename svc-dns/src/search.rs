//! What a resolver asks for a name: the search list of its resolv.conf, tried in the way of glibc, musl or Go.

use alloc::vec::Vec;
use core::fmt;

use crate::answer::Upstream;
use crate::name::Name;
use crate::question::Question;
use crate::record::{Rcode, Type};
use crate::resolv_conf::ResolvConf;
use crate::zones::Zones;

/// A stub resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolver {
    /// glibc: a name with enough dots is tried as it is first, then with the list; any negative answer goes on.
    Glibc,
    /// musl: a name with enough dots is tried as it is only; an existing name without addresses, and a failure, end the search.
    Musl,
    /// Go's own resolver (not cgo): as glibc, and a candidate of more than 254 bytes is left out.
    Go,
}

impl Resolver {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Glibc, Self::Musl, Self::Go];
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Go => "go",
        })
    }
}

/// A name that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Candidate {
    /// The name.
    pub name: Name,
    /// Which search domain it comes from, by its place in the list; none for the name as given.
    pub search: Option<usize>,
}

/// The names that a resolver tries for a text, in order, as long as none has an address.
///
/// ```
/// use svc_dns::{ResolvConf, Resolver, candidates};
///
/// let conf = ResolvConf::parse("search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")?;
/// let names: Vec<String> =
///     candidates("api.example.com", &conf, Resolver::Glibc).iter().map(|one| one.name.to_string()).collect();
/// assert_eq!(names, [
///     "api.example.com.shop.svc.cluster.local.",
///     "api.example.com.svc.cluster.local.",
///     "api.example.com.cluster.local.",
///     "api.example.com.",
/// ]);
/// assert_eq!(candidates("api.example.com.", &conf, Resolver::Glibc).len(), 1);
/// # Ok::<(), svc_dns::ResolvConfError>(())
/// ```
#[must_use]
pub fn candidates(text: &str, conf: &ResolvConf, resolver: Resolver) -> Vec<Candidate> {
    let absolute = text.ends_with('.');
    let Ok(name) = text.parse::<Name>() else { return Vec::new() };
    let dots = text.bytes().filter(|byte| *byte == b'.').count();
    let enough = dots >= conf.ndots();
    let as_is = || Candidate { name: name.clone(), search: None };
    if absolute || (enough && resolver == Resolver::Musl) {
        return alloc::vec![as_is()];
    }
    let joined = |(index, domain): (usize, &smol_str::SmolStr)| {
        let domain: Name = domain.parse().ok()?;
        let labels: Vec<&[u8]> = name.labels().chain(domain.labels()).collect();
        Some(Candidate { name: Name::from_labels(labels).ok()?, search: Some(index) })
    };
    let list = conf.searches.iter().enumerate().filter_map(joined);
    let mut all: Vec<Candidate> = if enough {
        core::iter::once(as_is()).chain(list).collect()
    } else {
        list.chain(core::iter::once(as_is())).collect()
    };
    // A search domain that is the root is the name as it is.
    let mut seen: Vec<Name> = Vec::new();
    all.retain(|candidate| {
        let new = !seen.contains(&candidate.name);
        seen.push(candidate.name.clone());
        new
    });
    all
}

/// What a query for one type came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Addresses.
    Found,
    /// The name exists without an address of that family.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// The server could not say.
    Failed,
    /// The name is not served here; see [`Zones::search`] for what is assumed.
    Elsewhere,
}

/// One candidate with the verdicts on its A and AAAA queries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SearchStep {
    /// The candidate.
    pub candidate: Candidate,
    /// The verdict on the A query.
    pub a: Verdict,
    /// The verdict on the AAAA query.
    pub aaaa: Verdict,
}

/// How a search ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SearchEnd {
    /// At this step, with an address.
    Found(usize),
    /// After the last candidate, without an address.
    NotFound,
    /// Before the last candidate: the resolver does not go on after such an answer.
    Stopped,
}

/// What a resolver asks for one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Search {
    /// The resolver.
    pub resolver: Resolver,
    /// The candidates that it tries, up to the last.
    pub steps: Vec<SearchStep>,
    /// How it ends.
    pub end: SearchEnd,
}

impl Search {
    /// How many queries are sent: two a candidate.
    #[must_use]
    pub fn queries(&self) -> usize {
        2 * self.steps.len()
    }

    /// How many of the queries are for candidates that have no address.
    #[must_use]
    pub fn wasted(&self) -> usize {
        match self.end {
            SearchEnd::Found(step) => 2 * step,
            SearchEnd::NotFound | SearchEnd::Stopped => self.queries(),
        }
    }
}

impl Zones {
    /// Plays a resolver's search for a name: each candidate is asked for A and AAAA until one has an address.
    ///
    /// A candidate outside the zones that `upstream` does not know is taken to exist if it is the name as given, and not to exist
    /// if a search domain made it.
    pub fn search(
        &self,
        text: &str,
        conf: &ResolvConf,
        resolver: Resolver,
        upstream: &dyn Upstream,
    ) -> Search {
        let candidates = candidates(text, conf, resolver);
        let last = candidates.len().saturating_sub(1);
        let mut steps = Vec::new();
        for (index, candidate) in candidates.into_iter().enumerate() {
            let as_is = candidate.search.is_none();
            let a = self.verdict(&candidate.name, Type::A, upstream);
            let aaaa = self.verdict(&candidate.name, Type::AAAA, upstream);
            steps.push(SearchStep { candidate, a, aaaa });
            let any = |verdict| a == verdict || aaaa == verdict;
            if any(Verdict::Found) || (as_is && any(Verdict::Elsewhere)) {
                return Search { resolver, steps, end: SearchEnd::Found(index) };
            }
            // musl takes an NXDOMAIN of either family for "nothing here"; anything else negative ends the search.
            let stops = any(Verdict::Failed) || (any(Verdict::NoData) && !any(Verdict::NxDomain));
            if resolver == Resolver::Musl && stops && index < last {
                return Search { resolver, steps, end: SearchEnd::Stopped };
            }
        }
        Search { resolver, steps, end: SearchEnd::NotFound }
    }

    fn verdict(&self, name: &Name, qtype: Type, upstream: &dyn Upstream) -> Verdict {
        let Some(answer) = self.answer(&Question::new(name, qtype), upstream) else {
            return match upstream.lookup(name, qtype) {
                crate::Looked::Nobody => Verdict::Elsewhere,
                crate::Looked::Failed => Verdict::Failed,
                crate::Looked::Answer { rcode, answer, .. } => verdict(rcode, answer.is_empty()),
            };
        };
        verdict(answer.rcode, answer.answer.is_empty())
    }
}

fn verdict(rcode: Rcode, empty: bool) -> Verdict {
    match rcode {
        Rcode::NoError if empty => Verdict::NoData,
        Rcode::NoError => Verdict::Found,
        Rcode::NxDomain => Verdict::NxDomain,
        _ => Verdict::Failed,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Found => "found",
            Self::NoData => "NODATA",
            Self::NxDomain => "NXDOMAIN",
            Self::Failed => "SERVFAIL",
            Self::Elsewhere => "not served here",
        })
    }
}
