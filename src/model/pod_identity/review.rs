//! One request of the API server and its answer: `AdmissionReview` of admission.k8s.io, v1 and v1beta1.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use thiserror::Error;

use super::pod::{CONTAINER_CREDENTIALS_LABEL, OPT_OUT_LABEL, Object, Pod, Text, text};

/// A review of a pod, as far as it matters here. Borrows from the body.
#[derive(Debug)]
pub struct Review<'b> {
    api_version: Option<Text<'b>>,
    kind: Option<Text<'b>>,
    uid: Option<Text<'b>>,
    namespace: Option<Text<'b>>,
    pub(super) object: Pod<'b>,
}

/// The request is not a review of a pod. The text is for the user of `kubectl`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ReviewError {
    message: String,
    api_version: Option<String>,
    kind: Option<String>,
    uid: String,
}

/// What the API server sends; `O` is the object that it asks about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an AdmissionReview", bound(deserialize = "O: Deserialize<'de>"))]
struct Envelope<'b, O> {
    #[serde(borrow)]
    api_version: Option<Text<'b>>,
    #[serde(borrow)]
    kind: Option<Text<'b>>,
    #[serde(borrow)]
    request: Option<Object<Request<'b, O>>>,
}

#[derive(Deserialize)]
#[serde(expecting = "a request", bound(deserialize = "O: Deserialize<'de>"))]
struct Request<'b, O> {
    #[serde(borrow)]
    uid: Option<Text<'b>>,
    #[serde(borrow)]
    namespace: Option<Text<'b>>,
    object: Option<O>,
}

impl<'b> Review<'b> {
    /// Reads a request body. `apiVersion` and `kind` may be any and are echoed in the answer; operation, resource and user do
    /// not matter, for choosing what is sent is up to the registration.
    ///
    /// # Errors
    /// It is not JSON, has no request, or its object is missing or no pod. Answer with [`ReviewError::status`] and
    /// [`ReviewError::answer`].
    pub fn parse(body: &'b [u8]) -> Result<Self, ReviewError> {
        if !body.trim_ascii_start().starts_with(b"{") {
            let message = "bad content: the review is not a JSON object".to_owned(); // serde would take a list for one
            return Err(ReviewError { message, api_version: None, kind: None, uid: String::new() });
        }
        let envelope: Envelope<'b, Object<Pod<'b>>> =
            serde_json::from_slice(body).map_err(|error| unreadable(body, &error))?;
        let Envelope { api_version, kind, request: Some(Object(request)) } = envelope else {
            return Err(refusal("bad content: the review has no request", &envelope));
        };
        let Request { uid, namespace, object: Some(Object(object)) } = request else {
            let request = Some(Object(request));
            return Err(refusal("bad content: the request has no object", &Envelope { api_version, kind, request }));
        };
        Ok(Self { api_version, kind, uid, namespace, object })
    }

    /// Namespace of the request; that of the object does not count.
    pub fn namespace(&self) -> &str {
        text(&self.namespace)
    }

    /// `spec.serviceAccountName`, empty where it is missing: no account is called that. The API server has filled it in.
    pub fn service_account(&self) -> &str {
        self.object.service_account()
    }

    /// Name of the pod, or what its name will begin with; for messages.
    pub fn pod(&self) -> &str {
        let Some(metadata) = &self.object.metadata else { return "" };
        let name = text(&metadata.name);
        if name.is_empty() { text(&metadata.generate_name) } else { name }
    }

    /// Whether the pod carries the label `eks.amazonaws.com/skip-pod-identity-webhook`. The API server does not send such pods
    /// where the registration's `objectSelector` is in place; [`super::PodIdentity::answer`] does not ask, like the AWS program.
    pub fn opted_out(&self) -> bool {
        self.object.label(OPT_OUT_LABEL).is_some()
    }

    /// Whether the pod is labelled as one with container credentials.
    pub(super) fn is_labelled(&self) -> bool {
        self.object.label(CONTAINER_CREDENTIALS_LABEL) == Some("enabled")
    }

    /// The response body that lets the pod in, with `patch` applied to it.
    pub(super) fn allow(&self, patch: Option<Vec<u8>>, warnings: Vec<String>) -> Vec<u8> {
        answer(&Answer {
            kind: self.kind.as_ref().map(Text::as_str),
            api_version: self.api_version.as_ref().map(Text::as_str),
            response: Response {
                uid: text(&self.uid),
                allowed: true,
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch: patch.map(|patch| STANDARD.encode(patch)),
                warnings,
                status: None,
            },
        })
    }
}

impl ReviewError {
    /// HTTP status of the answer: 200, for the AWS program refuses such a pod rather than the request.
    pub fn status(&self) -> u16 {
        200
    }

    /// The whole response body: not allowed, with the reason. The API server refuses the pod whatever `failurePolicy` says.
    pub fn answer(&self) -> Vec<u8> {
        answer(&Answer {
            kind: self.kind.as_deref(),
            api_version: self.api_version.as_deref(),
            response: Response {
                uid: &self.uid,
                allowed: false,
                status: Some(Status { metadata: Empty {}, message: &self.message }),
                patch_type: None,
                patch: None,
                warnings: Vec::new(),
            },
        })
    }
}

/// What could be told of a body that is no review of a pod.
fn unreadable(body: &[u8], error: &serde_json::Error) -> ReviewError {
    let message = format!("bad content: {error}");
    match serde_json::from_slice::<Envelope<'_, IgnoredAny>>(body) {
        Ok(envelope) => refusal(message, &envelope),
        Err(_) => ReviewError { message, api_version: None, kind: None, uid: String::new() },
    }
}

fn refusal<O>(message: impl Into<String>, envelope: &Envelope<'_, O>) -> ReviewError {
    let owned = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_str().to_owned());
    let uid = envelope.request.as_ref().and_then(|request| owned(&request.uid)).unwrap_or_default();
    let (api_version, kind) = (owned(&envelope.api_version), owned(&envelope.kind));
    ReviewError { message: message.into(), api_version, kind, uid }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'a str>,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Status<'a> {
    metadata: Empty,
    message: &'a str,
}

#[derive(Serialize)]
struct Empty {}

fn answer(answer: &Answer<'_>) -> Vec<u8> {
    serde_json::to_vec(answer).expect("texts and booleans are JSON")
}
