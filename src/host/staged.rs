//! A new file on its way into its place.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::OwnedFd,
    path::Path,
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{self, OFlag, RenameFlags},
    sys::stat::{self, FileStat, Mode},
    unistd::{self, Gid, Uid},
};

use super::{FileError, file_error::FoundAfterwards, files::Replacement, root::Folder};
use crate::model::file::ExpectedFile;

/// Name of a file that is being made. The leading dot hides it from kubelet, web servers and shell patterns.
pub(super) const STAGED_PREFIX: &str = ".irsad-staged-";

/// A complete new file that is not in its place yet. Removed when dropped before that.
pub(super) struct Staged<'a> {
    folder: &'a Folder,
    name: OsString,
    in_place: bool,
}

impl<'a> Staged<'a> {
    /// Makes, flushes and reads back the file; `target` is for messages and for the name.
    pub fn write(
        folder: &'a Folder,
        target: &Path,
        bytes: &[u8],
        permissions: (Mode, Option<Uid>, Option<Gid>),
    ) -> Result<Self, FileError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let error = |source| FileError::Replace { path: target.to_owned(), folder: folder.path.clone(), source };
        let mut name = OsString::from(STAGED_PREFIX);
        name.push(format!("{}-{}-", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        name.push(target.file_name().unwrap_or_default());
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = fcntl::openat(&folder.fd, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| error(errno.into()))?;
        let staged = Self { folder, name, in_place: false };
        let read_back = Self::fill(fd, bytes, permissions).map_err(error)?;
        if read_back != bytes {
            return Err(FileError::ReadBack { path: target.to_owned(), folder: folder.path.clone() });
        }
        Ok(staged)
    }

    /// Owner and mode first: the content is never open to more people than in the end.
    fn fill(fd: OwnedFd, bytes: &[u8], (mode, uid, gid): (Mode, Option<Uid>, Option<Gid>)) -> io::Result<Vec<u8>> {
        let made = stat::fstat(&fd)?;
        let uid = uid.filter(|uid| uid.as_raw() != made.st_uid);
        let gid = gid.filter(|gid| gid.as_raw() != made.st_gid);
        if uid.is_some() || gid.is_some() {
            unistd::fchown(&fd, uid, gid)?;
        }
        stat::fchmod(&fd, mode)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        file.sync_all()?;
        file.rewind()?;
        let mut read_back = Vec::with_capacity(bytes.len());
        file.read_to_end(&mut read_back)?;
        Ok(read_back)
    }

    pub fn put_in_place(
        mut self,
        target: &Folder,
        name: &OsStr,
        bytes: &[u8],
        expected: &ExpectedFile,
    ) -> Result<(), FileError> {
        let path = target.path.join(name);
        self.rename(target, name, expected).map_err(|errno| match errno {
            Errno::EEXIST => FileError::ChangedMeanwhile { path: path.clone() },
            errno => FileError::Replace { path: path.clone(), folder: target.path.clone(), source: errno.into() },
        })?;
        self.in_place = true;
        let flushed_already = std::ptr::eq(target, self.folder);
        for folder in [target, self.folder].into_iter().take(if flushed_already { 1 } else { 2 }) {
            folder.flush().map_err(|source| FileError::Unflushed {
                path: path.clone(),
                folder: folder.path.clone(),
                now: found_afterwards(target, name, bytes),
                source,
            })?;
        }
        Ok(())
    }
}

impl Staged<'_> {
    /// A file that must not be there is never replaced, even if somebody makes it at this very moment. File systems without such a
    /// rename rely on the look just before.
    fn rename(&self, target: &Folder, name: &OsStr, expected: &ExpectedFile) -> Result<(), Errno> {
        let staged = self.name.as_os_str();
        if *expected == ExpectedFile::Absent {
            match fcntl::renameat2(&self.folder.fd, staged, &target.fd, name, RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EINVAL | Errno::ENOSYS) => {}
                renamed => return renamed,
            }
        }
        fcntl::renameat(&self.folder.fd, staged, &target.fd, name)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.in_place {
            // The error that led here is what a person must see; a file left over goes with the next clean_staging.
            let _ = self.folder.unlink(&self.name);
        }
    }
}

fn found_afterwards(folder: &Folder, name: &OsStr, bytes: &[u8]) -> FoundAfterwards {
    match folder.read(name, bytes.len() as u64) {
        Ok(Some(found)) if found.bytes == bytes => FoundAfterwards::New,
        Ok(_) | Err(FileError::TooLarge { .. }) => FoundAfterwards::Other,
        Err(_) => FoundAfterwards::Unknown,
    }
}

/// Mode and owner of the new file.
pub(super) fn permissions(how: &Replacement<'_>, old: Option<&FileStat>) -> (Mode, Option<Uid>, Option<Gid>) {
    let mode = how.mode.or(old.map(|old| old.st_mode)).unwrap_or(0o600) & 0o777;
    let owner = how.owner.or(old.map(|old| (old.st_uid, old.st_gid)));
    (Mode::from_bits_truncate(mode), owner.map(|(uid, _)| Uid::from_raw(uid)), owner.map(|(_, gid)| Gid::from_raw(gid)))
}
