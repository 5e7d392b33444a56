//! Service accounts that have an IAM role by our issuer, and the pods that use them: what a cluster loses with it.

use std::collections::BTreeMap;

use super::{
    missed_pods::{Sources, Standing},
    pod::Pod,
};

/// Most service accounts that are named.
const MOST_NAMED: usize = 10;

/// By `NAMESPACE/NAME` of the service account: pods that use its role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolesInUse(BTreeMap<String, usize>);

impl RolesInUse {
    /// Those that have a role, whether a pod uses it or not.
    pub fn of(sources: &Sources) -> Self {
        Self(sources.with_role().map(|name| (name.to_owned(), 0)).collect())
    }

    /// Takes one pod into account.
    pub fn add(&mut self, pod: &Pod, standing: &Standing) {
        match standing {
            Standing::NoRole | Standing::Ended => {}
            Standing::Mirror
            | Standing::OptedOut
            | Standing::Exempt
            | Standing::SkipsAll
            | Standing::Has
            | Standing::Missed(_) => {
                *self.0.entry(format!("{}/{}", pod.name.namespace, pod.service_account)).or_default() += 1;
            }
        }
    }

    /// Nobody has a role.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each service account with the number of its pods, by name.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, pods)| (name.as_str(), *pods))
    }

    /// One sentence; `None` where nobody has a role.
    pub fn sentence(&self) -> Option<String> {
        let pods: usize = self.0.values().sum();
        let mut named: Vec<String> =
            self.accounts().take(MOST_NAMED).map(|(name, pods)| format!("{name} ({pods})")).collect();
        match self.0.len() {
            0 => return None,
            count if count > named.len() => named.push(format!("and {} more", count - named.len())),
            _ => {}
        }
        Some(format!(
            "{} service account{} with an IAM role, and the {pods} pod{} that use them, lose AWS: {}",
            self.0.len(),
            if self.0.len() == 1 { "" } else { "s" },
            if pods == 1 { "" } else { "s" },
            named.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_aws_is_named_and_the_rest_is_counted() {
        assert_eq!(RolesInUse::default().sentence(), None);
        let few = RolesInUse(BTreeMap::from([("default/checkout".to_owned(), 1)]));
        assert_eq!(
            few.sentence().as_deref(),
            Some("1 service account with an IAM role, and the 1 pod that use them, lose AWS: default/checkout (1)")
        );
        let many = RolesInUse((0..12).map(|number| (format!("ns/account-{number:02}"), 2)).collect());
        let said = many.sentence().expect("a sentence");
        assert!(said.starts_with(
            "12 service accounts with an IAM role, and the 24 pods that use them, lose AWS: ns/account-00 (2), "
        ));
        assert!(said.ends_with("ns/account-09 (2), and 2 more"), "{said}");
    }
}
