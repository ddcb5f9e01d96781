//! The `quorate-testnet` command: see [`quorate_testnet::command`].

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_testnet::command::main()
}
