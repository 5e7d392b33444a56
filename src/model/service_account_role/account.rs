//! Service accounts of an object: which are made, annotated, let go of, and which are left alone.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::{DeletionPolicy, FIELD_MANAGER, MARK, Reason, ServiceAccountRole};
use crate::model::cluster_object::{OWNER, OWNER_LABEL};

/// Namespace and name of a service account, as Kubernetes takes them (RFC 1123 label and subdomain).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "Named", into = "Named")]
pub struct AccountName {
    namespace: String,
    name: String,
}

/// Why there is no such service account.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{namespace:?} with {name:?} are no namespace and name of a service account; use lower-case letters, digits and hyphens"
)]
pub struct AccountNameError {
    namespace: String,
    name: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Named {
    namespace: String,
    name: String,
}

impl AccountName {
    /// The service account `name` of `namespace`.
    ///
    /// # Errors
    /// Kubernetes takes no such name.
    pub fn new(namespace: &str, name: &str) -> Result<Self, AccountNameError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let is_valid =
            namespace.len() <= 63 && is_label(&namespace) && name.len() <= 253 && name.split('.').all(is_label);
        if is_valid { Ok(Self { namespace, name }) } else { Err(AccountNameError { namespace, name }) }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

impl TryFrom<Named> for AccountName {
    type Error = AccountNameError;

    fn try_from(Named { namespace, name }: Named) -> Result<Self, Self::Error> {
        Self::new(&namespace, &name)
    }
}

impl From<AccountName> for Named {
    fn from(AccountName { namespace, name }: AccountName) -> Self {
        Self { namespace, name }
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What matters of a service account as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAccount {
    /// `metadata.uid`.
    pub uid: String,
    /// Annotation with the role.
    pub role_arn: Option<String>,
    /// [`MARK`]: the object that it has the role from.
    pub mark: Option<String>,
    /// irsad has made it.
    pub is_made: bool,
}

impl SeenAccount {
    /// Of a whole service account; `annotation` names its role.
    pub fn of(account: &Value, annotation: &str) -> Self {
        let metadata = &account["metadata"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            uid: text(&metadata["uid"]).unwrap_or_default(),
            role_arn: text(&metadata["annotations"][annotation]),
            mark: text(&metadata["annotations"][MARK]),
            is_made: metadata["labels"][OWNER_LABEL] == OWNER,
        }
    }
}

/// What is to be done with one service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountStep {
    /// Make it, then give it the annotation.
    Make(AccountName),
    /// Give it the annotation.
    Annotate {
        /// Which.
        name: AccountName,
        /// Only this one.
        uid: String,
        /// It has been ours before: what others have written over it is put back.
        is_ours: bool,
        /// irsad has made it, and goes on saying so.
        is_made: bool,
    },
    /// Take our annotation away.
    Release {
        /// Which.
        name: AccountName,
        /// Only this one.
        uid: String,
        /// irsad has made it.
        is_made: bool,
        /// Delete it, if nothing needs it.
        deletes: bool,
    },
}

/// As `irsad plan` says it.
impl fmt::Display for AccountStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(name) => write!(f, "make service account {name} with it"),
            Self::Annotate { name, .. } => write!(f, "give it to service account {name}"),
            Self::Release { name, deletes: false, .. } => write!(f, "take it from service account {name}"),
            Self::Release { name, deletes: true, .. } => {
                write!(f, "take it from service account {name}, which goes too where nothing else needs it")
            }
        }
    }
}

/// Why a service account that an object names does not get its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// Another object has it.
    OfObject {
        /// The account.
        name: AccountName,
        /// The other object.
        object: String,
    },
    /// Somebody has given it another role.
    OtherRole {
        /// The account.
        name: AccountName,
        /// That role.
        arn: String,
        /// The annotation that says so.
        annotation: String,
    },
    /// It does not exist and is not to be made.
    Missing(AccountName),
    /// Its namespace does not exist, or is being deleted.
    NoNamespace(AccountName),
    /// Somebody else keeps what irsad would write into it (Kubernetes "Server-Side Apply", conflicts).
    Contested {
        /// The account.
        name: AccountName,
        /// What the server said.
        said: String,
    },
    /// The API server does not let it be written: an admission policy, a quota, rights.
    Refused {
        /// The account.
        name: AccountName,
        /// What the server said.
        said: String,
    },
}

impl Hindrance {
    /// Whether it goes away by itself when somebody makes what is missing; otherwise a person has to decide.
    pub fn is_missing(&self) -> bool {
        self.reason() == Reason::ServiceAccountMissing
    }

    /// The reason of the condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::OfObject { .. } | Self::OtherRole { .. } | Self::Contested { .. } => Reason::ServiceAccountTaken,
            Self::Missing(_) | Self::NoNamespace(_) => Reason::ServiceAccountMissing,
            Self::Refused { .. } => Reason::ServiceAccountRefused,
        }
    }
}

/// What is in the way, and what removes it.
impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfObject { name, object } => write!(
                f,
                "service account {name} belongs to ServiceAccountRole {object}, which is older (left as it is); take it out of one of the \
                 two"
            ),
            Self::OtherRole { name, arn, annotation } => write!(
                f,
                "service account {name} has role {arn} from somebody else (left as it is); remove that annotation: kubectl -n {} annotate \
                 serviceaccount {} {annotation}-",
                name.namespace, name.name
            ),
            Self::Missing(name) => write!(
                f,
                "service account {name} does not exist and createServiceAccounts is false; make it: kubectl -n {} create serviceaccount {}",
                name.namespace, name.name
            ),
            Self::NoNamespace(name) => write!(
                f,
                "service account {name} cannot be made, because its namespace does not exist or is being deleted; make it: kubectl create \
                 namespace {}",
                name.namespace
            ),
            Self::Contested { name, said } => write!(
                f,
                "service account {name} cannot be given its role, because somebody else keeps the annotation (left as it is); take it from \
                 them, or the account out of the object: {said}"
            ),
            Self::Refused { name, said } => write!(
                f,
                "kube-apiserver does not let service account {name} be written (left as it is); change the admission policy or the quota that \
                 refuses it, or take it out of the object: {said}"
            ),
        }
    }
}

/// What keeps `object` from the service accounts that it names, as far as `seen` knows, and what is to be done once its role is `arn`.
///
/// `marked` are the accounts that carry the object's mark. Where the role is not known yet (`arn` is `None`) nothing is to be done.
pub fn steps(
    object: &ServiceAccountRole,
    others: &[(AccountName, String)],
    annotation: &str,
    arn: Option<&str>,
    marked: &[AccountName],
    seen: impl Fn(&AccountName) -> Option<SeenAccount>,
) -> (Vec<AccountStep>, Vec<Hindrance>) {
    let (mut steps, mut hindrances) = (Vec::new(), Vec::new());
    for name in object.accounts() {
        if let Some((_, other)) = others.iter().find(|(account, _)| account == name) {
            hindrances.push(Hindrance::OfObject { name: name.clone(), object: other.clone() });
            continue;
        }
        match seen(name) {
            None if object.spec.as_ref().is_ok_and(|spec| spec.create_service_accounts) => {
                steps.extend(arn.map(|_| AccountStep::Make(name.clone())));
            }
            None => hindrances.push(Hindrance::Missing(name.clone())),
            Some(account) => match annotate(object, name, &account, annotation, arn) {
                Ok(step) => steps.extend(step),
                Err(hindrance) => hindrances.push(hindrance),
            },
        }
    }
    if arn.is_some() {
        steps.extend(left_out(object, marked, seen));
    }
    (steps, hindrances)
}

fn annotate(
    object: &ServiceAccountRole,
    name: &AccountName,
    account: &SeenAccount,
    annotation: &str,
    arn: Option<&str>,
) -> Result<Option<AccountStep>, Hindrance> {
    let is_ours = account.mark.as_deref() == Some(&object.name);
    let is_given = account.role_arn.as_deref() == arn;
    match (&account.role_arn, arn) {
        (Some(found), Some(_)) if !is_ours && !is_given => {
            Err(Hindrance::OtherRole { name: name.clone(), arn: found.clone(), annotation: annotation.to_owned() })
        }
        // The ARN of a role that is not made yet is not known, but an account of nobody's has none.
        (Some(found), None) if !is_ours && !names_role(found, object) => {
            Err(Hindrance::OtherRole { name: name.clone(), arn: found.clone(), annotation: annotation.to_owned() })
        }
        (_, Some(_)) if !(is_ours && is_given) => Ok(Some(AccountStep::Annotate {
            name: name.clone(),
            uid: account.uid.clone(),
            is_ours,
            is_made: account.is_made,
        })),
        (_, _) => Ok(None),
    }
}

/// Whether an annotation that somebody has written already names the role that is about to be made.
fn names_role(arn: &str, object: &ServiceAccountRole) -> bool {
    object.spec.as_ref().is_ok_and(|spec| arn.rsplit('/').next() == Some(&spec.role_name))
}

/// Accounts that have their role from `object` although it does not name them (any more).
pub fn left_out(
    object: &ServiceAccountRole,
    marked: &[AccountName],
    seen: impl Fn(&AccountName) -> Option<SeenAccount>,
) -> Vec<AccountStep> {
    let deletes = object.deletion_policy() == DeletionPolicy::DeleteWithServiceAccounts;
    let stays = |name: &&AccountName| !object.is_deleted && object.accounts().contains(name);
    marked
        .iter()
        .filter(|name| !stays(name))
        .filter_map(|name| {
            let account = seen(name).filter(|account| account.mark.as_deref() == Some(&object.name))?;
            let SeenAccount { uid, is_made, .. } = account;
            Some(AccountStep::Release { name: name.clone(), uid, is_made, deletes: deletes && is_made })
        })
        .collect()
}

/// All that irsad says of a service account with a role (server-side apply as [`FIELD_MANAGER`]).
pub fn annotated(
    name: &AccountName,
    uid: Option<&str>,
    object: &str,
    annotation: &str,
    arn: &str,
    is_made: bool,
) -> Value {
    let mut body = released(name, uid);
    body["metadata"]["annotations"] = json!({ annotation: arn, MARK: object });
    if is_made {
        body["metadata"]["labels"] = json!({ OWNER_LABEL: OWNER });
    }
    body
}

/// A service account that irsad is about to make, without a role yet: who sees it knows whose it is.
pub fn made(name: &AccountName) -> Value {
    let mut body = released(name, None);
    body["metadata"]["labels"] = json!({ OWNER_LABEL: OWNER });
    body
}

/// A merge patch by which one that irsad has made is no longer its own.
pub fn disowned(uid: &str) -> Value {
    json!({ "metadata": { "uid": uid, "labels": { OWNER_LABEL: null } } })
}

/// The same of one that it has let go of: nothing. What only irsad has said of it goes.
pub fn released(name: &AccountName, uid: Option<&str>) -> Value {
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "namespace": name.namespace, "name": name.name },
    });
    if let Some(uid) = uid {
        body["metadata"]["uid"] = json!(uid);
    }
    body
}

/// Whether nobody but irsad has written into this whole service account, and nothing owns it.
pub fn is_nobodys(account: &Value) -> bool {
    let metadata = &account["metadata"];
    let is_empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    let writers = metadata["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_ours = |entry: &Value| entry["manager"] == FIELD_MANAGER;
    // Without a list of who has written what, nobody can say.
    !writers.is_empty()
        && writers.iter().all(is_ours)
        && is_empty(&metadata["ownerReferences"])
        && is_empty(&metadata["finalizers"])
        && is_empty(&account["secrets"])
        && is_empty(&account["imagePullSecrets"])
}
