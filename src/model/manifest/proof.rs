//! The proof of an edit: both texts read again, by a second YAML reader, and compared as values.
//!
//! It must not know how the edit was made: an editor's mistake must not repeat itself here.

use serde_json::{Map, Value};

use super::{
    APPLIED_ANNOTATION, CONTAINER, Desired, LIMITS, Manifest, ManifestError,
    flags::{API_AUDIENCES, ISSUER, JWKS_URI},
};
use crate::model::yaml;

/// Holds if the new text says what is desired and, apart from that, means exactly what the old one means.
pub(super) fn prove(old: &Manifest, text: &str, desired: &Desired) -> Result<(), ManifestError> {
    let new = Manifest::parse(text.as_bytes())?;
    let says = new.issuers == desired.issuers
        && desired.jwks_uri.as_deref().is_none_or(|uri| new.jwks_uri() == Some(uri))
        && desired.api_audiences.as_deref().is_none_or(|list| new.api_audiences() == Some(list))
        && desired.applied.as_deref().is_none_or(|applied| new.annotation(APPLIED_ANNOTATION) == Some(applied));
    if !says {
        return Err(ManifestError::Unproven { what: "the wanted flags" });
    }
    if without_ours(&old.text, desired)? != without_ours(text, desired)? {
        return Err(ManifestError::Unproven { what: "other parts of the Pod" });
    }
    Ok(())
}

/// The Pod as the second YAML reader sees it, without what the edit may change.
fn without_ours(text: &str, desired: &Desired) -> Result<Vec<Value>, ManifestError> {
    let mut values = yaml::parse(text.as_bytes(), &LIMITS)?.values()?;
    let mut names = vec![ISSUER];
    names.extend(desired.jwks_uri.as_ref().map(|_| JWKS_URI));
    names.extend(desired.api_audiences.as_ref().map(|_| API_AUDIENCES));
    for pod in &mut values {
        let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|container| container["name"] == CONTAINER) {
            for list in ["command", "args"] {
                drop_flags(container.get_mut(list), &names);
            }
        }
        if let Some(metadata) =
            pod.get_mut("metadata").and_then(Value::as_object_mut).filter(|_| desired.applied.is_some())
        {
            drop_applied(metadata);
        }
    }
    Ok(values)
}

fn drop_flags(list: Option<&mut Value>, names: &[&str]) {
    let Some(list) = list.and_then(Value::as_array_mut) else { return };
    let mut value_follows = false;
    list.retain(|entry| {
        let text = entry.as_str().unwrap_or_default();
        if std::mem::take(&mut value_follows) {
            return false;
        }
        let (name, has_value) = text.split_once('=').map_or((text, false), |(name, _)| (name, true));
        let ours = name.strip_prefix("--").is_some_and(|name| names.contains(&name.replace('_', "-").as_str()));
        value_follows = ours && !has_value;
        !ours
    });
}

fn drop_applied(metadata: &mut Map<String, Value>) {
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.remove(APPLIED_ANNOTATION);
    }
    if annotations.is_null() || annotations.as_object().is_some_and(Map::is_empty) {
        metadata.remove("annotations");
    }
}
