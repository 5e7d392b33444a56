//! IAM: the OIDC provider of an issuer, looked at, made, and given audiences; and the roles of service accounts.
//!
//! Of providers there is no call here that changes what someone else made: no update, no removal of audiences, no thumbprints. Only a
//! person takes one over, by [`Iam::tag`]. What is deleted is the caller's to know as ours.

mod roles;

use std::collections::BTreeMap;

use aws_sdk_iam::{Client, types::Tag};

use super::{
    AwsConfig, AwsError, ProvideErrorMetadata, Reason,
    error::{Call, Quota},
};
use crate::model::{
    issuer::{Audience, IssuerUrl},
    probe::Probe,
};

/// OIDC providers of our account, each named by the ARN that follows from its issuer. Keep it: it holds the connections.
#[derive(Debug, Clone)]
pub struct Iam {
    client: Client,
}

/// An OIDC provider as IAM shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderState {
    /// Issuer without its scheme, as IAM keeps it.
    pub url: String,
    /// Audiences that it accepts (client IDs), in IAM's order.
    pub audiences: Vec<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// SHA-1 certificate thumbprints. IAM fills them in by itself; they decide nothing where a public CA signed the issuer's
    /// certificate (IAM user guide, "Obtain the thumbprint for an OpenID Connect identity provider").
    pub thumbprints: Vec<String>,
}

impl Iam {
    /// Access to IAM. Nothing is sent yet.
    pub fn new(aws: &AwsConfig) -> Self {
        let mut config = aws_sdk_iam::config::Builder::from(&aws.sdk).interceptor(aws.calls.clone());
        if let Some(url) = aws.endpoint(&aws.endpoints.iam) {
            config = config.endpoint_url(url);
        }
        Self { client: Client::from_conf(config.build()) }
    }

    /// Looks at the provider of that ARN.
    pub async fn observe(&self, arn: &str) -> Probe<ProviderState> {
        match self.client.get_open_id_connect_provider().open_id_connect_provider_arn(arn).send().await {
            Ok(found) => Probe::Present(ProviderState {
                url: found.url().unwrap_or_default().to_owned(),
                audiences: found.client_id_list().to_vec(),
                tags: found.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
                thumbprints: found.thumbprint_list().to_vec(),
            }),
            Err(error) if error.code() == Some("NoSuchEntity") => Probe::Absent,
            Err(error) => AwsError::from_sdk(Call::read("iam:GetOpenIDConnectProvider", arn), &error).unknown(),
        }
    }

    /// ARNs of every OIDC provider of the account: IAM gives them in one answer (IAM API reference, `ListOpenIDConnectProviders`).
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Denied`] where these credentials may not ask.
    pub async fn providers(&self) -> Result<Vec<String>, AwsError> {
        let call = Call::read("iam:ListOpenIDConnectProviders", "*").of_teardown();
        let answer = self.client.list_open_id_connect_providers().send().await;
        let answer = answer.map_err(|error| AwsError::from_sdk(call, &error))?;
        let arns = answer.open_id_connect_provider_list().iter().filter_map(|provider| provider.arn());
        Ok(arns.map(str::to_owned).collect())
    }

    /// Trust policy of a role of our account, as JSON; `None` where there is no such role.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Denied`] where these credentials may not ask.
    pub async fn trust_policy(&self, role: &str) -> Result<Option<String>, AwsError> {
        match self.client.get_role().role_name(role).send().await {
            Ok(found) => Ok(found.role().and_then(|role| role.assume_role_policy_document()).map(percent_decoded)),
            Err(error) if error.code() == Some("NoSuchEntity") => Ok(None),
            Err(error) => Err(AwsError::from_sdk(Call::read("iam:GetRole", role), &error)),
        }
    }

    /// Makes the provider of `issuer`, whose ARN is `arn`, with its tags in the same call: one without them could not be told
    /// from someone else's. Without thumbprints, which IAM then fetches by itself.
    ///
    /// Success also where a provider of that issuer appeared meanwhile; only a new observation tells whose it is.
    ///
    /// # Errors
    /// [`Reason::Quota`] where the account has too many, otherwise see [`Reason`]; after a lost answer the provider may be
    /// there.
    pub async fn create(
        &self,
        arn: &str,
        issuer: &IssuerUrl,
        audiences: &[Audience],
        tags: &BTreeMap<String, String>,
    ) -> Result<(), AwsError> {
        let call = Call::write("iam:CreateOpenIDConnectProvider and iam:TagOpenIDConnectProvider", arn);
        let mut request = self.client.create_open_id_connect_provider().url(issuer.as_str());
        for audience in audiences {
            request = request.client_id_list(audience.as_str());
        }
        for (key, value) in tags {
            let tag = Tag::builder().key(key).value(value).build();
            request =
                request.tags(tag.map_err(|error| AwsError::new(call.clone(), Reason::NotAws, error.to_string()))?);
        }
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("EntityAlreadyExists") => Ok(()),
            Err(error) => Err(with_quota(error.code(), Quota::Providers, AwsError::from_sdk(call, &error))),
        }
    }

    /// Puts tags on the provider, beside those that it has.
    ///
    /// # Errors
    /// See [`Reason`]; the provider has its old tags, or after a lost answer perhaps the new ones.
    pub async fn tag(&self, arn: &str, tags: &[(String, String)]) -> Result<(), AwsError> {
        let call = Call::write("iam:TagOpenIDConnectProvider", arn);
        let mut request = self.client.tag_open_id_connect_provider().open_id_connect_provider_arn(arn);
        for (key, value) in tags {
            let tag = Tag::builder().key(key).value(value).build();
            request =
                request.tags(tag.map_err(|error| AwsError::new(call.clone(), Reason::NotAws, error.to_string()))?);
        }
        request.send().await.map(drop).map_err(|error| AwsError::from_sdk(call, &error))
    }

    /// Removes tags from the provider; those that it does not have are no error.
    ///
    /// # Errors
    /// As [`Iam::tag`].
    pub async fn untag(&self, arn: &str, keys: &[String]) -> Result<(), AwsError> {
        let call = Call::write("iam:UntagOpenIDConnectProvider", arn);
        let request = self.client.untag_open_id_connect_provider().open_id_connect_provider_arn(arn);
        let request = request.set_tag_keys(Some(keys.to_vec()));
        request.send().await.map(drop).map_err(|error| AwsError::from_sdk(call, &error))
    }

    /// Deletes the provider. Success where there is none.
    ///
    /// # Errors
    /// See [`Reason`]; after a lost answer it is there or gone.
    pub async fn delete(&self, arn: &str) -> Result<(), AwsError> {
        let call = Call::write("iam:DeleteOpenIDConnectProvider", arn).of_teardown();
        match self.client.delete_open_id_connect_provider().open_id_connect_provider_arn(arn).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchEntity") => Ok(()),
            Err(error) => Err(AwsError::from_sdk(call, &error)),
        }
    }

    /// Lets the provider accept one more audience. Success where it does already.
    ///
    /// # Errors
    /// [`Reason::Quota`] where the provider has too many, otherwise see [`Reason`]; the provider keeps those it has.
    pub async fn add_audience(&self, arn: &str, audience: &Audience) -> Result<(), AwsError> {
        let request = self.client.add_client_id_to_open_id_connect_provider();
        let call = Call::write("iam:AddClientIDToOpenIDConnectProvider", arn);
        match request.open_id_connect_provider_arn(arn).client_id(audience.as_str()).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(with_quota(error.code(), Quota::Audiences, AwsError::from_sdk(call, &error))),
        }
    }
}

/// IAM writes documents into its answers as RFC 3986 says (section 2.1).
fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `LimitExceeded` says by itself not of what.
fn with_quota(code: Option<&str>, quota: Quota, error: AwsError) -> AwsError {
    if code == Some("LimitExceeded") { error.with_reason(Reason::Quota(quota)) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_in_an_answer_is_decoded() {
        for (text, decoded) in [
            ("%7B%22a%22%3A%20%22b%2Bc%22%7D", "{\"a\": \"b+c\"}"),
            ("{\"a\": \"b+c\"}", "{\"a\": \"b+c\"}"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%C3%A4", "ä"),
        ] {
            assert_eq!(percent_decoded(text), decoded);
        }
    }
}
