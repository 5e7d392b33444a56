//! The cloud of these tests refuses what AWS refuses: otherwise the other tests prove nothing.

use std::{fs, sync::Arc};

use hyper::Method;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use irsad::model::{keyring_bucket::KeyringBucket, region::Partition};

use crate::{
    alone::block_on,
    cloud::{
        ACCOUNT, Cloud,
        client::{send, signed},
    },
};

fn owner(account: &str) -> (&'static str, String) {
    ("x-amz-expected-bucket-owner", account.to_owned())
}

fn form() -> (&'static str, String) {
    ("content-type", "application/x-www-form-urlencoded".to_owned())
}

async fn ask(cloud: &Cloud, method: Method, target: &str, headers: &[(&str, String)], body: &str) -> (u16, String) {
    let address = cloud.endpoint_url().replace("http://", "");
    let stream = TcpStream::connect(&address).await.expect("the cloud listens");
    send(stream, &address, method, target, headers, body).await
}

/// An anonymous GET as a stranger sends it: through the proxy, to the real host name, over TLS.
async fn get_as_a_stranger(cloud: &Cloud, host: &str, path: &str) -> (u16, String) {
    let (stream, head) = tunnel(&cloud.proxy_url().replace("http://", ""), host).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cloud.authority_pem()).expect("a CA")).expect("a CA certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("TLS versions");
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).expect("a host name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a certificate for the host");
    send(stream, host, Method::GET, path, &[], "").await
}

/// A connection through the proxy to the port of HTTPS, and the proxy's answer.
async fn tunnel(proxy: &str, host: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy listens");
    let request = format!("CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the proxy answers"));
    }
    (stream, String::from_utf8_lossy(&head).into_owned())
}

async fn create_bucket(cloud: &Cloud, bucket: &str) {
    let body =
        "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let (status, body) = ask(cloud, Method::PUT, &format!("/{bucket}"), &[signed("s3")], body).await;
    assert_eq!(status, 200, "{body}");
}

/// Block Public Access with the last two flags as given.
async fn block(cloud: &Cloud, bucket: &str, policy: bool, restrict: bool) {
    let body = format!(
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>\
         <BlockPublicPolicy>{policy}</BlockPublicPolicy><RestrictPublicBuckets>{restrict}</RestrictPublicBuckets></PublicAccessBlockConfiguration>"
    );
    let headers = [signed("s3"), owner(ACCOUNT)];
    let (status, body) = ask(cloud, Method::PUT, &format!("/{bucket}?publicAccessBlock"), &headers, &body).await;
    assert_eq!(status, 200, "{body}");
}

#[test]
fn stranger_reads_only_what_policy_and_block_allow() {
    let Some(cloud) = Cloud::start() else { return };
    block_on(async {
        let (host, headers) = ("strangers.s3.eu-west-1.amazonaws.com", [signed("s3"), owner(ACCOUNT)]);
        create_bucket(&cloud, "strangers").await;
        for key in ["open", "closed", ".well-known/openid-configuration"] {
            let (status, body) = ask(&cloud, Method::PUT, &format!("/strangers/{key}"), &headers, key).await;
            assert_eq!(status, 200, "{body}");
        }
        // The objects were put without condition and checksum.
        assert_eq!(cloud.take_violations().len(), 6);
        let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "s3:GetObject",
            "Resource": ["arn:aws:s3:::strangers/open", "arn:aws:s3:::strangers/missing", "arn:aws:s3:::strangers/.well-known/openid-configuration"]}]}"#;
        let discovery = "/.well-known/openid-configuration";
        for path in ["/open", discovery] {
            assert_eq!(get_as_a_stranger(&cloud, host, path).await.0, 403, "no policy");
        }
        let (status, body) = ask(&cloud, Method::PUT, "/strangers?policy", &headers, policy).await;
        assert!(status == 403 && body.contains("BlockPublicPolicy"), "{status} {body}");
        block(&cloud, "strangers", false, false).await;
        let (status, body) = ask(&cloud, Method::PUT, "/strangers?policy", &headers, policy).await;
        assert!(status < 300, "{status} {body}");
        assert_eq!(get_as_a_stranger(&cloud, host, "/open").await, (200, "open".to_owned()));
        assert_eq!(get_as_a_stranger(&cloud, host, discovery).await, (200, discovery[1..].to_owned()));
        assert_eq!(get_as_a_stranger(&cloud, host, "/closed").await.0, 403, "not in the policy");
        assert_eq!(get_as_a_stranger(&cloud, host, "/missing").await.0, 403, "may not list");
        block(&cloud, "strangers", false, true).await;
        assert_eq!(get_as_a_stranger(&cloud, host, "/open").await.0, 403, "restricted");
        assert_eq!(cloud.requests("AnonymousGet"), 7);
        assert_eq!(ask(&cloud, Method::PUT, "/strangers/open", &[], "mine now").await.0, 403);
        assert_eq!(cloud.take_violations(), [r#"PUT of "/strangers/open" without credentials"#]);
    });
}

#[test]
fn call_without_the_right_owner_is_refused() {
    let Some(cloud) = Cloud::start() else { return };
    block_on(async {
        create_bucket(&cloud, "owners").await;
        let with = |account: &str| [signed("s3"), owner(account)];
        assert_eq!(ask(&cloud, Method::GET, "/owners?list-type=2", &with(ACCOUNT), "").await.0, 200);
        assert_eq!(ask(&cloud, Method::GET, "/owners?list-type=2", &with("999999999999"), "").await.0, 403);
        assert_eq!(cloud.take_violations(), Vec::<String>::new());
        assert_eq!(ask(&cloud, Method::GET, "/owners?list-type=2", &[signed("s3")], "").await.0, 403);
        assert_eq!(
            cloud.take_violations(),
            [r#"ListObjectsV2 of "/owners?list-type=2" without expected bucket owner"#]
        );
        cloud.give_away("owners");
        assert_eq!(ask(&cloud, Method::GET, "/owners?list-type=2", &with(ACCOUNT), "").await.0, 403);
    });
}

#[test]
fn region_is_not_named_where_s3_takes_none() {
    let Some(cloud) = Cloud::start() else { return };
    block_on(async {
        let constraint = |region: &str| {
            format!(
                "<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            )
        };
        for (region, body, code) in [
            ("us-east-1", constraint("us-east-1"), "InvalidLocationConstraint"),
            ("eu-west-1", String::new(), "IllegalLocationConstraintException"),
            ("eu-west-1", constraint("eu-central-1"), "IllegalLocationConstraintException"),
        ] {
            let (name, value) = signed("s3");
            let headers = [(name, value.replace("eu-west-1", region))];
            let (status, answer) = ask(&cloud, Method::PUT, "/regions", &headers, &body).await;
            assert!(status == 400 && answer.contains(code), "{region} {body}: {status} {answer}");
        }
    });
}

#[test]
fn provider_without_tls_or_tags_is_noticed() {
    let Some(cloud) = Cloud::start() else { return };
    block_on(async {
        let form = [signed("iam"), form()];
        let create = "Action=CreateOpenIDConnectProvider&Version=2010-05-08&ClientIDList.member.1=a&Url=";
        let untagged = format!("{create}http%3A%2F%2Frules.example.com");
        assert_eq!(ask(&cloud, Method::POST, "/", &form, &untagged).await.0, 400);
        assert_eq!(cloud.take_violations(), ["CreateOpenIDConnectProvider without tags"]);
        let tagged = format!("{create}https%3A%2F%2Frules.example.com&Tags.member.1.Key=a&Tags.member.1.Value=b");
        assert_eq!(ask(&cloud, Method::POST, "/", &form, &tagged).await.0, 200);
    });
}

/// What moto lets through: a disabled key, and a ciphertext that chooses its key or has no context.
#[test]
fn data_key_without_its_bindings_is_noticed_and_a_disabled_key_is_refused() {
    let Some(cloud) = Cloud::start() else { return };
    block_on(async {
        let asked = async |operation: &str, body: &str| {
            let headers = [signed("kms"), ("x-amz-target", format!("TrentService.{operation}"))];
            ask(&cloud, Method::POST, "/", &headers, body).await
        };
        let made = asked("CreateKey", "{}").await.1;
        let id = made.split_once("\"KeyId\": \"").map_or("", |(_, rest)| &rest[..36]).to_owned();
        let context = r#""EncryptionContext": {"app": "irsad", "cluster": "a", "kid": "b"}"#;
        let whole = format!(r#"{{"KeyId": "{id}", "KeySpec": "AES_256", {context}}}"#);
        assert_eq!(asked("GenerateDataKey", &whole).await.0, 200);
        assert_eq!(cloud.take_violations(), Vec::<String>::new());
        let unbound = whole.replace(context, r#""EncryptionContext": {"app": "irsad"}"#);
        assert_eq!(asked("GenerateDataKey", &unbound).await.0, 200);
        assert_eq!(cloud.take_violations(), ["GenerateDataKey without the encryption context"]);
        asked("Decrypt", &format!(r#"{{"CiphertextBlob": "AAAA", {context}}}"#)).await;
        assert_eq!(cloud.take_violations(), ["Decrypt without the KMS key, so that the ciphertext chooses it"]);
        assert_eq!(asked("DisableKey", &format!(r#"{{"KeyId": "{id}"}}"#)).await.0, 200);
        let (status, answer) = asked("GenerateDataKey", &whole).await;
        assert!(status == 400 && answer.contains("DisabledException"), "{status} {answer}");
    });
}

#[test]
fn private_key_that_is_not_sealed_is_noticed_in_a_bucket() {
    let Some(cloud) = Cloud::start() else { return };
    block_on(async {
        create_bucket(&cloud, "unsealed").await;
        let checksum = ("x-amz-checksum-sha256", "q1s=".to_owned());
        let headers = [signed("s3"), owner(ACCOUNT), ("if-none-match", "*".to_owned()), checksum];
        ask(&cloud, Method::PUT, "/unsealed/keys/kid", &headers, &format!("-----BEGIN {} KEY-----", "PRIVATE")).await;
        let noticed = r#"PutObject of "/unsealed/keys/kid" with a private key that is not sealed"#;
        assert_eq!(cloud.take_violations(), [noticed]);
    });
}

#[test]
fn folder_is_served_by_the_name_of_its_host() {
    let Some(cloud) = Cloud::start() else { return };
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("jwks"), "{}").expect("a file");
    cloud.serve_folder("oidc.example.com", folder.path());
    block_on(async {
        assert_eq!(get_as_a_stranger(&cloud, "oidc.example.com", "/jwks").await, (200, "{}".to_owned()));
        assert_eq!(get_as_a_stranger(&cloud, "oidc.example.com", "/other").await.0, 404);
    });
}

#[test]
fn client_that_is_cut_off_still_has_its_instance_metadata_and_others_have_everything() {
    let Some(cloud) = Cloud::start() else { return };
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("jwks"), "{}").expect("a file");
    cloud.serve_folder("oidc.example.com", folder.path());
    let door = cloud.another_door();
    let proxy = cloud.environment_through(&door).into_iter().find(|(name, _)| *name == "HTTPS_PROXY");
    let address = proxy.map(|(_, url)| url.replace("http://", "")).unwrap_or_default();
    block_on(async {
        assert!(tunnel(&address, "oidc.example.com").await.1.starts_with("HTTP/1.1 200"));
        door.cut_off(true);
        assert!(tunnel(&address, "oidc.example.com").await.1.starts_with("HTTP/1.1 502"));
        assert_eq!(get_as_a_stranger(&cloud, "oidc.example.com", "/jwks").await.0, 200);
        let stream = TcpStream::connect(&address).await.expect("the door listens");
        assert_eq!(send(stream, &address, Method::PUT, "/latest/api/token", &[], "").await.0, 200);
        door.cut_off(false);
        assert!(tunnel(&address, "oidc.example.com").await.1.starts_with("HTTP/1.1 200"));
    });
    assert_eq!(door.requests().into_iter().collect::<Vec<_>>(), [("InstanceMetadata".to_owned(), 1)]);
}

#[test]
fn policy_of_a_keyring_lets_keys_be_created_only_and_nothing_be_deleted() {
    let Some(cloud) = Cloud::start() else { return };
    block_on(async {
        let headers = [signed("s3"), owner(ACCOUNT)];
        create_bucket(&cloud, "keyring-rules").await;
        let bucket = "keyring-rules".parse().expect("a bucket name");
        let place = KeyringBucket { partition: Partition::Commercial, bucket: &bucket, prefix: "prod-1" };
        let policy = place.policy(None, "Irsadprod").expect("a policy").expect("a text");
        assert_eq!(ask(&cloud, Method::PUT, "/keyring-rules?policy", &headers, &policy).await.0, 200);
        let (new, same) = (("if-none-match", "*".to_owned()), ("if-match", "\"0\"".to_owned()));
        for (method, object, condition, status) in [
            (Method::PUT, "prod-1/keys/kid", None, 403),
            (Method::PUT, "prod-1/keys/kid", Some(&new), 200),
            (Method::PUT, "prod-1/keys/kid", Some(&new), 412),
            (Method::PUT, "prod-1/keys/kid", Some(&same), 403),
            (Method::PUT, "prod-1/state.json", None, 403),
            (Method::PUT, "prod-1/state.json", Some(&new), 200),
            (Method::PUT, "prod-1/state.json", Some(&same), 412),
            (Method::DELETE, "prod-1/state.json", None, 403),
            (Method::DELETE, "prod-1/keys/kid?versionId=null", None, 403),
            (Method::PUT, "prod-2/keys/kid", Some(&new), 200),
            (Method::DELETE, "prod-2/keys/kid", None, 204),
        ] {
            let headers: Vec<_> = headers.iter().chain(condition).cloned().collect();
            let answer = ask(&cloud, method.clone(), &format!("/keyring-rules/{object}"), &headers, "").await;
            assert_eq!(answer.0, status, "{method} {object} {condition:?}: {}", answer.1);
        }
        // Those that were not denied had no checksum.
        assert_eq!(cloud.take_violations().len(), 5);
    });
}
