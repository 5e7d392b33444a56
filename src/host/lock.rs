//! One irsad at a time on this machine: an exclusive lock that says who holds it.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
};

use nix::{
    errno::Errno,
    fcntl::{self, FcntlArg, OFlag},
    libc,
    sys::stat::{self, Mode},
};
use thiserror::Error;

use super::{
    FileError, Root,
    root::{Guard, Links},
};

/// The file is never a link, and a FIFO in its place is not waited for.
const FLAGS: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

/// An exclusive lock, held until it is dropped or the process ends, however it ends.
///
/// An open file description lock (fcntl(2)): asking for it does not take it, and it belongs to this value, not to the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("irsad already runs on this machine{} and holds {} (nothing done); stop it with systemctl stop irsad, or wait", pid(*holder), path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Its process, where the file says.
        holder: Option<u32>,
    },
    /// The way to the file is not one that irsad uses.
    #[error(transparent)]
    Path(#[from] FileError),
    /// It could not be opened or asked for.
    #[error("cannot lock {} (nothing done); run irsad as root and check that its folder exists and is writable", path.display())]
    Failed {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock at `path`, whose folder must exist, or says who has it. Does not wait.
    ///
    /// # Errors
    /// The lock is not ours.
    pub fn take(root: &Root, path: &Path) -> Result<Self, LockError> {
        let (folder, name) = root.parent(path, Links::Refuse, Guard::OnlyOurs)?;
        let path = folder.path.join(&name);
        let failed = |source| LockError::Failed { path: path.clone(), source };
        let mode = Mode::from_bits_truncate(0o644);
        let fd = fcntl::openat(&folder.fd, name.as_os_str(), OFlag::O_RDWR | OFlag::O_CREAT | FLAGS, mode);
        let mut file = File::from(fd.map_err(|errno| failed(errno.into()))?);
        match fcntl::fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => (),
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(LockError::Held { holder: read_pid(&mut file), path });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        // Whatever the umask: anybody may ask who holds it.
        stat::fchmod(&file, mode).map_err(|errno| failed(errno.into()))?;
        file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(failed)?;
        Ok(Self { file })
    }

    /// The process that holds the lock at `path`, without taking it: `None` where nobody does.
    ///
    /// # Errors
    /// Could not be asked; nothing is known then.
    pub fn holder(root: &Root, path: &Path) -> Result<Option<Holder>, LockError> {
        let (folder, name) = match root.parent(path, Links::Refuse, Guard::None) {
            Ok(place) => place,
            Err(FileError::NoFolder { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let path = folder.path.join(&name);
        let failed = |errno: Errno| LockError::Failed { path: path.clone(), source: errno.into() };
        let mut file = match fcntl::openat(&folder.fd, name.as_os_str(), OFlag::O_RDONLY | FLAGS, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let mut found = whole_file();
        fcntl::fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)).map_err(failed)?;
        let is_free = found.l_type == lock_type(libc::F_UNLCK);
        Ok((!is_free).then(|| Holder { pid: read_pid(&mut file) }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child between fork and exec has it open too.
        let unlock = libc::flock { l_type: lock_type(libc::F_UNLCK), ..whole_file() };
        let _ = fcntl::fcntl(&self.file, FcntlArg::F_OFD_SETLK(&unlock));
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its process; `None` in the moment before it has written that down.
    pub pid: Option<u32>,
}

fn whole_file() -> libc::flock {
    libc::flock { l_type: lock_type(libc::F_WRLCK), l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

fn lock_type(kind: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(kind).expect("F_RDLCK, F_WRLCK and F_UNLCK are 0, 1 and 2")
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn pid(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" as process {pid}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn second_irsad_is_told_who_holds_the_lock_and_takes_it_when_it_is_free() {
        let folder = TempDir::new().expect("a folder");
        let root = Root::new(folder.path()).expect("a root");
        let path = Path::new("/run/irsad/lock");
        assert_eq!(Lock::holder(&root, path).expect("asked"), None);
        root.make_folder(Path::new("/run/irsad"), 0o755).expect("a folder");
        assert_eq!(Lock::holder(&root, path).expect("asked"), None);
        for _ in 0..2 {
            let lock = Lock::take(&root, path).expect("free");
            let pid = Some(process::id());
            let mode = std::fs::metadata(root.locate(path).expect("a path")).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "not everybody may ask who holds it");
            assert_eq!(Lock::holder(&root, path).expect("asked"), Some(Holder { pid }));
            let refused = Lock::take(&root, path).map(drop).map_err(|error| error.to_string());
            let sentence = format!(
                "irsad already runs on this machine as process {} and holds {} (nothing done); stop it with systemctl stop \
                 irsad, or wait",
                process::id(),
                root.locate(path).expect("a path").display()
            );
            assert_eq!(refused, Err(sentence));
            drop(lock);
            assert_eq!(Lock::holder(&root, path).expect("asked"), None);
        }
    }
}
