//! One request of the API server: `AdmissionReview` of admission.k8s.io, v1 and v1beta1.

use std::marker::PhantomData;

use thiserror::Error;

/// A review of a pod, as far as it matters here. Borrows from the body.
#[derive(Debug)]
pub struct Review<'b>(PhantomData<&'b ()>);

/// The request is not a review of a pod.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct ReviewError {
    message: String,
}

impl<'b> Review<'b> {
    /// Reads a request body. `apiVersion` and `kind` may be any and are echoed in the answer.
    ///
    /// # Errors
    /// It is not JSON, has no request, or its object is missing or no pod. Answer with [`ReviewError::status`] and
    /// [`ReviewError::answer`].
    pub fn parse(body: &'b [u8]) -> Result<Self, ReviewError> {
        let _: serde::de::IgnoredAny =
            serde_json::from_slice(body).map_err(|error| ReviewError { message: error.to_string() })?;
        Ok(Self(PhantomData))
    }

    /// Namespace of the request; that of the object does not count.
    pub fn namespace(&self) -> &str {
        ""
    }

    /// `spec.serviceAccountName`, empty where it is missing: no account is called that.
    pub fn service_account(&self) -> &str {
        ""
    }

    /// Name of the pod, or what its name will begin with; for messages.
    pub fn pod(&self) -> &str {
        ""
    }

    /// Whether the pod carries the label `eks.amazonaws.com/skip-pod-identity-webhook`. The API server does not send such pods
    /// where the registration's `objectSelector` is in place; [`super::PodIdentity::answer`] does not ask, like the AWS program.
    pub fn opted_out(&self) -> bool {
        false
    }
}

impl ReviewError {
    /// HTTP status of the answer: 200, for the AWS program refuses such a pod rather than the request.
    pub fn status(&self) -> u16 {
        200
    }

    /// The whole response body: not allowed, with the reason.
    pub fn answer(&self) -> Vec<u8> {
        Vec::new()
    }
}
