//! The program `larder`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder::start()
}
