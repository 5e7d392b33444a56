//! Roles of service accounts in IAM: made, kept, refused and removed, through the real SDK.

use std::{collections::BTreeSet, error::Error};

use irsad::{
    aws::{self, Endpoints, iam::Iam},
    execute::roles::{self, list},
    model::{
        region::{AccountId, Partition},
        role::{
            Brought, FaultKind, MaxSession, Owner, PolicyArn, Removed, RoleFault, RoleName, RoleRequest, RoleTerms,
            WantedRole, path,
        },
        trust_policy::Subject,
    },
};
use serde_json::{Value, json};

use crate::{
    alone::with_cloud,
    cloud::{ACCOUNT, Cloud, Fault, INSTANCE_REGION, client::call},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Names and values of a query API.
type Parameters<'a> = &'a [(&'a str, &'a str)];

/// As a node that leads.
async fn bring(iam: &Iam, wanted: &WantedRole) -> Result<Brought, RoleFault> {
    roles::bring(iam, wanted, &|| true).await
}

async fn remove(iam: &Iam, name: &RoleName, owner: &Owner) -> Result<Removed, RoleFault> {
    roles::remove(iam, name, owner, &|| true).await
}

const IAM: (&str, &str) = ("Version", "2010-05-08");
const INLINE: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}"#;

/// One cluster in a cloud, with roles of its own: the account is every test's.
struct Bench<'a> {
    cloud: &'a Cloud,
    iam: Iam,
    cluster: &'static str,
}

impl<'a> Bench<'a> {
    async fn new(cloud: &'a Cloud, cluster: &'static str) -> Outcome<Self> {
        let endpoints = Endpoints { all: cloud.endpoint_url(), ..Endpoints::default() };
        let aws = aws::connect(&INSTANCE_REGION.parse()?, endpoints).await;
        Ok(Self { cloud, iam: Iam::new(&aws), cluster })
    }

    fn terms(&self) -> Outcome<RoleTerms> {
        Ok(RoleTerms {
            partition: Partition::Commercial,
            account: ACCOUNT.parse::<AccountId>()?,
            cluster: self.cluster.to_owned(),
            issuers: vec!["https://oidc.example.com/a".parse()?],
            audiences: vec!["sts.amazonaws.com".parse()?],
            boundary: None,
            tags: [("team".to_owned(), "shop".to_owned())].into(),
        })
    }

    fn request(&self, account: &str, policies: &[&PolicyArn]) -> Outcome<RoleRequest> {
        let subject = Subject::new("shop", account)?;
        Ok(RoleRequest {
            name: RoleName::of(&subject, self.cluster),
            owner: Owner::list(self.cluster),
            subjects: vec![subject],
            managed: policies.iter().map(|arn| arn.as_str().parse()).collect::<Result<_, _>>()?,
            inline: Some(INLINE.parse()?),
            max_session: MaxSession::DEFAULT,
        })
    }

    fn role(&self, account: &str, policies: &[&PolicyArn]) -> Outcome<WantedRole> {
        Ok(self.terms()?.role(&self.request(account, policies)?)?)
    }

    /// A managed policy that exists.
    async fn policy(&self, name: &str) -> Outcome<PolicyArn> {
        let name = format!("{}-{name}", self.cluster);
        let parameters = [("Action", "CreatePolicy"), IAM, ("PolicyName", name.as_str()), ("PolicyDocument", INLINE)];
        call("iam", &parameters).await?;
        Ok(format!("arn:aws:iam::{ACCOUNT}:policy/{name}").parse()?)
    }

    /// What an administrator does to a role.
    async fn administer(&self, action: &str, role: &RoleName, more: &[(&str, &str)]) -> Outcome<String> {
        let parameters = [&[("Action", action), IAM, ("RoleName", role.as_str())], more].concat();
        call("iam", &parameters).await
    }

    /// Bringing finds nothing left to do, and writes nothing.
    async fn is_settled(&self, wanted: &WantedRole) -> Outcome {
        let before = self.writes();
        let brought = bring(&self.iam, wanted).await?;
        assert_eq!((brought.done, brought.is_new), (Vec::new(), false));
        assert_eq!(self.writes(), before);
        Ok(())
    }

    fn writes(&self) -> usize {
        let requests = self.cloud.all_requests();
        let reads = |name: &String| name.starts_with("Get") || name.starts_with("List");
        requests.iter().filter(|(name, _)| !reads(name)).map(|(_, times)| times).sum()
    }
}

#[test]
fn role_is_made_with_trust_tags_and_policies_and_then_left_alone() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "made").await?;
        let (one, boundary) = (bench.policy("one").await?, bench.policy("boundary").await?);
        let terms = RoleTerms { boundary: Some(boundary.clone()), ..bench.terms()? };
        let wanted = terms.role(&bench.request("app", &[&one])?)?;
        let brought = bring(&bench.iam, &wanted).await?;
        assert_eq!(brought.arn, format!("arn:aws:iam::{ACCOUNT}:role/irsad/made/app.shop.made"));
        assert!(brought.is_new);
        let done = ["create it", "write its inline policy irsad", "attach arn:aws:iam::123456789012:policy/made-one"];
        assert_eq!(brought.done, done);

        let mut found = bench.iam.role(&wanted.name).await?.ok_or("a role")?;
        bench.iam.add_policies(&mut found).await?;
        assert_eq!((found.path.as_str(), &found.arn), ("/irsad/made/", &brought.arn));
        let trust: Value = serde_json::from_str(&found.trust_policy)?;
        let condition = json!({ "StringEquals": {
            "oidc.example.com/a:aud": "sts.amazonaws.com",
            "oidc.example.com/a:sub": "system:serviceaccount:shop:app",
        }});
        assert_eq!(trust["Statement"][0]["Condition"], condition);
        let tags = [("irsad/cluster", "made"), ("irsad/owner", "list"), ("team", "shop")];
        assert_eq!(found.tags, tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(found.boundary.as_deref(), Some(boundary.as_str()));
        assert_eq!(found.managed, BTreeSet::from([one.to_string()]));
        assert_eq!(serde_json::from_str::<Value>(&found.inline["irsad"])?, serde_json::from_str::<Value>(INLINE)?);
        // No moment in which it is there and not known as ours.
        assert_eq!((cloud.requests("CreateRole"), cloud.requests("TagRole")), (1, 0));
        bench.is_settled(&wanted).await
    });
}

#[test]
fn role_that_was_edited_behind_our_back_is_healed() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "edited").await?;
        let (one, theirs) = (bench.policy("one").await?, bench.policy("theirs").await?);
        let wanted = bench.role("app", &[&one])?;
        bring(&bench.iam, &wanted).await?;
        let open = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
        let detach = [("PolicyArn", one.as_str())];
        let attach = [("PolicyArn", theirs.as_str())];
        let put = [("PolicyName", "theirs"), ("PolicyDocument", INLINE)];
        let overwrite = [("PolicyName", "irsad"), ("PolicyDocument", &INLINE.replace("sqs", "iam"))];
        let delete = [("PolicyName", "irsad")];
        let edits: [(&str, Parameters<'_>, &[&str]); 8] = [
            ("UpdateAssumeRolePolicy", &[("PolicyDocument", open)], &["set its trust policy"]),
            ("DetachRolePolicy", &detach, &["attach arn:aws:iam::123456789012:policy/edited-one"]),
            ("AttachRolePolicy", &attach, &["detach arn:aws:iam::123456789012:policy/edited-theirs"]),
            ("PutRolePolicy", &put, &["delete its inline policy theirs"]),
            ("PutRolePolicy", &overwrite, &["write its inline policy irsad"]),
            ("DeleteRolePolicy", &delete, &["write its inline policy irsad"]),
            ("UpdateRole", &[("MaxSessionDuration", "43200")], &["set its longest session to 3600 s"]),
            ("UntagRole", &[("TagKeys.member.1", "team")], &["put tags on it: team"]),
        ];
        for (edit, parameters, done) in edits {
            bench.administer(edit, &wanted.name, parameters).await?;
            assert_eq!(bring(&bench.iam, &wanted).await?.done, done, "{edit}");
            bench.is_settled(&wanted).await?;
        }
        Ok(())
    });
}

#[test]
fn role_of_someone_else_is_never_touched_and_the_outcome_says_why() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "theirs").await?;
        let trust = bench.role("app", &[])?.trust_policy;
        let policy = ("AssumeRolePolicyDocument", trust.as_str());
        let tag = |key: &'static str, value: &'static str| [("Tags.member.1.Key", key), ("Tags.member.1.Value", value)];
        let ours = ("Path", "/irsad/theirs/");
        let by_object = [
            ("Tags.member.1.Key", "irsad/cluster"),
            ("Tags.member.1.Value", "theirs"),
            ("Tags.member.2.Key", "irsad/owner"),
            ("Tags.member.2.Value", "ServiceAccountRole/shop/app"),
        ];
        for (account, more, reason, sentence) in [
            (
                "elsewhere",
                vec![("Path", "/team/")],
                "RoleNotOurs",
                "role elsewhere.shop.theirs is someone else's: it stands under the path /team/ and not under /irsad/theirs/ (nothing changed); choose another name for ours, or delete that role",
            ),
            (
                "untagged",
                vec![ours],
                "RoleNotOurs",
                "role untagged.shop.theirs was not made by irsad: it has no tag irsad/cluster: theirs (nothing changed); choose another name, delete that role, or put the tags irsad/cluster: theirs and irsad/owner: list on it to give it to irsad",
            ),
            (
                "of-a-cluster",
                [vec![ours], tag("irsad/cluster", "another").to_vec()].concat(),
                "RoleNotOurs",
                "role of-a-cluster.shop.theirs was not made by irsad: it has no tag irsad/cluster: theirs (nothing changed); choose another name, delete that role, or put the tags irsad/cluster: theirs and irsad/owner: list on it to give it to irsad",
            ),
            (
                "of-an-object",
                [vec![ours], by_object.to_vec()].concat(),
                "RoleOwnedByAnother",
                "role of-an-object.shop.theirs belongs to ServiceAccountRole/shop/app (nothing changed); choose another name, or set its tag irsad/owner to list to move it here",
            ),
        ] {
            let wanted = bench.role(account, &[])?;
            bench.administer("CreateRole", &wanted.name, &[&[policy], more.as_slice()].concat()).await?;
            let before = bench.iam.role(&wanted.name).await?;
            let fault = bring(&bench.iam, &wanted).await.err().ok_or("a fault")?;
            assert_eq!((fault.kind, fault.reason, fault.sentence.as_str()), (FaultKind::Person, reason, sentence));
            let owner = before.as_ref().and_then(|role| Owner::of_tags(&role.tags));
            assert_eq!(remove(&bench.iam, &wanted.name, &wanted.owner).await?, Removed::NotOurs(owner));
            assert_eq!(bench.iam.role(&wanted.name).await?, before, "{account}");
        }
        assert_eq!(bench.writes(), 0, "{:?}", cloud.all_requests());
        Ok(())
    });
}

#[test]
fn policy_that_does_not_exist_makes_no_role_and_takes_nothing_from_one() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "missing").await?;
        let (one, none) = (bench.policy("one").await?, format!("arn:aws:iam::{ACCOUNT}:policy/nothing").parse()?);
        let wanted = bench.role("app", &[&one, &none])?;
        for made_before in [false, true] {
            if made_before {
                bring(&bench.iam, &bench.role("app", &[&one])?).await?;
            }
            let writes = bench.writes();
            let fault = bring(&bench.iam, &wanted).await.err().ok_or("a fault")?;
            assert_eq!((fault.kind, fault.reason), (FaultKind::Person, "PolicyNotFound"));
            assert_eq!(
                fault.sentence,
                "role app.shop.missing cannot have the policy arn:aws:iam::123456789012:policy/nothing, which does not exist (nothing changed); create it, or correct the ARN"
            );
            assert_eq!(bench.writes(), writes);
        }
        Ok(())
    });
}

#[test]
fn refusals_of_iam_say_who_can_cure_them_and_the_next_try_goes_on() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "refused").await?;
        let one = bench.policy("one").await?;
        let denied = Fault::not_authorized("iam:CreateRole", "role app");
        let limit = |text: &str| Fault::refused(409, "LimitExceeded", text);
        let throttled = Fault::refused(400, "Throttling", "Rate exceeded");
        for (number, (operation, fault, times, kind, reason, start)) in [
            (
                "CreateRole",
                denied,
                1,
                FaultKind::Person,
                "AccessDenied",
                "could not create it: iam:CreateRole and iam:TagRole on app0.shop.refused is not allowed to this node (nothing written); `irsad iam-policy` prints the statement to attach to its role",
            ),
            (
                "CreateRole",
                limit("Cannot exceed quota for RolesPerAccount: 1000"),
                1,
                FaultKind::Person,
                "LimitExceeded",
                "could not create it: iam:CreateRole and iam:TagRole on app1.shop.refused would be one role more than the account's quota, 1000 unless raised (nothing written); delete roles that nobody uses, or raise the quota in Service Quotas",
            ),
            (
                "CreateRole",
                limit("Cannot exceed quota for ACLSizePerRole: 2048"),
                1,
                FaultKind::Person,
                "LimitExceeded",
                "could not create it: iam:CreateRole and iam:TagRole on app2.shop.refused has a trust policy that is longer than the account's quota, 2048 characters unless raised (nothing written);",
            ),
            (
                "AttachRolePolicy",
                limit("Cannot exceed quota for PoliciesPerRole: 10"),
                1,
                FaultKind::Person,
                "LimitExceeded",
                "could not attach arn:aws:iam::123456789012:policy/refused-one: iam:AttachRolePolicy on app3.shop.refused would be one managed policy more",
            ),
            (
                "PutRolePolicy",
                Fault::refused(400, "MalformedPolicyDocument", "Syntax errors in policy."),
                1,
                FaultKind::Person,
                "PolicyRefused",
                "could not write its inline policy irsad: iam:PutRolePolicy on app4.shop.refused was refused because IAM does not understand the policy (nothing written);",
            ),
            (
                "GetRole",
                throttled,
                3,
                FaultKind::Throttled,
                "Throttled",
                "could not look at it: iam:GetRole on app5.shop.refused found the service overloaded or failing 3 times (nothing written);",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let wanted = bench.role(&format!("app{number}"), &[&one])?;
            cloud.fail(operation, fault, times);
            let fault = bring(&bench.iam, &wanted).await.err().ok_or("a fault")?;
            assert_eq!((fault.kind, fault.reason), (kind, reason), "{fault}");
            let start = format!("role app{number}.shop.refused: {start}");
            assert!(fault.sentence.starts_with(&start), "{fault}\n{start}");
            assert!(!bring(&bench.iam, &wanted).await?.done.is_empty());
            bench.is_settled(&wanted).await?;
        }
        Ok(())
    });
}

#[test]
fn role_keeps_the_policies_that_it_had_where_iam_refuses_its_trust_policy() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "kept").await?;
        let (one, two) = (bench.policy("one").await?, bench.policy("two").await?);
        let before = bench.role("app", &[&one])?;
        bring(&bench.iam, &before).await?;
        let permissions = async || -> Outcome<_> {
            let mut found = bench.iam.role(&before.name).await?.ok_or("a role")?;
            bench.iam.add_policies(&mut found).await?;
            Ok((found.managed, found.inline, found.trust_policy))
        };
        let had = permissions().await?;
        let request = bench.request("app", &[&two])?;
        let other = INLINE.replace("sqs", "sns").parse()?;
        let after = RoleRequest { subjects: vec![Subject::new("shop", "other")?], inline: Some(other), ..request };
        let after = bench.terms()?.role(&after)?;
        let limit = || Fault::refused(409, "LimitExceeded", "Cannot exceed quota for ACLSizePerRole: 2048");
        let cannot = "role app.shop.kept: could not set its trust policy: iam:UpdateAssumeRolePolicy on app.shop.kept has a trust policy that is longer than the account's quota, 2048 characters unless raised (nothing written); ";

        cloud.fail("UpdateAssumeRolePolicy", limit(), 1);
        let fault = bring(&bench.iam, &after).await.err().ok_or("a fault")?;
        assert_eq!((fault.kind, fault.reason), (FaultKind::Person, "LimitExceeded"));
        assert!(fault.sentence.starts_with(cannot), "{fault}");
        assert!(fault.sentence.ends_with("; the policies that were taken from it for this are back"), "{fault}");
        assert_eq!(permissions().await?, had);

        cloud.fail("UpdateAssumeRolePolicy", limit(), 1);
        cloud.fail("AttachRolePolicy", Fault::not_authorized("iam:AttachRolePolicy", "role app"), 1);
        let fault = bring(&bench.iam, &after).await.err().ok_or("a fault")?;
        let lost = "; of the policies that were taken from it for this not all are back: could not give back arn:aws:iam::123456789012:policy/kept-one: iam:AttachRolePolicy on app.shop.kept is not allowed to this node (nothing written);";
        assert!(fault.sentence.contains(lost), "{fault}");
        assert_eq!(permissions().await?.1, had.1, "what can be given back is");

        // It may have been done: what was there before is not for those who are trusted then.
        bring(&bench.iam, &before).await?;
        cloud.fail("UpdateAssumeRolePolicy", Fault::AnswerLost, 3);
        let fault = bring(&bench.iam, &after).await.err().ok_or("a fault")?;
        assert_eq!(fault.kind, FaultKind::Wait);
        let (managed, inline, _) = permissions().await?;
        assert!(managed.is_empty() && inline.is_empty(), "{managed:?} {inline:?}");
        bring(&bench.iam, &after).await?;
        bench.is_settled(&after).await
    });
}

#[test]
fn node_that_no_longer_leads_begins_nothing_more() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "unled").await?;
        let (one, two) = (bench.policy("one").await?, bench.policy("two").await?);
        let wanted = bench.role("app", &[&one, &two])?;
        let may_act = || cloud.requests("PutRolePolicy") == 0;
        let fault = roles::bring(&bench.iam, &wanted, &may_act).await.err().ok_or("a fault")?;
        assert_eq!((fault.kind, fault.reason), (FaultKind::Wait, roles::NOT_LEADER));
        assert_eq!(fault.sentence, "role app.shop.unled: another node leads by now and goes on with it");
        let writes = ["CreateRole", "PutRolePolicy", "AttachRolePolicy"].map(|name| cloud.requests(name));
        assert_eq!(writes, [1, 1, 0]);
        bring(&bench.iam, &wanted).await?;
        let fault = roles::remove(&bench.iam, &wanted.name, &wanted.owner, &|| false).await.err().ok_or("a fault")?;
        assert_eq!(fault.reason, roles::NOT_LEADER);
        bench.is_settled(&wanted).await
    });
}

#[test]
fn lost_answer_to_any_call_leaves_a_role_that_the_next_try_completes() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "lost-answer").await?;
        let one = bench.policy("one").await?;
        for (number, operation) in ["CreateRole", "PutRolePolicy", "AttachRolePolicy"].into_iter().enumerate() {
            let wanted = bench.role(&format!("app{number}"), &[&one])?;
            cloud.fail(operation, Fault::AnswerLost, 3);
            // The SDK's own second attempt meets what the first one did.
            let lost = bring(&bench.iam, &wanted).await;
            assert!(lost.as_ref().is_err_and(|fault| fault.kind == FaultKind::Wait), "{operation}: {lost:?}");
            bring(&bench.iam, &wanted).await?;
            bench.is_settled(&wanted).await?;
        }
        let wanted = bench.role("app0", &[&one])?;
        for operation in ["DetachRolePolicy", "DeleteRolePolicy", "DeleteRole"] {
            cloud.fail(operation, Fault::AnswerLost, 3);
            let lost = remove(&bench.iam, &wanted.name, &wanted.owner).await;
            assert!(lost.is_err(), "{operation}: {lost:?}");
        }
        assert_eq!(remove(&bench.iam, &wanted.name, &wanted.owner).await?, Removed::WasGone);
        Ok(())
    });
}

#[test]
fn removed_role_loses_its_permissions_before_it_goes() {
    with_cloud(async |cloud| -> Outcome {
        let bench = Bench::new(cloud, "removed").await?;
        let one = bench.policy("one").await?;
        let wanted = bench.role("app", &[&one])?;
        bring(&bench.iam, &wanted).await?;
        let profile = ("InstanceProfileName", "removed");
        call("iam", &[("Action", "CreateInstanceProfile"), IAM, profile]).await?;
        bench.administer("AddRoleToInstanceProfile", &wanted.name, &[profile]).await?;
        let conflict = "Cannot delete entity, must remove roles from instance profile first.";
        cloud.fail("DeleteRole", Fault::refused(409, "DeleteConflict", conflict), 1);
        let fault = remove(&bench.iam, &wanted.name, &wanted.owner).await.err().ok_or("a fault")?;
        assert_eq!((fault.kind, fault.reason), (FaultKind::Person, "RoleInUse"));
        let mut found = bench.iam.role(&wanted.name).await?.ok_or("it still stands")?;
        bench.iam.add_policies(&mut found).await?;
        assert!(found.managed.is_empty() && found.inline.is_empty(), "{found:?}");

        bench.administer("RemoveRoleFromInstanceProfile", &wanted.name, &[profile]).await?;
        assert_eq!(list(&bench.iam, &path("removed")).await?.len(), 1);
        assert_eq!(remove(&bench.iam, &wanted.name, &wanted.owner).await?, Removed::Now);
        assert_eq!(list(&bench.iam, &path("removed")).await?, []);
        assert_eq!(remove(&bench.iam, &wanted.name, &wanted.owner).await?, Removed::WasGone);
        Ok(())
    });
}
