//! The `edge-keyserver` command: arguments only.

use std::process::ExitCode;

fn main() -> ExitCode {
    edge::keyserver::main()
}
