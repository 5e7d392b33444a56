//! Why a host file was not read or not written, with the cure.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use thiserror::Error;

/// Why a file was not read, or was left as it was.
///
/// Unless a variant says otherwise nothing was changed.
#[derive(Debug, Error)]
pub enum FileError {
    /// Relative, with `..`, or nothing but the root.
    #[error("{} is not an absolute path to a file (nothing done); write it in full and without '..'", path.display())]
    NotAbsolute {
        /// As it was given.
        path: PathBuf,
    },
    /// The folder that the root is to be.
    #[error("root {} cannot be opened (nothing done); name a folder that exists", path.display())]
    NoRoot {
        /// As it was given.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A symbolic link where a file or folder is to be.
    #[error("{} is a symbolic link (nothing changed); irsad follows none there, put the file or folder itself in its place", path.display())]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },
    /// A chain of symbolic links without end.
    #[error("{} leads through more than {} symbolic links (nothing read); remove the loop", path.display(), super::root::MOST_LINKS)]
    TooManyLinks {
        /// Where the chain began.
        path: PathBuf,
    },
    /// A file where a folder is to be.
    #[error("{} is not a folder (nothing changed); move it away", path.display())]
    NotFolder {
        /// What is in the way.
        path: PathBuf,
    },
    /// A folder, FIFO, socket or device where a file is to be.
    #[error("{} is a {kind}, not a regular file (nothing changed); move it away", path.display())]
    NotRegular {
        /// What is in the way.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The folder of a file to be written is missing.
    #[error("cannot write {}: folder {} does not exist (nothing changed); create it", path.display(), folder.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// First folder that is missing.
        folder: PathBuf,
    },
    /// More bytes than the caller takes.
    #[error("{} is larger than {limit_bytes} bytes (not read); that is no file of this kind", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes that are read.
        limit_bytes: u64,
    },
    /// The operating system did not let us read.
    #[error("cannot read {} (nothing changed); {}", path.display(), cure(source, path))]
    Read {
        /// File or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others could put files of theirs in place of ours.
    #[error("group or others may write to folder {} (mode {mode:04o}, nothing changed); run chmod go-w {}", folder.display(), folder.display())]
    WritableByOthers {
        /// The folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else's folder.
    #[error("folder {} belongs to user {uid} (nothing changed); run chown root {}", folder.display(), folder.display())]
    ForeignOwner {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// What is there is not what the caller decided upon.
    #[error("{} was changed by someone else since it was read (nothing written); the next pass reads it again", path.display())]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
    },
    /// The new file could not be made or put in place.
    #[error("cannot replace {} (old file kept); {}", path.display(), cure(source, folder))]
    Replace {
        /// The file.
        path: PathBuf,
        /// The folder that refused.
        folder: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The disk gave other bytes back than it took.
    #[error("cannot replace {} (old file kept): the new file reads back otherwise than it was written; check the disk under {}", path.display(), folder.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// Where the new file was staged.
        folder: PathBuf,
    },
    /// The change is made, but may not outlive a power cut. What is there now was looked at afterwards.
    #[error("cannot flush folder {} to disk after writing {} ({now}); check the disk, a power cut may bring the old state back", folder.display(), path.display())]
    Unflushed {
        /// The file.
        path: PathBuf,
        /// Its folder, or the one it was staged in.
        folder: PathBuf,
        /// What is there.
        now: FoundAfterwards,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file could not be removed.
    #[error("cannot remove {} (it is still there); {}", path.display(), cure(source, path.parent().unwrap_or(path)))]
    Remove {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A folder could not be made; folders above it may have been.
    #[error("cannot create folder {}; {}", path.display(), cure(source, path.parent().unwrap_or(path)))]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What a file was found to be after a flush failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundAfterwards {
    /// What was to be there.
    New,
    /// Something else.
    Other,
    /// Could not be read.
    Unknown,
}

impl std::fmt::Display for FoundAfterwards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New => "the new state is in place",
            Self::Other => "something else is in place",
            Self::Unknown => "what is in place now is unknown",
        })
    }
}

/// What a person does about `error` on `place`.
fn cure(error: &io::Error, place: &Path) -> String {
    let place = place.display();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => format!("free space and inodes on the file system of {place}"),
        Some(Errno::EROFS) => format!(
            "{place} is read-only: mount it writable, and give the systemd unit one ReadWritePaths=/etc/kubernetes \
             if it is below that"
        ),
        // Two bind mounts of one file system are two mounts for rename(2), and every ReadWritePaths= is a bind mount.
        Some(Errno::EXDEV) => format!(
            "{place} and the staging folder are on different mounts: give the systemd unit one \
             ReadWritePaths=/etc/kubernetes, not one for each folder"
        ),
        Some(Errno::EACCES | Errno::EPERM) => {
            format!("run irsad as root and check owner, mode and security labels of {place}")
        }
        Some(Errno::EMFILE | Errno::ENFILE) => "too many files are open: raise LimitNOFILE= of the unit".to_owned(),
        _ => format!("check the disk under {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_error_names_the_cure_of_each_cause() {
        for (errno, cure) in [
            (Errno::ENOSPC, "free space and inodes on the file system of /etc/kubernetes/pki"),
            (
                Errno::EROFS,
                "/etc/kubernetes/pki is read-only: mount it writable, and give the systemd unit one \
                 ReadWritePaths=/etc/kubernetes if it is below that",
            ),
            (
                Errno::EXDEV,
                "/etc/kubernetes/pki and the staging folder are on different mounts: give the systemd unit one \
                 ReadWritePaths=/etc/kubernetes, not one for each folder",
            ),
            (Errno::EACCES, "run irsad as root and check owner, mode and security labels of /etc/kubernetes/pki"),
            (Errno::EMFILE, "too many files are open: raise LimitNOFILE= of the unit"),
            (Errno::EIO, "check the disk under /etc/kubernetes/pki"),
        ] {
            let error = FileError::Replace {
                path: "/etc/kubernetes/pki/sa.key".into(),
                folder: "/etc/kubernetes/pki".into(),
                source: errno.into(),
            };
            let sentence = format!("cannot replace /etc/kubernetes/pki/sa.key (old file kept); {cure}");
            assert_eq!(error.to_string(), sentence);
        }
    }
}
