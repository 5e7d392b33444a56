//! Host files: read whole, replaced whole, or left as they are.
//!
//! A file is only ever the old one or the new one. The new one is written elsewhere on the same mount, flushed, read
//! back and renamed into place, and only while what it replaces is still what the caller decided upon. A rename gives
//! kubelet exactly one event for a manifest (IN_MOVED_TO); an exchange, or moving the old file aside, would make it
//! delete the Pod.
//!
//! SELinux labels are not copied: a new file gets the label that policy gives to files of its staging folder, which
//! below `/etc/kubernetes` is that of its neighbours.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{self, OFlag},
    sys::stat::{self, FileStat, Mode, SFlag},
    unistd::{self, UnlinkatFlags},
};

use super::{
    FileError, Root,
    file_error::FoundAfterwards,
    root::{Folder, Guard, Links, kind, read_error},
    staged::{STAGED_PREFIX, Staged, permissions},
};
use crate::model::file::{Digest, ExpectedFile};

/// Where files below `/etc/kubernetes` are made before they are put in place: on the same mount, and not a folder that
/// kubelet reads.
pub const KUBERNETES_STAGING: &str = "/etc/kubernetes/.irsad";

/// Longest file that is read where nothing else is said, in bytes: keys, kubeconfig, configuration, status, this node's memory.
pub const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// Largest file that is replaced or removed. One that has grown past it is a changed file, and not read to the end for that.
const LARGEST_OWN_BYTES: u64 = 16 << 20;

/// A regular file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContent {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Permission bits, for example `0o600`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content was last written.
    pub modified: Timestamp,
    /// Of `bytes`.
    pub digest: Digest,
}

impl FileContent {
    /// Whether anybody but the owner may read or write it: not right for a private key.
    pub fn is_open_to_others(&self) -> bool {
        self.mode & 0o077 != 0
    }
}

impl fmt::Debug for FileContent {
    // The bytes may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileContent")
            .field("bytes", &format_args!("({} bytes)", self.bytes.len()))
            .field("mode", &format_args!("{:04o}", self.mode))
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("digest", &self.digest)
            .finish()
    }
}

/// How a file is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// Permission bits; `None`: those of the file replaced, 0600 where there is none.
    pub mode: Option<u32>,
    /// User and group; `None`: those of the file replaced, this process's where there is none.
    pub owner: Option<(u32, u32)>,
    /// What must be there until the moment of the rename.
    pub expected: ExpectedFile,
    /// Folder on the same mount to make the new file in, created (0700) where missing, for example
    /// [`KUBERNETES_STAGING`]; `None`: a dot-file beside the target. Never `None` for a folder that kubelet reads.
    pub staging: Option<&'a Path>,
}

impl Root {
    /// The regular file `path`, or `None` where there is certainly none. Symbolic links are refused.
    ///
    /// # Errors
    /// It is no regular file, has more than `limit_bytes`, or could not be read: nothing is known of it then.
    pub fn read(&self, path: &Path, limit_bytes: u64) -> Result<Option<FileContent>, FileError> {
        self.read_with(path, limit_bytes, Links::Refuse)
    }

    /// [`Root::read`] for files that irsad never writes, such as a kubeconfig: symbolic links are followed below the root.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn read_through_links(&self, path: &Path, limit_bytes: u64) -> Result<Option<FileContent>, FileError> {
        self.read_with(path, limit_bytes, Links::Follow)
    }

    fn read_with(&self, path: &Path, limit_bytes: u64, links: Links) -> Result<Option<FileContent>, FileError> {
        match self.parent(path, links, Guard::None) {
            Ok((folder, name)) => folder.read(&name, limit_bytes),
            Err(FileError::NoFolder { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names in the folder `path`, sorted, or `None` where there is certainly no such folder.
    ///
    /// # Errors
    /// It is a symbolic link or no folder, or could not be read.
    pub fn names(&self, path: &Path) -> Result<Option<Vec<OsString>>, FileError> {
        match self.folder(path, Guard::None) {
            Ok(folder) => folder.names().map(Some),
            Err(FileError::NoFolder { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a file with `bytes` in the place of `path`, whole and flushed to disk, and gives its digest.
    ///
    /// Refuses symbolic links, and folders that others may write to or that belong to somebody else.
    ///
    /// # Errors
    /// The old file is untouched, except after [`FileError::Unflushed`], which says what is there.
    pub fn replace(&self, path: &Path, bytes: &[u8], how: &Replacement<'_>) -> Result<Digest, FileError> {
        self.replace_after(path, bytes, how, || ())
    }

    /// [`Root::replace`] with `before_rename` in the last moment in which another writer is still noticed.
    fn replace_after(
        &self,
        path: &Path,
        bytes: &[u8],
        how: &Replacement<'_>,
        before_rename: impl FnOnce(),
    ) -> Result<Digest, FileError> {
        let (target, name) = self.parent(path, Links::Refuse, Guard::OnlyOurs)?;
        let old = target.look(&name)?;
        target.check_expected(&name, &how.expected)?;
        let elsewhere = how.staging.map(|folder| self.staging_folder(folder)).transpose()?;
        let staging = elsewhere.as_ref().unwrap_or(&target);
        let staged = Staged::write(staging, &target.path.join(&name), bytes, permissions(how, old.as_ref()))?;
        before_rename();
        target.check_expected(&name, &how.expected)?;
        staged.put_in_place(&target, &name, bytes, &how.expected)?;
        Ok(Digest::of(bytes))
    }

    /// Puts a file that only irsad writes (below `/var/lib/irsad` or `/run/irsad`) in place, whatever was there.
    ///
    /// # Errors
    /// As [`Root::replace`].
    pub fn replace_own(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<Digest, FileError> {
        let found = self.read(path, LARGEST_OWN_BYTES)?;
        let expected = found.map_or(ExpectedFile::Absent, |found| ExpectedFile::Unchanged(found.digest));
        self.replace(path, bytes, &Replacement { mode: Some(mode), owner: None, expected, staging: None })
    }

    /// Removes a file that only irsad writes, if there is one.
    ///
    /// # Errors
    /// As [`Root::remove`].
    pub fn remove_own(&self, path: &Path) -> Result<(), FileError> {
        match self.read(path, LARGEST_OWN_BYTES)? {
            Some(found) => self.remove(path, &found.digest),
            None => Ok(()),
        }
    }

    /// Removes `path` if it still is what was read.
    ///
    /// # Errors
    /// The file is still there, except after [`FileError::Unflushed`].
    pub fn remove(&self, path: &Path, expected: &Digest) -> Result<(), FileError> {
        let (folder, name) = self.parent(path, Links::Refuse, Guard::OnlyOurs)?;
        folder.check_expected(&name, &ExpectedFile::Unchanged(expected.clone()))?;
        let path = folder.path.join(&name);
        folder.unlink(&name).map_err(|source| FileError::Remove { path: path.clone(), source })?;
        folder.flush().map_err(|source| FileError::Unflushed {
            path,
            folder: folder.path.clone(),
            now: FoundAfterwards::New,
            source,
        })
    }

    /// Makes the folder `path` and those above it that are missing, with `mode`. One that is there stays as it is.
    ///
    /// # Errors
    /// Folders above it may have been made.
    pub fn make_folder(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        let mut above: Vec<&Path> = path.ancestors().filter(|folder| folder.file_name().is_some()).collect();
        above.reverse();
        for folder in above {
            let (parent, name) = self.parent(folder, Links::Refuse, Guard::None)?;
            if parent.look(&name)?.is_none() {
                parent.make(&name, mode)?;
            }
        }
        self.folder(path, Guard::None).map(drop)
    }

    /// Removes what a killed run left half made in the folder `path`, and gives the names. Call it only while no other
    /// irsad writes there.
    ///
    /// # Errors
    /// Some may have been removed.
    pub fn clean_staging(&self, path: &Path) -> Result<Vec<PathBuf>, FileError> {
        let folder = match self.folder(path, Guard::OnlyOurs) {
            Ok(folder) => folder,
            Err(FileError::NoFolder { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut removed = Vec::new();
        for name in folder.names()? {
            if name.as_encoded_bytes().starts_with(STAGED_PREFIX.as_bytes()) {
                let path = folder.path.join(&name);
                folder.unlink(&name).map_err(|source| FileError::Remove { path: path.clone(), source })?;
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// The folder `path` itself, through no link.
    fn folder(&self, path: &Path, guard: Guard) -> Result<Folder, FileError> {
        let (parent, name) = self.parent(path, Links::Refuse, guard)?;
        let missing = || FileError::NoFolder { path: parent.path.join(&name), folder: parent.path.join(&name) };
        if parent.look(&name)?.is_none() {
            return Err(missing());
        }
        let folder = parent.open(&name)?;
        if guard == Guard::OnlyOurs {
            folder.check_only_ours(false)?;
        }
        Ok(folder)
    }

    fn staging_folder(&self, path: &Path) -> Result<Folder, FileError> {
        let (parent, name) = self.parent(path, Links::Refuse, Guard::OnlyOurs)?;
        if parent.look(&name)?.is_none() {
            parent.make(&name, 0o700)?;
        }
        let folder = parent.open(&name)?;
        folder.check_only_ours(false)?;
        Ok(folder)
    }
}

impl Folder {
    pub(super) fn read(&self, name: &OsStr, limit_bytes: u64) -> Result<Option<FileContent>, FileError> {
        let path = || self.path.join(name);
        // Looked at first, because opening a device can do something to it, and again once open, because only that counts.
        match self.look(name)? {
            None => return Ok(None),
            Some(found) => check_regular(&found, path())?,
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = match fcntl::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(FileError::SymbolicLink { path: path() }),
            Err(errno) => return Err(read_error(path(), errno)),
        };
        let found = stat::fstat(&fd).map_err(|errno| read_error(path(), errno))?;
        check_regular(&found, path())?;
        let mut bytes = Vec::new();
        let too_large = || FileError::TooLarge { path: path(), limit_bytes };
        if u64::try_from(found.st_size).is_ok_and(|size| size > limit_bytes) {
            return Err(too_large());
        }
        let read = File::from(fd).take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| FileError::Read { path: path(), source })?;
        if bytes.len() as u64 > limit_bytes {
            return Err(too_large());
        }
        let digest = Digest::of(&bytes);
        let modified = Timestamp::new(found.st_mtime, i32::try_from(found.st_mtime_nsec).unwrap_or_default());
        let modified = modified.unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Some(FileContent {
            bytes,
            mode: found.st_mode & 0o7777,
            uid: found.st_uid,
            gid: found.st_gid,
            modified,
            digest,
        }))
    }

    fn names(&self) -> Result<Vec<OsString>, FileError> {
        let error = |errno| read_error(self.path.clone(), errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut open = Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(error)?;
        let mut names = Vec::new();
        for entry in open.iter() {
            let name = OsStr::from_bytes(entry.map_err(error)?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn make(&self, name: &OsStr, mode: u32) -> Result<(), FileError> {
        let mode = Mode::from_bits_truncate(mode);
        let error = |errno: Errno| FileError::CreateFolder { path: self.path.join(name), source: errno.into() };
        stat::mkdirat(&self.fd, name, mode).map_err(error)?;
        // The umask may have taken bits away.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = fcntl::openat(&self.fd, name, flags, Mode::empty()).map_err(error)?;
        stat::fchmod(&made, mode).map_err(error)?;
        self.flush().map_err(|source| FileError::CreateFolder { path: self.path.join(name), source })
    }

    pub(super) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Whether `name` is what the caller decided upon.
    fn check_expected(&self, name: &OsStr, expected: &ExpectedFile) -> Result<(), FileError> {
        let changed = || FileError::ChangedMeanwhile { path: self.path.join(name) };
        match (self.read(name, LARGEST_OWN_BYTES), expected) {
            (Ok(None), ExpectedFile::Absent) => Ok(()),
            (Ok(Some(found)), ExpectedFile::Unchanged(digest)) if found.digest == *digest => Ok(()),
            (Ok(_) | Err(FileError::TooLarge { .. }), _) => Err(changed()),
            (Err(error), _) => Err(error),
        }
    }
}

fn check_regular(found: &FileStat, path: PathBuf) -> Result<(), FileError> {
    let kind = match kind(found) {
        SFlag::S_IFREG => return Ok(()),
        SFlag::S_IFLNK => return Err(FileError::SymbolicLink { path }),
        SFlag::S_IFDIR => "folder",
        SFlag::S_IFIFO => "FIFO",
        SFlag::S_IFSOCK => "socket",
        _ => "device",
    };
    Err(FileError::NotRegular { path, kind })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt, PermissionsExt, symlink},
            net::UnixListener,
        },
    };

    use tempfile::TempDir;

    use super::*;

    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

    /// A root as kubeadm leaves it, with one manifest.
    fn kubeadm_root() -> (TempDir, Root) {
        let folder = TempDir::new().expect("a folder");
        let root = Root::new(folder.path()).expect("a root");
        root.make_folder(Path::new("/etc/kubernetes/manifests"), 0o755).expect("folders");
        fs::write(real(&folder, MANIFEST), "old").expect("a manifest");
        fs::set_permissions(real(&folder, MANIFEST), PermissionsExt::from_mode(0o600)).expect("a mode");
        (folder, root)
    }

    fn real(folder: &TempDir, path: &str) -> PathBuf {
        folder.path().canonicalize().expect("a folder").join(path.trim_start_matches('/'))
    }

    fn staged(expected: ExpectedFile) -> Replacement<'static> {
        Replacement { mode: None, owner: None, expected, staging: Some(Path::new(KUBERNETES_STAGING)) }
    }

    fn unchanged(bytes: &[u8]) -> ExpectedFile {
        ExpectedFile::Unchanged(Digest::of(bytes))
    }

    fn read(root: &Root, path: &str) -> Result<Option<FileContent>, String> {
        root.read(Path::new(path), 100).map_err(|error| error.to_string())
    }

    fn replace(root: &Root, path: &str, how: &Replacement<'_>) -> Result<Digest, String> {
        root.replace(Path::new(path), b"new", how).map_err(|error| error.to_string())
    }

    fn names(root: &Root, path: &str) -> Vec<OsString> {
        root.names(Path::new(path)).expect("a readable folder").expect("a folder")
    }

    #[test]
    fn file_is_read_with_mode_owner_and_digest() {
        let (folder, root) = kubeadm_root();
        let metadata = fs::metadata(real(&folder, MANIFEST)).expect("a file");
        let file = read(&root, MANIFEST).expect("readable").expect("present");
        assert_eq!(
            (file.bytes.as_slice(), file.mode, file.uid, file.gid),
            (&b"old"[..], 0o600, metadata.uid(), metadata.gid())
        );
        assert_eq!(file.digest, Digest::of(b"old"));
        assert!(!file.is_open_to_others());
        let shown =
            format!("FileContent {{ bytes: (3 bytes), mode: 0600, uid: {}, gid: {}, digest: ", file.uid, file.gid);
        assert!(format!("{file:?}").starts_with(&shown), "{file:?}");
    }

    #[test]
    fn only_a_file_that_is_certainly_not_there_is_absent() {
        let (folder, root) = kubeadm_root();
        for path in ["/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/pki/sa.key", "/srv/kubernetes/a/b"] {
            assert_eq!(read(&root, path), Ok(None), "{path}");
        }
        let at = |path: &str| real(&folder, path).display().to_string();
        assert_eq!(
            read(&root, &format!("{MANIFEST}/a")),
            Err(format!("{} is not a folder (nothing changed); move it away", at(MANIFEST)))
        );
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_name_and_never_waited_for() {
        let (folder, root) = kubeadm_root();
        unistd::mkfifo(&real(&folder, "/etc/fifo"), Mode::S_IRUSR).expect("a FIFO");
        let _socket = UnixListener::bind(real(&folder, "/etc/socket")).expect("a socket");
        symlink("/dev/null", real(&folder, "/etc/link")).expect("a link");
        let refused = |path: &str, kind: &str| {
            Err(format!(
                "{} is a {kind}, not a regular file (nothing changed); move it away",
                real(&folder, path).display()
            ))
        };
        for (path, kind) in [("/etc/fifo", "FIFO"), ("/etc/socket", "socket"), ("/etc/kubernetes", "folder")] {
            assert_eq!(read(&root, path), refused(path, kind));
        }
        assert_eq!(
            Root::host().read(Path::new("/dev/null"), 1).map_err(|error| error.to_string()),
            Err("/dev/null is a device, not a regular file (nothing changed); move it away".to_owned())
        );
        assert_eq!(
            read(&root, "/etc/link"),
            Err(format!(
                "{} is a symbolic link (nothing changed); irsad follows none there, put the file or folder itself in its place",
                real(&folder, "/etc/link").display()
            ))
        );
    }

    #[test]
    fn file_larger_than_the_limit_is_not_kept_in_memory() {
        let (folder, root) = kubeadm_root();
        fs::write(real(&folder, "/etc/large"), [0; 101]).expect("a file");
        assert_eq!(
            read(&root, "/etc/large"),
            Err(format!(
                "{} is larger than 100 bytes (not read); that is no file of this kind",
                real(&folder, "/etc/large").display()
            ))
        );
        fs::write(real(&folder, "/etc/large"), [0; 100]).expect("a file");
        assert!(read(&root, "/etc/large").is_ok_and(|file| file.is_some()));
        // A file of /proc says that it has no bytes.
        let endless = format!("/proc/{}/maps", std::process::id());
        assert!(matches!(Root::host().read(Path::new(&endless), 10), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn links_are_followed_below_the_root_only_and_only_where_asked_for() {
        let (folder, root) = kubeadm_root();
        fs::write(real(&folder, "/etc/kubernetes/super-admin.conf"), "conf").expect("a file");
        symlink("super-admin.conf", real(&folder, "/etc/kubernetes/admin.conf")).expect("a link");
        symlink("/etc/kubernetes", real(&folder, "/absolute")).expect("a link");
        symlink("/etc/kubernetes/admin.conf", real(&folder, "/etc/kubernetes/chain.conf")).expect("a link");
        symlink("../../../../../etc/../etc/./kubernetes", real(&folder, "/up")).expect("a link");
        symlink("loop", real(&folder, "/loop")).expect("a link");
        let follow = |path: &str| root.read_through_links(Path::new(path), 100).map_err(|error| error.to_string());
        for path in ["/etc/kubernetes/admin.conf", "/absolute/chain.conf", "/up/super-admin.conf"] {
            assert_eq!(follow(path).map(|file| file.map(|file| file.bytes)), Ok(Some(b"conf".to_vec())), "{path}");
        }
        symlink("/etc/passwd", real(&folder, "/outside")).expect("a link");
        assert_eq!(follow("/outside"), Ok(None));
        assert_eq!(
            follow("/loop"),
            Err(format!(
                "{} leads through more than 40 symbolic links (nothing read); remove the loop",
                real(&folder, "/loop").display()
            ))
        );
        let error = read(&root, "/absolute/admin.conf").expect_err("a link on the way");
        assert!(error.contains("/absolute is a symbolic link"), "{error}");
    }

    #[test]
    fn path_that_could_leave_the_root_is_refused() {
        let (_folder, root) = kubeadm_root();
        for path in ["etc/passwd", "/etc/../../passwd", "/", ""] {
            let error =
                format!("{path} is not an absolute path to a file (nothing done); write it in full and without '..'");
            assert_eq!(read(&root, path), Err(error));
        }
    }

    #[test]
    fn replaced_file_keeps_mode_and_owner_and_leaves_nothing_else_behind() {
        let (folder, root) = kubeadm_root();
        fs::set_permissions(real(&folder, MANIFEST), PermissionsExt::from_mode(0o640)).expect("a mode");
        let before = fs::metadata(real(&folder, MANIFEST)).expect("a file").ino();
        assert_eq!(replace(&root, MANIFEST, &staged(unchanged(b"old"))), Ok(Digest::of(b"new")));
        let file = read(&root, MANIFEST).expect("readable").expect("present");
        assert_eq!((file.bytes.as_slice(), file.mode), (&b"new"[..], 0o640));
        assert_ne!(before, fs::metadata(real(&folder, MANIFEST)).expect("a file").ino(), "written in place");
        assert_eq!(names(&root, "/etc/kubernetes/manifests"), ["kube-apiserver.yaml"]);
        assert_eq!(names(&root, KUBERNETES_STAGING), [""; 0]);
        let staging = fs::metadata(real(&folder, KUBERNETES_STAGING)).expect("a folder");
        assert_eq!(staging.mode() & 0o7777, 0o700);
    }

    #[test]
    fn new_file_has_the_mode_asked_for_whatever_the_umask() {
        let (_folder, root) = kubeadm_root();
        for (path, mode, found) in [
            ("/etc/kubernetes/sa.key", None, 0o600),
            ("/etc/kubernetes/sa.pub", Some(0o644), 0o644),
            ("/etc/kubernetes/shared", Some(0o666), 0o666),
        ] {
            let how = Replacement { mode, ..staged(ExpectedFile::Absent) };
            assert_eq!(replace(&root, path, &how), Ok(Digest::of(b"new")));
            assert_eq!(read(&root, path).map(|file| file.map(|file| file.mode)), Ok(Some(found)));
        }
    }

    #[test]
    fn file_changed_since_it_was_read_is_not_replaced_or_removed() {
        let (folder, root) = kubeadm_root();
        let at = real(&folder, MANIFEST);
        let changed = format!(
            "{} was changed by someone else since it was read (nothing written); the next pass reads it again",
            at.display()
        );
        for expected in [ExpectedFile::Absent, unchanged(b"older")] {
            assert_eq!(replace(&root, MANIFEST, &staged(expected)), Err(changed.clone()));
        }
        let removed = root.remove(Path::new(MANIFEST), &Digest::of(b"older")).map_err(|error| error.to_string());
        assert_eq!(removed, Err(changed.clone()));
        assert_eq!(fs::read(&at).expect("a file"), b"old");
        fs::remove_file(&at).expect("a file");
        assert_eq!(replace(&root, MANIFEST, &staged(unchanged(b"old"))), Err(changed));
        assert_eq!(names(&root, "/etc/kubernetes/manifests"), [""; 0]);
    }

    #[test]
    fn file_changed_between_read_and_rename_is_kept() {
        let (folder, root) = kubeadm_root();
        let at = real(&folder, MANIFEST);
        let upgrade = || fs::write(&at, "kubeadm's").expect("written");
        let found = root.replace_after(Path::new(MANIFEST), b"new", &staged(unchanged(b"old")), upgrade);
        assert!(matches!(found, Err(FileError::ChangedMeanwhile { .. })), "{found:?}");
        assert_eq!(fs::read(&at).expect("a file"), b"kubeadm's");
        assert_eq!(names(&root, KUBERNETES_STAGING), [""; 0]);
    }

    #[test]
    fn own_file_is_written_and_removed_whatever_is_there() {
        let (_folder, root) = kubeadm_root();
        let path = "/var/lib/irsad/change.json";
        root.make_folder(Path::new("/var/lib/irsad"), 0o700).expect("a folder");
        for bytes in [b"one", b"two"] {
            root.replace_own(Path::new(path), bytes, 0o600).expect("written");
            let found = read(&root, path).expect("readable").expect("present");
            assert_eq!((found.bytes.as_slice(), found.mode), (bytes.as_slice(), 0o600));
        }
        for _ in 0..2 {
            root.remove_own(Path::new(path)).expect("removed");
            assert_eq!(read(&root, path), Ok(None));
        }
    }

    #[test]
    fn removed_file_is_gone() {
        let (_folder, root) = kubeadm_root();
        root.remove(Path::new(MANIFEST), &Digest::of(b"old")).expect("removed");
        assert_eq!(read(&root, MANIFEST), Ok(None));
    }

    #[test]
    fn link_in_place_of_a_file_or_of_any_folder_above_it_is_never_written_through() {
        let (folder, root) = kubeadm_root();
        symlink(real(&folder, MANIFEST), real(&folder, "/etc/kubernetes/link")).expect("a link");
        symlink("manifests", real(&folder, "/etc/kubernetes/folder")).expect("a link");
        symlink("kubernetes", real(&folder, "/etc/k8s")).expect("a link");
        for (path, link) in [
            ("/etc/kubernetes/link", "/etc/kubernetes/link"),
            ("/etc/kubernetes/folder/kube-apiserver.yaml", "/etc/kubernetes/folder"),
            ("/etc/k8s/manifests/kube-apiserver.yaml", "/etc/k8s"),
        ] {
            let error = format!(
                "{} is a symbolic link (nothing changed); irsad follows none there, put the file or folder itself in its place",
                real(&folder, link).display()
            );
            assert_eq!(replace(&root, path, &staged(unchanged(b"old"))), Err(error));
        }
        assert_eq!(fs::read(real(&folder, MANIFEST)).expect("a file"), b"old");
    }

    #[test]
    fn folder_that_others_may_write_to_is_refused() {
        let (folder, root) = kubeadm_root();
        for (open, mode, refused) in [
            ("/etc/kubernetes/manifests", 0o775, true),
            ("/etc/kubernetes/manifests", 0o757, true),
            ("/etc/kubernetes/manifests", 0o1777, true),
            ("/etc/kubernetes", 0o775, true),
            ("/etc", 0o1777, false),
        ] {
            let at = real(&folder, open);
            fs::set_permissions(&at, PermissionsExt::from_mode(mode)).expect("a mode");
            let error = format!(
                "group or others may write to folder {0} (mode {mode:04o}, nothing changed); run chmod go-w {0}",
                at.display()
            );
            let found = replace(&root, MANIFEST, &staged(unchanged(b"old")));
            assert_eq!(found.err(), refused.then_some(error), "{open} {mode:o}");
            fs::set_permissions(&at, PermissionsExt::from_mode(0o755)).expect("a mode");
        }
    }

    #[test]
    fn folder_of_another_user_is_refused() {
        if !unistd::geteuid().is_root() {
            eprintln!("not tested: only root can give a folder to another user");
            return;
        }
        let (folder, root) = kubeadm_root();
        let at = real(&folder, "/etc/kubernetes/manifests");
        std::os::unix::fs::chown(&at, Some(65534), None).expect("another owner");
        assert_eq!(
            replace(&root, MANIFEST, &staged(unchanged(b"old"))),
            Err(format!("folder {0} belongs to user 65534 (nothing changed); run chown root {0}", at.display()))
        );
    }

    #[test]
    fn missing_folder_is_named_and_not_made() {
        let (folder, root) = kubeadm_root();
        assert_eq!(
            replace(&root, "/etc/kubernetes/pki/sa.key", &staged(ExpectedFile::Absent)),
            Err(format!(
                "cannot write {}: folder {} does not exist (nothing changed); create it",
                real(&folder, "/etc/kubernetes/pki/sa.key").display(),
                real(&folder, "/etc/kubernetes/pki").display()
            ))
        );
    }

    #[test]
    fn what_a_killed_run_left_is_cleaned_and_nothing_else() {
        let (folder, root) = kubeadm_root();
        root.make_folder(Path::new(KUBERNETES_STAGING), 0o700).expect("a folder");
        let stale = real(&folder, KUBERNETES_STAGING).join(".irsad-staged-1-0-sa.key");
        fs::write(&stale, "half").expect("a file");
        fs::write(real(&folder, KUBERNETES_STAGING).join("note"), "a person's").expect("a file");
        assert_eq!(root.clean_staging(Path::new(KUBERNETES_STAGING)).expect("cleaned"), [stale]);
        assert_eq!(names(&root, KUBERNETES_STAGING), ["note"]);
        assert_eq!(root.clean_staging(Path::new("/var/lib/irsad")).expect("nothing there"), Vec::<PathBuf>::new());
    }

    #[test]
    fn file_without_staging_folder_is_made_beside_its_target() {
        let (_folder, root) = kubeadm_root();
        root.make_folder(Path::new("/var/lib/irsad"), 0o700).expect("a folder");
        let how = Replacement { staging: None, ..staged(ExpectedFile::Absent) };
        assert_eq!(replace(&root, "/var/lib/irsad/change.json", &how), Ok(Digest::of(b"new")));
        assert_eq!(names(&root, "/var/lib/irsad"), ["change.json"]);
    }
}
