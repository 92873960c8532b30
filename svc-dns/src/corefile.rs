//! Reading the `kubernetes` and `k8s_external` blocks of a Corefile.

use alloc::string::String;
use alloc::vec::Vec;

use smol_str::SmolStr;
use svc_model::Selector;

use crate::grammar::Zonal;
use crate::name::Name;
use crate::options::{EmptyServices, EndpointNames, Endpoints, External, Headless, Options, Pods};
use crate::reverse::zones_from_text;
use crate::zones::{OptionsError, Zones};

/// What is wrong with a Corefile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct CorefileError {
    line: usize,
    kind: CorefileErrorKind,
}

/// The kinds of [`CorefileError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorefileErrorKind {
    /// There is no such block.
    #[error("no `kubernetes` block")]
    NoBlock,
    /// The plugin is there twice in a server block.
    #[error("`{0}` is there twice in a server block")]
    Twice(SmolStr),
    /// A block is not closed, or a quoted text is not.
    #[error("unexpected end of file")]
    End,
    /// A closing brace without an opening one.
    #[error("unexpected `}}`")]
    Brace,
    /// The option is not one of the plugin's.
    #[error("unknown property `{0}`")]
    Unknown(SmolStr),
    /// The option has too few or too many values.
    #[error("wrong number of values for `{0}`")]
    Count(SmolStr),
    /// A value means nothing.
    #[error("wrong value for `{option}`: `{value}`")]
    Value {
        /// The option.
        option: SmolStr,
        /// The value.
        value: SmolStr,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Options(#[from] OptionsError),
}

impl CorefileError {
    /// The line, counted from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &CorefileErrorKind {
        &self.kind
    }
}

impl Options {
    /// Reads the options of the first server block that has a `kubernetes` plugin, and of a `k8s_external` plugin beside it.
    ///
    /// Zones that a plugin does not name are those of the server block. Options that only concern the API server (`endpoint`, `tls`,
    /// `kubeconfig`, `startup_timeout`, `apiserver_*`) are checked for their number of values and left alone. Other plugins are
    /// passed over. `import` and `{$VARIABLES}` are not expanded.
    ///
    /// ```
    /// use svc_dns::{Options, Pods};
    ///
    /// let options = Options::from_corefile("
    /// .:53 {
    ///     errors
    ///     kubernetes cluster.local 10.96.0.0/12 {
    ///         pods verified
    ///         ttl 30
    ///         fallthrough in-addr.arpa
    ///     }
    ///     forward . /etc/resolv.conf
    /// }")?;
    /// assert_eq!(options.pods, Pods::Verified);
    /// assert_eq!(options.zones.len(), 17); // the reverse zones of a /12 are sixteen
    /// # Ok::<(), svc_dns::CorefileError>(())
    /// ```
    ///
    /// # Errors
    /// The text is no Corefile, or CoreDNS's setup would refuse it.
    pub fn from_corefile(text: &str) -> Result<Self, CorefileError> {
        let tokens = tokens(text)?;
        let blocks = blocks(&tokens)?;
        let with = |block: &&Block<'_>| block.plugins.iter().any(|plugin| plugin.name() == "kubernetes");
        let last = tokens.last().map_or(1, |token| token.line);
        let block =
            blocks.iter().find(with).ok_or(CorefileError { line: last, kind: CorefileErrorKind::NoBlock })?;
        let mut options = Self::default();
        for name in ["kubernetes", "k8s_external"] {
            let mut plugins = block.plugins.iter().filter(|plugin| plugin.name() == name);
            let plugin = plugins.next();
            if let Some(second) = plugins.next() {
                return Err(second.error(CorefileErrorKind::Twice(name.into())));
            }
            match (name, plugin) {
                ("kubernetes", Some(plugin)) => kubernetes(plugin, block, &mut options)?,
                (_, Some(plugin)) => options.external = Some(external(plugin, block)?),
                _ => {}
            }
        }
        let line = block.line;
        Zones::new(options.clone()).map_err(|error| CorefileError { line, kind: error.into() })?;
        Ok(options)
    }
}

#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
    quoted: bool,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }
}

/// Splits at white space; `#` starts a comment, quotes hold a token together.
fn tokens(text: &str) -> Result<Vec<Token>, CorefileError> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let mut chars = line.chars().peekable();
        while let Some(&first) = chars.peek() {
            if first.is_whitespace() {
                chars.next();
                continue;
            }
            if first == '#' {
                break;
            }
            let mut token = Token { text: String::new(), line: line_number, quoted: first == '"' };
            if token.quoted {
                chars.next();
                let mut closed = false;
                while let Some(next) = chars.next() {
                    match next {
                        '"' => {
                            closed = true;
                            break;
                        }
                        '\\' if chars.peek() == Some(&'"') => token.text.extend(chars.next()),
                        _ => token.text.push(next),
                    }
                }
                if !closed {
                    return Err(CorefileError { line: line_number, kind: CorefileErrorKind::End });
                }
            } else {
                while let Some(next) = chars.next_if(|next| !next.is_whitespace()) {
                    token.text.push(next);
                }
            }
            tokens.push(token);
        }
    }
    Ok(tokens)
}

/// A line of words with, perhaps, lines in braces behind it.
struct Plugin<'t> {
    words: Vec<&'t str>,
    line: usize,
    options: Vec<Self>,
}

impl Plugin<'_> {
    fn name(&self) -> &str {
        self.words.first().copied().unwrap_or_default()
    }

    fn values(&self) -> &[&str] {
        self.words.get(1..).unwrap_or_default()
    }

    fn error(&self, kind: CorefileErrorKind) -> CorefileError {
        CorefileError { line: self.line, kind }
    }

    fn wrong(&self, value: &str) -> CorefileError {
        self.error(CorefileErrorKind::Value { option: self.name().into(), value: value.into() })
    }

    /// Refuses any other number of values than this.
    fn expect(&self, counts: core::ops::RangeInclusive<usize>) -> Result<&[&str], CorefileError> {
        let values = self.values();
        if counts.contains(&values.len()) {
            Ok(values)
        } else {
            Err(self.error(CorefileErrorKind::Count(self.name().into())))
        }
    }

    fn one(&self) -> Result<&str, CorefileError> {
        Ok(self.expect(1..=1)?.first().copied().unwrap_or_default())
    }

    /// The zones that the words name, or those of the server block.
    fn zones(&self, words: &[&str], block: &Block<'_>) -> Result<Vec<Name>, CorefileError> {
        let words = if words.is_empty() { &block.keys } else { words };
        let mut zones = Vec::new();
        for word in words {
            zones.extend(zones_from_text(word).map_err(|_| self.wrong(word))?);
        }
        Ok(zones)
    }
}

struct Block<'t> {
    keys: Vec<&'t str>,
    line: usize,
    plugins: Vec<Plugin<'t>>,
}

fn blocks(tokens: &[Token]) -> Result<Vec<Block<'_>>, CorefileError> {
    let mut rest = tokens;
    let mut blocks = Vec::new();
    while let Some(first) = rest.first() {
        let open = rest.iter().position(|token| token.is("{"));
        let open = open.ok_or(CorefileError { line: first.line, kind: CorefileErrorKind::End })?;
        let (keys, body) = rest.split_at_checked(open).unwrap_or_default();
        let (plugins, after) = lines(body.get(1..).unwrap_or_default(), first.line)?;
        let keys = keys.iter().map(|token| token.text.trim_end_matches(',')).collect();
        blocks.push(Block { keys, line: first.line, plugins });
        rest = after;
    }
    Ok(blocks)
}

/// Reads lines up to the closing brace.
fn lines(tokens: &[Token], opened: usize) -> Result<(Vec<Plugin<'_>>, &[Token]), CorefileError> {
    let mut rest = tokens;
    let mut plugins: Vec<Plugin<'_>> = Vec::new();
    loop {
        let Some((token, after)) = rest.split_first() else {
            return Err(CorefileError { line: opened, kind: CorefileErrorKind::End });
        };
        if token.is("}") {
            return Ok((plugins, after));
        }
        if token.is("{") {
            let (inner, after) = lines(after, token.line)?;
            match plugins.last_mut() {
                Some(plugin) => plugin.options = inner,
                None => return Err(CorefileError { line: token.line, kind: CorefileErrorKind::Brace }),
            }
            rest = after;
            continue;
        }
        let end = rest.iter().position(|other| other.line != token.line || other.is("{") || other.is("}"));
        let (words, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or_default();
        let words = words.iter().map(|word| word.text.as_str()).collect();
        plugins.push(Plugin { words, line: token.line, options: Vec::new() });
        rest = after;
    }
}

fn kubernetes(plugin: &Plugin<'_>, block: &Block<'_>, options: &mut Options) -> Result<(), CorefileError> {
    options.zones = plugin.zones(plugin.values(), block)?;
    for option in &plugin.options {
        match option.name() {
            "endpoint_pod_names" => {
                option.expect(0..=0)?;
                options.endpoint_names = EndpointNames::Pod;
            }
            "pods" => {
                options.pods = match option.one()? {
                    "disabled" => Pods::Disabled,
                    "insecure" => Pods::Insecure,
                    "verified" => Pods::Verified,
                    other => return Err(option.wrong(other)),
                };
            }
            "namespaces" => {
                let names = option.expect(1..=usize::MAX)?;
                options.namespaces.extend(names.iter().map(|name| SmolStr::new(*name)));
            }
            "labels" => options.labels = Some(selector(option)?),
            "namespace_labels" => options.namespace_labels = Some(selector(option)?),
            "fallthrough" => options.fallthrough = fallthrough(option, block)?,
            "ttl" => options.ttl = ttl(option)?,
            "noendpoints" => {
                option.expect(0..=0)?;
                options.endpoints = Endpoints::Off;
            }
            "zonal" => {
                option.expect(0..=0)?;
                options.zonal = Zonal::On;
            }
            "ignore" => match option.values() {
                [] => {}
                ["empty_service", ..] => options.empty_services = EmptyServices::Absent,
                [other, ..] => return Err(option.wrong(other)),
            },
            "multicluster" => {
                let zones: Result<Vec<_>, _> = option
                    .values()
                    .iter()
                    .map(|zone| zones_from_text(zone).map_err(|_| option.wrong(zone)))
                    .collect();
                options.multicluster = zones?.concat();
            }
            "endpoint" => drop(option.expect(1..=usize::MAX)?),
            "tls" => drop(option.expect(3..=3)?),
            "kubeconfig" => drop(option.expect(1..=2)?),
            "startup_timeout" => drop(option.expect(1..=usize::MAX)?),
            "apiserver_qps" | "apiserver_burst" | "apiserver_max_inflight" => {
                let value = option.one()?;
                if value.parse::<f32>().is_ok_and(|value| value >= 0.0) {
                    continue;
                }
                return Err(option.wrong(value));
            }
            other => return Err(option.error(CorefileErrorKind::Unknown(other.into()))),
        }
    }
    Ok(())
}

fn external(plugin: &Plugin<'_>, block: &Block<'_>) -> Result<External, CorefileError> {
    let mut external = External::new(plugin.zones(plugin.values(), block)?);
    for option in &plugin.options {
        match option.name() {
            "ttl" => external.ttl = ttl(option)?,
            "apex" => external.apex = option.one()?.into(),
            "headless" => external.headless = Headless::Served,
            "fallthrough" => external.fallthrough = fallthrough(option, block)?,
            other => return Err(option.error(CorefileErrorKind::Unknown(other.into()))),
        }
    }
    Ok(external)
}

fn selector(option: &Plugin<'_>) -> Result<Selector, CorefileError> {
    let text = option.expect(1..=usize::MAX)?.join(" ");
    text.parse().map_err(|_| option.wrong(&text))
}

fn fallthrough(option: &Plugin<'_>, block: &Block<'_>) -> Result<Vec<Name>, CorefileError> {
    match option.values() {
        [] => Ok(alloc::vec![Name::root()]),
        zones => option.zones(zones, block),
    }
}

fn ttl(option: &Plugin<'_>) -> Result<u32, CorefileError> {
    let value = option.expect(1..=usize::MAX)?.first().copied().unwrap_or_default();
    value.parse().ok().filter(|ttl| *ttl <= 3600).ok_or_else(|| option.wrong(value))
}
