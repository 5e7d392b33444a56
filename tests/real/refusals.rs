//! irsad as a program against S3 and IAM that refuse, hang or belong to somebody else: one sentence with the cure, nothing written.

use std::time::Duration;

use crate::{
    cloud::{Cloud, Fault},
    irsad::{Machine, Result},
};

const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// The quickstart's node with its documents in `bucket` instead of a folder.
fn machine(cloud: &Cloud, bucket: &str) -> Result<Machine> {
    let mut machine = Machine::quickstart()?;
    cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
    machine.write(
        "/etc/irsad/irsad.yaml",
        &format!("version: 1\ncluster: {bucket}\nissuer: {{ store: \"s3://{bucket}\" }}\n"),
    )?;
    Ok(machine)
}

#[test]
fn image_without_api_server_publishes_to_s3_before_its_manifest_is_changed() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let machine = machine(&cloud, "irsad-image")?;
    let said = machine.run(&["run", "--once"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let done: Vec<&str> = said.stdout.lines().filter(|line| line.starts_with("done: ")).collect();
    let place =
        |what: &str| done.iter().position(|line| line.contains(what)).ok_or(format!("not done: {what}: {done:#?}"));
    let order = [
        place("create bucket irsad-image in eu-west-1 with tag ")?,
        place("let everybody read exactly the two public documents")?,
        place("openid/v1/jwks")?,
        place(".well-known/openid-configuration")?,
        place("replace /etc/kubernetes/manifests/kube-apiserver.yaml")?,
    ];
    assert!(order.is_sorted(), "{done:#?}");
    assert!(place("create the IAM OIDC provider")? > order[3], "{done:#?}");
    assert_eq!(machine.read("/var/lib/irsad/region")?, "eu-west-1\n");
    assert_eq!(machine.run(&["run", "--once"])?.stdout, "nothing to do\n");
    Ok(())
}

#[test]
fn stop_signal_in_the_middle_of_a_write_lets_it_finish_and_begins_no_other() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let machine = machine(&cloud, "irsad-stop")?;
    cloud.fail("PutObject", Fault::Slow(Duration::from_secs(3)), 1);
    let mut daemon = machine.daemon(&[])?;
    crate::irsad::wait_until("the write is under way", || Ok(cloud.requests("PutObject") == 1))?;
    daemon.signal("TERM")?;
    daemon.hears("STOPPING=1", |message| message.contains("STOPPING=1"))?;
    assert_eq!(daemon.ended()?, Some(0), "{}", daemon.log());
    assert!(
        daemon.log().contains("publish https://irsad-stop.s3.eu-west-1.amazonaws.com/openid/v1/jwks"),
        "{}",
        daemon.log()
    );
    assert_eq!(cloud.requests("PutObject"), 1, "another write was begun");
    Ok(())
}

#[test]
fn what_s3_and_iam_refuse_is_said_in_one_sentence_with_the_cure_and_the_manifest_stays() -> Result {
    type Spoil = fn(&Cloud, &str);
    let cases: [(&str, Spoil, &str); 5] = [
        ("irsad-foreign", |cloud, bucket| cloud.give_away(bucket), "account"),
        (
            "irsad-region",
            |cloud, _| {
                for operation in ["HeadBucket", "ListObjectsV2"] {
                    let region = Some("us-east-2".to_owned());
                    cloud.fail(operation, Fault::Redirected { status: 301, region }, 99);
                }
            },
            "us-east-2",
        ),
        (
            "irsad-blocked",
            |cloud, _| {
                let why = "User is not authorized to perform: s3:PutBucketPolicy because public policies are blocked by the \
                           BlockPublicPolicy block public access setting.";
                cloud.fail("PutBucketPolicy", Fault::refused(403, "AccessDenied", why), 99);
            },
            "issuer.access: external",
        ),
        (
            "irsad-denied",
            |cloud, bucket| {
                cloud.fail(
                    "CreateBucket",
                    Fault::not_authorized("s3:CreateBucket", &format!("arn:aws:s3:::{bucket}")),
                    99,
                )
            },
            "irsad iam-policy",
        ),
        (
            "irsad-quota",
            |cloud, _| {
                let why = "Cannot exceed quota for OpenIdConnectProvidersPerAccount: 100";
                cloud.fail("CreateOpenIDConnectProvider", Fault::refused(409, "LimitExceeded", why), 99);
            },
            "100",
        ),
    ];
    for (bucket, spoil, cure) in cases {
        let Some(cloud) = Cloud::start() else { return Ok(()) };
        let machine = machine(&cloud, bucket)?;
        let before = machine.read(MANIFEST)?;
        spoil(&cloud, bucket);
        let said = machine.run(&["run", "--once"])?;
        assert_eq!(said.code, Some(1), "{bucket}: {said:?}");
        let complaint = said.stdout.lines().find(|line| line.starts_with("failed: ") || line.starts_with("waiting"));
        assert!(complaint.is_some_and(|line| line.contains(cure)), "{bucket}: {}", said.stdout);
        // IAM is asked last: there the documents are public and the manifest may follow.
        if bucket != "irsad-quota" {
            assert_eq!(machine.read(MANIFEST)?, before, "{bucket}");
        }
    }
    Ok(())
}

#[test]
fn region_that_the_instance_does_not_tell_is_no_mistake_of_the_configuration() -> Result {
    let mut machine = Machine::quickstart()?;
    machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    machine.write("/etc/irsad/irsad.yaml", "version: 1\ncluster: c\nissuer: { store: \"s3://irsad-no-region\" }\n")?;
    let said = machine.run(&["run", "--once"])?;
    // Exit code 2 would keep systemd from starting the service again.
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.starts_with("irsad: aws.region is not set: cannot learn the region"), "{said:?}");
    // A boot without a network: what the instance told last is enough to follow an open change.
    machine.write("/var/lib/irsad/region", "eu-central-1\n")?;
    let said = machine.run(&["check-config"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("https://irsad-no-region.s3.eu-central-1.amazonaws.com"), "{said:?}");
    Ok(())
}
