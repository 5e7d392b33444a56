//! All objects and all service accounts of the cluster, and which objects have to be looked at again when one of them changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{AccountName, Claim, Claims, SeenAccount, ServiceAccountRole};

/// What two watches have told so far.
#[derive(Debug, Default)]
pub struct Known {
    objects: BTreeMap<String, ServiceAccountRole>,
    accounts: HashMap<AccountName, SeenAccount>,
    /// How many of them each namespace has.
    namespaces: HashMap<String, usize>,
    /// Accounts that carry the mark of an object, by its name.
    marked: BTreeMap<String, BTreeSet<AccountName>>,
    /// Objects of which something has changed.
    changed: BTreeSet<String>,
    /// Objects of whose accounts something has changed.
    touched: BTreeSet<String>,
    has_objects: bool,
    has_accounts: bool,
}

/// All that matters for one object at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// The object.
    pub object: ServiceAccountRole,
    /// What others have of what it names.
    pub claim: Claim,
    /// Accounts that carry its mark.
    pub marked: Vec<AccountName>,
    /// Those accounts, and those that it names.
    pub accounts: HashMap<AccountName, SeenAccount>,
}

impl Known {
    /// Whether all objects and all accounts were listed: before that, nothing can be said of who claims what.
    pub fn is_complete(&self) -> bool {
        self.has_objects && self.has_accounts
    }

    /// Takes these objects in the place of all others: what a complete list said.
    pub fn replace_objects(&mut self, all: Vec<ServiceAccountRole>) {
        let names: BTreeSet<String> = all.iter().map(|object| object.name.clone()).collect();
        let gone: Vec<String> = self.objects.keys().filter(|name| !names.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.remove_object(name));
        all.into_iter().for_each(|object| self.put_object(object));
        self.has_objects = true;
    }

    /// An object was made or changed.
    pub fn put_object(&mut self, object: ServiceAccountRole) {
        let known = self.objects.get(&object.name);
        if !known.is_some_and(|known| known.wants_the_same(&object)) {
            let former = known.cloned();
            former.iter().chain([&object]).for_each(|object| self.touch_rivals(object));
            self.changed.insert(object.name.clone());
        }
        self.objects.insert(object.name.clone(), object);
    }

    /// An object is gone.
    pub fn remove_object(&mut self, name: &str) {
        if let Some(object) = self.objects.remove(name) {
            self.touch_rivals(&object);
        }
        self.changed.insert(name.to_owned());
    }

    /// Takes these accounts in the place of all others: what a complete list said.
    pub fn replace_accounts(&mut self, all: HashMap<AccountName, SeenAccount>) {
        let gone: Vec<AccountName> = self.accounts.keys().filter(|name| !all.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| self.remove_account(name));
        all.into_iter().for_each(|(name, account)| self.put_account(name, account));
        self.has_accounts = true;
    }

    /// A service account was made or changed.
    pub fn put_account(&mut self, name: AccountName, account: SeenAccount) {
        if self.accounts.get(&name) == Some(&account) {
            return;
        }
        self.touch_account(&name, Some(&account));
        let namespace = name.namespace().to_owned();
        if self.accounts.insert(name, account).is_none() {
            *self.namespaces.entry(namespace).or_default() += 1;
        }
    }

    /// A service account is gone.
    pub fn remove_account(&mut self, name: &AccountName) {
        self.touch_account(name, None);
        if self.accounts.remove(name).is_some()
            && let Some(count) = self.namespaces.get_mut(name.namespace())
        {
            *count -= 1;
            self.namespaces.retain(|_, count| *count > 0);
        }
    }

    /// Objects of whose accounts something has changed since the last time; they themselves say what they said.
    pub fn take_touched(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.touched)
    }

    /// Objects that have changed since the last time, or may have what another let go of; those that are gone included.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Whose claim counts, among all objects.
    pub fn claims(&self) -> Claims<'_> {
        Claims::of(self.objects.values())
    }

    /// One object with what matters for it; `None` where it is gone.
    pub fn view(&self, name: &str, claims: &Claims<'_>) -> Option<View> {
        let object = self.objects.get(name)?.clone();
        let marked: Vec<AccountName> = self.marked.get(name).into_iter().flatten().cloned().collect();
        let of_interest = marked.iter().chain(object.accounts());
        let accounts = of_interest.filter_map(|name| Some((name.clone(), self.accounts.get(name)?.clone()))).collect();
        Some(View { claim: claims.against(&object), marked, accounts, object })
    }

    /// All objects, by name.
    pub fn objects(&self) -> impl Iterator<Item = &ServiceAccountRole> {
        self.objects.values()
    }

    /// What an object lets go of or takes may be another's now.
    fn touch_rivals(&mut self, object: &ServiceAccountRole) {
        let role = object.spec.as_ref().map(|spec| spec.role_name.as_str()).ok();
        let is_rival = |other: &&ServiceAccountRole| {
            let other_role = other.spec.as_ref().map(|spec| spec.role_name.as_str()).ok();
            role.zip(other_role).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
                || other.accounts().iter().any(|account| object.accounts().contains(account))
        };
        let rivals = self.objects.values().filter(|other| other.name != object.name).filter(is_rival);
        self.changed.extend(rivals.map(|other| other.name.clone()).collect::<Vec<_>>());
    }

    fn touch_account(&mut self, name: &AccountName, now: Option<&SeenAccount>) {
        let former = self.accounts.get(name).and_then(|account| account.mark.clone());
        let mark = now.and_then(|account| account.mark.clone());
        if let Some(former) = &former
            && let Some(accounts) = self.marked.get_mut(former)
        {
            accounts.remove(name);
        }
        if let Some(mark) = &mark {
            self.marked.entry(mark.clone()).or_default().insert(name.clone());
        }
        let by_mark = former.into_iter().chain(mark).filter(|mark| self.objects.contains_key(mark));
        // The first account of a namespace tells that there is such a namespace now.
        let is_first = now.is_some() && !self.namespaces.contains_key(name.namespace());
        let may_be_made = |other: &AccountName| is_first && other.namespace() == name.namespace();
        let concerns =
            |object: &&ServiceAccountRole| object.accounts().iter().any(|other| other == name || may_be_made(other));
        let named = self.objects.values().filter(concerns);
        let all: Vec<String> = named.map(|object| object.name.clone()).chain(by_mark).collect();
        self.touched.extend(all);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::FINALIZER, *};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn object(name: &str, role: &str, accounts: &[&str], more: &Value) -> serde_json::Result<ServiceAccountRole> {
        let accounts: Vec<Value> = accounts.iter().map(|name| json!({ "namespace": "shop", "name": name })).collect();
        let mut object = json!({
            "metadata": { "name": name, "uid": name, "generation": 1, "creationTimestamp": "2026-11-21T12:00:00Z" },
            "spec": { "roleName": role, "serviceAccounts": accounts },
        });
        if let (Value::Object(metadata), Value::Object(more)) = (&mut object["metadata"], more) {
            metadata.extend(more.clone());
        }
        serde_json::from_value(object)
    }

    fn account(mark: Option<&str>) -> SeenAccount {
        SeenAccount { uid: "u".to_owned(), role_arn: None, mark: mark.map(str::to_owned), is_made: false }
    }

    fn changed(known: &mut Known) -> String {
        let mut all = known.take_changed();
        all.append(&mut known.take_touched());
        all.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn object_is_looked_at_again_only_for_what_matters_to_it() -> Outcome {
        let shop = |name: &str| AccountName::new("shop", name);
        let nothing = json!({});
        let mut known = Known::default();
        known.replace_objects(vec![object("a", "ra", &["x", "y"], &nothing)?, object("b", "rb", &["z"], &nothing)?]);
        assert!(!known.is_complete());
        known.replace_accounts(HashMap::from([(shop("x")?, account(None)), (shop("z")?, account(None))]));
        assert!(known.is_complete());
        assert_eq!(changed(&mut known), "a b");

        // What irsad itself writes: a finalizer, a status, and another version with each.
        known.put_object(object(
            "a",
            "ra",
            &["x", "y"],
            &json!({ "resourceVersion": "9", "finalizers": [FINALIZER] }),
        )?);
        assert_eq!(changed(&mut known), "");
        known.put_object(object("a", "ra", &["x", "y"], &json!({}))?);
        assert_eq!(changed(&mut known), "a", "somebody has taken the finalizer away");
        known.put_object(object("a", "ra", &["x", "y"], &json!({ "generation": 2 }))?);
        assert_eq!(changed(&mut known), "a");
        known.put_account(shop("z")?, account(None));
        assert_eq!(changed(&mut known), "");
        known.put_account(shop("z")?, account(Some("b")));
        assert_eq!(changed(&mut known), "b");
        known.put_account(shop("y")?, account(None));
        assert_eq!(known.take_touched().into_iter().collect::<Vec<_>>(), ["a"], "its faults count on");
        assert_eq!(changed(&mut known), "");
        known.put_account(shop("other")?, account(None));
        assert_eq!(changed(&mut known), "");
        known.put_account(shop("other")?, account(Some("b")));
        assert_eq!(changed(&mut known), "b");
        known.remove_account(&shop("other")?);
        assert_eq!(changed(&mut known), "b");
        Ok(())
    }

    #[test]
    fn only_the_first_account_of_a_namespace_tells_that_accounts_may_be_made_there() -> Outcome {
        let shop = |name: &str| AccountName::new("shop", name);
        let mut known = Known::default();
        known.put_object(object("a", "ra", &["x", "y"], &json!({}))?);
        changed(&mut known);
        // The second time the namespace has been away meanwhile.
        for _ in 0..2 {
            known.put_account(AccountName::new("jobs", "default")?, account(None));
            assert_eq!(changed(&mut known), "");
            known.put_account(shop("default")?, account(None));
            assert_eq!(changed(&mut known), "a");
            known.put_account(shop("other")?, account(None));
            assert_eq!(changed(&mut known), "");
            known.remove_account(&shop("default")?);
            known.put_account(shop("default")?, account(None));
            assert_eq!(changed(&mut known), "", "another account is still there");
            known.remove_account(&shop("default")?);
            known.remove_account(&shop("other")?);
            assert_eq!(changed(&mut known), "");
        }
        Ok(())
    }

    #[test]
    fn rivals_are_looked_at_again_when_an_object_lets_go() -> Outcome {
        let nothing = json!({});
        let mut known = Known::default();
        known.replace_objects(vec![
            object("a", "r", &["x"], &nothing)?,
            object("b", "R", &["y"], &nothing)?,
            object("c", "rc", &["x"], &nothing)?,
            object("d", "rd", &["z"], &nothing)?,
        ]);
        changed(&mut known);
        known.put_object(object("a", "r", &[], &json!({ "generation": 2 }))?);
        assert_eq!(changed(&mut known), "a b c");
        known.remove_object("a");
        assert_eq!(changed(&mut known), "a b");
        let claims = known.claims();
        assert!(known.view("a", &claims).is_none());
        assert_eq!(known.view("b", &claims).map(|view| view.claim), Some(Claim::default()));
        // A list that lacks one says that it is gone.
        known.replace_objects(vec![object("b", "r", &["y"], &nothing)?, object("c", "rc", &["x"], &nothing)?]);
        assert_eq!(changed(&mut known), "d");
        Ok(())
    }

    #[test]
    fn view_has_the_accounts_that_an_object_names_and_those_that_carry_its_mark() -> Outcome {
        let shop = |name: &str| AccountName::new("shop", name);
        let mut known = Known::default();
        known.put_object(object("a", "r", &["x", "y"], &json!({}))?);
        known.put_account(shop("x")?, account(None));
        known.put_account(shop("left")?, account(Some("a")));
        known.put_account(shop("other")?, account(Some("b")));
        let view = known.view("a", &known.claims()).ok_or("a view")?;
        assert_eq!(view.marked, [shop("left")?]);
        let mut names: Vec<String> = view.accounts.keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["shop/left", "shop/x"]);
        known.put_account(shop("left")?, account(None));
        assert!(known.view("a", &known.claims()).is_some_and(|view| view.marked.is_empty()));
        Ok(())
    }
}
