//! What the labels left of a zone mean.
//!
//! From right to left: `svc` or `pod`, a namespace, a service (or a pod's dashed address), and then one label for an endpoint, two
//! for a port and a protocol (or an endpoint and its cluster in a clusterset zone), or a topology zone behind `pin._zone` or
//! `prefer._zone`. This is the grammar of the Kubernetes DNS specification 1.1.0 sections 2.3 and 2.4 as CoreDNS 1.14 reads it.

use crate::question::Question;

/// Which grammar a zone follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Grammar {
    /// What two labels left of a service are.
    pub pair: Pair,
    /// Whether names may carry a topology zone.
    pub zonal: Zonal,
}

/// What two labels left of a service are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pair {
    /// A port and a protocol, with or without underscores.
    #[default]
    PortProtocol,
    /// A port and a protocol if either has an underscore, else an endpoint and the cluster that it is in (KEP-1645).
    EndpointCluster,
}

/// Whether `<topology zone>.pin._zone.<service>` and `.prefer._zone.` are names (CoreDNS's `zonal` option).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zonal {
    /// They do not exist.
    #[default]
    Off,
    /// They exist below headless Services.
    On,
}

/// The part of the tree that a name is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// `svc`.
    Service,
    /// `pod`.
    Pod,
}

/// What stands left of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    None,
    /// Label 0 is an endpoint.
    Endpoint,
    /// Label 0 is a port, label 1 a protocol.
    Port,
    /// Label 0 is an endpoint, label 1 a cluster.
    Cluster,
    /// Labels 0 to this one (exclusive) are a topology zone.
    Topology(usize, Directive),
}

/// What a topology zone in a name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// The endpoints of that zone, or none.
    Pin,
    /// The endpoints of that zone, or all if it has none.
    Prefer,
}

/// The place of a name in a zone's tree. Labels are counted from the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The zone itself, `svc` or `pod`: names that only have names below them.
    Top,
    /// `<namespace>.svc` or `.pod`; the label of the namespace.
    Namespace(Branch, usize),
    /// A service or pod, at this label, with something left of it or not.
    Object(Branch, usize, Leaf),
    /// No name of the grammar.
    Outside(Outside),
}

/// Why labels are no name of the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// The label next to the zone is neither `svc` nor `pod`.
    Branch,
    /// More labels than any name has.
    TooLong,
}

/// Places the `left` labels that `label` gives.
fn place<'a>(left: usize, label: impl Fn(usize) -> &'a [u8], grammar: Grammar) -> Place {
    let branch = match left.checked_sub(1).map(&label) {
        None => return Place::Top,
        Some(b"svc") => Branch::Service,
        Some(b"pod") => Branch::Pod,
        Some(_) => return Place::Outside(Outside::Branch),
    };
    let leaf = match left {
        1 => return Place::Top,
        2 => return Place::Namespace(branch, 0),
        3 => Leaf::None,
        4 => Leaf::Endpoint,
        5 if grammar.pair == Pair::EndpointCluster
            && ![0, 1].iter().any(|at| label(*at).starts_with(b"_")) =>
        {
            Leaf::Cluster
        }
        5 => Leaf::Port,
        // `_zone` stands next to the service, the directive left of it.
        _ if grammar != (Grammar { pair: Pair::PortProtocol, zonal: Zonal::On })
            || branch != Branch::Service
            || label(left - 4) != b"_zone" =>
        {
            return Place::Outside(Outside::TooLong);
        }
        _ => match label(left - 5) {
            b"pin" => Leaf::Topology(left - 5, Directive::Pin),
            b"prefer" => Leaf::Topology(left - 5, Directive::Prefer),
            _ => return Place::Outside(Outside::TooLong),
        },
    };
    Place::Object(branch, left - 3, leaf)
}

impl Place {
    /// Places a question whose name has `left` labels left of the zone.
    pub(crate) fn of(question: &Question<'_>, left: usize, grammar: Grammar) -> Self {
        place(left, |at| question.label(at), grammar)
    }
}

/// The parts that a name is read as; a part that it does not have is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NameParts<'a> {
    /// Services or pods; none for the zone itself, `svc` and `pod`.
    pub branch: Option<Branch>,
    /// The namespace.
    pub namespace: &'a str,
    /// The Service, or the dashed address of a Pod.
    pub service: &'a str,
    /// The endpoint's label.
    pub endpoint: &'a str,
    /// The cluster of the endpoint.
    pub cluster: &'a str,
    /// The port, without its underscore.
    pub port: &'a str,
    /// The protocol, without its underscore.
    pub protocol: &'a str,
    /// The labels of the topology zone, as long as they are.
    pub topology: &'a [&'a str],
    /// What the topology zone is for.
    pub directive: Option<Directive>,
}

impl<'a> NameParts<'a> {
    /// Reads the labels left of a zone, in lower case; none if no name has this shape.
    ///
    /// ```
    /// use svc_dns::{Grammar, NameParts};
    ///
    /// let parts = NameParts::read(&["_http", "_tcp", "web", "shop", "svc"], Grammar::default()).unwrap();
    /// assert_eq!((parts.port, parts.protocol, parts.service, parts.namespace), ("http", "tcp", "web", "shop"));
    /// assert_eq!(NameParts::read(&["web", "shop"], Grammar::default()), None);
    /// ```
    #[must_use]
    pub fn read(labels: &'a [&'a str], grammar: Grammar) -> Option<Self> {
        let label = |at: usize| labels.get(at).copied().unwrap_or_default();
        let bare = |at: usize| label(at).strip_prefix('_').unwrap_or(label(at));
        let mut parts = Self::default();
        match place(labels.len(), |at| label(at).as_bytes(), grammar) {
            Place::Outside(_) => return None,
            Place::Top => {}
            Place::Namespace(branch, namespace) => {
                parts.branch = Some(branch);
                parts.namespace = label(namespace);
            }
            Place::Object(branch, service, leaf) => {
                parts.branch = Some(branch);
                parts.service = label(service);
                parts.namespace = label(service + 1);
                match leaf {
                    Leaf::None => {}
                    Leaf::Endpoint => parts.endpoint = label(0),
                    Leaf::Port => {
                        parts.port = bare(0);
                        parts.protocol = bare(1);
                    }
                    Leaf::Cluster => {
                        parts.endpoint = label(0);
                        parts.cluster = label(1);
                    }
                    Leaf::Topology(end, directive) => {
                        parts.topology = labels.get(..end).unwrap_or_default();
                        parts.directive = Some(directive);
                    }
                }
            }
        }
        Some(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Grammar = Grammar { pair: Pair::PortProtocol, zonal: Zonal::Off };
    const ZONAL: Grammar = Grammar { pair: Pair::PortProtocol, zonal: Zonal::On };
    const MULTI: Grammar = Grammar { pair: Pair::EndpointCluster, zonal: Zonal::On };

    fn at(text: &str, grammar: Grammar) -> Place {
        let labels: alloc::vec::Vec<&str> = text.split('.').filter(|label| !label.is_empty()).collect();
        place(labels.len(), |at| labels[at].as_bytes(), grammar)
    }

    #[test]
    fn shapes() {
        assert_eq!(at("", PLAIN), Place::Top);
        assert_eq!(at("svc", PLAIN), Place::Top);
        assert_eq!(at("ns.pod", PLAIN), Place::Namespace(Branch::Pod, 0));
        assert_eq!(at("web.ns.svc", PLAIN), Place::Object(Branch::Service, 0, Leaf::None));
        assert_eq!(at("e.web.ns.svc", PLAIN), Place::Object(Branch::Service, 1, Leaf::Endpoint));
        assert_eq!(at("e.c.web.ns.svc", PLAIN), Place::Object(Branch::Service, 2, Leaf::Port));
        assert_eq!(at("e.c.web.ns.svc", MULTI), Place::Object(Branch::Service, 2, Leaf::Cluster));
        assert_eq!(at("_e.c.web.ns.svc", MULTI), Place::Object(Branch::Service, 2, Leaf::Port));
        assert_eq!(at("e._c.web.ns.svc", MULTI), Place::Object(Branch::Service, 2, Leaf::Port));
        assert_eq!(at("web.ns", PLAIN), Place::Outside(Outside::Branch));
        assert_eq!(at("a.b.c.web.ns.svc", PLAIN), Place::Outside(Outside::TooLong));
    }

    #[test]
    fn topology() {
        let pin = Place::Object(Branch::Service, 3, Leaf::Topology(1, Directive::Pin));
        assert_eq!(at("z.pin._zone.web.ns.svc", ZONAL), pin);
        assert_eq!(
            at("a.b.prefer._zone.web.ns.svc", ZONAL),
            Place::Object(Branch::Service, 4, Leaf::Topology(2, Directive::Prefer))
        );
        let too_long = Place::Outside(Outside::TooLong);
        for name in ["z.pin._zone.web.ns.pod", "z.fix._zone.web.ns.svc", "z.pin.zone.web.ns.svc"] {
            assert_eq!(at(name, ZONAL), too_long, "{name}");
        }
        assert_eq!(at("z.pin._zone.web.ns.svc", PLAIN), too_long);
        assert_eq!(at("z.pin._zone.web.ns.svc", MULTI), too_long);
    }
}
