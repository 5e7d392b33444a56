//! Whose role and whose service account it is where several objects name the same one: the oldest object's.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{AccountName, ServiceAccountRole};

/// Who has said it first; of two in the same second, the one that has its role, then the one whose name comes first.
type Age<'a> = (Timestamp, bool, &'a str);

/// Which object each role name and each service account belongs to.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    /// By the name in lower case: IAM does not tell names apart by their case.
    roles: HashMap<String, Age<'a>>,
    accounts: HashMap<&'a AccountName, Age<'a>>,
}

/// What another object has of what one object names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The object that has the role name.
    pub role_of: Option<String>,
    /// Service accounts, each with the object that has it.
    pub accounts_of: Vec<(AccountName, String)>,
}

impl<'a> Claims<'a> {
    /// Of all objects that there are. One that is being deleted keeps what it has until it is gone.
    pub fn of(objects: impl IntoIterator<Item = &'a ServiceAccountRole>) -> Self {
        let mut claims = Self::default();
        for object in objects {
            let Ok(spec) = &object.spec else { continue };
            let age = (object.created_at, object.status.role_arn.is_none(), object.name.as_str());
            older(claims.roles.entry(spec.role_name.to_ascii_lowercase()).or_insert(age), age);
            for account in &spec.service_accounts {
                older(claims.accounts.entry(account).or_insert(age), age);
            }
        }
        claims
    }

    /// What others have of what `object` names.
    pub fn against(&self, object: &ServiceAccountRole) -> Claim {
        let other =
            |age: Option<&Age<'_>>| age.filter(|(.., name)| *name != object.name).map(|(.., name)| (*name).to_owned());
        let Ok(spec) = &object.spec else { return Claim::default() };
        Claim {
            role_of: other(self.roles.get(&spec.role_name.to_ascii_lowercase())),
            accounts_of: spec
                .service_accounts
                .iter()
                .filter_map(|account| Some((account.clone(), other(self.accounts.get(account))?)))
                .collect(),
        }
    }
}

fn older<'a>(known: &mut Age<'a>, age: Age<'a>) {
    *known = age.min(*known);
}
