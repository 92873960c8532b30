//! Reading `nft -j list ruleset`, and what goes into `nft -j -f`.
//!
//! Each object is put into nft's own words and those are carried out, so that what a rule means is decided in one place.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::error::NftError;
use super::model::Ruleset;

/// What is wrong with a JSON document of nft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It is no JSON.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// Something is not shaped as nft writes it.
    #[error("object {object}: {problem}")]
    Shape {
        /// Which object of the list, from 0.
        object: usize,
        /// What is wrong.
        problem: SmolStr,
    },
    /// An object in nft's words cannot be carried out.
    #[error("object {object}: {error}")]
    Object {
        /// Which object of the list, from 0.
        object: usize,
        /// What is wrong.
        error: NftError,
    },
}

/// Text, or what is wrong with the shape.
type Text = Result<String, SmolStr>;

impl Ruleset {
    /// Reads the text of `nft -j list ruleset`, or of [`to_json`](super::to_json) where it builds everything from nothing.
    ///
    /// Objects other than tables, chains, sets, maps, elements and rules are passed over. Older versions of nft leave
    /// out comments of tables and chains, and the flag `dynamic`.
    ///
    /// # Errors
    /// The first object that cannot be read.
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
        let objects = document.get("nftables").and_then(Value::as_array);
        let objects =
            objects.ok_or_else(|| JsonError::Shape { object: 0, problem: "no list `nftables`".into() })?;
        let mut commands = String::new();
        let mut lines = Vec::new();
        // What refers to chains and sets comes after all of them.
        for late in [false, true] {
            for (object, value) in objects.iter().enumerate() {
                let text = command(value, late).map_err(|problem| JsonError::Shape { object, problem })?;
                for line in text.lines() {
                    commands.push_str(line);
                    commands.push('\n');
                    lines.push(object);
                }
            }
        }
        Self::parse(&commands).map_err(|error| {
            let object = error.line().checked_sub(1).and_then(|line| lines.get(line)).or(lines.last());
            JsonError::Object { object: object.copied().unwrap_or_default(), error }
        })
    }
}

/// The commands for one object: its declaration first, what it holds late.
fn command(object: &Value, late: bool) -> Text {
    let Some((mut kind, mut body)) = object.as_object().and_then(|object| object.iter().next()) else {
        return Err("an object is expected".into());
    };
    // What goes into nft says what to do with each object, and deletes nothing where all is built from nothing.
    if kind == "add"
        && let Some(added) = body.as_object().and_then(|object| object.iter().next())
    {
        (kind, body) = added;
    }
    let Some(body) = body.as_object() else { return Ok(String::new()) };
    let family = body.get("family").and_then(Value::as_str).unwrap_or_default();
    if !matches!(family, "ip" | "ip6" | "inet") {
        return Ok(String::new());
    }
    let table = || string(body, "table").and_then(word);
    Ok(match (kind.as_str(), late) {
        ("table", false) => {
            alloc::format!("add table {family} {}{}", word(string(body, "name")?)?, braces(&[comment(body)?]))
        }
        ("chain", false) => {
            let name = word(string(body, "name")?)?;
            alloc::format!("add chain {family} {} {name}{}", table()?, braces(&[hook(body)?, comment(body)?]))
        }
        ("set" | "map", false) => {
            let name = word(string(body, "name")?)?;
            alloc::format!("add {kind} {family} {} {name}{}", table()?, braces(&set(body)?))
        }
        ("set" | "map" | "element", true) => {
            let name = word(string(body, "name")?)?;
            match body.get("elem").and_then(Value::as_array) {
                Some(items) => {
                    alloc::format!("add element {family} {} {name} {}", table()?, elements(items)?)
                }
                None => String::new(),
            }
        }
        ("rule", true) => {
            let statements = body.get("expr").and_then(Value::as_array).ok_or("a rule without `expr`")?;
            let mut text = alloc::format!("add rule {family} {} {}", table()?, word(string(body, "chain")?)?);
            for item in statements {
                text.push(' ');
                text.push_str(&statement(item)?);
            }
            text.push(' ');
            text.push_str(&comment(body)?);
            text
        }
        _ => String::new(),
    })
}

fn string<'a>(body: &'a Map<String, Value>, key: &str) -> Result<&'a str, SmolStr> {
    body.get(key).and_then(Value::as_str).ok_or_else(|| alloc::format!("`{key}` is missing").into())
}

/// A word that stays one in nft's text.
fn word(text: &str) -> Text {
    let parts = |c: char| c.is_ascii_control() || matches!(c, ' ' | '{' | '}' | ',' | ';' | '"' | '#');
    if text.is_empty() || text.contains(parts) {
        Err(alloc::format!("`{text}` is no name").into())
    } else {
        Ok(text.into())
    }
}

fn quoted(text: &str) -> Text {
    let ends = |c: char| matches!(c, '"' | '\n');
    if text.contains(ends) {
        Err(alloc::format!("`{text}` cannot be quoted").into())
    } else {
        Ok(alloc::format!("\"{text}\""))
    }
}

fn comment(body: &Map<String, Value>) -> Text {
    match body.get("comment").and_then(Value::as_str) {
        Some(text) => Ok(alloc::format!("comment {}", quoted(text)?)),
        None => Ok(String::new()),
    }
}

/// Options in braces, if there are any.
fn braces(options: &[String]) -> String {
    let options: Vec<&str> = options.iter().map(String::as_str).filter(|option| !option.is_empty()).collect();
    if options.is_empty() { String::new() } else { alloc::format!(" {{ {} ; }}", options.join(" ; ")) }
}

fn hook(body: &Map<String, Value>) -> Text {
    if !body.contains_key("hook") {
        return Ok(String::new());
    }
    let (kind, hook) = (word(string(body, "type")?)?, word(string(body, "hook")?)?);
    let priority = body.get("prio").and_then(Value::as_i64).ok_or("`prio` is missing")?;
    let policy = match body.get("policy").and_then(Value::as_str) {
        Some(policy) => alloc::format!(" ; policy {}", word(policy)?),
        None => String::new(),
    };
    Ok(alloc::format!("type {kind} hook {hook} priority {priority}{policy}"))
}

/// One string, or a list of them.
fn words(value: &Value, separator: &str) -> Text {
    match value {
        Value::String(text) => word(text),
        Value::Array(items) => {
            let all: Result<Vec<String>, SmolStr> =
                items.iter().map(|item| word(item.as_str().unwrap_or_default())).collect();
            Ok(all?.join(separator))
        }
        other => Err(alloc::format!("`{other}` is no word").into()),
    }
}

/// Types by name, or the expressions that have them.
fn types(value: &Value) -> Text {
    match (value, value.get("typeof")) {
        (_, Some(like)) => expression(like),
        // A value of several parts is one string in older versions.
        (Value::String(text), None) => {
            let parts: Result<Vec<String>, SmolStr> = text.split(" . ").map(word).collect();
            Ok(parts?.join(" . "))
        }
        (value, None) => words(value, " . "),
    }
}

fn set(body: &Map<String, Value>) -> Result<Vec<String>, SmolStr> {
    let key = body.get("type").ok_or("`type` is missing")?;
    let word = if key.get("typeof").is_some() { "typeof" } else { "type" };
    let mut kind = types(key)?;
    if let Some(value) = body.get("map") {
        kind.push_str(" : ");
        kind.push_str(&types(value)?);
    }
    let mut options = Vec::from([alloc::format!("{word} {kind}")]);
    if let Some(flags) = body.get("flags") {
        options.push(alloc::format!("flags {}", words(flags, ",")?));
    }
    if let Some(timeout) = body.get("timeout").and_then(Value::as_u64) {
        options.push(alloc::format!("timeout {timeout}s"));
    }
    if let Some(size) = body.get("size").and_then(Value::as_u64) {
        options.push(alloc::format!("size {size}"));
    }
    options.push(comment(body)?);
    Ok(options)
}

/// Elements of a named set, or of a map as pairs.
fn elements(items: &[Value]) -> Text {
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.push(match item {
            Value::Array(pair) => match pair.as_slice() {
                [key, data] => alloc::format!("{} : {}", element(key)?, expression(data)?),
                _ => return Err("an element of a map is a pair".into()),
            },
            key => element(key)?,
        });
    }
    Ok(alloc::format!("{{ {} }}", all.join(" , ")))
}

fn element(key: &Value) -> Text {
    let Some(body) = key.get("elem").and_then(Value::as_object) else { return expression(key) };
    let mut text = expression(body.get("val").ok_or("`val` is missing")?)?;
    for attribute in ["timeout", "expires"] {
        if let Some(seconds) = body.get(attribute).and_then(Value::as_u64) {
            text.push_str(&alloc::format!(" {attribute} {seconds}s"));
        }
    }
    let comment = comment(body)?;
    if !comment.is_empty() {
        text.push(' ');
        text.push_str(&comment);
    }
    Ok(text)
}

/// The only member of an object.
fn only(value: &Value) -> Option<(&str, &Value)> {
    value.as_object()?.iter().next().map(|(name, body)| (name.as_str(), body))
}

fn expression(value: &Value) -> Text {
    match value {
        Value::String(text) => return word(text).or_else(|_| quoted(text)),
        Value::Number(number) => return Ok(number.to_string()),
        Value::Array(items) => {
            let all: Result<Vec<String>, SmolStr> = items.iter().map(expression).collect();
            return Ok(all?.join(","));
        }
        _ => {}
    }
    let (name, body) =
        only(value).ok_or_else(|| SmolStr::from(alloc::format!("`{value}` is no expression")))?;
    let part = |key: &str| {
        body.get(key).ok_or_else(|| SmolStr::from(alloc::format!("`{key}` is missing in `{name}`")))
    };
    let text = |key: &str| part(key).and_then(|value| words(value, " . "));
    Ok(match name {
        "concat" => {
            let all: Result<Vec<String>, SmolStr> =
                body.as_array().into_iter().flatten().map(expression).collect();
            all?.join(" . ")
        }
        "prefix" => alloc::format!("{}/{}", expression(part("addr")?)?, expression(part("len")?)?),
        "range" => match body.as_array().map(Vec::as_slice) {
            Some([first, last]) => alloc::format!("{}-{}", expression(first)?, expression(last)?),
            _ => return Err("a range has two ends".into()),
        },
        "set" => elements(body.as_array().map(Vec::as_slice).unwrap_or_default())?,
        "payload" => alloc::format!("{} {}", text("protocol")?, text("field")?),
        "meta" => alloc::format!("meta {}", text("key")?),
        "ct" => match body.get("dir").and_then(Value::as_str) {
            // With an address, the key is two words.
            Some(direction) => {
                let key = part("key")?.as_str().unwrap_or_default();
                let key: Result<Vec<String>, SmolStr> = key.split(' ').map(word).collect();
                alloc::format!("ct {} {}", word(direction)?, key?.join(" "))
            }
            None => alloc::format!("ct {}", text("key")?),
        },
        "fib" => alloc::format!("fib {} {}", text("flags")?, text("result")?),
        "numgen" => {
            let offset = body.get("offset").and_then(Value::as_u64).filter(|offset| *offset > 0);
            let offset = offset.map_or_else(String::new, |offset| alloc::format!(" offset {offset}"));
            alloc::format!("numgen {} mod {}{offset}", text("mode")?, expression(part("mod")?)?)
        }
        "map" => alloc::format!("{} map {}", expression(part("key")?)?, expression(part("data")?)?),
        "&" | "|" | "^" => match body.as_array().map(Vec::as_slice) {
            Some([left, right]) => alloc::format!("{} {name} {}", expression(left)?, expression(right)?),
            _ => return Err(alloc::format!("`{name}` has two sides").into()),
        },
        "accept" | "drop" | "return" | "continue" => name.into(),
        "jump" | "goto" => alloc::format!("{name} {}", text("target")?),
        _ => unknown(name, body),
    })
}

/// In its own words, which nobody will take for a statement that is understood.
fn unknown(name: &str, body: &Value) -> String {
    alloc::format!("json-{name} \"{}\"", body.to_string().replace('"', "'").replace('\n', " "))
}

fn statement(value: &Value) -> Text {
    let (name, body) =
        only(value).ok_or_else(|| SmolStr::from(alloc::format!("`{value}` is no statement")))?;
    let part = |key: &str| {
        body.get(key).ok_or_else(|| SmolStr::from(alloc::format!("`{key}` is missing in `{name}`")))
    };
    Ok(match name {
        "match" => {
            let operator = match part("op")?.as_str() {
                Some("!=") => "!= ",
                Some("==" | "in") => "",
                _ => return Ok(unknown(name, body)),
            };
            let left = expression(part("left")?)?;
            // The mark under a mask is told from setting it by the operator.
            let operator =
                if operator.is_empty() && left.starts_with("meta mark") { "== " } else { operator };
            alloc::format!("{left} {operator}{}", expression(part("right")?)?)
        }
        "vmap" => alloc::format!("{} vmap {}", expression(part("key")?)?, expression(part("data")?)?),
        "mangle" => alloc::format!("{} set {}", expression(part("key")?)?, expression(part("value")?)?),
        "dnat" | "snat" => {
            let address = expression(part("addr")?)?;
            // What the words say of the family and the parts makes no difference.
            match body.get("port").map(expression).transpose()? {
                Some(port) if address.contains(':') => alloc::format!("{name} to [{address}]:{port}"),
                Some(port) => alloc::format!("{name} to {address}:{port}"),
                None => alloc::format!("{name} to {address}"),
            }
        }
        "masquerade" => match body.get("flags") {
            Some(flags) => alloc::format!("masquerade {}", words(flags, ",")?),
            None => "masquerade".into(),
        },
        "reject" => {
            match (body.get("type").and_then(Value::as_str), body.get("expr").and_then(Value::as_str)) {
                (None, _) => "reject".into(),
                (Some("tcp reset"), _) => "reject with tcp reset".into(),
                (Some(kind), Some(answer)) => alloc::format!("reject with {} {}", word(kind)?, word(answer)?),
                (Some(_), None) => unknown(name, body),
            }
        }
        "set" => {
            let set = word(part("set")?.as_str().unwrap_or_default())?;
            alloc::format!("{} {set} {{ {} }}", words(part("op")?, "")?, element(part("elem")?)?)
        }
        "counter" => "counter".into(),
        "accept" | "drop" | "return" | "continue" | "jump" | "goto" => expression(value)?,
        _ => unknown(name, body),
    })
}
