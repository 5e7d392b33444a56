//! One irsad at a time on this machine: an exclusive lock that says who holds it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

use nix::{
    errno::Errno,
    fcntl::{self, FcntlArg},
    libc,
};
use thiserror::Error;

use super::{FileError, Root};

/// An exclusive lock, held until it is dropped or the process ends, however it ends.
///
/// An open file description lock (fcntl(2)): asking for it does not take it, and it belongs to this value, not to the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
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
        let path = root.locate(path)?;
        let failed = |source| LockError::Failed { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&path).map_err(failed)?;
        match fcntl::fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => (),
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(LockError::Held { holder: read_pid(&mut file), path });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", process::id()));
        written.and_then(|()| file.set_permissions(PermissionsExt::from_mode(0o644))).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// The process that holds the lock at `path`, without taking it: `None` where nobody does.
    ///
    /// # Errors
    /// Could not be asked; nothing is known then.
    pub fn holder(root: &Root, path: &Path) -> Result<Option<Holder>, LockError> {
        let path = root.locate(path)?;
        let failed = |source| LockError::Failed { path: path.clone(), source };
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut found = libc::flock { l_type: lock_type(libc::F_WRLCK), ..whole_file() };
        fcntl::fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found)).map_err(|errno| failed(errno.into()))?;
        let is_free = found.l_type == lock_type(libc::F_UNLCK);
        Ok((!is_free).then(|| Holder { pid: read_pid(&mut file) }))
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
