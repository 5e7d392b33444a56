//! The proof of an edit: both texts read again, by a second YAML reader, and compared as values.
//!
//! It must not know how the edit was made: an editor's mistake must not repeat itself here.

use serde_json::{Value, json};

use super::{ApiVersion, KubeadmConfig, KubeadmError};
use crate::model::yaml;

/// Holds if the new text says what is wanted and, apart from that, means exactly what the old one means.
pub(super) fn prove(old: &KubeadmConfig, text: &str, wanted: &[(&str, Vec<String>)]) -> Result<(), KubeadmError> {
    // What was written must also be readable for the next edit.
    let version = KubeadmConfig::parse(text.as_bytes())?.version;
    let (mut before, mut after) = (documents(&old.text)?, documents(text)?);
    for (name, values) in wanted {
        take_argument(&mut before, name);
        if take_argument(&mut after, name) != *values || version != old.version {
            return Err(KubeadmError::Unproven { what: "the wanted arguments" });
        }
    }
    drop_what_is_empty(&mut before);
    drop_what_is_empty(&mut after);
    if old.cluster.is_none() {
        let added = json!({"apiVersion": ApiVersion::as_str(old.version), "kind": "ClusterConfiguration"});
        after.retain(|document| *document != added);
    }
    if before == after { Ok(()) } else { Err(KubeadmError::Unproven { what: "other parts of the file" }) }
}

/// The documents with content, as the second YAML reader sees them.
fn documents(text: &str) -> Result<Vec<Value>, KubeadmError> {
    let mut documents = yaml::values(text)?;
    documents.retain(|document| !document.is_null());
    Ok(documents)
}

fn clusters(documents: &mut [Value]) -> impl Iterator<Item = &mut Value> {
    documents.iter_mut().filter(|document| document["kind"] == "ClusterConfiguration")
}

/// Takes an argument out and returns its values in order.
fn take_argument(documents: &mut [Value], name: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut values = Vec::new();
    for cluster in clusters(documents) {
        match cluster.pointer_mut("/apiServer/extraArgs") {
            Some(Value::Array(list)) => list.retain(|entry| {
                let named = entry["name"] == name;
                if named {
                    values.push(text(&entry["value"]));
                }
                !named
            }),
            Some(Value::Object(map)) => values.extend(map.remove(name).iter().map(text)),
            _ => (),
        }
    }
    values
}

/// An empty list of arguments means as much as none.
fn drop_what_is_empty(documents: &mut [Value]) {
    for cluster in clusters(documents).filter_map(Value::as_object_mut) {
        let api_server = cluster.get_mut("apiServer").and_then(Value::as_object_mut);
        if let Some(api_server) = api_server.filter(|api_server| api_server.get("extraArgs").is_some_and(is_empty)) {
            api_server.remove("extraArgs");
        }
        if cluster.get("apiServer").is_some_and(is_empty) {
            cluster.remove("apiServer");
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
