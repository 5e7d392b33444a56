//! `examples/terraform`: its policies as Terraform itself works them out, and its files as far as they can be checked without a provider.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cloud::ACCOUNT,
    irsad::{Machine, Result, copy, project},
};

const FOLDERS: [&str; 3] = ["", "policies", "cloudfront"];
const ROLE: &str = "arn:aws:iam::123456789012:role/prod-1-control-plane";
const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn example() -> PathBuf {
    project().join("examples/terraform")
}

/// `terraform` or `tofu`; none, and said, where this machine has neither.
fn terraform() -> Option<String> {
    let found = env::var("IRSAD_TEST_TERRAFORM").ok();
    if found.is_none() {
        crate::missing("terraform", "IRSAD_TEST_TERRAFORM is not set");
    }
    found
}

/// Terraform in `folder`, which asks nobody on the network.
fn run(program: &str, folder: &Path, arguments: &[&str]) -> Result<Output> {
    let own = TempDir::new()?;
    let configuration = own.path().join("terraformrc");
    fs::write(&configuration, "provider_installation {\n  filesystem_mirror { path = \"/nonexistent\" }\n}\n")?;
    let mut command = Command::new(program);
    command.env("CHECKPOINT_DISABLE", "1").env("TF_CLI_CONFIG_FILE", &configuration).env("TF_IN_AUTOMATION", "1");
    Ok(command.arg(format!("-chdir={}", folder.display())).args(arguments).output()?)
}

fn done(program: &str, folder: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = run(program, folder, arguments)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The module's outputs, each a policy.
fn policies(program: &str, variables: &[(&str, &str)]) -> Result<Value> {
    let folder = TempDir::new()?;
    copy(&example().join("policies"), folder.path())?;
    done(program, folder.path(), &["init", "-input=false"])?;
    done(program, folder.path(), &["validate"])?;
    let given: Vec<String> = variables.iter().map(|(name, value)| format!("-var={name}={value}")).collect();
    let given = given.iter().map(String::as_str);
    let apply: Vec<&str> = ["apply", "-auto-approve", "-input=false"].into_iter().chain(given).collect();
    done(program, folder.path(), &apply)?;
    Ok(serde_json::from_slice(&done(program, folder.path(), &["output", "-json"])?)?)
}

#[test]
fn policies_of_the_module_are_those_that_irsad_prints() -> Result {
    let Some(program) = terraform() else { return Ok(()) };
    let own = "https://prod-1-oidc.s3.eu-west-1.amazonaws.com";
    let front = "https://oidc.example.com/prod-1";
    let keyring = format!("keyring: {{ store: \"s3://prod-1-keys\", kmsKey: \"{KEY}\" }}\n");
    let external =
        format!("issuer: {{ store: \"s3://prod-1-oidc\", createBucket: false, access: external, url: \"{front}\" }}\n");
    let open = "issuer: { store: \"s3://prod-1-oidc\", createBucket: false }\n";
    let list = "list: [{ serviceAccount: checkout, namespace: shop, policies: [AmazonSQSFullAccess] }]";
    let roles = format!("{open}roles: {{ mode: list, {list} }}\n");
    let boundary = "arn:aws:iam::123456789012:policy/apps";
    let bound = format!("{open}{keyring}roles: {{ mode: list, permissionsBoundary: \"{boundary}\", {list} }}\n");
    for (configuration, issuer, is_irsads, keyring, has_roles, boundary) in [
        (roles, own, "true", "", "true", ""),
        (bound, own, "true", "prod-1-keys", "true", boundary),
        (format!("{external}provider: {{ manage: false }}\n{keyring}"), front, "false", "prod-1-keys", "false", ""),
    ] {
        let machine = Machine::quickstart()?;
        let start = "version: 1\ncluster: prod-1\naws: { region: eu-west-1 }\n";
        machine.write("/etc/irsad/irsad.yaml", &format!("{start}{configuration}"))?;
        let given = [
            ("partition", "aws"),
            ("account_id", ACCOUNT),
            ("cluster", "prod-1"),
            ("documents_bucket_name", "prod-1-oidc"),
            ("issuer", issuer),
            ("irsad_makes_provider", is_irsads),
            ("keyring_bucket_name", keyring),
            ("kms_key_arn", KEY),
            ("manages_roles", has_roles),
            ("roles_boundary_arn", boundary),
            ("role_arn", ROLE),
        ];
        let found = policies(&program, &given)?;
        for part in ["node", "leader", "documents-bucket", "keyring-bucket", "kms-key"] {
            let said = machine.run(&["iam-policy", "--account", ACCOUNT, "--part", part, "--role", ROLE])?;
            assert_eq!(said.code, Some(0), "{said:?}");
            // Where irsad needs none, the resource has no policy either.
            if said.stdout.is_empty() {
                continue;
            }
            let printed: Value = serde_json::from_str(&said.stdout)?;
            let text = found[part.replace('-', "_")]["value"].as_str().ok_or("an output")?;
            assert_eq!(serde_json::from_str::<Value>(text)?, printed, "{part} of {configuration}");
        }
    }
    Ok(())
}

#[test]
fn files_are_laid_out_as_terraform_does_it() -> Result {
    let Some(program) = terraform() else { return Ok(()) };
    done(&program, &example(), &["fmt", "-check", "-diff", "-recursive"])?;
    Ok(())
}

/// What tests/terraform/check says of the example with `from` replaced by `to` in its file `name`.
fn checked(name: &str, from: &str, to: &str) -> Result<Option<String>> {
    let Ok(python) = env::var("IRSAD_TEST_PYTHON") else {
        crate::missing("python-hcl2", "IRSAD_TEST_PYTHON is not set");
        return Ok(None);
    };
    let folder = TempDir::new()?;
    copy(&example(), folder.path())?;
    let path = folder.path().join(name);
    let text = fs::read_to_string(&path)?;
    assert!(text.contains(from), "{name} has no {from}");
    fs::write(&path, text.replacen(from, to, 1))?;
    let output = Command::new(python)
        .arg(project().join("tests/terraform/check"))
        .args(FOLDERS.map(|it| folder.path().join(it)))
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.success(), said.is_empty());
    Ok(Some(String::from_utf8(said)?.replace(&folder.path().display().to_string(), "")))
}

#[test]
fn resources_have_the_arguments_that_the_provider_takes_and_refer_to_what_is_declared() -> Result {
    for (file, from, to, mistake) in [
        ("main.tf", "", "", ""),
        (
            "main.tf",
            "sse_algorithm",
            "algorithm",
            "documents.rule.apply_server_side_encryption_by_default takes no argument algorithm",
        ),
        (
            "main.tf",
            "  bucket = aws_s3_bucket.documents.id\n",
            "",
            "aws_s3_bucket_server_side_encryption_configuration.documents lacks bucket",
        ),
        (
            "main.tf",
            "versioning_configuration {",
            "versioning {",
            "aws_s3_bucket_versioning.keyring takes no block versioning",
        ),
        ("main.tf", "var.issuer_url", "var.issuer", "nothing declares var.issuer"),
        (
            "main.tf",
            "aws_s3_bucket.documents.id",
            "aws_s3_bucket.document.id",
            "nothing declares aws_s3_bucket.document",
        ),
        (
            "main.tf",
            "aws_kms_key.sealing[0].key_id",
            "aws_kms_key.sealing[0].name",
            "aws_kms_key has no attribute name",
        ),
        ("main.tf", "module.policies.node", "module.policies.nodes", "module policies has no output nodes"),
        ("main.tf", "  cluster               = var.cluster\n", "", "module policies lacks cluster"),
        (
            "cloudfront/main.tf",
            "aws_cloudfront_distribution\"",
            "aws_cloudfront_site\"",
            "aws_cloudfront_site.issuer is of no type that is known here",
        ),
    ] {
        let Some(said) = checked(file, from, to)? else { return Ok(()) };
        assert!(said.contains(mistake) && said.is_empty() == mistake.is_empty(), "{mistake}: {said}");
    }
    Ok(())
}
