//! What one running kube-apiserver shows of its keys and issuer: the evidence that a change has taken effect.
//!
//! Key files and flags are read by kube-apiserver only when it starts, so files prove nothing about the process. This
//! module does not know what the keys should be.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp, Unit};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    ApiServer,
    request::{Answer, NoAnswer},
};
use crate::model::{discovery::Discovery, jwks::Jwks, probe::Probe};

const READYZ: &str = "/readyz";
const JWKS: &str = "/openid/v1/jwks";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const METRICS: &str = "/metrics";
const PROBE_TOKEN: &str = "/api/v1/namespaces/kube-system/serviceaccounts/default/token";
const KUBEADM_CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config";

/// The shortest lifetime that kube-apiserver grants, in seconds (`ValidateTokenRequest` in kubernetes/kubernetes).
const PROBE_TOKEN_SECONDS: u32 = 600;

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Readiness and the two served documents: three small answers, for every pass.
    Served,
    /// Also the start of the process and a probe token. The start stands in `/metrics`, some megabytes that the server
    /// has to gather: only while a change is waited for.
    Proof,
}

/// What the running process shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// `/readyz` answers 200. A server that is not ready already makes and judges tokens.
    pub ready: bool,
    /// Its `/openid/v1/jwks`: every key that the process verifies with, in its order.
    pub served: Jwks,
    /// `issuer` of its discovery document: the first issuer, the one in new tokens.
    pub issuer: String,
    /// `jwks_uri` of its discovery document.
    pub jwks_uri: String,
    /// What only [`Depth::Proof`] asks for.
    pub proof: Option<Proof>,
}

/// Which process it was, and what it signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// When the process started, by the clock of its machine. Always the same for one process, but up to a second early,
    /// because Linux keeps its own start in whole seconds: tell processes apart by comparing two of these.
    ///
    /// Everything else in the same [`Evidence`] was shown by this process or by a later one.
    pub started_at: Timestamp,
    /// What it puts into a token for `kube-system/default`. Absent: there is no such service account, because
    /// kube-controller-manager has not made it yet.
    pub probe_token: Probe<ProbeToken>,
}

/// Header and claims of a token that was asked for and thrown away. The token itself is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeToken {
    /// `kid` of its header: the key that the process signs with.
    pub kid: String,
    /// `iss` of its claims.
    pub iss: String,
    /// `aud` of its claims: the server's `--api-audiences`, because none was asked for.
    pub aud: Vec<String>,
}

/// What kubeadm keeps in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeadmConfigMap {
    /// The ClusterConfiguration, YAML.
    pub text: String,
    /// `resourceVersion` of the ConfigMap.
    pub resource_version: String,
}

impl ApiServer {
    /// [`ApiServer::ask_evidence`] for a plan: no answer is [`Probe::Unknown`] with the reason for a person; it is never
    /// absent.
    pub async fn observe(&self, depth: Depth) -> Probe<Evidence> {
        match self.ask_evidence(depth).await {
            Ok(evidence) => Probe::Present(evidence),
            Err(error) => Probe::Unknown(error.reason()),
        }
    }

    /// Asks the running process, once and without repeating: a starting server refuses for a moment (403, 503), so the
    /// caller asks again. Nothing on the server is changed.
    ///
    /// # Errors
    /// One of the answers was not given, see [`NoAnswer`]; [`NoAnswer::is_down`] tells a closed port.
    pub async fn ask_evidence(&self, depth: Depth) -> Result<Evidence, NoAnswer> {
        // First, so that what follows cannot come from an older process than the one named.
        let started_at = match depth {
            Depth::Served => None,
            Depth::Proof => Some(self.started_at().await?),
        };
        let ready = self.is_ready().await?;
        let jwks: Jwks = self.document(JWKS, "a JWK Set").await?;
        let discovery: Discovery = self.document(DISCOVERY, "an OpenID provider configuration").await?;
        let proof = match started_at {
            None => None,
            Some(started_at) => Some(Proof { started_at, probe_token: self.probe_token().await }),
        };
        Ok(Evidence { ready, served: jwks, issuer: discovery.issuer, jwks_uri: discovery.jwks_uri, proof })
    }

    /// ConfigMap `kube-system/kubeadm-config`, which `kubeadm upgrade` and `kubeadm join` work from. Absent: kubeadm did not make
    /// this cluster.
    pub async fn kubeadm_configuration(&self) -> Probe<KubeadmConfigMap> {
        match self.list::<ConfigMap>(KUBEADM_CONFIG, "a ConfigMap").await {
            Ok(ConfigMap { metadata, data }) => data.cluster_configuration.map_or(Probe::Absent, |text| {
                Probe::Present(KubeadmConfigMap { text, resource_version: metadata.resource_version })
            }),
            Err(error) => Probe::Unknown(error.reason()),
        }
    }

    /// Replaces the ClusterConfiguration of that ConfigMap, if it still has `resource_version`; the rest of it stays.
    ///
    /// # Errors
    /// It is as it was, or, where the answer was lost, as it was or replaced: the next look tells.
    pub async fn replace_kubeadm_configuration(&self, text: &str, resource_version: &str) -> Result<(), NoAnswer> {
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": resource_version },
            "data": { "ClusterConfiguration": text },
        });
        let path = format!("{KUBEADM_CONFIG}?fieldManager=irsad");
        self.merge_patch(&path, &patch).await?.success().map(drop)
    }

    /// An object or list that may be missing.
    pub(super) async fn list<T: DeserializeOwned + Default>(
        &self,
        path: &str,
        expected: &'static str,
    ) -> Result<T, NoAnswer> {
        match self.get(path).await?.success() {
            Ok(answer) => answer.json(expected),
            Err(NoAnswer::NotFound { .. }) => Ok(T::default()),
            Err(error) => Err(error),
        }
    }

    /// `/readyz` says 500 with the list of failed checks where a server is not ready.
    pub(super) async fn is_ready(&self) -> Result<bool, NoAnswer> {
        let answer = self.get(READYZ).await?;
        if answer.status == http::StatusCode::INTERNAL_SERVER_ERROR {
            return Ok(false);
        }
        answer.success().map(|_| true)
    }

    async fn document<T: DeserializeOwned>(&self, path: &str, expected: &'static str) -> Result<T, NoAnswer> {
        match self.get(path).await?.success() {
            Ok(answer) => answer.json(expected),
            Err(NoAnswer::NotFound { url }) => Err(NoAnswer::DiscoveryOff { url }),
            Err(error) => Err(error),
        }
    }

    async fn started_at(&self) -> Result<Timestamp, NoAnswer> {
        let value = self.find_line(METRICS, "process_start_time_seconds ").await?;
        value.as_deref().and_then(timestamp).ok_or_else(|| NoAnswer::Garbled {
            url: self.url(METRICS),
            expected: "a list of metrics with process_start_time_seconds",
        })
    }

    async fn probe_token(&self) -> Probe<ProbeToken> {
        let request = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": PROBE_TOKEN_SECONDS },
        });
        let asked = async { read_token(&self.post(PROBE_TOKEN, &request).await?.success()?) };
        match asked.await {
            Ok(token) => Probe::Present(token),
            Err(NoAnswer::NotFound { .. }) => Probe::Absent,
            Err(error) => Probe::Unknown(error.reason()),
        }
    }
}

#[derive(Default, Deserialize)]
struct ConfigMap {
    #[serde(default)]
    metadata: Stored,
    #[serde(default)]
    data: KubeadmData,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    resource_version: String,
}

#[derive(Default, Deserialize)]
struct KubeadmData {
    #[serde(rename = "ClusterConfiguration")]
    cluster_configuration: Option<String>,
}

/// A `TokenRequest` as answered. No `Debug`: it holds the token.
#[derive(Deserialize)]
struct TokenRequest {
    status: TokenStatus,
}

#[derive(Deserialize)]
struct TokenStatus {
    token: String,
}

#[derive(Deserialize)]
struct Header {
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: OneOrMany,
}

/// `aud` is one string or a list of them (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn read_token(answer: &Answer) -> Result<ProbeToken, NoAnswer> {
    let request: TokenRequest = answer.json("a TokenRequest")?;
    decode(&request.status.token).ok_or_else(|| answer.garbled("a TokenRequest with a signed token that has a kid"))
}

/// Header and claims of a JWT in compact form (RFC 7515, section 7.1). The signature is not verified: the token comes
/// from the server itself.
fn decode(token: &str) -> Option<ProbeToken> {
    let mut parts = token.split('.');
    let header: Header = decode_part(parts.next()?)?;
    let claims: Claims = decode_part(parts.next()?)?;
    let aud = match claims.aud {
        OneOrMany::One(audience) => vec![audience],
        OneOrMany::Many(audiences) => audiences,
    };
    Some(ProbeToken { kid: header.kid, iss: claims.iss, aud })
}

/// `kid` of the header of a JWT.
pub(super) fn kid_of(token: &str) -> Option<String> {
    let header: Header = decode_part(token.split('.').next()?)?;
    Some(header.kid)
}

fn decode_part<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Seconds since 1970 as Prometheus writes them, `1.79523401582e+09`. Not zero: that gauge was never set.
fn timestamp(seconds: &str) -> Option<Timestamp> {
    let since_1970 = SignedDuration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    // A double cannot tell nanoseconds at this size.
    let started_at = Timestamp::from_duration(since_1970).ok()?.round(Unit::Millisecond).ok()?;
    (started_at > Timestamp::UNIX_EPOCH).then_some(started_at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::fake::{Fake, Outcome, Reply, Seen, TOKEN},
        *,
    };

    const ISSUER: &str = "https://oidc.example.com/prod-1";
    const SIGNATURE: &str = "c2lnbmF0dXJl";

    fn text(status: u16, body: &str) -> Reply {
        Reply::Text(status, body.to_owned())
    }

    fn token(header: &str, claims: &str) -> String {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        format!("{}.{}.{SIGNATURE}", part(header), part(claims))
    }

    /// What a healthy server answers.
    fn healthy(seen: &Seen) -> Reply {
        match seen.path.as_str() {
            READYZ => text(200, "ok"),
            JWKS if seen.headers.get("accept").is_none_or(|accept| accept != "*/*") => {
                text(406, "only application/jwk-set+json")
            }
            JWKS => text(200, SERVED),
            DISCOVERY => text(
                200,
                &format!(
                    r#"{{"issuer":"{ISSUER}","jwks_uri":"{ISSUER}/keys.json","response_types_supported":["id_token"]}}"#
                ),
            ),
            METRICS => text(
                200,
                "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.\n\
                 # TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.79523401582e+09\nworkqueue_depth 0\n",
            ),
            PROBE_TOKEN => {
                let claims = format!(r#"{{"iss":"{ISSUER}","aud":["sts.amazonaws.com","{ISSUER}"],"sub":"s"}}"#);
                let token = token(r#"{"alg":"RS256","kid":"new"}"#, &claims);
                text(201, &serde_json::json!({"kind": "TokenRequest", "status": {"token": token}}).to_string())
            }
            _ => text(404, ""),
        }
    }

    async fn fake(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Outcome<(Fake, ApiServer)> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], script).await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        Ok((fake, api))
    }

    /// A healthy server that answers `status` and `body` for one path.
    async fn broken_at(path: &'static str, status: u16, body: &'static str) -> Outcome<(Fake, ApiServer)> {
        fake(move |seen| if seen.path == path { text(status, body) } else { healthy(seen) }).await
    }

    const SERVED: &str = r#"{"keys":[{"use":"sig","kty":"RSA","kid":"new","alg":"RS256","n":"AQ","e":"AQAB"},{"kty":"EC","kid":"old"}]}"#;

    fn evidence() -> Evidence {
        Evidence {
            ready: true,
            served: Jwks::parse(SERVED.as_bytes()).expect("a JWK Set"),
            issuer: ISSUER.to_owned(),
            jwks_uri: format!("{ISSUER}/keys.json"),
            proof: None,
        }
    }

    fn proof() -> Proof {
        let aud = vec!["sts.amazonaws.com".to_owned(), ISSUER.to_owned()];
        Proof {
            started_at: Timestamp::from_millisecond(1_795_234_015_820).unwrap_or_default(),
            probe_token: Probe::Present(ProbeToken { kid: "new".to_owned(), iss: ISSUER.to_owned(), aud }),
        }
    }

    #[tokio::test]
    async fn evidence_is_what_the_running_process_shows() -> Outcome<()> {
        let (fake, api) = fake(healthy).await?;
        assert_eq!(api.observe(Depth::Served).await, Probe::Present(evidence()));
        let asked: Vec<String> = fake.seen().into_iter().map(|seen| seen.path).collect();
        assert_eq!(asked, [READYZ, JWKS, DISCOVERY], "an idle pass asks for nothing expensive");

        assert_eq!(api.observe(Depth::Proof).await, Probe::Present(Evidence { proof: Some(proof()), ..evidence() }));
        let asked: Vec<String> = fake.seen().into_iter().skip(3).map(|seen| seen.path).collect();
        assert_eq!(asked, [METRICS, READYZ, JWKS, DISCOVERY, PROBE_TOKEN], "the process is named before what it shows");
        Ok(())
    }

    #[tokio::test]
    async fn probe_token_is_asked_for_the_shortest_time_with_the_identity_of_the_kubeconfig() -> Outcome<()> {
        let (fake, api) = fake(healthy).await?;
        api.observe(Depth::Proof).await;
        let seen = fake.seen();
        let request = seen.last().ok_or("no request")?;
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", PROBE_TOKEN));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&request.body)?,
            serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}})
        );
        for request in &seen {
            assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"), "{}", request.path);
        }
        Ok(())
    }

    #[tokio::test]
    async fn neither_token_is_in_any_debug_output() -> Outcome<()> {
        let (_fake, api) = fake(healthy).await?;
        let printed = format!("{:?} {api:?}", api.observe(Depth::Proof).await);
        assert!(printed.contains("kid: \"new\""), "{printed}");
        assert!(!printed.contains(SIGNATURE) && !printed.contains(TOKEN), "{printed}");
        Ok(())
    }

    #[tokio::test]
    async fn server_that_fails_its_readiness_checks_is_evidence_of_a_server_that_is_not_ready() -> Outcome<()> {
        let (_fake, api) = broken_at(READYZ, 500, "[-]etcd failed: reason withheld\nreadyz check failed").await?;
        assert_eq!(api.observe(Depth::Served).await, Probe::Present(Evidence { ready: false, ..evidence() }));
        Ok(())
    }

    #[tokio::test]
    async fn starting_server_that_refuses_everyone_is_unknown_and_then_seen() -> Outcome<()> {
        let (fake, api) = fake(|seen| match (seen.path.as_str(), seen.earlier) {
            (READYZ, 0) => text(
                403,
                r#"{"kind":"Status","message":"forbidden: User \"kubernetes-admin\" cannot get path \"/readyz\""}"#,
            ),
            (READYZ, 1) => text(503, "the server is starting"),
            _ => healthy(seen),
        })
        .await?;
        let server = fake.server;
        assert_eq!(
            api.observe(Depth::Served).await,
            Probe::Unknown(format!(
                "https://{server}/readyz answered 403: kube-apiserver is starting, or the kubeconfig's user is not allowed to ask; if it stays so, use an administrator's kubeconfig: forbidden: User \"kubernetes-admin\" cannot get path \"/readyz\""
            ))
        );
        assert_eq!(
            api.observe(Depth::Served).await,
            Probe::Unknown(format!(
                "https://{server}/readyz answered 503: kube-apiserver is starting, stopping or overloaded; it is asked again: the server is starting"
            ))
        );
        assert_eq!(api.observe(Depth::Served).await, Probe::Present(evidence()));
        assert_eq!(fake.seen().len(), 5, "nothing was asked a second time within one observation");
        Ok(())
    }

    #[tokio::test]
    async fn answer_that_is_not_understood_is_unknown_with_the_reason() -> Outcome<()> {
        const BUSY: &str = "kube-apiserver is starting, stopping or overloaded; it is asked again";
        const ELSE: &str = "check that nothing else than kube-apiserver listens there";
        for (path, status, body, reason) in [
            (
                READYZ,
                401,
                r#"{"message":"Unauthorized"}"#,
                "answered 401: kube-apiserver is starting, or the kubeconfig's certificate has expired or is of another authority (`kubeadm certs check-expiration`): Unauthorized".to_owned(),
            ),
            (READYZ, 429, "", format!("answered 429: {BUSY}: no message")),
            (JWKS, 500, "a\nb", format!("answered 500: {BUSY}: a b")),
            (
                JWKS,
                406,
                "{}",
                "answered 406, which kube-apiserver does not; check that nothing else listens there: {}".to_owned(),
            ),
            (JWKS, 302, "", "answered 302, which kube-apiserver does not; check that nothing else listens there: no message".to_owned()),
            (
                JWKS,
                404,
                "404 page not found",
                "answered 404: kube-apiserver serves no OIDC discovery, because its first --service-account-issuer is not an https URL without query and fragment".to_owned(),
            ),
            (
                DISCOVERY,
                404,
                "404 page not found",
                "answered 404: kube-apiserver serves no OIDC discovery, because its first --service-account-issuer is not an https URL without query and fragment".to_owned(),
            ),
            (JWKS, 200, "<html>", format!("answered something that is not a JWK Set; {ELSE}")),
            (JWKS, 200, r#"{"keys":[{"kid":"new"}]}"#, format!("answered something that is not a JWK Set; {ELSE}")),
            (DISCOVERY, 200, "{}", format!("answered something that is not an OpenID provider configuration; {ELSE}")),
            (METRICS, 200, "process_start_time_seconds 0\n", format!("answered something that is not a list of metrics with process_start_time_seconds; {ELSE}")),
            (METRICS, 200, "go_goroutines 12\n", format!("answered something that is not a list of metrics with process_start_time_seconds; {ELSE}")),
            (METRICS, 503, "process_start_time_seconds 1", format!("answered 503: {BUSY}: process_start_time_seconds 1")),
        ] {
            let (fake, api) = broken_at(path, status, body).await?;
            let expected = format!("https://{}{path} {reason}", fake.server);
            assert_eq!(api.observe(Depth::Proof).await, Probe::Unknown(expected));
        }
        Ok(())
    }

    #[tokio::test]
    async fn probe_token_that_cannot_be_had_leaves_the_rest_of_the_evidence() -> Outcome<()> {
        const NO_TOKEN: &str = "answered something that is not a TokenRequest with a signed token that has a kid; check that nothing else than kube-apiserver listens there";
        for (status, body, reason) in [
            (404, r#"{"message":"serviceaccounts \"default\" not found"}"#, None),
            (
                500,
                r#"{"message":"no key"}"#,
                Some("answered 500: kube-apiserver is starting, stopping or overloaded; it is asked again: no key"),
            ),
            (201, r#"{"status":{"token":"e30.e30.c2ln"}}"#, Some(NO_TOKEN)),
            (201, r#"{"status":{"token":"secret"}}"#, Some(NO_TOKEN)),
            (
                201,
                r#"{"status":{}}"#,
                Some(
                    "answered something that is not a TokenRequest; check that nothing else than kube-apiserver listens there",
                ),
            ),
        ] {
            let (fake, api) = broken_at(PROBE_TOKEN, status, body).await?;
            let probe_token = reason.map_or(Probe::Absent, |reason| {
                Probe::Unknown(format!("https://{}{PROBE_TOKEN} {reason}", fake.server))
            });
            let expected = Evidence { proof: Some(Proof { probe_token, ..proof() }), ..evidence() };
            assert_eq!(api.observe(Depth::Proof).await, Probe::Present(expected));
        }
        Ok(())
    }

    #[tokio::test]
    async fn huge_answer_is_refused_and_huge_metrics_are_read() -> Outcome<()> {
        let (fake, api) = fake(|seen| match seen.path.as_str() {
            JWKS => Reply::Text(200, " ".repeat((2 << 20) + 1)),
            _ => healthy(seen),
        })
        .await?;
        let expected = format!(
            "https://{}/openid/v1/jwks answered with more than 2097152 bytes, which were not read; check that nothing else than kube-apiserver listens there",
            fake.server
        );
        assert_eq!(api.observe(Depth::Served).await, Probe::Unknown(expected));

        let (_fake, api) = self::fake(|seen| match seen.path.as_str() {
            METRICS => {
                let line = format!("apiserver_request_total{{resource=\"{}\"}} 1\n", "x".repeat(9000));
                Reply::Text(200, line.repeat(400) + "process_start_time_seconds 1.79523401582e+09")
            }
            _ => healthy(seen),
        })
        .await?;
        assert_eq!(api.observe(Depth::Proof).await, Probe::Present(Evidence { proof: Some(proof()), ..evidence() }));
        Ok(())
    }

    #[tokio::test]
    async fn server_that_does_not_answer_is_unknown_after_the_limit() -> Outcome<()> {
        let (fake, mut api) = fake(|seen| if seen.path == JWKS { Reply::Silence } else { healthy(seen) }).await?;
        api.answer_limit = Duration::from_millis(300);
        let expected = format!(
            "no answer from https://{}/openid/v1/jwks within 300ms; kube-apiserver is starting or overloaded, or does not reach etcd: it is asked again",
            fake.server
        );
        assert_eq!(api.observe(Depth::Served).await, Probe::Unknown(expected));
        Ok(())
    }

    #[tokio::test]
    async fn closed_port_is_told_apart_from_every_other_failure() -> Outcome<()> {
        let (fake, api) = broken_at(READYZ, 503, "").await?;
        let error = api.ask_evidence(Depth::Served).await.err().ok_or("evidence of a server that answers 503")?;
        assert!(!error.is_down(), "{error}");

        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", nobody.port())?;
        let error = api.ask_evidence(Depth::Served).await.err().ok_or("evidence of a closed port")?;
        assert!(error.is_down(), "{error}");
        assert_eq!(
            error.reason(),
            format!(
                "kube-apiserver is down or restarting: nothing listens at https://{nobody}/readyz; if it stays so, look at `crictl ps -a --name kube-apiserver` and the log of that container"
            )
        );
        Ok(())
    }

    #[tokio::test]
    async fn kubeadm_configuration_is_replaced_only_as_it_was_read() -> Outcome<()> {
        let stored =
            r#"{"metadata":{"resourceVersion":"41"},"data":{"ClusterConfiguration":"kind: ClusterConfiguration\n"}}"#;
        let conflict = r#"{"kind":"Status","message":"the object has been modified"}"#;
        let (fake, api) = fake(move |seen| match (seen.method.as_str(), seen.earlier) {
            ("GET", _) => text(200, stored),
            (_, 1) => text(200, "{}"),
            _ => text(409, conflict),
        })
        .await?;
        let found = api.kubeadm_configuration().await;
        let expected =
            KubeadmConfigMap { text: "kind: ClusterConfiguration\n".to_owned(), resource_version: "41".to_owned() };
        assert_eq!(found, Probe::Present(expected));
        api.replace_kubeadm_configuration("new\n", "41").await?;
        let refused = api.replace_kubeadm_configuration("new\n", "41").await.err().ok_or("no conflict")?;
        assert!(
            refused.reason().ends_with(
                "answered 409: somebody else has changed it meanwhile (left as they made it); it is looked at again: the object has been \
                 modified"
            ),
            "{}",
            refused.reason()
        );
        let patch = fake.seen().into_iter().nth(1).ok_or("no patch")?;
        assert_eq!(
            (patch.method.as_str(), &patch.headers["content-type"]),
            ("PATCH", &"application/merge-patch+json".parse()?)
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&patch.body)?,
            serde_json::json!({"metadata": {"resourceVersion": "41"}, "data": {"ClusterConfiguration": "new\n"}})
        );
        Ok(())
    }

    #[test]
    fn audience_is_one_string_or_a_list() {
        for (aud, expected) in [(r#""a""#, vec!["a"]), (r#"["a","b"]"#, vec!["a", "b"]), ("[]", vec![])] {
            let token = token(r#"{"kid":"k"}"#, &format!(r#"{{"iss":"i","aud":{aud}}}"#));
            assert_eq!(decode(&token).map(|token| token.aud), Some(expected.into_iter().map(str::to_owned).collect()));
        }
    }

    #[test]
    fn start_time_is_a_real_time() {
        assert_eq!(timestamp("1.79523401582e+09").map(|t| t.to_string()), Some("2026-11-21T04:06:55.82Z".to_owned()));
        for text in ["", "0", "-1", "NaN", "+Inf", "1e300", "1.79 7"] {
            assert_eq!(timestamp(text), None, "{text:?}");
        }
    }
}
