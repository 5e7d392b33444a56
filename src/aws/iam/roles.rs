//! Roles: looked at, and one call for each [`RoleAction`].
//!
//! Whose a role is, and what it should be, callers know.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_iam::{
    error::SdkError,
    types::{Role, Tag},
};

use super::{AwsError, Call, Iam, ProvideErrorMetadata, Quota, Reason, percent_decoded};
use crate::model::role::{FoundRole, INLINE_POLICY_NAME, NewRole, PolicyArn, RoleAction, RoleName};

/// Roles that one page of a list may have; IAM may give fewer.
const PAGE: i32 = 1000;

impl Iam {
    /// The role, without its policies; `None` where the account has none of that name.
    ///
    /// # Errors
    /// See [`Reason`].
    pub async fn role(&self, name: &RoleName) -> Result<Option<FoundRole>, AwsError> {
        let call = Call::read("iam:GetRole", name.as_str());
        match self.client.get_role().role_name(name.as_str()).send().await {
            Ok(found) => found.role().map(|role| found_role(call, role)).transpose(),
            Err(error) if error.code() == Some("NoSuchEntity") => Ok(None),
            Err(error) => Err(AwsError::from_sdk(call, &error)),
        }
    }

    /// The roles below `path`, without tags, boundaries and policies: lists of IAM do not have them.
    ///
    /// # Errors
    /// See [`Reason`].
    pub async fn roles_below(&self, path: &str) -> Result<Vec<FoundRole>, AwsError> {
        self.list_below(path, Call::read("iam:ListRoles", path)).await
    }

    /// The same where only a teardown asks for them: a node that may not is pointed to its policy.
    ///
    /// # Errors
    /// See [`Reason`].
    pub async fn roles_left_below(&self, path: &str) -> Result<Vec<FoundRole>, AwsError> {
        self.list_below(path, Call::read("iam:ListRoles", path).of_teardown()).await
    }

    async fn list_below(&self, path: &str, call: Call) -> Result<Vec<FoundRole>, AwsError> {
        let pages = self.client.list_roles().path_prefix(path).max_items(PAGE).into_paginator().items().send();
        let roles: Result<Vec<Role>, _> = pages.collect().await;
        let roles = roles.map_err(|error| AwsError::from_sdk(call.clone(), &error))?;
        roles.iter().map(|role| found_role(call.clone(), role)).collect()
    }

    /// Adds its policies to a role: one call for each kind, and one for each inline policy.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Missing`] where it has gone meanwhile.
    pub async fn add_policies(&self, role: &mut FoundRole) -> Result<(), AwsError> {
        let name = role.name.as_str().to_owned();
        let call = Call::read("iam:ListAttachedRolePolicies", &name);
        let attached = self.client.list_attached_role_policies().role_name(&name).into_paginator().items().send();
        let attached: Result<Vec<_>, _> = attached.collect().await;
        let attached = attached.map_err(|error| AwsError::from_sdk(call, &error))?;
        role.managed = attached.iter().filter_map(|policy| policy.policy_arn().map(str::to_owned)).collect();

        let call = Call::read("iam:ListRolePolicies", &name);
        let inline = self.client.list_role_policies().role_name(&name).into_paginator().items().send();
        let inline: Result<Vec<String>, _> = inline.collect().await;
        role.inline.clear();
        for policy in inline.map_err(|error| AwsError::from_sdk(call, &error))? {
            let call = Call::read("iam:GetRolePolicy", &name);
            let found = self.client.get_role_policy().role_name(&name).policy_name(&policy).send().await;
            let found = found.map_err(|error| AwsError::from_sdk(call, &error))?;
            role.inline.insert(policy, percent_decoded(found.policy_document()));
        }
        Ok(())
    }

    /// Those of `policies` that do not exist; one call each.
    ///
    /// # Errors
    /// See [`Reason`].
    pub async fn missing_policies<'a>(
        &self,
        policies: impl Iterator<Item = &'a PolicyArn>,
    ) -> Result<BTreeSet<PolicyArn>, AwsError> {
        let mut missing = BTreeSet::new();
        for arn in policies {
            match self.client.get_policy().policy_arn(arn.as_str()).send().await {
                Ok(_) => {}
                Err(error) if error.code() == Some("NoSuchEntity") => {
                    missing.insert(arn.clone());
                }
                Err(error) => return Err(AwsError::from_sdk(Call::read("iam:GetPolicy", arn.as_str()), &error)),
            }
        }
        Ok(missing)
    }

    /// Carries out one action on the role `name`. What is to be taken away and is gone already is a success.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Exists`] where a role of that name appeared meanwhile: only a new look tells whose it is.
    pub async fn change_role(&self, name: &RoleName, action: &RoleAction) -> Result<(), AwsError> {
        let (client, role) = (&self.client, name.as_str());
        let write = |action: &'static str| Call::write(action, role);
        match action {
            RoleAction::Create(new) => self.create_role(name, new).await,
            RoleAction::SetBoundary(arn) => {
                let request = client.put_role_permissions_boundary().role_name(role).permissions_boundary(arn.as_str());
                done(write("iam:PutRolePermissionsBoundary"), None, request.send().await)
            }
            RoleAction::SetTrustPolicy(policy) => {
                let request = client.update_assume_role_policy().role_name(role).policy_document(compact(policy));
                done(write("iam:UpdateAssumeRolePolicy"), Some(Quota::TrustPolicy), request.send().await)
            }
            RoleAction::SetMaxSession(session) => {
                let request = client.update_role().role_name(role).max_session_duration(seconds(session.seconds()));
                done(write("iam:UpdateRole"), None, request.send().await)
            }
            RoleAction::Tag(tags) => {
                let call = write("iam:TagRole");
                let request = client.tag_role().role_name(role).set_tags(Some(sdk_tags(&call, tags)?));
                done(call, Some(Quota::RoleTags), request.send().await)
            }
            RoleAction::Detach(arn) => {
                let request = client.detach_role_policy().role_name(role).policy_arn(arn);
                gone(done(write("iam:DetachRolePolicy"), None, request.send().await))
            }
            RoleAction::DeleteInline(policy) => {
                let request = client.delete_role_policy().role_name(role).policy_name(policy);
                gone(done(write("iam:DeleteRolePolicy"), None, request.send().await))
            }
            RoleAction::PutInline(policy) => self.put_inline(role, INLINE_POLICY_NAME, &policy.to_json()).await,
            RoleAction::PutBackInline { name, policy } => self.put_inline(role, name, policy).await,
            RoleAction::Attach(arn) => self.attach(role, arn.as_str()).await,
            RoleAction::PutBackManaged(arn) => self.attach(role, arn).await,
            RoleAction::Delete => {
                gone(done(write("iam:DeleteRole"), None, client.delete_role().role_name(role).send().await))
            }
        }
    }

    async fn attach(&self, role: &str, arn: &str) -> Result<(), AwsError> {
        let request = self.client.attach_role_policy().role_name(role).policy_arn(arn);
        done(Call::write("iam:AttachRolePolicy", role), Some(Quota::RolePolicies), request.send().await)
    }

    async fn put_inline(&self, role: &str, policy: &str, document: &str) -> Result<(), AwsError> {
        let request = self.client.put_role_policy().role_name(role).policy_name(policy).policy_document(document);
        done(Call::write("iam:PutRolePolicy", role), Some(Quota::InlinePolicies), request.send().await)
    }

    /// With its tags in the same call: a role without them could not be told from someone else's.
    async fn create_role(&self, name: &RoleName, new: &NewRole) -> Result<(), AwsError> {
        let call = Call::write("iam:CreateRole and iam:TagRole", name.as_str());
        let request = self.client.create_role().role_name(name.as_str()).path(&new.path);
        let request = request.assume_role_policy_document(compact(&new.trust_policy));
        let request = request.max_session_duration(seconds(new.max_session.seconds()));
        let request = request.set_permissions_boundary(new.boundary.as_ref().map(ToString::to_string));
        let answer = request.set_tags(Some(sdk_tags(&call, &new.tags)?)).send().await;
        // One code for both quotas; the message has the name of the one.
        let of_trust_policy =
            matches!(&answer, Err(error) if error.message().is_some_and(|message| message.contains("ACLSize")));
        let quota = if of_trust_policy { Quota::TrustPolicy } else { Quota::Roles };
        done(call, Some(quota), answer)
    }
}

/// The outcome of a call that answers nothing of interest; `quota` is what `LimitExceeded` means for it.
fn done<T, E>(call: Call, quota: Option<Quota>, answer: Result<T, SdkError<E>>) -> Result<(), AwsError>
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let Err(error) = answer else { return Ok(()) };
    let limit = quota.filter(|_| error.code() == Some("LimitExceeded"));
    let error = AwsError::from_sdk(call, &error);
    Err(match limit {
        Some(quota) => error.with_reason(Reason::Quota(quota)),
        None => error,
    })
}

fn gone(result: Result<(), AwsError>) -> Result<(), AwsError> {
    match result {
        Err(error) if *error.reason() == Reason::Missing => Ok(()),
        result => result,
    }
}

fn found_role(call: Call, role: &Role) -> Result<FoundRole, AwsError> {
    let name = role.role_name().parse();
    Ok(FoundRole {
        name: name.map_err(|error: crate::model::role::RoleNameError| {
            AwsError::new(call, Reason::NotAws, error.to_string())
        })?,
        path: role.path().to_owned(),
        arn: role.arn().to_owned(),
        trust_policy: role.assume_role_policy_document().map(percent_decoded).unwrap_or_default(),
        max_session_seconds: role.max_session_duration().and_then(|seconds| seconds.try_into().ok()).unwrap_or(3600),
        boundary: role.permissions_boundary().and_then(|it| it.permissions_boundary_arn()).map(str::to_owned),
        tags: role.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
        managed: BTreeSet::new(),
        inline: BTreeMap::new(),
    })
}

fn sdk_tags(call: &Call, tags: &BTreeMap<String, String>) -> Result<Vec<Tag>, AwsError> {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    let tags: Result<Vec<Tag>, _> = tags.collect();
    tags.map_err(|error| AwsError::new(call.clone(), Reason::NotAws, error.to_string()))
}

/// Without the white space that makes it readable: a long one may be within IAM's limit for parameters only so.
fn compact(policy: &str) -> String {
    serde_json::from_str::<serde_json::Value>(policy).map_or_else(|_| policy.to_owned(), |policy| policy.to_string())
}

fn seconds(seconds: u32) -> i32 {
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
