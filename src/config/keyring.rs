//! `keyring`: where it is kept, what seals it, and which places would give private keys away.

use crate::model::{
    kms_key::KmsKey,
    location::{KeyringLocation, Location},
    region::Region,
};

use super::{KeyringSettings, section::Section};

/// `keyring`. `issuer_store` is where the public documents are.
pub(super) fn keyring(section: &Section<'_>, issuer_store: Option<&Location>) -> KeyringSettings {
    let store: Option<KeyringLocation> = section.text("store");
    let given = section.raw("kmsKey").is_some_and(|text| !text.is_empty());
    let kms_key: Option<KmsKey> = if given { section.text("kmsKey") } else { None };
    if let (Some(KeyringLocation::Outside(store)), Some(issuer_store)) = (&store, issuer_store) {
        check_apart(section, store, issuer_store);
    }
    if let (Some(KeyringLocation::Outside(Location::S3 { .. })), false) = (&store, given) {
        let text = "it is missing; private keys leave this node for S3 sealed only, name a KMS key, for example `kmsKey: alias/irsad`";
        section.blame("kmsKey", text);
    }
    KeyringSettings { store: store.unwrap_or(KeyringLocation::Kubernetes), kms_key }
}

impl KeyringSettings {
    /// Whether it cannot be read without AWS.
    pub(super) fn needs_aws(&self) -> bool {
        self.kms_key.is_some() || matches!(self.store, KeyringLocation::Outside(Location::S3 { .. }))
    }
}

/// KMS keys are of one region, and one region is asked.
pub(super) fn check_region(section: &Section<'_>, keyring: &KeyringSettings, region: Option<&Region>) {
    let of_key = keyring.kms_key.as_ref().and_then(KmsKey::region);
    if let (Some(of_key), Some(region)) = (of_key, region)
        && of_key != *region
    {
        section
            .blame("kmsKey", format!("the key is in {of_key} and aws.region is {region}; name a key of that region"));
    }
}

/// One wrong line of a policy or a web server would show the keyring to the world.
fn check_apart(section: &Section<'_>, store: &Location, issuer_store: &Location) {
    match (store, issuer_store) {
        (Location::S3 { bucket, .. }, Location::S3 { bucket: public, .. }) if bucket == public => {
            let text = format!(
                "{bucket} is also the bucket of issuer.store, which is public; give the keyring a bucket of its own"
            );
            section.blame("store", text);
        }
        (Location::File(folder), Location::File(public))
            if folder.starts_with(public) || public.starts_with(folder) =>
        {
            let text = format!(
                "{} and the folder of issuer.store, {}, lie in each other, and a web server serves that one; give the keyring a folder \
                 of its own",
                folder.display(),
                public.display()
            );
            section.blame("store", text);
        }
        (Location::S3 { .. } | Location::File(_), Location::S3 { .. } | Location::File(_)) => (),
    }
}
