//! The irsad program: argv in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    irsad::install_crypto_provider();
    irsad::cli::main()
}
