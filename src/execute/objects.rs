//! Actions on objects of the cluster.

use anyhow::Context as _;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    cluster::ApiServer,
    model::{
        cluster_object::{ClusterObject, ObjectPlace, StoredObject},
        probe::Probe,
        webhook::upstream::{self, CURRENT, CURRENT_KEY, NEXT, NEXT_KEY, RENEW_AT},
    },
    webhook::certificate::self_signed,
    world::World,
};

/// Life of a certificate of the upstream webhook.
const LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// It is replaced so long before its end.
const RENEWAL: SignedDuration = SignedDuration::from_hours(30 * 24);

fn api(world: &World) -> anyhow::Result<ApiServer> {
    world.asked_api_server().context("no API server has been asked (nothing changed)")
}

pub(super) async fn apply(world: &World, object: &ClusterObject, replaces: Option<&str>) -> anyhow::Result<()> {
    Ok(api(world)?.apply_object(object, replaces).await?)
}

pub(super) async fn replace(world: &World, place: &ObjectPlace, body: &Value) -> anyhow::Result<()> {
    Ok(api(world)?.replace_object(place, body).await?)
}

pub(super) async fn delete(world: &World, place: &ObjectPlace, uid: &str, version: &str) -> anyhow::Result<()> {
    Ok(api(world)?.delete_object(place, uid, version).await?)
}

/// A certificate that is to be made.
pub(super) struct NewCertificate<'a> {
    /// DNS names that it is for.
    pub names: &'a [String],
    /// It is only to wait for the API servers to trust it.
    pub is_next: bool,
    /// Now.
    pub at: Timestamp,
}

pub(super) async fn make_certificate(
    world: &World,
    place: &ObjectPlace,
    wanted: &NewCertificate<'_>,
    replaces: Option<&str>,
) -> anyhow::Result<()> {
    let until = wanted.at.checked_add(LIFE).context("the clock cannot be right (nothing changed); set it")?;
    let made = self_signed(wanted.names, "irsad upstream webhook", wanted.at, LIFE)?;
    let (certificate, key) = if wanted.is_next { (NEXT, NEXT_KEY) } else { (CURRENT, CURRENT_KEY) };
    let api = api(world)?;
    let Some(version) = replaces else {
        let object = upstream::secret(place.clone());
        let mut body = object.body().clone();
        fill(&mut body, [(certificate, &made.certificate), (key, &made.private_key)]);
        body["metadata"]["annotations"] = json!({ RENEW_AT: renew_at(until) });
        return api.apply_object(&ClusterObject::with_body(place.clone(), body), None).await.map_err(unquoted);
    };
    let mut body = secret(&api, place, version).await?;
    fill(&mut body, [(certificate, &made.certificate), (key, &made.private_key)]);
    // The one that waits tells when it is over once it is in use.
    let annotation = if wanted.is_next { upstream::NEXT_RENEW_AT } else { RENEW_AT };
    body["metadata"]["annotations"][annotation] = json!(renew_at(until));
    api.replace_object(place, &body).await.map_err(unquoted)
}

pub(super) async fn use_next_certificate(world: &World, place: &ObjectPlace, version: &str) -> anyhow::Result<()> {
    let api = api(world)?;
    let mut body = secret(&api, place, version).await?;
    upstream::use_next(&mut body);
    api.replace_object(place, &body).await.map_err(unquoted)
}

/// The whole Secret, if it still is what was observed.
async fn secret(api: &ApiServer, place: &ObjectPlace, version: &str) -> anyhow::Result<Value> {
    let found = match api.object(place).await {
        Probe::Present(found) => found,
        Probe::Absent => anyhow::bail!("{place} is gone (nothing changed)"),
        Probe::Unknown(why) => anyhow::bail!(why),
    };
    anyhow::ensure!(
        StoredObject::resource_version(&found) == version,
        "{place} was changed by somebody else meanwhile (left as they made it); it is looked at again"
    );
    let mut body = found.body().clone();
    if let Value::Object(metadata) = &mut body["metadata"] {
        metadata.remove("managedFields");
    }
    Ok(body)
}

fn fill(body: &mut Value, fields: [(&str, &String); 2]) {
    for (field, pem) in fields {
        body["data"][field] = json!(BASE64_STANDARD.encode(pem));
    }
}

fn renew_at(until: Timestamp) -> String {
    until.checked_sub(RENEWAL).unwrap_or(until).to_string()
}

/// What the server says of a refusal may repeat the private key.
fn unquoted(error: crate::cluster::NoAnswer) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}
