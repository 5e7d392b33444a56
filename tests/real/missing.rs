//! What this machine lacks.

use std::{env, fs::OpenOptions, io::Write, thread};

/// Names a test that cannot run here: on stderr, and as a line of the file that `IRSAD_TEST_MISSING` names. The test returns
/// after it. Where `IRSAD_CI` is set nothing may be missing, and it panics.
pub fn missing(part: &str, why: &str) {
    let line = format!("{}: no {part}: {why}\n", thread::current().name().unwrap_or("unnamed test"));
    assert!(env::var_os("IRSAD_CI").is_none(), "nothing may be missing here: {line}");
    eprint!("not run: {line}");
    if let Some(path) = env::var_os("IRSAD_TEST_MISSING") {
        // One write in append mode: lines of tests that run side by side do not mix.
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("IRSAD_TEST_MISSING names a writable file");
    }
}
