//! The webhook's certificates as files that only root reads: they never leave the node.

use std::path::Path;

use jiff::Timestamp;

use crate::{
    host::Root,
    model::probe::sentence,
    webhook::certificate::{Certificate, Certificates, Turn},
};

/// Folder of the files, 0700.
const FOLDER: &str = "/var/lib/irsad/webhook";
/// What is served: certificate and private key in PEM.
const CURRENT: &str = "/var/lib/irsad/webhook/current.pem";
/// What will be served once the registration holds it.
const NEXT: &str = "/var/lib/irsad/webhook/next.pem";
const LARGEST_FILE_BYTES: u64 = 64 << 10;

/// The certificates of this node, made where there are none. A file that cannot be understood is made anew.
///
/// # Errors
/// The files cannot be read or written, as a sentence.
pub(super) fn load(root: &Root, now: Timestamp) -> Result<Certificates, String> {
    root.make_folder(Path::new(FOLDER), 0o700).map_err(|error| sentence(&error))?;
    if let Err(error) = root.clean_staging(Path::new(FOLDER)) {
        tracing::warn!("cannot clean up {FOLDER}: {}", sentence(&error));
    }
    let (current, next) = (read(root, CURRENT)?, read(root, NEXT)?);
    let current = match current {
        Some(current) => current,
        None => make(root, CURRENT, now)?,
    };
    // A stop between the two steps of a change leaves both files with the same certificate.
    let next = next.filter(|next| next.pem() != current.pem());
    Ok(Certificates { current, next })
}

/// Does what is due, given the `caBundle` that is registered; whether something was done.
///
/// # Errors
/// The files cannot be written, as a sentence; what was served still is.
pub(super) fn renew(
    root: &Root,
    certificates: &mut Certificates,
    registered: Option<&str>,
    now: Timestamp,
) -> Result<bool, String> {
    match (certificates.turn(registered, now), &certificates.next) {
        (Turn::Keep, _) | (Turn::Switch, None) => Ok(false),
        (Turn::Make, _) => {
            let next = make(root, NEXT, now)?;
            tracing::info!(not_after = %next.not_after(), "the webhook has its next certificate, which is served once it is registered");
            certificates.next = Some(next);
            Ok(true)
        }
        (Turn::Switch, Some(next)) => {
            write(root, CURRENT, next)?;
            tracing::info!(not_after = %next.not_after(), "the webhook serves its next certificate");
            *certificates = Certificates { current: next.clone(), next: None };
            root.remove_own(Path::new(NEXT)).map_err(|error| sentence(&error))?;
            Ok(true)
        }
    }
}

fn read(root: &Root, path: &str) -> Result<Option<Certificate>, String> {
    let found = root.read(Path::new(path), LARGEST_FILE_BYTES).map_err(|error| sentence(&error))?;
    let Some(found) = found else { return Ok(None) };
    match Certificate::read(&String::from_utf8_lossy(&found.bytes)) {
        Ok(certificate) => Ok(Some(certificate)),
        Err(error) => {
            tracing::warn!("{path} is made anew: {}", sentence(&error));
            Ok(None)
        }
    }
}

fn make(root: &Root, path: &str, now: Timestamp) -> Result<Certificate, String> {
    let certificate = Certificate::make(now).map_err(|error| sentence(&error))?;
    write(root, path, &certificate)?;
    Ok(certificate)
}

fn write(root: &Root, path: &str, certificate: &Certificate) -> Result<(), String> {
    let written = root.replace_own(Path::new(path), certificate.text().as_bytes(), 0o600);
    written.map(drop).map_err(|error| sentence(&error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::SignedDuration;
    use tempfile::TempDir;

    use super::*;

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    #[test]
    fn certificate_outlives_the_process_and_is_renewed_in_two_steps() -> Outcome {
        let folder = TempDir::new()?;
        let root = Root::new(folder.path())?;
        let made = Timestamp::now();
        let first = load(&root, made)?;
        let mode = folder.path().join(&CURRENT[1..]).metadata()?.permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let mut again = load(&root, made)?;
        assert_eq!(again.pems(), first.pems());
        assert!(!renew(&root, &mut again, None, made)?);

        let due = made + SignedDuration::from_hours(21 * 24);
        assert!(renew(&root, &mut again, Some(first.current.pem()), due)?);
        let mut both = load(&root, due)?;
        assert_eq!((both.pems(), both.pems().len(), both.current.pem()), (again.pems(), 2, first.current.pem()));
        assert!(!renew(&root, &mut both, Some(first.current.pem()), due)?);

        let next = both.pems().pop().ok_or("no next certificate")?;
        let registered = both.pems().concat();
        assert!(renew(&root, &mut both, Some(&registered), due)?);
        assert_eq!((both.pems(), load(&root, due)?.pems()), (vec![next.clone()], vec![next]));
        Ok(())
    }

    #[test]
    fn file_that_cannot_be_understood_is_made_anew() -> Outcome {
        let folder = TempDir::new()?;
        let root = Root::new(folder.path())?;
        load(&root, Timestamp::now())?;
        std::fs::write(folder.path().join(&CURRENT[1..]), "-----BEGIN")?;
        let made = load(&root, Timestamp::now())?;
        assert_eq!(load(&root, Timestamp::now())?.pems(), made.pems());
        Ok(())
    }
}
