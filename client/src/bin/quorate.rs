//! The `quorate` command: see [`quorate_client::command`].

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_client::command::main()
}
