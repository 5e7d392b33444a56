//! Processes that end with the test, also when it is killed.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Ends a process together with the thread that started it, also when the test is killed.
const SETPRIV: &str = "/usr/bin/setpriv";
const TICK: Duration = Duration::from_millis(20);

/// A process that runs until this is dropped.
#[derive(Debug)]
pub struct Kept {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Kept {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started. That it ends by itself shows in its log only.
    pub fn start(program: PathBuf, arguments: Vec<String>, log: PathBuf) -> io::Result<Self> {
        let (started, is_started) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        // The kernel ends the process with the thread that started it (prctl(2), PR_SET_PDEATHSIG).
        let thread = thread::spawn(move || match spawn(&program, &arguments, &log) {
            Ok(process) => {
                drop(started.send(Ok(())));
                // Nothing is ever sent: the sender is dropped.
                let _: Result<(), _> = stopped.recv();
                end(process, Duration::ZERO);
            }
            Err(error) => drop(started.send(Err(error))),
        });
        is_started.recv().map_err(io::Error::other)??;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed, and its end has ended the process.
            let _ = thread.join();
        }
    }
}

/// Starts a process that writes to `log` and ends with this thread.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(program: &Path, arguments: &[String], log: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = if Path::new(SETPRIV).exists() {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// Asks a process to end, waits, then ends it.
pub fn end(mut process: Child, grace: Duration) {
    let until = Instant::now() + grace;
    if !grace.is_zero() {
        // The shell's own `kill`: a small machine may lack the program. A process that is gone already is fine.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", process.id())]).stderr(Stdio::null()).status();
    }
    while Instant::now() < until && matches!(process.try_wait(), Ok(None)) {
        thread::sleep(TICK);
    }
    // An error means that it has ended and was waited for.
    let _ = process.kill();
    let _ = process.wait();
}
