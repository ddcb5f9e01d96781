//! One replica of a Quorate cluster. See `quorate-node --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_node::command::main()
}
