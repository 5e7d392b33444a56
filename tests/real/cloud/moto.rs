//! The one moto of this test binary.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
};

/// Where moto listens, or why there is none. `IRSAD_TEST_PYTHON` names a Python that has `moto[server]`; a test that runs
/// again in a process of its own finds the running one in `IRSAD_TEST_MOTO`.
pub fn address() -> Result<SocketAddr, String> {
    static MOTO: OnceLock<Result<SocketAddr, String>> = OnceLock::new();
    MOTO.get_or_init(start).clone()
}

fn start() -> Result<SocketAddr, String> {
    if let Ok(running) = env::var("IRSAD_TEST_MOTO") {
        return running.parse().map_err(|error| format!("IRSAD_TEST_MOTO={running}: {error}"));
    }
    let python = env::var("IRSAD_TEST_PYTHON").map_err(|_| "IRSAD_TEST_PYTHON is not set".to_owned())?;
    let (found, address) = mpsc::channel();
    // The kernel ends moto when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG), so this thread stays for as
    // long as the process does.
    thread::spawn(move || match spawn(&python) {
        Ok(moto) => follow(moto, &found),
        Err(error) => drop(found.send(Err(format!("cannot start setpriv and {python}: {error}")))),
    });
    address.recv().unwrap_or_else(|_| Err("moto ended before it listened".to_owned()))
}

fn spawn(python: &str) -> std::io::Result<Child> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", python, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

/// Reads moto's log to its end: first the address, then nothing of interest, but a full pipe would stop it.
fn follow(mut moto: Child, found: &mpsc::Sender<Result<SocketAddr, String>>) {
    let mut last = String::new();
    for line in BufReader::new(moto.stderr.take().expect("stderr is piped")).lines().map_while(Result::ok) {
        if let Some(address) =
            line.split_once("Running on http://").and_then(|(_, address)| address.trim().parse().ok())
        {
            drop(found.send(Ok(address)));
        }
        last = line;
    }
    drop(found.send(Err(format!("moto ended: {last}"))));
    drop(moto.wait());
}
