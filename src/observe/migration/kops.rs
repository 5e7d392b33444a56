//! kops' state of a cluster: read from its bucket, or from a copy in a folder of this host.

use std::path::Path;

use anyhow::Context as _;

use super::{Request, Seen, keys_of, usual};
use crate::{
    aws::{self, s3::S3Store},
    host::{Root, files::LARGEST_FILE_BYTES},
    model::{
        key::Zeroizing,
        location::BucketName,
        manifest::LONGEST_MANIFEST_BYTES,
        migrate::{KopsState, KopsStore, STATE_FILES},
        probe::sentence,
    },
    store::Store as _,
};

/// What is in one of the files; one of them is a private key.
type Bytes = Zeroizing<Vec<u8>>;

/// A control plane that takes kops' keys with it. A running one has keys already. The inner error is a refusal.
pub(super) async fn look(request: &Request<'_>, store: &KopsStore) -> anyhow::Result<Result<Seen, String>> {
    let manifest = Path::new(request.distribution.manifest());
    if request.root.read(manifest, LONGEST_MANIFEST_BYTES as u64)?.is_some() {
        return Ok(Err(format!(
            "{} is there (nothing changed): --state is for the first node of a new control plane, before kubeadm; on a node of kops leave it \
             out",
            manifest.display()
        )));
    }
    let [specification, keyset] = match store {
        KopsStore::Folder(folder) => files(folder)?,
        KopsStore::Bucket { bucket, prefix } => match objects(request, bucket, prefix).await {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        },
    };
    let state = match KopsState::read(&specification, &keyset) {
        Ok(state) => state,
        Err(why) => return Ok(Err(why)),
    };
    let usual = usual(request.distribution);
    let keys = usual.each_ref().map(|file| keys_of(request.root, file));
    let (files, api_servers) = (state.files(usual), state.api_servers());
    Ok(Ok(Seen { files, api_servers, irsa_manager: None, kops: Some((state, keys)) }))
}

fn files(folder: &Path) -> anyhow::Result<[Bytes; 2]> {
    let [specification, keyset] = STATE_FILES.map(|name| {
        let path = folder.join(name);
        let found = Root::host().read_through_links(&path, LARGEST_FILE_BYTES)?;
        found.map(|found| Zeroizing::new(found.bytes)).with_context(|| {
            format!(
                "{} does not exist (nothing changed); copy it there from the state store: aws s3 cp",
                path.display()
            )
        })
    });
    Ok([specification?, keyset?])
}

/// The same from the state store itself, in whatever region that is.
async fn objects(request: &Request<'_>, bucket: &BucketName, prefix: &str) -> Result<[Bytes; 2], String> {
    let refused = |why: String| format!("{why} (nothing changed)");
    let region = match &request.wish.region {
        Some(region) => region.clone(),
        None => aws::region_from_instance().await.map_err(|error| {
            format!("{}; or say where to ask first: --region, in whatever region the bucket is", sentence(&error))
        })?,
    };
    let first = aws::connect(&region, request.endpoints.clone()).await;
    let account = aws::identity(&first).await.map_err(|error| refused(sentence(&error)))?.account;
    let home = S3Store::private(&first, bucket, &account).home().await;
    let config = if home == region { first } else { aws::connect(&home, request.endpoints.clone()).await };
    let store = S3Store::private(&config, bucket, &account);
    let [specification, keyset] = STATE_FILES.map(|name| match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}/{name}"),
    });
    Ok([object(&store, &specification).await?, object(&store, &keyset).await?])
}

async fn object(store: &S3Store, key: &str) -> Result<Bytes, String> {
    match store.get(key).await {
        Ok(Some(object)) => Ok(Zeroizing::new(object.body)),
        Ok(None) => Err(format!(
            "{store}/{key} does not exist (nothing changed); name the folder of the cluster in kops' state store: --state s3://BUCKET/CLUSTER"
        )),
        Err(error) => Err(sentence(&error)),
    }
}
