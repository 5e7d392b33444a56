//! The root that every host path is resolved below, and the walk to a folder that never leaves it.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, FileStat, Mode, SFlag},
    unistd,
};

use super::FileError;

/// Most symbolic links on the way to one file, as in Linux (path_resolution(7)).
pub(super) const MOST_LINKS: usize = 40;

/// The folder that stands for `/`: `/` itself, or what `--root` names (image building, tests, demo).
///
/// Paths given to its methods are absolute paths of the host that is meant. They are resolved folder by folder below the
/// root, and nothing outside is ever opened, whatever links lie on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    folder: PathBuf,
}

/// What a walk does about symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// An error.
    Refuse,
    /// Followed, an absolute one from the root.
    Follow,
}

/// What must hold for every folder on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Nothing: for reading.
    None,
    /// Nobody but root and this process's user may put anything into it or take anything out: for writing.
    OnlyOurs,
}

/// A folder that is open, so that it stays the same one whatever happens to its path.
#[derive(Debug)]
pub(super) struct Folder {
    /// Opened with `O_PATH`.
    pub fd: OwnedFd,
    /// Where it is, the root included: for a person.
    pub path: PathBuf,
}

impl Root {
    /// The folder `folder` as root. Links in `folder` itself are followed, once, here.
    ///
    /// # Errors
    /// It is not a folder that can be opened.
    pub fn new(folder: &Path) -> Result<Self, FileError> {
        let error = |source| FileError::NoRoot { path: folder.to_owned(), source };
        let folder = folder.canonicalize().map_err(error)?;
        if !folder.is_dir() {
            return Err(error(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { folder })
    }

    /// `/`: the host that this process runs on.
    pub fn host() -> Self {
        Self { folder: "/".into() }
    }

    /// Whether this is `/`, so that processes and sockets seen here belong to the same host as the files.
    pub fn is_host(&self) -> bool {
        self.folder == Path::new("/")
    }

    /// The root itself, as a path of this machine without links.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Where `path` lies, the root included: for messages and for programs that do not know of the root.
    ///
    /// # Errors
    /// [`FileError::NotAbsolute`].
    pub fn locate(&self, path: &Path) -> Result<PathBuf, FileError> {
        Ok(self.folder.join(names(path)?.iter().collect::<PathBuf>()))
    }

    /// The folder of `path` and the last name of it. With [`Links::Follow`] that name, too, is followed.
    ///
    /// # Errors
    /// [`FileError::NoFolder`] where a folder on the way is missing.
    pub(super) fn parent(&self, path: &Path, links: Links, guard: Guard) -> Result<(Folder, OsString), FileError> {
        let mut names = names(path)?;
        for _ in 0..MOST_LINKS {
            let Some((last, folders)) = names.split_last() else { break };
            let (folder, link) = self.walk(path, folders, links, guard)?;
            let at = match link {
                Some(at) => at,
                None if links == Links::Follow && is_link(&folder, last)? => folders.len(),
                None => return Ok((folder, last.clone())),
            };
            let target = fcntl::readlinkat(&folder.fd, names[at].as_os_str())
                .map_err(|errno| read_error(folder.path.join(&names[at]), errno))?;
            names = splice(&names, at, Path::new(&target));
        }
        Err(FileError::TooManyLinks { path: self.locate(path)? })
    }

    /// Opens `names` one below the other. Stops at a link if links are followed: gives its place and the folder it is in.
    fn walk(
        &self,
        path: &Path,
        names: &[OsString],
        links: Links,
        guard: Guard,
    ) -> Result<(Folder, Option<usize>), FileError> {
        let fd = fcntl::open(&self.folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| read_error(self.folder.clone(), errno))?;
        let mut folder = Folder { fd, path: self.folder.clone() };
        // A sticky folder lets nobody move what is not theirs; the last one, which is written to, has no such excuse.
        if guard == Guard::OnlyOurs {
            folder.check_only_ours(!names.is_empty())?;
        }
        for (at, name) in names.iter().enumerate() {
            match folder.open(name) {
                Ok(inner) => folder = inner,
                Err(FileError::SymbolicLink { .. }) if links == Links::Follow => return Ok((folder, Some(at))),
                Err(FileError::Read { path: folder, source }) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(FileError::NoFolder { path: self.locate(path)?, folder });
                }
                Err(error) => return Err(error),
            }
            if guard == Guard::OnlyOurs {
                folder.check_only_ours(at + 1 < names.len())?;
            }
        }
        Ok((folder, None))
    }
}

impl Folder {
    /// The folder `name` in this one, which must not be a link.
    pub fn open(&self, name: &OsStr) -> Result<Self, FileError> {
        let path = self.path.join(name);
        // O_DIRECTORY with O_NOFOLLOW gives ENOTDIR for a link too (open(2)).
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match fcntl::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::ENOTDIR | Errno::ELOOP) if is_link(self, name)? => Err(FileError::SymbolicLink { path }),
            Err(Errno::ENOTDIR) => Err(FileError::NotFolder { path }),
            Err(errno) => Err(read_error(path, errno)),
        }
    }

    /// What stands under `name`, a link as itself; `None` where there is nothing.
    pub fn look(&self, name: &OsStr) -> Result<Option<FileStat>, FileError> {
        match stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(read_error(self.path.join(name), errno)),
        }
    }

    /// Refuses a folder that anybody but root and this process's user can change.
    pub fn check_only_ours(&self, sticky_is_enough: bool) -> Result<(), FileError> {
        let found = stat::fstat(&self.fd).map_err(|errno| read_error(self.path.clone(), errno))?;
        if found.st_uid != 0 && found.st_uid != unistd::geteuid().as_raw() {
            return Err(FileError::ForeignOwner { folder: self.path.clone(), uid: found.st_uid });
        }
        let mode = found.st_mode & 0o7777;
        if mode & 0o022 != 0 && !(sticky_is_enough && mode & 0o1000 != 0) {
            return Err(FileError::WritableByOthers { folder: self.path.clone(), mode });
        }
        Ok(())
    }

    /// Writes the folder's names to disk.
    pub fn flush(&self) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(unistd::fsync(fcntl::openat(&self.fd, ".", flags, Mode::empty())?)?)
    }
}

/// The error for `errno` on the way to, or while reading, `path`.
pub(super) fn read_error(path: PathBuf, errno: Errno) -> FileError {
    FileError::Read { path, source: errno.into() }
}

/// Kind of file, of the bits in `st_mode`.
pub(super) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

fn is_link(folder: &Folder, name: &OsStr) -> Result<bool, FileError> {
    Ok(folder.look(name)?.is_some_and(|found| kind(&found) == SFlag::S_IFLNK))
}

/// The names of an absolute path without `..`, at least one.
fn names(path: &Path) -> Result<Vec<OsString>, FileError> {
    let error = || FileError::NotAbsolute { path: path.to_owned() };
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => (),
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir | Component::Prefix(_) => return Err(error()),
        }
    }
    if path.is_absolute() && !names.is_empty() { Ok(names) } else { Err(error()) }
}

/// `names` with the link at `at` replaced by its target. What stands before `at` are real folders, so that `..` in the
/// target may be taken by name; above the root there is only the root.
fn splice(names: &[OsString], at: usize, target: &Path) -> Vec<OsString> {
    let mut spliced = if target.is_absolute() { Vec::new() } else { names[..at].to_vec() };
    for component in target.components() {
        match component {
            Component::ParentDir => drop(spliced.pop()),
            Component::Normal(name) => spliced.push(name.to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => (),
        }
    }
    spliced.extend_from_slice(&names[at + 1..]);
    spliced
}
