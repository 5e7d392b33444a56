//! Full, read-only and split file systems: real ones, in a mount namespace of a process of their own.

#[cfg(test)]
mod tests {
    use std::{
        env,
        error::Error,
        fs::{self, OpenOptions},
        io::Write,
        path::{Path, PathBuf},
        process::Command,
        thread,
    };

    use irsad::{
        host::{
            FileError, Root,
            files::{KUBERNETES_STAGING, Replacement},
        },
        model::file::{Digest, ExpectedFile},
        store::{Condition, Store, file::FileStore},
    };

    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    const INSIDE: &str = "IRSAD_TEST_MOUNT_NAMESPACE";

    /// Runs the calling test again in a mount namespace of its own, and gives a root there. `None` in the outer process.
    fn in_mount_namespace() -> Option<Bench> {
        if env::var_os(INSIDE).is_some() {
            return Some(Bench::new(&PathBuf::from(env::var_os(INSIDE)?)));
        }
        let name = thread::current().name().unwrap_or_default().to_owned();
        let folder = tempfile::TempDir::new().expect("a folder");
        let unshare = |program: &Path| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private"]).arg(program).env(INSIDE, folder.path());
            command
        };
        if !unshare(Path::new("true")).status().is_ok_and(|status| status.success()) {
            missing(&name, "mount namespace (run as root with util-linux)");
            return None;
        }
        let mut test = unshare(&env::current_exe().expect("this program"));
        let output = test.args(["--exact", &name]).output().expect("a child");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && text.contains("1 passed"), "in a mount namespace:\n{text}");
        None
    }

    /// Names a test that cannot run here: on stderr, and in the file that `IRSAD_TEST_MISSING` names.
    fn missing(test: &str, part: &str) {
        let line = format!("{test}: no {part}\n");
        assert!(env::var_os("IRSAD_CI").is_none(), "nothing may be missing here: {line}");
        eprint!("not run: {line}");
        if let Some(path) = env::var_os("IRSAD_TEST_MISSING") {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.and_then(|mut file| file.write_all(line.as_bytes()))
                .expect("IRSAD_TEST_MISSING names a writable file");
        }
    }

    struct Bench {
        root: Root,
    }

    impl Bench {
        fn new(folder: &Path) -> Self {
            let root = Root::new(folder).expect("a root");
            root.make_folder(Path::new("/etc/kubernetes"), 0o755).expect("folders");
            Self { root }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.root.locate(Path::new(path)).expect("a path")
        }

        fn mount(&self, arguments: &[&str], path: &str) {
            let status = Command::new("mount").args(arguments).arg(self.at(path)).status().expect("mount");
            assert!(status.success(), "mount {arguments:?} {path}");
        }

        /// A file system of its own for `/etc/kubernetes`, with an old manifest.
        fn with_manifest_on(&self, options: &str) {
            self.mount(&["-t", "tmpfs", "-o", options, "tmpfs"], "/etc/kubernetes");
            fs::set_permissions(self.at("/etc/kubernetes"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("a mode");
            self.root.make_folder(Path::new("/etc/kubernetes/manifests"), 0o755).expect("a folder");
            self.root.make_folder(Path::new(KUBERNETES_STAGING), 0o700).expect("a folder");
            fs::write(self.at(MANIFEST), "old").expect("a manifest");
        }

        fn replace(&self, bytes: &[u8]) -> Result<Digest, FileError> {
            let how = Replacement {
                mode: None,
                owner: None,
                expected: ExpectedFile::Unchanged(Digest::of(b"old")),
                staging: Some(Path::new(KUBERNETES_STAGING)),
            };
            self.root.replace(Path::new(MANIFEST), bytes, &how)
        }

        /// The replacement fails with `cure` and `cause`, the old file is there, and nothing else.
        fn refuses(&self, bytes: &[u8], cure: &str, cause: &str) {
            let error = self.replace(bytes).expect_err("not replaced");
            let cure = cure.replace("<etc>", &self.at("/etc").display().to_string());
            let sentence = format!("cannot replace {} (old file kept); {cure}", self.at(MANIFEST).display());
            let found = error.source().map(ToString::to_string);
            assert_eq!((error.to_string(), found.as_deref()), (sentence, Some(cause)));
            self.holds("old");
        }

        fn holds(&self, manifest: &str) {
            assert_eq!(fs::read_to_string(self.at(MANIFEST)).expect("a manifest"), manifest);
            let names = |path: &str| self.root.names(Path::new(path)).expect("readable").expect("a folder");
            assert_eq!(names("/etc/kubernetes/manifests"), ["kube-apiserver.yaml"]);
            assert_eq!(names(KUBERNETES_STAGING), [""; 0]);
        }
    }

    #[test]
    fn full_disk_keeps_the_old_file_and_recovers() {
        let Some(bench) = in_mount_namespace() else { return };
        bench.with_manifest_on("size=64k");
        let cure = "free space and inodes on the file system of <etc>/kubernetes/.irsad";
        bench.refuses(&[b'a'; 1 << 20], cure, "No space left on device (os error 28)");
        bench.replace(b"new").expect("replaced");
        bench.holds("new");
    }

    #[test]
    fn file_system_without_inodes_keeps_the_old_file_and_recovers() {
        let Some(bench) = in_mount_namespace() else { return };
        bench.with_manifest_on("size=1m,nr_inodes=16");
        let fillers: Vec<_> = (0..16).map(|number| bench.at(&format!("/etc/kubernetes/filler{number}"))).collect();
        let made: Vec<_> = fillers.iter().filter(|path| fs::write(path, "").is_ok()).collect();
        let cure = "free space and inodes on the file system of <etc>/kubernetes/.irsad";
        bench.refuses(b"new", cure, "No space left on device (os error 28)");
        fs::remove_file(made[0]).expect("removed");
        bench.replace(b"new").expect("replaced");
        bench.holds("new");
    }

    #[test]
    fn read_only_file_system_keeps_the_old_file_and_recovers() {
        let Some(bench) = in_mount_namespace() else { return };
        bench.with_manifest_on("size=64k");
        bench.mount(&["-o", "remount,ro"], "/etc/kubernetes");
        let cure = "<etc>/kubernetes/.irsad is read-only: mount it writable, and give the systemd unit one \
                    ReadWritePaths=/etc/kubernetes if it is below that";
        bench.refuses(b"new", cure, "Read-only file system (os error 30)");
        bench.mount(&["-o", "remount,rw"], "/etc/kubernetes");
        bench.replace(b"new").expect("replaced");
    }

    #[test]
    fn folders_on_mounts_of_their_own_are_named_as_the_trap_they_are() {
        let Some(bench) = in_mount_namespace() else { return };
        bench.with_manifest_on("size=64k");
        for folder in ["/etc/kubernetes/manifests", KUBERNETES_STAGING] {
            let from = bench.at(folder).display().to_string();
            bench.mount(&["--bind", &from], folder);
        }
        let cure = "<etc>/kubernetes/manifests and the staging folder are on different mounts: give the systemd unit one \
                    ReadWritePaths=/etc/kubernetes, not one for each folder";
        bench.refuses(b"new", cure, "Invalid cross-device link (os error 18)");
    }

    #[test]
    fn full_disk_keeps_the_published_document() {
        let Some(bench) = in_mount_namespace() else { return };
        bench.root.make_folder(Path::new("/srv"), 0o755).expect("a folder");
        bench.mount(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"], "/srv");
        let store = FileStore::new(&bench.at("/srv"), Path::new("/oidc"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let old = store.put("jwks", b"old", &Condition::Absent).await.expect("written");
            let error = store.put("jwks", &[b'a'; 1 << 20], &Condition::Unchanged(old.clone())).await.expect_err("full");
            let place = bench.at("/srv/oidc/jwks").display().to_string();
            let sentence = format!(
                "cannot write {place} (old file or new one in place); check that irsad may use the folder and that its disk \
                 has space"
            );
            assert_eq!(error.to_string(), sentence);
            assert_eq!(store.get("jwks").await.expect("asked").map(|found| found.body), Some(b"old".to_vec()));
            assert_eq!(store.list("").await.expect("listed"), ["jwks"]);
            assert_eq!(fs::read_dir(bench.at("/srv/oidc")).expect("a folder").count(), 1, "the half file is gone");
            store.put("jwks", b"new", &Condition::Unchanged(old)).await.expect("recovered");
        });
    }
}
