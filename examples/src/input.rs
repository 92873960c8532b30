//! Reading manifests: files, folders or standard input; YAML or JSON; several documents; lists.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use svc_model::{Object, Scope};

/// What was read: the objects in order, and a count of what was not understood.
#[derive(Debug, Default)]
pub struct Input {
    /// Objects of supported kinds, in the order of files and documents. Namespaced objects without
    /// a namespace have got the default one.
    pub objects: Vec<Object>,
    /// How many documents of each unsupported kind were passed over.
    pub skipped: BTreeMap<String, usize>,
}

/// A document that could not be read; names the file, the document and the field.
#[derive(Debug)]
pub struct InputError {
    place: String,
    message: String,
}

impl std::fmt::Display for InputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for InputError {}

impl InputError {
    fn new(place: impl Into<String>, message: impl ToString) -> Self {
        Self { place: place.into(), message: message.to_string() }
    }
}

/// Where a text comes from decides what may be passed over in it.
#[derive(Clone, Copy, PartialEq)]
enum Named {
    /// The user named this file: every document in it must be an object.
    Explicitly,
    /// Found in a folder, where other YAML may lie around.
    InFolder,
}

impl Input {
    /// Reads files, folders (recursively: `.yaml`, `.yml`, `.json`) or `-` for standard input.
    ///
    /// # Errors
    ///
    /// If a path can't be read, or a document is broken.
    pub fn read<P: AsRef<Path>>(paths: &[P], default_namespace: &str) -> Result<Self, InputError> {
        let mut input = Self::default();
        for path in paths {
            let path = path.as_ref();
            let name = path.display().to_string();
            if name == "-" {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|e| InputError::new("standard input", e))?;
                input.read_text("standard input", &text, Named::Explicitly)?;
            } else if path.is_dir() {
                let mut files = Vec::new();
                list_manifests(path, &mut files)?;
                files.sort();
                if files.is_empty() {
                    return Err(InputError::new(name, "no .yaml, .yml or .json file in this folder"));
                }
                for file in files {
                    input.read_file(&file, Named::InFolder)?;
                }
            } else {
                input.read_file(path, Named::Explicitly)?;
            }
        }
        for object in &mut input.objects {
            if object.scope() == Scope::Namespaced && object.metadata().namespace.is_empty() {
                object.metadata_mut().namespace = default_namespace.into();
            }
        }
        Ok(input)
    }

    fn read_file(&mut self, path: &Path, named: Named) -> Result<(), InputError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|e| InputError::new(&name, e))?;
        self.read_text(&name, &text, named)
    }

    fn read_text(&mut self, name: &str, text: &str, named: Named) -> Result<(), InputError> {
        let documents = if text.trim_start().starts_with(['{', '[']) {
            serde_json::Deserializer::from_str(text)
                .into_iter::<Value>()
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| InputError::new(name, e))?
        } else {
            // Without a budget: a dump of a large cluster is large. Aliases stay limited.
            let options = serde_saphyr::options! { budget: None };
            serde_saphyr::from_multiple_with_options::<Value>(text, options)
                .map_err(|e| InputError::new(name, e))?
        };
        let several = documents.len() > 1;
        for (i, document) in documents.into_iter().enumerate() {
            let place = if several { format!("{name}: document {}", i + 1) } else { name.to_owned() };
            match document {
                Value::Null => {}
                Value::Array(items) => {
                    for (i, item) in items.into_iter().enumerate() {
                        self.read_document(&format!("{place}: [{i}]"), item, named)?;
                    }
                }
                document => self.read_document(&place, document, named)?,
            }
        }
        Ok(())
    }

    fn read_document(&mut self, place: &str, document: Value, named: Named) -> Result<(), InputError> {
        let Value::Object(mut map) = document else {
            return Err(InputError::new(place, "not a Kubernetes object: expected a map with `kind`"));
        };
        let kind = match map.get("kind") {
            Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
            None if named == Named::InFolder => {
                *self.skipped.entry("document without kind".into()).or_default() += 1;
                return Ok(());
            }
            None => return Err(InputError::new(place, "no `kind`: is this a Kubernetes manifest?")),
            Some(other) => {
                return Err(InputError::new(place, format!("kind: expected a name, found {other}")));
            }
        };
        if let Some(element) = kind.strip_suffix("List")
            && let Some(Value::Array(items)) = map.get_mut("items").map(Value::take)
        {
            for (i, mut item) in items.into_iter().enumerate() {
                // Items of a typed list, such as PodList, may leave their kind to the list.
                if let Value::Object(item) = &mut item
                    && !element.is_empty()
                {
                    item.entry("kind").or_insert_with(|| element.into());
                }
                self.read_document(&format!("{place}: items[{i}]"), item, named)?;
            }
            return Ok(());
        }
        let title = describe(&kind, &map);
        let document = Value::Object(map);
        let mut track = serde_path_to_error::Track::new();
        let reader = serde_path_to_error::Deserializer::new(document, &mut track);
        match Object::from_kind(&kind, reader) {
            None => *self.skipped.entry(kind).or_default() += 1,
            Some(Ok(object)) => self.objects.push(object),
            Some(Err(error)) => {
                let field = track.path();
                return Err(InputError::new(format!("{place} ({title})"), format!("{field}: {error}")));
            }
        }
        Ok(())
    }

    /// A line that says what was passed over, if anything was.
    pub fn skipped_note(&self) -> Option<String> {
        (!self.skipped.is_empty()).then(|| {
            let kinds: Vec<_> = self.skipped.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            format!("passed over: {}", kinds.join(", "))
        })
    }
}

fn describe(kind: &str, map: &serde_json::Map<String, Value>) -> String {
    let text = |key: &str| map.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str);
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => kind.to_owned(),
    }
}

fn list_manifests(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let name = || folder.display().to_string();
    for entry in fs::read_dir(folder).map_err(|e| InputError::new(name(), e))? {
        let path = entry.map_err(|e| InputError::new(name(), e))?.path();
        if path.is_dir() {
            list_manifests(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Input, String> {
        let mut input = Input::default();
        input.read_text("x.yaml", text, Named::Explicitly).map_err(|e| e.to_string())?;
        Ok(input)
    }

    #[test]
    fn several_documents_and_lists_are_read_in_order() {
        let input = read(
            "kind: Service\nmetadata: {name: a}\n---\n---\nkind: List\nitems:\n\
             - {kind: Pod, metadata: {name: b}}\n- {kind: Secret}\n---\nkind: PodList\nitems: [{metadata: {name: c}}]\n",
        )
        .unwrap();
        let names: Vec<_> = input.objects.iter().map(|o| (o.kind(), o.metadata().name.as_str())).collect();
        assert_eq!(names, [("Service", "a"), ("Pod", "b"), ("Pod", "c")]);
        assert_eq!(input.skipped_note().unwrap(), "passed over: 1 Secret");
    }

    #[test]
    fn a_broken_document_is_named_with_its_field() {
        let error = read(
            "kind: Service\nmetadata: {name: a}\n---\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{port: http}]}\n",
        );
        let error = error.unwrap_err();
        assert!(error.starts_with("x.yaml: document 2 (Service b): spec.ports[0].port: "), "{error}");
        assert!(read("kind: Service\nspec: [").is_err());
        assert!(read("a: 1").unwrap_err().contains("no `kind`"));
        assert!(read("just text").is_err());
    }

    #[test]
    fn json_is_read_too() {
        let input = read(r#"{"kind":"Pod","metadata":{"name":"a"}} {"kind":"Pod","metadata":{"name":"b"}}"#);
        assert_eq!(input.unwrap().objects.len(), 2);
    }
}
