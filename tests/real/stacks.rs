//! The stacks of `examples/`: their policies are the ones that irsad prints, they let in nobody else, and irsad works with what they make.

use std::{env, fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    cloud::{ACCOUNT, Cloud, moto_address},
    irsad::{Machine, Result, project},
};

const CONFIG: &str = "/etc/irsad/irsad.yaml";
const DISCOVERY: &str = ".well-known/openid-configuration";
const JWKS: &str = "openid/v1/jwks";

/// A stack in moto, and what stands there.
struct Stack {
    outputs: Value,
    resources: Value,
}

impl Stack {
    /// `template` below `examples/`, made with `parameters`.
    fn create(cloud: &Cloud, template: &str, parameters: &[&str]) -> Result<Self> {
        let name = template.replace(['/', '.'], "-") + &parameters.concat().replace(|c: char| !c.is_alphanumeric(), "");
        let output = Command::new(python()?)
            .arg(project().join("tests/real/stack.py"))
            .args(["--stack", &name, "--moto", &format!("http://{}", moto_address()?), "--aws", &cloud.endpoint_url()])
            .arg(project().join("examples").join(template))
            .args(parameters)
            .output()?;
        if !output.status.success() {
            return Err(format!("{template}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let mut found: Value = serde_json::from_slice(&output.stdout)?;
        // What the tests' door to moto notes as broken rules is irsad's to keep, not a stack's.
        cloud.take_violations();
        Ok(Self { outputs: found["outputs"].take(), resources: found["resources"].take() })
    }

    fn output(&self, name: &str) -> Result<&str> {
        Ok(self.outputs[name].as_str().ok_or_else(|| format!("no output {name} in {}", self.outputs))?)
    }
}

fn python() -> Result<String> {
    Ok(env::var("IRSAD_TEST_PYTHON")?)
}

/// A machine before its first API server with that configuration.
fn machine(cloud: &Cloud, configuration: &str) -> Result<Machine> {
    let mut machine = Machine::quickstart()?;
    cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
    machine.write(CONFIG, &format!("version: 1\naws: {{ region: eu-west-1 }}\n{configuration}"))?;
    Ok(machine)
}

/// What `irsad iam-policy` prints; `None` where it says that there is nothing to allow.
fn printed(machine: &Machine, part: &str, more: &[&str]) -> Result<Option<Value>> {
    let said = machine.run(&[&["iam-policy", "--account", ACCOUNT, "--part", part], more].concat())?;
    assert_eq!(said.code, Some(0), "{said:?}");
    if said.stdout.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&said.stdout)?)) }
}

/// The stack's policies, each beside the one that irsad prints for `configuration`.
fn assert_policies(cloud: &Cloud, stack: &Stack, configuration: &str) -> Result {
    let machine = machine(cloud, configuration)?;
    let resources = &stack.resources;
    let role = stack.output("ControlPlaneRoleArn")?;
    let of_role: &[&str] = &["--role", role];
    for (part, more, found) in [
        ("node", &[][..], &resources["NodePolicy"]["document"]),
        ("leader", &[], &resources["LeaderPolicy"]["document"]),
        ("documents-bucket", &[], &resources["DocumentsBucket"]["policy"]),
        ("keyring-bucket", of_role, &resources["KeyringBucket"]["policy"]),
        ("kms-key", of_role, &resources["SealingKey"]["document"]),
    ] {
        assert_eq!(printed(&machine, part, more)?.unwrap_or(Value::Null), *found, "--part {part} of {configuration}");
    }
    let name = role.rsplit('/').next().unwrap_or_default();
    for policy in ["NodePolicy", "LeaderPolicy"] {
        assert_eq!(resources[policy]["roles"], json!([name]), "{policy}");
    }
    Ok(())
}

#[test]
fn stack_of_the_documents_alone_has_the_policies_that_irsad_prints() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let parameters = ["Cluster=stack-one", "DocumentsBucketName=stack-one-oidc"];
    let stack = Stack::create(&cloud, "cloudformation/irsad.yaml", &parameters)?;
    assert_eq!(stack.output("Issuer")?, "https://stack-one-oidc.s3.eu-west-1.amazonaws.com");
    let issuer = "cluster: stack-one\nissuer: { store: \"s3://stack-one-oidc\", createBucket: false }\n";
    assert_policies(&cloud, &stack, issuer)?;
    let block = json!({
        "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": false, "RestrictPublicBuckets": false,
    });
    assert_eq!(stack.resources["DocumentsBucket"]["publicAccessBlock"], block);
    assert_eq!(stack.resources["KeyringBucket"], Value::Null);
    Ok(())
}

#[test]
fn leader_makes_roles_below_its_path_and_within_the_boundary_only() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let boundary = format!("arn:aws:iam::{ACCOUNT}:policy/apps");
    let list = "list: [{ serviceAccount: checkout, namespace: shop, policies: [AmazonSQSFullAccess] }]";
    for (cluster, boundary) in [("stack-roles", ""), ("stack-bound", boundary.as_str())] {
        let parameters = [
            format!("Cluster={cluster}"),
            format!("DocumentsBucketName={cluster}-oidc"),
            "Roles=manage".to_owned(),
            format!("RolesBoundaryArn={boundary}"),
        ];
        let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
        let stack = Stack::create(&cloud, "cloudformation/irsad.yaml", &parameters)?;
        let bound = if boundary.is_empty() { String::new() } else { format!("permissionsBoundary: \"{boundary}\", ") };
        let configuration = format!(
            "cluster: {cluster}\nissuer: {{ store: \"s3://{cluster}-oidc\", createBucket: false }}\n\
             roles: {{ mode: list, {bound}{list} }}\n"
        );
        assert_policies(&cloud, &stack, &configuration)?;
    }
    Ok(())
}

#[test]
fn stack_for_documents_that_somebody_else_serves_keeps_its_bucket_closed() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let first = Stack::create(
        &cloud,
        "cloudformation/irsad.yaml",
        &["Cluster=stack-role", "DocumentsBucketName=stack-role-oidc"],
    )?;
    let role = first.output("ControlPlaneRoleArn")?.rsplit('/').next().ok_or("a name")?.to_owned();
    let parameters = [
        "Cluster=stack-two",
        "DocumentsBucketName=stack-two-oidc",
        "DocumentsAccess=external",
        "IssuerUrl=https://oidc.example.com/stack-two",
        "OidcProvider=stack",
        &format!("ControlPlaneRoleName={role}"),
    ];
    let stack = Stack::create(&cloud, "cloudformation/irsad.yaml", &parameters)?;
    let issuer = "cluster: stack-two\nissuer: { store: \"s3://stack-two-oidc\", createBucket: false, access: external, \
                  url: \"https://oidc.example.com/stack-two\" }\nprovider: { manage: false }\n";
    assert_eq!(stack.output("ControlPlaneRoleArn")?, first.output("ControlPlaneRoleArn")?);
    assert_policies(&cloud, &stack, issuer)?;
    let block = json!({
        "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": true,
    });
    assert_eq!(stack.resources["DocumentsBucket"]["publicAccessBlock"], block);
    let provider = json!({ "url": "oidc.example.com/stack-two", "audiences": ["sts.amazonaws.com"] });
    assert_eq!(stack.resources["Provider"], provider);
    assert_eq!(stack.resources["ControlPlaneInstanceProfile"], Value::Null, "that role has one");
    Ok(())
}

#[test]
fn irsad_works_with_the_buckets_and_the_key_of_a_stack_and_changes_none_of_their_settings() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let parameters = ["Cluster=stack-run", "DocumentsBucketName=stack-run-oidc", "KeyringBucketName=stack-run-keys"];
    let stack = Stack::create(&cloud, "cloudformation/irsad.yaml", &parameters)?;
    let configuration = format!(
        "cluster: stack-run\nissuer: {{ store: \"s3://stack-run-oidc\", createBucket: false }}\n\
         keyring: {{ store: \"s3://stack-run-keys\", kmsKey: \"{}\" }}\n",
        stack.output("SealingKeyArn")?
    );
    assert_policies(&cloud, &stack, &configuration)?;
    let keyring = &stack.resources["KeyringBucket"];
    assert_eq!((&keyring["versioning"], &keyring["encryption"]), (&json!("Enabled"), &json!("AES256")));
    assert_eq!(stack.resources["SealingKey"]["rotates"], json!(true));

    let settings = || -> usize {
        let changes = ["CreateBucket", "PutBucketPolicy", "PutPublicAccessBlock", "PutBucketVersioning"];
        changes.iter().map(|operation| cloud.requests(operation)).sum()
    };
    let before = settings();
    // Nodes may not ask for them where the documents' bucket is set up by somebody else (see the node policy of `assert_policies`).
    let looks = || ["GetBucketPolicy", "GetPublicAccessBlock"].map(|operation| cloud.requests(operation));
    let (without_keyring, keyring) = configuration.split_once("keyring:").ok_or("a keyring")?;
    let machine = machine(&cloud, without_keyring)?;
    let looked = looks();
    // Before there is an API server, a node publishes what lies on its disk, and shares it once it has a keyring.
    for (more, is_asked) in [("", false), (&*format!("keyring:{keyring}"), true)] {
        machine.write("/etc/irsad/irsad.d/keyring.yaml", more)?;
        let said = machine.run(&["run", "--once"])?;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(looks() != looked, is_asked, "of the keyring's bucket alone: {:?}", cloud.all_requests());
    }
    assert_eq!(settings(), before, "{:?}", cloud.all_requests());
    let status = machine.run(&["plan"])?;
    assert!(status.stdout.contains("nothing to do"), "{status:?}");
    assert!(!status.stdout.contains("yours to set up"), "nothing is left open: {}", status.stdout);
    for (bucket, key) in [("stack-run-oidc", JWKS), ("stack-run-oidc", DISCOVERY), ("stack-run-keys", "state.json")] {
        assert!(exists(&cloud, bucket, key)?, "{bucket}/{key}");
    }
    assert_eq!(cloud.requests("CreateOpenIDConnectProvider"), 1);
    assert!(cloud.requests("GenerateDataKey") > 0, "private keys are sealed: {:?}", cloud.all_requests());
    Ok(())
}

#[test]
fn distribution_alone_reads_the_two_documents_of_a_closed_bucket_by_tls_and_keeps_no_copy() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let bucket = "DocumentsBucketName=stack-front-oidc";
    let parameters =
        ["Cluster=stack-front", bucket, "DocumentsAccess=external", "IssuerUrl=https://oidc.front.example"];
    Stack::create(&cloud, "cloudformation/irsad.yaml", &parameters)?;
    let certificate = format!("CertificateArn=arn:aws:acm:us-east-1:{ACCOUNT}:certificate/1234abcd");
    let parameters = ["Cluster=stack-front", bucket, "DomainName=oidc.front.example", &certificate];
    let stack = Stack::create(&cloud, "cloudfront/cloudfront.yaml", &parameters)?;
    assert_eq!(stack.output("Issuer")?, "https://oidc.front.example");
    let (distribution, bucket) = (&stack.resources["Distribution"], &stack.resources["DocumentsBucketPolicy"]);
    let control = &distribution["accessControl"];
    assert_eq!(
        (&control["SigningBehavior"], &control["OriginAccessControlOriginType"]),
        (&json!("always"), &json!("s3"))
    );
    let behavior = &distribution["config"]["DefaultCacheBehavior"];
    assert_eq!(behavior["ViewerProtocolPolicy"], "https-only");
    // Managed policy CachingDisabled (Amazon CloudFront developer guide, "Use managed cache policies").
    assert_eq!(behavior["CachePolicyId"], "4135ea2d-6df8-44a3-9df3-4b5a84be39ad");
    assert_eq!(distribution["config"]["Aliases"]["Items"], json!(["oidc.front.example"]));

    let block = json!({
        "BlockPublicAcls": true, "IgnorePublicAcls": true, "BlockPublicPolicy": true, "RestrictPublicBuckets": true,
    });
    assert_eq!(bucket["publicAccessBlock"], block);
    let documents = [DISCOVERY, JWKS].map(|key| format!("arn:aws:s3:::stack-front-oidc/{key}"));
    let expected = json!({
        "Sid": "CloudFront", "Effect": "Allow", "Principal": { "Service": "cloudfront.amazonaws.com" },
        "Action": "s3:GetObject", "Resource": documents,
        "Condition": { "StringEquals": { "aws:SourceArn": distribution["arn"] } },
    });
    let statements = bucket["policy"]["Statement"].as_array().ok_or("a list")?;
    assert_eq!(statements[0], expected);
    assert!(statements[1..].iter().all(|statement| statement["Effect"] == "Deny"), "{statements:?}");
    Ok(())
}

/// Whether the bucket's owner finds the object.
fn exists(cloud: &Cloud, bucket: &str, key: &str) -> Result<bool> {
    let look = "import boto3, sys\n\
                keys = dict(aws_access_key_id='test', aws_secret_access_key='test', region_name='eu-west-1')\n\
                s3 = boto3.client('s3', endpoint_url=sys.argv[1], **keys)\n\
                print(s3.list_objects_v2(Bucket=sys.argv[2], Prefix=sys.argv[3])['KeyCount'])\n";
    let moto = format!("http://{}", moto_address()?);
    let output = Command::new(python()?).args(["-c", look, &moto, bucket, key]).output()?;
    cloud.take_violations();
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "1")
}

#[test]
fn what_verifiers_and_private_keys_need_stays_when_the_stack_goes() -> Result {
    let one = fs::read_to_string(project().join("examples/cloudformation/irsad.yaml"))?;
    let front = fs::read_to_string(project().join("examples/cloudfront/cloudfront.yaml"))?;
    for (template, names) in [
        (&one, &["DocumentsBucket", "DocumentsBucketPolicy", "KeyringBucket", "KeyringBucketPolicy", "SealingKey"][..]),
        (&front, &["AccessControl", "Distribution", "DocumentsBucketPolicy"]),
    ] {
        for name in names {
            let (_, rest) = template.split_once(&format!("\n  {name}:\n")).ok_or("the resource")?;
            let resource = rest.split("\n\n").next().unwrap_or_default();
            for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
                assert!(resource.contains(&format!("\n    {policy}: Retain\n")), "{policy} of {name}");
            }
        }
    }
    Ok(())
}

#[test]
fn templates_are_what_cfn_lint_takes() -> Result {
    let Ok(python) = python() else {
        crate::missing("cfn-lint", "IRSAD_TEST_PYTHON is not set");
        return Ok(());
    };
    for template in ["cloudformation/irsad.yaml", "cloudfront/cloudfront.yaml"] {
        let path = project().join("examples").join(template);
        let lint = Path::new(&python).with_file_name("cfn-lint");
        let output = Command::new(lint).args(["--include-checks", "I", "--"]).arg(path).output()?;
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{template}: {}", String::from_utf8_lossy(&said));
    }
    Ok(())
}
