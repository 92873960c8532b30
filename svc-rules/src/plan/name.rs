//! Names of Services and of their ports.

use alloc::boxed::Box;
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;

/// Name of one port of a Service, printed `namespace/name:port`, or `namespace/name` when the port has no name.
///
/// The order is by namespace, name and port name, which is not the order of the printed text: the Service `a/x`
/// comes before `a-b/x` although `-` sorts before `/`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServicePortName {
    text: Box<str>,
    /// Set only where `text` holds a character that may not reach a rule.
    safe: Option<Box<str>>,
    namespace: u32,
    name: u32,
}

impl ServicePortName {
    /// Longer names are cut before they go into a rule: iptables takes comments of up to 255 bytes, of which the
    /// longest text around a name leaves 197. Valid names have 191 at most.
    const LONGEST_SAFE: usize = 195;

    /// The port `port` (may be empty) of the Service `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str, port: &str) -> Self {
        let mut text = String::with_capacity(namespace.len() + name.len() + port.len() + 2);
        text.push_str(namespace);
        text.push('/');
        text.push_str(name);
        if !port.is_empty() {
            text.push(':');
            text.push_str(port);
        }
        let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/' | ':');
        let safe = (text.len() > Self::LONGEST_SAFE || !text.chars().all(harmless)).then(|| {
            let mut safe: String = text.chars().map(|c| if harmless(c) { c } else { '_' }).collect();
            if safe.len() > Self::LONGEST_SAFE {
                // ASCII by now, so the cut falls between characters.
                safe.truncate(Self::LONGEST_SAFE - 3);
                safe.push_str("...");
            }
            safe.into_boxed_str()
        });
        // A length over u32 would need a name of 4 GiB; the accessors then answer with the whole text.
        let length = |part: &str| u32::try_from(part.len()).unwrap_or(u32::MAX);
        Self { namespace: length(namespace), name: length(name), text: text.into_boxed_str(), safe }
    }

    /// Namespace of the Service.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.split().0
    }

    /// Name of the Service.
    #[must_use]
    pub fn name(&self) -> &str {
        self.split().1
    }

    /// Name of the port, empty for the only port of a Service that left it out.
    #[must_use]
    pub fn port(&self) -> &str {
        self.split().2
    }

    /// The whole name as written by its owner; chain names are hashes of this text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole name as it may stand in a rule, quoted or bare.
    ///
    /// A valid Kubernetes name is made of letters, digits, `-`, `.` and `_`. Anything else (possible only in
    /// objects that no API server has checked) becomes `_`, so that no name can end a comment, a word or a line; what
    /// is longer than three labels is cut.
    #[must_use]
    pub fn as_safe_str(&self) -> &str {
        self.safe.as_deref().unwrap_or(&self.text)
    }

    fn split(&self) -> (&str, &str, &str) {
        let (namespace, rest) = split_at(&self.text, self.namespace);
        let (name, port) = split_at(rest, self.name);
        (namespace, name, port)
    }
}

/// Cuts `text` after `length` bytes and drops the separator that follows.
fn split_at(text: &str, length: u32) -> (&str, &str) {
    let (head, tail) = text.split_at_checked(length as usize).unwrap_or((text, ""));
    (head, tail.get(1..).unwrap_or(""))
}

impl Ord for ServicePortName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.split().cmp(&other.split())
    }
}

impl PartialOrd for ServicePortName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServicePortName({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn prints_as_the_reference_does() {
        assert_eq!(ServicePortName::new("ns1", "svc1", "p80").to_string(), "ns1/svc1:p80");
        assert_eq!(ServicePortName::new("ns1", "svc1", "").to_string(), "ns1/svc1");
    }

    #[test]
    fn gives_its_parts_back() {
        for (namespace, name, port) in
            [("ns", "svc", "http"), ("ns", "svc", ""), ("", "", ""), ("a/b", "c:d", "e")]
        {
            let whole = ServicePortName::new(namespace, name, port);
            assert_eq!((whole.namespace(), whole.name(), whole.port()), (namespace, name, port));
        }
    }

    #[test]
    fn orders_by_parts() {
        let short = ServicePortName::new("a", "x", "");
        let long = ServicePortName::new("a-b", "x", "");
        assert!(short < long && short.as_str() > long.as_str());
    }

    #[test]
    fn hostile_names_become_harmless() {
        let name = ServicePortName::new("ns", "x\" -j ACCEPT\n-A INPUT", "é");
        assert_eq!(name.as_safe_str(), "ns/x__-j_ACCEPT_-A_INPUT:_");
        assert_eq!(name.as_str(), "ns/x\" -j ACCEPT\n-A INPUT:é");
        let label = "n".repeat(63);
        let longest = ServicePortName::new(&label, &label, &label);
        assert_eq!(longest.as_safe_str(), longest.as_str());
        assert_eq!(ServicePortName::new(&label, &label.repeat(2), &label).as_safe_str().len(), 195);
    }
}
