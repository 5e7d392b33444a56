//! Wakes the loop when one of a few files changes, comes or goes. It only wakes: what changed is read by the next pass.
//!
//! Folders are watched, not files: a file that is replaced is another inode. Every folder above a file is watched too, so
//! that folders may be missing at first (before kubeadm), go, come back, or be moved away with all they hold. inotify(7)
//! promises nothing when its queue overflows, so that counts as a change of everything, and a full observation at a fixed
//! interval has to stand behind this anyway.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    future, io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use inotify::{EventMask, EventOwned, Inotify, WatchDescriptor, WatchMask, Watches};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// How long changes are gathered before they wake the loop: one save of an editor, or one run of kubeadm's key phase, is
/// several events.
const GATHERING: Duration = Duration::from_millis(200);

/// What can happen to a name in a folder, and to the folder itself. Not `IN_MODIFY`: a writer that has not closed the
/// file is not done with it. Nothing that reading causes.
const MASK: WatchMask = WatchMask::CREATE
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// What woke the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These of the watched paths, or folders above them.
    Paths(BTreeSet<PathBuf>),
    /// Events were lost: anything may have changed.
    Everything,
}

/// Why nothing is watched any more.
#[derive(Debug, Error)]
pub enum WatchError {
    /// No inotify instance.
    #[error("cannot watch files for changes; raise fs.inotify.max_user_instances with sysctl")]
    Start(#[source] io::Error),
    /// The event queue cannot be read.
    #[error("cannot go on watching files for changes (nothing lost); irsad has to be started again")]
    Read(#[source] io::Error),
    /// A folder that exists cannot be watched.
    #[error("cannot watch folder {} for changes; raise fs.inotify.max_user_watches with sysctl", folder.display())]
    Add {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Files that are being watched.
#[derive(Debug)]
pub struct Watch {
    /// What changed. A loop that is busy gets one value for all that happened meanwhile. Dropping it ends the task.
    pub changes: mpsc::Receiver<Changed>,
    /// Must live as long as the loop: where it ends by itself, the process has to end.
    pub task: JoinHandle<Result<(), WatchError>>,
}

/// Watches `paths`, absolute and with the root in front, whether or not they exist.
///
/// # Errors
/// Nothing is watched.
pub fn watch(paths: Vec<PathBuf>) -> Result<Watch, WatchError> {
    let inotify = Inotify::init().map_err(WatchError::Start)?;
    let events = inotify.into_event_stream([0; 4096]).map_err(WatchError::Start)?;
    let mut watched = Watched { paths, folders: HashMap::new(), watches: events.watches() };
    watched.rearm()?;
    let (sender, changes) = mpsc::channel(1);
    Ok(Watch { changes, task: tokio::spawn(run(watched, events, sender)) })
}

async fn run(
    mut watched: Watched,
    events: impl Stream<Item = io::Result<EventOwned>>,
    sender: mpsc::Sender<Changed>,
) -> Result<(), WatchError> {
    let mut events = pin!(events);
    let mut pending = Pending::default();
    loop {
        let since = pending.since;
        let slot = async {
            match since {
                Some(since) => {
                    sleep_until(since + GATHERING).await;
                    sender.reserve().await
                }
                None => future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => {
                let event = event.ok_or_else(|| WatchError::Read(io::ErrorKind::UnexpectedEof.into()))?;
                pending.add(watched.understand(event.map_err(WatchError::Read)?)?);
            }
            permit = slot => match permit {
                Ok(permit) => permit.send(pending.take()),
                Err(_) => return Ok(()),
            },
            () = sender.closed() => return Ok(()),
        }
    }
}

/// What has changed and was not sent yet.
#[derive(Default)]
struct Pending {
    since: Option<Instant>,
    paths: BTreeSet<PathBuf>,
    everything: bool,
}

impl Pending {
    fn add(&mut self, changed: Changed) {
        match changed {
            Changed::Paths(paths) if paths.is_empty() => return,
            Changed::Paths(paths) => self.paths.extend(paths),
            Changed::Everything => self.everything = true,
        }
        self.since.get_or_insert_with(Instant::now);
    }

    fn take(&mut self) -> Changed {
        let Self { paths, everything, .. } = std::mem::take(self);
        if everything { Changed::Everything } else { Changed::Paths(paths) }
    }
}

struct Watched {
    paths: Vec<PathBuf>,
    folders: HashMap<WatchDescriptor, PathBuf>,
    watches: Watches,
}

impl Watched {
    /// What `event` means for the paths. Watches are put right where it concerns a folder above one of them.
    fn understand(&mut self, event: EventOwned) -> Result<Changed, WatchError> {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.rearm()?;
            return Ok(Changed::Everything);
        }
        // A watch that was removed by us, or is not a watched path any more, still has events in the queue.
        let Some(folder) = self.folders.get(&event.wd) else { return Ok(Changed::Paths(BTreeSet::new())) };
        let place = event.name.map_or_else(|| folder.clone(), |name: OsString| folder.join(name));
        let changed: BTreeSet<_> = self.paths.iter().filter(|path| path.starts_with(&place)).cloned().collect();
        if changed.iter().any(|path| *path != place) {
            self.rearm()?;
        }
        Ok(Changed::Paths(changed))
    }

    /// Watches every folder that now stands above a path, from the top down: one that appears below a folder after that
    /// was watched is an event. Watches of folders that were moved away are dropped.
    fn rearm(&mut self) -> Result<(), WatchError> {
        let above: BTreeSet<&Path> = self.paths.iter().flat_map(|path| path.ancestors().skip(1)).collect();
        let mut folders = HashMap::new();
        for folder in above {
            match self.watches.add(folder, MASK) {
                Ok(descriptor) => drop(folders.insert(descriptor, folder.to_owned())),
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOSPC) => {
                    return Err(WatchError::Add { folder: folder.to_owned(), source: error });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                // Such a folder is looked at by the fixed interval only.
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "folder is not watched"),
            }
        }
        for (stale, _) in self.folders.drain().filter(|(descriptor, _)| !folders.contains_key(descriptor)) {
            // Fails where the folder is gone, and its watch with it.
            let _ = self.watches.remove(stale);
        }
        self.folders = folders;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    /// Longer than any wake takes; a wake that never comes fails the test instead of hanging it.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Bench {
        folder: TempDir,
        changes: mpsc::Receiver<Changed>,
        task: JoinHandle<Result<(), WatchError>>,
    }

    impl Bench {
        fn new(folder: TempDir, paths: &[&str]) -> Self {
            let paths = paths.iter().map(|path| folder.path().join(path)).collect();
            let Watch { changes, task } = watch(paths).expect("watched");
            Self { folder, changes, task }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        /// Waits until a wake names `path`.
        async fn wakes_for(&mut self, path: &str) {
            let path = self.at(path);
            let named = async {
                loop {
                    match self.changes.recv().await.expect("the task lives") {
                        Changed::Paths(paths) if paths.contains(&path) => break,
                        Changed::Paths(_) | Changed::Everything => (),
                    }
                }
            };
            timeout(PATIENCE, named).await.expect("woken in time");
        }
    }

    fn folder_with(path: &str) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir_all(folder.path().join(path)).expect("folders");
        folder
    }

    #[tokio::test]
    async fn file_written_replaced_or_removed_wakes_the_loop() {
        let mut bench = Bench::new(folder_with("pki"), &["pki/sa.key", "pki/sa.pub"]);
        fs::write(bench.at("pki/sa.key"), "a").expect("written");
        bench.wakes_for("pki/sa.key").await;
        fs::write(bench.at("staged"), "b").expect("written");
        fs::rename(bench.at("staged"), bench.at("pki/sa.key")).expect("renamed");
        bench.wakes_for("pki/sa.key").await;
        fs::write(bench.at("pki/sa.key"), "c").expect("written in place, after its inode changed");
        bench.wakes_for("pki/sa.key").await;
        fs::remove_file(bench.at("pki/sa.key")).expect("removed");
        bench.wakes_for("pki/sa.key").await;
    }

    #[tokio::test]
    async fn changes_that_come_together_wake_the_loop_once_and_neighbours_never() {
        let mut bench = Bench::new(folder_with("pki"), &["pki/sa.key", "pki/sa.pub"]);
        fs::write(bench.at("pki/ca.key"), "not ours").expect("written");
        for name in ["pki/sa.key", "pki/sa.pub", "pki/sa.key"] {
            fs::write(bench.at(name), "a").expect("written");
        }
        let both = BTreeSet::from([bench.at("pki/sa.key"), bench.at("pki/sa.pub")]);
        let woken = timeout(PATIENCE, bench.changes.recv()).await.expect("in time");
        assert_eq!(woken, Some(Changed::Paths(both)));
    }

    #[tokio::test]
    async fn folder_that_comes_goes_or_moves_keeps_being_watched() {
        let mut bench = Bench::new(folder_with("etc"), &["etc/kubernetes/pki/sa.key"]);
        let key = "etc/kubernetes/pki/sa.key";
        for _ in 0..2 {
            fs::create_dir_all(bench.at("etc/kubernetes/pki")).expect("made, as kubeadm does");
            bench.wakes_for(key).await;
            fs::write(bench.at(key), "a").expect("written");
            bench.wakes_for(key).await;
            fs::remove_dir_all(bench.at("etc/kubernetes")).expect("removed, as kubeadm reset does");
            bench.wakes_for(key).await;
        }
        fs::create_dir_all(bench.at("etc/kubernetes/pki")).expect("made");
        bench.wakes_for(key).await;
        fs::rename(bench.at("etc/kubernetes"), bench.at("etc/old")).expect("moved away");
        bench.wakes_for(key).await;
        fs::create_dir_all(bench.at("etc/kubernetes/pki")).expect("made anew");
        bench.wakes_for(key).await;
        fs::write(bench.at("etc/kubernetes/pki/sa.key"), "b").expect("written");
        bench.wakes_for(key).await;
    }

    #[tokio::test]
    async fn events_of_a_folder_that_was_moved_away_are_no_changes() {
        let mut bench = Bench::new(folder_with("pki"), &["pki/sa.key", "end"]);
        fs::rename(bench.at("pki"), bench.at("old")).expect("moved away");
        bench.wakes_for("pki/sa.key").await;
        fs::write(bench.at("old/sa.key"), "a").expect("written");
        fs::write(bench.at("end"), "a").expect("written");
        let woken = timeout(PATIENCE, bench.changes.recv()).await.expect("in time");
        assert_eq!(woken, Some(Changed::Paths(BTreeSet::from([bench.at("end")]))));
    }

    #[tokio::test]
    async fn lost_events_count_as_a_change_of_everything() {
        let folder = folder_with("pki");
        let inotify = Inotify::init().expect("inotify");
        let mut watched = Watched {
            paths: vec![folder.path().join("pki/sa.key")],
            folders: HashMap::new(),
            watches: inotify.watches(),
        };
        let descriptor = inotify.watches().add(folder.path(), MASK).expect("watched");
        let overflow = EventOwned { wd: descriptor, mask: EventMask::Q_OVERFLOW, cookie: 0, name: None };
        assert_eq!(watched.understand(overflow).expect("understood"), Changed::Everything);
        assert!(watched.folders.values().any(|watched| *watched == folder.path().join("pki")), "armed again");
    }

    #[tokio::test]
    async fn task_ends_when_nobody_listens_any_more() {
        let Bench { folder: _folder, changes, task } = Bench::new(folder_with("pki"), &["pki/sa.key"]);
        drop(changes);
        timeout(PATIENCE, task).await.expect("ended in time").expect("not panicked").expect("no error");
    }
}
