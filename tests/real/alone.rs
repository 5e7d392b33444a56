//! Tests in a process of their own: the AWS SDK reads credentials and proxies from the environment, which is one for all
//! tests of a process and, on a developer's machine, full of surprises.

use std::{
    env,
    process::{Command, ExitCode, Termination},
};

use crate::cloud::{self, Cloud};

/// Set in such a process.
const MARK: &str = "IRSAD_TEST_ALONE";

/// Whether this is a process of its own.
pub fn is_alone() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs `body` against a cloud, with credentials in the environment and nothing else in it. An error of its own fails the test.
pub fn with_cloud<R: Termination, F: AsyncFn(&Cloud) -> R>(body: F) {
    let name = test_name::<F>();
    if !is_alone() {
        match cloud::moto_address() {
            Ok(moto) => {
                let moto = ("IRSAD_TEST_MOTO", moto.to_string());
                run(&name, &[credentials(), vec![moto]].concat());
            }
            Err(why) => crate::missing("moto", &why),
        }
        return;
    }
    let cloud = Cloud::start().expect("moto's address is in the environment");
    assert_eq!(block_on(body(&cloud)).report(), ExitCode::SUCCESS);
}

/// Environment of a process with static credentials.
pub fn credentials() -> Vec<(&'static str, String)> {
    let pairs =
        [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_EC2_METADATA_DISABLED", "true")];
    pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// Runs the named test of this binary again with `environment` and nothing else, and fails as it does.
pub fn run(name: &str, environment: &[(&str, String)]) {
    run_by(&[], name, environment);
}

/// The same through a program that starts it.
pub fn run_by(program: &[&str], name: &str, environment: &[(&str, String)]) {
    let mut test = again(program, environment);
    test.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    let output = test.output().expect("the test runs again");
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success() && text.contains("1 passed"), "in a process of its own:\n{text}");
}

/// This binary again, in a process of its own, through a program that starts it, with `environment` and nothing else.
pub fn again(program: &[&str], environment: &[(&str, String)]) -> Command {
    let binary = env::current_exe().expect("the test binary").display().to_string();
    let words = [program, &[&binary]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().env(MARK, "1");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Name of the test whose body `F` is, as libtest takes it.
pub fn test_name<F>() -> String {
    let path = std::any::type_name::<F>();
    let path = path.trim_end_matches("::{{closure}}");
    path.split_once("::").map_or(path, |(_, name)| name).to_owned()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
