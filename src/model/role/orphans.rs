//! Roles below our path that irsad made and nothing asks for any more: they are named to people, and never removed by themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{FoundRole, Owner, RoleName};

/// Roles whose tags are asked for after one list of roles: one call to IAM each.
const MOST_QUESTIONS: usize = 20;

/// Whose the roles below our path are that nothing asks for, as far as their tags were asked for.
#[derive(Debug, Clone, Default)]
pub struct Orphans {
    /// `None` where the tags name no owner.
    owners: BTreeMap<RoleName, Option<Owner>>,
}

impl Orphans {
    /// Forgets what is no longer below our path, or is asked for again.
    pub fn keep_only(&mut self, is_extra: impl Fn(&RoleName) -> bool) {
        self.owners.retain(|name, _| is_extra(name));
    }

    /// Those of `extra`, which nothing asks for, whose tags are to be asked for next.
    pub fn to_ask_for(&self, extra: &BTreeSet<RoleName>) -> Vec<RoleName> {
        extra.iter().filter(|name| !self.is_known(name)).take(MOST_QUESTIONS).cloned().collect()
    }

    /// The tags of a role name this owner.
    pub fn note(&mut self, name: &RoleName, owner: Option<Owner>) {
        self.owners.insert(name.clone(), owner);
    }

    /// As [`Orphans::note`] of the role as IAM shows it; `None`: it is gone.
    pub fn note_role(&mut self, name: &RoleName, found: Option<&FoundRole>) {
        self.note(name, found.and_then(|found| Owner::of_tags(&found.tags)));
    }

    /// Whether the tags of a role are known.
    pub fn is_known(&self, name: &RoleName) -> bool {
        self.owners.contains_key(name)
    }

    /// Those that irsad made for this cluster, with what asked for them.
    pub fn of_cluster<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = (&'a RoleName, &'a Owner)> {
        let owned = self.owners.iter().filter_map(|(name, owner)| Some((name, owner.as_ref()?)));
        owned.filter(move |(_, owner)| owner.cluster() == cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_is_an_orphan_only_by_tags_of_this_cluster_that_were_seen() -> Result<(), Box<dyn std::error::Error>> {
        let names: BTreeSet<RoleName> = (0..30).map(|n| format!("r{n:0>2}").parse()).collect::<Result<_, _>>()?;
        let mut orphans = Orphans::default();
        assert_eq!(orphans.to_ask_for(&names).len(), 20);
        let object = Owner::object("prod-1", "ServiceAccountRole", None, "app");
        for (name, owner) in names.iter().zip([Some(object.clone()), Some(Owner::list("prod-2")), None]) {
            orphans.note(name, owner);
        }
        let found: Vec<_> = orphans.of_cluster("prod-1").map(|(name, owner)| (name.as_str(), owner.clone())).collect();
        assert_eq!(found, [("r00", object)]);
        assert_eq!(orphans.to_ask_for(&names).first().map(RoleName::as_str), Some("r03"), "each is asked for once");
        orphans.keep_only(|name| name.as_str() != "r00");
        assert_eq!(orphans.of_cluster("prod-1").count(), 0);
        Ok(())
    }
}
