//! The irsad program under test, each time with a root folder of its own.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// An error is a sentence for the person who reads the test's output.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Longest wait for anything that a daemon is to do by itself, the 60 s between two passes included.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// What ends the reading of the service manager's socket.
const END: &str = "END";

/// A root folder and how irsad is called on it.
pub struct Machine {
    folder: Option<TempDir>,
    root: PathBuf,
    environment: Vec<(String, String)>,
    /// Program and arguments that every call is started through; none: started directly.
    pub launcher: Vec<String>,
}

/// What one command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Machine {
    /// A copy of the quickstart: a manifest and key pair that kubeadm made, documents in a folder, no API server.
    pub fn quickstart() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        copy(&project().join("examples/quickstart/etc"), &folder.path().join("etc"))?;
        let root = folder.path().to_owned();
        for file in ["pki/sa.key", "manifests/kube-apiserver.yaml"] {
            fs::set_permissions(root.join("etc/kubernetes").join(file), fs::Permissions::from_mode(0o600))?;
        }
        let machine = Self { folder: Some(folder), root, environment: Vec::new(), launcher: Vec::new() };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // Files that come later say it in its place.
        machine.write(
            "/etc/irsad/irsad.d/00-ports.yaml",
            &format!("webhook: {{ port: {port} }}\nmetrics: {{ port: 0 }}\n"),
        )?;
        Ok(machine)
    }

    /// A root folder that somebody else looks after.
    pub fn at(root: &Path) -> Self {
        Self { folder: None, root: root.to_owned(), environment: Vec::new(), launcher: Vec::new() }
    }

    pub fn root(&self) -> &Path {
        self.folder.as_ref().map_or(&self.root, TempDir::path)
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> Result<String> {
        let path = self.path(path);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    pub fn write(&self, path: &str, text: &str) -> Result {
        let path = self.path(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(path, text)?)
    }

    /// Sets an environment variable for every later call.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The command line of a call, to be changed before it is started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let words = [&self.launcher[..], &[env!("CARGO_BIN_EXE_irsad").to_owned()]].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.arg("--root").arg(self.root()).args(arguments).stdin(Stdio::null());
        // What the developer's own shell says of AWS and of the way to it is not this test's.
        for (variable, _) in env::vars_os().filter(|(name, _)| is_of_the_developer(&name.to_string_lossy())) {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().cloned());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Result<Said> {
        Ok(self.command(arguments).output()?.into())
    }

    /// Starts the daemon with a socket for its messages to the service manager.
    pub fn daemon(&self, arguments: &[&str]) -> Result<Daemon> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        let (sender, messages) = mpsc::channel();
        // Read without pause, as systemd does: a full socket would stop the daemon.
        thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(length) = socket.recv(&mut bytes) {
                let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if message == END || sender.send(message).is_err() {
                    break;
                }
            }
        });
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = self.command(&[&["run"], arguments].concat());
        let child = command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "2000000")
            .envs(self.environment.iter().cloned())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Daemon { child, messages, folder, heard: Vec::new() })
    }

    /// Every file below the root but those of this boot, with its mode: two of them are equal when nothing was touched.
    pub fn everything(&self) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
        let mut found = BTreeMap::new();
        collect(self.root(), self.root(), &mut found)?;
        found.retain(|path, _| !path.starts_with("run"));
        Ok(found)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A running daemon; it is killed when this is dropped.
pub struct Daemon {
    child: Child,
    /// What the service manager was told and nobody has read yet.
    pub messages: mpsc::Receiver<String>,
    folder: TempDir,
    heard: Vec<String>,
}

impl Daemon {
    /// Waits until the service manager was told something for which `is_it` holds.
    pub fn hears(&mut self, what: &str, mut is_it: impl FnMut(&str) -> bool) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Ok(message) = self.messages.recv_timeout(Duration::from_millis(100)) {
                self.heard.push(message.clone());
                if is_it(&message) {
                    return Ok(message);
                }
                continue;
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("irsad ended with {status} before it said {what}:\n{}", self.log()).into());
            }
        }
        Err(format!("irsad did not say {what}; it said {:#?}\n{}", self.heard, self.log()).into())
    }

    pub fn log(&self) -> String {
        let mut text = String::new();
        let file = fs::File::open(self.folder.path().join("log"));
        let _ = file.and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) -> Result {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -{name}: {status}").into()) }
    }

    /// Waits for its end and gives the exit code.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("irsad does not end:\n{}", self.log()).into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to(END.as_bytes(), self.folder.path().join("notify")));
    }
}

/// Waits until `is_so`; the error says what was waited for.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result {
    let until = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < until {
        match is_so() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = error.to_string(),
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("waited in vain until {what} {last}").into())
}

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_of_the_developer(variable: &str) -> bool {
    let of_systemd = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"];
    let of_the_way = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"];
    variable.starts_with("AWS_")
        || of_systemd.contains(&variable)
        || of_the_way.contains(&variable.to_lowercase().as_str())
}

/// Copies a folder with all that is below it.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(root, &path, found)?;
        } else {
            let bytes = if kind.is_symlink() {
                fs::read_link(&path)?.as_os_str().as_encoded_bytes().to_vec()
            } else {
                fs::read(&path)?
            };
            let relative = path.strip_prefix(root).map_err(io::Error::other)?.to_owned();
            found.insert(relative, (entry.metadata()?.permissions().mode() & 0o7777, bytes));
        }
    }
    Ok(())
}
