//! One replica of a Quorate cluster. See `quorate-node --help`.

use std::process::ExitCode;

/// A replica makes many small values a request and frees them on other threads, which costs the system's allocator about
/// a tenth of a replica's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quorate_node::command::main()
}
