//! The proof of an edit: both texts read again, by a second YAML reader, and compared as values.
//!
//! It must not know how the edit was made: an editor's mistake must not repeat itself here.

use serde_json::{Map, Value};

use super::{
    APPLIED_ANNOTATION, CONTAINER, Desired, Manifest, ManifestError, Reverted,
    flags::{API_AUDIENCES, ISSUER, JWKS_URI},
};
use crate::model::yaml;

/// Holds if the new text says what is desired and, apart from that, means exactly what the old one means.
pub(super) fn prove(old: &Manifest, text: &str, desired: &Desired) -> Result<(), ManifestError> {
    // What was written must also be readable for the next edit.
    Manifest::parse(text.as_bytes())?;
    let (mut before, mut after) = (pod(&old.text)?, pod(text)?);
    take_flag(&mut before, ISSUER);
    let mut says = take_flag(&mut after, ISSUER) == desired.issuers;
    if let Some(uri) = &desired.jwks_uri {
        // Earlier ones have no effect and stay.
        let (mut old_uris, mut new_uris) = (take_flag(&mut before, JWKS_URI), take_flag(&mut after, JWKS_URI));
        old_uris.pop();
        says &= new_uris.pop().as_ref() == Some(uri) && old_uris == new_uris;
    }
    if let Some(audiences) = &desired.api_audiences {
        take_flag(&mut before, API_AUDIENCES);
        let lists = take_flag(&mut after, API_AUDIENCES);
        says &= lists.iter().filter(|list| !list.is_empty()).flat_map(|list| list.split(',')).eq(audiences);
    }
    if let Some(applied) = &desired.applied {
        take_applied(&mut before);
        says &= take_applied(&mut after) == Some(Value::String(applied.clone()));
    }
    match (says, before == after) {
        (false, _) => Err(ManifestError::Unproven { what: "the wanted flags" }),
        (true, false) => Err(ManifestError::Unproven { what: "other parts of the Pod" }),
        (true, true) => Ok(()),
    }
}

/// Holds if the new text has the issuers and nothing of ours any more and, apart from that, means exactly what the old one means.
pub(super) fn prove_reverted(old: &Manifest, text: &str, reverted: &Reverted) -> Result<(), ManifestError> {
    Manifest::parse(text.as_bytes())?;
    let (mut before, mut after) = (pod(&old.text)?, pod(text)?);
    take_flag(&mut before, ISSUER);
    let mut says = take_flag(&mut after, ISSUER) == reverted.issuers;
    let (mut old_uris, new_uris) = (take_flag(&mut before, JWKS_URI), take_flag(&mut after, JWKS_URI));
    old_uris.retain(|uri| *uri != reverted.jwks_uri);
    says &= old_uris == new_uris;
    take_applied(&mut before);
    says &= take_applied(&mut after).is_none();
    match (says, before == after) {
        (false, _) => Err(ManifestError::Unproven { what: "the wanted flags" }),
        (true, false) => Err(ManifestError::Unproven { what: "other parts of the Pod" }),
        (true, true) => Ok(()),
    }
}

/// The Pod as the second YAML reader sees it.
fn pod(text: &str) -> Result<Vec<Value>, ManifestError> {
    Ok(yaml::values(text)?)
}

/// Takes a flag out of the kube-apiserver container and returns its values in order.
fn take_flag(pod: &mut [Value], flag: &str) -> Vec<String> {
    let mut values = Vec::new();
    let containers = pod.iter_mut().filter_map(|pod| pod.pointer_mut("/spec/containers")?.as_array_mut()).flatten();
    for container in containers.filter(|container| container["name"] == CONTAINER) {
        for list in ["command", "args"] {
            let Some(entries) = container.get_mut(list).and_then(Value::as_array_mut) else { continue };
            let mut value_follows = false;
            entries.retain(|entry| {
                let text = entry.as_str().unwrap_or_default();
                if std::mem::take(&mut value_follows) {
                    values.push(text.to_owned());
                    return false;
                }
                let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
                let ours = name.strip_prefix("--").is_some_and(|name| name.replace('_', "-") == flag);
                values.extend(value.filter(|_| ours).map(str::to_owned));
                value_follows = ours && value.is_none();
                !ours
            });
        }
    }
    values
}

/// Takes our annotation out and returns it; empty annotations mean as much as none.
fn take_applied(pod: &mut [Value]) -> Option<Value> {
    let metadata = pod.first_mut()?.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    let applied = annotations.as_object_mut().and_then(|annotations| annotations.remove(APPLIED_ANNOTATION));
    if annotations.is_null() || annotations.as_object().is_some_and(Map::is_empty) {
        metadata.remove("annotations");
    }
    applied
}
