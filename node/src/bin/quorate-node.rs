//! One replica of a Quorate cluster. See `quorate-node --help`.

use std::process::ExitCode;

/// Why not the system's: docs/decisions.md, "mimalloc in the processes that keep a store".
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quorate_node::command::main()
}
