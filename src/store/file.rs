//! A folder as a store: for a web server that shows it to the world, or for private objects of this node.
//!
//! Conditional writes hold among irsad processes of this machine: they take a lock on the folder. Others that write there
//! are noticed by the hash of what they leave, up to the moment of the rename.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Condition, LARGEST_OBJECT_BYTES, Object, Store, StoreError, Version};

/// Most keys that are listed.
const LONGEST_LIST: usize = 1000;
/// How long a write waits for another irsad's.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks whether the other is done.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);
/// Name of a file that is being made. Web servers do not list dot-files, and [`FileStore::list`] does not either.
const STAGED_PREFIX: &str = ".irsad-staged-";

/// Objects as files below one folder, which is made by the first write.
///
/// Public ones are readable by everyone (0644, folders 0755), private ones by irsad's user alone (0600, folders 0700); what
/// is there and open to others is then refused, because somebody may know it. No symbolic link is followed below the root, so
/// that nothing outside the folder is ever served or written.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: PathBuf,
    folder: PathBuf,
    readers: Readers,
    patience: Duration,
}

/// Who may read the objects.
#[derive(Debug, Clone, Copy)]
enum Readers {
    Everyone,
    OwnUser,
}

impl Readers {
    fn folder_mode(self) -> u32 {
        match self {
            Self::Everyone => 0o755,
            Self::OwnUser => 0o700,
        }
    }

    fn file_mode(self) -> u32 {
        match self {
            Self::Everyone => 0o644,
            Self::OwnUser => 0o600,
        }
    }
}

/// What is in the way of a file.
#[derive(Debug, Error)]
enum Obstacle {
    #[error("{} is a symbolic link; put the folder or file itself there, or name it in the configuration", .0.display())]
    Link(PathBuf),
    #[error("{} is not a folder", .0.display())]
    NotFolder(PathBuf),
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    #[error("{} is larger than {LARGEST_OBJECT_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error(
        "{} is open to other users and private keys lie there; see who may have read them, then take the permissions away: chmod go= {}",
        .0.display(),
        .0.display()
    )]
    Open(PathBuf),
    #[error("{0:?} has an empty or dot segment")]
    Key(String),
    #[error("another irsad has held the lock on {} all the time", .0.display())]
    Locked(PathBuf),
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl FileStore {
    /// The folder `folder` with private objects, otherwise as [`FileStore::new`].
    pub fn private(root: &Path, folder: &Path) -> Self {
        Self { readers: Readers::OwnUser, ..Self::new(root, folder) }
    }

    /// The folder `folder` with public objects, an absolute path below `root` (`/` on a running host). Nothing is read or
    /// made yet.
    pub fn new(root: &Path, folder: &Path) -> Self {
        let below = |component: &Component<'_>| matches!(component, Component::Normal(_));
        let folder = root.join(folder.components().filter(below).collect::<PathBuf>());
        Self { root: root.to_owned(), folder, readers: Readers::Everyone, patience: LOCK_PATIENCE }
    }

    fn path(&self, key: &str) -> Result<PathBuf, Obstacle> {
        let plain = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
        if key.split('/').all(plain) { Ok(self.folder.join(key)) } else { Err(Obstacle::Key(key.to_owned())) }
    }

    fn read(&self, key: &str) -> Result<Option<Object>, Obstacle> {
        let path = self.path(key)?;
        if !self.has_folder(path.parent().unwrap_or(&self.folder))? {
            return Ok(None);
        }
        // Looked at before it is opened: a FIFO would be waited for.
        match look(&path)? {
            None => return Ok(None),
            Some(found) if found.is_symlink() => return Err(Obstacle::Link(path)),
            Some(found) if !found.is_file() => return Err(Obstacle::NotRegular(path)),
            Some(found) if found.len() > LARGEST_OBJECT_BYTES => return Err(Obstacle::TooLarge(path)),
            Some(found) => self.check_readers(&path, &found)?,
        }
        let mut body = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(LARGEST_OBJECT_BYTES + 1).read_to_end(&mut body));
        match read {
            Ok(_) if body.len() as u64 > LARGEST_OBJECT_BYTES => Err(Obstacle::TooLarge(path)),
            Ok(_) => Ok(Some(Object { version: version(&body), body })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Obstacle::Io(path, error)),
        }
    }

    /// Folders from the root to `folder`, the nearest to the root first.
    fn folders<'a>(&self, folder: &'a Path) -> Vec<&'a Path> {
        let mut folders: Vec<_> = folder.ancestors().take_while(|above| *above != self.root).collect();
        folders.reverse();
        folders
    }

    /// Whether `folder` is there, through no link.
    fn has_folder(&self, folder: &Path) -> Result<bool, Obstacle> {
        for folder in self.folders(folder) {
            if !self.is_folder(folder)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn make_folder(&self, folder: &Path) -> Result<(), Obstacle> {
        for folder in self.folders(folder) {
            if !self.is_folder(folder)? {
                let io = |error| Obstacle::Io(folder.to_owned(), error);
                let readers = if folder.starts_with(&self.folder) { self.readers } else { Readers::Everyone };
                DirBuilder::new().mode(readers.folder_mode()).create(folder).map_err(io)?;
                // A web server of another user has to read what is public, whatever our umask is.
                fs::set_permissions(folder, Permissions::from_mode(readers.folder_mode())).map_err(io)?;
                flush(folder.parent().unwrap_or(&self.root))?;
            }
        }
        Ok(())
    }

    fn is_folder(&self, folder: &Path) -> Result<bool, Obstacle> {
        match look(folder)? {
            None => Ok(false),
            Some(found) if found.is_symlink() => Err(Obstacle::Link(folder.to_owned())),
            Some(found) if found.is_dir() => self.check_readers(folder, &found).map(|()| true),
            Some(_) => Err(Obstacle::NotFolder(folder.to_owned())),
        }
    }

    /// Refuses what others may read or write where the store is private.
    fn check_readers(&self, path: &Path, found: &fs::Metadata) -> Result<(), Obstacle> {
        match self.readers {
            Readers::OwnUser if path.starts_with(&self.folder) && found.permissions().mode() & 0o077 != 0 => {
                Err(Obstacle::Open(path.to_owned()))
            }
            Readers::OwnUser | Readers::Everyone => Ok(()),
        }
    }

    /// The lock, free again when the file is closed, also by a kill.
    async fn lock(&self) -> Result<File, Obstacle> {
        self.make_folder(&self.folder)?;
        let file = File::open(&self.folder).map_err(|error| Obstacle::Io(self.folder.clone(), error))?;
        let wait = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_INTERVAL).await,
                    Err(TryLockError::Error(error)) => return Err(Obstacle::Io(self.folder.clone(), error)),
                }
            }
        };
        let waited = tokio::time::timeout(self.patience, wait).await;
        waited.unwrap_or_else(|_| Err(Obstacle::Locked(self.folder.clone())))?;
        Ok(file)
    }

    /// Puts `body` in place. To be called with the lock held.
    fn write(&self, key: &str, body: &[u8]) -> Result<(), Obstacle> {
        let path = self.path(key)?;
        let folder = path.parent().unwrap_or(&self.folder);
        self.make_folder(folder)?;
        let staged = folder.join(format!("{STAGED_PREFIX}{}", path.file_name().unwrap_or_default().display()));
        let io = |error| Obstacle::Io(staged.clone(), error);
        match fs::remove_file(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            // Left by a killed run: only one process has the lock.
            _ => (),
        }
        let put = write_new(&staged, body, self.readers.file_mode()).and_then(|()| fs::rename(&staged, &path));
        if let Err(error) = put {
            // The error is what a person must see; what is left over goes with the next write.
            let _ = fs::remove_file(&staged);
            return Err(io(error));
        }
        flush(folder)
    }

    /// Removes a file, and each folder below the store's own that is empty then. To be called with the lock held.
    fn remove(&self, key: &str) -> Result<(), Obstacle> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Obstacle::Io(path, error)),
            Ok(()) | Err(_) => {}
        }
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.folder) {
            // One that still holds something stays.
            if fs::remove_dir(folder).is_err() {
                return flush(folder);
            }
        }
        flush(&self.folder)
    }

    fn collect(&self, folder: &Path, prefix: &str, keys: &mut Vec<String>) -> Result<(), Obstacle> {
        let io = |error| Obstacle::Io(folder.to_owned(), error);
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let path = entry.path();
            // A name that is not text is none of ours.
            let Some(key) = path.strip_prefix(&self.folder).ok().and_then(Path::to_str) else { continue };
            let kind = entry.file_type().map_err(io)?;
            let below = format!("{key}/");
            if kind.is_dir() && (below.starts_with(prefix) || prefix.starts_with(&below)) {
                self.collect(&path, prefix, keys)?;
            }
            let is_staged = entry.file_name().as_encoded_bytes().starts_with(STAGED_PREFIX.as_bytes());
            if kind.is_file() && key.starts_with(prefix) && !is_staged {
                keys.push(key.to_owned());
            }
        }
        Ok(())
    }

    fn failed(&self, what: &str, source: Obstacle) -> StoreError {
        StoreError::Failed {
            sentence: format!("cannot {what}; check that irsad may use the folder and that its disk has space"),
            source: Box::new(source),
        }
    }

    fn place(&self, key: &str) -> String {
        self.folder.join(key).display().to_string()
    }
}

impl fmt::Display for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.folder.display())
    }
}

impl Store for FileStore {
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let error = |source| self.failed(&format!("read {} (nothing changed)", self.place(key)), source);
        self.read(key).map_err(error)
    }

    async fn put(&self, key: &str, body: &[u8], condition: &Condition) -> Result<Version, StoreError> {
        // After an error of the last flush it is the new one; a reader is told by the hash.
        let error = |source| self.failed(&format!("write {} (old file or new one in place)", self.place(key)), source);
        self.path(key).map_err(error)?;
        let _lock = self.lock().await.map_err(error)?;
        let holds = match (self.read(key).map_err(error)?, condition) {
            (None, Condition::Absent) => true,
            (Some(found), Condition::Unchanged(version)) => found.version == *version,
            (Some(_), Condition::Absent) | (None, Condition::Unchanged(_)) => false,
        };
        if !holds {
            return Err(StoreError::Conflict { place: self.place(key) });
        }
        self.write(key, body).map_err(error)?;
        Ok(version(body))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let error = |source| self.failed(&format!("delete {} (it is there or gone)", self.place(key)), source);
        if self.read(key).map_err(error)?.is_none() {
            return Ok(());
        }
        let _lock = self.lock().await.map_err(error)?;
        self.remove(key).map_err(error)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let error = |source| self.failed(&format!("list {self} (nothing changed)"), source);
        let mut keys = Vec::new();
        if self.has_folder(&self.folder).map_err(error)? {
            self.collect(&self.folder, prefix, &mut keys).map_err(error)?;
        }
        keys.sort();
        keys.truncate(LONGEST_LIST);
        Ok(keys)
    }
}

fn version(body: &[u8]) -> Version {
    Version(format!("{:x}", Sha256::digest(body)))
}

fn look(path: &Path) -> Result<Option<fs::Metadata>, Obstacle> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Obstacle::Io(path.to_owned(), error)),
    }
}

fn write_new(path: &Path, body: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // A web server of another user has to read what is public, whatever our umask is.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(body)?;
    file.sync_all()
}

fn flush(folder: &Path) -> Result<(), Obstacle> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Obstacle::Io(folder.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use std::{error::Error, os::unix::fs::symlink};

    use tempfile::TempDir;

    use super::{super::contract, *};

    /// A root and the store `/srv/oidc` below it.
    fn store() -> (TempDir, FileStore) {
        let root = TempDir::new().expect("a folder");
        let folder = root.path().canonicalize().expect("a folder");
        (root, FileStore::new(&folder, Path::new("/srv/oidc")))
    }

    fn sentence(error: StoreError) -> String {
        match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }
    }

    #[tokio::test]
    async fn folder_keeps_the_contract_of_every_store() {
        let (_root, store) = store();
        contract::holds(&store).await;
    }

    #[tokio::test]
    async fn folder_that_another_irsad_writes_to_is_not_written_to() {
        let (_root, store) = store();
        store.put("jwks", b"one", &Condition::Absent).await.expect("written");
        let other = File::open(&store.folder).expect("a folder");
        other.lock().expect("locked");
        let store = FileStore { patience: Duration::from_millis(1), ..store };
        let error = store.put("keys.json", b"one", &Condition::Absent).await.map_err(sentence).expect_err("locked");
        let cause = format!("another irsad has held the lock on {} all the time", store.folder.display());
        assert!(error.ends_with(&cause), "{error}");
        assert_eq!(store.list("").await.expect("listed"), ["jwks"]);
    }

    #[tokio::test]
    async fn web_server_of_another_user_can_read_what_is_published() {
        let (_root, store) = store();
        store.put("openid/v1/jwks", b"{}", &Condition::Absent).await.expect("written");
        for (path, mode) in [("", 0o755), ("openid", 0o755), ("openid/v1/jwks", 0o644)] {
            let found = fs::metadata(store.folder.join(path)).expect("there").permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{path}");
        }
    }

    /// The same folder with private objects.
    fn private(store: FileStore) -> FileStore {
        FileStore { readers: Readers::OwnUser, ..store }
    }

    #[tokio::test]
    async fn private_objects_are_readable_by_their_own_user_only() {
        let (_root, store) = store();
        let store = private(store);
        contract::holds(&store).await;
        for (path, mode) in [("", 0o700), ("openid", 0o700), ("openid/v1/jwks", 0o600), ("..", 0o755)] {
            let found = fs::metadata(store.folder.join(path)).expect("there").permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{path}");
        }
    }

    #[tokio::test]
    async fn private_object_that_others_may_read_is_refused() {
        for (path, mode) in [("", 0o750), ("keys", 0o705), ("keys/kid", 0o640), ("keys/kid", 0o602)] {
            let (_root, store) = store();
            let store = private(store);
            let version = store.put("keys/kid", b"private", &Condition::Absent).await.expect("written");
            let open = store.folder.join(path).components().collect::<PathBuf>();
            fs::set_permissions(&open, Permissions::from_mode(mode)).expect("a mode");
            let (place, open) = (store.place("keys/kid"), open.display());
            let cause = format!(
                "check that irsad may use the folder and that its disk has space: {open} is open to other users and private keys lie there; see who may have read them, then take the permissions away: chmod go= {open}"
            );
            let read = store.get("keys/kid").await.map_err(sentence);
            assert_eq!(read, Err(format!("cannot read {place} (nothing changed); {cause}")));
            let written = store.put("keys/kid", b"other", &Condition::Unchanged(version)).await.map_err(sentence);
            assert_eq!(written, Err(format!("cannot write {place} (old file or new one in place); {cause}")));
        }
    }

    #[tokio::test]
    async fn file_that_a_killed_run_left_is_not_listed_and_goes_with_the_next_write() {
        let (_root, store) = store();
        let first = store.put("jwks", b"one", &Condition::Absent).await.expect("written");
        fs::write(store.folder.join(".irsad-staged-jwks"), "half").expect("a file");
        assert_eq!(store.list("").await.expect("listed"), ["jwks"]);
        store.put("jwks", b"two", &Condition::Unchanged(first)).await.expect("written");
        let names: Vec<_> =
            fs::read_dir(&store.folder).expect("a folder").map(|entry| entry.map(|e| e.file_name()).ok()).collect();
        assert_eq!(names, [Some("jwks".into())]);
    }

    #[tokio::test]
    async fn nothing_is_read_or_written_through_a_link_or_outside_the_folder() {
        let (root, store) = store();
        fs::create_dir_all(&store.folder).expect("a folder");
        symlink("/etc", store.folder.join("openid")).expect("a link");
        symlink("/etc/passwd", store.folder.join("jwks")).expect("a link");
        let at = store.folder.display();
        let cure = "check that irsad may use the folder and that its disk has space";
        let link = "is a symbolic link; put the folder or file itself there, or name it in the configuration";
        for (key, cause) in [
            ("openid/v1/jwks", format!("{at}/openid {link}")),
            ("jwks", format!("{at}/jwks {link}")),
            ("../jwks", "\"../jwks\" has an empty or dot segment".to_owned()),
            ("/etc/passwd", "\"/etc/passwd\" has an empty or dot segment".to_owned()),
        ] {
            let place = store.place(key);
            let read = store.get(key).await.map_err(sentence);
            assert_eq!(read, Err(format!("cannot read {place} (nothing changed); {cure}: {cause}")));
            let written = store.put(key, b"{}", &Condition::Absent).await.map_err(sentence);
            assert_eq!(written, Err(format!("cannot write {place} (old file or new one in place); {cure}: {cause}")));
        }
        fs::remove_dir_all(root.path().join("srv")).expect("removed");
        symlink("/", root.path().join("srv")).expect("a link");
        assert!(store.list("").await.map_err(sentence).is_err_and(|error| error.contains("/srv is a symbolic link")));
    }

    #[tokio::test]
    async fn file_too_large_for_a_document_is_not_read() {
        let (_root, store) = store();
        fs::create_dir_all(&store.folder).expect("a folder");
        let large = File::create(store.folder.join("jwks")).expect("a file");
        large.set_len(LARGEST_OBJECT_BYTES).expect("a length");
        assert!(store.get("jwks").await.is_ok_and(|found| found.is_some()));
        large.set_len(LARGEST_OBJECT_BYTES + 1).expect("a length");
        let error = store.get("jwks").await.map_err(sentence).expect_err("too large");
        assert!(error.ends_with("/jwks is larger than 1048576 bytes"), "{error}");
    }

    #[tokio::test]
    async fn file_edited_by_hand_is_a_conflict() {
        let (_root, store) = store();
        let first = store.put("jwks", b"one", &Condition::Absent).await.expect("written");
        fs::write(store.folder.join("jwks"), "edited").expect("a file");
        let error = store.put("jwks", b"two", &Condition::Unchanged(first)).await.map_err(sentence);
        let place = store.place("jwks");
        assert_eq!(
            error,
            Err(format!(
                "{place} was changed by someone else since it was read (nothing written); the next pass reads it again"
            ))
        );
        assert_eq!(fs::read(store.folder.join("jwks")).expect("a file"), b"edited");
    }
}
