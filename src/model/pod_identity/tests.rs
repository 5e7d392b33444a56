//! Each behaviour of amazon-eks-pod-identity-webhook as one test or one row, on pods patched by an RFC 6902 library.

use std::error::Error;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;

mod bad_input;
mod container_credentials;
mod decision;
mod expiration;
mod properties;
mod protocol;
mod role_map;
mod roles;
mod skip_containers;
mod variables;
mod volumes;

type Tested = Result<(), Box<dyn Error>>;

const ROLE: &str = "arn:aws:iam::111122223333:role/app";
const MOUNT: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
const TOKEN: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";

fn settings() -> PodIdentity {
    PodIdentity {
        annotation_prefix: "eks.amazonaws.com".to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        mount_path: MOUNT.to_owned(),
        token_expiration_seconds: 86_400,
        default_region: None,
        regional_sts: false,
        composition: None,
        container_credentials: ContainerCredentialsToken {
            audience: "pods.eks.amazonaws.com".to_owned(),
            mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
            volume_name: "eks-pod-identity-token".to_owned(),
            token_path: "eks-pod-identity-token".to_owned(),
            full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
        },
    }
}

/// What the webhook knows when it is asked about a pod of the service account `prod/app`.
#[derive(Debug)]
struct Known {
    settings: PodIdentity,
    /// The account's annotations, without their prefix; `None` for no account.
    annotations: Option<Vec<(&'static str, String)>>,
    roles: RoleMap,
    credentials: ContainerCredentials,
    jitter: u64,
}

impl Known {
    fn nothing() -> Self {
        let (roles, credentials) = (RoleMap::default(), ContainerCredentials::default());
        Self { settings: settings(), annotations: None, roles, credentials, jitter: 0 }
    }

    /// The account has [`ROLE`].
    fn role() -> Self {
        Self { annotations: Some(vec![("role-arn", ROLE.to_owned())]), ..Self::nothing() }
    }

    fn with(mut self, annotation: &'static str, value: &str) -> Self {
        self.annotations.get_or_insert_default().push((annotation, value.to_owned()));
        self
    }

    fn settings(mut self, change: impl FnOnce(&mut PodIdentity)) -> Self {
        change(&mut self.settings);
        self
    }

    fn account(&self) -> Option<Account> {
        let prefix = &self.settings.annotation_prefix;
        let annotations: Vec<(String, &str)> = self
            .annotations
            .as_ref()?
            .iter()
            .map(|(name, value)| (format!("{prefix}/{name}"), value.as_str()))
            .collect();
        Some(Account::read(annotations.iter().map(|(key, value)| (key.as_str(), *value)), prefix))
    }

    fn answer(&self, body: &[u8]) -> Vec<u8> {
        match Review::parse(body) {
            Ok(review) => {
                self.settings.answer(&review, self.account().as_ref(), &self.roles, &self.credentials, self.jitter)
            }
            Err(error) => error.answer(),
        }
    }

    fn response(&self, body: &[u8]) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.answer(body))
    }

    /// The pod as it comes out, and the warnings.
    fn admit(&self, pod: &Value) -> Result<(Value, Vec<String>), Box<dyn Error>> {
        let review = serde_json::to_vec(&review_of(pod))?;
        let response = self.response(&review)?["response"].take();
        let (mut patched, warnings) = (pod.clone(), response.get("warnings").cloned().unwrap_or_else(|| json!([])));
        assert_eq!(response["allowed"], json!(true), "{response}");
        if let Some(patch) = patch_of(&response)? {
            let patch: json_patch::Patch = serde_json::from_value(patch)?;
            json_patch::patch(&mut patched, &patch)?;
        }
        Ok((patched, serde_json::from_value(warnings)?))
    }

    /// The pod as it comes out, without warnings.
    fn patched(&self, pod: &Value) -> Result<Value, Box<dyn Error>> {
        let (patched, warnings) = self.admit(pod)?;
        assert_eq!(warnings, Vec::<String>::new());
        Ok(patched)
    }
}

fn review_of(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": { "uid": "u-1", "namespace": "prod", "operation": "CREATE", "object": pod },
    })
}

/// The patch of a response; `None` where it has none.
fn patch_of(response: &Value) -> Result<Option<Value>, Box<dyn Error>> {
    let Some(text) = response["patch"].as_str() else { return Ok(None) };
    assert_eq!(response["patchType"], json!("JSONPatch"));
    Ok(Some(serde_json::from_slice(&STANDARD.decode(text)?)?))
}

/// A pod of `prod/app` with one container.
fn pod() -> Value {
    pod_with(json!({ "containers": [{ "name": "app", "image": "app" }] }))
}

fn pod_with(mut spec: Value) -> Value {
    spec["serviceAccountName"] = json!("app");
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "app-1" }, "spec": spec })
}

fn annotated(annotation: &str, value: &str) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ annotation: value });
    pod
}

/// The source of the token in the first volume.
fn token(pod: &Value) -> &Value {
    &pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
}

/// Names and values of the variables of a container.
fn variables(container: &Value) -> Vec<(&str, &str)> {
    let variables = container["env"].as_array().map(Vec::as_slice).unwrap_or_default();
    variables.iter().map(|it| (it["name"].as_str().unwrap_or(""), it["value"].as_str().unwrap_or(""))).collect()
}

/// Whether anything of ours was added.
fn is_changed(before: &Value, after: &Value) -> bool {
    before != after
}
